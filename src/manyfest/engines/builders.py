# SPDX-License-Identifier: Apache-2.0
"""Building one image for one platform with Docker, Podman or Buildah, by their own commands.

The image comes back as an archive of ``docker save``, without a registry. Everything an engine is told to keep for the
time of a build carries a name that starts with ``manyfest-build-``, and is removed whatever happens.

* Docker builds with BuildKit where its command can: up to version 22 with ``DOCKER_BUILDKIT=1``, from 23 on with the
  plugin buildx; else with its classic builder, or if ``DOCKER_BUILDKIT=0`` says so.
* Podman and Buildah write Docker's format, which keeps ``SHELL`` and ``HEALTHCHECK``. How containers are kept apart is
  theirs to choose; ``BUILDAH_ISOLATION=chroot`` helps where no runtime can start.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import tarfile
import threading
from collections import deque
from typing import TYPE_CHECKING

from manyfest.engines import docker
from manyfest.engines.host import host
from manyfest.engines.nodes import PULSES, Pulse, address, advice, check, last_words
from manyfest.engines.processes import end, kill_late, tell, wind_down
from manyfest.errors import EngineError, InvalidPlatform
from manyfest.platforms import Platform, normalise
from manyfest.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import IO

__all__ = ["NAMES", "Builder", "Order", "find", "near", "on_node"]

NAMES = ("docker", "podman", "buildah")

CALL_TIMEOUT_S = 60.0
KEPT_LINES = 400
SHOWN_LINES = 12
_MAX_LINE = 2000
_BUILDKIT_STEP = re.compile(r"^#(\d+) (\[.*)$")
_BUILDKIT_ERROR = re.compile(r"^#(\d+) ERROR")
_PLAIN_STEP = re.compile(r"^(?:\[[^\]]+\] )?(?:Step|STEP) \d+/\d+ ?: (.+)$")
_COUNT = re.compile(r"^\[[^\]]*\] ")


class Order(Value):
    """What to build. ``bases``: words in the Dockerfile's text that stand for images, and which those are, pinned.

    ``text``: the Dockerfile; ``context``: a folder; ``args``: names and values; ``network``: RUN's, empty
    for the engine's usual one; ``target``: a stage, or empty.
    """

    __slots__ = ("args", "bases", "context", "network", "platform", "target", "text")
    args: tuple[tuple[str, str], ...]
    bases: tuple[tuple[str, str, Platform], ...]
    context: str
    network: str
    platform: Platform
    target: str
    text: str

    def __init__(
        self,
        platform: Platform,
        text: str,
        context: str,
        *,
        args: tuple[tuple[str, str], ...] = (),
        bases: tuple[tuple[str, str, Platform], ...] = (),
        network: str = "",
        target: str = "",
    ) -> None:
        self._set(
            platform=platform,
            text=text,
            context=context,
            args=args,
            bases=bases,
            network=network,
            target=target,
        )


class Builder:
    """One engine. ``mode``: ``BuildKit``, ``buildx`` or ``classic`` for Docker, else empty. Safe for threads."""

    def __init__(
        self,
        name: str,
        path: str,
        *,
        mode: str = "",
        where: str = "",
        url: str = "",
        platform: Platform | None = None,
    ) -> None:
        """``where``: a URL as in ``DOCKER_HOST``, the name of a Docker context, or empty for the usual engine.

        ``url``: where a context leads; ``platform``: what it runs on, if that is known without asking.
        """
        self.name = name
        self.mode = mode
        self.where = where
        self._url = url or where
        self._command = [path, *address(name, where)]
        self.label = where
        """What people call the place."""
        self.prepare: Callable[[Order], None] | None = None
        """Called before each build; may raise :class:`EngineError`."""
        self._platform = platform
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False
        self._silent = False

    @property
    def is_remote(self) -> bool:
        """Is it on another machine, whose emulators cannot be seen from here?"""
        where = self.where or (os.environ.get("DOCKER_HOST", "") if self.name == "docker" else "")
        return bool(where) and not where.startswith(("unix://", "fd://"))

    def platform(self) -> Platform:
        """What the engine runs on, asked once. Raises :class:`EngineError` when it does not answer."""
        with self._asking:
            if self._platform is None:
                self._platform = self._ask()
            return self._platform

    def build(self, order: Order, archive: str, *, no_cache: bool = False) -> None:
        """Build, and write the image to the file ``archive``. The Dockerfile is written beside it for that time.

        Raises :class:`EngineError` with the step and the last lines of what the engine said.
        """
        with self._image(order, f"{archive}.Dockerfile", no_cache=no_cache) as (_, image):
            self._call(self._save_words(image, archive))

    @property
    def has_containers(self) -> bool:
        """Can it make a container that is not started, to copy files out of it? Buildah's are of another kind."""
        return self.name != "buildah"

    def copy_out(
        self, order: Order, paths: Sequence[str], folder: str, *, no_cache: bool = False
    ) -> list[str]:
        """Build, and write what is at each path of the image to a tar archive in ``folder``; links are followed.

        Returns the archives. Raises :class:`EngineError` as :meth:`build` does, and for a path that is not there,
        with what is near it.
        """
        archives = []
        with self._image(order, os.path.join(folder, "Dockerfile"), no_cache=no_cache) as (token, image):
            name = f"{token}-out"
            try:
                # Never started; an image without a command would not even be accepted without a word.
                self._call(["create", "--name", name, *self._create_words(order.platform), image, "none"])
                for number, path in enumerate(paths):
                    archive = os.path.join(folder, f"{number}.tar")
                    self._copy_path(name, path, archive)
                    archives.append(archive)
            finally:
                self._quietly("rm", "--force", name)
        return archives

    def stop(self) -> None:
        """End what runs, from another thread, and start nothing any more; :meth:`build` raises and cleans up."""
        with self._lock:
            self._stopped = True
            running = list(self._running)
        if self._cleans_up_itself:
            wind_down(running)
        for process in running:
            tell(process, signal.SIGTERM)

    @property
    def _cleans_up_itself(self) -> bool:
        """Does the command we start work itself, and clean up only after a step that fails? Docker's engine works."""
        return self.name != "docker" and not self.where

    def __str__(self) -> str:
        shown = f"{self.name} ({self.mode})" if self.mode else self.name
        return f"{shown} at {self.label}" if self.label else shown

    @contextlib.contextmanager
    def _image(self, order: Order, file: str, *, no_cache: bool) -> Iterator[tuple[str, str]]:
        """A built image for as long as somebody looks at it: what its names begin with, and its own."""
        token = f"manyfest-build-{secrets.token_hex(8)}"
        image = token if self.name == "docker" else f"localhost/{token}:1"
        given: list[str] = []
        if self.prepare is not None:
            self.prepare(order)
        try:
            text = order.text
            for at, (word, name, platform) in enumerate(order.bases):
                text = text.replace(word, self._base(name, platform, f"{token}-{at}", given))
            with open(file, "w", encoding="utf-8", errors="surrogateescape") as out:
                out.write(text)
            self._call(self._build_words(order, file, image, no_cache), told=True)
            given.append(image)
            yield token, image
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(file)
            self._clean(token, [*given, image])

    def _create_words(self, platform: Platform) -> list[str]:
        # Docker's command refuses --platform where the engine is old; the image is of that platform anyway.
        return ["--platform", _spelled(platform), "--pull=never"] if self.name == "podman" else []

    def _copy_path(self, container: str, path: str, archive: str) -> None:
        follow = ["--follow-link"] if self.name == "docker" else []
        try:
            with open(archive, "wb") as out:
                self._call(["cp", *follow, f"{container}:{path}", "-"], out=out)
        except EngineError as error:
            if (near := self._near(container, path)) is not None:
                raise EngineError(f"{self}: there is no {path} in what was built", hint=near) from error
            raise

    def _near(self, container: str, path: str) -> str | None:
        """What the closest folder that is there holds; ``None`` if the path is there."""
        folders = ["", *itertools.accumulate(path.strip("/").split("/"), lambda a, b: f"{a}/{b}")]
        held: dict[str, list[str]] = {"": []}
        process = self._start(["export", container], errors=subprocess.DEVNULL)
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as whole:
                for member in whole:
                    name = member.name.strip("/")
                    if member.isdir() and name in folders:
                        held.setdefault(name, [])
                    if name in folders[-1:]:
                        return None
                    parent, _, last = name.rpartition("/")
                    if parent in folders and len(held.setdefault(parent, [])) < KEPT_LINES:
                        held[parent].append(last)
                    whole.members = []  # type: ignore[attr-defined]  # Else every header seen stays in memory.
        except (tarfile.TarError, OSError):
            return None
        finally:
            end(process)
            process.stdout and process.stdout.close()
            with self._lock:
                self._running.discard(process)
        return near(max((each for each in held if each in folders), key=len), held)

    def _base(self, name: str, platform: Platform, token: str, given: list[str]) -> str:
        """What to write after FROM for a pinned image."""
        if self.name == "docker":
            return name
        # Podman and Buildah name containers after the image: under a name of ours they can be told from others.
        words = ["pull", "--quiet", "--platform", _spelled(platform)]
        said = self._call([*words, *_loopback(name), name])
        local = f"localhost/{token}:1"
        self._call(["tag", said.split()[-1] if said.split() else name, local])
        given.append(local)
        return local

    def _build_words(self, order: Order, file: str, image: str, no_cache: bool) -> list[str]:
        words = {
            "BuildKit": ["build"],
            "buildx": ["buildx", "build", "--load", "--provenance=false", "--progress=plain"],
            "classic": ["build", "--force-rm"],
        }.get(self.mode, ["build", "--format", "docker", "--layers=false"])
        words = [*words, "--platform", _spelled(order.platform), "--tag", image, "--file", file]
        for name, value in order.args:
            words += ["--build-arg", f"{name}={value}"]
        words += ["--target", order.target] if order.target else []
        words += ["--network", order.network] if order.network else []
        words += ["--no-cache"] if no_cache else []
        return [*words, order.context]

    def _save_words(self, image: str, archive: str) -> list[str]:
        if self.name == "buildah":
            return ["push", "--quiet", image, f"docker-archive:{archive}"]
        form = ["--format", "docker-archive"] if self.name == "podman" else []
        return ["save", *form, "--output", archive, image]

    def _clean(self, token: str, images: Sequence[str]) -> None:
        """Remove what carries our name. What fails is no error: mostly it was not there."""
        remove = ["rmi", "--force"] if self.name == "buildah" else ["image", "rm", "--force"]
        for container in self._containers(token):
            self._quietly("rm", *([] if self.name == "buildah" else ["--force"]), container)
        for image in dict.fromkeys(reversed(images)):
            self._quietly(*remove, image)

    def _containers(self, token: str) -> list[str]:
        """Where a build was killed, Podman and Buildah leave its containers; Docker removes them."""
        if self.name == "docker":
            return []
        words = ["containers", "--json"] if self.name == "buildah" else ["ps", "--all", "--external"]
        words += [] if self.name == "buildah" else ["--format", "json"]
        said = self._quietly(*words)
        with contextlib.suppress(ValueError, TypeError, AttributeError):
            rows = [
                (row.get("containername") or (row.get("Names") or [""])[0], row) for row in json.loads(said)
            ]
            return [str(row.get("id") or row.get("Id")) for name, row in rows if str(name).startswith(token)]
        return []

    def _ask(self) -> Platform:
        if self.name == "docker":
            said = self._call(["version", "--format", "{{.Server.Os}}/{{.Server.Arch}}"], CALL_TIMEOUT_S)
        elif self.name == "podman":
            template = "{{with .Server}}{{.OsArch}}{{else}}{{.Client.OsArch}}{{end}}"
            said = self._call(["version", "--format", template], CALL_TIMEOUT_S)
        else:
            self._call(["version"], CALL_TIMEOUT_S)
            said = str(host())
        try:
            return normalise(Platform.parse(said.strip().splitlines()[-1] if said.strip() else ""))
        except InvalidPlatform as error:
            raise EngineError(f"{self}: says it runs on a strange platform: {error}") from error

    def _environment(self) -> dict[str, str]:
        env = {**os.environ, "BUILDKIT_PROGRESS": "plain", "NO_COLOR": "1"}
        if self.name == "docker":
            env["DOCKER_BUILDKIT"] = "0" if self.mode == "classic" else "1"
        return env

    def _call(
        self,
        words: Sequence[str],
        timeout_s: float | None = None,
        *,
        told: bool = False,
        out: IO[bytes] | None = None,
    ) -> str:
        """What a command prints, the end of it. ``told``: an error shows the step and the last lines.

        ``out``: a file for what it prints; then only its complaints are given back.
        """
        lines: deque[str] = deque(maxlen=KEPT_LINES)
        process = self._start(words, out=out)
        said = process.stdout or process.stderr
        late = threading.Event()
        timer = threading.Timer(timeout_s or 0, kill_late, (process, late))
        try:
            if timeout_s is not None:
                timer.start()
            assert said is not None
            with self._watched(process, late) if timeout_s is None else contextlib.nullcontext():
                while line := said.readline(_MAX_LINE):
                    lines.append(line.decode("utf-8", "replace").rstrip())
                process.wait()
        except BaseException:
            if self._cleans_up_itself:
                wind_down([process])
            end(process)
            raise
        finally:
            timer.cancel()
            said and said.close()
            with self._lock:
                self._running.discard(process)
        if process.returncode and self._stopped:
            raise EngineError(f"{self}: {words[0]}: stopped")
        if process.returncode and late.is_set():
            within = f"within {timeout_s:g} s" if timeout_s is not None else f"to {PULSES} questions in a row"
            lines.append(f"no answer {within}")
        if process.returncode:
            raise self._failure(words[0], process.returncode, list(lines), told=told)
        return "\n".join(lines)

    def _watched(
        self, process: subprocess.Popen[bytes], late: threading.Event
    ) -> contextlib.AbstractContextManager[object]:
        """A node may go without a word while it works; this machine's engine does not."""
        if not self.where:
            return contextlib.nullcontext()

        def give_up() -> None:
            self._silent = True
            kill_late(process, late)

        return Pulse(lambda: bool(_output(*self._command, "version")), give_up)

    def _start(
        self, words: Sequence[str], *, out: IO[bytes] | None = None, errors: int = subprocess.STDOUT
    ) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._stopped:
                raise EngineError(f"{self}: {words[0]}: stopped")
            try:
                # In a group of its own: Ctrl-C reaches us, and we end the command and what it started.
                process = subprocess.Popen(
                    [*self._command, *words],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE if out is None else out,
                    stderr=errors if out is None else subprocess.PIPE,
                    env=self._environment(),
                    start_new_session=True,
                )
            except OSError as error:
                raise EngineError(f"{self}: {self._command[0]}: {error.strerror}") from error
            self._running.add(process)
            return process

    def _failure(self, word: str, code: int, lines: list[str], *, told: bool) -> EngineError:
        said = [line for line in lines if line.strip()]
        if not told:
            hint = advice(self.name, "\n".join(said[-SHOWN_LINES:]), self._url)
            return EngineError(f"{self}: {word}: {last_words(said) or f'exit code {code}'}", hint=hint)
        # What RUN itself says ("connection refused") is no word about the way to the engine.
        hint = advice(self.name, said[-1] if said else "", self._url)
        if any("exec format error" in line for line in said[-SHOWN_LINES:]):
            hint = "the engine has no emulator for that platform: manyfest emulators, there, tells"
        shown = "".join(f"\n    {line}" for line in said[-SHOWN_LINES:]) or f"\n    exit code {code}"
        step = failed_step(lines)
        return EngineError(f"{self}: {step or word} failed; it said last:{shown}", hint=hint)

    def _quietly(self, *words: str) -> str:
        # A node that does not answer would be waited for once more with each.
        return "" if self._silent else _output(*self._command, *words)


def find(name: str = "", environment: Mapping[str, str] | None = None) -> Builder:
    """The engine of that name, or the first of :data:`NAMES` that answers.

    Raises :class:`EngineError` that says which were looked for, and what was wrong with each.
    """
    env = os.environ if environment is None else environment
    if name and name not in NAMES:
        raise EngineError(f"no engine {name!r}: expected one of {', '.join(NAMES)}")
    looked = []
    for candidate in (name,) if name else NAMES:
        try:
            builder = _installed(candidate, "", env)
            builder.platform()
        except EngineError as error:
            looked.append(f"{candidate} ({str(error).partition(': ')[2]})")
            continue
        return builder
    more = (
        f"start {name}, or leave --engine out; or "
        if name
        else "apt-get install buildah, podman or docker.io; or "
    )
    raise EngineError(
        f"no container engine; looked for {', '.join(looked)}",
        hint=f"{more}name a machine: --node linux/arm64=ssh://user@host",
    )


def on_node(where: str, name: str = "", environment: Mapping[str, str] | None = None) -> Builder:
    """The engine at a URL, or of a Docker context. Raises :class:`EngineError` unless it answers."""
    env = os.environ if environment is None else environment
    name = name or "docker"
    if name == "buildah":
        raise EngineError("buildah works on its own machine only", hint="--engine docker or podman for nodes")
    check(where)
    url = docker.context(where, env).url if name == "docker" and "://" not in where else where
    builder = _installed(name, where, env, url)
    builder.platform()
    return builder


def failed_step(lines: Sequence[str]) -> str:
    """The instruction that failed, as far as an engine's output tells: the last that was begun."""
    step, steps = "", dict[str, str]()
    for line in lines:
        if found := _BUILDKIT_STEP.match(line):
            step = steps[found[1]] = _COUNT.sub("", found[2])
        elif found := _BUILDKIT_ERROR.match(line):
            return steps.get(found[1], step)
        elif found := _PLAIN_STEP.match(line):
            step = found[1]
    return step


def near(folder: str, held: Mapping[str, Sequence[str]]) -> str:
    """The hint for a path that is not there: what the closest folder that is there holds."""
    names = sorted(held.get(folder, ()))
    shown = ", ".join(names[:SHOWN_LINES]) + (
        f" and {len(names) - SHOWN_LINES} more" if len(names) > SHOWN_LINES else ""
    )
    return f"/{folder} holds {shown or 'nothing'}"


def _installed(name: str, where: str, env: Mapping[str, str], url: str = "") -> Builder:
    """An engine's command, the best there is on PATH. Raises :class:`EngineError` for none."""
    paths = _on_path(name, env.get("PATH", ""))
    if not paths:
        raise EngineError(f"{name}: not on PATH")
    if name != "docker":
        return Builder(name, paths[0], where=where, url=url)
    if env.get("DOCKER_BUILDKIT") != "0":
        for path in paths:
            if mode := _buildkit(path):
                return Builder(name, path, mode=mode, where=where, url=url)
    return Builder(name, paths[0], mode="classic", where=where, url=url)


def _on_path(name: str, path: str) -> list[str]:
    found = (shutil.which(name, path=folder) for folder in path.split(os.pathsep) if folder)
    return list(dict.fromkeys(os.path.realpath(each) for each in found if each))


def _buildkit(path: str) -> str:
    """``BuildKit`` where the command itself can, ``buildx`` where it has the plugin, else nothing."""
    plugin = _output(path, "buildx", "version")
    if plugin.startswith("github.com/docker/buildx"):
        return "buildx"
    version = _output(path, "--version")
    number = re.search(r"version (\d+)\.", version)
    return "BuildKit" if number and 19 <= int(number[1]) < 23 else ""


def _output(*words: str) -> str:
    """What a command prints; empty when it fails, or does not end. Ctrl-C is not for it."""
    try:
        done = subprocess.run(
            words,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=CALL_TIMEOUT_S,
            start_new_session=True,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def _loopback(name: str) -> list[str]:
    """Registries of this machine speak plain HTTP; Docker knows, Podman and Buildah want to be told."""
    registry = name.partition("/")[0].rpartition(":")[0]
    return ["--tls-verify=false"] if registry in ("localhost", "127.0.0.1", "[::1]") else []


def _spelled(platform: Platform) -> str:
    return str(platform.replace(os_version="", os_features=(), features=()))
