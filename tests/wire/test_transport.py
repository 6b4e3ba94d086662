# SPDX-License-Identifier: Apache-2.0
"""Requests and answers as they travel: framing, keep-alive, limits, early answers."""

from __future__ import annotations

import errno
import gc
import hashlib
import select
import socket
import struct
import threading
import tracemalloc
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest

from manyfest.errors import InputError, Unreachable
from manyfest.stores.registry.connections import HELD, Address, Pool, _Dial
from manyfest.stores.registry.http1 import Connection, _poll
from manyfest.stores.registry.transport import Cut, Headers, HTTPTransport, Request, Response
from manyfest.testing.script import Answer, Received, ScriptedRegistry

Connect = Callable[..., HTTPTransport]


def ask(
    transport: HTTPTransport, registry: ScriptedRegistry, path: str = "/v2/", method: str = "GET"
) -> bytes:
    """The body of one answer."""
    with transport.send(Request(method, registry.url + path)) as response:
        return response.read()


def warmed() -> None:
    """Wait until nothing is opened ahead any more."""
    for thread in threading.enumerate():
        if "_warm_" in thread.name:
            thread.join(10)


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("size", [1, 7, 64 * 1024, -1])
def test_a_body_arrives_whole_whatever_its_framing(
    connect: Connect, registry: ScriptedRegistry, chunked: bool, size: int
) -> None:
    """By length and by chunks, in pieces and at once."""
    body = bytes(range(256)) * 40
    registry.on("GET", "/v2/", Answer(200, body, chunked=chunked))
    with connect().send(Request("GET", f"{registry.url}/v2/")) as response:
        got = b"".join(iter(lambda: response.read(size), b""))
    assert got == body


def test_a_body_without_length_ends_with_the_connection(connect: Connect, registry: ScriptedRegistry) -> None:
    """And the connection is not used again."""
    registry.on("GET", "/v2/", Answer(200, b"all of it", length=-1))
    transport = connect()
    assert ask(transport, registry) == b"all of it"
    assert ask(transport, registry) == b"all of it"
    assert registry.connections == 2


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        ("HEAD", Answer(200, b"", {"Content-Length": "5"})),
        ("GET", Answer(304, b"", {"Content-Length": "5"})),
        ("DELETE", Answer(204)),
        ("PUT", Answer(201)),
    ],
)
def test_answers_without_a_body_keep_the_connection(
    connect: Connect, registry: ScriptedRegistry, method: str, answer: Answer
) -> None:
    """Whatever Content-Length says."""
    registry.on(method, "/v2/", answer)
    transport = connect()
    assert ask(transport, registry, method=method) == b""
    assert ask(transport, registry, method=method) == b""
    assert registry.connections == 1


def test_one_connection_serves_many_requests(connect: Connect, registry: ScriptedRegistry) -> None:
    """As long as they come one after another."""
    registry.on("GET", "/v2/", Answer(200, b"x"))
    transport = connect()
    for _ in range(20):
        assert ask(transport, registry) == b"x"
    assert (registry.connections, registry.count("GET", "/v2/")) == (1, 20)


def test_an_answer_that_says_close_is_the_last_on_its_connection(
    connect: Connect, registry: ScriptedRegistry
) -> None:
    """RFC 9112 9.6."""
    registry.on("GET", "/v2/", Answer(200, b"x", {"Connection": "close"}))
    transport = connect()
    assert ask(transport, registry) + ask(transport, registry) == b"xx"
    assert registry.connections == 2


def test_a_dead_idle_connection_goes_unnoticed(connect: Connect, registry: ScriptedRegistry) -> None:
    """The server closed it while nobody was looking."""
    registry.on("GET", "/v2/", Answer(200, b"x", hang_up=True))
    transport = connect()
    assert ask(transport, registry) + ask(transport, registry) == b"xx"
    registry.check()


@pytest.mark.parametrize("fault", [Answer(cut_before=True), Answer(cut_before=True, reset=True)])
def test_a_connection_that_dies_just_as_it_is_reused_is_replaced_once(
    connect: Connect, registry: ScriptedRegistry, fault: Answer
) -> None:
    """The race that a look at the idle connection cannot win."""
    registry.on("GET", "/v2/", Answer(200, b"1"), times=1)
    registry.on("GET", "/v2/", fault, times=1)
    registry.on("GET", "/v2/", Answer(200, b"3"), times=1)
    transport = connect()
    assert ask(transport, registry) + ask(transport, registry) == b"13"
    assert registry.connections == 2
    registry.check()


@pytest.mark.parametrize("request_", [("POST", b"once"), ("PUT", BytesIO(b"stream")), ("PATCH", b"once")])
def test_what_must_not_happen_twice_is_not_repeated(
    connect: Connect, registry: ScriptedRegistry, request_: tuple[str, bytes | BytesIO]
) -> None:
    """Methods that are not idempotent, and streams that can be read once."""
    method, body = request_
    registry.on("GET", "/v2/", Answer(200))
    registry.on(method, "/up", Answer(cut_before=True))
    transport = connect()
    ask(transport, registry)
    with pytest.raises(Cut) as caught:
        transport.send(Request(method, f"{registry.url}/up", body=body, length=6))
    assert not caught.value.answered
    assert registry.count(method, "/up") == 1


def test_a_fresh_connection_that_dies_is_not_tried_again(
    connect: Connect, registry: ScriptedRegistry
) -> None:
    """Retrying is the session's business."""
    registry.on("GET", "/v2/", Answer(cut_before=True))
    with pytest.raises(Cut, match="without an answer"):
        ask(connect(), registry)
    assert registry.count() == 1


HEAD = b"HTTP/1.1 200 Scripted\r\nContent-Length: 10\r\n\r\n"


@pytest.mark.parametrize("at", range(len(HEAD)))
def test_a_head_cut_anywhere_is_an_error(connect: Connect, registry: ScriptedRegistry, at: int) -> None:
    """Never half an answer."""
    registry.on("GET", "/v2/", Answer(200, b"0123456789", cut_head=at))
    with pytest.raises(Cut) as caught:
        ask(connect(), registry)
    assert (caught.value.answered, caught.value.received) == (False, 0)


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("at", range(10))
def test_a_body_cut_anywhere_is_an_error(
    connect: Connect, registry: ScriptedRegistry, at: int, reset: bool
) -> None:
    """What came is handed out, then Cut says how much it was."""
    registry.on("GET", "/v2/", Answer(200, b"0123456789", cut_body=at, reset=reset))
    with connect().send(Request("GET", f"{registry.url}/v2/")) as response:
        pieces: list[bytes] = []
        with pytest.raises(Cut) as caught:
            pieces.extend(iter(lambda: response.read(3), b""))
    got = b"".join(pieces)
    assert b"0123456789"[:at].startswith(got)
    assert (caught.value.answered, caught.value.received) == (True, len(got))
    if not reset:
        assert len(got) == at


CHUNKS = b"5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n"


@pytest.mark.parametrize("at", range(len(CHUNKS)))
def test_a_chunked_body_cut_anywhere_is_an_error(
    connect: Connect, registry: ScriptedRegistry, at: int
) -> None:
    """Up to the last byte of the last chunk's line."""
    registry.on("GET", "/v2/", Answer(200, b"0123456789", chunked=True, cut_body=at))
    with pytest.raises(Cut):
        ask(connect(), registry)


@pytest.mark.parametrize("at", range(0, 10, 3))
def test_a_server_that_goes_while_it_receives_is_an_error(
    connect: Connect, registry: ScriptedRegistry, at: int
) -> None:
    """Without an answer there is none to make up."""
    registry.on("PATCH", "/up", Answer(cut_request=at))
    with pytest.raises(Cut) as caught:
        connect().send(Request("PATCH", f"{registry.url}/up", body=BytesIO(bytes(8 << 20)), length=8 << 20))
    assert not caught.value.answered


@pytest.mark.parametrize("length", [11, 1000])
def test_a_promise_of_more_bytes_than_come_is_an_error(
    connect: Connect, registry: ScriptedRegistry, length: int
) -> None:
    """A wrong Content-Length is never a short body."""
    registry.on("GET", "/v2/", Answer(200, b"0123456789", length=length))
    with pytest.raises(Cut, match="after 10 bytes"):
        ask(connect(), registry)


def test_bytes_beyond_content_length_are_not_the_next_answer(
    connect: Connect, registry: ScriptedRegistry
) -> None:
    """A response that was smuggled in behind another one is dropped with its connection."""
    evil = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    registry.on(
        "GET", "/v2/", Answer(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood" + evil), times=1
    )
    registry.on("GET", "/v2/", Answer(200, b"next"))
    transport = connect()
    assert ask(transport, registry) == b"good"
    assert ask(transport, registry) == b"next"


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "expected an HTTP answer"),
        (b"HTTP/2 200\r\n\r\n", "status line"),
        (b"HTTP/1.1 abc\r\n\r\n", "status line"),
        (b"HTTP/1.1 099 no\r\n\r\n", "status line"),
        (b"HTTP/1.1 101 Switching\r\n\r\n", "interim"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 20, "interim"),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\n: no name\r\n\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\nName : x\r\n\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\nA: x\0y\r\n\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: ten\r\n\r\n", "Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 40 + b"\r\n\r\n", "Content-Length"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "transfer encoding"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "chunked framing"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", "chunked framing"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabcd\r\n", "chunked framing"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 9999, "too long"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 999,
            "chunked framing",
        ),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 300 + b"\r\n", "256 header fields"),
        (b"HTTP/1.1 200 OK\r\na: " + b"b" * 70_000 + b"\r\n\r\n", "larger than 65536"),
        (b"HTTP/1.1 200 OK\r\na: " + b"b" * 200_000, "larger than 65536"),
    ],
)
def test_what_is_no_http_is_refused(
    connect: Connect, registry: ScriptedRegistry, raw: bytes, words: str
) -> None:
    """With a message that says what came."""
    registry.on("GET", "/v2/", Answer(raw=raw))
    with pytest.raises(Unreachable, match=words) as caught:
        ask(connect(), registry)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (b"HTTP/1.0 200 OK\n\nold", b"old"),
        (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", b"ok"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", b"ok"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2;x=y\r\nok\r\n0\r\nT: t\r\n\r\n", b"ok"),
        (b"HTTP/1.1 200 OK\r\nA: one\r\n two\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    ],
)
def test_odd_but_legal_answers_are_read(
    connect: Connect, registry: ScriptedRegistry, raw: bytes, body: bytes
) -> None:
    """HTTP/1.0, bare line feeds, no reason, interim answers, chunk extensions, trailers, folded lines."""
    registry.on("GET", "/v2/", Answer(raw=raw))
    assert ask(connect(), registry) == body


def test_a_silent_server_is_given_up(connect: Connect, registry: ScriptedRegistry) -> None:
    """After the time-out, with it in the message."""
    registry.on("GET", "/v2/", Answer(silent=True))
    with pytest.raises(Unreachable, match=r"did not answer for 0\.05 s"):
        connect(timeout_s=0.05).send(Request("GET", f"{registry.url}/v2/"))


def test_a_silent_server_is_called_so_however_late_that_is_seen(
    connect: Connect, registry: ScriptedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine the time may be over before anything was waited for."""
    clock = iter(range(0, 1000, 60))
    monkeypatch.setattr("manyfest.stores.registry.http1.monotonic", lambda: float(next(clock)))
    registry.on("GET", "/v2/", Answer(silent=True))
    with pytest.raises(Unreachable, match="did not answer for 10 s"):
        ask(connect(), registry)


def test_a_head_that_never_ends_is_given_up(connect: Connect, registry: ScriptedRegistry) -> None:
    """One field after the other: the size bounds it."""
    registry.on("GET", "/v2/", Answer(interim=b"HTTP/1.1 200 OK\r\n", raw=b"A: b\r\n", endless=True))
    with pytest.raises(Unreachable, match="larger than 65536"):
        ask(connect(), registry)


def test_a_head_that_drips_is_given_up(
    connect: Connect, registry: ScriptedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each piece may come in time, but the whole head has a deadline."""
    clock = iter(range(0, 1000, 6))
    monkeypatch.setattr("manyfest.stores.registry.http1.monotonic", lambda: float(next(clock)))
    registry.on("GET", "/v2/", Answer(interim=b"HTTP/1.1 200 OK\r\n", raw=b"A", endless=True))
    with pytest.raises(Unreachable, match="did not finish its answer's header for 10 s"):
        ask(connect(), registry)


def test_a_request_may_have_its_own_timeout(connect: Connect, registry: ScriptedRegistry) -> None:
    """In place of the transport's."""
    registry.on("GET", "/v2/", Answer(silent=True))
    with pytest.raises(Unreachable, match=r"0\.03 s"):
        connect().send(Request("GET", f"{registry.url}/v2/", timeout_s=0.03))


@pytest.mark.parametrize("length", [None, 3 << 20])
def test_a_stream_is_sent_in_pieces(connect: Connect, registry: ScriptedRegistry, length: int | None) -> None:
    """With its length, or chunked."""
    body = hashlib.sha512(b"seed").digest() * (3 << 14)
    registry.on("PATCH", "/up", Answer(202))
    response = connect().send(Request("PATCH", f"{registry.url}/up", body=BytesIO(body), length=length))
    response.close()
    assert response.status == 202
    assert registry.received[-1].body == body
    framing = registry.received[-1].headers
    assert framing.get("content-length") == (None if length is None else str(length))
    assert framing.get("transfer-encoding") == ("chunked" if length is None else None)


@pytest.mark.parametrize("body", [b"", b"small", bytes(1 << 20)])
def test_bytes_are_sent_with_their_length(connect: Connect, registry: ScriptedRegistry, body: bytes) -> None:
    """Even none at all."""
    registry.on("PUT", "/up", Answer(201))
    connect().send(Request("PUT", f"{registry.url}/up", body=body)).close()
    assert (registry.received[-1].body, registry.received[-1].headers["content-length"]) == (
        body,
        str(len(body)),
    )


def test_a_stream_shorter_than_promised_is_an_error(connect: Connect, registry: ScriptedRegistry) -> None:
    """And the registry never gets a whole request."""
    with pytest.raises(Unreachable, match="ended after 3 bytes, expected 10"):
        connect().send(Request("PUT", f"{registry.url}/up", body=BytesIO(b"abc"), length=10))
    assert registry.received == []


def test_an_error_of_the_stream_passes_through(connect: Connect, registry: ScriptedRegistry) -> None:
    """It is not the connection's."""

    class Broken(BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise PermissionError("the disk says no")

    with pytest.raises(PermissionError, match="the disk says no"):
        connect().send(Request("PUT", f"{registry.url}/up", body=Broken(), length=10))


@pytest.mark.parametrize("as_stream", [True, False])
def test_an_answer_before_the_body_was_sent_is_read(
    connect: Connect, registry: ScriptedRegistry, as_stream: bool
) -> None:
    """413 says more than a broken pipe."""
    registry.on("PUT", "/up", Answer(413, b"too large", early=True))
    body = bytes(32 << 20)
    sent = BytesIO(body) if as_stream else body
    with connect().send(Request("PUT", f"{registry.url}/up", body=sent, length=len(body))) as response:
        assert (response.status, response.read()) == (413, b"too large")


def test_the_connection_of_an_early_answer_is_not_used_again(
    connect: Connect, registry: ScriptedRegistry
) -> None:
    """Half a request is still on it."""
    registry.on("PUT", "/up", Answer(401, early=True))
    registry.on("GET", "/v2/", Answer(200, b"x"))
    transport = connect()
    transport.send(Request("PUT", f"{registry.url}/up", body=bytes(32 << 20))).close()
    assert ask(transport, registry) == b"x"
    assert registry.connections == 2


def test_an_unread_small_rest_is_drained_and_a_large_one_drops_the_connection(
    connect: Connect, registry: ScriptedRegistry
) -> None:
    """What closing costs."""
    registry.on("GET", "/small", Answer(404, bytes(2000)))
    registry.on("GET", "/large", Answer(200, bytes(1 << 20)))
    transport = connect()
    for path, connections in (("/small", 1), ("/small", 1), ("/large", 1), ("/small", 2)):
        transport.send(Request("GET", registry.url + path)).close()
        assert registry.connections == connections


def test_headers_are_looked_up_in_any_case() -> None:
    """And may come several times."""
    headers = Headers([("WWW-Authenticate", "Basic"), ("www-authenticate", "Bearer"), ("Content-Type", "x")])
    assert headers.get("www-AUTHENTICATE") == "Basic"
    assert headers.get_all("Www-Authenticate") == ["Basic", "Bearer"]
    assert headers.get("Location") is None
    assert headers.get("Location", "none") == "none"
    assert "content-type" in headers
    assert headers["CONTENT-TYPE"] == "x"


def test_no_repr_shows_a_credential() -> None:
    """Headers and queries hold them."""
    url = "https://user:secret@host/v2/?token=secret"
    request = Request("GET", url, {"Authorization": "secret"}, body=b"secret")
    response = Response(200, Headers([("Set-Cookie", "secret")]), BytesIO(b"secret"), url)
    assert "secret" not in f"{request!r} {response!r} {response.headers!r}"


@pytest.mark.parametrize(
    "request_",
    [
        Request("GET", "https://host/\r\nX: y"),
        Request("GET", "https://host/", {"A": "b\r\nX: y"}),
        Request("GET", "https://host/", {"A\r\nX": "y"}),
        Request("GET", "https://host/", {"A": "ümlaut"}),
        Request("GET", "ftp://host/"),
        Request("GET", "https://"),
        Request("GET", "/v2/"),
        Request("GET", "https://host:99999/"),
        Request("GET", "https://host:x/"),
    ],
)
def test_what_would_break_the_framing_is_refused_before_anything_is_sent(
    connect: Connect, request_: Request
) -> None:
    """No second header line can be smuggled in, and no odd URL gets far."""
    with pytest.raises(InputError):
        connect().send(request_)


def test_given_headers_replace_ours(connect: Connect, registry: ScriptedRegistry) -> None:
    """In whatever case, and none is sent twice."""
    registry.on("GET", "/v2/", Answer(200))
    connect().send(Request("GET", f"{registry.url}/v2/", {"user-agent": "mine", "accept": "a/b"})).close()
    headers = registry.received[-1].headers
    assert (headers["user-agent"], headers["accept"], headers["host"]) == ("mine", "a/b", registry.host)
    assert headers["accept-encoding"] == "identity"


def test_the_query_travels_as_given(connect: Connect, registry: ScriptedRegistry) -> None:
    """Nothing is encoded twice."""
    registry.on("GET", "/v2/a", Answer(200))
    connect().send(Request("GET", f"{registry.url}/v2/a?digest=sha256%3Aabc&x=1#part")).close()
    assert registry.received[-1].target == "/v2/a?digest=sha256%3Aabc&x=1"


def test_warmed_connections_are_the_ones_used(connect: Connect, registry: ScriptedRegistry) -> None:
    """Four requests at once after a warm-up need no fifth connection."""
    together = threading.Barrier(4)

    def answer(request: Received) -> Answer:
        together.wait(10)
        return Answer(200, b"x")

    registry.on("GET", "/v2/", answer)
    transport = connect()
    transport.warm(registry.url, 4)
    results: list[bytes] = []
    threads = [threading.Thread(target=lambda: results.append(ask(transport, registry))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert (results, registry.connections) == ([b"x"] * 4, 4)


def test_a_connection_that_arrives_between_two_looks_is_used(
    connect: Connect, registry: ScriptedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None was there, then all were, and nothing was on its way any more."""
    idle_one, finished, looked = Pool._idle_one, Pool._finished, threading.Event()

    def late(*arguments: Any) -> Connection:
        assert looked.wait(10)
        return finished(*arguments)

    def slow(pool: Pool, address: Address) -> Connection | None:
        found = idle_one(pool, address)
        looked.set()
        warmed()
        return found

    monkeypatch.setattr(Pool, "_finished", late)
    monkeypatch.setattr(Pool, "_idle_one", slow)
    registry.on("GET", "/v2/", Answer(200, b"x"))
    transport = connect()
    transport.warm(registry.url, 2)
    assert ask(transport, registry) == b"x"
    assert registry.connections == 2


@pytest.mark.parametrize("fails", [False, True])
def test_warming_looks_a_name_up_once(
    connect: Connect, registry: ScriptedRegistry, monkeypatch: pytest.MonkeyPatch, *, fails: bool
) -> None:
    """However many connections are opened; a name server that does not answer is waited for once and no more."""
    look_up, asked = socket.getaddrinfo, []

    def counted(*arguments: Any, **options: Any) -> Any:
        asked.append(arguments[0])
        if fails:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return look_up(*arguments, **options)

    registry.on("GET", "/v2/", Answer(200, b"x"))
    monkeypatch.setattr(socket, "getaddrinfo", counted)
    transport = connect()
    transport.warm(registry.url, 4)
    if fails:
        with pytest.raises(Unreachable, match="cannot be resolved"):
            ask(transport, registry)
    else:
        assert ask(transport, registry) == b"x"
    warmed()
    # Who asks, after warming has failed, looks for itself.
    assert len(asked) == (2 if fails else 1)


def test_the_first_warmed_connection_is_not_held_back(
    connect: Connect, registry: ScriptedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a near network a request goes out while the others are still being begun."""
    answered = threading.Event()
    begin = _Dial._begin
    begun: list[object] = []

    def slow(dial: _Dial) -> None:
        if begun:
            assert answered.wait(10)
        begun.append(dial)
        begin(dial)

    monkeypatch.setattr(_Dial, "_begin", slow)
    monkeypatch.setattr(_Dial, "is_over", lambda _: True)  # as it is when the machine is not busy
    registry.on("GET", "/v2/", Answer(200, b"x"))
    transport = connect()
    transport.warm(registry.url, 3)
    assert ask(transport, registry) == b"x"
    answered.set()


@pytest.mark.skipif(not hasattr(socket, "TCP_NOTSENT_LOWAT"), reason="this system has no such option")
def test_a_slow_reader_on_this_machine_is_not_sent_for_by_itself(
    connect: Connect, registry: ScriptedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel holds little for it, so that its reading is not slowed down by our sending; for others as ever."""
    held: list[int] = []
    option = (socket.IPPROTO_TCP, getattr(socket, "TCP_NOTSENT_LOWAT", 0))

    def seen(sock: socket.socket, *arguments: Any, **options: Any) -> Connection:
        held.append(sock.getsockopt(*option))
        return Connection(sock, *arguments, **options)

    registry.on("GET", "/v2/", Answer(200, b"x"))
    monkeypatch.setattr("manyfest.stores.registry.connections.Connection", seen)
    assert ask(connect(), registry) == b"x"
    monkeypatch.setattr("manyfest.stores.registry.connections.is_loopback", lambda _: False)
    assert ask(connect(), registry) == b"x"
    assert held[0] == HELD
    assert held[1] != HELD


class Fickle(socket.socket):
    """Its options cannot be set, which is what some systems say once the peer has hung up."""

    def setsockopt(self, *arguments: Any) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("options", [True, False], ids=["options", "no-options"])
def test_a_registry_that_hangs_up_while_a_connection_is_set_up_is_unreachable(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, scheme: str, *, options: bool
) -> None:
    """Warmed or not, and whatever the operating system then says of the socket: no more than the request is told."""
    finish, kinds = _Dial.finish, (Fickle, socket.socket)
    over: list[str] = []

    def reset(dial: _Dial) -> socket.socket:
        sock = finish(dial)
        peer, _ = listening.accept()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        assert _poll(sock, select.POLLIN, 10) & select.POLLHUP
        over.append(threading.current_thread().name)
        dial._sock = kinds[options](fileno=sock.detach())
        return dial._sock

    monkeypatch.setattr(_Dial, "finish", reset)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        transport = connect()
        url = f"{scheme}://127.0.0.1:{listening.getsockname()[1]}/v2/"
        transport.warm(url, 2)
        warmed()
        assert len(over) == 2
        with pytest.raises(Unreachable, match=r"^https?://127\.0\.0\.1:\d+: "):
            transport.send(Request("GET", url))
    gc.collect()  # a socket that nobody closed is an error


@pytest.mark.parametrize("short_of", ["proxy", "threads"])
def test_what_cannot_be_warmed_is_not_waited_for(
    connect: Connect, registry: ScriptedRegistry, monkeypatch: pytest.MonkeyPatch, short_of: str
) -> None:
    """Nobody opens what was to be opened ahead: the request does it itself, or tells what is wrong."""

    def no_more(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    url = f"{registry.url}/v2/"
    if short_of == "proxy":
        monkeypatch.setenv("HTTPS_PROXY", "socks5://127.0.0.1:1080")
        url = "https://registry.invalid/v2/"
    registry.on("GET", "/v2/", Answer(200, b"x"))
    transport = connect()
    with monkeypatch.context() as patched:
        if short_of == "threads":
            patched.setattr(threading.Thread, "start", no_more)
        transport.warm(url, 3)
    warmed()
    assert not any(transport._pool._pending.values())
    if short_of == "proxy":
        with pytest.raises(InputError, match="HTTPS_PROXY: expected a proxy"):
            transport.send(Request("GET", url))
    else:
        assert ask(transport, registry) == b"x"


def test_warming_a_dead_host_disturbs_nobody(connect: Connect, registry: ScriptedRegistry) -> None:
    """The request itself tells what is wrong."""
    url = registry.url
    registry.close()
    transport = connect()
    transport.warm(url, 3)
    with pytest.raises(Unreachable, match="connection refused"):
        transport.send(Request("GET", f"{url}/v2/"))


def test_warming_a_name_that_nobody_has_disturbs_nobody(connect: Connect) -> None:
    """All connections that were to be are given up, and who asks is told."""
    transport = connect()
    transport.warm("http://nowhere.invalid:1", 3)
    with pytest.raises(Unreachable, match="cannot be resolved"):
        transport.send(Request("GET", "http://nowhere.invalid:1/v2/"))


def test_many_threads_share_a_transport(connect: Connect, registry: ScriptedRegistry) -> None:
    """Every answer reaches the one who asked."""
    registry.on("GET", "/*", lambda request: Answer(200, request.path.encode() * 100))
    transport = connect()
    wrong: list[str] = []

    def work(number: int) -> None:
        for turn in range(20):
            path = f"/{number}/{turn}"
            if ask(transport, registry, path) != path.encode() * 100:
                wrong.append(path)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not wrong
    assert registry.connections <= 8


def test_a_closed_transport_keeps_no_connection(connect: Connect, registry: ScriptedRegistry) -> None:
    """Not even one that comes back later."""
    registry.on("GET", "/v2/", Answer(200, b"x"))
    transport = connect()
    response = transport.send(Request("GET", f"{registry.url}/v2/"))
    transport.close()
    assert response.read() == b"x"
    transport.close()


class Zeros:
    """So many zero bytes, without holding them."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._block = bytes(1 << 20)

    def read(self, size: int = -1, /) -> bytes:
        size = min(size, self._left, len(self._block))
        self._left -= size
        return self._block[:size]

    def close(self) -> None:
        """Nothing to close."""


@pytest.mark.slow
def test_64_mib_pass_both_ways_without_filling_memory(connect: Connect) -> None:
    """A few pieces of 1 MiB are in memory at any time, the server's included."""
    size = 64 << 20
    with ScriptedRegistry(keep_bodies=False) as registry:
        registry.on("PUT", "/up", Answer(201))
        registry.on("GET", "/down", Answer(200, bytes(1 << 20), {"Content-Length": str(size)}, endless=True))
        transport = connect()
        tracemalloc.start()
        try:
            transport.send(Request("PUT", f"{registry.url}/up", body=Zeros(size), length=size)).close()
            with transport.send(Request("GET", f"{registry.url}/down")) as response:
                got = sum(len(data) for data in iter(lambda: response.read(1 << 20), b""))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert got == size
    assert peak < 16 << 20
