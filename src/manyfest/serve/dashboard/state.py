# SPDX-License-Identifier: Apache-2.0
"""What is known at this moment, for everyone who looks: one snapshot, and a sentence for each thing that changed.

    >>> board = Board()
    >>> board.put("probe", {"url": "http://127.0.0.1:8080"}, ["arm64 answers"])
    >>> board.version, board.snapshot()["changes"][0]["text"]
    (1, 'arm64 answers')

Snapshots are JSON (``docs/reference/json.md``): ``lists``, ``swarm``, ``probe``, ``changes``.
"""

from __future__ import annotations

import threading
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

__all__ = ["Board", "list_changes", "probe_changes", "swarm_changes"]

CHANGES = 50
"""Sentences that are kept."""


class Board:
    """Where watchers write and pages read; every method may be called from any thread."""

    def __init__(self) -> None:
        self._told = threading.Condition()
        self._sections: dict[str, Any] = {"lists": [], "swarm": None, "probe": None}
        self._changes: deque[dict[str, Any]] = deque(maxlen=CHANGES)
        self._said = 0
        self._version = 0
        self._closed = False

    @property
    def version(self) -> int:
        """Grows with every change."""
        return self._version

    @property
    def closed(self) -> bool:
        """Will nothing come any more?"""
        return self._closed

    def put(self, section: str, value: object, sentences: Iterable[str] = ()) -> None:
        """Replace a section with a JSON value that nobody changes afterwards. The same value again is no change."""
        said = list(sentences)
        with self._told:
            if self._sections[section] == value and not said:
                return
            self._sections[section] = value
            self._say(said)

    def say(self, text: str) -> None:
        """A sentence that belongs to no section."""
        with self._told:
            self._say([text])

    def _say(self, said: Iterable[str]) -> None:
        now = _now()
        for text in said:
            self._said += 1
            self._changes.append({"number": self._said, "at": now, "text": text})
        self._version += 1
        self._told.notify_all()

    def snapshot(self) -> dict[str, Any]:
        """Everything, the newest change first."""
        with self._told:
            return {"version": self._version, **self._sections, "changes": list(reversed(self._changes))}

    def wait(self, version: int, timeout_s: float) -> bool:
        """Wait for something newer than ``version``; ``False`` when the time is over or the board is closed."""
        with self._told:
            self._told.wait_for(lambda: self._version > version or self._closed, timeout_s)
            return self._version > version

    def rest(self, seconds: float) -> None:
        """Wait whatever changes, unless the board is closed."""
        with self._told:
            self._told.wait_for(lambda: self._closed, seconds)

    def close(self) -> None:
        """Wake everyone who waits, for the last time."""
        with self._told:
            self._closed = True
            self._told.notify_all()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def list_changes(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> list[str]:
    """What is new about one list, in sentences."""
    name, was = after["name"], before or {}
    if after["state"] == "failed":
        return [] if was.get("error") == after["error"] else [f"{name}: {after['error']}"]
    said = []
    if after["digest"] and after["digest"] != was.get("digest"):
        platforms = _several(len(after["platforms"]), "platform")
        verb = "was moved to" if was.get("digest") else "is"
        said.append(f"{name} {verb} {after['digest'][:19]}, {platforms}")
    elif was.get("state") == "failed":
        said.append(f"{name} can be read again")
    if after["state"] == "ready" and after["verified"] and not was.get("verified"):
        said.append(f"{name}: {verdict(after)}")
    return said


def verdict(shown: Mapping[str, Any]) -> str:
    """How a verified list is, in a word or two."""
    if shown["errors"]:
        return _several(shown["errors"], "error") + " found"
    return _several(shown["warnings"], "warning") if shown["warnings"] else "no errors found"


def swarm_changes(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> list[str]:
    """Nodes that came, went or changed, and tasks that are in another state."""
    if after["error"]:
        return [] if before and before["error"] == after["error"] else [after["error"]]
    if before is None or before["error"]:
        return [f"the swarm has {_several(len(after['nodes']), 'node')}"]
    said = _moved(
        {node["id"]: (f"node {node['name']}", node["state"]) for node in before["nodes"]},
        {node["id"]: (f"node {node['name']}", node["state"]) for node in after["nodes"]},
    )
    return said + _moved(_tasks(before), _tasks(after))


def _tasks(swarm: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    return {
        f"{service['name']} {task['slot']}": (
            f"{service['name']} on {task['node'] or 'no node'}",
            task["state"],
        )
        for service in swarm["services"]
        for task in service["tasks"]
    }


def _moved(before: Mapping[str, tuple[str, str]], after: Mapping[str, tuple[str, str]]) -> list[str]:
    said = [f"{name}: {state}" for key, (name, state) in after.items() if before.get(key) != (name, state)]
    return said + [f"{name}: gone" for key, (name, _) in before.items() if key not in after]


def probe_changes(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> list[str]:
    """An architecture that answers for the first time, and the first request that fails or succeeds again."""
    known = {each["name"] for each in before["answers"]} if before else set()
    said = [f"{each['name']} answers" for each in after["answers"] if each["name"] not in known]
    now, was = _last_error(after["recent"]), _last_error(before["recent"] if before else [])
    if now and not was:
        said.append(f"{after['url']}: {now}")
    elif was and not now:
        said.append(f"{after['url']} answers again")
    return said


def _last_error(recent: Sequence[Mapping[str, Any]]) -> str:
    return str(recent[-1]["error"]) if recent else ""


def _several(count: int, noun: str) -> str:
    return f"{count} {noun if count == 1 else noun + 's'}"
