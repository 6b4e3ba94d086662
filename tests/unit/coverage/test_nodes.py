# SPDX-License-Identifier: Apache-2.0
"""Machines from every kind of description, and what they run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from manyfest.coverage.nodes import (
    Node,
    from_file,
    from_kubectl,
    from_platforms,
    from_swarm,
    handlers,
    this_host,
)
from manyfest.coverage.placement import LabelTerm, NodeSelector, SwarmConstraint
from manyfest.coverage.rules import Host
from manyfest.errors import InputError, InvalidSpec
from manyfest.platforms import Platform


def swarm_node(name: str, machine: str, **more: Any) -> dict[str, Any]:
    """As ``GET /nodes`` has it."""
    availability = more.get("availability", "active")
    return {
        "ID": f"id-{name}",
        "Spec": {"Role": more.get("role", "worker"), "Availability": availability, "Labels": {"z": "1"}},
        "Description": {
            "Hostname": name,
            "Platform": {"Architecture": machine, "OS": "linux"},
            "Engine": {"EngineVersion": more.get("version", "20.10.24"), "Labels": {"e": "2"}},
            "Resources": {"NanoCPUs": 2_000_000_000, "MemoryBytes": 4_000_000_000},
        },
        "Status": {"State": more.get("state", "ready"), "Addr": "10.0.0.1"},
        **({"ManagerStatus": {"Leader": True}} if more.get("leader") else {}),
    }  # fmt: skip


def test_a_swarm() -> None:
    """Kernel names beside Go's, room that is left, leader, engine."""
    task = {
        "NodeID": "id-b",
        "DesiredState": "running",
        "Spec": {"Resources": {"Reservations": {"NanoCPUs": 500_000_000, "MemoryBytes": 1_000_000_000}}},
    }
    gone = {**task, "DesiredState": "shutdown"}
    nodes = from_swarm(
        [swarm_node("b", "i686"), swarm_node("a", "x86_64", role="manager", leader=True, version="29.1.0")],
        [task, gone, {"NodeID": "id-b", "DesiredState": "running"}],
    )
    a, b = nodes
    assert (a.name, str(a.platform), a.host.machine, a.role, a.engine) == (
        "a",
        "linux/amd64",
        "x86_64",
        "leader",
        "docker-containerd",
    )
    assert (str(b.platform), b.host.machine, b.engine) == ("linux/386", "i686", "docker-20.10")
    assert (b.free_cpus, b.free_memory, a.free_cpus) == (1.5, 3_000_000_000, 2.0)
    assert dict(b.labels or ()) == {"z": "1"}
    assert dict(b.engine_labels) == {"e": "2"}


def test_a_machine_nobody_knows_is_still_a_node() -> None:
    """With the kernel's word as its architecture."""
    (node,) = from_swarm([swarm_node("x", "elbrus")])
    assert (str(node.platform), node.host.machine) == ("linux/elbrus", "elbrus")
    (empty,) = from_swarm([{"ID": "1"}])
    assert (empty.name, empty.host.machine) == ("1", "unknown")


@pytest.mark.parametrize(
    ("state", "availability", "up"),
    [
        ("ready", "active", True),
        ("down", "active", False),
        ("ready", "drain", False),
        ("ready", "pause", False),
    ],
)
def test_which_nodes_get_work(state: str, availability: str, up: bool) -> None:
    """Swarm's first filter."""
    (node,) = from_swarm([swarm_node("x", "x86_64", state=state, availability=availability)])
    assert node.is_up is up


KUBE = {
    "kind": "List",
    "items": [
        {
            "kind": "Node",
            "metadata": {"name": "n1", "labels": {"kubernetes.io/arch": "arm64", "node-role.kubernetes.io/worker": ""}},
            "spec": {"taints": [{"key": "arch", "value": "arm64", "effect": "NoSchedule"}], "unschedulable": True},
            "status": {
                "nodeInfo": {
                    "architecture": "arm64",
                    "operatingSystem": "linux",
                    "containerRuntimeVersion": "cri-o://1.30.1",
                },
                "allocatable": {"cpu": "1930m", "memory": "3952752Ki"},
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        },
        {
            "kind": "Node",
            "metadata": {"name": "w", "labels": {"node.kubernetes.io/windows-build": "10.0.20348"}},
            "spec": {},
            "status": {"nodeInfo": {"architecture": "amd64", "operatingSystem": "windows", "containerRuntimeVersion": "containerd://2.0"}},
        },
    ],
}  # fmt: skip


def test_kubectl() -> None:
    """Runtime, taints, cordon, Windows' build."""
    arm, windows = from_kubectl(json.dumps(KUBE).encode(), "nodes.json")
    assert (str(arm.platform), arm.engine, arm.availability, arm.role, arm.is_up) == (
        "linux/arm64",
        "podman",
        "cordoned",
        "worker",
        False,
    )
    assert (arm.cpus, arm.memory, arm.taints) == (1.93, 3952752 * 1024, ("arch=arm64:NoSchedule",))
    assert (windows.platform.os_version, windows.engine, windows.is_up) == ("10.0.20348", "containerd", True)
    assert len(from_kubectl(json.dumps(KUBE["items"][0]).encode(), "n")) == 1


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"NAME STATUS\n", "not JSON"),
        (b"[]", "expected the JSON object"),
        (b'{"kind": "Pod"}', "a Pod without nodes"),
        (b'{"items": [{"kind": "Pod"}]}', "items[0]: no status.nodeInfo"),
        (
            b'{"items": [{"status": {"nodeInfo": {"architecture": "a b", "operatingSystem": "linux"}}}]}',
            "items[0]:",
        ),
        (b"[" * 100000, "not JSON"),
    ],
)
def test_broken_kubectl_output(raw: bytes, message: str) -> None:
    """What it is instead, and which command makes it."""
    with pytest.raises(InvalidSpec) as caught:
        from_kubectl(raw, "nodes.json")
    assert message in str(caught.value)


def test_a_node_file(tmp_path: Path) -> None:
    """Mappings and bare platforms."""
    path = tmp_path / "nodes.yaml"
    path.write_text(
        "nodes:\n- {name: a, platform: linux/amd64/v3, emulates: [linux/arm64], engine: podman, labels: {x: 1}}\n"
        "- linux/s390x\n"
    )
    a, s390x = from_file(str(path))
    assert (a.name, str(a.platform), a.engine, a.labels) == ("a", "linux/amd64/v3", "podman", (("x", "1"),))
    assert (s390x.name, s390x.host.machine, s390x.labels) == ("linux/s390x", "s390x", None)
    path.write_text("[linux/arm64, linux/amd64]")
    assert [node.name for node in from_file(str(path))] == ["linux/arm64", "linux/amd64"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nodes:\n- {name: a}\n", ":2:3: a node without a platform"),
        ("nodes:\n- {platform: linux/}\n", ":2:14:"),
        ("nodes:\n- {platform: linux/arm64, arch: x}\n", "unknown key 'arch'"),
        ("nodes:\n- {platform: linux/arm64, engine: lxc}\n", "expected one of docker"),
        ("nodes: 1\n", "nodes is 1, expected a list"),
        ("a: 1\n", "expected a list of nodes"),
        ("- linux/arm64\n- linux/arm64\n", "two nodes are called"),
        ("---\n[a]\n---\n[b]\n", "2 documents"),
    ],
)
def test_broken_node_files(tmp_path: Path, text: str, message: str) -> None:
    """Line and column."""
    path = tmp_path / "n.yaml"
    path.write_text(text)
    with pytest.raises(InvalidSpec) as caught:
        from_file(str(path))
    assert message in str(caught.value)


def test_no_nodes(tmp_path: Path) -> None:
    """An empty list is a mistake."""
    (tmp_path / "n.yaml").write_text("nodes: []")
    with pytest.raises(InputError, match="no nodes"):
        from_file(str(tmp_path / "n.yaml"))


ARM64 = "enabled\ninterpreter /usr/bin/qemu\nflags: {flags}\noffset 0\nmagic 7f454c460201010000000000000000000200b700\nmask ffffffffffffff00fffffffffffffffffeffffff\n"  # noqa: E501


def test_registered_emulators(tmp_path: Path) -> None:
    """Enabled, with the flag F; everything else does not count."""
    assert handlers(str(tmp_path / "none")) == ()
    (tmp_path / "status").write_text("enabled\n")
    (tmp_path / "register").write_text("")
    (tmp_path / "qemu-aarch64").write_text(ARM64.format(flags="OCF"))
    assert [str(p) for p in handlers(str(tmp_path))] == ["linux/arm64"]
    node = this_host(Platform.parse("linux/amd64"), binfmt=str(tmp_path))
    assert node.runs(Platform.parse("linux/arm64")) == "emulated"
    own = this_host(Platform.parse("linux/arm64"), binfmt=str(tmp_path))
    assert own.emulates == ()
    for text in (ARM64.format(flags="OC"), ARM64.format(flags="F").replace("enabled", "disabled")):
        (tmp_path / "qemu-aarch64").write_text(text)
        assert handlers(str(tmp_path)) == ()
    (tmp_path / "qemu-aarch64").write_text(ARM64.format(flags="F"))
    (tmp_path / "status").write_text("disabled\n")
    assert handlers(str(tmp_path)) == ()


@pytest.mark.parametrize(
    ("machine", "image", "expected"),
    [
        ("linux/amd64", "linux/amd64", "native"),
        ("linux/amd64", "linux/386", "native"),
        ("linux/amd64", "linux/amd64/v3", "unknown"),
        ("linux/amd64/v2", "linux/amd64/v3", "no"),
        ("linux/amd64", "linux/arm64", "emulated"),
        ("linux/amd64", "linux/arm/v7", "no"),
        ("linux/amd64", "windows/arm64", "no"),
        ("linux/arm64", "linux/arm/v7", "native"),
        ("linux/arm/v6", "linux/arm/v7", "no"),
        ("linux/s390x", "linux/amd64", "no"),
    ],
)
def test_what_a_node_runs(machine: str, image: str, expected: str) -> None:
    """By its processor, or its emulators."""
    node = Node("n", Host(Platform.parse(machine)), emulates=[Platform.parse("linux/arm64")])
    assert node.runs(Platform.parse(image)) == expected


# Where things may go ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("constraint", "allowed"),
    [
        ("node.platform.arch == x86_64", True),
        ("node.platform.arch==X86_64", True),
        ("node.platform.arch == amd64", False),
        ("node.platform.arch != aarch64", True),
        ("node.platform.os == linux", True),
        ("node.role == manager", True),
        ("node.hostname == a", True),
        ("node.id != id-a", False),
        ("node.labels.z == 1", True),
        ("node.labels.Z == 1", False),
        ("engine.labels.e == 2", True),
        ("node.ip == 10.0.0.1", True),
    ],
)
def test_swarm_constraints(constraint: str, allowed: bool) -> None:
    """As swarmkit compares; what nobody knows restricts nothing."""
    (node,) = from_swarm([swarm_node("a", "x86_64", role="manager", leader=True)])
    assert SwarmConstraint.parse(constraint).allows(node) is allowed


@pytest.mark.parametrize("text", ["node.role", "node.role == ", "== x", "node.role > x"])
def test_broken_constraints(text: str) -> None:
    """As Swarm refuses them."""
    with pytest.raises(InvalidSpec, match="expected a constraint such as"):
        SwarmConstraint.parse(text)


@pytest.mark.parametrize(
    ("key", "operator", "values", "holds"),
    [
        ("kubernetes.io/arch", "In", ("arm64", "amd64"), True),
        ("kubernetes.io/arch", "NotIn", ("arm64",), False),
        ("beta.kubernetes.io/os", "In", ("linux",), True),
        ("zone", "Exists", (), True),
        ("zone", "DoesNotExist", (), False),
        ("none", "DoesNotExist", (), True),
        ("none", "NotIn", ("x",), True),
        ("none", "In", ("x",), False),
        ("n", "Gt", ("4",), True),
        ("n", "Lt", ("4",), False),
        ("zone", "Gt", ("4",), False),
        ("n", "Gt", (), False),
        ("kubernetes.io/hostname", "In", ("h",), True),
    ],
)
def test_label_terms(key: str, operator: str, values: tuple[str, ...], holds: bool) -> None:
    """As Kubernetes compares."""
    node = Node("h", Host(Platform.parse("linux/arm64")), "kubernetes", labels=[("zone", "b"), ("n", "5")])
    assert LabelTerm(key, operator, values).holds(node) is holds


def test_selectors() -> None:
    """One term must hold, an empty one never does; unknown labels restrict nothing."""
    (node,) = from_platforms([Platform.parse("linux/arm64")])
    arm, amd = (LabelTerm("kubernetes.io/arch", "In", (name,)) for name in ("arm64", "amd64"))
    assert NodeSelector("x", [[amd], [arm]]).allows(node)
    assert not NodeSelector("x", [[amd, arm]]).allows(node)
    assert not NodeSelector("x", [[]]).allows(node)
    assert NodeSelector("x", [[LabelTerm("gpu", "In", ("yes",))]]).allows(node)
