# SPDX-License-Identifier: Apache-2.0
"""ARM's build attributes: the only place where 32-bit ARM code says which processor it needs.

https://github.com/ARM-software/abi-aa/blob/main/addenda32/addenda32.rst: a version byte ``A``, then vendors'
sub-sections; in ``aeabi``, sub-sub-sections of tags, each a ULEB128 number, or text for tags 4, 5, 32 and odd
ones above 32.
"""

from __future__ import annotations

import struct

from manyfest.verify._reader import text
from manyfest.verify.facts import ArmAttributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from manyfest.verify.elf import Survey

__all__ = ["parse", "read"]

_SECTION_TYPE = 0x70000003
_SECTION_SIZE = 40  # ARM is 32-bit
_MAX_SECTIONS = 4096
_MAX_CONTENT = 16 << 10
_MAX_TAGS = 256

_FILE = 1
_CPU_NAME, _CPU_ARCH, _CPU_PROFILE, _FP_ARCH, _SIMD_ARCH, _VFP_ARGS, _COMPATIBILITY = 5, 6, 7, 10, 12, 28, 32
# By the number of Tag_CPU_arch; v4 and v4T count as v5, the lowest that anybody publishes images for.
_LEVELS = ("", *["v5"] * 5, *["v6"] * 4, "v7", "v6", "v6", "v7", *["v8"] * 8, "v9")
_PROFILES = {ord(letter): letter for letter in "ARMS"}
_FLOATING_POINT = ("", "VFPv1", "VFPv2", "VFPv3", "VFPv3-D16", "VFPv4", "VFPv4-D16", "ARMv8", "ARMv8-D16")


def read(survey: Survey) -> None:
    """Find the section by its type and put what it says into ``survey``."""
    header, order = survey.header, survey.header.order
    if header.shentsize != _SECTION_SIZE or header.shnum > _MAX_SECTIONS:
        survey.broken(
            f"the header says {header.shnum} sections of {header.shentsize} bytes, expected {_SECTION_SIZE}"
        )
        return
    table = survey.take(header.shoff, header.shnum * _SECTION_SIZE, "attributes", "the section headers")
    fields = struct.Struct("<10I" if order == "little" else ">10I")
    for section in fields.iter_unpack(table):
        kind, offset, size = section[1], section[4], section[5]
        if kind != _SECTION_TYPE:
            continue
        if size > _MAX_CONTENT:
            survey.broken(f"the ARM attributes have {size} bytes, expected at most {_MAX_CONTENT}")
            return
        raw = survey.take(offset, size, "attributes", "the ARM attributes")
        if raw:
            tags = _tags(raw, order)
            if tags is None:
                survey.broken("the ARM attributes break off")
            else:
                survey.fields["arm_attributes"] = _meaning(tags)
        return


def parse(raw: bytes, order: str = "little") -> ArmAttributes | None:
    """The content of an ``.ARM.attributes`` section, or ``None`` when it breaks off."""
    tags = _tags(raw, order)
    return None if tags is None else _meaning(tags)


def _meaning(tags: dict[int, int | str]) -> ArmAttributes:
    def number(tag: int) -> int:
        value = tags.get(tag, 0)
        return value if isinstance(value, int) else 0

    level, points = number(_CPU_ARCH), number(_FP_ARCH)
    arguments = number(_VFP_ARGS)
    hard = {0: False, 1: True}.get(arguments)
    if arguments == 0 and not points:
        hard = None if _VFP_ARGS not in tags else False
    return ArmAttributes(
        _LEVELS[level] if level < len(_LEVELS) else "",
        str(tags.get(_CPU_NAME, "")),
        _PROFILES.get(number(_CPU_PROFILE), ""),
        hard,
        _FLOATING_POINT[points] if points < len(_FLOATING_POINT) else "",
        bool(number(_SIMD_ARCH)),
    )


def _tags(raw: bytes, order: str) -> dict[int, int | str] | None:
    """The tags that hold for the whole file, the vendor ``aeabi``'s."""
    if raw[:1] != b"A":
        return None
    word = struct.Struct("<I" if order == "little" else ">I")
    at = 1
    while at + 4 <= len(raw):
        (length,) = word.unpack_from(raw, at)
        if length < 5 or at + length > len(raw):
            return None
        vendor, _, content = raw[at + 4 : at + length].partition(b"\0")
        if vendor == b"aeabi":
            return _file_tags(content, word)
        at += length
    return {}


def _file_tags(content: bytes, word: struct.Struct) -> dict[int, int | str] | None:
    at = 0
    while at + 5 <= len(content):
        (length,) = word.unpack_from(content, at + 1)
        if length < 5 or at + length > len(content):
            return None
        if content[at] == _FILE:
            return _values(content[at + 5 : at + length])
        at += length
    return {}


def _values(raw: bytes) -> dict[int, int | str] | None:
    found: dict[int, int | str] = {}
    at = 0
    for _ in range(_MAX_TAGS):
        if at >= len(raw):
            return found
        tag, at = _uleb(raw, at)
        if tag == _COMPATIBILITY:
            _, at = _uleb(raw, at)
        if tag in (4, _CPU_NAME, _COMPATIBILITY) or (tag > _COMPATIBILITY and tag % 2):
            end = raw.find(b"\0", at)
            if end < 0:
                return None
            found[tag], at = text(raw[at:end][:80]), end + 1
        else:
            found[tag], at = _uleb(raw, at)
        if at > len(raw):
            return None
    return None


def _uleb(raw: bytes, at: int) -> tuple[int, int]:
    """A ULEB128 number of at most five bytes and where it ends: beyond the end when it breaks off."""
    value = 0
    for i in range(5):
        if at + i >= len(raw):
            break
        value |= (raw[at + i] & 0x7F) << 7 * i
        if raw[at + i] < 0x80:
            return value, at + i + 1
    return 0, len(raw) + 1
