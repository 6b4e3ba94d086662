# SPDX-License-Identifier: Apache-2.0
"""check, nodes, and resolve with --explain and --nearest."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Run

from manyfest.serve.http import Server
from manyfest.serve.registry import RegistryApp
from manyfest.stores.layout import Layout
from manyfest.testing.images import make_image, make_index

Golden = Callable[[str, str], None]

NODES = """\
nodes:
- {name: big, platform: linux/amd64/v3, emulates: [linux/arm64]}
- {name: pi, platform: linux/arm/v6}
- {name: mainframe, platform: linux/s390x}
"""

STACK = """\
services:
  web:
    image: {app}:web
  old:
    image: {app}:armhf
  helper:
    build: .
  fitting:
    image: {app}:s390x
    deploy:
      placement:
        constraints: [node.platform.arch == s390x]
"""


@pytest.fixture
def images(run: Run, host: str, tmp_path: Path) -> str:
    """A repository with lists and single images."""
    path = str(tmp_path / "layout-check")
    name = f"{host}/acme/app"
    with Layout.create(path) as store:
        make_index(store, ["linux/amd64", "linux/arm/v6", "linux/s390x"], tag="web")
        make_index(store, ["linux/amd64", "linux/arm64"], tag="1.0", attestations=True)
        make_index(store, ["linux/amd64", "linux/s390x"], tag="1.1")
        make_index(store, ["linux/amd64", "linux/arm/v7"], tag="armhf")
        make_image(store, "linux/s390x", tag="s390x")
    for tag in ("web", "1.0", "1.1", "armhf", "s390x"):
        run("copy", f"oci:{path}:{tag}", f"{name}:{tag}", "-q")
    return name


@pytest.fixture
def stack(images: str, tmp_path: Path) -> str:
    """A Compose file that asks for them."""
    path = tmp_path / "stack.yaml"
    path.write_text(STACK.replace("{app}", images))
    return str(path)


@pytest.fixture
def nodes(tmp_path: Path) -> str:
    """Three machines."""
    path = tmp_path / "nodes.yaml"
    path.write_text(NODES)
    return str(path)


def masked(text: str, images: str, tmp_path: Path) -> str:
    """The same on every machine."""
    return text.replace(images.partition("/")[0], "registry.test:5").replace(str(tmp_path), "/files")


def test_a_stack_on_three_machines(
    run: Run, stack: str, nodes: str, images: str, tmp_path: Path, golden: Golden
) -> None:
    """A table, then each reason; what a build makes is not counted."""
    ran = run("check", stack, "--nodes", nodes, ok=False)
    assert ran.code == 1
    golden("cli/check.txt", masked(ran.out, images, tmp_path))


def test_markdown_and_sarif(
    run: Run, stack: str, nodes: str, images: str, tmp_path: Path, golden: Golden
) -> None:
    """For pull requests and for code scanning."""
    ran = run("check", stack, "--nodes", nodes, "--markdown", ok=False)
    golden("cli/check.md", masked(ran.out, images, tmp_path))
    sarif = run("check", stack, "--nodes", nodes, "--sarif", ok=False).json
    results = sarif["runs"][0]["results"]
    assert {result["ruleId"] for result in results} == {"will-not-start"}
    assert results[0]["locations"][0]["physicalLocation"]["region"] == {"startLine": 5, "startColumn": 12}
    assert run("check", stack, "--json", "--sarif", ok=False).code == 2


def test_all_will_run(run: Run, images: str, nodes: str) -> None:
    """Exit 0, and one word."""
    ran = run("check", f"{images}:web", "--nodes", nodes)
    assert ran.out.endswith("\nall will run\n")
    assert "native" in ran.out


def test_json(run: Run, images: str) -> None:
    """Verdict, nodes, images, cells."""
    ran = run("check", f"{images}:1.0", "-p", "linux/amd64,linux/s390x", "--json", "--nearest", ok=False)
    assert ran.code == 1
    shown = ran.json
    assert shown["verdict"] == "no"
    assert [cell["state"] for cell in shown["images"][0]["cells"]] == ["native", "fails"]
    assert [near["tag"] for near in shown["images"][0]["nearest"]["found"]] == ["1.1", "s390x", "web"]


def test_nearest_and_fix(run: Run, images: str, tmp_path: Path) -> None:
    """What to do about it."""
    kube: dict[str, Any] = {"items": []}
    for name, architecture in (("a", "amd64"), ("z", "s390x")):
        info = {
            "architecture": architecture,
            "operatingSystem": "linux",
            "containerRuntimeVersion": "containerd://2",
        }
        kube["items"].append({"kind": "Node", "metadata": {"name": name}, "status": {"nodeInfo": info}})
    (tmp_path / "nodes.json").write_text(json.dumps(kube))
    (tmp_path / "k.yaml").write_text(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n"
        f"spec: {{containers: [{{name: c, image: '{images}:1.0'}}]}}\n"
    )
    ran = run(
        "check",
        str(tmp_path / "k.yaml"),
        "--kube",
        str(tmp_path / "nodes.json"),
        "--fix",
        "--nearest",
        ok=False,
    )
    assert ran.code == 1
    assert "kubectl patch pod p" in ran.out
    assert "nearest: 1.1, s390x, web have it (looked at 4 of 4 tags: 4 HEAD, " in ran.out


def test_emulation_may_not_be_good_enough(run: Run, images: str, nodes: str, tmp_path: Path) -> None:
    """--native says so."""
    (tmp_path / "c.yaml").write_text(f"services: {{a: {{image: '{images}:1.0', platform: linux/arm64}}}}")
    (tmp_path / "n.yaml").write_text(NODES.partition("- {name: pi")[0])
    command = ("check", str(tmp_path / "c.yaml"), "--nodes", str(tmp_path / "n.yaml"))
    assert "emulated" in run(*command).out
    assert run(*command, "--native", ok=False).code == 1


def test_what_nobody_can_tell(run: Run, images: str, host: str) -> None:
    """Exit 3, and which kind of not knowing."""
    ran = run("check", f"{images}:web", f"{images}:nothing", "-p", "linux/amd64", ok=False)
    assert ran.code == 3
    assert f"{images}:nothing: not found" in ran.out
    shown = run("check", f"{host}/none/such:1", "-p", "linux/amd64", "--json", ok=False).json
    assert shown["images"][0]["problem"]["kind"] == "not found"


def test_a_registry_that_wants_a_password(run: Run, tmp_path: Path) -> None:
    """Told apart from what is not there."""
    with Server(RegistryApp(str(tmp_path / "closed"), users={"ann": "wonderland"})) as server:
        ran = run("check", f"{server.host}/a:1", "-p", "linux/amd64", "--json", ok=False)
    assert ran.code == 3
    assert ran.json["images"][0]["problem"]["kind"] == "unauthorised"


@pytest.mark.parametrize(
    ("text", "message"),
    [("services:\n  a: {image: 'WEB/x/Y'}\n", ":2:14"), ("a: 1\n", ":1:1"), ("services: [\n", ":2:1")],
)
def test_bad_files(run: Run, tmp_path: Path, text: str, message: str) -> None:
    """Exit 2 with line and column, and nobody is asked anything."""
    path = tmp_path / "c.yaml"
    path.write_text(text)
    ran = run("check", str(path), "-p", "linux/amd64", ok=False)
    assert ran.code == 2
    assert f"{path}{message}" in ran.err


def test_this_machine_by_default(run: Run, images: str) -> None:
    """And said."""
    ran = run("check", f"{images}:web", ok=False)
    assert "looking at this machine" in ran.err


def test_a_dockerfile(run: Run, images: str, tmp_path: Path) -> None:
    """With arguments."""
    (tmp_path / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\n")
    command = ("check", str(tmp_path / "Dockerfile"), "-p", "linux/arm/v6")
    assert run(*command, ok=False).code == 3
    assert run(*command, "--build-arg", f"BASE={images}:web").code == 0


def test_nodes(run: Run, nodes: str, golden: Golden) -> None:
    """By architecture, whatever the kernel calls it."""
    golden("cli/nodes.txt", run("nodes", "--nodes", nodes, "-p", "linux/386,linux/amd64/v3", "--labels").out)
    shown = run("nodes", "--nodes", nodes, "--json").json
    assert {node["name"]: node["machine"] for node in shown["nodes"]} == {
        "big": "x86_64",
        "pi": "armv6l",
        "mainframe": "s390x",
    }
    assert run("nodes", "--host", "--json").json["nodes"][0]["kind"] == "host"


def test_no_swarm(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The engine is not there: exit 3 with a hint."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    ran = run("nodes", ok=False)
    assert ran.code == 3
    assert "hint: start the engine" in ran.err


def test_resolve_explains_every_engine(run: Run, images: str) -> None:
    """On standard error for people, in the document for programs."""
    command = ("resolve", f"{images}:armhf", "--platform", "linux/arm64", "--compatible", "--explain")
    ran = run(*command)
    assert re.search(r"podman, skopeo, CRI-O +nothing", ran.err)
    assert re.search(r"Docker, classic store +linux/arm/v7", ran.err)
    engines = {each["engine"]: each for each in run(*command, "--json").json["engines"]}
    assert engines["podman"]["digest"] is None
    assert engines["docker"]["platform"] == "linux/arm/v7"
    assert engines["docker"]["rejected"][0]["reason"] == "for amd64, not arm64"


def test_resolve_for_a_processor(run: Run, host: str, tmp_path: Path) -> None:
    """--cpu chooses among levels; --os-version among Windows' builds."""
    path = str(tmp_path / "levels")
    with Layout.create(path) as store:
        levels = make_index(store, ["linux/amd64", "linux/amd64/v3"], tag="1")
        builds = make_index(store, ["windows(10.0.17763.1)/amd64", "windows(10.0.20348.1)/amd64"], tag="w")
    base, v3 = (str(entry.digest) for entry in levels.index.manifests)
    new = str(builds.index.manifests[1].digest)
    command = ("resolve", f"oci:{path}:1", "--platform", "linux/amd64", "--compatible")
    assert base in run(*command, "--cpu", "v2").out
    assert v3 in run(*command, "--cpu", "v4").out
    windows = ("resolve", f"oci:{path}:w", "--platform", "windows/amd64", "--compatible")
    assert new in run(*windows, "--os-version", "10.0.26100").out
    assert run("resolve", f"oci:{path}:1", "--platform", "linux/arm64", "--cpu", "v3", ok=False).code == 2


def test_resolve_finds_the_nearest(run: Run, images: str) -> None:
    """It is still a no; the hint says where to look."""
    ran = run("resolve", f"{images}:1.0", "--platform", "linux/s390x", "--nearest", ok=False)
    assert ran.code == 3
    assert "hint: 1.1, s390x, web have it" in ran.err
