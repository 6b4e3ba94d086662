# SPDX-License-Identifier: Apache-2.0
"""The tiny programs, judged by their bytes; tests/real/test_programs_qemu.py runs them."""

from __future__ import annotations

import hashlib
import json
import os
import platform as host
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from manyfest.emulate.programs import MAX_TEXT, PLATFORMS, program
from manyfest.errors import InputError
from manyfest.platforms import Platform

ROOT = Path(__file__).resolve().parents[2]

# platform: class (1: 32 bits), data (1: little endian), e_machine, e_flags; from the processor supplements.
HEADERS = {
    "linux/amd64": (2, 1, 0x3E, 0),
    "linux/386": (1, 1, 0x03, 0),
    "linux/arm64": (2, 1, 0xB7, 0),
    "linux/arm/v7": (1, 1, 0x28, 0x05000400),
    "linux/arm/v6": (1, 1, 0x28, 0x05000400),
    "linux/arm/v5": (1, 1, 0x28, 0x05000200),
    "linux/ppc64le": (2, 1, 0x15, 2),
    "linux/ppc64": (2, 2, 0x15, 2),
    "linux/s390x": (2, 2, 0x16, 0),
    "linux/riscv64": (2, 1, 0xF3, 4),
    "linux/loong64": (2, 1, 0x102, 0x43),
    "linux/mips64le": (2, 1, 0x08, 0x20000000),
    "linux/mips64": (2, 2, 0x08, 0x20000000),
}


def test_every_listed_platform_has_an_expected_header() -> None:
    """The two tables cannot drift apart."""
    assert [str(p) for p in PLATFORMS] == list(HEADERS)


@pytest.mark.parametrize("name", HEADERS)
def test_header(name: str) -> None:
    """Class, data, machine and flags are those of the platform, and it is a fixed-address executable."""
    data = program(Platform.parse(name))
    bits, order, machine, flags = HEADERS[name]
    mark = "<" if order == 1 else ">"
    assert data[:7] == b"\x7fELF" + bytes((bits, order, 1))
    assert struct.unpack_from(f"{mark}HHI", data, 16) == (2, machine, 1)
    (found,) = struct.unpack_from(f"{mark}I", data, 48 if bits == 2 else 36)
    assert found == flags


def _segments(data: bytes) -> list[tuple[int, int, int, int, int, int]]:
    """(type, flags, offset, address, file size, alignment) of each program header."""
    mark = "<" if data[5] == 1 else ">"
    if data[4] == 2:
        rows = [struct.unpack_from(f"{mark}IIQQQQQQ", data, 64 + 56 * i) for i in range(2)]
        return [(r[0], r[1], r[2], r[3], r[5], r[7]) for r in rows]
    rows = [struct.unpack_from(f"{mark}IIIIIIII", data, 52 + 32 * i) for i in range(2)]
    return [(r[0], r[6], r[1], r[2], r[4], r[7]) for r in rows]


@pytest.mark.parametrize("platform", PLATFORMS, ids=str)
def test_one_segment_that_loads_under_every_page_size(platform: Platform) -> None:
    """Read and execute only, aligned to 64 KiB, the text its last bytes; the stack is not executable."""
    data = program(platform)
    (kind, access, offset, address, size, align), stack = _segments(data)
    assert (kind, access, offset, align) == (1, 5, 0, 0x10000)
    assert address % align == offset % align
    assert data[:size].endswith(f"{platform}\n".encode())
    assert stack[:2] == (0x6474E551, 6)


@pytest.mark.parametrize(("variant", "arch_tag"), [("v5", 4), ("v6", 6), ("v7", 10)])
def test_arm_attributes_name_the_architecture_version(variant: str, arch_tag: int) -> None:
    """Tag_CPU_arch stands first in the file attributes of the section called .ARM.attributes."""
    data = program(Platform.parse(f"linux/arm/{variant}"))
    (table,) = struct.unpack_from("<I", data, 32)
    size, count, names = struct.unpack_from("<HHH", data, 46)
    assert (size, count, names, len(data)) == (40, 3, 2, table + 120)
    name, kind, _, _, offset, length = struct.unpack_from("<6I", data, table + 40)
    (strings,) = struct.unpack_from("<I", data, table + 80 + 16)
    assert data[strings + name :].startswith(b".ARM.attributes\0")
    assert kind == 0x70000003
    attributes = data[offset : offset + length]
    assert attributes.startswith(b"A" + struct.pack("<I", length - 1) + b"aeabi\0\x01")
    assert attributes[16:18] == bytes((6, arch_tag))


def test_arm_variants_differ_in_code() -> None:
    """With the same text, v7 has movw and movt, v6 has uxtb, and v5 has neither."""
    v5, v6, v7 = (program(Platform.parse(f"linux/arm/{v}"), "same") for v in ("v5", "v6", "v7"))
    uxtb = struct.pack("<I", 0xE6EF2072)
    movt = struct.pack("<I", 0xE3401040)
    assert (uxtb in v5, uxtb in v6, uxtb in v7) == (False, True, False)
    assert (movt in v5, movt in v6, movt in v7) == (False, False, True)


@pytest.mark.parametrize(
    ("spelling", "same"), [("linux/arm", "linux/arm/v7"), ("linux/arm64/v8", "linux/arm64")]
)
def test_spellings_of_one_platform_share_the_code(spelling: str, same: str) -> None:
    """Only the default text follows the spelling that was asked for."""
    assert program(Platform.parse(spelling), "x") == program(Platform.parse(same), "x")


@pytest.mark.parametrize("name", ["windows/amd64", "linux/sparc64", "linux/arm/v4", "darwin/arm64"])
def test_other_platforms_are_refused_with_the_list(name: str) -> None:
    """The message names the platform, the hint what there is."""
    with pytest.raises(InputError, match=name) as caught:
        program(Platform.parse(name))
    assert "linux/riscv64" in caught.value.hint


@pytest.mark.parametrize("code", [-1, 256])
def test_exit_codes_outside_a_byte_are_refused(code: int) -> None:
    """The kernel would cut them silently."""
    with pytest.raises(InputError, match="0 to 255"):
        program(PLATFORMS[0], exit_code=code)


@pytest.mark.parametrize("platform", PLATFORMS, ids=str)
def test_longest_text_fits_and_one_more_byte_does_not(platform: Platform) -> None:
    """The limit counts bytes of UTF-8."""
    assert b"\xc3\xa9" in program(platform, "é" * (MAX_TEXT // 2))
    with pytest.raises(InputError, match="256 bytes"):
        program(platform, "é" * 128)


def test_bytes_are_those_of_the_golden_table() -> None:
    """`tools/make_programs.py --update` rewrites it after a deliberate change."""
    golden = json.loads((ROOT / "tests/golden/programs.json").read_text(encoding="utf-8"))
    assert {str(p): hashlib.sha256(program(p)).hexdigest() for p in PLATFORMS} == golden


def test_tool_writes_executables_and_checks(tmp_path: Path) -> None:
    """Run as a person runs it, from a checkout without installing."""
    tool = [sys.executable, str(ROOT / "tools/make_programs.py")]
    subprocess.run([*tool, "--out", str(tmp_path)], check=True, capture_output=True)
    written = tmp_path / "linux-arm-v7"
    assert os.access(written, os.X_OK)
    assert written.read_bytes() == program(Platform.parse("linux/arm/v7"))
    assert subprocess.run([*tool, "--check"], check=False, capture_output=True).returncode == 0


@pytest.mark.skipif(
    (sys.platform, host.machine()) != ("linux", "x86_64"), reason="runs an amd64 program on its own processor"
)
def test_native_program_prints_and_exits(tmp_path: Path) -> None:
    """The text on standard output, byte for byte, and the exit code."""
    path = tmp_path / "program"
    path.write_bytes(program(Platform.parse("linux/amd64"), "hello, wörld\n", 7))
    path.chmod(0o755)
    done = subprocess.run([str(path)], check=False, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (7, "hello, wörld\n".encode(), b"")
