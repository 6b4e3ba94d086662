# SPDX-License-Identifier: Apache-2.0
"""A machine that joins a swarm."""

from __future__ import annotations

from typing import Any

import pytest

from manyfest.emulate.machine import swarm
from manyfest.emulate.machine.machines import Machine
from manyfest.emulate.machine.record import Record
from manyfest.emulate.machine.swarm import join_swarm
from manyfest.errors import EmulationError, EngineError, InputError
from manyfest.platforms import Platform

RECORD = Record(
    "z", Platform("linux", "s390x"), memory=2**30, cpus=1, disk=2**33, created_at=0, bridge="b", address="10.9.0.7/24"
)  # fmt: skip
MACHINE = Machine(RECORD, "/m/z", "running", 22)
TOKEN = "SWMTKN-1-abc"


class Engine:
    """What was posted to it."""

    state: object = "inactive"
    states: tuple[object, ...] = ()
    reason = ""
    refuses = ""
    posted: Any = None

    def __init__(self, where: Any) -> None:
        assert where.url == "unix:///m/z/docker.sock"

    def call(self, method: str, path: str, doing: str, body: Any = None) -> Any:
        if method == "GET":
            if self.states:
                type(self).state, *rest = self.states
                type(self).states = tuple(rest)
            return {"Swarm": {"LocalNodeState": self.state, "Error": self.reason}}
        type(self).posted = (path, body)
        if self.refuses:
            raise EngineError(self.refuses)
        return None

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *error: object) -> None:
        return


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> type[Engine]:
    class Mine(Engine):
        pass

    monkeypatch.setattr(swarm, "Docker", Mine)
    monkeypatch.setattr(swarm, "POLL_S", 0)
    return Mine


@pytest.mark.parametrize(("manager", "remote"), [("10.9.0.1", "10.9.0.1:2377"), ("m:1", "m:1")])
def test_join(manager: str, remote: str, engine: type[Engine]) -> None:
    assert join_swarm(MACHINE, manager, TOKEN)
    assert engine.posted == (
        "/swarm/join",
        {"ListenAddr": "10.9.0.7:2377", "AdvertiseAddr": "10.9.0.7", "RemoteAddrs": [remote], "JoinToken": TOKEN},
    )  # fmt: skip


def test_one_that_is_there_already(engine: type[Engine]) -> None:
    engine.state = "active"
    assert not join_swarm(MACHINE, "10.9.0.1", TOKEN)
    assert engine.posted is None


@pytest.mark.parametrize("state", ["error", "locked", None, 7])
def test_one_in_trouble(state: object, engine: type[Engine]) -> None:
    engine.state, engine.reason = state, "certificate has expired"
    with pytest.raises(EmulationError, match=r"its place in a swarm is .*: certificate has expired"):
        join_swarm(MACHINE, "10.9.0.1", TOKEN)
    assert engine.posted is None


def test_one_on_its_way_back(engine: type[Engine]) -> None:
    """A machine that has just started is in its swarm a moment later."""
    engine.states = ("pending", "pending", "active")
    told: list[str] = []
    assert not join_swarm(MACHINE, "10.9.0.1", TOKEN, on_step=told.append)
    assert (engine.posted, told) == (None, ["z: waiting until its engine is a node of the swarm"])


LATE = (
    "the engine: joining: Timeout was reached before node joined. The attempt to join the swarm will continue in the "
    'background. Use the "docker info" command to see the current swarm status of your node.'
)


def test_one_that_takes_longer_than_its_engine_waits(engine: type[Engine]) -> None:
    """An engine answers after 20 seconds, and goes on joining: emulated on a busy machine it needs longer."""
    engine.refuses, engine.states = LATE, ("inactive", "pending", "pending", "active")
    assert join_swarm(MACHINE, "10.9.0.1", TOKEN)
    assert not engine.states


def test_one_that_never_gets_in(engine: type[Engine]) -> None:
    """Not waited for without end; and not when its engine has given up."""
    engine.refuses, engine.states = LATE, ("inactive", "pending")
    with pytest.raises(EmulationError, match=r"z: no node of the swarm of 10.9.0.1 after 0 s"):
        join_swarm(MACHINE, "10.9.0.1", TOKEN, timeout_s=0)
    engine.states, engine.reason = ("inactive", "pending", "error"), "invalid join token"
    with pytest.raises(EmulationError, match="its place in a swarm is 'error': invalid join token"):
        join_swarm(MACHINE, "10.9.0.1", TOKEN)
    engine.state, engine.states, engine.refuses = "inactive", (), "invalid join token"
    with pytest.raises(EngineError, match=r"^invalid join token"):
        join_swarm(MACHINE, "10.9.0.1", TOKEN)


def test_what_it_needs(engine: type[Engine]) -> None:
    with pytest.raises(InputError, match="no token") as caught:
        join_swarm(MACHINE, "10.9.0.1", "secret")
    assert "secret" not in f"{caught.value}{caught.value.hint}"
    alone = Machine(RECORD.replace(bridge="", address=""), "/m/z", "running", 22)
    with pytest.raises(InputError, match="on no bridge"):
        join_swarm(alone, "10.9.0.1", TOKEN)
