# SPDX-License-Identifier: Apache-2.0
"""What a manager says of a service's tasks at one moment, read as how far a deployment has come."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from manyfest.deploy.renewal import is_paused, stuck
from manyfest.values import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

__all__ = ["Failure", "Seen", "Target", "ended", "explain", "look", "next_generation"]

TRIES = 2
"""Failures of one task before we give up on what may be temporary."""

PORT_TRIES = 4
"""The same where a port is taken: an engine that was killed keeps its containers' ports for a while when it is back."""

_BAD = ("failed", "rejected", "complete")
_ENDED = (*_BAD, "shutdown", "remove", "orphaned")

_EXPLAINED: tuple[tuple[str, int, str], ...] = (
    # what the engine says, after how many failures it is there to stay, what that means
    (r"exec format error", 1, "the program inside is for another machine; manyfest verify shows which"),
    (r"no matching manifest|does not match the (?:specified|detected) platform", 1, "the list has nothing for it"),
    (r"unsupported platform", TRIES, "Swarm compares the platforms with what nodes call themselves"),
    (r"no basic auth|unauthorized|denied: ", 1, "the registry wants credentials; add --with-registry-auth"),
    (r"No such image", TRIES, "the node cannot pull it: not there, no credentials, or no way to the registry"),
    (r"host-mode port already in use", TRIES, "a task of another service publishes this port on the node"),
    (r"port is already allocated|address already in use", PORT_TRIES, "another program has this port on the node"),
    (r"insufficient resources", TRIES, "the node has not the memory or processors that are reserved"),
    (r"scheduling constraints not satisfied", TRIES, "no node meets the constraints"),
    (r"executable file not found|no such file or directory", 1, "its program, or the loader of it, is missing"),
    (r"permission denied", 1, "the program in the image may not be executed"),
    (r"non-zero exit|ended with exit code 0", TRIES, "a service has to stay; its program ended"),
)  # fmt: skip


def next_generation(service: Mapping[str, Any]) -> int:
    """A ``ForceUpdate`` that no task of a service (as the API shows it) has ever had.

    One more than now is not enough: going back brings the old number back, and the next deployment would take the
    failed tasks of this one for its own. The version of a service only grows.
    """
    had = int((service["Spec"].get("TaskTemplate") or {}).get("ForceUpdate") or 0)
    return max(had + 1, int(service["Version"]["Index"]))


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

    ``slot`` is which of the service's tasks: a node's id, or a number. After ``limit`` failures it is there to stay.
    """

    __slots__ = ("error", "explanation", "limit", "node", "output", "slot", "task", "tries")
    node: str
    error: str
    explanation: str
    limit: int
    task: str
    tries: int
    output: str
    slot: str

    def __init__(
        self,
        node: str,
        error: str,
        explanation: str = "",
        limit: int = TRIES,
        task: str = "",
        tries: int = 1,
        output: str = "",
        slot: str = "",
    ) -> None:
        self._set(
            node=node,
            error=error,
            explanation=explanation,
            limit=limit,
            task=task,
            tries=tries,
            output=output,
            slot=slot,
        )

    @property
    def is_final(self) -> bool:
        """Is there no point in waiting?"""
        return self.limit == 1 or self.tries >= self.limit

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


def explain(error: str) -> tuple[str, int]:
    """What an engine's message means (empty where we do not know), and after how many of them it is there to stay."""
    for pattern, limit, text in _EXPLAINED:
        if re.search(pattern, error, re.IGNORECASE):
            return text, limit
    return "", TRIES


def ended(tasks: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The ids of tasks that are over; whatever they failed of, is not what is done next."""
    return tuple(str(task["ID"]) for task in tasks if task["Status"].get("State") in _ENDED)


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
    if not bad:
        return None
    error = _error(bad[-1])
    meaning, limit = explain(error)
    if group[-1]["Status"].get("State") == "running" and len(bad) < max(limit, TRIES):
        return None
    node = names.get(bad[-1].get("NodeID", ""), bad[-1].get("NodeID") or "(no node)")
    slot = str(bad[-1].get("Slot") or bad[-1].get("NodeID") or "")
    return Failure(node, error, meaning, limit, bad[-1]["ID"], len(bad), slot=slot)


def _error(task: Mapping[str, Any]) -> str:
    status = task["Status"]
    if status.get("Err"):
        return str(status["Err"])
    if status.get("State") == "complete":
        return "it ended with exit code 0"
    return ""


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
