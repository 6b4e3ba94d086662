# SPDX-License-Identifier: Apache-2.0
"""Tar archives as entries: layers of bases, and local archives that ``ADD`` unpacks. Nothing is unpacked to disk.

An archive is inflated once into a temporary file without a name; its members are read from there by position. Names
are made relative and lose their ``..``: whatever an archive says, its files land inside the image.
"""

from __future__ import annotations

import os
import posixpath
import tarfile
import tempfile
import threading
from typing import TYPE_CHECKING

from manyfest.build.layer import BLOCK, Entry
from manyfest.errors import BuildError, Error
from manyfest.stores._files import Slice, translated
from manyfest.stores._inflate import Inflated, is_compressed
from manyfest.stores.base import CHUNK, chunks

if TYPE_CHECKING:
    from collections.abc import Callable

    from manyfest.stores.base import Readable

__all__ = ["Part", "Spool", "entries_of", "inside", "is_archive", "spool_file"]

MAX_MEMBERS = 1_000_000
_MAGIC = 8
_BZIP2, _XZ = b"BZh", b"\xfd7zXZ\0"
_XATTR = "SCHILY.xattr."
_KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.CONTTYPE: "file",
    tarfile.LNKTYPE: "hard",
    tarfile.SYMTYPE: "link",
    tarfile.CHRTYPE: "char",
    tarfile.BLKTYPE: "block",
    tarfile.DIRTYPE: "dir",
    tarfile.FIFOTYPE: "fifo",
}


class Spool:
    """The plain bytes of an archive in a temporary file, made when first needed."""

    def __init__(self, name: str, opened: Callable[[], Readable]) -> None:
        """``name`` tells this archive's content from every other's; ``opened`` gives its stream, still compressed."""
        self.name = name
        self._opened = opened
        self._fd = -1
        self._lock = threading.Lock()

    def fd(self) -> int:
        """A descriptor of the plain archive. Raises what reading it raises."""
        with self._lock:
            if self._fd < 0:
                self._fd = self._unpacked()
            return self._fd

    def _unpacked(self) -> int:
        with (
            translated("temporary directory", "unpacking an archive", writing=True),
            tempfile.TemporaryFile(prefix="manyfest-") as file,
        ):
            stream = self._opened()
            try:
                for piece in chunks(stream, CHUNK):
                    file.write(piece)
            finally:
                stream.close()
            file.flush()
            return os.dup(file.fileno())

    def close(self) -> None:
        """Give the file back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class _File(Spool):
    """A local archive, which is read where it lies unless it is compressed."""

    def __init__(self, path: str, name: str) -> None:
        super().__init__(name, lambda: _plain(path))
        self._path = path
        self._facts: tuple[int, int] | None = None

    def fd(self) -> int:
        """Raises :class:`BuildError` when the file was written to since it was first looked at."""
        fd = super().fd()
        if self._facts is not None and _facts(fd) != self._facts:
            raise BuildError(
                f"{self._path}: it changed while it was read",
                hint="let nothing write to the project while it is built, then build again",
            )
        return fd

    def _unpacked(self) -> int:
        with translated(self._path, "opening an archive"):
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            if not _is_packed(os.pread(fd, _MAGIC, 0)):
                self._facts = _facts(fd)
                return fd
            os.close(fd)
        return super()._unpacked()


class Part:
    """A member's bytes."""

    def __init__(self, spool: Spool, start: int, size: int) -> None:
        self._spool = spool
        self.start = start
        self._size = size

    @property
    def key(self) -> str:
        """The archive and where in it."""
        return f"{self._spool.name}@{self.start}+{self._size}"

    def open(self) -> Readable:
        """A stream by position."""
        return Slice(self._spool.fd(), self.start, self._size, self._spool.name)


class _Unpacked:
    """A stream of the standard library's, which says of damaged content what is wrong, and not where."""

    def __init__(self, stream: Readable, path: str) -> None:
        self._stream = stream
        self._path = path

    def read(self, size: int = -1, /) -> bytes:
        """Raises :class:`BuildError`."""
        import lzma

        try:
            return self._stream.read(size)
        except (OSError, EOFError, ValueError, lzma.LZMAError) as error:
            raise BuildError(f"{self._path}: damaged compressed content: {error}") from error

    def close(self) -> None:
        """The file too."""
        self._stream.close()


def entries_of(spool: Spool, what: str) -> list[Entry]:
    """The members in order. Kind ``hard`` is a hard link. Raises :class:`BuildError` for a damaged archive."""
    made: list[Entry] = []
    if not os.fstat(spool.fd()).st_size:
        return made
    try:
        with os.fdopen(os.dup(spool.fd()), "rb") as file:
            file.seek(0)
            with tarfile.open(fileobj=file, mode="r:", errors="surrogateescape") as archive:
                for info in archive:
                    entry = _entry(info, spool, what)
                    if entry is not None:
                        made.append(entry)
                    if len(made) > MAX_MEMBERS:
                        raise BuildError(f"{what}: more than {MAX_MEMBERS} files")
                    archive.members = []  # type: ignore[attr-defined]  # Else every header seen stays in memory.
    except (tarfile.TarError, UnicodeError) as error:
        raise BuildError(f"{what}: a damaged tar archive: {error}") from error
    return made


def inside(name: str) -> str:
    """A member's name as a path in an image: relative, ``..`` cannot leave."""
    clean = posixpath.normpath("/" + name).lstrip("/")
    return "" if clean == "." else clean


def is_archive(path: str) -> bool:
    """Is a local file a tar archive, perhaps compressed (gzip, bzip2, xz, zstd)? Looks at bytes, not at names."""
    try:
        stream = _plain(path)
    except (OSError, EOFError, ValueError, Error):
        return False
    try:
        head = stream.read(BLOCK)
        return len(head) == BLOCK and _is_header(head)
    except (OSError, EOFError, ValueError, Error):
        return False
    finally:
        stream.close()


def spool_file(path: str, name: str) -> Spool:
    """A local archive; ``name`` holds its hash."""
    return _File(path, name)


def _entry(info: tarfile.TarInfo, spool: Spool, what: str) -> Entry | None:
    kind = _KINDS.get(info.type)
    path = inside(info.name)
    if kind is None or info.issparse():
        member = "a sparse file" if info.issparse() else f"a kind of member ({info.type!r})"
        raise BuildError(
            f"{what}: {info.name}: {member} that is not read here",
            hint="make the archive without --sparse" if info.issparse() else "",
        )
    if not path:
        return None
    pax = tuple(sorted((k, v) for k, v in info.pax_headers.items() if k.startswith(_XATTR)))
    is_file = kind == "file"
    return Entry(
        path,
        kind,
        info.mode & 0o7777,
        uid=info.uid,
        gid=info.gid,
        size=info.size if is_file else 0,
        link=inside(info.linkname) if kind == "hard" else info.linkname,
        device=(info.devmajor, info.devminor) if kind in ("char", "block") else (0, 0),
        pax=pax,
        content=Part(spool, info.offset_data, info.size) if is_file else None,
    )


def _plain(path: str) -> Readable:
    """A stream of what a local file holds once inflated."""
    with open(path, "rb") as file:
        head = file.read(_MAGIC)
    if is_compressed(head):
        return Inflated(open(path, "rb"), path)
    if head.startswith(_BZIP2):
        import bz2

        return _Unpacked(bz2.open(path, "rb"), path)
    if head.startswith(_XZ):
        import lzma

        return _Unpacked(lzma.open(path, "rb"), path)
    return open(path, "rb")


def _is_packed(head: bytes) -> bool:
    return is_compressed(head) or head.startswith((_BZIP2, _XZ))


def _facts(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_size, found.st_mtime_ns


def _is_header(head: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True
