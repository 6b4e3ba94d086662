# SPDX-License-Identifier: Apache-2.0
"""Our builder beside BuildKit and buildah: the same Dockerfiles, the same configurations and files."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.real.corpus import BASE, CASES, Case, write_files
from tests.real.parts import Host, Registry, need, wait_for
from tests.unit.build.seen import seen

from manyfest.emulate.programs import program
from manyfest.platforms import Platform
from manyfest.stores.dockerarchive import DockerArchive
from manyfest.stores.layout import Layout

pytestmark = pytest.mark.real

DOCKER = "/usr/bin/docker"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, engine: str, plain: Registry) -> tuple[Host, str]:
    """A home with the project's files, and the name of a base that our builder made and all pull."""
    need("buildah")
    home = tmp_path_factory.mktemp("parity")
    (home / "run").mkdir(mode=0o700)
    here = Host(home, {"DOCKER_HOST": engine, "DOCKER_BUILDKIT": "1", "DOCKER_CONFIG": str(home / "docker")})
    here.env["MANYFEST_CACHE"] = str(home / "cache")
    (home / "docker").mkdir()
    (home / "docker/config.json").write_text("{}")
    project = home / "project"
    write_files(project)
    (project / "Dockerfile").write_text(BASE)
    base = f"{plain.host}/parity/base:1"
    here.manyfest("build", "project", "-t", base, "--platform", "linux/amd64,linux/arm64")
    return here, base


def ours(here: Host, case: Case) -> tuple[dict[str, Any], dict[str, Any]]:
    folder = here.home / f"ours-{case.name}"
    args = [word for k, v in case.args.items() for word in ("--build-arg", f"{k}={v}")]
    here.manyfest("build", "project", "-t", f"oci:{folder}:1", "--platform", "linux/amd64", *args)
    return seen(Layout(str(folder)), "1")


def buildkit(here: Host, case: Case) -> tuple[dict[str, Any], dict[str, Any]]:
    tag = f"parity-{case.name}"
    args = [word for k, v in case.args.items() for word in ("--build-arg", f"{k}={v}")]
    here.run(DOCKER, "build", "-q", "-t", tag, *args, "project")
    archive = here.home / f"{tag}.tar"
    here.run(DOCKER, "save", "-o", str(archive), tag)
    return seen(DockerArchive(str(archive)), "")


def buildah(here: Host, case: Case) -> tuple[dict[str, Any], dict[str, Any]]:
    storage = [
        "--storage-driver",
        "vfs",
        "--root",
        f"{here.home}/buildah",
        "--runroot",
        f"{here.home}/buildah-run",
    ]
    args = [word for k, v in case.args.items() for word in ("--build-arg", f"{k}={v}")]
    command = [
        "buildah",
        *storage,
        "bud",
        "-q",
        "--format",
        "docker",
        "--isolation",
        "chroot",
        "--tls-verify=false",
    ]
    here.run(*command, *args, "-t", f"parity-{case.name}", "-f", "project/Dockerfile", "project")
    archive = here.home / f"buildah-{case.name}.tar"
    here.run("buildah", *storage, "push", "-q", f"parity-{case.name}", f"docker-archive:{archive}")
    return seen(DockerArchive(str(archive)), "")


def differences(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    return {k: (one.get(k), other.get(k)) for k in one.keys() | other.keys() if one.get(k) != other.get(k)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_same_image(world: tuple[Host, str], case: Case) -> None:
    """Ours against both others; where they differ from each other, BuildKit's way is ours."""
    here, base = world
    project = here.home / "project"
    (project / "Dockerfile").write_text(case.dockerfile.format(base=base))
    (project / ".dockerignore").write_text(case.ignore or "Dockerfile\n.dockerignore\n")
    mine = ours(here, case)
    theirs = buildkit(here, case)
    assert differences(mine[0], theirs[0]) == {}, "BuildKit's configuration"
    assert differences(mine[1], theirs[1]) == {}, "BuildKit's files"
    theirs = buildah(here, case)
    assert set(differences(mine[0], theirs[0])) == set(case.odd), "buildah's configuration"
    assert differences(mine[1], theirs[1]) == {}, "buildah's files"


PLATFORMS = ("linux/amd64", "linux/arm64", "linux/s390x")


@pytest.fixture
def shop(here: Host, engine: str) -> Host:
    """A home with a project whose compile step takes a ready program; the engine is ours."""
    project = here.home / "project"
    project.mkdir()
    for platform in PLATFORMS:
        parsed = Platform.parse(platform)
        (project / parsed.architecture).write_bytes(program(parsed))
        (project / parsed.architecture).chmod(0o755)
    (project / "Dockerfile").write_text('FROM scratch\nCOPY out/app /app\nENTRYPOINT ["/app"]\n')
    text = "compile: {run: 'cp {arch} {out}/out/app', outputs: [out/app]}"
    (project / "manyfest.yaml").write_text(f"image: acme/app\nplatforms: [{', '.join(PLATFORMS)}]\n{text}\n")
    here.env.update(DOCKER_HOST=engine, MANYFEST_CACHE=str(here.home / "cache"))
    return here


@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_every_platform_runs(shop: Host, plain: Registry, emulators: None, kind: str) -> None:
    """From source through a registry to the engine, each on its own architecture."""
    name = f"{plain.host}/build/app:{kind}"
    built = shop.manyfest("build", "project", "-t", name, "--type", kind, "--json").json
    for at, platform in enumerate(PLATFORMS):
        pinned = f"{plain.host}/build/app@{built['platforms'][at]['digest']}"
        # This engine keeps one platform of a name, so each is pulled by its own digest.
        ran = shop.run(DOCKER, "run", "--rm", "--network", "none", "--platform", platform, pinned)
        assert platform.partition("/")[2] in ran.out
    again = shop.manyfest("build", "project", "-t", name, "--type", kind, "--json").json
    assert again["pushed"][0]["transfer"]["bytes_sent"] == 0
    assert again["digest"] == built["digest"]


def test_go(shop: Host, emulators: None) -> None:
    """The preset, with the compiler of the extra: a program for s390x that runs there."""
    if importlib.util.find_spec("go") is None and shutil.which("go") is None:
        pytest.skip("no go; pip install 'manyfest[toolchains]'")
    project = shop.home / "project"
    (project / "go.mod").write_text("module example.org/tiny\n\ngo 1.23\n")
    (project / "main.go").write_text('package main\n\nfunc main() { println("compiled by go") }\n')
    (project / "manyfest.yaml").write_text("image: acme/app\ncompile: {toolchain: go, outputs: [out/app]}\n")
    shop.manyfest("build", "project", "-t", "docker-daemon:built-by-go:1", "--platform", "linux/s390x")
    ran = shop.run(DOCKER, "run", "--rm", "--network", "none", "--platform", "linux/s390x", "built-by-go:1")
    assert "compiled by go" in ran.err


def test_straight_into_the_engine(shop: Host) -> None:
    """One platform, no registry."""
    shop.manyfest("build", "project", "-t", "docker-daemon:built-here:1", "--platform", "linux/amd64")
    assert "amd64" in shop.run(DOCKER, "run", "--rm", "--network", "none", "built-here:1").out


def test_other_tools_read_it(shop: Host, plain: Registry) -> None:
    """skopeo copies every platform, umoci unpacks one."""
    need("skopeo", "umoci")
    name = f"{plain.host}/build/tools:1"
    shop.manyfest("build", "project", "-t", name)
    layout = f"oci:{shop.home}/layout:1"
    shop.run("skopeo", "copy", "--all", "--src-tls-verify=false", f"docker://{name}", layout)
    shop.manyfest("build", "project", "-t", f"oci:{shop.home}/one:1", "--platform", "linux/amd64")
    shop.manyfest(
        "copy", f"oci:{shop.home}/one:1", f"oci:{shop.home}/flat:1", "--flat", "--platform", "linux/amd64"
    )
    shop.run("umoci", "unpack", "--rootless", "--image", f"{shop.home}/flat:1", f"{shop.home}/bundle")
    app = shop.home / "bundle/rootfs/app"
    assert app.read_bytes() == program(Platform.parse("linux/amd64"))
    assert app.stat().st_mtime == 0


def test_attestations_travel(shop: Host, plain: Registry) -> None:
    """Other tools copy them to the byte, and engines do not take them for images."""
    need("skopeo")
    name, other = (f"{plain.host}/build/{each}:1" for each in ("attested", "travelled"))
    built = shop.manyfest("build", "project", "-t", name, "--provenance", "--sbom", "--json").json
    tls = ["--src-tls-verify=false", "--dest-tls-verify=false"]
    shop.run("skopeo", "copy", "--all", *tls, f"docker://{name}", f"docker://{other}")
    assert (
        shop.manyfest("resolve", other, "--platform", "linux/amd64", "--json").json["list_digest"]
        == built["digest"]
    )
    assert shop.manyfest("inspect", other).out.count("sbom, provenance") == len(PLATFORMS)
    assert "amd64" in shop.run(DOCKER, "run", "--rm", "--network", "none", other).out


def test_interrupted(shop: Host) -> None:
    """Ctrl-C while compiling: the exit code says so, nothing is left and no tag moved."""
    project = shop.home / "project"
    (project / "manyfest.yaml").write_text(
        "image: acme/app\ncompile: {run: 'touch started; sleep 30', outputs: [out/app]}\n"
    )
    environment = {**os.environ, **shop.env, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    command = [sys.executable, "-m", "manyfest", "build", "project", "-t", "oci:out:1"]
    log = shop.home / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=shop.home, env=environment, stdout=out, stderr=out)
    wait_for((project / "started").exists, "the compile step", process, log)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert not (shop.home / "out").exists() or list(Layout(str(shop.home / "out")).tags()) == []
    assert list(shop.home.rglob("*.part")) == []
