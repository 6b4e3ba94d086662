# SPDX-License-Identifier: Apache-2.0
"""The machines that something shall run on: from a swarm, from ``kubectl get nodes -o json``, from a file, this one,
or just platforms.

A node file is YAML, a list or a mapping with ``nodes:``::

    nodes:
      - name: pi
        platform: linux/arm/v7
      - name: builder
        platform: linux/amd64/v3
        emulates: [linux/arm64, linux/s390x]
        engine: podman              # docker | docker-containerd | containerd | buildkit | podman
        labels: {zone: lab}
"""

from __future__ import annotations

import json
import os

from manyfest.coverage.marked import Marked, load, read_file
from manyfest.coverage.rules import ENGINES, Host
from manyfest.errors import InputError, InvalidPlatform, InvalidSpec
from manyfest.platforms import Only, Platform, normalise
from manyfest.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

__all__ = ["Node", "from_file", "from_kubectl", "from_platforms", "from_swarm", "handlers", "this_host"]

BINFMT = "/proc/sys/fs/binfmt_misc"
_FALLS_BACK = 23
"""The Engine's major version that began to take what a machine runs besides its own platform."""

_CONTAINERD_BY_DEFAULT = 29
"""The Engine's major version whose new installations keep images in containerd."""


class Node(Value):
    """One machine. ``kind`` is where it is known from: ``swarm``, ``kubernetes``, ``file``, ``host``, ``platform``.

    ``engine`` is the id of a rule in :data:`~manyfest.coverage.rules.ENGINES`, empty where nobody says.
    ``engine`` is the id of a rule (:data:`~manyfest.coverage.rules.ENGINES`), empty where nobody says.
    ``labels`` is ``None`` where nobody knows them. Memory is in bytes; ``None`` means not told.
    """

    __slots__ = (  # noqa: RUF023 - the order in which people ask
        "name", "host", "kind", "engine", "emulates", "version", "state", "availability", "role", "labels",
        "engine_labels", "id", "cpus", "memory", "free_cpus", "free_memory", "taints",
    )  # fmt: skip
    name: str
    host: Host
    kind: str
    engine: str
    emulates: tuple[Platform, ...]
    version: str
    state: str
    availability: str
    role: str
    labels: tuple[tuple[str, str], ...] | None
    engine_labels: tuple[tuple[str, str], ...]
    id: str
    cpus: float | None
    memory: int | None
    free_cpus: float | None
    free_memory: int | None
    taints: tuple[str, ...]

    def __init__(
        self,
        name: str,
        host: Host,
        kind: str = "platform",
        engine: str = "",
        emulates: Iterable[Platform] = (),
        version: str = "",
        state: str = "",
        availability: str = "",
        role: str = "",
        labels: Iterable[tuple[str, str]] | None = None,
        engine_labels: Iterable[tuple[str, str]] = (),
        id: str = "",
        cpus: float | None = None,
        memory: int | None = None,
        free_cpus: float | None = None,
        free_memory: int | None = None,
        taints: Iterable[str] = (),
    ) -> None:
        self._set(
            name=name,
            host=host,
            kind=kind,
            engine=engine,
            emulates=tuple(emulates),
            version=version,
            state=state,
            availability=availability,
            role=role,
            labels=None if labels is None else tuple(labels),
            engine_labels=tuple(engine_labels),
            id=id,
            cpus=cpus,
            memory=memory,
            free_cpus=free_cpus,
            free_memory=free_memory,
            taints=tuple(taints),
        )

    @property
    def platform(self) -> Platform:
        """In Go's names, whatever the kernel calls it."""
        return normalise(self.host.platform)

    @property
    def is_up(self) -> bool:
        """Would a scheduler send it anything now?"""
        # A manager that has just started calls its nodes unknown until they tell, which takes seconds.
        return self.state in ("", "ready", "unknown") and self.availability in ("", "active")

    def runs(self, platform: Platform) -> str:
        """``native``, ``emulated``, ``unknown`` (nobody knows the processor's level) or ``no``."""
        given = normalise(platform)
        if Only(self.platform).matches(given):
            return "native"
        if given.os == self.platform.os and any(_same_kind(given, each) for each in self.emulates):
            return "emulated"
        same = (given.os, given.architecture) == (self.platform.os, self.platform.architecture)
        if same and not self.platform.variant and given.architecture != "arm":
            return "unknown"
        return "no"

    def to_json(self) -> dict[str, Any]:
        """The shape of ``docs/reference/json.md``."""
        return {
            "name": self.name,
            "platform": str(self.platform),
            "machine": self.host.machine,
            "kind": self.kind,
            "engine": self.engine or None,
            "version": self.version,
            "role": self.role,
            "state": self.state,
            "availability": self.availability,
            "emulates": [str(platform) for platform in self.emulates],
            "cpus": self.cpus,
            "memory": self.memory,
            "free_cpus": self.free_cpus,
            "free_memory": self.free_memory,
            "labels": None if self.labels is None else dict(self.labels),
            "taints": list(self.taints),
        }


def from_platforms(platforms: Iterable[Platform], engine: str = "") -> list[Node]:
    """A node for each platform, named after it."""
    return [Node(str(platform), Host(platform), "platform", engine) for platform in platforms]


def this_host(platform: Platform, engine: str = "", *, binfmt: str = BINFMT) -> Node:
    """This machine, whose emulators are the handlers registered in binfmt_misc."""
    machine = os.uname().machine if hasattr(os, "uname") else ""
    emulates = [each for each in handlers(binfmt) if not Only(platform).matches(each)]
    return Node("this machine", Host(platform, machine), "host", engine, emulates)


def handlers(folder: str = BINFMT) -> tuple[Platform, ...]:
    """The platforms whose programs the kernel hands to an interpreter that containers can use.

    An interpreter without the flag F is looked for inside the container, where it is not, and does not count.
    """
    from manyfest.emulate.binfmt import Binfmt
    from manyfest.emulate.programs import PLATFORMS, program

    table = Binfmt(folder)
    if table.state() != "ready":
        return ()
    known = table.handlers()
    found = []
    for platform in PLATFORMS:
        handler = table.winner(program(platform), known)
        if handler is not None and "F" in handler.flags:
            found.append(platform)
    return tuple(found)


def from_file(path: str) -> list[Node]:
    """The nodes of a YAML file, ``-`` for standard input. Raises :class:`InvalidSpec` with line and column."""
    file = "standard input" if path == "-" else path
    documents = load(read_file(path), file)
    if len(documents) != 1:
        raise InvalidSpec(f"{file}: {len(documents)} documents, expected one with a list of nodes")
    root = documents[0]
    listed = root["nodes"] if isinstance(root.value, dict) else root
    if not listed.is_there:
        root.refuse("a list of nodes, or a mapping with nodes:")
    nodes = [_node_of(item) for item in listed.items("a list of nodes")]
    _refuse_twins(nodes, file)
    return nodes


def from_kubectl(raw: bytes, file: str) -> list[Node]:
    """What ``kubectl get nodes -o json`` prints (or one node of it). Raises :class:`InvalidSpec`."""
    try:
        fields = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise InvalidSpec(
            f"{file}: not JSON: {error}", hint="make it with: kubectl get nodes -o json >nodes.json"
        ) from None
    if not isinstance(fields, dict):
        raise InvalidSpec(f"{file}: expected the JSON object of kubectl get nodes -o json")
    items = [fields] if fields.get("kind") == "Node" else fields.get("items")
    if not isinstance(items, list):
        raise InvalidSpec(
            f"{file}: a {fields.get('kind') or 'JSON object'} without nodes",
            hint="make it with: kubectl get nodes -o json >nodes.json",
        )
    return [_node_of_kubernetes(item, f"{file}: items[{at}]") for at, item in enumerate(items)]


def from_swarm(nodes: Sequence[Mapping[str, Any]], tasks: Sequence[Mapping[str, Any]] = ()) -> list[Node]:
    """What the Engine API says of a swarm: ``GET /nodes``, and ``GET /tasks`` for what is taken of each."""
    taken: dict[str, tuple[float, int]] = {}
    for task in tasks:
        if _at(task, "DesiredState") not in ("running", "ready") or not _at(task, "NodeID"):
            continue
        asked = _at(task, "Spec", "Resources", "Reservations") or {}
        cpus, memory = taken.get(task["NodeID"], (0.0, 0))
        taken[task["NodeID"]] = (
            cpus + int(asked.get("NanoCPUs") or 0) / 1e9,
            memory + int(asked.get("MemoryBytes") or 0),
        )
    return sorted((_node_of_swarm(node, taken) for node in nodes), key=lambda node: node.name)


def _node_of_swarm(node: Mapping[str, Any], taken: Mapping[str, tuple[float, int]]) -> Node:
    machine = str(_at(node, "Description", "Platform", "Architecture") or "")
    system = str(_at(node, "Description", "Platform", "OS") or "linux")
    version = str(_at(node, "Description", "Engine", "EngineVersion") or "")
    cpus = int(_at(node, "Description", "Resources", "NanoCPUs") or 0) / 1e9
    memory = int(_at(node, "Description", "Resources", "MemoryBytes") or 0)
    used = taken.get(str(node.get("ID")), (0.0, 0))
    role = str(_at(node, "Spec", "Role") or "")
    if _at(node, "ManagerStatus", "Leader"):
        role = "leader"
    return Node(
        str(_at(node, "Description", "Hostname") or node.get("ID") or "?"),
        _host_of(machine, system),
        "swarm",
        _docker_store(version),
        version=version,
        state=str(_at(node, "Status", "State") or ""),
        availability=str(_at(node, "Spec", "Availability") or ""),
        role=role,
        labels=_labels(_at(node, "Spec", "Labels")),
        engine_labels=_labels(_at(node, "Description", "Engine", "Labels")),
        id=str(node.get("ID") or ""),
        cpus=cpus or None,
        memory=memory or None,
        free_cpus=max(cpus - used[0], 0.0) if cpus else None,
        free_memory=max(memory - used[1], 0) if memory else None,
    )


def _host_of(machine: str, system: str) -> Host:
    try:
        return Host.of_machine(machine, system)
    except InvalidPlatform:
        # A kernel nobody here has a name for is still a node; images for its own word may run there.
        return Host(Platform(system, machine or "unknown"), machine)


def _docker_store(version: str) -> str:
    major = version.partition(".")[0]
    if not major.isdigit():
        return "docker"
    if int(major) < _FALLS_BACK:
        return "docker-20.10"
    return "docker-containerd" if int(major) >= _CONTAINERD_BY_DEFAULT else "docker"


def _node_of_kubernetes(item: Any, where: str) -> Node:
    info = _at(item, "status", "nodeInfo") or {}
    system, architecture = info.get("operatingSystem"), info.get("architecture")
    if not isinstance(system, str) or not isinstance(architecture, str):
        raise InvalidSpec(f"{where}: no status.nodeInfo with operatingSystem and architecture")
    labels = _labels(_at(item, "metadata", "labels"))
    build = dict(labels).get("node.kubernetes.io/windows-build", "") if system == "windows" else ""
    try:
        platform = Platform(system, architecture, os_version=build)
    except InvalidPlatform as error:
        raise InvalidSpec(f"{where}: {error}") from error
    runtime = str(info.get("containerRuntimeVersion") or "")
    ready = [c.get("status") for c in _at(item, "status", "conditions") or () if c.get("type") == "Ready"]
    taints = _at(item, "spec", "taints") or ()
    return Node(
        str(_at(item, "metadata", "name") or "?"),
        Host(platform),
        "kubernetes",
        {"cri-o": "podman", "docker": "docker"}.get(runtime.partition(":")[0], "containerd"),
        version=runtime,
        state="" if not ready else ("ready" if ready[0] == "True" else "not ready"),
        availability="cordoned" if _at(item, "spec", "unschedulable") else "active",
        role=",".join(
            key.rpartition("/")[2] for key, _ in labels if key.startswith("node-role.kubernetes.io/")
        ),
        labels=labels,
        cpus=_cpus(_at(item, "status", "allocatable", "cpu")),
        memory=_memory(_at(item, "status", "allocatable", "memory")),
        taints=[
            f"{t.get('key')}={t.get('value') or ''}:{t.get('effect')}" for t in taints if isinstance(t, dict)
        ],
    )


def _node_of(item: Marked) -> Node:
    if isinstance(item.value, str):
        platform = _platform(item)
        return Node(str(platform), Host(platform), "file")
    fields = item.mapping("a node: a mapping with name and platform")
    known = ("name", "platform", "emulates", "machine", "engine", "labels")
    for key, value in fields.items():
        if key not in known:
            raise InvalidSpec(f"{value.where}: unknown key {key!r}, expected one of {', '.join(known)}")
    if not item["platform"].is_there:
        raise InvalidSpec(f"{item.where}: a node without a platform", hint="platform: linux/arm64")
    platform = _platform(item["platform"])
    engine = item["engine"].text()
    if engine and engine not in ENGINES:
        item["engine"].refuse(f"one of {', '.join(ENGINES)}")
    labels = {key: value.text("text") for key, value in item["labels"].mapping().items()}
    return Node(
        item["name"].text("a name") or str(platform),
        Host(platform, item["machine"].text("a word of uname -m")),
        "file",
        engine,
        [_platform(each) for each in item["emulates"].items("a list of platforms")],
        labels=labels.items() if item["labels"].is_there else None,
    )


def _platform(item: Marked) -> Platform:
    try:
        return Platform.parse(item.text("a platform such as linux/arm64"))
    except InvalidPlatform as error:
        raise InvalidSpec(f"{item.where}: {item.path}: {error}", hint=error.hint) from error


def _refuse_twins(nodes: Sequence[Node], file: str) -> None:
    names: set[str] = set()
    for node in nodes:
        if node.name in names:
            raise InvalidSpec(f"{file}: two nodes are called {node.name!r}")
        names.add(node.name)
    if not nodes:
        raise InputError(f"{file}: no nodes in it")


def _same_kind(given: Platform, emulated: Platform) -> bool:
    """QEMU's user mode has the newest processor of an architecture, so variants of it do not matter."""
    return given.architecture == normalise(emulated).architecture


def _labels(value: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict):
        return ()
    return tuple(sorted((str(key), str(text)) for key, text in value.items()))


def _at(value: Any, *keys: str) -> Any:
    """What is under a path of keys; ``None`` as soon as something is missing."""
    for key in keys:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


_MEMORY_UNITS = {
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
}


def _memory(value: object) -> int | None:
    """A Kubernetes quantity in bytes."""
    text = str(value or "")
    for unit, size in _MEMORY_UNITS.items():
        if text.endswith(unit) and text[: -len(unit)].isdigit():
            return int(text[: -len(unit)]) * size
    return int(text) if text.isdigit() else None


def _cpus(value: object) -> float | None:
    text = str(value or "")
    if text.endswith("m") and text[:-1].isdigit():
        return int(text[:-1]) / 1000
    return float(text) if text.isdigit() else None
