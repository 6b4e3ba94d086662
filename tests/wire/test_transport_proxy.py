# SPDX-License-Identifier: Apache-2.0
"""Through a proxy: CONNECT for TLS, absolute targets for plain HTTP, credentials, refusals."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest

from manyfest.errors import InputError, Unreachable
from manyfest.stores.registry.transport import HTTPTransport, Request
from manyfest.testing.script import Answer, Certificate, ScriptedRegistry, make_certificate

Connect = Callable[..., HTTPTransport]
NAME = "registry.example"


class Tunnels:
    """A tiny CONNECT proxy that leads every tunnel to one port, or answers with ``refusal``."""

    def __init__(self, port: int, refusal: bytes = b"") -> None:
        self.heads: list[bytes] = []
        self._to = port
        self._refusal = refusal
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._sockets: list[socket.socket] = [self._listener]
        self._threads: list[threading.Thread] = []
        self._spawn(self._accept)

    def _spawn(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(client)
            self._spawn(self._tunnel, client)

    def _tunnel(self, client: socket.socket) -> None:
        try:
            self._lead(client)
        except OSError:
            return  # the client has gone, or the test is over

    def _lead(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            data = client.recv(4096)
            if not data:
                return
            head += data
        self.heads.append(head)
        if self._refusal:
            client.sendall(self._refusal)
            client.close()
            return
        target = socket.create_connection(("127.0.0.1", self._to))
        self._sockets.append(target)
        client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        self._spawn(_pump, client, target)
        self._spawn(_pump, target, client)

    def close(self) -> None:
        """End every tunnel."""
        _shut(self._listener)
        self._threads[0].join(10)  # then nobody is accepted any more
        for sock in self._sockets:
            _shut(sock)
        for thread in self._threads:
            thread.join(10)
        for sock in self._sockets:
            sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _shut(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # it has gone already


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return  # the other direction ended it


@pytest.fixture
def behind(tmp_path: Path, authority: Certificate) -> Iterator[ScriptedRegistry]:
    """A TLS registry that calls itself registry.example, with its CA set up."""
    certificate = make_certificate(str(tmp_path), "example", issuer=authority, hosts=(NAME,))
    directory = tmp_path / "certs.d" / NAME
    directory.mkdir(parents=True)
    shutil.copy(authority.cert, directory / "ca.crt")
    with ScriptedRegistry(tls=certificate) as registry:
        registry.on("GET", "/v2/", Answer(200, b"hello"))
        yield registry


def ask(transport: HTTPTransport, url: str = f"https://{NAME}/v2/") -> bytes:
    """The body of one answer."""
    with transport.send(Request("GET", url, {"Authorization": "for the registry"})) as response:
        return response.read()


def test_tls_goes_through_a_tunnel(
    connect: Connect, behind: ScriptedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy sees a host name and its own credentials, and the connection is kept."""
    with Tunnels(behind.port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:se%40cret@{proxy.address}")
        transport = connect()
        assert [ask(transport) for _ in range(3)] == [b"hello"] * 3
        assert len(proxy.heads) == 1
        lines = proxy.heads[0].decode().split("\r\n")
    assert lines[0] == f"CONNECT {NAME}:443 HTTP/1.1"
    assert "Proxy-Authorization: Basic bWU6c2VAY3JldA==" in lines
    assert "for the registry" not in "".join(lines)
    assert "proxy-authorization" not in behind.received[0].headers


@pytest.mark.parametrize("name", [".example", "a..example", f"{'a' * 64}.example"])
def test_a_name_that_only_the_proxy_takes_is_refused(
    connect: Connect, behind: ScriptedRegistry, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """No certificate is for it. Such a name comes from a registry that sends us there."""
    with Tunnels(behind.port) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.address}")
        with pytest.raises(Unreachable, match="this is not a host name"):
            ask(connect(), f"https://{name}/v2/")


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", "wants credentials"),
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", "opens no way .*status 403"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "opens no way .*status 502"),
        (b"SOCKS", "expected an HTTP answer"),
    ],
)
def test_a_refusing_proxy_is_named(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, refusal: bytes, words: str
) -> None:
    """And not taken for the registry; its credentials stay out of the message."""
    with Tunnels(0, refusal) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:secret@{proxy.address}")
        with pytest.raises(Unreachable, match=words) as caught:
            ask(connect())
        assert f"proxy {proxy.address}" in str(caught.value)
    assert "secret" not in f"{caught.value}{caught.value.hint}"


def test_a_dead_proxy_is_named(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the variable that leads there."""
    with Tunnels(0) as proxy:
        address = proxy.address
    monkeypatch.setenv("https_proxy", address)
    with pytest.raises(Unreachable, match=rf"proxy {address} \(https_proxy\).*refused"):
        ask(connect())


def test_plain_http_asks_the_proxy_for_the_whole_url(
    connect: Connect, registry: ScriptedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 9112 3.2.2."""
    registry.on("GET", f"http://{NAME}/v2/", Answer(200, b"by proxy"))
    monkeypatch.setenv("HTTP_PROXY", f"http://me:secret@{registry.host}")
    assert ask(connect(), f"http://{NAME}/v2/") == b"by proxy"
    headers = registry.received[0].headers
    assert headers["host"] == NAME
    assert headers["proxy-authorization"].startswith("Basic ")


def test_plain_http_behind_a_proxy_that_wants_credentials(
    connect: Connect, registry: ScriptedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """407 is the proxy's, whoever was asked."""
    registry.on("GET", "*", Answer(407))
    monkeypatch.setenv("HTTP_PROXY", f"http://{registry.host}")
    with pytest.raises(Unreachable, match="wants credentials") as caught:
        ask(connect(), f"http://{NAME}/v2/")
    assert "HTTP_PROXY" in caught.value.hint


def test_loopback_never_goes_through_a_proxy(
    connect: Connect, registry: ScriptedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the environment says."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    registry.on("GET", "/v2/", Answer(200, b"direct"))
    assert ask(connect(), f"https://{registry.host}/v2/") == b"direct"


@pytest.mark.parametrize(
    "url", ["socks5://127.0.0.1:1080", "https://127.0.0.1:3128", "http://", "http://x:y:z"]
)
def test_a_proxy_that_cannot_be_used_is_bad_input(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """Named by its variable."""
    monkeypatch.setenv("HTTPS_PROXY", url)
    with pytest.raises(InputError, match="HTTPS_PROXY"):
        ask(connect())
