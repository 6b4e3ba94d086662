# SPDX-License-Identifier: Apache-2.0
"""A machine's engine as a node of a swarm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from manyfest.engines.docker import Docker, Endpoint
from manyfest.errors import EmulationError, InputError

if TYPE_CHECKING:
    from manyfest.emulate.machine.machines import Machine
    from manyfest.emulate.machine.record import Record

__all__ = ["check_joining", "join_swarm"]

PORT = 2377


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


def join_swarm(machine: Machine, manager: str, token: str) -> bool:
    """Join the swarm of a manager at ``HOST[:PORT]``; ``False`` if the engine is in a swarm already.

    The machine must have an address on a bridge that the manager is on as well: QEMU's own network lets nobody in.
    Raises :class:`InputError` without one, :class:`EngineError` for what the engine says.
    """
    check_joining(machine.record, token)
    address = machine.record.address.partition("/")[0]
    with Docker(Endpoint(machine.engine)) as engine:
        found = engine.call("GET", "/info", "asking whether it is in a swarm")
        state = (found.get("Swarm") or {}).get("LocalNodeState") if isinstance(found, dict) else None
        if state not in ("inactive", "active"):
            raise EmulationError(
                f"{machine.record.name}: its place in a swarm is {state!r}",
                hint="docker swarm leave --force, in it",
            )
        if state == "active":
            return False
        body = {
            "ListenAddr": f"{address}:{PORT}",
            "AdvertiseAddr": address,
            "RemoteAddrs": [manager if ":" in manager else f"{manager}:{PORT}"],
            "JoinToken": token,
        }
        engine.call("POST", "/swarm/join", f"joining the swarm of {manager}", body)
    return True
