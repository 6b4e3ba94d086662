# SPDX-License-Identifier: Apache-2.0
"""Tiny real programs: a complete static ELF executable for every architecture, written without a compiler.

Each prints one line (by default the platform it was made for) and exits. They are the content of the
demo's images, the probes that tell whether an emulator is registered, and known-good input for whatever
reads executables:

    >>> from manyfest.platforms import Platform
    >>> program(Platform.parse("linux/s390x"))[:4]
    b'\\x7fELF'

What is in one: an ELF header, one ``PT_LOAD`` that maps the whole file read-only and executable, a
``PT_GNU_STACK`` (no executable stack), about ten instructions and the text. No interpreter, no libraries, no
writable memory. The segment is aligned to 64 KiB, so it loads under every page size in use. Same input, same
bytes.

The three ARM programs differ in what a processor must know, not only in what they say: ``arm/v7`` loads the
address with ``movw``/``movt``, which ARMv6 lacks (an ARM1176 stops with SIGILL); ``arm/v6`` uses ``uxtb``,
which ARMv5 lacks; ``arm/v5`` uses neither. Their ``.ARM.attributes`` and ``e_flags`` (EABI 5; hard float for
v6 and v7, soft float for v5) say the same. No other program needs more than the first processor of its
architecture.

Encodings: the architecture manuals; ELF: https://refspecs.linuxfoundation.org/elf/gabi4+/contents.html and
the processor supplements; system call numbers: ``syscall(2)`` and the kernel's tables.
"""

from __future__ import annotations

import struct
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from manyfest.errors import InputError
from manyfest.platforms import Platform, normalise

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MAX_TEXT", "PLATFORMS", "program"]

MAX_TEXT = 255
"""The longest text in bytes: one 8-bit immediate, which every architecture can load in one instruction."""

_BASE = 0x400000
"""Where the file is mapped: a multiple of 64 KiB, above every ``vm.mmap_min_addr``, within 32 bits."""

_PAGE = 0x10000


class _Job(NamedTuple):
    """What the code has to do, in numbers."""

    start: int
    """Address of the first instruction."""
    text: int
    """Address of the text."""
    size: int
    """Bytes of text."""
    status: int
    """Exit status, 0 to 255."""


class _Target(NamedTuple):
    """How an executable of one platform looks."""

    machine: int
    bits: int
    order: str
    """``<`` or ``>``, as :mod:`struct` spells it."""
    flags: int
    code: Callable[[_Job], bytes]
    attributes: bytes = b""
    """Content of ``.ARM.attributes``; empty for everything else."""


def program(platform: Platform, text: str | None = None, exit_code: int = 0) -> bytes:
    """An executable for ``platform`` that writes ``text`` to standard output and exits with ``exit_code``.

    The default text is the platform and a newline. Spellings that mean the same (``linux/arm``,
    ``linux/arm64/v8``) get the same machine code. Raises :class:`~manyfest.errors.InputError` for a platform
    outside :data:`PLATFORMS`, a text over :data:`MAX_TEXT` bytes of UTF-8, or an exit code outside 0 to 255.
    """
    target = _TARGETS.get(str(normalise(platform)))
    if target is None:
        raise InputError(f"no program for {platform}", hint=f"there is one for {', '.join(_TARGETS)}")
    if not 0 <= exit_code <= 255:
        raise InputError(f"exit code {exit_code}: expected 0 to 255")
    data = (f"{platform}\n" if text is None else text).encode()
    if len(data) > MAX_TEXT:
        raise InputError(f"a text of {len(data)} bytes, expected at most {MAX_TEXT}")
    return _executable(target, data, exit_code)


# --- the file -------------------------------------------------------------------------------------


def _executable(target: _Target, text: bytes, exit_code: int) -> bytes:
    wide = target.bits == 64
    header_size, segment_size = (64, 56) if wide else (52, 32)
    start = _BASE + header_size + 2 * segment_size
    # Two passes, as in any assembler: the length of the code does not depend on where the text is.
    length = len(target.code(_Job(start, start + 64, len(text), exit_code)))
    code = target.code(_Job(start, start + length, len(text), exit_code))
    loaded = header_size + 2 * segment_size + len(code) + len(text)

    sections = _attribute_sections(target, loaded) if target.attributes else b""
    section_table = loaded + len(sections) - _SECTIONS * 40 if sections else 0
    segments = _segment(target, 1, 5, _BASE, loaded, _PAGE) + _segment(target, 0x6474E551, 6, 0, 0, 16)
    return _header(target, start, section_table) + segments + code + text + sections


def _header(target: _Target, entry: int, section_table: int) -> bytes:
    wide = target.bits == 64
    ident = b"\x7fELF" + bytes((2 if wide else 1, 1 if target.order == "<" else 2, 1)) + bytes(9)
    address = "Q" if wide else "I"
    header_size, segment_size, section_size = (64, 56, 64) if wide else (52, 32, 40)
    sections = _SECTIONS if section_table else 0
    return ident + struct.pack(
        f"{target.order}HHI{address * 3}IHHHHHH",
        2,  # ET_EXEC: fixed addresses, nothing to relocate
        target.machine,
        1,  # EV_CURRENT
        entry,
        header_size,  # the program headers follow the header
        section_table,
        target.flags,
        header_size,
        segment_size,
        2,  # program headers
        section_size if sections else 0,
        sections,
        max(sections - 1, 0),  # the section names come last
    )


def _segment(target: _Target, kind: int, access: int, address: int, size: int, align: int) -> bytes:
    if target.bits == 64:
        return struct.pack(f"{target.order}IIQQQQQQ", kind, access, 0, address, address, size, size, align)
    return struct.pack(f"{target.order}IIIIIIII", kind, 0, address, address, size, size, access, align)


_SECTIONS = 3
"""The null section, ``.ARM.attributes`` and the section names: what readers of attributes look for."""


def _attribute_sections(target: _Target, offset: int) -> bytes:
    """Attributes, section names and the 32-bit little-endian section table, to follow ``offset`` bytes."""
    names = b"\0.ARM.attributes\0.shstrtab\0"
    content = target.attributes + names
    padding = bytes(-(offset + len(content)) % 4)
    pack = struct.Struct("<IIIIIIIIII").pack
    null = bytes(40)
    attributes = pack(1, 0x70000003, 0, 0, offset, len(target.attributes), 0, 0, 1, 0)
    strings = pack(17, 3, 0, 0, offset + len(target.attributes), len(names), 0, 0, 1, 0)
    return content + padding + null + attributes + strings


def _arm_attributes(*tags: int) -> bytes:
    """The "aeabi" build attributes: pairs of tag and value, all below 128, so each is one ULEB128 byte.

    https://github.com/ARM-software/abi-aa/blob/main/addenda32/addenda32.rst
    """
    tags_of_file = b"\x01" + struct.pack("<I", 5 + len(tags)) + bytes(tags)
    vendor = b"aeabi\0"
    return b"A" + struct.pack("<I", 4 + len(vendor) + len(tags_of_file)) + vendor + tags_of_file


# --- the code: write(1, text, size), then exit(status) --------------------------------------------


def _words(order: str, *words: int) -> bytes:
    return struct.pack(f"{order}{len(words)}I", *words)


def _amd64(job: _Job) -> bytes:
    return b"".join(
        (
            struct.pack("<BI", 0xB8, 1),  # mov eax, 1 (write)
            struct.pack("<BI", 0xBF, 1),  # mov edi, 1 (standard output)
            struct.pack("<3si", b"\x48\x8d\x35", job.text - (job.start + 17)),  # lea rsi, [rip + text]
            struct.pack("<BI", 0xBA, job.size),  # mov edx, size
            b"\x0f\x05",  # syscall
            struct.pack("<BI", 0xB8, 60),  # mov eax, 60 (exit)
            struct.pack("<BI", 0xBF, job.status),  # mov edi, status
            b"\x0f\x05",  # syscall
        )
    )


def _386(job: _Job) -> bytes:
    return b"".join(
        (
            struct.pack("<BI", 0xB8, 4),  # mov eax, 4 (write)
            struct.pack("<BI", 0xBB, 1),  # mov ebx, 1 (standard output)
            struct.pack("<BI", 0xB9, job.text),  # mov ecx, text
            struct.pack("<BI", 0xBA, job.size),  # mov edx, size
            b"\xcd\x80",  # int 0x80
            struct.pack("<BI", 0xB8, 1),  # mov eax, 1 (exit)
            struct.pack("<BI", 0xBB, job.status),  # mov ebx, status
            b"\xcd\x80",  # int 0x80
        )
    )


def _arm64(job: _Job) -> bytes:
    def movz(register: int, value: int) -> int:
        return 0xD2800000 | value << 5 | register

    distance = job.text - (job.start + 8)
    return _words(
        "<",
        movz(8, 64),  # movz x8, #64 (write)
        movz(0, 1),  # movz x0, #1 (standard output)
        0x10000001 | (distance & 3) << 29 | (distance >> 2) << 5,  # adr x1, text
        movz(2, job.size),  # movz x2, #size
        0xD4000001,  # svc #0
        movz(8, 93),  # movz x8, #93 (exit)
        movz(0, job.status),  # movz x0, #status
        0xD4000001,  # svc #0
    )


def _arm(job: _Job, address: tuple[int, ...], *after_size: int) -> bytes:
    """EABI system calls; ``address`` loads r1, ``after_size`` follows the load of r2."""

    def mov(register: int, value: int) -> int:
        return 0xE3A00000 | register << 12 | value

    return _words(
        "<",
        *address,
        mov(7, 4),  # mov r7, #4 (write)
        mov(0, 1),  # mov r0, #1 (standard output)
        mov(2, job.size),  # mov r2, #size
        *after_size,
        0xEF000000,  # svc #0
        mov(7, 1),  # mov r7, #1 (exit)
        mov(0, job.status),  # mov r0, #status
        0xEF000000,  # svc #0
    )


def _arm_v5(job: _Job) -> bytes:
    return _arm(job, (_add_pc(job),))


def _arm_v6(job: _Job) -> bytes:
    # uxtb r2, r2 changes nothing here (the size is below 256), and no ARMv5 has it.
    return _arm(job, (_add_pc(job),), 0xE6EF2072)


def _arm_v7(job: _Job) -> bytes:
    def half(opcode: int, register: int, value: int) -> int:
        return opcode | (value >> 12) << 16 | register << 12 | value & 0xFFF

    return _arm(
        job,
        (
            half(0xE3000000, 1, job.text & 0xFFFF),  # movw r1, #:lower16:text
            half(0xE3400000, 1, job.text >> 16),  # movt r1, #:upper16:text
        ),
    )


def _add_pc(job: _Job) -> int:
    """``add r1, pc, #distance`` as the first instruction; pc reads as its own address plus 8."""
    return 0xE28F1000 | job.text - (job.start + 8)


def _ppc64(order: str, job: _Job) -> bytes:
    def li(register: int, value: int) -> int:
        return 0x38000000 | register << 21 | value

    return _words(
        order,
        li(0, 4),  # li r0, 4 (write)
        li(3, 1),  # li r3, 1 (standard output)
        0x3C800000 | job.text >> 16,  # lis r4, text@h
        0x60840000 | job.text & 0xFFFF,  # ori r4, r4, text@l
        li(5, job.size),  # li r5, size
        0x44000002,  # sc
        li(0, 1),  # li r0, 1 (exit)
        li(3, job.status),  # li r3, status
        0x44000002,  # sc
    )


def _s390x(job: _Job) -> bytes:
    def lghi(register: int, value: int) -> bytes:
        return struct.pack(">HH", 0xA709 | register << 4, value)

    return b"".join(
        (
            lghi(2, 1),  # lghi %r2, 1 (standard output)
            struct.pack(">Hi", 0xC030, (job.text - (job.start + 4)) // 2),  # larl %r3, text (in halfwords)
            lghi(4, job.size),  # lghi %r4, size
            b"\x0a\x04",  # svc 4 (write)
            lghi(2, job.status),  # lghi %r2, status
            b"\x0a\x01",  # svc 1 (exit)
        )
    )


def _riscv64(job: _Job) -> bytes:
    def addi(register: int, source: int, value: int) -> int:
        return (value & 0xFFF) << 20 | source << 15 | register << 7 | 0x13

    return _words(
        "<",
        0x00000597,  # auipc a1, 0
        addi(11, 11, job.text - job.start),  # addi a1, a1, text - start
        addi(17, 0, 64),  # li a7, 64 (write)
        addi(10, 0, 1),  # li a0, 1 (standard output)
        addi(12, 0, job.size),  # li a2, size
        0x00000073,  # ecall
        addi(17, 0, 93),  # li a7, 93 (exit)
        addi(10, 0, job.status),  # li a0, status
        0x00000073,  # ecall
    )


def _loong64(job: _Job) -> bytes:
    def li(register: int, value: int) -> int:
        return 0x02800000 | value << 10 | register

    return _words(
        "<",
        0x18000005 | (job.text - job.start) >> 2 << 5,  # pcaddi $a1, (text - start) / 4
        li(11, 64),  # addi.w $a7, $zero, 64 (write)
        li(4, 1),  # addi.w $a0, $zero, 1 (standard output)
        li(6, job.size),  # addi.w $a2, $zero, size
        0x002B0000,  # syscall 0
        li(11, 93),  # addi.w $a7, $zero, 93 (exit)
        li(4, job.status),  # addi.w $a0, $zero, status
        0x002B0000,  # syscall 0
    )


def _mips64(order: str, job: _Job) -> bytes:
    def li(register: int, value: int) -> int:
        return 0x24000000 | register << 16 | value

    return _words(
        order,
        li(2, 5001),  # addiu $v0, $zero, 5001 (write, n64)
        li(4, 1),  # addiu $a0, $zero, 1 (standard output)
        0x3C050000 | job.text >> 16,  # lui $a1, %hi(text)
        0x34A50000 | job.text & 0xFFFF,  # ori $a1, $a1, %lo(text)
        li(6, job.size),  # addiu $a2, $zero, size
        0x0000000C,  # syscall
        li(2, 5058),  # addiu $v0, $zero, 5058 (exit, n64)
        li(4, job.status),  # addiu $a0, $zero, status
        0x0000000C,  # syscall
    )


# --- the table ------------------------------------------------------------------------------------

_EABI5, _HARD, _SOFT = 0x05000000, 0x400, 0x200

# Tags: 6 CPU_arch (4 v5TE, 6 v6, 10 v7), 7 profile ("A"), 8 ARM_ISA_use, 10 FP_arch (2 VFPv2, 4 VFPv3-D16),
# 28 ABI_VFP_args (1: floats travel in VFP registers).
_V5_TAGS = _arm_attributes(6, 4, 8, 1)
_V6_TAGS = _arm_attributes(6, 6, 8, 1, 10, 2, 28, 1)
_V7_TAGS = _arm_attributes(6, 10, 7, ord("A"), 8, 1, 10, 4, 28, 1)

_TARGETS = {
    "linux/amd64": _Target(62, 64, "<", 0, _amd64),
    "linux/386": _Target(3, 32, "<", 0, _386),
    "linux/arm64": _Target(183, 64, "<", 0, _arm64),
    "linux/arm/v7": _Target(40, 32, "<", _EABI5 | _HARD, _arm_v7, _V7_TAGS),
    "linux/arm/v6": _Target(40, 32, "<", _EABI5 | _HARD, _arm_v6, _V6_TAGS),
    "linux/arm/v5": _Target(40, 32, "<", _EABI5 | _SOFT, _arm_v5, _V5_TAGS),
    # ELFv2 (2) for both: an ELFv1 entry point would have to be a function descriptor.
    "linux/ppc64le": _Target(21, 64, "<", 2, partial(_ppc64, "<")),
    "linux/ppc64": _Target(21, 64, ">", 2, partial(_ppc64, ">")),
    "linux/s390x": _Target(22, 64, ">", 0, _s390x),
    "linux/riscv64": _Target(243, 64, "<", 0x4, _riscv64),  # lp64d; no compressed instructions
    "linux/loong64": _Target(258, 64, "<", 0x43, _loong64),  # lp64d, object ABI version 1
    "linux/mips64le": _Target(8, 64, "<", 0x20000000, partial(_mips64, "<")),  # MIPS III, n64
    "linux/mips64": _Target(8, 64, ">", 0x20000000, partial(_mips64, ">")),
}

PLATFORMS: tuple[Platform, ...] = tuple(Platform.parse(name) for name in _TARGETS)
"""Every platform there is a program for, the most used ones first."""
