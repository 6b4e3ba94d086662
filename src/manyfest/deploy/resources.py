# SPDX-License-Identifier: Apache-2.0
"""What a task may take of a node, and what is kept for it there: processors and memory.

>>> Resources.of(limit_cpus="0.5", limit_memory="512m").to_swarm()
{'Limits': {'NanoCPUs': 500000000, 'MemoryBytes': 536870912}}
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from manyfest.errors import InputError
from manyfest.values import Value

if TYPE_CHECKING:
    from typing import Any

__all__ = ["Resources", "parse_cpus", "parse_memory"]

_NANO = 1_000_000_000
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b)?", re.IGNORECASE)
_MOST = 2**63 - 1


class Resources(Value):
    """``None`` where nothing is said. Processors in billionths of one, memory in bytes."""

    __slots__ = ("limit_memory", "limit_nano", "reserve_memory", "reserve_nano")
    limit_nano: int | None
    limit_memory: int | None
    reserve_nano: int | None
    reserve_memory: int | None

    def __init__(
        self,
        limit_nano: int | None = None,
        limit_memory: int | None = None,
        reserve_nano: int | None = None,
        reserve_memory: int | None = None,
    ) -> None:
        """Raises :class:`InputError` when more is reserved than allowed."""
        for what, limit, reserved in (
            ("processors", limit_nano, reserve_nano),
            ("memory", limit_memory, reserve_memory),
        ):
            if limit is not None and reserved is not None and reserved > limit:
                raise InputError(f"more {what} reserved than the limit allows: expected at most as much")
        self._set(
            limit_nano=limit_nano,
            limit_memory=limit_memory,
            reserve_nano=reserve_nano,
            reserve_memory=reserve_memory,
        )

    @classmethod
    def of(
        cls,
        *,
        limit_cpus: str | None = None,
        limit_memory: str | None = None,
        reserve_cpus: str | None = None,
        reserve_memory: str | None = None,
    ) -> Resources:
        """From text as people write it. Raises :class:`InputError`."""
        return cls(
            None if limit_cpus is None else parse_cpus(limit_cpus),
            None if limit_memory is None else parse_memory(limit_memory),
            None if reserve_cpus is None else parse_cpus(reserve_cpus),
            None if reserve_memory is None else parse_memory(reserve_memory),
        )

    def to_swarm(self) -> dict[str, Any]:
        """The part of the Engine API's ``Resources`` that is said here."""
        return _grouped(
            self,
            ("Limits", "Reservations"),
            ("NanoCPUs", lambda nano: nano),
            ("MemoryBytes", lambda size: size),
        )

    def to_kubernetes(self) -> dict[str, Any]:
        """A container's ``resources``: thousandths of a processor (rounded up), bytes."""
        return _grouped(
            self,
            ("limits", "requests"),
            ("cpu", lambda nano: f"{-(-nano * 1000 // _NANO)}m"),
            ("memory", str),
        )


def _grouped(resources: Resources, groups: tuple[str, str], cpus: Any, memory: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for group, nano, size in (
        (groups[0], resources.limit_nano, resources.limit_memory),
        (groups[1], resources.reserve_nano, resources.reserve_memory),
    ):
        said = {
            key: write(value) for (key, write), value in ((cpus, nano), (memory, size)) if value is not None
        }
        if said:
            found[group] = said
    return found


def parse_cpus(text: str) -> int:
    """``0.5`` processors in billionths. Raises :class:`InputError`."""
    try:
        nano = Decimal(text.strip()) * _NANO
    except InvalidOperation:
        nano = Decimal(-1)
    if not nano.is_finite() or not 0 < nano <= _MOST or nano != int(nano):
        raise InputError(f"{text!r}: expected processors as a number such as 0.5")
    return int(nano)


def parse_memory(text: str) -> int:
    """``512m``, ``1g`` or ``1.5GiB`` in bytes, in steps of 1024 as Docker counts. Raises :class:`InputError`."""
    found = _MEMORY.fullmatch(text.strip())
    size = -1
    if found is not None:
        size = int(Decimal(found[1]) * 1024 ** (" kmgtp".index(found[2].lower() or " ")))
    if not 0 < size <= _MOST:
        raise InputError(f"{text!r}: expected memory with a unit, such as 512m or 1g")
    return size
