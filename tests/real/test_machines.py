# SPDX-License-Identifier: Apache-2.0
"""The table of machines against real binaries: each row is shown by a file that tools made, or said not to be.

``arch-test`` brings a small program for each architecture that Debian ever had; other rows are shown by what compilers
and assemblers write for them, and by libraries of Debian's cross compilers.
"""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.real import debian
from tests.real.parts import need

from manyfest.verify.facts import Facts
from manyfest.verify.kinds import read_facts
from manyfest.verify.machines import FOREIGN, TABLE

pytestmark = pytest.mark.real

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "elf.md"
Key = tuple[int, int, str]

# Each name of arch-test's programs, and the row that it shows.
ARCH_TEST: dict[str, Key] = {
    "amd64": (62, 64, "little"),
    "x32": (62, 32, "little"),
    "i386": (3, 32, "little"),
    "arm64": (183, 64, "little"),
    "arm64ilp32": (183, 32, "little"),
    "armhf": (40, 32, "little"),
    "ppc64el": (21, 64, "little"),
    "ppc64": (21, 64, "big"),
    "powerpc": (20, 32, "big"),
    "s390x": (22, 64, "big"),
    "riscv64": (243, 64, "little"),
    "mips": (8, 32, "big"),
    "mipsel": (8, 32, "little"),
    "mips64": (8, 64, "big"),
    "mips64el": (8, 64, "little"),
    "sparc64": (43, 64, "big"),
    "sparc": (2, 32, "big"),
    "alpha": (0x9026, 64, "little"),
    "hppa": (15, 32, "big"),
    "m68k": (4, 32, "big"),
    "sh4": (42, 32, "little"),
    "ia64": (50, 64, "little"),
    "arc": (195, 32, "little"),
}
# More of its programs, for rows that others show too: (machine's architecture, ABI).
VARIANTS = {
    "mipsn32": ("mips64", "n32"),
    "mipsn32el": ("mips64le", "n32"),
    "armel": ("arm", "eabi5"),
    "arm": ("arm", "eabi5"),
    "powerpcspe": ("ppc", ""),
    "kfreebsd-amd64": ("amd64", ""),
    "kfreebsd-i386": ("386", ""),
}
ZIG: dict[str, Key] = {
    "aarch64_be-linux-gnu": (183, 64, "big"),
    "armeb-linux-gnueabi": (40, 32, "big"),
    "powerpcle-freestanding": (20, 32, "little"),
    "riscv32-linux-gnu": (243, 32, "little"),
    "loongarch64-linux-gnu": (258, 64, "little"),
    "loongarch32-freestanding": (258, 32, "little"),
    "hexagon-linux-musl": (164, 32, "little"),
}
ZIG_FOREIGN = {
    "avr-freestanding": 83,
    "msp430-freestanding": 105,
    "lanai-freestanding": 244,
    "bpfel-freestanding": 247,
    "ve-freestanding": 251,
}
# Assemblers by their Debian package: program, options.
ASSEMBLERS: dict[str, tuple[str, tuple[str, ...], Key]] = {
    "binutils-hppa64-linux-gnu": ("hppa64-linux-gnu-as", (), (15, 64, "big")),
    "binutils-or1k-elf": ("or1k-elf-as", (), (92, 32, "big")),
    "binutils-sh-elf": ("sh-elf-as", ("-big",), (42, 32, "big")),
    "binutils-xtensa-lx106": ("xtensa-lx106-elf-as", (), (94, 32, "little")),
    "binutils-arc-linux-gnu": ("arc-linux-gnu-as", ("-mcpu=arc700",), (93, 32, "little")),
    "binutils-aarch64-linux-gnu": ("aarch64-linux-gnu-as", ("-mabi=ilp32", "-EB"), (183, 32, "big")),
}
LIBRARIES: dict[str, Key] = {
    "libc6-s390-s390x-cross": (22, 32, "big"),
    "libc6-sparc-sparc64-cross": (18, 32, "big"),
}
# No tool at hand writes these: numbers from before the official ones, and machines that Debian never had.
NOT_SHOWN: set[Key] = {
    (6, 32, "little"),
    (0xA390, 64, "big"),
    (0xA390, 32, "big"),
    (10, 32, "little"),
    (41, 64, "little"),
    (94, 32, "big"),
    (189, 32, "big"),
    (189, 32, "little"),
    (113, 32, "little"),
    (252, 32, "little"),
}
SHOWN_BY: dict[Key, str] = {
    **{key: f"arch-test: {name}" for name, key in ARCH_TEST.items()},
    **{key: f"zig: {target.partition('-')[0]}" for target, key in ZIG.items()},
    **{key: package for package, (_, _, key) in ASSEMBLERS.items()},
    **{key: package for package, key in LIBRARIES.items()},
    **dict.fromkeys(NOT_SHOWN, ""),
}


def facts_of(path: Path) -> Facts:
    """What the whole file says."""
    data = path.read_bytes()
    found = read_facts(data[:4096], len(data), lambda offset, length: data[offset : offset + length])
    assert found is not None
    assert found.problem == ""
    return found


def shows(found: Facts, key: Key) -> None:
    """The file's header is the row, and the platform that was told is the row's."""
    assert (found.machine_code, found.elf_class, found.order) == key
    assert found.platform is not None
    _, architecture, abi = TABLE[key]
    assert found.platform.architecture == architecture
    assert not abi or found.abi == abi


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Facts]:
    """An object that zig's compiler makes for a target."""
    folder = tmp_path_factory.mktemp("zig")
    (folder / "a.c").write_text("int twice(int n) { return 2 * n; }\n")

    def make(target: str) -> Facts:
        command = [sys.executable, "-m", "ziglang", "cc", "-target", target, "-c", "-o", "a.o", "a.c"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=100)
        return facts_of(folder / "a.o")

    return make


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Assemblers and libraries for other machines, not installed."""
    if platform.machine() != "x86_64":
        pytest.skip("needs an x86-64 machine, whose assemblers these are")
    folder = tmp_path_factory.mktemp("binutils")
    for package in debian.fetched("amd64", {*ASSEMBLERS, *LIBRARIES}, "debian-12-machines").values():
        subprocess.run(["dpkg-deb", "-x", str(package), str(folder)], check=True)
    return folder


def arch_test(name: str) -> Path:
    """A program of Debian's arch-test."""
    need("arch-test")
    return Path("/usr/lib/arch-test") / name


@pytest.mark.parametrize("name", list(ARCH_TEST))
def test_programs_of_arch_test(name: str) -> None:
    """Named by Debian, told by us."""
    shows(facts_of(arch_test(name)), ARCH_TEST[name])


@pytest.mark.parametrize("name", list(VARIANTS))
def test_flags_refine_a_row(name: str) -> None:
    """The same machine with another ABI or system."""
    found = facts_of(arch_test(name))
    assert found.platform is not None
    assert (found.platform.architecture, found.abi) == VARIANTS[name]
    assert found.platform.os == ("freebsd" if name.startswith("kfreebsd") else "linux")


@pytest.mark.parametrize("target", list(ZIG))
def test_objects_of_a_compiler(compiled: Callable[[str], Facts], target: str) -> None:
    """For what Debian never had, or has not in this release."""
    shows(compiled(target), ZIG[target])


@pytest.mark.parametrize("target", list(ZIG_FOREIGN))
def test_code_that_no_host_runs(compiled: Callable[[str], Facts], target: str) -> None:
    """Of microcontrollers and accelerators: it has a name and no platform."""
    found = compiled(target)
    assert (found.machine_code, found.platforms) == (ZIG_FOREIGN[target], ())
    assert found.machine == FOREIGN[found.machine_code]


@pytest.mark.parametrize("package", list(ASSEMBLERS))
def test_objects_of_an_assembler(unpacked: Path, tmp_path: Path, package: str) -> None:
    """Of GNU's binutils for that machine."""
    program, options, key = ASSEMBLERS[package]
    (tmp_path / "a.s").write_text("")
    command = [str(unpacked / "usr/bin" / program), *options, "a.s", "-o", "a.o"]
    libraries = {"LD_LIBRARY_PATH": str(unpacked / "usr/lib/x86_64-linux-gnu")}
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, env=libraries)
    shows(facts_of(tmp_path / "a.o"), key)


@pytest.mark.parametrize("package", list(LIBRARIES))
def test_libraries_of_cross_compilers(unpacked: Path, package: str) -> None:
    """The C library of the processor's older mode."""
    folder = {"libc6-s390-s390x-cross": "s390x-linux-gnu", "libc6-sparc-sparc64-cross": "sparc64-linux-gnu"}
    shows(facts_of(unpacked / "usr" / folder[package] / "lib32/libc.so.6"), LIBRARIES[package])


def test_every_row_is_shown_or_said_not_to_be() -> None:
    """And the reference page says by what."""
    assert SHOWN_BY.keys() == TABLE.keys()
    row = r"^\| `?(0x[0-9a-f]+|\d+)`? \| (\d\d) \| (little|big) \|(?:[^|]*\|){3} ([^|]*?) ?\|$"
    found = re.findall(row, PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert {(int(machine, 0), int(bits), order): by for machine, bits, order, by in found} == SHOWN_BY
