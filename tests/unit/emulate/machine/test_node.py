# SPDX-License-Identifier: Apache-2.0
"""Machines as nodes of a build."""

from __future__ import annotations

from typing import Any

import pytest

from manyfest.build.engines import Engines
from manyfest.emulate.machine import machines, node
from manyfest.emulate.machine.machines import Machine
from manyfest.emulate.machine.node import builder_on, engine_of, loopback_ports, planned
from manyfest.emulate.machine.record import Record
from manyfest.engines import builders
from manyfest.engines.builders import Builder, Order
from manyfest.errors import BuildError, EmulationError, EngineError
from manyfest.platforms import Platform

S390X = Platform("linux", "s390x")
RECORD = Record("z", S390X, memory=2**30, cpus=1, disk=10 * 2**30, created_at=0)


def order(*bases: str) -> Order:
    return Order(S390X, "FROM x", "", bases=tuple((f"@{at}", name, S390X) for at, name in enumerate(bases)))


class World:
    """A machine called z that is stopped, and what was asked of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.state = "stopped"
        self.asked: list[Any] = []
        self.brought: list[int] = []
        monkeypatch.setattr(machines, "find", self.find)
        monkeypatch.setattr(machines, "start", self.start)
        monkeypatch.setattr(machines, "connect", lambda _: self)
        monkeypatch.setattr(builders, "on_node", self.on_node)

    def find(self, name: str) -> Machine:
        if name != "z":
            raise EmulationError(f"no machine {name!r}", hint="manyfest machine list")
        return Machine(RECORD, "/m/z", self.state, 22)

    def start(self, name: str, **_: Any) -> Machine:
        self.asked.append(name)
        self.state = "running"
        return self.find(name)

    def bring(self, port: int) -> None:
        if port == 1:
            raise EmulationError("remote port forwarding failed")
        self.brought.append(port)

    def on_node(self, where: str, _: str) -> Builder:
        assert where == "unix:///m/z/docker.sock"
        return Builder("docker", "docker", where=where, platform=S390X)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_started_when_needed_and_said(world: World) -> None:
    said: list[str] = []
    assert engine_of("machine:z", said.append) == "unix:///m/z/docker.sock"
    assert said == ["starting the machine z; manyfest machine stop z ends it"]
    engine_of("machine:z", said.append)
    assert len(said) == 1


def test_registries_of_the_loopback_come_along(world: World) -> None:
    builder = builder_on("machine:z", "", lambda _: None)
    assert str(builder) == "docker at machine:z"
    assert builder.prepare is not None
    builder.prepare(
        order("localhost:5000/a@sha256:1", "ghcr.io:443/b", "127.0.0.1:5001/c", "localhost:5000/d")
    )
    assert world.brought == [5000, 5001]
    with pytest.raises(EngineError, match="machine:z: remote port"):
        builder.prepare(order("[::1]:1/a"))


@pytest.mark.parametrize(
    "name", ["localhost/a", "docker.io/library/a:5000", "host:5000/a", "localhost:x/a", "a"]
)
def test_other_registries_are_reached_by_themselves(name: str) -> None:
    assert loopback_ports(order(name)) == []


def test_a_plan_starts_nothing(world: World) -> None:
    engines = Engines(lambda: pytest.fail("asked"), nodes={S390X: "machine:z"}, dry=True)
    choice = engines.choose(S390X, "Dockerfile:2")
    assert (str(choice.builder), choice.how) == ("docker at machine:z", "native")
    assert world.asked == []


def test_a_build_starts_it(world: World) -> None:
    engines = Engines(lambda: pytest.fail("asked"), nodes={S390X: "machine:z"})
    assert engines.choose(S390X, "Dockerfile:2").how == "native"
    assert world.asked == ["z"]


@pytest.mark.parametrize("dry", [True, False])
def test_what_cannot_be_a_node(dry: bool, world: World) -> None:
    engines = Engines(lambda: pytest.fail("asked"), nodes={S390X: "machine:y"}, dry=dry)
    with pytest.raises(BuildError, match="machine:y: no machine 'y'") as caught:
        engines.choose(S390X, "Dockerfile:2")
    assert "machine list" in caught.value.hint
    with pytest.raises(EngineError, match="has Docker, not podman"):
        (planned if dry else lambda where, name: builder_on(where, name, print))("machine:z", "podman")
    assert node.is_machine("machine:z")
    assert not node.is_machine("ssh://machine:22")
