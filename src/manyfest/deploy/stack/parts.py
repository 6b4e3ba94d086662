# SPDX-License-Identifier: Apache-2.0
"""Networks, volumes, secrets and configs of a stack: what each is called on the swarm, and what is to be made.

Names are ``STACK_NAME`` unless the file gives a name or says that somebody else made it (``external``).
"""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING

from manyfest.errors import InvalidSpec
from manyfest.values import Value

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from manyfest.coverage.marked import Marked
    from manyfest.deploy.stack.scalars import Scalars

__all__ = ["NAMESPACE", "Part", "Parts", "files_of", "networks_of", "refuse_unknown", "volumes_of"]

NAMESPACE = "com.docker.stack.namespace"
"""The label by which docker's own commands know what belongs to a stack."""

MAX_DATA = {"secrets": 500 * 1024, "configs": 1000 * 1024}
"""Bytes that a swarm takes."""

_EXTERNAL = ("external", "name")
_NETWORK = ("driver", "driver_opts", "ipam", "internal", "attachable", "labels", *_EXTERNAL)
_VOLUME = ("driver", "driver_opts", "labels", *_EXTERNAL)
_FILE = ("file", "labels", "driver", "driver_opts", "template_driver", *_EXTERNAL)


class Part(Value):
    """``name`` on the swarm; ``spec`` for the Engine API, ``None`` when it has to be there; ``where`` it is written."""

    __slots__ = ("kind", "name", "spec", "where")
    kind: str
    name: str
    spec: dict[str, Any] | None
    where: str

    def __init__(self, kind: str, name: str, spec: dict[str, Any] | None, where: str) -> None:
        self._set(kind=kind, name=name, spec=spec, where=where)

    def __repr__(self) -> str:
        return f"Part({self.kind} {self.name})"  # a secret's data is not for messages


Parts = dict[str, Part]
"""By their key in the file."""


def refuse_unknown(item: Marked, known: Iterable[str], what: str = "") -> None:
    """Raises :class:`InvalidSpec` for a key that docker does not know there; ``x-…`` is for whoever wrote it."""
    from difflib import get_close_matches

    for key, value in item.mapping(what or "a mapping").items():
        if key not in known and not key.startswith("x-"):
            near = get_close_matches(key, list(known), 1)
            hint = f"did you mean {near[0]}?" if near else "docker stack deploy does not take it either"
            raise InvalidSpec(f"{value.where}: {value.path}: unknown key {key!r}", hint=hint)


def _external(item: Marked, scalars: Scalars, key: str) -> tuple[bool, str]:
    """Has somebody else made it, and what is it called?"""
    name = scalars.text(item["name"])
    external = item["external"]
    if isinstance(external.value, dict):
        refuse_unknown(external, ("name",))
        return True, scalars.text(external["name"]) or name or key
    if not scalars.boolean(external):
        return False, name
    return True, name or key


def labelled(stack: str, labels: dict[str, str]) -> dict[str, str]:
    """With the stack's own label."""
    return {**labels, NAMESPACE: stack}


def networks_of(root: Marked, scalars: Scalars, stack: str, used: Iterable[str]) -> Parts:
    """Those that services use; ``default`` is there without being written."""
    found: Parts = {}
    for key, item in root["networks"].mapping("a mapping of networks").items():
        refuse_unknown(item, _NETWORK, "a network")
        is_external, name = _external(item, scalars, key)
        spec = None if is_external else _network(item, scalars, stack)
        found[key] = Part("networks", name or f"{stack}_{key}", spec, item.where)
    if "default" not in found:
        made = {"Labels": labelled(stack, {}), "Driver": "overlay"}
        found["default"] = Part("networks", f"{stack}_default", made, root.where)
    return {key: part for key, part in found.items() if key in used}


def _network(item: Marked, scalars: Scalars, stack: str) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "Labels": labelled(stack, scalars.labels(item["labels"])),
        "Driver": scalars.text(item["driver"]) or "overlay",
    }
    if options := scalars.options(item["driver_opts"]):
        spec["Options"] = options
    for key, word in (("internal", "Internal"), ("attachable", "Attachable")):
        if scalars.boolean(item[key]):
            spec[word] = True
    if item["ipam"].is_there:
        refuse_unknown(item["ipam"], ("driver", "config", "options"))
        subnets = [
            {"Subnet": scalars.text(each["subnet"], "a subnet")}
            for each in item["ipam"]["config"].items("a list of subnets")
        ]
        driver = scalars.text(item["ipam"]["driver"])
        if driver or subnets:
            spec["IPAM"] = {"Driver": driver or "default", "Config": subnets}
    return spec


def volumes_of(root: Marked, scalars: Scalars, stack: str) -> dict[str, dict[str, Any]]:
    """What a mount of each says: engines make volumes on the node where a task comes first."""
    found: dict[str, dict[str, Any]] = {}
    for key, item in root["volumes"].mapping("a mapping of volumes").items():
        refuse_unknown(item, _VOLUME, "a volume")
        is_external, name = _external(item, scalars, key)
        mount: dict[str, Any] = {"Source": name or f"{stack}_{key}", "VolumeOptions": {}}
        if not is_external:
            mount["VolumeOptions"]["Labels"] = labelled(stack, scalars.labels(item["labels"]))
            driver, options = scalars.text(item["driver"]), scalars.options(item["driver_opts"])
            if driver or options:
                mount["VolumeOptions"]["DriverConfig"] = {"Name": driver, "Options": options}
        found[key] = mount
    return found


def files_of(root: Marked, kind: str, scalars: Scalars, stack: str, folder: str) -> Parts:
    """``secrets`` or ``configs``: their files are read now. Raises :class:`InvalidSpec`."""
    found: Parts = {}
    for key, item in root[kind].mapping(f"a mapping of {kind}").items():
        refuse_unknown(item, _FILE, f"one of {kind}")
        is_external, name = _external(item, scalars, key)
        spec: dict[str, Any] | None = None
        if not is_external:
            spec = {
                "Name": name or f"{stack}_{key}",
                "Labels": labelled(stack, scalars.labels(item["labels"])),
            }
            if driver := scalars.text(item["driver"]):
                spec["Driver"] = {"Name": driver, "Options": scalars.options(item["driver_opts"])}
            else:
                data = _data(item, kind, scalars, folder)
                spec["Data"] = base64.b64encode(data).decode()
            if template := scalars.text(item["template_driver"]):
                spec["Templating"] = {"Name": template}
        found[key] = Part(kind, name or f"{stack}_{key}", spec, item.where)
    return found


def _data(item: Marked, kind: str, scalars: Scalars, folder: str) -> bytes:
    text = scalars.text(item["file"], "a file's name")
    if not text:
        raise InvalidSpec(f"{item.where}: {item.path}: neither file nor external")
    path = os.path.join(folder, os.path.expanduser(text))
    most = MAX_DATA[kind]
    try:
        with open(path, "rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise InvalidSpec(f"{item['file'].where}: {item.path}: {path}: {error.strerror}") from error
    if not 0 < len(data) <= most:
        raise InvalidSpec(
            f"{item['file'].where}: {item.path}: {path} has {len(data) or 'no'} bytes, expected 1 to {most}"
        )
    return data
