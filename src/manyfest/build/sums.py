# SPDX-License-Identifier: Apache-2.0
"""Checksums of the files in a layer that was made here, and the modules of the Go programs among them.

SPDX wants SHA-1 of every file, whatever one thinks of it (https://spdx.github.io/spdx-spec/v2.3/file-information/).
One pass over the layer; what came out is kept by the layer's digest.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from typing import TYPE_CHECKING

from manyfest.build.archives import inside
from manyfest.errors import BuildError
from manyfest.stores._inflate import Inflated
from manyfest.stores.base import CHUNK, Verified
from manyfest.values import Value
from manyfest.verify.modules import Modules

if TYPE_CHECKING:
    from typing import IO, Any

    from manyfest.build.cache import Cache
    from manyfest.content.descriptor import Descriptor
    from manyfest.stores.base import Readable, Source

__all__ = ["Sum", "sums_of"]

_PROGRAMS = (b"\x7fELF", b"MZ", b"\xcf\xfa\xed\xfe", b"\xfe\xed\xfa\xcf")


class Sum(Value):
    """A file's checksums in hexadecimal; ``modules``: name and version, of a Go program."""

    __slots__ = ("modules", "sha1", "sha256")
    modules: tuple[tuple[str, str], ...]
    sha1: str
    sha256: str

    def __init__(self, sha1: str, sha256: str, modules: tuple[tuple[str, str], ...] = ()) -> None:
        self._set(sha1=sha1, sha256=sha256, modules=modules)


def sums_of(source: Source, layer: Descriptor, cache: Cache) -> dict[str, Sum]:
    """By path. Raises :class:`BuildError` for a damaged archive, and what the source raises."""
    key = f"sums-1-{layer.digest.hex}"
    known = _from_json(cache.read("listings", key))
    if known is None:
        known = _read(source, layer)
        cache.tell("listed", layer.size)
        cache.save(
            "listings",
            key,
            {path: [each.sha1, each.sha256, *map(list, each.modules)] for path, each in known.items()},
        )
    return known


def _from_json(value: Any) -> dict[str, Sum] | None:
    try:
        return {
            path: Sum(sha1, sha256, tuple((name, version) for name, version in modules))
            for path, (sha1, sha256, *modules) in value.items()
        }
    except (AttributeError, TypeError, ValueError):
        return None


def _read(source: Source, layer: Descriptor) -> dict[str, Sum]:
    stored = Verified(source.open(layer), layer, source.place)
    stream: Readable = stored
    if layer.media_type.endswith(("gzip", "zstd")):
        stream = Inflated(stored, source.place)
    found: dict[str, Sum] = {}
    try:
        # The archive ends where it says so; the rest is read to have all of it verified.
        with tarfile.open(fileobj=_File(stream), mode="r|", errors="surrogateescape") as archive:
            for info in archive:
                path = inside(info.name)
                if info.isreg() and (content := archive.extractfile(info)) is not None:
                    found[path] = _sum(content)
                elif info.islnk() and inside(info.linkname) in found:
                    found[path] = found[inside(info.linkname)]
                archive.members = []  # type: ignore[attr-defined]  # Else every header seen stays in memory.
        while stored.read(CHUNK):
            continue
    except tarfile.TarError as error:
        raise BuildError(f"{source.place}: layer {layer.digest}: a damaged tar archive: {error}") from error
    finally:
        stream.close()
    return found


def _sum(content: IO[bytes]) -> Sum:
    # Not for security: SPDX asks for it.
    sha1, sha256 = hashlib.sha1(usedforsecurity=False), hashlib.sha256()
    modules: Modules | None = None
    piece = content.read(CHUNK)
    if piece.startswith(_PROGRAMS):
        modules = Modules()
    while piece:
        sha1.update(piece)
        sha256.update(piece)
        if modules is not None:
            modules.feed(piece)
        piece = content.read(CHUNK)
    return Sum(sha1.hexdigest(), sha256.hexdigest(), tuple(modules.found()) if modules is not None else ())


class _File(io.RawIOBase):
    """A stream as tarfile reads it."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        pieces, left = [], size
        while left and (piece := self._stream.read(left)):
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)
