# SPDX-License-Identifier: Apache-2.0
"""The registry store over a registry without a socket: what it asks, how often, and what it makes of odd answers."""

from __future__ import annotations

import hashlib
import json
from io import BytesIO
from typing import TYPE_CHECKING

import pytest

from manyfest.content.descriptor import Descriptor
from manyfest.content.digest import Digest
from manyfest.content.document import MAX_BYTES, Document
from manyfest.content.mediatypes import (
    DOCKER_FOREIGN_LAYER,
    DOCKER_SCHEMA1_SIGNED,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER_GZIP,
    OCI_MANIFEST,
)
from manyfest.errors import (
    AuthRequired,
    DigestMismatch,
    Error,
    InvalidDocument,
    InvalidReference,
    NotFound,
    RegistryError,
    SizeMismatch,
    TooLarge,
    Unreachable,
    Unsupported,
)
from manyfest.stores.base import load, put_bytes, read
from manyfest.stores.registry.client import ACCEPT, Registry
from manyfest.stores.registry.session import Session
from manyfest.stores.registry.settings import Settings
from manyfest.stores.registry.transport import Headers, Request, Response
from manyfest.testing.inprocess import InProcess

if TYPE_CHECKING:
    from pathlib import Path

DATA = bytes(range(256)) * 40
BLOB = Descriptor.of(DATA, OCI_LAYER_GZIP)


def manifest(**extra: object) -> Document:
    fields = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": Descriptor.of(b"{}", OCI_CONFIG).to_json(),
        "layers": [],
        **extra,
    }
    return Document(OCI_MANIFEST, json.dumps(fields).encode())


DOC = manifest()
"""A manifest without layers."""


def answering(status: int, body: bytes = b"", **headers: str) -> InProcess:
    """A registry that gives one and the same answer to everything."""
    fields = [(name.replace("_", "-"), value) for name, value in headers.items()]

    def hook(request: Request) -> Response:
        return registry.answer(request, status, body, dict(fields))

    registry = InProcess(hook=hook)
    return registry


# How many requests


def test_resolve_is_one_request_and_asks_for_every_kind() -> None:
    registry = InProcess()
    store = registry.store()
    store.tag(DOC, "1.0")
    registry.requests.clear()
    assert store.resolve("1.0") == DOC
    assert registry.log == ["GET /v2/acme/app/manifests/1.0"]
    assert registry.requests[0].headers["Accept"] == ACCEPT
    assert ACCEPT.startswith(OCI_INDEX)
    assert "manifest.v1+" in ACCEPT.split(", ")[-1]


def test_tag_is_one_request() -> None:
    registry = InProcess()
    registry.store().tag(DOC, "1.0")
    assert registry.log == ["PUT /v2/acme/app/manifests/1.0"]
    assert registry.requests[0].headers["Content-Type"] == OCI_MANIFEST


def test_a_new_blob_is_two_requests() -> None:
    registry = InProcess()
    put_bytes(registry.store(), BLOB, DATA)
    assert registry.methods == ["POST", "PUT"]
    assert registry.repository("acme/app").blobs == {str(BLOB.digest): DATA}


def test_an_accepted_mount_is_one_request() -> None:
    registry = InProcess()
    source, target = registry.store("base/debian"), registry.store("acme/app")
    put_bytes(source, BLOB, DATA)
    registry.requests.clear()
    assert target.mount(BLOB, source)
    assert registry.log == [f"POST /v2/acme/app/blobs/uploads/?mount={BLOB.digest}&from=base/debian"]
    assert read(target, BLOB) == DATA


def test_a_document_is_put_by_digest_in_one_request() -> None:
    registry = InProcess()
    store = registry.store()
    put_bytes(store, DOC.descriptor, DOC.raw)
    assert registry.log == [f"PUT /v2/acme/app/manifests/{DOC.digest}"]
    assert load(store, DOC.descriptor) == DOC


def test_peek_and_exists_are_one_head_each() -> None:
    registry = InProcess()
    store = registry.store()
    store.tag(DOC, "1.0")
    registry.requests.clear()
    assert store.peek("1.0") == DOC.descriptor
    assert store.exists(DOC.descriptor)
    assert not store.exists(BLOB)
    assert registry.methods == ["HEAD"] * 3


# Resolve


def test_latest_is_what_an_empty_name_means() -> None:
    store = InProcess().store()
    store.tag(DOC, "latest")
    assert store.resolve("") == DOC
    assert store.place == "localhost:5000/acme/app"


@pytest.mark.parametrize("name", ["../x", "a/b", "-a", "a" * 129, "a b", "a?b", "a#b"])
def test_a_name_that_would_be_another_path_is_refused(name: str) -> None:
    registry = InProcess()
    with pytest.raises(InvalidReference, match="expected a tag"):
        registry.store().resolve(name)
    assert registry.requests == []


def test_a_missing_digest_header_is_tolerated() -> None:
    store = InProcess(digest_header=False).store()
    store.tag(DOC, "1.0")
    assert store.resolve("1.0") == DOC
    assert store.peek("1.0") == DOC.descriptor


def test_peek_falls_back_to_get_without_a_digest() -> None:
    registry = InProcess(head_digest=False)
    store = registry.store()
    store.tag(DOC, "1.0")
    registry.requests.clear()
    assert store.peek("1.0") == DOC.descriptor
    assert registry.methods == ["HEAD", "GET"]


def test_peek_falls_back_to_get_without_a_usable_size() -> None:
    """Header fields are Latin-1, where "²" counts as a digit."""

    def hook(request: Request) -> Response | None:
        said = {
            "Content-Length": "²",
            "Docker-Content-Digest": str(DOC.digest),
            "Content-Type": DOC.media_type,
        }
        head = Response(200, Headers(said.items()), BytesIO(), request.url)
        return head if request.method == "HEAD" else None

    registry = InProcess(hook=hook)
    store = registry.store()
    store.tag(DOC, "1.0")
    registry.requests.clear()
    assert store.peek("1.0") == DOC.descriptor
    assert registry.methods == ["HEAD", "GET"]


def test_another_digest_in_the_header_is_refused() -> None:
    registry = InProcess()
    store = registry.store()
    store.tag(DOC, "1.0")
    registry.wrong_digest = True
    with pytest.raises(DigestMismatch, match="announces sha256:0000"):
        store.resolve("1.0")
    with pytest.raises(DigestMismatch, match="the registry says sha256:0000"):
        store.peek(str(DOC.digest))
    with pytest.raises(DigestMismatch, match="the registry stored sha256:0000"):
        store.tag(DOC, "1.1")


def test_bytes_of_another_digest_are_refused() -> None:
    registry = answering(200, manifest(annotations={"a": "b"}).raw, Content_Type=OCI_MANIFEST)
    with pytest.raises(DigestMismatch, match=f"asked for {DOC.digest}, got sha256:"):
        registry.store().resolve(str(DOC.digest))


def test_sha512_names_a_document_too() -> None:
    registry = InProcess()
    store = registry.store()
    name = "sha512:" + hashlib.sha512(DOC.raw).hexdigest()
    store.tag(DOC, name)
    assert store.resolve(name) == DOC
    broken = answering(200, DOC.raw, Content_Type=OCI_MANIFEST)
    with pytest.raises(DigestMismatch, match="asked for sha512:0000"):
        broken.store().resolve("sha512:" + "0" * 128)


BAD_DOCUMENTS: list[tuple[int, bytes, str, type[Error], str]] = [
    (200, b"<!DOCTYPE html><title>Log in</title>", "text/html", InvalidDocument, "HTML page"),
    (200, b"<html>", OCI_MANIFEST, InvalidDocument, "HTML page"),
    (200, DOC.raw[:-20], OCI_MANIFEST, InvalidDocument, "localhost:5000/acme/app:1.0: "),
    (200, b"", OCI_MANIFEST, InvalidDocument, "localhost:5000/acme/app:1.0: "),
    (200, b"[]", OCI_MANIFEST, InvalidDocument, "JSON"),
    (200, b"{}", "application/json", InvalidDocument, "neither"),
    (200, b" " * (MAX_BYTES + 1), OCI_MANIFEST, TooLarge, "more than 4194304 bytes"),
    (200, b'{"schemaVersion": 1}', DOCKER_SCHEMA1_SIGNED, Unsupported, "schema 1"),
    (200, b'{"schemaVersion": 2}', "text/plain", InvalidDocument, "neither"),
    (404, b"<html><title>Nope</title>", "text/html", RegistryError, "HTML page titled 'Nope'"),
    (404, b"", "text/plain", NotFound, "no tag '1.0'"),
    (500, b"", "text/plain", RegistryError, "HTTP 500"),
    (503, b"down", "text/plain", RegistryError, "HTTP 503"),
    (403, b"", "text/plain", RegistryError, "HTTP 403"),
    (429, b"", "text/plain", RegistryError, "HTTP 429"),
    (418, b"", "text/plain", RegistryError, "HTTP 418"),
]


@pytest.mark.parametrize(("status", "body", "kind", "error", "words"), BAD_DOCUMENTS)
def test_bad_answers_end_in_a_clear_error(
    status: int, body: bytes, kind: str, error: type[Error], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        answering(status, body, Content_Type=kind).store().resolve("1.0")
    assert "localhost:5000" in str(caught.value)
    assert caught.value.exit_code == 3


def test_a_web_page_is_hinted_at() -> None:
    with pytest.raises(InvalidDocument) as caught:
        answering(200, b"<html>", Content_Type="text/html").store().resolve("1.0")
    assert "does not look like a registry" in caught.value.hint


def test_an_unknown_repository_is_told_from_an_unknown_tag() -> None:
    registry = InProcess()
    store = registry.store()
    with pytest.raises(NotFound, match="has no repository acme/app"):
        store.resolve("1.0")
    store.tag(DOC, "1.0")
    with pytest.raises(NotFound, match=r"no tag '2.0'") as caught:
        store.resolve("2.0")
    assert "manyfest tags localhost:5000/acme/app" in caught.value.hint
    with pytest.raises(NotFound, match="no content sha256:"):
        store.resolve(str(BLOB.digest))


def test_a_401_says_that_the_repository_may_be_missing() -> None:
    with pytest.raises(AuthRequired) as caught:
        answering(401, b"", WWW_Authenticate='Basic realm="x"').store().resolve("1.0")
    assert "does not exist" in caught.value.hint
    assert "login" in caught.value.hint


@pytest.mark.parametrize("at", [0, 1, 50, len(DOC.raw) - 1])
def test_a_document_cut_on_its_way_is_asked_for_again(at: int) -> None:
    registry = InProcess()
    store = registry.store()
    store.tag(DOC, "1.0")
    registry.cuts_down[:] = [at, at]
    assert store.resolve("1.0") == DOC
    registry.cuts_down[:] = [at] * 9
    with pytest.raises(Unreachable, match="cut after"):
        store.resolve("1.0")


# Download


def test_open_from_an_offset_is_one_request() -> None:
    registry = InProcess()
    store = registry.store()
    put_bytes(store, BLOB, DATA)
    registry.requests.clear()
    stream = store.open(BLOB, 100)
    assert stream.read() == DATA[100:]
    assert registry.requests[0].headers["Range"] == "bytes=100-"
    assert store.open(BLOB, BLOB.size).read() == b""
    assert len(registry.requests) == 1


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("at", [0, 1, 4096, len(DATA) - 1])
def test_a_cut_download_goes_on(at: int, ranges: bool) -> None:
    """With Range, and without by reading over what is there already."""
    registry = InProcess(ranges=ranges)
    store = registry.store()
    put_bytes(store, BLOB, DATA)
    registry.cuts_down[:] = [at, 7] if ranges else [at, at + 7]
    assert read(store, BLOB) == DATA


def test_a_download_that_gets_nowhere_is_given_up() -> None:
    registry = InProcess()
    store = registry.store()
    put_bytes(store, BLOB, DATA)
    registry.cuts_down[:] = [10] + [0] * 50
    stream = store.open(BLOB)
    with pytest.raises(Unreachable, match="10 of 10240 bytes came") as caught:
        stream.read()
    assert caught.value.hint
    assert len(registry.cuts_down) == 47


def test_a_download_that_trickles_is_given_up() -> None:
    registry = InProcess()
    store = registry.store()
    put_bytes(store, BLOB, DATA)
    registry.cuts_down[:] = [1] * 1000
    with pytest.raises(Unreachable, match="was cut 31 times"):
        store.open(BLOB).read()


def test_a_blob_of_another_size_is_refused_at_once() -> None:
    page = answering(200, b"<html>hello</html>", Content_Type="text/html")
    with pytest.raises(
        SizeMismatch, match=r"should have 10240 bytes, the registry announces 18 in a web page"
    ):
        page.store().open(BLOB)


def test_content_without_a_length_is_checked_all_the_same() -> None:
    from io import BytesIO

    def hook(request: Request) -> Response:
        return Response(200, Headers(), BytesIO(body), request.url)

    store = InProcess(hook=hook).store()
    body = DATA[:-1] + b"!"
    with pytest.raises(DigestMismatch):
        read(store, BLOB)
    body = DATA + b"!"
    with pytest.raises(SizeMismatch, match="got more"):
        read(store, BLOB)
    body = DATA[:-1]
    with pytest.raises(Unreachable, match="ended after 10239 bytes"):
        read(store, BLOB)


@pytest.mark.parametrize("value", ["", "bytes 200-300/10240", "bytes x", "bytes 100-200/999"])
def test_a_wrong_range_is_refused(value: str) -> None:
    registry = answering(206, DATA[100:], Content_Range=value)
    with pytest.raises(Error, match=r"range|announces"):
        registry.store().open(BLOB, 100)


def test_a_missing_blob_is_found_out_when_it_is_opened() -> None:
    store = InProcess().store()
    store.tag(DOC, "1.0")
    with pytest.raises(NotFound, match="no content"):
        store.open(BLOB)


def test_a_foreign_layer_is_explained() -> None:
    store = InProcess().store()
    store.tag(DOC, "1.0")
    fields = {**BLOB.to_json(), "mediaType": DOCKER_FOREIGN_LAYER, "urls": ["https://vendor.example/layer"]}
    with pytest.raises(Unsupported, match=r"vendor\.example") as caught:
        store.open(Descriptor.from_json(fields))
    assert caught.value.hint


# Mount


def test_a_refused_mount_leaves_an_upload_that_the_put_uses() -> None:
    registry = InProcess(mounts=False)
    source, target = registry.store("base/debian"), registry.store("acme/app")
    put_bytes(source, BLOB, DATA)
    registry.requests.clear()
    assert not target.mount(BLOB, source)
    put_bytes(target, BLOB, DATA)
    assert registry.methods == ["POST", "PUT"]
    assert read(target, BLOB) == DATA


def test_an_upload_that_nobody_used_is_cancelled() -> None:
    registry = InProcess(mounts=False)
    source, target = registry.store("base/debian"), registry.store("acme/app")
    assert not target.mount(BLOB, source)
    assert registry.uploads
    target.close()
    target.close()
    assert registry.uploads == {}


def test_an_upload_left_by_a_mount_that_has_expired_is_replaced() -> None:
    registry = InProcess(mounts=False)
    target = registry.store()
    assert not target.mount(BLOB, registry.store("base/debian"))
    registry.uploads.clear()
    put_bytes(target, BLOB, DATA)
    assert read(target, BLOB) == DATA


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 501])
def test_a_mount_that_is_no_request_for_this_registry_is_a_refusal(status: int) -> None:
    registry = answering(status)
    assert not registry.store().mount(BLOB, registry.store("base/debian"))


def test_mounts_stay_within_a_registry_and_a_session() -> None:
    registry, other = InProcess(), InProcess()
    target = registry.store()
    assert not target.mount(BLOB, other.store("base/debian"))
    assert not target.mount(DOC.descriptor, registry.store("base/debian"))
    assert target.mount(BLOB, registry.store("acme/app"))
    assert registry.requests == []


# Tags and deleting


def test_tags_come_page_by_page_as_they_are_needed() -> None:
    registry = InProcess(page=2)
    store = registry.store()
    for name in ("a", "b", "c", "d", "e"):
        store.tag(DOC, name)
    registry.requests.clear()
    names = store.tags()
    assert registry.requests == []
    assert [next(names), next(names)] == ["a", "b"]
    assert len(registry.requests) == 1
    assert list(names) == ["c", "d", "e"]
    assert len(registry.requests) == 3


def test_full_pages_without_links_are_followed() -> None:
    from manyfest.stores.registry import catalog

    registry = InProcess(page=2, links=False)
    store = registry.store()
    for name in ("a", "b", "c"):
        store.tag(DOC, name)
    assert list(catalog.list_tags(store._endpoint, 2)) == ["a", "b", "c"]


def test_a_circle_of_pages_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    from manyfest.stores.registry import catalog

    monkeypatch.setattr(catalog, "MAX_PAGES", 5)
    link = '</v2/acme/app/tags/list?n=1>; rel="next"'
    registry = answering(200, b'{"tags": ["a"]}', Content_Type="application/json", Link=link)
    with pytest.raises(RegistryError, match="more than 5 pages"):
        list(registry.store().tags())
    assert len(registry.requests) == 5


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>", "HTML page"),
        (b"nonsense", "not JSON"),
        (b"[]", "JSON list"),
        (b'{"tags": 5}', "must be a list"),
        (b'{"tags": ["a", 5]}', "expected a tag"),
        (b'{"tags": ["\\u001b[31m"]}', "expected a tag"),
    ],
)
def test_bad_lists_of_tags(body: bytes, words: str) -> None:
    with pytest.raises(InvalidDocument, match=words) as caught:
        list(answering(200, body).store().tags())
    assert "\x1b" not in str(caught.value)


def test_no_tags_and_no_repository() -> None:
    registry = InProcess()
    store = registry.store()
    with pytest.raises(NotFound, match="has no repository acme/app"):
        list(store.tags())
    registry.repository("acme/app")
    assert list(store.tags()) == []


def test_untag_and_delete() -> None:
    registry = InProcess()
    store = registry.store()
    store.tag(DOC, "a")
    store.tag(DOC, "b")
    put_bytes(store, BLOB, DATA)
    registry.requests.clear()
    store.untag("a")
    assert registry.log == ["DELETE /v2/acme/app/manifests/a"]
    assert list(store.tags()) == ["b"]
    store.delete(DOC.descriptor)
    store.delete(BLOB)
    assert not store.exists(BLOB)
    assert not store.exists(DOC.descriptor)
    with pytest.raises(NotFound):
        store.delete(BLOB)
    with pytest.raises(NotFound):
        store.untag("b")


def test_deleting_where_it_is_switched_off() -> None:
    registry = InProcess(deletes=False)
    store = registry.store()
    store.tag(DOC, "a")
    put_bytes(store, BLOB, DATA)
    with pytest.raises(Unsupported, match="does not delete a") as caught:
        store.untag("a")
    assert "by digest only" in caught.value.hint
    for descriptor in (BLOB, DOC.descriptor):
        with pytest.raises(Unsupported, match="does not delete sha256:") as caught:
            store.delete(descriptor)
        assert "switched off" in caught.value.hint


def test_untag_never_takes_a_digest() -> None:
    registry = InProcess()
    with pytest.raises(InvalidReference, match="expected a tag"):
        registry.store().untag(str(DOC.digest))
    assert registry.requests == []


# Referrers


def referrer(subject: Document, kind: str = "application/vnd.example.sbom") -> Document:
    return manifest(
        subject=subject.descriptor.to_json(), artifactType=kind, annotations={"org.example.kind": kind}
    )


def fallback_tag(digest: Digest) -> str:
    return f"{digest.algorithm}-{digest.hex}"


@pytest.mark.parametrize("api", [True, False])
def test_referrers_with_and_without_the_api(api: bool) -> None:
    registry = InProcess(referrers=api)
    store = registry.store()
    store.tag(DOC, "1.0")
    sbom, signature = referrer(DOC), referrer(DOC, "application/vnd.example.signature")
    for document in (sbom, signature, sbom):
        put_bytes(store, document.descriptor, document.raw)
    found = store.referrers(DOC.digest)
    assert [d.digest for d in found] == [sbom.digest, signature.digest]
    assert found[0].artifact_type == "application/vnd.example.sbom"
    assert found[0].annotations == {"org.example.kind": "application/vnd.example.sbom"}
    assert [d.digest for d in store.referrers(DOC.digest, "application/vnd.example.signature")] == [
        signature.digest
    ]
    assert store.referrers(sbom.digest) == ()
    assert (fallback_tag(DOC.digest) in registry.repository("acme/app").tags) is not api
    store.delete(sbom.descriptor)
    assert [d.digest for d in store.referrers(DOC.digest)] == [signature.digest]


def test_the_registry_need_not_filter() -> None:
    store = InProcess(filters=False, page=1).store()
    for kind in ("a/a", "b/b", "c/c"):
        document = referrer(DOC, kind)
        put_bytes(store, document.descriptor, document.raw)
    assert [d.artifact_type for d in store.referrers(DOC.digest, "b/b")] == ["b/b"]
    assert len(store.referrers(DOC.digest)) == 3


def test_a_missing_api_is_asked_for_once() -> None:
    registry = InProcess(referrers=False)
    store = registry.store()
    store.tag(DOC, "1.0")
    assert store.referrers(DOC.digest) == ()
    registry.requests.clear()
    assert store.referrers(DOC.digest) == ()
    assert registry.log == [f"GET /v2/acme/app/manifests/{fallback_tag(DOC.digest)}"]


def test_pushing_with_the_api_is_one_request() -> None:
    registry = InProcess()
    registry.store().tag(referrer(DOC), "sbom")
    assert registry.methods == ["PUT"]


def test_fields_of_the_stand_in_index_are_kept() -> None:
    registry = InProcess(referrers=False)
    store = registry.store()
    fields = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [], "org.example": [1]}
    store.tag(Document(OCI_INDEX, json.dumps(fields).encode()), fallback_tag(DOC.digest))
    store.tag(referrer(DOC), "sbom")
    kept = store.resolve(fallback_tag(DOC.digest)).to_json()
    assert kept["org.example"] == [1]
    assert len(kept["manifests"]) == 1


def test_a_stand_in_tag_that_is_an_image_is_left_alone() -> None:
    registry = InProcess(referrers=False)
    store = registry.store()
    store.tag(DOC, fallback_tag(DOC.digest))
    with pytest.raises(InvalidDocument, match="must be an index of referrers"):
        store.tag(referrer(DOC), "sbom")
    assert store.resolve(fallback_tag(DOC.digest)) == DOC
    assert store.referrers(DOC.digest) == ()


def test_writers_that_overwrite_each_other_end_in_an_error() -> None:
    """Another client takes our entry out each time; nothing is lost silently."""
    registry = InProcess(referrers=False)
    store = registry.store()
    tag = fallback_tag(DOC.digest)

    def hook(request: Request) -> Response | None:
        return registry.answer(request, 201) if request.method == "PUT" and tag in request.url else None

    registry.hook = hook
    with pytest.raises(RegistryError, match="overwritten by others") as caught:
        store.tag(referrer(DOC), "sbom")
    assert caught.value.hint


def test_a_web_page_in_place_of_the_referrers_api_means_there_is_none() -> None:
    def hook(request: Request) -> Response | None:
        if "/referrers/" not in request.url:
            return None
        return registry.answer(request, 200, b"<html>", {"Content-Type": "text/html"})

    registry = InProcess(referrers=False, hook=hook)
    store = registry.store()
    store.tag(referrer(DOC), "sbom")
    assert len(store.referrers(DOC.digest)) == 1


# Mirrors


def test_only_a_source_asks_mirrors(tmp_path: Path) -> None:
    """What is written to must be read where it was written, and a listing of a mirror is not the registry's."""
    registry = InProcess()
    store = registry.store()
    store.tag(DOC, "1.0")
    put_bytes(store, BLOB, DATA)
    conf = tmp_path / "registries.conf"
    conf.write_text(
        '[[registry]]\nlocation = "registry.example"\n[[registry.mirror]]\nlocation = "mirror.example"\n'
    )
    nowhere = str(tmp_path / "nowhere")
    settings = Settings(config=nowhere, docker_config=nowhere, certs_d=(), registries_conf=(str(conf),))
    with Session(settings, registry, clock=registry.clock) as session:
        for mirrors, host in ((True, "mirror.example"), (False, "registry.example")):
            registry.requests.clear()
            source = Registry("registry.example", "acme/app", session, mirrors=mirrors)
            assert source.resolve("1.0") == DOC
            assert source.peek("1.0") == DOC.descriptor
            assert read(source, BLOB) == DATA
            assert {request.url.split("/")[2] for request in registry.requests} == {host}
            registry.requests.clear()
            assert source.exists(BLOB)
            assert list(source.tags()) == ["1.0"]
            assert source.referrers(DOC.digest) == ()
            assert {request.url.split("/")[2] for request in registry.requests} == {"registry.example"}
