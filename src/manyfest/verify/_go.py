# SPDX-License-Identifier: Apache-2.0
"""Go's build information: the version and the settings that decide where a program runs.

https://pkg.go.dev/debug/buildinfo. Go's programs carry neither ARM attributes nor x86 ISA notes, so GOARM and
GOAMD64 in there are the only trace of their level. No header points to it. Go's own linker writes the table of
sections right behind the program headers, so it is found exactly; a C linker leaves it in the first data that
stays writable.
"""

from __future__ import annotations

import struct

from manyfest.verify._reader import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from manyfest.verify.elf import Header, Segment, Survey

__all__ = ["MAGIC", "MAX_INFO", "info", "places", "read", "sections"]

MAGIC = b"\xff Go buildinf:"
_WINDOW = 256 << 10
_MAX_SECTIONS = 128
MAX_INFO = 64 << 10
_SETTINGS = frozenset((
    "CGO_ENABLED", "GO386", "GOAMD64", "GOARCH", "GOARM", "GOARM64", "GOMIPS", "GOMIPS64", "GOOS", "GOPPC64",
    "GORISCV64",
))  # fmt: skip

# name, type, flags, address, offset, size, link, info, alignment, size of an entry
_SECTIONS = {
    (1, 1): struct.Struct("<10I"),
    (1, 2): struct.Struct(">10I"),
    (2, 1): struct.Struct("<IIQQQQIIQQ"),
    (2, 2): struct.Struct(">IIQQQQIIQQ"),
}
_PROGBITS, _WRITABLE, _ALIGNMENT = 1, 1, 16
_LOAD, _RELRO = 1, 0x6474E552


def sections(header: Header, head: bytes) -> list[tuple[int, int]]:
    """Offset and length of the sections that may hold it, when the head has their table: Go's own linker's work."""
    layout = _SECTIONS[header.key]
    if not 0 < header.shnum <= _MAX_SECTIONS or header.shentsize != layout.size:
        return []
    table = head[header.shoff : header.shoff + header.shnum * layout.size]
    if len(table) < header.shnum * layout.size:
        return []
    found = []
    for _, kind, flags, _, offset, size, _, _, alignment, _ in layout.iter_unpack(table):
        if kind == _PROGBITS and flags & _WRITABLE and alignment == _ALIGNMENT and size >= 32:
            found.append((offset, min(size, MAX_INFO)))
    return found[:4]


def places(segments: list[Segment]) -> list[tuple[int, int]]:
    """Offset and length of what else may hold it: where data that stays writable starts."""
    found = []
    relros = [segment for segment in segments if segment.type == _RELRO]
    for load in segments:
        if load.type == _LOAD and load.flags & 2 and load.filesz:
            ends = [relro.end for relro in relros if load.offset <= relro.offset < load.end]
            start = min(max([load.offset, *ends]), load.end)
            found.append((start, min(load.end - start, _WINDOW)))
    return [place for place in found if place[1] > 0][:3]


def read(survey: Survey, head: bytes, *, noted: bool) -> None:
    """Version and settings into ``survey``. ``noted``: a note says that it is Go, so it is worth a search."""
    if noted:
        survey.fields["go"] = "go"
    unseen = False
    exact = sections(survey.header, head)
    for offset, length in [*exact, *(places(survey.segments) if noted else [])]:
        raw = survey.reader.take(offset, length)
        at = raw.find(MAGIC)
        if at >= 0:
            _read_info(survey, raw, at)
            return
        unseen = unseen or len(raw) < min(length, survey.reader.size - offset)
    if unseen and noted:
        survey.unseen("go")


def _read_info(survey: Survey, raw: bytes, at: int) -> None:
    fields = survey.fields
    fields["go"] = "go"
    found = info(raw, at)
    if found is None:
        return
    version, module = found
    if version.startswith((b"go", b"devel")):
        fields["go"] = text(version[:80])
    settings: list[tuple[str, str]] = []
    for line in module.split(b"\n"):
        if line.startswith(b"build\t"):
            name, _, value = text(line[6:]).partition("=")
            if name in _SETTINGS and len(settings) < len(_SETTINGS):
                settings.append((name, value[:80]))
    fields["go_settings"] = tuple(settings)
    _apply(survey, dict(settings))


def info(raw: bytes, at: int) -> tuple[bytes, bytes] | None:
    """The version, and the lines about modules and settings, of what :data:`MAGIC` begins at ``at``.

    ``None`` for programs from before Go 1.18, which have pointers to strings elsewhere.
    """
    if len(raw) < at + 33 or not raw[at + 15] & 2:
        return None
    version, end = _string(raw, at + 32)
    module, _ = _string(raw, end)
    return version, module[16:-16]


def _string(raw: bytes, at: int) -> tuple[bytes, int]:
    """A length as a varint, then that many bytes; empty when it does not fit."""
    length = shift = 0
    for i in range(at, min(at + 4, len(raw))):
        length |= (raw[i] & 0x7F) << shift
        shift += 7
        if raw[i] < 0x80:
            end = i + 1 + length
            return (raw[i + 1 : end], end) if end <= len(raw) else (b"", len(raw))
    return b"", len(raw)


def _apply(survey: Survey, settings: dict[str, str]) -> None:
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
