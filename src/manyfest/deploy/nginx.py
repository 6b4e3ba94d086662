# SPDX-License-Identifier: Apache-2.0
"""An nginx of this machine: a whole configuration around the blocks of a balancer, its test, and the process itself.

A configuration counts once ``nginx -t`` has taken it, here and in :mod:`manyfest.deploy.balancers`: :func:`settle`
is where, for all of them.

https://nginx.org/en/docs/ngx_core_module.html
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from typing import TYPE_CHECKING

from manyfest.deploy.balance import render
from manyfest.errors import DeployError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Self

    from manyfest.deploy.balance import Front, Upstream

__all__ = ["Nginx", "check", "settle", "whole", "write"]

START_S = 30.0
STOP_S = 10.0
"""Seconds that requests under way have when nginx is told to stop."""

CHECK_S = 20.0
RELOAD_S = 60
"""Seconds that requests under way have at a reload. Longer ones are for nodes that may have left."""

CLOSING_S = 1.0
"""Seconds for which connections are closed after each answer before a reload."""

PATIENCE_S = 5
"""Seconds that a client which has just been answered has for its next request when nginx ends, where it knows how."""

_PATIENT = "keepalive_min_timeout"


def whole(blocks: str, folder: str, *, patient: bool = False) -> str:
    """A configuration that stands by itself, with all that nginx writes below ``folder``.

    An nginx that ends closes the connections of clients that wait between two requests, and one that sends at this
    moment loses its request. ``patient`` leaves them time; nginx knows that since 1.27.4.
    """
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    lines = ["access_log off;", "server_tokens off;"]
    lines += [f"{_PATIENT} {PATIENCE_S}s;"] if patient else []
    lines += [f"{kind}_temp_path {folder}/{kind};" for kind in kinds]
    inner = "".join(f"    {line}\n" if line else "\n" for line in (*lines, *blocks.splitlines()))
    return (
        f"daemon off;\npid {folder}/nginx.pid;\nerror_log stderr warn;\nworker_shutdown_timeout {RELOAD_S}s;\n"
        f"events {{}}\nhttp {{\n{inner}}}\n"
    )


def settle(render: Callable[[str], str], folder: str, test: Callable[[str], str]) -> tuple[str, str]:
    """The whole configuration that an nginx takes, and the file that makes it close connections.

    ``render`` is given that file and makes the blocks; ``test`` is ``nginx -t``: empty, or what it says against it.
    Raises :class:`DeployError` with its words.
    """
    # Of a name of its own, so that a configuration never meets the file of one that was the same.
    closing = f"closing-{secrets.token_hex(8)}"
    blocks = render(f"{folder}/{closing}")
    text = whole(blocks, folder, patient=True)
    said = test(text)
    if f'unknown directive "{_PATIENT}"' in said:
        text = whole(blocks, folder)
        said = test(text)
    if said:
        raise DeployError(f"nginx -t: {said[-400:]}", hint="is the port free, and may you use it?")
    return text, closing


def check(blocks: str) -> bool | None:
    """Does ``nginx -t`` take it? ``None`` where nginx is not installed. Raises :class:`DeployError` with its words."""
    program = _nginx()
    if program is None:
        return None
    with tempfile.TemporaryDirectory(prefix="manyfest-balance-") as folder:
        settle(lambda _: blocks, folder, lambda text: _test(program, f"{folder}/nginx.conf", text))
    return True


def write(path: str, text: str) -> None:
    """Replace a file as a whole, so that a reload never reads half of it. Raises :class:`InputError`."""
    folder = os.path.dirname(os.path.abspath(path))
    made = ""
    try:
        with tempfile.NamedTemporaryFile("w", dir=folder, prefix=".balance-", delete=False) as file:
            made = file.name
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(made, 0o644)
        os.replace(made, path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", hint="name a file that can be written") from error
    finally:
        if made:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(made)


class Nginx:
    """A local nginx with a folder of its own: a context manager that starts it and lets requests end."""

    name = ""
    """Processes have none."""

    def __init__(self, front: Front, found: Sequence[Upstream]) -> None:
        """Raises :class:`DeployError` when nginx is not installed."""
        program = _nginx()
        if program is None:
            raise DeployError(
                "there is no nginx on PATH", hint="apt-get install nginx-light, or --run container"
            )
        self._program = program
        self._front, self._first = front, found
        self._closing = ""
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="manyfest-balance-")
        try:
            # The workers are another user, who has to get to the files of big answers.
            os.chmod(self._folder.name, 0o711)  # noqa: S103
            self._configure(self._first)
            _refuse_taken(self._front.listen)
            self._process = subprocess.Popen(
                [self._program, "-p", self._folder.name, "-c", self._path],
                stdin=subprocess.DEVNULL,
                # Ctrl-C is for us: nginx would drop the requests under way.
                start_new_session=True,
            )
            self._until_it_listens(self._process)
        except BaseException:
            if self._process is not None:
                self._process.kill()
                self._process.wait()
            self._folder.cleanup()
            raise
        return self

    def reload(self, found: Sequence[Upstream]) -> None:
        """Other nodes, without dropping a request. Raises :class:`DeployError` if nginx refuses it."""
        assert self._process is not None
        closing = self._closing
        self._configure(found)
        write(closing, "")
        self.wait(CLOSING_S)
        self._process.send_signal(signal.SIGHUP)

    def wait(self, seconds: float) -> None:
        """Raises :class:`DeployError` if nginx ends in that time."""
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(seconds)
            raise DeployError(f"nginx ended with exit code {code}", hint="what it said stands above")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        assert self._folder is not None
        try:
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGQUIT)
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            self._process.wait()
        finally:
            self._folder.cleanup()

    def _until_it_listens(self, process: subprocess.Popen[bytes]) -> None:
        """nginx writes its number to a file once it has its ports; its test leaves that file empty."""
        assert self._folder is not None
        path, until = f"{self._folder.name}/nginx.pid", time.monotonic() + START_S
        while not (os.path.exists(path) and os.path.getsize(path)):
            if process.poll() is not None:
                raise DeployError(
                    f"nginx ended with exit code {process.returncode}", hint="what it said stands above"
                )
            if time.monotonic() > until:
                raise DeployError(f"nginx is not ready after {START_S:g} s")
            time.sleep(0.01)

    @property
    def _path(self) -> str:
        assert self._folder is not None
        return f"{self._folder.name}/nginx.conf"

    def _configure(self, found: Sequence[Upstream]) -> None:
        """Only what passed the test gets the name that nginx reads."""
        assert self._folder is not None
        new, folder = f"{self._path}.new", self._folder.name
        _, closing = settle(
            lambda closing: render(self._front, found, closing),
            folder,
            lambda text: _test(self._program, new, text),
        )
        os.replace(new, self._path)
        self._closing = f"{folder}/{closing}"


def _test(program: str, path: str, text: str) -> str:
    write(path, text)
    try:
        done = subprocess.run(
            [program, "-t", "-q", "-p", os.path.dirname(path), "-c", path],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=CHECK_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeployError(f"nginx -t: {error}") from error
    return done.stderr.strip() or f"exit code {done.returncode}" if done.returncode else ""


def _refuse_taken(listen: str) -> None:
    """nginx tests no port that is taken, and when it starts it tries for seconds before it says so."""
    host, _, port = listen.rpartition(":")
    family = socket.AF_INET6 if "[" in host else socket.AF_INET
    with socket.socket(family) as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind((host.strip("[]"), int(port)))
            door.listen(1)
        except OSError as error:
            raise DeployError(
                f"nginx cannot listen at {listen}: {error.strerror}",
                hint="choose another with --listen [ADDRESS:]PORT; ss -ltnp shows who has it",
            ) from error


def _nginx() -> str | None:
    """Debian keeps it where only root's PATH looks."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
