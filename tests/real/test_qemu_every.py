# SPDX-License-Identifier: Apache-2.0
"""A machine of every kind: ``make test-machines``, for they take minutes. ``make test`` has arm64 alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.real.parts import Host, Registry, need
from tools.mixed_swarm import cache_folder

from manyfest.emulate.images import PROGRAM_PATH, program_image
from manyfest.emulate.machine.kinds import KINDS, Kind
from manyfest.stores.layout import Layout

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.machines]

MACHINES = {"386": ("i686", "x86_64"), "arm": ("armv7l",), "amd64": ("x86_64",), "arm64": ("aarch64",)}
MEMORY = 1_500_000_000
"""Bytes that QEMU may have taken when the engine answers."""


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.debian)
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


def resident(pid: int) -> int:
    """Bytes of memory that a process has."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS:"))) * 1024
