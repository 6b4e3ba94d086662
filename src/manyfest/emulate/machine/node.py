# SPDX-License-Identifier: Apache-2.0
"""A machine as a node, by the name ``machine:NAME``: started when it is needed, and left running.

Registries on this machine's loopback are brought in under the same name, so that ``localhost:5000/app`` is the same
image inside; they can be reached there until the machine stops.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from manyfest.engines import builders
from manyfest.engines.builders import Builder
from manyfest.errors import EmulationError, EngineError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from manyfest.engines.builders import Order

__all__ = ["PREFIX", "builder_on", "engine_of", "is_machine", "loopback_ports", "planned"]

PREFIX = "machine:"

_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def is_machine(where: str) -> bool:
    """Is this node a machine of ours?"""
    return where.startswith(PREFIX)


def engine_of(where: str, on_step: Callable[[str], None]) -> str:
    """The URL of its engine, which answers. Raises :class:`EngineError`."""
    from manyfest.emulate.machine import machines  # 30 ms, which builds without machines do not pay

    name = where.removeprefix(PREFIX)
    try:
        if machines.find(name).state != "running":
            on_step(f"starting the machine {name}; manyfest machine stop {name} ends it")
        return machines.start(name, on_step=on_step).engine
    except (EmulationError, InputError) as error:
        raise EngineError(f"{where}: {error}", hint=error.hint) from error


def builder_on(where: str, engine: str, on_step: Callable[[str], None]) -> Builder:
    """Who builds in it. Raises :class:`EngineError`."""
    from manyfest.emulate.machine import machines  # 30 ms, which builds without machines do not pay

    _require_docker(where, engine)
    url = engine_of(where, on_step)
    connection = machines.connect(where.removeprefix(PREFIX))

    def prepare(order: Order) -> None:
        for port in loopback_ports(order):
            try:
                connection.bring(port)
            except EmulationError as error:
                raise EngineError(f"{where}: {error}", hint=error.hint) from error

    builder = builders.on_node(url, engine)
    builder.prepare, builder.label = prepare, where
    return builder


def planned(where: str, engine: str) -> Builder:
    """Who would build in it, without starting it. Raises :class:`EngineError` for no such machine."""
    from manyfest.emulate.machine import machines  # 30 ms, which builds without machines do not pay

    _require_docker(where, engine)
    try:
        machine = machines.find(where.removeprefix(PREFIX))
    except (EmulationError, InputError) as error:
        raise EngineError(f"{where}: {error}", hint=error.hint) from error
    builder = Builder("docker", "docker", where=machine.engine, platform=machine.record.platform)
    builder.label = where
    return builder


def loopback_ports(order: Order) -> list[int]:
    """Ports of registries on this machine's loopback that the bases of a build come from."""
    found = set()
    for _, name, _ in order.bases:
        host, _, port = name.partition("/")[0].rpartition(":")
        if host in _LOOPBACK and port.isdecimal():
            found.add(int(port))
    return sorted(found)


def _require_docker(where: str, engine: str) -> None:
    if engine not in ("", "docker"):
        raise EngineError(f"{where}: has Docker, not {engine}", hint="--engine docker, or leave it out")
