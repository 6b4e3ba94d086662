# SPDX-License-Identifier: Apache-2.0
"""What a machine is, judged from the texts it gives."""

from __future__ import annotations

import pytest

from manyfest.engines.host import amd64_level, arm_variant, host, level_of, platform_of
from manyfest.errors import InvalidPlatform

PI_ONE = """processor\t: 0
model name\t: ARMv6-compatible processor rev 7 (v6l)
Features\t: half thumb fastmult vfp edsp java tls
CPU implementer\t: 0x41
CPU architecture: 7
CPU part\t: 0xb76
"""
PI_THREE = PI_ONE.replace("ARMv6-compatible processor rev 7 (v6l)", "ARMv7 Processor rev 4 (v7l)")
ARM64 = "processor\t: 0\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\n"
X86 = "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu cx8 mmx sse2 lm syscall {}\n"

V2 = "cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3"
V3 = "abm avx avx2 bmi1 bmi2 f16c fma movbe xsave"
V4 = "avx512bw avx512cd avx512dq avx512f avx512vl"

MACHINES = [
    # system, machine, cpuinfo, 64-bit process, expected
    ("Linux", "x86_64", X86, True, "linux/amd64"),
    ("Linux", "x86_64", X86, False, "linux/386"),
    ("Linux", "i686", X86, False, "linux/386"),
    ("Linux", "aarch64", ARM64, True, "linux/arm64"),
    ("Linux", "aarch64", ARM64, False, "linux/arm/v8"),
    ("Linux", "armv8l", ARM64, False, "linux/arm/v8"),
    ("Linux", "armv7l", PI_THREE, False, "linux/arm/v7"),
    ("Linux", "armv6l", PI_ONE, False, "linux/arm/v6"),
    ("Linux", "armv7l", X86, False, "linux/arm/v7"),  # emulated: the file is the other machine's
    ("Linux", "armv5tel", "", False, "linux/arm/v5"),
    ("Linux", "s390x", "", True, "linux/s390x"),
    ("Linux", "loongarch64", "", True, "linux/loong64"),
    ("Linux", "mips64", "", True, "linux/mips64le"),
    ("Darwin", "arm64", "", True, "darwin/arm64"),
    ("FreeBSD", "amd64", "", True, "freebsd/amd64"),
    ("SunOS", "i86pc", "", True, "solaris/386"),
]


@pytest.mark.parametrize(("system", "machine", "cpuinfo", "is_64bit", "expected"), MACHINES)
def test_platform_of(system: str, machine: str, cpuinfo: str, is_64bit: bool, expected: str) -> None:
    """uname and /proc/cpuinfo, as each kind of machine gives them."""
    assert str(platform_of(system, machine, cpuinfo, is_64bit=is_64bit)) == expected


def test_byte_order_decides_mips() -> None:
    """The kernel's word is the same for both."""
    assert str(platform_of("Linux", "mips64", "", little_endian=False)) == "linux/mips64"


def test_unknown_machine() -> None:
    """An error and not a guess."""
    with pytest.raises(InvalidPlatform, match="'vax'"):
        platform_of("Linux", "vax", "")


@pytest.mark.parametrize(
    ("told", "machine", "variant"),
    [
        ("8", "aarch64", "v8"),
        ("AArch64", "aarch64", "v8"),
        ("7", "armv7l", "v7"),
        ("7M", "armv7l", "v7"),
        ("?(13)", "armv7l", "v7"),
        ("6TEJ", "armv6l", "v6"),
        ("5TEJ", "armv5tejl", "v5"),
        ("5TE", "armv5tel", "v5"),
        ("4T", "armv4t", "v4"),
        ("nonsense", "armv6l", "v6"),
        ("nonsense", "aarch64", "v8"),
        ("nonsense", "vax", ""),
    ],
)
def test_arm_variant(told: str, machine: str, variant: str) -> None:
    """The field first, then uname."""
    assert arm_variant(f"CPU architecture: {told}\n", machine) == variant


@pytest.mark.parametrize(
    ("flags", "level"),
    [
        ("", "v1"),
        (V2, "v2"),
        (f"{V2} {V3}", "v3"),
        (f"{V2} {V3} {V4}", "v4"),
        (f"{V3} {V4}", "v1"),  # a level needs the ones below it
        (f"{V2} {V4}", "v2"),
        (f"{V2} {V3.replace('movbe ', '')}", "v2"),
    ],
)
def test_level_of(flags: str, level: str) -> None:
    """The x86-64 psABI's steps."""
    assert level_of(X86.format(flags)) == level


def test_level_of_nothing() -> None:
    """No /proc, no claims."""
    assert level_of("") == "v1"


def test_the_first_processor_speaks() -> None:
    """On a machine of two kinds of cores."""
    assert level_of(X86.format(V2) + X86.format(f"{V2} {V3}")) == "v2"


def test_this_machine_has_a_name() -> None:
    """Whatever runs the tests."""
    assert host().is_known
    assert amd64_level() in ("v1", "v2", "v3", "v4")
