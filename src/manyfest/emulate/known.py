# SPDX-License-Identifier: Apache-2.0
"""Emulators people had trouble with, and where they said so.

Not a verdict: each row is what was reported, for which versions, with a link. Whether it happens here depends on the
kernel, the image and how the emulator was built; an emulator outside this table may be no better.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from manyfest.values import Value

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["KNOWN", "Known", "reports"]


class Known(Value):
    """A report: QEMU from ``first`` (empty: any) up to, not including, ``fixed`` (empty: no end is known)."""

    __slots__ = ("first", "fixed", "only", "text", "url")
    first: str
    fixed: str
    only: tuple[str, ...]
    text: str
    url: str

    def __init__(self, first: str, fixed: str, text: str, url: str, only: Iterable[str] = ()) -> None:
        """``only``: the emulators it is about, by QEMU's name; empty for all."""
        self._set(first=first, fixed=fixed, only=tuple(only), text=text, url=url)

    def covers(self, qemu: str, version: str) -> bool:
        """Is an emulator of that name and version meant?"""
        at = _numbers(version)
        if not version or not at or (self.only and qemu not in self.only):
            return False
        return _numbers(self.first) <= at and (not self.fixed or at < _numbers(self.fixed))


_ARM64 = ("aarch64",)

KNOWN = (
    Known(
        "",
        "5.0",
        "ldconfig ends with a segmentation fault in Debian 11, so libc-bin cannot be configured",
        "https://github.com/moby/moby/issues/43039",
        only=_ARM64,
    ),
    Known(
        "5.2",
        "6.0",
        "static builds crash while they set up the guest's memory",
        "https://bugs.debian.org/988174",
    ),
    Known(
        "7.0",
        "8.1",
        "random segmentation faults (dpkg, node, compilers) on kernels of late 2024 and after; depends on how it was "
        "built, and some distributions have mended theirs",
        "https://github.com/tonistiigi/binfmt/issues/215",
    ),
    Known(
        "9.2.0",
        "9.2.3",
        "ldconfig ends with a segmentation fault in Debian 11 and Ubuntu 22.04, so libc-bin cannot be configured",
        "https://github.com/tonistiigi/binfmt/issues/240",
        only=_ARM64,
    ),
    Known(
        "10.1.3",
        "10.1.4",
        "ldconfig ends with a segmentation fault in Ubuntu 22.04, so libc-bin cannot be configured",
        "https://github.com/tonistiigi/binfmt/issues/298",
        only=_ARM64,
    ),
)


def reports(qemu: str, version: str) -> tuple[Known, ...]:
    """What is known of ``qemu-NAME`` in a version such as ``7.2.22``; nothing for an empty version."""
    return tuple(known for known in KNOWN if known.covers(qemu, version))


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split(".") if version else []
    if not all(part.isdigit() for part in parts):
        return ()
    return (*map(int, parts), 0, 0)[:3]
