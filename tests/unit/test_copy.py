# SPDX-License-Identifier: Apache-2.0
"""One copy between any two places: order, deduplication, what is left out, which side failed."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest

from manyfest.content import mediatypes as types
from manyfest.content.descriptor import Descriptor
from manyfest.content.document import Document
from manyfest.errors import CopyError, DigestMismatch, Forbidden, InvalidDocument, NotFound
from manyfest.indexes.edit import build
from manyfest.platforms import Platform
from manyfest.stores.base import CanMount, Source, load, put_bytes, read
from manyfest.stores.copy import MAX_DEPTH, Event, copy, plan
from manyfest.stores.memory import Memory

if TYPE_CHECKING:
    from manyfest.stores.base import Opener, Readable


def image(
    store: Memory, platform: str, layer: bytes = b"layer", layer_type: str = types.OCI_LAYER
) -> Document:
    parsed = Platform.parse(platform)
    config = json.dumps({**parsed.to_json(), "rootfs": {"type": "layers", "diff_ids": []}}).encode()
    config_at = Descriptor.of(config, types.OCI_CONFIG)
    layer_at = Descriptor.of(layer, layer_type)
    put_bytes(store, config_at, config)
    if not types.is_foreign(layer_type):
        put_bytes(store, layer_at, layer)
    fields = {"schemaVersion": 2, "config": config_at.to_json(), "layers": [layer_at.to_json()]}
    document = Document(types.OCI_MANIFEST, json.dumps(fields).encode())
    put_bytes(store, document.descriptor, document.raw)
    return document


def index(store: Memory, name: str, *platforms: str) -> Document:
    entries = [image(store, p).descriptor.with_platform(Platform.parse(p)) for p in platforms]
    document = build(entries)
    store.tag(document, name)
    return document


class Journal(Memory):
    """Writes down what is done to it, and fails where it is told to."""

    def __init__(self, place: str = "journal") -> None:
        super().__init__(place)
        self.log: list[str] = []
        self.fail_on: str = ""
        self.asked: list[str] = []

    def put(self, descriptor: Descriptor, content: Opener) -> None:
        if self.fail_on == "put":
            raise Forbidden("no pushing here", status=403)
        super().put(descriptor, content)
        self.log.append("document" if types.is_document(descriptor.media_type) else "blob")

    def tag(self, document: Document, name: str) -> None:
        if self.fail_on == "tag":
            raise Forbidden("no tagging here", status=403)
        super().tag(document, name)
        self.log[-1:] = [f"tag {name}"]  # in place of the put that it does by itself

    def exists(self, descriptor: Descriptor) -> bool:
        self.asked.append(str(descriptor.digest))
        return super().exists(descriptor)


def test_everything_arrives_and_reads_back() -> None:
    """The copy has the same bytes under the same digests."""
    source, target = Memory("source"), Memory("target")
    root = index(source, "v1", "linux/amd64", "linux/arm64", "linux/s390x")
    assert copy(source, root, target, ["v1", "latest"]).digest == root.digest
    for name in ("v1", "latest"):
        assert target.resolve(name).raw == root.raw
    for entry in root.index.manifests:
        manifest = load(target, entry).manifest
        assert read(target, manifest.config) == read(source, manifest.config)
        assert read(target, manifest.layers[0]) == b"layer"


def test_children_come_before_parents_and_the_tag_is_last() -> None:
    """A reader never sees a document whose content is missing."""
    source, target = Memory(), Journal()
    copy(source, index(source, "v1", "linux/amd64", "linux/arm64"), target, ["v1"])
    assert target.log == ["blob"] * 3 + ["document"] * 2 + ["tag v1"]


def test_shared_blobs_move_once() -> None:
    """Three platforms with one layer in common: one layer, three configs."""
    source, target = Memory(), Journal()
    events: list[Event] = []
    copy(
        source,
        index(source, "v1", "linux/amd64", "linux/arm64", "linux/s390x"),
        target,
        ["v1"],
        on_event=events.append,
    )
    assert sum(event.kind == "done" for event in events) == 4
    assert (
        sum(event.size for event in events if event.kind == "sent")
        == plan([(source, source.resolve("v1"))]).size
    )


def test_an_older_version_under_the_name_saves_what_is_there() -> None:
    """Adding a platform to a list moves that platform only."""
    source, target = Memory(), Journal()
    copy(source, index(source, "v1", "linux/amd64", "linux/arm64"), target, ["v1"])
    events: list[Event] = []
    copy(
        source,
        index(source, "v1", "linux/amd64", "linux/arm64", "linux/s390x"),
        target,
        ["v1"],
        on_event=events.append,
    )
    assert sum(event.kind == "document" for event in events) == 1


def test_the_same_version_again_moves_nothing() -> None:
    """Only the tag is written again."""
    source, target = Memory(), Journal()
    root = index(source, "v1", "linux/amd64")
    copy(source, root, target, ["v1"])
    target.log.clear()
    copy(source, root, target, ["v1"])
    assert target.log == ["tag v1"]


def test_without_names_the_root_is_put_by_digest() -> None:
    """A copy by digest leaves no tag."""
    source, target = Memory(), Memory()
    root = index(source, "v1", "linux/amd64")
    copy(source, root, target, [])
    assert list(target.tags()) == []
    assert target.resolve(str(root.digest)) == root


def test_foreign_layers_are_skipped_and_said() -> None:
    """Layers that live elsewhere (old Windows bases) are not there to copy."""
    source, target = Memory(), Memory()
    root = image(source, "windows/amd64", layer_type=types.DOCKER_FOREIGN_LAYER)
    events: list[Event] = []
    copy(source, root, target, ["v1"], on_event=events.append)
    assert [event.kind for event in events].count("skipped") == 1


def test_a_missing_child_names_the_platform_and_the_source() -> None:
    """Proxy caches serve lists whose children are gone (goharbor/harbor#21818)."""
    source, target = Memory("source"), Memory("target")
    root = index(source, "v1", "linux/amd64", "linux/arm64")
    source.delete(root.index.manifests[1])
    with pytest.raises(CopyError, match="linux/arm64") as caught:
        copy(source, root, target, ["v1"])
    assert caught.value.side == "source"
    assert isinstance(caught.value.__cause__, NotFound)
    assert list(target.tags()) == []


class Lying(Memory):
    """Serves other bytes than it should."""

    def open(self, descriptor: Descriptor, offset: int = 0) -> Readable:
        data = super().open(descriptor, offset).read()
        return io.BytesIO(data[:-1] + b"?") if descriptor.media_type == types.OCI_LAYER else io.BytesIO(data)


def test_wrong_bytes_are_the_sources_fault_and_leave_nothing() -> None:
    """The target finds out, the message blames the source, no tag appears."""
    source, target = Lying("source"), Memory("target")
    root = index(source, "v1", "linux/amd64")
    with pytest.raises(CopyError) as caught:
        copy(source, root, target, ["v1"])
    assert caught.value.side == "source"
    assert isinstance(caught.value.__cause__, DigestMismatch)
    assert list(target.tags()) == []


@pytest.mark.parametrize("where", ["put", "tag"])
def test_a_refusing_target_is_the_targets_fault(where: str) -> None:
    """403 while pushing: side target, the cause kept."""
    source, target = Memory(), Journal("target")
    target.fail_on = where
    with pytest.raises(CopyError, match="no pushing" if where == "put" else "no tagging") as caught:
        copy(source, index(source, "v1", "linux/amd64"), target, ["v1"])
    assert caught.value.side == "target"
    assert isinstance(caught.value.__cause__, Forbidden)


class Mounting(Journal, CanMount):
    """Takes over what it is asked to, or refuses."""

    def __init__(self, *, accepts: bool) -> None:
        super().__init__()
        self.accepts = accepts

    def mount(self, descriptor: Descriptor, source: Source) -> bool:
        if self.accepts:
            Memory.put(self, descriptor, lambda offset: source.open(descriptor, offset))
        return self.accepts


@pytest.mark.parametrize(("accepts", "kind"), [(True, "mounted"), (False, "done")])
def test_a_refused_mount_falls_back_to_bytes(accepts: bool, kind: str) -> None:
    """docker aborts here; we send the bytes."""
    source, target = Memory(), Mounting(accepts=accepts)
    events: list[Event] = []
    root = index(source, "v1", "linux/amd64")
    copy(source, root, target, ["v1"], on_event=events.append)
    assert [event.kind for event in events].count(kind) == 2
    assert read(target, load(target, root.index.manifests[0]).manifest.layers[0]) == b"layer"


def test_big_blobs_are_asked_for_before_they_are_sent() -> None:
    """A gigabyte that is there already costs one question."""
    source, target = Memory(), Journal()
    big = b"x" * (1024 * 1024)
    root = image(source, "linux/amd64", big)
    put_bytes(target, Descriptor.of(big, types.OCI_LAYER), big)
    events: list[Event] = []
    copy(source, root, target, ["v1"], on_event=events.append)
    assert [event.kind for event in events].count("there") == 1


def test_indexes_nested_too_deep_are_refused() -> None:
    """Nine indexes in each other are an attack or an accident."""
    source = Memory()
    root = index(source, "v1", "linux/amd64")
    for _ in range(MAX_DEPTH):
        root = build([root.descriptor])
        put_bytes(source, root.descriptor, root.raw)
    with pytest.raises(InvalidDocument, match="nested more than"):
        copy(source, root, Memory(), ["v1"])


class Looping(Memory):
    """Answers every digest with the same index, which names itself."""

    def resolve(self, name: str) -> Document:
        fields = {
            "schemaVersion": 2,
            "manifests": [{"mediaType": types.OCI_INDEX, "digest": LOOP, "size": 256}],
        }
        raw = json.dumps(fields).encode()
        return Document(types.OCI_INDEX, raw + b" " * (256 - len(raw)))


LOOP = "sha256:" + "ab" * 32


def test_an_index_in_a_loop_ends() -> None:
    """Verified content cannot loop; a source that does not verify must not hang us either."""
    source = Looping()
    made = plan([(source, source.resolve("v1"))])
    assert len(made.documents) == 1


def test_referrers_come_along_when_asked() -> None:
    """A signature that names the image as its subject is copied after it."""
    source, target = Memory(), Memory()
    root = index(source, "v1", "linux/amd64")
    empty = Descriptor.of(b"{}", types.OCI_EMPTY)
    put_bytes(source, empty, b"{}")
    fields = {
        "schemaVersion": 2,
        "artifactType": "application/example.signature",
        "config": empty.to_json(),
        "layers": [empty.to_json()],
        "subject": root.descriptor.to_json(),
    }
    signature = Document(types.OCI_MANIFEST, json.dumps(fields).encode())
    put_bytes(source, signature.descriptor, signature.raw)
    copy(source, root, target, ["v1"])
    assert target.referrers(root.digest) == ()
    copy(source, root, target, ["v2"], referrers=True)
    assert [d.artifact_type for d in target.referrers(root.digest)] == ["application/example.signature"]


def test_signatures_in_tags_come_along_when_asked() -> None:
    """cosign's older way: a tag named after the digest."""
    source, target = Memory(), Memory()
    root = index(source, "v1", "linux/amd64")
    source.tag(image(source, "linux/amd64", b"signature"), f"sha256-{root.digest.hex}.sig")
    copy(source, root, target, ["v1"], referrers=True)
    assert sorted(target.tags()) == [f"sha256-{root.digest.hex}.sig", "v1"]
