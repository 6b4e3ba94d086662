# SPDX-License-Identifier: Apache-2.0
"""`manyfest deploy` on a real swarm of an x86_64 and an i686 node."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.real.parts import PASSWORD, USER, Done, Host, free_port, listening, need
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

pytestmark = [pytest.mark.real, pytest.mark.slow]

CLIENTS = 4


def platforms_of(mixed: MixedSwarm, service: str) -> set[str]:
    """What Swarm was told."""
    (found,) = json.loads(mixed.x86.docker("service", "inspect", service))
    return {each["Architecture"] for each in found["Spec"]["TaskTemplate"]["Placement"]["Platforms"]}


def exists(mixed: MixedSwarm, service: str) -> bool:
    return service in mixed.x86.docker("service", "ls", "--format", "{{.Name}}").split()


def test_every_node_runs_its_own_architecture(ship: Host, mixed: MixedSwarm) -> None:
    """Create, update, nothing to do, remove; docker's own client strands the i686 node with the same list."""
    first, second = push(ship, mixed, "first", *BOTH), push(ship, mixed, "second", *BOTH)
    made = ship.manyfest(
        "deploy", "web", first, "-p", f"{PORT}:8080", "--publish-mode", "host", "--json"
    ).json
    assert (made["action"], made["ok"], made["running"], made["expected"]) == ("create", True, 2, 2)
    assert {node["name"]: node["platform"] for node in made["nodes"]} == {"x86": BOTH[0], "old": BOTH[1]}
    assert [ask(node) for node in mixed.nodes] == ["amd64", "386"]
    assert {"386", "i686", "amd64"} <= platforms_of(mixed, "web")

    mixed.x86.docker("service", "create", "--detach", "--mode", "global", "--name", "plain", first)
    assert "i686" not in platforms_of(mixed, "plain")
    until(lambda: "unsupported platform on 1 node" in errors_of(mixed, "plain"), "Swarm's own filter")
    mixed.x86.docker("service", "rm", "plain")

    before = {task["ID"] for task in mixed.tasks("web")}
    same = ship.manyfest("deploy", "web", first, "--json").json
    assert same["action"] == "unchanged"
    assert {task["ID"] for task in mixed.tasks("web")} == before

    done = ship.manyfest("deploy", "web", second, "--env", "WORD=again", "--update-parallelism", "0")
    assert "web: updated, 2 of 2 tasks run" in done.out
    assert "old: running" in done.err
    assert [ask(node) for node in mixed.nodes] == ["amd64 again", "386 again"]
    digest = ship.manyfest("inspect", second, "--json").json["digest"]
    assert all(task["Spec"]["ContainerSpec"]["Image"].endswith(f"@{digest}") for task in mixed.tasks("web"))

    assert ship.manyfest("deploy", "--remove", "web").out == "web: removed\n"
    assert not exists(mixed, "web")


def errors_of(mixed: MixedSwarm, service: str) -> str:
    return mixed.x86.docker("service", "ps", "--no-trunc", "--format", "{{.Error}}", service)


def test_a_list_that_lacks_a_node_is_refused(ship: Host, mixed: MixedSwarm) -> None:
    """By the node's name, and nothing is created; with --partial the others have it."""
    image = push(ship, mixed, "lacking", "linux/amd64")
    refused = ship.manyfest("deploy", "web", image, ok=False)
    assert refused.code == 1
    assert "1 of 2 nodes that it may go to: old (i686): no entry is for linux/386" in refused.err
    assert not exists(mixed, "web")
    ship.manyfest("deploy", "web", image, "--constraint", "node.hostname!=old", "--dry-run")
    assert not exists(mixed, "web")
    partial = ship.manyfest("deploy", "web", image, "--partial", "--json")
    assert (partial.json["running"], partial.json["expected"]) == (1, 1)
    assert "warning: old is left out" in partial.err
    assert [task["NodeID"] for task in mixed.tasks("web") if task["Status"]["State"] == "running"] == [
        mixed.x86.docker("info", "--format", "{{.Swarm.NodeID}}")
    ]


def test_a_broken_platform_is_named_and_taken_back(ship: Host, mixed: MixedSwarm) -> None:
    """New: removed. An update: the old image answers on both nodes again."""
    good, bad = push(ship, mixed, "good", *BOTH), push(ship, mixed, "bad", *BOTH, broken="linux/386")
    ship.manyfest("deploy", "web", good, "-p", f"{PORT}:8080", "--publish-mode", "host")
    failed = ship.manyfest("deploy", "web", bad, ok=False)
    assert failed.code == 3
    assert "  old: task: non-zero exit (1)" in failed.err
    assert "exec format error" in failed.err
    assert "the program inside is for another machine" in failed.err
    assert "again, as before" in failed.err
    assert [ask(node) for node in mixed.nodes] == ["amd64", "386"]

    created = ship.manyfest("deploy", "other", bad, "--json", ok=False)
    assert created.code == 3
    assert created.json["rolled_back"] is True
    assert [failure["node"] for failure in created.json["failures"]] == ["old"]
    assert not exists(mixed, "other")
    assert exists(mixed, "web")


def test_nginx_in_front_of_both(ship: Host, mixed: MixedSwarm) -> None:
    """Every architecture answers; a drained node leaves and comes back, a killed container costs no request."""
    need("nginx", package="nginx-light")
    image, port = push(ship, mixed, "balanced", *BOTH), free_port()
    ship.manyfest("deploy", "web", image, "-p", f"{PORT}:8080", "--publish-mode", "host")
    written = ship.manyfest("balance", "web", "--output", str(ship.home / "web.conf"), "--json").json
    assert written["checked"] is True
    assert {each["machine"] for each in written["upstreams"]} == {"x86_64", "i686"}
    assert f"server {mixed.old.address}:{PORT} " in (ship.home / "web.conf").read_text()
    with running(
        ship, "balance", "web", "--listen", f"127.0.0.1:{port}", "--run", "--interval", "0.2"
    ) as heard:
        until(lambda: is_answering(port), "nginx")
        answers = [ask_port(port) for _ in range(50)]
        assert {answers.count("amd64"), answers.count("386")} == {25}
        mixed.old.docker("kill", *mixed.old.docker("ps", "-q").split())
        assert all(ask_port(port) in ("amd64", "386") for _ in range(50))
        mixed.x86.docker("node", "update", "--availability", "drain", "old")
        until(lambda: {ask_port(port) for _ in range(4)} == {"amd64"}, "the drained node to leave")
        mixed.x86.docker("node", "update", "--availability", "active", "old")
        until(lambda: {ask_port(port) for _ in range(4)} == {"amd64", "386"}, "it to come back")
    assert "web: +old; now old (i686) at" in heard.read_text()
    assert not listening(port)


def test_ports_that_are_taken(ship: Host, mixed: MixedSwarm) -> None:
    """By a service: refused. By tasks of one's own: told after the time-out, and removed again."""
    image = push(ship, mixed, "ports", *BOTH)
    ship.manyfest("deploy", "web", image, "-p", f"{PORT}:8080", "--publish-mode", "host")
    taken = ship.manyfest("deploy", "other", image, "-p", f"{PORT}:8080", ok=False)
    assert taken.code == 1
    assert f"port {PORT}/tcp is published by the service web" in taken.err
    words = ("deploy", "crowd", image, "-p", "8083:8080", "--publish-mode", "host", "--replicas", "3")
    crowded = ship.manyfest(*words, "--timeout", "4", ok=False)
    assert crowded.code == 3
    assert "crowd: 2 of 3 tasks run after 4 s" in crowded.err
    assert "another service publishes this port" in crowded.err
    assert not exists(mixed, "crowd")


def test_an_interrupt_leaves_the_service(ship: Host, mixed: MixedSwarm) -> None:
    """And says so."""
    image = push(ship, mixed, "interrupted", *BOTH)
    command = [sys.executable, "-m", "manyfest", "deploy", "web", image, "--replicas", "3", "-p", "8084:8080"]
    env = {**ship.env, "PATH": "/usr/bin:/bin", "HOME": str(ship.home)}
    env["PYTHONPATH"] = str(Path(__file__).parents[2] / "src")
    process = subprocess.Popen(
        [*command, "--publish-mode", "host"], env=env, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if "already in use" in line:
            break
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=90)
    assert process.returncode == 130
    assert "web: interrupted while waiting; the service stays as it is now" in err
    assert exists(mixed, "web")


def test_nodes_get_credentials_for_a_private_registry(ship: Host, mixed: MixedSwarm) -> None:
    """When the registry refuses those who have none; without a login nothing is deployed."""
    target = f"{mixed.private}/private:1"
    login = ("login", mixed.private, "--username", USER, "--password-stdin")
    ship.manyfest(*login, stdin=PASSWORD)
    ship.manyfest("copy", mixed.layout("private", BOTH), target)
    ship.manyfest("logout", mixed.private)
    refused = ship.manyfest("deploy", "web", target, ok=False)
    assert (refused.code, exists(mixed, "web")) == (3, False)
    ship.manyfest(*login, stdin=PASSWORD)
    done = ship.manyfest("deploy", "web", target, "-p", f"{PORT}:8080", "--publish-mode", "host")
    assert f"the nodes get our credentials for {mixed.private}" in done.err
    assert PASSWORD not in done.out + done.err
    assert [ask(node) for node in mixed.nodes] == ["amd64", "386"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("web", "oci:somewhere:1"), 2, "nodes pull from a registry"),
        (("web",), 2, "expected an image"),
        (("web", "{registry}/nosuch:1"), 3, "nosuch"),
        (("--remove", "nosuch"), 3, "there is no service nosuch"),
    ],
)
def test_bad_input(ship: Host, mixed: MixedSwarm, words: tuple[str, ...], code: int, said: str) -> None:
    """Nothing is deployed."""
    done: Done = ship.manyfest("deploy", *(word.format(registry=mixed.registry) for word in words), ok=False)
    assert (done.code, said in done.err) == (code, True), done
    assert not exists(mixed, "web")


def test_a_worker_is_no_manager(ship: Host, mixed: MixedSwarm) -> None:
    ship.env["DOCKER_HOST"] = mixed.old.docker_host
    done = ship.manyfest("deploy", "web", f"{mixed.registry}/first:1", ok=False)
    assert done.code == 3
    assert "hint: ask a manager" in done.err


def test_an_update_goes_on_when_a_node_dies(ship: Host, mixed: MixedSwarm) -> None:
    """Swarm itself waits for the dead node's new task for ever, and the other node keeps the old program."""
    image = push(ship, mixed, "stuck", *BOTH)
    update_first(mixed)
    ship.manyfest("deploy", "web", image, "-p", f"{PORT}:8080", "--publish-mode", "host")
    mixed.old.kill()
    done = ship.manyfest("deploy", "web", image, "--env", "WORD=late", "--timeout", "90", "--json")
    assert (done.json["ok"], done.json["running"], done.json["expected"]) == (True, 1, 1)
    assert "old: left: the node is down" in done.err
    assert ask(mixed.x86) == "amd64 late"
    mixed.old.restart()
    until(lambda: "old Ready" in nodes_of(mixed), "the node to be back")
    assert ship.manyfest("deploy", "web", image, "--json").json["action"] == "unchanged"


def nodes_of(mixed: MixedSwarm) -> list[str]:
    return mixed.x86.docker("node", "ls", "--format", "{{.Hostname}} {{.Status}}").splitlines()


def update_first(mixed: MixedSwarm) -> None:
    """Let Swarm, most of the time, update the i686 node first: it takes them in the order it came to know them in."""
    mixed.x86.docker("node", "update", "--availability", "drain", "x86")
    mixed.old.kill()
    until(lambda: "old Down" in nodes_of(mixed), "the node to be missed")
    mixed.old.restart()
    until(lambda: "old Ready" in nodes_of(mixed), "the node to be back")
    mixed.x86.docker("node", "update", "--availability", "active", "x86")


def test_a_node_that_dies_is_not_waited_for(ship: Host, mixed: MixedSwarm) -> None:
    """Nor do clients notice, but for requests that it was answering; then an update goes on without it.

    The last test of this file: after it the swarm has one node.
    """
    need("nginx", package="nginx-light")
    image, port = push(ship, mixed, "dying", *BOTH), free_port()
    ship.manyfest("deploy", "web", image, "-p", f"{PORT}:8080", "--publish-mode", "host")
    with running(ship, "balance", "web", "--listen", f"127.0.0.1:{port}", "--run"):
        until(lambda: is_answering(port), "nginx")
        with ThreadPoolExecutor(CLIENTS) as pool:
            answers = [pool.submit(try_to_ask, port) for _ in range(2000)]
            until(lambda: sum(each.done() for each in answers) > 500, "load")
            mixed.old.kill()
        counts = Counter(each.result() for each in answers)
    assert counts["386"] > 0
    assert counts["amd64"] > 500
    assert sum(counts.values()) - counts["386"] - counts["amd64"] <= CLIENTS, counts
    done = ship.manyfest("deploy", "web", image, "--env", "WORD=late", "--timeout", "90", "--json")
    assert (done.json["ok"], done.json["running"], done.json["expected"]) == (True, 1, 1)
    assert "old: left: the node is down" in done.err
