# SPDX-License-Identifier: Apache-2.0
"""Projects that cannot be built: a clear error with a hint and its exit code; temporary files gone, no tag moved."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.conftest import Run

from manyfest.cli.buildprogress import LIVE_S, LOG_EVERY_S, LOG_S, Working
from manyfest.cli.console import Console
from manyfest.emulate.programs import program
from manyfest.platforms import Platform

S = "FROM scratch\n"


def archive(kind: bytes = tarfile.REGTYPE) -> bytes:
    """Of one file, packed."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        info = tarfile.TarInfo("x")
        info.type, info.size = kind, 2000
        made.addfile(info, io.BytesIO(bytes(2000)))
    return gzip.compress(out.getvalue(), mtime=0)


class Case:
    """``file``: the Dockerfile. ``compile``: of the project file. ``prepare``: what else is in the folder."""

    def __init__(
        self,
        file: str,
        code: int,
        message: str,
        hint: str,
        *,
        compile: str = "",
        prepare: Callable[[Path], object] | None = None,
        words: tuple[str, ...] = (),
    ) -> None:
        self.file = file
        self.code = code
        self.message = message
        self.hint = hint
        self.compile = compile
        self.prepare = prepare
        self.words = words


CASES = {
    "unknown instruction": Case(
        f"{S}RUNN make\n", 2, "Dockerfile:2: unknown instruction: RUNN", "did you mean RUN?"
    ),
    "no instruction at all": Case(
        f"{S}%%%\n", 2, "Dockerfile:2: unknown instruction: %%%", "instructions are ADD, ARG"
    ),
    "unknown flag": Case(
        f"{S}COPY --form=x a /\n", 2, "Dockerfile:2: COPY: unknown flag --form", "it takes --chmod"
    ),
    "too few words": Case(
        f"{S}COPY a\n",
        2,
        "Dockerfile:2: COPY needs at least 2 arguments, got 1",
        "docs/reference/dockerfile-support.md",
    ),
    "no FROM": Case("", 2, "Dockerfile: no FROM", "a Dockerfile starts with FROM"),
    "RUN without an engine": Case(
        f"{S}RUN make\n",
        3,
        "Dockerfile:2: RUN for linux/amd64: no container engine; looked for docker (not on PATH)",
        "or compile before the image step",
    ),
    "missing file": Case(
        f"{S}COPY nothing /\n", 3, "Dockerfile:2: nothing: not in ", "paths are relative to the project"
    ),
    "ignored file": Case(
        f"{S}COPY hello /\n",
        3,
        "Dockerfile:2: hello: not in ",
        ".dockerignore leaves it out",
        prepare=lambda folder: (folder / ".dockerignore").write_text("hel*\n"),
    ),
    "wrong stage": Case(
        f"FROM scratch AS build\n{S}COPY --from=biuld /x /\n",
        3,
        "Dockerfile:3: the base biuld: ",
        "did you mean build?",
    ),
    "escaping path": Case(
        f"{S}COPY ../x /\n", 3, "Dockerfile:2: ../x leads out of the project", "copy the file into"
    ),
    "absolute escape": Case(
        f"{S}COPY /../../x /\n", 3, "Dockerfile:2: x: not in ", "paths are relative to the project"
    ),
    "link out": Case(
        f"{S}COPY l /\n",
        3,
        "l: a link that leads out of the project, to /etc/passwd",
        "copy the file into the project",
        prepare=lambda folder: (folder / "l").symlink_to("/etc/passwd"),
    ),
    "link out on the way": Case(
        f"{S}COPY e/passwd /\n",
        3,
        "e/passwd: a link that leads out of the project",
        "copy the file into the project",
        prepare=lambda folder: (folder / "e").symlink_to("/etc"),
    ),
    "circle of links": Case(
        f"{S}COPY l /\n",
        3,
        "l: symbolic links that lead in a circle",
        "copy the file itself",
        prepare=lambda folder: (folder / "l").symlink_to("l"),
    ),
    "pipe": Case(
        f"{S}COPY . /\n",
        3,
        "f: a device, pipe or socket in the project",
        "remove it, or list it in .dockerignore",
        prepare=lambda folder: os.mkfifo(folder / "f"),
    ),
    "remote file": Case(
        f"{S}ADD https://a.example/x /\n", 3, "Dockerfile:2: ADD https://a.example/x", "fetch it before"
    ),
    "archive that was cut": Case(
        f"{S}ADD a.tar /\n",
        3,
        "a.tar: compressed content ends early",
        "make the archive again; COPY takes it as the file that it is",
        prepare=lambda folder: (folder / "a.tar").write_bytes(archive()[:-9]),
    ),
    "archive that is damaged": Case(
        f"{S}ADD a.tar /\n",
        3,
        "a.tar: a damaged tar archive",
        "make the archive again",
        prepare=lambda folder: (folder / "a.tar").write_bytes(gzip.decompress(archive())[:1000]),
    ),
    "sparse file in an archive": Case(
        f"{S}ADD a.tar /\n",
        3,
        "a.tar: x: a sparse file that is not read here",
        "make the archive without --sparse",
        prepare=lambda folder: (folder / "a.tar").write_bytes(
            gzip.decompress(archive(tarfile.GNUTYPE_SPARSE))
        ),
    ),
    "empty base": Case(
        "FROM $X\n", 2, "Dockerfile:1: FROM $X names nothing", "give the ARG a default before FROM"
    ),
    "compile fails": Case(
        f"{S}COPY out /\n",
        3,
        "compiling for linux/amd64 ended with exit code 3",
        "run it by hand in ",
        compile="echo said; exit 3",
    ),
    "compile writes nothing": Case(
        f"{S}COPY out /\n",
        3,
        "compiling for linux/amd64 wrote no out",
        "outputs: lists paths",
        compile="true",
    ),
    "wrong architecture": Case(
        f"{S}COPY out /\n",
        3,
        "compiling for linux/amd64: out is for linux/s390x",
        "built for another machine",
        compile="cp s390x out",
        prepare=lambda folder: (folder / "s390x").write_bytes(program(Platform.parse("linux/s390x"))),
    ),
    "expected platform": Case(
        S,
        1,
        "expected linux/arm64, but it is built for linux/amd64 only",
        "build for all that is expected",
        words=("--expect", "linux/arm64"),
    ),
    "numbered stage": Case(
        f"{S}COPY --from=7 /x /\n",
        2,
        "Dockerfile:2: --from=7: no such stage before this one",
        "stages count from 0",
    ),
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to run in, with a cache, a temporary folder, and a PATH of what sh needs: no engines, no network."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "hello").write_text("hello\n")
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("cp", "sh", "true"):
        (programs / name).symlink_to(shutil.which(name) or name)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setenv("MANYFEST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("name", CASES)
def test_bad_input(run: Run, project: Path, tmp_path: Path, host: str, name: str) -> None:
    """The error; then everything is as it was."""
    case, target = CASES[name], f"{host}/acme/app:1"
    (project / "Dockerfile").write_text(f"{S}COPY hello /\n")
    run("build", "-t", target, "--platform", "linux/amd64")
    digest = run("resolve", target, "--platform", "linux/amd64").out
    (project / "Dockerfile").write_text(case.file)
    if case.prepare is not None:
        case.prepare(project)
    if case.compile:
        text = f"image: x\ncompile: {{run: '{case.compile}', outputs: [out]}}\n"
        (project / "manyfest.yaml").write_text(text)
    before = sorted(os.listdir(project))
    failed = run("build", "-t", target, "--platform", "linux/amd64", *case.words, ok=False)
    assert (failed.code, case.message in failed.err) == (case.code, True), failed
    assert case.hint in failed.err.partition("\nhint: ")[2], failed
    assert failed.out == ""
    assert run("resolve", target, "--platform", "linux/amd64").out == digest
    assert sorted(os.listdir(project)) == before
    left = [each for _, folders, files in os.walk(tmp_path / "cache") for each in (*folders, *files)]
    assert [each for each in left if each.startswith(("engine-", "first-", "new-")) or ".part" in each] == []
    assert os.listdir(tmp_path / "tmp") == []


def test_secrets_are_warned_of(run: Run, project: Path) -> None:
    """In ARG and ENV, with the line; it is built all the same."""
    (project / "Dockerfile").write_text(f"{S}ARG NPM_TOKEN\nENV DB_PASSWORD=x PUBLIC_KEY=y\nCOPY hello /\n")
    ran = run("build", "-t", "oci:o:1")
    assert "warning: Dockerfile:2: ARG NPM_TOKEN: build arguments are no place for secrets" in ran.err
    assert "warning: Dockerfile:3: ENV DB_PASSWORD: its value can be read by whoever has the image" in ran.err
    assert "PUBLIC_KEY" not in ran.err


def test_huge_contexts_are_warned_of(run: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what helps, before they are read."""
    monkeypatch.setattr("manyfest.build.caution._MANY_FILES", 3)
    (project / ".git").mkdir()
    for number in range(3):
        (project / ".git" / str(number)).write_text("x")
    (project / "Dockerfile").write_text(f"{S}COPY . /\n")
    ran = run("build", "-t", "oci:o:1")
    assert "Dockerfile:2: copies .git (3 files); list it in .dockerignore" in ran.err
    assert "Dockerfile:2: copies 6 files of 0 MB; .dockerignore can leave some out" in ran.err


def test_images_in_the_context_are_warned_of(run: Run, project: Path) -> None:
    """Each build into the project would hold the one before; nothing is said where they are left out."""
    (project / "Dockerfile").write_text(f"{S}COPY . /srv/\n")
    assert "a folder of images" not in run("build", "-t", "oci:out:1").err
    again = run("build", "-t", "oci:out:1")
    assert "warning: Dockerfile:2: copies srv/out, a folder of images; list it in .dockerignore" in again.err
    (project / ".dockerignore").write_text("out\n")
    assert "a folder of images" not in run("build", "-t", "oci:out:1").err


TARGETS = {
    "name": (("-t", "Bad"), "'Bad': character 1 is 'B'"),
    "one of two names": (("-t", "a/b:1", "-t", "Bad"), "'Bad': character 1 is 'B'"),
    "digest": (("-t", f"a/b@sha256:{'0' * 64}"), "a list has a tag, not a digest"),
    "tag": (("-t", "a/b:1", "--tag", "x y"), "'docker.io/a/b:x y': character 16 is ' '"),
    "tag in a layout": (("-t", "oci:o:1", "--tag", "x y"), "'x y': character 2 is ' '"),
    "two platforms in an engine": (
        ("-t", "docker-daemon:a/b:1"),
        "docker-daemon:a/b:1 holds images of one platform, got 2",
    ),
    "two platforms in its archive": (("-t", "docker-archive:o:a/b:1"), "holds images of one platform, got 2"),
}


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
@pytest.mark.parametrize("name", TARGETS)
def test_targets_are_looked_at_first(run: Run, project: Path, name: str, dry: tuple[str, ...]) -> None:
    """Before minutes of compiling; nothing is made."""
    words, message = TARGETS[name]
    (project / "Dockerfile").write_text(f"{S}COPY out /\n")
    text = "image: x\ncompile: {run: 'cp hello out; cp hello compiled', outputs: [out]}\n"
    (project / "manyfest.yaml").write_text(text)
    before = sorted(os.listdir(project))
    failed = run("build", *words, "--platform", "linux/amd64,linux/arm64", *dry, ok=False)
    assert (failed.code, message in failed.err) == (2, True), failed
    assert sorted(os.listdir(project)) == before


def test_a_folder_that_may_not_be_read(run: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is named; root may read all, so the refusal is made up."""
    (project / "closed").mkdir()
    (project / "Dockerfile").write_text(f"{S}COPY . /\n")
    usual = os.listdir

    def refuse(path: str) -> list[str]:
        if str(path).endswith("/closed"):
            raise PermissionError(13, "Permission denied")
        return usual(path)

    monkeypatch.setattr("manyfest.build.ignore.os.listdir", refuse)
    failed = run("build", "-t", "oci:o:1", ok=False)
    assert (failed.code, f"{project}/closed: Permission denied" in failed.err) == (3, True), failed
    assert "hint: every folder that is copied must be readable" in failed.err


class Terminal(io.StringIO):
    """Standard error, as a terminal or not."""

    def __init__(self, *, live: bool) -> None:
        super().__init__()
        self.live = live

    def isatty(self) -> bool:
        return self.live


def test_progress_on_a_terminal() -> None:
    """One line, after a second; gone when something else is said, and at the end."""
    now = [0.0]
    console = Console()
    console.err = Terminal(live=True)
    with Working(console, lambda: now[0]) as working:
        working.on_bytes("read", 1000)
        assert console.err.getvalue() == ""
        now[0] = LIVE_S
        working.on_bytes("written", 500)
        line = "\rread 1.0 kB of the project, wrote 500 B of layers\x1b[K"
        assert console.err.getvalue() == line
        working.on_bytes("read", 1000)
        working.warn("odd")
        assert console.err.getvalue() == f"{line}\r\x1b[Kmanyfest: warning: odd\n"
    working.on_bytes("read", 1)
    assert console.err.getvalue() == f"{line}\r\x1b[Kmanyfest: warning: odd\n"


def test_progress_in_a_log() -> None:
    """A line when it takes long, and then now and then."""
    now = [0.0]
    console = Console()
    console.err = Terminal(live=False)
    with Working(console, lambda: now[0]) as working:
        for now[0] in (1.0, LOG_S, LOG_S + 1, LOG_S + LOG_EVERY_S):
            working.on_bytes("read", 10**9)
        now[0] += LOG_EVERY_S
        working.on_bytes("listed", 5000)
    assert console.err.getvalue().splitlines() == [
        "read 2.0 GB of the project, wrote 0 B of layers so far",
        "read 4.0 GB of the project, wrote 0 B of layers so far",
        "read 4.0 GB of the project, wrote 0 B of layers, looked into 5.0 kB of them so far",
    ]


def test_progress_hears_of_all_that_is_read(run: Run, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every byte of a project, once."""
    heard = {"read": 0, "written": 0, "listed": 0}

    def on_bytes(self: Working, what: str, count: int) -> None:
        heard[what] += count

    monkeypatch.setattr(Working, "on_bytes", on_bytes)
    (project / "Dockerfile").write_text(f"{S}COPY hello /\n")
    run("build", "-t", "oci:o:1", "--platform", "linux/amd64,linux/arm64")
    assert heard["read"] >= len("hello\n")
    assert heard["written"] > heard["listed"] == 0
    run("build", "-t", "oci:o:1", "--platform", "linux/amd64,linux/arm64", "--sbom")
    assert heard["listed"] >= heard["written"]
