# SPDX-License-Identifier: Apache-2.0
"""Editing indexes: nothing is lost that was not asked to go."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from manyfest.content import mediatypes as types
from manyfest.content.descriptor import Descriptor
from manyfest.content.document import Document
from manyfest.errors import InvalidSpec, NotFound, Refused
from manyfest.indexes.edit import added, build, changed, docker_bytes, dropped, rebuilt, refuse_duplicates
from manyfest.indexes.select import keep
from manyfest.platforms import Platform
from manyfest.stores.memory import Memory

Attest = Callable[[Memory, Descriptor], Descriptor]


def entry(platform: str, content: str = "", media_type: str = types.OCI_MANIFEST) -> Descriptor:
    return Descriptor.of((platform + content).encode(), media_type, platform=Platform.parse(platform))


def names(document: Document) -> list[str]:
    return [str(e.platform) for e in document.index.manifests]


def test_order_is_the_order_of_the_arguments() -> None:
    """First match wins, so order has meaning."""
    assert names(build([entry("linux/s390x"), entry("linux/amd64")])) == ["linux/s390x", "linux/amd64"]


@pytest.mark.parametrize(
    ("media_types", "annotations", "asked", "result"),
    [
        ([types.DOCKER_MANIFEST], {}, "", types.DOCKER_LIST),
        ([types.OCI_MANIFEST], {}, "", types.OCI_INDEX),
        ([types.DOCKER_MANIFEST, types.OCI_MANIFEST], {}, "", types.OCI_INDEX),
        ([types.DOCKER_MANIFEST], {"k": "v"}, "", types.OCI_INDEX),
        ([types.DOCKER_MANIFEST], {}, "oci", types.OCI_INDEX),
        ([types.OCI_MANIFEST], {}, "docker", types.DOCKER_LIST),
        ([], {}, "", types.OCI_INDEX),
    ],
)
def test_the_type_follows_the_entries_unless_asked(
    media_types: list[str], annotations: dict[str, str], asked: str, result: str
) -> None:
    """All Docker and nothing annotated: a Docker list."""
    entries = [entry(f"linux/a{i}", media_type=media_type) for i, media_type in enumerate(media_types)]
    assert build(entries, type=asked, annotations=annotations).media_type == result


def test_annotations_in_a_docker_list_are_refused() -> None:
    """They would vanish without a word (ko-build/ko#385)."""
    with pytest.raises(InvalidSpec, match="annotations cannot be kept"):
        build([entry("linux/amd64")], type="docker", annotations={"k": "v"})
    with pytest.raises(InvalidSpec, match="annotations cannot be kept"):
        build([entry("linux/amd64").with_annotations({"k": "v"})], type="docker")
    pushed = build([entry("linux/amd64")], type="docker")
    with pytest.raises(InvalidSpec, match="annotations cannot be kept"):
        rebuilt(pushed, pushed.index.manifests, {"k": "v"})


def test_an_edit_keeps_unknown_fields_everywhere() -> None:
    """Of the index and of the entries that stay."""
    fields = {
        "schemaVersion": 2,
        "mediaType": types.OCI_INDEX,
        "x-new": {"deep": [1]},
        "manifests": [{**entry("linux/amd64").to_json(), "x-entry": 7}, entry("linux/arm64").to_json()],
        "annotations": {"a": "b"},
    }
    root = Document(types.OCI_INDEX, json.dumps(fields).encode())
    edited = dropped(root, [Platform.parse("linux/arm64")]).to_json()
    assert edited["x-new"] == {"deep": [1]}
    assert edited["manifests"][0]["x-entry"] == 7
    assert list(edited) == list(fields)
    assert "annotations" not in rebuilt(root, [], {}).to_json()


def test_a_rebuilt_platform_takes_the_old_ones_place(attest: Attest) -> None:
    """Where it stood, with the old one's attestation gone (headroomlabs-ai/headroom#2673)."""
    store = Memory()
    old = entry("linux/arm64/v8", "old")
    root = build([entry("linux/amd64"), old, attest(store, old), entry("linux/s390x")])
    new = entry("linux/arm64", "new")
    edited = added(root, [new, attest(store, new)])
    assert names(edited) == ["linux/amd64", "linux/arm64", "linux/s390x", "unknown/unknown"]
    assert edited.index.manifests[-1].attests == str(new.digest)


def test_adding_what_is_there_changes_nothing() -> None:
    """The very same document, so nothing is pushed."""
    root = build([entry("linux/amd64"), entry("linux/arm64")])
    assert added(root, [entry("linux/arm64")]) is root


def test_a_docker_list_that_gains_an_attestation_becomes_an_oci_index(attest: Attest) -> None:
    """A Docker list cannot carry the annotation that ties it to its image."""
    new = entry("linux/arm64")
    root = build([entry("linux/amd64", media_type=types.DOCKER_MANIFEST)])
    assert root.media_type == types.DOCKER_LIST
    edited = added(root, [new, attest(Memory(), new)])
    assert edited.media_type == types.OCI_INDEX
    assert edited.to_json()["mediaType"] == types.OCI_INDEX


def test_a_docker_list_that_an_oci_image_joins_becomes_an_oci_index() -> None:
    """As create would have made it; a list that was made mixed on purpose stays what it is."""
    docker = entry("linux/amd64", media_type=types.DOCKER_MANIFEST)
    assert added(build([docker]), [entry("linux/arm64")]).media_type == types.OCI_INDEX
    other = entry("linux/s390x", media_type=types.DOCKER_MANIFEST)
    assert added(build([docker]), [other]).media_type == types.DOCKER_LIST
    mixed = build([docker, entry("linux/386")], type="docker")
    assert added(mixed, [entry("linux/arm64")]).media_type == types.DOCKER_LIST


def test_dropping_takes_the_attestation_along(attest: Attest) -> None:
    """And leaves the others'."""
    one, two = entry("linux/amd64"), entry("linux/arm/v7")
    root = build([one, two, attest(Memory(), one), attest(Memory(), two)])
    edited = dropped(root, [Platform.parse("linux/arm")])
    assert [e.attests for e in edited.index.manifests if e.is_attestation] == [str(one.digest)]


def test_one_image_may_stand_for_two_platforms(attest: Attest) -> None:
    """Dropping or keeping one of them leaves the other out or in, and the attestation with the image."""
    one = entry("linux/amd64")
    two = one.with_platform(Platform.parse("linux/386"))
    root = build([one, two, attest(Memory(), one)])
    for edited in (dropped(root, [Platform.parse("linux/386")]), keep(root, [Platform.parse("linux/amd64")])):
        assert [str(e.platform) for e in edited.index.manifests] == ["linux/amd64", "unknown/unknown"]


def test_dropping_without_a_version_takes_every_version() -> None:
    """A version that is named takes that one only."""
    versions = ("10.0.17763.1", "10.0.20348.2")
    windows = Platform.parse("windows/amd64")
    root = build([entry("linux/amd64"), *(_windows(version) for version in versions)])
    one = dropped(root, [windows.replace(os_version=versions[0])])
    assert [e.platform.os_version for e in one.index.manifests if e.platform] == ["", versions[1]]
    assert len(dropped(root, [windows]).index.manifests) == 1


def _windows(version: str) -> Descriptor:
    made = entry("windows/amd64", version)
    return made.with_platform(Platform("windows", "amd64", os_version=version))


def test_dropping_says_what_there_is() -> None:
    """A platform that is not there, and the last one."""
    root = build([entry("linux/amd64")])
    with pytest.raises(NotFound, match="no linux/arm64") as caught:
        dropped(root, [Platform.parse("linux/arm64")])
    assert "linux/amd64" in caught.value.hint
    with pytest.raises(Refused, match="empty"):
        dropped(root, [Platform.parse("linux/amd64")])


def test_one_entry_can_be_relabelled_where_it_stands() -> None:
    """annotate on a pushed list."""
    root = build([entry("linux/arm"), entry("linux/amd64")])
    old = root.index.manifests[0]
    edited = changed(root, old, old.with_platform(Platform.parse("linux/arm/v6")))
    assert names(edited) == ["linux/arm/v6", "linux/amd64"]
    assert changed(root, old, old) is root


@pytest.mark.parametrize(
    ("first", "second", "refused"),
    [
        ("linux/arm64", "linux/arm64/v8", True),
        ("linux/arm/v7", "linux/arm", True),
        ("linux/arm/v7", "linux/arm/v6", False),
        ("unknown/unknown", "unknown/unknown", False),
    ],
)
def test_two_entries_for_one_platform_are_refused(first: str, second: str, refused: bool) -> None:
    """Compared as engines compare them."""
    entries = [entry(first, "1"), entry(second, "2")]
    if not refused:
        refuse_duplicates(entries)
        return
    with pytest.raises(Refused, match="two entries for") as caught:
        refuse_duplicates(entries)
    assert str(entries[0].digest) in str(caught.value)
    assert str(entries[1].digest) in str(caught.value)
    refuse_duplicates([entries[0], entries[0]])


def test_dockers_bytes() -> None:
    """Three spaces, size before digest, children in the order of docker's cache files."""
    b = entry("linux/arm/v7", media_type=types.DOCKER_MANIFEST)
    a = entry("linux/amd64", media_type=types.DOCKER_MANIFEST).with_annotations({"gone": "yes"})
    document = docker_bytes([("docker.io/library/x:b", b), ("docker.io/library/x:a", a)])
    assert document.media_type == types.DOCKER_LIST
    lines = document.raw.decode().splitlines()
    assert lines[1:3] == ['   "schemaVersion": 2,', f'   "mediaType": "{types.DOCKER_LIST}",']
    assert [line.strip().partition(":")[0] for line in lines[5:9]] == [
        '"mediaType"',
        '"size"',
        '"digest"',
        '"platform"',
    ]
    assert names(document) == ["linux/amd64", "linux/arm/v7"]
    assert b"gone" not in document.raw
