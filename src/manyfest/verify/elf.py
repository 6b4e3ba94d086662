# SPDX-License-Identifier: Apache-2.0
"""ELF: which machine a file is for, which loader and libraries it asks for, what its notes demand.

Offsets and constants are the generic ABI's (https://gabi.xinuos.com), the GNU extensions binutils'
``include/elf/common.h``. Every number in a file is checked before it is used; what breaks a rule becomes
``Facts.problem``. At most :data:`~manyfest.verify._reader.BUDGET` bytes are looked at beside the head.

    >>> raw = bytes.fromhex("7f454c4602010100 0000000000000000 0300b70001000000").ljust(64, b"\\0")
    >>> facts = read(raw, len(raw), None)
    >>> str(facts.platform), facts.elf_class, facts.type
    ('linux/arm64', 64, 'dyn')
"""

from __future__ import annotations

import struct

from manyfest.verify import _attributes, _dynamic, _go, _notes, machines
from manyfest.verify._reader import Reader, text
from manyfest.verify.facts import Facts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from manyfest.platforms import Platform
    from manyfest.verify.facts import More

__all__ = ["KEEP", "MAGIC", "Header", "Segment", "Survey", "platform_of", "read", "wanted"]

MAGIC = b"\x7fELF"

_TYPES = {1: "rel", 2: "exec", 3: "dyn", 4: "core"}
_ORDERS = {1: "little", 2: "big"}
# After e_ident: type, machine, version, entry, phoff, shoff, flags, ehsize, phentsize, phnum, shentsize, shnum,
# shstrndx.
_HEADERS = {
    (1, 1): struct.Struct("<HHIIIIIHHHHHH"),
    (1, 2): struct.Struct(">HHIIIIIHHHHHH"),
    (2, 1): struct.Struct("<HHIQQQIHHHHHH"),
    (2, 2): struct.Struct(">HHIQQQIHHHHHH"),
}
# 32 bits: type, offset, vaddr, paddr, filesz, memsz, flags, align; 64 bits: flags come second.
_SEGMENTS = {
    (1, 1): struct.Struct("<IIIIIIII"),
    (1, 2): struct.Struct(">IIIIIIII"),
    (2, 1): struct.Struct("<IIQQQQQQ"),
    (2, 2): struct.Struct(">IIQQQQQQ"),
}
_MAX_SEGMENTS = 1024
_MAX_INTERPRETER = 4096  # PATH_MAX, which is where the kernel stops too

_LOAD, _DYNAMIC, _INTERP, _NOTE = 1, 2, 3, 4
_GNU_PROPERTY, _GNU_RELRO = 0x6474E553, 0x6474E552
_MIPS_ABIFLAGS = 0x70000003
_READ = frozenset((_LOAD, _DYNAMIC, _INTERP, _NOTE, _GNU_PROPERTY, _GNU_RELRO, _MIPS_ABIFLAGS))
_MIPS_FLOATS = {1: "hard", 2: "single", 3: "soft", 5: "hard", 6: "hard", 7: "hard"}
_EM_MIPS, _EM_ARM = 8, 40

KEEP = 16 << 20
"""How many bytes of one file :func:`wanted` names at most. Go's and C++'s programs have megabytes of names."""

# What a stream has to keep: small files whole, of large ones the front, where linkers put names and notes.
_WHOLE = 128 << 10
_FRONT = 2 << 20
_LATE = 256 << 10
_TAIL = 4096
_SMALL = 64 << 10


class Header:
    """The fixed header, its fields named as in the specification."""

    # fmt: off
    __slots__ = (
        "entry", "flags", "key", "machine", "osabi", "phentsize", "phnum", "phoff", "shentsize", "shnum", "shoff",
        "type",
    )
    # fmt: on

    def __init__(self, head: bytes) -> None:
        self.key = (head[4], head[5])
        self.osabi = head[7]
        (
            self.type,
            self.machine,
            _,
            self.entry,
            self.phoff,
            self.shoff,
            self.flags,
            _,
            self.phentsize,
            self.phnum,
            self.shentsize,
            self.shnum,
            _,
        ) = _HEADERS[self.key].unpack_from(head, 16)

    @property
    def bits(self) -> int:
        """32 or 64."""
        return 32 * self.key[0]

    @property
    def order(self) -> str:
        """``"little"`` or ``"big"``."""
        return _ORDERS[self.key[1]]


class Segment:
    """One program header."""

    __slots__ = ("align", "filesz", "flags", "memsz", "offset", "type", "vaddr")

    def __init__(self, bits: int, fields: tuple[int, ...]) -> None:
        if bits == 64:
            self.type, self.flags, self.offset, self.vaddr, _, self.filesz, self.memsz, self.align = fields
        else:
            self.type, self.offset, self.vaddr, _, self.filesz, self.memsz, self.flags, self.align = fields

    @property
    def end(self) -> int:
        """Where it ends in the file."""
        return self.offset + self.filesz


class Survey:
    """What has been found in one file so far; :meth:`facts` at the end."""

    __slots__ = ("fields", "header", "incomplete", "os", "reader", "segments", "variant")

    def __init__(self, header: Header, reader: Reader) -> None:
        self.header = header
        self.reader = reader
        self.fields: dict[str, Any] = {}
        self.incomplete: list[str] = []
        self.segments: list[Segment] = []
        self.os = ""
        self.variant = ""

    def broken(self, sentence: str) -> None:
        """Remember the first thing that is wrong."""
        self.fields.setdefault("problem", sentence)

    def take(self, offset: int, length: int, part: str, called: str) -> bytes:
        """Exactly these bytes, or none: it is a problem when the file is too short, else ``part`` was not seen."""
        size = self.reader.size
        if offset + length > size:
            self.broken(f"{called} would end at byte {offset + length}, the file at {size}")
            return b""
        raw = self.reader.take(offset, length)
        if len(raw) == length:
            return raw
        self.unseen(part)
        return b""

    def unseen(self, part: str) -> None:
        """``part`` is in the file, but was not handed over."""
        if part not in self.incomplete:
            self.incomplete.append(part)

    def offset_of(self, address: int) -> int:
        """The place in the file of what is loaded at ``address``, or -1."""
        for segment in self.segments:
            if segment.type == _LOAD and 0 <= address - segment.vaddr < segment.filesz:
                return segment.offset + address - segment.vaddr
        return -1

    def facts(self) -> Facts:
        """The result."""
        return Facts("elf", incomplete=tuple(self.incomplete), **self.fields)


def platform_of(head: bytes) -> Platform | None:
    """Only the platform of the fixed header, the fast way; ``None`` as well for what is not (whole) ELF."""
    if header_problem(head, len(head)):
        return None
    header = Header(head)
    found = machines.identify(header.machine, header.bits, header.order, header.flags)
    os = machines.system(header.osabi)
    if os is None or not found.architecture:
        return None
    return machines.platform(os or "linux", found.architecture, found.variant)


def header_problem(head: bytes, size: int) -> str:
    """What is wrong with the fixed header, as a sentence; empty when it can be read."""
    if len(head) < 16:
        return f"the header would end at byte 52, the file at {size}"
    bits, order, version = head[4], head[5], head[6]
    if bits not in (1, 2):
        return f"the header says class {bits}, expected 1 (32-bit) or 2 (64-bit)"
    if order not in (1, 2):
        return f"the header says byte order {order}, expected 1 (little-endian) or 2 (big-endian)"
    if version != 1:
        return f"the header says version {version}, expected 1"
    length = 16 + _HEADERS[bits, order].size
    return "" if len(head) >= length else f"the header would end at byte {length}, the file at {size}"


def read(head: bytes, size: int, more: More | None) -> Facts:
    """Everything :class:`Facts` has for ELF. ``head`` starts with :data:`MAGIC`; never raises for bad content."""
    problem = header_problem(head, size)
    if problem:
        return Facts("elf", problem=problem)
    survey = Survey(Header(head), Reader(head, size, more))
    _read_header(survey)
    if survey.header.type in (2, 3):
        _read_segments(survey)
        if survey.segments:
            _read_parts(survey, head)
    if survey.header.machine == _EM_ARM and survey.header.shnum:
        _attributes.read(survey)
    _refine(survey)
    return survey.facts()


def _read_header(survey: Survey) -> None:
    header, fields = survey.header, survey.fields
    found = machines.identify(header.machine, header.bits, header.order, header.flags)
    fields.update(
        machine=found.machine,
        machine_code=header.machine,
        elf_class=header.bits,
        order=header.order,
        type=_TYPES.get(header.type, ""),
        abi=found.abi,
        flags=header.flags,
        flag_words=found.words,
        float_abi=found.float_abi,
    )
    if found.problem:
        survey.broken(f"the header {found.problem}")
    os = machines.system(header.osabi)
    if os is not None and found.architecture:
        fields["os_assumed"] = not os
        fields["platforms"] = (machines.platform(os or "linux", found.architecture, found.variant),)
    if header.type == 1:
        fields["linking"] = "object"


def _read_segments(survey: Survey) -> None:
    header = survey.header
    if header.phnum == 0:
        return
    entry = _SEGMENTS[header.key]
    if header.phentsize != entry.size:
        survey.broken(f"the header says {header.phentsize} bytes a program header, expected {entry.size}")
        return
    if header.phnum > _MAX_SEGMENTS:
        survey.broken(f"the header says {header.phnum} program headers, expected at most {_MAX_SEGMENTS}")
        return
    raw = survey.take(header.phoff, header.phnum * entry.size, "segments", "the program headers")
    bits = header.bits
    survey.segments = [Segment(bits, fields) for fields in entry.iter_unpack(raw) if fields[0] in _READ]
    _check_loads(survey, [segment for segment in survey.segments if segment.type == _LOAD])


def _check_loads(survey: Survey, loads: list[Segment]) -> None:
    """What the kernel maps: within the file, and aligned as it says."""
    for segment in loads:
        if segment.filesz and segment.end > survey.reader.size:
            survey.broken(f"a segment would end at byte {segment.end}, the file at {survey.reader.size}")
        if segment.filesz > segment.memsz:
            survey.broken(f"a segment of {segment.memsz} bytes in memory has {segment.filesz} in the file")
        align = segment.align
        if align > 1 and (align & (align - 1) or (segment.vaddr - segment.offset) % align):
            survey.broken(f"a segment at byte {segment.offset} is not aligned to {align} as it says")
    if loads:
        aligns = [max(segment.align, 1) for segment in loads]
        survey.fields.update(page_align_max=max(aligns), page_align_min=min(aligns))


def _read_parts(survey: Survey, head: bytes) -> None:
    dynamic: Segment | None = None
    notes: list[Segment] = []
    for segment in survey.segments:
        if segment.type in (_INTERP, _DYNAMIC) and not segment.filesz:
            # What objcopy --only-keep-debug leaves: the program's headers, without its content.
            survey.fields["linking"] = "debug"
            return
        if segment.type == _INTERP:
            _read_interpreter(survey, segment)
        elif segment.type == _DYNAMIC:
            dynamic = segment
        elif segment.type in (_NOTE, _GNU_PROPERTY):
            notes.append(segment)
        elif segment.type == _MIPS_ABIFLAGS and survey.header.machine == _EM_MIPS:
            raw = survey.take(segment.offset, 24, "notes", "the MIPS ABI flags")
            survey.fields["float_abi"] = _MIPS_FLOATS.get(raw[7], "") if raw else ""
    is_pie = dynamic is not None and _dynamic.read(survey, dynamic)
    survey.fields["linking"] = _linking(survey, is_pie)
    is_go = _notes.read(survey, notes)
    _go.read(survey, head, noted=is_go)


def _read_interpreter(survey: Survey, segment: Segment) -> None:
    if not 2 <= segment.filesz <= _MAX_INTERPRETER:
        survey.broken(f"the loader's name has {segment.filesz} bytes, expected 2 to {_MAX_INTERPRETER}")
        return
    raw = survey.take(segment.offset, segment.filesz, "interpreter", "the loader's name")
    if not raw:
        return
    name, _, rest = raw.partition(b"\0")
    if len(name) == len(raw) or rest.strip(b"\0"):
        survey.broken(f"the loader's name {text(raw[:80])!r} does not end with one NUL")
    survey.fields["interpreter"] = text(name)


def _linking(survey: Survey, is_pie: bool) -> str:
    """Static, static-pie, program or library: the interpreter decides, then DF_1_PIE, then the name.

    libc.so.6 has an interpreter, so that it can print its version, but also a name; a program has none.
    """
    fields = survey.fields
    has_interpreter = "interpreter" in fields or "interpreter" in survey.incomplete
    if survey.header.type == 2:
        return "dynamic" if has_interpreter or fields.get("needed") else "static"
    if has_interpreter:
        return "shared" if fields.get("soname") and not is_pie else "dynamic"
    return "static-pie" if is_pie and not fields.get("needed") else "shared"


def _refine(survey: Survey) -> None:
    """The platform, once notes, attributes and Go's settings have spoken."""
    fields = survey.fields
    (known,) = fields.get("platforms") or (None,)
    if known is None:
        return
    os, variant = survey.os, known.variant
    if fields.get("interpreter", "").startswith("/system/bin/linker"):
        os = "android"
    if os:
        fields["os_assumed"] = False
    attributes = fields.get("arm_attributes")
    if attributes is not None and known.architecture == "arm":
        variant = attributes.architecture or variant
        if attributes.hard_float is not None and not fields["float_abi"]:
            fields["float_abi"] = "hard" if attributes.hard_float else "soft"
    variant = survey.variant or variant
    if known.architecture == "amd64" and fields.get("x86_level", "baseline") != "baseline":
        variant = fields["x86_level"]
    fields["platforms"] = (machines.platform(os or known.os, known.architecture, variant),)


def wanted(head: bytes, size: int) -> tuple[tuple[int, int], ...]:
    """The ranges ``(offset, length)``, sorted and apart, that :func:`read` may ask for beyond the head.

    A reader that streams forward cannot learn from a late table where an early name is, so this asks for a
    little more than is used, within :data:`KEEP`. Without them :func:`read` says what it did not see.
    """
    if size <= len(head) or header_problem(head, size):
        return ()
    header = Header(head)
    if header.type not in (2, 3) and header.machine != _EM_ARM:
        return ()
    if size <= _WHOLE:
        return ((len(head), size - len(head)),)
    entry = _SEGMENTS[header.key]
    table = head[header.phoff : header.phoff + min(header.phnum, _MAX_SEGMENTS) * entry.size]
    if header.phentsize != entry.size or len(table) % entry.size:
        table = b""
    segments = [Segment(header.bits, fields) for fields in entry.iter_unpack(table)]
    ranges = _small_ranges(header, segments)
    ranges += _go.sections(header, head)
    if b"Go\0\0" in head:
        ranges += _go.places(segments)
    ranges += _load_ranges(segments)
    if not segments and header.phnum:
        ranges.append((header.phoff, min(header.phnum, _MAX_SEGMENTS) * entry.size))
        ranges.append((0, _LATE))
    return _merged(ranges, len(head), size)


def _small_ranges(header: Header, segments: list[Segment]) -> list[tuple[int, int]]:
    """What is named by the program headers, and ARM's attributes, which only sections name."""
    small = (_DYNAMIC, _INTERP, _NOTE, _GNU_PROPERTY, _MIPS_ABIFLAGS)
    ranges = [(s.offset, min(s.filesz, _SMALL)) for s in segments if s.type in small]
    if header.machine == _EM_ARM and header.shnum:
        # Linkers put the attributes right behind what is loaded, or, in stripped files, before the table.
        ranges.append((max((s.end for s in segments if s.type == _LOAD), default=0), _TAIL))
        ranges.append((max(header.shoff - _TAIL, 0), _TAIL + min(header.shnum, 512) * header.shentsize))
    return ranges


def _load_ranges(segments: list[Segment]) -> list[tuple[int, int]]:
    loads, ranges = [segment for segment in segments if segment.type == _LOAD], []
    if loads and any(segment.type == _DYNAMIC for segment in segments):
        # Tools that edit a finished file append a segment with the names they changed.
        last = max(loads, key=lambda s: s.offset)
        ranges += [(last.offset, last.filesz)] if last.filesz <= _LATE else []
        # Where code has a segment of its own, the first is names and notes; else they come before the code.
        front = loads[0].filesz if not loads[0].flags & 1 else max(_FRONT, loads[0].filesz // 4)
        ranges.append((loads[0].offset, min(front, loads[0].filesz)))
    return ranges


def _merged(ranges: list[tuple[int, int]], start: int, size: int) -> tuple[tuple[int, int], ...]:
    """Sorted, without overlap, inside the file; the first given are the last to lose when the budget ends."""
    left, kept = KEEP, []
    for offset, length in ranges:
        low, high = max(offset, start), min(offset + length, size)
        length = min(high - low, left)
        if length > 0:
            left -= length
            kept.append((low, low + length))
    apart: list[tuple[int, int]] = []
    for low, high in sorted(kept):
        if apart and low <= apart[-1][1]:
            apart[-1] = (apart[-1][0], max(high, apart[-1][1]))
        else:
            apart.append((low, high))
    return tuple((low, high - low) for low, high in apart)
