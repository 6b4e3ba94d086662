# SPDX-License-Identifier: Apache-2.0
"""Ending commands that we started, each in a session of its own, with all that they started.

Podman and Buildah leave a build's containers and the images between its stages when they are told to end; nothing tells
these from a user's own afterwards. When only what RUN started is ended, a step has failed, and they clean up by
themselves.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["GRACE_S", "end", "kill_late", "tell", "wind_down"]

GRACE_S = 15.0
"""Seconds that an engine's command gets to end by itself once it was told to."""

WIND_DOWN_S = 10.0
"""Seconds that it gets before, to clean up after the end of what RUN started."""

IDLE_S = 2.0
"""Seconds in which something has to run that can be ended."""

_TICK_S = 0.2


def tell(process: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to a command and what it started; those that are gone do not mind."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def kill_late(process: subprocess.Popen[bytes], late: threading.Event) -> None:
    """For a timer: note that the time is over, and end the command."""
    late.set()
    tell(process, signal.SIGKILL)


def end(process: subprocess.Popen[bytes], grace_s: float = GRACE_S) -> None:
    """End a command and what it started, which is a session of its own: asked first, killed after ``grace_s``."""
    if process.poll() is not None:
        return
    tell(process, signal.SIGTERM)
    try:
        process.wait(grace_s)
    except subprocess.TimeoutExpired:
        tell(process, signal.SIGKILL)
        process.wait()


def wind_down(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """Kill what commands started, the last first, until they give up by themselves; or until the time is over."""
    running = [process for process in processes if process.poll() is None]
    begun = time.monotonic()
    deadline = begun + IDLE_S
    while running and time.monotonic() < deadline:
        children = _children()
        for pid in [pid for process in running for pid in _last_of(process.pid, children)]:
            deadline = begun + WIND_DOWN_S
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_TICK_S)
        running = [process for process in running if process.poll() is None]


def _last_of(root: int, children: dict[int, list[int]]) -> list[int]:
    """The descendants that have no children, without ``root`` itself."""
    found, todo = [], list(children.get(root, ()))
    while todo:
        pid = todo.pop()
        below = children.get(pid, ())
        todo += below
        if not below:
            found.append(pid)
    return found


def _children() -> dict[int, list[int]]:
    """Process -> those it started that live; empty where there is no ``/proc``. See proc(5)."""
    found: dict[int, list[int]] = {}
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir("/proc"):
            if name.isdecimal():
                # One that ends at this moment has no file any more, or ends while it is read.
                with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                    state, parent = file.read().rpartition(b")")[2].split()[:2]
                    if state != b"Z":
                        found.setdefault(int(parent), []).append(int(name))
    return found
