# SPDX-License-Identifier: Apache-2.0
"""Real parts: Docker Engine, Debian's registry (plain, and with TLS and htpasswd), emulators, the command itself.

Everything is started here on free ports with its own folders, and stopped at the end. A part that is not installed
skips its tests and says what installs it; with ``MANYFEST_NO_SKIPS`` set (``.ci/run``) a skip is a failure.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.real.parts import (
    PASSWORD,
    USER,
    Host,
    Registry,
    find_go,
    free_port,
    need,
    serve,
    stop,
    wait_for,
)
from tests.real.swarm import MixedSwarm, start, until
from tests.real.verify_bench import Bench

BINFMT = Path("/proc/sys/fs/binfmt_misc")
EMULATED = ("aarch64", "arm", "ppc64le", "s390x", "riscv64")
LIMIT_S, MACHINES_LIMIT_S = 900, 2400
"""For setting up, running and clearing up one test. Nothing here takes a third of it on a busy machine, but what waits
for another program must not wait for ever; where it waited is in the traceback."""


@contextmanager
def _limited(item: pytest.Item) -> Iterator[None]:
    seconds = MACHINES_LIMIT_S if item.get_closest_marker("machines") else LIMIT_S

    def over(*_: object) -> None:
        pytest.fail(f"this has taken {seconds} s, and was here")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    with _limited(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    with _limited(item):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    with _limited(item):
        return (yield)


@pytest.fixture
def here(tmp_path: Path) -> Host:
    """A fresh home."""
    (tmp_path / "run").mkdir(mode=0o700)
    return Host(tmp_path)


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Debian's registry over plain HTTP."""
    need("docker-registry")
    folder, port = tmp_path_factory.mktemp("plain"), free_port()
    config = f"""
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""
    (folder / "config.yml").write_text(config)
    for _ in serve(["docker-registry", "serve", str(folder / "config.yml")], folder, port):
        yield Registry(f"127.0.0.1:{port}")


@pytest.fixture(scope="session")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Debian's registry with a self-signed certificate and htpasswd."""
    need("docker-registry")
    need("htpasswd", package="apache2-utils")
    need("openssl")
    folder, port = tmp_path_factory.mktemp("secure"), free_port()
    certificate = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "30",
        "-subj",
        "/CN=registry",
    ]
    certificate += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    certificate += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "ca.crt")]
    subprocess.run(certificate, check=True, capture_output=True)
    users = subprocess.run(["htpasswd", "-Bbn", USER, PASSWORD], check=True, capture_output=True).stdout
    (folder / "users").write_bytes(users)
    config = f"""
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: true}}}}
auth: {{htpasswd: {{realm: test, path: {folder}/users}}}}
http: {{addr: "127.0.0.1:{port}", tls: {{certificate: {folder}/ca.crt, key: {folder}/key.pem}}}}
"""
    (folder / "config.yml").write_text(config)
    for _ in serve(["docker-registry", "serve", str(folder / "config.yml")], folder, port):
        yield Registry(f"localhost:{port}", folder / "ca.crt")


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Our own registry, as a user starts it."""
    folder, port = tmp_path_factory.mktemp("embedded"), free_port()
    command = [sys.executable, "-m", "manyfest", "registry", str(folder / "data"), "--port", str(port)]
    source = str(Path(__file__).parents[2] / "src")
    for _ in serve(command, folder, port, {"PYTHONPATH": source}):
        yield Registry(f"127.0.0.1:{port}")


@pytest.fixture(scope="session")
def emulators() -> Iterator[None]:
    """Handlers for foreign architectures, registered from Debian's own lines; ours are taken back at the end."""
    need("qemu-s390x-static", package="qemu-user-static")
    if os.geteuid() != 0:
        pytest.skip("registering emulators needs root")
    if not (BINFMT / "register").exists():
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT)], check=True)
    added: list[Path] = []
    for name in EMULATED:
        handler = BINFMT / f"qemu-{name}"
        if not handler.exists():
            line = Path(f"/usr/lib/binfmt.d/qemu-{name}.conf").read_text().strip()
            (BINFMT / "register").write_text(line)
            added.append(handler)
    yield
    for handler in added:
        handler.write_text("-1")


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Made once; its layers are read once."""
    return Bench(tmp_path_factory.mktemp("verify"))


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory, emulators: None) -> Iterator[str]:
    """A Docker Engine of our own; the value is its ``DOCKER_HOST``."""
    need("dockerd", package="docker.io")
    folder = tmp_path_factory.mktemp("engine")
    address = f"unix://{folder}/docker.sock"
    log = folder / "log"
    command = ["dockerd", "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec", "-H", address]
    # The tests need no network inside containers, and must not touch the machine's own rules.
    command += ["--pidfile", f"{folder}/pid", "--iptables=false", "--bridge=none", "--storage-driver", "vfs"]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        wait_for(lambda: _answers(address), "dockerd", process, log)
        yield address
    finally:
        stop(process)


@pytest.fixture(scope="session")
def zig_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """zig compiles its C library for a platform once."""
    return tmp_path_factory.mktemp("zig")


@pytest.fixture(scope="session")
def go_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What Go has compiled: its library takes half a minute for a platform, once for all tests."""
    find_go()
    return tmp_path_factory.mktemp("go")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MixedSwarm]:
    """A swarm of an x86_64 and an i686 node, for all tests of a file."""
    yield from start(tmp_path_factory.mktemp("swarm"))


@pytest.fixture
def ship(here: Host, mixed: MixedSwarm) -> Iterator[Host]:
    """A home whose DOCKER_HOST is the manager; no service is left."""
    here.env["DOCKER_HOST"] = mixed.x86.docker_host
    yield here
    for name in mixed.x86.docker("service", "ls", "-q").split():
        mixed.x86.docker("service", "rm", name)
    living = [node for node in mixed.nodes if node.process is not None]
    until(lambda: not any(node.docker("ps", "-q") for node in living), "containers to go")


def _answers(address: str) -> bool:
    if not Path(address.removeprefix("unix://")).exists():
        return False
    asked = subprocess.run(["/usr/bin/docker", "-H", address, "version"], check=False, capture_output=True)
    return asked.returncode == 0
