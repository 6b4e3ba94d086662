# SPDX-License-Identifier: Apache-2.0
"""A real Docker Engine: the seed case, its own `docker manifest` beside ours, and the engine as a place."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from pathlib import Path

import pytest
from tests.real.parts import Host, Registry

from manyfest.platforms import Platform
from manyfest.stores.layout import Layout
from manyfest.testing.images import make_image, make_index

pytestmark = pytest.mark.real

DOCKER = "/usr/bin/docker"
SEED = {"amd64": "linux/amd64", "armhf": "linux/arm/v7", "s390x": "linux/s390x", "ppc64le": "linux/ppc64le"}


@pytest.fixture
def ship(here: Host, engine: str) -> Host:
    """A home whose docker speaks to our engine."""
    here.env["DOCKER_HOST"] = engine
    here.env["DOCKER_CLI_EXPERIMENTAL"] = "enabled"
    return here


def push_images(here: Host, registry: Registry, repository: str, *, says: str = "") -> dict[str, str]:
    """One tag per architecture; ``says`` makes every config claim that platform, as old ARM builders did."""
    names = {}
    for tag, platform in SEED.items():
        folder = here.home / f"layout-{tag}"
        with Layout.create(str(folder)) as store:
            parsed = Platform.parse(platform)
            document = make_image(store, parsed, docker=True, seed=hash_of(repository))
            store.tag(document, "v1")
        names[tag] = f"{registry.host}/{repository}:{tag}"
        here.manyfest("copy", f"oci:{folder}:v1", names[tag])
    return names


def hash_of(text: str) -> int:
    """A seed that differs by test, so that the engine has nothing of another one's."""
    return sum(text.encode())


@pytest.fixture(params=["plain", "embedded"])
def registry(request: pytest.FixtureRequest) -> Registry:
    """Debian's registry and ours."""
    chosen: Registry = request.getfixturevalue(request.param)
    return chosen


def test_the_seed_case(ship: Host, registry: Registry) -> None:
    """create, annotate armhf to arm, push; then the engine runs every architecture from one name."""
    names = push_images(ship, registry, "seed/app")
    target = f"{registry.host}/seed/app:v1"
    created = ship.manyfest("create", target, *names.values())
    assert created.out == f"Created manifest list {target}\n"
    ship.manyfest("annotate", target, names["armhf"], "--os", "linux", "--arch", "arm", "--variant", "v7")
    digest = ship.manyfest("push", target).out.strip().splitlines()[-1]
    for platform in SEED.values():
        ship.run(DOCKER, "pull", "--platform", platform, target)
        printed = ship.run(DOCKER, "run", "--rm", "--network", "none", "--platform", platform, target).out
        assert printed.strip() == platform
        ship.run(DOCKER, "rmi", "-f", target)
    pinned = f"{registry.host}/seed/app@{digest}"
    assert digest in ship.run(DOCKER, "pull", "--platform", "linux/s390x", pinned).out


def test_dockers_bytes_are_ours_when_asked(ship: Host, plain: Registry) -> None:
    """`--compat docker` gives the digest that `docker manifest push` gives for the same images."""
    names = push_images(ship, plain, "compat/app")
    theirs, ours = f"{plain.host}/compat/app:theirs", f"{plain.host}/compat/app:ours"
    ship.run(DOCKER, "manifest", "create", "--insecure", theirs, *names.values())
    ship.run(DOCKER, "manifest", "annotate", "--arch", "arm", "--variant", "v7", theirs, names["armhf"])
    digest = ship.run(DOCKER, "manifest", "push", "--insecure", theirs).out.strip().splitlines()[-1]
    ship.manyfest("create", ours, *names.values())
    ship.manyfest("annotate", "--arch", "arm", "--variant", "v7", ours, names["armhf"])
    assert ship.manyfest("push", "--compat", "docker", ours).out.strip().splitlines()[-1] == digest
    assert ship.manyfest("inspect", "--raw", ours).out == ship.manyfest("inspect", "--raw", theirs).out


def test_verbose_inspect_is_dockers_to_the_byte(ship: Host, plain: Registry) -> None:
    """An array for a list, an object for one image; Debian's docker is of a time before it showed ``Raw``."""
    names = push_images(ship, plain, "shape/app")
    target = f"{plain.host}/shape/app:v1"
    ship.manyfest("create", target, *names.values(), "--push")
    folder = ship.home / "attested"
    with Layout.create(str(folder)) as store:
        make_index(store, ("linux/amd64", "linux/arm64"), attestations=True, tag="v1")
    attested = f"{plain.host}/shape/app:attested"
    ship.manyfest("copy", f"oci:{folder}:v1", attested)
    for docker in sorted({DOCKER, shutil.which("docker") or DOCKER}):
        version = ship.run(docker, "version", "--format", "{{.Client.Version}}").out
        is_current = int(version.partition(".")[0]) >= 23
        # Older ones do not know OCI's media types at all.
        for name in (target, names["s390x"], *([attested] if is_current else [])):
            theirs = ship.run(docker, "manifest", "inspect", "--insecure", "-v", name).out
            ours = ship.manyfest("inspect", "-v", "--json", name).out
            if not is_current:
                ours = "".join(line for line in ours.splitlines(True) if '"Raw": ' not in line)
            assert ours == theirs
    shown = ship.manyfest("inspect", "-v", "--json", attested).json
    platforms = [each["Descriptor"]["platform"]["architecture"] for each in shown]
    assert platforms == ["amd64", "arm64", "unknown", "unknown"]
    for each in shown:
        raw = base64.b64decode(each["Raw"])
        assert json.loads(raw) == each["OCIManifest"]
        assert each["Descriptor"]["digest"] == f"sha256:{hashlib.sha256(raw).hexdigest()}"


def test_the_engine_is_a_place(ship: Host, plain: Registry) -> None:
    """Out of the engine into a registry, and from a layout into the engine."""
    folder = ship.home / "layout"
    with Layout.create(str(folder)) as store:
        store.tag(make_image(store, Platform.parse("linux/s390x"), seed=41), "v1")
    ship.manyfest("copy", f"oci:{folder}:v1", "docker-daemon:manyfest-place:v1")
    run = ship.run(
        DOCKER, "run", "--rm", "--network", "none", "--platform", "linux/s390x", "manyfest-place:v1"
    )
    assert run.out.strip() == "linux/s390x"
    target = f"{plain.host}/from/engine:v1"
    ship.manyfest("copy", "docker-daemon:manyfest-place:v1", target)
    image = ship.run(DOCKER, "image", "inspect", "manyfest-place:v1").json[0]["Id"]
    raw = json.loads(ship.manyfest("inspect", "--raw", target).out)
    assert raw["config"]["digest"] == image


def test_docker_save_is_read_and_load_reads_ours(ship: Host, plain: Registry) -> None:
    """Both ways through a docker-archive."""
    folder = ship.home / "layout"
    with Layout.create(str(folder)) as store:
        store.tag(make_image(store, Platform.parse("linux/ppc64le"), seed=42), "v1")
    archive = ship.home / "ours.tar"
    ship.manyfest("copy", f"oci:{folder}:v1", f"docker-archive:{archive}:manyfest-saved:v1")
    assert "manyfest-saved:v1" in ship.run(DOCKER, "load", "-i", str(archive)).out
    saved = Path(ship.home / "theirs.tar")
    ship.run(DOCKER, "save", "-o", str(saved), "manyfest-saved:v1")
    target = f"{plain.host}/from/save:v1"
    ship.manyfest("copy", f"docker-archive:{saved}", target)
    ship.run(DOCKER, "rmi", "-f", "manyfest-saved:v1")
    ship.run(DOCKER, "pull", "--platform", "linux/ppc64le", target)
    printed = ship.run(DOCKER, "run", "--rm", "--network", "none", "--platform", "linux/ppc64le", target).out
    assert printed.strip() == "linux/ppc64le"


def test_what_the_engine_pushes_is_read(ship: Host, registry: Registry) -> None:
    """`docker push`, and the digest it prints is the one we read."""
    names = push_images(ship, registry, "pushed/back")
    target = f"{registry.host}/pushed/back:by-docker"
    ship.run(DOCKER, "pull", "--platform", "linux/s390x", names["s390x"])
    ship.run(DOCKER, "tag", names["s390x"], target)
    printed = ship.run(DOCKER, "push", target).out
    shown = ship.manyfest("inspect", "--json", target).json
    assert f"digest: {shown['digest']} size: " in printed
    assert shown["platforms"][0]["platform"] == "linux/s390x"
