# SPDX-License-Identifier: Apache-2.0
"""Is a service what it shall be? Engines fill in what was not said, so only what differs in meaning counts.

>>> same({"EndpointSpec": {"Mode": "vip"}}, {"TaskTemplate": {"ContainerSpec": {"Isolation": "default"}}})
True
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from manyfest.deploy.renewal import RENEWED

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["cleaned", "same"]

_DEFAULTS: tuple[tuple[tuple[str, ...], Any], ...] = (
    (("EndpointSpec", "Mode"), "vip"),
    (("TaskTemplate", "ContainerSpec", "Isolation"), "default"),
    (("TaskTemplate", "ContainerSpec", "StopGracePeriod"), 10_000_000_000),
    (("TaskTemplate", "RestartPolicy", "Condition"), "any"),
    (("TaskTemplate", "RestartPolicy", "Delay"), 5_000_000_000),
    (("TaskTemplate", "Runtime"), "container"),
    (("UpdateConfig", "FailureAction"), "pause"),
    (("UpdateConfig", "Order"), "stop-first"),
    (("UpdateConfig", "Monitor"), 5_000_000_000),
    (("RollbackConfig", "FailureAction"), "pause"),
    (("RollbackConfig", "Order"), "stop-first"),
    (("RollbackConfig", "Monitor"), 5_000_000_000),
)
"""What engines write where nothing was said."""

_ZERO_IS_SOMETHING = (
    ("UpdateConfig", "Parallelism"),
    ("RollbackConfig", "Parallelism"),
    ("Replicated", "Replicas"),
    ("ContainerSpec", "Init"),
    ("ContainerSpec", "StopGracePeriod"),
    ("RestartPolicy", "Delay"),
    ("Mode", "Global"),
)
"""Where nothing said is not zero, or not empty."""

_OURS = ("Labels", "Options", "Sysctls")
"""What people write, where empty text is something."""

_WRITTEN_BY_ENGINES = ("ForceUpdate",)


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Do two ServiceSpecs mean the same? How often either was forced or renewed does not matter."""
    return cleaned(one) == cleaned(other)


def cleaned(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is empty, what is the same as nothing, and the mark of a renewal."""
    found: dict[str, Any] = _without_empty(spec, "")
    if labels := found.get("Labels"):
        found["Labels"] = {key: text for key, text in labels.items() if key != RENEWED}
    for path, default in _DEFAULTS:
        _forget(found, path, default)
    again: dict[str, Any] = _without_empty(found, "")
    return again


def _without_empty(value: Any, key: str) -> Any:
    if isinstance(value, list):
        items = [_without_empty(each, "") for each in value]
        # Docker's client writes two mentions of one secret now this way round and now that.
        return sorted(items, key=_name) if key in ("Secrets", "Configs") else items
    if not isinstance(value, dict) or key in _OURS:
        return value
    kept = {
        name: _without_empty(each, name) for name, each in value.items() if name not in _WRITTEN_BY_ENGINES
    }
    # One at a time is what engines do without an UpdateConfig.
    if key in ("UpdateConfig", "RollbackConfig") and kept == {"Parallelism": 1}:
        return {}
    return {
        name: each
        for name, each in kept.items()
        if each not in (None, "", [], {}, 0, False)
        or (each is not None and (key, name) in _ZERO_IS_SOMETHING)
    }


def _name(reference: Mapping[str, Any]) -> str:
    """Of a secret's or config's file in the container, where no two are the same."""
    return str((reference.get("File") or {}).get("Name"))


def _forget(spec: dict[str, Any], path: tuple[str, ...], default: Any) -> None:
    at: Any = spec
    for key in path[:-1]:
        at = at.get(key)
        if not isinstance(at, dict):
            return
    if at.get(path[-1]) == default:
        del at[path[-1]]
