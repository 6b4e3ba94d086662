# SPDX-License-Identifier: Apache-2.0
"""Containers through docker's and podman's commands, with scripts in their place."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from manyfest.engines import containers as module
from manyfest.engines.containers import Containers, Ran, find
from manyfest.errors import EngineError

STATE = '{"ExitCode": %s, "Error": "%s", "OOMKilled": false, "StartedAt": "2026-11-25T00:00:00Z"}'


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on PATH, besides the shell's."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def engine(place: Path, body: str, name: str = "docker") -> Containers:
    """An engine whose command is a script; its calls are in the file log."""
    path = place / name
    path.write_text(f'#!/bin/sh\necho "$*" >> "{place}/log"\n{body}\n')
    path.chmod(0o755)
    return Containers(name)


def started(state: str, output: str = "", errors: str = "", code: int = 0) -> str:
    """A script that answers start and inspect."""
    return (
        f"case $1 in start) printf '{output}'; printf '{errors}' >&2; exit {code};;\n"
        f"inspect) echo '{state}';; esac"
    )


def test_a_run(place: Path) -> None:
    """Created without network and log, started, asked how it ended, removed."""
    ran = engine(place, started(STATE % (3, ""), "out\\n", "err\\n", 3)).run("img", ["a", "-b"], timeout_s=20)
    assert (ran.exit_code, ran.output, ran.errors, ran.problem) == (3, b"out\n", b"err\n", "")
    log = (place / "log").read_text().splitlines()
    assert [line.split()[0] for line in log] == ["create", "start", "inspect", "rm"]
    assert "--network none --log-driver none --pull=never img a -b" in log[0]
    name = log[0].split()[2]
    assert all(name in line for line in log)


def test_never_started(place: Path) -> None:
    """The engine's reason is the problem, and the code is none of the program's."""
    ran = engine(place, started(STATE % (127, "no such file"), "", "docker: no such file", 127)).run(
        "img", timeout_s=20
    )
    assert (ran.exit_code, ran.problem) == (-1, "no such file")


def test_created_but_never_ran(place: Path) -> None:
    """Podman leaves the state empty: then the last words are the reason."""
    state = '{"ExitCode": 0, "Error": "", "Status": "created", "StartedAt": "0001-01-01T00:00:00Z"}'
    ran = engine(place, started(state, "", "Error: it is broken", 126)).run("img", timeout_s=20)
    assert ran.problem == "it is broken"


def test_refused_to_create(place: Path) -> None:
    """An answer, not an exception; there is nothing to remove."""
    script = "case $1 in create) echo 'Error response from daemon: no way' >&2; exit 1;; esac"
    ran = engine(place, script).run("img", timeout_s=20)
    assert (ran.exit_code, ran.problem) == (-1, "create: no way")
    assert "rm" not in (place / "log").read_text().split()


def test_too_long(place: Path) -> None:
    """Killed, and removed."""
    script = "start) printf so; : > said; exec sleep 30;; kill) while ! [ -e said ]; do sleep 0.01; done;;"
    ran = engine(place, f"case $1 in {script} esac").run("img", timeout_s=0.3)
    assert (ran.timed_out, ran.exit_code, ran.output) == (True, -1, b"so")
    assert [line.split()[0] for line in (place / "log").read_text().splitlines()] == [
        "create",
        "start",
        "kill",
        "rm",
    ]


def test_stopping(place: Path) -> None:
    """From another thread: what runs is killed and removed, and nothing starts any more."""
    docker = engine(place, "")
    docker._running.add("manyfest-a")
    docker.stop()
    assert (place / "log").read_text() == "kill manyfest-a\n"
    ran = docker.run("img", timeout_s=20)
    assert ran.problem == "it was not started: stopped before"
    assert [line.split()[0] for line in (place / "log").read_text().splitlines()] == ["kill", "create", "rm"]


def test_stopping_one_that_is_being_started(place: Path) -> None:
    """The engine kills nothing before it runs, so it is asked again."""
    os.mkfifo(place / "starting")
    script = (
        "case $1 in start) : > starting; while ! [ -e killed ]; do sleep 0.01; done; exit 137;;\n"
        "kill) [ -e asked ] && : > killed; : > asked; echo 'Error: it is not running' >&2; exit 1;;\n"
        f"inspect) echo '{STATE % (137, '')}';; esac"
    )
    docker = engine(place, script)
    ended: list[Ran] = []
    thread = threading.Thread(target=lambda: ended.append(docker.run("img", timeout_s=60)))
    thread.start()
    (place / "starting").read_text()
    docker.stop()
    thread.join(30)
    assert [ran.exit_code for ran in ended] == [137]


def test_endless_output_is_cut(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The beginning is kept, the rest read and dropped."""
    monkeypatch.setattr(module, "MAX_OUTPUT", 100)
    script = f"case $1 in start) head -c 300000 /dev/zero;; inspect) echo '{STATE % (0, '')}';; esac"
    ran = engine(place, script).run("img", timeout_s=20)
    assert (ran.exit_code, len(ran.output)) == (0, 100)


def test_strange_state(place: Path) -> None:
    """An error that says so; the container is removed all the same."""
    with pytest.raises(EngineError, match="cannot be read"):
        engine(place, started("nonsense")).run("img", timeout_s=20)
    assert (place / "log").read_text().splitlines()[-1].startswith("rm --force --volumes manyfest-")


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("Loaded image: manyfest-probe:1", "manyfest-probe:1"),
        ("Loaded image ID: sha256:abc", "sha256:abc"),
        ("noise\\nLoaded image: localhost/manyfest-probe:1", "localhost/manyfest-probe:1"),
        ("Loaded image(s): localhost/manyfest-probe:1", "localhost/manyfest-probe:1"),
    ],
)
def test_loading(place: Path, said: str, name: str) -> None:
    """What engines of all ages print."""
    assert engine(place, f"printf '{said}\\n'").load("/x.tar") == name


def test_loading_that_says_nothing(place: Path) -> None:
    """Then nobody knows what to run."""
    with pytest.raises(EngineError, match="did not say its name"):
        engine(place, "").load("/x.tar")


def test_forgetting_never_fails(place: Path) -> None:
    """It is a cleaning up."""
    engine(place, "exit 1").forget("img")


def test_platform_is_asked_once(place: Path) -> None:
    """Of the server."""
    docker = engine(place, "echo linux/arm64")
    assert str(docker.platform()) == str(docker.platform()) == "linux/arm64"
    assert len((place / "log").read_text().splitlines()) == 1


def test_unreachable_engine(place: Path) -> None:
    """With what to do."""
    docker = engine(place, "echo 'Cannot connect to the Docker daemon at unix:///x.' >&2; exit 1")
    with pytest.raises(EngineError, match="Cannot connect") as caught:
        docker.platform()
    assert "start the engine" in caught.value.hint


def test_finding(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first that answers; one that was asked for must answer."""
    engine(place, "exit 1")
    monkeypatch.setenv("PATH", str(place))
    assert find() is None
    with pytest.raises(EngineError):
        find("docker")
    with pytest.raises(EngineError, match="there is no command podman"):
        find("podman")
    engine(place, "echo linux/amd64", "podman")
    found = find()
    assert found is not None
    assert found.name == "podman"


def test_unknown_engine() -> None:
    """Two are known."""
    with pytest.raises(EngineError, match="expected docker or podman"):
        Containers("rkt")


@pytest.mark.parametrize(
    ("where", "environment", "remote"),
    [
        ("", "", False),
        ("", "unix:///x", False),
        ("", "tcp://a:1", True),
        ("ssh://a", "", True),
        ("unix:///x", "tcp://a:1", False),
    ],
)
def test_remote(
    place: Path, monkeypatch: pytest.MonkeyPatch, where: str, environment: str, remote: bool
) -> None:
    """Another machine's emulators are not this one's."""
    engine(place, "")
    monkeypatch.setenv("DOCKER_HOST", environment)
    docker = Containers("docker", where)
    assert docker.is_remote is remote
    assert str(docker) == (f"docker at {where}" if where else "docker")


def test_podman_gets_limits_it_may_set(place: Path) -> None:
    """It would ask for more than a nested one may have."""
    engine(place, started(STATE % (0, "")), "podman").run("img", timeout_s=20)
    assert "--ulimit nofile=" in (place / "log").read_text()


def test_values() -> None:
    """Equal when all is equal."""
    assert Ran(0, b"a") == Ran(0, b"a")
