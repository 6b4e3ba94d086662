# SPDX-License-Identifier: Apache-2.0
"""Our builder beside BuildKit and buildah: the same Dockerfiles, the same configurations and files."""

from __future__ import annotations

import tarfile
from typing import Any

import pytest
from tests.real.corpus import BASE, CASES, Case, write_files
from tests.real.parts import Host, Registry, need

from manyfest.content.document import Document, ImageConfig
from manyfest.indexes.select import image_for
from manyfest.platforms import Platform
from manyfest.stores._inflate import Inflated
from manyfest.stores.base import Source, read
from manyfest.stores.dockerarchive import DockerArchive
from manyfest.stores.layout import Layout

pytestmark = pytest.mark.real

DOCKER = "/usr/bin/docker"
FIELDS = ("Env", "Entrypoint", "Cmd", "WorkingDir", "User", "ExposedPorts", "Volumes", "Labels", "Healthcheck",
          "StopSignal", "Shell", "OnBuild")  # fmt: skip


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


def seen(source: Source, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """An image's settings and its files as its layers leave them, read without our builder's code."""
    document = image_for(source, source.resolve(name), Platform.parse("linux/amd64"))
    config = ImageConfig(read(source, document.manifest.config)).json.get("config") or {}
    return settings(config), files(source, document)


def settings(config: dict[str, Any]) -> dict[str, Any]:
    found = {key: config.get(key) or None for key in FIELDS}
    found["Env"] = sorted(config.get("Env") or [])
    found["WorkingDir"] = config.get("WorkingDir") or "/"
    labels = dict(config.get("Labels") or {})
    labels.pop("io.buildah.version", None)
    found["Labels"] = labels or None
    return found


def files(source: Source, document: Document) -> dict[str, Any]:
    """Path -> what it is. Times are left out: ours are all alike."""
    found: dict[str, Any] = {}
    for layer in document.manifest.layers:
        stream = source.open(layer)
        compressed = layer.media_type.endswith("gzip")
        with tarfile.open(fileobj=Inflated(stream, "x") if compressed else stream, mode="r|") as archive:  # type: ignore[call-overload]
            lay(archive, found)
    return found


def lay(archive: tarfile.TarFile, found: dict[str, Any]) -> None:
    for member in archive:
        path = member.name.strip("/").removeprefix("./")
        folder, _, name = path.rpartition("/")
        if name.startswith(".wh."):
            gone = f"{folder}/{name.removeprefix('.wh.')}".lstrip("/")
            for each in [p for p in found if p == gone or p.startswith(f"{gone}/")]:
                del found[each]
            continue
        if not path or path == ".":
            continue
        stream = archive.extractfile(member) if member.isreg() else None
        data = stream.read() if stream is not None else None
        if member.islnk():
            found[path] = found[member.linkname.strip("/")]
            continue
        mode = None if member.issym() else member.mode & 0o7777
        found[path] = (member.type, mode, member.uid, member.gid, member.linkname, data)
    for path in list(found):
        for i in [i for i, c in enumerate(path) if c == "/"]:
            found.setdefault(path[:i], (tarfile.DIRTYPE, 0o755, 0, 0, "", None))


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
