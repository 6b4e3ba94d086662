# SPDX-License-Identifier: Apache-2.0
"""A store in memory: for tests, and for building an image before it has a place.

>>> from manyfest.stores.base import read
>>> store = Memory()
>>> blob = Descriptor.of(b"hello", "text/plain")
>>> put_bytes(store, blob, b"hello")
>>> store.exists(blob), read(store, blob)
(True, b'hello')
"""

from __future__ import annotations

import threading
from io import BytesIO

from manyfest.content.descriptor import Descriptor
from manyfest.content.document import Document
from manyfest.content.mediatypes import is_document
from manyfest.errors import NotFound
from manyfest.stores.base import (
    CanDelete,
    HasReferrers,
    HasTags,
    Store,
    Verified,
    as_referrer,
    put_bytes,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from manyfest.content.digest import Digest
    from manyfest.stores.base import Opener, Readable

__all__ = ["Memory"]


class Memory(Store, HasTags, HasReferrers, CanDelete):
    """Content by digest and documents by tag, in dictionaries."""

    def __init__(self, place: str = "memory") -> None:
        self.place = place
        self._lock = threading.Lock()
        self._blobs: dict[Digest, bytes] = {}
        self._documents: dict[Digest, Document] = {}
        self._tags: dict[str, Digest] = {}

    def resolve(self, name: str) -> Document:
        """See :meth:`Source.resolve`."""
        with self._lock:
            digest = self._tags.get(name) or self._only(name)
            for known, document in self._documents.items():
                if known == digest or str(known) == name:
                    return document
            there = ", ".join(sorted(self._tags)) or "nothing"
        raise NotFound(f"{self.place}: no {name!r}", hint=f"it holds {there}")

    def _only(self, name: str) -> Digest | None:
        images = set(self._tags.values())
        return next(iter(images)) if not name and len(images) == 1 else None

    def exists(self, descriptor: Descriptor) -> bool:
        """See :meth:`Source.exists`."""
        return descriptor.digest in self._blobs

    def open(self, descriptor: Descriptor, offset: int = 0) -> Readable:
        """See :meth:`Source.open`."""
        data = self._blobs.get(descriptor.digest)
        if data is None:
            raise NotFound(f"{self.place}: no content {descriptor.digest}")
        return BytesIO(data[offset:])

    def put(self, descriptor: Descriptor, content: Opener) -> None:
        """See :meth:`Store.put`."""
        if self.exists(descriptor):
            return
        stream = Verified(content(0), descriptor, self.place)
        try:
            data = stream.read()
        finally:
            stream.close()
        document = Document(descriptor.media_type, data) if is_document(descriptor.media_type) else None
        with self._lock:
            self._blobs[descriptor.digest] = data
            if document is not None:
                self._documents[descriptor.digest] = document

    def tag(self, document: Document, name: str) -> None:
        """See :meth:`Store.tag`."""
        put_bytes(self, document.descriptor, document.raw)
        with self._lock:
            self._tags[name] = document.digest

    def tags(self) -> Iterator[str]:
        """Sorted."""
        return iter(sorted(self._tags))

    def referrers(self, digest: Digest, artifact_type: str = "") -> tuple[Descriptor, ...]:
        """See :meth:`HasReferrers.referrers`."""
        found = (as_referrer(document, digest) for document in list(self._documents.values()))
        return tuple(d for d in found if d is not None and artifact_type in ("", d.artifact_type))

    def untag(self, name: str) -> None:
        """See :meth:`CanDelete.untag`."""
        with self._lock:
            if self._tags.pop(name, None) is None:
                raise NotFound(f"{self.place}: no tag {name!r}")

    def delete(self, descriptor: Descriptor) -> None:
        """See :meth:`CanDelete.delete`."""
        with self._lock:
            if self._blobs.pop(descriptor.digest, None) is None:
                raise NotFound(f"{self.place}: no content {descriptor.digest}")
            self._documents.pop(descriptor.digest, None)
            self._tags = {name: d for name, d in self._tags.items() if d != descriptor.digest}
