# SPDX-License-Identifier: Apache-2.0
"""Probes: the machine's own program runs; whatever does not is explained."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from tests.unit.emulate.kernel import Kernel, emulator

from manyfest.emulate.binfmt import Target, registration, target_for, target_named
from manyfest.emulate.doctor import Report, examine, this_machine
from manyfest.emulate.probe import PLATFORMS, explain, probe, probe_in, programs_for
from manyfest.engines.containers import Ran
from manyfest.errors import InputError
from manyfest.platforms import Platform

ARM = Platform.parse("linux/arm/v7")


def own() -> Platform:
    """The first program that this machine runs by itself."""
    return next(p for p in PLATFORMS if target_for(p).qemu == this_machine())


def test_own_program_runs(kernel: Kernel) -> None:
    """And prints its platform."""
    (one,) = probe(examine(kernel), [own()])
    assert (one.ok, one.how, one.output, one.where) == (True, "native", str(own()), "kernel")
    assert one.seconds > 0


def reported(kernel: Kernel, tmp_path: Path, flags: str = "F") -> Report:
    """A machine with one emulator, for arm."""
    path = emulator(tmp_path, "qemu-arm-static")
    kernel.register(registration("q", target_named("arm"), path, flags))
    return examine(kernel, host="x86_64")


@pytest.mark.parametrize(
    ("code", "platform", "words"),
    [
        (errno.ENOEXEC, "linux/s390x", "no emulator is registered"),
        (errno.ENOEXEC, "linux/arm/v7", "is no program this machine can start"),
        (errno.ENOENT, "linux/arm/v7", "q names "),
        (errno.EACCES, "linux/s390x", "programs may not be started in /tmp/x"),
        (errno.EACCES, "linux/arm/v7", "is not executable, or /tmp/x is mounted noexec"),
        (errno.ELOOP, "linux/arm/v7", "without end"),
        (errno.ENOMEM, "linux/arm/v7", os.strerror(errno.ENOMEM)),
    ],
)
def test_error_numbers_in_words(kernel: Kernel, tmp_path: Path, code: int, platform: str, words: str) -> None:
    """What execve says, and whose doing it is."""
    text, _ = explain(code, reported(kernel, tmp_path), Platform.parse(platform), "/tmp/x")
    assert words in text


def test_switched_off_handler_is_named(kernel: Kernel, tmp_path: Path) -> None:
    """Not "none registered"."""
    reported(kernel, tmp_path)
    kernel._put("q", b"0")
    text, hint = explain(errno.ENOEXEC, examine(kernel, host="x86_64"), ARM)
    assert ("q is switched off" in text, "--replace" in hint) == (True, True)


class Engine:
    """Stands in for docker: answers with what it is given."""

    name = "docker"

    def __init__(self, ran: Ran) -> None:
        self.ran = ran
        self.log: list[str] = []

    def platform(self) -> Platform:
        return Platform.parse("linux/amd64")

    def load(self, path: str) -> str:
        assert os.path.getsize(path) > 1000
        self.log.append("load")
        return "image"

    def run(self, image: str, command: list[str], *, timeout_s: float) -> Ran:
        self.log.append(f"run {image} {command}")
        return self.ran

    def forget(self, image: str) -> None:
        self.log.append(f"forget {image}")


@pytest.mark.parametrize(
    ("ran", "flags", "words"),
    [
        (Ran(0, b"linux/arm/v7\n"), "F", ""),
        (Ran(0, b"linux/amd64\n"), "F", "printed 'linux/amd64', expected its platform"),
        (Ran(1, b"", b"exec /x: exec format error"), "F", "is no program this machine can start"),
        (Ran(-1, problem='exec: "/x": stat /x: no such file or directory'), "", "q has no flag F"),
        (Ran(-1, problem="exec /x: no such file or directory"), "F", "q names"),
        (Ran(-1, problem="out of order"), "F", "out of order"),
        (Ran(132), "F", "SIGILL: the emulator of q lacks an instruction"),
        (Ran(139), "F", "SIGSEGV: the emulator of q crashed"),
        (Ran(2, b"", b"first\nqemu: cannot"), "F", "exit code 2: qemu: cannot"),
        (Ran(-1, timed_out=True), "F", "did not end"),
    ],
)
def test_in_an_engine(kernel: Kernel, tmp_path: Path, ran: Ran, flags: str, words: str) -> None:
    """One image for all, removed at the end; each outcome in words."""
    engine = Engine(ran)
    (one,) = probe_in(engine, reported(kernel, tmp_path, flags), [ARM])  # type: ignore[arg-type]
    assert (one.ok, one.where) == (not words, "docker")
    assert words in one.explanation
    assert engine.log == ["load", "run image ['/linux-arm-v7']", "forget image"]


@pytest.mark.parametrize(
    ("text", "programs"),
    [
        ("linux/arm/v6", ["linux/arm/v6"]),
        ("linux/arm64/v8", ["linux/arm64"]),
        ("linux/arm", ["linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]),
        ("linux/s390x", ["linux/s390x"]),
    ],
)
def test_programs_for_a_platform(text: str, programs: list[str]) -> None:
    """Itself, or every variant."""
    assert [str(p) for p in programs_for(Platform.parse(text))] == programs


@pytest.mark.parametrize("text", ["windows/amd64", "linux/sparc64"])
def test_no_program(text: str) -> None:
    """The hint lists the architectures."""
    with pytest.raises(InputError) as caught:
        programs_for(Platform.parse(text))
    assert "s390x" in caught.value.hint


def test_targets_have_programs() -> None:
    """Every program's platform has a target, so that none is forgotten when one is added."""
    targets: list[Target] = [target_for(platform) for platform in PLATFORMS]
    assert len(targets) == len(PLATFORMS)
