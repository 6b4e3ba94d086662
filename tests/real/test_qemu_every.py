# SPDX-License-Identifier: Apache-2.0
"""A machine of every kind. ``make test`` has s390x (and arm64 beside this file), ``make test-machines`` all others."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.real.parts import Host, Registry, need
from tools.mixed_swarm import cache_folder, free_network, wait_until

from manyfest.emulate.images import PROGRAM_PATH, program_image
from manyfest.emulate.machine.kinds import KINDS, Kind
from manyfest.stores.layout import Layout

pytestmark = [pytest.mark.real, pytest.mark.slow]

DOCKER = "/usr/bin/docker"
MACHINES = {"386": ("i686", "x86_64"), "arm": ("armv7l",), "amd64": ("x86_64",), "arm64": ("aarch64",)}
MEMORY = 1_500_000_000
"""Bytes that QEMU may have taken when the engine answers."""


# s390x is the farthest from other machines: big-endian, and without PCI.
CASES = [
    pytest.param(kind, marks=() if kind.debian == "s390x" else (pytest.mark.machines,), id=kind.debian)
    for kind in KINDS
]


@pytest.mark.parametrize("kind", CASES)
def test_a_build_in_each(kind: Kind, tmp_path_factory: pytest.TempPathFactory, plain: Registry) -> None:
    """Made, started, a RUN carried out in it, its image run in it, stopped by itself."""
    need(f"qemu-system-{kind.qemu}", package=kind.packages)
    home = tmp_path_factory.mktemp("m")
    (home / "run").mkdir(mode=0o700)
    (home / "docker").mkdir()
    host = Host(home, {
        "MANYFEST_CACHE": str(cache_folder() / "manyfest"),
        "MANYFEST_DATA": str(home / "d"),
        "DOCKER_CONFIG": str(home / "docker"),
    })  # fmt: skip
    name, platform = f"{plain.host}/every/{kind.debian}", str(kind.platform)
    with Layout.create(str(home / "base")) as layout:
        layout.tag(program_image(layout, kind.platform), "1")
    host.manyfest("copy", "-q", "oci:base:1", f"{name}:base")
    (home / "project").mkdir()
    (home / "project" / "Dockerfile").write_text(
        f'FROM {name}:base\nRUN ["{PROGRAM_PATH}"]\nENTRYPOINT ["{PROGRAM_PATH}"]\n'
    )
    host.manyfest("machine", "create", "m", "--arch", kind.debian, "--emulate", timeout=600)
    try:
        host.manyfest("machine", "start", "m", timeout=400)
        pid = int((home / "d/machines/m/qemu.pid").read_text())
        assert resident(pid) < MEMORY
        machine = host.manyfest("machine", "ssh", "m", "--", "uname", "-m").out.strip()
        assert machine in MACHINES.get(kind.platform.architecture, (kind.platform.architecture,))

        node = ("--node", f"{platform}=machine:m")
        host.manyfest("build", "project", "-t", f"{name}:1", "--platform", platform, *node, timeout=400)
        ran = host.manyfest("smoke", f"{name}:1", *node, "--json", timeout=200).json["results"]
        assert [(result["platform"], result["ok"]) for result in ran] == [(platform, True)], json.dumps(ran)
        assert kind.platform.architecture in ran[0]["output"]

        assert host.manyfest("machine", "stop", "m").err.splitlines() == ["m: stopping"]
    finally:
        host.manyfest("machine", "rm", "m", "--force")


@pytest.fixture
def bridge() -> Iterator[tuple[str, str]]:
    """A bridge of this machine, and the first three numbers of its network."""
    if os.geteuid() != 0:
        pytest.skip("bridges need root")
    need("ip", package="iproute2")
    name, network = f"mfq{os.getpid()}"[:15], free_network()
    subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True)
    try:
        subprocess.run(["ip", "addr", "add", f"{network}.254/24", "dev", name], check=True)
        subprocess.run(["ip", "link", "set", name, "up"], check=True)
        yield name, network
    finally:
        subprocess.run(["ip", "link", "del", name], check=True)


@pytest.mark.machines
def test_two_machines_form_a_swarm(bridge: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> None:
    """arm64 manages, s390x joins, and is in the swarm again after a stop."""
    name, network = bridge
    home = tmp_path_factory.mktemp("m")
    (home / "run").mkdir(mode=0o700)
    host = Host(home, {"MANYFEST_CACHE": str(cache_folder() / "manyfest"), "MANYFEST_DATA": str(home / "d")})
    kinds = {"boss": "arm64", "big": "s390x"}
    try:
        for at, (machine, kind) in enumerate(kinds.items(), 1):
            place = ("--bridge", name, "--address", f"{network}.{at}/24")
            host.manyfest("machine", "create", machine, "--arch", kind, *place, timeout=600)
        boss = host.manyfest("machine", "start", "boss", "--json", timeout=400).json["engine"]
        host.run(DOCKER, "-H", boss, "swarm", "init", "--advertise-addr", f"{network}.1")
        host.env["SWARM_TOKEN"] = host.run(
            DOCKER, "-H", boss, "swarm", "join-token", "-q", "worker"
        ).out.strip()
        for told in ("joined the swarm", "is in a swarm already"):
            done = host.manyfest("machine", "start", "big", "--join-swarm", f"{network}.1", timeout=400)
            assert f"big: {told}" in done.err
            wait_until(
                lambda: ready(host, boss) == ["big Ready", "boss Ready"], "both nodes to be ready", 180
            )
            host.env["DOCKER_HOST"] = boss
            nodes = host.manyfest("nodes", "--json").json["nodes"]
            assert sorted(node["platform"] for node in nodes) == ["linux/arm64", "linux/s390x"]
            host.manyfest("machine", "stop", "big")
    finally:
        for machine in kinds:
            host.manyfest("machine", "rm", machine, "--force", ok=False)
    assert not Path(f"/sys/class/net/{name}/brif").exists() or not os.listdir(f"/sys/class/net/{name}/brif")


def ready(host: Host, boss: str) -> list[str]:
    """The swarm's nodes and whether they are there."""
    told = host.run(DOCKER, "-H", boss, "node", "ls", "--format", "{{.Hostname}} {{.Status}}").out
    return sorted(told.splitlines())


def resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS:"))) * 1024
