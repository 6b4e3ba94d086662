# SPDX-License-Identifier: Apache-2.0
"""A whole stack file: which services shall run, and what has to be there for them. Nothing is asked of any engine."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from manyfest.coverage.marked import load, read_file
from manyfest.deploy.stack.container import Surroundings
from manyfest.deploy.stack.parts import files_of, networks_of, refuse_unknown, volumes_of
from manyfest.deploy.stack.scalars import Scalars
from manyfest.deploy.stack.service import DROPPED, KEYS, service_spec
from manyfest.errors import InvalidSpec
from manyfest.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from manyfest.coverage.marked import Marked
    from manyfest.deploy.stack.parts import Part

__all__ = ["Service", "Stack", "read"]

_TOP = ("version", "name", "services", "networks", "volumes", "secrets", "configs")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")
_FORBIDDEN = {
    "volume_driver": "volumes:, with a driver",
    "volumes_from": "volumes:",
    **dict.fromkeys(("cpu_quota", "cpu_shares", "cpuset", "mem_limit", "memswap_limit"), "deploy.resources"),
}


class Service(Value):
    """One service: its key in the file, the image as written there and where, and the ServiceSpec."""

    __slots__ = ("image", "key", "spec", "where")
    key: str
    image: str
    where: str
    spec: dict[str, Any]

    def __init__(self, key: str, image: str, where: str, spec: dict[str, Any]) -> None:
        self._set(key=key, image=image, where=where, spec=spec)

    @property
    def name(self) -> str:
        """On the swarm."""
        return str(self.spec["Name"])


class Stack(Value):
    """What a file says. ``parts`` are networks, secrets and configs, in the order in which they have to be made."""

    __slots__ = ("name", "parts", "services")
    name: str
    services: tuple[Service, ...]
    parts: tuple[Part, ...]

    def __init__(self, name: str, services: Sequence[Service], parts: Sequence[Part]) -> None:
        self._set(name=name, services=tuple(services), parts=tuple(parts))


def read(path: str, name: str, variables: Mapping[str, str], on_warning: Callable[[str], None]) -> Stack:
    """A file, ``-`` for standard input; without ``name`` the stack is called what the file says.

    Raises :class:`InvalidSpec` with line and column, :class:`InputError` for a file that cannot be read.
    """
    file = "standard input" if path == "-" else path
    documents = load(read_file(path), file)
    if len(documents) != 1:
        raise InvalidSpec(f"{file}: {len(documents)} documents, expected one stack file")
    root = documents[0]
    root.mapping("a stack file: a mapping with services")
    refuse_unknown(root, _TOP)
    scalars = Scalars(variables, on_warning)
    _check_version(root, scalars)
    stack = _name(root, name, scalars)
    folder = os.path.dirname(os.path.abspath(path)) if path != "-" else os.getcwd()
    listed = root["services"].mapping("a mapping of services")
    if not listed:
        raise InvalidSpec(f"{root.where}: no services in it")
    for key, item in listed.items():
        _check_service(key, item, scalars)
    used = {network for item in listed.values() for network in _networks(item, scalars)}
    networks = networks_of(root, scalars, stack, used)
    secrets = files_of(root, "secrets", scalars, stack, folder)
    configs = files_of(root, "configs", scalars, stack, folder)
    around = Surroundings(stack, folder, networks, volumes_of(root, scalars, stack), secrets, configs)
    services = []
    for key, item in listed.items():
        spec = service_spec(key, item, scalars, around)
        if not _NAME.fullmatch(spec["Name"]):
            raise InvalidSpec(
                f"{item.where}: {spec['Name']!r} is no service name: expected letters, digits, - and _, at most 63"
            )
        services.append(
            Service(key, spec["TaskTemplate"]["ContainerSpec"]["Image"], item["image"].where, spec)
        )
    return Stack(stack, services, [*networks.values(), *secrets.values(), *configs.values()])


def _check_version(root: Marked, scalars: Scalars) -> None:
    version = scalars.text(root["version"], "a version such as '3.8'")
    if version and not re.fullmatch(r"3(\.\d+)?", version):
        raise InvalidSpec(
            f"{root['version'].where}: version {version}, expected 3 or 3.x",
            hint="docker stack deploy reads version 3 only",
        )


def _name(root: Marked, name: str, scalars: Scalars) -> str:
    found = name or scalars.text(root["name"])
    if not found:
        raise InvalidSpec(
            f"{root.file}: what shall the stack be called?", hint=f"manyfest deploy -f {root.file} NAME"
        )
    if not _NAME.fullmatch(found):
        raise InvalidSpec(f"{found!r} is no name for a stack: expected letters, digits, - and _, at most 63")
    return found


def _check_service(key: str, item: Marked, scalars: Scalars) -> None:
    """Keys that nobody knows are refused, those that Swarm has nothing for are told."""
    for field, better in _FORBIDDEN.items():
        if item[field].is_there:
            raise InvalidSpec(
                f"{item[field].where}: {item[field].path} is not of version 3", hint=f"use {better}"
            )
    refuse_unknown(item, (*KEYS, *DROPPED), "a service: a mapping")
    for field, why in DROPPED.items():
        if item[field].is_there:
            scalars.warn(f"{item[field].where}: {field} of service {key} is left out: {why}")


def _networks(item: Marked, scalars: Scalars) -> list[str]:
    networks = item["networks"]
    if isinstance(networks.value, dict):
        return list(networks.value) or ["default"]
    return [scalars.text(each) for each in networks.items("networks: a list or a mapping")] or ["default"]
