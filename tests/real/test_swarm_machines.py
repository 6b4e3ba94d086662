# SPDX-License-Identifier: Apache-2.0
"""A swarm of four architectures: two native nodes, and whole machines of arm64 and s390x. ``make test-machines``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.real.parts import Host, free_port, need
from tests.real.swarm import (
    PORT,
    MixedSwarm,
    build_servers,
    is_answering,
    running,
    try_to_ask,
    until,
)
from tests.real.test_dashboard import browse, kept
from tests.real.test_dashboard_swarm import dashboard
from tools.mixed_swarm import cache_folder

from manyfest.emulate.machine import machines

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.machines]

ALL = ("linux/amd64", "linux/386", "linux/arm64", "linux/s390x")
JOINING = {"pi": ("arm64", 11), "z": ("s390x", 12)}
PATIENCE_S = 600
"""Two machines take a minute of two processors, and whatever else runs here makes that longer."""


@pytest.fixture
def four(ship: Host, mixed: MixedSwarm, monkeypatch: pytest.MonkeyPatch) -> Iterator[MixedSwarm]:
    """The mixed swarm, and two machines on its bridge that have joined it."""
    for program, package in (
        ("qemu-system-aarch64", "qemu-system-arm"),
        ("qemu-system-s390x", "qemu-system-misc"),
    ):
        need(program, package=package)
    ship.env |= {"MANYFEST_CACHE": str(cache_folder() / "manyfest"), "MANYFEST_DATA": str(ship.home / "d")}
    monkeypatch.setenv("MANYFEST_DATA", ship.env["MANYFEST_DATA"])
    network = mixed.x86.address.rpartition(".")[0]
    port = int(mixed.registry.rpartition(":")[2])
    ship.env["SWARM_TOKEN"] = mixed.x86.docker("swarm", "join-token", "-q", "worker")

    def add(name: str, architecture: str, number: int) -> None:
        place = ("--bridge", mixed.bridge, "--address", f"{network}.{number}/24")
        ship.manyfest("machine", "create", name, "--arch", architecture, *place, timeout=900)
        limit = ("--timeout", str(PATIENCE_S))
        joining = ("--join-swarm", mixed.x86.address)
        ship.manyfest("machine", "start", name, *joining, *limit, timeout=PATIENCE_S + 150)
        machines.connect(name).bring(port)

    try:
        with ThreadPoolExecutor() as pool:
            added = [pool.submit(add, name, *kind) for name, kind in JOINING.items()]
            mixed.programs |= build_servers(ALL)
        for each in added:
            each.result()
        yield mixed
    finally:
        for name in JOINING:
            ship.manyfest("machine", "rm", name, "--force", ok=False)


def test_one_name_on_four_architectures(ship: Host, four: MixedSwarm, tmp_path: Path) -> None:
    """Deployed on every node, one address in front of them, and each answers; a picture of it."""
    image, port = f"{four.registry}/four:1", free_port()
    ship.manyfest("copy", four.layout("four", ALL), image)
    told = ship.manyfest("nodes", "--json").json["nodes"]
    assert sorted(node["platform"] for node in told) == sorted(ALL)
    done = ship.manyfest(
        *("deploy", "web", image, "-p", f"{PORT}:8080", "--publish-mode", "host", "--json"),
        *("--timeout", str(PATIENCE_S)),
        timeout=PATIENCE_S + 60,
    )
    assert (done.json["running"], done.json["expected"]) == (4, 4)
    with running(ship, "balance", "web", "--listen", f"127.0.0.1:{port}", "--run", "--interval", "0.5"):
        until(lambda: is_answering(port), "nginx")
        # An emulated node that is slow once is passed over, and asked again.
        evenly = {"amd64": 5, "386": 5, "arm64": 5, "s390x": 5}
        until(lambda: Counter(try_to_ask(port) for _ in range(20)) == evenly, "each to answer as often")
        with dashboard(ship, [image, "--swarm", "--probe", f"http://127.0.0.1:{port}/"]) as url:
            until(lambda: "4 of 4 running" in browse(tmp_path, url, "--dump-dom"), "the whole picture")
            browse(tmp_path, url, f"--screenshot={kept('dashboard-machines')}", "--window-size=1400,1000")
        ship.manyfest("machine", "stop", "z")
        until(
            lambda: {try_to_ask(port) for _ in range(9)} == {"amd64", "386", "arm64"},
            "the machine to leave",
        )
