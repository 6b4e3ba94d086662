# SPDX-License-Identifier: Apache-2.0
"""An OCI image layout: a directory that skopeo, crane, buildah, umoci, BuildKit and others read and write.

https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md

* Blobs are files named by their digest. They are written under a temporary name in the layout's directory, synced
  and renamed, so a file with such a name is whole. One whose size is wrong counts as absent, and is replaced.
* ``index.json`` is replaced in one step, under the lock of the file ``oci-layout``: processes that tag at the same
  time lose nothing. Its unknown fields, and entries that others wrote, stay.
* Links are not followed inside the layout.

>>> import tempfile
>>> from manyfest.stores.base import put_bytes, read
>>> with tempfile.TemporaryDirectory() as folder, Layout.create(folder) as layout:
...     blob = Descriptor.of(b"hello", "text/plain")
...     put_bytes(layout, blob, b"hello")
...     read(layout, blob)
b'hello'
"""

from __future__ import annotations

import json
import os
import stat
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from manyfest.content.descriptor import Descriptor
from manyfest.content.digest import Digest
from manyfest.content.document import MAX_BYTES, Document
from manyfest.content.mediatypes import is_document
from manyfest.errors import (
    DigestMismatch,
    Error,
    InvalidDigest,
    InvalidDocument,
    InvalidReference,
    NotFound,
    SizeMismatch,
    StoreError,
    TooLarge,
    Unsupported,
)
from manyfest.stores._entries import MAX_INDEX_BYTES, Entries, check_name
from manyfest.stores._files import (
    Part,
    Slice,
    locked,
    open_regular,
    read_whole,
    sync_directory,
    translated,
)
from manyfest.stores.base import (
    CanDelete,
    HasReferrers,
    HasTags,
    Source,
    Store,
    Verified,
    as_referrer,
    chunks,
    put_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from manyfest.stores.base import Opener, Readable

__all__ = ["Layout", "LayoutReader"]

MARKER = "oci-layout"
INDEX = "index.json"
VERSION = b'{"imageLayoutVersion":"1.0.0"}'
_SMALL = 4096


class LayoutReader(Source, HasTags, HasReferrers, ABC):
    """Reading a layout, whatever its files are kept in."""

    @abstractmethod
    def entries(self) -> Entries:
        """What ``index.json`` says now."""

    @abstractmethod
    def open_blob(self, digest: Digest) -> tuple[Readable, int] | None:
        """The blob's stream and its size in bytes; ``None`` if it is not here."""

    @abstractmethod
    def size_of(self, digest: Digest) -> int | None:
        """The blob's size in bytes; ``None`` if it is not here."""

    def resolve(self, name: str) -> Document:
        """See :meth:`Source.resolve`. A digest finds any document, whether ``index.json`` names it or not."""
        entries = self.entries()
        if not name:
            return self._document(entries.nameless(self._is_referrer))
        digest = _as_digest(name)
        if digest is None:
            return self._document(entries.find(name))
        known = entries.having(digest)
        return self._document(known[0]) if known else self._unlisted(digest)

    def exists(self, descriptor: Descriptor) -> bool:
        """See :meth:`Source.exists`. A file of another size is not this content."""
        return self.size_of(descriptor.digest) == descriptor.size

    def open(self, descriptor: Descriptor, offset: int = 0) -> Readable:
        """See :meth:`Source.open`. Raises :class:`SizeMismatch` at once where the file has another size."""
        found = self.open_blob(descriptor.digest)
        if found is None:
            raise NotFound(f"{self.place}: no content {descriptor.digest}")
        stream, size = found
        if size != descriptor.size:
            stream.close()
            raise _wrong_size(self.place, descriptor, size)
        return _skipped(stream, offset)

    def tags(self) -> Iterator[str]:
        """See :meth:`HasTags.tags`."""
        return iter(self.entries().names())

    def referrers(self, digest: Digest, artifact_type: str = "") -> tuple[Descriptor, ...]:
        """See :meth:`HasReferrers.referrers`. Reads the documents that ``index.json`` leads to."""
        found = {}
        for document in self._reachable():
            descriptor = as_referrer(document, digest)
            if descriptor is not None and artifact_type in ("", descriptor.artifact_type):
                found[descriptor.digest] = descriptor
        return tuple(found.values())

    def _reachable(self) -> Iterator[Document]:
        """Every document that is here and that ``index.json`` leads to, each once."""
        todo = list(self.entries())
        seen: set[Digest] = set()
        while todo:
            descriptor = todo.pop()
            if descriptor.digest in seen or not is_document(descriptor.media_type):
                continue
            seen.add(descriptor.digest)
            try:
                document = self._document(descriptor)
            except NotFound:
                continue  # A sparse index is legal: not every child has to be here.
            if document.is_index:
                todo.extend(document.index.manifests)
            yield document

    def _document(self, descriptor: Descriptor) -> Document:
        if descriptor.size > MAX_BYTES:
            raise TooLarge(f"{self.place}: {descriptor.digest} has {descriptor.size} bytes, over {MAX_BYTES}")
        stream = Verified(self.open(descriptor), descriptor, self.place)
        return Document(descriptor.media_type, read_whole(stream))

    def _unlisted(self, digest: Digest) -> Document:
        """A document that only another document, or nobody, points to: its media type is in it, or in its shape."""
        found = self.open_blob(digest)
        if found is None:
            raise NotFound(
                f"{self.place}: no content {digest}", hint=f"it holds {self.entries().described()}"
            )
        stream, size = found
        if size > MAX_BYTES:
            stream.close()
            raise TooLarge(
                f"{self.place}: {digest} has {size} bytes, over the limit of {MAX_BYTES} for a document"
            )
        raw = read_whole(stream)
        if Digest.of(raw, digest.algorithm) != digest:
            raise DigestMismatch(
                f"{self.place}: the content stored as {digest} has another digest",
                hint="the file was damaged; write the image again",
            )
        return Document.parse(raw)

    def _is_referrer(self, descriptor: Descriptor) -> bool:
        try:
            document = self._document(descriptor)
        except Error:
            return False
        view = document.index if document.is_index else document.manifest
        return view.subject is not None


class Layout(LayoutReader, Store, CanDelete):
    """A layout in a directory. :meth:`create` makes one where there is none; the constructor only opens."""

    def __init__(self, path: str, *, place: str = "", durable: bool = True) -> None:
        """Open. Raises :class:`NotFound`, :class:`Unsupported` (another version) or :class:`InvalidDocument`.

        ``durable=False`` leaves out the syncs, for a layout that lives no longer than this process.
        """
        self.path = path
        self.place = place or f"oci:{path}"
        self._durable = durable
        self._cached: tuple[tuple[int, int, int], Entries] | None = None
        self._check_marker()
        self._check_directories()

    @classmethod
    def create(cls, path: str, *, place: str = "", durable: bool = True) -> Layout:
        """Open, after making the directory a layout if it is missing or empty.

        Raises :class:`StoreError` for a directory that holds something else.
        """
        place = place or f"oci:{path}"
        with translated(place, "making the layout", writing=True):
            os.makedirs(path, exist_ok=True)
            if not os.path.lexists(os.path.join(path, MARKER)):
                with locked(path):
                    _fill(path, place, durable)
        return cls(path, place=place, durable=durable)

    def entries(self) -> Entries:
        """What ``index.json`` says now; read again only after it was replaced."""
        with translated(self.place, "reading index.json"):
            fd = open_regular(os.path.join(self.path, INDEX))
        try:
            now = os.fstat(fd)
            key = _key(now)
            cached = self._cached
            if cached is not None and cached[0] == key:
                return cached[1]
            raw = Slice(fd, 0, min(now.st_size, MAX_INDEX_BYTES + 1), self.place).read()
        finally:
            os.close(fd)
        entries = Entries.parse(raw, self.place)
        self._cached = (key, entries)
        return entries

    def blob_path(self, digest: Digest) -> str:
        """Where the blob's file is or would be."""
        return os.path.join(self.path, "blobs", digest.algorithm, digest.hex)

    def size_of(self, digest: Digest) -> int | None:
        """See :meth:`LayoutReader.size_of`; what is not a regular file is not here."""
        try:
            found = os.lstat(self.blob_path(digest))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StoreError(f"{self.place}: looking for {digest}: {error.strerror}") from error
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def open_blob(self, digest: Digest) -> tuple[Readable, int] | None:
        """See :meth:`LayoutReader.open_blob`. Raises :class:`Unsupported` for a link."""
        try:
            with translated(self.place, f"opening {digest}"):
                fd = open_regular(self.blob_path(digest))
        except NotFound:
            return None
        size = os.fstat(fd).st_size
        return Slice(fd, 0, size, self.place, owned=True), size

    def put(self, descriptor: Descriptor, content: Opener) -> None:
        """See :meth:`Store.put`. A document with a subject gets an entry without a name, so that it is found."""
        if not self.exists(descriptor):
            self._write_blob(descriptor, content)
        if is_document(descriptor.media_type):
            self._list_referrer(descriptor)

    def tag(self, document: Document, name: str) -> None:
        """See :meth:`Store.tag`. ``""`` makes it the image without a name."""
        name = name_for(document, name)
        put_bytes(self, document.descriptor, document.raw)
        self._edit(lambda entries: entries.with_name(entry_of(document), name))

    def untag(self, name: str) -> None:
        """See :meth:`CanDelete.untag`."""
        if _as_digest(name) is not None or not name:
            raise NotFound(f"{self.place}: {name!r} is not a tag")
        self._edit(lambda entries: entries.without_name(name, keep=self._is_referrer(entries.find(name))))

    def delete(self, descriptor: Descriptor) -> None:
        """See :meth:`CanDelete.delete`. Raises :class:`NotFound` if neither the content nor an entry is here."""
        digest = descriptor.digest
        known = bool(self.entries().having(digest))
        if known:
            self._edit(lambda entries: entries.without(lambda d: d.digest == digest))
        try:
            with translated(self.place, f"removing {digest}", writing=True):
                os.unlink(self.blob_path(digest))
        except NotFound:
            if not known:
                raise NotFound(f"{self.place}: no content {digest}") from None

    def digests(self) -> Iterator[Digest]:
        """Of every blob that is here, sorted; files with other names are passed over."""
        for algorithm in ("sha256", "sha512"):
            folder = os.path.join(self.path, "blobs", algorithm)
            with translated(self.place, "listing"):
                names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
            for name in names:
                if (digest := _as_digest(f"{algorithm}:{name}")) is not None:
                    yield digest

    def forget(self, digests: Iterable[Digest]) -> None:
        """Remove blobs and leave ``index.json`` alone; for whoever knows that nothing needs them here."""
        for digest in digests:
            try:
                os.unlink(self.blob_path(digest))
            except FileNotFoundError:
                continue

    def _edit(self, change: Callable[[Entries], Entries]) -> None:
        with (
            translated(self.place, "writing index.json", writing=True),
            locked(os.path.join(self.path, MARKER)),
        ):
            before = self.entries()
            after = change(before)
            if after is before:
                return
            if self._durable:
                self._sync_blobs()
            with Part(self.path, durable=self._durable) as part:
                part.write(after.to_bytes())
                part.commit(os.path.join(self.path, INDEX))
            # Under the lock: this is the file just written, and it need not be read for the next edit.
            self._cached = (_key(os.stat(os.path.join(self.path, INDEX))), after)
            if self._durable:
                sync_directory(self.path)

    def _write_blob(self, descriptor: Descriptor, content: Opener) -> None:
        target = self.blob_path(descriptor.digest)
        # Opened first: if the source has nothing, nothing is made here.
        stream = Verified(content(0), descriptor, self.place)
        try:
            with translated(self.place, f"writing {descriptor.digest}", writing=True):
                os.makedirs(os.path.dirname(target), exist_ok=True)
                part = Part(self.path, durable=self._durable)
            with part:
                for chunk in chunks(stream):
                    with translated(self.place, f"writing {descriptor.digest}", writing=True):
                        part.write(chunk)
                with translated(self.place, f"writing {descriptor.digest}", writing=True):
                    part.commit(target)
        finally:
            stream.close()

    def _list_referrer(self, descriptor: Descriptor) -> None:
        if self.entries().having(descriptor.digest):
            return
        document = self._document(descriptor)
        view = document.index if document.is_index else document.manifest
        if view.subject is not None:
            self._edit(lambda entries: entries.with_entry(entry_of(document)))

    def _sync_blobs(self) -> None:
        blobs = os.path.join(self.path, "blobs")
        for algorithm in os.listdir(blobs):
            if algorithm in ("sha256", "sha512"):
                sync_directory(os.path.join(blobs, algorithm))

    def _check_marker(self) -> None:
        if not os.path.isdir(self.path):
            found = "a file, expected a directory" if os.path.exists(self.path) else "no such directory"
            raise NotFound(
                f"{self.place}: {found}",
                hint="oci:DIR takes a directory; a tar file is oci-archive:FILE",
            )
        try:
            with translated(self.place, "reading oci-layout"):
                fd = open_regular(os.path.join(self.path, MARKER))
        except NotFound:
            raise NotFound(
                f"{self.place}: not an image layout, it has no file oci-layout",
                hint="check the path; a layout is made by copying an image to it",
            ) from None
        try:
            raw = Slice(fd, 0, _SMALL, self.place).read()
        finally:
            os.close(fd)
        check_version(raw, self.place)

    def _check_directories(self) -> None:
        for part in ("blobs", "blobs/sha256", "blobs/sha512"):
            if os.path.islink(os.path.join(self.path, part)):
                raise Unsupported(
                    f"{self.place}: {part} is a symbolic link, expected a directory",
                    hint="links are not followed inside an image; replace the link by the directory",
                )


def check_version(raw: bytes, place: str) -> None:
    """Raises unless the bytes of ``oci-layout`` name a version that is known here."""
    try:
        fields = json.loads(raw)
        version = fields["imageLayoutVersion"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InvalidDocument(f"{place}: the file oci-layout does not say imageLayoutVersion") from error
    if not isinstance(version, str) or not version.startswith("1."):
        raise Unsupported(f"{place}: image layout version {version!r}, expected 1.0.0")


def check_target_name(name: str) -> None:
    """Raises :class:`InvalidReference` for what no image in a layout can be called, by name or by digest."""
    if _as_digest(name) is None:
        check_name(name)


def name_for(document: Document, name: str) -> str:
    """The reference name to write; a document's own digest needs none. Raises :class:`InvalidReference`."""
    digest = _as_digest(name)
    if digest is None:
        check_name(name)
        return name
    if digest != document.digest:
        raise InvalidReference(f"{name!r} cannot be the name of {document.digest}")
    return ""


def entry_of(document: Document) -> Descriptor:
    """The descriptor that ``index.json`` has for a document."""
    fields = document.descriptor.to_json()
    view = document.index if document.is_index else document.manifest
    if view.artifact_type:
        fields["artifactType"] = view.artifact_type
    elif view.subject is not None and not document.is_index:
        fields["artifactType"] = document.manifest.config.media_type
    return Descriptor.from_json(fields)


def _key(found: os.stat_result) -> tuple[int, int, int]:
    """What tells one ``index.json`` from the next; each is a file of its own."""
    return found.st_ino, found.st_mtime_ns, found.st_size


def _as_digest(name: str) -> Digest | None:
    if ":" not in name or "/" in name:
        return None
    try:
        return Digest.parse(name)
    except InvalidDigest:
        return None


def _wrong_size(place: str, descriptor: Descriptor, size: int) -> SizeMismatch:
    return SizeMismatch(
        f"{place}: {descriptor.digest} should have {descriptor.size} bytes, got {size}",
        hint="the file was cut or replaced; write the image again",
    )


def _skipped(stream: Readable, offset: int) -> Readable:
    if isinstance(stream, Slice):
        stream.skip(offset)
        return stream
    left = offset
    while left > 0 and (data := stream.read(min(left, 1024 * 1024))):
        left -= len(data)
    return stream


def _refuse_other_content(path: str, place: str) -> None:
    there = [
        name
        for name in os.listdir(path)
        if name not in (INDEX, "blobs") and not name.startswith(".manyfest-")
    ]
    if there:
        raise StoreError(
            f"{place}: the directory holds other files ({', '.join(sorted(there)[:3])}), expected a layout or nothing",
            hint="name an empty or a new directory",
        )


def _fill(path: str, place: str, durable: bool) -> None:
    if os.path.lexists(os.path.join(path, MARKER)):
        return  # Another process was faster.
    _refuse_other_content(path, place)
    os.makedirs(os.path.join(path, "blobs", "sha256"), exist_ok=True)
    _write_new(path, INDEX, Entries.empty(place).to_bytes(), durable=durable)
    # Last: a directory with this file is a layout.
    _write_new(path, MARKER, VERSION, durable=durable)


def _write_new(directory: str, name: str, data: bytes, *, durable: bool) -> None:
    """Write a file unless it is there. The caller holds the directory's lock."""
    target = os.path.join(directory, name)
    if os.path.lexists(target):
        return
    with Part(directory, durable=durable) as part:
        part.write(data)
        part.commit(target)
