# SPDX-License-Identifier: Apache-2.0
"""A tar archive as it streams by: its bytes in order, and the fields of its headers.

Fields are read as Go's archive/tar reads them, or refused: never more leniently.
https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html#tag_20_92_13_06
"""

from __future__ import annotations

import zlib
from functools import lru_cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "RECORD",
    "Tape",
    "check_sum",
    "is_sum_plain",
    "mode_and_owner",
    "name_of",
    "number",
    "only_name",
    "records",
    "size_of",
]

RECORD = 512
"""Bytes of a header; content is padded to a multiple of it."""

_HEEDED = frozenset((b"path", b"linkpath", b"size", b"uid"))


class Tape:
    """Bytes in order, in pieces as they come: taken, or passed over without being copied."""

    __slots__ = ("at", "piece", "pieces")

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self.pieces = pieces
        self.piece = b""
        self.at = 0

    def take(self, count: int) -> bytes:
        """The next bytes; fewer only at the end."""
        end = self.at + count
        if end <= len(self.piece):
            data = self.piece[self.at : end]
            self.at = end
            return data
        parts = [self.piece[self.at :]]
        left = count - len(parts[0])
        self.at = len(self.piece)
        while left and self._next():
            part = self.piece[:left]
            self.at = len(part)
            left -= len(part)
            parts.append(part)
        return b"".join(parts)

    def some(self, most: int) -> memoryview:
        """What is at hand of the next bytes, at least one, at most so many; empty at the end. Not a copy."""
        if self.at == len(self.piece) and not self._next():
            return memoryview(b"")
        data = memoryview(self.piece)[self.at : self.at + most]
        self.at += len(data)
        return data

    def skip(self, count: int) -> bool:
        """Pass over bytes; whether they were all there."""
        left = count - (len(self.piece) - self.at)
        if left <= 0:
            self.at += count
            return True
        self.at = len(self.piece)
        while left and self._next():
            self.at = min(left, len(self.piece))
            left -= self.at
        return not left

    def drain(self) -> None:
        """To the end, so that the digests are those of the whole."""
        while self._next():
            pass

    def _next(self) -> bool:
        for piece in self.pieces:
            if piece:
                self.piece, self.at = piece, 0
                return True
        self.piece, self.at = b"", 0
        return False


def name_of(header: bytes) -> bytes:
    """The name that a header itself holds, with POSIX's prefix."""
    name = header[:100].split(b"\0", 1)[0]
    if header[345] and header[257:263] == b"ustar\0":
        return header[345:500].split(b"\0", 1)[0] + b"/" + name
    return name


@lru_cache(maxsize=4096)
def number(field: bytes) -> int:
    """An octal number, or GNU's binary one. Raises ValueError. Remembers: modes, owners and small sizes come again."""
    if field[0] & 0x80:
        if field[0] & 0x40:
            raise ValueError("a negative number")
        value = int.from_bytes(bytes([field[0] & 0x3F]) + field[1:], "big")
    else:
        value = _octal(field)
    if value >= 1 << 62:
        raise ValueError(f"a number of {value}")
    return value


def _octal(field: bytes) -> int:
    """Digits with blanks and nulls around them, and nothing else that ``int`` would take."""
    digits = field.strip(b" \0") or b"0"
    if not digits.isdigit():
        raise ValueError(f"a number of {digits[:40]!r}")
    return int(digits, 8)


def check_sum(header: bytes) -> None:
    """Raises ValueError for a header that is none."""
    if not is_sum_plain(header) and not _is_sum_right(header, _octal(header[148:156])):
        raise ValueError("a header whose check sum is wrong")


def is_sum_plain(header: bytes) -> bool:
    """Is the check sum right, and the header one for which a short way tells? Raises ValueError for no number.

    Adler-32 adds bytes up at the speed of C: its low half is 1 + the sum, modulo 65521. The sum of 512 bytes that are
    all ASCII is less than that.
    """
    return header.isascii() and zlib.adler32(header) & 0xFFFF == _adler_of(header[148:156])


@lru_cache(maxsize=16384)
def _adler_of(field: bytes) -> int:
    """One more than the sum of a header with this check sum, whose own bytes count as blanks there."""
    return _octal(field) + 1 + sum(field) - 8 * ord(" ")


def _is_sum_right(header: bytes, stored: int) -> bool:
    blanked = header[:148] + b" " * 8 + header[156:]
    # Some old writers summed signed characters.
    return stored == sum(blanked) or stored == sum(c - 256 if c > 127 else c for c in blanked)


def size_of(header: bytes) -> int:
    """How many bytes a header says that follow. Raises ValueError."""
    digits = header[124:135]
    # As nearly all are: its digits can only be octal ones, or none that int() takes.
    if digits.isdigit() and header[135] in b"\0 ":
        return int(digits, 8)
    return number(header[124:136])


@lru_cache(maxsize=4096)
def mode_and_owner(fields: bytes) -> tuple[int, int]:
    """The first two numbers of a header (bytes 100 to 116), which many files share. Raises ValueError."""
    return number(fields[:8]) & 0o7777, number(fields[8:])


def records(data: bytes) -> dict[bytes, bytes]:
    """``length key=value`` lines, those of :data:`_HEEDED`. Raises ValueError for any that is none."""
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(data) and data[at]:
        blank = data.find(b" ", at, at + 10)
        if blank < 0 or not data[at:blank].isdigit():
            raise ValueError("a bad extended header")
        end = at + int(data[at:blank])
        if not blank < end <= len(data) or data[end - 1 : end] != b"\n":
            raise ValueError("a bad extended header")
        key, equals, value = data[blank + 1 : end - 1].partition(b"=")
        if not equals:
            raise ValueError("a bad extended header")
        if key in _HEEDED or key.startswith(b"GNU.sparse."):
            found[key] = value
        at = end
    return found


@lru_cache(maxsize=1024)
def only_name(data: bytes) -> bytes | None:
    """The plain name that an extended header gives its member, empty if it says nothing that is heeded.

    ``None`` if it says more, or a name that is not plain. Raises ValueError as :func:`records` does. Remembers: many
    files have one time, which is what most of these headers are for.
    """
    found = records(data)
    name = found.pop(b"path", b"")
    return name if not found and name.isascii() and b"\0" not in name else None
