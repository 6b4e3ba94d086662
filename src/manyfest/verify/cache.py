# SPDX-License-Identifier: Apache-2.0
"""What was found out before: layers by their digest, so that a second look reads no layer.

Files are packed JSON in ``$MANYFEST_CACHE/layers`` (by default ``~/.cache/manyfest/layers``), written whole or not at
all. A file that cannot be read is as good as none. The oldest go when all of them together are over the limit.
Everything here may be deleted at any time.
"""

from __future__ import annotations

import json
import os
import zlib

from manyfest.errors import InvalidPlatform
from manyfest.stores._cache import cache_folder
from manyfest.verify.layers import Layer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["LIMIT", "Cache", "default_folder"]

VERSION = 12
"""Goes up when readers see more, write otherwise, or files are judged otherwise: older ones then age out unread."""

LIMIT = 256 * 1024 * 1024
"""Bytes of all files together."""

_MAX_FILE = 256 * 1024 * 1024
_KEPT_SHARE = 0.8


def default_folder() -> str:
    """``$MANYFEST_CACHE/layers``, by default ``~/.cache/manyfest/layers``."""
    return cache_folder("layers")


class Cache:
    """Layers and results by name. ``folder=""`` keeps nothing. Safe to use from several threads and processes."""

    def __init__(self, folder: str | None = None, limit: int = LIMIT) -> None:
        self.folder = default_folder() if folder is None else folder
        self.limit = limit

    def layer(self, digest: str) -> Layer | None:
        """What is kept of a layer."""
        shown = self._load(_file_of("layer", digest))
        try:
            layer = None if shown is None else Layer.from_json(shown)
        except (KeyError, TypeError, ValueError, AttributeError, InvalidPlatform):
            return None
        return layer if layer is not None and layer.digest == digest else None

    def keep_layer(self, layer: Layer) -> None:
        """Keep a layer. A folder that cannot be written to keeps nothing, and that is all."""
        self._save(_file_of("layer", layer.digest), layer.to_json())

    def result(self, name: str) -> Any:
        """What is kept of an image's findings; the caller checks its shape."""
        return self._load(_file_of("result", name))

    def keep_result(self, name: str, shown: Any) -> None:
        """Keep an image's findings."""
        self._save(_file_of("result", name), shown)

    def _load(self, name: str) -> Any:
        if not self.folder:
            return None
        path = os.path.join(self.folder, name)
        try:
            with open(path, "rb") as file:
                packed = file.read(_MAX_FILE)
            os.utime(path)
            return json.loads(zlib.decompress(packed))
        except (OSError, ValueError, zlib.error, RecursionError):
            return None

    def _save(self, name: str, shown: Any) -> None:
        if not self.folder:
            return
        packed = zlib.compress(json.dumps(shown, separators=(",", ":")).encode(), 1)
        if len(packed) > self.limit * _KEPT_SHARE:
            return
        part = os.path.join(self.folder, f".{name}.{os.getpid()}.{os.urandom(4).hex()}")
        try:
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            self._write(part, packed)
            os.replace(part, os.path.join(self.folder, name))
            self._evict()
        except OSError:
            return  # a cache that cannot be written is only slower

    def _write(self, part: str, data: bytes) -> None:
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            os.unlink(part)
            raise

    def _evict(self) -> None:
        """The files that were not used for longest go, until some room is left."""
        with os.scandir(self.folder) as found:
            files = [(entry.stat(), entry.path) for entry in found if entry.is_file(follow_symlinks=False)]
        total = sum(stat.st_size for stat, _ in files)
        if total <= self.limit:
            return
        for stat, path in sorted(files, key=lambda pair: pair[0].st_mtime):
            if total <= self.limit * _KEPT_SHARE:
                return
            try:
                os.unlink(path)
            except FileNotFoundError:
                pass  # another process was faster
            total -= stat.st_size


def _file_of(kind: str, name: str) -> str:
    return f"{kind}-{VERSION}-{name.replace(':', '-').replace('/', '-')}"
