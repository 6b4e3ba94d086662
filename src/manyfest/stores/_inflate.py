# SPDX-License-Identifier: Apache-2.0
"""Reading gzip and Zstandard as a stream, in bounded memory.

Zstandard comes from the standard library where it has it (Python 3.14), else from the extra ``fast``.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from manyfest.errors import InvalidDocument, Unsupported
from manyfest.stores.base import CHUNK

if TYPE_CHECKING:
    from typing import Protocol

    from manyfest.stores.base import Readable

    class _Decompressor(Protocol):
        """What both kinds offer here."""

        @property
        def eof(self) -> bool: ...
        @property
        def unused_data(self) -> bytes: ...
        def decompress(self, data: bytes, /) -> bytes: ...


__all__ = ["Inflated", "is_compressed", "kind_of"]

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
# Compressed bytes at a time. What they may inflate to (a thousandfold with zlib, 32 thousand with Zstandard) still
# fits in memory.
_STEPS = {"gzip": 64 * 1024, "zstd": 4096}


def kind_of(head: bytes) -> str:
    """``"gzip"``, ``"zstd"`` or ``""`` by the first bytes."""
    if head.startswith(_GZIP):
        return "gzip"
    return "zstd" if head.startswith(_ZSTD) else ""


def is_compressed(head: bytes) -> bool:
    """Is it a compression that :class:`Inflated` reads?"""
    return bool(kind_of(head))


class Inflated:
    """The plain bytes of a compressed stream of one or more members. Raises :class:`InvalidDocument` if damaged."""

    def __init__(self, stream: Readable, place: str) -> None:
        self._stream = stream
        self._place = place
        self._kind = ""
        self._engine: _Decompressor | None = None
        self._ready = bytearray()
        self._raw = b""
        self._done = False

    def read(self, size: int = -1, /) -> bytes:
        """See ``Readable``."""
        wanted = CHUNK if size < 0 else size
        while not self._done and (size < 0 or len(self._ready) < wanted):
            self._step()
        data = bytes(self._ready if size < 0 else self._ready[:wanted])
        del self._ready[: len(data)]
        return data

    def close(self) -> None:
        """Close the stream below."""
        self._stream.close()

    def _step(self) -> None:
        if not self._raw:
            self._raw = self._stream.read(_STEPS.get(self._kind, 4096))
        if not self._raw:
            if self._engine is not None and not self._engine.eof:
                raise InvalidDocument(f"{self._place}: compressed content ends early; it was cut")
            self._done = True
            return
        if self._engine is None or self._engine.eof:
            if self._between_members():
                return
            self._kind = self._kind or kind_of(self._raw)
            self._engine = _gzip() if self._kind == "gzip" else _zstd(self._place)
        self._ready += self._inflate(self._engine)
        self._raw = self._engine.unused_data if self._engine.eof else b""

    def _between_members(self) -> bool:
        """Padding after the last member: tar files come with it, and gzip says to ignore zeros."""
        if self._engine is None:
            return False
        self._raw = self._raw.lstrip(b"\0")
        return not self._raw

    def _inflate(self, engine: _Decompressor) -> bytes:
        try:
            return engine.decompress(self._raw)
        except (zlib.error, ValueError, OSError) as error:
            raise InvalidDocument(f"{self._place}: damaged compressed content: {error}") from error
        except _zstd_errors() as error:
            raise InvalidDocument(f"{self._place}: damaged compressed content: {error}") from error


def _gzip() -> _Decompressor:
    return zlib.decompressobj(wbits=31)


def _zstd(place: str) -> _Decompressor:
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        try:
            import zstandard
        except ImportError:
            raise Unsupported(
                f"{place}: compressed with Zstandard, which this Python cannot read",
                hint="install the extra: pip install 'manyfest[fast]'",
            ) from None
        return zstandard.ZstdDecompressor().decompressobj()
    made: _Decompressor = zstd.ZstdDecompressor()
    return made


def _zstd_errors() -> tuple[type[Exception], ...]:
    """The exceptions of whichever module reads Zstandard here."""
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        try:
            import zstandard
        except ImportError:
            return ()
        return (zstandard.ZstdError,)
    return (zstd.ZstdError,)
