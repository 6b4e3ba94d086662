# SPDX-License-Identifier: Apache-2.0
"""Ports of a service of a stack: ``8080:80``, ranges, protocols, and the long form.

https://docs.docker.com/reference/compose-file/legacy-versions/: ``ports`` of version 3.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from manyfest.errors import InvalidSpec

if TYPE_CHECKING:
    from typing import Any

    from manyfest.coverage.marked import Marked
    from manyfest.deploy.stack.scalars import Scalars

__all__ = ["ports_of"]

_RANGE = r"(\d{1,5})(?:-(\d{1,5}))?"
_SHORT = re.compile(rf"(?:(.*):)?(?:{_RANGE})?:{_RANGE}(?:/(\w+))?|{_RANGE}(?:/(\w+))?")
_PROTOCOLS = ("tcp", "udp", "sctp")
_MODES = ("ingress", "host")
_KEYS = ("target", "published", "protocol", "mode")
_MOST = 1000


def ports_of(item: Marked, scalars: Scalars) -> list[dict[str, Any]]:
    """As the Engine API has them, by published port. Raises :class:`InvalidSpec`."""
    found: list[dict[str, Any]] = []
    for each in item.items("a list of ports"):
        found += [_long(each, scalars)] if isinstance(each.value, dict) else _short(each, scalars)
    seen: dict[tuple[int, str], None] = {}
    for port in found:
        key = (port.get("PublishedPort", 0), port["Protocol"])
        if key[0] and key in seen:
            raise InvalidSpec(f"{item.where}: {item.path}: port {key[0]}/{key[1]} is published twice")
        seen[key] = None
    return sorted(found, key=lambda port: int(port.get("PublishedPort", 0)))


def _long(item: Marked, scalars: Scalars) -> dict[str, Any]:
    for key, value in item.mapping().items():
        if key not in _KEYS:
            raise InvalidSpec(f"{value.where}: {value.path}: unknown key, expected one of {', '.join(_KEYS)}")
    target = scalars.number(item["target"], "a port")
    published = scalars.number(item["published"], "a port") or 0
    protocol = scalars.text(item["protocol"]) or "tcp"
    mode = scalars.text(item["mode"]) or "ingress"
    if target is None or not 1 <= target <= 65535 or published > 65535:
        raise InvalidSpec(f"{item.where}: {item.path}: expected a target from 1 to 65535")
    if protocol not in _PROTOCOLS:
        scalars.refuse(item["protocol"], f"one of {', '.join(_PROTOCOLS)}")
    if mode not in _MODES:
        scalars.refuse(item["mode"], f"one of {', '.join(_MODES)}")
    return _port(target, published, protocol, mode)


def _short(item: Marked, scalars: Scalars) -> list[dict[str, Any]]:
    text = scalars.text(item, "a port")
    found = _SHORT.fullmatch(text)
    if found is None:
        scalars.refuse(item, "a port such as 8080:80, 8080:80/udp or 5000-5002:6000-6002")
    address, first, last, inner_first, inner_last, protocol, alone, alone_last, alone_protocol = (
        found.groups()
    )
    if address and address not in ("0.0.0.0", "[::]"):  # noqa: S104 - what people write
        scalars.warn(f"{item.where}: {item.path}: Swarm publishes on every address, {address} is ignored")
    protocol = (protocol or alone_protocol or "tcp").lower()
    inner = _numbers(item, scalars, inner_first or alone, inner_last or alone_last)
    outer = _numbers(item, scalars, first, last) if first else [0] * len(inner)
    # Docker lets one port inside stand behind the first free one of several: Swarm publishes all of them.
    if len(inner) == 1 and len(outer) > 1:
        inner = inner * len(outer)
    if len(inner) != len(outer) or protocol not in _PROTOCOLS:
        scalars.refuse(item, f"as many ports outside as inside, and one of {', '.join(_PROTOCOLS)}")
    return [
        _port(target, published, protocol, "ingress") for published, target in zip(outer, inner, strict=True)
    ]


def _numbers(item: Marked, scalars: Scalars, first: str, last: str | None) -> list[int]:
    found = range(int(first), int(last or first) + 1)
    if not found or not 1 <= found[0] <= found[-1] <= 65535 or len(found) > _MOST:
        scalars.refuse(item, "ports from 1 to 65535, the lower one first")
    return list(found)


def _port(target: int, published: int, protocol: str, mode: str) -> dict[str, Any]:
    made: dict[str, Any] = {"Protocol": protocol, "TargetPort": target, "PublishMode": mode}
    return made | ({"PublishedPort": published} if published else {})
