# SPDX-License-Identifier: Apache-2.0
"""Making, starting, stopping and forgetting machines.

Every call says what it does to ``on_step``, takes the lock of the machine's folder while it changes something there,
and leaves nothing behind when it fails: a machine is there whole or not at all, and runs with an engine or not at all.
"""

from __future__ import annotations

import contextlib
import glob
import http.client
import os
import secrets
import shutil
import socket
import time
from typing import TYPE_CHECKING

from manyfest.emulate.machine import qemu
from manyfest.emulate.machine.image import require_room, with_image
from manyfest.emulate.machine.initramfs import own_part
from manyfest.emulate.machine.keys import CONTROL_NAME, SOCKET_NAME, Connection, make_keys
from manyfest.emulate.machine.kinds import kind_of
from manyfest.emulate.machine.outside import call, need
from manyfest.emulate.machine.record import (
    Record,
    Run,
    check_name,
    directory,
    folder_of,
    read_record,
    read_run,
    write,
)
from manyfest.errors import EmulationError, InputError, Refused
from manyfest.stores._files import locked, translated
from manyfest.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Machine", "all", "connect", "create", "find", "remove", "start", "stop"]

MEMORY = 1024 * 2**20
DISK = 10 * 2**30
LEAST_MEMORY = 512 * 2**20
START_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 60.0

_ROOM = 600_000_000
"""Bytes that a machine's disk takes before anything has been done in it."""

_COPY_TIMEOUT_S = 300.0
_PING_TIMEOUT_S = 5.0
_LAST_LINES = 12
_STEPS = {"system": "the kernel is up", "network": "the network is up", "stopping": "stopping"}


class Machine(Value):
    """A machine as it is now. ``state``: ``"stopped"``, ``"starting"`` (no engine answers) or ``"running"``.

    ``engine``: a URL for ``DOCKER_HOST``; ``port``: of the loopback, leads to its ssh, 0 when stopped.
    """

    __slots__ = ("engine", "folder", "port", "record", "state")
    engine: str
    folder: str
    port: int
    record: Record
    state: str

    def __init__(self, record: Record, folder: str, state: str, port: int) -> None:
        engine = f"unix://{folder}/{SOCKET_NAME}"
        self._set(engine=engine, folder=folder, port=port, record=record, state=state)


def _silent(_: str) -> None:
    return


def create(
    name: str,
    architecture: str = "",
    *,
    memory: int = MEMORY,
    cpus: int = 0,
    disk: int = DISK,
    mirror: str = "",
    fresh: bool = False,
    on_step: Callable[[str], None] = _silent,
) -> Machine:
    """Make a machine of an architecture (by default the one it is named after); it is not started.

    ``memory`` and ``disk`` in bytes; ``cpus``: 0 for two, or one where there is one; ``mirror``: of Debian;
    ``fresh``: with today's packages in place of those in the cache. Raises :class:`InputError` and
    :class:`EmulationError`.
    """
    check_name(name)
    kind = kind_of(architecture or name)
    if memory < LEAST_MEMORY:
        raise InputError(f"{memory} bytes of memory: expected at least {LEAST_MEMORY}, an engine needs that")
    if cpus < 0 or disk < 2 * 2**30:
        raise InputError(f"{cpus} processors and a disk of {disk} bytes: expected at least 1 and {2 * 2**30}")
    for program, package in (("ssh", "openssh-client"), (f"qemu-system-{kind.qemu}", kind.packages)):
        need(program, package)
    record = Record(
        name, kind.platform, memory=memory, cpus=cpus or min(2, os.cpu_count() or 1), disk=disk, created_at=time.time()
    )  # fmt: skip
    with _new_folder(name) as new, with_image(kind, mirror=mirror, fresh=fresh, on_step=on_step) as image:
        require_room(new, _ROOM, "a machine")
        target = os.path.join(new, "disk.img")
        words = [need("cp", "coreutils"), "--reflink=auto", "--sparse=always", image.disk, target]
        call(words, "copying the disk", _COPY_TIMEOUT_S)
        call(
            [need("resize2fs", "e2fsprogs"), target, f"{disk // 1024}K"],
            "giving the disk its size",
            _COPY_TIMEOUT_S,
        )
        shutil.copyfile(image.kernel, os.path.join(new, "kernel"))
        make_keys(new, _alias(name))
        _write_initramfs(image.initramfs, new, record)
        write(os.path.join(new, "machine.json"), record)
        os.close(os.open(os.path.join(new, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    return find(name)


def start(
    name: str, *, port: int = 0, timeout_s: float = START_TIMEOUT_S, on_step: Callable[[str], None] = _silent
) -> Machine:
    """Start a machine, or find it running, and wait until its engine answers.

    ``port``: of the loopback, for ssh; 0 for any. Raises :class:`EmulationError`, with the last lines of its console
    when it does not come up; then it runs no more.
    """
    record, folder = read_record(name), folder_of(name)
    kind = kind_of(str(record.platform))
    deadline = time.monotonic() + timeout_s
    launched = False
    with _locked(folder):
        process = qemu.find(folder)
        run = read_run(folder)
        if process is None or run is None:
            if process is not None:
                process.end()  # killed between its start and our note of its port
                process.close()
            process, run = _launch(record, folder, port)
            launched = True
            emulated = "" if kind.is_native else ", emulated"
            on_step(f"{name}: {record.platform}{emulated}, {record.memory // 2**20} MiB")
    connection = Connection(folder, _alias(name), run.port)
    with process:
        try:
            _wait(connection, process, folder, deadline, timeout_s, on_step)
        except BaseException:
            if launched:
                connection.close()
                process.end()
                _forget_run(folder)
            raise
    return Machine(record, folder, "running", run.port)


def stop(name: str, *, timeout_s: float = STOP_TIMEOUT_S, on_step: Callable[[str], None] = _silent) -> bool:
    """Ask a machine to end, and end it after ``timeout_s``; was it running? Its disk stays."""
    read_record(name)
    folder = folder_of(name)
    with _locked(folder):
        process, run = qemu.find(folder), read_run(folder)
        if process is not None:
            with process:
                _stop(name, folder, process, run, timeout_s, on_step)
        _forget_run(folder)
    return process is not None


def remove(name: str, *, force: bool = False) -> None:
    """Forget a machine and what is on its disk. Raises :class:`Refused` for one that runs, unless ``force``."""
    folder = folder_of(name)
    if not force or not os.path.isdir(folder):
        read_record(name)
    process = qemu.find(folder)
    if process is not None:
        with process:
            if not force:
                raise Refused(
                    f"{name} is running", hint=f"manyfest machine stop {name}, or --force for both at once"
                )
            if (run := read_run(folder)) is not None:
                Connection(folder, _alias(name), run.port).close()
            process.end()
    gone = os.path.join(directory(), f".gone-{secrets.token_hex(8)}")
    with translated(folder, "removing the machine", writing=True):
        os.rename(folder, gone)
        shutil.rmtree(gone)


def all() -> list[Machine]:
    """Every machine, by name."""
    try:
        names = sorted(entry.name for entry in os.scandir(directory()) if not entry.name.startswith("."))
    except FileNotFoundError:
        return []
    return [find(name) for name in names]


def find(name: str) -> Machine:
    """A machine as it is now. Raises :class:`EmulationError` for none of that name."""
    record, folder = read_record(name), folder_of(name)
    process, run = qemu.find(folder), read_run(folder)
    if process is None or run is None:
        return Machine(record, folder, "stopped", 0)
    process.close()
    return Machine(
        record, folder, "running" if _answers(os.path.join(folder, SOCKET_NAME)) else "starting", run.port
    )


def connect(name: str) -> Connection:
    """ssh to a running machine. Raises :class:`EmulationError` for one that is stopped."""
    machine = find(name)
    if machine.state == "stopped":
        raise EmulationError(f"{name} is stopped", hint=f"manyfest machine start {name}")
    return Connection(machine.folder, _alias(name), machine.port)


# --- how ---


@contextlib.contextmanager
def _new_folder(name: str) -> Iterator[str]:
    """A folder that becomes the machine's at the end of the block, or goes. Raises :class:`EmulationError`."""
    root, target = directory(), folder_of(name)
    with translated(root, "making a machine", writing=True):
        os.makedirs(root, mode=0o700, exist_ok=True)
        os.chmod(root, 0o700)
        lock = os.path.join(root, ".lock")
        os.close(os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        # One at a time: so whatever has such a name here was left by a process that was killed.
        with locked(lock):
            for path in glob.glob(os.path.join(glob.escape(root), ".new-*")) + glob.glob(
                os.path.join(glob.escape(root), ".gone-*")
            ):
                shutil.rmtree(path, ignore_errors=True)
            if os.path.lexists(target):
                raise EmulationError(
                    f"there is a machine {name!r} already",
                    hint=f"manyfest machine rm {name}, or another name",
                )
            new = os.path.join(root, f".new-{secrets.token_hex(8)}")
            os.mkdir(new, 0o700)
            try:
                yield new
                os.rename(new, target)
            finally:
                shutil.rmtree(new, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: str) -> Iterator[None]:
    with translated(folder, "taking its lock", writing=True):
        handle = os.path.join(folder, "lock")
        os.close(os.open(handle, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    with locked(handle):
        yield


def _write_initramfs(common: str, folder: str, record: Record) -> None:
    """What the kind has, and behind it this machine's keys and name."""
    own = {"settings": f"name={record.name}\naddress={record.address}\n".encode()}
    for name, source in (("authorized_keys", "id.pub"), ("host_key", "host_key")):
        with open(os.path.join(folder, source), "rb") as file:
            own[name] = file.read()
    path = os.path.join(folder, "initramfs")
    shutil.copyfile(common, path)
    os.chmod(path, 0o600)
    with open(path, "ab") as out:
        out.write(own_part(own))


def _launch(record: Record, folder: str, port: int) -> tuple[qemu.Process, Run]:
    kind = kind_of(str(record.platform))
    _forget_run(folder)
    process = None
    try:
        # Between our look for a free port and QEMU's use of it somebody else may take it.
        for tries in reversed(range(1 if port else 5)):
            chosen = port or _free_port()
            try:
                qemu.launch(qemu.command(kind, record, folder, chosen), folder, chosen)
                break
            except EmulationError as error:
                if not tries or "is in use" not in str(error):
                    raise
        process = _launched(record.name, folder)
        run = Run(process.pid, chosen, time.time())
        write(os.path.join(folder, "run.json"), run)
    except BaseException:
        if (process := process or qemu.find(folder)) is not None:
            with process:
                process.end()
        _forget_run(folder)
        raise
    return process, run


def _launched(name: str, folder: str) -> qemu.Process:
    process = qemu.find(folder)
    if process is None:
        raise EmulationError(f"{name}: QEMU ended at once{_tail(folder)}")
    return process


def _wait(
    connection: Connection,
    process: qemu.Process,
    folder: str,
    deadline: float,
    timeout_s: float,
    on_step: Callable[[str], None],
) -> None:
    """Until the engine answers. Raises :class:`EmulationError` with the last lines of the console."""
    told: set[str] = set()
    is_up = connection.is_up
    refused = ""
    while not (is_up and _answers(connection.socket)):
        said = qemu.console(folder)
        for word, text in _STEPS.items():
            if word not in told and f"machine: {word}\n" in said:
                told.add(word)
                on_step(text)
        if "network" in told and not is_up:
            try:
                connection.open()
                is_up = True
            except EmulationError as error:
                refused = f"; {error}"
        if process.has_ended(0.2):
            raise EmulationError(f"the machine turned itself off{_tail(folder)}")
        if time.monotonic() > deadline:
            raise EmulationError(
                f"no engine answered within {timeout_s:g} s{refused}{_tail(folder)}",
                hint="--timeout SECONDS waits longer; emulation takes what processors are free",
            )
    on_step("the engine answers")


def _stop(
    name: str,
    folder: str,
    process: qemu.Process,
    run: Run | None,
    timeout_s: float,
    on_step: Callable[[str], None],
) -> None:
    asked = False
    if run is not None:
        connection = Connection(folder, _alias(name), run.port)
        on_step(f"{name}: stopping")
        try:
            connection.run("kill", "-TERM", "1", timeout_s=min(timeout_s, 20))
            asked = True
        except EmulationError as error:
            on_step(f"{name}: cannot be asked: {error}")
        if not (asked and process.has_ended(timeout_s)):
            on_step(f"{name}: did not end by itself" if asked else f"{name}: ending it")
            process.end()
        connection.close()
    else:
        process.end()


def _answers(path: str) -> bool:
    """Is there an engine behind a socket? (https://docs.docker.com/reference/api/engine/, ``/_ping``)"""
    connection = http.client.HTTPConnection("localhost", timeout=_PING_TIMEOUT_S)
    door = socket.socket(socket.AF_UNIX)
    try:
        door.settimeout(_PING_TIMEOUT_S)
        door.connect(path)
        connection.sock = door
        connection.request("GET", "/_ping")
        return connection.getresponse().read(16) == b"OK"
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
        door.close()


def _tail(folder: str) -> str:
    lines = [line.rstrip() for line in qemu.console(folder).splitlines() if line.strip()][-_LAST_LINES:]
    return (
        "; its console says last:" + "".join(f"\n    {line}" for line in lines)
        if lines
        else "; its console is empty"
    )


def _forget_run(folder: str) -> None:
    for name in ("run.json", "qemu.pid", "qmp.sock", SOCKET_NAME, CONTROL_NAME):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(folder, name))


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _alias(name: str) -> str:
    """What ssh knows it as, whatever its port is."""
    return f"manyfest-{name}"
