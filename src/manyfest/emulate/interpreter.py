# SPDX-License-Identifier: Apache-2.0
"""The program behind a handler: is it there, is it static, whose is it, and which version.

Reads no more of an ELF file than its header and program headers: whether there is a loader to ask for
(``PT_INTERP``) is what decides whether an emulator works inside a container.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import subprocess
from typing import TYPE_CHECKING

from manyfest.values import Value

if TYPE_CHECKING:
    from typing import IO

__all__ = ["Interpreter", "kind_of", "read_interpreter"]

VERSION_TIMEOUT_S = 20.0
_MAX_BANNER = 4096
_MAX_SEGMENTS = 256
_PT_INTERP = 3
_TRUSTED_OWNERS = (0,)

_KINDS = (
    ("qemu", re.compile(r"^qemu-|-binfmt-P$")),
    ("rosetta", re.compile(r"^rosetta")),
    ("wsl", re.compile(r"^init$")),
    ("fex", re.compile(r"^FEX", re.IGNORECASE)),
    ("box64", re.compile(r"^box(64|86)")),
)
_BANNER = re.compile(r"qemu-\S+ version (\d+(?:\.\d+)+)([^\n]*)")


class Interpreter(Value):
    """What is at an interpreter's path.

    ``linking``: ``"static"``, ``"dynamic"``, ``"script"``, ``"missing"``, ``"unreadable"`` or ``"unknown"``;
    ``kind``: ``"qemu"``, ``"rosetta"``, ``"wsl"``, ``"fex"``, ``"box64"`` or ``"other"``; ``machine``: ``e_machine``,
    0 when it is no ELF file; ``version``: QEMU's, empty when it was not asked or did not say.
    """

    __slots__ = ("build", "changed_ns", "kind", "linking", "machine", "path", "real", "version")
    path: str
    real: str
    kind: str
    linking: str
    machine: int
    version: str
    build: str
    changed_ns: int

    def __init__(
        self,
        path: str,
        real: str,
        kind: str,
        linking: str,
        machine: int = 0,
        version: str = "",
        build: str = "",
        changed_ns: int = 0,
    ) -> None:
        self._set(
            path=path,
            real=real,
            kind=kind,
            linking=linking,
            machine=machine,
            version=version,
            build=build,
            changed_ns=changed_ns,
        )


def kind_of(path: str, name: str = "") -> str:
    """Whose emulator it is, by its file's name or that of its handler (``WSLInterop``, ``rosetta``)."""
    if name.startswith("WSLInterop"):
        return "wsl"
    for word in (os.path.basename(path), name):
        for kind, pattern in _KINDS:
            if pattern.search(word) and not (kind == "wsl" and word == name):
                return kind
    return "other"


def read_interpreter(path: str, name: str = "", *, ask: bool = True) -> Interpreter:
    """Look at ``path``, the interpreter of the handler ``name``; never raises for what is found there.

    With ``ask`` a QEMU is run once for its version, if nobody but root and this user can have put it there.
    """
    real = os.path.realpath(path)
    kind = kind_of(path, name)
    try:
        with open(real, "rb") as file:
            status = os.fstat(file.fileno())
            linking, machine = _look(file)
    except FileNotFoundError:
        return Interpreter(path, real, kind, "missing")
    except OSError:
        return Interpreter(path, real, kind, "unreadable")
    version = build = ""
    if ask and kind == "qemu" and linking in ("static", "dynamic") and _is_trusted(status):
        version, build = _version(real)
    # A package unpacks files with the times they were built at; only the change of the inode tells when.
    return Interpreter(path, real, kind, linking, machine, version, build, status.st_ctime_ns)


def _look(file: IO[bytes]) -> tuple[str, int]:
    head = file.read(64)
    if head.startswith(b"#!"):
        return "script", 0
    if len(head) < 52 or not head.startswith(b"\x7fELF") or head[4] not in (1, 2) or head[5] not in (1, 2):
        return "unknown", 0
    order = "<" if head[5] == 1 else ">"
    if head[4] == 2 and len(head) < 64:
        return "unknown", 0
    machine = struct.unpack_from(f"{order}H", head, 18)[0]
    if head[4] == 2:
        (table,), (size, count) = (
            struct.unpack_from(f"{order}Q", head, 32),
            struct.unpack_from(f"{order}HH", head, 54),
        )
    else:
        (table,), (size, count) = (
            struct.unpack_from(f"{order}I", head, 28),
            struct.unpack_from(f"{order}HH", head, 42),
        )
    if size < 4 or size > 256 or count > _MAX_SEGMENTS or table > 1 << 40:
        return "unknown", machine
    file.seek(table)
    segments = file.read(size * count)
    kinds = [struct.unpack_from(f"{order}I", segments, at)[0] for at in range(0, len(segments) - 3, size)]
    return ("dynamic" if _PT_INTERP in kinds else "static"), machine


def _is_trusted(status: os.stat_result) -> bool:
    owners = (*_TRUSTED_OWNERS, os.geteuid())
    return status.st_uid in owners and not status.st_mode & stat.S_IWOTH


def _version(path: str) -> tuple[str, str]:
    """Version and what stands in parentheses after it; empty if it does not say within a few seconds."""
    try:
        done = subprocess.run(
            [path, "--version"],
            check=False,
            env={},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=VERSION_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "", ""
    found = _BANNER.search(done.stdout[:_MAX_BANNER].decode("utf-8", "replace"))
    return (found[1], found[2].strip(" ()")) if found else ("", "")
