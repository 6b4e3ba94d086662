# SPDX-License-Identifier: Apache-2.0
"""A registry that follows a script: real sockets on loopback, answers and faults to order.

For what a working registry never does: cut a connection after the third byte, announce a wrong length, answer a
challenge twice, go silent. It needs nothing but the standard library and runs in threads of its own. ::

    with ScriptedRegistry() as registry:
        registry.on("GET", "/v2/app/manifests/1", Answer(200, b"{}", {"Content-Type": "application/json"}))
        registry.on("GET", "/v2/app/blobs/x", Answer(200, b"0123456789", cut_body=4), times=1)
        ...                                  # talk to registry.host or registry.url
        registry.check()                     # AssertionError: what was not expected, what was not used
        assert registry.connections == 1

Entries are looked at in the order they were added; the first that matches and has times left answers. With
``ordered=True`` only the next entry may match. What no entry matches is answered 599 and reported by ``check``.
"""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from io import BufferedReader
from typing import Self
from urllib.parse import parse_qsl, unquote

from manyfest.stores.registry.tls import Connected

__all__ = ["Answer", "Certificate", "Received", "ScriptedRegistry", "make_certificate"]


@dataclass(frozen=True)
class Answer:
    """One answer, and what goes wrong with it.

    ``length`` overrides Content-Length (``-1``: none at all, the body ends with the connection); ``chunked`` frames by
    chunks. ``cut_before``: hang up without a word. ``cut_head``, ``cut_body``: hang up after that many bytes of
    either. ``cut_request``: hang up after that many bytes of the request's body. ``early``: answer without reading
    the body. ``hang_up``: close after the answer without saying so, so that the kept connection is dead.
    ``silent``: no answer; ``silent_after``: no more after that many bytes of the body. ``endless``: repeat the body
    (or ``raw``) until the client goes. ``raw``: these bytes only. ``reset``: end the connection with a reset (RST), not
    in good order. ``interim``: bytes before the head (1xx).
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None
    chunked: bool = False
    cut_before: bool = False
    cut_head: int | None = None
    cut_body: int | None = None
    cut_request: int | None = None
    early: bool = False
    hang_up: bool = False
    silent: bool = False
    silent_after: int | None = None
    endless: bool = False
    raw: bytes | None = None
    reset: bool = False
    interim: bytes = b""


@dataclass(frozen=True)
class Received:
    """One request as it came; header names in lower case, ``connection`` counts from 1."""

    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    headers: Mapping[str, str]
    body: bytes
    connection: int
    target: str = ""

    def __str__(self) -> str:
        query = "&".join(f"{name}={value}" for name, value in self.query)
        return f"{self.method} {self.path}{'?' + query if query else ''}"


Answering = Answer | Callable[[Received], Answer]


@dataclass
class _Entry:
    method: str
    path: str
    answer: Answering
    query: Mapping[str, str]
    headers: Mapping[str, str | None]
    body: bytes | None
    left: int | None

    def matches(self, request: Received, *, without_body: bool = False) -> bool:
        query = dict(request.query)
        return (
            self.left != 0
            and self.method in ("*", request.method)
            and (
                self.path == request.path
                or (self.path.endswith("*") and request.path.startswith(self.path[:-1]))
            )
            and all(query.get(name) == value for name, value in self.query.items())
            and all(request.headers.get(name.lower()) == value for name, value in self.headers.items())
            and (without_body or self.body is None or self.body == request.body)
        )

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


@dataclass(frozen=True)
class Certificate:
    """Files of a certificate and its key."""

    cert: str
    key: str


class ScriptedRegistry:
    """See the module. A context manager; ``close`` ends its threads.

    ``tls`` serves HTTPS with that certificate; ``client_ca`` then demands client certificates of that authority.
    """

    def __init__(
        self,
        *,
        ordered: bool = False,
        tls: Certificate | None = None,
        client_ca: str = "",
        keep_bodies: bool = True,
    ) -> None:
        self.received: list[Received] = []
        self.connections = 0
        self._ordered = ordered
        self._keep_bodies = keep_bodies
        self._entries: list[_Entry] = []
        self._unexpected: list[Received] = []
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._stopped = threading.Event()
        self._context = _server_context(tls, client_ca) if tls else None
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._spawn(self._accept)

    @property
    def host(self) -> str:
        """``127.0.0.1:PORT``, as in a reference."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The base URL, without a slash at the end."""
        return f"{'https' if self._context else 'http'}://{self.host}"

    def on(
        self,
        method: str,
        path: str,
        answer: Answering,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str | None] | None = None,
        body: bytes | None = None,
        times: int | None = None,
    ) -> Self:
        """Add an entry. ``path`` may end in ``*``; a header of ``None`` must be absent; ``times=None`` is for ever."""
        entry = _Entry(method, path, answer, query or {}, headers or {}, body, times)
        with self._lock:
            self._entries.append(entry)
        return self

    def count(self, method: str = "*", path: str = "*") -> int:
        """How many requests came that match; ``path`` may end in ``*``."""
        entry = _Entry(method, path, Answer(), {}, {}, None, None)
        with self._lock:
            return sum(entry.matches(request) for request in self.received)

    def check(self) -> None:
        """Raise :class:`AssertionError` for requests nobody expected and for entries with times left."""
        with self._lock:
            unused = [str(entry) for entry in self._entries if entry.left]
            unexpected = [str(request) for request in self._unexpected]
        if unexpected or unused:
            raise AssertionError(f"not expected: {unexpected}; expected and not seen: {unused}")

    def close(self) -> None:
        """Hang up on everybody and wait for the threads."""
        self._stopped.set()
        with self._lock:
            sockets = [self._listener, *self._open]
        for sock in sockets:
            _shut(sock)
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def hang_up(self) -> None:
        """Close every open connection now, as a server does that restarts; listening goes on."""
        with self._lock:
            sockets = list(self._open)
        for sock in sockets:
            _shut(sock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    # Threads

    def _spawn(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                self._open.add(sock)
                number = self.connections
                late = self._stopped.is_set()
            if late:
                _shut(sock)  # close() may have looked already
            self._spawn(self._serve, sock, number)

    def _serve(self, plain: socket.socket, number: int) -> None:
        sock = plain
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is not None:
                sock = self._context.wrap_socket(plain, server_side=True)
                with self._lock:
                    self._open.discard(plain)
                    self._open.add(sock)
                    late = self._stopped.is_set()
                if late:
                    return  # close() may have looked at the one that is no more
            with sock.makefile("rb") as stream:
                while self._one(sock, stream, number):
                    pass
        except (OSError, ValueError):
            pass  # the client went, or close() took the socket away: both end this conversation
        finally:
            with self._lock:
                self._open.discard(sock)
                self._open.discard(plain)
            _shut(sock)
            sock.close()

    def _one(self, sock: socket.socket, stream: BufferedReader, number: int) -> bool:
        """One exchange; false when the connection is over."""
        if stream.peek(1)[:1] == b"\x16":
            return False  # a TLS greeting on plain HTTP: it has no lines to wait for
        line = stream.readline(65536).decode("latin-1").split()
        if len(line) != 3:
            return False
        method, target, _ = line
        headers = _headers(stream)
        head = _request(method, target, headers, b"", number)
        early = self._peek(head)
        if early is not None and early.cut_request is not None:
            stream.read(early.cut_request)
            self._choose(head)
            _end(sock, early)
            return False
        body = b"" if early is not None and early.early else self._body(stream, headers)
        request = _request(method, target, headers, body, number)
        answer = self._choose(request)
        return self._send(sock, request, answer)

    def _body(self, stream: BufferedReader, headers: Mapping[str, str]) -> bytes:
        pieces: list[bytes] = []
        for piece in _pieces(stream, headers):
            if self._keep_bodies:
                pieces.append(piece)
        return b"".join(pieces)

    def _peek(self, head: Received) -> Answer | None:
        """The answer to come, if it is one that wants to be known before the body is read."""
        with self._lock:
            entry = self._entry(head, without_body=True)
        return entry.answer if entry is not None and isinstance(entry.answer, Answer) else None

    def _choose(self, request: Received) -> Answer:
        with self._lock:
            self.received.append(request)
            entry = self._entry(request)
            if entry is None:
                self._unexpected.append(request)
                return Answer(599, f"the script has no answer to {request}".encode())
            if entry.left is not None:
                entry.left -= 1
        return entry.answer if isinstance(entry.answer, Answer) else entry.answer(request)

    def _entry(self, request: Received, *, without_body: bool = False) -> _Entry | None:
        for entry in self._entries:
            if entry.matches(request, without_body=without_body):
                return entry
            if self._ordered and entry.left != 0:
                return None
        return None

    def _send(self, sock: socket.socket, request: Received, answer: Answer) -> bool:
        if answer.silent:
            self._stopped.wait()
            return False
        if answer.cut_before:
            _end(sock, answer)
            return False
        if answer.raw is not None:
            sock.sendall(answer.interim + answer.raw)
            while answer.endless and not self._stopped.is_set():
                sock.sendall(answer.raw)
            _end(sock, answer)
            return False
        head = answer.interim + _head(answer)
        body = b"" if request.method == "HEAD" or answer.status in (204, 304) else answer.body
        if answer.cut_head is not None:
            sock.sendall(head[: answer.cut_head])
            _end(sock, answer)
            return False
        if answer.silent_after is not None:
            sock.sendall(head + _framed(answer, body)[: answer.silent_after])
            self._stopped.wait()
            return False
        if answer.cut_body is not None:
            sock.sendall(head + _framed(answer, body)[: answer.cut_body])
            _end(sock, answer)
            return False
        sock.sendall(head + _framed(answer, body))
        while answer.endless and not self._stopped.is_set():
            sock.sendall(_framed(answer, body).removesuffix(b"0\r\n\r\n"))
        if answer.hang_up or answer.early or answer.length is not None or _says_close(answer, request):
            _end(sock, answer)
            return False
        return True


def _headers(stream: BufferedReader) -> dict[str, str]:
    headers: dict[str, str] = {}
    while (line := stream.readline(65536)) not in (b"\r\n", b"\n", b""):
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    return headers


def _request(method: str, target: str, headers: Mapping[str, str], body: bytes, number: int) -> Received:
    path, _, query = target.partition("?")
    pairs = tuple(parse_qsl(query, keep_blank_values=True))
    return Received(method, unquote(path), pairs, headers, body, number, target)


def _pieces(stream: BufferedReader, headers: Mapping[str, str]) -> Iterator[bytes]:
    """The body of a request, in pieces that need not be kept."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while size := int(stream.readline(64).partition(b";")[0], 16):
            yield stream.read(size)
            stream.readline(64)
        stream.readline(64)
        return
    left = int(headers.get("content-length", "0"))
    while left:
        data = stream.read(min(left, 1 << 20))
        if not data:
            raise ConnectionError("the client went in the middle of its body")
        left -= len(data)
        yield data


def _head(answer: Answer) -> bytes:
    lines = [f"HTTP/1.1 {answer.status} Scripted"]
    given = {name.lower() for name in answer.headers}
    if answer.chunked:
        lines.append("Transfer-Encoding: chunked")
    elif answer.length != -1 and not answer.endless and "content-length" not in given:
        lines.append(f"Content-Length: {len(answer.body) if answer.length is None else answer.length}")
    lines += [f"{name}: {value}" for name, value in answer.headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _framed(answer: Answer, body: bytes) -> bytes:
    if not answer.chunked:
        return body
    middle = len(body) // 2
    chunks = [part for part in (body[:middle], body[middle:]) if part]
    return b"".join(b"%X\r\n%b\r\n" % (len(part), part) for part in chunks) + b"0\r\n\r\n"


def _says_close(answer: Answer, request: Received) -> bool:
    said = {name.lower(): value for name, value in answer.headers.items()}.get("connection", "")
    return "close" in said.lower() or request.headers.get("connection", "").lower() == "close"


def _end(sock: socket.socket, answer: Answer) -> None:
    if answer.reset:
        # Zero linger makes close() send RST and drop what was not delivered.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.close()
        return
    if isinstance(sock, ssl.SSLSocket):
        _shut(sock)
        return
    sock.shutdown(socket.SHUT_WR)
    # Reading on lets the client take its answer before the unread rest of its request resets the connection.
    sock.settimeout(5)
    while sock.recv(65536):
        pass


def _shut(sock: socket.socket) -> None:
    try:
        # Not SSLSocket's own, which takes the session away under the thread that reads.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
    except OSError:
        pass  # it was not connected any more, which is what was wanted


def _server_context(certificate: Certificate, client_ca: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslsocket_class = Connected
    context.load_cert_chain(certificate.cert, certificate.key)
    if client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client_ca)
    return context


def make_certificate(
    directory: str,
    name: str = "server",
    *,
    hosts: tuple[str, ...] = ("localhost", "127.0.0.1"),
    days: int = 2,
    issuer: Certificate | None = None,
) -> Certificate:
    """Make ``NAME.crt`` and ``NAME.key`` with the ``openssl`` command.

    Without an ``issuer`` it is the self-signed CA:TRUE certificate that plain ``openssl req -x509`` makes and
    private registries have; with one it is a leaf signed by it, and negative ``days`` make that expired.
    """
    cert, key, ask = (f"{directory}/{name}.{ending}" for ending in ("crt", "key", "csr"))
    names = ",".join(("IP:" if host.replace(".", "").isdigit() else "DNS:") + host for host in hosts)
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key]
    about = ["-subj", f"/CN={name}", "-addext", f"subjectAltName={names}"]
    if issuer is None:
        _openssl("req", "-x509", *new, *about, "-days", str(days), "-out", cert)
    else:
        _openssl("req", *new, *about, "-out", ask)
        signer = ["-CA", issuer.cert, "-CAkey", issuer.key, "-CAcreateserial", "-copy_extensions", "copy"]
        _openssl("x509", "-req", "-in", ask, *signer, *_validity(days), "-out", cert)
    return Certificate(cert, key)


def _validity(days: int) -> list[str]:
    """Up to OpenSSL 3.3 a certificate may be made for a negative number of days; later ones take the very times."""
    if days >= 0 or b"-not_after" not in _openssl("x509", "-help"):
        return ["-days", str(days)]
    end = time.time() + days * 86400
    first, last = (time.strftime("%Y%m%d%H%M%SZ", time.gmtime(when)) for when in (end - 86400, end))
    return ["-not_before", first, "-not_after", last]


def _openssl(*arguments: str) -> bytes:
    """What it says on either stream."""
    done = subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=60)
    return done.stdout + done.stderr
