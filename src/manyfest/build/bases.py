# SPDX-License-Identifier: Apache-2.0
"""What ``FROM`` and ``COPY --from`` name: images, resolved to one platform's manifest and pinned by digest.

Strict first: the very platform. What a machine of that platform could run besides is taken only within the
architecture (``linux/amd64`` for ``linux/amd64/v3``, ``linux/arm/v6`` for ``linux/arm/v7``), never 386 for amd64. A
single image for something else is an error, as is an index that lacks the platform; engines of old took both.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from manyfest.build.archives import Spool, entries_of
from manyfest.build.listing import Below, Listing
from manyfest.build.tree import Tree
from manyfest.content.document import Document, ImageConfig
from manyfest.errors import BuildError, Error, NotFound, StoreError
from manyfest.indexes.nearest import FEW_GETS, nearest_within
from manyfest.indexes.select import image_for, platform_of
from manyfest.platforms import Only, Platform, normalise
from manyfest.stores._inflate import Inflated
from manyfest.stores.base import Verified, read
from manyfest.stores.places import Place
from manyfest.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from manyfest.build.cache import Cache
    from manyfest.content.descriptor import Descriptor
    from manyfest.indexes.listing import Listing as Images
    from manyfest.stores.base import Readable, Source
    from manyfest.stores.pool import Pool

    OpenSource = Callable[[str], tuple[Source, str]]

__all__ = ["Base", "Bases", "Named"]


class Base(Value):
    """One platform of a base: where it is, its manifest and its configuration as parsed JSON."""

    __slots__ = ("config", "document", "name", "source")
    config: ImageConfig
    document: Document
    name: str
    source: Source

    def __init__(self, name: str, source: Source, document: Document, config: ImageConfig) -> None:
        self._set(name=name, source=source, document=document, config=config)

    @property
    def layers(self) -> tuple[Descriptor, ...]:
        """As stored."""
        return self.document.manifest.layers


class Named(Value):
    """An image that a Dockerfile names. ``where``: the line; ``hint``: what else may have been meant."""

    __slots__ = ("hint", "name", "platform", "where")
    hint: str
    name: str
    platform: Platform
    where: str

    def __init__(self, name: str, platform: Platform, where: str, hint: str = "") -> None:
        self._set(name=name, platform=platform, where=where, hint=hint)


class _Lacking(BuildError):
    """A base is there, but not for the platform. ``there``: a sentence of what it has."""

    def __init__(self, name: str, platform: Platform, *, where: str, kind: str, there: str) -> None:
        super().__init__(f"{where}: {name}: {kind} {platform}", hint=_advice(there, [platform]))
        self.name = name
        self.platform = platform
        self.where = where
        self.kind = kind
        self.there = there


class Bases:
    """Resolves names, each once; reads layers when somebody asks what is in them. Safe to use from several threads."""

    def __init__(self, open_source: OpenSource, cache: Cache) -> None:
        self._open_source = open_source
        self._cache = cache
        self._lock = threading.Lock()
        self._locks: dict[object, threading.RLock] = {}
        self._roots: dict[str, tuple[Source, Document]] = {}
        self._found: dict[tuple[str, Platform], Base] = {}
        self._spools: dict[str, Spool] = {}

    def find(self, name: str, platform: Platform, where: str) -> Base:
        """The image for a platform. ``where`` is the line that names it.

        Raises :class:`BuildError` listing what there is instead, or what the place raises.
        """
        with self._alone(name, platform):
            known = self._found.get((name, platform))
            if known is not None:
                return known
            source, root = self._root(name, where)
            document = self._image(source, root, platform, name, where)
            base = Base(name, source, document, ImageConfig(read(source, document.manifest.config)))
            if len(base.layers) != len(base.config.diff_ids):
                listed = len(base.config.diff_ids)
                raise BuildError(
                    f"{where}: {name}: {len(base.layers)} layers, but its configuration lists {listed}"
                )
            self._found[name, platform] = base
            return base

    def resolve_all(self, wanted: Iterable[Named], pool: Pool) -> None:
        """:meth:`find` for all of these side by side, each once.

        Raises one :class:`BuildError` for all platforms that bases lack; its hint says which tags have them, where
        the registry tells within a few seconds. Else the first failure.
        """
        unique: dict[tuple[str, Platform], Named] = {}
        for named in wanted:
            unique.setdefault((named.name, named.platform), named)
        failed = [error for error in pool.map(self._failure, unique.values()) if error is not None]
        lacking = [error for error in failed if isinstance(error, _Lacking)]
        if len(lacking) < len(failed):
            raise next(error for error in failed if not isinstance(error, _Lacking))
        if lacking:
            raise self._lack(lacking, pool)

    def _failure(self, named: Named) -> Error | None:
        try:
            self.find(named.name, named.platform, named.where)
        except Error as error:
            if named.hint:
                error.hint = f"{error.hint}\n{named.hint}".lstrip("\n")
            return error
        return None

    def _lack(self, lacking: list[_Lacking], pool: Pool) -> BuildError:
        """One error for each base, in one."""
        by_name: dict[str, list[_Lacking]] = {}
        for error in lacking:
            by_name.setdefault(error.name, []).append(error)
        asked = {name: [error.platform for error in errors] for name, errors in by_name.items()}
        nears = pool.map(lambda pair: self._near(*pair), asked.items())
        told, hints = [], []
        for (name, platforms), near in zip(asked.items(), nears, strict=True):
            first = by_name[name][0]
            told.append(f"{first.where}: {name}: {first.kind} {', '.join(map(str, platforms))}")
            hint = "\n".join(filter(None, (_advice(first.there, platforms), near)))
            hints.append(hint if len(asked) == 1 else f"{name}: {hint}")
        return BuildError("\n".join(told), hint="\n".join(hints))

    def _near(self, name: str, platforms: list[Platform]) -> str:
        """Which other tags have them: where people publish under tags, and if it is quickly told."""
        if Place.parse(name).transport != "docker":
            return ""
        with self._lock:
            source, tag = self._open_source(name)

        def fits(images: Images) -> bool:
            return all(any(_serves(has, asked) for has in images.platforms) for asked in platforms)

        near = nearest_within(source, tag, fits)
        if near is not None and not near.found and near.gets >= FEW_GETS:
            more = f"manyfest resolve {name} --platform {platforms[0]} --nearest looks at more"
            return f"none of the {near.gets} tags next to it has it; {more}"
        return "" if near is None else str(near)

    def tree(self, base: Base) -> Tree:
        """The files of a base. Streams its layers unless an earlier build listed them."""
        listings = []
        for layer in base.layers:
            with self._alone(layer.digest):
                listings.append(self._listing(base.source, layer))
        return Tree(Below(listings))

    def close(self) -> None:
        """Give temporary files back."""
        for spool in self._spools.values():
            spool.close()

    def _alone(self, *key: object) -> threading.RLock:
        """Threads that want the same thing wait for one of them to bring it; others go on."""
        with self._lock:
            return self._locks.setdefault(key, threading.RLock())

    def _root(self, name: str, where: str) -> tuple[Source, Document]:
        with self._alone(name):
            known = self._roots.get(name)
            if known is None:
                try:
                    with self._lock:
                        source, tag = self._open_source(name)
                    known = self._roots[name] = (source, source.resolve(tag))
                except NotFound as error:
                    raise BuildError(
                        f"{where}: the base {name} is not there: {error}", hint=error.hint
                    ) from error
                except StoreError as error:
                    error.args = (f"{where}: the base {name}: {error}",)
                    raise
            return known

    def _image(self, source: Source, root: Document, platform: Platform, name: str, where: str) -> Document:
        try:
            return image_for(source, root, platform, strict=True)
        except NotFound as error:
            strict = error
        try:
            document = image_for(source, root, platform)
        except NotFound:
            document = None
        if document is not None:
            has = platform_of(source, document)
            if has is not None and normalise(has).architecture == normalise(platform).architecture:
                return document
        kind = "an index without" if root.is_index else "a single image, not for"
        raise _Lacking(name, platform, where=where, kind=kind, there=strict.hint)

    def _listing(self, source: Source, layer: Descriptor) -> Listing:
        key = str(layer.digest)

        def opened() -> Readable:
            stream = Verified(source.open(layer), layer, source.place)
            if layer.media_type.endswith(("gzip", "zstd")):
                return _Drained(Inflated(stream, source.place), stream)
            return stream

        spool = self._spools.setdefault(key, Spool(key, opened))
        name = f"{layer.digest.algorithm}-{layer.digest.hex}"
        raw = self._cache.read_bytes("listings", name)
        if raw is None or not Listing.is_whole(raw):
            raw = Listing.write(entries_of(spool, f"{source.place}: layer {layer.digest}"))
            self._cache.save_bytes("listings", name, raw)
        return Listing(raw, spool)


def _serves(has: Platform, asked: Platform) -> bool:
    """May a base for ``has`` be one for ``asked``? A lower variant may, another architecture may not."""
    return Only(asked).matches(has) and normalise(has).architecture == normalise(asked).architecture


def _advice(there: str, platforms: list[Platform]) -> str:
    few = len(platforms) == 1
    listed = ", ".join(map(str, platforms))
    return f"{there}; name a base for {listed}, or build without {'that platform' if few else 'them'}"


class _Drained:
    """An inflated stream whose compressed one is read to its end, where it is verified."""

    def __init__(self, plain: Inflated, stored: Readable) -> None:
        self._plain = plain
        self._stored = stored

    def read(self, size: int = -1, /) -> bytes:
        data = self._plain.read(size)
        while not data and self._stored.read(1 << 20):
            continue
        return data

    def close(self) -> None:
        self._plain.close()
