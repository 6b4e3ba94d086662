# SPDX-License-Identifier: Apache-2.0
"""Emulators out of an image, without running it: ``/usr/bin/qemu-ARCH`` as in ``tonistiigi/binfmt``.

The layers are read from the topmost down, verified, and only the wanted files are kept; nothing else of the image
touches the disk under its own name.
"""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

from manyfest.errors import EmulationError, NotFound, TooLarge
from manyfest.stores._files import Part, sync_directory, translated
from manyfest.stores._inflate import Inflated, is_compressed
from manyfest.stores._tar import TarTable
from manyfest.stores.base import Verified, chunks

if TYPE_CHECKING:
    from collections.abc import Iterable

    from manyfest.content.descriptor import Descriptor
    from manyfest.content.document import Document
    from manyfest.stores.base import Readable, Source

__all__ = ["MAX_EMULATOR", "MAX_LAYER", "extract", "extract_into", "remove_empty"]

MAX_LAYER = 2 << 30
"""Bytes of a layer, inflated: images of emulators have some hundred megabytes."""

MAX_EMULATOR = 256 << 20
"""Bytes of one emulator: a static QEMU has 3 to 20 megabytes."""

_FOLDER = "usr/bin/"


def extract(source: Source, document: Document, names: Iterable[str], folder: str) -> dict[str, str]:
    """Write the emulators ``names`` (QEMU's: ``aarch64``) of an image to ``folder``; returns where each one is.

    What the image does not have is not in the answer. Raises :class:`NotFound` when it has none of them, and
    :class:`TooLarge`; then nothing of them is left in the folder.
    """
    wanted = set(names)
    found: dict[str, str] = {}
    gone: set[str] = set()
    try:
        for layer in reversed(document.manifest.layers):
            open_names = wanted - found.keys() - gone
            if not open_names:
                break
            _from_layer(source, layer, open_names, folder, found, gone)
    except BaseException:
        for path in found.values():
            os.unlink(path)
        raise
    if not found:
        listed = ", ".join(f"/{_FOLDER}qemu-{name}" for name in sorted(wanted))
        raise NotFound(
            f"{source.place}: the image has none of {listed}",
            hint="name an image made as tonistiigi/binfmt is, or a path on this machine",
        )
    return found


def extract_into(
    source: Source, document: Document, names: Iterable[str], data: str
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The same into a folder of ``data`` named by the image's digest; the second value is what was not there before.

    Raises also :class:`EmulationError` when the folder cannot be made.
    """
    folder = os.path.join(data, document.digest.hex[:16])
    wanted = set(names)
    there = {name: path for name in wanted if os.path.isfile(path := os.path.join(folder, f"qemu-{name}"))}
    if wanted == there.keys():
        return there, ()
    try:
        os.makedirs(folder, mode=0o755, exist_ok=True)
    except OSError as error:
        raise EmulationError(f"{folder}: {error.strerror}", hint="run this as root") from error
    try:
        fresh = extract(source, document, wanted - there.keys(), folder)
    except NotFound:
        if not there:
            remove_empty(folder)
            raise
        fresh = {}
    except BaseException:
        remove_empty(folder)
        raise
    return {**there, **fresh}, tuple(fresh.values())


def remove_empty(folder: str) -> None:
    """Remove a folder that holds nothing."""
    if not os.listdir(folder):
        os.rmdir(folder)


def _from_layer(
    source: Source, layer: Descriptor, names: set[str], folder: str, found: dict[str, str], gone: set[str]
) -> None:
    place = f"{source.place}: layer {layer.digest}"
    with tempfile.TemporaryDirectory(prefix="manyfest-layer-") as scratch:
        path = os.path.join(scratch, "layer.tar")
        _spool(source, layer, path, place)
        table = TarTable(path, place)
        try:
            members = set(table.names())
            for name in sorted(names):
                _take(table, name, members, folder, found, place)
            gone |= {name for name in names - found.keys() if _is_hidden(name, members)}
        finally:
            table.close()


def _spool(source: Source, layer: Descriptor, path: str, place: str) -> None:
    """The layer as a plain tar file, verified."""
    stream = Verified(source.open(layer), layer, source.place)
    try:
        head = stream.read(4)
        whole: Readable = _Behind(head, stream)
        if is_compressed(head):
            whole = Inflated(whole, place)
        size = 0
        with translated(place, "writing a temporary file", writing=True), open(path, "wb") as file:
            for piece in chunks(whole):
                size += len(piece)
                if size > MAX_LAYER:
                    raise TooLarge(f"{place}: inflates to over {MAX_LAYER} bytes")
                file.write(piece)
        for _ in chunks(stream):
            pass  # what follows the archive counts for the digest
    finally:
        stream.close()


class _Behind:
    """A stream whose first bytes were looked at."""

    def __init__(self, head: bytes, stream: Readable) -> None:
        self._head = head
        self._stream = stream

    def read(self, size: int = -1, /) -> bytes:
        if not self._head:
            return self._stream.read(size)
        if size < 0:
            data, self._head = self._head, b""
            return data + self._stream.read(size)
        data, self._head = self._head[:size], self._head[size:]
        return data

    def close(self) -> None:
        self._stream.close()


def _take(
    table: TarTable, name: str, members: set[str], folder: str, found: dict[str, str], place: str
) -> None:
    for file in (f"{_FOLDER}qemu-{name}", f"{_FOLDER}qemu-{name}-static"):
        if file not in members:
            continue
        size, stream = table.size(file), table.open(file)
        if size is None or stream is None:
            continue  # a link to something of another layer
        if size > MAX_EMULATOR:
            raise TooLarge(f"{place}: /{file} has {size} bytes, over the limit of {MAX_EMULATOR}")
        target = os.path.join(folder, f"qemu-{name}")
        with translated(folder, f"writing qemu-{name}", writing=True), Part(folder) as part:
            for piece in chunks(stream):
                part.write(piece)
            os.fchmod(part.fd, 0o755)
            part.commit(target)
            sync_directory(folder)
        found[name] = target
        return


def _is_hidden(name: str, members: set[str]) -> bool:
    """Did this layer delete what layers below have? https://github.com/opencontainers/image-spec/blob/main/layer.md"""
    marks = {".wh.usr", "usr/.wh.bin", ".wh..wh..opq", "usr/.wh..wh..opq", f"{_FOLDER}.wh..wh..opq"}
    marks |= {f"{_FOLDER}.wh.qemu-{name}", f"{_FOLDER}.wh.qemu-{name}-static"}
    return bool(marks & members)
