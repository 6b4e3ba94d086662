# SPDX-License-Identifier: Apache-2.0
"""ELF notes: operating system, instruction sets that are needed, Go.

GNU properties: https://gitlab.com/x86-psABIs/linux-ABI and https://github.com/ARM-software/abi-aa (sysvabi64).
Go's build information: https://pkg.go.dev/debug/buildinfo.
"""

from __future__ import annotations

import struct

from manyfest.verify._reader import text

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

_GO_MAGIC = b"\xff Go buildinf:"
_GO_WINDOW = 64 << 10
_GO_SETTINGS = frozenset((
    "CGO_ENABLED", "GO386", "GOAMD64", "GOARCH", "GOARM", "GOARM64", "GOMIPS", "GOMIPS64", "GOOS", "GOPPC64",
    "GORISCV64",
))  # fmt: skip


def read(survey: Survey, segments: list[Segment]) -> None:
    """All notes of these segments into ``survey``."""
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
    if is_go:
        _read_go(survey)


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


def _read_go(survey: Survey) -> None:
    """The version and settings that Go's linker puts at the start of the first writable segment."""
    fields = survey.fields
    fields["go"] = "go"
    data = next((s for s in survey.segments if s.type == 1 and s.flags & 2 and s.filesz), None)
    if data is None:
        return
    length = min(data.filesz, _GO_WINDOW)
    raw = survey.reader.take(data.offset, length)
    at = raw.find(_GO_MAGIC)
    if at < 0 or len(raw) < at + 33:
        if len(raw) < min(length, survey.reader.size - data.offset):
            survey.unseen("go")
        return
    if not raw[at + 15] & 2:
        return  # before Go 1.18: pointers to strings elsewhere
    version, end = _go_text(raw, at + 32)
    module, _ = _go_text(raw, end)
    if version.startswith((b"go", b"devel")):
        fields["go"] = text(version[:80])
    settings: list[tuple[str, str]] = []
    for line in module[16:-16].split(b"\n"):
        if line.startswith(b"build\t"):
            name, _, value = text(line[6:]).partition("=")
            if name in _GO_SETTINGS and len(settings) < len(_GO_SETTINGS):
                settings.append((name, value[:80]))
    fields["go_settings"] = tuple(settings)
    _apply_go(survey, dict(settings))


def _go_text(raw: bytes, at: int) -> tuple[bytes, int]:
    """A length as a varint, then that many bytes; empty when it does not fit."""
    length = shift = 0
    for i in range(at, min(at + 4, len(raw))):
        length |= (raw[i] & 0x7F) << shift
        shift += 7
        if raw[i] < 0x80:
            end = i + 1 + length
            return (raw[i + 1 : end], end) if end <= len(raw) else (b"", len(raw))
    return b"", len(raw)


def _apply_go(survey: Survey, settings: dict[str, str]) -> None:
    """Go programs have neither attributes nor ISA notes: their settings say what they need."""
    level, _, options = settings.get("GOARM", "").partition(",")
    fields = survey.fields
    if level in ("5", "6", "7"):
        survey.variant = f"v{level}"
        fields["float_abi"] = {"softfloat": "soft", "hardfloat": "hard"}.get(
            options, "soft" if level == "5" else "hard"
        )
    amd64 = settings.get("GOAMD64", "")
    if amd64 in ("v1", "v2", "v3", "v4"):
        fields["x86_level"] = "baseline" if amd64 == "v1" else amd64
    for name, least in (("GOARM64", "v8.0"), ("GOPPC64", "power8"), ("GORISCV64", "rva20u64")):
        value = settings.get(name, "").partition(",")[0]
        if value.isascii() and value.replace(".", "").isalnum() and len(value) <= 16 and value != least:
            survey.variant = value
    os = settings.get("GOOS", "")
    if os.isascii() and os.isalnum() and len(os) <= 16:
        survey.os = os
