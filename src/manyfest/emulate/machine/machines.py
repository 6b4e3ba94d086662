# SPDX-License-Identifier: Apache-2.0
"""Making, starting, stopping and forgetting machines.

Every call says what it does to ``on_step``, takes the lock of the machine's folder while it changes something there,
and leaves nothing behind when it fails: a machine is there whole or not at all, and runs with an engine or not at all.
"""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING

from manyfest.emulate.machine import qemu
from manyfest.emulate.machine.folders import new_folder, remove_folder, while_locked
from manyfest.emulate.machine.image import require_room, with_image
from manyfest.emulate.machine.initramfs import own_part
from manyfest.emulate.machine.keys import SOCKET_NAME, Connection, make_keys
from manyfest.emulate.machine.kinds import kind_of
from manyfest.emulate.machine.outside import call, need
from manyfest.emulate.machine.record import (
    Record,
    check_name,
    check_network,
    directory,
    folder_of,
    is_name,
    read_record,
    read_run,
    write,
)
from manyfest.emulate.machine.running import (
    KvmHangs,
    alias,
    answers,
    end,
    forget_run,
    forget_state,
    keep_memory,
    launch,
    set_clock,
    state_of,
    wait,
)
from manyfest.errors import EmulationError, InputError, Refused
from manyfest.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Machine", "all", "connect", "create", "find", "names", "remove", "start", "stop"]

MEMORY = 1024 * 2**20
DISK = 10 * 2**30
LEAST_MEMORY = 512 * 2**20
LEAST_DISK = 2 * 2**30
START_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 60.0

_ROOM = 600_000_000
"""Bytes that a machine's disk takes before anything has been done in it."""

_COPY_TIMEOUT_S = 300.0


class Machine(Value):
    """A machine as it is now. ``state``: ``"stopped"``, ``"suspended"``, ``"starting"`` (no engine answers) or
    ``"running"``.

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
    bridge: str = "",
    address: str = "",
    emulated: bool = False,
    mirror: str = "",
    fresh: bool = False,
    on_step: Callable[[str], None] = _silent,
) -> Machine:
    """Make a machine of an architecture (by default the one it is named after); it is not started.

    ``memory`` and ``disk`` in bytes; ``cpus``: 0 for two, or one where there is one; ``mirror``: of Debian;
    ``fresh``: with today's packages in place of those in the cache; ``bridge`` and ``address``: a bridge here to be on
    besides, and the address there, such as ``10.99.0.7/24``; ``emulated``: never by KVM. Raises :class:`InputError` and
    :class:`EmulationError`.
    """
    check_name(name)
    check_network(bridge, address)
    kind = kind_of(architecture or name)
    for what, count, least in (("memory", memory, LEAST_MEMORY), ("disk", disk, LEAST_DISK)):
        if count < least:
            raise InputError(
                f"{count} bytes of {what}: expected at least {least // 2**20}M, which an engine needs",
                hint="M and G are units: 2048M, 2G",
            )
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if memory > there:
        raise InputError(
            f"{memory // 2**20}M of memory: expected less than the {there // 2**20}M of this machine",
            hint=f"--memory {MEMORY // 2**30}G is the usual size",
        )
    if cpus < 0:
        raise InputError(f"{cpus} processors: expected a number from 1, or 0 for the usual two")
    for program, package in (("ssh", "openssh-client"), (f"qemu-system-{kind.qemu}", kind.packages)):
        need(program, package)
    record = Record(
        name,
        kind.platform,
        memory=memory,
        cpus=cpus or min(2, os.cpu_count() or 1),
        disk=disk,
        created_at=time.time(),
        bridge=bridge,
        address=address,
        emulated=emulated,
    )
    with new_folder(name) as new, with_image(kind, mirror=mirror, fresh=fresh, on_step=on_step) as image:
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
        make_keys(new, alias(name))
        _write_initramfs(image.initramfs, new, record)
        write(os.path.join(new, "machine.json"), record)
    return find(name)


def start(
    name: str, *, port: int = 0, timeout_s: float = START_TIMEOUT_S, on_step: Callable[[str], None] = _silent
) -> Machine:
    """Start a machine, or find it running, and wait until its engine answers. One that was suspended goes on.

    ``port``: of the loopback, for ssh; 0 for any. Raises :class:`EmulationError`, with the last lines of its console
    when it does not come up; then it runs no more.
    """
    record, folder = read_record(name), folder_of(name)
    deadline = time.monotonic() + timeout_s
    launched, resumes = False, False
    with while_locked(folder, "lock"):
        process, run = qemu.find(folder), read_run(folder)
        if process is not None and run is None:
            process.end()  # killed between its start and our note of its port
            process.close()
            process = None
        if process is None:
            resumes = os.path.exists(state_of(folder))
            process, run = launch(record, folder, port, on_step, resumes=resumes)
            launched = True
    assert run is not None
    connection = Connection(folder, alias(name), run.port)
    again = False
    with process:
        try:
            by_kvm = launched and qemu.uses_kvm(kind_of(str(record.platform)), record)
            wait(connection, process, folder, deadline, timeout_s, on_step, resumes=resumes, by_kvm=by_kvm)
            if resumes:
                set_clock(connection, on_step)
        except BaseException as error:
            if launched:
                connection.close()
                process.end()
                forget_run(folder)
            again = _can_try_again(record, folder, error, resumes=resumes, on_step=on_step)
            if not again:
                raise
        finally:
            if resumes:
                forget_state(folder)
    if again:
        return start(name, port=port, timeout_s=timeout_s, on_step=on_step)
    return Machine(record, folder, "running", run.port)


def _can_try_again(
    record: Record, folder: str, error: BaseException, *, resumes: bool, on_step: Callable[[str], None]
) -> bool:
    """Is there another way to start a machine that did not come up?"""
    if isinstance(error, KvmHangs):
        on_step(f"{record.name}: {error}; from now on it is emulated")
        write(os.path.join(folder, "machine.json"), record.replace(emulated=True))
        return True
    if resumes and isinstance(error, EmulationError):
        on_step(f"{record.name}: cannot go on where it was ({str(error).splitlines()[0]}); starting it anew")
        return True
    return False


def stop(
    name: str,
    *,
    suspend: bool = False,
    timeout_s: float = STOP_TIMEOUT_S,
    on_step: Callable[[str], None] = _silent,
) -> bool:
    """Ask a machine to end, and end it after ``timeout_s``; was it running? Its disk stays.

    ``suspend``: keep its memory as well, and go on from there at the next start. Raises :class:`EmulationError` if that
    cannot be; then it runs on.
    """
    read_record(name)
    folder = folder_of(name)
    with while_locked(folder, "lock"):
        process, run = qemu.find(folder), read_run(folder)
        if process is not None:
            with process:
                if suspend:
                    keep_memory(name, folder, process, run, on_step)
                else:
                    end(name, folder, process, run, timeout_s, on_step)
        if not suspend:
            forget_state(folder)  # so that the next start is a start
        forget_run(folder)
    return process is not None


def remove(name: str, *, force: bool = False) -> None:
    """Forget a machine and what is on its disk. Raises :class:`Refused` for one that runs, unless ``force``."""
    folder = folder_of(name)
    if not force or not os.path.isdir(folder):
        read_record(name)
    # Not while somebody starts it: QEMU would run on in a folder that is gone.
    with while_locked(folder, "lock"):
        process = qemu.find(folder)
        if process is not None:
            with process:
                if not force:
                    raise Refused(
                        f"{name} is running",
                        hint=f"manyfest machine stop {name}, or --force for both at once",
                    )
                if (run := read_run(folder)) is not None:
                    Connection(folder, alias(name), run.port).close()
                process.end()
        remove_folder(name)


def names() -> list[str]:
    """Of every machine, those that somebody broke included."""
    try:
        return sorted(name for name in os.listdir(directory()) if is_name(name))
    except FileNotFoundError:
        return []


def all() -> list[Machine]:
    """Every machine, by name. Raises :class:`EmulationError` for a file that somebody broke."""
    return [find(name) for name in names()]


def find(name: str) -> Machine:
    """A machine as it is now. Raises :class:`EmulationError` for none of that name."""
    record, folder = read_record(name), folder_of(name)
    process, run = qemu.find(folder), read_run(folder)
    if process is None or run is None:
        return Machine(record, folder, "suspended" if os.path.exists(state_of(folder)) else "stopped", 0)
    process.close()
    return Machine(
        record, folder, "running" if answers(os.path.join(folder, SOCKET_NAME)) else "starting", run.port
    )


def connect(name: str) -> Connection:
    """ssh to a running machine. Raises :class:`EmulationError` for one that is stopped."""
    machine = find(name)
    if not machine.port:
        raise EmulationError(f"{name} is {machine.state}", hint=f"manyfest machine start {name}")
    return Connection(machine.folder, alias(name), machine.port)


# --- how ---


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
