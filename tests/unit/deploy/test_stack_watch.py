# SPDX-License-Identifier: Apache-2.0
"""Several services on their way together: who is waited for, what is forgiven, and when it is over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest
from tests.unit.deploy.test_converge import Fast, node, task

from manyfest.deploy.converge import SETTLE_S, SILENT_S, Outcome
from manyfest.deploy.renewal import RENEWED
from manyfest.deploy.sight import Target
from manyfest.deploy.stack.watch import wait_for_all
from manyfest.engines.docker import Docker
from manyfest.errors import EngineError, NotFound

TARGETS = {"app": Target("app", 1, replicas=1), "db": Target("db", 1, replicas=1)}


class Engine:
    """Shows the tasks of each service that ``script`` gives for a moment, in seconds."""

    def __init__(self, script: Callable[[float], dict[str, list[dict[str, Any]]]]) -> None:
        self.clock, self.script = Fast(), script
        self.gone: tuple[str, ...] = ()
        self.nodes_ = [node("a")]
        self.updating: tuple[str, ...] = ()
        self.renewed: list[str] = []

    def services(self) -> list[dict[str, Any]]:
        return [self.service(name) for name in ("app", "db") if name not in self.gone]

    def service(self, name: str) -> dict[str, Any]:
        status = {"State": "updating"} if name in self.updating else {}
        return {"ID": name, "Spec": {"Name": name}, "Version": {"Index": 7}, "UpdateStatus": status}

    def update_service(self, service: Mapping[str, Any], spec: Mapping[str, Any]) -> None:
        assert spec["Labels"] == {RENEWED: "7"}
        self.renewed.append(service["ID"])

    def nodes(self) -> list[dict[str, Any]]:
        return self.nodes_

    def tasks(self) -> list[dict[str, Any]]:
        shown = self.script(self.clock.now())
        return [{**each, "ServiceID": name} for name, tasks in shown.items() for each in tasks]

    def task_logs(self, task: str) -> str:
        raise EngineError("no output")


def watch(engine: Engine, timeout_s: float = 60, lines: list[str] | None = None) -> dict[str, Outcome]:
    def hear(*words: str) -> None:
        if lines is not None:
            lines.append(" ".join(words).strip())

    return wait_for_all(
        cast("Docker", engine), TARGETS, timeout_s=timeout_s, on_change=hear, clock=engine.clock
    )  # fmt: skip


def tries(count: int, then: str) -> list[dict[str, Any]]:
    """A task that has failed so often before."""
    failed = [task("a", "failed", at, error="task: non-zero exit (1)", slot=1) for at in range(count)]
    return [*failed, task("a", then, count, slot=1)]


def test_all_arrive() -> None:
    """When the last one has stayed; each line is told once."""
    lines: list[str] = []
    engine = Engine(
        lambda at: {"app": tries(0, "running"), "db": tries(0, "running" if at >= 2 else "starting")}
    )
    outcomes = watch(engine, lines=lines)
    assert {name: outcome.ok for name, outcome in outcomes.items()} == {"app": True, "db": True}
    assert outcomes["db"].seconds == pytest.approx(2 + SETTLE_S)
    assert lines == [
        "app task 1 on host-a running",
        "db task 1 on host-a starting",
        "db task 1 on host-a running",
    ]


def test_an_update_that_waits_for_a_dead_node_is_begun_again() -> None:
    """Of that service only."""

    def script(at: float) -> dict[str, list[dict[str, Any]]]:
        here, there = task("a", "running", 1, slot=1), task("b", "assigned", slot=1)
        return {"app": [there, here] if engine.renewed else [there], "db": [here]}

    engine = Engine(script)
    engine.nodes_, engine.updating = [node("a"), node("b", "down")], ("app", "db")
    assert all(outcome.ok for outcome in watch(engine).values())
    assert engine.renewed == ["app"]


def test_what_fails_for_want_of_another_is_forgiven() -> None:
    """Four ends while the other was on its way, and it runs once that is there."""

    def script(at: float) -> dict[str, list[dict[str, Any]]]:
        app = tries(min(int(at), 4), "running" if at >= 5 else "starting")
        return {"app": app, "db": tries(0, "running" if at >= 5 else "preparing")}

    assert all(outcome.ok for outcome in watch(Engine(script)).values())


def test_nothing_is_forgiven_once_the_other_is_there() -> None:
    """Two more ends are enough then."""

    def script(at: float) -> dict[str, list[dict[str, Any]]]:
        return {"app": tries(int(at), "starting"), "db": tries(0, "running" if at >= 5 else "preparing")}

    outcomes = watch(Engine(script))
    assert not outcomes["app"].ok
    assert outcomes["app"].seconds == 6  # four ends were forgiven
    assert outcomes["app"].failures[0].node == "host-a"


def test_two_that_fail_do_not_wait_for_each_other() -> None:
    outcomes = watch(Engine(lambda at: {"app": tries(int(at), "starting"), "db": tries(int(at), "starting")}))
    assert not any(outcome.ok for outcome in outcomes.values())
    assert all(outcome.seconds < 4 for outcome in outcomes.values())


def test_what_lasts_is_never_forgiven() -> None:
    """The wrong architecture stays wrong."""
    wrong = [task("a", "rejected", error="exec format error", slot=1)]
    outcomes = watch(Engine(lambda at: {"app": wrong, "db": tries(0, "preparing")}))
    assert list(outcomes) == ["app"]
    assert outcomes["app"].seconds == 0


def test_too_late() -> None:
    """Those that are there are not to blame."""
    outcomes = watch(
        Engine(lambda at: {"app": tries(0, "running"), "db": tries(0, "preparing")}), timeout_s=10
    )
    assert outcomes["app"].ok
    assert outcomes["db"].reason == "0 of 1 tasks run after 10 s"


def test_a_manager_that_is_away() -> None:
    """For a while: waited for. For longer: told."""

    def script(at: float) -> dict[str, list[dict[str, Any]]]:
        if 1 <= at < limit:
            raise EngineError("no answer")
        return {"app": tries(0, "running"), "db": tries(0, "running")}

    limit = 10.0
    assert all(outcome.ok for outcome in watch(Engine(script)).values())
    limit = SILENT_S + 10
    with pytest.raises(EngineError, match="no answer"):
        watch(Engine(script))


def test_a_service_that_is_removed() -> None:
    engine = Engine(lambda at: {})
    engine.gone = ("db",)
    with pytest.raises(NotFound, match="the service db is gone"):
        watch(engine)


def test_nobody_is_waited_for() -> None:
    """A service without replicas."""
    engine = cast("Docker", Engine(lambda at: {}))
    assert wait_for_all(engine, {"app": Target("app", 1, replicas=0)}, timeout_s=1) == {}
