# SPDX-License-Identifier: Apache-2.0
"""The server over real sockets on loopback: framing, connections, files, TLS, stopping."""

from __future__ import annotations

import gc
import http.client
import os
import select
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from manyfest.content.digest import Digest
from manyfest.errors import InputError, StoreError
from manyfest.serve.exchange import File, Request, Response
from manyfest.serve.http import Server, _Connection
from manyfest.serve.registry import RegistryApp

BIG = 3 * 1024 * 1024 + 17


class Echo:
    """Answers with what it got; ``/file`` sends a file, ``/wait`` waits, ``/refuse`` does not read the body."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entered = threading.Event()
        self.release = threading.Event()

    def handle(self, request: Request) -> Response:
        if request.path == "/file":
            handle = os.open(self.path, os.O_RDONLY)
            return Response(200, {}, File(handle, 7, BIG))
        if request.path == "/wait":
            self.entered.set()
            assert self.release.wait(10)
        if request.path == "/refuse":
            return Response(403, {}, b"no")
        if request.path == "/bug":
            raise ZeroDivisionError
        return Response(200, {"X-Seen": request.method}, request.body.read())


@pytest.fixture
def app(tmp_path: Path) -> Echo:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(BIG + 14))
    return Echo(path)


@pytest.fixture
def server(app: Echo) -> Iterator[Server]:
    with Server(app) as server:
        yield server


@pytest.fixture
def link(server: Server) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as link:
        yield link


def until_closed(link: socket.socket) -> bytes:
    return b"".join(iter(lambda: link.recv(65536), b""))


def test_address(server: Server) -> None:
    assert server.host == f"127.0.0.1:{server.port}"
    assert server.url == f"http://{server.host}"
    assert repr(server) == f"Server('{server.url}')"


def test_requests_share_a_connection(server: Server) -> None:
    connection = http.client.HTTPConnection(server.host, timeout=10)
    locals_ = set()
    for body in (b"one", b"", b"three" * 100_000):
        connection.request("POST", "/", body)
        assert connection.sock is not None
        locals_.add(connection.sock.getsockname())
        assert connection.getresponse().read() == body
    connection.close()
    assert len(locals_) == 1


def test_pipelined_requests_are_answered_in_order(link: socket.socket) -> None:
    one = b"PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\none"
    two = b"PUT / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 3\r\n\r\ntwo"
    link.sendall(one + two)
    answers = until_closed(link)
    assert answers.count(b"HTTP/1.1 200 OK") == 2
    assert answers.index(b"one") < answers.index(b"two")


def test_chunked_request(server: Server) -> None:
    connection = http.client.HTTPConnection(server.host, timeout=10)
    connection.request("PATCH", "/", iter([b"hello ", b"world"]), encode_chunked=True)
    assert connection.getresponse().read() == b"hello world"
    connection.close()


def test_head_has_a_length_and_no_body(link: socket.socket) -> None:
    link.sendall(
        b"HEAD /file HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    first, second, rest = until_closed(link).split(b"\r\n\r\n")
    assert f"Content-Length: {BIG}".encode() in first
    assert second.startswith(b"HTTP/1.1 200 OK")
    assert rest == b""


def test_file_by_sendfile(server: Server, app: Echo) -> None:
    connection = http.client.HTTPConnection(server.host, timeout=10)
    for _ in range(2):
        connection.request("GET", "/file")
        assert connection.getresponse().read() == app.path.read_bytes()[7 : 7 + BIG]
    connection.close()


def test_http_1_0(link: socket.socket) -> None:
    link.sendall(b"GET / HTTP/1.0\r\n\r\n")
    answer = until_closed(link)
    assert b"Connection: close" in answer


def test_continue_is_asked_for_before_the_body(link: socket.socket) -> None:
    link.sendall(b"PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert link.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    link.sendall(b"ok")
    assert link.recv(1000).endswith(b"\r\n\r\nok")


def test_refusal_spares_the_client_the_upload(link: socket.socket) -> None:
    link.sendall(b"PUT /refuse HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n")
    answer = until_closed(link)
    assert answer.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    assert b"Connection: close" in answer


def test_unread_body_does_not_hide_the_answer(server: Server) -> None:
    """A client in the middle of sending a megabyte still reads the refusal, not a reset."""
    connection = http.client.HTTPConnection(server.host, timeout=10)
    connection.request("PUT", "/refuse", b"x" * 1_000_000)
    assert connection.getresponse().status == 403
    connection.close()


def test_small_unread_body_keeps_the_connection(server: Server) -> None:
    connection = http.client.HTTPConnection(server.host, timeout=10)
    connection.request("PUT", "/refuse", b"x" * 100)
    assert connection.getresponse().read() == b"no"
    before = connection.sock
    connection.request("PUT", "/", b"next")
    assert connection.getresponse().read() == b"next"
    assert connection.sock is before
    connection.close()


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 20_000 + b"\r\n\r\n", b"431"),
        (b"PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
    ],
)
def test_bad_request_is_answered_and_ends_the_connection(
    link: socket.socket, raw: bytes, status: bytes
) -> None:
    link.sendall(raw)
    answer = until_closed(link)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b"Connection: close" in answer


def test_bug_in_the_application_is_500(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client hears of it, the trace goes where traces of threads go, and the server goes on."""
    traced = threading.Event()
    monkeypatch.setattr(threading, "excepthook", lambda _: traced.set())
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as link:
        link.sendall(b"GET /bug HTTP/1.1\r\nHost: x\r\n\r\n")
        assert until_closed(link).startswith(b"HTTP/1.1 500 ")
    assert traced.wait(10)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as link:
        link.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert until_closed(link).startswith(b"HTTP/1.1 200 OK")


def test_silent_connection_is_closed(app: Echo) -> None:
    with (
        Server(app, idle_s=0.05) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=10) as link,
    ):
        assert link.recv(1) == b""


def test_idle_connection_makes_room(app: Echo) -> None:
    """With one place, a second client is served at once although the first keeps its connection open."""
    with Server(app, connections=1) as server:
        first = http.client.HTTPConnection(server.host, timeout=10)
        first.request("GET", "/")
        first.getresponse().read()
        second = http.client.HTTPConnection(server.host, timeout=10)
        second.request("PUT", "/", b"here")
        assert second.getresponse().read() == b"here"
        assert first.sock is not None
        assert first.sock.recv(1) == b""
        first.close()
        second.close()


def test_no_thread_to_be_had(app: Echo, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client waits, an idle connection makes room for it, and the server goes on."""
    with Server(app) as server:
        idle = http.client.HTTPConnection(server.host, timeout=10)
        idle.request("POST", "/", b"one")
        assert idle.getresponse().read() == b"one"
        while not all(connection.idle_since for connection in server._snapshot()):
            time.sleep(0.001)  # its thread has answered, and comes to wait for the next request
        refused = _refuse_threads(monkeypatch, 3)
        second = http.client.HTTPConnection(server.host, timeout=10)
        second.request("POST", "/", b"two")
        assert second.getresponse().read() == b"two"
        assert refused.acquire(blocking=False)
        assert idle.sock.recv(1) == b""
        idle.close()
        second.close()


def test_close_while_there_is_no_thread(app: Echo, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not wait for one."""
    with Server(app) as server:
        refused = _refuse_threads(monkeypatch, 1_000_000)
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
            assert refused.acquire(timeout=10)
            server.close()
            assert client.recv(1) == b""


def _refuse_threads(monkeypatch: pytest.MonkeyPatch, times: int) -> threading.Semaphore:
    """The system's words for the next threads of connections; the value is released by each refusal."""
    refused, left, start = threading.Semaphore(0), [times], threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("http ") and left[0]:
            left[0] -= 1
            refused.release()
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    return refused


def test_close_lets_a_running_exchange_finish(app: Echo) -> None:
    server = Server(app).start()
    connection = http.client.HTTPConnection(server.host, timeout=10)
    connection.request("PUT", "/wait", b"done")
    assert app.entered.wait(10)
    closer = threading.Thread(target=server.close, args=(10.0,))
    closer.start()
    app.release.set()
    assert connection.getresponse().read() == b"done"
    closer.join(10)
    assert not closer.is_alive()
    connection.close()


def test_close_with_idle_connections_is_fast(app: Echo) -> None:
    server = Server(app).start()
    links = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(5)]
    for link in links:
        link.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert link.recv(1000)
    began = time.monotonic()
    server.close(60.0)
    server.close()
    assert time.monotonic() - began < 60.0
    for link in links:
        assert link.recv(1) == b""
        link.close()
    with pytest.raises(ConnectionError):
        socket.create_connection(("127.0.0.1", server.port), timeout=10)


def test_close_when_every_place_is_taken(app: Echo) -> None:
    server = Server(app, connections=1).start()
    busy = http.client.HTTPConnection(server.host, timeout=10)
    busy.request("PUT", "/wait", b"")
    assert app.entered.wait(10)
    waiting = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    threading.Timer(0.05, app.release.set).start()
    server.close(5.0)
    waiting.close()
    busy.close()


def test_never_started() -> None:
    server = Server(Echo(Path("/nowhere")))
    server.close()


def test_port_in_use(server: Server) -> None:
    with pytest.raises(StoreError, match=f"port {server.port}"):
        Server(server.app, port=server.port)


def test_observer_sees_every_exchange(app: Echo) -> None:
    seen: list[tuple[str, str, int]] = []
    with Server(app, observer=lambda q, r, _s: seen.append((q.method, q.target, r.status))) as server:
        connection = http.client.HTTPConnection(server.host, timeout=10)
        connection.request("PUT", "/?a=1", b"x")
        connection.getresponse().read()
        connection.close()
    assert seen == [("PUT", "/?a=1", 200)]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Self-signed, for 127.0.0.1."""
    folder = tmp_path_factory.mktemp("tls")
    paths = (str(folder / "cert.pem"), str(folder / "key.pem"))
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
        f" -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 -out {paths[0]} -keyout {paths[1]}"
    )
    subprocess.run(command.split(), check=True, capture_output=True, timeout=30)
    return paths


def test_tls(app: Echo, certificate: tuple[str, str]) -> None:
    context = ssl.create_default_context(cafile=certificate[0])
    with Server(app, tls=certificate) as server:
        assert server.url.startswith("https://127.0.0.1:")
        # One client speaks no TLS, another says nothing; neither holds up the third.
        with (
            socket.create_connection(("127.0.0.1", server.port), timeout=10) as plain,
            socket.create_connection(("127.0.0.1", server.port), timeout=10),
        ):
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
            connection = http.client.HTTPSConnection(server.host, timeout=10, context=context)
            connection.request("GET", "/file")
            assert connection.getresponse().read() == app.path.read_bytes()[7 : 7 + BIG]
            connection.request("PUT", "/", b"again")
            assert connection.getresponse().read() == b"again"
            connection.close()


def test_a_client_that_goes_before_hands_are_shaken_leaves_nothing(
    app: Echo, certificate: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shake_hands, seen = _Connection._shake_hands, threading.Event()

    def late(connection: _Connection) -> None:
        waiting = select.poll()
        waiting.register(connection._socket, 0)
        assert waiting.poll(10_000)  # the end of the connection: nothing else was asked for
        try:
            shake_hands(connection)
        finally:
            seen.set()

    monkeypatch.setattr(_Connection, "_shake_hands", late)
    with Server(app, tls=certificate) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert seen.wait(10)
    gc.collect()  # a socket that nobody closed is an error


def test_certificate_that_cannot_be_loaded(app: Echo, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.pem"):
        Server(app, tls=(str(tmp_path / "none.pem"), str(tmp_path / "key.pem")))


def test_a_signal_that_wakes_nobody_is_heard(tmp_path: Path) -> None:
    """The system may give it to another thread, or just before the main one sleeps."""
    main, ended, late = threading.get_ident(), threading.Event(), []

    def main_sleeps() -> bool:
        frame, names = sys._current_frames()[main], list[str]()
        while frame.f_back is not None:
            names.append(frame.f_code.co_qualname)
            frame = frame.f_back
        return names[0] == "Condition.wait" and "Server.serve_forever" in names

    def interrupt() -> None:
        while not main_sleeps():
            time.sleep(0.001)
        # To this thread: the handler's turn is the main one's, which is not woken.
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        if not ended.wait(10):
            late.append("the server goes on")
            signal.pthread_kill(main, signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    Server(RegistryApp(str(tmp_path))).serve_forever(ready=thread.start)
    ended.set()
    thread.join()
    assert not late


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.slow
def test_signals_stop_it_gracefully(tmp_path: Path, number: signal.Signals) -> None:
    script = (
        "from manyfest.serve.http import Server; from manyfest.serve.registry import RegistryApp\n"
        f"s = Server(RegistryApp({str(tmp_path)!r}))\n"
        "s.serve_forever(ready=lambda: print(s.port, flush=True))\n"
        "print('stopped')\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with socket.create_connection(("127.0.0.1", port), timeout=10) as link:
            link.sendall(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
            assert link.recv(1000).startswith(b"HTTP/1.1 200 OK")
            process.send_signal(number)
            assert process.wait(10) == 0
        assert process.stdout.read() == "stopped\n"


# The registry behind it


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Server]:
    with Server(RegistryApp(str(tmp_path / "root"))) as server:
        yield server


def test_cut_upload_goes_on_over_a_new_connection(registry: Server) -> None:
    data = os.urandom(300_000)
    digest = Digest.of(data)
    connection = http.client.HTTPConnection(registry.host, timeout=10)
    connection.request("POST", "/v2/a/blobs/uploads/")
    answer = connection.getresponse()
    answer.read()
    where = answer.getheader("Location", "")
    connection.putrequest("PATCH", where)
    connection.putheader("Content-Length", str(len(data)))
    connection.endheaders()
    connection.send(data[:200_000])
    connection.close()
    # However much of it has arrived by now: going on from there is right, and ends what the first one still did.
    connection.request("GET", where)
    answer = connection.getresponse()
    answer.read()
    there = int(answer.getheader("Range", "").removeprefix("0-"))
    offset = there + 1 if there else 0
    while True:
        span = {"Content-Range": f"{offset}-{len(data) - 1}"}
        connection.request("PUT", f"{where}?digest={digest}", data[offset:], span)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 416:
            break
        offset = int(answer.getheader("Range", "").removeprefix("0-")) + 1
    assert answer.status == 201
    connection.request("GET", f"/v2/a/blobs/{digest}")
    assert connection.getresponse().read() == data
    connection.close()


def test_chunked_upload_as_docker_sends_it(registry: Server) -> None:
    data = os.urandom(100_000)
    digest = Digest.of(data)
    connection = http.client.HTTPConnection(registry.host, timeout=10)
    connection.request("POST", "/v2/a/blobs/uploads/", headers={"Content-Length": "0"})
    answer = connection.getresponse()
    answer.read()
    where = answer.getheader("Location", "")
    pieces = (data[at : at + 32_768] for at in range(0, len(data), 32_768))
    connection.request("PATCH", where, pieces, encode_chunked=True)
    answer = connection.getresponse()
    answer.read()
    assert (answer.status, answer.getheader("Range")) == (202, f"0-{len(data) - 1}")
    connection.request("PUT", f"{where}?digest={digest}", headers={"Content-Length": "0"})
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 201
    connection.request("GET", f"/v2/a/blobs/{digest}", headers={"Range": "bytes=50000-"})
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (206, data[50_000:])
    connection.close()
