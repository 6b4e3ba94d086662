# SPDX-License-Identifier: Apache-2.0
"""A full arm64 machine: made of Debian's packages, started, asked, stopped, and started again with what it had."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.real.building import rootfs
from tests.real.parts import Host, Registry, need
from tools.mixed_swarm import cache_folder

from manyfest.emulate.images import write_image
from manyfest.platforms import Platform
from manyfest.stores.layout import Layout

pytestmark = [pytest.mark.real, pytest.mark.slow]

DOCKER = "/usr/bin/docker"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A home with a running machine called ``pi``."""
    for program, package in (
        ("qemu-system-aarch64", "qemu-system-arm"),
        ("depmod", "kmod"),
        ("mke2fs", "e2fsprogs"),
    ):
        need(program, package=package)
    home = tmp_path_factory.mktemp("m")
    (home / "run").mkdir(mode=0o700)
    env = {
        "MANYFEST_CACHE": str(cache_folder() / "manyfest"),
        "MANYFEST_DATA": str(home / "d"),
        "DOCKER_CONFIG": str(home / "docker"),
    }
    made = Host(home, env)
    made.manyfest("machine", "create", "pi", "--arch", "arm64", timeout=600)
    try:
        made.manyfest("machine", "start", "pi", "--context", timeout=400)
        yield made
    finally:
        made.manyfest("machine", "rm", "pi", "--force")
    assert [path.name for path in (home / "d" / "machines").iterdir()] == [".lock"]


def lives(pid: int) -> bool:
    """It may be a zombie where the first process buries nobody, as in some containers."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def listeners(pid: int) -> list[str]:
    """Addresses at which a process takes TCP connections."""
    told = subprocess.run(["ss", "-Hltnp"], check=True, capture_output=True, text=True).stdout
    return [line.split()[3] for line in told.splitlines() if f"pid={pid}," in line]


def test_the_life_of_a_machine(host: Host) -> None:
    folder = host.home / "d" / "machines" / "pi"
    machine = host.manyfest("machine", "list", "pi", "--json").json["machines"][0]
    assert (machine["name"], machine["platform"], machine["state"]) == ("pi", "linux/arm64", "running")
    assert machine["engine"] == f"unix://{folder}/docker.sock"

    # Its engine is reached through a socket of ours alone, and nothing but ssh listens, on the loopback.
    for name in ("docker.sock", "id", "host_key"):
        assert stat.S_IMODE(os.stat(folder / name).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    pid = int((folder / "qemu.pid").read_text())
    assert listeners(pid) == [f"127.0.0.1:{machine['ssh_port']}"]

    template = "{{.Server.Os}}/{{.Server.Arch}}"
    asked = host.run(DOCKER, "-H", machine["engine"], "version", "--format", template)
    assert asked.out.strip() == "linux/arm64"
    by_context = host.run(DOCKER, "--context", "manyfest-pi", "version", "--format", template)
    assert by_context.out == asked.out
    assert host.manyfest("machine", "ssh", "pi", "--", "uname", "-m").out == "aarch64\n"
    assert host.manyfest("machine", "ssh", "pi", "--", "exit 7", ok=False).code == 7

    # Nothing inside may begin to talk to this machine's loopback, which QEMU's gateway leads to.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        command = f"nc -w 3 10.0.2.2 {port} </dev/null; echo $?"
        assert host.manyfest("machine", "ssh", "pi", "--", command).out == "1\n"
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()

    # Suspended, it goes on in the middle of what it did, with the right time.
    host.manyfest("machine", "ssh", "pi", "--", "(sleep 600 & echo $! >/run/sleeper) >/dev/null 2>&1")
    began = host.manyfest("machine", "ssh", "pi", "--", "cat /proc/sys/kernel/random/boot_id").out
    assert host.manyfest("machine", "stop", "pi", "--suspend").out == "pi: suspended\n"
    assert host.manyfest("machine", "list", "--json").json["machines"][0]["state"] == "suspended"
    resumed = host.manyfest("machine", "start", "pi", timeout=120)
    assert "resuming" in resumed.err
    told = host.manyfest(
        "machine",
        "ssh",
        "pi",
        "--",
        "cat /proc/sys/kernel/random/boot_id; date +%s; kill $(cat /run/sleeper) && echo slept",
    ).out.split()
    assert (told[0], told[2]) == (began.strip(), "slept")
    assert abs(int(told[1]) - time.time()) < 30
    pid = int((folder / "qemu.pid").read_text())

    refused = host.manyfest("machine", "rm", "pi", ok=False)
    assert (refused.code, "is running" in refused.err) == (1, True)
    taken = host.manyfest("machine", "create", "pi", "--arch", "arm64", ok=False)
    assert (taken.code, "already" in taken.err) == (3, True)

    # Twice is no harm; what was written stays.
    host.manyfest("machine", "start", "pi", timeout=60)
    assert host.manyfest("machine", "stop", "pi").out == "pi: stopped\n"
    assert "reboot: Power down" in (folder / "console.log").read_text()
    assert not lives(pid)
    stopped = host.manyfest("machine", "list", "--json").json["machines"]
    assert [(each["state"], each["engine"]) for each in stopped] == [("stopped", None)]
    assert host.manyfest("machine", "ssh", "pi", ok=False).code == 3


def test_building_in_a_machine(host: Host, plain: Registry) -> None:
    """Its base comes from a registry on this machine's loopback; the machine is started for it, with what it had."""
    host.manyfest("machine", "start", "pi", timeout=400)
    host.manyfest("machine", "ssh", "pi", "--", "echo kept >/root/note")
    host.manyfest("machine", "stop", "pi")
    name, project = f"{plain.host}/machines/base", host.home / "project"
    with Layout.create(str(host.home / "base")) as layout:
        layout.tag(write_image(layout, Platform.parse("linux/arm64"), [rootfs("arm64")], settings={}), "1")
    host.manyfest("copy", "-q", "oci:base:1", f"{name}:1")
    project.mkdir()
    (project / "data").write_text("from the project\n")
    (project / "Dockerfile").write_text(
        "ARG BASE\nFROM $BASE\nCOPY data /data\n"
        'RUN ["/bin/busybox", "sh", "-c", "busybox uname -mr >/kernel; cat /proc/version >>/kernel"]\n'
        'CMD ["/bin/cat", "/kernel", "/data"]\n'
    )
    words = [
        "-t",
        f"{plain.host}/machines/app:1",
        "--platform",
        "linux/arm64",
        "--build-arg",
        f"BASE={name}:1",
    ]
    words += ["--node", "linux/arm64=machine:pi"]
    planned = host.manyfest("build", "project", *words, "--dry-run")
    assert "docker at machine:pi, native" in planned.out
    assert host.manyfest("machine", "list", "--json").json["machines"][0]["state"] == "stopped"

    built = host.manyfest("build", "project", *words, "--network", "none", timeout=400)
    assert "starting the machine pi; manyfest machine stop pi ends it" in built.err
    index = host.manyfest("inspect", f"{plain.host}/machines/app:1", "--json").json
    assert [entry["platform"] for entry in index["platforms"]] == ["linux/arm64"]
    assert host.manyfest("machine", "ssh", "pi", "--", "cat", "/root/note").out == "kept\n"
    assert "manyfest-build" not in host.run(DOCKER, "--context", "manyfest-pi", "image", "ls", "--all").out

    ran = host.manyfest("smoke", f"{plain.host}/machines/app:1", *words[-2:], "--json", timeout=200).json[
        "results"
    ]
    assert [result["ok"] for result in ran] == [True]
    kernel, version, data = ran[0]["output"].splitlines()
    assert (kernel.split()[1], data) == ("aarch64", "from the project")
    assert kernel.split()[0] != os.uname().release
    assert "Debian" in version
