# SPDX-License-Identifier: Apache-2.0
"""Which image of several a machine takes: containerd's ordered vectors, as data where they are data.

A matcher compares normalised platforms. ``rank`` is the position in its vector, 0 the best. :func:`best` is
the lowest, then more matching ``os.features``, then Windows' newest version, then **the first in the list**.

    >>> from manyfest.platforms import Only, Platform, best
    >>> listed = [Platform.parse(text) for text in ("linux/arm/v6", "linux/arm/v7", "linux/386")]
    >>> str(best(listed, Only(Platform.parse("linux/arm64"))))
    'linux/arm/v7'
"""

from __future__ import annotations

import re

from manyfest.platforms._platform import Platform, normalise

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeVar

    T = TypeVar("T")
    Key = tuple[int, int, tuple[int, ...]]

__all__ = ["AnyOf", "Matcher", "Only", "OnlyStrict", "Ordered", "best", "ranked", "vector"]

_LTSC2022 = 20348
"""The first Windows build that runs containers of other builds: any from here up to its own."""

_WIN32K = "win32k"

# Variants that count upwards, and lowest one: a machine of one runs images for all below, and for none said.
_LEVELS = {
    "ppc64le": ("power8", "power9", "power10", "power11"),
    "riscv64": ("rva20u64", "rva22u64", "rva23u64"),
}


class Matcher:
    """Says which platforms are good enough, and in which order."""

    def __init__(self, *wanted: Platform) -> None:
        self.wanted = tuple(normalise(platform) for platform in wanted)
        """What is looked for, normalised, best first."""

    def rank(self, platform: Platform) -> int | None:
        """The position of the first of ``wanted`` that ``platform`` satisfies, or ``None``."""
        given = normalise(platform)
        return next((i for i, wanted in enumerate(self.wanted) if _satisfies(given, wanted)), None)

    def matches(self, platform: Platform) -> bool:
        """Is it good enough at all?"""
        return self.rank(platform) is not None

    def _key(self, platform: Platform) -> Key | None:
        """Lowest is best; ``None`` does not match."""
        rank = self.rank(platform)
        if rank is None:
            return None
        given = normalise(platform)
        version = _windows_version(given.os_version) if given.os == "windows" else ()
        return rank, -len(_features(given)), tuple(-number for number in version)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(str, self.wanted))})"


class Ordered(Matcher):
    """Any of these platforms, the first the best."""


class OnlyStrict(Matcher):
    """This platform and nothing less: what ``--platform`` means in Docker's containerd store."""

    def __init__(self, platform: Platform) -> None:
        super().__init__(platform)


class Only(Matcher):
    """What this machine runs, best first: itself, then what its processor runs besides (:func:`vector`)."""

    def __init__(self, host: Platform) -> None:
        super().__init__(*vector(host))


class AnyOf(Matcher):
    """Any of these platforms, none better than another."""

    def rank(self, platform: Platform) -> int | None:
        """0 or ``None``."""
        return None if super().rank(platform) is None else 0


def vector(host: Platform) -> tuple[Platform, ...]:
    """The platforms that a machine runs natively, normalised, best first, as containerd orders them.

    - ``amd64/vN`` down to plain amd64, then 386.
    - ``arm/vN`` down to v5.
    - ``arm64/v9.x`` down to v9, then v8.(x+5), at most v8.9, down to v8; every arm64 then arm/v8 down to v5.
    - ppc64le and riscv64: their lower levels, then no variant.
    - Everything else: itself, then no variant.
    """
    host = normalise(host)
    pairs = [(host.architecture, host.variant), *_below(host.architecture, host.variant)]
    return tuple(normalise(host.replace(architecture=a, variant=v)) for a, v in pairs)


def _below(architecture: str, variant: str) -> list[tuple[str, str]]:
    if architecture == "amd64":
        return [("amd64", f"v{n}") for n in _down(_number(variant) - 1, 1)] + [("386", "")]
    if architecture == "arm":
        return [("arm", f"v{n}") for n in _down(_number(variant) - 1, 5)]
    if architecture == "arm64":
        lower = _arm64_below(variant)
        if lower is None:
            return [("arm", variant), *_below("arm", variant)]
        return [("arm64", v) for v in lower] + [("arm", f"v{n}") for n in (8, 7, 6, 5)]
    levels = _LEVELS.get(architecture, ())
    below = levels[: levels.index(variant)] if variant in levels else ()
    return [(architecture, level) for level in reversed(below)] + ([(architecture, "")] if variant else [])


def _arm64_below(variant: str) -> list[str] | None:
    """``None`` for a variant that is no version of Armv8 or Armv9."""
    found = re.fullmatch(r"v([89])(?:\.([0-9]{1,2}))?", variant or "v8")
    if found is None:
        return None
    major, minor = found[1], int(found[2] or 0)
    if major == "8":
        return _minors("v8", minor - 1)
    # Armv9.0 grew out of Armv8.5, and both moved on in step until Armv8.9, the last of its line.
    return [*_minors("v9", minor - 1), *_minors("v8", min(minor + 5, 9))]


def _minors(major: str, top: int) -> list[str]:
    return [f"{major}.{n}" if n else major for n in _down(top, 0)]


def _down(top: int, floor: int) -> range:
    return range(top, floor - 1, -1)


def _number(variant: str) -> int:
    found = re.fullmatch(r"v?([0-9]{1,2})", variant)
    return int(found[1]) if found else 0


def _satisfies(given: Platform, wanted: Platform) -> bool:
    """Both normalised: may an image for ``given`` run where ``wanted`` is what there is?"""
    if (given.os, given.architecture, given.variant) != (wanted.os, wanted.architecture, wanted.variant):
        return False
    if given.os == "windows" and not _windows_runs(wanted.os_version, given.os_version):
        return False
    return _features(given) <= _features(wanted)


def _features(platform: Platform) -> frozenset[str]:
    """win32k says that an image wants the graphics part of Windows' kernel; every host but Nano has it."""
    return frozenset(platform.os_features) - ({_WIN32K} if platform.os == "windows" else set())


def _windows_runs(host: str, image: str) -> bool:
    """Microsoft's container version compatibility; an unsaid version on either side fits."""
    host_version = _windows_version(host)[:3]
    if not any(host_version) or not image:
        return True
    image_version = _windows_version(image)[:3]
    if image_version[:2] != host_version[:2]:
        return False
    if host_version[2] < _LTSC2022:
        return host_version[2] == image_version[2]
    return _LTSC2022 <= image_version[2] <= host_version[2]


def _windows_version(text: str) -> tuple[int, ...]:
    """``10.0.17763.1`` as numbers, of which three decide; zeros when it is not a version."""
    found = re.fullmatch(r"([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,5})(?:\.([0-9]{1,9}))?(?:\..*)?", text)
    return tuple(int(part or 0) for part in found.groups()) if found else (0, 0, 0, 0)


def ranked(
    entries: Iterable[T], matcher: Matcher, platform_of: Callable[[T], Platform | None] | None = None
) -> list[T]:
    """The entries that match, best first, equals in the order in which they came.

    An entry is a platform, or has one as ``.platform``, unless ``platform_of`` says otherwise; those without
    one do not match (an engine opens their config to find out).
    """
    read = platform_of or _platform_of
    found: list[tuple[Key, T]] = []
    for entry in entries:
        platform = read(entry)
        key = None if platform is None else matcher._key(platform)
        if key is not None:
            found.append((key, entry))
    found.sort(key=lambda pair: pair[0])
    return [entry for _, entry in found]


def best(
    entries: Iterable[T], matcher: Matcher, platform_of: Callable[[T], Platform | None] | None = None
) -> T | None:
    """The first of :func:`ranked`, or ``None``."""
    return next(iter(ranked(entries, matcher, platform_of)), None)


def _platform_of(entry: object) -> Platform | None:
    platform = entry if isinstance(entry, Platform) else getattr(entry, "platform", None)
    return platform if isinstance(platform, Platform) else None
