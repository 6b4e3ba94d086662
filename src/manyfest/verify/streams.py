# SPDX-License-Identifier: Apache-2.0
"""A layer's plain bytes, once: hashed as they come (packed and plain), inflated by the fastest library here, bounded.

gzip is read by ``isal`` where it is installed and by :mod:`zlib` elsewhere, Zstandard by :mod:`compression.zstd` or
``zstandard``. What a layer is packed with is told by its first bytes, as engines do, and not by its media type.

A bomb costs time, not memory: pieces are at most :data:`PIECE` bytes, a layer is given up when it unpacks to more than
it may, and earlier when it unpacks to :data:`RATIO` times its size.
"""

from __future__ import annotations

import hashlib
import sys
import zlib

from manyfest.errors import InvalidDocument, TooLarge, Unsupported
from manyfest.stores.base import Verified

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from manyfest.content.descriptor import Descriptor
    from manyfest.stores.base import Readable

__all__ = ["FREE", "MAX_UNPACKED", "PIECE", "RATIO", "Unpacked", "failures", "inflater"]

PIECE = 256 * 1024
"""Plain bytes at a time: small enough to stay in a processor's cache between inflating and hashing."""

MAX_UNPACKED = 64 * 1024**3
"""Plain bytes of a layer that are read at most, unless the caller says otherwise."""

RATIO = 250
"""Plain bytes for each packed one: four times what compresses best among real layers."""

FREE = 256 * 1024**2
"""Plain bytes before the ratio counts: a layer of zeros is silly, but harmless."""

_READ = 512 * 1024
_FEED = 64 * 1024
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZSTANDARD_IN_C = "zstandard.backend_c"

# glibc's allocator keeps what is freed up to twice the size of the largest block that the process has given back
# (mallopt(3), M_MMAP_THRESHOLD). Without one as large as what is kept of a file at most, the kernel takes the memory of
# most pieces, and clears it again for the next. Nothing is written to this one, so it is never there.
bytes(16 * 1024 * 1024)


class Unpacked:
    """Iterate for the plain bytes; afterwards ``packing``, ``diff_id`` and ``size`` say what they were.

    Raises :class:`~manyfest.errors.DigestMismatch` or :class:`~manyfest.errors.SizeMismatch` when the packed bytes are
    not the descriptor's, :class:`~manyfest.errors.InvalidDocument` when they are damaged,
    :class:`~manyfest.errors.TooLarge` for a bomb and :class:`~manyfest.errors.Unsupported` without a reader.
    """

    def __init__(
        self, stream: Readable, descriptor: Descriptor, place: str = "", limit: int = MAX_UNPACKED
    ) -> None:
        self._place = f"{place}: " if place else ""
        self._name = descriptor.digest.short
        self._stream = Verified(stream, descriptor, place)
        self._limit = limit
        self._digest = str(descriptor.digest)
        self._hash: Any = hashlib.sha256()
        self._packed = 0
        self.packing = ""
        self.size = 0

    @property
    def diff_id(self) -> str:
        """The digest of the plain bytes, right once the iteration has ended."""
        return f"sha256:{self._hash.hexdigest()}" if self._hash is not None else self._digest

    def __iter__(self) -> Iterator[bytes]:
        """Every plain byte once, in pieces. Reads the packed bytes to their end, so that their digest is checked."""
        try:
            for piece in self._pieces():
                self.size += len(piece)
                self._check_bounds()
                if self._hash is not None:
                    self._hash.update(piece)
                yield piece
            while self._read():
                pass
        except failures() as error:
            # What is not the promised content fails as that, which says more than where inflating stumbled.
            while self._read():
                pass
            raise InvalidDocument(f"{self._place}layer {self._name} is damaged: {error}") from error

    def close(self) -> None:
        """Close the stream below."""
        self._stream.close()

    def _read(self) -> bytes:
        data = self._stream.read(_READ)
        self._packed += len(data)
        return data

    def _pieces(self) -> Iterator[bytes]:
        first = self._read()
        while 0 < len(first) < len(_ZSTD) and (more := self._read()):
            first += more
        if first.startswith(_GZIP):
            self.packing = "gzip"
            return self._gzip(first)
        if first.startswith(_ZSTD):
            self.packing = "zstd"
            return self._zstd(first)
        if self._digest.startswith("sha256:"):
            self._hash = None  # not packed: it is the same digest
        return self._plain(first)

    def _plain(self, data: bytes) -> Iterator[bytes]:
        while data:
            yield data
            data = self._read()

    def _gzip(self, data: bytes) -> Iterator[bytes]:
        new = inflater()
        engine: Any = new(wbits=31)
        while data:
            for at in range(0, len(data), _FEED):
                feed = data[at : at + _FEED]
                while feed:
                    piece = engine.decompress(feed, PIECE)
                    if piece:
                        yield piece
                    feed = engine.unconsumed_tail
                    if engine.eof:
                        feed = engine.unused_data
                        if not feed.strip(b"\0"):
                            feed = b""  # padding after the last member, which gzip says to ignore
                            continue
                        engine = new(wbits=31)
                    elif not feed:
                        yield from _held_back(engine, piece)
            data = self._read()
        if not engine.eof:
            raise EOFError("it ends early")

    def _zstd(self, data: bytes) -> Iterator[bytes]:
        opened = _zstd_reader(_Joined(data, self))
        if opened is None:
            raise Unsupported(
                f"{self._place}layer {self._name} is compressed with Zstandard, which this Python cannot read",
                hint="install the extra: pip install 'manyfest[fast]'",
            )
        reader, failure = opened
        try:
            while piece := reader.read(PIECE):
                yield piece
        except failure as error:
            raise EOFError(str(error)) from error

    def _check_bounds(self) -> None:
        if self.size > self._limit:
            raise TooLarge(
                f"{self._place}layer {self._name} unpacks to more than {self._limit} bytes",
                hint="allow more with --max-bytes if you trust the image",
            )
        if self.size > FREE and self.size > RATIO * self._packed:
            times = self.size // self._packed
            raise TooLarge(
                f"{self._place}layer {self._name} unpacks to {times} times its size so far: a bomb?",
                hint="nothing real compresses like this; look at who made the image",
            )


class _Joined:
    """The first bytes, which were read already, and the rest, for a reader that wants a file."""

    def __init__(self, first: bytes, rest: Unpacked) -> None:
        self._first = first
        self._rest = rest

    def read(self, _size: int = -1) -> bytes:
        first, self._first = self._first, b""
        return first or self._rest._read()


def _held_back(engine: Any, piece: bytes) -> Iterator[bytes]:
    """What the engine still holds after its input is used up, because a piece may only be so long."""
    while len(piece) == PIECE and not engine.eof:
        piece = engine.decompress(b"", PIECE)
        if piece:
            yield piece


def inflater() -> Any:
    """The fastest ``decompressobj`` here."""
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib.decompressobj
    return isal_zlib.decompressobj


def failures() -> tuple[type[Exception], ...]:
    """What inflating may raise."""
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib.error, EOFError
    failure: Any = isal_zlib.error
    return zlib.error, EOFError, failure


def _zstd_reader(stream: _Joined) -> tuple[Any, type[Exception]] | None:
    source: Any = stream
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        pass
    else:
        return zstd.ZstdFile(source), zstd.ZstdError
    try:
        zstandard = _zstandard()
    except ImportError:
        return None
    # A frame that was cut ends here without a word; the digest of the plain bytes tells.
    reader = zstandard.ZstdDecompressor().stream_reader(source, read_size=_READ, read_across_frames=True)
    return reader, zstandard.ZstdError


def _zstandard() -> Any:
    """The package ``zstandard``, or its part in C alone. Raises ImportError.

    What the package imports besides that part (platform, typing) takes 4 to 8 ms, of 300 for a layer of 60 MB.
    """
    found = sys.modules.get(_ZSTANDARD_IN_C)
    if found is not None:
        return found
    package = _spec_of("zstandard")
    folders = package.submodule_search_locations if package is not None else None
    part = _spec_of(_ZSTANDARD_IN_C, folders) if folders else None
    if part is None or part.loader is None:
        import zstandard

        return zstandard
    module = part.loader.create_module(part)
    part.loader.exec_module(module)
    return module


def _spec_of(name: str, folders: Any = None) -> Any:
    """Where a module is, without loading it: what importlib.util does, which this saves, too."""
    specs = (finder.find_spec(name, folders) for finder in sys.meta_path)
    return next((spec for spec in specs if spec is not None), None)
