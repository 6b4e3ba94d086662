# SPDX-License-Identifier: Apache-2.0
"""Layers: a tar archive that depends on its entries only, compressed and hashed in one pass.

Entries are sorted by path, owned by numbers, dated alike; headers are ustar with a PAX header where ustar is too
small. So the same entries give the same uncompressed bytes (the ``diff_id``) on every machine. Compressed bytes also
depend on the compressor: ``docs/explanation/reproducible-layers.md``.

    >>> entry = Entry("etc/motd", "file", 0o644, size=3, content=Bytes(b"hi\\n"))
    >>> sum(len(piece) for piece in tar_pieces([entry], 0))
    2048

https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from typing import TYPE_CHECKING, Protocol

from manyfest.build.compressing import BLOCK_BYTES, compressor, engine_of, even
from manyfest.content import mediatypes
from manyfest.content.descriptor import Descriptor
from manyfest.content.digest import Digest
from manyfest.errors import BuildError, InputError
from manyfest.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from manyfest.stores.base import Readable

__all__ = [
    "COMPRESSIONS",
    "Bytes",
    "Content",
    "Entry",
    "Layer",
    "key_of",
    "media_type_of",
    "tar_pieces",
    "write_layer",
]

COMPRESSIONS = ("gzip", "zstd", "none")

BLOCK = 512

_TYPES = {"file": b"0", "link": b"2", "char": b"3", "block": b"4", "dir": b"5", "fifo": b"6"}
_OCTAL_ID = 0o7777777
_OCTAL_SIZE = 0o77777777777


class Content(Protocol):
    """A file's bytes: opened when they are needed, never held."""

    @property
    def key(self) -> str:
        """What tells these bytes from others: equal keys mean equal bytes."""

    def open(self) -> Readable:
        """A stream of exactly the entry's size. The caller closes it."""


class Bytes:
    """Content in memory, for what a Dockerfile itself holds."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def key(self) -> str:
        """By hash."""
        return f"sha256:{hashlib.sha256(self._data).hexdigest()}"

    def open(self) -> Readable:
        """The bytes."""
        return io.BytesIO(self._data)


class Entry:
    """Something in a layer. ``kind``: file, dir, link, char, block or fifo; ``path`` relative, without ``./``.

    ``pax``: more records of its extended header (extended attributes), sorted.
    """

    __slots__ = ("content", "device", "gid", "kind", "link", "mode", "path", "pax", "size", "uid")

    def __init__(
        self,
        path: str,
        kind: str,
        mode: int,
        *,
        uid: int = 0,
        gid: int = 0,
        size: int = 0,
        link: str = "",
        device: tuple[int, int] = (0, 0),
        pax: tuple[tuple[str, str], ...] = (),
        content: Content | None = None,
    ) -> None:
        self.path = path
        self.kind = kind
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.size = size
        self.link = link
        self.device = device
        self.pax = pax
        self.content = content

    def moved(self, path: str, *, owner: tuple[int, int] | None = None, mode: int | None = None) -> Entry:
        """The same thing at another path, perhaps with another owner and mode (links have none of their own)."""
        uid, gid = owner if owner is not None else (self.uid, self.gid)
        return Entry(
            path,
            self.kind,
            self.mode if mode is None or self.kind == "link" else mode,
            uid=uid,
            gid=gid,
            size=self.size,
            link=self.link,
            device=self.device,
            pax=self.pax,
            content=self.content,
        )

    def facts(self) -> list[object]:
        """Everything that shows in the archive."""
        content = self.content.key if self.content is not None else ""
        return [
            self.path,
            self.kind,
            self.mode,
            self.uid,
            self.gid,
            self.size,
            self.link,
            self.device,
            self.pax,
            content,
        ]

    def __repr__(self) -> str:
        return f"Entry({self.path!r}, {self.kind}, {self.mode:o}, {self.uid}:{self.gid}, size={self.size})"


class Layer(Value):
    """A finished layer: where it counts (``diff_id``) and how it is stored (``descriptor``)."""

    __slots__ = ("descriptor", "diff_id")
    descriptor: Descriptor
    diff_id: Digest

    def __init__(self, descriptor: Descriptor, diff_id: Digest) -> None:
        self._set(descriptor=descriptor, diff_id=diff_id)


def key_of(entries: Sequence[Entry], epoch: int, compression: str) -> str:
    """A name for the layer that these entries make: equal keys, equal bytes."""
    hasher = hashlib.sha256(f"1 {epoch} {compression} {engine_of(compression)}\n".encode())
    for entry in sorted(entries, key=_path):
        hasher.update(json.dumps(entry.facts(), separators=(",", ":")).encode() + b"\n")
    return hasher.hexdigest()


def write_layer(
    entries: Sequence[Entry], epoch: int, compression: str, write: Callable[[bytes], None], *, docker: bool
) -> Layer:
    """Write the compressed layer piece by piece. Raises what reading the entries raises."""
    return write_tar(tar_pieces(entries, epoch), compression, write, docker=docker)


def write_tar(
    pieces: Iterable[bytes], compression: str, write: Callable[[bytes], None], *, docker: bool
) -> Layer:
    """Compress a tar archive that comes in pieces."""
    plain, stored, size = hashlib.sha256(), hashlib.sha256(), 0
    engine = compressor(compression)
    try:
        for piece in even(pieces):
            # The block is on its way to the compressor while it is hashed.
            data = engine.compress(piece)
            plain.update(piece)
            if data:
                stored.update(data)
                size += len(data)
                write(data)
        data = engine.flush()
    finally:
        engine.close()
    stored.update(data)
    size += len(data)
    write(data)
    digest = Digest.parse(f"sha256:{stored.hexdigest()}")
    descriptor = Descriptor(media_type_of(compression, docker=docker), digest, size)
    return Layer(descriptor, Digest.parse(f"sha256:{plain.hexdigest()}"))


def media_type_of(compression: str, *, docker: bool) -> str:
    """The media type of a layer. Raises :class:`InputError` for a compression that the format does not know."""
    if docker:
        if compression != "gzip":
            raise InputError(
                f"{compression} layers in a Docker image: expected gzip", hint="use --type oci, or gzip"
            )
        return mediatypes.DOCKER_LAYER
    types = {
        "gzip": mediatypes.OCI_LAYER_GZIP,
        "zstd": mediatypes.OCI_LAYER_ZSTD,
        "none": mediatypes.OCI_LAYER,
    }
    if compression not in types:
        raise InputError(f"compression {compression!r}: expected one of {', '.join(COMPRESSIONS)}")
    return types[compression]


def tar_pieces(entries: Iterable[Entry], epoch: int) -> Iterator[bytes]:
    """The archive, in pieces of any size."""
    yield from _blocks(entries, epoch)
    yield bytes(2 * BLOCK)


def _blocks(entries: Iterable[Entry], epoch: int) -> Iterator[bytes]:
    for entry in sorted(entries, key=_path):
        yield _header(entry, epoch)
        if entry.content is not None and entry.size:
            yield from _body(entry, entry.content)


def _path(entry: Entry) -> str:
    return entry.path


def _body(entry: Entry, content: Content) -> Iterator[bytes]:
    left = entry.size
    stream = content.open()
    try:
        while left and (data := stream.read(min(BLOCK_BYTES, left))):
            left -= len(data)
            yield data
        if left or stream.read(1):
            raise BuildError(
                f"{entry.path}: expected {entry.size} bytes, it changed while it was read",
                hint="let nothing write to the project while it is built, then build again",
            )
    finally:
        stream.close()
    if entry.size % BLOCK:
        yield bytes(-entry.size % BLOCK)


def _header(entry: Entry, epoch: int) -> bytes:
    name = _encoded(entry.path + ("/" if entry.kind == "dir" else ""))
    link = _encoded(entry.link)
    records = [(_encoded(key), _encoded(value)) for key, value in entry.pax]
    prefix, short = _split(name)
    if short is None:
        records.append((b"path", name))
        prefix, short = b"", name[:100]
    if len(link) > 100:
        records.append((b"linkpath", link))
    for key, value, limit in (
        (b"uid", entry.uid, _OCTAL_ID),
        (b"gid", entry.gid, _OCTAL_ID),
        (b"size", entry.size, _OCTAL_SIZE),
    ):
        if value > limit:
            records.append((key, str(value).encode()))
    extended = _pax_header(records, epoch) if records else b""
    return extended + _ustar(short, _TYPES[entry.kind], entry, link=link[:100], prefix=prefix, epoch=epoch)


def _ustar(name: bytes, kind: bytes, entry: Entry, *, link: bytes, prefix: bytes, epoch: int) -> bytes:
    header = b"".join(
        (
            name.ljust(100, b"\0"),
            _octal(entry.mode & 0o7777, 8),
            _octal(entry.uid if entry.uid <= _OCTAL_ID else 0, 8),
            _octal(entry.gid if entry.gid <= _OCTAL_ID else 0, 8),
            _octal(entry.size if entry.size <= _OCTAL_SIZE else 0, 12),
            _octal(epoch, 12),
            b" " * 8,
            kind,
            link.ljust(100, b"\0"),
            b"ustar\x0000",
            bytes(64),
            _octal(entry.device[0], 8),
            _octal(entry.device[1], 8),
            prefix.ljust(155, b"\0"),
            bytes(12),
        )
    )
    return header[:148] + b"%06o\0 " % sum(header) + header[156:]


def _pax_header(records: list[tuple[bytes, bytes]], epoch: int) -> bytes:
    """An extended header of sorted records. https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html"""
    data = b"".join(_record(key, value) for key, value in sorted(records))
    shape = Entry("", "file", 0o644, size=len(data))
    head = _ustar(b"PaxHeaders/entry", b"x", shape, link=b"", prefix=b"", epoch=epoch)
    return head + data + bytes(-len(data) % BLOCK)


def _record(key: bytes, value: bytes) -> bytes:
    body = b" " + key + b"=" + value + b"\n"
    length = len(body)
    # The length counts its own digits.
    while length != len(body) + len(str(length)):
        length = len(body) + len(str(length))
    return str(length).encode() + body


def _split(name: bytes) -> tuple[bytes, bytes | None]:
    """ustar's prefix and name; ``None`` where they do not fit, or where readers disagree on the characters."""
    if not name.isascii():
        return b"", None
    if len(name) <= 100:
        return b"", name
    cut = name.rfind(b"/", 0, min(156, len(name) - 1))
    if cut <= 0 or len(name) - cut - 1 > 100:
        return b"", None
    return name[:cut], name[cut + 1 :]


def _octal(value: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, value)


def _encoded(text: str) -> bytes:
    return os.fsencode(text) if not text.isascii() else text.encode()
