# SPDX-License-Identifier: Apache-2.0
"""ELF's dynamic section: names, search paths and symbol versions (https://gabi.xinuos.com, the LSB for versions)."""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from manyfest.verify.elf import Segment, Survey

__all__ = ["read"]

_MAX_TABLE = 64 << 10
_MAX_NEEDED = 1024
_MAX_NAME = 4096
_MAX_STRINGS = 64 << 10
_MAX_TEXT = 64 << 10  # of all names together: facts are kept, and a hostile image has many files
_MAX_VERSIONS = 4096
_VERSION_START, _VERSION_WINDOW = 2 << 10, 32 << 10

_NEEDED, _STRTAB, _STRSZ, _SONAME, _RPATH, _RUNPATH = 1, 5, 10, 14, 15, 29
_FLAGS_1, _PIE = 0x6FFFFFFB, 0x08000000
_VERDEF, _VERDEFNUM, _VERNEED, _VERNEEDNUM = 0x6FFFFFFC, 0x6FFFFFFD, 0x6FFFFFFE, 0x6FFFFFFF

_ENTRIES = {
    (1, 1): struct.Struct("<II"),
    (1, 2): struct.Struct(">II"),
    (2, 1): struct.Struct("<QQ"),
    (2, 2): struct.Struct(">QQ"),
}
# version, count, file, auxiliary, next; then for each: hash, flags, other, name, next
_NEEDS = {
    1: (struct.Struct("<HHIII"), struct.Struct("<IHHII")),
    2: (struct.Struct(">HHIII"), struct.Struct(">IHHII")),
}
# version, flags, index, count, hash, auxiliary, next; then: name, next
_DEFS = {
    1: (struct.Struct("<HHHHIII"), struct.Struct("<II")),
    2: (struct.Struct(">HHHHIII"), struct.Struct(">II")),
}
_WEAK, _BASE = 2, 1


class _Strings:
    """The dynamic string table, read once when it is small, else a name at a time."""

    __slots__ = ("left", "offset", "raw", "size", "survey")

    def __init__(self, survey: Survey, offset: int, size: int) -> None:
        self.survey, self.offset, self.size, self.left = survey, offset, size, _MAX_TEXT
        self.raw = survey.reader.take(offset, size) if size <= _MAX_STRINGS else b""

    def name(self, at: int) -> str:
        """The name at that byte; empty when there is none, and the survey knows why."""
        end = self.raw.find(b"\0", at)
        name = self.raw[at:end] if 0 <= end <= at + _MAX_NAME else self._far_name(at)
        self.left -= len(name)
        if self.left >= 0:
            return name.decode("utf-8", "backslashreplace")
        self.survey.broken(f"the dynamic names that are used have more than {_MAX_TEXT} bytes")
        return ""

    def _far_name(self, at: int) -> bytes:
        if at >= self.size:
            self.survey.broken(f"a name at byte {at} of the dynamic names, which have {self.size}")
            return b""
        raw = self.survey.reader.take(self.offset + at, min(self.size - at, 256))
        if b"\0" not in raw and len(raw) == 256:
            raw = self.survey.reader.take(self.offset + at, min(self.size - at, _MAX_NAME))
        end = raw.find(b"\0")
        if end >= 0:
            return raw[:end]
        if len(raw) < min(self.size - at, 256):
            self.survey.unseen("strings")
        else:
            self.survey.broken(
                f"a name at byte {at} of the dynamic names does not end within {len(raw)} bytes"
            )
        return b""


def read(survey: Survey, segment: Segment) -> bool:
    """Names, paths and versions into ``survey``; says whether the linker marked it as a program (DF_1_PIE)."""
    found = _tags(survey, segment)
    if found is None:
        return False
    needed, tags = found
    is_pie = bool(tags.get(_FLAGS_1, 0) & _PIE)
    if not needed and not tags.keys() & {_SONAME, _RPATH, _RUNPATH, _VERDEF, _VERNEED}:
        return is_pie
    strings = _strings(survey, tags)
    if strings is None:
        return is_pie
    fields = survey.fields
    if len(needed) > _MAX_NEEDED:
        survey.broken(f"{len(needed)} libraries are needed, expected at most {_MAX_NEEDED}")
    fields["needed"] = tuple(filter(None, map(strings.name, needed[:_MAX_NEEDED])))
    for tag, field in ((_RPATH, "rpath"), (_RUNPATH, "runpath")):
        if tag in tags:
            fields[field] = tuple(filter(None, strings.name(tags[tag]).split(":")))
    if _SONAME in tags:
        fields["soname"] = strings.name(tags[_SONAME])
    if _VERNEED in tags:
        fields["version_needs"] = _needs(survey, strings, tags)
    if _VERDEF in tags:
        fields["version_defs"] = _defs(survey, strings, tags)
    return is_pie


def _tags(survey: Survey, segment: Segment) -> tuple[list[int], dict[int, int]] | None:
    """The offsets of the names of what is needed, and the first value of every other tag."""
    entry = _ENTRIES[survey.header.key]
    length = segment.filesz - segment.filesz % entry.size
    if not 0 < length <= _MAX_TABLE:
        survey.broken(
            f"the dynamic section has {segment.filesz} bytes, expected {entry.size} to {_MAX_TABLE}"
        )
        return None
    raw = survey.take(segment.offset, length, "dynamic", "the dynamic section")
    if not raw:
        return None
    needed: list[int] = []
    tags: dict[int, int] = {}
    for tag, value in entry.iter_unpack(raw):
        if tag == 0:
            break
        if tag == _NEEDED:
            needed.append(value)
        else:
            tags.setdefault(tag, value)
    return needed, tags


def _strings(survey: Survey, tags: dict[int, int]) -> _Strings | None:
    if _STRTAB not in tags or _STRSZ not in tags:
        survey.broken("the dynamic section names libraries, but no table of names")
        return None
    address, size = tags[_STRTAB], tags[_STRSZ]
    offset = survey.offset_of(address)
    if offset < 0:
        survey.broken(f"the table of dynamic names is at address {address:#x}, which no segment loads")
        return None
    if offset + size > survey.reader.size:
        survey.broken(
            f"the dynamic names would end at byte {offset + size}, the file at {survey.reader.size}"
        )
        return None
    return _Strings(survey, offset, size)


class _Versions:
    """A table of symbol versions, from its start on; its length is nowhere written."""

    __slots__ = ("count", "offset", "raw", "survey", "whole")

    def __init__(self, survey: Survey, address: int, count: int) -> None:
        self.survey, self.count, self.whole = survey, count, False
        self.offset, self.raw = survey.offset_of(address), b""
        if count > _MAX_VERSIONS:
            survey.broken(f"{count} entries of symbol versions, expected at most {_MAX_VERSIONS}")
            self.count = 0
        elif self.offset < 0:
            survey.broken(f"the symbol versions are at address {address:#x}, which no segment loads")
            self.count = 0
        else:
            self.raw = survey.reader.take(self.offset, _VERSION_START)

    def entry(self, layout: struct.Struct, at: int) -> tuple[int, ...] | None:
        """The entry there, or ``None``, and the survey knows why."""
        end = at + layout.size
        if end > len(self.raw) and not self.whole:
            self.whole = True
            self.raw = self.survey.reader.take(self.offset, _VERSION_WINDOW)
        if end <= len(self.raw):
            return layout.unpack_from(self.raw, at)
        end += self.offset
        if end > self.survey.reader.size:
            self.survey.broken(
                f"the symbol versions would end at byte {end}, the file at {self.survey.reader.size}"
            )
        else:
            self.survey.unseen("versions")
        return None


def _needs(
    survey: Survey, strings: _Strings, tags: dict[int, int]
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    table = _Versions(survey, tags[_VERNEED], tags.get(_VERNEEDNUM, 0))
    layout, inner_layout = _NEEDS[survey.header.key[1]]
    found: list[tuple[str, tuple[str, ...]]] = []
    at, budget = 0, _MAX_VERSIONS
    for _ in range(table.count):
        entry = table.entry(layout, at)
        if entry is None or budget <= 0:
            break
        _, number, file, first, following = entry
        names, budget = _auxiliary(table, inner_layout, at + first, min(number, budget)), budget - number
        found.append((strings.name(file), tuple(filter(None, map(strings.name, names)))))
        at += following
        if not following:
            break
    return tuple(found)


def _auxiliary(table: _Versions, layout: struct.Struct, at: int, number: int) -> list[int]:
    """Where the names of the versions are that one library must have."""
    names = []
    for _ in range(number):
        entry = table.entry(layout, at)
        if entry is None:
            break
        _, flags, _, name, following = entry
        if not flags & _WEAK:
            names.append(name)
        at += following
        if not following:
            break
    return names


def _defs(survey: Survey, strings: _Strings, tags: dict[int, int]) -> tuple[str, ...]:
    table = _Versions(survey, tags[_VERDEF], tags.get(_VERDEFNUM, 0))
    layout, inner_layout = _DEFS[survey.header.key[1]]
    found: list[str] = []
    at = 0
    for _ in range(table.count):
        entry = table.entry(layout, at)
        if entry is None:
            break
        _, flags, _, _, _, first, following = entry
        name = None if flags & _BASE else table.entry(inner_layout, at + first)
        if name is not None:
            found.append(strings.name(name[0]))
        at += following
        if not following:
            break
    return tuple(filter(None, found))
