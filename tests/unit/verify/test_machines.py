# SPDX-License-Identifier: Apache-2.0
"""Every (machine, class, order, flags) that is a platform; and what runs in which image."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from manyfest.platforms import Platform
from manyfest.verify import machines
from manyfest.verify.machines import FOREIGN, TABLE, compatible, identify

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "elf.md"


@pytest.mark.parametrize(
    ("machine", "bits", "order", "flags", "platform", "abi", "float_abi"),
    [
        (62, 64, "little", 0, "linux/amd64", "", ""),
        (62, 32, "little", 0, "linux/amd64", "x32", ""),
        (3, 32, "little", 0, "linux/386", "", ""),
        (6, 32, "little", 0, "linux/386", "", ""),
        (183, 64, "little", 0, "linux/arm64", "", ""),
        (183, 64, "big", 0, "linux/arm64be", "", ""),
        (183, 32, "little", 0, "linux/arm64", "ilp32", ""),
        (40, 32, "little", 0x05000400, "linux/arm/v6", "eabi5", "hard"),
        (40, 32, "little", 0x05000200, "linux/arm/v5", "eabi5", "soft"),
        (40, 32, "little", 0x05000002, "linux/arm/v5", "eabi5", ""),
        (40, 32, "little", 0x04000000, "linux/arm/v5", "eabi4", ""),
        (40, 32, "little", 0, "linux/arm/v5", "oabi", ""),
        (40, 32, "big", 0x05800200, "linux/armbe/v5", "eabi5", "soft"),
        (21, 64, "little", 2, "linux/ppc64le", "elfv2", ""),
        (21, 64, "little", 0, "linux/ppc64le", "", ""),
        (21, 64, "big", 1, "linux/ppc64", "elfv1", ""),
        (21, 64, "big", 2, "linux/ppc64", "elfv2", ""),
        (20, 32, "big", 0x80000000, "linux/ppc", "", ""),
        (22, 64, "big", 0, "linux/s390x", "", ""),
        (22, 32, "big", 1, "linux/s390", "", ""),
        (0xA390, 64, "big", 0, "linux/s390x", "", ""),
        (243, 64, "little", 5, "linux/riscv64", "lp64d", "double"),
        (243, 64, "little", 1, "linux/riscv64", "lp64", "soft"),
        (243, 64, "little", 3, "linux/riscv64", "lp64f", "single"),
        (243, 64, "little", 7, "linux/riscv64", "lp64q", "quad"),
        (243, 32, "little", 5, "linux/riscv32", "ilp32d", "double"),
        (243, 32, "little", 9, "linux/riscv32", "ilp32e", "soft"),
        (258, 64, "little", 0x43, "linux/loong64", "lp64d", "double"),
        (258, 64, "little", 0x41, "linux/loong64", "lp64s", "soft"),
        (8, 32, "big", 0x70001005, "linux/mips", "o32", ""),
        (8, 32, "little", 0x70001405, "linux/mipsle", "o32", ""),
        (8, 32, "big", 0x80000027, "linux/mips64", "n32", ""),
        (8, 32, "little", 0x80000027, "linux/mips64le", "n32", ""),
        (8, 64, "big", 0x80000007, "linux/mips64", "n64", ""),
        (8, 64, "little", 0xA0000407, "linux/mips64le", "n64", ""),
        (43, 64, "big", 0, "linux/sparc64", "", ""),
        (2, 32, "big", 0, "linux/sparc", "", ""),
        (18, 32, "big", 0x100, "linux/sparc", "", ""),
        (0x9026, 64, "little", 0, "linux/alpha", "", ""),
        (15, 32, "big", 0x210, "linux/hppa", "", ""),
        (4, 32, "big", 0x01000000, "linux/m68k", "", ""),
        (4, 32, "big", 0x05, "linux/m68k", "coldfire", ""),
        (42, 32, "little", 9, "linux/sh4", "", ""),
        (50, 64, "little", 0x10, "linux/ia64", "", ""),
        (92, 32, "big", 0, "linux/or1k", "", ""),
        (94, 32, "little", 0x300, "linux/xtensa", "", ""),
        (189, 32, "big", 0, "linux/microblaze", "", ""),
    ],
)
def test_identified(
    machine: int, bits: int, order: str, flags: int, platform: str, abi: str, float_abi: str
) -> None:
    """The numbers of the header, as a platform with its ABI."""
    found = identify(machine, bits, order, flags)
    shown = machines.platform("linux", found.architecture, found.variant)
    assert (str(shown), found.abi, found.float_abi, found.problem) == (platform, abi, float_abi, "")


@pytest.mark.parametrize(
    ("machine", "bits", "order", "flags", "words"),
    [
        (40, 32, "little", 0x05000400, ("EABI5", "hard-float")),
        (40, 32, "big", 0x05800200, ("EABI5", "soft-float", "BE8")),
        (8, 64, "little", 0xA0000407, ("n64", "mips64r6", "nan2008")),
        (8, 32, "big", 0xF0001000, ("o32", "level 15")),
        (243, 64, "little", 0x15, ("lp64d", "RVC", "TSO")),
        (258, 64, "little", 0x43, ("lp64d", "object ABI 1")),
        (42, 32, "little", 0x8009, ("sh4", "fdpic")),
        (15, 32, "big", 0x214, ("pa-risc 2.0",)),
        (62, 64, "little", 0x1234, ()),
    ],
)
def test_flags_in_words(machine: int, bits: int, order: str, flags: int, words: tuple[str, ...]) -> None:
    """What ``e_flags`` means, most telling first."""
    assert identify(machine, bits, order, flags).words == words


@pytest.mark.parametrize(
    ("machine", "bits", "order"),
    [(62, 64, "big"), (3, 64, "little"), (22, 64, "little"), (243, 64, "big"), (40, 64, "little")],
)
def test_impossible_combinations_are_a_problem(machine: int, bits: int, order: str) -> None:
    """A known machine in a class or order that it does not have."""
    found = identify(machine, bits, order)
    assert found.architecture == ""
    assert f"{bits}-bit, {order}-endian" in found.problem


@pytest.mark.parametrize(
    ("machine", "words"), [(247, "eBPF"), (83, "AVR"), (224, "AMD GPU"), (4711, "machine 4711")]
)
def test_foreign_code_has_no_platform(machine: int, words: str) -> None:
    """Not a host program, and not a problem either."""
    found = identify(machine, 64, "little")
    assert (found.architecture, found.machine, found.problem) == ("", words, "")


@pytest.mark.parametrize(
    ("file", "image", "abi", "word"),
    [
        ("linux/amd64", "linux/amd64", "", "native"),
        ("linux/amd64", "linux/amd64/v3", "", "older"),
        ("linux/amd64/v3", "linux/amd64", "", "newer"),
        ("linux/amd64/v3", "linux/amd64/v3", "", "native"),
        ("linux/amd64/v2", "linux/amd64/v4", "", "older"),
        ("linux/386", "linux/amd64", "", "compat"),
        ("linux/amd64", "linux/386", "", "wrong"),
        ("linux/amd64", "linux/arm64", "", "wrong"),
        ("linux/amd64", "linux/amd64", "x32", "compat"),
        ("linux/arm/v6", "linux/arm/v7", "", "older"),
        ("linux/arm/v7", "linux/arm/v6", "", "newer"),
        ("linux/arm/v5", "linux/arm/v6", "", "older"),
        ("linux/arm/v7", "linux/arm", "", "native"),
        ("linux/arm/v7", "linux/arm64", "", "compat"),
        ("linux/arm64", "linux/arm/v7", "", "wrong"),
        ("linux/arm64", "linux/arm64/v8", "", "native"),
        ("linux/arm64", "linux/arm64", "ilp32", "compat"),
        ("linux/arm64/v9.0", "linux/arm64", "", "newer"),
        ("linux/ppc64le/power9", "linux/ppc64le", "", "newer"),
        ("linux/ppc64le", "linux/ppc64le/power9", "", "older"),
        ("linux/ppc64", "linux/ppc64le", "", "wrong"),
        ("linux/ppc", "linux/ppc64", "", "compat"),
        ("linux/s390", "linux/s390x", "", "compat"),
        ("linux/s390x", "linux/s390x", "", "native"),
        ("linux/mipsle", "linux/mips64le", "o32", "compat"),
        ("linux/mips64le", "linux/mips64le", "n64", "native"),
        ("linux/mips64le", "linux/mips64le", "n32", "compat"),
        ("linux/riscv64", "linux/riscv64", "lp64d", "native"),
        ("linux/riscv32", "linux/riscv64", "", "compat"),
        ("freebsd/amd64", "linux/amd64", "", "wrong"),
        ("windows/amd64", "linux/amd64", "", "wrong"),
        ("linux/loong64", "linux/loong64", "lp64d", "native"),
    ],
)
def test_compatible(file: str, image: str, abi: str, word: str) -> None:
    """The verdict, which says why unless it is a plain yes."""
    verdict = compatible(Platform.parse(file), Platform.parse(image), abi)
    assert verdict.word == word
    assert verdict.runs == (word in ("native", "older"))
    assert bool(verdict.text) == (not verdict.runs)


def test_windows_versions_are_no_reason() -> None:
    """A file does not say which Windows it is for; an image does."""
    image = Platform.parse("windows(10.0.20348.1)/amd64")
    assert compatible(Platform("windows", "amd64"), image).word == "native"


def test_an_open_system_is_no_reason() -> None:
    """ELF may leave the operating system open."""
    assert compatible(Platform("", "amd64"), Platform.parse("freebsd/amd64")).word == "native"


@pytest.mark.parametrize(("osabi", "os"), [(0, ""), (3, "linux"), (9, "freebsd"), (97, ""), (255, None)])
def test_system(osabi: int, os: str | None) -> None:
    """EI_OSABI, open for most, none for standalone code."""
    assert machines.system(osabi) == os


def test_the_page_lists_every_row() -> None:
    """docs/reference/elf.md prints the table; a row added here and not there is found."""
    text = PAGE.read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| `?(0x[0-9a-f]+|\d+)`? \| (\d\d) \| (little|big) \| [^|]+ \| `([a-z0-9]+)`", text, re.MULTILINE
    )
    listed = {
        (int(machine, 0), int(bits), order): architecture for machine, bits, order, architecture in rows
    }
    assert listed == {key: row[1] for key, row in TABLE.items()}
    for words in FOREIGN.values():
        assert words in " ".join(text.split())
