# SPDX-License-Identifier: Apache-2.0
"""Image archives: a table of a tar file's members, made by one pass over its headers; nothing is ever unpacked.

The file may be hostile. What is read and what is not:

1. Regular files are served from where they lie, by position. Names are relative and have no ``..``; a member with
   another name is left out, and so is a device, a pipe, or a sparse file.
2. Links are looked up in the table, never on the disk, and only a few deep.
3. A file that is there twice is refused when it is asked for: readers disagree on which one counts.
4. Headers are bounded in number and size, and their check sums must be right.

A compressed archive, or one that comes through a pipe, is first copied to a temporary file without a name.

https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html#tag_20_92_13_06
"""

from __future__ import annotations

import os
import posixpath
import shutil
import stat
import tarfile
import tempfile
from typing import TYPE_CHECKING

from manyfest.errors import InvalidDocument, NotFound, TooLarge, Unsupported
from manyfest.stores._files import Part, Slice, translated
from manyfest.stores._inflate import Inflated, is_compressed
from manyfest.stores.base import CHUNK, chunks

if TYPE_CHECKING:
    from collections.abc import Callable

    from manyfest.stores.base import Readable

__all__ = ["TarTable", "TarWriter", "write_tar"]

BLOCK = 512
MAX_MEMBERS = 200_000
"""Members of an archive. A big ``docker save`` of many images has some thousands."""

MAX_HEADER = 1024 * 1024
"""Bytes of an extended header (a long name, pax records)."""

MAX_LINKS = 8

_REGULAR = (b"0", b"\0", b"7")
_LINKS = (b"1", b"2")


class _Member:
    """A file's position, or a link's target."""

    __slots__ = ("link", "size", "start", "twice")

    def __init__(self, start: int, size: int, link: str = "") -> None:
        self.start = start
        self.size = size
        self.link = link
        self.twice = False


class TarTable:
    """The members of a tar file by name. Safe to read from several threads."""

    def __init__(self, path: str, place: str) -> None:
        """Open and scan. Raises :class:`NotFound`, :class:`InvalidDocument` or :class:`TooLarge`."""
        self.place = place
        self._members: dict[str, _Member] = {}
        self._fd = -1
        self._fd = _open_seekable(path, place)
        try:
            with translated(place, "reading"):
                self._end = os.fstat(self._fd).st_size
                self._scan()
        except BaseException:
            self.close()
            raise

    def names(self) -> list[str]:
        """Regular files and links, sorted."""
        return sorted(self._members)

    def size(self, name: str) -> int | None:
        """Bytes of a file (or of what a link leads to); ``None`` if it is not here."""
        member = self._find(name)
        return None if member is None else member.size

    def open(self, name: str) -> Slice | None:
        """A stream of a file; ``None`` if it is not here."""
        member = self._find(name)
        return None if member is None else Slice(self._fd, member.start, member.size, self.place)

    def read(self, name: str, limit: int) -> bytes:
        """A small file whole. Raises :class:`NotFound` or :class:`TooLarge`."""
        member = self._find(name)
        if member is None:
            raise NotFound(f"{self.place}: the archive has no {name}")
        if member.size > limit:
            raise TooLarge(f"{self.place}: {name} has {member.size} bytes, over the limit of {limit}")
        return Slice(self._fd, member.start, member.size, self.place).read()

    def close(self) -> None:
        """Close the file; streams of it end."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _find(self, name: str) -> _Member | None:
        for _ in range(MAX_LINKS):
            member = self._members.get(name)
            if member is None:
                return None
            if member.twice:
                raise InvalidDocument(
                    f"{self.place}: {name} is in the archive twice",
                    hint="tools disagree on which one counts; make the archive again",
                )
            if not member.link:
                return member
            name = member.link
        raise InvalidDocument(f"{self.place}: {name}: links lead in a circle, or too far")

    def _scan(self) -> None:
        at = 0
        count = 0
        extra: dict[str, str] = {}
        while (header := self._header(at)) is not None:
            count += 1
            if count > MAX_MEMBERS:
                raise TooLarge(f"{self.place}: more than {MAX_MEMBERS} members in the archive")
            kind, size = header[156:157], _number(header[124:136], self.place)
            at += BLOCK
            if kind in (b"L", b"K", b"x", b"g"):
                extra = self._extended(kind, at, size, extra)
            else:
                size = int(extra["size"]) if extra.get("size", "").isdecimal() else size
                # Links and folders have no content, whatever their size field says.
                size = 0 if kind in b"123456" else size
                self._note(header, kind, at, size, extra)
                extra = {}
            if size > self._end - at:
                raise InvalidDocument(f"{self.place}: the archive ends in the middle of a file; it was cut")
            at += -(-size // BLOCK) * BLOCK

    def _header(self, at: int) -> bytes | None:
        header = os.pread(self._fd, BLOCK, at)
        if not header.strip(b"\0"):
            if at == 0:
                raise InvalidDocument(f"{self.place}: an empty file, expected a tar archive")
            return None
        if len(header) < BLOCK or not _is_sum_right(header):
            what = "not a tar archive" if at == 0 else f"a damaged tar archive (at byte {at})"
            raise InvalidDocument(
                f"{self.place}: {what}", hint="expected what docker save or skopeo copy writes"
            )
        return header

    def _extended(self, kind: bytes, at: int, size: int, extra: dict[str, str]) -> dict[str, str]:
        if size > MAX_HEADER:
            raise TooLarge(f"{self.place}: an archive header of {size} bytes, over the limit of {MAX_HEADER}")
        data = os.pread(self._fd, size, at)
        if kind == b"g":
            return extra  # Global records say nothing that matters here (git writes a comment).
        if kind == b"L":
            return {**extra, "path": _text(data)}
        if kind == b"K":
            return {**extra, "linkpath": _text(data)}
        return {**extra, **_pax(data, self.place)}

    def _note(self, header: bytes, kind: bytes, start: int, size: int, extra: dict[str, str]) -> None:
        if any(key.startswith("GNU.sparse") for key in extra):
            return
        stored = extra.get("path") or _name(header)
        name = _inside(stored)
        if name is None or stored.endswith("/"):
            return
        if kind in _REGULAR:
            member = _Member(start, size)
        elif kind in _LINKS:
            target = extra.get("linkpath") or _text(header[157:257])
            # A symbolic link starts from its own folder, a hard link from the root of the archive.
            link = _inside(posixpath.join(posixpath.dirname(name), target) if kind == b"2" else target)
            if link is None:
                return
            member = _Member(0, 0, link)
        else:
            return
        older = self._members.get(name)
        if older is not None:
            # The same link again is harmless: docker save writes some twice.
            member.twice = not (older.link and older.link == member.link)
        self._members[name] = member


def _open_seekable(path: str, place: str) -> int:
    """A descriptor of the plain tar file: itself, or a copy of what is compressed or comes through a pipe."""
    with translated(place, "opening"):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        regular = _is_regular(fd, place)
        if regular and not is_compressed(os.pread(fd, 16, 0)):
            return fd
        copied = _spooled(fd, place, regular)
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return copied


def _is_regular(fd: int, place: str) -> bool:
    kind = os.fstat(fd).st_mode
    if stat.S_ISDIR(kind):
        raise Unsupported(f"{place}: a directory, expected an archive", hint="a layout directory is oci:DIR")
    return stat.S_ISREG(kind)


def _spooled(fd: int, place: str, regular: bool) -> int:
    with translated(place, "copying to a temporary file", writing=True), tempfile.TemporaryFile() as plain:
        if not regular:
            with os.fdopen(os.dup(fd), "rb") as pipe:
                shutil.copyfileobj(pipe, plain, CHUNK)
            plain.flush()
            if not is_compressed(os.pread(plain.fileno(), 16, 0)):
                return os.dup(plain.fileno())
            fd = plain.fileno()
        with tempfile.TemporaryFile() as inflated:
            stream = Inflated(Slice(fd, 0, os.fstat(fd).st_size, place), place)
            for chunk in chunks(stream):
                inflated.write(chunk)
            inflated.flush()
            return os.dup(inflated.fileno())


def _inside(name: str) -> str | None:
    """The name without ``./`` and doubled slashes; ``None`` if it is absolute, leads outside, or is the root."""
    if name.startswith("/") or "\0" in name:
        return None
    clean = posixpath.normpath(name)
    if clean in (".", "..") or clean.startswith("../"):
        return None
    return clean


def _name(header: bytes) -> str:
    name = _text(header[:100])
    prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _number(field: bytes, place: str) -> int:
    """An octal number, or GNU's binary one for files of 8 GB and more."""
    if field[0] & 0x80:
        value = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    else:
        digits = field.strip(b" \0")
        if any(c not in b"01234567" for c in digits):
            raise InvalidDocument(f"{place}: a damaged tar archive: {field!r} is not a size")
        value = int(digits or b"0", 8)
    if value >= 1 << 63:
        raise InvalidDocument(f"{place}: a damaged tar archive: a file of {value} bytes")
    return value


def _is_sum_right(header: bytes) -> bool:
    stored = header[148:156].strip(b" \0")
    if not stored or any(c not in b"01234567" for c in stored):
        return False
    blanked = header[:148] + b" " * 8 + header[156:]
    signed = sum(c - 256 if c > 127 else c for c in blanked)
    # Some old writers summed signed characters.
    return int(stored, 8) in (sum(blanked), signed)


def _pax(data: bytes, place: str) -> dict[str, str]:
    """``length key=value`` lines."""
    records: dict[str, str] = {}
    data = data.rstrip(b"\0")
    at = 0
    while at < len(data):
        # By position, and with a bounded search: a header full of tiny records must not be copied for each of them.
        blank = data.find(b" ", at, at + 9)
        digits = data[at:blank] if blank > 0 else b""
        end = at + int(digits) if digits.isdigit() else -1
        if not blank + 2 <= end <= len(data):
            raise InvalidDocument(f"{place}: a damaged tar archive: bad extended header")
        key, _, value = data[blank + 1 : end - 1].partition(b"=")
        records[key.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
        at = end
    return records


class TarWriter:
    """A tar file with nothing in it that depends on time, user or machine: the same members give the same bytes."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._folders: set[str] = set()
        self._size = 0

    def add(self, name: str, size: int, stream: Readable) -> None:
        """A regular file from a stream, which is closed. Raises :class:`InvalidDocument` if it is short."""
        info = self._info(name)
        info.size = size
        try:
            self._write(_packed(info))
            left = size
            while left and (data := stream.read(min(CHUNK, left))):
                self._write(data)
                left -= len(data)
        finally:
            stream.close()
        if left:
            raise InvalidDocument(f"{name}: {left} bytes less than expected")
        self._write(b"\0" * (-size % BLOCK))

    def link(self, name: str, target: str) -> None:
        """A symbolic link."""
        info = self._info(name)
        info.type = tarfile.SYMTYPE
        info.linkname = target
        info.mode = 0o777
        self._write(_packed(info))

    def finish(self) -> None:
        """The end of the archive, padded as tar does."""
        self._write(b"\0" * (2 * BLOCK))
        self._write(b"\0" * (-self._size % tarfile.RECORDSIZE))

    def _info(self, name: str) -> tarfile.TarInfo:
        folder = posixpath.dirname(name)
        if folder and folder not in self._folders:
            self._folders.add(folder)
            info = self._info(folder)
            info.type = tarfile.DIRTYPE
            info.mode = 0o755
            self._write(_packed(info))
        info = tarfile.TarInfo(name)
        info.mode = 0o644
        return info

    def _write(self, data: bytes) -> None:
        self._part.write(data)
        self._size += len(data)


def _packed(info: tarfile.TarInfo) -> bytes:
    # GNU's format writes plain ustar-like headers here, and binary sizes from 8 GB on, which every reader knows.
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def write_tar(path: str, place: str, fill: Callable[[TarWriter], None]) -> None:
    """Write an archive whole or not at all."""
    directory = os.path.dirname(path) or "."
    with translated(place, "writing the archive", writing=True), Part(directory) as part:
        part.take_mode(path)
        writer = TarWriter(part)
        fill(writer)
        writer.finish()
        part.commit(path)
