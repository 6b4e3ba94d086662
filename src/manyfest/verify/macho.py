# SPDX-License-Identifier: Apache-2.0
"""Mach-O, thin and universal: programs of macOS, which no image for Linux runs.

Constants from ``mach-o/loader.h``, ``mach-o/fat.h`` and ``mach/machine.h``. A universal file starts with the
same four bytes as a Java class; a class's version, 45 or more, stands where a universal file counts its parts.
"""

from __future__ import annotations

import struct

from manyfest.platforms import Platform
from manyfest.verify import machines
from manyfest.verify.facts import Facts

__all__ = ["CPU_TYPES", "FAT", "MAGICS", "read", "read_fat"]

MAGICS = {
    b"\xfe\xed\xfa\xce": (">", 32),
    b"\xce\xfa\xed\xfe": ("<", 32),
    b"\xfe\xed\xfa\xcf": (">", 64),
    b"\xcf\xfa\xed\xfe": ("<", 64),
}
FAT = (b"\xca\xfe\xba\xbe", b"\xca\xfe\xba\xbf")
MOST_PARTS = 44
"""A universal file's parts, at most: Java's oldest class says 45 in the same place."""

_ABI64, _ABI64_32 = 0x01000000, 0x02000000
CPU_TYPES = {
    7: ("Intel 80386", "386"),
    7 | _ABI64: ("x86-64", "amd64"),
    12: ("ARM", "arm"),
    12 | _ABI64: ("AArch64", "arm64"),
    12 | _ABI64_32: ("AArch64 (ILP32)", "arm64"),
    18: ("PowerPC", "ppc"),
    18 | _ABI64: ("PowerPC64", "ppc64"),
}
"""``cputype``: in words, architecture."""

_ARM_VARIANTS = {6: "v6", 7: "v5", 9: "v7", 10: "v7", 11: "v7", 12: "v7"}
_TYPES = {
    1: ("rel", "object"),
    2: ("exec", "dynamic"),
    4: ("core", ""),
    6: ("dyn", "shared"),
    7: ("exec", ""),
    8: ("dyn", "shared"),
}


def read(head: bytes, size: int) -> Facts | None:
    """``head`` starts with one of :data:`MAGICS`; ``None`` when nothing else agrees."""
    mark, bits = MAGICS[head[:4]]
    if len(head) < 28:
        return Facts("macho", problem=f"the header would end at byte 28, the file at {size}")
    cpu, subtype, kind = struct.unpack_from(f"{mark}3I", head, 4)
    words, found = _machine(cpu, subtype)
    type_, linking = _TYPES.get(kind, ("", ""))
    return Facts(
        "macho",
        platforms=(found,) if found else (),
        machine=words,
        machine_code=cpu,
        elf_class=bits,
        order="little" if mark == "<" else "big",
        type=type_,
        linking=linking,
    )


def read_fat(head: bytes, size: int) -> Facts | None:
    """``head`` starts with one of :data:`FAT`. ``None`` when it counts more parts than a universal file has."""
    if len(head) < 8:
        return None
    count = struct.unpack_from(">I", head, 4)[0]
    if not 0 < count <= MOST_PARTS:
        return None
    entry = 20 if head[:4] == FAT[0] else 32
    if 8 + count * entry > len(head):
        return Facts(
            "macho", problem=f"{count} parts would end at byte {8 + count * entry}, the file at {size}"
        )
    parts = [struct.unpack_from(">II", head, 8 + i * entry) for i in range(count)]
    found = [_machine(cpu, subtype) for cpu, subtype in parts]
    return Facts(
        "macho",
        platforms=tuple(platform for _, platform in found if platform),
        machine=", ".join(words for words, _ in found),
        machine_code=parts[0][0],
        order="big",
    )


def _machine(cpu: int, subtype: int) -> tuple[str, Platform | None]:
    if cpu not in CPU_TYPES:
        return f"cpu type {cpu:#x}", None
    words, architecture = CPU_TYPES[cpu]
    variant = _ARM_VARIANTS.get(subtype & 0xFFFFFF, "") if architecture == "arm" else ""
    return words, machines.platform("darwin", architecture, variant)
