# SPDX-License-Identifier: Apache-2.0
"""An OCI image layout in one tar file (``oci-archive:``), read and written without unpacking it.

Reading makes one pass over the headers and then serves blobs from where they lie. Writing gathers new content in a
temporary directory beside the file; :meth:`Archive.tag` writes the whole archive, old content first, and renames it
over the old one. What the archive holds already stays. The same content gives the same bytes: names are sorted, times,
users and modes are fixed.

>>> import tempfile, os
>>> from manyfest.content.document import Document
>>> with tempfile.TemporaryDirectory() as folder, Archive.create(os.path.join(folder, "x.tar")) as archive:
...     archive.tag(Document.parse(b'{"schemaVersion":2,"manifests":[]}'), "v1")
...     list(archive.tags())
['v1']
"""

from __future__ import annotations

import os
import stat
import threading
from io import BytesIO
from typing import TYPE_CHECKING

from manyfest.content.mediatypes import is_document
from manyfest.errors import NotFound, StoreError, Unsupported
from manyfest.stores._entries import MAX_INDEX_BYTES, Entries
from manyfest.stores._files import locked, translated
from manyfest.stores._staging import Staging
from manyfest.stores._tar import TarTable, TarWriter, write_tar
from manyfest.stores.base import Store
from manyfest.stores.layout import INDEX, MARKER, VERSION, LayoutReader, check_version, entry_of, name_for

if TYPE_CHECKING:
    from manyfest.content.descriptor import Descriptor
    from manyfest.content.digest import Digest
    from manyfest.content.document import Document
    from manyfest.stores.base import Opener, Readable

__all__ = ["Archive", "ArchiveReader", "check_target"]

_SMALL = 4096


class ArchiveReader(LayoutReader):
    """A layout whose files are members of a tar file."""

    def __init__(self, table: TarTable, place: str) -> None:
        """Raises :class:`NotFound` if it is no layout, :class:`InvalidDocument` or :class:`Unsupported`."""
        self.place = place
        self.table = table
        if table.size(MARKER) is None:
            raise NotFound(
                f"{place}: not an image layout, the archive has no file oci-layout",
                hint="what docker save writes is docker-archive:FILE",
            )
        check_version(table.read(MARKER, _SMALL), place)
        self._entries = Entries.parse(table.read(INDEX, MAX_INDEX_BYTES), place)

    def entries(self) -> Entries:
        """What ``index.json`` says."""
        return self._entries

    def size_of(self, digest: Digest) -> int | None:
        """See :meth:`LayoutReader.size_of`."""
        return self.table.size(f"blobs/{digest.algorithm}/{digest.hex}")

    def open_blob(self, digest: Digest) -> tuple[Readable, int] | None:
        """See :meth:`LayoutReader.open_blob`."""
        stream = self.table.open(f"blobs/{digest.algorithm}/{digest.hex}")
        return None if stream is None else (stream, self.size_of(digest) or 0)

    def close(self) -> None:
        """Close the file."""
        self.table.close()


class Archive(LayoutReader, Store):
    """An archive that can be added to. The constructor opens a file; :meth:`create` takes one that is yet to be."""

    def __init__(self, path: str, *, place: str = "", _missing_ok: bool = False) -> None:
        """Raises :class:`NotFound` if there is no such file, :class:`InvalidDocument` if it is no archive."""
        self.path = path
        self.place = place or f"oci-archive:{path}"
        self._staging = Staging(os.path.dirname(path) or ".", self.place)
        self._settling = threading.Lock()
        self._readers: list[ArchiveReader] = []
        self._seen: tuple[int, int, int] | None = None
        self._refresh(missing_ok=_missing_ok)

    @classmethod
    def create(cls, path: str, *, place: str = "") -> Archive:
        """Open for writing. A missing or empty file is an empty archive until something is tagged."""
        place = place or f"oci-archive:{path}"
        return cls(check_target(path, place), place=place, _missing_ok=True)

    def entries(self) -> Entries:
        """What is tagged, and what waits to be written without a name."""
        entries = self._readers[-1].entries() if self._readers else Entries.empty(self.place)
        staged = self._staging.started
        for descriptor in staged.entries() if staged is not None else ():
            entries = entries.with_entry(descriptor)
        return entries

    def size_of(self, digest: Digest) -> int | None:
        """See :meth:`LayoutReader.size_of`."""
        staged = self._staging.started
        size = staged.size_of(digest) if staged is not None else None
        if size is None and self._readers:
            size = self._readers[-1].size_of(digest)
        return size

    def open_blob(self, digest: Digest) -> tuple[Readable, int] | None:
        """See :meth:`LayoutReader.open_blob`."""
        staged = self._staging.started
        found = staged.open_blob(digest) if staged is not None else None
        if found is None and self._readers:
            found = self._readers[-1].open_blob(digest)
        return found

    def put(self, descriptor: Descriptor, content: Opener) -> None:
        """See :meth:`Store.put`. Other readers of the file see it after the next :meth:`tag`."""
        if self.exists(descriptor):
            return
        if not is_document(descriptor.media_type):
            self._staging.layout.put(descriptor, content)
            return
        # A document is read again when it has been written, for its subject: :meth:`tag` must not clear it away before.
        with self._settling:
            self._staging.layout.put(descriptor, content)

    def tag(self, document: Document, name: str) -> None:
        """See :meth:`Store.tag`. Writes the archive."""
        name = name_for(document, name)
        with self._settling:
            self._staging.layout.put(document.descriptor, lambda offset: BytesIO(document.raw[offset:]))
            with translated(self.place, "locking", writing=True), locked(os.path.dirname(self.path) or "."):
                self._refresh(missing_ok=True)
                staged = self._staging.blobs()
                self._write(self.entries().with_name(entry_of(document), name), staged)
                self._refresh()
            self._staging.layout.forget(staged.values())

    def close(self) -> None:
        """Close the file and remove what was not tagged."""
        self._staging.close()
        for reader in self._readers:
            reader.close()
        self._readers.clear()

    def _refresh(self, *, missing_ok: bool = False) -> None:
        """Open the file if it is another one than the last time. Streams of the old one go on."""
        try:
            with translated(self.place, "opening"):
                now = os.stat(self.path)
        except NotFound:
            if missing_ok:
                return
            raise
        key = (now.st_ino, now.st_mtime_ns, now.st_size)
        if key == self._seen or (missing_ok and now.st_size == 0):
            return
        table = TarTable(self.path, self.place)
        try:
            reader = ArchiveReader(table, self.place)
        except BaseException:
            table.close()
            raise
        self._readers.append(reader)
        self._seen = key

    def _write(self, entries: Entries, staged: dict[str, Digest]) -> None:
        old = self._readers[-1].table if self._readers else None
        ours = {MARKER: VERSION, INDEX: entries.to_bytes()}
        names = {*ours, *staged, *(old.names() if old is not None else ())}

        def fill(tar: TarWriter) -> None:
            for name in sorted(names):
                if name in ours:
                    tar.add(name, len(ours[name]), BytesIO(ours[name]))
                    continue
                found = self._staging.layout.open_blob(staged[name]) if name in staged else None
                if found is not None:
                    tar.add(name, found[1], found[0])
                elif old is not None and (stream := old.open(name)) is not None:
                    tar.add(name, old.size(name) or 0, stream)
                else:
                    raise StoreError(f"{self.place}: {name} vanished while the archive was written")

        write_tar(self.path, self.place, fill)


def check_target(path: str, place: str) -> str:
    """The path that an archive can be written under: a regular file, or none, in a directory; links are followed here.

    Raises :class:`NotFound` or :class:`Unsupported` for anything else.
    """
    # The archive is renamed into place, which would put it where the link is.
    path = os.path.realpath(path)
    directory = os.path.dirname(path)
    if not os.path.isdir(directory):
        raise NotFound(f"{place}: no directory {directory}", hint="make the directory first")
    try:
        kind = os.stat(path).st_mode
    except OSError:
        return path
    if stat.S_ISDIR(kind):
        raise Unsupported(f"{place}: a directory, expected a file", hint="a layout directory is oci:DIR")
    if not stat.S_ISREG(kind):
        raise Unsupported(f"{place}: not a regular file, so an archive cannot be put in its place whole")
    return path
