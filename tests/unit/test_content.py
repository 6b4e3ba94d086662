# SPDX-License-Identifier: Apache-2.0
"""Digests, descriptors and media types."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
from typing import Any

import pytest

from manyfest.content import mediatypes
from manyfest.content.descriptor import MAX_DEPTH, Descriptor
from manyfest.content.digest import Digest
from manyfest.errors import InvalidDigest, InvalidDocument
from manyfest.platforms import Platform

EMPTY = "sha256:" + hashlib.sha256(b"").hexdigest()


def nested(depth: int) -> list[Any]:
    """Lists in lists."""
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_digest_of_and_parse(algorithm: str) -> None:
    """What is computed reads back."""
    digest = Digest.of(b"hello", algorithm)
    assert digest == Digest.parse(str(digest))
    assert digest.hex == hashlib.new(algorithm, b"hello").hexdigest()
    assert digest.short == digest.hex[:12]
    hasher = digest.hasher()
    hasher.update(b"hello")
    assert hasher.hexdigest() == digest.hex


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected ALGORITHM:HEX"),
        ("abc", "expected ALGORITHM:HEX"),
        ("md5:" + "0" * 32, "must be sha256 or sha512, got 'md5'"),
        (":" + "0" * 64, "must be sha256 or sha512, got ''"),
        ("SHA256:" + "0" * 64, "must be sha256 or sha512, got 'SHA256'"),
        ("sha256:" + "0" * 63, "takes 64 hexadecimal characters, got 63"),
        ("sha256:" + "0" * 65, "takes 64 hexadecimal characters, got 65"),
        ("sha512:" + "0" * 64, "takes 128 hexadecimal characters, got 64"),
        ("sha256:" + "0" * 63 + "A", "character 71 is 'A'"),
        ("sha256:" + "0" * 60 + "/../", "character 68 is '/'"),
        ("sha256:" + "0" * 63 + "\n", r"character 71 is '\\n'"),
        ("x" * 1_000_000 + ":1", "must be sha256 or sha512"),
        ("y" * 1_000_000, "expected ALGORITHM:HEX"),
    ],
)
def test_digest_refuses(text: str, message: str) -> None:
    """Digests become file names and addresses: nothing but the real thing passes, and messages stay short."""
    with pytest.raises(InvalidDigest, match=message) as caught:
        Digest.parse(text)
    assert len(str(caught.value)) < 400


def fields(**changes: Any) -> dict[str, Any]:
    """A descriptor's JSON."""
    plain: dict[str, Any] = {"mediaType": "x/y", "digest": EMPTY, "size": 0}
    return {**plain, **changes}


def test_descriptor_reads_and_keeps_every_field() -> None:
    """In the order in which they came, whatever they are."""
    given = {
        "size": 7,
        "future": {"deep": [1, {"er": None}]},
        "digest": EMPTY,
        "artifactType": "a/b",
        "mediaType": "x/y",
        "platform": {"os": "linux", "architecture": "arm", "variant": "v7", "new": 1},
        "urls": ["https://example.org/blob"],
        "annotations": {"k": "v"},
    }
    descriptor = Descriptor.from_json(given)
    assert json.dumps(descriptor.to_json()) == json.dumps(given)
    assert descriptor.platform == Platform("linux", "arm", "v7")
    assert descriptor.artifact_type == "a/b"
    assert descriptor.urls == ("https://example.org/blob",)
    assert descriptor.annotations == {"k": "v"}


def test_descriptor_is_cut_off_from_its_json() -> None:
    """Changing what went in or came out changes nothing."""
    given = fields(annotations={"k": "v"})
    descriptor = Descriptor.from_json(given)
    given["annotations"]["k"] = "changed"
    descriptor.to_json()["annotations"]["k"] = "changed"
    descriptor.annotations["k"] = "changed"
    assert descriptor.annotations == {"k": "v"}


DOCKER_ORDER = ["mediaType", "size", "digest", "platform"]


@pytest.mark.parametrize(
    ("before", "after_platform", "after_annotations"),
    [
        (
            ["mediaType", "digest", "size"],
            ["mediaType", "digest", "size", "platform"],
            ["mediaType", "digest", "size", "annotations"],
        ),
        (
            ["mediaType", "size", "digest"],
            ["mediaType", "size", "digest", "platform"],
            ["mediaType", "size", "digest", "annotations"],
        ),
        (DOCKER_ORDER, DOCKER_ORDER, ["mediaType", "size", "digest", "annotations", "platform"]),
        (
            ["platform", "digest", "mediaType", "size"],
            ["platform", "digest", "mediaType", "size"],
            ["platform", "digest", "mediaType", "size", "annotations"],
        ),
        (
            ["mediaType", "digest", "size", "annotations", "artifactType", "zz"],
            ["mediaType", "digest", "size", "annotations", "platform", "artifactType", "zz"],
            ["mediaType", "digest", "size", "annotations", "artifactType", "zz"],
        ),
    ],
)
def test_edits_keep_the_order_of_keys(
    before: list[str], after_platform: list[str], after_annotations: list[str]
) -> None:
    """Digests depend on it: an edit adds one key where Go would write it, and moves none."""
    values = fields(
        platform={"os": "linux", "architecture": "386"}, annotations={"old": "x"}, artifactType="a/b", zz=1
    )
    descriptor = Descriptor.from_json({key: values[key] for key in before})
    assert list(descriptor.with_platform(Platform("linux", "amd64")).to_json()) == after_platform
    assert list(descriptor.with_annotations({"new": "y"}).to_json()) == after_annotations


def test_edits_make_new_values() -> None:
    """The old one stays; taking away removes the key."""
    plain = Descriptor.from_json(fields())
    edited = plain.with_platform(Platform("linux", "arm64", "v8")).with_annotations({"a": "b"})
    assert plain.to_json() == fields()
    assert edited.platform == Platform("linux", "arm64", "v8")
    assert edited.with_platform(None).with_annotations({}).to_json() == fields()
    assert edited.bare() == plain


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "must be a JSON object, got NoneType"),
        ([], "must be a JSON object, got list"),
        ("sha256:00", "must be a JSON object, got str"),
        ({}, "needs mediaType as text, got None"),
        (fields(mediaType=""), "needs mediaType as text"),
        (fields(mediaType=5), "needs mediaType as text, got 5"),
        (fields(digest=None), "needs digest as text, got None"),
        (fields(digest="sha256:../../etc/passwd"), "digest: .*got 16"),
        (fields(digest="md5:00"), "sha256 or sha512"),
        (fields(digest=nested(900)), "needs digest as text|nested more than"),
        (fields(size=-1), "whole number of bytes, got -1"),
        (fields(size=1.5), "whole number of bytes, got 1.5"),
        (fields(size="1"), "whole number of bytes, got '1'"),
        (fields(size=True), "whole number of bytes, got True"),
        (fields(size=2**63), "whole number of bytes"),
        (fields(size=None), "whole number of bytes, got None"),
        (fields(annotations=[]), "must map text to text, got a list"),
        (fields(annotations={"a": 1}), "must map text to text, got a dict"),
        (fields(annotations="x" * 1_000_000), "must map text to text"),
        (fields(platform="linux/amd64"), "platform: a platform must be a JSON object"),
        (fields(platform={"os": 1, "architecture": "x"}), "platform: os must be text"),
        (fields(data=nested(MAX_DEPTH + 1)), "nested more than 64 deep"),
        (fields(data=nested(900)), "nested more than 64 deep"),
    ],
)
def test_descriptor_refuses(given: object, message: str) -> None:
    """Every wrong type is the document's fault (never a TypeError), told in few words."""
    with pytest.raises(InvalidDocument, match=message) as caught:
        Descriptor.from_json(given)
    assert len(str(caught.value)) < 300


def test_descriptor_tolerates_what_does_no_harm() -> None:
    """Nulls as Go writes them, odd optional fields, the largest size, some depth."""
    descriptor = Descriptor.from_json(
        fields(
            annotations=None,
            platform=None,
            urls=5,
            artifactType=[],
            size=2**63 - 1,
            data=nested(MAX_DEPTH - 1),
        )
    )
    assert (descriptor.annotations, descriptor.platform, descriptor.urls, descriptor.artifact_type) == (
        {},
        None,
        (),
        "",
    )
    assert Descriptor.from_json(fields(urls=["a", 1])).urls == ("a",)


def test_descriptor_is_a_value() -> None:
    """Frozen, hashable, copied and pickled; equal only when every field is."""
    one, other = Descriptor.from_json(fields()), Descriptor.from_json(fields(zz=1))
    assert one == Descriptor("x/y", Digest.of(b""), 0)
    assert one != other
    assert one != "x"
    assert len({one, Descriptor.of(b"", "x/y"), other}) == 2
    assert copy.copy(other) == copy.deepcopy(other) == pickle.loads(pickle.dumps(other)) == other
    with pytest.raises(AttributeError):
        one.size = 1
    assert repr(one) == f"Descriptor('x/y', {EMPTY}, size=0)"
    assert repr(one.with_platform(Platform("linux", "arm", "v7"))).endswith("platform=linux/arm/v7)")


def test_attestations() -> None:
    """Both annotations make one."""
    kind = {"vnd.docker.reference.type": "attestation-manifest"}
    target = {"vnd.docker.reference.digest": EMPTY}
    plain = Descriptor.from_json(fields())
    assert not plain.is_attestation
    assert plain.with_annotations(target).attests == ""
    assert plain.with_annotations({**kind, **target}).attests == EMPTY
    assert plain.with_annotations(kind).is_attestation


@pytest.mark.parametrize(
    ("media_type", "kinds"),
    [
        (mediatypes.OCI_INDEX, {"index", "document"}),
        (mediatypes.DOCKER_LIST, {"index", "document", "docker"}),
        (mediatypes.OCI_MANIFEST, {"manifest", "document"}),
        (mediatypes.DOCKER_MANIFEST, {"manifest", "document", "docker"}),
        (mediatypes.OCI_CONFIG, {"config"}),
        (mediatypes.DOCKER_CONFIG, {"config", "docker"}),
        (mediatypes.OCI_LAYER_GZIP, set()),
        (mediatypes.DOCKER_FOREIGN_LAYER, {"foreign", "docker"}),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", {"foreign"}),
        (mediatypes.DOCKER_SCHEMA1_SIGNED, {"docker"}),
        ("", set()),
    ],
)
def test_kinds_of_media_types(media_type: str, kinds: set[str]) -> None:
    """Which question each answers with yes."""
    questions = {
        "index": mediatypes.is_index,
        "manifest": mediatypes.is_manifest,
        "document": mediatypes.is_document,
        "config": mediatypes.is_config,
        "docker": mediatypes.is_docker,
        "foreign": mediatypes.is_foreign,
    }
    assert {name for name, asks in questions.items() if asks(media_type)} == kinds
