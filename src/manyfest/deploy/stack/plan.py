# SPDX-License-Identifier: Apache-2.0
"""What has to change on a swarm for a stack to be what its file says. Nothing is changed here.

Everything that would be refused is refused here, before the first change: what is external and not there, what
belongs to another stack, contents of configs that a swarm cannot change, ports that others publish.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

from manyfest.deploy.sight import next_generation
from manyfest.deploy.stack.compare import same
from manyfest.deploy.stack.parts import NAMESPACE
from manyfest.deploy.swarm import APART
from manyfest.engines import swarm
from manyfest.errors import InputError, Refused
from manyfest.values import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from manyfest.deploy.place import Placement
    from manyfest.deploy.stack.file import Service, Stack
    from manyfest.deploy.stack.parts import Part
    from manyfest.engines.docker import Docker

__all__ = [
    "PartStep",
    "ServiceStep",
    "Standing",
    "part_steps",
    "refuse_taken_ports",
    "resolved",
    "service_step",
]


class Standing(Value):
    """What a swarm has now: networks, secrets and configs by kind and name, and services by name."""

    __slots__ = ("parts", "services")
    parts: dict[str, dict[str, dict[str, Any]]]
    services: dict[str, dict[str, Any]]

    def __init__(
        self, parts: dict[str, dict[str, dict[str, Any]]], services: dict[str, dict[str, Any]]
    ) -> None:
        self._set(parts=parts, services=services)

    @classmethod
    def of(cls, engine: Docker, kinds: Iterable[str] = swarm.KINDS) -> Standing:
        """Ask a manager."""
        parts = {kind: swarm.holds(engine, kind) for kind in kinds}
        return cls(parts, {swarm.name_of(each): each for each in engine.services()})

    def ids(self) -> dict[str, dict[str, str]]:
        """Of everything by kind and name."""
        return {
            kind: {name: swarm.id_of(found) for name, found in there.items()}
            for kind, there in self.parts.items()
        }

    def of_stack(self, stack: str) -> tuple[list[dict[str, Any]], list[tuple[str, dict[str, Any]]]]:
        """The services, and the other parts with their kind, that carry the stack's label."""
        services = [each for each in self.services.values() if swarm.labels_of(each).get(NAMESPACE) == stack]
        parts = [
            (kind, found)
            for kind, there in self.parts.items()
            for found in there.values()
            if swarm.labels_of(found).get(NAMESPACE) == stack
        ]
        return services, parts


class PartStep(Value):
    """``action`` is ``create``, ``update`` (labels), ``unchanged`` or ``external``; ``note`` says what differs."""

    __slots__ = ("action", "found", "note", "part")
    part: Part
    action: str
    found: Mapping[str, Any] | None
    note: str

    def __init__(
        self, part: Part, action: str, found: Mapping[str, Any] | None = None, note: str = ""
    ) -> None:
        self._set(part=part, action=action, found=found, note=note)


class ServiceStep(Value):
    """``action`` is ``create``, ``update`` or ``unchanged``; ``spec`` what it shall be, ``before`` what is there."""

    __slots__ = ("action", "before", "placement", "service", "spec")
    service: Service
    action: str
    spec: dict[str, Any]
    before: Mapping[str, Any] | None
    placement: Placement

    def __init__(
        self,
        service: Service,
        action: str,
        spec: dict[str, Any],
        before: Mapping[str, Any] | None,
        placement: Placement,
    ) -> None:
        self._set(service=service, action=action, spec=spec, before=before, placement=placement)


def part_steps(stack: Stack, standing: Standing) -> list[PartStep]:
    """One for each network, secret and config. Raises :class:`Refused`."""
    return [_part_step(stack.name, part, standing.parts[part.kind].get(part.name)) for part in stack.parts]


def _part_step(stack: str, part: Part, found: Mapping[str, Any] | None) -> PartStep:
    one = part.kind.removesuffix("s")
    if part.spec is None:
        if found is None and part.name not in ("host", "none", "bridge"):
            create = "--driver overlay " if one == "network" else ""
            hint = f"docker {one} create {create}{part.name}{'' if one == 'network' else ' FILE'}"
            raise Refused(
                f"{part.where}: the {one} {part.name} is external, and not on this swarm", hint=hint
            )
        return PartStep(part, "external", found)
    if found is None:
        return PartStep(part, "create")
    owner = swarm.labels_of(found).get(NAMESPACE)
    if owner != stack:
        whose = f"of the stack {owner}" if owner else "of no stack"
        raise Refused(
            f"{part.where}: the {one} {part.name} is there already, and {whose}",
            hint="say external: true to use it, or give it another name",
        )
    if part.kind == "networks":
        return PartStep(part, "unchanged", found, _network_note(part, found))
    data = (found.get("Spec") or {}).get("Data")  # of a secret nobody is told
    if data and data != part.spec.get("Data"):
        raise Refused(
            f"{part.where}: the config {part.name} has other contents on the swarm, where they cannot be changed",
            hint=f"give it a new name: {part.name}_2, and remove the old one when nothing uses it",
        )
    changed = (found.get("Spec") or {}).get("Labels") != part.spec["Labels"]
    return PartStep(part, "update" if changed else "unchanged", found)


def _network_note(part: Part, found: Mapping[str, Any]) -> str:
    """Networks cannot be changed; docker leaves them without a word."""
    assert part.spec is not None
    differs = [
        word.lower()
        for word, default in (("Driver", "overlay"), ("Internal", False), ("Attachable", False))
        if part.spec.get(word, default) != found.get(word, default)
    ]
    wanted = {each.get("Subnet") for each in (part.spec.get("IPAM") or {}).get("Config") or ()}
    there = {each.get("Subnet") for each in (found.get("IPAM") or {}).get("Config") or ()}
    if wanted - there:
        differs.append("subnet")
    if not differs:
        return ""
    return f"the network {part.name} has another {', '.join(differs)}; networks cannot be changed, so it stays as it is"


def service_step(
    service: Service, image: str, placement: Placement, standing: Standing, stack: str, *, force: bool = False
) -> ServiceStep:
    """``image`` is pinned. Raises :class:`Refused`, and :class:`InputError` for a change of mode."""
    spec = copy.deepcopy(service.spec)
    template = spec["TaskTemplate"]
    template["ContainerSpec"]["Image"] = image
    apart = placement.constraints()
    where = template.setdefault("Placement", {})
    if apart:
        where["Constraints"] = [*where.get("Constraints", ()), *apart]
        spec["Labels"][APART] = " ".join(apart)
    if placement.platforms:
        where["Platforms"] = [{"OS": os, "Architecture": word} for os, word in placement.platforms]
    spec = resolved(spec, standing.ids())
    before = standing.services.get(service.name)
    if before is None:
        return ServiceStep(service, "create", spec, None, placement)
    old = before["Spec"]
    owner = swarm.labels_of(before).get(NAMESPACE)
    if owner != stack:
        whose = f"of the stack {owner}" if owner else "of no stack"
        raise Refused(f"{service.where}: the service {service.name} is there already, and {whose}")
    if old["Mode"].keys() != spec["Mode"].keys():
        kind = "global" if "Global" in old["Mode"] else "replicated"
        raise InputError(
            f"{service.where}: the service {service.name} is {kind}, and Swarm cannot change that",
            hint=f"manyfest deploy --remove {service.name}, then deploy the stack again",
        )
    if same(spec, old) and not force:
        return ServiceStep(service, "unchanged", dict(old), before, placement)
    spec["TaskTemplate"]["ForceUpdate"] = next_generation(before)
    return ServiceStep(service, "update", spec, before, placement)


def resolved(spec: Mapping[str, Any], ids: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Networks, secrets and configs by their ids where they have one by now."""
    made = copy.deepcopy(dict(spec))
    template = made["TaskTemplate"]
    for network in template.get("Networks") or ():
        network["Target"] = ids["networks"].get(network["Target"], network["Target"])
    for kind, word in (("secrets", "Secret"), ("configs", "Config")):
        for each in template["ContainerSpec"].get(f"{word}s") or ():
            if id := ids[kind].get(each[f"{word}Name"]):
                each[f"{word}ID"] = id
    return made


def refuse_taken_ports(stack: Stack, standing: Standing) -> None:
    """Raises :class:`Refused` when two publish one port, unless both do so on their own nodes in this very stack."""
    taken: dict[tuple[int, str], tuple[str, str]] = {}
    mine = {service.name for service in stack.services}
    others = [found["Spec"] for name, found in standing.services.items() if name not in mine]
    for spec in [*others, *(service.spec for service in stack.services)]:
        name = str(spec.get("Name"))
        for port in (spec.get("EndpointSpec") or {}).get("Ports") or ():
            key, mode = (
                (port.get("PublishedPort") or 0, port.get("Protocol", "tcp")),
                port.get("PublishMode", ""),
            )
            there = taken.setdefault(key, (name, mode)) if key[0] else (name, mode)
            if name in mine and there[0] != name and not (there[0] in mine and there[1] == mode == "host"):
                raise Refused(
                    f"port {key[0]}/{key[1]} of {name} is published by the service {there[0]}",
                    hint=_way_to_the_port(stack, standing, there[0]),
                )


def _way_to_the_port(stack: Stack, standing: Standing, owner: str) -> str:
    found = standing.services.get(owner) or {}
    if (
        owner in {service.name for service in stack.services}
        or swarm.labels_of(found).get(NAMESPACE) != stack.name
    ):
        return "publish another one"
    return f"the file does not have {owner} any more: manyfest deploy --remove {owner}"


def prunable(stack: Stack, standing: Standing) -> Sequence[dict[str, Any]]:
    """The services of the stack that its file does not have."""
    mine = {service.name for service in stack.services}
    services, _ = standing.of_stack(stack.name)
    return [each for each in services if swarm.name_of(each) not in mine]
