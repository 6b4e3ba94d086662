# SPDX-License-Identifier: Apache-2.0
"""Several places read as one: what one lacks, the next may have.

An index that is about to be published has its children where they were built; this lets whoever reads an image read
that index as well, before any of it has moved.

>>> from manyfest.stores.memory import Memory
>>> from manyfest.content.descriptor import Descriptor
>>> from manyfest.stores.base import put_bytes, read
>>> one, two = Memory("one"), Memory("two")
>>> blob = Descriptor.of(b"hello", "text/plain")
>>> put_bytes(two, blob, b"hello")
>>> read(Union([one, two]), blob)
b'hello'
"""

from __future__ import annotations

from manyfest.errors import NotFound
from manyfest.stores.base import Source

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeVar

    from manyfest.content.descriptor import Descriptor
    from manyfest.content.document import Document
    from manyfest.stores.base import Readable

    T = TypeVar("T")

__all__ = ["Union"]


class Union(Source):
    """The sources in their order, each place once. They stay their owners' to close."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self.sources = tuple({source.place: source for source in sources}.values())
        self.place = " and ".join(source.place for source in self.sources)

    def resolve(self, name: str) -> Document:
        """See :meth:`Source.resolve`; the first place that has it."""
        return self._first(lambda source: source.resolve(name), name)

    def exists(self, descriptor: Descriptor) -> bool:
        """See :meth:`Source.exists`."""
        return any(source.exists(descriptor) for source in self.sources)

    def open(self, descriptor: Descriptor, offset: int = 0) -> Readable:
        """See :meth:`Source.open`; from the first place that has it."""
        return self._first(lambda source: source.open(descriptor, offset), str(descriptor.digest))

    def _first(self, work: Callable[[Source], T], what: str) -> T:
        for source in self.sources:
            try:
                return work(source)
            except NotFound:
                continue
        raise NotFound(f"{self.place}: no {what!r}")
