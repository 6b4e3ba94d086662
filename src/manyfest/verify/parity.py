# SPDX-License-Identifier: Apache-2.0
"""The platforms of one image (or two images) side by side, and what stands out.

Every platform becomes a :class:`Side`; :func:`compare` lines them up and gives a :class:`Difference` for each thing
that one side has otherwise than most. The most frequent value is taken for the intended one; where no value is more
frequent than another, all are shown and nobody is blamed.

Names that must differ are made equal first: the folder ``x86_64-linux-gnu`` and the loader ``ld-linux-x86-64.so.2`` of
one architecture are the folder and loader of another.
"""

from __future__ import annotations

import re
from collections import Counter
from statistics import median

from manyfest.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

__all__ = ["Difference", "Side", "compare", "neutral_path"]

SIZE_FACTOR = 2.0
"""How many times larger or smaller than the median a size must be to stand out."""

STALE_S = 24 * 3600.0
"""Seconds between the oldest and the newest platform's creation from which one is called stale."""

_TRIPLE = re.compile(r"(?<![a-z0-9])(?:[a-z0-9_]+)-(?:linux|alpine-linux)-(?:gnu|musl)[a-z0-9]*(?![a-z0-9])")
_LOADER = re.compile(
    r"(?:^|/)(?:ld-linux[^/]*\.so\.\d|ld64\.so\.\d|ld\.so\.1|ld-musl-[^/]+|libc\.musl-[^/]+)$"
)
_ABI_TAG = re.compile(r"\.(cpython-\d+[a-z]*|pypy\d+-pp\d+)-[a-z0-9_]+-linux-(?:gnu|musl)[a-z0-9]*\.so$")
_LIB_FOLDERS = re.compile(r"^(?:usr/)?lib(?:64|32|x32|n32)(?=/|$)")


class Side(Value):
    """One platform of one image.

    ``size`` packed and ``unpacked`` plain bytes; ``created_s`` seconds since 1970 or ``None``; ``settings`` the
    config's texts by name; ``packages`` manager → name → version; ``files`` neutral paths.
    """

    __slots__ = (
        "created",
        "created_s",
        "diff_ids",
        "digest",
        "files",
        "name",
        "packages",
        "settings",
        "size",
        "unpacked",
    )
    name: str
    digest: str
    size: int
    unpacked: int
    created: str
    created_s: float | None
    diff_ids: tuple[str, ...]
    settings: Mapping[str, str]
    packages: Mapping[str, Mapping[str, str]]
    files: frozenset[str]

    def __init__(
        self,
        name: str,
        digest: str,
        *,
        size: int = 0,
        unpacked: int = 0,
        created: str = "",
        created_s: float | None = None,
        diff_ids: tuple[str, ...] = (),
        settings: Mapping[str, str] | None = None,
        packages: Mapping[str, Mapping[str, str]] | None = None,
        files: frozenset[str] = frozenset(),
    ) -> None:
        self._set(
            name=name,
            digest=digest,
            size=size,
            unpacked=unpacked,
            created=created,
            created_s=created_s,
            diff_ids=diff_ids,
            settings=settings or {},
            packages=packages or {},
            files=files,
        )

    def __hash__(self) -> int:
        return hash((self.name, self.digest))


class Difference(Value):
    """Something that is not the same everywhere.

    ``subject``: what (``size``, ``env PATH``, ``package dpkg/bash``, ``files``); ``sides``: the names of those that
    stand out (all when nobody is in the majority); ``message``: a sentence; ``values``: per side.
    """

    __slots__ = ("message", "sides", "subject", "values")
    subject: str
    sides: tuple[str, ...]
    message: str
    values: Mapping[str, Any]

    def __init__(self, subject: str, sides: tuple[str, ...], message: str, values: Mapping[str, Any]) -> None:
        self._set(subject=subject, sides=sides, message=message, values=values)

    def __hash__(self) -> int:
        return hash((self.subject, self.sides))


def compare(sides: Sequence[Side]) -> list[Difference]:
    """Everything that stands out, the most telling first."""
    if len(sides) < 2:
        return []
    return [
        *_numbers(sides, "size", lambda side: side.size),
        *_numbers(sides, "unpacked size", lambda side: side.unpacked),
        *_age(sides),
        *_layers(sides),
        *_settings(sides),
        *_packages(sides),
        *_files(sides),
    ]


def neutral_path(path: str) -> str:
    """A path with the parts that every architecture spells its own way made equal."""
    path = _ABI_TAG.sub(r".\1-ARCH.so", path)
    path = _TRIPLE.sub("TRIPLE", path)
    path = _LIB_FOLDERS.sub(lambda match: re.sub(r"lib\w+$", "lib", match[0]), path)
    if _LOADER.search(path):
        return path[: path.rfind("/") + 1] + "LOADER"
    return path


def _numbers(sides: Sequence[Side], subject: str, value: Callable[[Side], int]) -> list[Difference]:
    values = {side.name: value(side) for side in sides}
    middle = median(values.values())
    found = []
    for name, size in values.items():
        low, high = sorted((size, middle))
        if not high or (low and high / low < SIZE_FACTOR):
            continue
        times = f"{high / low:.1f} times" if low else "much"
        word = "larger" if size > middle else "smaller"
        found.append(Difference(subject, (name,), f"{name} is {times} {word} than the others", values))
    return found


def _age(sides: Sequence[Side]) -> list[Difference]:
    known = [(side.created_s, side) for side in sides if side.created_s is not None]
    if len(known) < 2:
        return []
    newest = max(seconds for seconds, _ in known)
    old = [side for seconds, side in known if newest - seconds > STALE_S]
    if not old:
        return []
    days = max((newest - (side.created_s or 0)) / 86400 for side in old)
    names = tuple(side.name for side in old)
    message = (
        f"{_listed(names)} older than the newest by up to {days:.0f} days: a rebuild may have been missed"
    )
    return [Difference("created", names, message, {side.name: side.created for side in sides})]


def _layers(sides: Sequence[Side]) -> list[Difference]:
    counts = {side.name: len(side.diff_ids) for side in sides}
    return _odd_ones("layers", counts, "layer", lambda count: f"{count}")


def _settings(sides: Sequence[Side]) -> list[Difference]:
    names = sorted({name for side in sides for name in side.settings})
    found = []
    for name in names:
        values = {side.name: side.settings.get(name, "") for side in sides}
        neutral = {side: neutral_path(value) for side, value in values.items()}
        if len(set(neutral.values())) > 1:
            found += _odd_ones(name, values, name, lambda value: repr(value) if value else "nothing")
    return found


def _packages(sides: Sequence[Side]) -> list[Difference]:
    found = []
    for manager in sorted({manager for side in sides for manager in side.packages}):
        have = {side.name: side.packages.get(manager, {}) for side in sides}
        for package in sorted({package for packages in have.values() for package in packages}):
            versions = {name: packages.get(package) for name, packages in have.items()}
            if len(set(versions.values())) > 1:
                subject = f"package {manager}/{package}"
                found += _odd_ones(subject, versions, package, _version)
    return found


def _files(sides: Sequence[Side]) -> list[Difference]:
    everywhere = frozenset.intersection(*(side.files for side in sides))
    counted = Counter(path for side in sides for path in side.files - everywhere)
    found = []
    for side in sides:
        # In most of the others but not here, or here and in fewer than half.
        lacking = sorted(p for p, n in counted.items() if p not in side.files and n >= (len(sides) + 1) // 2)
        extra = sorted(p for p in side.files - everywhere if counted[p] * 2 < len(sides) or len(sides) == 2)
        for paths, word in ((lacking, "lacks"), (extra, "alone has" if len(sides) > 2 else "has")):
            if paths and not (len(sides) == 2 and word == "lacks"):
                message = f"{side.name} {word} {len(paths)} files: {_few(paths)}"
                found.append(Difference("files", (side.name,), message, {side.name: paths}))
    return found


def _odd_ones(
    subject: str, values: Mapping[str, Any], noun: str, shown: Callable[[Any], str]
) -> list[Difference]:
    """The sides whose value is not the most frequent one; all of them if no value is."""
    ranked = Counter(values.values()).most_common(2)
    if len(ranked) < 2:
        return []
    (usual, most), (_, next_most) = ranked
    if most == next_most:
        each = "; ".join(f"{name}: {shown(value)}" for name, value in values.items())
        return [Difference(subject, tuple(values), f"{noun} differs: {each}", values)]
    odd = tuple(name for name, value in values.items() if value != usual)
    each = "; ".join(f"{name} has {shown(values[name])}" for name in odd)
    return [Difference(subject, odd, f"{each}, the others {shown(usual)}", values)]


def _version(version: str | None) -> str:
    if version is None:
        return "no such package"
    return version or "it"


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'}"


def _few(paths: Sequence[str]) -> str:
    shown = ", ".join(f"/{path}" for path in paths[:3])
    return shown if len(paths) <= 3 else f"{shown} and {len(paths) - 3} more"
