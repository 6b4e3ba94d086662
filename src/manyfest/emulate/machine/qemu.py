# SPDX-License-Identifier: Apache-2.0
"""QEMU's process: its command line, whether it is really ours, and how it ends.

It listens on nothing but one port of the loopback, which leads to ssh inside, and a socket in the machine's folder
(QMP, https://www.qemu.org/docs/master/interop/qmp-spec.html).
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import shlex
import signal
import socket
import time
from typing import TYPE_CHECKING

from manyfest.emulate.machine.guest import OWN_MAC
from manyfest.emulate.machine.outside import call, need
from manyfest.errors import EmulationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manyfest.emulate.machine.kinds import Kind
    from manyfest.emulate.machine.record import Record

__all__ = ["Process", "command", "console", "find", "launch", "uses_kvm"]

START_TIMEOUT_S = 30.0
QMP_TIMEOUT_S = 5.0

_CONSOLE_LIMIT = 256 * 1024
_QMP = "qmp.sock"
_HELP = (
    (
        "Cannot allocate memory",
        "manyfest machine list shows what runs: stop another, or make one anew with less --memory",
    ),
    ("Invalid SMP CPUs", "make one anew with fewer --cpus"),
)
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
            self.ask("quit")
        if not self.has_ended(QMP_TIMEOUT_S):
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)
            self.has_ended(QMP_TIMEOUT_S)

    def version(self) -> tuple[int, int]:
        """Of the QEMU that runs, which is not always the one that is installed; (0, 0) if it does not say."""
        told = (self.ask("query-version") or {}).get("qemu")
        major, minor = (told.get("major"), told.get("minor")) if isinstance(told, dict) else (None, None)
        return (major, minor) if isinstance(major, int) and isinstance(minor, int) else (0, 0)

    def save(self, path: str, within_s: float) -> bool:
        """Write memory and devices to a file, from which :func:`command` resumes, and stand still. Did it work?"""
        uri = f"exec:exec cat >{shlex.quote(path)}"
        # As fast as the disk takes it, for nobody waits for the machine meanwhile.
        self.ask("migrate-set-parameters", **{"max-bandwidth": 2**40, "downtime-limit": 60_000})
        if self.ask("migrate", uri=uri) is None:
            return False
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline and not self.has_ended(0.1):
            status = (self.ask("query-migrate") or {}).get("status")
            if status in ("completed", "failed", "cancelled", None):
                return status == "completed"
        self.ask("migrate_cancel")
        return False

    def ask(self, word: str, **arguments: object) -> dict[str, object] | None:
        """A command for QEMU itself, and its answer; ``None`` if it does not obey."""
        commands = ({"execute": "qmp_capabilities"}, {"execute": word, "arguments": arguments})
        answer: dict[str, object] = {}
        try:
            with socket.socket(socket.AF_UNIX) as door:
                door.settimeout(QMP_TIMEOUT_S)
                door.connect(os.path.join(self._folder, _QMP))
                answers = _answers(door)
                next(answers)  # the greeting
                for command in commands:
                    door.sendall(json.dumps(command).encode() + b"\n")
                    answer = next(each for each in answers if "event" not in each)
                    if "return" not in answer:
                        return None
        except (OSError, ValueError, StopIteration):
            return None
        found = answer["return"]
        return found if isinstance(found, dict) else {}

    def close(self) -> None:
        """Let go of it; it runs on."""
        os.close(self._handle)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def command(kind: Kind, record: Record, folder: str, port: int, *, state: str = "") -> list[str]:
    """QEMU's command line. ``state``: a file that :meth:`Process.save` wrote, to go on from there."""
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
    words += ["-accel", "kvm"] if uses_kvm(kind, record) else []
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
    words += ["-device", f"virtio-net-{kind.bus},netdev=own,mac={OWN_MAC}{rom}"]
    # Without it a machine waits for chance while it makes keys.
    words += ["-object", "rng-random,id=chance,filename=/dev/urandom"]
    words += ["-device", f"virtio-rng-{kind.bus},rng=chance"]
    words += _bridged(kind, record, folder, rom) if record.bridge else []
    return [*words, "-incoming", f"exec:exec cat {shlex.quote(state)}"] if state else words


def uses_kvm(kind: Kind, record: Record) -> bool:
    """Is KVM to be tried?"""
    return kind.is_native and not record.emulated


def _bridged(kind: Kind, record: Record, folder: str, rom: str) -> list[str]:
    """A second network card, on a bridge of this machine; it goes with QEMU's process."""
    if not os.path.isdir(f"/sys/class/net/{record.bridge}/bridge"):
        raise EmulationError(
            f"no bridge {record.bridge!r} on this machine", hint=f"ip link add {record.bridge} type bridge"
        )
    if os.geteuid() == 0:
        script = os.path.join(folder, "bridge-up")
        with open(script, "w", encoding="utf-8") as file:
            file.write(f'#!/bin/sh\nexec {need("ip", "iproute2")} link set "$1" master {record.bridge} up\n')
        os.chmod(script, 0o700)
        net = f"tap,id=bridged,script={_escaped(script)},downscript=no"
    else:
        # QEMU's helper, which asks /etc/qemu/bridge.conf who may.
        net = f"bridge,id=bridged,br={record.bridge}"
    mark = hashlib.sha256(os.fsencode(folder)).hexdigest()
    address = "52:54:" + ":".join(mark[at : at + 2] for at in range(0, 8, 2))
    return ["-netdev", net, "-device", f"virtio-net-{kind.bus},netdev=bridged,mac={address}{rom}"]


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
        error.hint = error.hint or next((hint for said, hint in _HELP if said in str(error)), "")
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
