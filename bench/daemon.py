# SPDX-License-Identifier: Apache-2.0
"""A Docker Engine of the run, for the jobs that build: docker's command alone builds nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["Daemon"]


class Daemon:
    """``host`` is for ``DOCKER_HOST``; empty where no engine can be started. A context manager."""

    def __init__(self, scratch: Path) -> None:
        self._folder = scratch / "engine"
        self._process: subprocess.Popen[bytes] | None = None
        self.host = ""

    @property
    def cpu_s(self) -> float:
        """Processor seconds that the engine and what it started have used."""
        ticks = sum(_ticks(pid) for pid in self._family())
        return ticks / os.sysconf("SC_CLK_TCK")

    def __enter__(self) -> Self:
        program = shutil.which("dockerd")
        if program is None or os.geteuid() != 0:
            return self
        self._folder.mkdir()
        host = f"unix://{self._folder}/docker.sock"
        command = [program, "--data-root", f"{self._folder}/data", "--exec-root", f"{self._folder}/exec"]
        command += ["--pidfile", f"{self._folder}/pid", "--iptables=false", "--bridge=none", "-H", host]
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self._process.poll() is None:
            asked = subprocess.run(["docker", "-H", host, "version"], capture_output=True, check=False)
            if asked.returncode == 0:
                self.host = host
                return self
            time.sleep(0.1)
        raise SystemExit(f"bench: dockerd does not start; see {self._folder}/log")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def _family(self) -> list[int]:
        """The engine and its descendants."""
        if self._process is None:
            return []
        parents = {int(path.name): _parent(int(path.name)) for path in Path("/proc").glob("[0-9]*")}
        found = [self._process.pid]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found


def _fields(pid: int) -> list[str]:
    """What the kernel says of a process after its name; empty for one that is gone. See proc(5)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _parent(pid: int) -> int:
    fields = _fields(pid)
    return int(fields[1]) if fields else 0


def _ticks(pid: int) -> int:
    fields = _fields(pid)
    # Its own, and those of children that have ended.
    return sum(map(int, fields[11:15]))
