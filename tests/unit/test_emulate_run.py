# SPDX-License-Identifier: Apache-2.0
"""Running a program natively or under an emulator: which way is taken, and what failure says."""

from __future__ import annotations

from pathlib import Path

import pytest

from manyfest.emulate.run import Outcome, qemu_name, run, start
from manyfest.errors import EmulationError
from manyfest.platforms import Platform

FOREIGN = Platform.parse("linux/s390x")


def script(path: Path, text: str) -> Path:
    """An executable shell script."""
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def garbage(tmp_path: Path) -> Path:
    """A file that no kernel runs."""
    path = tmp_path / "garbage"
    path.write_bytes(b"\x7fELFgarbage")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("platform", "name"),
    [
        ("linux/amd64", "qemu-x86_64"),
        ("linux/386", "qemu-i386"),
        ("linux/arm64", "qemu-aarch64"),
        ("linux/arm/v5", "qemu-arm"),
        ("linux/arm/v7", "qemu-arm"),
        ("linux/ppc64le", "qemu-ppc64le"),
        ("linux/ppc64", "qemu-ppc64"),
        ("linux/s390x", "qemu-s390x"),
        ("linux/riscv64", "qemu-riscv64"),
        ("linux/loong64", "qemu-loongarch64"),
        ("linux/mips64le", "qemu-mips64el"),
        ("linux/mips64", "qemu-mips64"),
    ],
)
def test_qemu_names(platform: str, name: str) -> None:
    """As Debian's qemu-user installs them."""
    assert qemu_name(Platform.parse(platform)) == name


def test_kernel_is_asked_first(tmp_path: Path) -> None:
    """What the kernel starts needs no emulator; for a foreign platform that is binfmt_misc's doing."""
    path = script(tmp_path / "program", "printf hi; exit 3")
    assert run(str(path), FOREIGN) == Outcome("binfmt_misc", 3, b"hi")


def test_emulator_on_path_runs_what_the_kernel_refuses(
    tmp_path: Path, garbage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The static one is preferred; it gets the absolute path and an empty environment."""
    script(tmp_path / "qemu-s390x-static", 'printf "%s %s" "$1" "${SECRET-none}"')
    script(tmp_path / "qemu-s390x", "exit 9")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SECRET", "hunter2")
    monkeypatch.chdir(tmp_path)
    assert run("garbage", FOREIGN) == Outcome("qemu-s390x-static", 0, f"{garbage} none".encode())


def test_nothing_can_run_it(garbage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has the platform, the kernel's reason and the missing emulator."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EmulationError, match=r"linux/s390x: .*qemu-s390x") as caught:
        run(str(garbage), FOREIGN)
    assert "qemu-user-static" in caught.value.hint


def test_broken_emulator_is_named(tmp_path: Path, garbage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An emulator that cannot start is an error of its own."""
    broken = tmp_path / "qemu-s390x-static"
    broken.write_bytes(b"\x7fELFgarbage")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EmulationError, match="qemu-s390x-static: "):
        run(str(garbage), FOREIGN)


def test_endless_program_is_stopped(tmp_path: Path) -> None:
    """After the given seconds, with its name."""
    path = script(tmp_path / "endless", "exec sleep 60")
    with pytest.raises(EmulationError, match=r"endless ran longer than 0\.05 s"):
        run(str(path), FOREIGN, timeout_s=0.05)


def test_started_programs_go_on(tmp_path: Path, garbage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the given environment only, of a session of their own; under an emulator where the kernel refuses."""
    path = script(tmp_path / "program", f'printf "$WORD ${{SECRET-none}}" > {tmp_path}/said')
    monkeypatch.setenv("SECRET", "hunter2")
    started = start(str(path), FOREIGN, {"WORD": "hi"})
    assert (started.how, started.process.wait(10)) == ("binfmt_misc", 0)
    assert (tmp_path / "said").read_text() == "hi none"
    script(tmp_path / "qemu-s390x", '[ "$1" = ' + f'"{garbage}" ]')
    monkeypatch.setenv("PATH", str(tmp_path))
    started = start(str(garbage), FOREIGN, {})
    assert (started.how, started.process.wait(10)) == ("qemu-s390x", 0)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EmulationError, match=r"linux/s390x: .*qemu-s390x"):
        start(str(garbage), FOREIGN, {})
