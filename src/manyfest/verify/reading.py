# SPDX-License-Identifier: Apache-2.0
"""Layers of a store, each read once, side by side; or taken from the cache; or a finding that says why not."""

from __future__ import annotations

import threading

from manyfest.content import mediatypes
from manyfest.errors import ContentError, NotFound, TooLarge, Unsupported
from manyfest.verify.checks import Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from manyfest.content.descriptor import Descriptor
    from manyfest.stores.base import Source
    from manyfest.stores.pool import Pool
    from manyfest.verify.cache import Cache
    from manyfest.verify.layers import Layer
    from manyfest.verify.report import Work

__all__ = ["LayerReader"]

MAX_ENTRIES = 8_000_000
"""Files in all layers of all images together; what is known of them is held in memory until the end."""

MAX_NAMES = 512 * 1024 * 1024
"""Characters in the paths of all of them."""

_LAYER_TYPES = frozenset(
    (
        mediatypes.OCI_LAYER,
        mediatypes.OCI_LAYER_GZIP,
        mediatypes.OCI_LAYER_ZSTD,
        mediatypes.DOCKER_LAYER,
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.diff.tar.zstd",
        "application/vnd.docker.container.image.rootfs.diff+x-gtar",
    )
)


class LayerReader:
    """``opened`` are the digests that were asked of the store, so that nobody need ask whether they are there."""

    def __init__(
        self,
        source: Source,
        max_bytes: int,
        cache: Cache,
        pool: Pool,
        work: Work,
        on_bytes: Callable[[int], None] | None = None,
    ) -> None:
        self.source = source
        self.max_bytes = max_bytes
        self.cache = cache
        self.pool = pool
        self.work = work
        self.on_bytes = on_bytes
        self.opened: set[str] = set()
        self._lock = threading.Lock()
        self._held_files = 0
        self._held_names = 0

    def read(
        self, descriptors: Sequence[Descriptor], on_plan: Callable[[int], None] | None = None
    ) -> dict[str, Layer | Finding]:
        """Each layer once: what is in it, or why that cannot be known."""
        unique = {str(descriptor.digest): descriptor for descriptor in descriptors}
        found: dict[str, Layer | Finding] = {}
        todo: list[Descriptor] = []
        for digest, descriptor in unique.items():
            known = self._unreadable(descriptor) or self.cache.layer(digest)
            if known is None:
                todo.append(descriptor)
                continue
            found[digest] = known
            if not isinstance(known, Finding):
                self.work.layers_cached += 1
                self._hold(known)
        if on_plan is not None:
            on_plan(sum(descriptor.size for descriptor in todo))
        # The largest first: the others fit in beside it.
        todo.sort(key=lambda descriptor: -descriptor.size)
        for descriptor, layer in zip(todo, self.pool.map(self._layer, todo), strict=True):
            found[str(descriptor.digest)] = layer
        self.opened = {str(descriptor.digest) for descriptor in todo}
        return found

    def _unreadable(self, descriptor: Descriptor) -> Finding | None:
        kind, short = descriptor.media_type, descriptor.digest.short
        digest = str(descriptor.digest)
        if kind.endswith("+encrypted"):
            message = f"the layer {short} is encrypted; what is in it cannot be verified"
            return Finding(
                "MF501", "warning", message, layer=digest, hint="verify the image before it is encrypted"
            )
        if mediatypes.is_foreign(kind):
            if self.source.exists(descriptor):
                return None
            where = f" ({descriptor.urls[0]})" if descriptor.urls else ""
            message = f"the layer {short} is not kept here{where} and was not looked into"
            return Finding("MF502", "warning", message, layer=digest)
        if kind not in _LAYER_TYPES:
            message = f"the layer {short} is of type {kind}, which manyfest does not read"
            return Finding("MF501", "warning", message, layer=digest)
        return None

    def _layer(self, descriptor: Descriptor) -> Layer | Finding:
        from manyfest.verify.walk import read_layer

        digest, short = str(descriptor.digest), descriptor.digest.short
        try:
            stream = self.pool.watched(self.source.open(descriptor), self.on_bytes)
            layer = read_layer(stream, descriptor, limit=self.max_bytes)
        except NotFound:
            return Finding("MF107", "error", f"the layer {short} is not there", layer=digest)
        except TooLarge as error:
            return Finding("MF510", "error", str(error), layer=digest, hint=error.hint)
        except ContentError as error:
            return Finding("MF503", "error", str(error), layer=digest, hint=error.hint)
        except Unsupported as error:
            return Finding("MF501", "warning", str(error), layer=digest, hint=error.hint)
        self.cache.keep_layer(layer)
        with self._lock:
            self._hold(layer)
            self.work.layers_read += 1
            self.work.bytes_read += layer.size
            self.work.bytes_unpacked += layer.unpacked
        return layer

    def _hold(self, layer: Layer) -> None:
        self._held_files += len(layer.entries)
        self._held_names += sum(map(len, layer.entries))
        if self._held_files > MAX_ENTRIES or self._held_names > MAX_NAMES:
            raise TooLarge(
                f"{self.source.place}: the layers hold more than {MAX_ENTRIES} files, or names without end",
                hint="look at one platform at a time: --platform",
            )
