# SPDX-License-Identifier: Apache-2.0
"""Running one command in one container, with Docker or Podman, by their own commands.

Both have the same words for it: create, start, inspect, remove. An image is loaded from an archive of ``docker save``
and named by what the engine says it loaded. A container has no network unless asked for, no terminal and no input; its
output is bounded, its time is bounded, and it is removed whatever happens.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import secrets
import shutil
import subprocess
import threading
import time
from typing import TYPE_CHECKING

from manyfest.engines import docker
from manyfest.engines.nodes import address, advice, check, last_words
from manyfest.errors import EngineError, InvalidPlatform
from manyfest.platforms import Platform, normalise
from manyfest.values import Value

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import IO

__all__ = ["MAX_OUTPUT", "Containers", "Ran", "find", "own_limits"]

MAX_OUTPUT = 256 * 1024
"""Bytes kept of each stream of a container."""

CALL_TIMEOUT_S = 60.0
_TICK_S = 0.25
"""Seconds after which it is seen that a container shall not go on."""

LOAD_TIMEOUT_S = 1800.0
_NAMES = ("docker", "podman")
_LIMITS = (("nofile", resource.RLIMIT_NOFILE, 16384), ("nproc", resource.RLIMIT_NPROC, 4096))
_CONTAINER = re.compile(r"^unable to start container [0-9a-f]{64}: ")
_LOADED = re.compile(r"^Loaded image(?: ID|\(s\))?: (.+)$", re.MULTILINE)


class Ran(Value):
    """How a container ended.

    ``exit_code`` is -1 when it never started or was stopped; ``problem`` is then the engine's reason; ``killed`` says
    that the kernel's out-of-memory killer ended it.
    """

    __slots__ = ("errors", "exit_code", "killed", "output", "problem", "seconds", "timed_out")
    exit_code: int
    output: bytes
    errors: bytes
    problem: str
    seconds: float
    timed_out: bool
    killed: bool

    def __init__(
        self,
        exit_code: int,
        output: bytes = b"",
        errors: bytes = b"",
        problem: str = "",
        seconds: float = 0.0,
        timed_out: bool = False,
        killed: bool = False,
    ) -> None:
        self._set(
            exit_code=exit_code,
            output=output,
            errors=errors,
            problem=problem,
            seconds=seconds,
            timed_out=timed_out,
            killed=killed,
        )


class Containers:
    """One engine: ``name`` is ``docker`` or ``podman``.

    ``where``: an address as in ``DOCKER_HOST``, a Docker context (or a connection of Podman's), or empty.
    """

    def __init__(self, name: str, where: str = "") -> None:
        """Raises :class:`EngineError` for another name, for a node that cannot be, or when the command is not
        installed."""
        if name not in _NAMES:
            raise EngineError(f"no engine {name!r}: expected docker or podman")
        path = shutil.which(name)
        if path is None:
            raise EngineError(
                f"there is no command {name} on PATH", hint=f"apt-get install {_PACKAGES[name]}"
            )
        if where:
            check(where)
        is_context = name == "docker" and bool(where) and "://" not in where
        self.name = name
        self.where = where
        self._url = docker.context(where).url if is_context else where
        self._platform: Platform | None = None
        self._running: set[str] = set()
        self._stopped = False
        self._command = [path, *address(name, where)]

    @property
    def is_remote(self) -> bool:
        """Is it on another machine, with emulators of its own?"""
        where = self._url or (os.environ.get("DOCKER_HOST", "") if self.name == "docker" else "")
        return bool(where) and not where.startswith(("unix://", "fd://"))

    def platform(self) -> Platform:
        """What the engine runs on, asked once. Raises :class:`EngineError` when it does not answer."""
        if self._platform is None:
            self._platform = self._ask_platform()
        return self._platform

    def _ask_platform(self) -> Platform:
        template = "{{.Server.Os}}/{{.Server.Arch}}"
        if self.name == "podman":
            # Without a service there is no server: podman is the engine.
            template = "{{with .Server}}{{.OsArch}}{{else}}{{.Client.OsArch}}{{end}}"
        said = self._call("version", "--format", template).strip()
        try:
            return normalise(Platform.parse(said))
        except InvalidPlatform as error:
            raise EngineError(f"{self}: says it runs on a strange platform: {error}") from error

    def load(self, path: str) -> str:
        """Take the one image of an archive in; the name to run it by."""
        said = self._call("load", "--quiet", "--input", path, timeout_s=LOAD_TIMEOUT_S)
        names = _LOADED.findall(said)
        if not names:
            raise EngineError(f"{self}: loading an image: {said.strip()[:200] or 'it did not say its name'}")
        return str(names[-1]).split(",")[0].strip()

    def forget(self, image: str) -> None:
        """Remove an image's name, and the image unless something else needs it. What fails is no error."""
        with contextlib.suppress(EngineError):
            self._call("image", "rm", "--force", image)

    def run(
        self,
        image: str,
        command: Sequence[str] = (),
        *,
        timeout_s: float,
        platform: str = "",
        network: str = "none",
    ) -> Ran:
        """Run ``command`` (empty: the image's own) in a new container. Failing to start is an answer, no error."""
        name = f"manyfest-{secrets.token_hex(8)}"
        words = ["create", "--name", name, "--network", network, "--log-driver", "none", "--pull=never"]
        words += ["--platform", platform] if platform else []
        words += own_limits() if self.name == "podman" else []
        started = time.monotonic()
        try:
            self._call(*words, image, *command)
        except EngineError as error:
            return Ran(-1, problem=str(error).removeprefix(f"{self}: "), seconds=time.monotonic() - started)
        try:
            return self._start(name, timeout_s)
        finally:
            self._running.discard(name)
            with contextlib.suppress(EngineError):
                self._call("rm", "--force", "--volumes", name)

    def stop(self) -> None:
        """Kill what runs, from another thread, and start nothing any more; :meth:`run` returns and removes it."""
        self._stopped = True
        for name in tuple(self._running):
            with contextlib.suppress(EngineError):
                self._call("kill", name)

    def __str__(self) -> str:
        return f"{self.name} at {self.where}" if self.where else self.name

    def _start(self, name: str, timeout_s: float) -> Ran:
        started = time.monotonic()
        self._running.add(name)
        if self._stopped:
            return Ran(-1, problem="it was not started: stopped before")
        process = self._spawn("start", "--attach", name)
        with process:
            streams = [_Drain(process.stdout), _Drain(process.stderr)]
            try:
                timed_out = not self._wait(process, name, timeout_s)
            except BaseException:
                process.kill()
                for stream in streams:
                    stream.finish()  # before what it reads is closed
                raise
            output, errors = (stream.finish() for stream in streams)
        seconds = time.monotonic() - started
        if timed_out:
            problem = f"it did not end within {timeout_s:g} s"
            return Ran(-1, output, errors, problem, seconds, timed_out=True)
        code, problem, killed = self._ended(name, process.returncode, errors)
        return Ran(code, output, errors, problem, seconds, killed=killed)

    def _wait(self, process: subprocess.Popen[bytes], name: str, timeout_s: float) -> bool:
        """Until the container has ended; ``False`` if it did not by itself in that time, and was killed."""
        until = time.monotonic() + timeout_s
        while True:
            left = until - time.monotonic()
            try:
                process.wait(max(min(left, _TICK_S), 0.0))
            except subprocess.TimeoutExpired:
                if left > _TICK_S and not self._stopped:
                    continue
                # Of one that is only being started the engine says that it does not run: so again, until it has ended.
                with contextlib.suppress(EngineError):
                    self._call("kill", name)
                if left <= _TICK_S:
                    process.kill()
                    return False
            else:
                return True

    def _ended(self, name: str, returned: int, errors: bytes) -> tuple[int, str, bool]:
        """Exit code, why it never started, was it killed: ``start`` mixes its own codes with the program's."""
        try:
            state = json.loads(
                self._call("inspect", "--type", "container", "--format", "{{json .State}}", name)
            )
            code, problem = int(state["ExitCode"]), str(state.get("Error") or "")
            never = str(state.get("StartedAt", "")).startswith("0001") or state.get("Status") == "created"
        except (KeyError, TypeError, ValueError) as error:
            raise EngineError(f"{self}: what it says of a container cannot be read: {error}") from error
        if never and not problem:
            problem = (
                _last_line(errors.decode("utf-8", "replace")) or f"it did not start (exit code {returned})"
            )
        if problem:
            return -1, _brief(problem), False
        return code, "", bool(state.get("OOMKilled"))

    def _spawn(self, *words: str) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                [*self._command, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except OSError as error:
            raise EngineError(f"{self}: {self._command[0]}: {error.strerror}") from error

    def _call(self, *words: str, timeout_s: float = CALL_TIMEOUT_S) -> str:
        """What a command of the engine prints. Raises :class:`EngineError` with its last line."""
        try:
            done = subprocess.run(
                [*self._command, *words],
                check=False,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_s,
            )
        except subprocess.TimeoutExpired as error:
            raise EngineError(f"{self}: {words[0]}: no answer within {timeout_s:g} s") from error
        except OSError as error:
            raise EngineError(f"{self}: {self._command[0]}: {error.strerror}") from error
        if done.returncode:
            said = last_words(done.stderr.splitlines()) or last_words(done.stdout.splitlines())
            hint = advice(self.name, done.stderr, self._url)
            raise EngineError(
                f"{self}: {words[0]}: {_brief(said) or f'exit code {done.returncode}'}", hint=hint
            )
        return done.stdout


_PACKAGES = {"docker": "docker.io", "podman": "podman"}


class _Drain:
    """Reads a stream to its end in a thread, and keeps the beginning."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        assert stream is not None
        self._stream = stream
        self._kept = bytearray()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while piece := os.read(self._stream.fileno(), 65536):
            self._kept += piece[: MAX_OUTPUT - len(self._kept)]

    def finish(self) -> bytes:
        """What was kept, once the writer is gone."""
        self._thread.join()
        return bytes(self._kept)


def find(name: str = "") -> Containers | None:
    """The engine of that name, or whichever of docker and podman answers first; ``None`` if none does."""
    for candidate in (name,) if name else _NAMES:
        try:
            engine = Containers(candidate)
            engine.platform()
        except EngineError:
            if name:
                raise
            continue
        return engine
    return None


def own_limits() -> list[str]:
    """What keeps Podman from raising the limits of open files and processes, which it may not where it is nested."""
    words = []
    for name, which, enough in _LIMITS:
        _, hard = resource.getrlimit(which)
        limit = enough if hard == resource.RLIM_INFINITY else min(hard, enough)
        words += ["--ulimit", f"{name}={limit}:{limit}"]
    return words


def _last_line(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def _brief(text: str) -> str:
    """An engine's message without what its layers put around it."""
    text = text.removeprefix("Error response from daemon: ").removeprefix("Error: ")
    text = _CONTAINER.sub("", text)
    return text if len(text) <= 400 else f"{text[:400]}…"
