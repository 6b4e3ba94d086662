# SPDX-License-Identifier: Apache-2.0
"""What earlier builds made, by what it was made from: layers, hashes of files, listings of base layers.

Lives in ``$MANYFEST_CACHE/build``, by default ``~/.cache/manyfest/build``. Everything in it may be deleted at any
time; a damaged piece counts as missing. Several builds may use it at once: files appear whole, under their final name.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
from typing import TYPE_CHECKING

from manyfest.build.compressing import engine_of
from manyfest.build.layer import Layer, key_of, write_layer, write_tar
from manyfest.content.descriptor import Descriptor
from manyfest.content.digest import Digest
from manyfest.errors import BuildError, InvalidDigest, InvalidDocument
from manyfest.stores._cache import cache_folder
from manyfest.stores._files import Part, Slice, translated
from manyfest.stores.base import CHUNK, chunks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from manyfest.build.layer import Entry
    from manyfest.stores.base import Readable

__all__ = ["Cache", "Hashes", "directory"]

MAX_BYTES = 10 * 1000**3
"""Bytes of layers that are kept; beyond, those unused for the longest time go."""

KEEP_S = 24 * 3600
"""Seconds in which a used layer never goes: another build may be sending it."""

_RACY_NS = 2 * 10**9


def directory() -> str:
    """The folder of the cache; it need not exist."""
    return cache_folder("build")


class Cache:
    """Safe to use from several threads and processes. ``fresh`` makes everything anew (and keeps it).

    ``on_bytes`` hears of bytes ``read`` of the project, ``written`` of layers, and ``listed`` of layers for an SBOM,
    from several threads.
    """

    def __init__(self, root: str = "", *, fresh: bool = False) -> None:
        self.root = os.path.abspath(root or directory())
        self.fresh = fresh
        self.made = 0
        self.reused = 0
        self.on_bytes: Callable[[str, int], None] | None = None
        self._lock = threading.Lock()
        with translated(self.root, "making the cache", writing=True):
            for folder in ("blobs", "layers", "listings", "hashes", "compiled"):
                os.makedirs(os.path.join(self.root, folder), mode=0o700, exist_ok=True)

    def layer(self, entries: Sequence[Entry], epoch: int, compression: str, *, docker: bool) -> Layer:
        """The layer of these entries: from an earlier build, or made now."""
        key = key_of(entries, epoch, compression) + ("-docker" if docker else "")
        known = None if self.fresh else self._known(key)
        if known is not None:
            with self._lock:
                self.reused += 1
            return known
        return self._write(key, lambda write: write_layer(entries, epoch, compression, write, docker=docker))

    def tar(
        self, diff_id: Digest, pieces: Callable[[], Iterable[bytes]], compression: str, *, docker: bool
    ) -> Layer:
        """The layer of a tar archive whose digest is known: kept from an earlier build, or compressed now.

        Raises :class:`BuildError` if the archive has another digest.
        """
        key = f"tar-{diff_id.hex}-{compression}-{engine_of(compression).replace(' ', '-')}" + (
            "-docker" if docker else ""
        )
        known = self._known(key)
        if known is not None:
            with self._lock:
                self.reused += 1
            return known

        def written(write: Callable[[bytes], None]) -> Layer:
            layer = write_tar(pieces(), compression, write, docker=docker)
            if layer.diff_id != diff_id:
                raise BuildError(f"a layer said to be {diff_id} is {layer.diff_id}")
            return layer

        return self._write(key, written)

    def open(self, descriptor: Descriptor, offset: int = 0) -> Readable:
        """A stream of a layer made here. Raises :class:`~manyfest.errors.NotFound`."""
        with translated(self.root, f"opening layer {descriptor.digest}"):
            fd = os.open(self._blob(descriptor.digest), os.O_RDONLY | os.O_CLOEXEC)
        return Slice(fd, offset, max(descriptor.size - offset, 0), self.root, owned=True)

    def has(self, descriptor: Descriptor) -> bool:
        """Is the layer here, whole?"""
        try:
            return os.stat(self._blob(descriptor.digest)).st_size == descriptor.size
        except FileNotFoundError:
            return False

    def read(self, room: str, key: str) -> Any:
        """A small remembered thing, or ``None``."""
        raw = self.read_bytes(room, f"{key}.json")
        try:
            return None if raw is None else json.loads(raw)
        except ValueError:
            return None

    def save(self, room: str, key: str, value: object) -> None:
        """Remember a small thing under a key that is a plain file name."""
        self.save_bytes(room, f"{key}.json", json.dumps(value, separators=(",", ":")).encode())

    def read_bytes(self, room: str, key: str) -> bytes | None:
        """Remembered bytes, or ``None``."""
        try:
            with open(os.path.join(self.root, room, key), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return None

    def save_bytes(self, room: str, key: str, raw: bytes) -> None:
        """Remember bytes under a key that is a plain file name."""
        folder = os.path.join(self.root, room)
        with translated(folder, "writing", writing=True), Part(folder, durable=False) as part:
            part.write(raw)
            part.commit(os.path.join(folder, key))

    def compiled(self, project: str) -> str:
        """The folder for what is compiled for a project; it need not exist."""
        key = hashlib.sha256(os.fsencode(os.path.realpath(project))).hexdigest()[:16]
        return os.path.join(self.root, "compiled", key)

    def prune(self, limit: int = MAX_BYTES) -> int:
        """Drop the layers unused for the longest time until at most ``limit`` bytes stay; returns bytes dropped."""
        folder = os.path.join(self.root, "blobs")
        now = time.time()
        found = []
        with os.scandir(folder) as entries:
            for entry in entries:
                # Another build may take its name from it, or drop it, at any moment.
                with contextlib.suppress(FileNotFoundError):
                    if entry.is_file():
                        found.append((entry.stat(), entry.path))
        total = sum(facts.st_size for facts, _ in found)
        dropped = 0
        for facts, path in sorted(found, key=lambda pair: pair[0].st_mtime):
            if total - dropped <= limit or now - facts.st_mtime < KEEP_S:
                break
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            dropped += facts.st_size
        return dropped

    def _write(self, key: str, written: Callable[[Callable[[bytes], None]], Layer]) -> Layer:
        blobs = os.path.join(self.root, "blobs")
        with (
            translated(blobs, "writing a layer", writing=True),
            Part(blobs, durable=False) as part,
        ):
            layer = written(lambda data: self._put(part, data))
            part.commit(self._blob(layer.descriptor.digest))
        self.save("layers", key, {"layer": layer.descriptor.to_json(), "diff_id": str(layer.diff_id)})
        with self._lock:
            self.made += 1
        return layer

    def _put(self, part: Part, data: bytes) -> None:
        part.write(data)
        self.tell("written", len(data))

    def tell(self, what: str, count: int) -> None:
        """Progress."""
        if self.on_bytes is not None:
            self.on_bytes(what, count)

    def _known(self, key: str) -> Layer | None:
        value = self.read("layers", key)
        try:
            layer = Layer(Descriptor.from_json(value["layer"]), Digest.parse(value["diff_id"]))
        except (TypeError, KeyError, InvalidDocument, InvalidDigest):
            return None
        if not self.has(layer.descriptor):
            return None
        try:
            os.utime(self._blob(layer.descriptor.digest))
        except FileNotFoundError:
            return None  # another build has dropped it just now
        return layer

    def _blob(self, digest: Digest) -> str:
        return os.path.join(self.root, "blobs", f"{digest.algorithm}-{digest.hex}")


class Hashes:
    """SHA-256 of files of one project. A file is read again only if its size, times or inode changed."""

    def __init__(self, cache: Cache, project: str) -> None:
        self._cache = cache
        self._key = hashlib.sha256(os.fsencode(os.path.realpath(project))).hexdigest()
        known = None if cache.fresh else cache.read("hashes", self._key)
        self._known: dict[str, list[Any]] = known if isinstance(known, dict) else {}
        self._changed = False
        self._lock = threading.Lock()

    def of(self, path: str, facts: os.stat_result) -> str:
        """The hash of a regular file whose ``stat`` is known. Raises :class:`BuildError` if it cannot be read."""
        stamp = [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino]
        known = self._known.get(path)
        if isinstance(known, list) and known[:4] == stamp and len(known) == 5:
            return str(known[4])
        try:
            with open(path, "rb", buffering=0) as file:
                value = self._read(file)
        except OSError as error:
            raise BuildError(
                f"{path}: {error.strerror}", hint="every file that is copied must be readable"
            ) from error
        # A file written this very moment may be written again without its times showing it.
        if time.time_ns() - max(facts.st_mtime_ns, facts.st_ctime_ns) > _RACY_NS:
            with self._lock:
                self._known[path] = [*stamp, value]
                self._changed = True
        return value

    def _read(self, file: Readable) -> str:
        made = hashlib.sha256()
        for piece in chunks(file, CHUNK):
            made.update(piece)
            self._cache.tell("read", len(piece))
        return made.hexdigest()

    def save(self) -> None:
        """Keep what was learned for the next build."""
        if self._changed:
            self._cache.save("hashes", self._key, self._known)
            self._changed = False
