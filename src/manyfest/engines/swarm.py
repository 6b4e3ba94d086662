# SPDX-License-Identifier: Apache-2.0
"""What a swarm holds besides services: networks, secrets and configs, through the Engine API.

https://docs.docker.com/reference/api/engine/version/v1.41/
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from manyfest.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from manyfest.engines.docker import Docker

__all__ = ["KINDS", "create", "holds", "labels_of", "name_of", "remove", "update"]

KINDS = ("networks", "secrets", "configs")
_IDS = {"networks": "Id", "secrets": "ID", "configs": "ID"}


def holds(engine: Docker, kind: str) -> dict[str, dict[str, Any]]:
    """All of a kind, by name. Raises :class:`EngineError` unless this is a manager."""
    found = engine.call("GET", f"/{kind}", f"asking for the swarm's {kind}")
    if not isinstance(found, list):
        raise EngineError(f"{engine}: asking for the swarm's {kind}: expected a list")
    mine = [each for each in found if kind != "networks" or each.get("Scope") == "swarm"]
    return {name_of(each): each for each in mine}


def name_of(found: Mapping[str, Any]) -> str:
    """Of anything that :func:`holds` shows."""
    return str(found.get("Name") or (found.get("Spec") or {}).get("Name") or "")


def labels_of(found: Mapping[str, Any]) -> dict[str, str]:
    """Of anything that :func:`holds` shows."""
    return dict(found.get("Labels") or (found.get("Spec") or {}).get("Labels") or {})


def id_of(found: Mapping[str, Any]) -> str:
    """Networks spell it otherwise."""
    return str(found.get("Id") or found.get("ID") or "")


def create(engine: Docker, kind: str, name: str, spec: Mapping[str, Any]) -> str:
    """Its id. Raises :class:`EngineError`."""
    body = {**spec, "Name": name}
    if kind == "networks":
        body["CheckDuplicate"] = True
    made = engine.call("POST", f"/{kind}/create", f"creating {name} ({kind})", body)
    if not isinstance(made, dict) or not made.get(_IDS[kind]):
        raise EngineError(f"{engine}: creating {name} ({kind}): the answer has no id")
    return str(made[_IDS[kind]])


def update(engine: Docker, kind: str, found: Mapping[str, Any], spec: Mapping[str, Any]) -> None:
    """Other labels; swarms let nothing else of a secret or config change."""
    version = {"version": str(found["Version"]["Index"])}
    doing = f"updating {name_of(found)} ({kind})"
    engine.call("POST", f"/{kind}/{id_of(found)}/update", doing, spec, version)


def remove(engine: Docker, kind: str, id: str) -> None:
    """Raises :class:`NotFound`, and :class:`EngineError` while something uses it."""
    engine.call("DELETE", f"/{kind}/{id}", f"removing {id} ({kind})")
