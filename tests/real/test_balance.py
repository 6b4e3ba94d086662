# SPDX-License-Identifier: Apache-2.0
"""`manyfest balance` in each of its ways in front of a real swarm of an x86_64 and an i686 node, under load."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest
from tests.real.nginx_image import Wrk, make_nginx
from tests.real.parts import Host
from tests.real.swarm import BOTH, PORT, MixedSwarm, push, running, until

pytestmark = [pytest.mark.real, pytest.mark.slow]

WAYS = ("process", "container", "service")
LISTEN = 8090


@pytest.fixture(scope="module")
def nginx(mixed: MixedSwarm, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image of nginx in the swarm's registry."""
    home = tmp_path_factory.mktemp("nginx")
    name = f"{mixed.registry}/nginx:1"
    Host(home).manyfest("copy", make_nginx(home / "layout"), name)
    return name


@pytest.fixture
def web(ship: Host, mixed: MixedSwarm) -> str:
    """The service web on both nodes."""
    image = push(ship, mixed, "balanced", *BOTH)
    ship.manyfest("deploy", "web", image, "-p", f"{PORT}:8080", "--publish-mode", "host")
    return image


def place(way: str, mixed: MixedSwarm, nginx: str) -> tuple[str, list[str]]:
    """The address of nginx, and the words for it: a process is in this machine's network, the others in the node's."""
    if way == "process":
        return "127.0.0.1", ["--run"]
    return mixed.x86.address, ["--run", way, "--image", nginx]


def answers(address: str, port: int = LISTEN, count: int = 8) -> Counter[str]:
    """Who answers so many requests, one after another."""
    found: Counter[str] = Counter()
    for _ in range(count):
        connection = HTTPConnection(address, port, timeout=5)
        try:
            connection.request("GET", "/")
            found[connection.getresponse().read().decode().strip()] += 1
        finally:
            connection.close()
    return found


def is_open(address: str, port: int = LISTEN) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((address, port)) == 0


@pytest.mark.parametrize("way", WAYS)
def test_nodes_change_under_load(ship: Host, mixed: MixedSwarm, web: str, nginx: str, way: str) -> None:
    """A drained node leaves and comes back, and no request is lost but those that were under way."""
    address, words = place(way, mixed, nginx)
    changes = [(True, "drain", "web: -old"), (False, "active", "web: +old")]
    seconds = 4
    if way == "service":  # which needs a while for a change
        changes, seconds = changes[:1], 15
    with running(ship, "balance", "web", "--listen", str(LISTEN), *words, "--interval", "0.2") as heard:
        until(lambda: is_open(address), f"nginx\n{heard.read_text()}")
        assert answers(address) == {"amd64": 4, "386": 4}
        for kept, availability, told in changes:
            load = Wrk(f"http://{address}:{LISTEN}/", seconds, kept=kept)
            mixed.x86.docker("node", "update", "--availability", availability, "old")
            until(lambda: heard.read_text().count(told), told)  # noqa: B023 - called at once
            assert load.is_running()
            done = load.end()
            # A service's task is replaced: its socket is closed with the connections that nobody had accepted yet.
            assert done.lost <= (Wrk.CONNECTIONS if way == "service" else 0), done.text
            assert done.requests > 1000, done.text
    mixed.x86.docker("node", "update", "--availability", "active", "old")
    assert not is_open(address)
    assert left_behind(mixed) == []


def left_behind(mixed: MixedSwarm) -> list[str]:
    """Containers, services and configs of balancers."""
    label = "label=io.manyfest.balance"
    asked = (("ps", "-aq"), ("service", "ls", "-q"), ("config", "ls", "-q"))
    return [word for words in asked for word in mixed.x86.docker(*words, "--filter", label).split()]


@pytest.mark.parametrize("way", ["container", "service"])
def test_left_running_and_taken_up_again(
    ship: Host, mixed: MixedSwarm, web: str, nginx: str, way: str
) -> None:
    """The same command again brings it up to date; who finds it running leaves it so; --stop ends it."""
    address, words = place(way, mixed, nginx)
    command = ("balance", "web", "--listen", str(LISTEN), *words)
    made = ship.manyfest(*command, "--detach", "--json").json
    assert (made["run"], made["name"], len(made["upstreams"])) == (way, "web-balancer", 2)
    assert answers(address) == {"amd64": 4, "386": 4}
    mixed.x86.docker("node", "update", "--availability", "drain", "old")
    try:
        ship.manyfest(*command, "--detach")
        assert answers(address) == {"amd64": 8}
    finally:
        mixed.x86.docker("node", "update", "--availability", "active", "old")
    with running(ship, *command, "--interval", "0.2") as heard:
        until(lambda: "old (i686) at" in heard.read_text(), "the node that is back")
        until(lambda: set(answers(address)) == {"amd64", "386"}, "its answer")
    assert is_open(address)
    assert ship.manyfest("balance", "web", "--stop").out == f"{way} web-balancer: removed\n"
    assert not is_open(address)
    assert left_behind(mixed) == []
    gone = ship.manyfest("balance", "web", "--stop", ok=False)
    assert (gone.code, "there is no balancer of web" in gone.err) == (3, True)


@pytest.mark.parametrize("way", WAYS)
def test_a_port_that_is_taken(ship: Host, mixed: MixedSwarm, web: str, nginx: str, way: str) -> None:
    """Said by name, with what to do, and nothing is left."""
    _, words = place(way, mixed, nginx)
    with taken(mixed, way, LISTEN):
        failed = ship.manyfest("balance", "web", "--listen", str(LISTEN), *words, ok=False)
    assert failed.code == 3
    assert "address already in use" in failed.err.lower()
    assert str(LISTEN) in failed.err
    assert "another with --listen" in failed.err
    assert left_behind(mixed) == []


@contextlib.contextmanager
def taken(mixed: MixedSwarm, way: str, port: int) -> Iterator[None]:
    """Somebody else listens there: in this machine's network, or in the manager's."""
    space = [] if way == "process" else ["nsenter", f"--net=/run/netns/{mixed.x86.space}"]
    command = [*space, "socat", f"TCP-LISTEN:{port},fork,reuseaddr", "SYSTEM:true"]
    process = subprocess.Popen(command)
    try:
        address = "127.0.0.1" if way == "process" else mixed.x86.address
        until(lambda: is_open(address, port), "socat")
        yield
    finally:
        process.kill()
        process.wait()


def test_a_container_outlives_its_engine(ship: Host, mixed: MixedSwarm, web: str, nginx: str) -> None:
    """The engine starts it again with the nodes it knew; the command goes on with it."""
    address, words = place("container", mixed, nginx)
    with running(ship, "balance", "web", "--listen", str(LISTEN), *words, "--interval", "0.2") as heard:
        until(lambda: "Ctrl-C ends it" in heard.read_text(), f"nginx\n{heard.read_text()}")
        mixed.x86.restart()
        until(lambda: is_open(address), f"nginx\n{heard.read_text()}")
        until(lambda: set(answers(address)) == {"amd64", "386"}, "both to answer")
        until(lambda: "web: +x86" in heard.read_text(), heard.read_text())
    assert left_behind(mixed) == []


def test_somebody_elses_container(ship: Host, mixed: MixedSwarm, web: str, nginx: str) -> None:
    """Of that name is not touched."""
    mixed.x86.docker("create", "--name", "web-balancer", nginx)
    try:
        for words in (("--run", "container", "--image", nginx), ("--stop",)):
            failed = ship.manyfest("balance", "web", *words, ok=False)
            assert (failed.code, "that is no balancer of web" in failed.err) == (2, True), failed
    finally:
        mixed.x86.docker("rm", "web-balancer")
