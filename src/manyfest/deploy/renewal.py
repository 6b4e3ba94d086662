# SPDX-License-Identifier: Apache-2.0
"""Helping an update of Swarm over a node that died in the middle of it, or over what has stopped it.

Swarm replaces tasks one after the other and waits until each new one has started, without a limit of time. The new task
of a node that goes down meanwhile never does, and the update stands still for all other nodes too (SwarmKit's
manager/orchestrator/update/updater.go says so where it waits). Only another spec makes it begin again, then without the
nodes that are down; a label is the part of one that changes no task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from typing import Any

    from manyfest.engines.docker import Docker

__all__ = ["RENEWED", "is_paused", "renew", "set_back", "stuck"]

RENEWED = "io.manyfest.renewed"
"""The label that makes a spec another one; its value is the service's version at that time."""

_ON_ITS_WAY = ("new", "allocated", "pending", "assigned", "accepted", "preparing", "ready", "starting")
_UPDATING = ("updating", "rollback_started")
_PAUSED = ("paused", "rollback_paused")


def is_paused(service: Mapping[str, Any]) -> bool:
    """Has Swarm stopped an update half-way, because a task failed? It does not go on by itself."""
    return (service.get("UpdateStatus") or {}).get("State") in _PAUSED


def stuck(
    service: Mapping[str, Any], tasks: Sequence[Mapping[str, Any]], up: Collection[str]
) -> tuple[str, ...]:
    """The ids of those ``tasks``, new ones of an update, that it waits for in vain; ``up`` are the nodes that live."""
    if (service.get("UpdateStatus") or {}).get("State") not in _UPDATING:
        return ()
    return tuple(
        str(task["ID"])
        for task in tasks
        if task.get("NodeID") and task["NodeID"] not in up and task["Status"].get("State") in _ON_ITS_WAY
    )


def renew(engine: Docker, name: str) -> None:
    """Begin the update again, as it is; tasks that it has replaced stay. Raises :class:`EngineError`."""
    service = engine.service(name)
    spec = service["Spec"]
    labels = {**(spec.get("Labels") or {}), RENEWED: str(service["Version"]["Index"])}
    engine.update_service(service, {**spec, "Labels": labels})


def set_back(engine: Docker, service: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    """A service, as the engine shows it, to the spec ``before``. Raises :class:`EngineError`.

    Swarm's own way back leads to the spec before the last change, which may have been a renewal.
    """
    if service.get("PreviousSpec") == before:
        engine.update_service(service, service["Spec"], rollback=True)
    else:
        engine.update_service(service, before)
