# SPDX-License-Identifier: Apache-2.0
"""Windows programs, EFI programs and .NET assemblies."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from manyfest.verify.facts import Facts
from manyfest.verify.kinds import read_facts, wanted

ASSETS = Path(__file__).parents[2] / "assets" / "pe"


def portable(
    machine: int = 0x14C,
    *,
    magic: int = 0x10B,
    dotnet: int | None = None,
    subsystem: int = 3,
    characteristics: int = 0x2002,
) -> bytes:
    """The headers of a program with one section that is as far in memory as in the file, and .NET's header in it."""
    bits = 32 if magic == 0x10B else 64
    directories = 96 if bits == 32 else 112
    optional = bytearray(directories + 16 * 8)
    struct.pack_into("<H", optional, 0, magic)
    struct.pack_into("<H", optional, 68, subsystem)
    if dotnet is not None:
        struct.pack_into("<II", optional, directories + 14 * 8, 0x2008, 72)
    raw = bytearray(b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x80)).ljust(0x80, b"\0")
    raw += b"PE\0\0" + struct.pack("<HHIIIHH", machine, 1, 0, 0, 0, len(optional), characteristics) + optional
    raw += b".text\0\0\0" + struct.pack("<IIII", 0x200, 0x2000, 0x200, 0x200) + bytes(16)
    raw = raw.ljust(0x200, b"\0") + bytearray(0x200)
    if dotnet is not None:
        struct.pack_into("<I", raw, 0x208 + 16, dotnet)
    return bytes(raw)


def facts_of(raw: bytes, head: int = 4096) -> Facts:
    found = read_facts(raw[:head], len(raw), lambda offset, length: raw[offset : offset + length])
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "platform", "type_", "bits"),
    [("amd64.exe", "windows/amd64", "exec", 64), ("arm64.dll", "windows/arm64", "dyn", 64)],
)
def test_compiled(name: str, platform: str, type_: str, bits: int) -> None:
    """The first 4 KiB of a compiler's output."""
    found = facts_of((ASSETS / name).read_bytes())
    assert (found.kind, str(found.platform), found.type, found.elf_class) == ("pe", platform, type_, bits)
    assert found.problem == ""


@pytest.mark.parametrize(
    ("raw", "platform", "machine", "abi"),
    [
        (portable(0x14C), "windows/386", "Intel 80386", ""),
        (portable(0x1C4), "windows/arm/v7", "ARM Thumb-2", ""),
        (portable(0x5064, magic=0x20B), "windows/riscv64", "RISC-V 64", ""),
        (portable(0x14C, dotnet=1), "None", "any (.NET)", "dotnet"),
        (portable(0x14C, dotnet=3), "windows/386", "Intel 80386", "dotnet"),
        (portable(0x8664, magic=0x20B, dotnet=1), "windows/amd64", "x86-64", "dotnet"),
        (portable(0x8664 ^ 0x7B79, magic=0x20B, dotnet=4), "linux/amd64", "x86-64", "dotnet"),
        (portable(0xAA64 ^ 0x7B79, magic=0x20B, dotnet=4), "linux/arm64", "AArch64", "dotnet"),
        (portable(0x8664, magic=0x20B, subsystem=10), "None", "x86-64 (EFI)", "efi"),
        (portable(0x1234), "None", "machine 0x1234", ""),
    ],
)
def test_platforms(raw: bytes, platform: str, machine: str, abi: str) -> None:
    """Native, portable and ahead-compiled .NET, and firmware's programs."""
    found = facts_of(raw)
    assert (str(found.platform), found.machine, found.abi, found.problem) == (platform, machine, abi, "")


def test_far_headers_are_asked_for() -> None:
    """``e_lfanew`` may point beyond the head."""
    raw = portable()
    raw = raw[:0x3C] + struct.pack("<I", 9000) + raw[0x40:0x80].ljust(9000 - 0x40, b"\0") + raw[0x80:]
    assert facts_of(raw).machine == "Intel 80386"
    ((offset, length),) = wanted(raw[:4096], len(raw))
    assert offset == 9000
    assert offset + length <= len(raw)
    found = read_facts(raw[:4096], len(raw))
    assert found is not None
    assert found.incomplete == ("segments",)


@pytest.mark.parametrize(
    "raw",
    [
        b"MZ",
        b"MZ is a text",
        b"MZ".ljust(0x80, b"\0"),
        b"MZ".ljust(0x3C, b"\0") + b"\xff\xff\xff\xff" + bytes(64),
    ],
)
def test_what_only_starts_like_it_is_nothing(raw: bytes) -> None:
    """DOS programs and text."""
    assert read_facts(raw, len(raw)) is None


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (portable(magic=0x107), "expected 0x10b or 0x20b"),
        (portable()[:0x86] + b"\xff\xff" + portable()[0x88:], "65535 sections"),
    ],
)
def test_lies(raw: bytes, problem: str) -> None:
    """Numbers that no loader accepts."""
    assert problem in facts_of(raw).problem


def test_cut_anywhere() -> None:
    """Never an exception."""
    raw = portable(0x14C, dotnet=1)
    for size in range(len(raw)):
        read_facts(raw[:size], size)
        read_facts(raw[:size], len(raw))
