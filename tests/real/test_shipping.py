# SPDX-License-Identifier: Apache-2.0
"""What manyfest ships, others pull; what others push, manyfest reads: the same digests, byte for byte."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.real.parts import PASSWORD, USER, Host, Registry, need

from manyfest.platforms import Platform
from manyfest.stores.layout import Layout
from manyfest.testing.images import make_image, make_index

pytestmark = pytest.mark.real

PLATFORMS = ("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/s390x")


@pytest.fixture(params=["plain", "secure", "embedded"])
def registry(request: pytest.FixtureRequest, here: Host) -> Registry:
    """Debian's registry in two forms, and ours; logged in where that is needed."""
    chosen: Registry = request.getfixturevalue(request.param)
    trust(here, chosen)
    return chosen


def trust(here: Host, registry: Registry) -> None:
    """What a user sets up once: the CA and a login."""
    if registry.ca is None:
        return
    certs = here.home / "certs.d" / registry.host
    certs.mkdir(parents=True)
    (certs / "ca.crt").write_bytes(registry.ca.read_bytes())
    here.env["MANYFEST_CERTS_D"] = str(here.home / "certs.d")
    here.manyfest("login", registry.host, "--username", USER, "--password-stdin", stdin=PASSWORD)


@pytest.fixture
def storage() -> Iterator[list[str]]:
    """Options that give buildah and podman a storage of their own; podman refuses paths over 50 characters."""
    with tempfile.TemporaryDirectory(prefix="mf") as folder:
        yield ["--root", f"{folder}/storage", "--runroot", f"{folder}/run", "--storage-driver", "vfs"]


def layout(here: Host, *, attestations: bool = False) -> tuple[Path, str]:
    """An OCI layout with an index of four platforms, and the index's digest."""
    folder = here.home / "layout"
    with Layout.create(str(folder)) as store:
        root = make_index(store, PLATFORMS, tag="v1", attestations=attestations)
    return folder, str(root.digest)


def skopeo(registry: Registry) -> list[str]:
    """How skopeo is told of the login and the certificate."""
    return (
        ["--tls-verify=false"]
        if registry.ca is None
        else [f"--creds={USER}:{PASSWORD}", "--tls-verify=false"]
    )


@pytest.mark.parametrize("attested", [False, True], ids=["plain-index", "attested"])
def test_skopeo_reads_what_manyfest_copied(
    here: Host, registry: Registry, attested: bool, request: pytest.FixtureRequest
) -> None:
    """The raw bytes have the digest that manyfest printed."""
    need("skopeo")
    folder, digest = layout(here, attestations=attested)
    name = f"{registry.host}/copied/{request.node.callspec.id.lower()}:v1"
    here.manyfest("copy", f"oci:{folder}:v1", name)
    raw = here.run("skopeo", "inspect", "--raw", *skopeo(registry), f"docker://{name}").out
    assert "sha256:" + hashlib.sha256(raw.encode()).hexdigest() == digest
    here.run(
        "skopeo",
        "copy",
        "--all",
        "--src-" + skopeo(registry)[-1].removeprefix("--"),
        *_source_creds(registry),
        f"docker://{name}",
        f"oci:{here.home}/back:v1",
    )
    back = here.manyfest("inspect", "--raw", f"oci:{here.home}/back:v1").out
    assert json.loads(back)["manifests"] == json.loads(raw)["manifests"]


def _source_creds(registry: Registry) -> list[str]:
    return [] if registry.ca is None else [f"--src-creds={USER}:{PASSWORD}"]


def _target_creds(registry: Registry) -> list[str]:
    return [] if registry.ca is None else [f"--dest-creds={USER}:{PASSWORD}"]


def test_manyfest_reads_what_skopeo_pushed(here: Host, registry: Registry) -> None:
    """Digest for digest, and back into a layout that skopeo reads."""
    need("skopeo")
    folder, digest = layout(here)
    name = f"{registry.host}/skopeo/pushed:v1"
    here.run(
        "skopeo",
        "copy",
        "--all",
        "--dest-tls-verify=false",
        *_target_creds(registry),
        f"oci:{folder}:v1",
        f"docker://{name}",
    )
    assert (
        here.manyfest("resolve", name, "--platform", "linux/s390x")
        .out.strip()
        .startswith(name.rpartition(":")[0])
    )
    assert here.manyfest("inspect", "--json", name).json["digest"] == digest
    here.manyfest("copy", name, f"oci:{here.home}/again:v1")
    raw = here.run("skopeo", "inspect", "--raw", f"oci:{here.home}/again:v1").out
    # skopeo takes the host's image of an index in a layout; the layout's own index must name ours.
    assert raw
    listed = json.loads((here.home / "again" / "index.json").read_text())
    assert listed["manifests"][0]["digest"] == digest


def per_architecture_tags(here: Host, registry: Registry, repository: str, *, docker: bool) -> list[str]:
    """One image per platform, each under a tag of its own, as native builders leave them."""
    names = []
    for platform in PLATFORMS:
        tag = platform.removeprefix("linux/").replace("/", "")
        folder = here.home / tag
        with Layout.create(str(folder)) as store:
            document = make_image(store, Platform.parse(platform), docker=docker)
            store.tag(document, "v1")
        names.append(f"{registry.host}/{repository}:{tag}")
        here.manyfest("copy", f"oci:{folder}:v1", names[-1])
    return names


@pytest.mark.parametrize("docker", [False, True], ids=["oci", "docker"])
def test_create_push_and_pull_with_everything(
    here: Host, registry: Registry, storage: list[str], docker: bool
) -> None:
    """create + push; then skopeo, buildah, podman and umoci read it."""
    need("skopeo")
    need("buildah")
    need("podman")
    repository = f"made/{'docker' if docker else 'oci'}"
    names = per_architecture_tags(here, registry, repository, docker=docker)
    target = f"{registry.host}/{repository}:v1"
    here.manyfest("create", target, *names)
    digest = here.manyfest("push", target).out.strip().splitlines()[-1]
    raw = here.run("skopeo", "inspect", "--raw", *skopeo(registry), f"docker://{target}").out
    assert "sha256:" + hashlib.sha256(raw.encode()).hexdigest() == digest
    creds = [] if registry.ca is None else [f"--creds={USER}:{PASSWORD}"]
    for tool in ("buildah", "podman"):
        pulled = here.run(tool, *storage, "pull", "--tls-verify=false", *creds, "--arch", "s390x", target).out
        image = here.run(tool, *storage, "inspect", "--type", "image", pulled.strip().splitlines()[-1]).json
        described = image[0] if isinstance(image, list) else image["OCIv1"]
        assert (described.get("Architecture") or described["architecture"]) == "s390x"
        here.run(tool, *storage, "rmi", "--all", "--force")


def test_buildahs_list_is_read(here: Host, plain: Registry, storage: list[str]) -> None:
    """A list that buildah made and pushed."""
    need("buildah")
    names = per_architecture_tags(here, plain, "buildah/list", docker=False)
    here.run("buildah", *storage, "manifest", "create", "mine")
    for name in names:
        here.run("buildah", *storage, "manifest", "add", "--tls-verify=false", "mine", f"docker://{name}")
    target = f"{plain.host}/buildah/list:v1"
    here.run(
        "buildah", *storage, "manifest", "push", "--all", "--tls-verify=false", "mine", f"docker://{target}"
    )
    platforms = [entry["platform"] for entry in here.manyfest("inspect", "--json", target).json["platforms"]]
    assert sorted(platforms) == sorted(["linux/amd64", "linux/arm64", "linux/arm/v7", "linux/s390x"])


def test_umoci_unpacks_what_manyfest_wrote(here: Host) -> None:
    """A layout of ours is a layout to others."""
    need("umoci")
    folder = here.home / "one"
    with Layout.create(str(folder)) as store:
        store.tag(make_image(store, Platform.parse("linux/amd64")), "v1")
    here.manyfest("copy", f"oci:{folder}:v1", f"oci-archive:{here.home}/one.tar:v1")
    here.manyfest("copy", f"oci-archive:{here.home}/one.tar:v1", f"oci:{here.home}/two:v1")
    here.run("umoci", "unpack", "--rootless", "--image", f"{here.home}/two:v1", f"{here.home}/bundle")
    assert any((here.home / "bundle" / "rootfs").rglob("*"))


@pytest.mark.parametrize("tool", ["buildah", "podman"])
def test_manyfest_reads_what_others_pushed(
    here: Host, registry: Registry, storage: list[str], tool: str
) -> None:
    """An image through the tool's own storage: pulled from us, pushed by it, read by us."""
    need(tool)
    first = per_architecture_tags(here, registry, f"through/{tool}", docker=False)[0]
    creds = [] if registry.ca is None else [f"--creds={USER}:{PASSWORD}"]
    here.run(tool, *storage, "pull", "--tls-verify=false", *creds, "--arch", "amd64", first)
    target = f"{registry.host}/through/{tool}:pushed"
    here.run(tool, *storage, "push", "--tls-verify=false", *creds, first, f"docker://{target}")
    raw = here.manyfest("inspect", "--raw", target).out
    theirs = here.run("skopeo", "inspect", "--raw", *skopeo(registry), f"docker://{target}").out
    assert raw == theirs
    assert here.manyfest("inspect", "--json", target).json["platforms"][0]["platform"] == "linux/amd64"
    here.manyfest("copy", target, f"oci:{here.home}/back:v1")


def test_what_prune_keeps_can_be_pulled(
    here: Host, registry: Registry, request: pytest.FixtureRequest
) -> None:
    """The images of a kept list lose their own tags and stay; skopeo reads every one of them."""
    need("skopeo")
    repository = f"{registry.host}/pruned"
    tags = per_architecture_tags(here, registry, "pruned", docker=False)
    here.manyfest("create", "--push", f"{repository}:v1", *tags[:2])
    shown = here.manyfest("prune", repository, "--keep", "v*", "--json").json
    # Debian's registry removes a tag only with its content, and the content of two of them is needed.
    stuck = [] if registry.host == request.getfixturevalue("embedded").host else tags[:2]
    assert [f"{repository}:{row['tag']}" for row in shown["left"]] == sorted(stuck)
    names = [f"{repository}:{tag}" for tag in here.manyfest("tags", repository).out.split()]
    assert sorted(names) == sorted([*stuck, f"{repository}:v1"])
    copy = ["--all", "--src-tls-verify=false", *_source_creds(registry)]
    here.run("skopeo", "copy", *copy, f"docker://{repository}:v1", f"oci:{here.home}/out")
