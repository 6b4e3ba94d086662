# SPDX-License-Identifier: Apache-2.0
"""The second half of ``manyfest demo --app``: the example application, from source to who answers.

It is built for all its platforms, looked into, and started from its images on every platform that this machine can
run, natively or under QEMU, behind one address. No engine has a part in it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Any

from manyfest.build.project import load as load_project
from manyfest.build.toolchains.presets import setup
from manyfest.cli.render import plural
from manyfest.content.document import ImageConfig
from manyfest.emulate.images import read_program
from manyfest.emulate.run import start
from manyfest.errors import BuildError, EmulationError, InvalidProject, VerificationFailed
from manyfest.serve.relay import Relay
from manyfest.stores.base import load, read
from manyfest.stores.layout import Layout
from manyfest.stores.pool import TICK_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manyfest.build.project import Project
    from manyfest.cli.commands.demo import Tour

__all__ = ["AppTour", "checked"]

PLATFORM_S = 25
"""About how long Go takes to compile its own library for a platform, with one processor."""

START_S = 30.0
"""How long an application may take to answer; emulated it starts slowly."""

LIMIT = 128 << 20
"""Bytes of the application's program."""

_ASK_S = 5.0


def checked(folder: str) -> Project:
    """The project in a folder, before anything else is done. Raises :class:`InvalidProject` for none of ours."""
    if not os.path.isdir(folder):
        raise InvalidProject(
            f"--app {folder}: no such folder",
            hint="examples/qcon of a clone of manyfest is one; without --app the demo needs nothing",
        )
    project = load_project(os.path.abspath(folder))
    if project.compile is None or not project.platforms:
        raise InvalidProject(
            f"--app {folder}: expected a project that compiles for several platforms",
            hint="examples/qcon of a clone is one",
        )
    return project


class AppTour:
    """The application's part of a tour; ``summary`` is for ``--json``."""

    def __init__(self, tour: Tour, project: Project) -> None:
        self.tour = tour
        self.project = project
        self.target = f"{tour.host}/{os.path.basename(project.folder)}:1.0"
        self.summary: dict[str, Any] = {
            "folder": project.folder,
            "name": self.target,
            "digest": None,
            "skipped": None,
            "seconds": None,
            "answers": [],
        }

    def build(self) -> bool:
        """Build and verify; false, and said, where the compiler is not to be had."""
        platforms, project = self.project.platforms, self.project
        self.tour.chapter(
            "An application, from source",
            f"{project.folder} is a web server that shows who answers. It is compiled for {len(platforms)} platforms",
            "by this machine, put into images without an engine, and pushed as one name.",
        )
        assert project.compile is not None
        try:
            for platform in platforms:
                setup(project.compile, platform, "tools", project.folder)
        except BuildError as error:
            self.summary["skipped"] = str(error)
            self.tour.tell(f"Left out, for its compiler is not here: {error}")
            self.tour.tell(f"To have it: {error.hint}")
            return False
        at_once = min(os.cpu_count() or 1, len(platforms))
        minutes = -(-PLATFORM_S * len(platforms) // at_once // 60)
        self.tour.tell(
            f"The first time that takes about {plural(minutes, 'minute')} with {plural(at_once, 'processor')}: Go"
        )
        self.tour.tell(
            "compiles its own library for each platform, and keeps it. After that it takes seconds."
        )
        started = time.monotonic()
        out = self.tour.command("build", project.folder, "-t", self.target, "-v", live=True)
        self.summary["digest"] = out.rstrip("\n").rpartition("\n")[2]
        self.summary["seconds"] = round(time.monotonic() - started, 3)
        self.tour.command("verify", "--no-cache", self.target)
        self.tour.command("copy", self.target, "oci:app:1.0")
        return True

    def answer(self, *, serve: bool) -> None:
        """Start what can be started, ask, and with ``serve`` leave it running until somebody ends it."""
        self.tour.chapter(
            "Who answers?",
            "Taken out of its images and started here, each on a port of its own, behind one address:",
        )
        with contextlib.ExitStack() as stack:
            ports = dict(self._started(stack))
            if not ports:
                return
            relay = stack.enter_context(Relay([("127.0.0.1", port) for port in ports.values()]))
            self.tour.tell(f"Asking {relay.url} {len(ports)} times:")
            seen = [self._ask(relay.port) for _ in ports]
            self.summary["answers"] = seen
            for each in seen:
                self.tour.tell(f"  {each['platform']} from {each['image']}@{(each['digest'] or '')[:19]}…")
            if {each["platform"] for each in seen} != set(ports):
                raise VerificationFailed(
                    f"{relay.url}: expected answers of {', '.join(ports)}, got {', '.join(e['platform'] for e in seen)}"
                )
            if serve:
                wait(self.tour, f"Look: {relay.url}   Each reload reaches the next.")

    def _started(self, stack: contextlib.ExitStack) -> Iterator[tuple[str, int]]:
        """Platform and port of each that answers."""
        os.makedirs("app-programs", exist_ok=True)
        with Layout("app") as layout:
            for entry in layout.resolve("1.0").index.manifests:
                platform = entry.platform
                if platform is None:
                    continue
                manifest = load(layout, entry).manifest
                entrypoint = ImageConfig(read(layout, manifest.config)).settings["Entrypoint"]
                path = os.path.join("app-programs", str(platform).replace("/", "-"))
                with open(path, "wb") as file:
                    file.write(read_program(layout, manifest, entrypoint[0], limit=LIMIT))
                os.chmod(path, 0o700)
                port = _free_port()
                name = self.target
                environment = {
                    "QCON_LISTEN": f"127.0.0.1:{port}",
                    "QCON_IMAGE": f"{name}@{self.summary['digest']}",
                }
                try:
                    started = start(path, platform, environment)
                except EmulationError as error:
                    self.tour.tell(f"{platform!s:<15} not started: {error}")
                    continue
                stack.callback(_end, started.process)
                if not _answers(port, started.process):
                    self.tour.tell(f"{platform!s:<15} {started.how:<20} did not answer")
                    continue
                told = self._ask(port)["platform"]
                self.tour.expect(f"what the application for {platform} says", told, str(platform))
                self.tour.tell(f"{platform!s:<15} {started.how:<20} answers")
                yield str(platform), port

    def _ask(self, port: int) -> dict[str, Any]:
        try:
            told = json.loads(_get(port, "/json"))
            return {key: told[key] for key in ("platform", "image", "digest")}
        except (OSError, HTTPException, ValueError, KeyError) as error:
            raise VerificationFailed(f"127.0.0.1:{port}: no answer that can be read: {error}") from error


def wait(tour: Tour, what: str) -> None:
    """Until Enter, or Ctrl-C where nobody can press it: both are the way to end, not a failure."""
    keyed = sys.stdin is not None and sys.stdin.isatty()
    # Whoever asked for it needs to know where, whatever else is not to be told.
    say = tour.console.tell if tour.console.json or tour.console.quiet else tour.tell
    # Whoever reads how to end it may do so before the next line is reached.
    with contextlib.suppress(KeyboardInterrupt):
        say(what)
        say("Press Enter to end." if keyed else "Ctrl-C ends it.")
        if keyed:
            sys.stdin.readline()
        else:
            while True:
                time.sleep(TICK_S)  # not for ever: see manyfest.stores.pool.wait_for


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _answers(port: int, process: subprocess.Popen[bytes]) -> bool:
    """Wait for a healthy answer; no, if the program ends first or takes too long."""
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            _get(port, "/healthz")
            return True
        except (OSError, HTTPException):
            time.sleep(0.02)
    return False


def _get(port: int, path: str) -> bytes:
    connection = HTTPConnection("127.0.0.1", port, timeout=_ASK_S)
    try:
        connection.request("GET", path)
        return connection.getresponse().read(1 << 20)
    finally:
        connection.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
