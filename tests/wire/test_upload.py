# SPDX-License-Identifier: Apache-2.0
"""Uploads: cut at every point, resumed, in pieces, with wrong content, interrupted."""

from __future__ import annotations

import hashlib
from io import BytesIO
from typing import TYPE_CHECKING

import pytest

from manyfest.content.descriptor import Descriptor
from manyfest.content.digest import Digest
from manyfest.content.mediatypes import OCI_LAYER_GZIP
from manyfest.errors import DigestMismatch, Error, NotFound, RegistryError, SizeMismatch, Unreachable
from manyfest.stores.base import opener_of, put_bytes, read
from manyfest.stores.registry import upload
from manyfest.stores.registry.transport import Cut, Request, Response
from manyfest.testing.inprocess import InProcess

if TYPE_CHECKING:
    from manyfest.stores.base import Readable

DATA = bytes(range(256)) * 12
SIZE = len(DATA)
BLOB = Descriptor.of(DATA, OCI_LAYER_GZIP)
POSITIONS = [0, 1, 2, 255, 1024, SIZE // 2, SIZE - 1, SIZE]


def stored(registry: InProcess) -> bytes | None:
    return registry.repository("acme/app").blobs.get(str(BLOB.digest))


def assert_clean(registry: InProcess) -> None:
    """Nothing of the blob is visible, and no upload is left open."""
    assert stored(registry) is None
    assert registry.uploads == {}


class Broken(BytesIO):
    """A stream that raises once so many bytes have been read."""

    def __init__(self, data: bytes, after: int, error: BaseException) -> None:
        super().__init__(data)
        self._after = after
        self._error = error

    def read(self, size: int | None = -1, /) -> bytes:
        left = self._after - self.tell()
        if left <= 0:
            raise self._error
        return super().read(left if size is None or size < 0 else min(size, left))


# Cuts


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("at", POSITIONS)
def test_a_cut_upload_resumes_where_the_registry_says(at: int, relative: bool) -> None:
    registry = InProcess(cuts=(at,), relative=relative)
    put_bytes(registry.store(), BLOB, DATA)
    assert stored(registry) == DATA
    if at == 1:
        # "0-0" may mean nothing or one byte, so this upload is dropped and another one opened.
        assert registry.methods == ["POST", "PUT", "GET", "DELETE", "POST", "PUT"]
        return
    assert registry.methods == ["POST", "PUT", "GET", "PUT"]
    again = registry.requests[-1]
    assert again.headers.get("Content-Range") == (f"{at}-{SIZE - 1}" if 0 < at < SIZE else None)
    assert again.length == SIZE - at


@pytest.mark.parametrize("at", POSITIONS)
def test_a_cut_upload_begins_anew_where_nothing_is_kept(at: int) -> None:
    registry = InProcess(cuts=(at, at), keeps=False)
    put_bytes(registry.store(), BLOB, DATA)
    assert stored(registry) == DATA
    assert registry.uploads == {}


@pytest.mark.parametrize("at", POSITIONS)
def test_a_cut_upload_begins_anew_where_status_is_unknown(at: int) -> None:
    registry = InProcess(cuts=(at,), status=False)
    put_bytes(registry.store(), BLOB, DATA)
    assert stored(registry) == DATA
    assert registry.uploads == {}


def test_cuts_at_every_byte_of_a_small_blob() -> None:
    data = b"0123456789"
    blob = Descriptor.of(data, OCI_LAYER_GZIP)
    for piece in (0, 3, 4):
        for at in range(len(data) + 1):
            registry = InProcess(cuts=(at, 1))
            put_bytes(registry.store(piece=piece), blob, data)
            assert registry.repository("acme/app").blobs[str(blob.digest)] == data
            assert registry.uploads == {}


def test_many_cuts_with_progress_come_through() -> None:
    registry = InProcess(cuts=(300,) * 9)
    put_bytes(registry.store(), BLOB, DATA)
    assert stored(registry) == DATA


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize("at", [0, 1, 100])
def test_an_upload_that_gets_nowhere_is_given_up(at: int, keeps: bool) -> None:
    registry = InProcess(cuts=(at, *[0] * 100), keeps=keeps)
    with pytest.raises(Unreachable):
        put_bytes(registry.store(), BLOB, DATA)
    assert_clean(registry)
    assert registry.methods.count("PUT") <= upload.MAX_IDLE_TRIES + 2


def test_an_upload_that_trickles_is_given_up() -> None:
    registry = InProcess(cuts=(2,) * 1000)
    with pytest.raises(Unreachable):
        put_bytes(registry.store(), BLOB, DATA)
    assert registry.methods.count("PUT") == upload.MAX_TRIES
    assert_clean(registry)


@pytest.mark.parametrize("number", range(8))
def test_a_conversation_cut_before_each_answer(number: int) -> None:
    """The request arrives, its answer does not; whatever is repeated, the blob is there in the end."""
    cut: list[Request] = []

    def hook(request: Request) -> Response | None:
        if cut or len(registry.requests) != number + 1:
            return None
        cut.append(request)
        registry.hook = None
        registry.requests.pop()
        registry.send(request)
        raise Cut("cut before the answer")

    registry = InProcess(hook=hook)
    put_bytes(registry.store(piece=1000), BLOB, DATA)
    assert stored(registry) == DATA
    assert bool(cut) is (number < 5)


def test_a_lost_answer_to_the_last_request_costs_no_second_upload() -> None:
    def hook(request: Request) -> Response | None:
        if request.method != "PUT":
            return None
        registry.hook = None
        registry.requests.pop()
        registry.send(request)
        raise Cut("cut before the answer")

    registry = InProcess(hook=hook)
    put_bytes(registry.store(), BLOB, DATA)
    assert registry.methods == ["POST", "PUT", "GET", "HEAD"]
    assert stored(registry) == DATA


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_failing_registry_is_asked_again(status: int) -> None:
    def hook(request: Request) -> Response | None:
        if request.method != "PUT":
            return None
        registry.hook = None
        return registry.answer(request, status)

    registry = InProcess(hook=hook)
    put_bytes(registry.store(), BLOB, DATA)
    assert stored(registry) == DATA
    assert registry.methods == ["POST", "PUT", "GET", "PUT"]


@pytest.mark.parametrize("status", [400, 401, 403, 405, 418])
def test_a_refused_upload_is_cancelled(status: int) -> None:
    def hook(request: Request) -> Response | None:
        return registry.answer(request, status) if request.method == "PUT" else None

    registry = InProcess(hook=hook)
    with pytest.raises(Error) as caught:
        put_bytes(registry.store(), BLOB, DATA)
    assert f"HTTP {status}" in str(caught.value)
    assert registry.methods == ["POST", "PUT", "DELETE"]
    assert_clean(registry)


def test_a_failing_cancel_does_not_hide_the_reason() -> None:
    def hook(request: Request) -> Response | None:
        if request.method == "DELETE":
            raise Unreachable("gone")
        return registry.answer(request, 403) if request.method == "PUT" else None

    registry = InProcess(hook=hook)
    with pytest.raises(RegistryError, match="HTTP 403"):
        put_bytes(registry.store(), BLOB, DATA)


def test_a_registry_that_does_not_know_its_own_uploads() -> None:
    def hook(request: Request) -> Response | None:
        return registry.refuse(request, 404, "BLOB_UPLOAD_UNKNOWN") if request.method == "PUT" else None

    registry = InProcess(hook=hook)
    with pytest.raises(RegistryError, match="the registry answered 404: blob_upload_unknown"):
        put_bytes(registry.store(), BLOB, DATA)
    assert registry.methods.count("PUT") == upload.MAX_IDLE_TRIES
    assert_clean(registry)


def test_a_registry_where_repositories_must_be_created_first() -> None:
    registry = InProcess(hook=lambda request: registry.refuse(request, 404, "NAME_UNKNOWN"))
    with pytest.raises(NotFound, match="has no repository acme/app") as caught:
        put_bytes(registry.store(), BLOB, DATA)
    assert "created before the first push" in caught.value.hint


# Pieces


def test_pieces_and_their_ranges() -> None:
    registry = InProcess()
    put_bytes(registry.store(piece=1000), BLOB, DATA)
    assert stored(registry) == DATA
    ranges = [r.headers.get("Content-Range") for r in registry.requests]
    assert registry.methods == ["POST", "PATCH", "PATCH", "PATCH", "PUT"]
    assert ranges == [None, "0-999", "1000-1999", "2000-2999", "3000-3071"]


def test_pieces_are_no_smaller_than_the_registry_wants() -> None:
    registry = InProcess(min_chunk=2000)
    put_bytes(registry.store(piece=500), BLOB, DATA)
    assert [r.length for r in registry.requests] == [None, 2000, SIZE - 2000]
    assert stored(registry) == DATA


@pytest.mark.parametrize("at", POSITIONS)
def test_a_cut_piece_resumes(at: int) -> None:
    registry = InProcess(cuts=(5000, min(at, 1000)))
    put_bytes(registry.store(piece=1000), BLOB, DATA)
    assert stored(registry) == DATA
    assert registry.uploads == {}


def test_a_body_too_large_for_a_proxy_goes_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "PIECE", 2000)
    monkeypatch.setattr(upload, "_MIN_PIECE", 100)
    registry = InProcess(max_body=600)
    put_bytes(registry.store(), BLOB, DATA)
    assert stored(registry) == DATA
    sizes = [r.length for r in registry.requests if r.method == "PATCH"]
    assert sizes[:2] == [2000, 500]


def test_a_limit_below_the_least_piece_is_an_error() -> None:
    registry = InProcess(max_body=600)
    with pytest.raises(RegistryError, match="answered 413") as caught:
        put_bytes(registry.store(), BLOB, DATA)
    assert "limits the size" in caught.value.hint
    assert_clean(registry)


def test_a_registry_that_takes_less_than_it_was_sent() -> None:
    """It says so in Range, and gets the rest again."""
    first: list[bool] = []

    def hook(request: Request) -> Response | None:
        if request.method != "PATCH" or first:
            return None
        first.append(True)
        registry.requests.pop()
        response = registry.send(request)
        (only,) = registry.uploads.values()
        del only.data[600:]
        headers = {"Location": response.headers["Location"], "Range": "0-599"}
        return registry.answer(request, 202, headers=headers)

    registry = InProcess(hook=hook)
    put_bytes(registry.store(piece=1000), BLOB, DATA)
    assert stored(registry) == DATA


@pytest.mark.parametrize("value", ["0-5000", "0-99999999"])
def test_a_registry_that_has_more_than_it_was_sent(value: str) -> None:
    def hook(request: Request) -> Response | None:
        return registry.answer(request, 202, headers={"Range": value}) if request.method == "PATCH" else None

    registry = InProcess(hook=hook)
    with pytest.raises(RegistryError, match="the registry says that it has"):
        put_bytes(registry.store(piece=1000), BLOB, DATA)
    assert_clean(registry)


# Content


@pytest.mark.parametrize("checks", [True, False])
@pytest.mark.parametrize(
    ("data", "error"),
    [
        (DATA[:-1] + b"!", DigestMismatch),
        (b"!" + DATA[1:], DigestMismatch),
        (DATA[:-1], SizeMismatch),
        (b"", SizeMismatch),
        (DATA + b"!", SizeMismatch),
    ],
)
@pytest.mark.parametrize("piece", [0, 1000])
def test_wrong_content_never_completes(data: bytes, error: type[Error], checks: bool, piece: int) -> None:
    """Not even at a registry that does not compare: the last bytes are held back."""
    registry = InProcess(checks=checks)
    with pytest.raises(error) as caught:
        put_bytes(registry.store(piece=piece), BLOB, data)
    assert "localhost:5000/acme/app" in str(caught.value)
    assert caught.value.hint
    assert_clean(registry)
    assert registry.methods[-1] == "DELETE"


def test_a_registry_that_got_something_else_says_so() -> None:
    def hook(request: Request) -> Response | None:
        if request.method != "PUT":
            return None
        return registry.refuse(
            request, 400, "DIGEST_INVALID", "provided digest did not match uploaded content"
        )

    registry = InProcess(hook=hook)
    with pytest.raises(DigestMismatch, match="did not match uploaded content"):
        put_bytes(registry.store(), BLOB, DATA)
    assert_clean(registry)


def test_another_digest_in_the_answer_is_an_error() -> None:
    registry = InProcess(wrong_digest=True)
    with pytest.raises(DigestMismatch, match="the registry stored sha256:0000"):
        put_bytes(registry.store(), BLOB, DATA)


@pytest.mark.parametrize("piece", [0, 1000])
@pytest.mark.parametrize("after", [0, 1, 500, 1500, SIZE - 1])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), Cut("the source was cut"), OSError("disk")])
def test_an_error_of_the_content_cancels_the_upload(after: int, piece: int, error: BaseException) -> None:
    """Ctrl-C above all. A cut of the source is not taken for one of the registry."""
    registry = InProcess()

    def content(offset: int) -> Readable:
        stream = Broken(DATA, after, error)
        stream.seek(offset)
        return stream

    with pytest.raises(type(error)):
        registry.store(piece=piece).put(BLOB, content)
    assert_clean(registry)
    assert registry.methods[-1] == "DELETE"
    assert registry.methods.count("DELETE") == 1
    assert "GET" not in registry.methods


@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT"])
def test_an_interrupt_while_the_registry_is_silent_cancels(method: str) -> None:
    def hook(request: Request) -> Response | None:
        if request.method == method:
            raise KeyboardInterrupt
        return None

    registry = InProcess(hook=hook)
    with pytest.raises(KeyboardInterrupt):
        put_bytes(registry.store(piece=1000), BLOB, DATA)
    assert_clean(registry)


def test_an_opener_that_fails_cancels_the_upload() -> None:
    def content(offset: int) -> Readable:
        raise NotFound("the source has lost it")

    registry = InProcess()
    with pytest.raises(NotFound, match="lost it"):
        registry.store().put(BLOB, content)
    assert_clean(registry)


def test_content_is_opened_again_only_from_where_it_is_needed() -> None:
    offsets: list[int] = []

    def content(offset: int) -> Readable:
        offsets.append(offset)
        return BytesIO(DATA[offset:])

    InProcess(cuts=(1000, 500)).store().put(BLOB, content)
    assert offsets == [0, 1000, 1500]


def test_nothing_at_all_is_a_blob_too() -> None:
    registry = InProcess()
    store = registry.store()
    empty = Descriptor.of(b"", OCI_LAYER_GZIP)
    put_bytes(store, empty, b"")
    assert read(store, empty) == b""
    with pytest.raises(SizeMismatch):
        put_bytes(store, empty, b"x")


def test_sha512_is_announced() -> None:
    registry = InProcess()
    store = registry.store()
    digest = Digest("sha512", hashlib.sha512(DATA).hexdigest())
    blob = Descriptor(OCI_LAYER_GZIP, digest, SIZE)
    put_bytes(store, blob, DATA)
    assert registry.log[0] == "POST /v2/acme/app/blobs/uploads/?digest-algorithm=sha512"
    assert read(store, blob) == DATA
    with pytest.raises(DigestMismatch):
        put_bytes(store, blob, DATA[:-1] + b"!")


# Where to


def test_an_upload_may_move_to_another_host() -> None:
    registry = InProcess(upload_host="storage.example")
    put_bytes(registry.store(), BLOB, DATA)
    put = registry.requests[1]
    digest = str(BLOB.digest).replace(":", "%3A")
    assert put.url == f"https://storage.example/v2/acme/app/blobs/uploads/1?state=s1&digest={digest}"
    assert stored(registry) == DATA


@pytest.mark.parametrize("location", ["", "ftp://x/y", "https://[x", "https://a b/"])
def test_a_location_that_leads_nowhere(location: str) -> None:
    def hook(request: Request) -> Response | None:
        return registry.answer(request, 202, headers={"Location": location} if location else {})

    registry = InProcess(hook=hook)
    with pytest.raises(RegistryError, match="Location"):
        registry.store().put(BLOB, opener_of(DATA))
