# SPDX-License-Identifier: Apache-2.0
"""What is known of a machine: one folder each, below ``$MANYFEST_DATA/machines``.

``machine.json`` says what it is and is written once; ``run.json`` says how it runs, from start to stop. Both are
written whole or not at all.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
from typing import TYPE_CHECKING

from manyfest.emulate.machine.keys import LONGEST
from manyfest.errors import EmulationError, InputError, InvalidPlatform
from manyfest.platforms import Platform
from manyfest.stores._data import data_folder
from manyfest.stores._files import Part, translated
from manyfest.values import Value

if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "Record",
    "Run",
    "check_name",
    "check_network",
    "directory",
    "folder_of",
    "is_name",
    "read_record",
    "read_run",
    "write",
]

FORMAT = 1
MAX_BYTES = 64 * 1024

_SPECIAL = ':"%$'
_LINK = re.compile(r"[A-Za-z0-9_-]{1,15}")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")


class Record(Value):
    """What a machine is. ``memory`` and ``disk`` in bytes; ``created_at`` in seconds since 1970.

    ``bridge`` and ``address``: the bridge here that its second network card is on, and its address there (with the
    length of the prefix); both may be empty. ``emulated``: never by KVM.
    """

    __slots__ = ("address", "bridge", "cpus", "created_at", "disk", "emulated", "memory", "name", "platform")
    address: str
    bridge: str
    cpus: int
    created_at: float
    disk: int
    emulated: bool
    memory: int
    name: str
    platform: Platform

    def __init__(
        self,
        name: str,
        platform: Platform,
        *,
        memory: int,
        cpus: int,
        disk: int,
        created_at: float,
        bridge: str = "",
        address: str = "",
        emulated: bool = False,
    ) -> None:
        self._set(
            name=name,
            platform=platform,
            memory=memory,
            cpus=cpus,
            disk=disk,
            created_at=created_at,
            bridge=bridge,
            address=address,
            emulated=emulated,
        )

    def to_json(self) -> dict[str, Any]:
        """As ``machine.json`` has it."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return {"format": FORMAT, **fields, "platform": str(self.platform)}


class Run(Value):
    """How a machine runs: the process, and the port of the loopback that leads to its ssh."""

    __slots__ = ("pid", "port", "started_at")
    pid: int
    port: int
    started_at: float

    def __init__(self, pid: int, port: int, started_at: float) -> None:
        self._set(pid=pid, port=port, started_at=started_at)

    def to_json(self) -> dict[str, Any]:
        """As ``run.json`` has it."""
        return {name: getattr(self, name) for name in self.__slots__}


def directory() -> str:
    """The folder of all machines; it need not exist."""
    return data_folder("machines")


def folder_of(name: str) -> str:
    """Where a machine of that name is, or would be. Raises :class:`InputError` for what is no name."""
    check_name(name)
    return os.path.join(directory(), name)


def check_name(name: str) -> None:
    """Raises :class:`InputError` unless a machine can be called so, and its sockets' paths are short enough."""
    if not is_name(name):
        raise InputError(f"{name!r}: expected a name of up to 31 small letters, digits and -")
    path = os.path.join(directory(), name)
    if len(os.fsencode(path)) > LONGEST or set(path) & set(_SPECIAL):
        raise InputError(
            f"{path}: no machine can be in there: its sockets' paths end at {LONGEST} bytes, and ssh reads {_SPECIAL}",
            hint="choose another folder with MANYFEST_DATA, or a shorter name",
        )


def is_name(text: str) -> bool:
    """Can a machine be called so?"""
    return _NAME.fullmatch(text) is not None


def read_record(name: str) -> Record:
    """Raises :class:`EmulationError` for no such machine, and for a file that somebody broke."""
    path = os.path.join(folder_of(name), "machine.json")
    fields = _read(path)
    if fields is None:
        raise EmulationError(
            f"no machine {name!r}",
            hint=f"manyfest machine list shows those there are; manyfest machine create {name} --arch ARCH makes one",
        )
    try:
        fields["platform"] = Platform.parse(fields["platform"])
        is_known = fields.pop("format") == FORMAT
        found = Record(**{**fields, "name": name})
    except (KeyError, TypeError, AttributeError, InvalidPlatform) as error:
        raise _broken(path, name, str(error)) from error
    numbers = (found.memory, found.cpus, found.disk, found.created_at)
    texts = (found.bridge, found.address)
    is_known = (
        is_known
        and isinstance(found.emulated, bool)
        and all(isinstance(number, (int, float)) for number in numbers)
    )
    if not (is_known and all(isinstance(text, str) for text in texts)):
        raise _broken(path, name, "not what manyfest writes there")
    return found


def read_run(folder: str) -> Run | None:
    """How it runs, or ran until its process ended without our doing; ``None`` if it was stopped."""
    fields = _read(os.path.join(folder, "run.json"))
    try:
        return (
            None
            if fields is None
            else Run(int(fields["pid"]), int(fields["port"]), float(fields["started_at"]))
        )
    except (KeyError, TypeError, ValueError):
        return None  # what cannot be read cannot be running: the pid file of QEMU is asked besides


def check_network(bridge: str, address: str) -> None:
    """Raises :class:`InputError` unless both are empty, or a bridge's name and an address with its prefix."""
    if not bridge and not address:
        return
    if not bridge or not address:
        raise InputError(
            f"{'an address' if address else 'a bridge'} alone: expected a bridge, and the machine's address there",
            hint="--bridge br-swarm --address 10.99.0.7/24",
        )
    if not _LINK.fullmatch(bridge):
        raise InputError(f"{bridge!r}: expected the name of a bridge, up to 15 letters, digits, - and _")
    try:
        is_whole = "/" in address and ipaddress.IPv4Interface(address).network.prefixlen < 32
    except ValueError:
        is_whole = False
    if not is_whole:
        raise InputError(f"{address!r}: expected an address on that bridge, such as 10.99.0.7/24")


def write(path: str, value: Record | Run) -> None:
    """Whole or not at all. Raises :class:`StoreError`."""
    with translated(path, "writing", writing=True), Part(os.path.dirname(path)) as part:
        os.fchmod(part.fd, 0o600)
        part.write(json.dumps(value.to_json(), indent=2).encode())
        part.commit(path)


def _broken(path: str, name: str, why: str) -> EmulationError:
    return EmulationError(f"{path}: {why}", hint=f"manyfest machine rm --force {name}")


def _read(path: str) -> dict[str, Any] | None:
    try:
        with open(path, encoding="utf-8") as file:
            fields = json.loads(file.read(MAX_BYTES))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise EmulationError(
            f"{path}: {error}", hint="manyfest machine rm --force removes a broken one"
        ) from error
    return fields if isinstance(fields, dict) else {}
