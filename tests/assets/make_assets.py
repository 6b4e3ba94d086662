# SPDX-License-Identifier: Apache-2.0
"""Make the small programs in ``tests/assets``: real compilers' output, and copies broken on purpose.

    python tests/assets/make_assets.py            # writes what is broken anew from what is compiled
    python tests/assets/make_assets.py --compile  # compiles anew first: needs ziglang (PyPI) and GNU ld on x86-64
    python tests/assets/make_assets.py --check    # changes nothing; exit 1 when a file is not what it should be

Compiled files are compared by the digests in ``SUMS``: another release of a compiler makes other bytes.
"""

from __future__ import annotations

import hashlib
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
SUMS = HERE / "SUMS"
LARGEST = 4096

PROGRAM = 'int puts(const char *);\nint main(void) { return puts("hello") < 0; }\n'
LIBRARY = "int twice(int n) { return 2 * n; }\n"
BARE = "void _start(void) { for (;;) ; }\n"

_LIBRARY_FLAGS = ("-shared", "-Wl,-soname,libtwice.so.1")
_BARE_FLAGS = ("-nostdlib", "-Wl,-z,noseparate-code", "-Wl,--build-id=none")

# file: (source, zig's target, flags). Made with ziglang 0.17.1.
ZIG: dict[str, tuple[str, str, tuple[str, ...]]] = {
    **{
        f"elf/{name}": (PROGRAM, target, ())
        for name, target in (
            ("amd64", "x86_64-linux-gnu"),
            ("amd64-x32", "x86_64-linux-gnux32"),
            ("386", "x86-linux-gnu"),
            ("arm64", "aarch64-linux-gnu"),
            ("arm-v7-hard", "arm-linux-gnueabihf"),
            ("arm-v7-soft", "arm-linux-gnueabi"),
            ("ppc64le", "powerpc64le-linux-gnu"),
            ("s390x", "s390x-linux-gnu"),
            ("riscv64", "riscv64-linux-gnu"),
            ("riscv32", "riscv32-linux-gnu"),
            ("loong64", "loongarch64-linux-gnu"),
            ("mips64le", "mips64el-linux-gnuabi64"),
            ("mips64-n32", "mips64-linux-gnuabin32"),
            ("mipsle", "mipsel-linux-gnueabihf"),
        )
    },
    "elf/arm64-musl": (PROGRAM, "aarch64-linux-musl", ("-dynamic",)),
    "elf/arm-v6-hard": (LIBRARY, "arm-linux-gnueabihf", ("-mcpu=arm1176jzf_s", *_LIBRARY_FLAGS)),
    "elf/arm-v5-soft": (LIBRARY, "arm-linux-gnueabi", ("-mcpu=arm926ej_s", *_LIBRARY_FLAGS)),
    "elf/arm64-bti": (
        LIBRARY,
        "aarch64-linux-gnu",
        ("-mbranch-protection=standard", "-nostdlib", *_LIBRARY_FLAGS),
    ),
    "elf/amd64-library": (LIBRARY, "x86_64-linux-gnu", _LIBRARY_FLAGS),
    "elf/s390x-library": (LIBRARY, "s390x-linux-gnu", _LIBRARY_FLAGS),
    "elf/amd64-object": (LIBRARY, "x86_64-linux-gnu", ("-c",)),
    "elf/bpf-object": (LIBRARY, "bpfel-freestanding", ("-c",)),
    "pe/amd64.exe": (PROGRAM, "x86_64-windows-gnu", ()),
    "pe/arm64.dll": (LIBRARY, "aarch64-windows-gnu", ("-shared",)),
    "macho/arm64": (PROGRAM, "aarch64-macos", ()),
    "macho/amd64.dylib": (LIBRARY, "x86_64-macos", ("-shared",)),
}

# file: (source, flags of GCC, whose GNU ld writes the notes that lld does not). Made with GCC 12.2, binutils 2.40.
GCC: dict[str, tuple[str, tuple[str, ...]]] = {
    **{
        f"elf/amd64-{level}": (BARE, ("-static", *_BARE_FLAGS, f"-Wl,-z,x86-64-{level}"))
        for level in ("v2", "v3", "v4")
    },
    "elf/amd64-static-pie": (BARE, ("-static-pie", "-fPIE", *_BARE_FLAGS, "-Wl,-z,norelro")),
    "elf/amd64-runpath": (
        LIBRARY,
        (
            "-shared",
            "-fPIC",
            *_BARE_FLAGS,
            "-Wl,-z,norelro",
            "-Wl,-rpath,$ORIGIN/../lib:/opt/lib",
            "-Wl,--enable-new-dtags",
            "-Wl,-soname,libtwice.so.2",
        ),
    ),
    "elf/amd64-rpath": (
        LIBRARY,
        (
            "-shared",
            "-fPIC",
            *_BARE_FLAGS,
            "-Wl,-z,norelro",
            "-Wl,-rpath,/opt/lib",
            "-Wl,--disable-new-dtags",
        ),
    ),
}


def patched(source: str, *changes: tuple[int, str, int]) -> bytes:
    """The compiled file with numbers overwritten: ``(offset, struct format, value)``."""
    raw = bytearray((HERE / source).read_bytes())
    for offset, layout, value in changes:
        struct.pack_into(layout, raw, offset, value)
    return bytes(raw)


def segment(source: str, kind: int) -> tuple[int, int]:
    """Where the first program header of that type is, and the file offset that it holds (64-bit, little-endian)."""
    raw = (HERE / source).read_bytes()
    start, count = struct.unpack_from("<Q", raw, 32)[0], struct.unpack_from("<H", raw, 56)[0]
    for i in range(count):
        at = start + 56 * i
        if struct.unpack_from("<I", raw, at)[0] == kind:
            return at, struct.unpack_from("<Q", raw, at + 8)[0]
    raise ValueError(f"{source} has no segment of type {kind}")


def tag(source: str, wanted: int) -> int:
    """Where the value of the dynamic tag is (64-bit, little-endian)."""
    raw = (HERE / source).read_bytes()
    at = segment(source, 2)[1]
    while (found := struct.unpack_from("<Q", raw, at)[0]) != wanted:
        if found == 0:
            raise ValueError(f"{source} has no dynamic tag {wanted:#x}")
        at += 16
    return at + 8


def needs(source: str) -> int:
    """Where the symbol versions that are needed start; lld puts them at the same offset as in memory."""
    raw = (HERE / source).read_bytes()
    address = struct.unpack_from("<Q", raw, tag(source, 0x6FFFFFFE))[0]
    base = struct.unpack_from("<Q", raw, segment(source, 1)[0] + 16)[0]
    return int(address - base)


def attributes(source: str) -> int:
    """Where the ARM attributes start: the section of type 0x70000003."""
    raw = (HERE / source).read_bytes()
    start, count = struct.unpack_from("<I", raw, 32)[0], struct.unpack_from("<H", raw, 48)[0]
    for at in range(start, start + 40 * count, 40):
        if struct.unpack_from("<I", raw, at + 4)[0] == 0x70000003:
            return int(struct.unpack_from("<I", raw, at + 16)[0])
    raise ValueError(f"{source} has no ARM attributes")


_A = "elf/amd64"

# file: how it is made, and a part of what must be said about it.
BROKEN: dict[str, tuple[Callable[[], bytes], str]] = {
    "elf/broken-class": (lambda: patched(_A, (4, "B", 3)), "class 3"),
    "elf/broken-order": (lambda: patched(_A, (5, "B", 0)), "byte order 0"),
    "elf/broken-version": (lambda: patched(_A, (6, "B", 9)), "version 9"),
    "elf/broken-order-of-machine": (
        lambda: patched("elf/s390x", (5, "B", 1), (18, "<H", 22)),
        "no such machine",
    ),
    "elf/cut-identification": (lambda: patched(_A)[:10], "the file at 10"),
    "elf/cut-header": (lambda: patched(_A)[:40], "the header would end at byte 64"),
    "elf/cut-program-headers": (lambda: patched(_A)[:100], "the program headers would end"),
    "elf/cut-content": (lambda: patched(_A)[:1500], "a segment would end"),
    "elf/lie-size-of-program-header": (lambda: patched(_A, (54, "<H", 32)), "32 bytes a program header"),
    "elf/lie-number-of-program-headers": (lambda: patched(_A, (56, "<H", 0xFFFF)), "65535 program headers"),
    "elf/lie-program-headers-far": (lambda: patched(_A, (32, "<Q", 2**63)), "the program headers would end"),
    "elf/lie-loader-long": (
        lambda: patched(_A, (segment(_A, 3)[0] + 32, "<Q", 2**40)),
        "the loader's name has",
    ),
    "elf/lie-loader-endless": (
        lambda: patched(_A, (segment(_A, 3)[0] + 32, "<Q", 5)),
        "does not end with one NUL",
    ),
    "elf/lie-dynamic-far": (
        lambda: patched(_A, (segment(_A, 2)[0] + 8, "<Q", 2**32)),
        "the dynamic section would end",
    ),
    "elf/lie-dynamic-large": (
        lambda: patched(_A, (segment(_A, 2)[0] + 32, "<Q", 2**32)),
        "the dynamic section has",
    ),
    "elf/lie-names-unmapped": (lambda: patched(_A, (tag(_A, 5), "<Q", 0x7FFF0000)), "which no segment loads"),
    "elf/lie-names-large": (lambda: patched(_A, (tag(_A, 10), "<Q", 2**40)), "the dynamic names would end"),
    "elf/lie-name-outside": (lambda: patched(_A, (tag(_A, 1), "<Q", 2**31)), "a name at byte"),
    "elf/lie-memory-size": (lambda: patched(_A, (segment(_A, 1)[0] + 40, "<Q", 1)), "1 bytes in memory"),
    "elf/lie-alignment": (lambda: patched(_A, (segment(_A, 1)[0] + 48, "<Q", 3)), "not aligned to 3"),
    "elf/lie-versions-number": (
        lambda: patched(_A, (tag(_A, 0x6FFFFFFF), "<Q", 2**33)),
        "entries of symbol versions",
    ),
    "elf/lie-versions-loop": (
        lambda: patched(_A, (needs(_A) + 12, "<I", 1), (tag(_A, 0x6FFFFFFF), "<Q", 4000)),
        "",
    ),
    "elf/lie-notes-long": (
        lambda: patched("elf/amd64-v3", (segment("elf/amd64-v3", 4)[1] + 4, "<I", 2**31)),
        "a note would end",
    ),
    "elf/lie-attributes": (
        lambda: patched("elf/arm-v6-hard", (attributes("elf/arm-v6-hard") + 1, "<I", 2**31)),
        "the ARM attributes break off",
    ),
    "elf/lie-sections": (
        lambda: patched("elf/arm-v6-hard", (32, "<I", 2**31)),
        "the section headers would end",
    ),
}


def compile_all() -> None:
    """Run both compilers. Their output is cut to :data:`LARGEST` bytes where only headers matter (not ELF)."""
    for name, (source, target, flags) in ZIG.items():
        _compile(name, [sys.executable, "-m", "ziglang", "cc", "-target", target], source, flags)
    for name, (source, gcc_flags) in GCC.items():
        _compile(name, ["gcc"], source, gcc_flags)
    lines = [
        f"{hashlib.sha256((HERE / name).read_bytes()).hexdigest()}  {name}\n" for name in sorted([*ZIG, *GCC])
    ]
    SUMS.write_text("".join(lines), encoding="utf-8")


def _compile(name: str, compiler: list[str], source: str, flags: tuple[str, ...]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "source.c").write_text(source, encoding="utf-8")
        strip = () if "-c" in flags else ("-s",)
        subprocess.run([*compiler, "-Os", *strip, *flags, "source.c", "-o", "made"], cwd=folder, check=True)
        made = Path(folder, "made").read_bytes()
    if name.startswith("elf/") and len(made) > LARGEST:
        raise SystemExit(f"{name} has {len(made)} bytes, expected at most {LARGEST}")
    path = HERE / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(made[:LARGEST])


def check() -> list[str]:
    """The names of files that are not what they should be."""
    sums = dict(line.split("  ")[::-1] for line in SUMS.read_text(encoding="utf-8").splitlines())
    wrong = list({*ZIG, *GCC} ^ set(sums))
    for name, digest in sums.items():
        if hashlib.sha256((HERE / name).read_bytes()).hexdigest() != digest:
            wrong.append(name)
    wrong += [name for name, (make, _) in BROKEN.items() if (HERE / name).read_bytes() != make()]
    there = {path.relative_to(HERE).as_posix() for path in (HERE / "elf").iterdir()}
    return sorted({*wrong, *(there - {*ZIG, *GCC, *BROKEN})})


def main(arguments: list[str]) -> int:
    if arguments == ["--check"]:
        wrong = check()
        sys.stderr.writelines(f"{name} is not what make_assets.py makes\n" for name in wrong)
        return 1 if wrong else 0
    if arguments == ["--compile"]:
        compile_all()
    elif arguments:
        sys.stderr.write(__doc__ or "")
        return 2
    for name, (make, _) in BROKEN.items():
        (HERE / name).write_bytes(make())
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
