# SPDX-License-Identifier: Apache-2.0
"""ELF notes: operating system, instruction sets that are needed.

GNU properties: https://gitlab.com/x86-psABIs/linux-ABI and https://github.com/ARM-software/abi-aa (sysvabi64).
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from manyfest.verify.elf import Segment, Survey

__all__ = ["read"]

_MAX_NOTES = 64 << 10
_MAX_COUNT = 256
_WORDS = {1: struct.Struct("<III"), 2: struct.Struct(">III")}
_PAIR = {1: struct.Struct("<II"), 2: struct.Struct(">II")}
_QUAD = {1: struct.Struct("<IIII"), 2: struct.Struct(">IIII")}
_ONE = {1: struct.Struct("<I"), 2: struct.Struct(">I")}

_ABI_TAG, _PROPERTY = 1, 5
_ABI_SYSTEMS = {0: "linux", 1: "hurd", 2: "solaris", 3: "freebsd", 4: "netbsd"}
_OWNERS = {b"FreeBSD": "freebsd", b"NetBSD": "netbsd", b"OpenBSD": "openbsd", b"Android": "android"}

_X86_ISA_NEEDED = 0xC0008002
_X86_LEVELS = ((8, "v4"), (4, "v3"), (2, "v2"), (1, "baseline"))
_AARCH64_FEATURES = 0xC0000000
_AARCH64_WORDS = ((1, "BTI"), (2, "PAC"), (4, "GCS"))
_EM_386, _EM_X86_64, _EM_AARCH64 = 3, 62, 183


def read(survey: Survey, segments: list[Segment]) -> bool:
    """All notes of these segments into ``survey``; says whether one is of Go."""
    is_go = False
    seen: set[int] = set()
    for segment in segments:
        if segment.offset in seen:  # PT_GNU_PROPERTY repeats what a PT_NOTE holds
            continue
        seen.add(segment.offset)
        for owner, kind, content in _notes(survey, segment):
            if owner == b"GNU" and kind == _PROPERTY:
                _read_properties(survey, content)
            elif owner == b"GNU" and kind == _ABI_TAG:
                _read_abi_tag(survey, content)
            elif owner == b"Go":
                is_go = True
            elif owner in _OWNERS and kind == 1:
                survey.os = _OWNERS[owner]
    return is_go


def _notes(survey: Survey, segment: Segment) -> Iterator[tuple[bytes, int, bytes]]:
    """Owner, type and content of each note. Names and contents are padded to the segment's alignment."""
    if segment.filesz > _MAX_NOTES:
        survey.broken(f"a segment of notes has {segment.filesz} bytes, expected at most {_MAX_NOTES}")
        return
    if not segment.filesz:
        return
    raw = survey.take(segment.offset, segment.filesz, "notes", "a segment of notes")
    words = _WORDS[survey.header.key[1]]
    padding = 8 if segment.align == 8 else 4
    at = 0
    for _ in range(_MAX_COUNT):
        if at + 12 > len(raw):
            return
        name_size, size, kind = words.unpack_from(raw, at)
        content = _padded(at + 12 + name_size, padding)
        if content + size > len(raw):
            survey.broken(f"a note would end at byte {content + size} of {len(raw)}")
            return
        yield raw[at + 12 : at + 12 + name_size].rstrip(b"\0"), kind, raw[content : content + size]
        at = _padded(content + size, padding)


def _padded(length: int, to: int) -> int:
    return -(-length // to) * to


def _read_properties(survey: Survey, content: bytes) -> None:
    order = survey.header.key[1]
    step = 8 if survey.header.bits == 64 else 4
    at = 0
    for _ in range(_MAX_COUNT):
        if at + 8 > len(content):
            return
        kind, size = _PAIR[order].unpack_from(content, at)
        if at + 8 + size > len(content):
            survey.broken(f"a GNU property would end at byte {at + 8 + size} of {len(content)}")
            return
        if size == 4:
            _read_property(survey, kind, _ONE[order].unpack_from(content, at + 8)[0])
        at += 8 + _padded(size, step)


def _read_property(survey: Survey, kind: int, bits: int) -> None:
    machine, fields = survey.header.machine, survey.fields
    if kind == _X86_ISA_NEEDED and machine in (_EM_386, _EM_X86_64):
        fields["x86_level"] = next((level for bit, level in _X86_LEVELS if bits & bit), "")
    elif kind == _AARCH64_FEATURES and machine == _EM_AARCH64:
        fields["aarch64_features"] = tuple(word for bit, word in _AARCH64_WORDS if bits & bit)


def _read_abi_tag(survey: Survey, content: bytes) -> None:
    if len(content) < 16:
        survey.broken(f"the ABI note has {len(content)} bytes, expected 16")
        return
    os, *version = _QUAD[survey.header.key[1]].unpack_from(content)
    if os in _ABI_SYSTEMS:
        survey.os = _ABI_SYSTEMS[os]
    survey.fields["kernel"] = ".".join(map(str, version))
