# SPDX-License-Identifier: Apache-2.0
"""What the doctor finds: each thing that can be wrong with a handler, and nothing when all is well."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.unit.emulate.kernel import Kernel, elf, emulator

from manyfest.emulate import interpreter as interpreter_module
from manyfest.emulate.binfmt import Handler, line_of, registration, target_named
from manyfest.emulate.doctor import Finding, Report, examine, native_targets, this_machine
from manyfest.emulate.interpreter import kind_of, read_interpreter
from manyfest.emulate.known import KNOWN, reports
from manyfest.platforms import Platform

FRESH = 9 * 10**18
"""A time of registration after every file of the tests."""


def add(kernel: Kernel, name: str, qemu: str, path: str, flags: str = "F") -> None:
    """Register, as of after the interpreter was put there."""
    kernel.clock = max(kernel.clock, FRESH)
    kernel.register(registration(name, target_named(qemu), path, flags))


def findings(report: Report, name: str) -> dict[str, Finding]:
    """Those of one handler, by code."""
    status = next(status for status in report.statuses if status.handler.name == name)
    return {finding.code: finding for finding in status.findings}


def test_a_good_handler_has_no_findings(kernel: Kernel, tmp_path: Path) -> None:
    """Static, F, alone, for a foreign architecture."""
    add(kernel, "qemu-aarch64", "aarch64", emulator(tmp_path, "qemu-aarch64-static"))
    report = examine(kernel, host="x86_64")
    (status,) = report.statuses
    assert (status.findings, report.findings, report.problems) == ((), (), ())
    assert status.platforms == (Platform.parse("linux/arm64"),)
    assert (status.interpreter.kind, status.interpreter.linking) == ("qemu", "static")
    assert report.serving(Platform.parse("linux/arm64")) is status
    assert report.serving(Platform.parse("linux/s390x")) is None


def test_without_f_containers_do_not_find_it(kernel: Kernel, tmp_path: Path) -> None:
    """The commonest trouble of all."""
    add(kernel, "q", "arm", emulator(tmp_path, "qemu-arm-static"), "")
    found = findings(examine(kernel, host="x86_64"), "q")["not-fixed"]
    assert found.level == "problem"
    assert "inside every container" in found.text


def test_dynamic_interpreter(kernel: Kernel, tmp_path: Path) -> None:
    """F opens it, and its loader is then looked for in the container."""
    add(kernel, "q", "arm", emulator(tmp_path, "qemu-arm", dynamic=True))
    assert findings(examine(kernel, host="x86_64"), "q")["dynamic"].level == "problem"


def test_missing_interpreter(kernel: Kernel, tmp_path: Path) -> None:
    """Without F a problem; with it the kernel still holds what it opened."""
    path = emulator(tmp_path, "qemu-arm-static")
    add(kernel, "held", "arm", path, "F")
    add(kernel, "lost", "s390x", path, "")
    os.unlink(path)
    report = examine(kernel, host="x86_64")
    assert findings(report, "held")["gone"].level == "note"
    assert findings(report, "lost")["missing"].level == "problem"


def test_replaced_interpreter_is_not_what_runs(kernel: Kernel, tmp_path: Path) -> None:
    """The kernel opened the old file."""
    kernel.clock = 0
    path = emulator(tmp_path, "qemu-arm-static")
    kernel.register(registration("q", target_named("arm"), path, "F"))
    assert "register it again" in findings(examine(kernel, host="x86_64"), "q")["replaced"].hint


def test_shadowed_and_first(kernel: Kernel, tmp_path: Path) -> None:
    """Two for the same: the one registered later has it."""
    path = emulator(tmp_path, "qemu-arm-static")
    add(kernel, "old", "arm", path)
    add(kernel, "new", "arm", path)
    report = examine(kernel, host="x86_64")
    assert "new was registered later" in findings(report, "old")["shadowed"].text
    assert "old" in findings(report, "new")["first"].text
    served = report.serving(Platform.parse("linux/arm/v7"))
    assert served is not None
    assert served.handler.name == "new"


def test_partly_taken(kernel: Kernel, tmp_path: Path) -> None:
    """A wide handler loses some of its programs to a later, narrow one."""
    path = emulator(tmp_path, "wrapper")
    kernel.register(line_of(Handler("wide", path, "F", magic=b"\x7fELF\x01")))
    add(kernel, "narrow", "arm", path)
    assert "narrow" in findings(examine(kernel, host="x86_64"), "wide")["overlapped"].text


def test_switched_off(kernel: Kernel, tmp_path: Path) -> None:
    """One handler, and all of it."""
    add(kernel, "q", "arm", emulator(tmp_path, "qemu-arm-static"))
    kernel._put("q", b"0")
    kernel._put("status", b"0")
    report = examine(kernel, host="x86_64")
    assert findings(report, "q")["off"].level == "problem"
    assert [finding.code for finding in report.findings] == ["disabled"]
    assert report.serving(Platform.parse("linux/arm/v7")) is None


@pytest.mark.parametrize(
    ("host", "qemu", "level"),
    [("x86_64", "x86_64", "problem"), ("x86_64", "i386", "warning"), ("aarch64", "arm", "warning")],
)
def test_native_programs_taken(kernel: Kernel, tmp_path: Path, host: str, qemu: str, level: str) -> None:
    """A handler goes before the kernel's own loader."""
    machine = target_named(host).machine
    add(kernel, "q", qemu, emulator(tmp_path, f"qemu-{qemu}-static", machine=machine))
    assert findings(examine(kernel, host=host), "q")["native"].level == level


def test_emulator_for_another_machine(kernel: Kernel, tmp_path: Path) -> None:
    """An arm64 build of QEMU on an amd64 machine."""
    add(kernel, "q", "s390x", emulator(tmp_path, "qemu-s390x-static", machine=183))
    assert findings(examine(kernel, host="x86_64"), "q")["foreign"].level == "problem"


def test_debians_argv0(kernel: Kernel, tmp_path: Path) -> None:
    """The name that ends in -binfmt-P needs the flag P."""
    path = emulator(tmp_path, "s390x-binfmt-P")
    add(kernel, "wrong", "s390x", path, "OF")
    add(kernel, "right", "riscv64", path, "OPF")
    report = examine(kernel, host="x86_64")
    assert findings(report, "wrong")["argv0"].level == "problem"
    assert "argv0" not in findings(report, "right")


@pytest.mark.parametrize(
    ("name", "file", "qemu", "kind"),
    [
        ("rosetta", "rosetta", "x86_64", "rosetta"),
        ("FEX-x86_64", "FEXInterpreter", "x86_64", "fex"),
        ("box64", "box64", "x86_64", "box64"),
    ],
)
def test_other_emulators(kernel: Kernel, tmp_path: Path, name: str, file: str, qemu: str, kind: str) -> None:
    """Recognised, and said to be something else."""
    add(kernel, name, qemu, emulator(tmp_path, file, machine=183))
    status = examine(kernel, host="aarch64").statuses[0]
    assert status.interpreter.kind == kind
    assert kind in {finding.code for finding in status.findings}


def test_wsl_is_no_architecture(kernel: Kernel) -> None:
    """Windows programs are started by the handler of the subsystem."""
    kernel.register(":WSLInterop:M::MZ::/init:P")
    (status,) = examine(kernel, host="x86_64").statuses
    assert (status.is_emulator, status.interpreter.kind, status.platforms) == (False, "wsl", ())
    assert [finding.code for finding in examine(kernel, host="x86_64").findings] == ["none"]


@pytest.mark.parametrize("known", [True, False])
def test_not_mounted_and_not_known(tmp_path: Path, known: bool) -> None:
    """Two different troubles with two different cures."""
    report = examine(Kernel(tmp_path / "b", mounted=False, known=known), host="x86_64")
    (finding,) = report.findings
    assert (finding.level, finding.code) == ("problem", "unmounted" if known else "unsupported")
    assert finding.hint


@pytest.mark.parametrize(
    ("qemu", "version", "urls"),
    [
        ("aarch64", "4.2.1", {"https://github.com/moby/moby/issues/43039"}),
        ("aarch64", "7.0.0", {"https://github.com/tonistiigi/binfmt/issues/215"}),
        ("aarch64", "9.2.2", {"https://github.com/tonistiigi/binfmt/issues/240"}),
        ("aarch64", "10.1.3", {"https://github.com/tonistiigi/binfmt/issues/298"}),
        ("s390x", "10.1.3", set()),
        ("aarch64", "8.1.5", set()),
        ("aarch64", "", set()),
        ("aarch64", "git", set()),
    ],
)
def test_known_reports(qemu: str, version: str, urls: set[str]) -> None:
    """By version and emulator; an unknown version has none."""
    assert {known.url for known in reports(qemu, version)} == urls


def test_every_report_has_a_link() -> None:
    """Somebody said so, there."""
    assert all(known.url.startswith("https://") and known.text for known in KNOWN)


def version_of(tmp_path: Path, text: str) -> tuple[str, str]:
    """What is read of an emulator that prints ``text``."""
    path = tmp_path / "qemu-arm-static"
    path.write_text(f"#!/bin/sh\nprintf '%s\\n' '{text}'\n")
    path.chmod(0o755)
    return interpreter_module._version(str(path))


@pytest.mark.parametrize(
    ("text", "version", "build"),
    [
        ("qemu-aarch64 version 7.2.22 (Debian 1:7.2+dfsg-7)", "7.2.22", "Debian 1:7.2+dfsg-7"),
        ("qemu-arm version 10.1.3", "10.1.3", ""),
        ("something else", "", ""),
    ],
)
def test_versions(tmp_path: Path, text: str, version: str, build: str) -> None:
    """From the first line that QEMU prints."""
    assert version_of(tmp_path, text) == (version, build)


def test_reported_version_is_found(kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the link, as a warning and not as a verdict."""
    monkeypatch.setattr(interpreter_module, "_version", lambda path: ("10.1.3", ""))
    monkeypatch.setattr(interpreter_module, "_is_trusted", lambda status: True)
    add(kernel, "q", "aarch64", emulator(tmp_path, "qemu-aarch64-static"))
    found = findings(examine(kernel, host="x86_64"), "q")["reported"]
    assert (found.level, found.url.rpartition("/")[2]) == ("warning", "298")


def test_untrusted_emulator_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody could have put a file there that anybody may write."""
    path = emulator(tmp_path, "qemu-arm-static")
    os.chmod(path, 0o777)

    def never(path: str) -> tuple[str, str]:
        raise AssertionError(path)

    monkeypatch.setattr(interpreter_module, "_version", never)
    assert read_interpreter(path).version == ""


@pytest.mark.parametrize(
    ("content", "linking"),
    [
        (b"", "unknown"),
        (b"#!/bin/sh\n", "script"),
        (b"\x7fELF", "unknown"),
        (elf()[:64], "static"),
        (elf(dynamic=True), "dynamic"),
        (elf()[:54] + b"\xff\xff\xff\xff" + bytes(6), "unknown"),
        (b"\x7fELF\x07" + bytes(100), "unknown"),
    ],
)
def test_linking(tmp_path: Path, content: bytes, linking: str) -> None:
    """Of whatever is there."""
    path = tmp_path / "qemu-x"
    path.write_bytes(content)
    assert read_interpreter(str(path), ask=False).linking == linking


def test_folder_as_interpreter(tmp_path: Path) -> None:
    """Nothing is raised for it."""
    assert read_interpreter(str(tmp_path)).linking == "unreadable"


@pytest.mark.parametrize(
    ("path", "name", "kind"),
    [
        ("/usr/bin/qemu-arm-static", "qemu-arm", "qemu"),
        ("/usr/libexec/qemu-binfmt/arm-binfmt-P", "x", "qemu"),
        ("/init", "WSLInterop-late", "wsl"),
        ("/usr/bin/python3", "python3.11", "other"),
    ],
)
def test_kinds(path: str, name: str, kind: str) -> None:
    """By the names people know."""
    assert kind_of(path, name) == kind


def test_this_machine_is_native_to_itself() -> None:
    """Whatever it is."""
    assert this_machine() in native_targets(this_machine())
    assert native_targets("") == ()
