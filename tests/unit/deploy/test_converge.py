# SPDX-License-Identifier: Apache-2.0
"""When a deployment has arrived, when it has failed, and why, by what the Engine API says moment for moment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest

from manyfest.deploy.converge import SETTLE_S, SILENT_S, Clock, Outcome, undo, wait
from manyfest.deploy.renewal import RENEWED
from manyfest.deploy.sight import Target, explain, look, next_generation
from manyfest.engines.docker import Docker
from manyfest.errors import EngineError, NotFound

GLOBAL = Target("svc", 1, ["a", "b"])


def node(name: str, state: str = "ready", availability: str = "active") -> dict[str, Any]:
    return {
        "ID": name,
        "Description": {"Hostname": f"host-{name}"},
        "Status": {"State": state},
        "Spec": {"Availability": availability},
    }


def task(
    where: str, state: str, at: int = 0, *, error: str = "", generation: int = 1, slot: int = 0
) -> dict[str, Any]:
    made: dict[str, Any] = {
        "ID": f"{where}{at}",
        "NodeID": where,
        "CreatedAt": f"2026-01-01T00:00:{at:02d}Z",
        "Spec": {"ForceUpdate": generation},
        "Status": {"State": state, **({"Err": error} if error else {})},
        "DesiredState": "running" if state in ("running", "pending", "starting") else "shutdown",
    }
    return made | ({"Slot": slot} if slot else {})


class Fast(Clock):
    """Time passes when somebody waits."""

    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> float:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds


class Engine:
    """Shows the tasks that ``script`` gives for a moment, in seconds."""

    def __init__(self, clock: Fast, script: Callable[[float], Any]) -> None:
        self.clock, self.script = clock, script
        self.nodes_: list[dict[str, Any]] = [node("a"), node("b")]
        self.status: dict[str, Any] = {}
        self.output = ""
        self.done: list[str] = []
        self.version = 7
        self.spec: Mapping[str, Any] = {"Name": "web"}
        self.previous: Mapping[str, Any] | None = None

    def service(self, name: str) -> dict[str, Any]:
        return {
            "ID": name,
            "Version": {"Index": self.version},
            "Spec": self.spec,
            "PreviousSpec": self.previous,
            "UpdateStatus": self.status,
        }

    def nodes(self) -> list[dict[str, Any]]:
        return self.nodes_

    def tasks(self, service: str) -> Any:
        found = self.script(self.clock.now())
        if isinstance(found, Exception):
            raise found
        return found

    def task_logs(self, task: str) -> str:
        if not self.output:
            raise EngineError("no output")
        return self.output

    def update_service(self, service: Mapping[str, Any], spec: Any, *, rollback: bool = False) -> None:
        assert service["Version"]["Index"] == self.version
        self.done.append(f"back {self.version}" if rollback else f"update {spec.get('Labels')}")
        self.version += 1
        self.status = {}
        self.spec, self.previous = self.previous if rollback else spec, self.spec  # type: ignore[assignment]

    def remove_service(self, name: str) -> None:
        self.done.append(f"removed {name}")


@pytest.fixture
def clock() -> Fast:
    return Fast()


def watch(
    engine: Engine, target: Target = GLOBAL, timeout_s: float = 60, lines: list[str] | None = None
) -> Outcome:
    def hear(name: str, state: str, detail: str) -> None:
        if lines is not None:
            lines.append(f"{name} {state} {detail}".strip())

    return wait(
        cast("Docker", engine), target, timeout_s=timeout_s, on_change=hear, clock=engine.clock
    )  # fmt: skip


def test_arrived_when_all_stay(clock: Fast) -> None:
    """A line for each change of each node, and no success before the settling time is over."""
    lines: list[str] = []
    engine = Engine(
        clock,
        lambda at: [task("a", "running"), task("b", "running" if at >= 2 else "starting")],
    )
    outcome = watch(engine, lines=lines)
    assert outcome.ok
    assert outcome.seconds == pytest.approx(2 + SETTLE_S)
    assert lines == ["host-a running", "host-b starting", "host-b running"]


def test_running_and_gone_again_is_not_arrived(clock: Fast) -> None:
    """A program that lives for a second at a time fails on its second end."""

    def script(at: float) -> Any:
        ends = [task("b", "failed", n, error="task: non-zero exit (3)") for n in range(int(at // 2))]
        return [task("a", "running"), *ends, task("b", "running", 50 + len(ends))]

    outcome = watch(Engine(clock, script))
    (failure,) = outcome.failures
    assert not outcome.ok
    assert (failure.node, failure.tries, failure.error) == ("host-b", 2, "task: non-zero exit (3)")
    assert "its program ended" in failure.explanation


@pytest.mark.parametrize(
    ("error", "output", "meaning", "tries"),
    [
        ("starting container failed: exec format error", "", "another machine", 1),
        ("task: non-zero exit (1)", "exec /app: exec format error", "another machine", 1),
        ("no matching manifest for linux/386 in the manifest list entries", "", "nothing for it", 1),
        ("unauthorized: authentication required", "", "--with-registry-auth", 1),
        ("No such image: reg.test/app:1", "", "cannot pull", 2),
        ("driver failed: port is already allocated", "", "another program", 4),
        ("something new", "", "", 2),
    ],
)  # fmt: skip
def test_failures_are_explained(clock: Fast, error: str, output: str, meaning: str, tries: int) -> None:
    """What lasts is believed at once, what may pass has to happen twice."""

    def script(at: float) -> Any:
        bad = [task("b", "rejected", n, error=error) for n in range(1 + int(at // 5))]
        return [task("a", "running"), *bad, task("b", "starting", 50)]

    engine = Engine(clock, script)
    engine.output = output
    (failure,) = watch(engine).failures
    assert failure.node == "host-b"
    assert failure.tries == tries
    assert meaning in failure.explanation
    assert failure.output == output


def test_failures_are_counted_that_swarm_forgets(clock: Fast) -> None:
    """With a task history limit of 1 it shows one ended task of each node."""

    def script(at: float) -> Any:
        number = int(at // 5)
        return [task("a", "running"), task("b", "failed", number, error="x"), task("b", "ready", number + 1)]

    outcome = watch(Engine(clock, script))
    assert (outcome.reason, [failure.tries for failure in outcome.failures]) == ("a task failed", [2])
    assert outcome.seconds < 10


def test_a_port_that_an_engine_still_holds_is_waited_for(clock: Fast) -> None:
    """As after it was killed, with the containers whose ports those are."""

    def script(at: float) -> Any:
        error = "driver failed: Bind for 0.0.0.0:8082 failed: port is already allocated"
        bad = [task("b", "failed", n, error=error) for n in range(1 + min(int(at // 5), 2))]
        return [task("a", "running"), *bad, task("b", "running" if at >= 15 else "starting", 50)]

    assert watch(Engine(clock, script)).ok


def test_time_is_over(clock: Fast) -> None:
    """What is still waiting says for what."""
    pending = task("b", "pending", error="no suitable node (host-mode port already in use on 1 node)")
    outcome = watch(Engine(clock, lambda at: [task("a", "running"), pending]), timeout_s=10)
    assert outcome.reason == "1 of 2 tasks run after 10 s"
    (failure,) = outcome.failures
    assert failure.node == "host-b"
    assert "another service publishes this port" in failure.explanation


def test_older_tasks_do_not_count(clock: Fast) -> None:
    """Before an update has reached a node, what runs there is the old one."""
    outcome = watch(
        Engine(clock, lambda at: [task("a", "running"), task("b", "running", generation=0)]), timeout_s=5
    )
    assert not outcome.ok
    assert (outcome.seen.running, outcome.seen.expected) == (1, 2)


def test_a_node_that_leaves_is_not_waited_for(clock: Fast) -> None:
    """And it says so."""
    lines: list[str] = []
    engine = Engine(clock, lambda at: [task("a", "running"), task("b", "running")])
    engine.nodes_ = [node("a"), node("b", "down")]
    outcome = watch(engine, lines=lines)
    assert outcome.ok
    assert outcome.seen.expected == 1
    assert "host-b left the node is down, drained or gone, and not waited for" in lines


def test_nobody_left_is_no_success(clock: Fast) -> None:
    engine = Engine(clock, lambda at: [])
    engine.nodes_ = [node("a", availability="drain"), node("b", "down")]
    assert not watch(engine, timeout_s=5).ok


def test_replicas_are_counted_wherever_they_are(clock: Fast) -> None:
    """Two on one node are two lines."""
    lines: list[str] = []
    target = Target("svc", 1, ["a", "b"], replicas=2)
    engine = Engine(clock, lambda at: [task("a", "running", slot=1), task("a", "running", 1, slot=2)])
    assert watch(engine, target, lines=lines).ok
    assert lines == ["task 1 on host-a running", "task 2 on host-a running"]


PAUSED = {"State": "paused", "Message": "update paused due to failure or early termination of task a0"}


def test_a_paused_update_has_failed(clock: Fast) -> None:
    """Nobody knows why, and nothing is on its way."""
    engine = Engine(clock, lambda at: [task("a", "running")])
    engine.status = PAUSED
    outcome = watch(engine)
    assert (outcome.ok, outcome.reason, outcome.failures) == (False, PAUSED["Message"], ())
    assert outcome.seconds == pytest.approx(SETTLE_S)
    assert engine.done == []


@pytest.mark.parametrize("state", ["failed", "rejected", "complete", "shutdown", "orphaned"])
def test_an_update_that_was_stopped_by_what_is_over_goes_on(clock: Fast, state: str) -> None:
    """Swarm stops it when an engine restarts in the middle, and leaves the other nodes as they are."""

    def script(at: float) -> Any:
        second = "running" if at >= 6 else "preparing"
        other = [task("b", "running", 2)] if engine.done else [task("b", "running", generation=0)]
        return [task("a", state), task("a", second, 1), *other]

    engine = Engine(clock, script)
    engine.status = PAUSED
    outcome = watch(engine)
    assert outcome.ok
    assert engine.done == [f"update {{'{RENEWED}': '7'}}"]
    assert outcome.seconds == pytest.approx(6.5 + SETTLE_S)


def test_an_update_that_is_stopped_again_has_failed(clock: Fast) -> None:
    """It goes on once for each task that ended."""

    def script(at: float) -> Any:
        if engine.done and not engine.status:
            engine.status = PAUSED
        return [task("a", "shutdown"), task("a", "running", 1), task("b", "running", generation=0)]

    engine = Engine(clock, script)
    engine.status = PAUSED
    outcome = watch(engine)
    assert (outcome.reason, len(engine.done)) == (PAUSED["Message"], 1)
    assert outcome.seconds < 4


def test_what_ended_on_a_node_that_has_left_stops_no_update(clock: Fast) -> None:
    """It gets no successor."""
    engine = Engine(
        clock, lambda at: [task("b", "orphaned"), task("a", "running", generation=1 if engine.done else 0)]
    )
    engine.nodes_ = [node("a"), node("b", "down")]
    engine.status = PAUSED
    assert watch(engine).ok


def test_a_task_that_fails_twice_ends_a_paused_update(clock: Fast) -> None:
    def script(at: float) -> Any:
        ends = [task("a", "failed", n, error="task: non-zero exit (3)") for n in range(1 + int(at // 5))]
        return [*ends, task("a", "starting", 50), task("b", "running", generation=0)]

    engine = Engine(clock, script)
    engine.status = PAUSED
    outcome = watch(engine)
    assert (outcome.reason, [failure.tries for failure in outcome.failures]) == ("a task failed", [2])
    assert engine.done == []


def test_what_is_not_tried_again_ends_a_paused_update(clock: Fast) -> None:
    """As with a restart policy of none: not waited for until the time is over."""
    engine = Engine(clock, lambda at: [task("a", "failed", error="x"), task("b", "running", generation=0)])
    engine.status = PAUSED
    outcome = watch(engine)
    assert (outcome.reason, [failure.error for failure in outcome.failures]) == ("a task failed", ["x"])
    assert outcome.seconds == pytest.approx(SETTLE_S)


@pytest.mark.parametrize("state", ["rollback_started", "rollback_paused", "rollback_completed"])
def test_an_update_that_swarm_takes_back_has_failed(clock: Fast, state: str) -> None:
    engine = Engine(clock, lambda at: [task("a", "running"), task("b", "starting")])
    engine.status = {"State": state, "Message": "update rolled back"}
    assert watch(engine).reason == "update rolled back"
    assert engine.done == []


def test_a_manager_that_restarts_is_waited_for(clock: Fast) -> None:
    """For a while."""
    lines: list[str] = []
    there = [task("a", "running"), task("b", "running")]
    engine = Engine(clock, lambda at: EngineError("refused") if 1 < at < 20 else there)
    assert watch(engine, lines=lines).ok
    assert "manager away it does not answer; waiting for it" in lines
    gone = Engine(Fast(), lambda at: EngineError("refused"))
    with pytest.raises(EngineError, match="refused"):
        watch(gone)
    assert gone.clock.now() == pytest.approx(SILENT_S, abs=1)


def test_a_removed_service_is_an_error(clock: Fast) -> None:
    engine = Engine(clock, lambda at: [])
    engine.service = lambda name: (_ for _ in ()).throw(NotFound("no such service"))  # type: ignore[method-assign]
    with pytest.raises(NotFound, match="somebody removed it"):
        watch(engine)


def test_undo(clock: Fast) -> None:
    """A new service goes, an old one is put back by Swarm itself and watched."""
    engine = Engine(
        clock, lambda at: [task("a", "running", generation=0), task("b", "running", generation=0)]
    )
    engine.previous = {"Name": "web"}
    assert undo(cast("Docker", engine), "svc", None, None, timeout_s=9, clock=clock) is None
    old = Target("svc", 0, ["a", "b"])
    back = undo(cast("Docker", engine), "svc", {"Name": "web"}, old, timeout_s=9, clock=clock)
    assert back is not None
    assert back.ok
    assert engine.done == ["removed svc", "back 7"]


def test_undo_does_not_count_what_failed_before(clock: Fast) -> None:
    """Swarm remembers it, and it has the old number."""
    history = [task("a", "failed", at, generation=0) for at in range(3)]
    now = [task("a", "running", 9, generation=0), task("b", "running", generation=0)]
    engine = Engine(clock, lambda at: [*history, *now])
    before = {"Name": "web"}
    back = undo(cast("Docker", engine), "svc", before, Target("svc", 0, ["a", "b"]), timeout_s=9, clock=clock)
    assert back is not None
    assert back.ok


def test_undo_to_no_task_at_all(clock: Fast) -> None:
    """Somebody had scaled it to nothing."""
    engine = Engine(clock, lambda at: [])
    before = {"Name": "web", "Mode": {"Replicated": {"Replicas": 0}}, "TaskTemplate": {}}
    back = undo(cast("Docker", engine), "svc", before, Target.of("svc", before, ()), timeout_s=9, clock=clock)
    assert back is not None
    assert back.ok
    assert engine.spec == before


def test_undo_after_another_change(clock: Fast) -> None:
    """Swarm's way back leads to the last spec only."""
    engine = Engine(
        clock, lambda at: [task("a", "running", generation=0), task("b", "running", generation=0)]
    )
    engine.previous = {"Name": "web", "Labels": {"second": ""}}
    before = {"Name": "web", "Labels": {"first": ""}}
    back = undo(cast("Docker", engine), "svc", before, Target("svc", 0, ["a", "b"]), timeout_s=9, clock=clock)
    assert back is not None
    assert back.ok
    assert engine.spec == before


@pytest.mark.parametrize("state", ["new", "pending", "assigned", "preparing", "ready", "starting"])
def test_an_update_that_waits_for_a_dead_node_is_begun_again(clock: Fast, state: str) -> None:
    """Once for each task, as nothing but a label: otherwise it would never get further."""
    engine = Engine(clock, lambda at: [task("b", state), *([task("a", "running")] if engine.done else [])])
    engine.nodes_ = [node("a"), node("b", "down")]
    engine.status = {"State": "updating"}
    assert watch(engine).ok
    assert engine.done == [f"update {{'{RENEWED}': '7'}}"]
    assert engine.spec == {"Name": "web", "Labels": {RENEWED: "7"}}


@pytest.mark.parametrize(
    ("state", "update", "other"),
    [
        ("shutdown", "updating", "starting"),  # Swarm has gone on
        ("pending", "", "starting"),  # a new service: nobody waits for anybody
        ("pending", "completed", "starting"),
        ("pending", "updating", "running"),  # all has arrived
    ],
)
def test_what_is_not_stuck_is_left_alone(clock: Fast, state: str, update: str, other: str) -> None:
    engine = Engine(clock, lambda at: [task("b", state), task("a", other)])
    engine.nodes_ = [node("a"), node("b", "down")]
    engine.status = {"State": update} if update else {}
    watch(engine, timeout_s=5)
    assert engine.done == []


def test_a_program_that_ends_well_has_still_ended() -> None:
    """A service has to stay."""
    seen = look(GLOBAL, {}, [node("a"), node("b")], [task("a", "complete"), task("b", "running")])
    (failure,) = seen.failures
    assert failure.error == "it ended with exit code 0"
    assert explain(failure.error)[0] == "a service has to stay; its program ended"


def test_a_node_that_the_manager_does_not_know_yet_is_expected(clock: Fast) -> None:
    """As after its own restart: not counting it would be a success with a node too few."""
    engine = Engine(clock, lambda at: [task("a", "running"), *([task("b", "running")] if at > 6 else [])])
    engine.nodes_ = [node("a"), node("b", "unknown")]
    outcome = watch(engine)
    assert (outcome.ok, outcome.seen.expected, outcome.seen.running) == (True, 2, 2)
    assert outcome.seconds > 6


def test_generations_are_never_used_twice() -> None:
    """Going back brings the old number back; the version of the service goes on."""
    service = {"Version": {"Index": 20}, "Spec": {"TaskTemplate": {}}}
    assert next_generation(service) == 20
    tried = {"Version": {"Index": 31}, "Spec": {"TaskTemplate": {"ForceUpdate": 20}}}
    back = {"Version": {"Index": 45}, "Spec": {"TaskTemplate": {"ForceUpdate": 0}}}
    assert (next_generation(tried), next_generation(back)) == (31, 45)
    assert next_generation({"Version": {"Index": 3}, "Spec": {"TaskTemplate": {"ForceUpdate": 7}}}) == 8
