# SPDX-License-Identifier: Apache-2.0
"""Swarm's own scheduler beside our rule for it: what is written down for a list, and whether the node takes it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest
from tests.real.parts import Host, Registry, free_port, need

from manyfest.coverage.rules import ENGINES, BuildKit, Containerd, DockerClassic, Podman, Swarm
from manyfest.coverage.rules import Host as Machine
from manyfest.indexes.listing import Listing, list_images
from manyfest.platforms import Platform, normalise
from manyfest.stores.layout import Layout
from manyfest.stores.memory import Memory
from manyfest.testing.images import make_image, make_index

pytestmark = [pytest.mark.real, pytest.mark.slow]

DOCKER = "/usr/bin/docker"
RULE = Swarm(DockerClassic())

# name, platforms of the list (a single one without a list when it ends in "!")
IMAGES: dict[str, tuple[str, ...]] = {
    "own": ("linux/amd64",),
    "foreign": ("linux/s390x", "linux/arm64"),
    "arm": ("linux/arm/v6", "linux/arm/v7"),
    "foreign-and-arm": ("linux/s390x", "linux/arm/v7"),
    "i386": ("linux/386",),
    "levels": ("linux/amd64", "linux/amd64/v3"),
    "single-own": ("linux/amd64!",),
    "single-foreign": ("linux/arm64!",),
    "single-arm": ("linux/arm/v7!",),
}


@pytest.fixture
def swarm(here: Host, engine: str) -> Iterator[Host]:
    """A swarm of one node, left at the end."""
    here.env["DOCKER_HOST"] = engine
    address = "127.0.0.1"
    here.run(
        DOCKER, "swarm", "init", "--advertise-addr", address, "--listen-addr", f"{address}:{free_port()}"
    )  # fmt: skip
    try:
        yield here
    finally:
        here.run(DOCKER, "swarm", "leave", "--force")


def push(here: Host, registry: Registry, name: str) -> tuple[str, Listing]:
    """An image in the registry, and what our code reads of it."""
    memory = Memory()
    platforms = IMAGES[name]
    single = platforms[0].endswith("!")
    document = (
        make_image(memory, platforms[0].rstrip("!"), docker=True, tag="1")
        if single
        else make_index(memory, platforms, docker=True, tag="1")
    )
    from manyfest.stores.copy import copy
    from manyfest.stores.places import Place, open_store
    from manyfest.stores.registry.session import Session
    from manyfest.stores.registry.settings import Settings

    target = f"{registry.host}/swarm/{name}:1"
    with Session(Settings()) as session, open_store(Place.parse(target), session) as store:
        copy(memory, document, store, ["1"])
    return target, list_images(memory, document)


def task_of(here: Host, service: str) -> dict[str, Any]:
    """The newest task of a service, once the scheduler has looked at it."""
    deadline = time.monotonic() + 20
    while True:
        ids = here.run(DOCKER, "service", "ps", "-q", "--no-trunc", service).out.split()
        tasks = here.run(DOCKER, "inspect", *ids).json if ids else []
        for task in tasks:
            found: dict[str, Any] = task
            if found.get("NodeID") or "platform" in found["Status"].get("Err", ""):
                return found
        assert time.monotonic() < deadline, f"{service} was not scheduled: {tasks}"
        time.sleep(0.1)


def test_the_scheduler_does_what_our_rule_says(swarm: Host, plain: Registry) -> None:
    """The platforms that the client writes down are ours, and the node is taken exactly when ours says so."""
    machine = Machine.of_machine(os.uname().machine)
    if machine.machine != "x86_64":
        pytest.skip("the table is for an x86_64 machine")
    listings = {}
    for name in IMAGES:
        target, listings[name] = push(swarm, plain, name)
        create = ("service", "create", "--detach", "--replicas", "1", "--restart-condition", "none")
        swarm.run(DOCKER, *create, "--name", name, target)
    for name, listing in listings.items():
        spec = swarm.run(DOCKER, "service", "inspect", name).json[0]["Spec"]["TaskTemplate"]
        written = [(p["OS"], p.get("Architecture", "")) for p in spec["Placement"]["Platforms"]]
        assert set(written) == set(RULE.placement(listing)), name
        task = task_of(swarm, name)
        admitted = bool(task.get("NodeID"))
        assert admitted is RULE.admits(machine, RULE.placement(listing)), (name, task["Status"])
        if not admitted:
            assert "unsupported platform on 1 node" in task["Status"]["Err"]


def test_check_and_nodes_ask_the_swarm(swarm: Host, plain: Registry) -> None:
    """The command against the same cluster."""
    name, _ = push(swarm, plain, "foreign-and-arm")
    (node,) = swarm.manyfest("nodes", "--json").json["nodes"]
    told = swarm.run(DOCKER, "node", "inspect", "self").json[0]
    assert node["machine"] == told["Description"]["Platform"]["Architecture"]
    assert (node["role"], node["state"], node["availability"]) == ("leader", "ready", "active")
    assert node["free_memory"] == node["memory"] == told["Description"]["Resources"]["MemoryBytes"]
    shown = swarm.manyfest("check", name, "--swarm", "--json", ok=False)
    assert shown.code == 1
    (cell,) = shown.json["images"][0]["cells"]
    assert (cell["state"], cell["rule"]) == ("fails", "swarm")
    assert "Swarm sends it there" in cell["reason"]


def test_what_the_engine_pulls(here: Host, engine: str, plain: Registry) -> None:
    """The classic store's rule beside the engine itself: levels, 386, an arm list that does not fit."""
    here.env["DOCKER_HOST"] = engine
    machine = Machine.of_machine(os.uname().machine)
    version = here.run(DOCKER, "version", "--format", "{{.Server.Version}}").out
    rule = ENGINES["docker-20.10" if int(version.partition(".")[0]) < 23 else "docker"]()
    for name in ("own", "i386", "foreign", "levels", "single-foreign"):
        target, listing = push(here, plain, name)
        choice = rule.choose(machine, listing)
        pulled = here.run(DOCKER, "pull", target, ok=False)
        assert (pulled.code == 0) is (choice.entry is not None), (name, pulled)
        if choice.entry is None:
            continue
        image = here.run(DOCKER, "image", "inspect", target).json[0]
        assert choice.platform is not None
        assert image["Architecture"] == choice.platform.architecture, name
        here.run(DOCKER, "rmi", "-f", target)


def test_what_podman_and_skopeo_take(here: Host, plain: Registry) -> None:
    """The exact words of containers/image beside skopeo itself."""
    need("skopeo")
    cases = [
        ("arm", "linux/arm/v6"),
        ("arm", "linux/arm/v7"),
        ("arm", "linux/arm/v5"),
        ("arm", "linux/arm"),
        ("arm", "linux/arm64"),
        ("foreign", "linux/arm64"),
        ("foreign", "linux/arm64/v8"),
        ("i386", "linux/amd64"),
        ("levels", "linux/amd64/v3"),
        ("levels", "linux/amd64/v2"),
    ]
    pushed = {name: push(here, plain, name) for name in {name for name, _ in cases}}
    for name, asked in cases:
        target, listing = pushed[name]
        platform = Platform.parse(asked)
        words = ["--override-os", "linux", "--override-arch", platform.architecture]
        words += ["--override-variant", platform.variant] if platform.variant else []
        done = here.run("skopeo", *words, "inspect", "--tls-verify=false", f"docker://{target}", ok=False)
        choice = Podman().choose(Machine.of_machine("x86_64"), listing, platform)
        assert (done.code == 0) is (choice.entry is not None), (name, asked, done)
        if choice.entry is not None:
            assert choice.platform is not None
            assert json.loads(done.out)["Architecture"] == choice.platform.architecture


def test_emulators_of_this_machine(here: Host, emulators: None) -> None:
    """What the kernel has registered is what a node offers; and an image runs emulated when it is asked for."""
    (node,) = here.manyfest("nodes", "--host", "--json").json["nodes"]
    foreign = {"linux/arm64", "linux/s390x", "linux/riscv64"} - {node["platform"]}
    assert foreign <= set(node["emulates"])
    folder = here.home / "layout"
    with Layout.create(str(folder)) as store:
        make_image(store, "linux/s390x", tag="1")
    shown = here.manyfest("check", f"oci:{folder}:1", "--host", "--json").json
    assert [cell["state"] for cell in shown["images"][0]["cells"]] == ["emulated"]
    assert here.manyfest("check", f"oci:{folder}:1", "--host", "--native", ok=False).code == 1


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("arm", "linux/arm64"),
        ("arm", "linux/arm/v6"),
        ("i386", "linux/amd64"),
        ("own", "linux/s390x"),
        ("levels", ""),
    ],
)
def test_what_buildkit_takes(here: Host, engine: str, plain: Registry, name: str, asked: str) -> None:
    """FROM with and without a platform, beside the BuildKit in the engine."""
    here.env |= {"DOCKER_HOST": engine, "DOCKER_BUILDKIT": "1"}
    target, listing = push(here, plain, name)
    option = f"--platform={asked} " if asked else ""
    (here.home / "Dockerfile").write_text(f"FROM {option}{target}\nLABEL a={name}-{asked}\n")
    built = here.run(DOCKER, "build", "-q", "-t", "manyfest-from:1", str(here.home), ok=False)
    platform = Platform.parse(asked) if asked else None
    choice = BuildKit().choose(Machine.of_machine(os.uname().machine), listing, platform)
    assert (built.code == 0) is (choice.entry is not None), built
    if choice.platform is not None:
        image = here.run(DOCKER, "image", "inspect", "manyfest-from:1").json[0]
        found = normalise(Platform(image["Os"], image["Architecture"], image.get("Variant", "")))
        assert found == normalise(choice.platform)


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("arm", "linux/arm64"),
        ("arm", "linux/arm/v6"),
        ("i386", "linux/amd64"),
        ("own", "linux/s390x"),
        ("levels", ""),
        ("levels", "linux/amd64/v3"),
        ("foreign", ""),
        ("single-foreign", ""),
        ("single-foreign", "linux/amd64"),
    ],
)
def test_what_containerd_takes(here: Host, engine: str, plain: Registry, name: str, asked: str) -> None:
    """A platform asked for is that one and nothing less; a single image is taken whatever it is for."""
    need("ctr", package="containerd")
    target, listing = push(here, plain, name)
    socket = f"{os.path.dirname(engine.removeprefix('unix://'))}/exec/containerd/containerd.sock"
    space = f"{name}{asked}".translate(str.maketrans("/", "-"))
    words = ["--platform", asked] if asked else []
    pulled = here.run(
        *("ctr", "--address", socket, "--namespace", space, "images", "pull", "--plain-http"),
        *("--snapshotter", "native", *words, target),
        ok=False,
    )
    platform = Platform.parse(asked) if asked else None
    choice = Containerd().choose(Machine.of_machine(os.uname().machine), listing, platform)
    assert (pulled.code == 0) is (choice.entry is not None), pulled
