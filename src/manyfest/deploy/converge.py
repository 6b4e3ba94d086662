# SPDX-License-Identifier: Apache-2.0
"""Bringing a service to what it shall be, watching it node by node until it is, and taking it back when it is not.

Swarm replaces tasks for ever when they fail; it is the watching that knows when to give up. A deployment has arrived
when every task that is expected runs and has been seen running for :data:`SETTLE_S`.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from manyfest.deploy.renewal import is_paused, renew, set_back, stuck
from manyfest.errors import EngineError, NotFound
from manyfest.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from manyfest.engines.docker import Docker

__all__ = [
    "POLL_S",
    "SETTLE_S",
    "SILENT_S",
    "TRIES",
    "Clock",
    "Failure",
    "Outcome",
    "Seen",
    "Target",
    "Watch",
    "ended",
    "explain",
    "look",
    "next_generation",
    "undo",
    "wait",
]

POLL_S = 0.5
SETTLE_S = 2.5
"""Seconds that everything must have been running before it counts: programs that end at once have ended by then."""

SILENT_S = 30.0
"""Seconds that a manager may be away, since it may be restarting."""

TRIES = 2
"""Failures of one task before we give up on what may be temporary."""

_BAD = ("failed", "rejected", "complete")
_ENDED = (*_BAD, "shutdown", "remove", "orphaned")

_EXPLAINED: tuple[tuple[str, bool, str], ...] = (
    # what the engine says, does it last, what that means
    (r"exec format error", True, "the program inside is for another machine; manyfest verify shows which"),
    (r"no matching manifest|does not match the (?:specified|detected) platform", True, "the list has nothing for it"),
    (r"unsupported platform", False, "Swarm compares the platforms with what nodes call themselves"),
    (r"no basic auth|unauthorized|denied: ", True, "the registry wants credentials; add --with-registry-auth"),
    (r"No such image", False, "the node cannot pull it: not there, no credentials, or no way to the registry"),
    (r"host-mode port already in use", False, "a task of another service publishes this port on the node"),
    (r"port is already allocated|address already in use", False, "another program has this port on the node"),
    (r"insufficient resources", False, "the node has not the memory or processors that are reserved"),
    (r"scheduling constraints not satisfied", False, "no node meets the constraints"),
    (r"executable file not found|no such file or directory", True, "its program, or the loader of it, is missing"),
    (r"permission denied", True, "the program in the image may not be executed"),
    (r"non-zero exit|ended with exit code 0", False, "a service has to stay; its program ended"),
)  # fmt: skip


def next_generation(service: Mapping[str, Any]) -> int:
    """A ``ForceUpdate`` that no task of a service (as the API shows it) has ever had.

    One more than now is not enough: going back brings the old number back, and the next deployment would take the
    failed tasks of this one for its own. The version of a service only grows.
    """
    had = int((service["Spec"].get("TaskTemplate") or {}).get("ForceUpdate") or 0)
    return max(had + 1, int(service["Version"]["Index"]))


class Clock:
    """Time, for tests to replace."""

    def now(self) -> float:
        """Seconds of a steady clock."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


class Target(Value):
    """What is expected: one task on each of ``nodes`` (ids) that is up, or ``replicas`` anywhere.

    ``generation`` is the ``ForceUpdate`` of the tasks that count; ``past`` are the ids of those that do not although
    they have it, since they had ended before anything was done.
    """

    __slots__ = ("generation", "nodes", "past", "replicas", "service")
    service: str
    generation: int
    nodes: tuple[str, ...]
    replicas: int | None
    past: tuple[str, ...]

    def __init__(
        self,
        service: str,
        generation: int,
        nodes: Iterable[str] = (),
        replicas: int | None = None,
        past: Iterable[str] = (),
    ) -> None:
        self._set(
            service=service, generation=generation, nodes=tuple(nodes), replicas=replicas, past=tuple(past)
        )

    @classmethod
    def of(
        cls, service: str, spec: Mapping[str, Any], nodes: Iterable[str], past: Iterable[str] = ()
    ) -> Target:
        """What the ``spec`` of a service, an id, asks for."""
        replicated = spec["Mode"].get("Replicated")
        replicas = None if replicated is None else int(replicated.get("Replicas", 1))
        return cls(service, int(spec["TaskTemplate"].get("ForceUpdate") or 0), nodes, replicas, past)


class Failure(Value):
    """A task that did not work: where, in whose words, what that means, and the program's own last words.

    ``slot`` is which of the service's tasks: a node's id, or a number.
    """

    __slots__ = ("error", "explanation", "lasting", "node", "output", "slot", "task", "tries")
    node: str
    error: str
    explanation: str
    lasting: bool
    task: str
    tries: int
    output: str
    slot: str

    def __init__(
        self,
        node: str,
        error: str,
        explanation: str = "",
        lasting: bool = False,
        task: str = "",
        tries: int = 1,
        output: str = "",
        slot: str = "",
    ) -> None:
        self._set(
            node=node,
            error=error,
            explanation=explanation,
            lasting=lasting,
            task=task,
            tries=tries,
            output=output,
            slot=slot,
        )

    @property
    def is_final(self) -> bool:
        """Is there no point in waiting?"""
        return self.lasting or self.tries >= TRIES

    def to_json(self) -> dict[str, Any]:
        """The shape of ``docs/reference/json.md``."""
        return {
            "node": self.node,
            "error": self.error,
            "explanation": self.explanation,
            "tries": self.tries,
            "output": self.output,
        }


class Seen(Value):
    """The service at one moment: of each task ``(node, state, detail)``, the ids of what runs, and what failed.

    ``ended`` are the ids of those that are over, ``successors`` the states of what came after them. ``stuck`` are the
    ids of tasks that Swarm waits for in vain; ``paused`` and ``taken_back`` are its reasons for having stopped the
    update, or undone it.
    """

    __slots__ = (
        "ended", "expected", "failures", "lines", "paused", "stuck", "successors", "taken_back", "tasks",
    )  # fmt: skip
    lines: tuple[tuple[str, str, str], ...]
    tasks: tuple[str, ...]
    expected: int
    failures: tuple[Failure, ...]
    ended: tuple[str, ...]
    successors: tuple[str, ...]
    stuck: tuple[str, ...]
    paused: str
    taken_back: str

    def __init__(
        self,
        lines: Sequence[tuple[str, str, str]],
        tasks: Iterable[str],
        expected: int,
        *,
        failures: Sequence[Failure] = (),
        ended: Sequence[str] = (),
        successors: Sequence[str] = (),
        stuck: Sequence[str] = (),
        paused: str = "",
        taken_back: str = "",
    ) -> None:
        self._set(
            lines=tuple(lines),
            tasks=tuple(sorted(tasks)),
            expected=expected,
            failures=tuple(failures),
            ended=tuple(ended),
            successors=tuple(successors),
            stuck=tuple(stuck),
            paused=paused,
            taken_back=taken_back,
        )

    @property
    def running(self) -> int:
        """How many run."""
        return len(self.tasks)

    @property
    def is_there(self) -> bool:
        """Does everything run that shall?"""
        return self.expected > 0 and self.running >= self.expected

    @property
    def held_up_by(self) -> tuple[str, ...]:
        """The ids of tasks for which Swarm does not go on with an update, although it could.

        It stops at the first task that ends, however that came about, also when an engine was restarted. That is no
        reason any more as soon as its successor runs.
        """
        if self.paused and all(state == "running" for state in self.successors):
            return self.ended
        return self.stuck

    @property
    def is_given_up(self) -> bool:
        """Has Swarm stopped the update, and nothing is on its way instead of what ended?"""
        settled = ("running", *_ENDED)
        return bool(self.paused) and not self.is_there and all(state in settled for state in self.successors)


class Outcome(Value):
    """How it ended; ``seen`` is the last look, ``seconds`` how long it took."""

    __slots__ = ("failures", "ok", "reason", "seconds", "seen")
    ok: bool
    seen: Seen
    reason: str
    failures: tuple[Failure, ...]
    seconds: float

    def __init__(
        self, ok: bool, seen: Seen, reason: str = "", failures: Sequence[Failure] = (), seconds: float = 0.0
    ) -> None:
        self._set(ok=ok, seen=seen, reason=reason, failures=tuple(failures), seconds=seconds)


def explain(error: str) -> tuple[str, bool]:
    """What an engine's message means (empty where we do not know), and whether it is there to stay."""
    for pattern, lasting, text in _EXPLAINED:
        if re.search(pattern, error, re.IGNORECASE):
            return text, lasting
    return "", False


def wait(
    engine: Docker,
    target: Target,
    *,
    timeout_s: float,
    settle_s: float = SETTLE_S,
    on_change: Callable[[str, str, str], None] | None = None,
    clock: Clock | None = None,
) -> Outcome:
    """Watch until everything runs and stays, or something has failed for good, or the time is over.

    ``on_change`` hears ``(node, state, detail)`` whenever a line changes. Raises :class:`EngineError` when the manager
    is away for longer than :data:`SILENT_S`, and :class:`NotFound` when the service is removed meanwhile.
    """
    clock = clock or Clock()
    began = heard = clock.now()
    shown: dict[str, tuple[str, str]] = {}
    watch = Watch(settle_s)
    while True:
        try:
            seen = _ask(engine, target)
            now = clock.now()
            outcome = watch.judge(engine, seen, now)
            if outcome is None:
                watch.free(engine, target.service, seen)
            heard = clock.now()
        except EngineError:
            if clock.now() - heard > SILENT_S:
                raise
            _tell({"manager": ("away", "it does not answer; waiting for it")}, shown, on_change)
            watch.lose_sight()
            clock.sleep(POLL_S)
            continue
        _tell({node: (state, detail) for node, state, detail in seen.lines}, shown, on_change)
        if outcome is None and now - began > timeout_s:
            outcome = watch.too_late(timeout_s)
        if outcome is not None:
            return outcome.replace(seconds=now - began)
        clock.sleep(POLL_S)


class Watch:
    """What has been seen of one service on its way, look by look.

    What failed while it was ``forgiven`` does not count: then it may have needed what was not there yet.
    """

    def __init__(self, settle_s: float = SETTLE_S) -> None:
        self.seen = Seen((), (), 0)
        self._settle_s = settle_s
        self._since: float | None = None
        self._staying: tuple[str, ...] = ()
        self._looked: dict[str, Failure] = {}
        self._known: list[Failure] = []
        self._forgiven: dict[str, int] = {}
        self._passed: set[str] = set()
        self._hopeless_since: float | None = None

    def lose_sight(self) -> None:
        """Nobody knows what happened meanwhile, so staying begins anew."""
        self._since = self._hopeless_since = None

    def free(self, engine: Docker, service: str, seen: Seen) -> None:
        """Let an update go on that Swarm holds up, once for each task that it is held up by.

        Raises :class:`EngineError`.
        """
        if not seen.is_there and not self._passed.issuperset(seen.held_up_by):
            renew(engine, service)
            self._passed.update(seen.held_up_by)

    def judge(self, engine: Docker, seen: Seen, now: float, *, forgiving: bool = False) -> Outcome | None:
        """Arrived, failed, or neither yet; the engine is asked what failed tasks printed."""
        self.seen = seen
        if not seen.is_there:
            self._since = None
        elif self._since is None or seen.tasks != self._staying:
            self._since, self._staying = now, seen.tasks
        if self._since is not None and now - self._since >= self._settle_s:
            return Outcome(True, seen)
        self._known = [_looked_into(engine, failure, self._looked) for failure in seen.failures]
        if forgiving:
            self._forgiven.update((failure.slot, failure.tries) for failure in self._known)
        final = [failure for failure in self._known if self._is_final(failure)]
        if final or seen.taken_back or self._is_hopeless(seen, now):
            failures = final or self._known
            reason = seen.taken_back or seen.paused
            return Outcome(False, seen, "a task failed" if failures else reason, failures)
        return None

    def _is_hopeless(self, seen: Seen, now: float) -> bool:
        """Is it given up, and stays so? A task that has just ended may be about to get a successor."""
        if not seen.is_given_up:
            self._hopeless_since = None
        elif self._hopeless_since is None:
            self._hopeless_since = now
        return self._hopeless_since is not None and now - self._hopeless_since >= self._settle_s

    def too_late(self, timeout_s: float) -> Outcome:
        """The time is over."""
        reason = f"{self.seen.running} of {self.seen.expected} tasks run after {timeout_s:g} s"
        return Outcome(False, self.seen, reason, self._known or _waiting(self.seen))

    def _is_final(self, failure: Failure) -> bool:
        return failure.replace(tries=failure.tries - self._forgiven.get(failure.slot, 0)).is_final


def undo(
    engine: Docker,
    service: str,
    before: Mapping[str, Any] | None,
    target: Target | None,
    *,
    timeout_s: float,
    clock: Clock | None = None,
) -> Outcome | None:
    """Back to what it was: the previous spec, or no service at all (``before`` is ``None``; then the answer is too)."""
    if before is None:
        engine.remove_service(service)
        return None
    assert target is not None
    past = ended(engine.tasks(service))
    set_back(engine, engine.service(service), before)
    if target.replicas == 0:
        return Outcome(True, Seen((), (), 0))
    return wait(engine, target.replace(past=past), timeout_s=timeout_s, clock=clock)


def ended(tasks: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The ids of tasks that are over; whatever they failed of, is not what is done next."""
    return tuple(str(task["ID"]) for task in tasks if task["Status"].get("State") in _ENDED)


def _ask(engine: Docker, target: Target) -> Seen:
    try:
        service = engine.service(target.service)
    except NotFound as error:
        raise NotFound(
            f"the service {target.service} is gone: somebody removed it", hint="deploy it again"
        ) from error
    return look(target, service, engine.nodes(), engine.tasks(target.service))


def look(
    target: Target,
    service: Mapping[str, Any],
    nodes: Sequence[Mapping[str, Any]],
    tasks: Sequence[Mapping[str, Any]],
) -> Seen:
    """What three answers of the Engine API say of a deployment."""
    names = {node["ID"]: str(node["Description"].get("Hostname") or node["ID"]) for node in nodes}
    up = {
        node["ID"]
        for node in nodes
        if node["Status"].get("State") in ("ready", "unknown")
        and node["Spec"].get("Availability") == "active"
    }
    mine = [
        task
        for task in tasks
        if int(task["Spec"].get("ForceUpdate") or 0) == target.generation and task["ID"] not in target.past
    ]
    slots: dict[str, list[Mapping[str, Any]]] = {}
    for task in sorted(mine, key=_made):
        key = task.get("NodeID") if target.replicas is None else task.get("Slot")
        slots.setdefault(str(key or ""), []).append(task)
    failed = {key: failure for key, group in slots.items() if (failure := _failure(group, names)) is not None}
    if target.replicas is None:
        lines = _global_lines(target, slots, names, up, failed)
        expected = sum(node in up for node in target.nodes)
    else:
        lines = [
            _slot_line(slot, group[-1], names, failed.get(slot)) for slot, group in sorted(slots.items())
        ]
        expected = target.replicas
    counted = [
        str(group[-1]["ID"])
        for key, group in slots.items()
        if group[-1]["Status"].get("State") == "running"
        and group[-1].get("DesiredState") == "running"
        and (target.replicas is not None or key in up)
    ]
    over = ended(mine)
    newest = [
        group[-1]
        for key, group in slots.items()
        if (target.replicas is not None or key in up) and any(task["ID"] in over for task in group)
    ]
    return Seen(
        lines,
        counted,
        expected,
        failures=list(failed.values()),
        ended=over,
        successors=[str(task["Status"].get("State")) for task in newest],
        stuck=stuck(service, mine, up),
        **_stopped(service, target.generation),
    )


def _global_lines(
    target: Target,
    slots: Mapping[str, Sequence[Mapping[str, Any]]],
    names: Mapping[str, str],
    up: set[str],
    failed: Mapping[str, Failure],
) -> list[tuple[str, str, str]]:
    lines = []
    for node in target.nodes:
        name = names.get(node, node)
        if node not in up:
            lines.append((name, "left", "the node is down, drained or gone, and not waited for"))
        elif node in slots:
            lines.append(_line(name, slots[node][-1], failed.get(node)))
        else:
            lines.append((name, "waiting", "no task yet"))
    return lines


def _slot_line(
    slot: str, task: Mapping[str, Any], names: Mapping[str, str], failure: Failure | None
) -> tuple[str, str, str]:
    node = task.get("NodeID")
    return _line(f"task {slot} on {names.get(node, node)}" if node else f"task {slot}", task, failure)


def _line(name: str, task: Mapping[str, Any], failure: Failure | None) -> tuple[str, str, str]:
    """The newest task; once one has failed before it, why."""
    why = _error(task) or (f"after: {failure.error}" if failure is not None else "")
    return name, str(task["Status"].get("State") or "new"), why


def _failure(group: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> Failure | None:
    """What went wrong on a node or in a slot: of its newest bad task, as long as the task after it does not run."""
    bad = [task for task in group if task["Status"].get("State") in _BAD]
    if not bad or (group[-1]["Status"].get("State") == "running" and len(bad) < TRIES):
        return None
    error = _error(bad[-1])
    meaning, lasting = explain(error)
    node = names.get(bad[-1].get("NodeID", ""), bad[-1].get("NodeID") or "(no node)")
    slot = str(bad[-1].get("Slot") or bad[-1].get("NodeID") or "")
    return Failure(node, error, meaning, lasting, bad[-1]["ID"], len(bad), slot=slot)


def _error(task: Mapping[str, Any]) -> str:
    status = task["Status"]
    if status.get("Err"):
        return str(status["Err"])
    if status.get("State") == "complete":
        return "it ended with exit code 0"
    return ""


def _waiting(seen: Seen) -> list[Failure]:
    """Nothing failed, and yet it is not there: what each says of itself."""
    return [
        Failure(node, detail or f"still {state}", explain(detail)[0])
        for node, state, detail in seen.lines
        if state not in ("running", "left")
    ]


def _looked_into(engine: Docker, failure: Failure, looked: dict[str, Failure]) -> Failure:
    """Each failed task is asked once for what it printed."""
    if failure.task not in looked:
        looked[failure.task] = _with_output(engine, failure)
    return looked[failure.task]


def _with_output(engine: Docker, failure: Failure) -> Failure:
    """Also what the program printed, which often is the reason: runc reports exec format errors there only."""
    if not failure.task:
        return failure
    try:
        output = engine.task_logs(failure.task)
    except (EngineError, NotFound):
        return failure
    meaning, lasting = explain(output)
    if not lasting:
        return failure.replace(output=output)
    return failure.replace(output=output, explanation=meaning, lasting=True)


def _stopped(service: Mapping[str, Any], generation: int) -> dict[str, str]:
    """Swarm's reason for having stopped an update, or for having taken it back by itself."""
    status = service.get("UpdateStatus") or {}
    state = str(status.get("State") or "")
    template = (service.get("Spec") or {}).get("TaskTemplate") or {}
    reason = str(status.get("Message") or state)
    if state.startswith("rollback_") and int(template.get("ForceUpdate") or 0) != generation:
        return {"taken_back": reason}
    return {"paused": reason} if is_paused(service) else {}


def _made(task: Mapping[str, Any]) -> tuple[str, str]:
    return str(task.get("CreatedAt", "")), str(task.get("ID", ""))


def _tell(
    lines: Mapping[str, tuple[str, str]],
    shown: dict[str, tuple[str, str]],
    on_change: Callable[[str, str, str], None] | None,
) -> None:
    for node, line in lines.items():
        if shown.get(node) != line:
            shown[node] = line
            if on_change is not None:
                on_change(node, *line)
