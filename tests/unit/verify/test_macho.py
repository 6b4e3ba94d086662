# SPDX-License-Identifier: Apache-2.0
"""Mach-O thin and universal, told apart from Java classes; and the other kinds of files."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import pytest

from manyfest.verify.facts import Kept
from manyfest.verify.kinds import read_facts, wanted

ASSETS = Path(__file__).parents[2] / "assets"


@pytest.mark.parametrize(
    ("name", "platform", "linking"),
    [("arm64", "darwin/arm64", "dynamic"), ("amd64.dylib", "darwin/amd64", "shared")],
)
def test_compiled(name: str, platform: str, linking: str) -> None:
    """The first 4 KiB of a compiler's output."""
    raw = (ASSETS / "macho" / name).read_bytes()
    found = read_facts(raw, 50_000)
    assert found is not None
    assert (found.kind, str(found.platform), found.linking, found.elf_class) == (
        "macho",
        platform,
        linking,
        64,
    )


def test_universal() -> None:
    """Every part is a platform."""
    raw = struct.pack(">II", 0xCAFEBABE, 2)
    raw += struct.pack(">IIIII", 0x01000007, 3, 4096, 100, 12) + struct.pack(
        ">IIIII", 0x0100000C, 0, 8192, 100, 14
    )
    found = read_facts(raw, 10_000)
    assert found is not None
    assert [str(platform) for platform in found.platforms] == ["darwin/amd64", "darwin/arm64"]
    cut = read_facts(raw[:30], 30)
    assert cut is not None
    assert "the file at 30" in cut.problem


@pytest.mark.parametrize(
    ("cpu", "subtype", "platform"),
    [(12, 9, "darwin/arm/v7"), (12, 6, "darwin/arm/v6"), (18, 0, "darwin/ppc"), (99, 0, "None")],
)
def test_old_machines(cpu: int, subtype: int, platform: str) -> None:
    """32-bit files, big-endian here."""
    raw = struct.pack(">7I", 0xFEEDFACE, cpu, subtype, 2, 0, 0, 0)
    found = read_facts(raw, len(raw))
    assert found is not None
    assert (str(found.platform), found.order) == (platform, "big")


@pytest.mark.parametrize(("version", "java"), [(45, 1), (52, 8), (61, 17), (65, 21)])
def test_java_classes(version: int, java: int) -> None:
    """The same first four bytes as a universal Mach-O."""
    raw = struct.pack(">IHH", 0xCAFEBABE, 0, version) + bytes(20)
    found = read_facts(raw, len(raw))
    assert found is not None
    assert (found.kind, found.java, found.platforms) == ("class", java, ())


def test_jars_and_other_archives() -> None:
    """A jar starts with META-INF; any other zip is nothing that runs."""
    for name, kind in (("META-INF/MANIFEST.MF", "jar"), ("word/document.xml", None)):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr(name, "x")
        raw = stream.getvalue()
        found = read_facts(raw, len(raw))
        assert (found.kind if found else None) == kind


def member(name: bytes, content: bytes) -> bytes:
    header = name.ljust(16) + b"0".ljust(12) + b"0".ljust(6) * 2 + b"644".ljust(8)
    return header + str(len(content)).encode().ljust(10) + b"`\n" + content + b"\n" * (len(content) % 2)


@pytest.mark.parametrize("symbols", [4, 10_000])
def test_static_libraries(symbols: int) -> None:
    """The platform is the first object's, behind a symbol table of any size, also from a stream."""
    code = (ASSETS / "elf" / "amd64-object").read_bytes()
    raw = b"!<arch>\n" + member(b"/", bytes(symbols)) + member(b"//", b"long.o/\n") + member(b"a.o/", code)
    kept = Kept(wanted(raw[:4096], len(raw)))
    kept.feed(raw)
    found = read_facts(raw[:4096], len(raw), kept)
    assert found is not None
    assert (found.kind, str(found.platform), found.incomplete) == ("ar", "linux/amd64", ())


def test_broken_static_library() -> None:
    """A size that is none."""
    raw = b"!<arch>\n" + b"x" * 60
    found = read_facts(raw, len(raw))
    assert found is not None
    assert "no member's header at byte 8" in found.problem


def test_webassembly() -> None:
    """Known, and no platform of a host."""
    found = read_facts(b"\0asm\1\0\0\0", 8)
    assert found is not None
    assert (found.machine, found.platforms) == ("WebAssembly", ())


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x7f",
        b"\x7fEL",
        b"#",
        b"plain text",
        b"\xca\xfe",
        b"PK",
        b"!<",
        b"\0a",
        b"\xfe\xed\xfa",
        b"\xff" * 99,
    ],
)
def test_everything_else_is_nothing(raw: bytes) -> None:
    """Short files and data."""
    assert read_facts(raw, len(raw)) is None
    assert wanted(raw, len(raw)) == ()


def test_kept_answers_for_what_it_was_asked_to_keep() -> None:
    """Ranges across chunk borders; nothing for the rest; done after the last."""
    content = bytes(range(256)) * 4
    kept = Kept(((10, 20), (300, 100)))
    for start in range(0, len(content), 7):
        if kept.done:
            break
        kept.feed(content[start : start + 7])
    assert start < 420
    assert kept(10, 20) == content[10:30]
    assert kept(15, 100) == content[15:30]
    assert kept(350, 10) == content[350:360]
    assert kept(0, 5) == b""
    assert Kept(()).done
