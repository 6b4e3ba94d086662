# SPDX-License-Identifier: Apache-2.0
"""Compressors of layers: gzip in blocks that several processors work on, zstd, or none.

A gzip member may end a block anywhere and begin the next without looking back, so blocks of equal size can be
compressed side by side and put together in order. The bytes depend on the block's size, not on how many work: the same
on one processor and on sixty-four. What that costs in size is about a thousandth.

https://www.rfc-editor.org/rfc/rfc1951, https://www.rfc-editor.org/rfc/rfc1952
"""

from __future__ import annotations

import os
import zlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

from manyfest.errors import Unsupported

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

__all__ = ["BLOCK_BYTES", "Compressor", "compressor", "engine_of", "even", "workers"]

BLOCK_BYTES = 1024 * 1024
"""What is compressed at once. Other sizes make other bytes: :func:`engine_of` has to tell them apart."""

_MAX_WORKERS = 16
_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"  # deflate, no name, no time, unknown system
_END = b"\x03\0"
"""An empty last block."""


class Compressor(Protocol):
    """``compress`` takes pieces as :func:`even` gives them; its answers and that of ``flush`` are the result."""

    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...
    def close(self) -> None:
        """Needed where ``flush`` was not reached."""


def engine_of(compression: str) -> str:
    """Which program code compresses here: ``isal``, ``zlib``, ``zstandard``, or nothing. Recorded with the result."""
    if compression != "gzip":
        return {"zstd": "zstandard"}.get(compression, "")
    try:
        from isal import __version__ as version
    except ImportError:
        return f"zlib {zlib.ZLIB_RUNTIME_VERSION} in blocks"
    return f"isal {version} in blocks"


def compressor(compression: str) -> Compressor:
    """For one layer. Raises :class:`Unsupported` where the extra is missing."""
    if compression == "gzip":
        return _Gzip()
    return _Stream(_zstd() if compression == "zstd" else _Plain())


def workers() -> int:
    """How many blocks are compressed at once."""
    return min(os.cpu_count() or 1, _MAX_WORKERS)


def even(pieces: Iterable[bytes], size: int = BLOCK_BYTES) -> Iterator[bytes]:
    """The same bytes in pieces of exactly ``size``, but for the last; whole pieces are not copied.

    >>> list(even([b"ab", b"cdefg"], 3))
    [b'abc', b'def', b'g']
    """
    held: list[bytes | memoryview] = []
    length = 0
    for piece in pieces:
        if not held and len(piece) == size:
            yield piece
            continue
        rest: bytes | memoryview = piece
        while length + len(rest) >= size:
            view, cut = memoryview(rest), size - length
            yield b"".join((*held, view[:cut]))
            held, length, rest = [], 0, view[cut:]
        if rest:
            held.append(rest)
            length += len(rest)
    if held:
        yield b"".join(held)


class _Gzip:
    """A gzip member without name and time. isal level 1 where it is installed, else zlib level 6."""

    def __init__(self) -> None:
        self._crc, self._size = 0, 0
        self._head = _HEADER
        self._first: bytes | None = None
        self._working: deque[Future[bytes]] = deque()
        self._count = workers()
        self._pool: ThreadPoolExecutor | None = None
        self._sum = _checksum()

    def compress(self, data: bytes, /) -> bytes:
        self._crc = self._sum(data, self._crc)
        self._size += len(data)
        if self._pool is None:
            # A small layer needs no threads.
            if self._first is None:
                self._first = data
                return b""
            self._pool = ThreadPoolExecutor(self._count, thread_name_prefix="manyfest-gzip")
            self._working.append(self._pool.submit(_block, self._first or b""))
        self._working.append(self._pool.submit(_block, data))
        head, self._head = self._head, b""
        ready = [head]
        while self._working and (len(self._working) > 2 * self._count or self._working[0].done()):
            ready.append(self._working.popleft().result())
        return b"".join(ready)

    def flush(self) -> bytes:
        if self._pool is None:
            ready = [self._head, _whole(self._first or b"")]
        else:
            ready = [self._head, *(each.result() for each in self._working), _END]
        self.close()
        tail = self._crc.to_bytes(4, "little") + (self._size & 0xFFFFFFFF).to_bytes(4, "little")
        return b"".join((*ready, tail))

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)


class _Stream:
    """What compresses in one go."""

    def __init__(self, inner: _Inner) -> None:
        self.compress = inner.compress
        self.flush = inner.flush

    def close(self) -> None:
        pass


class _Inner(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class _Plain:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def _checksum() -> Callable[[bytes, int], int]:
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib.crc32
    found: Callable[[bytes, int], int] = isal_zlib.crc32
    return found


def _block(data: bytes) -> bytes:
    """A block that ends on a byte, and is not the last."""
    try:
        from isal import isal_zlib
    except ImportError:
        plain = zlib.compressobj(6, zlib.DEFLATED, -15)
        return plain.compress(data) + plain.flush(zlib.Z_SYNC_FLUSH)
    fast = isal_zlib.compressobj(1, isal_zlib.DEFLATED, -15)
    return bytes(fast.compress(data) + fast.flush(isal_zlib.Z_SYNC_FLUSH))


def _whole(data: bytes) -> bytes:
    """The only block."""
    try:
        from isal import isal_zlib
    except ImportError:
        plain = zlib.compressobj(6, zlib.DEFLATED, -15)
        return plain.compress(data) + plain.flush()
    fast = isal_zlib.compressobj(1, isal_zlib.DEFLATED, -15)
    return bytes(fast.compress(data) + fast.flush())


def _zstd() -> _Inner:
    try:
        import zstandard
    except ImportError:
        raise Unsupported(
            "zstd layers need the package zstandard",
            hint="install the extra: pip install 'manyfest[fast]'; or use gzip",
        ) from None
    made: _Inner = zstandard.ZstdCompressor(level=3).compressobj()
    return made
