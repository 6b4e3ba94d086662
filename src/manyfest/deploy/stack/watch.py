# SPDX-License-Identifier: Apache-2.0
"""Watching all services of a stack at once until all of them run, or one has failed for good.

Swarm starts them together: a program whose database is not there yet ends, and is started again. So what fails is
forgiven as long as another service of the stack is still on its way and has not failed itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from manyfest.deploy.converge import POLL_S, SILENT_S, Clock, Watch
from manyfest.deploy.sight import Seen, look
from manyfest.errors import EngineError, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from manyfest.deploy.converge import Outcome
    from manyfest.deploy.sight import Target
    from manyfest.engines.docker import Docker

__all__ = ["wait_for_all"]


def wait_for_all(
    engine: Docker,
    targets: Mapping[str, Target],
    *,
    timeout_s: float,
    on_change: Callable[[str, str, str, str], None] | None = None,
    clock: Clock | None = None,
) -> dict[str, Outcome]:
    """By service: how each had ended when all had arrived, or the first had failed, or the time was over.

    What has neither arrived nor failed by then is not in the answer. ``on_change`` hears ``(service, node, state,
    detail)``. Raises as :func:`~manyfest.deploy.converge.wait` does.
    """
    clock = clock or Clock()
    began = heard = clock.now()
    wanted = {name: target for name, target in targets.items() if target.replicas != 0}
    watches = {name: Watch() for name in wanted}
    shown: dict[tuple[str, str], tuple[str, str]] = {}
    outcomes: dict[str, Outcome] = {}
    while wanted:
        try:
            looks = _look(engine, wanted)
            now = clock.now()
            judged = {
                name: watches[name].judge(engine, seen, now, forgiving=_others_are_on_their_way(name, looks))
                for name, seen in looks.items()
            }
            for name, seen in looks.items():
                if judged[name] is None:
                    watches[name].free(engine, wanted[name].service, seen)
            heard = clock.now()
        except EngineError:
            if clock.now() - heard > SILENT_S:
                raise
            for watch in watches.values():
                watch.lose_sight()
            clock.sleep(POLL_S)
            continue
        for name, seen in looks.items():
            _tell(name, seen, shown, on_change)
        outcomes = {
            name: outcome.replace(seconds=now - began)
            for name, outcome in judged.items()
            if outcome is not None
        }
        failed = any(not outcome.ok for outcome in outcomes.values())
        if now - began > timeout_s and not failed and len(outcomes) < len(wanted):
            late = {
                name: watch.too_late(timeout_s) for name, watch in watches.items() if name not in outcomes
            }
            return outcomes | {name: outcome.replace(seconds=now - began) for name, outcome in late.items()}
        if failed or len(outcomes) == len(wanted):
            return outcomes
        clock.sleep(POLL_S)
    return outcomes


def _look(engine: Docker, targets: Mapping[str, Target]) -> dict[str, Seen]:
    """Three requests, however many services there are."""
    services = {service["ID"]: service for service in engine.services()}
    nodes = engine.nodes()
    tasks: dict[str, list[Mapping[str, Any]]] = {}
    for task in engine.tasks():
        tasks.setdefault(str(task.get("ServiceID")), []).append(task)
    found = {}
    for name, target in targets.items():
        if target.service not in services:
            raise NotFound(f"the service {name} is gone: somebody removed it", hint="deploy the stack again")
        found[name] = look(target, services[target.service], nodes, tasks.get(target.service, ()))
    return found


def _others_are_on_their_way(name: str, looks: Mapping[str, Seen]) -> bool:
    return any(
        other != name and not seen.is_there and not any(failure.is_final for failure in seen.failures)
        for other, seen in looks.items()
    )


def _tell(
    name: str,
    seen: Seen,
    shown: dict[tuple[str, str], tuple[str, str]],
    on_change: Callable[[str, str, str, str], None] | None,
) -> None:
    for node, state, detail in seen.lines:
        if shown.get((name, node)) != (state, detail):
            shown[name, node] = state, detail
            if on_change is not None:
                on_change(name, node, state, detail)
