# SPDX-License-Identifier: Apache-2.0
"""Content: hostile JSON ends in our errors, edits keep everything else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyfest.content import mediatypes
from manyfest.content.descriptor import Descriptor
from manyfest.content.digest import Digest
from manyfest.content.document import Document, ImageConfig, successors
from manyfest.errors import ContentError, Unsupported
from manyfest.platforms import Platform

pytestmark = pytest.mark.property


def refusal(call: Callable[[], object]) -> str:
    """The message of our error, or the empty string when there is none; any other error goes through."""
    try:
        call()
    except (ContentError, Unsupported) as error:
        return str(error) or "an error without a message"
    return ""


texts = st.text(st.characters(codec="utf-8"), max_size=6)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def descriptors(draw: st.DrawFn) -> dict[str, Any]:
    """A valid descriptor's JSON, keys in any order, unknown ones among them."""
    fields: dict[str, Any] = {
        "mediaType": draw(st.sampled_from([mediatypes.OCI_MANIFEST, mediatypes.DOCKER_MANIFEST, "x/y"])),
        "digest": str(Digest.of(draw(st.binary(max_size=3)), draw(st.sampled_from(["sha256", "sha512"])))),
        "size": draw(st.integers(0, 2**63 - 1)),
    }
    optional = {
        "annotations": st.dictionaries(texts, texts, max_size=2),
        "platform": st.just({"os": "linux", "architecture": "arm", "variant": "v7", "future": [1]}),
        "artifactType": texts,
        "urls": st.lists(texts, max_size=2),
        "unknown": json_values,
    }
    for key, values in optional.items():
        if draw(st.booleans()):
            fields[key] = draw(values)
    return {key: fields[key] for key in draw(st.permutations(list(fields)))}


@given(descriptors())
def test_descriptors_are_kept_field_for_field(fields: dict[str, Any]) -> None:
    """Order included."""
    assert json.dumps(Descriptor.from_json(fields).to_json()) == json.dumps(fields)


@given(descriptors(), st.dictionaries(texts, texts, min_size=1, max_size=2))
def test_edits_change_one_key(fields: dict[str, Any], annotations: dict[str, str]) -> None:
    """All others keep value and order."""
    descriptor = Descriptor.from_json(fields)
    edits: dict[str, Descriptor] = {
        "platform": descriptor.with_platform(Platform("linux", "s390x")),
        "annotations": descriptor.with_annotations(annotations),
    }
    for key, edited in edits.items():
        rest = edited.to_json()
        del rest[key]
        before = {name: value for name, value in fields.items() if name != key}
        assert json.dumps(rest) == json.dumps(before)
    assert descriptor.to_json() == fields


@given(json_values | descriptors())
def test_any_json_is_a_descriptor_or_our_error(value: Any) -> None:
    """Nothing else escapes."""
    if refusal(lambda: Descriptor.from_json(value)):
        return
    descriptor = Descriptor.from_json(value)
    assert repr(descriptor)
    assert isinstance(descriptor.urls, tuple)


broken = st.dictionaries(
    st.sampled_from(["mediaType", "digest", "size", "annotations", "platform", "urls", "artifactType"]),
    json_values,
)
parts = {
    "schemaVersion": st.just(2) | json_values,
    "mediaType": st.sampled_from([*sorted(mediatypes.DOCUMENTS), ""]) | json_values,
    "manifests": st.lists(descriptors() | broken | json_values, max_size=3) | json_values,
    "config": descriptors() | broken | json_values,
    "layers": st.lists(descriptors() | broken, max_size=3) | json_values,
    "subject": descriptors() | json_values,
    "annotations": st.dictionaries(texts, texts) | json_values,
    "artifactType": json_values,
}
documents = st.fixed_dictionaries({}, optional=parts)


@given(documents, st.sampled_from(["", "application/json", *sorted(mediatypes.DOCUMENTS)]))
def test_any_json_is_a_document_or_our_error(fields: dict[str, Any], content_type: str) -> None:
    """Nothing else escapes, from the document or its views."""
    data = json.dumps(fields).encode()
    message = refusal(lambda: successors(Document.parse(data, content_type)))
    assert len(message) < 1000
    if not message:
        document = Document.parse(data, content_type)
        assert document.raw == data
        assert all(isinstance(part, Descriptor) for part in successors(document))


@given(st.binary(max_size=40), st.sampled_from(["", mediatypes.OCI_INDEX]))
def test_any_bytes_are_a_document_or_our_error(data: bytes, content_type: str) -> None:
    """Nothing else escapes."""
    if not refusal(lambda: Document.parse(data, content_type)):
        assert repr(Document.parse(data, content_type))
    if not refusal(lambda: ImageConfig(data)):
        assert repr(ImageConfig(data))


@given(st.dictionaries(st.sampled_from(["os", "architecture", "rootfs", "config", "created"]), json_values))
def test_any_config_or_our_error(fields: dict[str, Any]) -> None:
    """Nothing else escapes."""
    data = json.dumps(fields).encode()
    if not refusal(lambda: ImageConfig(data)):
        assert isinstance(ImageConfig(data).settings, dict)


@given(st.binary(max_size=100), st.sampled_from(["sha256", "sha512"]))
def test_digest_round_trip(data: bytes, algorithm: str) -> None:
    """What is computed reads back."""
    digest = Digest.of(data, algorithm)
    assert Digest.parse(str(digest)) == digest
