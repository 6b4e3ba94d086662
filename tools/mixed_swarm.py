# SPDX-License-Identifier: Apache-2.0
"""A real swarm of two architectures on one machine: an x86_64 node and an i686 one, at native speed.

Each node is a Docker Engine in network, mount, process and host-name spaces of its own. The second one's is Debian's
i386 build in a tree of its own, under the i386 personality, so that it calls itself i686 as such a machine does.
Both reach one registry under the same name, ``localhost:PORT``. The tree is kept under ``$MANYFEST_TEST_CACHE``, or
``tests/.cache`` here. Everything else goes at the end: killing a node's first process ends all of it.

The tests on real parts use it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

DOCKER = "/usr/bin/docker"
PATH = f"/usr/sbin:/usr/bin:/sbin:/bin:{os.environ.get('PATH', '')}"
PACKAGES = "docker.io,iproute2,iptables,socat,ca-certificates,mount,util-linux"
PLATFORMS = {"x86": "linux/amd64", "old": "linux/386"}
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


class CannotBe(Exception):
    """This machine cannot have such a swarm; the text says what it lacks."""


@dataclass
class Part:
    """A program of the swarm; ``process`` is the first of all its processes."""

    command: list[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Without waiting until it answers."""
        with self.log.open("ab") as out:
            self.process = subprocess.Popen([*_DIES_WITH_US, *self.command], stdout=out, stderr=out)

    def kill(self) -> None:
        """As if somebody pulled the plug."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@dataclass
class SwarmNode:
    """A machine of the swarm; ``engine`` is it while it runs or could."""

    name: str
    address: str
    folder: Path
    space: str
    engine: Part | None = None

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The first of all its processes, while it runs."""
        return None if self.engine is None else self.engine.process

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
        if ok and done.returncode:
            raise RuntimeError(f"docker {' '.join(words)}\n{done.stdout}{done.stderr}")
        return done.stdout.strip()

    def answers(self) -> bool:
        """Is its engine up?"""
        if not (self.folder / "socket" / "docker.sock").exists():
            return False
        asked = subprocess.run([DOCKER, "-H", self.docker_host, "version"], check=False, capture_output=True)
        return asked.returncode == 0

    def kill(self) -> None:
        """As if somebody pulled the plug."""
        if self.engine is not None:
            self.engine.kill()

    def restart(self) -> None:
        """Pull the plug and start it again, with all that is on its disk; returns when its engine answers."""
        assert self.engine is not None
        self.engine.kill()
        self.engine.start()
        _wait_for(self)


@dataclass
class Swarm:
    """``x86`` manages, ``old`` works; ``registry`` is a registry's name everywhere, ``private`` one that asks who.

    ``registry_server`` is the first one's program, ``bridge`` the network of both nodes, which ends with ``.1`` and
    ``.2``; other machines may have the numbers from there to ``.253``.
    """

    folder: Path
    registry: str
    private: str
    x86: SwarmNode
    old: SwarmNode
    registry_server: Part
    bridge: str

    @property
    def nodes(self) -> tuple[SwarmNode, SwarmNode]:
        return self.x86, self.old


def refuse() -> None:
    """Raises :class:`CannotBe` where such a swarm cannot be."""
    if os.geteuid() != 0:
        raise CannotBe("namespaces, bridges and a second engine need root")
    if os.uname().machine != "x86_64":
        raise CannotBe("an x86_64 machine runs i386 programs natively; this is none")
    programs = {
        "dockerd": "docker.io",
        "docker-registry": "",
        "socat": "",
        "mmdebstrap": "",
        "ip": "iproute2",
    }
    programs |= dict.fromkeys(("nsenter", "unshare", "setarch", "setpriv"), "util-linux")
    for name, package in programs.items():
        if shutil.which(name, path=PATH) is None:
            raise CannotBe(
                f"no {name}; apt-get install {package or name}, or run tools/test-packages.sh as root"
            )


@contextlib.contextmanager
def mixed_swarm(folder: Path, users: bytes = b"") -> Iterator[Swarm]:
    """The whole swarm, in a new folder; with ``users`` (htpasswd's lines) also a registry that asks who it is.

    Raises :class:`CannotBe`, and RuntimeError with the log of what does not start.
    """
    refuse()
    tree = old_tree()
    with contextlib.ExitStack() as stack:
        yield _start(folder, users, tree, stack)


def _start(folder: Path, users: bytes, tree: Path, stack: contextlib.ExitStack) -> Swarm:
    network, bridge = free_network(), f"mfb{os.getpid()}"
    gateway, port = f"{network}.254", free_port()
    _ip("link", "add", bridge, "type", "bridge")
    stack.callback(_ip, "link", "del", bridge)
    _ip("addr", "add", f"{gateway}/24", "dev", bridge)
    _ip("link", "set", bridge, "up")
    server = _registry(folder / "registry", f"{gateway}:{port}", "", stack)
    ports = [port]
    if users:
        ports.append(free_port())
        (folder / "users").write_bytes(users)
        auth = f"auth: {{htpasswd: {{realm: x, path: {folder}/users}}}}\n"
        _registry(folder / "private", f"{gateway}:{ports[1]}", auth, stack)
    nodes = []
    for at, name in enumerate(PLATFORMS, 1):
        node = SwarmNode(name, f"{network}.{at}", folder / name, f"mf{os.getpid()}{name}")
        for part in ("data", "socket", "upper", "work", "root"):
            (node.folder / part).mkdir(parents=True)
        _space(node, bridge, stack)
        _launch(node, gateway, ports, tree, stack)
        nodes.append(node)
    for node in nodes:
        _wait_for(node)
    x86, old = nodes
    x86.docker("swarm", "init", "--advertise-addr", x86.address)
    token = x86.docker("swarm", "join-token", "-q", "worker")
    _join(old, token, f"{x86.address}:2377")
    names = [f"localhost:{each}" for each in ports]
    return Swarm(folder, names[0], names[-1] if users else "", x86, old, server, bridge)


def free_port() -> int:
    """A port nobody listens on at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_until(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Poll a part that changes by itself. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(0.1)


def _join(node: SwarmNode, token: str, manager: str) -> None:
    """An engine that has not joined within 20 seconds says so and goes on; on a busy machine that may be."""
    try:
        node.docker("swarm", "join", "--token", token, manager)
    except RuntimeError as error:
        if "will continue in the background" not in str(error):
            raise
        state = ("info", "--format", "{{.Swarm.LocalNodeState}}")
        wait_until(lambda: node.docker(*state) == "active", f"{node.name} to join the swarm", 120)


def _wait_for(node: SwarmNode) -> None:
    """Until its engine answers; it takes a second where nothing else runs."""
    deadline = time.monotonic() + 180
    while not node.answers():
        if node.process is None or node.process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the engine of {node.name}:\n{node.log.read_text(errors='replace')[-4000:]}")
        time.sleep(0.05)


def _registry(folder: Path, address: str, more: str, stack: contextlib.ExitStack) -> Part:
    """Debian's registry on the bridge, and its name on this machine."""
    folder.mkdir()
    config = folder / "config.yml"
    config.write_text(
        f"version: 0.1\nlog: {{level: error}}\nhttp: {{addr: '{address}'}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/data}}, delete: {{enabled: true}}}}\n{more}"
    )
    forward = ["socat", _LISTEN.format(address.rpartition(":")[2]), f"TCP:{address}"]
    parts = [
        Part(command, folder / "log") for command in (["docker-registry", "serve", str(config)], forward)
    ]
    for part in parts:
        part.start()
        stack.callback(part.kill)
    return parts[0]


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
    command = ["nsenter", f"--net=/run/netns/{node.space}", *spaces, "/bin/sh", "-ec", script]
    stack.callback(_forget_groups, group)
    node.engine = Part(command, node.log)
    node.engine.start()
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
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr}")


def free_network() -> str:
    """The first three numbers of a network that nothing here uses."""
    routes = subprocess.run(["ip", "-4", "addr"], check=True, capture_output=True, text=True).stdout
    return next(net for net in (f"10.99.{n}" for n in range(256)) if f" {net}." not in routes)


def cache_folder() -> Path:
    """Where what was downloaded or compiled is kept."""
    return Path(os.environ.get("MANYFEST_TEST_CACHE") or Path(__file__).parents[1] / "tests" / ".cache")


def mirror() -> str:
    """Debian's archive where this machine's apt finds it. Raises :class:`CannotBe` where apt knows of none."""
    files = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*.[ls]*"))]
    text = "\n".join(file.read_text() for file in files if file.exists())
    found = re.search(r"^(?:deb\b|URIs:).*?(https?://[^\s\]]+/debian)/?(?:\s|$)", text, re.MULTILINE)
    if found is None:
        raise CannotBe("apt has no source that is Debian's archive")
    return found[1]


def old_tree() -> Path:
    """Debian's i386 system with its Docker Engine, made once. Raises :class:`CannotBe`."""
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
            raise CannotBe(f"no network to Debian's archive for i386: {done.stderr.strip()[-300:]}")
        made.rename(tree)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return tree
