# SPDX-License-Identifier: Apache-2.0
"""A machine that joins a swarm."""

from __future__ import annotations

from typing import Any

import pytest

from manyfest.emulate.machine import swarm
from manyfest.emulate.machine.machines import Machine
from manyfest.emulate.machine.record import Record
from manyfest.emulate.machine.swarm import join_swarm
from manyfest.errors import EmulationError, InputError
from manyfest.platforms import Platform

RECORD = Record(
    "z", Platform("linux", "s390x"), memory=2**30, cpus=1, disk=2**33, created_at=0, bridge="b", address="10.9.0.7/24"
)  # fmt: skip
MACHINE = Machine(RECORD, "/m/z", "running", 22)
TOKEN = "SWMTKN-1-abc"


class Engine:
    """What was posted to it."""

    state: object = "inactive"
    posted: Any = None

    def __init__(self, where: Any) -> None:
        assert where.url == "unix:///m/z/docker.sock"

    def call(self, method: str, path: str, doing: str, body: Any = None) -> Any:
        if method == "GET":
            return {"Swarm": {"LocalNodeState": self.state}}
        type(self).posted = (path, body)
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


@pytest.mark.parametrize("state", ["error", "pending", None, 7])
def test_one_in_trouble(state: object, engine: type[Engine]) -> None:
    engine.state = state
    with pytest.raises(EmulationError, match="its place in a swarm"):
        join_swarm(MACHINE, "10.9.0.1", TOKEN)
    assert engine.posted is None


def test_what_it_needs(engine: type[Engine]) -> None:
    with pytest.raises(InputError, match="no token") as caught:
        join_swarm(MACHINE, "10.9.0.1", "secret")
    assert "secret" not in f"{caught.value}{caught.value.hint}"
    alone = Machine(RECORD.replace(bridge="", address=""), "/m/z", "running", 22)
    with pytest.raises(InputError, match="on no bridge"):
        join_swarm(alone, "10.9.0.1", TOKEN)
