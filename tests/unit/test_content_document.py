# SPDX-License-Identifier: Apache-2.0
"""Documents: bytes kept, views read, hostile input refused."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest

from manyfest.content import mediatypes
from manyfest.content.descriptor import Descriptor
from manyfest.content.digest import Digest
from manyfest.content.document import MAX_BYTES, Document, ImageConfig, successors
from manyfest.errors import ContentError, InvalidDocument, TooLarge, Unsupported
from manyfest.platforms import Platform

CONFIG = Descriptor.of(b"{}", mediatypes.OCI_CONFIG)
LAYER = Descriptor.of(b"layer", mediatypes.OCI_LAYER_GZIP)


def manifest(**changes: Any) -> dict[str, Any]:
    """An image manifest's JSON."""
    plain: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": mediatypes.OCI_MANIFEST,
        "config": CONFIG.to_json(),
        "layers": [LAYER.to_json()],
    }
    return {**plain, **changes}


def index(**changes: Any) -> dict[str, Any]:
    """An index's JSON."""
    entry = Descriptor.of(b"m", mediatypes.OCI_MANIFEST, platform=Platform("linux", "arm", "v7"))
    plain: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": mediatypes.OCI_INDEX,
        "manifests": [entry.to_json()],
    }
    return {**plain, **changes}


def raw(value: object) -> bytes:
    """JSON as somebody else would write it."""
    return json.dumps(value, indent=3).encode()


def test_bytes_are_kept() -> None:
    """Digest and size are of the very bytes, white space included."""
    data = b'  {"schemaVersion":2,  "manifests" : [ ] }\n'
    document = Document.parse(data)
    assert document.raw is data
    assert document.digest == Digest.of(data)
    assert document.size == len(data)
    assert document.descriptor == Descriptor(mediatypes.OCI_INDEX, Digest.of(data), len(data))


def without(fields: dict[str, Any], *keys: str) -> dict[str, Any]:
    """Some keys less."""
    return {key: value for key, value in fields.items() if key not in keys}


@pytest.mark.parametrize(
    ("fields", "content_type", "expected"),
    [
        (index(), "", mediatypes.OCI_INDEX),
        (index(), "application/json", mediatypes.OCI_INDEX),
        (index(), mediatypes.OCI_INDEX, mediatypes.OCI_INDEX),
        (index(), "Application/VND.oci.image.index.v1+JSON; charset=utf-8", mediatypes.OCI_INDEX),
        (index(mediaType=mediatypes.DOCKER_LIST), "", mediatypes.DOCKER_LIST),
        (without(index(), "mediaType"), mediatypes.OCI_INDEX, mediatypes.OCI_INDEX),
        (without(index(), "mediaType"), "", mediatypes.OCI_INDEX),
        (index(mediaType=None), mediatypes.OCI_INDEX, mediatypes.OCI_INDEX),
        (index(mediaType=""), "", mediatypes.OCI_INDEX),
        (without(index(), "schemaVersion"), "", mediatypes.OCI_INDEX),
        (manifest(), "", mediatypes.OCI_MANIFEST),
        (manifest(), "text/plain", mediatypes.OCI_MANIFEST),
        (without(manifest(), "mediaType"), "", mediatypes.OCI_MANIFEST),
        (manifest(mediaType=mediatypes.DOCKER_MANIFEST), "", mediatypes.DOCKER_MANIFEST),
        (index(new={"a": [1]}), "", mediatypes.OCI_INDEX),
    ],
)
def test_media_type(fields: dict[str, Any], content_type: str, expected: str) -> None:
    """From the transport, else from the document, else from its shape."""
    document = Document.parse(raw(fields), content_type)
    assert document.media_type == expected
    assert document.is_index is (expected in mediatypes.INDEXES)


HTML = b"\n <!DOCTYPE html><html><body>Sign in</body></html>"

REFUSED: list[tuple[bytes, str, type[ContentError] | type[Unsupported], str]] = [
    # A manifest or an index, never both (GHSA-77vh-xpmg-72qh).
    (raw(index(layers=[])), "", InvalidDocument, "must not have 'layers'"),
    (raw(index(config=CONFIG.to_json())), "", InvalidDocument, "must not have 'config'"),
    (raw(manifest(manifests=[])), "", InvalidDocument, "must not have 'manifests'"),
    (raw({**without(manifest(), "mediaType"), "manifests": []}), "", InvalidDocument, "must not have"),
    (raw(index()), mediatypes.OCI_MANIFEST, InvalidDocument, "served as .* says that it is"),
    (raw(manifest()), mediatypes.DOCKER_MANIFEST, InvalidDocument, "served as .* says that it is"),
    (raw(index(mediaType=["x"])), mediatypes.OCI_INDEX, InvalidDocument, "says that it is a list"),
    (raw(index(mediaType=0)), mediatypes.OCI_INDEX, InvalidDocument, "says that it is 0"),
    # Schema 1, however it comes.
    (raw({"schemaVersion": 1, "name": "a", "fsLayers": []}), "", Unsupported, "schema 1"),
    (raw({"schemaVersion": 1}), mediatypes.DOCKER_SCHEMA1_SIGNED, Unsupported, "schema 1"),
    (raw({}), mediatypes.DOCKER_SCHEMA1, Unsupported, "schema 1"),
    (raw(manifest(schemaVersion=1)), mediatypes.OCI_MANIFEST, Unsupported, "schema 1"),
    # Not a document at all.
    (HTML, "text/html", InvalidDocument, "got an HTML page"),
    (HTML, mediatypes.OCI_INDEX, InvalidDocument, "got an HTML page"),
    (b"<html>", "", InvalidDocument, "got an HTML page"),
    (b"", "", InvalidDocument, "got 0 bytes that are not"),
    (b"{", "", InvalidDocument, "expected a JSON document"),
    (raw(index())[:-5], "", InvalidDocument, "expected a JSON document"),
    (b"[]", "", InvalidDocument, "expected a JSON object, got list"),
    (b"null", "", InvalidDocument, "expected a JSON object, got NoneType"),
    (b'"text"', mediatypes.OCI_INDEX, InvalidDocument, "expected a JSON object, got str"),
    (b"{}", "", InvalidDocument, "neither an image manifest nor an index"),
    (b'{"errors": []}', "application/json", InvalidDocument, "of type 'application/json' that is neither"),
    (b"\x00\xff\xfe", "", InvalidDocument, "expected a JSON document"),
    (b"\xef\xbb\xbf" + raw(index()), "", InvalidDocument, "expected a JSON document"),
    (json.dumps(index()).encode("utf-16"), "", InvalidDocument, "expected a JSON document"),
    (b"[" * 100_000, "", InvalidDocument, "nested too deep|expected a JSON document"),
    (b'{"a":' * 100_000, mediatypes.OCI_INDEX, InvalidDocument, "nested too deep|expected a JSON"),
    (b'{"manifests": [], "a": ' + b"9" * 10_000 + b"}", "", InvalidDocument, "expected a JSON document"),
    (b'{"manifests": [], "annotations": {"a": "\\ud800"}}', "", InvalidDocument, "surrogates not allowed"),
    # Other documents than images.
    (
        raw({"mediaType": "application/vnd.oci.artifact.manifest.v1+json"}),
        "",
        Unsupported,
        "of type 'application",
    ),
    (raw({"mediaType": "x" * 100_000}), "", Unsupported, "of type 'xxx"),
]


@pytest.mark.parametrize(("data", "content_type", "error", "message"), REFUSED)
def test_refuses(data: bytes, content_type: str, error: type[ContentError], message: str) -> None:
    """With an error of ours, in few words."""
    with pytest.raises(error, match=message) as caught:
        Document.parse(data, content_type)
    assert len(str(caught.value)) < 400


def test_hints() -> None:
    """The two that people meet have a next step."""
    with pytest.raises(InvalidDocument) as html:
        Document.parse(HTML)
    assert "login page" in html.value.hint
    with pytest.raises(Unsupported) as old:
        Document.parse(b'{"schemaVersion": 1}')
    assert "v2s2" in old.value.hint


@pytest.mark.parametrize("content_type", ["", mediatypes.OCI_INDEX])
def test_too_large(content_type: str) -> None:
    """Refused before it is parsed; the limit itself is fine."""
    data = raw(index())
    padded = data + b" " * (MAX_BYTES - len(data))
    assert Document.parse(padded, content_type).size == MAX_BYTES
    with pytest.raises(TooLarge, match="over the limit"):
        Document.parse(padded + b" ", content_type)


def test_index_view() -> None:
    """Entries in order, with everything they say."""
    attested = Descriptor.of(b"a", mediatypes.OCI_MANIFEST, platform=Platform("unknown", "unknown"))
    fields = index(annotations={"k": "v"}, artifactType="a/b", subject=CONFIG.to_json())
    fields["manifests"].append(attested.to_json())
    document = Document.parse(raw(fields))
    view = document.index
    assert [str(entry.platform) for entry in view.manifests] == ["linux/arm/v7", "unknown/unknown"]
    assert (view.annotations, view.artifact_type, view.subject) == ({"k": "v"}, "a/b", CONFIG)
    assert document.index is view
    assert successors(document) == view.manifests
    assert repr(view) == "Index(linux/arm/v7, unknown/unknown)"
    with pytest.raises(InvalidDocument, match="is an index, expected the manifest"):
        _ = document.manifest


def test_manifest_view() -> None:
    """Config and layers, and what an artifact adds."""
    document = Document.parse(raw(manifest(annotations={"k": "v"}, subject=LAYER.to_json())))
    view = document.manifest
    assert (view.config, view.layers, view.subject) == (CONFIG, (LAYER,), LAYER)
    assert view.is_image
    assert document.manifest is view
    assert successors(document) == (CONFIG, LAYER)
    with pytest.raises(InvalidDocument, match="expected an index"):
        _ = document.index
    artifact = Document.parse(raw(manifest(config=Descriptor.of(b"{}", mediatypes.OCI_EMPTY).to_json())))
    assert not artifact.manifest.is_image


def test_null_lists_are_empty() -> None:
    """As Go writes them."""
    assert Document.parse(raw(index(manifests=None, annotations=None))).index.manifests == ()
    assert Document.parse(raw(manifest(layers=None, subject=None))).manifest.layers == ()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (index(manifests={}), "'manifests' must be a list, got dict"),
        (index(manifests=["x"]), r"manifests\[0\]: a descriptor must be a JSON object, got str"),
        (index(manifests=[None]), r"manifests\[0\]: a descriptor must be"),
        (index(manifests=[LAYER.to_json(), {"mediaType": "x"}]), r"manifests\[1\]: .*digest"),
        (index(annotations=[]), "'annotations' must map text to text, got a list"),
        (index(annotations={"a": {}}), "'annotations' must map text to text"),
        (index(subject="x"), "subject: a descriptor must be"),
    ],
)
def test_index_of_wrong_types(fields: dict[str, Any], message: str) -> None:
    """Says which entry."""
    with pytest.raises(InvalidDocument, match=message):
        _ = Document.parse(raw(fields)).index


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (without(manifest(), "config"), "lacks 'config'"),
        (manifest(config=None), "config: a descriptor must be"),
        (manifest(layers="x"), "'layers' must be a list, got str"),
        (manifest(layers=[5]), r"layers\[0\]: a descriptor must be"),
    ],
)
def test_manifest_of_wrong_types(fields: dict[str, Any], message: str) -> None:
    """Says which part."""
    with pytest.raises(InvalidDocument, match=message):
        _ = Document.parse(raw(fields), mediatypes.OCI_MANIFEST).manifest


def test_document_is_a_value() -> None:
    """Frozen, hashable, copied and pickled; to_json is fresh each time."""
    document = Document.parse(raw(index()))
    document.to_json()["manifests"].clear()
    assert len(document.index.manifests) == 1
    assert document == Document(mediatypes.OCI_INDEX, raw(index()))
    assert document != Document.parse(raw(index(mediaType=mediatypes.DOCKER_LIST)))
    assert document != "x"
    assert len({document, Document.parse(raw(index()))}) == 1
    assert copy.copy(document) == copy.deepcopy(document) == pickle.loads(pickle.dumps(document)) == document
    with pytest.raises(AttributeError):
        document.raw = b""
    assert repr(document) == f"Document({mediatypes.OCI_INDEX!r}, {document.digest}, size={document.size})"


def test_image_config() -> None:
    """Platform, layers and settings; unknown fields stay."""
    ids = [str(Digest.of(b"1")), str(Digest.of(b"2"))]
    fields = {
        "architecture": "arm",
        "os": "linux",
        "variant": "v6",
        "created": "2026-01-01T00:00:00Z",
        "config": {"Cmd": ["/app"]},
        "rootfs": {"type": "layers", "diff_ids": ids},
        "new": 1,
    }
    config = ImageConfig(raw(fields))
    assert config.platform == Platform("linux", "arm", "v6")
    assert [str(digest) for digest in config.diff_ids] == ids
    assert config.created == "2026-01-01T00:00:00Z"
    assert config.settings == {"Cmd": ["/app"]}
    assert config.json["new"] == 1
    assert repr(config) == "ImageConfig(linux/arm/v6, layers=2)"


def test_image_config_of_an_artifact() -> None:
    """Says nothing, and that is no error."""
    config = ImageConfig(b"{}")
    assert not config.platform.is_complete
    assert (config.diff_ids, config.created, config.settings) == ((), "", {})
    odd = ImageConfig(b'{"config": 5, "created": 5, "rootfs": []}')
    assert (odd.diff_ids, odd.created, odd.settings) == ((), "", {})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[]", "expected a JSON object"),
        (HTML, "HTML"),
        (b'{"os": 5}', "image config: os must be text"),
        (b'{"rootfs": {"diff_ids": 5}}', "diff_ids must be a list of digests, got 5"),
        (b'{"rootfs": {"diff_ids": "sha256:00"}}', "diff_ids must be a list of digests"),
        (b'{"rootfs": {"diff_ids": {"sha256:00": 1}}}', "diff_ids must be a list of digests"),
        (b'{"rootfs": {"diff_ids": [1]}}', "diff_ids must be a list of digests"),
        (b'{"rootfs": {"diff_ids": ["sha256:00"]}}', "diff_ids: .*got 2"),
    ],
)
def test_image_config_refuses(data: bytes, message: str) -> None:
    """Wrong types are the document's fault."""
    with pytest.raises(InvalidDocument, match=message):
        ImageConfig(data)
