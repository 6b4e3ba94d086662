# SPDX-License-Identifier: Apache-2.0
"""What happens between a machine's start and its stop."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import time
from typing import TYPE_CHECKING

from manyfest.emulate.machine import qemu
from manyfest.emulate.machine.folders import while_locked
from manyfest.emulate.machine.image import require_room
from manyfest.emulate.machine.keys import CONTROL_NAME, SOCKET_NAME, Connection
from manyfest.emulate.machine.kinds import kind_of
from manyfest.emulate.machine.record import Record, Run, read_record, write
from manyfest.errors import EmulationError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "KvmHangs",
    "alias",
    "answers",
    "end",
    "forget_run",
    "forget_state",
    "keep_memory",
    "launch",
    "set_clock",
    "state_of",
    "wait",
]

KVM_PATIENCE_S = 30.0
"""Ten times what a kernel needs there. KVM within a virtual machine may be a thousand times slower, or stand still."""

_PING_TIMEOUT_S = 5.0
_SAVE_TIMEOUT_S = 120.0
_LAST_LINES = 12
_USED = ".used"
_IN_USE = "is in use"
_STEPS = {"system": "the kernel is up", "network": "the network is up", "stopping": "stopping"}


class KvmHangs(EmulationError):
    """QEMU runs by KVM, and the machine's kernel says nothing."""


def launch(
    record: Record, folder: str, port: int, on_step: Callable[[str], None], *, resumes: bool = False
) -> tuple[qemu.Process, Run]:
    """Start QEMU, and note how. Raises :class:`EmulationError`; then nothing runs."""
    kind = kind_of(str(record.platform))
    state = ""
    if resumes:
        # What was saved is used once: going on from it again, over a disk that was written since, would ruin the disk.
        state = state_of(folder) + _USED
        os.replace(state_of(folder), state)
    forget_run(folder)
    process = None
    try:
        by_kvm = qemu.uses_kvm(kind, record)
        on_step(_told(record, by_kvm=by_kvm, resumes=resumes))
        try:
            chosen = _start_qemu(record, folder, port, state)
        except EmulationError as error:
            if not by_kvm or _IN_USE in str(error):
                raise
            on_step(f"KVM does not work here ({str(error).splitlines()[0]}); emulating")
            chosen = _start_qemu(record.replace(emulated=True), folder, port, state)
        process = _launched(record.name, folder)
        run = Run(process.pid, chosen, time.time())
        write(os.path.join(folder, "run.json"), run)
    except BaseException:
        if (process := process or qemu.find(folder)) is not None:
            with process:
                process.end()
        forget_run(folder)
        raise
    return process, run


def _told(record: Record, *, by_kvm: bool, resumes: bool) -> str:
    how = "by KVM" if by_kvm else "emulated"
    return f"{record.name}: {'resuming ' if resumes else ''}{record.platform}, {how}, {record.memory // 2**20} MiB"


def _start_qemu(record: Record, folder: str, port: int, state: str) -> int:
    """The port that leads to its ssh."""
    kind = kind_of(str(record.platform))
    # Between our look for a free port and QEMU's use of it somebody else may take it.
    for tries in reversed(range(1 if port else 5)):
        chosen = port or _free_port()
        try:
            qemu.launch(qemu.command(kind, record, folder, chosen, state=state), folder, chosen)
            break
        except EmulationError as error:
            if not tries or _IN_USE not in str(error):
                raise
    return chosen


def _launched(name: str, folder: str) -> qemu.Process:
    process = qemu.find(folder)
    if process is None:
        raise EmulationError(f"{name}: QEMU ended at once{tail(folder)}")
    return process


def wait(
    connection: Connection,
    process: qemu.Process,
    folder: str,
    deadline: float,
    timeout_s: float,
    on_step: Callable[[str], None],
    *,
    resumes: bool,
    by_kvm: bool,
) -> None:
    """Until the engine answers. Raises :class:`EmulationError` with the last lines of the console.

    Raises :class:`KvmHangs` where that is what KVM does.
    """
    told: set[str] = set(_STEPS) if resumes else set()
    silent_until = time.monotonic() + KVM_PATIENCE_S
    is_up = connection.is_up
    refused = ""
    while not (is_up and answers(connection.socket)):
        said = qemu.console(folder)
        for word, text in _STEPS.items():
            if word not in told and f"machine: {word}\n" in said:
                told.add(word)
                on_step(text)
        if "network" in told and not is_up:
            try:
                # Two that wait for the same machine must not take the sockets from each other.
                with while_locked(folder, "ssh.lock"):
                    if not connection.is_up:
                        connection.open()
                is_up = True
            except EmulationError as error:
                refused = f"; {error}"
        if process.has_ended(0.2):
            raise EmulationError(f"the machine turned itself off{tail(folder)}")
        if by_kvm and not told and time.monotonic() > silent_until:
            raise KvmHangs(f"by KVM the machine's kernel is not up within {KVM_PATIENCE_S:g} s")
        if time.monotonic() > deadline:
            raise EmulationError(
                f"no engine answered within {timeout_s:g} s{refused}{tail(folder)}",
                hint="--timeout SECONDS waits longer; emulation takes what processors are free",
            )
    on_step("the engine answers")


def set_clock(connection: Connection, on_step: Callable[[str], None]) -> None:
    """It stood still meanwhile."""
    try:
        connection.run("date", "-u", "-s", f"@{time.time():.0f}")
    except EmulationError as error:
        on_step(f"its clock is late: {error}")


def keep_memory(
    name: str, folder: str, process: qemu.Process, run: Run | None, on_step: Callable[[str], None]
) -> None:
    record = read_record(name)
    kind = kind_of(str(record.platform))
    if kind.resumes_since > (0, 0) and process.version() < kind.resumes_since:
        since = ".".join(map(str, kind.resumes_since))
        raise EmulationError(
            f"{name}: this QEMU does not save the timers of {record.platform}: resumed, the machine could stand still",
            hint=f"manyfest machine stop {name} keeps its disk; QEMU {since} saves them",
        )
    require_room(folder, record.memory, "a machine's memory")
    on_step(f"{name}: suspending")
    state = state_of(folder)
    try:
        saved = process.save(f"{state}.part", _SAVE_TIMEOUT_S)
        if saved:
            process.end()
            os.replace(f"{state}.part", state)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{state}.part")
    if not saved:
        raise EmulationError(
            f"{name}: QEMU does not write its memory down", hint=f"manyfest machine stop {name} ends it"
        )
    if run is not None:
        Connection(folder, alias(name), run.port).close()


def end(
    name: str,
    folder: str,
    process: qemu.Process,
    run: Run | None,
    timeout_s: float,
    on_step: Callable[[str], None],
) -> None:
    asked = False
    if run is not None:
        connection = Connection(folder, alias(name), run.port)
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


def answers(path: str) -> bool:
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


def tail(folder: str) -> str:
    lines = [line.rstrip() for line in qemu.console(folder).splitlines() if line.strip()][-_LAST_LINES:]
    return (
        "; its console says last:" + "".join(f"\n    {line}" for line in lines)
        if lines
        else "; its console is empty"
    )


def state_of(folder: str) -> str:
    return os.path.join(folder, "memory")


def forget_state(folder: str) -> None:
    """What is in memory of a machine that was suspended, used or not."""
    for path in (state_of(folder), state_of(folder) + _USED):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def forget_run(folder: str) -> None:
    for name in ("run.json", "qemu.pid", "qmp.sock", SOCKET_NAME, CONTROL_NAME):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(folder, name))


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def alias(name: str) -> str:
    """What ssh knows it as, whatever its port is."""
    return f"manyfest-{name}"
