# SPDX-License-Identifier: Apache-2.0
"""Volumes of a service of a stack: ``data:/data:ro``, ``./here:/there``, and the long form."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from manyfest.errors import InvalidSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from manyfest.coverage.marked import Marked
    from manyfest.deploy.stack.scalars import Scalars

__all__ = ["mounts_of"]

_TYPES = ("volume", "bind", "tmpfs", "npipe")
_KEYS = ("type", "source", "target", "read_only", "consistency", "bind", "volume", "tmpfs")
_PROPAGATION = ("private", "rprivate", "shared", "rshared", "slave", "rslave")


def mounts_of(
    item: Marked, scalars: Scalars, folder: str, volume_of: Callable[[Marked, str], Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """As the Engine API has them. ``volume_of`` says what a named volume is. Raises :class:`InvalidSpec`."""
    found = []
    for each in item.items("a list of volumes"):
        mount = _long(each, scalars) if isinstance(each.value, dict) else _short(each, scalars)
        found.append(_finished(each, scalars, mount, folder, volume_of))
    return found


def _long(item: Marked, scalars: Scalars) -> dict[str, Any]:
    for key, value in item.mapping().items():
        if key not in _KEYS:
            raise InvalidSpec(f"{value.where}: {value.path}: unknown key, expected one of {', '.join(_KEYS)}")
    kind = scalars.text(item["type"])
    if kind not in _TYPES:
        scalars.refuse(item["type"] if item["type"].is_there else item, f"a type: one of {', '.join(_TYPES)}")
    if not item["target"].is_there:
        raise InvalidSpec(f"{item.where}: {item.path}: a volume without target")
    mount: dict[str, Any] = {"Type": kind, "Target": scalars.text(item["target"])}
    if source := scalars.text(item["source"]):
        mount["Source"] = source
    if scalars.boolean(item["read_only"]):
        mount["ReadOnly"] = True
    if consistency := scalars.text(item["consistency"]):
        mount["Consistency"] = consistency
    for options in _TYPES[:3]:
        if item[options].is_there and options != kind:
            raise InvalidSpec(f"{item[options].where}: {options} options do not go with type {kind}")
    if item["bind"].is_there:
        mount["BindOptions"] = {"Propagation": scalars.text(item["bind"]["propagation"])}
    if item["volume"].is_there:
        mount["VolumeOptions"] = {"NoCopy": bool(scalars.boolean(item["volume"]["nocopy"]))}
    if item["tmpfs"].is_there:
        mount["TmpfsOptions"] = {"SizeBytes": scalars.memory(item["tmpfs"]["size"]) or 0}
    return mount


def _short(item: Marked, scalars: Scalars) -> dict[str, Any]:
    text = scalars.text(item, "a volume")
    parts = _pieces(text)
    if not 1 <= len(parts) <= 3 or not all(parts):
        scalars.refuse(item, "a volume such as NAME:/target, ./here:/there:ro or /target")
    if len(parts) == 1:
        if not text.startswith("/"):
            scalars.warn(
                f"{item.where}: {item.path}: {text} is taken for a path of Windows, as docker takes it; "
                "names of volumes need two letters"
            )
        return {"Type": "volume", "Target": parts[0]}
    source, target = parts[:2]
    kind = "bind" if source[0] in "./~\\" or re.match(r"[A-Za-z]:", source) else "volume"
    mount: dict[str, Any] = {"Type": kind, "Source": source, "Target": target}
    for option in parts[2].split(",") if len(parts) == 3 else ():
        if option == "ro":
            mount["ReadOnly"] = True
        elif option in _PROPAGATION and kind == "bind":
            mount["BindOptions"] = {"Propagation": option}
        elif option == "nocopy" and kind == "volume":
            mount["VolumeOptions"] = {"NoCopy": True}
    return mount


def _pieces(text: str) -> list[str]:
    """At the colons, but not after a single letter, which is a drive to docker."""
    found = [""]
    for sign in text:
        if sign == ":" and not (len(found[-1]) == 1 and found[-1].isalpha()):
            found.append("")
        else:
            found[-1] += sign
    return found


def _finished(
    item: Marked,
    scalars: Scalars,
    mount: dict[str, Any],
    folder: str,
    volume_of: Callable[[Marked, str], Mapping[str, Any]],
) -> dict[str, Any]:
    source = mount.get("Source", "")
    if mount["Type"] == "volume":
        if source:
            named = volume_of(item, source)
            mount["Source"] = named["Source"]
            mount["VolumeOptions"] = {**mount.get("VolumeOptions", {}), **named.get("VolumeOptions", {})}
        return mount
    if mount["Type"] == "tmpfs":
        if source:
            raise InvalidSpec(f"{item.where}: {item.path}: a tmpfs has no source")
        return mount
    if not source:
        raise InvalidSpec(f"{item.where}: {item.path}: a {mount['Type']} without source")
    if mount["Type"] == "bind":
        mount["Source"] = _path(source, scalars, folder)
    return mount


def _path(source: str, scalars: Scalars, folder: str) -> str:
    """On the nodes, wherever those are; relative to the file here, as docker does it."""
    if source.startswith("~"):
        source = scalars.variables.get("HOME", "") + source[1:]
    if source.startswith("/") or re.match(r"[A-Za-z]:[\\/]|\\\\", source):
        return source
    return os.path.normpath(os.path.join(folder, source))
