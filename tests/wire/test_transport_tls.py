# SPDX-License-Identifier: Apache-2.0
"""TLS, plain HTTP and which of them: trust, client certificates, wrong guesses, and hints that name the fix."""

from __future__ import annotations

import shutil
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest

from manyfest.errors import Error, InputError, Unreachable
from manyfest.stores.registry import tls
from manyfest.stores.registry.transport import Cut, HTTPTransport, Request
from manyfest.testing.script import Answer, Certificate, ScriptedRegistry, make_certificate

Connect = Callable[..., HTTPTransport]
HELLO = Answer(200, b"hello")


def ask(transport: HTTPTransport, registry: ScriptedRegistry, host: str = "127.0.0.1") -> bytes:
    """The body of an answer over what should be TLS."""
    with transport.send(Request("GET", f"https://{host}:{registry.port}/v2/")) as response:
        return response.read()


def trust(
    tmp_path: Path, registry: ScriptedRegistry, authority: Certificate, host: str = "127.0.0.1"
) -> Path:
    """Put a CA where Docker looks for it."""
    directory = tmp_path / "certs.d" / f"{host}:{registry.port}"
    directory.mkdir(parents=True, exist_ok=True)
    shutil.copy(authority.cert, directory / "ca.crt")
    return directory


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_ca_in_certs_d_is_trusted(
    connect: Connect, tmp_path: Path, authority: Certificate, certificate: Certificate, host: str
) -> None:
    """And the connection is kept and used again, session tickets or not."""
    with ScriptedRegistry(tls=certificate) as registry:
        registry.on("GET", "/v2/", HELLO)
        trust(tmp_path, registry, authority, host)
        transport = connect()
        assert [ask(transport, registry, host) for _ in range(3)] == [b"hello"] * 3
        assert registry.connections == 1


def test_a_self_signed_ca_certificate_serves_a_registry(
    connect: Connect, tmp_path: Path, authority: Certificate
) -> None:
    """What plain ``openssl req -x509`` makes: CA:TRUE, its own issuer."""
    with ScriptedRegistry(tls=authority) as registry:
        registry.on("GET", "/v2/", HELLO)
        trust(tmp_path, registry, authority)
        assert ask(connect(), registry) == b"hello"


def test_a_leaf_named_as_ca_is_trusted_as_it_is(
    connect: Connect, tmp_path: Path, certificate: Certificate
) -> None:
    """Its issuer need not be known."""
    with ScriptedRegistry(tls=certificate) as registry:
        registry.on("GET", "/v2/", HELLO)
        trust(tmp_path, registry, certificate)
        assert ask(connect(), registry) == b"hello"


def test_the_config_file_names_a_ca(
    connect: Connect, tmp_path: Path, authority: Certificate, certificate: Certificate
) -> None:
    """Relative to itself."""
    shutil.copy(authority.cert, tmp_path / "mine.pem")
    with ScriptedRegistry(tls=certificate) as registry:
        registry.on("GET", "/v2/", HELLO)
        (tmp_path / "config.toml").write_text(f'[registry."{registry.host}"]\nca = "mine.pem"\n')
        assert ask(connect(), registry) == b"hello"


def test_ssl_cert_file_is_trusted(
    connect: Connect, authority: Certificate, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As OpenSSL's other users do."""
    monkeypatch.setenv("SSL_CERT_FILE", authority.cert)
    with ScriptedRegistry(tls=certificate) as registry:
        registry.on("GET", "/v2/", HELLO)
        assert ask(connect(), registry) == b"hello"


def test_an_unknown_issuer_is_refused_with_the_place_for_its_ca(
    connect: Connect, certificate: Certificate
) -> None:
    """The hint names the directory."""
    with ScriptedRegistry(tls=certificate) as registry:
        with pytest.raises(Unreachable, match="issuer is not known") as caught:
            ask(connect(), registry)
        assert f"/etc/docker/certs.d/{registry.host}/ca.crt" in caught.value.hint
        assert "--insecure" in caught.value.hint
        assert registry.received == []


def test_an_expired_certificate_is_refused(connect: Connect, tmp_path: Path, authority: Certificate) -> None:
    """The hint thinks of the clock."""
    old = make_certificate(str(tmp_path), "old", issuer=authority, days=-1)
    with ScriptedRegistry(tls=old) as registry:
        trust(tmp_path, registry, authority)
        with pytest.raises(Unreachable, match="expired") as caught:
            ask(connect(), registry)
    assert "clock" in caught.value.hint


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_certificate_for_another_name_is_refused(
    connect: Connect, tmp_path: Path, authority: Certificate, host: str
) -> None:
    """The hint names subjectAltName."""
    other = make_certificate(str(tmp_path), "other", issuer=authority, hosts=("elsewhere.example",))
    with ScriptedRegistry(tls=other) as registry:
        trust(tmp_path, registry, authority, host)
        with pytest.raises(Unreachable, match="for another") as caught:
            ask(connect(), registry, host)
    assert "subjectAltName" in caught.value.hint


def test_insecure_takes_any_certificate(connect: Connect, certificate: Certificate) -> None:
    """Docker's meaning of the word."""
    with ScriptedRegistry(tls=certificate) as registry:
        registry.on("GET", "/v2/", HELLO)
        assert ask(connect(insecure=True), registry) == b"hello"


def test_client_certificates_are_shown(
    connect: Connect, tmp_path: Path, authority: Certificate, certificate: Certificate
) -> None:
    """X.cert and X.key from certs.d."""
    mine = make_certificate(str(tmp_path), "me", issuer=authority)
    with ScriptedRegistry(tls=certificate, client_ca=authority.cert) as registry:
        registry.on("GET", "/v2/", HELLO)
        directory = trust(tmp_path, registry, authority)
        with pytest.raises(Unreachable) as caught:
            ask(connect(), registry)
        assert "certificate" in f"{caught.value} {caught.value.hint}"
        shutil.copy(mine.cert, directory / "me.cert")
        shutil.copy(mine.key, directory / "me.key")
        assert ask(connect(), registry) == b"hello"


def test_a_client_certificate_without_its_key_is_named(
    connect: Connect, tmp_path: Path, registry: ScriptedRegistry
) -> None:
    """Docker does the same."""
    directory = tmp_path / "certs.d" / registry.host
    directory.mkdir(parents=True)
    (directory / "me.cert").write_text("")
    with pytest.raises(InputError, match=r"me\.cert: a client certificate without its key me\.key"):
        ask(connect(), registry)


def test_a_ca_that_is_no_certificate_is_named(
    connect: Connect, tmp_path: Path, registry: ScriptedRegistry
) -> None:
    """With its path."""
    directory = tmp_path / "certs.d" / registry.host
    directory.mkdir(parents=True)
    (directory / "ca.crt").write_text("not a certificate")
    transport = connect()
    transport.warm(f"https://{registry.host}", 2)  # only a hint: the request tells it
    with pytest.raises(InputError, match=r"ca\.crt: this CA certificate cannot be used"):
        ask(transport, registry)


def test_a_bundle_that_cannot_be_read_is_named(
    connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its path; warming says nothing of it."""
    bundle = tmp_path / "bundle.crt"
    bundle.write_text("not a certificate")
    monkeypatch.setattr(tls, "DIRECTORIES", ())
    monkeypatch.setattr(tls, "BUNDLES", (str(bundle),))
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: Mock(cafile=None, capath=None))
    transport = connect()
    transport.warm("https://registry.invalid", 2)
    with pytest.raises(InputError, match=r"bundle\.crt: this bundle of CA certificates cannot be used"):
        transport.send(Request("GET", "https://registry.invalid/v2/"))


def test_a_plain_server_on_a_tls_port_is_named(
    connect: Connect, tmp_path: Path, registry: ScriptedRegistry, authority: Certificate
) -> None:
    """Certificates are set up, so plain HTTP is not tried."""
    trust(tmp_path, registry, authority)
    with pytest.raises(Unreachable) as caught:
        ask(connect(), registry)
    assert "--insecure" in caught.value.hint
    assert "plain" in f"{caught.value} {caught.value.hint}"


def test_a_tls_server_asked_in_plain_http_is_named(connect: Connect, certificate: Certificate) -> None:
    """An http:// URL is taken at its word."""
    with ScriptedRegistry(tls=certificate) as registry, pytest.raises(Unreachable) as caught:
        connect().send(Request("GET", f"http://{registry.host}/v2/"))
    assert isinstance(caught.value, Error)


def test_loopback_speaks_plain_http_at_once(connect: Connect, registry: ScriptedRegistry) -> None:
    """No round trip is spent on asking for TLS."""
    registry.on("GET", "/v2/", HELLO)
    transport = connect()
    with transport.send(Request("GET", f"https://{registry.host}/v2/")) as response:
        assert response.url == f"http://{registry.host}/v2/"
    assert registry.connections == 1


GO = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
NGINX = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Length: 76\r\n\r\n"
    b"<h1>400 Bad Request</h1>The plain HTTP request was sent to HTTPS port</center>"
)


def test_loopback_falls_to_tls_and_remembers(
    connect: Connect, authority: Certificate, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that hangs up on plain HTTP gets TLS, from then on without asking."""
    monkeypatch.setenv("SSL_CERT_FILE", authority.cert)
    with ScriptedRegistry(tls=certificate) as registry:
        registry.on("GET", "/v2/", HELLO)
        transport = connect()
        assert [ask(transport, registry) for _ in range(3)] == [b"hello"] * 3
        assert registry.connections == 2


def test_a_plain_server_that_hung_up_is_asked_for_tls_once_and_briefly(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for the end of a line, we for a handshake: not for the whole timeout, and not at every attempt."""
    monkeypatch.setattr("manyfest.stores.registry.transport.GUESS_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        greetings: list[bytes] = []

        def serve() -> None:
            kept = []
            while len(greetings) < 3:
                peer, _ = listener.accept()
                greetings.append(peer.recv(3))
                if greetings[-1] == b"GET":
                    peer.close()
                else:
                    kept.append(peer)  # silent until the end
            for peer in kept:
                peer.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        transport = connect()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/v2/"
        for _ in range(2):
            with pytest.raises(Cut):
                transport.send(Request("GET", url))
        thread.join(10)
        assert [greeting[:1] for greeting in greetings] == [b"G", b"\x16", b"G"]


@pytest.mark.parametrize("raw", [GO, NGINX, b"\x15\x03\x01\x00\x02\x02\x46"])
def test_what_tls_servers_say_to_plain_http_is_understood(
    connect: Connect, registry: ScriptedRegistry, raw: bytes
) -> None:
    """Then TLS is tried; here it fails in turn, and the first finding is told."""
    registry.on("GET", "/v2/", Answer(raw=raw))
    with pytest.raises(Unreachable, match="expected plain HTTP"):
        ask(connect(), registry)
    assert registry.connections == 2


def test_any_other_400_is_an_answer(connect: Connect, registry: ScriptedRegistry) -> None:
    """With its whole body."""
    registry.on("GET", "/v2/", Answer(400, b"x" * 10_000))
    with connect().send(Request("GET", f"https://{registry.host}/v2/")) as response:
        assert (response.status, response.read(5), response.read()) == (400, b"xxxxx", b"x" * 9_995)


def test_a_stream_is_not_wasted_on_a_guess(
    connect: Connect, authority: Certificate, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can be read once, so the scheme is found out before."""
    from io import BytesIO

    monkeypatch.setenv("SSL_CERT_FILE", authority.cert)
    with ScriptedRegistry(tls=certificate) as registry:
        registry.on("GET", "/v2/", Answer(401))
        registry.on("PUT", "/up", Answer(201), body=b"content")
        url = f"https://{registry.host}/up"
        connect().send(Request("PUT", url, body=BytesIO(b"content"), length=7)).close()
        registry.check()


def test_insecure_tries_plain_http_after_tls(
    connect: Connect, tmp_path: Path, authority: Certificate, registry: ScriptedRegistry
) -> None:
    """For a host that is asked in TLS first."""
    registry.on("GET", "/v2/", HELLO)
    trust(tmp_path, registry, authority)
    (tmp_path / "config.toml").write_text(f'[registry."{registry.host}"]\ninsecure = true\n')
    transport = connect()
    assert [ask(transport, registry) for _ in range(3)] == [b"hello"] * 3
    assert registry.connections == 2


def test_a_refused_connection_names_the_port(connect: Connect, registry: ScriptedRegistry) -> None:
    """And what to check."""
    registry.close()
    with pytest.raises(Unreachable, match=f"127.0.0.1:{registry.port}.*connection refused") as caught:
        ask(connect(), registry)
    assert "port" in caught.value.hint


def test_a_name_that_does_not_resolve_is_said_so(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without asking a real name server."""
    import socket

    def fail(*arguments: object, **options: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(Unreachable, match=r"https://no\.such\.host: the host name cannot be resolved"):
        connect().send(Request("GET", "https://no.such.host/v2/"))


def test_warming_goes_on_where_no_more_threads_can_be_started(
    connect: Connect,
    tmp_path: Path,
    authority: Certificate,
    certificate: Certificate,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One after another then, and nobody waits for a connection that never comes."""
    start, refused = threading.Thread.start, []

    def limited(thread: threading.Thread) -> None:
        if "_warm_one" in thread.name:
            refused.append(thread)
            raise RuntimeError("can't start new thread")
        start(thread)

    with ScriptedRegistry(tls=certificate) as registry:
        registry.on("GET", "/v2/", HELLO)
        trust(tmp_path, registry, authority)
        transport = connect()
        monkeypatch.setattr(threading.Thread, "start", limited)
        transport.warm(f"https://127.0.0.1:{registry.port}", 3)
        assert ask(transport, registry) == b"hello"
        for thread in threading.enumerate():
            if "_warm_all" in thread.name:
                thread.join(10)
        assert (len(refused), registry.connections) == (2, 3)
