# SPDX-License-Identifier: Apache-2.0
"""The images that tests and the demo are made of."""

from __future__ import annotations

import gzip
import io
import shutil
import subprocess
import tarfile

import pytest

from manyfest.content import mediatypes
from manyfest.content.digest import Digest
from manyfest.content.document import ImageConfig, Manifest, successors
from manyfest.emulate.images import PROGRAM_PATH, layer_tar, program_image, read_program
from manyfest.emulate.programs import PLATFORMS, program
from manyfest.errors import InputError, InvalidDocument
from manyfest.platforms import Platform
from manyfest.stores.base import load, read
from manyfest.stores.memory import Memory
from manyfest.testing.images import make_image, make_index, random_bytes


def layer_of(store: Memory, manifest: Manifest, number: int = 0) -> bytes:
    """The blob of a layer as stored."""
    return read(store, manifest.layers[number])


@pytest.mark.parametrize("platform", PLATFORMS, ids=str)
def test_program_image_holds_the_program_and_its_platform(platform: Platform) -> None:
    """Layer, diff_id, config and entrypoint agree."""
    store = Memory()
    manifest = program_image(store, platform).manifest
    config = ImageConfig(read(store, manifest.config))
    archive = gzip.decompress(layer_of(store, manifest))
    assert config.platform == platform
    assert config.diff_ids == (Digest.of(archive),)
    assert config.settings["Entrypoint"] == [PROGRAM_PATH]
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        (member,) = tar.getmembers()
        stream = tar.extractfile(member)
        assert stream is not None
        assert (member.name, member.mode, member.mtime, stream.read()) == (
            "hello",
            0o755,
            0,
            program(platform),
        )


def test_program_can_be_read_back() -> None:
    """From an image of this kind, and from no other."""
    store = Memory()
    platform = Platform.parse("linux/riscv64")
    assert read_program(store, program_image(store, platform).manifest) == program(platform)
    for other in (
        make_image(store, files={"/other": (b"", 0o644)}),
        make_image(store, files={PROGRAM_PATH: "elsewhere"}),
        make_image(store, compression="none"),
        make_image(store, extra_layers=[{}]),
    ):
        with pytest.raises(InvalidDocument):
            read_program(store, other.manifest)


def test_config_may_claim_another_platform() -> None:
    """As old images for 32-bit ARM do, which leave the variant out."""
    store = Memory()
    v7, plain = Platform.parse("linux/arm/v7"), Platform("linux", "arm")
    manifest = program_image(store, v7, claims=plain).manifest
    assert ImageConfig(read(store, manifest.config)).platform == plain
    assert program(v7) in gzip.decompress(layer_of(store, manifest))


def test_digests_are_the_same_everywhere() -> None:
    """Nothing depends on the clock, the machine or the version of zlib."""
    document = make_index(Memory(), attestations=True, seed=1)
    assert str(document.digest) == "sha256:ae659029cd17551269ef364f12f3177db95964ffe4a7f574a533408ed0910ab8"
    assert make_index(Memory(), attestations=True, seed=1) == document


def test_seed_changes_every_layer_and_shares_none() -> None:
    """Two indexes of the same platforms have no blob in common except by wish."""
    store = Memory()
    first, second = (make_index(store, seed=seed) for seed in (1, 2))
    layers = [{load(store, e).manifest.layers[0].digest for e in d.index.manifests} for d in (first, second)]
    assert len(layers[0] | layers[1]) == 6


@pytest.mark.parametrize(("docker", "kind"), [(False, mediatypes.OCI_INDEX), (True, mediatypes.DOCKER_LIST)])
def test_index_is_whole_and_tagged(docker: bool, kind: str) -> None:
    """All that the index needs, down to the layers, is in the store, in one family of media types."""
    store = Memory()
    index = make_index(store, ["linux/amd64", "linux/s390x"], docker=docker, annotations={"a": "b"}, tag="1")
    assert store.resolve("1") == index
    assert (index.media_type, index.index.annotations) == (kind, {"a": "b"})
    for entry in index.index.manifests:
        child = load(store, entry)
        assert all(store.exists(each) for each in successors(child))
        assert {mediatypes.is_docker(d.media_type) for d in (entry, *successors(child))} == {docker}


def test_attestations_follow_the_images_they_speak_of() -> None:
    """Entries have the platform unknown/unknown and name an image of the same index."""
    store = Memory()
    index = make_index(store, ["linux/amd64", "linux/arm64"], attestations=True).index
    images, attestations = index.manifests[:2], index.manifests[2:]
    assert [entry.attests for entry in attestations] == [str(entry.digest) for entry in images]
    assert {str(entry.platform) for entry in attestations} == {"unknown/unknown"}
    assert all(store.exists(each) for entry in attestations for each in successors(load(store, entry)))


def test_attestations_in_a_docker_list_are_refused() -> None:
    """BuildKit writes them in OCI indexes only."""
    with pytest.raises(InputError, match="docker=False"):
        make_index(Memory(), attestations=True, docker=True)


def test_image_settings_reach_the_config() -> None:
    """Entrypoint, environment and labels; annotations go to the manifest."""
    store = Memory()
    document = make_image(
        store,
        "linux/sparc64",
        entrypoint=["/x", "y"],
        env={"A": "1"},
        labels={"l": "m"},
        annotations={"n": "o"},
    )
    config = ImageConfig(read(store, document.manifest.config))
    assert config.settings == {"Entrypoint": ["/x", "y"], "Env": ["A=1"], "Labels": {"l": "m"}}
    assert (str(config.platform), document.manifest.annotations) == ("linux/sparc64", {"n": "o"})


def test_extra_layers_come_after_the_first() -> None:
    """One diff_id and one history entry for each layer."""
    store = Memory()
    document = make_image(store, files={"/a": (b"1", 0o600)}, extra_layers=[{"/b": (b"2", 0o600)}], tag="t")
    config = ImageConfig(read(store, document.manifest.config))
    archives = [gzip.decompress(layer_of(store, document.manifest, n)) for n in (0, 1)]
    assert config.diff_ids == tuple(Digest.of(archive) for archive in archives)
    assert len(config.json["history"]) == 2


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 300_000])
def test_gzip_layers_are_valid(size: int) -> None:
    """Python's reader is the judge."""
    store = Memory()
    files = {"/f": (random_bytes(size), 0o644)}
    manifest = make_image(store, files=files).manifest
    assert gzip.decompress(layer_of(store, manifest)) == layer_tar(files)


@pytest.mark.skipif(
    shutil.which("zstd") is None, reason="the zstd command is the judge; apt-get install zstd"
)
@pytest.mark.parametrize("size", [0, 131_072, 300_000])
def test_zstd_layers_are_valid(size: int) -> None:
    """The media type says zstd and the reference implementation reads it."""
    store = Memory()
    files = {"/f": (random_bytes(size), 0o644)}
    manifest = make_image(store, files=files, compression="zstd").manifest
    done = subprocess.run(["zstd", "-dc"], input=layer_of(store, manifest), check=True, capture_output=True)
    assert (manifest.layers[0].media_type, done.stdout) == (mediatypes.OCI_LAYER_ZSTD, layer_tar(files))


def test_uncompressed_layers() -> None:
    """The blob is the archive; its digest is the diff_id."""
    store = Memory()
    manifest = make_image(store, compression="none").manifest
    assert manifest.layers[0].media_type == mediatypes.OCI_LAYER
    assert ImageConfig(read(store, manifest.config)).diff_ids == (manifest.layers[0].digest,)


@pytest.mark.parametrize(("compression", "docker"), [("zstd", True), ("lzma", False)])
def test_unknown_compression_is_refused(compression: str, docker: bool) -> None:
    """The message says what the format knows."""
    with pytest.raises(InputError, match="gzip"):
        make_image(Memory(), compression=compression, docker=docker)


def test_tar_has_directories_before_files_and_links() -> None:
    """Sorted, so the order of the mapping does not matter; a text is a symbolic link."""
    archive = layer_tar({"/usr/lib/b": (b"bb", 0o644), "/lib": "usr/lib", "usr/a": (b"a", 0o755)})
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        members = tar.getmembers()
    assert [m.name for m in members] == ["lib", "usr", "usr/a", "usr/lib", "usr/lib/b"]
    assert [m.isdir() for m in members] == [False, True, False, True, False]
    assert (members[0].issym(), members[0].linkname) == (True, "usr/lib")
    assert archive == layer_tar({"usr/a": (b"a", 0o755), "/lib": "usr/lib", "/usr/lib/b": (b"bb", 0o644)})


@pytest.mark.parametrize("path", ["/", "", "/a/../b", "/a//b", "/" + "x" * 101])
def test_paths_that_cannot_be_are_refused(path: str) -> None:
    """Empty parts, parents, and names ustar has no room for."""
    with pytest.raises(InputError, match="as a path in an image"):
        layer_tar({path: (b"", 0o644)})


def test_random_bytes_may_be_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are made in pieces, and are the same bytes as in one."""
    whole = random_bytes(1001, "x")
    monkeypatch.setattr("manyfest.testing.images._PIECE", 64)
    assert random_bytes(1001, "x") == whole


def test_random_bytes_depend_on_the_seed_only() -> None:
    """And on nothing that changes between runs."""
    assert random_bytes(8, 1) == random_bytes(8, 1) != random_bytes(8, 2)
