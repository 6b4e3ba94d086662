# SPDX-License-Identifier: Apache-2.0
"""Joining a list from parallel jobs, with nothing between them but the registry.

The distribution protocol has no compare-and-swap: two jobs that read a tag, add their platform and write it back lose
one of the two. So every job first leaves a **mark**, a tag of its own (``1.2.join-linux-arm64``) that points at an
index of just its entries, and then repeats until the tag says what it should:

1. list the marks and read them and the tag,
2. merge: what the tag has, with every mark's platform over it,
3. if the tag is that already, done; otherwise write it and start again at 1.

**Guarantee.** Every job writes its mark before it ever writes the tag, and looks again after each write. So the last
write to the tag, whoever makes it, is followed by a look that sees every mark left before, and would be repaired by
that job: when all jobs have ended, the tag holds the platforms of all of them. This needs what registries give today:
tag lists and tags that show a write once it was answered. It does not hold for a job that dies between its write and
its look (run any job again, it repairs), or against tools that write the tag without marks.

Marks stay, so that a late or repeated job can repair; :func:`clear_marks` removes them when all jobs have ended.
"""

from __future__ import annotations

import hashlib
import random
import re
import time

from manyfest.content.document import Document
from manyfest.errors import InputError, InvalidSpec, NotFound, Refused, RegistryError
from manyfest.indexes.edit import added, build, refuse_duplicates
from manyfest.indexes.publish import missing_from
from manyfest.indexes.select import images, platform_of, platforms_of
from manyfest.stores.base import CanDelete, HasTags, opener_of
from manyfest.stores.pool import Pool
from manyfest.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from manyfest.content.descriptor import Descriptor
    from manyfest.platforms import Platform
    from manyfest.stores.base import Store

__all__ = ["TRIES", "Joined", "clear_marks", "join", "mark_name", "marked_name"]

TRIES = 20
"""Rounds before giving up. Each lost round means that another job made progress."""

_MARK = ".join-"
_MAX_TAG = 128


class Joined(Value):
    """The tag after joining. ``missing`` are expected platforms that no job has brought yet."""

    __slots__ = ("document", "missing", "rounds", "written")
    document: Document
    missing: tuple[Platform, ...]
    rounds: int
    written: bool

    def __init__(
        self, document: Document, missing: tuple[Platform, ...], rounds: int, *, written: bool
    ) -> None:
        self._set(document=document, missing=missing, rounds=rounds, written=written)


def join(
    target: Store,
    name: str,
    entries: Sequence[Descriptor],
    *,
    expect: Sequence[Platform] = (),
    when_complete: bool = False,
    type: str = "",
    tries: int = TRIES,
    pause: Callable[[int], None] | None = None,
    pool: Pool | None = None,
) -> Joined:
    """Merge ``entries``, whose content ``target`` already holds, into the tag ``name``.

    With ``when_complete`` the tag is not written before every expected platform has been brought. ``pause`` is called
    with the round's number before every round after the second. Raises :class:`InvalidSpec` for an entry that has no
    platform, :class:`InputError` without a name, :class:`Refused` when the tag kept changing for ``tries`` rounds.
    """
    pool = pool or Pool()
    if not name:
        # Beside its marks nobody could tell it any more.
        raise InputError(f"{target.place}: a list to join has a tag", hint=f"name it: {target.place}:latest")
    _leave_marks(target, name, entries, type, pool)
    known_marks = [mark_name(name, platform) for platform in (*platforms_of(entries), *expect)]
    written = False
    for round_ in range(1, tries + 1):
        if round_ > 2:  # the second only looks at what the first wrote
            (pause or _pause)(round_)
        try:
            current, marks = _look(target, name, known_marks, pool)
        except RegistryError as error:
            # Debian's registry answers 500 to whoever reads a tag in the moment it is written.
            if error.status != 500 or round_ == tries:
                raise
            continue
        merged = _merge(target, current, marks, type)
        missing = missing_from(expect, platforms_of(merged.index.manifests))
        if (when_complete and missing) or merged == current:
            return Joined(merged, missing, round_, written=written)
        refuse_duplicates(merged.index.manifests)
        target.tag(merged, name)
        written = True
    raise Refused(
        f"{target.place}:{name} was changed by others in each of {tries} rounds",
        hint="something writes this tag without joining; run the same command again when it has stopped",
    )


def mark_name(name: str, platform: Platform) -> str:
    """The tag under which the job for ``platform`` leaves its mark."""
    ending = re.sub(r"[^A-Za-z0-9_.-]+", "-", _MARK + str(platform))
    if len(name) + len(ending) <= _MAX_TAG:
        return name + ending
    return _short(name) + ending[: _MAX_TAG - 16]


def _short(name: str) -> str:
    """What stands for a tag that is too long to have anything appended."""
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def marked_name(tag: str, names: Iterable[str]) -> str | None:
    """The tag that ``tag`` is a mark of, ``""`` if it is none of ``names``; ``None`` when it is no mark."""
    stem, mark, _ = tag.rpartition(_MARK)
    if not mark:
        return None
    return next((name for name in names if stem in (name, _short(name))), "")


def clear_marks(target: Store, name: str) -> tuple[str, ...]:
    """Remove the marks of a tag; returns their names. Raises :class:`Unsupported` where tags cannot be removed."""
    if not isinstance(target, CanDelete):
        return ()
    marks = tuple(_listed_marks(target, name))
    for mark in marks:
        target.untag(mark)
    return marks


def _leave_marks(target: Store, name: str, entries: Sequence[Descriptor], type: str, pool: Pool) -> None:
    legs: list[tuple[Document, str]] = []
    for entry in images(entries):
        if entry.platform is None:
            raise InvalidSpec(f"{entry.digest} has no platform", hint="an entry joins a list by its platform")
        attestations = [other for other in entries if other.attests == str(entry.digest)]
        legs.append((build([entry, *attestations], type=type), mark_name(name, entry.platform)))
    if not legs:
        raise InvalidSpec("nothing to join", hint="give at least one image")
    pool.map(lambda leg: target.tag(*leg), legs)


def _look(
    target: Store, name: str, known_marks: Iterable[str], pool: Pool
) -> tuple[Document | None, list[Document]]:
    marks = sorted({*known_marks, *_listed_marks(target, name)})
    current, *found = pool.map(lambda tag: _resolve(target, tag), [name, *marks])
    return current, [mark for mark in found if mark is not None and mark.is_index]


def _listed_marks(target: Store, name: str) -> Iterable[str]:
    if not isinstance(target, HasTags):
        return ()
    return [tag for tag in target.tags() if tag.startswith((name + _MARK, _short(name) + _MARK))]


def _resolve(target: Store, name: str) -> Document | None:
    try:
        return target.resolve(name)
    except NotFound:
        return None


def _merge(target: Store, current: Document | None, marks: Sequence[Document], type: str) -> Document:
    brought = [entry for mark in marks for entry in mark.index.manifests]
    if current is None:
        return build(brought, type=type)
    if current.is_index:
        return added(current, brought)
    # Some job pushed its image straight to the tag: it is the first platform of the list.
    single = current.descriptor.with_platform(platform_of(target, current))
    target.put(single.bare(), opener_of(current.raw))
    return added(build([single], type=type), brought)


def _pause(round_: int) -> None:
    # Jobs that collided once must not collide again in step.
    time.sleep(random.uniform(0, 0.05 * round_))  # noqa: S311  # nothing secret about it
