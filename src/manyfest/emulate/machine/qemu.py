# SPDX-License-Identifier: Apache-2.0
"""QEMU's process: its command line, whether it is really ours, and how it ends.

It listens on nothing but one port of the loopback, which leads to ssh inside, and a socket in the machine's folder
(QMP, https://www.qemu.org/docs/master/interop/qmp-spec.html).
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
from typing import TYPE_CHECKING

from manyfest.emulate.machine.outside import call, need
from manyfest.errors import EmulationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manyfest.emulate.machine.kinds import Kind
    from manyfest.emulate.machine.record import Record

__all__ = ["Process", "command", "console", "find", "launch"]

START_TIMEOUT_S = 30.0
QMP_TIMEOUT_S = 5.0

_CONSOLE_LIMIT = 256 * 1024
_QMP = "qmp.sock"
_TAKEN = "could not set up host forwarding rule"


class Process:
    """A running QEMU, held by a descriptor: the number of a process that ended may belong to another one later."""

    def __init__(self, folder: str, pid: int, handle: int) -> None:
        self.pid = pid
        self._folder = folder
        self._handle = handle

    def has_ended(self, within_s: float = 0) -> bool:
        """Wait so long at most for its end."""
        poll = select.poll()
        poll.register(self._handle, select.POLLIN)
        return bool(poll.poll(within_s * 1000))

    def end(self) -> None:
        """Now: by QEMU's own command, else by a signal that nothing survives."""
        if not self.has_ended():
            self.tell("quit")
        if not self.has_ended(QMP_TIMEOUT_S):
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)
            self.has_ended(QMP_TIMEOUT_S)

    def tell(self, word: str) -> bool:
        """A command for QEMU itself; does it obey?"""
        try:
            with socket.socket(socket.AF_UNIX) as door:
                door.settimeout(QMP_TIMEOUT_S)
                door.connect(os.path.join(self._folder, _QMP))
                answers = _answers(door)
                next(answers)  # the greeting
                for command in ("qmp_capabilities", word):
                    door.sendall(json.dumps({"execute": command}).encode() + b"\n")
                    if not any("return" in each for each in answers if "event" not in each):
                        return False
        except (OSError, ValueError, StopIteration):
            return False
        return True

    def close(self) -> None:
        """Let go of it; it runs on."""
        os.close(self._handle)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def command(kind: Kind, record: Record, folder: str, port: int) -> list[str]:
    """QEMU's command line."""
    path = {
        name: _escaped(os.path.join(folder, name)) for name in ("disk.img", "console.log", "qemu.pid", _QMP)
    }
    rom = ",romfile=" if kind.bus == "pci" else ""  # else it asks for an EFI ROM, which it never runs
    words = [
        need(f"qemu-system-{kind.qemu}", kind.packages),
        "-name",
        f"manyfest-{record.name}",
        *kind.options,
    ]
    # KVM is tried first where it could be, and QEMU goes on without it.
    words += ["-accel", "kvm"] if kind.is_native else []
    words += ["-accel", "tcg", "-smp", str(record.cpus), "-m", f"{record.memory // 2**20}M"]
    words += ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-daemonize"]
    words += ["-pidfile", os.path.join(folder, "qemu.pid")]
    words += ["-qmp", f"unix:{path[_QMP]},server=on,wait=off"]
    words += ["-chardev", f"file,id=console,path={path['console.log']}", "-serial", "chardev:console"]
    words += ["-kernel", os.path.join(folder, "kernel"), "-initrd", os.path.join(folder, "initramfs")]
    words += ["-append", f"console={kind.console} quiet panic=-1"]
    # What the guest wrote is in this machine's memory at the latest when it is told so: a killed QEMU loses nothing.
    words += ["-drive", f"if=none,id=disk,file={path['disk.img']},format=raw,cache=unsafe,discard=unmap"]
    words += ["-device", f"virtio-blk-{kind.bus},drive=disk"]
    words += ["-netdev", f"user,id=own,ipv6=off,hostfwd=tcp:127.0.0.1:{port}-10.0.2.15:22"]
    words += ["-device", f"virtio-net-{kind.bus},netdev=own{rom}"]
    # Without it a machine waits for chance while it makes keys.
    words += ["-object", "rng-random,id=chance,filename=/dev/urandom"]
    return [*words, "-device", f"virtio-rng-{kind.bus},rng=chance"]


def launch(words: list[str], folder: str, port: int) -> None:
    """Start QEMU; it goes on by itself. Raises :class:`EmulationError`."""
    for name in ("console.log", "qemu.pid", _QMP):
        path = os.path.join(folder, name)
        if os.path.lexists(path):
            os.unlink(path)
    # It makes the console's file itself; what a machine prints is nobody else's business.
    mask = os.umask(0o077)
    try:
        call(words, "starting the machine", START_TIMEOUT_S)
    except EmulationError as error:
        if _TAKEN in str(error).lower():
            raise EmulationError(
                f"port {port} of 127.0.0.1 is in use, and ssh to the machine needs one",
                hint="--port 0 takes any that is free",
            ) from error
        raise
    finally:
        os.umask(mask)


def find(folder: str) -> Process | None:
    """The QEMU of a machine's folder, if it runs; close it after use."""
    try:
        with open(os.path.join(folder, "qemu.pid"), encoding="ascii") as file:
            pid = int(file.read(32))
        handle = os.pidfd_open(pid)
    except (OSError, ValueError):
        return None
    # The number in the file may be another process's by now.
    if _is_ours(pid, folder):
        return Process(folder, pid, handle)
    os.close(handle)
    return None


def console(folder: str) -> str:
    """What the machine printed, the end of it."""
    try:
        with open(os.path.join(folder, "console.log"), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _CONSOLE_LIMIT))
            return file.read(_CONSOLE_LIMIT).decode("utf-8", "replace").replace("\r", "")
    except OSError:
        return ""


def _is_ours(pid: int, folder: str) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().split(b"\0")
    except OSError:
        return False
    pidfile = os.fsencode(os.path.join(folder, "qemu.pid"))
    return os.path.basename(words[0]).startswith(b"qemu-system-") and pidfile in words


def _answers(door: socket.socket) -> Iterator[dict[str, object]]:
    """Objects, one a line."""
    with door.makefile("rb") as lines:
        while line := lines.readline(_CONSOLE_LIMIT):
            fields = json.loads(line)
            if isinstance(fields, dict):
                yield fields


def _escaped(path: str) -> str:
    """QEMU's options end at commas."""
    return path.replace(",", ",,")
