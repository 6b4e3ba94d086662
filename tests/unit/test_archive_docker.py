# SPDX-License-Identifier: Apache-2.0
"""Archives of ``docker save``: every shape that is around, and what ``docker load`` needs."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING

import pytest

from manyfest.content.descriptor import Descriptor
from manyfest.content.digest import Digest
from manyfest.content.document import Document
from manyfest.content.mediatypes import DOCKER_LAYER, DOCKER_MANIFEST, OCI_EMPTY, OCI_MANIFEST
from manyfest.errors import (
    DigestMismatch,
    Error,
    InvalidDocument,
    InvalidReference,
    NotFound,
    TooLarge,
    Unsupported,
)
from manyfest.stores.archive import Archive
from manyfest.stores.base import put_bytes, read
from manyfest.stores.copy import copy
from manyfest.stores.dockerarchive import DOCKER_LAYER_PLAIN, DockerArchive, DockerArchiveStore
from manyfest.stores.memory import Memory
from manyfest.testing import make_image, make_index

if TYPE_CHECKING:
    from pathlib import Path

LAYERS = (b"first layer " * 100, b"second layer " * 100)


def config_of(*layers: bytes, **more: object) -> bytes:
    """The config of an image with these plain layers."""
    ids = [str(Digest.of(layer)) for layer in layers]
    rootfs = {"type": "layers", "diff_ids": ids}
    return json.dumps({"architecture": "arm64", "os": "linux", "rootfs": rootfs, **more}).encode()


def archive(path: Path, files: dict[str, bytes], links: dict[str, str] | None = None) -> str:
    """A tar file."""
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type = tarfile.SYMTYPE
            info.linkname = target
            tar.addfile(info)
    return str(path)


def classic(path: Path, *, names: tuple[str, ...] = ("app:1",)) -> str:
    """As Docker 1.10 to 24 saves, the second layer being a link to a folder outside the list."""
    config = config_of(*LAYERS)
    entry = {"Config": "c.json", "RepoTags": list(names), "Layers": ["a/layer.tar", "b/layer.tar"]}
    files = {
        "a/VERSION": b"1.0",
        "a/json": b"{}",
        "a/layer.tar": LAYERS[0],
        "real/layer.tar": LAYERS[1],
        "c.json": config,
        "manifest.json": json.dumps([entry]).encode(),
        "repositories": b"{}",
    }
    return archive(path, files, {"b/layer.tar": "../real/layer.tar"})


def test_classic_archive(tmp_path: Path) -> None:
    """A manifest is made; its layers are the plain ones, named by what the config says."""
    with DockerArchive(classic(tmp_path / "x.tar")) as source:
        document = source.resolve("app:1")
        assert document.media_type == DOCKER_MANIFEST
        manifest = document.manifest
        assert manifest.config.digest == Digest.of(config_of(*LAYERS))
        assert [layer.media_type for layer in manifest.layers] == [DOCKER_LAYER_PLAIN] * 2
        assert [read(source, layer) for layer in manifest.layers] == list(LAYERS)
        assert read(source, document.descriptor) == document.raw
        assert list(source.tags()) == ["app:1"]
        copy(source, document, Memory(), ["whole"])


@pytest.mark.parametrize(
    "name",
    ["", "app:1", "docker.io/library/app:1", "@0", str(Digest.of(config_of(*LAYERS)))],
    ids=lambda n: n[:20],
)
def test_ways_to_name_an_image(tmp_path: Path, name: str) -> None:
    """The only one, by either spelling, by position, by image id."""
    with DockerArchive(classic(tmp_path / "x.tar")) as source:
        assert source.resolve(name) == source.resolve("")
        assert source.resolve(str(source.resolve("").digest)) == source.resolve("")


def test_image_without_a_tag_is_the_latest(tmp_path: Path) -> None:
    """As everywhere in Docker."""
    with DockerArchive(classic(tmp_path / "x.tar", names=("ghcr.io/acme/app:latest",))) as source:
        assert source.resolve("ghcr.io/acme/app") == source.resolve("")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("app:2", NotFound),
        ("@1", NotFound),
        ("@x", InvalidReference),
        ("Not A Name", NotFound),
        ("sha256:" + "0" * 64, NotFound),
    ],
)
def test_names_that_are_not_there(tmp_path: Path, name: str, kind: type[Error]) -> None:
    """The hint lists what is."""
    with DockerArchive(classic(tmp_path / "x.tar")) as source, pytest.raises(kind) as caught:
        source.resolve(name)
    assert kind is InvalidReference or "app:1" in caught.value.hint or "counted from @0" in caught.value.hint


def test_compressed_layers_keep_their_digest(tmp_path: Path) -> None:
    """crane and Bazel write them; what came from a registry goes back as it was."""
    packed = [gzip.compress(layer, mtime=0) for layer in LAYERS]
    entry = {"Config": "c.json", "RepoTags": None, "Layers": ["0.tar.gz", "1.tar.gz"]}
    files = {"c.json": config_of(*LAYERS), "manifest.json": json.dumps([entry]).encode()}
    files |= {f"{n}.tar.gz": data for n, data in enumerate(packed)}
    with DockerArchive(archive(tmp_path / "x.tar", files)) as source:
        layers = source.resolve("").manifest.layers
        assert [(layer.digest, layer.media_type) for layer in layers] == [
            (Digest.of(p), DOCKER_LAYER) for p in packed
        ]
        assert [read(source, layer) for layer in layers] == packed


def test_compressed_layer_of_another_image(tmp_path: Path) -> None:
    """Is not what the config says."""
    entry = {"Config": "c.json", "Layers": ["0.tar.gz"]}
    files = {
        "c.json": config_of(LAYERS[0]),
        "manifest.json": json.dumps([entry]).encode(),
        "0.tar.gz": gzip.compress(LAYERS[1]),
    }
    with (
        DockerArchive(archive(tmp_path / "x.tar", files)) as source,
        pytest.raises(DigestMismatch, match=r"0\.tar\.gz"),
    ):
        source.resolve("")


def test_plain_layer_of_another_image(tmp_path: Path) -> None:
    """Is noticed when its bytes are read."""
    entry = {"Config": "c.json", "Layers": ["0.tar"]}
    other = bytes(reversed(LAYERS[0]))
    files = {"c.json": config_of(LAYERS[0]), "manifest.json": json.dumps([entry]).encode(), "0.tar": other}
    with DockerArchive(archive(tmp_path / "x.tar", files)) as source:
        layer = source.resolve("").manifest.layers[0]
        with pytest.raises(DigestMismatch):
            read(source, layer)


@pytest.mark.parametrize(
    ("manifest", "kind"),
    [
        (b"", InvalidDocument),
        (b"{}", InvalidDocument),
        (b"[1]", InvalidDocument),
        (b'[{"Config": 1}]', InvalidDocument),
        (b'[{"Config": "c.json", "Layers": [1]}]', InvalidDocument),
        (b'[{"Config": "c.json", "RepoTags": "app"}]', InvalidDocument),
        (b'[{"Config": "c.json", "Layers": []}]', InvalidDocument),
        (b'[{"Config": "c.json", "Layers": ["missing", "a"]}]', InvalidDocument),
        (b'[{"Config": "missing.json", "Layers": []}]', NotFound),
        (b'[{"Config": "../../etc/passwd", "Layers": []}]', NotFound),
        (b"[]", NotFound),
        (b"[" * 100_000, InvalidDocument),
    ],
)
def test_broken_manifest(tmp_path: Path, manifest: bytes, kind: type[Error]) -> None:
    """Says which archive."""
    files = {"c.json": config_of(*LAYERS), "manifest.json": manifest}
    with (
        pytest.raises(kind, match="docker-archive:"),
        DockerArchive(archive(tmp_path / "x.tar", files)) as source,
    ):
        source.resolve("")


def test_other_archives(tmp_path: Path) -> None:
    """From before 1.10, of something else, or with a config nobody would hold in memory."""
    with pytest.raises(Unsupported) as caught:
        DockerArchive(archive(tmp_path / "x.tar", {"repositories": b"{}"}))
    assert "older than 1.10" in caught.value.hint
    with pytest.raises(Unsupported, match="no manifest"):
        DockerArchive(archive(tmp_path / "y.tar", {"README": b""}))
    files = {"c.json": b" " * 9_000_000, "manifest.json": b'[{"Config": "c.json"}]'}
    with DockerArchive(archive(tmp_path / "z.tar", files)) as source, pytest.raises(TooLarge):
        source.resolve("")


def test_new_archive_keeps_documents_as_they_are(tmp_path: Path) -> None:
    """Docker 25 and later save an image layout; an index in it comes out as an index."""
    inner = tmp_path / "inner.tar"
    memory = Memory()
    index = make_index(memory, ["linux/amd64", "linux/s390x"])
    with Archive.create(str(inner)) as layout:
        copy(memory, index, layout, ["x"])
    with tarfile.open(inner) as tar:
        files = {m.name: _content(tar, m) for m in tar.getmembers() if m.isfile()}
    entry = index.descriptor.to_json()
    entry["annotations"] = {
        "io.containerd.image.name": "docker.io/library/app:1",
        "org.opencontainers.image.ref.name": "1",
    }
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    files["manifest.json"] = b'[{"Config":"blobs/sha256/x","RepoTags":["app:1"],"Layers":[]}]'
    with DockerArchive(archive(tmp_path / "x.tar", files)) as source:
        for name in ("app:1", "", "@0", "1", str(index.digest)):
            assert source.resolve(name) == index
        assert list(source.tags()) == ["app:1"]
        copy(source, index, Memory(), ["whole"])


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = tar.extractfile(member)
    assert stream is not None
    return stream.read()


def written(path: Path) -> dict[str, bytes]:
    """Regular files of an archive."""
    with tarfile.open(path) as tar:
        return {m.name: _content(tar, m) for m in tar.getmembers() if m.isfile()}


def test_written_archive_is_what_engines_load(tmp_path: Path) -> None:
    """Plain layers, a config named by its digest, names in both lists."""
    source, path = Memory(), tmp_path / "x.tar"
    image = make_image(source, "linux/arm64", extra_layers=[{"/b": (b"b", 0o644)}])
    with DockerArchiveStore(str(path)) as store:
        copy(source, image, store, ["app", "ghcr.io/acme/app:1"])
        assert list(store.tags()) == ["app:latest", "ghcr.io/acme/app:1"]
    files = written(path)
    (entry,) = json.loads(files["manifest.json"])
    config = image.manifest.config
    assert entry["Config"] == f"{config.digest.hex}.json"
    assert entry["RepoTags"] == ["app:latest", "ghcr.io/acme/app:1"]
    assert files[entry["Config"]] == read(source, config)
    ids = json.loads(files[entry["Config"]])["rootfs"]["diff_ids"]
    assert [f"sha256:{hashlib.sha256(files[name]).hexdigest()}" for name in entry["Layers"]] == ids
    top = entry["Layers"][-1].removesuffix("/layer.tar")
    repositories = {"app": {"latest": top}, "ghcr.io/acme/app": {"1": top}}
    assert json.loads(files["repositories"]) == repositories
    assert json.loads(files[f"{top}/json"])["parent"] == entry["Layers"][0].removesuffix("/layer.tar")
    assert [p.name for p in tmp_path.iterdir()] == ["x.tar"]


def test_written_archive_is_read_again(tmp_path: Path) -> None:
    """With the same config, so with the same image id."""
    source, path = Memory(), str(tmp_path / "x.tar")
    image, other = make_image(source), make_image(source, "linux/s390x")
    with DockerArchiveStore(path) as store:
        copy(source, image, store, ["app:1"])
        copy(source, other, store, ["app:2"])
    with DockerArchive(path) as archived:
        assert archived.resolve("app:1").manifest.config.digest == image.manifest.config.digest
        assert archived.resolve("@1").manifest.config.digest == other.manifest.config.digest
        with pytest.raises(NotFound, match="holds 2 images"):
            archived.resolve("")


def test_same_images_give_the_same_bytes(tmp_path: Path) -> None:
    """Nothing of the time or the machine is in it."""
    made = []
    for name in ("one", "two"):
        source = Memory()
        image = make_image(source)
        with DockerArchiveStore(str(tmp_path / name)) as store:
            copy(source, image, store, ["app:1"])
        made.append((tmp_path / name).read_bytes())
    assert made[0] == made[1]


def test_layer_that_comes_twice_is_stored_once(tmp_path: Path) -> None:
    """An empty layer does."""
    source, path = Memory(), tmp_path / "x.tar"
    same = {"/a": (b"a", 0o644)}
    image = make_image(source, files=same, extra_layers=[same])
    with DockerArchiveStore(str(path)) as store:
        copy(source, image, store, ["app:1"])
    (entry,) = json.loads(written(path)["manifest.json"])
    assert len(entry["Layers"]) == 2
    assert len(set(entry["Layers"])) == 1
    with DockerArchive(str(path)) as archived:
        assert len(archived.resolve("app:1").manifest.layers) == 2


def test_index_is_refused_with_a_way_out(tmp_path: Path) -> None:
    """And no file is made."""
    source = Memory()
    index = make_index(source)
    with DockerArchiveStore(str(tmp_path / "x.tar")) as store, pytest.raises(Unsupported) as caught:
        store.tag(index, "app:1")
    assert "--platform" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_artifact_is_refused(tmp_path: Path) -> None:
    """No engine runs it."""
    empty = Descriptor.of(b"{}", OCI_EMPTY)
    fields = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": empty.to_json(),
        "layers": [empty.to_json()],
    }
    document = Document(OCI_MANIFEST, json.dumps(fields).encode())
    with DockerArchiveStore(str(tmp_path / "x.tar")) as store:
        put_bytes(store, empty, b"{}")
        with pytest.raises(Unsupported, match="no image that runs"):
            store.tag(document, "app:1")


def test_layer_that_is_not_the_configs(tmp_path: Path) -> None:
    """The manifest and the config are of two images."""
    source = Memory()
    one, two = make_image(source, seed=1), make_image(source, seed=2)
    fields = one.to_json()
    fields["config"] = two.manifest.config.to_json()
    mixed = Document(one.media_type, json.dumps(fields).encode())
    path = tmp_path / "x.tar"
    with DockerArchiveStore(str(path)) as store:
        for blob in (*one.manifest.layers, two.manifest.config):
            put_bytes(store, blob, read(source, blob))
        with pytest.raises(DigestMismatch, match="the config expects"):
            store.tag(mixed, "app:1")
    assert list(tmp_path.iterdir()) == []


def test_digest_is_no_name_for_an_archive(tmp_path: Path) -> None:
    """``docker load`` would not know what to do with it."""
    with DockerArchiveStore(str(tmp_path / "x.tar")) as store:
        image = make_image(store)
        with pytest.raises(InvalidReference, match="not a digest"):
            store.tag(image, f"app@{image.digest}")
