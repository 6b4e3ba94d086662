# SPDX-License-Identifier: Apache-2.0
"""Native code inside of the archives of Java and Python, found while they stream by."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.verify.conftest import entry, program, tree

from manyfest.platforms import Platform
from manyfest.verify import archives
from manyfest.verify.archives import Scan, architectures_of, facts_of, held_in, without_architecture
from manyfest.verify.checks import Findings
from manyfest.verify.checks_files import check_files
from manyfest.verify.entry import Start
from manyfest.verify.programs import Programs
from manyfest.verify.walk import walk

ASSETS = Path(__file__).parents[2] / "assets"
AMD64, ARM64, S390X = (
    (ASSETS / "elf" / name).read_bytes() for name in ("amd64-library", "arm64", "s390x-library")
)
DLL = (ASSETS / "pe" / "arm64.dll").read_bytes()
NAMES: dict[str, bytes] = {"org/x/linux/amd64/libx.so": AMD64, "org/x/linux/aarch64/libx.so.1": ARM64}
BOTH = {("org/x/linux/amd64/libx.so", ("linux/amd64",)), ("org/x/linux/aarch64/libx.so.1", ("linux/arm64",))}


class OnlyForward(io.BytesIO):
    """A file that cannot be gone back in, for which sizes are written behind the content."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_args: int) -> int:
        raise io.UnsupportedOperation


def zipped(
    files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED, *, padding: int = 0, forward: bool = False
) -> bytes:
    """An archive with padding that is not compressed in front of the files."""
    out = OnlyForward() if forward else io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\n")
        archive.writestr("padding", bytes(range(256)) * (padding // 256), zipfile.ZIP_STORED)
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def members(data: bytes, step: int = 1 << 20) -> set[tuple[str, tuple[str, ...]]]:
    """What a scan finds, fed in pieces of ``step`` bytes."""
    scan = Scan(len(data))
    for at in range(0, len(data), step):
        scan.feed(data[at : at + step])
    return set(scan.members())


@pytest.mark.parametrize("padding", [0, 65_000, 300_000])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("forward", [False, True])
def test_content_tells_what_a_library_is_for(padding: int, method: int, forward: bool) -> None:
    """Stored and compressed, with sizes in front and behind (as ``jar`` writes them), across pieces of any size."""
    data = zipped(
        {"a.class": b"x" * 5000, **NAMES, "readme.so": b"text"}, method, padding=padding, forward=forward
    )
    for step in (len(data), 64 * 1024, 7001):
        assert members(data, step) == BOTH


def test_what_the_directory_does_not_name_is_no_member() -> None:
    """Bytes that look like a member, in the content of another."""
    hidden = zipped({"linux/s390x/libx.so": S390X}, zipfile.ZIP_STORED)
    assert members(zipped({"notes.txt": hidden, **NAMES}, zipfile.ZIP_STORED)) == BOTH


@pytest.mark.parametrize("inner_method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("outer_method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_archives_inside(inner_method: int, outer_method: int) -> None:
    """As Spring Boot stores them and as a war compresses them; two side by side, and one in one in one."""
    inner = zipped(NAMES, inner_method, padding=70_000)
    war = zipped({"WEB-INF/lib/a.jar": inner, "WEB-INF/lib/b.jar": inner}, outer_method)
    assert members(war) == {(f"WEB-INF/lib/{jar}.jar!/{name}", kinds) for jar in "ab" for name, kinds in BOTH}
    ear = zipped({"web.war": war, "lib/libtop.so": AMD64}, outer_method)
    assert {name for name, _ in members(ear)} >= {
        "lib/libtop.so",
        "web.war!/WEB-INF/lib/b.jar!/org/x/linux/amd64/libx.so",
    }


def test_a_bomb_inside_is_given_up() -> None:
    """A jar of a gigabyte of nothing, in a jar: time is bounded by the file's size, and the rest is still seen."""
    bomb = zipped({"lib/bomb.jar": bytes(64 * 1024 * 1024)})
    data = zipped({"lib/outer.jar": bomb, **NAMES}, zipfile.ZIP_STORED)
    scan = Scan(len(data))
    scan.feed(data)
    assert set(scan.members()) == BOTH
    assert scan._budget[0] <= 0


def test_members_of_archives_inside_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many archives lie in one, and at whatever depth."""
    monkeypatch.setattr(archives, "MAX_INSIDE", 30)
    inner = zipped({f"lib{i}.so": AMD64[:1000] for i in range(20)})
    war = zipped({f"lib/{i}.jar": inner for i in range(10)})
    assert len(members(zipped({f"{i}.war": war for i in range(10)}))) == 30


@pytest.mark.parametrize(
    ("name", "native"),
    [
        (b"a/libx.so", True),
        (b"a/libx.so.1.2", True),
        (b"libx.jnilib", True),
        (b"x-1.data/scripts/ruff", True),
        (b"bin/", False),
        (b"bin/x.py", False),
        (b"cabin/x", False),
        (b"a/x.so.txt", False),
        (b"a/x.class", False),
    ],
)
def test_which_members_are_looked_at(name: bytes, native: bool) -> None:
    """By their names, since most members of an archive are none."""
    assert archives._is_native(name) is native


def test_encrypted_and_unknown_compression_go_by_name() -> None:
    """What cannot be looked into is counted for what its name says."""
    data = bytearray(zipped({"linux/aarch64/libx.so": AMD64}, zipfile.ZIP_LZMA))
    scan = Scan(len(data))
    scan.feed(bytes(data))
    (held,) = held_in(scan.text())
    assert held.platforms == ("linux/arm64",)


def test_kept_as_a_line_for_each_kind() -> None:
    """A hundred libraries are not a hundred lines; what is for Android is left out."""
    files = {f"linux/amd64/lib{i}.so": AMD64 for i in range(100)}
    files |= {"win/arm64/x.dll": DLL, "android/arm64/libx.so": ARM64}
    scan = Scan(1)
    scan.feed(zipped(files))
    held = [(each.platforms, each.count, each.name) for each in held_in(scan.text())]
    assert held == [
        (("linux/amd64",), 100, "linux/amd64/lib0.so"),
        (("windows/arm64",), 1, "win/arm64/x.dll"),
    ]


def test_read_while_a_layer_streams() -> None:
    """By their endings, one after the other, whatever the first member is."""
    data = zipped(NAMES, padding=300_000)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in ("app.jar", "x-py3-none-any.whl", "after.zip"):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    whole = out.getvalue()
    layer = walk(whole[at : at + 100_000] for at in range(0, len(whole), 100_000))
    found = {
        name: (each.facts.kind if each.facts else "", len(held_in(each.text)))
        for name, each in layer.entries.items()
    }
    assert found == {"app.jar": ("jar", 2), "x-py3-none-any.whl": ("wheel", 2), "after.zip": ("", 0)}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("linux/x86_64/libx.so", {"amd64"}),
        ("linux-x86-64/libjnidispatch.so", {"amd64"}),
        ("META-INF/native/libnetty_epoll_aarch_64.so", {"arm64"}),
        ("org/sqlite/native/Linux/x86/libsqlite.so", {"386"}),
        ("Linux-Android/aarch64/libx.so", set()),
        ("x-1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", {"amd64"}),
        ("x-1.0-cp311-cp311-linux_armv7l.whl", {"arm"}),
        ("libx.so", set()),
    ],
)
def test_architectures(name: str, found: set[str]) -> None:
    """As libraries in use name them."""
    assert architectures_of([name]) == found


def test_siblings_have_a_name_in_common() -> None:
    """Netty's jars for each platform."""
    names = [f"netty-epoll-4.1.0-linux-{each}.jar" for each in ("x86_64", "aarch_64", "riscv64")]
    assert len({without_architecture(name) for name in names}) == 1
    assert without_architecture("netty-epoll-4.1.0-linux-x86_64.jar") != without_architecture(
        "netty-kqueue-4.1.0.jar"
    )


MANY = (
    "linux/amd64\t1\tlinux/x86_64/libx.so\nlinux/arm64\t1\tlinux/aarch64/libx.so\nwindows/amd64\t1\tw/x.dll"
)
ONE = "linux/amd64\t2\tlibx.so"
LIE = "linux/amd64\t1\tlinux/aarch64/libx.so\nlinux/arm64\t1\tlinux/arm64/liby.so"
DLLS = "windows/amd64\t1\tw/x.dll"


@pytest.mark.parametrize(
    ("platform", "files", "found"),
    [
        ("linux/amd64", {"app/x.jar": MANY}, []),
        ("linux/s390x", {"app/x.jar": MANY}, ["MF209 note"]),
        ("linux/s390x", {"app/x.jar": DLLS}, []),
        ("windows/arm64", {"app/x.jar": DLLS}, ["MF209 warning"]),
        ("linux/arm64", {"app/x.jar": ONE}, ["MF209 warning"]),
        ("linux/386", {"app/x.jar": ONE}, ["MF209 warning"]),
        ("linux/arm64", {"app/x-linux-x86_64.jar": ONE}, ["MF209 warning"]),
        (
            "linux/arm64",
            {"app/x-linux-x86_64.jar": ONE, "app/x-linux-aarch_64.jar": "linux/arm64\t1\tlibx.so"},
            [],
        ),
        ("linux/arm64", {"app/x.jar": LIE}, ["MF209 warning"]),
        ("linux/amd64", {"app/x.jar": LIE}, []),
        ("linux/arm64", {"w/x-1-cp311-cp311-linux_aarch64.whl": ONE}, ["MF208 warning"]),
        ("linux/arm64", {"w/x-1-py3-none-any.whl": ONE}, ["MF208 warning"]),
        ("linux/arm64", {"w/x-1-cp311-cp311-manylinux1_x86_64.whl": ONE}, ["MF202 note"]),
        ("linux/amd64", {"w/x-1-cp311-cp311-manylinux1_x86_64.whl": ONE}, []),
        ("linux/arm/v7", {"app/x.jar": "linux/arm/v6\t1\tlinux-armv7/libx.so"}, []),
    ],
)
def test_an_archive_without_the_platforms_library(
    platform: str, files: dict[str, str], found: list[str]
) -> None:
    """A note for what is for many and mostly has a way without; a warning for what was made on another machine."""
    made = {}
    for path, text in files.items():
        made[path] = entry(facts_of(path), 0o644)
        made[path].text = text
    findings = Findings()
    check_files(Programs(tree(made), Platform.parse(platform), {}), Start(()), [], findings)
    assert [f"{each.check} {each.severity}" for each in findings.all()] == found


def test_nothing_to_say_of_a_program_beside_it() -> None:
    """An archive is no program."""
    files = {"bin/x": program("linux/amd64", interpreter=""), "x.jar": entry(facts_of("x.jar"), 0o644)}
    findings = Findings()
    check_files(Programs(tree(files), Platform.parse("linux/amd64"), {}), Start(()), [], findings)
    assert findings.all() == []


WHOLE = zipped({**NAMES, "lib/a.jar": zipped(NAMES)}, padding=80_000)


@pytest.mark.property
@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, len(WHOLE)), st.integers(1000, 100_000))
def test_any_bytes_are_read(noise: bytes, at: int, step: int) -> None:
    """Something or nothing, and never more than there was."""
    data = WHOLE[:at] + noise + WHOLE[at + len(noise) :]
    assert len(members(data, step)) <= 8
