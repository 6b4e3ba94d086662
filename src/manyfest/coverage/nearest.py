# SPDX-License-Identifier: Apache-2.0
"""Which other tags of a repository do have a platform: near in version first, newest first among equals.

    >>> order(["latest", "1.2.4", "2.0", "1.2.4-alpine", "1.3.0"], "1.2.3")
    ['1.2.4', '1.3.0', '2.0', 'latest', '1.2.4-alpine']

Asking costs requests, which some registries count: at most :data:`MAX_HEADS` HEAD (which none counts) to see which tags
are the same image, and :data:`MAX_GETS` GET.
"""

from __future__ import annotations

import itertools
import re

from manyfest.coverage.listing import list_images
from manyfest.errors import Error, Unsupported
from manyfest.stores.base import HasTags
from manyfest.stores.pool import Pool
from manyfest.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from manyfest.coverage.listing import Listing
    from manyfest.stores.base import Source

__all__ = ["MAX_GETS", "MAX_HEADS", "Near", "Nearest", "nearest", "order"]

MAX_TAGS = 5000
"""Tags looked through; more have the oldest versions anyway."""

MAX_HEADS = 24
MAX_GETS = 12
ENOUGH = 3

_VERSION = re.compile(r"v?(\d{1,9}(?:\.\d{1,9}){0,3})(?:[-+_.](.+))?")
_NO_IMAGES = re.compile(r"sha256-[0-9a-f]{64}(\..+)?")


class Near(Value):
    """A tag that has it, and what else is there."""

    __slots__ = ("digest", "platforms", "tag")
    tag: str
    digest: str
    platforms: tuple[str, ...]

    def __init__(self, tag: str, digest: str, platforms: Iterable[str]) -> None:
        self._set(tag=tag, digest=digest, platforms=tuple(platforms))


class Nearest(Value):
    """``found``, nearest first, and what it cost: ``looked`` at so many of ``tags``, in ``heads`` and ``gets``."""

    __slots__ = ("found", "gets", "heads", "looked", "tags")
    found: tuple[Near, ...]
    tags: int
    looked: int
    heads: int
    gets: int

    def __init__(self, found: Sequence[Near], tags: int, looked: int, heads: int, gets: int) -> None:
        self._set(found=tuple(found), tags=tags, looked=looked, heads=heads, gets=gets)

    def to_json(self) -> dict[str, Any]:
        """The shape of ``docs/reference/json.md``."""
        return {
            "found": [{"tag": n.tag, "digest": n.digest, "platforms": list(n.platforms)} for n in self.found],
            "tags": self.tags,
            "looked": self.looked,
            "heads": self.heads,
            "gets": self.gets,
        }

    def __str__(self) -> str:
        cost = f"looked at {self.looked} of {self.tags} tags: {self.heads} HEAD, {self.gets} GET"
        if not self.found:
            return f"no other tag has it ({cost})"
        return f"{', '.join(near.tag for near in self.found)} {'has' if len(self.found) == 1 else 'have'} it ({cost})"


def nearest(source: Source, tag: str, fits: Callable[[Listing], bool]) -> Nearest:
    """The nearest tags whose images ``fits`` accepts. Raises :class:`Unsupported` where tags cannot be listed."""
    if not isinstance(source, HasTags):
        raise Unsupported(f"{source.place} does not list tags, so the nearest cannot be found")
    tags = [each for each in itertools.islice(source.tags(), MAX_TAGS) if each != tag]
    candidates = [each for each in order(tags, tag) if not _NO_IMAGES.fullmatch(each)][:MAX_HEADS]
    pool = Pool()
    digests = pool.map(lambda each: _digest(source, each), candidates)
    unique: dict[str, str] = {}
    for each, digest in zip(candidates, digests, strict=True):
        if digest:
            unique.setdefault(digest, each)
    todo = list(unique.items())[:MAX_GETS]
    found: list[Near] = []
    asked = 0
    while todo and len(found) < ENOUGH:
        batch, todo = todo[:4], todo[4:]
        asked += len(batch)
        listings = pool.map(lambda item: _listing(source, item[0]), batch)
        for (digest, each), listing in zip(batch, listings, strict=True):
            if listing is not None and fits(listing):
                found.append(Near(each, digest, map(str, listing.platforms)))
    return Nearest(found[:ENOUGH], len(tags), len(candidates), len(candidates), asked)


def order(tags: Iterable[str], tag: str) -> list[str]:
    """Nearest to ``tag`` first: the same flavour (``-alpine``), then as many equal numbers as possible, then newest."""
    version, flavour = _parts(tag)

    def key(other: str) -> tuple[bool, bool, int, tuple[int, ...], str]:
        numbers, its = _parts(other)
        shared = 0
        for mine, theirs in zip(version, numbers, strict=False):
            if mine != theirs:
                break
            shared += 1
        return its != flavour, not numbers, -shared, tuple(-number for number in numbers), other

    return sorted(tags, key=key)


def _parts(tag: str) -> tuple[tuple[int, ...], str]:
    """Version and flavour; a word such as ``latest`` or ``edge`` has neither, ``alpine`` only a flavour."""
    found = _VERSION.fullmatch(tag)
    if found is None:
        return (), "" if tag in ("latest", "stable", "edge", "main", "master", "nightly") else tag
    return tuple(int(part) for part in found[1].split(".")), found[2] or ""


def _digest(source: Source, tag: str) -> str:
    try:
        return str(source.peek(tag).digest)
    except Error:
        return ""  # gone meanwhile, or of a kind nobody reads: not what is looked for


def _listing(source: Source, digest: str) -> Listing | None:
    try:
        return list_images(source, source.resolve(digest))
    except Error:
        return None
