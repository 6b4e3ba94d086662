# SPDX-License-Identifier: Apache-2.0
"""A swarm as the dashboard shows it: nodes by architecture, services, and the newest task of each place.

Swarm keeps the tasks that failed before; of those of one slot (or one node, for a global service) the newest counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from manyfest.coverage.nodes import from_swarm

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from manyfest.errors import Error

__all__ = ["unreachable", "view"]

_GONE = ("shutdown", "remove", "orphaned", "complete")
_BAD = ("failed", "rejected")


def unreachable(error: Error, before: Mapping[str, Any] | None) -> dict[str, Any]:
    """The swarm cannot be asked; what was known last stays in view."""
    known = before or {"nodes": [], "services": []}
    return {**known, "error": str(error), "hint": error.hint}


def view(
    nodes: Sequence[Mapping[str, Any]],
    services: Sequence[Mapping[str, Any]],
    tasks: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Three answers of the Engine API as one JSON value."""
    places = from_swarm(nodes, tasks)
    running: dict[str, int] = {}
    for task in tasks:
        if _state(task) == "running" and task.get("DesiredState") == "running":
            key = str(task.get("NodeID") or "")
            running[key] = running.get(key, 0) + 1
    shown = [
        {
            "id": node.id,
            "name": node.name,
            "platform": str(node.platform),
            "architecture": node.platform.architecture,
            "machine": node.host.machine,
            "role": node.role,
            "state": _node_state(node.state, node.availability),
            "engine": node.version,
            "running": running.get(node.id, 0),
        }
        for node in places
    ]
    shown.sort(key=lambda node: (str(node["architecture"]), str(node["name"])))
    by_id = {str(node["id"]): node for node in shown}
    found = [_service(service, tasks, by_id) for service in services]
    return {
        "error": "",
        "hint": "",
        "nodes": shown,
        "services": sorted(found, key=lambda service: str(service["name"])),
    }


def _node_state(state: str, availability: str) -> str:
    if state == "ready" and availability not in ("", "active"):
        return {"drain": "drained", "pause": "paused"}.get(availability, availability)
    return state or "unknown"


def _service(
    service: Mapping[str, Any], tasks: Sequence[Mapping[str, Any]], nodes: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    spec = service.get("Spec") or {}
    mode = spec.get("Mode") or {}
    replicated = mode.get("Replicated")
    rows = _rows([task for task in tasks if task.get("ServiceID") == service.get("ID")], nodes)
    container = (spec.get("TaskTemplate") or {}).get("ContainerSpec") or {}
    expected = int((replicated or {}).get("Replicas") or 0) if replicated is not None else len(rows)
    return {
        "name": str(spec.get("Name") or service.get("ID") or "?"),
        "mode": "replicated" if replicated is not None else next(iter(mode), "global").lower(),
        "image": str(container.get("Image") or "").partition("@")[0],
        "running": sum(row["state"] == "running" for row in rows),
        "expected": expected,
        "tasks": rows,
    }


def _rows(tasks: Sequence[Mapping[str, Any]], nodes: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    newest: dict[str, Mapping[str, Any]] = {}
    for task in sorted(tasks, key=lambda task: (str(task.get("CreatedAt")), str(task.get("ID")))):
        newest[str(task.get("Slot") or task.get("NodeID") or "")] = task
    rows = []
    for slot, task in newest.items():
        if _state(task) in _GONE or (task.get("DesiredState") in _GONE and _state(task) not in _BAD):
            continue
        node = nodes.get(str(task.get("NodeID") or ""), {})
        rows.append(
            {
                "slot": slot,
                "node": str(node.get("name", "")),
                "architecture": str(node.get("architecture", "")),
                "state": _state(task),
                "detail": str((task.get("Status") or {}).get("Err") or ""),
            }
        )
    return sorted(rows, key=lambda row: (row["node"], row["slot"].zfill(6)))


def _state(task: Mapping[str, Any]) -> str:
    return str((task.get("Status") or {}).get("State") or "new")
