# SPDX-License-Identifier: Apache-2.0
"""A machine's engine as a node of a swarm."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from manyfest.engines.docker import Docker, Endpoint
from manyfest.errors import EmulationError, EngineError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from manyfest.emulate.machine.machines import Machine
    from manyfest.emulate.machine.record import Record

__all__ = ["JOIN_TIMEOUT_S", "check_joining", "join_swarm"]

PORT = 2377

JOIN_TIMEOUT_S = 120.0
"""Until an engine is a node: a second or two, and half a minute emulated on a busy processor."""

POLL_S = 0.5

_GOES_ON = "will continue in the background"
"""What an engine says when it has not joined within its 20 seconds (``errSwarmJoinTimeoutReached`` of
https://github.com/moby/moby/blob/master/daemon/cluster/errors.go)."""


def check_joining(record: Record, token: str) -> None:
    """What can be told before minutes of starting. Raises :class:`InputError`."""
    if not token.startswith("SWMTKN-"):
        raise InputError(
            "that is no token of a swarm" if token else "no token of a swarm in $SWARM_TOKEN",
            hint="docker swarm join-token -q worker, on a manager, prints it",
        )
    if not record.address:
        raise InputError(
            f"{record.name} is on no bridge, so nodes of a swarm cannot reach it",
            hint="manyfest machine create NAME --bridge BRIDGE --address ADDRESS/24",
        )


def join_swarm(
    machine: Machine,
    manager: str,
    token: str,
    *,
    timeout_s: float = JOIN_TIMEOUT_S,
    on_step: Callable[[str], None] = lambda _: None,
) -> bool:
    """Join the swarm of a manager at ``HOST[:PORT]``; ``False`` if the engine is in a swarm already.

    The machine must have an address on a bridge that the manager is on as well: QEMU's own network lets nobody in.
    Returns when the engine is a node. Raises :class:`InputError` without an address, :class:`EngineError` for what the
    engine says, and :class:`EmulationError` when it is no node after ``timeout_s``.
    """
    check_joining(machine.record, token)
    address = machine.record.address.partition("/")[0]
    with Docker(Endpoint(machine.engine)) as engine:
        state = _state(engine)[0]
        joins = state == "inactive"
        if joins:
            body = {
                "ListenAddr": f"{address}:{PORT}",
                "AdvertiseAddr": address,
                "RemoteAddrs": [manager if ":" in manager else f"{manager}:{PORT}"],
                "JoinToken": token,
            }
            try:
                engine.call("POST", "/swarm/join", f"joining the swarm of {manager}", body)
            except EngineError as error:
                if _GOES_ON not in str(error):
                    raise
                state = "pending"
        # Also after a start, when the engine is on its way back to its swarm.
        if state == "pending":
            on_step(f"{machine.record.name}: waiting until its engine is a node of the swarm")
            _wait(engine, machine.record.name, manager, timeout_s)
        elif state not in ("inactive", "active"):
            raise _stays_out(machine.record.name, *_state(engine))
    return joins


def _wait(engine: Docker, name: str, manager: str, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while (found := _state(engine))[0] == "pending":
        if time.monotonic() > deadline:
            raise EmulationError(
                f"{name}: no node of the swarm of {manager} after {timeout_s:g} s; its engine goes on trying",
                hint="is the manager's port to be reached from the machine? the same command waits again",
            )
        time.sleep(POLL_S)
    if found[0] != "active":
        raise _stays_out(name, *found)


def _stays_out(name: str, state: object, reason: str) -> EmulationError:
    told = f": {reason}" if reason else ""
    return EmulationError(
        f"{name}: its place in a swarm is {state!r}{told}", hint="docker swarm leave --force, in it"
    )


def _state(engine: Docker) -> tuple[object, str]:
    """An engine's own word for its place in a swarm, and what is wrong with it."""
    found = engine.call("GET", "/info", "asking whether it is in a swarm")
    swarm = (found.get("Swarm") or {}) if isinstance(found, dict) else {}
    return swarm.get("LocalNodeState"), str(swarm.get("Error") or "")
