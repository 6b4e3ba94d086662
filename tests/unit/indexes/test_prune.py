# SPDX-License-Identifier: Apache-2.0
"""What goes from a repository, and what must never go."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from manyfest.content.descriptor import Descriptor
from manyfest.content.digest import Digest
from manyfest.content.document import Document
from manyfest.content.mediatypes import OCI_INDEX
from manyfest.errors import InputError, NotFound, Refused, StoreError, Unsupported
from manyfest.indexes.join import mark_name
from manyfest.indexes.prune import Pruning, Rules, carry_out, plan
from manyfest.platforms import Platform
from manyfest.stores.base import Source, load, put_bytes
from manyfest.stores.layout import Layout
from manyfest.stores.memory import Memory
from manyfest.testing.images import make_image, make_index

DAY = 86400.0
NOW = 1_800_000_000.0
PLATFORMS = ("linux/amd64", "linux/arm64")


def at(days: float) -> dict[str, str]:
    """The annotation of something created so many days before NOW."""
    from datetime import UTC, datetime

    return {"org.opencontainers.image.created": datetime.fromtimestamp(NOW - days * DAY, UTC).isoformat()}


def tags(pruning: Pruning) -> tuple[list[str], list[str]]:
    """Kept and gone."""
    return [row.tag for row in pruning.kept], [row.tag for row in pruning.gone]


def reason(pruning: Pruning, tag: str) -> str:
    """Why a tag is kept."""
    return next(row.reason for row in pruning.kept if row.tag == tag)


def whole(source: Source, tag: str) -> bool:
    """Is everything there that a tagged list leads to?"""
    return all(source.exists(entry) for entry in source.resolve(tag).index.manifests)


@pytest.fixture
def store() -> Memory:
    """Five lists, a day to thirty days old, all different."""
    made = Memory()
    for seed, (tag, days) in enumerate((("v1", 30), ("v2", 20), ("pr-7", 15), ("pr-8", 3), ("latest", 1))):
        make_index(made, PLATFORMS, seed=seed, annotations=at(days), attestations=True, tag=tag)
    return made


@pytest.mark.parametrize(
    ("rules", "gone"),
    [
        (Rules(keep=("v*", "latest")), ["pr-7", "pr-8"]),
        (Rules(only=("pr-*",)), ["pr-7", "pr-8"]),
        (Rules(only=("pr-*",), older_than_s=10 * DAY), ["pr-7"]),
        (Rules(keep_last=2), ["pr-7", "v1", "v2"]),
        (Rules(keep=("v*",), keep_last=1), ["pr-7", "pr-8"]),
        (Rules(older_than_s=18 * DAY), ["v1", "v2"]),
        (Rules(older_than_s=18 * DAY, keep_last=4), ["v1"]),
        (Rules(keep=("*",)), []),
    ],
    ids=str,
)
def test_rules(store: Memory, rules: Rules, gone: list[str]) -> None:
    """A tag goes when no rule keeps it; everything behind the others is whole afterwards, what goes is gone."""
    pruning = plan(store, rules, NOW)
    assert tags(pruning)[1] == gone
    behind = {entry.digest for tag in gone for entry in store.resolve(tag).index.manifests}
    assert carry_out(pruning, store) == ()
    assert sorted(store.tags()) == sorted({"v1", "v2", "pr-7", "pr-8", "latest"} - set(gone))
    assert all(whole(store, tag) for tag in store.tags())
    assert not any(store.exists(Descriptor(OCI_INDEX, digest, 1)) for digest in behind)


def test_no_rule_is_no_rule() -> None:
    """Nobody means everything by saying nothing."""
    with pytest.raises(InputError, match="no rule"):
        Rules()


def test_everything_goes_only_when_that_is_said(store: Memory) -> None:
    """A pattern that was mistyped keeps nothing."""
    with pytest.raises(Refused, match="none of 5 tags"):
        plan(store, Rules(keep=("V*",)), NOW)
    assert tags(plan(store, Rules(keep=("V*",)), NOW, allow_empty=True))[0] == []


def test_a_child_of_something_kept_stays() -> None:
    """The image of another list, or one with a tag of its own that goes."""
    store = Memory()
    child = make_image(store, "linux/amd64", tag="1-amd64")
    other = make_image(store, "linux/arm64", tag="1-arm64")
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [child.descriptor.to_json()]}
    store.tag(Document(OCI_INDEX, json.dumps(index).encode()), "1")
    pruning = plan(store, Rules(keep=("1",)), NOW)
    assert tags(pruning) == (["1"], ["1-amd64", "1-arm64"])
    assert pruning.content == (other.descriptor,)
    carry_out(pruning, store)
    assert (list(store.tags()), whole(store, "1")) == (["1"], True)


def test_a_list_in_a_list_stays_whole() -> None:
    """However deep."""
    store = Memory()
    inner = make_index(store, PLATFORMS, tag="inner")
    fields = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [inner.descriptor.to_json()]}
    store.tag(Document(OCI_INDEX, json.dumps(fields).encode()), "outer")
    pruning = plan(store, Rules(keep=("outer",)), NOW)
    assert (tags(pruning)[1], pruning.content) == (["inner"], ())
    carry_out(pruning, store)
    assert whole(store, str(inner.digest))


def test_lists_go_before_what_they_list(store: Memory) -> None:
    """A reader finds a list whole, or not at all."""
    content = plan(store, Rules(only=("pr-7",)), NOW).content
    assert content[0] == store.resolve("pr-7").descriptor
    assert {entry.digest for entry in content[1:]} == {
        entry.digest for entry in store.resolve("pr-7").index.manifests
    }


def referring(store: Memory, subject: Document, artifact: str) -> Document:
    """Put a signature of ``subject``."""
    fields = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": artifact,
        "config": put(store, b"{}").to_json(),
        "layers": [],
        "subject": subject.descriptor.to_json(),
    }
    document = Document("application/vnd.oci.image.manifest.v1+json", json.dumps(fields).encode())
    put_bytes(store, document.descriptor, document.raw)
    return document


def put(store: Memory, raw: bytes) -> Descriptor:
    """Put a blob."""
    descriptor = Descriptor("application/vnd.oci.empty.v1+json", Digest.of(raw), len(raw))
    put_bytes(store, descriptor, raw)
    return descriptor


def test_signatures_go_with_what_they_sign(store: Memory) -> None:
    """As referrers, signatures of signatures too; those of what stays stay."""
    gone = referring(store, store.resolve("pr-7"), "x/signature")
    second = referring(store, gone, "x/countersignature")
    kept = referring(store, store.resolve("v1"), "x/signature")
    carry_out(plan(store, Rules(only=("pr-7",)), NOW), store)
    assert [store.exists(each.descriptor) for each in (gone, second, kept)] == [False, False, True]


def test_tags_about_a_digest_go_with_it(store: Memory) -> None:
    """Cosign's tags and the stand-in for referrers, whatever the rules say of their names."""
    names = {}
    for tag in ("pr-7", "v1"):
        digest = store.resolve(tag).digest
        names[tag] = f"{digest.algorithm}-{digest.hex}.sig"
        make_image(store, "linux/amd64", seed=hash(tag) % 1000, tag=names[tag])
    kept, gone = tags(plan(store, Rules(keep=("v*", "latest")), NOW))
    assert names["pr-7"] in gone
    assert names["v1"] in kept
    assert names["v1"] in tags(plan(store, Rules(keep_last=1, keep=("v1",)), NOW))[0]


def test_marks_of_a_join_go_with_their_list(store: Memory) -> None:
    """They are repair marks of parallel jobs, and no images of their own."""
    for tag in ("pr-7", "v1"):
        mark = mark_name(tag, Platform.parse("linux/arm64"))
        store.tag(store.resolve(tag), mark)
    kept, gone = tags(plan(store, Rules(keep=("v*", "latest")), NOW))
    assert "pr-7.join-linux-arm64" in gone
    assert "v1.join-linux-arm64" in kept


def test_a_list_is_as_old_as_its_newest_image() -> None:
    """Where it says nothing itself, its images' configs are asked."""
    store = Memory()
    for seed, tag in enumerate(("a", "b")):
        make_index(store, PLATFORMS, seed=seed, tag=tag)
    row = plan(store, Rules(keep_last=1), NOW).kept[0]
    assert row.created_s is None  # the test images say 1970, as reproducible builds do
    assert row.reason == "its age is not known"


def dated(store: Memory, created: str, tag: str) -> None:
    """An image whose config says when it was created."""
    image = make_image(store, "linux/amd64", seed=len(created))
    config = json.loads(b"".join(iter(store.open(image.manifest.config).read, b"")))
    raw = json.dumps({**config, "created": created}).encode()
    descriptor = Descriptor(image.manifest.config.media_type, Digest.of(raw), len(raw))
    put_bytes(store, descriptor, raw)
    fields = {**json.loads(image.raw), "config": descriptor.to_json()}
    store.tag(Document(image.media_type, json.dumps(fields).encode()), tag)


def test_ages_of_configs() -> None:
    """Any RFC 3339 time; nonsense is an age that is not known."""
    store = Memory()
    dated(store, "2026-01-01T00:00:00Z", "old")
    dated(store, "2026-06-01T12:00:00.123456+02:00", "new")
    dated(store, "yesterday", "odd")
    pruning = plan(store, Rules(keep_last=1), NOW)
    assert tags(pruning) == (["new", "odd"], ["old"])
    assert (reason(pruning, "new"), reason(pruning, "odd")) == ("the newest", "its age is not known")


class Shared(Memory):
    """A place that removes tags only with their content, as Debian's registry."""

    def untag(self, name: str) -> None:
        raise Unsupported("content only")


def test_a_tag_that_cannot_go_alone_is_told() -> None:
    """Where a tag goes only with its content, and another tag needs that."""
    store = Shared()
    image = make_image(store, "linux/amd64", tag="1")
    store.tag(image, "pr-1")
    make_image(store, "linux/amd64", seed=3, tag="pr-2")
    left = carry_out(plan(store, Rules(keep=("1",)), NOW), store)
    assert [(each.tag, each.reason) for each in left] == [("pr-1", "content only")]
    assert sorted(store.tags()) == ["1", "pr-1"]


@pytest.mark.parametrize(
    "change",
    [
        lambda store: store.tag(store.resolve("v1"), "pr-7"),
        lambda store: store.tag(store.resolve("pr-7"), "v3"),
    ],
    ids=["moved", "new"],
)
def test_a_tag_pushed_meanwhile_stops_it(store: Memory, change: Callable[[Memory], None]) -> None:
    """Nothing is deleted then."""
    pruning = plan(store, Rules(only=("pr-*",)), NOW)
    change(store)
    before = sorted(store.tags())
    with pytest.raises(Refused, match="pushed meanwhile"):
        carry_out(pruning, store)
    assert sorted(store.tags()) == before
    assert whole(store, "v1")


def test_a_failure_half_way_says_what_is_left(store: Memory) -> None:
    """What has lost its tag and is still there."""

    class Failing(Memory):
        def delete(self, descriptor: Descriptor) -> None:
            if len(self.seen) == 2:
                raise StoreError("the disk is on fire")
            self.seen.append(descriptor)
            super().delete(descriptor)

        seen: list[Descriptor] = []  # noqa: RUF012 - one store

    failing = Failing()
    failing.__dict__.update(store.__dict__)
    content = plan(failing, Rules(only=("pr-7",)), NOW).content
    with pytest.raises(StoreError, match="half way: the disk is on fire") as caught:
        carry_out(plan(failing, Rules(only=("pr-7",)), NOW), failing)
    assert str(content[2].digest) in caught.value.hint
    assert all(whole(failing, tag) for tag in failing.tags())


def test_a_list_with_a_hole_can_be_pruned(store: Memory) -> None:
    """Its missing child leads nowhere; what is there goes."""
    child = store.resolve("pr-7").index.manifests[0]
    store.delete(load(store, child).descriptor)
    carry_out(plan(store, Rules(only=("pr-7",)), NOW), store)
    with pytest.raises(NotFound):
        store.resolve("pr-7")


def test_a_folder_gives_its_space_back(tmp_path: Path) -> None:
    """Layers and configs that nothing else in the folder needs go too, shared ones stay."""
    layout = Layout.create(str(tmp_path / "out"), durable=False)
    shared = {"/shared": (b"the same in both", 0o644)}
    for tag in ("1", "2"):
        make_image(layout, "linux/amd64", files=shared, extra_layers=[{f"/{tag}": (b"x", 0o644)}], tag=tag)
    kept = layout.resolve("2").manifest
    carry_out(plan(layout, Rules(only=("1",)), NOW), layout)
    needed = {layout.resolve("2").digest, kept.config.digest, *(layer.digest for layer in kept.layers)}
    assert set(layout.digests()) == needed
