# SPDX-License-Identifier: Apache-2.0
"""watch and dashboard, as commands."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.cli.conftest import Run
from tests.cli.test_main import process

from manyfest.serve.exchange import Request, Response
from manyfest.serve.http import Server

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "dashboard.md").read_text(encoding="utf-8")


class Answers:
    """A service on some architecture."""

    def handle(self, request: Request, /) -> Response:
        return Response(200, {}, b"Hello from linux/arm64\n")


@pytest.fixture
def service() -> Iterator[str]:
    """Where it answers."""
    with Server(Answers()) as server:
        yield f"{server.url}/"


def test_watch_once(run: Run, app: str, service: str) -> None:
    """Tables of what was asked for."""
    shown = run("watch", f"{app}:attested", "--probe", service, "--once").out
    assert re.search(rf"^{app}:attested sha256:\w{{12}}: 0 errors, 0 warnings$", shown, re.MULTILINE)
    assert re.search(r"^linux/arm64 +sha256:\w{12} +.* kB +1 +provenance +yes +0 +0$", shown, re.MULTILINE)
    assert re.search(r"^arm64 +8 +100 %$", shown, re.MULTILINE)


def test_watch_once_as_json(run: Run, app: str, service: str) -> None:
    """The keys that the page describes."""
    shown = run("watch", f"{app}:attested", "--probe", service, "--once", "--json").json
    assert set(shown) == {"version", "lists", "swarm", "probe", "changes"}
    described = set(re.findall(r"`(\w+)`", PAGE.partition("## The state\n")[2]))
    (found,) = shown["lists"]
    used = {
        *shown,
        *found,
        *found["platforms"][0],
        *shown["probe"],
        *shown["probe"]["recent"][0],
        *shown["changes"][0],
    }
    assert used <= described


def test_every_tag_of_a_repository(run: Run, app: str) -> None:
    """And no other."""
    shown = run("watch", "--registry", app, "--once", "--json").json
    assert {found["name"] for found in shown["lists"]} == {
        f"{app}:{t}" for t in ("amd64", "armhf", "s390x", "attested")
    }


def test_what_cannot_be_looked_at(
    run: Run, app: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each in words, the others all the same; exit code 3."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    ended = run("watch", f"{app}:none", f"{app}:amd64", "--swarm", "--once", ok=False)
    assert ended.code == 3
    assert f"{app}:none: cannot be read" in ended.out
    assert "no such socket" in ended.out
    assert re.search(r"^linux/amd64 ", ended.out, re.MULTILINE)


@pytest.mark.parametrize("command", ["watch", "dashboard"])
@pytest.mark.parametrize("words", [(), ("--probe", "ftp://x/"), ("App:1",), ("--registry", "oci:")])
def test_nothing_to_look_at(run: Run, command: str, words: tuple[str, ...]) -> None:
    """Said at once, before anything is served."""
    ended = run(command, *words, ok=False)
    assert (ended.code, ended.out) == (2, "")


@pytest.mark.slow
def test_watch_in_a_pipe(app: str, service: str) -> None:
    """A line for each change, until Ctrl-C, which is success."""
    watching = process(
        "watch", f"{app}:attested", "--probe", service, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert watching.stdout is not None
    lines = {watching.stdout.readline().split(" ", 1)[1].rstrip("\n") for _ in range(3)}
    watching.send_signal(signal.SIGINT)
    out, err = watching.communicate(timeout=30)
    assert (watching.returncode, out, err) == (0, "", "")
    assert {"arm64 answers", f"{app}:attested: no errors found"} < lines


@pytest.mark.slow
def test_watch_json_in_a_pipe(service: str) -> None:
    """A document a line."""
    watching = process("watch", "--probe", service, "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert watching.stdout is not None
    documents = [json.loads(watching.stdout.readline()) for _ in range(3)]
    watching.send_signal(signal.SIGINT)
    _, err = watching.communicate(timeout=30)
    assert (watching.returncode, err) == (0, "")
    assert documents[1]["version"] < documents[2]["version"]
    assert documents[2]["probe"]["answers"][0]["name"] == "arm64"


@pytest.mark.slow
def test_watch_in_a_terminal(service: str) -> None:
    """Drawn in place on a screen of its own; the last state stays."""
    ours, theirs = pty.openpty()
    try:
        watching = process("watch", "--probe", service, stdout=theirs, stderr=subprocess.PIPE)
        drawn = b""
        while b"ANSWERED BY" not in drawn:
            drawn += os.read(ours, 65536)
        watching.send_signal(signal.SIGINT)
        while b"\x1b[?1049l" not in drawn or not drawn.partition(b"\x1b[?1049l")[2].strip():
            drawn += os.read(ours, 65536)
        _, err = watching.communicate(timeout=30)
    finally:
        os.close(ours)
        os.close(theirs)
    assert (watching.returncode, err) == (0, "")
    assert b"the last" in drawn.partition(b"\x1b[?1049l")[2]


def get(url: str, path: str, cookie: str = "") -> tuple[int, str, str]:
    """Status, body, the cookie that is set."""
    connection = HTTPConnection(urlsplit(url).hostname or "", urlsplit(url).port, timeout=10)
    try:
        connection.request("GET", path, headers={"Cookie": cookie} if cookie else {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.headers.get("Set-Cookie", "").partition(";")[0]
    finally:
        connection.close()


@pytest.mark.slow
def test_dashboard_serves_until_it_is_stopped(app: str) -> None:
    """The address on standard output; Ctrl-C is success."""
    serving = process("dashboard", f"{app}:attested", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert serving.stdout is not None
    url = serving.stdout.readline().strip()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", url)
    assert get(url, "/")[0] == 200
    assert json.loads(get(url, "/state.json")[1])["lists"][0]["name"] == f"{app}:attested"
    serving.send_signal(signal.SIGINT)
    _, err = serving.communicate(timeout=30)
    assert (serving.returncode, err.splitlines()[-1]) == (0, "stopped")


@pytest.mark.slow
@pytest.mark.parametrize("words", [("--token", "always"), ("--host", "0.0.0.0")])
def test_dashboard_demands_its_token(app: str, words: tuple[str, ...]) -> None:
    """Where others could reach it, or when asked to."""
    command = ("dashboard", f"{app}:amd64", *words, "--json")
    serving = process(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert serving.stdout is not None
    shown = "".join(iter(serving.stdout.readline, "}\n")) + "}"
    told = json.loads(shown)
    assert set(told) == {"url", "host", "token"}
    url = urlsplit(told["url"])
    here = f"http://127.0.0.1:{url.port}/"
    assert get(here, "/")[0] == 401
    status, _, cookie = get(here, f"/?{url.query}")
    assert status == 303
    assert get(here, "/", cookie)[0] == 200
    serving.send_signal(signal.SIGTERM)
    _, err = serving.communicate(timeout=30)
    assert serving.returncode == 0
    assert url.query.partition("=")[2] not in err


def test_a_port_that_cannot_be(run: Run, app: str) -> None:
    """Said before anything is served."""
    assert run("dashboard", app, "--port", "70000", ok=False).code == 2
