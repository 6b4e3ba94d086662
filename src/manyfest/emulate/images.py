# SPDX-License-Identifier: Apache-2.0
"""The smallest images an engine can run: one program in one layer, assembled without an engine.

    >>> from manyfest.platforms import Platform
    >>> from manyfest.stores.memory import Memory
    >>> store = Memory()
    >>> document = program_image(store, Platform.parse("linux/s390x"))
    >>> len(document.manifest.layers), store.exists(document.descriptor)
    (1, True)

Same arguments, same digests, on every machine: times are zero, paths are sorted, and layers are framed as
gzip or zstd without being compressed, because two versions of zlib need not compress alike. For real images
see the build.
"""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zlib
from operator import itemgetter
from typing import TYPE_CHECKING

from manyfest.content import mediatypes
from manyfest.content.descriptor import Descriptor
from manyfest.content.digest import Digest
from manyfest.content.document import Document
from manyfest.emulate.programs import program
from manyfest.errors import InputError, InvalidDocument
from manyfest.stores.base import put_bytes, read

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from manyfest.content.document import Manifest
    from manyfest.platforms import Platform
    from manyfest.stores.base import Source, Store

    File = tuple[bytes, int] | str
    """Content and mode, or the target of a symbolic link."""

__all__ = ["PROGRAM_PATH", "layer_tar", "program_image", "read_program", "write_image", "write_json"]

PROGRAM_PATH = "/hello"
"""Where the program is in the images of :func:`program_image`."""

_MAX_PROGRAM = 64 * 1024
"""Bytes; many times what any program here has."""

_CREATED = "1970-01-01T00:00:00Z"


def program_image(
    store: Store,
    platform: Platform,
    text: str | None = None,
    *,
    claims: Platform | None = None,
    docker: bool = False,
) -> Document:
    """Put an image whose entrypoint is the program of ``platform``; return its manifest, untagged.

    ``claims`` is the platform that the image's config states, when it should be another (images for 32-bit
    ARM often leave the variant out). Raises what :func:`~manyfest.emulate.programs.program` and ``store``
    raise.
    """
    layer = layer_tar({PROGRAM_PATH: (program(platform, text), 0o755)})
    settings = {"Entrypoint": [PROGRAM_PATH], "WorkingDir": "/"}
    return write_image(store, claims or platform, [layer], settings=settings, docker=docker)


def write_image(
    store: Store,
    platform: Platform,
    layers: Sequence[bytes],
    *,
    settings: Mapping[str, Any] | None = None,
    annotations: Mapping[str, str] | None = None,
    docker: bool = False,
    compression: str = "gzip",
) -> Document:
    """Put an image made of tar archives: layers and config first, then the manifest, untagged.

    ``settings`` is the ``config`` object (Entrypoint, Env, Labels, …), ``compression`` one of ``gzip``,
    ``zstd`` and ``none``; the Docker format knows only the first. Raises
    :class:`~manyfest.errors.InputError` for any other, and what ``store`` raises.
    """
    media_type, pack = _layer_format(compression, docker=docker)
    descriptors = []
    for layer in layers:
        blob = pack(layer)
        descriptors.append(Descriptor.of(blob, media_type))
        put_bytes(store, descriptors[-1], blob)
    config = {
        "created": _CREATED,
        **platform.to_json(),
        "config": dict(settings or {}),
        "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(layer)) for layer in layers]},
        "history": [{"created": _CREATED, "created_by": "manyfest"} for _ in layers],
    }
    config_type = mediatypes.DOCKER_CONFIG if docker else mediatypes.OCI_CONFIG
    manifest_type = mediatypes.DOCKER_MANIFEST if docker else mediatypes.OCI_MANIFEST
    fields: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": manifest_type,
        "config": write_json(store, config, config_type).to_json(),
        "layers": [descriptor.to_json() for descriptor in descriptors],
    }
    if annotations:
        fields["annotations"] = dict(annotations)
    document = Document(manifest_type, _encoded(fields))
    put_bytes(store, document.descriptor, document.raw)
    return document


def read_program(
    source: Source, manifest: Manifest, path: str = PROGRAM_PATH, *, limit: int = _MAX_PROGRAM
) -> bytes:
    """The executable in an image of one layer, such as :func:`program_image` makes, verified on the way.

    ``limit``: bytes of the file; a longer one is refused.

    Raises :class:`~manyfest.errors.InvalidDocument` for an image that is not one of those, and what ``source``
    raises.
    """
    if len(manifest.layers) != 1:
        raise InvalidDocument(f"an image of {len(manifest.layers)} layers, expected one that holds a program")
    blob = read(source, manifest.layers[0], limit)
    try:
        with tarfile.open(fileobj=io.BytesIO(blob), mode="r:gz") as archive:
            member = archive.extractfile(path.lstrip("/"))
            if member is None:
                raise InvalidDocument(f"{path} in the image is not a file")
            content = member.read(limit + 1)
    except (KeyError, EOFError, zlib.error, tarfile.TarError) as error:
        raise InvalidDocument(f"an image without {path}: {error}") from error
    if len(content) > limit:
        raise InvalidDocument(f"{path} in the image has more than {limit} bytes")
    return content


def write_json(store: Store, fields: Mapping[str, Any], media_type: str) -> Descriptor:
    """Put a JSON object as a blob and return its descriptor."""
    raw = _encoded(fields)
    descriptor = Descriptor.of(raw, media_type)
    put_bytes(store, descriptor, raw)
    return descriptor


def layer_tar(files: Mapping[str, File]) -> bytes:
    """An uncompressed ustar archive: the files sorted by path, after the directories they are in.

    Owned by root, modified at the epoch. Raises :class:`~manyfest.errors.InputError` for a path that ustar
    cannot hold or that leaves the root.
    """
    entries: dict[str, File | None] = {}
    for path, file in sorted(((path.strip("/"), file) for path, file in files.items()), key=itemgetter(0)):
        parts = path.split("/")
        if not all(parts) or ".." in parts:
            raise InputError(f"{path!r} as a path in an image: expected one like bin/app")
        for depth in range(1, len(parts)):
            entries.setdefault("/".join(parts[:depth]), None)
        entries[path] = file
    return b"".join(_tar_entry(name, entry) for name, entry in entries.items()) + bytes(2 * 512)


def _tar_entry(name: str, entry: File | None) -> bytes:
    info = tarfile.TarInfo(name)
    data = b""
    if entry is None:
        info.type, info.mode = tarfile.DIRTYPE, 0o755
    elif isinstance(entry, str):
        info.type, info.mode, info.linkname = tarfile.SYMTYPE, 0o777, entry
    else:
        data, info.mode = entry
        info.size = len(data)
    try:
        header = info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict")
    except ValueError as error:
        raise InputError(f"{name!r} as a path in an image: {error}") from None
    return header + data + bytes(-len(data) % 512)


def _layer_format(compression: str, *, docker: bool) -> tuple[str, Callable[[bytes], bytes]]:
    formats: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
        "gzip": (mediatypes.DOCKER_LAYER if docker else mediatypes.OCI_LAYER_GZIP, _gzip)
    }
    if not docker:
        formats["zstd"] = (mediatypes.OCI_LAYER_ZSTD, _zstd)
        formats["none"] = (mediatypes.OCI_LAYER, lambda data: data)
    if compression not in formats:
        family = "a Docker" if docker else "an OCI"
        raise InputError(f"compression {compression!r} in {family} image: expected {', '.join(formats)}")
    return formats[compression]


def _gzip(data: bytes) -> bytes:
    """A gzip member of stored blocks (RFC 1951, 3.2.4; RFC 1952)."""
    pieces = _pieces(data, 0xFFFF)
    blocks = [struct.pack("<BHH", last, len(piece), len(piece) ^ 0xFFFF) + piece for last, piece in pieces]
    header = b"\x1f\x8b\x08" + bytes(6) + b"\xff"  # deflate, no flags, no time, unknown system
    return header + b"".join(blocks) + struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)


def _zstd(data: bytes) -> bytes:
    """A zstd frame of raw blocks (RFC 8878, 3.1.1), whose header states the size in four bytes."""
    header = struct.pack("<IBI", 0xFD2FB528, 0xA0, len(data))
    blocks = [
        (last | len(piece) << 3).to_bytes(3, "little") + piece for last, piece in _pieces(data, 1 << 17)
    ]
    return header + b"".join(blocks)


def _pieces(data: bytes, size: int) -> list[tuple[int, bytes]]:
    """The data cut into pieces, the last one marked 1; one empty piece for no data."""
    starts = range(0, max(len(data), 1), size)
    return [(int(start + size >= len(data)), data[start : start + size]) for start in starts]


def _encoded(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()
