# SPDX-License-Identifier: Apache-2.0
"""Which other tags of a repository do have a platform: near in version first, newest first among equals.

    >>> order(["latest", "1.2.4", "2.0", "1.2.4-alpine", "1.3.0"], "1.2.3")
    ['1.2.4', '1.3.0', '2.0', 'latest', '1.2.4-alpine']

Asking costs requests, which some registries count: at most :data:`MAX_HEADS` HEAD (which none counts) to see which tags
are the same image, and :data:`MAX_GETS` GET. Who did not ask for it is not to wait for it: :func:`nearest_within` ends
after some seconds, whatever the registry does.
"""

from __future__ import annotations

import itertools
import queue
import re
import threading
import time

from manyfest.errors import Error, Unsupported
from manyfest.indexes.listing import list_images
from manyfest.stores.base import HasTags
from manyfest.stores.pool import TICK_S, Pool
from manyfest.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, TypeVar

    from manyfest.indexes.listing import Listing
    from manyfest.stores.base import Source

    T = TypeVar("T")
    R = TypeVar("R")

__all__ = [
    "FEW_GETS",
    "MAX_GETS",
    "MAX_HEADS",
    "PATIENCE_S",
    "Near",
    "Nearest",
    "nearest",
    "nearest_within",
    "order",
]

MAX_TAGS = 5000
"""Tags looked through; more have the oldest versions anyway."""

PATIENCE_S = 3.0
"""Seconds that the words of an error may be late for the sake of a better hint."""

MAX_HEADS = 24
MAX_GETS = 12
FEW_GETS = 4
"""GET for those who did not ask: Docker Hub gives ten of them an hour to people it does not know."""

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
        if not self.tags:
            return "it has no other tag"
        cost = f"looked at {self.looked} of {self.tags} tags: {self.heads} HEAD, {self.gets} GET"
        if not self.found:
            return f"no other tag has it ({cost})"
        return f"{', '.join(near.tag for near in self.found)} {'has' if len(self.found) == 1 else 'have'} it ({cost})"


def nearest(
    source: Source,
    tag: str,
    fits: Callable[[Listing], bool],
    *,
    gets: int = MAX_GETS,
    pool: Pool | None = None,
) -> Nearest:
    """The nearest tags whose images ``fits`` accepts. Raises :class:`Unsupported` where tags cannot be listed."""
    if not isinstance(source, HasTags):
        raise Unsupported(f"{source.place} does not list tags, so the nearest cannot be found")
    tags = [each for each in itertools.islice(source.tags(), MAX_TAGS) if each != tag]
    candidates = [each for each in order(tags, tag) if not _NO_IMAGES.fullmatch(each)][:MAX_HEADS]
    pool = pool or Pool()
    digests = pool.map(lambda each: _digest(source, each), candidates)
    unique: dict[str, str] = {}
    for each, digest in zip(candidates, digests, strict=True):
        if digest:
            unique.setdefault(digest, each)
    todo = list(unique.items())[:gets]
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


def nearest_within(
    source: Source, tag: str, fits: Callable[[Listing], bool], seconds: float = PATIENCE_S
) -> Nearest | None:
    """:func:`nearest`, with few GET, if that can be told within ``seconds``; ``None`` when it cannot be told."""
    outcome: list[Nearest | BaseException] = []
    done = threading.Event()

    def look() -> None:
        try:
            outcome.append(nearest(source, tag, fits, gets=FEW_GETS, pool=_Leavable()))
        except BaseException as error:  # noqa: BLE001 - raised below, by whoever waits for it
            outcome.append(error)
        finally:
            done.set()

    threading.Thread(target=look, name="manyfest-nearest", daemon=True).start()
    end = time.monotonic() + seconds
    # In short turns, so that Ctrl-C is heard: see manyfest.stores.pool.wait_for.
    while not done.is_set() and (left := end - time.monotonic()) > 0:
        done.wait(min(TICK_S, left))
    if not outcome or isinstance(outcome[0], Error):
        return None
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


class _Leavable(Pool):
    """Threads that the process does not wait for when it ends: what they wait for may never answer."""

    def map(self, work: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """See :meth:`Pool.map`; the first failure by position is raised when all are done."""
        todo = list(items)
        made: dict[int, R] = {}
        failed: dict[int, BaseException] = {}
        waiting: queue.SimpleQueue[tuple[int, T]] = queue.SimpleQueue()
        for numbered in enumerate(todo):
            waiting.put(numbered)

        def drain() -> None:
            while True:
                try:
                    number, item = waiting.get_nowait()
                except queue.Empty:
                    return
                try:
                    made[number] = work(item)
                except BaseException as error:  # noqa: BLE001 - raised below
                    failed[number] = error

        count = min(self.workers, len(todo))
        threads = [threading.Thread(target=drain, daemon=True) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for number in sorted(failed):
            raise failed[number]
        return [made[number] for number in range(len(todo))]


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
