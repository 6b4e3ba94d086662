# SPDX-License-Identifier: Apache-2.0
"""The demo: every command it shows really ran, and nothing of it is left behind."""

from __future__ import annotations

import io
import json
import os
import re
import resource
import signal
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path

import pytest
from tests.cli.test_json_shapes import keys_of_command, keys_of_table

from manyfest.build.toolchains.setup import on_path
from manyfest.cli.commands import demo
from manyfest.cli.console import Console
from manyfest.cli.main import main
from manyfest.emulate.programs import program
from manyfest.errors import VerificationFailed
from manyfest.platforms import Platform
from manyfest.stores.layout import Layout

PLATFORMS = [
    "linux/amd64",
    "linux/386",
    "linux/arm64",
    "linux/arm/v7",
    "linux/arm/v6",
    "linux/ppc64le",
    "linux/s390x",
    "linux/riscv64",
]


@pytest.fixture(autouse=True)
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home, a working folder and a temporary folder of our own, to see what stays in them."""
    for name in ("home", "work", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.delenv("MANYFEST_DATA", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def left_behind(folder: Path) -> list[Path]:
    """Every file below."""
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.slow
def test_summary_has_every_platform_and_nothing_stays(
    outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every command ended with 0, every program that ran printed its platform, and no file is left."""
    assert main(["demo", "--json", "--no-engine"]) == 0
    captured = capsys.readouterr()
    summary = json.loads(captured.out)
    assert summary["platforms"] == PLATFORMS
    assert {step["exit_code"] for step in summary["steps"]} == {0}
    assert [run["platform"] for run in summary["runs"]] == PLATFORMS
    assert all(run["output"] == run["platform"] for run in summary["runs"] if run["ok"])
    assert all(not run["how"] for run in summary["runs"] if run["ok"] is None)
    assert left_behind(outside) == []
    assert Path.cwd() == outside / "work"
    assert "MANYFEST_DATA" not in os.environ


@pytest.mark.slow
def test_narration_shows_commands_with_their_output(capsys: pytest.CaptureFixture[str]) -> None:
    """Each kind of command of the issue is there, and the digest of the first push comes back everywhere."""
    assert main(["demo", "--no-engine"]) == 0
    out = capsys.readouterr().out
    commands = [line[2:].split()[1] for line in out.splitlines() if line.startswith("$ manyfest ")]
    assert commands[:8] == ["copy"] * 8
    assert commands[8:13] == ["create", "annotate", "push", "push", "inspect"]
    assert commands[13:] == ["resolve"] * 8 + ["verify", "copy", "copy", "inspect"]
    digest = out.split("$ manyfest push ")[1].split("sha256:")[1][:64]
    assert out.count(digest) >= 3
    assert "$ manyfest annotate " in out
    assert "manyfest demo --keep tour" in out.split("Try next:")[1]


@pytest.mark.slow
def test_kept_folder_is_whole(outside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The layout holds the list; the spec file is there; the hints name the folder."""
    assert main(["demo", "--no-engine", "--keep", "tour"]) == 0
    out = capsys.readouterr().out
    tour = outside / "work" / "tour"
    with Layout(str(tour / "shelf")) as layout:
        platforms = [str(entry.platform) for entry in layout.resolve("1.0").index.manifests]
    assert platforms == PLATFORMS
    assert "linux/arm/v7" in (tour / "hello.yaml").read_text(encoding="utf-8")
    assert f"oci:{tour}/shelf:1.0" in out
    assert left_behind(outside / "home") == []


@pytest.mark.slow
def test_quiet_prints_the_digest_only(capsys: pytest.CaptureFixture[str]) -> None:
    """One line for scripts."""
    assert main(["demo", "--no-engine", "-q"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("sha256:")
    assert (captured.out.count("\n"), captured.err) == (1, "")


def test_folder_to_keep_must_be_empty(outside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody's files are mixed with the demo's."""
    (outside / "work" / "mine.txt").write_text("mine", encoding="utf-8")
    assert main(["demo", "--keep", "."]) == 2
    assert "not empty" in capsys.readouterr().err
    assert [path.name for path in left_behind(outside)] == ["mine.txt"]


def test_folder_to_keep_that_is_a_file(outside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A clear error, not a traceback."""
    (outside / "work" / "mine.txt").write_text("mine", encoding="utf-8")
    assert main(["demo", "--keep", "mine.txt"]) == 2
    assert "mine.txt" in capsys.readouterr().err


def test_failing_step_stops_the_demo_with_its_output(
    outside: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command, its exit code and its words; and the folder is removed."""
    monkeypatch.setattr(demo, "_in_process", lambda argv: (3, "", "the disk is on fire\n"))
    assert main(["demo", "--no-engine"]) == 3
    captured = capsys.readouterr()
    assert "the disk is on fire" in captured.out
    assert "exit code 3 from manyfest copy" in captured.err
    assert left_behind(outside) == []


def test_interrupt_inside_a_step_ends_the_demo(
    outside: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that was interrupted exits with 130; the demo does the same and cleans up."""
    monkeypatch.setattr("manyfest.cli.main.main", lambda argv: 130)
    assert main(["demo", "--no-engine"]) == 130
    assert left_behind(outside) == []


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_signal_ends_the_process_and_cleans_up(outside: Path) -> None:
    """SIGINT to the whole process after its first line."""
    environment = {**os.environ, "TMPDIR": str(outside / "temporary"), "PYTHONUNBUFFERED": "1"}
    code = "import sys; sys.path[:0] = sys.argv[1:2]; from manyfest.cli.main import entry; sys.argv[1:2] = []; entry()"
    source = str(Path(demo.__file__).parents[3])
    with subprocess.Popen(
        [sys.executable, "-c", code, source, "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        text=True,
    ) as process:
        assert process.stdout is not None
        while line := process.stdout.readline():
            if line.startswith("$ "):
                break
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "manyfest: interrupted\n")
    assert left_behind(outside) == []


def application(folder: Path, compile: str) -> Path:
    """A project to build."""
    project = folder / "app"
    project.mkdir()
    (project / "Dockerfile").write_text('FROM scratch\nCOPY out/app /app\nENTRYPOINT ["/app"]\n')
    text = f"image: app\nplatforms: [linux/amd64, linux/s390x]\ncompile: {compile}\n"
    (project / "manyfest.yaml").write_text(text)
    return project


@pytest.mark.slow
def test_application_without_its_compiler_is_left_out(
    outside: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said, with how to get it; the demo is whole otherwise, and takes seconds."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("manyfest.build.toolchains.golang._find", lambda: on_path("go"))
    project = application(outside / "work", "{toolchain: go, outputs: [out/app]}")
    assert main(["demo", "--no-engine", "--app", str(project)]) == 0
    out = capsys.readouterr().out
    assert "Left out, for its compiler is not here: toolchain go: no go is installed" in out
    assert "To have it: pip install 'manyfest[toolchains]'" in out
    assert main(["demo", "--no-engine", "--app", str(project), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["platforms"] == PLATFORMS
    assert (summary["app"]["digest"], summary["app"]["answers"]) == (None, [])
    assert summary["app"]["skipped"].startswith("toolchain go")
    assert set(summary["app"]) == keys_of_table("demo", "`app`, with `--app`:")
    assert set(summary) == keys_of_command("demo") - {"null"}


@pytest.mark.slow
def test_application_that_does_not_compile_fails(
    outside: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The compiler's words are shown, and nothing is left."""
    monkeypatch.setenv("MANYFEST_CACHE", str(outside / "work/cache"))
    project = application(outside / "work", "{run: 'echo no such header >&2; exit 7', outputs: [out/app]}")
    assert main(["demo", "--no-engine", "--app", str(project)]) == 3
    captured = capsys.readouterr()
    assert "no such header" in captured.out
    assert "exit code 3 from manyfest build" in captured.err
    assert left_behind(outside / "temporary") == []


@pytest.mark.slow
def test_what_takes_long_is_told_under_json_too(
    outside: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On standard error, beside the one document; an application that never answers is named."""
    monkeypatch.setenv("MANYFEST_CACHE", str(outside / "work/cache"))
    monkeypatch.setattr("manyfest.cli.demoapp.START_S", 0.2)
    for platform in ("linux/amd64", "linux/s390x"):
        path = outside / "work" / platform.replace("/", "-")
        path.write_bytes(program(Platform.parse(platform)))
        path.chmod(0o755)
    project = application(outside / "work", "{run: 'cp ../{os}-{arch} {out}/out/app', outputs: [out/app]}")
    assert main(["demo", "--no-engine", "--app", str(project), "--json"]) == 0
    captured = capsys.readouterr()
    assert "compiled for linux/s390x" in captured.err
    summary = json.loads(captured.out)
    assert summary["app"]["digest"].startswith("sha256:")
    assert (summary["app"]["skipped"], summary["app"]["answers"]) == (None, [])
    assert left_behind(outside / "temporary") == []


def test_application_that_is_none(outside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything else is done."""
    (outside / "work/Dockerfile").write_text("FROM scratch\n")
    for folder, message in ((".", "expected a project that compiles"), ("nowhere", "a clone of manyfest")):
        assert main(["demo", "--app", folder]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("words", [[], ["--quiet"]])
def test_serving_ends_well_on_an_interrupt(outside: Path, words: list[str]) -> None:
    """The registry answers until then, and where it is is told whatever else is not."""
    source = str(Path(demo.__file__).parents[3])
    environment = {**os.environ, "PYTHONPATH": source, "TMPDIR": str(outside / "temporary")}
    command = [sys.executable, "-m", "manyfest", "demo", "--no-engine", "--serve", *words]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        text=True,
    ) as process:
        assert process.stdout is not None
        host = ""
        while line := process.stdout.readline():
            if found := re.search("The registry at ([0-9.:]+), with", line):
                host = found[1]
            if "Ctrl-C ends it" in line:
                break
        connection = HTTPConnection(host, timeout=10)
        connection.request("GET", "/v2/hello/tags/list")
        assert json.loads(connection.getresponse().read())["tags"][0] == "1.0"
        connection.close()
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    assert (process.returncode, left_behind(outside)) == (0, [])
    assert out.startswith("sha256:") if words else "Done:" in out


def engine(folder: Path, name: str, text: str) -> None:
    """A stand-in for an engine's command."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(0o755)


@pytest.fixture
def tour() -> demo.Tour:
    """A tour whose programs for two platforms ran by the kernel."""
    made = demo.Tour(Console(out=io.StringIO()), "127.0.0.1:1")
    made.runs = [
        {"platform": "linux/amd64", "how": "native", "output": "linux/amd64", "ok": True},
        {"platform": "linux/arm64", "how": "qemu-aarch64-static", "output": "linux/arm64", "ok": True},
        {"platform": "linux/s390x", "how": "binfmt_misc", "output": "linux/s390x", "ok": True},
    ]
    return made


def text_of(tour: demo.Tour) -> str:
    """What the tour told."""
    assert isinstance(tour.console.out, io.StringIO)
    return tour.console.out.getvalue()


def test_engine_runs_what_the_kernel_can(
    outside: Path, tour: demo.Tour, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker is asked for the native and the registered platforms, and the image is removed after."""
    engine(outside, "docker", 'echo "$@" >> log; case $1 in run) shift 4; echo "$1";; esac')
    monkeypatch.setenv("PATH", f"{outside}:/usr/bin:/bin")
    tour.run_in_engine()
    assert [run["platform"] for run in tour.runs[3:]] == ["linux/amd64", "linux/s390x"]
    assert {run["ok"] for run in tour.runs[3:]} == {True}
    log = (outside / "work" / "log").read_text(encoding="utf-8").splitlines()
    assert [line.split()[0] for line in log] == ["version", "run", "image", "run", "image"]
    assert log[-1] == "image rm --force 127.0.0.1:1/hello:1.0"
    assert "$ docker run --rm --pull=always --platform linux/s390x" in text_of(tour)


def test_engine_that_fails_is_told_and_no_failure(
    outside: Path, tour: demo.Tour, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Podman is asked when there is no docker; its last line says why it did not run."""
    engine(outside, "podman", 'case $1 in run) echo "first" >&2; echo "no namespaces" >&2; exit 125;; esac')
    monkeypatch.setenv("PATH", str(outside))
    tour.run_in_engine()
    assert [run["ok"] for run in tour.runs[3:]] == [None, None]
    assert "could not: no namespaces" in text_of(tour)


@pytest.mark.parametrize(("hard", "asked"), [(4096, True), (2**20, False), (resource.RLIM_INFINITY, False)])
def test_podman_asks_for_no_more_files_than_there_may_be(
    outside: Path, tour: demo.Tour, monkeypatch: pytest.MonkeyPatch, hard: int, asked: bool
) -> None:
    """In a container it may have few, and would not start."""
    engine(outside, "podman", 'echo "$@" >> log; case $1 in run) echo linux/amd64;; esac')
    monkeypatch.setenv("PATH", str(outside))
    monkeypatch.setattr("resource.getrlimit", lambda _: (1024, hard))
    tour.runs = tour.runs[:1]
    tour.run_in_engine()
    log = (outside / "work" / "log").read_text(encoding="utf-8")
    assert ("--ulimit nofile=4096:4096" in log) is asked
    assert ("--ulimit" in log) is asked


def test_no_engine_says_nothing(outside: Path, tour: demo.Tour, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client whose engine is not running counts as none."""
    engine(outside, "docker", "exit 1")
    monkeypatch.setenv("PATH", str(outside))
    tour.run_in_engine()
    assert (len(tour.runs), text_of(tour)) == (3, "")


def test_wrong_output_fails(tour: demo.Tour) -> None:
    """An image that does not do what it says is the answer no."""
    with pytest.raises(VerificationFailed, match="expected linux/arm64, got linux/amd64"):
        tour.expect("what ran", "linux/amd64", "linux/arm64")
