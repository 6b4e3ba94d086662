# SPDX-License-Identifier: Apache-2.0
"""Debian's own programs for five architectures: as they are nothing is wrong, broken on purpose exactly that is."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.real import debian
from tests.real.parts import Host
from tests.real.verify_bench import Bench, File, bad

from manyfest.content.document import Document
from manyfest.platforms import Platform

pytestmark = pytest.mark.real

COMMANDS = {
    "busybox": ["busybox", "sh"],
    "bash": ["bash"],
    "perl": ["/usr/bin/perl", "-v"],
    "python": ["/usr/bin/python3", "--version"],
    "go": ["gosu", "root", "bash"],
    "tini": ["/usr/bin/tini", "--", "perl"],
    "shell-form": ["/bin/sh", "-c", "exec python3 -c 'print(1)'"],
}

architectures = pytest.mark.parametrize("architecture", list(debian.ARCHITECTURES))


@architectures
@pytest.mark.parametrize("command", list(COMMANDS))
def test_untouched_programs_give_no_error_and_no_warning(
    bench: Bench, architecture: str, command: str
) -> None:
    """No false alarm, whatever the image starts."""
    report = bench.verify(bench.image(architecture, Cmd=COMMANDS[command]))
    assert [f for f in report.findings if f.severity != "note"] == []
    start = report.images[0].start
    assert start is not None
    assert start["verdict"] == "starts"


def test_java_finds_its_libraries_beside_itself(bench: Bench) -> None:
    """Through RUNPATH and $ORIGIN; what desktop parts lack is no alarm."""
    java = "/usr/lib/jvm/java-17-openjdk-arm64/bin/java"
    report = bench.verify(bench.image("arm64", Cmd=[java, "-version"]))
    assert [f for f in report.findings if f.severity != "note"] == []
    start = report.images[0].start
    assert start is not None
    assert start["verdict"] == "starts"
    assert any("libjli.so" in step for step in start["chain"])


def test_a_program_for_musl(bench: Bench) -> None:
    """With musl's loader it starts; on glibc alone it does not."""
    program = (Path(__file__).parents[1] / "assets" / "elf" / "arm64-musl").read_bytes()
    files: dict[str, File] = {"app": (program, 0o755)}
    assert bad(bench.verify(bench.image("arm64", files, Cmd=["/app"]))) == set()
    files["lib/.wh.ld-musl-aarch64.so.1"] = (b"", 0o644)
    report = bench.verify(bench.image("arm64", files, Cmd=["/app"]))
    assert bad(report) == {"MF304"}
    assert "needs musl" in report.findings[0].hint


def test_an_index_of_all_is_fine_and_known_the_second_time(bench: Bench) -> None:
    """The second look reads no layer, and says the same."""
    images = [(debian.ARCHITECTURES[name], bench.image(name)) for name in debian.ARCHITECTURES]
    root = bench.index(*images)
    wanted = [Platform.parse(text) for text in debian.ARCHITECTURES.values()]
    first = bench.verify(root, expect=wanted, strict=True)
    again = bench.verify(root, expect=wanted, strict=True)
    assert not first.failed
    assert again.work.layers_read == 0
    assert [f.to_json() for f in again.findings] == [f.to_json() for f in first.findings]


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_packing_makes_no_difference(bench: Bench, compression: str) -> None:
    """gzip, Zstandard and none."""
    report = bench.verify(bench.image("s390x", compression=compression))
    assert bad(report) == set()


Break = Callable[[Bench, str], Document]


def _without(base: str, command: Sequence[str] = ("bash",)) -> Break:
    def make(bench: Bench, architecture: str) -> Document:
        folder, _, name = bench.path_of(architecture, base).rpartition("/")
        return bench.image(architecture, {f"{folder}/.wh.{name}": (b"", 0o644)}, Cmd=list(command))

    return make


def _with(files: Mapping[str, File], command: Sequence[str] = ("bash",), **settings: Any) -> Break:
    return lambda bench, architecture: bench.image(architecture, files, Cmd=list(command), **settings)


def _old_libc(bench: Bench, architecture: str) -> Document:
    """libc without the newest version that bash asks for."""
    path = bench.path_of(architecture, "libc.so.6")
    data = bench.file(architecture, path)
    for version in (b"GLIBC_2.34", b"GLIBC_2.36", b"GLIBC_2.33"):
        data = data.replace(version + b"\0", version[:-2] + b"00\0")
    return bench.image(architecture, {path: (data, 0o755)})


def _other(architecture: str) -> str:
    return "s390x" if architecture != "s390x" else "arm64"


def _foreign_tool(bench: Bench, architecture: str) -> Document:
    """The classic: a tool of the builder's architecture."""
    other = _other(architecture)
    tool = bench.file(other, bench.path_of(other, "busybox"))
    return bench.image(architecture, {"usr/local/bin/tool": (tool, 0o755)})


def _foreign_module(bench: Bench, architecture: str) -> Document:
    other = _other(architecture)
    module = bench.file(other, bench.path_of(other, "libtinfo.so.6.4"))
    path = "usr/lib/python3/dist-packages/fast.cpython-311.so"
    return bench.image(architecture, {path: (module, 0o644)})


def _foreign_addon(bench: Bench, architecture: str) -> Document:
    other = _other(architecture)
    module = bench.file(other, bench.path_of(other, "libtinfo.so.6.4"))
    return bench.image(architecture, {"app/node_modules/x/build/Release/x.node": (module, 0o644)})


def _mislabelled(bench: Bench, architecture: str) -> Document:
    """Everything is of another architecture than index and configuration say."""
    other = _other(architecture)
    return bench.image(other, platform=debian.ARCHITECTURES[architecture])


def _index_differs(bench: Bench, architecture: str) -> Document:
    right = debian.ARCHITECTURES[architecture]
    wrong = bench.image(architecture, platform=debian.ARCHITECTURES[_other(architecture)])
    return bench.index((right, wrong))


def _cut(bench: Bench, architecture: str) -> Document:
    data = bench.file(architecture, bench.path_of(architecture, "busybox"))
    return bench.image(architecture, {"usr/local/bin/app": (data[:2000], 0o755)}, Cmd=["app"])


def _no_permission(bench: Bench, architecture: str) -> Document:
    data = bench.file(architecture, bench.path_of(architecture, "busybox"))
    return bench.image(architecture, {"app": (data, 0o644)}, Cmd=["/app"])


def _tool_without_permission(bench: Bench, architecture: str) -> Document:
    data = bench.file(architecture, bench.path_of(architecture, "busybox"))
    return bench.image(architecture, {"usr/local/bin/app": (data, 0o644)})


def _uncached_library(bench: Bench, architecture: str) -> Document:
    """libtinfo only in /usr/local/lib, which is searched through a cache that nobody made."""
    path = bench.path_of(architecture, "libtinfo.so.6.4")
    folder, _, _ = path.rpartition("/")
    files: dict[str, File] = {
        f"{folder}/.wh.libtinfo.so.6": (b"", 0o644),
        "usr/local/lib/libtinfo.so.6": (bench.file(architecture, path), 0o644),
        "etc/ld.so.conf": (b"include /etc/ld.so.conf.d/*.conf\n", 0o644),
        "etc/ld.so.conf.d/local.conf": (b"/usr/local/lib\n", 0o644),
    }
    return bench.image(architecture, files)


def _loader(bench: Bench, architecture: str) -> Document:
    names = {
        "amd64": "ld-linux-x86-64.so.2",
        "arm64": "ld-linux-aarch64.so.1",
        "armhf": "ld-linux-armhf.so.3",
    }
    names |= {"ppc64el": "ld64.so.2", "s390x": "ld64.so.1"}
    folders = {"amd64": "lib64", "ppc64el": "lib64"}
    folder = folders.get(architecture, "lib")
    return bench.image(architecture, {f"{folder}/.wh.{names[architecture]}": (b"", 0o644)}, Cmd=["bash"])


def _hard_link_out(bench: Bench, architecture: str) -> Document:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo("etc/shadow")
        info.type, info.linkname = tarfile.LNKTYPE, "../../etc/shadow"
        archive.addfile(info)
    return bench.image(architecture, tars=[out.getvalue()])


BREAKS: dict[str, tuple[Break, str]] = {
    "index-differs": (_index_differs, "MF101"),
    "mislabelled": (_mislabelled, "MF201 MF208"),
    "foreign-tool": (_foreign_tool, "MF201"),
    "cut-binary": (_cut, "MF207"),
    "foreign-module": (_foreign_module, "MF208"),
    "foreign-addon": (_foreign_addon, "MF208"),
    "no-such-command": (_with({"a": (b"", 0o644)}, ["nowhere"]), "MF302"),
    "no-such-path": (_with({"a": (b"", 0o644)}, ["/nowhere/app"]), "MF302"),
    "no-permission": (_no_permission, "MF303"),
    "no-loader": (_loader, "MF304"),
    "no-library": (_without("libtinfo.so.6"), "MF305"),
    "old-libc": (_old_libc, "MF306"),
    "no-interpreter": (_with({"app": (b"#!/usr/bin/ruby\n", 0o755)}, ["/app"]), "MF307"),
    "a-script-that-is-fine": (_with({"app": (b"#!/usr/bin/perl\n", 0o755)}, ["/app"]), ""),
    "crlf": (_with({"app": (b"#!/bin/sh\r\necho hi\r\n", 0o755)}, ["/app"]), "MF308"),
    "no-format": (_with({"app": (b"echo hi\n", 0o755)}, ["/app"]), "MF309"),
    "empty": (_with({"app": (b"", 0o755)}, ["/app"]), "MF309"),
    "link-loop": (_with({"app": "/other", "other": "/app"}, ["/app"]), "MF310"),
    "script-loop": (_with({"app": (b"#!/app\n", 0o755)}, ["/app"]), "MF310"),
    "unknown-user": (_with({"a": (b"", 0o644)}, User="nobody-here"), "MF311"),
    "tool-no-permission": (_tool_without_permission, "MF312"),
    "no-loader-cache": (_uncached_library, "MF313"),
    "hard-link-out": (_hard_link_out, "MF504"),
}


@architectures
@pytest.mark.parametrize("name", list(BREAKS))
def test_broken_on_purpose_is_found_as_exactly_that(bench: Bench, architecture: str, name: str) -> None:
    """One fault, one id; an error makes the answer no."""
    make, expected = BREAKS[name]
    report = bench.verify(make(bench, architecture))
    assert bad(report) == set(expected.split()), [f.to_json() for f in report.findings][:5]


# Code for other machines that Debian ships on purpose, in packages for all.
FOREIGN = (
    "arch-test",
    "libc6-s390x-cross",
    "opensbi",
    "python3-distlib",
    "qemu-system-data",
    "seabios",
    "u-boot-qemu",
)


def test_what_is_foreign_on_purpose_is_counted_and_no_alarm(bench: Bench) -> None:
    """Firmware, a cross compiler's libraries, test programs, boot loaders and launchers for Windows."""
    packages = debian.fetched("amd64", set(FOREIGN), "debian-12-foreign")
    tars = [debian.tar_of(package) for package in packages.values()]
    report = bench.verify(bench.image("amd64", tars=tars), strict=True)
    assert not report.failed, [f.message for f in report.findings if f.severity != "note"]
    told = {finding.message.partition("(")[2].partition(")")[0] for finding in report.findings}
    assert told >= {
        "firmware, or data of another program",
        "in a folder named after its architecture",
        "test data",
        "a pe file",
    }
    assert sum(finding.check == "MF202" for finding in report.findings) > 20


@pytest.mark.parametrize(("level", "found"), [("v2", {"MF205"}), ("v3", {"MF205"}), ("v4", {"MF205"})])
def test_code_for_newer_processors_in_a_plain_image(bench: Bench, level: str, found: set[str]) -> None:
    """As GNU's linker notes it; under the variant that it needs it is fine."""
    program = (Path(__file__).parents[1] / "assets" / "elf" / f"amd64-{level}").read_bytes()
    files: dict[str, File] = {"usr/local/bin/fast": (program, 0o755)}
    assert bad(bench.verify(bench.image("amd64", files, Cmd=["fast"]))) == found
    right = bench.image("amd64", files, platform=f"linux/amd64/{level}", Cmd=["fast"])
    assert bad(bench.verify(right)) == set()


def test_arm_v7_code_in_a_v6_image(bench: Bench) -> None:
    """Debian's armhf is v7; a v6 processor dies of it."""
    report = bench.verify(bench.image("armhf", platform="linux/arm/v6"))
    assert bad(report) == {"MF204"}
    assert report.failed


def test_the_command_explains_what_docker_run_would_say(bench: Bench, here: Host) -> None:
    """As a user sees it: exit code 1, and why."""
    bench.store.tag(_mislabelled(bench, "arm64"), "broken")
    bench.store.tag(bench.image("arm64"), "fine")
    place = f"oci:{bench.folder}/layout"
    here.env["XDG_CACHE_HOME"] = str(here.home / "cache")
    fine = here.manyfest("verify", f"{place}:fine", "--strict")
    assert "linux/arm64" in fine.out
    broken = here.manyfest("verify", f"{place}:broken", ok=False)
    assert broken.code == 1
    assert "exec bash: exec format error" in broken.out
    shown = here.manyfest("verify", f"{place}:broken", "--json", ok=False).json
    assert shown["platforms"][0]["start"]["verdict"] == "fails"
    assert shown["work"]["layers_read"] == 0
