# SPDX-License-Identifier: Apache-2.0
"""What goes wrong on a real swarm while we deploy, balance and watch: said clearly, and the swarm is left in order."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.real.nginx_image import Wrk
from tests.real.parts import Host, free_port
from tests.real.swarm import (
    BOTH,
    PORT,
    MixedSwarm,
    ask,
    ask_port,
    is_answering,
    push,
    running,
    try_to_ask,
    until,
)

from manyfest.deploy.renewal import RENEWED

pytestmark = [pytest.mark.real, pytest.mark.slow]

MISSED, WELL = "going on with the nodes known", "web: all is well again"
WEB = ("-p", f"{PORT}:8080", "--publish-mode", "host")


class Tap:
    """A manager's socket where somebody listens in, and calls ``then`` before a request with ``word`` arrives."""

    def __init__(self, path: Path, manager: str, word: bytes, then: Callable[[], None]) -> None:
        self.host = f"unix://{path}"
        self._manager, self._word, self._then = manager.removeprefix("unix://"), word, then
        self._called = False
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(str(path))
        self._door.listen()
        self._threads = [threading.Thread(target=self._serve, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Tap:
        return self

    def __exit__(self, *error: object) -> None:
        self._door.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        self._door.close()
        assert self._called, "the request that was waited for did not come"

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._door.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._pass, args=(client,), daemon=True))
            self._threads[-1].start()

    def _pass(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as engine:
            engine.connect(self._manager)
            back = threading.Thread(target=self._forward, args=(engine, client), daemon=True)
            back.start()
            self._forward(client, engine)
            back.join(10)

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(65536):
                if self._word in piece and not self._called:
                    self._called = True
                    self._then()
                target.sendall(piece)
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)


def test_the_registry_goes_away_before_the_nodes_have_pulled(ship: Host, mixed: MixedSwarm) -> None:
    """What ran before runs again; once the registry is back the same command works."""
    good, new = push(ship, mixed, "here", *BOTH), push(ship, mixed, "away", *BOTH)
    ship.manyfest("deploy", "web", good, *WEB)
    with Tap(ship.home / "tap", mixed.x86.docker_host, b"/update?", mixed.registry_server.kill) as tap:
        ship.env["DOCKER_HOST"] = tap.host
        failed = ship.manyfest("deploy", "web", new, ok=False)
    ship.env["DOCKER_HOST"] = mixed.x86.docker_host
    try:
        assert failed.code == 3
        assert "No such image" in failed.err
        assert "the node cannot pull it: not there, no credentials, or no way to the registry" in failed.err
        assert f"web runs {good}@sha256:" in failed.err
        assert [ask(node) for node in mixed.nodes] == ["amd64", "386"]
        again = ship.manyfest("deploy", "web", new, ok=False)
        assert (again.code, f"{mixed.registry}" in again.err) == (3, True)
    finally:
        mixed.registry_server.start()
    until(lambda: ship.manyfest("tags", f"{mixed.registry}/away", ok=False).code == 0, "the registry")
    ship.manyfest("deploy", "web", new)


def test_another_program_has_the_port_on_one_node(ship: Host, mixed: MixedSwarm) -> None:
    """Named with the node; nothing is left."""
    image = push(ship, mixed, "crowded", *BOTH)
    command = [
        "nsenter",
        f"--net=/run/netns/{mixed.old.space}",
        "socat",
        f"TCP-LISTEN:{PORT},fork",
        "SYSTEM:true",
    ]
    other = subprocess.Popen(command)
    try:
        until(lambda: is_open(mixed.old.address, PORT), "socat")
        failed = ship.manyfest("deploy", "web", image, *WEB, ok=False)
    finally:
        other.kill()
        other.wait()
    assert failed.code == 3
    assert "\n  old: " in failed.err
    assert "\n  x86: " not in failed.err
    assert "another program has this port on the node" in failed.err
    assert "the service web was removed again" in failed.err
    assert mixed.x86.docker("service", "ls", "-q") == ""


def test_a_task_dies_once_in_an_update(ship: Host, mixed: MixedSwarm) -> None:
    """Swarm stops the update half-way and tries that task again; the deployment arrives when that works."""
    image = push(ship, mixed, "once", *BOTH)
    ship.manyfest("deploy", "web", image, *WEB)
    with deploying(ship, "web", image, "--env", "WORD=new", "--update-delay", "3") as deployment:
        until(lambda: kill_one(mixed, "WORD=new"), "a task of the update")
        out, err = deployment.communicate(timeout=120)
    assert deployment.returncode == 0, out + err
    assert "web: updated, 2 of 2 tasks run" in out
    assert [ask(node) for node in mixed.nodes] == ["amd64 new", "386 new"]
    labels = mixed.x86.docker("service", "inspect", "-f", "{{json .Spec.Labels}}", "web")
    assert RENEWED in labels, "Swarm has not stopped the update, so this has shown nothing"


def kill_one(mixed: MixedSwarm, variable: str) -> bool:
    """A running container with that environment, on whichever node it is."""
    for node in mixed.nodes:
        for id in node.docker("ps", "-q", "--no-trunc").split():
            if variable in node.docker("inspect", "-f", '{{join .Config.Env "\\n"}}', id).split("\n"):
                node.docker("kill", id)
                return True
    return False


def test_the_manager_restarts_under_everything(ship: Host, mixed: MixedSwarm) -> None:
    """The balancer goes on with the node that is left, the watcher says so, and a deployment arrives all the same."""
    first, second = push(ship, mixed, "before", *BOTH), push(ship, mixed, "after", *BOTH)
    ship.manyfest("deploy", "web", first, *WEB)
    port = free_port()
    watched = Host(ship.home / "watch", dict(ship.env))
    watched.home.mkdir()
    balancing = ("balance", "web", "--listen", f"127.0.0.1:{port}", "--run", "--interval", "0.2")
    with running(ship, *balancing) as balanced, running(watched, "watch", "--swarm") as seen:
        until(lambda: is_answering(port), "nginx")
        until(lambda: "the swarm has 2 nodes" in seen.read_text(), "the first look")
        mixed.x86.kill()
        until(lambda: {ask_port(port) for _ in range(8)} == {"386"}, "the node that died to be passed over")
        until(lambda: MISSED in balanced.read_text(), balanced.read_text())
        assert {ask_port(port) for _ in range(20)} == {"386"}
        until(lambda: "nothing answers" in seen.read_text(), "the watcher to miss the manager")
        mixed.x86.restart()
        until(lambda: {try_to_ask(port) for _ in range(8)} == {"amd64", "386"}, "both to answer")
        until(lambda: WELL in balanced.read_text(), balanced.read_text())
        until(lambda: seen.read_text().count("the swarm has 2 nodes") >= 2, seen.read_text())
        with deploying(ship, "web", second, "--env", "WORD=new") as deployment:
            assert deployment.stderr is not None
            deployment.stderr.readline()
            missed = balanced.read_text().count(MISSED)
            mixed.x86.kill()
            told = "manager: away: it does not answer; waiting for it\n"
            assert told in iter(deployment.stderr.readline, "")
            until(lambda: balanced.read_text().count(MISSED) > missed, "the balancer to miss it as well")
            well = balanced.read_text().count(WELL)
            mixed.x86.restart()
            out, err = deployment.communicate(timeout=300)
        assert deployment.returncode == 0, out + err
        assert "web: updated, 2 of 2 tasks run" in out
        until(lambda: balanced.read_text().count(WELL) > well, balanced.read_text())


@contextmanager
def deploying(ship: Host, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A deployment under way."""
    env = {**ship.env, "PATH": "/usr/bin:/bin", "HOME": str(ship.home)}
    env["PYTHONPATH"] = str(Path(__file__).parents[2] / "src")
    process = subprocess.Popen(
        [sys.executable, "-m", "manyfest", "deploy", *words],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def is_open(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0


def test_a_node_dies_under_load_and_while_we_deploy(ship: Host, mixed: MixedSwarm) -> None:
    """Lost are at most the requests under way; the deployment arrives where there is still a node.

    The last test of this file: after it the swarm has one node.
    """
    image, port = push(ship, mixed, "dying", *BOTH), free_port()
    ship.manyfest("deploy", "web", image, *WEB)
    with running(ship, "balance", "web", "--listen", f"127.0.0.1:{port}", "--run"):
        until(lambda: is_answering(port), "nginx")
        load = Wrk(f"http://127.0.0.1:{port}/", 10, kept=True)
        under_load = []

        def die() -> None:
            under_load.append(load.is_running())
            mixed.old.kill()

        until(lambda: try_to_ask(port) == "386", "the node that is to die")
        with Tap(ship.home / "tap", mixed.x86.docker_host, b"/services/create", die) as tap:
            ship.env["DOCKER_HOST"] = tap.host
            done = ship.manyfest(
                "deploy", "late", image, "-p", "8086:8080", "--publish-mode", "host", "--json"
            )
        counted = load.end()
    ship.env["DOCKER_HOST"] = mixed.x86.docker_host
    assert under_load == [True]
    assert counted.lost <= Wrk.CONNECTIONS, counted.text
    assert counted.requests > 1000, counted.text
    assert (done.json["ok"], done.json["running"], done.json["expected"]) == (True, 1, 1)
    assert "old: left: the node is down" in done.err
    assert ask(mixed.x86, 8086) == "amd64"
