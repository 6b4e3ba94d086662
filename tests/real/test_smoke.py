# SPDX-License-Identifier: Apache-2.0
"""Every platform of an image in Docker and Podman: natively and under Debian's QEMU."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from tests.real.parts import Host, Registry, need

from manyfest.emulate.images import layer_tar, program_image, write_image
from manyfest.emulate.programs import program
from manyfest.platforms import Platform
from manyfest.stores.layout import Layout

pytestmark = pytest.mark.real

DOCKER = "/usr/bin/docker"
PLATFORMS = ("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/ppc64le", "linux/s390x", "linux/riscv64")


@pytest.fixture
def ship(here: Host, engine: str) -> Host:
    """A home whose engine is ours, with an image for each platform."""
    here.env["DOCKER_HOST"] = engine
    with Layout.create(str(here.home / "images")) as layout:
        for name in PLATFORMS:
            platform = Platform.parse(name)
            layout.tag(program_image(layout, platform), platform.architecture)
        # What every laptop with an emulator hides: the image for arm64 holds a program for s390x.
        wrong = program_image(layout, Platform.parse("linux/s390x"), claims=Platform.parse("linux/arm64"))
        layout.tag(wrong, "wrong")
    return here


def test_six_platforms_from_a_registry(ship: Host, embedded: Registry) -> None:
    """One name; each prints its platform; the engine keeps nothing."""
    tags = [Platform.parse(name).architecture for name in PLATFORMS]
    target = f"{embedded.host}/smoke/app"
    for tag in tags:
        ship.manyfest("copy", "-q", f"oci:images:{tag}", f"{target}:{tag}")
    ship.manyfest("create", f"{target}:1", *(f"{target}:{tag}" for tag in tags), "--push")
    shown = ship.manyfest("smoke", f"{target}:1", "--expect", "{platform}", "--json").json
    assert [(r["platform"], r["ok"], r["exit_code"]) for r in shown["results"]] == [
        (name, True, 0) for name in PLATFORMS
    ]
    hows = {r["platform"]: r["how"] for r in shown["results"]}
    assert (hows["linux/amd64"], hows["linux/s390x"]) == ("native", "qemu-s390x")
    assert "manyfest-smoke" not in ship.run(DOCKER, "image", "ls").out
    assert ship.run(DOCKER, "ps", "--all", "--quiet").out == ""


def test_an_emulator_hides_nothing(ship: Host) -> None:
    """It runs, by the emulator of another architecture; what it prints and what is inside say so."""
    done = ship.manyfest("smoke", "oci:images:wrong", "--expect", "{platform}", ok=False)
    assert done.code == 1
    assert "printed 'linux/s390x', expected 'linux/arm64'" in done.out
    assert "/hello is for linux/s390x" in done.out


def test_a_command_that_is_not_there(ship: Host) -> None:
    """Arguments go to the entrypoint; the tiny program does not mind."""
    assert ship.manyfest("smoke", "oci:images:s390x", "--", "--whatever").code == 0


def endless(folder: Path) -> str:
    """An image for amd64 whose program only jumps to itself."""
    raw = bytearray(program(Platform.parse("linux/amd64")))
    raw[64 + 2 * 56 : 64 + 2 * 56 + 2] = b"\xeb\xfe"  # the first instruction: jmp to itself
    with Layout.create(str(folder / "endless")) as layout:
        layer = layer_tar({"loop": (bytes(raw), 0o755)})
        settings = {"Entrypoint": ["/loop"]}
        layout.tag(write_image(layout, Platform.parse("linux/amd64"), [layer], settings=settings), "1")
    return f"oci:{folder}/endless:1"


def test_what_does_not_end_is_ended(ship: Host) -> None:
    """After the time that was given, and nothing of it stays."""
    done = ship.manyfest("smoke", endless(ship.home), "--timeout", "2", "--json", ok=False)
    (result,) = done.json["results"]
    assert (result["ok"], result["timed_out"], result["exit_code"]) == (False, True, None)
    assert ship.run(DOCKER, "ps", "--all", "--quiet").out == ""


def test_interrupt_leaves_nothing(ship: Host) -> None:
    """SIGTERM while a container runs: killed, removed, its image too."""
    place = endless(ship.home)
    env = {
        **os.environ,
        **ship.env,
        "HOME": str(ship.home),
        "PYTHONPATH": str(Path(__file__).parents[2] / "src"),
    }
    with subprocess.Popen(
        [sys.executable, "-m", "manyfest", "smoke", place],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        deadline = time.monotonic() + 30
        while not ship.run(DOCKER, "ps", "--quiet").out:
            assert time.monotonic() < deadline
        process.terminate()
        _, errors = process.communicate(timeout=90)
    assert (process.returncode, errors) == (130, b"manyfest: interrupted\n")
    assert ship.run(DOCKER, "ps", "--all", "--quiet").out == ""
    assert "manyfest-smoke" not in ship.run(DOCKER, "image", "ls").out


def test_in_podman(ship: Host) -> None:
    """The same words, another engine, with a storage of its own."""
    need("podman")
    # Podman waits 20 seconds for a socket whose path is long.
    with tempfile.TemporaryDirectory(prefix="podman-") as folder:
        storage = ship.home / "storage.conf"
        storage.write_text(
            f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n'
        )
        ship.env["CONTAINERS_STORAGE_CONF"] = str(storage)
        for tag in ("amd64", "arm64"):
            words = ["smoke", f"oci:images:{tag}", "--engine", "podman", "--expect", "{platform}", "--json"]
            assert [result["ok"] for result in ship.manyfest(*words).json["results"]] == [True]
        assert ship.run("podman", "image", "ls", "--quiet").out == ""
