# SPDX-License-Identifier: Apache-2.0
"""What this machine is, as engines on it would say.

:func:`host` and :func:`amd64_level` read the machine; everything below them judges given text:

    >>> str(platform_of("Linux", "armv7l", "model name : ARMv6-compatible processor\\nCPU architecture: 7"))
    'linux/arm/v6'
"""

from __future__ import annotations

import os
import sys

from manyfest.errors import InvalidPlatform
from manyfest.platforms import Platform, from_uname

__all__ = ["amd64_level", "arm_variant", "host", "level_of", "platform_of"]

_CPUINFO = "/proc/cpuinfo"
_CPUINFO_LIMIT = 64 * 1024
"""Characters: the first processor's lines are all that is looked at, and a big server's file has megabytes."""

_SYSTEMS = {"sunos": "solaris"}

# "CPU architecture" in /proc/cpuinfo, lower case. The question marks are the kernel's own words for ids it has no
# name for; all of them were v7 parts (https://github.com/containerd/platforms, cpuinfo_linux.go).
_ARM = {
    "v8": ("8", "aarch64"),
    "v7": ("7", "7m", "?(12)", "?(13)", "?(14)", "?(15)", "?(16)", "?(17)"),
    "v6": ("6", "6tej"),
    "v5": ("5", "5t", "5te", "5tej"),
    "v4": ("4", "4t"),
}

# The x86-64 psABI's levels in the words of /proc/cpuinfo: pni is SSE3, abm holds LZCNT.
_LEVELS = (
    ("v2", {"cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"}),
    ("v3", {"abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave"}),
    ("v4", {"avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl"}),
)


def host() -> Platform:
    """Operating system, architecture and, on 32-bit ARM, the variant; on Windows the kernel's version too.

    Raises :class:`InvalidPlatform` on a machine that nobody here has a name for.
    """
    if sys.platform == "win32":
        return _windows()
    uname = os.uname()
    return platform_of(
        uname.sysname,
        uname.machine,
        _cpuinfo(),
        is_64bit=sys.maxsize > 2**32,
        little_endian=sys.byteorder == "little",
    )


def amd64_level() -> str:
    """``v1`` to ``v4``: what this machine's processor can run beyond plain amd64. ``v1`` where nobody can tell."""
    return level_of(_cpuinfo())


def platform_of(
    system: str, machine: str, cpuinfo: str, *, is_64bit: bool = True, little_endian: bool = True
) -> Platform:
    """The platform that ``uname`` and ``/proc/cpuinfo`` describe, for a process of 32 or 64 bits.

    Raises :class:`InvalidPlatform` for an unknown ``machine``.
    """
    name = system.lower()
    found = from_uname(machine, little_endian=little_endian, os=_SYSTEMS.get(name, name))
    if not is_64bit and found.architecture == "amd64":
        return found.replace(architecture="386", variant="")
    if found.architecture == "arm" or (not is_64bit and found.architecture == "arm64"):
        return found.replace(architecture="arm", variant=arm_variant(cpuinfo, machine))
    return found


def arm_variant(cpuinfo: str, machine: str) -> str:
    """``v5`` to ``v8``: from "CPU architecture", else (emulated, where there is none) from ``uname -m``.

    The first Raspberry Pis are v6, whatever they say: their kernel reports 7, and only the model's name is right.
    """
    told = _field(cpuinfo, "cpu architecture").lower()
    if told == "7" and _field(cpuinfo, "model name").lower().startswith("armv6-compatible"):
        return "v6"
    for variant, words in _ARM.items():
        if told in words:
            return variant
    try:
        found = from_uname(machine)
    except InvalidPlatform:
        return ""
    return "v8" if found.architecture == "arm64" else found.variant


def level_of(cpuinfo: str) -> str:
    """The highest level all of whose flags, and those of the levels below, are there."""
    flags = set(_field(cpuinfo, "flags").split())
    reached = "v1"
    for level, needed in _LEVELS:
        if not needed <= flags:
            break
        reached = level
    return reached


def _field(cpuinfo: str, key: str) -> str:
    """The first value of ``key``, which is lower case here and in any case there."""
    for line in cpuinfo.splitlines():
        name, colon, value = line.partition(":")
        if colon and name.strip().lower() == key:
            return value.strip()
    return ""


def _cpuinfo() -> str:
    try:
        with open(_CPUINFO, encoding="utf-8", errors="replace") as file:
            return file.read(_CPUINFO_LIMIT)
    except OSError:
        return ""  # Not Linux, or no /proc in this container: uname is what is left.


def _windows() -> Platform:
    import platform

    return from_uname(platform.machine(), os="windows").replace(os_version=platform.version())
