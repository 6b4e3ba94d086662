# SPDX-License-Identifier: Apache-2.0
"""Windows programs and libraries, and .NET's, which images for Linux are full of.

https://learn.microsoft.com/windows/win32/debug/pe-format. A .NET assembly without native code runs on every
machine, although its header says 80386; one compiled ahead for Linux says so by a ``Machine`` that is xor-ed with
a number of its system (ReadyToRun, ``docs/design/coreclr/botr/readytorun-format.md`` in dotnet/runtime).
"""

from __future__ import annotations

import struct

from manyfest.verify import machines
from manyfest.verify._reader import Reader
from manyfest.verify.facts import Facts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from manyfest.verify.facts import More

__all__ = ["MACHINES", "MAGIC", "read", "wanted"]

MAGIC = b"MZ"

MACHINES = {
    0x14C: ("Intel 80386", "386", ""),
    0x8664: ("x86-64", "amd64", ""),
    0xAA64: ("AArch64", "arm64", ""),
    0xA641: ("AArch64 (ARM64EC)", "arm64", ""),
    0xA64E: ("AArch64 (ARM64X)", "arm64", ""),
    0x1C0: ("ARM", "arm", "v5"),
    0x1C2: ("ARM Thumb", "arm", "v5"),
    0x1C4: ("ARM Thumb-2", "arm", "v7"),
    0x200: ("IA-64", "ia64", ""),
    0x5032: ("RISC-V 32", "riscv32", ""),
    0x5064: ("RISC-V 64", "riscv64", ""),
    0x6232: ("LoongArch 32", "loong32", ""),
    0x6264: ("LoongArch 64", "loong64", ""),
    0x1F0: ("PowerPC", "ppcle", ""),
    0xEBC: ("EFI byte code", "", ""),
}
"""``Machine``: in words, architecture, variant."""

_NATIVE_SYSTEMS = {0x7B79: "linux", 0x4644: "darwin", 0xADC4: "freebsd", 0x1993: "netbsd", 0x1992: "solaris"}
_EFI_SUBSYSTEMS = range(10, 14)
_DLL = 0x2000
_IL_ONLY, _NEEDS_32_BITS = 1, 2
_HEADERS = 1024  # beyond e_lfanew: file header, optional header with its directories, sections
_MAX_SECTIONS = 96  # what Windows loads


def wanted(head: bytes, size: int) -> tuple[tuple[int, int], ...]:
    """The headers, where they are not in the head; and the start of the code, for .NET's own header."""
    at = _place(head)
    if at < 0 or size <= len(head):
        return ()
    start, end = max(at, len(head)), min(at + _HEADERS, size)
    return ((start, end - start),) if end > start else ()


def _place(head: bytes) -> int:
    """``e_lfanew``: where the PE header is, or -1."""
    return struct.unpack_from("<I", head, 0x3C)[0] if len(head) >= 0x40 else -1


def read(head: bytes, size: int, more: More | None) -> Facts | None:
    """``head`` starts with :data:`MAGIC`. ``None`` for what is only DOS, or only happens to start like it."""
    reader = Reader(head, size, more)
    at = _place(head)
    if at < 0 or at + 24 > reader.size:
        return None
    raw = reader.take(at, _HEADERS)
    if len(raw) < 24:
        return Facts("pe", machine="", incomplete=("segments",)) if at >= len(head) else None
    if raw[:4] != b"PE\0\0":
        return None
    code, sections, _, _, _, optional, characteristics = struct.unpack_from("<HHIIIHH", raw, 4)
    os, (words, architecture, variant) = _machine(code)
    magic = struct.unpack_from("<H", raw, 24)[0] if optional >= 2 and len(raw) >= 26 else 0
    bits = {0x10B: 32, 0x20B: 64}.get(magic, 0)
    fields: dict[str, object] = {
        "machine": words,
        "machine_code": code,
        "elf_class": bits,
        "order": "little",
        "type": "dyn" if characteristics & _DLL else "exec",
        "linking": "shared" if characteristics & _DLL else "dynamic",
    }
    if not bits:
        return Facts("pe", problem=f"the optional header says {magic:#x}, expected 0x10b or 0x20b", **fields)
    if sections > _MAX_SECTIONS:
        return Facts("pe", problem=f"{sections} sections, expected at most {_MAX_SECTIONS}", **fields)
    if len(raw) >= 24 + 70 and struct.unpack_from("<H", raw, 24 + 68)[0] in _EFI_SUBSYSTEMS:
        return Facts("pe", **{**fields, "machine": f"{words} (EFI)", "abi": "efi"})
    managed = _managed(raw, bits, optional, sections, reader)
    if managed:
        fields["abi"] = "dotnet"
    if managed == "portable" and code == 0x14C:
        return Facts("pe", **{**fields, "machine": "any (.NET)"})
    if architecture:
        fields["platforms"] = (machines.platform(os, architecture, variant),)
    return Facts("pe", **fields)


def _machine(code: int) -> tuple[str, tuple[str, str, str]]:
    if code in MACHINES:
        return "windows", MACHINES[code]
    for mark, os in _NATIVE_SYSTEMS.items():
        if code ^ mark in MACHINES:
            return os, MACHINES[code ^ mark]
    return "windows", (f"machine {code:#x}", "", "")


def _managed(raw: bytes, bits: int, optional: int, sections: int, reader: Reader) -> str:
    """``"portable"`` for .NET without native code, ``"native"`` for .NET with, empty for what is not .NET."""
    directory = 24 + (96 if bits == 32 else 112) + 14 * 8
    if directory + 8 > min(24 + optional, len(raw)):
        return ""
    address, size = struct.unpack_from("<II", raw, directory)
    if not address or size < 20:
        return ""
    for i in range(sections):
        at = 24 + optional + 40 * i
        if at + 40 > len(raw):
            break
        virtual_size, virtual, raw_size, place = struct.unpack_from("<IIII", raw, at + 8)
        if virtual <= address < virtual + max(virtual_size, raw_size):
            header = reader.take(place + address - virtual, 20)
            if len(header) == 20:
                flags = struct.unpack_from("<I", header, 16)[0]
                return "portable" if flags & _IL_ONLY and not flags & _NEEDS_32_BITS else "native"
    return "native"
