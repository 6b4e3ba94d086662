# SPDX-License-Identifier: Apache-2.0
"""Programs of C, Go and Java, static and dynamic, for each architecture, broken in every way that they can be."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.assets.make_assets import PROGRAM
from tests.real import debian
from tests.real.verify_bench import Bench, File, bad

pytestmark = pytest.mark.real

TARGETS = {
    "amd64": "x86_64-linux-musl",
    "arm64": "aarch64-linux-musl",
    "armhf": "arm-linux-musleabihf",
    "ppc64el": "powerpc64le-linux-musl",
    "s390x": "s390x-linux-musl",
}
LOADERS = {
    "amd64": "lib64/ld-linux-x86-64.so.2",
    "arm64": "lib/ld-linux-aarch64.so.1",
    "armhf": "lib/ld-linux-armhf.so.3",
    "ppc64el": "lib64/ld64.so.2",
    "s390x": "lib/ld64.so.1",
}
MUSL = {"amd64": "x86_64", "arm64": "aarch64", "armhf": "armhf", "ppc64el": "powerpc64le", "s390x": "s390x"}
HIDDEN = (b"", 0o644)


@dataclass(frozen=True)
class Program:
    """A program of the packages: the end of its path, and a library that it needs beside the C library."""

    base: str
    library: str = ""
    libc: str = "glibc"


PROGRAMS = {
    "busybox": Program("busybox", libc=""),
    "bash": Program("bin/bash", "libtinfo.so.6"),
    "perl": Program("bin/perl", "libcrypt.so.1"),
    "python": Program("bin/python3.11", "libexpat.so.1"),
    "go": Program("gosu", libc=""),
    "tini": Program("bin/tini"),
    "musl": Program("", libc="musl"),
    "java": Program("bin/java", "libjli.so"),
}


class Site:
    """One program in the packages of one architecture; ``other`` is another's architecture."""

    def __init__(self, bench: Bench, architecture: str, name: str, musl: dict[str, bytes]) -> None:
        self.bench = bench
        self.architecture = architecture
        self.program = PROGRAMS[name]
        self.other = "s390x" if architecture != "s390x" else "amd64"
        if self.program.libc == "musl":
            self.path = "usr/local/bin/hello"
            self.data, self.foreign = musl[architecture], musl[self.other]
            return
        self.path = bench.path_of(architecture, self.program.base)
        self.data = bench.file(architecture, self.path)
        twin = "busybox" if name == "java" else self.program.base
        self.foreign = bench.file(self.other, bench.path_of(self.other, twin))

    def look(self, files: dict[str, File], command: str = "") -> tuple[set[str], str]:
        """Ids of errors and warnings, and whether it starts."""
        base: dict[str, File] = {"a": HIDDEN}
        if self.program.libc == "musl":
            base[self.path] = (self.data, 0o755)
        gone = {path.replace(".wh.", "") for path in files if ".wh." in path}
        kept = {path: file for path, file in {**base, **files}.items() if path not in gone}
        report = self.bench.verify(
            self.bench.image(self.architecture, kept, Cmd=[command or f"/{self.path}"])
        )
        start = report.images[0].start
        assert start is not None
        return bad(report), start["verdict"]


def hidden(path: str) -> str:
    """The whiteout of a path."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/.wh.{name}"


def _without_library(site: Site) -> tuple[dict[str, File], str]:
    name = site.program.library
    return {hidden(site.bench.path_of(site.architecture, name)): HIDDEN}, ""


def _without_loader(site: Site) -> tuple[dict[str, File], str]:
    if site.program.libc == "musl":
        return {f"lib/.wh.ld-musl-{MUSL[site.architecture]}.so.1": HIDDEN}, ""
    return {hidden(LOADERS[site.architecture]): HIDDEN}, ""


def _old_libc(site: Site) -> tuple[dict[str, File], str]:
    path = site.bench.path_of(site.architecture, "libc.so.6")
    data = site.bench.file(site.architecture, path)
    for version in (b"GLIBC_2.34", b"GLIBC_2.36", b"GLIBC_2.33"):
        data = data.replace(version + b"\0", version[:-2] + b"00\0")
    return {path: (data, 0o755)}, ""


Break = Callable[[Site], tuple[dict[str, File], str]]

# How it is broken, what is found then, and which programs can be broken so.
BREAKS: dict[str, tuple[Break, set[str], str]] = {
    "other-machine": (lambda s: ({s.path: (s.foreign, 0o755)}, ""), {"MF201"}, "all"),
    "cut": (lambda s: ({s.path: (s.data[: len(s.data) // 2], 0o755)}, ""), {"MF207"}, "all"),
    "no-permission": (lambda s: ({s.path: (s.data, 0o644)}, ""), {"MF303"}, "all"),
    "removed": (lambda s: ({hidden(s.path): HIDDEN}, ""), {"MF302"}, "all"),
    "link-to-itself": (lambda s: ({s.path: f"/{s.path}"}, ""), {"MF310"}, "all"),
    "link-to-nowhere": (lambda s: ({s.path: "/gone"}, ""), {"MF302"}, "all"),
    "text": (lambda s: ({s.path: (b"echo hello\n", 0o755)}, ""), {"MF309"}, "all"),
    "empty": (lambda s: ({s.path: (b"", 0o755)}, ""), {"MF309"}, "all"),
    "windows-script": (lambda s: ({"run": (f"#!/{s.path}\r\n".encode(), 0o755)}, "/run"), {"MF308"}, "all"),
    "interpreter-gone": (
        lambda s: ({"run": (f"#!/{s.path}\n".encode(), 0o755), hidden(s.path): HIDDEN}, "/run"),
        {"MF307"},
        "all",
    ),
    "interpreter-of-other-machine": (
        lambda s: ({"run": (f"#!/{s.path}\n".encode(), 0o755), s.path: (s.foreign, 0o755)}, "/run"),
        {"MF201"},
        "all",
    ),
    "no-loader": (_without_loader, {"MF304"}, "dynamic"),
    "no-library": (_without_library, {"MF305"}, "library"),
    "old-libc": (_old_libc, {"MF306"}, "glibc"),
}


def can_be_broken(program: Program, by: str) -> bool:
    """Is there something of that kind in it?"""
    needs = {"all": True, "dynamic": bool(program.libc), "library": bool(program.library)}
    return needs.get(by, program.libc == by)


@pytest.fixture(scope="module")
def musl(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A C program against musl for each architecture, by zig's compiler."""
    folder = tmp_path_factory.mktemp("musl")
    (folder / "hello.c").write_text(PROGRAM)

    def compile_for(architecture: str) -> bytes:
        out = folder / architecture
        command = [
            sys.executable,
            "-m",
            "ziglang",
            "cc",
            "-target",
            TARGETS[architecture],
            "-dynamic",
            "-Os",
            "-s",
        ]
        subprocess.run(
            [*command, "-o", str(out), "hello.c"], cwd=folder, check=True, capture_output=True, timeout=300
        )
        return out.read_bytes()

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(TARGETS, pool.map(compile_for, TARGETS), strict=True))


PAIRS = [
    (architecture, name)
    for architecture in debian.ARCHITECTURES
    for name in PROGRAMS
    if name != "java" or architecture in debian.MORE
]


@pytest.mark.parametrize(("architecture", "name"), PAIRS)
def test_whole_it_starts_and_broken_it_is_told_how(
    bench: Bench, musl: dict[str, bytes], architecture: str, name: str
) -> None:
    """Nothing is said of it as it is; of each break exactly what it is, and that it does not start."""
    site = Site(bench, architecture, name, musl)
    assert site.look({}) == (set(), "starts")
    told = {}
    expected = {}
    for way, (make, ids, by) in BREAKS.items():
        if can_be_broken(site.program, by):
            told[way] = site.look(*make(site))
            expected[way] = (ids, "fails")
    assert told == expected


def test_machine_code_for_the_wrong_page_size(bench: Bench, tmp_path: Path) -> None:
    """Linked for pages of 4 kB, which kernels for arm64 with larger ones cannot load."""
    (tmp_path / "a.c").write_text("void _start(void) { for (;;) ; }\n")
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-musl", "-nostdlib", "-static"]
    command += ["-Wl,-z,max-page-size=4096", "-o", "a", "a.c"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=100)
    files: dict[str, File] = {"usr/local/bin/small": ((tmp_path / "a").read_bytes(), 0o755)}
    report = bench.verify(bench.image("arm64", files, Cmd=["small"]))
    assert bad(report) == {"MF206"}
    assert report.images[0].start is not None
    assert report.images[0].start["verdict"] == "starts"
