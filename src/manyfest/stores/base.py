# SPDX-License-Identifier: Apache-2.0
"""The small contract that every place keeps, and the verified reads built on it.

A :class:`Source` can be read, a :class:`Store` written too. Everything else (pull, push, export, import, mirror) is
:func:`manyfest.stores.copy.copy` between two of them. What only some places can do is an ability class below; ask
with ``isinstance(store, CanMount)``. :func:`manyfest.testing.check_store` checks the whole contract.

Trust: ``open`` hands out bytes nobody has checked yet. They become trusted where they are committed (``put``) or
parsed (:func:`read`, :func:`load`, ``resolve``), and nowhere else, so nothing is hashed twice.

All methods may be called from several threads at once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from manyfest.content.descriptor import Descriptor
from manyfest.content.document import MAX_BYTES, Document
from manyfest.errors import DigestMismatch, InvalidDocument, SizeMismatch, TooLarge

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Protocol, Self

    from manyfest.content.digest import Digest

    class Readable(Protocol):
        """A stream of bytes: ``read(n)`` gives at most n, and ``b""`` only at the end."""

        def read(self, size: int = -1, /) -> bytes: ...
        def close(self) -> None: ...

    Opener = Callable[[int], Readable]
    """Opens the same content again from a byte offset; a cut upload goes on from there."""

__all__ = [
    "CHUNK",
    "CanDelete",
    "CanMount",
    "CanWarm",
    "HasReferrers",
    "HasTags",
    "Source",
    "Store",
    "Verified",
    "as_referrer",
    "chunks",
    "load",
    "opener_of",
    "put_bytes",
    "read",
]

CHUNK = 1024 * 1024
"""Bytes per read while streaming."""


class Source(ABC):
    """A place that content can be read from. A context manager; ``close`` may be called twice."""

    place: str
    """How a person would name this place, for messages: ``ghcr.io/acme/app``, ``oci:build/out``."""

    @abstractmethod
    def resolve(self, name: str) -> Document:
        """The document that a tag or a digest names, whole and verified; one request where that is possible.

        ``""`` names the only image of a place that holds exactly one. Raises
        :class:`~manyfest.errors.NotFound`, listing what is there when that is cheap to know.
        """

    def peek(self, name: str) -> Descriptor:
        """Like ``resolve`` but only the descriptor; a registry answers from HEAD, which most do not count."""
        return self.resolve(name).descriptor

    @abstractmethod
    def exists(self, descriptor: Descriptor) -> bool:
        """Is content of this digest here? Never raises :class:`~manyfest.errors.NotFound`."""

    @abstractmethod
    def open(self, descriptor: Descriptor, offset: int = 0) -> Readable:
        """A stream of the content from ``offset``, not verified. The caller closes it.

        Raises :class:`~manyfest.errors.NotFound` here, not at the first read. A place that can resume a cut
        transfer does so inside the stream.
        """

    def close(self) -> None:  # noqa: B027  # most places have nothing to give back
        """Give back connections and temporary files."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.place!r})"


class Store(Source):
    """A place that content can also be written to."""

    @abstractmethod
    def put(self, descriptor: Descriptor, content: Opener) -> None:
        """Commit content by digest: a blob, or a child document when the media type is a document's.

        Does nothing if it is already here. Raises :class:`~manyfest.errors.DigestMismatch` or
        :class:`~manyfest.errors.SizeMismatch` when the bytes are not what the descriptor says; after any error
        nothing of it is visible. Does not promise that what a document points to is here: that is the caller's order.
        """

    @abstractmethod
    def tag(self, document: Document, name: str) -> None:
        """Store the document and make ``name`` point at it, atomically: readers see the old one or the new one."""


class CanMount(ABC):
    """Content can be taken over from another repository of the same place without moving bytes."""

    @abstractmethod
    def mount(self, descriptor: Descriptor, source: Source) -> bool:
        """Make content of ``source`` available here. ``False`` when it was refused: copy the bytes then."""


class CanWarm(ABC):
    """Has connections that take round trips to open."""

    @abstractmethod
    def warm(self, connections: int) -> None:
        """Start opening so many connections in the background; at once, and without raising."""


class HasReferrers(ABC):
    """Knows which documents name another as their subject (distribution-spec, "Listing Referrers")."""

    @abstractmethod
    def referrers(self, digest: Digest, artifact_type: str = "") -> tuple[Descriptor, ...]:
        """Descriptors of the documents whose subject is ``digest``; empty when there are none."""


class HasTags(ABC):
    """Can list its tags."""

    @abstractmethod
    def tags(self) -> Iterator[str]:
        """Every tag, in the place's own order; lazily, page by page."""


class CanDelete(ABC):
    """Can forget."""

    @abstractmethod
    def untag(self, name: str) -> None:
        """Remove a tag and nothing else. Raises :class:`~manyfest.errors.Unsupported` where only content can go."""

    @abstractmethod
    def delete(self, descriptor: Descriptor) -> None:
        """Remove content by digest, with every tag that points at it."""


class Verified:
    """A stream that checks itself: the last read raises unless size and digest were right.

    Raises :class:`~manyfest.errors.SizeMismatch` as soon as there is one byte too many, so an endless answer is not
    read to its end, and :class:`~manyfest.errors.DigestMismatch` at the end.
    """

    def __init__(self, stream: Readable, descriptor: Descriptor, place: str = "") -> None:
        self._stream = stream
        self._descriptor = descriptor
        self._place = place
        self._hash = descriptor.digest.hasher()
        self._seen = 0
        self._done = False

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes; everything (which the descriptor's size bounds) when negative."""
        if size < 0:
            return b"".join(chunks(self, CHUNK))
        data = self._stream.read(size)
        self._seen += len(data)
        if self._seen > self._descriptor.size:
            self._fail_size("more")
        self._hash.update(data)
        if not data and size and not self._done:
            self._finish()
        return data

    def close(self) -> None:
        """Close the stream below."""
        self._stream.close()

    def _finish(self) -> None:
        self._done = True
        if self._seen < self._descriptor.size:
            self._fail_size(str(self._seen))
        got = self._hash.hexdigest()
        if got != self._descriptor.digest.hex:
            raise DigestMismatch(
                f"{self._from()}expected {self._descriptor.digest}, got {self._descriptor.digest.algorithm}:{got}",
                hint="the content was damaged or replaced on its way; fetch it again, or from another place",
            )

    def _fail_size(self, got: str) -> None:
        raise SizeMismatch(
            f"{self._from()}{self._descriptor.digest} should have {self._descriptor.size} bytes, got {got}",
            hint="the content was cut or replaced on its way; fetch it again, or from another place",
        )

    def _from(self) -> str:
        return f"{self._place}: " if self._place else ""


def chunks(stream: Readable, size: int = CHUNK) -> Iterator[bytes]:
    """The stream's bytes in pieces, to its end."""
    while data := stream.read(size):
        yield data


def read(source: Source, descriptor: Descriptor, limit: int = MAX_BYTES) -> bytes:
    """A small blob (a config, an attestation) whole and verified.

    Raises :class:`~manyfest.errors.TooLarge` before anything is fetched if the descriptor says more than ``limit``.
    """
    if descriptor.size > limit:
        raise TooLarge(
            f"{source.place}: {descriptor.digest} has {descriptor.size} bytes, over the limit of {limit}"
        )
    stream = Verified(source.open(descriptor), descriptor, source.place)
    try:
        return stream.read()
    finally:
        stream.close()


def load(source: Source, descriptor: Descriptor) -> Document:
    """The child document a descriptor points to, checked against it."""
    if descriptor.size > MAX_BYTES:
        raise TooLarge(
            f"{source.place}: {descriptor.digest} has {descriptor.size} bytes, over the limit of {MAX_BYTES}"
        )
    document = source.resolve(str(descriptor.digest))
    if document.size != descriptor.size:
        raise SizeMismatch(
            f"{source.place}: {descriptor.digest} should have {descriptor.size} bytes, got {document.size}"
        )
    if document.media_type != descriptor.media_type:
        raise InvalidDocument(
            f"{source.place}: {descriptor.digest} should be {descriptor.media_type}, got {document.media_type}"
        )
    return document


def opener_of(data: bytes) -> Opener:
    """An opener of bytes in memory."""
    from io import BytesIO

    return lambda offset: BytesIO(data[offset:])


def put_bytes(store: Store, descriptor: Descriptor, data: bytes) -> None:
    """``put`` for bytes in memory."""
    store.put(descriptor, opener_of(data))


def as_referrer(document: Document, digest: Digest) -> Descriptor | None:
    """The descriptor a referrers list holds for ``document`` if its subject is ``digest``, else ``None``.

    Artifact type and annotations are pulled up as distribution-spec 1.1 "Listing Referrers" says: an image
    manifest without ``artifactType`` goes by its config's media type.
    """
    view = document.index if document.is_index else document.manifest
    if view.subject is None or view.subject.digest != digest:
        return None
    fields = document.descriptor.to_json()
    artifact_type = view.artifact_type or ("" if document.is_index else document.manifest.config.media_type)
    if artifact_type:
        fields["artifactType"] = artifact_type
    if view.annotations:
        fields["annotations"] = view.annotations
    return Descriptor.from_json(fields)
