# SPDX-License-Identifier: Apache-2.0
"""Runs a project's compile command for each platform, and keeps what it wrote."""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import shlex
import shutil
import subprocess
import tempfile
import threading
from typing import TYPE_CHECKING

from manyfest.build.ignore import OWN_FOLDER
from manyfest.build.toolchains.presets import SHARED, setup
from manyfest.engines.processes import end
from manyfest.errors import BuildError, Error, InvalidProject
from manyfest.platforms import names, normalise
from manyfest.stores.pool import Stopped
from manyfest.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from manyfest.build.cache import Cache, Hashes
    from manyfest.build.toolchains.setup import Compile
    from manyfest.platforms import Platform
    from manyfest.stores.pool import Pool

__all__ = ["Compiler", "Job"]

_LAST_LINES = 20
_GRACE_S = 2.0
_KEPT_ENVIRONMENT = (
    "CARGO_ENCODED_RUSTFLAGS",
    "CC",
    "CFLAGS",
    "CMAKE_BUILD_TYPE",
    "CMAKE_GENERATOR",
    "CPPFLAGS",
    "CXXFLAGS",
    "GOEXPERIMENT",
    "GOFLAGS",
    "GOTOOLCHAIN",
    "JAVA_TOOL_OPTIONS",
    "LDFLAGS",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
)
_SKIPPED = frozenset({".git", ".hg", ".svn", OWN_FOLDER})
_CACHE_TAG = b"Signature: 8a477f597d28d172789f06886806bc55"
"""What a CACHEDIR.TAG begins with: https://bford.info/cachedir/. cargo writes one into ``target``."""

_TOLD = ("CARGO_", "CC", "CMAKE_", "GO", "JAVA_")
_ELF_HEAD = 64
_ANY = "any"
_PLATFORM_WORDS = ("os", "arch", "variant", "platform", "triple", "debian", "uname")
_KEEPING = ("rust", "cmake")
"""Presets that compile only what changed, in a folder that is kept."""


class Job(Value):
    """One platform's compile step.

    ``environment``: what is set besides the caller's own; ``folder``: for outputs, ``build``: for what is kept between
    runs, may be empty; ``files``: written before, path and text; ``shared``: this run is for all platforms.
    """

    __slots__ = ("build", "command", "environment", "facts", "files", "folder", "platform", "shared", "tool")
    build: str
    command: str
    environment: tuple[tuple[str, str], ...]
    facts: tuple[str, ...]
    files: tuple[tuple[str, str], ...]
    folder: str
    platform: Platform
    shared: bool
    tool: str

    def __init__(
        self,
        platform: Platform,
        command: str,
        environment: tuple[tuple[str, str], ...],
        folder: str,
        tool: str = "",
        *,
        build: str = "",
        facts: tuple[str, ...] = (),
        files: tuple[tuple[str, str], ...] = (),
        shared: bool = False,
    ) -> None:
        self._set(
            platform=platform,
            command=command,
            environment=environment,
            folder=folder,
            tool=tool,
            build=build,
            facts=facts,
            files=files,
            shared=shared,
        )

    @property
    def doing(self) -> str:
        """How an error begins."""
        return "compiling for all platforms" if self.shared else f"compiling for {self.platform}"


class Compiler:
    """Compiles one project. Safe to use from several threads, one per platform."""

    def __init__(
        self,
        folder: str,
        wanted: Compile,
        cache: Cache,
        hashes: Hashes,
        on_done: Callable[[Platform, bool], None] | None = None,
    ) -> None:
        self.folder = os.path.realpath(folder)
        self.wanted = wanted
        self._cache = cache
        self._hashes = hashes
        self._on_done = on_done or _ignore
        self._in_place = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False
        self._inputs = ""
        self._root = cache.compiled(self.folder)

    @property
    def is_shared(self) -> bool:
        """Is what it makes the same for all platforms, so that one run is enough?"""
        return self.wanted.once or self.wanted.toolchain in SHARED

    def job(self, platform: Platform) -> Job:
        """What would be run. Raises :class:`BuildError` for a missing toolchain or one that lacks the platform."""
        name = _ANY if self.is_shared else str(normalise(platform)).replace("/", "-")
        folder = os.path.join(self._root, name)
        # Beside the outputs, whose folder is made anew for every run.
        made = setup(self.wanted, platform, f"{folder}.tools", self.folder)
        words = {"out": shlex.quote(folder)} if self.is_shared else _words(platform, folder)
        command = self.wanted.run
        if self._separates():
            command = self._redirected(command, folder)
        environment = {"OUT": folder} if self.is_shared else _target(platform, words, folder)
        environment.update(dict(made.environment))
        build = ""
        if "{build}" in command or self.wanted.toolchain in _KEEPING or "$BUILD" in command:
            build = f"{folder}.build-{_short([made.tool, *made.facts, *map(list, (*made.environment, *made.files))])}"
            words["build"] = shlex.quote(build)
            environment["BUILD"] = build
            if self.wanted.toolchain == "rust":
                environment["CARGO_TARGET_DIR"] = build
        for word, value in words.items():
            command = command.replace(f"{{{word}}}", value)
        self._refuse_words(command)
        environment.update(dict(self.wanted.environment))
        return Job(
            platform,
            command,
            tuple(environment.items()),
            folder,
            made.tool,
            build=build,
            facts=made.facts,
            files=made.files,
            shared=self.is_shared,
        )

    def jobs(self, platforms: Sequence[Platform]) -> dict[Platform, Job]:
        """:meth:`job` of each. Raises one :class:`BuildError` for all platforms that the toolchain lacks."""
        made: dict[Platform, Job] = {}
        lacking: list[Error] = []
        for platform in platforms:
            try:
                made[platform] = self.job(platform)
            except BuildError as error:
                lacking.append(error)
        told = list(dict.fromkeys(map(str, lacking)))
        if told:
            hints = dict.fromkeys(error.hint for error in lacking if error.hint)
            raise BuildError("\n".join(told), hint="\n".join(hints))
        return made

    def _refuse_words(self, command: str) -> None:
        left = [word for word in _PLATFORM_WORDS if f"{{{word}}}" in command]
        if left and self.is_shared:
            raise InvalidProject(
                f"toolchain {self.wanted.toolchain} compiles once for all platforms: {{{left[0]}}} has no value",
                hint="without once: true the command is run for each platform"
                if self.wanted.once
                else "toolchain: custom runs the command for each platform",
            )

    def run_all(
        self, platforms: Sequence[Platform], pool: Pool, *, keep_going: bool = False
    ) -> dict[Platform, dict[str, str]]:
        """:meth:`run` for all, side by side. With ``keep_going`` one that fails does not end the others.

        Raises the first failure, or one for all. What succeeded need not be compiled again.
        """
        failed: dict[Platform, Error] = {}

        def one(platform: Platform) -> dict[str, str]:
            try:
                return self.run(platform)
            except Error as error:
                if not keep_going:
                    self.stop()
                    raise
                failed[platform] = error
                return {}

        try:
            if self.is_shared:
                outputs = self.run(platforms[0])
                self.refuse_programs(platforms, outputs)
                return dict.fromkeys(platforms, outputs)
            made = dict(zip(platforms, pool.map(one, platforms), strict=True))
        except BaseException as error:
            self.stop()
            if isinstance(error, BuildError):
                # What the toolchain lacks for the other platforms is not found out one build at a time.
                self.jobs(platforms)
            raise
        if failed:
            raise _several([failed[platform] for platform in platforms if platform in failed], len(platforms))
        return made

    def run(self, platform: Platform) -> dict[str, str]:
        """Compile for a platform unless nothing changed. Returns where each output is.

        Raises :class:`BuildError` with the platform and the command's last lines.
        """
        job = self.job(platform)
        key = self._key(job)
        name = hashlib.sha256(os.fsencode(job.folder)).hexdigest()
        known = self._cache.read("compiled", name)
        outputs = {output: os.path.join(job.folder, output) for output in self.wanted.outputs}
        if not self._cache.fresh and known == key and all(map(os.path.lexists, outputs.values())):
            self._on_done(platform, True)
            return outputs
        self._prepare(job, outputs.values())
        if self._runs_apart():
            self._execute(job)
        else:
            with self._in_place:
                self._execute_in_place(job)
        for output, path in outputs.items():
            self._check(job, output, path)
        self._cache.save("compiled", name, key)
        self._on_done(platform, False)
        return outputs

    def refuse_programs(self, platforms: Iterable[Platform], outputs: Mapping[str, str]) -> None:
        """For ``once: true``: an output that is a program of one machine cannot be everybody's.

        What is somewhere in a folder may be one of several, for each its own. Raises :class:`BuildError`.
        """
        if not self.wanted.once:
            return
        for output, path in outputs.items():
            for platform in platforms:
                _check_machine(
                    platform, output, path, "without once: true the command is run for each platform"
                )

    def _prepare(self, job: Job, outputs: Iterable[str]) -> None:
        shutil.rmtree(job.folder, ignore_errors=True)
        for path in (job.folder, *map(os.path.dirname, outputs)):
            os.makedirs(path, exist_ok=True)
        for path, text in job.files:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(path, 0o700)
        if job.build:
            for old in self._old_builds(job):
                shutil.rmtree(old, ignore_errors=True)
            os.makedirs(job.build, exist_ok=True)

    def _old_builds(self, job: Job) -> list[str]:
        """Folders of another compiler; all of them where nothing of earlier builds is wanted."""
        prefix = f"{os.path.basename(job.folder)}.build-"
        found = [os.path.join(self._root, name) for name in os.listdir(self._root) if name.startswith(prefix)]
        return [path for path in found if self._cache.fresh or path != job.build]

    def stop(self) -> None:
        """End what runs: for Ctrl-C, and when another platform failed."""
        self._stopped = True
        for process in list(self._running):
            end(process, _GRACE_S)

    def _runs_apart(self) -> bool:
        return "{out}" in self.wanted.run or self._separates()

    def _separates(self) -> bool:
        """Are all outputs words of the command, so that each platform's can be written to a folder of its own?"""
        if "{out}" in self.wanted.run:
            return False
        return all(_word_pattern(output)(self.wanted.run) for output in self.wanted.outputs)

    def _redirected(self, command: str, folder: str) -> str:
        pieces = command.split(" ")
        for output in self.wanted.outputs:
            path = shlex.quote(os.path.join(folder, output))
            pieces = [path if piece == output else piece for piece in pieces]
        return " ".join(pieces)

    def _execute(self, job: Job) -> None:
        environment = {**os.environ, **dict(job.environment)}
        if job.tool:
            environment["PATH"] = os.pathsep.join((os.path.dirname(job.tool), environment.get("PATH", "")))
        with tempfile.TemporaryFile(prefix="manyfest-") as output:
            process = subprocess.Popen(
                ["/bin/sh", "-c", job.command],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
            self._running.add(process)
            try:
                if self._stopped:
                    end(process, _GRACE_S)
                code = process.wait()
            except BaseException:
                end(process, _GRACE_S)
                raise
            finally:
                self._running.discard(process)
            if code and self._stopped:
                raise Stopped(f"{job.doing} was ended because another platform failed")
            if code:
                told = [f"{k}={shlex.quote(v)}" for k, v in job.environment if k.startswith(_TOLD)]
                raise BuildError(
                    f"{job.doing} ended with {_ending(code)}: {job.command}\n{_tail(output)}".rstrip(),
                    hint=f"run it by hand in {self.folder}" + (f" with {' '.join(told)}" if told else ""),
                )

    def _execute_in_place(self, job: Job) -> None:
        """Run a command that writes into the project, and take its outputs out."""
        for output in self.wanted.outputs:
            _remove(os.path.join(self.folder, output))
        self._execute(job)
        for output in self.wanted.outputs:
            made = os.path.join(self.folder, output)
            if os.path.lexists(made):
                shutil.move(made, os.path.join(job.folder, output))

    def _check(self, job: Job, output: str, path: str) -> None:
        if not os.path.lexists(path) or (os.path.isdir(path) and not os.listdir(path)):
            raise BuildError(
                f"{job.doing} wrote no {output}: {job.command}",
                hint="outputs: lists paths relative to the project; the command writes there, or to {out}/PATH",
            )
        for file in _files(path) if not job.shared else ():
            _check_machine(job.platform, output, file)

    def _key(self, job: Job) -> list[object]:
        """What an output depends on: command, variables, compiler, and every file of the project."""
        kept = {name: os.environ.get(name, "") for name in _KEPT_ENVIRONMENT}
        tool: list[object] = [job.tool]
        if job.tool:
            facts = os.stat(job.tool)
            tool += [facts.st_size, facts.st_mtime_ns]
        made = [list(pair) for pair in (*job.environment, *job.files)]
        return [job.command, made, kept, [*tool, *job.facts], self._project_key()]

    def _project_key(self) -> str:
        with self._in_place:
            if not self._inputs:
                hasher = hashlib.sha256()
                outputs = {posixpath.normpath(output) for output in self.wanted.outputs}
                for path in _inputs(self.folder, outputs):
                    facts = os.lstat(path)
                    content = os.readlink(path) if os.path.islink(path) else self._hashes.of(path, facts)
                    line = [os.path.relpath(path, self.folder), facts.st_mode & 0o111, content]
                    hasher.update(json.dumps(line).encode())
                self._inputs = hasher.hexdigest()
            return self._inputs


def _target(platform: Platform, words: dict[str, str], folder: str) -> dict[str, str]:
    return {
        "TARGETPLATFORM": str(normalise(platform)),
        "TARGETOS": platform.os,
        "TARGETARCH": platform.architecture,
        "TARGETVARIANT": platform.variant,
        "TARGETTRIPLE": words["triple"],
        "OUT": folder,
    }


def _short(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:8]


def _words(platform: Platform, folder: str) -> dict[str, str]:
    row = names(platform)
    return {
        "os": platform.os,
        "arch": platform.architecture,
        "variant": platform.variant,
        "platform": str(normalise(platform)),
        "triple": row.gnu,
        "debian": row.debian,
        "uname": row.uname,
        "out": shlex.quote(folder),
    }


def _word_pattern(output: str) -> Callable[[str], bool]:
    return lambda command: output in command.split(" ")


def _inputs(folder: str, outputs: set[str]) -> Iterator[str]:
    """Every file and link of the project, sorted; without outputs, caches, and what version control keeps."""
    for at, dirs, files in os.walk(folder):
        if "CACHEDIR.TAG" in files and at != folder and _is_cache(os.path.join(at, "CACHEDIR.TAG")):
            dirs.clear()
            continue
        relative = os.path.relpath(at, folder)
        base = "" if relative == "." else relative
        dirs[:] = sorted(d for d in dirs if d not in _SKIPPED and posixpath.join(base, d) not in outputs)
        links = [d for d in dirs if os.path.islink(os.path.join(at, d))]
        for name in sorted((*files, *links)):
            path = os.path.join(at, name)
            if posixpath.join(base, name) not in outputs and (os.path.islink(path) or os.path.isfile(path)):
                yield path


def _is_cache(tag: str) -> bool:
    try:
        with open(tag, "rb") as file:
            return file.read(len(_CACHE_TAG)) == _CACHE_TAG
    except OSError:
        return False


def _files(path: str) -> Iterator[str]:
    if not os.path.isdir(path):
        yield path
        return
    for at, _, files in os.walk(path):
        yield from (os.path.join(at, name) for name in sorted(files))


def _check_machine(
    platform: Platform,
    output: str,
    path: str,
    hint: str = "the command built for another machine; use the variables that the toolchain sets (GOARCH, CC)",
) -> None:
    """Raise :class:`BuildError` for a program that the platform does not run."""
    from manyfest.verify import elf, machines

    if os.path.islink(path) or not os.path.isfile(path):
        return
    with open(path, "rb") as file:
        head = file.read(_ELF_HEAD)
    found = elf.platform_of(head) if head.startswith(elf.MAGIC) else None
    if found is None:
        return
    # A header tells 32-bit ARM's family, not its version; that needs the whole file, which verify reads.
    asked = normalise(platform)
    image = (
        asked.replace(variant="") if found.architecture == "arm" and asked.architecture == "arm" else platform
    )
    verdict = machines.compatible(found, image)
    if verdict.word in ("wrong", "compat"):
        raise BuildError(
            f"compiling for {platform}: {output} is for {found or 'another machine'}",
            hint=hint,
        )


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def _ending(code: int) -> str:
    return f"exit code {code}" if code > 0 else f"signal {-code}"


def _tail(output: object) -> str:
    assert hasattr(output, "seek")
    assert hasattr(output, "read")
    end = output.seek(0, os.SEEK_END)
    output.seek(max(0, end - 64 * 1024))
    lines: Sequence[str] = output.read().decode("utf-8", "replace").splitlines()
    return "\n".join(f"  {line}" for line in lines[-_LAST_LINES:])


def _ignore(_: Platform, __: bool) -> None:
    pass


def _several(failed: Sequence[Error], count: int) -> BuildError:
    """What ``keep_going`` ends with."""
    kept = "what was compiled is kept: the same command compiles only the rest"
    hint = "\n".join(dict.fromkeys([*(error.hint for error in failed if error.hint), kept]))
    told = "\n".join(map(str, failed))
    return BuildError(
        told if len(failed) == 1 else f"{len(failed)} of {count} platforms failed\n{told}", hint=hint
    )
