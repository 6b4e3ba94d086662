# SPDX-License-Identifier: Apache-2.0
"""The dashboard on a real swarm of an x86_64 and an i686 node, in a real browser."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from itertools import cycle
from pathlib import Path

import pytest
from tests.real.parts import Host
from tests.real.swarm import MixedSwarm
from tests.real.test_dashboard import browse, kept, until_told, words

from manyfest.serve.exchange import Request, Response
from manyfest.serve.http import Server

pytestmark = [pytest.mark.real, pytest.mark.slow]

PORT = 8082


class Turns:
    """A balancer as small as can be: each node in its turn."""

    def __init__(self, mixed: MixedSwarm) -> None:
        self.nodes = cycle(mixed.nodes)

    def handle(self, request: Request, /) -> Response:
        connection = HTTPConnection(next(self.nodes).address, PORT, timeout=5)
        try:
            connection.request("GET", "/")
            return Response(200, {}, connection.getresponse().read())
        except OSError:
            return Response(502)
        finally:
            connection.close()


@pytest.fixture
def image(here: Host, mixed: MixedSwarm) -> str:
    """A list for both nodes, running on both as the service web."""
    here.env["DOCKER_HOST"] = mixed.x86.docker_host
    name = f"{mixed.registry}/web:1"
    here.manyfest("copy", mixed.layout("web", ("linux/amd64", "linux/386")), name)
    here.manyfest("deploy", "web", name, "-p", f"{PORT}:8080", "--publish-mode", "host")
    return name


def test_a_mixed_swarm_live(here: Host, mixed: MixedSwarm, image: str, tmp_path: Path) -> None:
    """Nodes, tasks and answers of both architectures; a node that is drained is seen to go."""
    with Server(Turns(mixed)) as turns:
        watched = [image, "--swarm", "--probe", f"{turns.url}/"]
        once = here.manyfest("watch", *watched, "--once").out
        assert re.search(r"^linux/386 +i686 +old +worker +ready +1$", once, re.MULTILINE), once
        assert re.search(r"^web +x86 +amd64 +running +-$", once, re.MULTILINE), once
        assert re.search(r"^386 +4 +50 %$", once, re.MULTILINE), once
        see_in_the_browser(here, mixed, image, watched, tmp_path)


def see_in_the_browser(here: Host, mixed: MixedSwarm, image: str, watched: list[str], tmp_path: Path) -> None:
    """Before and after."""
    with dashboard(here, watched) as url:
        until_has(url, b'"verified":true')
        shown = words(browse(tmp_path, url, "--dump-dom"))
        for expected in (image, "i686", "x86_64", "2 of 2 running", "2 of 2 ready", "by 2 architectures"):
            assert expected in shown, shown
        browse(tmp_path, url, f"--screenshot={kept('dashboard-swarm')}", "--window-size=1400,900")
        mixed.x86.docker("node", "update", "--availability", "drain", "old")
        until_has(url, b"node old: drained")
        until_has(url, b"web on old: gone")
        shown = words(browse(tmp_path, url, "--dump-dom"))
        assert "Drained" in shown
        assert "1 of 1 running" in shown


@contextmanager
def dashboard(here: Host, watched: list[str]) -> Iterator[str]:
    """Our dashboard until the block ends, which it has to take well; yields its address."""
    env = {"PATH": os.environ["PATH"], "HOME": str(here.home), **here.env}
    env["PYTHONPATH"] = str(Path(__file__).parents[2] / "src")
    command = [sys.executable, "-m", "manyfest", "dashboard", *watched, "-q"]
    serving = subprocess.Popen(command, stdout=subprocess.PIPE, env=env)
    try:
        assert serving.stdout is not None
        yield serving.stdout.readline().decode().strip()
    finally:
        serving.send_signal(signal.SIGINT)
        serving.communicate(timeout=90)
    assert serving.returncode == 0


def until_has(url: str, text: bytes) -> None:
    """Follow the events until one has a text."""
    until_told(url, lambda line: text in line, text.decode())
