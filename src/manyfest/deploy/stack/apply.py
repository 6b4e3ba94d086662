# SPDX-License-Identifier: Apache-2.0
"""Doing what a plan says, keeping book of it, and taking all of it back.

Networks, secrets and configs first, since services name them by id; each change is in the book before the next.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from manyfest.deploy.converge import POLL_S, Clock
from manyfest.deploy.renewal import is_paused, renew, set_back
from manyfest.deploy.sight import Target, ended
from manyfest.deploy.stack.compare import same
from manyfest.deploy.stack.plan import Standing, resolved
from manyfest.deploy.stack.watch import wait_for_all
from manyfest.engines import swarm
from manyfest.errors import EngineError, Error, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from manyfest.deploy.stack.plan import PartStep, ServiceStep
    from manyfest.engines.docker import Docker

__all__ = ["REMOVE_S", "Book", "change", "has_stack", "remove_all", "remove_services", "undo"]

REMOVE_S = 30.0
"""Seconds that tasks get to end, and networks to be left by them."""

_ORDER = ("secrets", "configs", "networks")
"""In which parts are removed, as docker does it."""


class Book:
    """What was done: ids of parts that were made, and of each changed service what was there before (or ``None``)."""

    def __init__(self) -> None:
        self.parts: list[tuple[str, str, str]] = []
        self.services: list[tuple[str, str, Mapping[str, Any] | None]] = []
        self.targets: dict[str, Target] = {}

    @property
    def is_empty(self) -> bool:
        """Was nothing changed?"""
        return not self.parts and not self.services


def change(
    engine: Docker,
    parts: Sequence[PartStep],
    steps: Sequence[ServiceStep],
    auth_of: Callable[[ServiceStep], str],
    book: Book,
) -> None:
    """Make and update everything; ``book`` is written on the way. Raises :class:`EngineError` at the first refusal."""
    ids: dict[str, dict[str, str]] = {kind: {} for kind in swarm.KINDS}
    for each in parts:
        kind, name = each.part.kind, each.part.name
        if each.found is not None:
            ids[kind][name] = swarm.id_of(each.found)
        if each.part.spec is None:
            continue
        if each.found is None:
            ids[kind][name] = swarm.create(engine, kind, name, each.part.spec)
            book.parts.append((kind, name, ids[kind][name]))
        elif kind == "secrets" or each.action == "update":
            # Of a secret nobody but the swarm can tell whether its contents are the same: it refuses others.
            swarm.update(engine, kind, each.found, each.part.spec)
    for step in steps:
        service = step.service
        past = () if step.before is None else ended(engine.tasks(str(step.before["ID"])))
        if step.before is not None and step.action == "unchanged":
            id = str(step.before["ID"])
            if is_paused(step.before):
                renew(engine, id)
        elif step.before is None:
            spec = resolved(step.spec, ids)
            id = engine.create_service(spec, auth_of(step))
            book.services.append((service.name, id, None))
        else:
            id = str(step.before["ID"])
            # Booked first: when the answer gets lost, nobody knows whether it was done.
            book.services.append((service.name, id, step.before["Spec"]))
            engine.update_service(step.before, resolved(step.spec, ids), auth_of(step))
        nodes = [node.id for node in step.placement.runs_on]
        book.targets[service.name] = Target.of(id, step.spec, nodes, past)


def undo(engine: Docker, book: Book, *, timeout_s: float, clock: Clock | None = None) -> list[str]:
    """Take everything back, the last change first; sentences of what could not be, none when all is as before."""
    troubles: list[str] = []
    targets: dict[str, Target] = {}
    gone: list[str] = []
    for name, id, before in reversed(book.services):
        try:
            if before is None:
                engine.remove_service(id)
                gone.append(id)
                continue
            past = ended(engine.tasks(id))
            now = engine.service(id)
            if not same(now["Spec"], before):  # Swarm may have gone back by itself
                set_back(engine, now, before)
            nodes = book.targets[name].nodes if name in book.targets else ()
            targets[name] = Target.of(id, before, nodes, past)
        except Error as error:
            troubles.append(f"{name}: {error}")
    try:
        outcomes = wait_for_all(engine, targets, timeout_s=timeout_s, clock=clock)
        troubles += [f"{name}: {outcome.reason}" for name, outcome in outcomes.items() if not outcome.ok]
        await_end(engine, gone, clock)
    except Error as error:
        troubles.append(str(error))
    made = sorted(book.parts, key=lambda part: _ORDER.index(part[0]))
    return troubles + _remove_parts(engine, made, clock)


def remove_all(engine: Docker, stack: str, clock: Clock | None = None) -> tuple[list[str], list[str], int]:
    """Everything with the stack's label: the services' names, the other parts' names, and how many tasks are left.

    Raises :class:`NotFound` when nothing has it, :class:`EngineError` when something cannot be removed.
    """
    services, parts = Standing.of(engine).of_stack(stack)
    if not services and not parts:
        raise NotFound(f"there is no stack {stack}", hint="docker stack ls shows what there is")
    remove_services(engine, services)
    left = await_end(engine, [str(service["ID"]) for service in services], clock)
    parts.sort(key=lambda part: _ORDER.index(part[0]))
    made = [(kind, swarm.name_of(found), swarm.id_of(found)) for kind, found in parts]
    if troubles := _remove_parts(engine, made, clock):
        raise EngineError("; ".join(troubles), hint="try again when their tasks have ended")
    return [swarm.name_of(each) for each in services], [f"{kind[:-1]} {name}" for kind, name, _ in made], left


def remove_services(engine: Docker, services: Sequence[Mapping[str, Any]]) -> None:
    """Also when somebody else is doing the same."""
    for service in services:
        with contextlib.suppress(NotFound):
            engine.remove_service(str(service["ID"]))


def await_end(engine: Docker, services: Sequence[str], clock: Clock | None = None) -> int:
    """Until no task of these services lives, or :data:`REMOVE_S` are over; how many are left."""
    clock = clock or Clock()
    until = clock.now() + REMOVE_S
    while services:
        # Asked of all tasks: the engine does not filter by a service that is gone.
        mine = [task for task in engine.tasks() if task.get("ServiceID") in services]
        left = len(mine) - len(ended(mine))
        if not left or clock.now() >= until:
            return left
        clock.sleep(POLL_S)
    return 0


def _remove_parts(
    engine: Docker, parts: Sequence[tuple[str, str, str]], clock: Clock | None = None
) -> list[str]:
    """A network is in use until the last container has left it, which may come a moment after its end."""
    clock = clock or Clock()
    until = clock.now() + REMOVE_S
    todo, why = list(parts), dict[str, str]()
    while todo:
        left = []
        for part in todo:
            try:
                swarm.remove(engine, part[0], part[2])
            except NotFound:
                continue
            except EngineError as error:
                why[part[2]] = f"the {part[0][:-1]} {part[1]} is left: {error}"
                left.append(part)
        todo = left
        if todo and clock.now() >= until:
            return [why[part[2]] for part in todo]
        if todo:
            clock.sleep(POLL_S)
    return []


def has_stack(engine: Docker, name: str) -> bool:
    """Does anything carry the label of such a stack?"""
    services, parts = Standing.of(engine).of_stack(name)
    return bool(services or parts)
