# SPDX-License-Identifier: Apache-2.0
"""ELF: compilers' output of every architecture, copies broken on purpose, and pyelftools as the oracle."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection
from elftools.elf.segments import InterpSegment
from tests.assets.make_assets import BROKEN, GCC, ZIG, check

from manyfest.platforms import Platform
from manyfest.verify import elf
from manyfest.verify._reader import BUDGET
from manyfest.verify.facts import Facts, Kept
from manyfest.verify.kinds import HEAD, read_facts, wanted

ASSETS = Path(__file__).parents[2] / "assets"
COMPILED = sorted(name for name in (*ZIG, *GCC) if name.startswith("elf/"))


def facts_of(raw: bytes, head: int = HEAD) -> Facts:
    found = read_facts(raw[:head], len(raw), lambda offset, length: raw[offset : offset + length])
    assert found is not None
    return found


def asset(name: str) -> bytes:
    return (ASSETS / "elf" / name).read_bytes()


def streamed(raw: bytes, chunk: int = 1000) -> Facts | None:
    """As from a tar: forward once, keeping only what is wanted."""
    head = raw[:HEAD]
    kept = Kept(wanted(head, len(raw)))
    for start in range(0, len(raw), chunk):
        kept.feed(raw[start : start + chunk])
    return read_facts(head, len(raw), kept)


def test_assets_are_what_the_script_makes() -> None:
    """No file was changed by hand, none is left over."""
    assert check() == []


@pytest.mark.parametrize(
    ("name", "platform", "interpreter", "needed", "versions"),
    [
        ("386", "linux/386", "/lib/ld-linux.so.2", "libc.so.6", ("GLIBC_2.0", "GLIBC_2.34")),
        ("amd64", "linux/amd64", "/lib64/ld-linux-x86-64.so.2", "libc.so.6", ("GLIBC_2.2.5",)),
        ("amd64-x32", "linux/amd64", "/libx32/ld-linux-x32.so.2", "libc.so.6", ("GLIBC_2.16",)),
        ("arm-v7-hard", "linux/arm/v7", "/lib/ld-linux-armhf.so.3", "libc.so.6", ("GLIBC_2.4", "GLIBC_2.34")),
        ("arm-v7-soft", "linux/arm/v7", "/lib/ld-linux.so.3", "libc.so.6", ("GLIBC_2.4", "GLIBC_2.34")),
        ("arm64", "linux/arm64", "/lib/ld-linux-aarch64.so.1", "libc.so.6", ("GLIBC_2.17",)),
        ("arm64-musl", "linux/arm64", "/lib/ld-musl-aarch64.so.1", "libc.so", ()),
        ("loong64", "linux/loong64", "/lib64/ld-linux-loongarch-lp64d.so.1", "libc.so.6", ("GLIBC_2.36",)),
        ("mips64-n32", "linux/mips64", "/lib32/ld.so.1", "libc.so.6", ("GLIBC_2.0", "GLIBC_2.34")),
        ("mips64le", "linux/mips64le", "/lib64/ld.so.1", "libc.so.6", ("GLIBC_2.0",)),
        ("mipsle", "linux/mipsle", "/lib/ld.so.1", "libc.so.6", ("GLIBC_2.0", "GLIBC_2.34")),
        ("ppc64le", "linux/ppc64le", "/lib64/ld64.so.2", "libc.so.6", ("GLIBC_2.17",)),
        ("riscv32", "linux/riscv32", "/lib/ld-linux-riscv32-ilp32d.so.1", "libc.so.6", ("GLIBC_2.33",)),
        ("riscv64", "linux/riscv64", "/lib/ld-linux-riscv64-lp64d.so.1", "libc.so.6", ("GLIBC_2.27",)),
        ("s390x", "linux/s390x", "/lib/ld64.so.1", "libc.so.6", ("GLIBC_2.2",)),
    ],
)
def test_programs_of_every_architecture(
    name: str, platform: str, interpreter: str, needed: str, versions: tuple[str, ...]
) -> None:
    """Platform, loader, library and its versions of a compiled hello-world."""
    found = facts_of(asset(name))
    assert (str(found.platform), found.interpreter, found.needed) == (platform, interpreter, (needed,))
    assert dict(found.version_needs).get(needed, ()) == versions
    assert (found.kind, found.type, found.linking) == ("elf", "exec", "dynamic")
    assert (found.problem, found.incomplete) == ("", ())


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("386", "elf_class", 32),
        ("amd64-library", "linking", "shared"),
        ("amd64-library", "soname", "libtwice.so.1"),
        ("amd64-object", "linking", "object"),
        ("amd64-object", "type", "rel"),
        ("amd64-rpath", "rpath", ("/opt/lib",)),
        ("amd64-rpath", "runpath", ()),
        ("amd64-runpath", "runpath", ("$ORIGIN/../lib", "/opt/lib")),
        ("amd64-static-pie", "linking", "static-pie"),
        ("amd64-v2", "x86_level", "v2"),
        ("amd64-v3", "linking", "static"),
        ("amd64-v3", "platforms", (Platform("linux", "amd64", "v3"),)),
        ("amd64-v4", "x86_level", "v4"),
        ("amd64-x32", "abi", "x32"),
        ("amd64", "kernel", "2.0.0"),
        ("amd64", "os_assumed", False),
        ("amd64-library", "os_assumed", True),
        ("arm-v5-soft", "float_abi", "soft"),
        ("arm-v5-soft", "platforms", (Platform("linux", "arm", "v5"),)),
        ("arm-v6-hard", "float_abi", "hard"),
        ("arm-v6-hard", "platforms", (Platform("linux", "arm", "v6"),)),
        ("arm-v7-hard", "flag_words", ("EABI5", "hard-float")),
        ("arm64", "page_align_min", 65536),
        ("arm64-bti", "aarch64_features", ("BTI", "PAC", "GCS")),
        ("bpf-object", "machine", "eBPF"),
        ("bpf-object", "platforms", ()),
        ("loong64", "abi", "lp64d"),
        ("mips64-n32", "abi", "n32"),
        ("mips64le", "flag_words", ("n64", "mips64r2")),
        ("mipsle", "float_abi", "hard"),
        ("ppc64le", "abi", "elfv2"),
        ("riscv64", "float_abi", "double"),
        ("s390x", "order", "big"),
        ("s390x-library", "soname", "libtwice.so.1"),
    ],
)
def test_what_else_the_file_says(name: str, field: str, value: object) -> None:
    """One field of one file."""
    assert getattr(facts_of(asset(name)), field) == value


def test_arm_attributes_name_the_processor() -> None:
    """What the linker merged from every object."""
    found = facts_of(asset("arm-v6-hard")).arm_attributes
    assert found is not None
    assert (found.architecture, found.cpu, found.hard_float) == ("v6", "arm1176jzf-s", True)
    assert found.floating_point == "VFPv2"


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_a_lie_is_a_finding(name: str) -> None:
    """Each broken file says what is wrong, and gives what could be read all the same."""
    _, expected = BROKEN[name]
    found = facts_of((ASSETS / name).read_bytes())
    assert found.kind == "elf"
    assert found.problem
    assert expected in found.problem


@pytest.mark.parametrize("name", sorted(BROKEN))
@pytest.mark.parametrize("head", [64, 700])
def test_lies_stay_findings_whatever_the_head_holds(name: str, head: int) -> None:
    """Where the head ends must not matter."""
    raw = (ASSETS / name).read_bytes()
    assert facts_of(raw, head) == facts_of(raw)


@pytest.mark.parametrize("name", COMPILED)
def test_cut_anywhere(name: str) -> None:
    """A file cut at any byte never raises; below its last segment it has a problem."""
    raw = (ASSETS / name).read_bytes()
    for size in range(4, len(raw), 37):
        found = facts_of(raw[:size])
        assert found.kind == "elf"
        if size < 64 and facts_of(raw).elf_class == 64:
            assert found.problem


def test_without_more_the_facts_say_what_was_not_seen() -> None:
    """Only the fixed header at hand: the platform is known, the rest is incomplete, nothing is a problem."""
    raw = asset("amd64")
    found = read_facts(raw[:64], len(raw))
    assert found is not None
    assert (str(found.platform), found.incomplete, found.problem) == ("linux/amd64", ("segments",), "")
    arm = asset("arm-v6-hard")
    found = read_facts(arm[:600], len(arm))
    assert found is not None
    assert "attributes" in found.incomplete
    assert str(found.platform) == "linux/arm/v6"


def large(name: str, padding: int) -> bytes:
    """A program whose dynamic part lies far behind: 64-bit little-endian, with the loaded end moved by ``padding``."""
    raw = bytearray(asset(name))
    start, count = struct.unpack_from("<Q", raw, 32)[0], struct.unpack_from("<H", raw, 56)[0]
    segments = [list(struct.unpack_from("<IIQQQQQQ", raw, start + 56 * i)) for i in range(count)]
    cut = min(s[2] for s in segments if s[0] == 2)
    for i, fields in enumerate(segments):
        if fields[2] >= cut:
            fields[2] += padding
        struct.pack_into("<IIQQQQQQ", raw, start + 56 * i, *fields)
    return bytes(raw[:cut] + bytes(padding) + raw[cut:])


@pytest.mark.parametrize("padding", [0, 64 << 10, 1 << 20])
def test_a_stream_needs_only_the_wanted_ranges(padding: int) -> None:
    """Read forward once, the facts are the same as with the whole file at hand."""
    raw = large("amd64", padding)
    assert facts_of(raw).needed == ("libc.so.6",)
    assert streamed(raw) == facts_of(raw)
    ranges = wanted(raw[:HEAD], len(raw))
    assert all(offset >= HEAD and offset + length <= len(raw) for offset, length in ranges)
    assert sum(length for _, length in ranges) < 200_000


@pytest.mark.parametrize("name", COMPILED)
def test_every_asset_streams(name: str) -> None:
    """A head of few bytes and small chunks."""
    raw = (ASSETS / name).read_bytes() + bytes(200_000)
    assert streamed(raw) == facts_of(raw)


def test_no_more_than_the_budget_is_read() -> None:
    """Hostile headers that send the reader all over the file: bounded, and never beyond its end."""
    raw = bytearray(asset("amd64"))
    start, count = struct.unpack_from("<Q", raw, 32)[0], struct.unpack_from("<H", raw, 56)[0]
    for i in range(count):
        struct.pack_into("<IIQQQQQQ", raw, start + 56 * i, 4, 4, 1 << 20, 0, 0, 60_000, 60_000, 4)
    asked: list[int] = []

    def more(offset: int, length: int) -> bytes:
        assert offset + length <= 1 << 30
        asked.append(length)
        return bytes(length)

    read_facts(bytes(raw), 1 << 30, more)
    assert sum(asked) <= BUDGET
    assert sum(length for _, length in wanted(bytes(raw), 1 << 30)) <= elf.KEEP


def test_answers_longer_than_asked_are_cut() -> None:
    """A reader that hands over too much changes nothing."""
    raw = asset("amd64")
    found = read_facts(raw[:700], len(raw), lambda offset, length: raw[offset : offset + length + 100])
    assert found == facts_of(raw)


@pytest.mark.parametrize(
    ("setting", "platform", "level", "float_abi"),
    [
        ("GOAMD64=v3", "linux/amd64/v3", "v3", ""),
        ("GOAMD64=v1", "linux/amd64", "baseline", ""),
        ("GOARM=6", "linux/arm/v6", "", "hard"),
        ("GOARM=7,softfloat", "linux/arm/v7", "", "soft"),
        ("GOARM=5", "linux/arm/v5", "", "soft"),
        ("GOARM64=v9.0", "linux/arm64/v9.0", "", ""),
        ("GOARM64=v8.0", "linux/arm64", "", ""),
        ("GOPPC64=power9", "linux/ppc64le/power9", "", ""),
        ("GORISCV64=rva22u64", "linux/riscv64/rva22u64", "", ""),
    ],
)
def test_go_says_its_level_in_its_settings(setting: str, platform: str, level: str, float_abi: str) -> None:
    """Go's programs have neither attributes nor ISA notes, but a list of settings."""
    machine, bits = {
        "amd64": (62, 64),
        "arm64": (183, 64),
        "arm": (40, 32),
        "ppc64le": (21, 64),
        "riscv64": (243, 64),
    }[platform.split("/")[1]]
    found = facts_of(go_program(machine, bits, f"build\t{setting}\nbuild\tCGO_ENABLED=0\nmod\texample.org\n"))
    assert (str(found.platform), found.x86_level, found.go) == (platform, level, "go1.26.1")
    assert float_abi in ("", found.float_abi)
    assert found.is_go
    assert found.go_settings == ((*setting.split("=", 1),), ("CGO_ENABLED", "0"))
    assert found.problem == ""


def go_program(machine: int, bits: int, settings: str) -> bytes:
    """Header, a note of Go and a data segment that starts with the build information, as Go's linker lays it out."""
    note = struct.pack("<III", 4, 4, 4) + b"Go\0\0abcd"
    module = b"0" * 16 + settings.encode() + b"1" * 16
    version = b"go1.26.1"
    assert len(module) < 128
    info = b"\xff Go buildinf:\x08\x02".ljust(32, b"\0") + bytes([len(version)]) + version
    info += bytes([len(module)]) + module + bytes(64)
    if bits == 64:
        ident, header, size = b"\x7fELF\x02\x01\x01".ljust(16, b"\0"), "<HHIQQQIHHHHHH", 56
    else:
        ident, header, size = b"\x7fELF\x01\x01\x01".ljust(16, b"\0"), "<HHIIIIIHHHHHH", 32
    length = 16 + struct.calcsize(header)
    at = length + 2 * size
    flags = 0x05000002 if machine == 40 else 0
    raw = ident + struct.pack(header, 2, machine, 1, 0, length, 0, flags, length, size, 2, 0, 0, 0)
    for kind, access, offset, count, align in (
        (4, 4, at, len(note), 4),
        (1, 6, at + len(note), len(info), 1),
    ):
        if bits == 64:
            raw += struct.pack("<IIQQQQQQ", kind, access, offset, offset, offset, count, count, align)
        else:
            raw += struct.pack("<IIIIIIII", kind, offset, offset, offset, count, count, access, align)
    return raw + note + info


def test_go_without_a_note_is_found_by_its_section() -> None:
    """Built with ``-buildid=``, or position independent: Go's linker puts the table of sections into the head."""
    raw = bytearray(go_program(62, 64, "build\tGOAMD64=v2\n"))
    (data,) = struct.unpack_from("<Q", raw, 64 + 56 + 8)
    struct.pack_into("<I", raw, 64, 0x6474E551)  # the note's segment becomes one about the stack
    sections = struct.pack("<IIQQQQIIQQ", 0, 1, 3, 0, data, len(raw) - data, 0, 0, 16, 0)
    raw += b"\0" * (-len(raw) % 8)
    struct.pack_into("<Q", raw, 40, len(raw))
    struct.pack_into("<HH", raw, 58, 64, 1)
    found = facts_of(bytes(raw + sections))
    assert (str(found.platform), found.go) == ("linux/amd64/v2", "go1.26.1")
    assert streamed(bytes(raw + sections) + bytes(300_000)) == facts_of(
        bytes(raw + sections) + bytes(300_000)
    )


def test_go_behind_what_becomes_read_only() -> None:
    """A C linker puts relocated constants first, megabytes of them."""
    plain = go_program(62, 64, "build\tGOAMD64=v3\n")
    (data,) = struct.unpack_from("<Q", plain, 64 + 56 + 8)
    constants = 1 << 20
    raw = bytearray(plain[:data] + bytes(constants) + plain[data:])
    size = len(raw) - data
    struct.pack_into("<QQ", raw, 64 + 56 + 32, size, size)
    # The note moves to the end of the table: three program headers, the third for what becomes read-only.
    relro = struct.pack("<IIQQQQQQ", 0x6474E552, 4, data, data, data, constants, constants, 1)
    raw[64 + 112 : 64 + 112] = relro
    struct.pack_into("<H", raw, 56, 3)
    for at in (64, 64 + 56, 64 + 112):
        fields = list(struct.unpack_from("<IIQQQQQQ", raw, at))
        fields[2:5] = [fields[2] + 56] * 3
        struct.pack_into("<IIQQQQQQ", raw, at, *fields)
    found = facts_of(bytes(raw))
    assert (found.problem, found.x86_level, found.go) == ("", "v3", "go1.26.1")
    assert streamed(bytes(raw)) == found
    head_only = read_facts(bytes(raw[:HEAD]), len(raw))
    assert head_only is not None
    assert (head_only.go, head_only.incomplete) == ("go", ("go",))


def test_separated_debug_information_is_told_apart() -> None:
    """``objcopy --only-keep-debug`` keeps the program's headers without their content: no lie."""
    raw = bytearray(asset("amd64"))
    start, count = struct.unpack_from("<Q", raw, 32)[0], struct.unpack_from("<H", raw, 56)[0]
    for i in range(count):
        struct.pack_into("<Q", raw, start + 56 * i + 32, 0)
    found = facts_of(bytes(raw))
    assert (found.linking, found.problem, found.needed) == ("debug", "", ())


def test_only_the_platform_is_fast_and_the_same() -> None:
    """The short way agrees with the long one where the header says everything."""
    for name in ("386", "amd64", "arm64", "ppc64le", "s390x", "riscv64", "mips64le", "loong64"):
        assert elf.platform_of(asset(name)) == facts_of(asset(name)).platform
    assert elf.platform_of(asset("bpf-object")) is None
    assert elf.platform_of(b"\x7fELF") is None


# --- the oracle -------------------------------------------------------------------------------------------------


def oracle(path: Path) -> dict[str, Any]:
    """What pyelftools reads from the same file."""
    with path.open("rb") as stream:
        parsed = ELFFile(stream)
        interpreter = ""
        names: dict[str, list[str]] = {"needed": [], "soname": [], "runpath": []}
        for segment in parsed.iter_segments():
            if isinstance(segment, InterpSegment):
                interpreter = segment.get_interp_name()
            elif isinstance(segment, DynamicSegment):
                for tag in segment.iter_tags():
                    kind = str(tag.entry.d_tag).removeprefix("DT_").lower()
                    if kind in names:
                        names[kind].append(getattr(tag, kind))
        versions = {
            need.name: tuple(part.name for part in parts if not part["vna_flags"] & 2)
            for section in parsed.iter_sections()
            if isinstance(section, GNUVerNeedSection)
            for need, parts in section.iter_versions()
        }
        loads = [segment["p_align"] for segment in parsed.iter_segments("PT_LOAD")]
        return {
            "elf_class": parsed.elfclass,
            "order": "little" if parsed.little_endian else "big",
            "flags": parsed["e_flags"],
            "interpreter": interpreter,
            "needed": tuple(names["needed"]),
            "soname": "".join(names["soname"]),
            "runpath": tuple(part for path in names["runpath"] for part in path.split(":")),
            "version_needs": versions,
            "page_align_max": max(loads, default=0),
        }


def compare(path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as stream:
        found = read_facts(
            stream.read(HEAD), size, lambda offset, length: os.pread(stream.fileno(), length, offset)
        )
    assert found is not None
    expected = oracle(path)
    shown = {name: getattr(found, name) for name in expected}
    shown["version_needs"] = dict(found.version_needs)
    assert shown == expected, path
    assert found.problem == "", path
    assert found.incomplete == (), path


@pytest.mark.parametrize("name", COMPILED)
def test_the_oracle_agrees_on_the_assets(name: str) -> None:
    """pyelftools, an independent reader, sees the same."""
    compare(ASSETS / name)


def own_programs(count: int) -> list[Path]:
    """Some of this machine's programs and libraries, spread over the folders; none where ELF is not used."""
    found: list[Path] = []
    for folder in ("/usr/bin", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib"):
        if not Path(folder).is_dir():
            continue
        names = sorted(Path(folder).iterdir())
        step = max(len(names) // 400, 1)
        for path in names[::step]:
            if path.is_file() and not path.is_symlink() and 4096 < path.stat().st_size < 4 << 20:
                with path.open("rb") as stream:
                    if stream.read(4) == elf.MAGIC:
                        found.append(path)
    return found[:: max(len(found) // count, 1)]


@pytest.mark.slow
def test_the_oracle_agrees_on_this_machine() -> None:
    """About sixty of the programs and libraries that are installed here."""
    programs = own_programs(60)
    assert programs
    for path in programs:
        compare(path)


def test_facts_survive_json() -> None:
    """What a cache keeps is what was read."""
    for name in COMPILED:
        found = facts_of((ASSETS / name).read_bytes())
        assert Facts.from_json(found.to_json()) == found
        assert hash(Facts.from_json(found.to_json())) == hash(found)


def test_unknown_fields_are_refused() -> None:
    """A misspelt field is a mistake of the program, not a fact."""
    make: Callable[..., Facts] = Facts
    with pytest.raises(TypeError, match="no field colour"):
        make("elf", colour="red")
