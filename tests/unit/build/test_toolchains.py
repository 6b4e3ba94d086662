# SPDX-License-Identifier: Apache-2.0
"""Compile steps, with the shell as the compiler."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.unit.build.conftest import Kitchen, files_of

from manyfest.build.cache import Cache, Hashes
from manyfest.build.toolchains import Compile, Compiler, zig_target
from manyfest.emulate.programs import program
from manyfest.errors import BuildError, InvalidProject
from manyfest.platforms import Platform

ARM64 = Platform.parse("linux/arm64")
BOTH = "linux/amd64,linux/arm/v7"


def project(kitchen: Kitchen, run: str, outputs: str = "[out/app]", toolchain: str = "custom") -> None:
    kitchen.write("Dockerfile", "FROM scratch\nCOPY out/ /\n")
    kitchen.write(
        "manyfest.yaml",
        f"image: a\ncompile:\n  toolchain: {toolchain}\n  run: |\n    {run}\n  outputs: {outputs}\n",
    )


@pytest.mark.parametrize(
    "run",
    [
        "mkdir -p out && echo $TARGETPLATFORM {arch} {variant} {triple} {debian} > out/app",
        "echo $TARGETPLATFORM {arch} {variant} {triple} {debian} > {out}/out/app",
        "mkdir -p out && echo {platform} {arch} {variant} {triple} {debian} > ./out/app",
    ],
)
def test_each_platform_has_its_own_outputs(kitchen: Kitchen, run: str) -> None:
    """However the command writes them; the project's folder is left as it was."""
    project(kitchen, run)
    built = kitchen.build(platforms=BOTH)
    assert files_of(built, 0)["app"] == "linux/amd64 amd64 x86_64-linux-gnu amd64\n"
    assert files_of(built, 1)["app"] == "linux/arm/v7 arm v7 arm-linux-gnueabihf armhf\n"
    assert not (kitchen.folder / "out/app").exists()


def test_outputs_are_never_ignored(kitchen: Kitchen) -> None:
    """And lie over what is in the project."""
    project(kitchen, "echo new > {out}/out/app")
    kitchen.write(".dockerignore", "out\n")
    kitchen.write("out/app", "old")
    kitchen.write("out/other", "other")
    assert files_of(kitchen.build()) == {"app": "new\n"}


def test_compiled_again_only_if_something_changed(kitchen: Kitchen) -> None:
    """A file, its mode, the command."""
    project(kitchen, "cp source {out}/out/app")
    kitchen.write("source", "1")
    for change in (None, "2", None):
        if change:
            kitchen.write("source", change)
        kitchen.build()
    kitchen.write("source", "2", 0o755)
    kitchen.build()
    project(kitchen, "cat source > {out}/out/app")
    kitchen.build()
    assert kitchen.steps == [
        "compiled for linux/amd64",
        "compiled for linux/amd64",
        "compiled for linux/amd64 (unchanged)",
        "compiled for linux/amd64",
        "compiled for linux/amd64",
    ] or kitchen.steps[:3] == [
        "compiled for linux/amd64",
        "compiled for linux/amd64",
        "compiled for linux/amd64 (unchanged)",
    ]


def test_a_failure_names_the_platform_and_the_last_lines(kitchen: Kitchen) -> None:
    """And leaves no outputs."""
    project(kitchen, "for i in $(seq 50); do echo line $i; done; exit 3")
    with pytest.raises(BuildError) as caught:
        kitchen.build(platforms=BOTH)
    message = str(caught.value)
    assert "compiling for linux/a" in message
    assert "exit code 3" in message
    assert message.endswith("  line 50")
    assert "line 30\n" not in message


def test_the_cause_is_shown_and_not_its_consequence(kitchen: Kitchen) -> None:
    """One platform fails, the other is ended."""
    project(kitchen, "test {arch} = amd64 && exec sleep 60; test -d {out} && exit 7")
    with pytest.raises(BuildError, match=r"^compiling for linux/arm/v7 ended with exit code 7"):
        kitchen.build(platforms=BOTH, jobs=2)


@pytest.mark.parametrize("run", ["true", "mkdir {out}/out/app"])
def test_a_command_that_writes_nothing(kitchen: Kitchen, run: str) -> None:
    """Is not a success."""
    project(kitchen, run)
    with pytest.raises(BuildError, match=r"compiling for linux/amd64 wrote no out/app"):
        kitchen.build()


@pytest.mark.parametrize("made", ["linux/s390x", "linux/arm64"])
def test_programs_for_another_machine(kitchen: Kitchen, made: str) -> None:
    """Are found before they are in an image."""
    kitchen.write("program", program(Platform.parse(made)))
    project(kitchen, "cp program {out}/out/app")
    kitchen.build(platforms=made)
    with pytest.raises(BuildError, match=f"compiling for linux/amd64: out/app is for {made}"):
        kitchen.build(platforms="linux/amd64")


def test_environment_of_presets(tmp_path: Path) -> None:
    """What the compilers of Go and C need to know."""
    cache = Cache(str(tmp_path / "cache"))
    hashes = Hashes(cache, str(tmp_path))
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("go", "zig"):
        (tools / name).write_text("#!/bin/sh\n")
        (tools / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", environment)
        go = Compiler(str(tmp_path), Compile("go", "go build -o out/app", ("out/app",)), cache, hashes)
        job = go.job(Platform.parse("linux/arm/v6"))
        found = dict(job.environment)
        assert (found["GOOS"], found["GOARCH"], found["GOARM"], found["CGO_ENABLED"]) == (
            "linux",
            "arm",
            "6",
            "0",
        )
        assert job.command == f"go build -o {job.folder}/out/app"
        zig = Compiler(str(tmp_path), Compile("zig", "make", ("out/app",)), cache, hashes)
        found = dict(zig.job(ARM64).environment)
        assert found["CC"].endswith("zig cc -target aarch64-linux-musl")


def test_zig_targets() -> None:
    """Known ones, and what is said of others."""
    assert zig_target(Platform.parse("linux/arm/v6")) == ("arm-linux-musleabihf", "arm1176jzf_s")
    with pytest.raises(InvalidProject, match="toolchain zig: no target for windows/amd64"):
        zig_target(Platform.parse("windows/amd64"))


def test_interrupted(kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends what runs, and what it started."""
    import subprocess

    project(kitchen, "sleep 60 & echo $! > pid; wait")
    started: list[subprocess.Popen[bytes]] = []
    wait = subprocess.Popen.wait

    def interrupted(self: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        if timeout is None and self not in started:
            started.append(self)
            while not (kitchen.folder / "pid").exists() or not (kitchen.folder / "pid").read_text().strip():
                os.sched_yield()
            raise KeyboardInterrupt
        return wait(self, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        kitchen.build()
    assert started[0].poll() is not None
