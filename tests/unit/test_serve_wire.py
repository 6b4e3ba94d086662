# SPDX-License-Identifier: Apache-2.0
"""Request heads and bodies as bytes: what is read, what is refused."""

from __future__ import annotations

from io import BufferedReader, BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyfest.serve.exchange import Cut
from manyfest.serve.wire import MAX_FIELDS, MAX_HEAD, MAX_LINE, BadRequest, Body, read_head


def inbox(data: bytes) -> BufferedReader:
    return BufferedReader(BytesIO(data))


def head_of(*lines: str, start: str = "GET /v2/ HTTP/1.1") -> bytes:
    return "\r\n".join([start, *lines, "", ""]).encode("latin-1")


def test_plain_head() -> None:
    head = read_head(inbox(head_of("Host: x", "X-Twice: 1", "x-twice:  2 ")))
    assert head is not None
    assert (head.method, head.target, head.length, head.keep_alive) == ("GET", "/v2/", 0, True)
    assert head.headers.get("X-TWICE") == "1, 2"


@pytest.mark.parametrize(
    ("start", "lines", "keep"),
    [
        ("GET / HTTP/1.1", ["Host: x"], True),
        ("GET / HTTP/1.1", ["Host: x", "Connection: close"], False),
        ("GET / HTTP/1.1", ["Host: x", "Connection: TE, Close"], False),
        ("GET / HTTP/1.0", [], False),
        ("GET / HTTP/1.0", ["Connection: Keep-Alive"], True),
        ("GET http://x:1/p HTTP/1.1", ["Host: x"], True),
    ],
)
def test_keep_alive(start: str, lines: list[str], keep: bool) -> None:
    head = read_head(inbox(head_of(*lines, start=start)))
    assert head is not None
    assert head.keep_alive is keep


def test_end_between_requests() -> None:
    assert read_head(inbox(b"")) is None
    assert read_head(inbox(b"\r\n")) is None


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"GET /v2/\r\n\r\n", 400),
        (b"get / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET x HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (head_of("Host : x"), 400),
        (head_of("Host: x", " folded"), 400),
        (head_of("Host: x", "nocolon"), 400),
        (head_of("Host: x", "A: b\x00c"), 400),
        (head_of("Host: x", "A: b\rc"), 400),
        (head_of("Host: x", "Content-Length: 1", "Content-Length: 2"), 400),
        (head_of("Host: x", "Content-Length: +1"), 400),
        (head_of("Host: x", "Content-Length: 1_0"), 400),
        (head_of("Host: x", "Content-Length: " + "9" * 30), 400),
        (head_of("Host: x", "Content-Length: -1"), 400),
        (head_of("Host: x", "Transfer-Encoding: chunked", "Content-Length: 1"), 400),
        (head_of("Host: x", "Transfer-Encoding: gzip, chunked"), 501),
        (head_of("Transfer-Encoding: chunked", start="POST / HTTP/1.0"), 400),
        (b"GET /" + b"a" * MAX_LINE + b" HTTP/1.1\r\n\r\n", 414),
        (head_of("Host: x", "A: " + "b" * MAX_LINE), 431),
        (head_of("Host: x", *["A: b"] * MAX_FIELDS), 431),
        (head_of("Host: x", *["A: " + "b" * 1000] * (MAX_HEAD // 1000 + 1)), 431),
    ],
)
def test_refused_heads(raw: bytes, status: int) -> None:
    with pytest.raises(BadRequest) as caught:
        read_head(inbox(raw))
    assert caught.value.status == status


def test_message_does_not_repeat_values() -> None:
    """A broken line may be a credential."""
    with pytest.raises(BadRequest) as caught:
        read_head(inbox(head_of("Host: x", "Authorization : Basic c2VjcmV0")))
    assert "c2VjcmV0" not in str(caught.value)


@pytest.mark.parametrize(
    "raw", [b"GET / HT", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: x", head_of("A: b")[:-2]]
)
def test_cut_heads(raw: bytes) -> None:
    with pytest.raises(Cut):
        read_head(inbox(raw))


def test_body_of_known_length_leaves_the_next_request() -> None:
    stream = inbox(b"helloGET ")
    body = Body(stream, 5)
    assert (body.read(), body.finished, body.read(1)) == (b"hello", True, b"")
    assert stream.read() == b"GET "


def test_chunked_body_leaves_the_next_request() -> None:
    stream = inbox(b"3\r\nhel\r\nA;ext=1\r\nlo world, \r\n0\r\nTrailer: x\r\n\r\nGET ")
    body = Body(stream, -1)
    assert (body.read(), body.finished) == (b"hello world, ", True)
    assert stream.read() == b"GET "


@pytest.mark.parametrize(
    "raw",
    [b"x\r\nhel", b"-1\r\n", b"0x3\r\nhel\r\n", b"3\r\nhello\r\n0\r\n\r\n", b"\r\n", b"1" * 20 + b"\r\n"],
)
def test_broken_chunks(raw: bytes) -> None:
    with pytest.raises(BadRequest):
        Body(inbox(raw), -1).read()


@pytest.mark.parametrize(("raw", "length"), [(b"hel", 5), (b"3\r\nhe", -1), (b"3\r\nhel\r\n", -1), (b"", -1)])
def test_cut_bodies(raw: bytes, length: int) -> None:
    body = Body(inbox(raw), length)
    with pytest.raises(Cut):
        body.read()
    assert not body.finished


def test_endless_trailers() -> None:
    with pytest.raises(BadRequest):
        Body(inbox(b"0\r\n" + b"A: b\r\n" * MAX_HEAD), -1).read()


def test_continue_is_sent_at_the_first_read_and_once() -> None:
    sent = []
    body = Body(inbox(b"hello"), 5, lambda: sent.append(1))
    assert body.waits_for_continue
    assert sent == []
    body.read(2)
    body.read()
    assert sent == [1]


@pytest.mark.property
@given(st.lists(st.binary(min_size=1, max_size=200)), st.integers(1, 300))
def test_chunked_round_trip(pieces: list[bytes], size: int) -> None:
    """However it was cut into chunks and however it is read, the bytes come out."""
    raw = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    body = Body(inbox(raw), -1)
    assert b"".join(iter(lambda: body.read(size), b"")) == b"".join(pieces)


@pytest.mark.property
@given(st.binary(max_size=400))
def test_no_bytes_crash_the_parser(raw: bytes) -> None:
    try:
        read_head(inbox(raw))
    except (BadRequest, Cut):
        return
