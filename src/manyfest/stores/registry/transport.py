# SPDX-License-Identifier: Apache-2.0
"""Bytes over HTTP: one request, one answer. The seam between what registries say and how it travels.

Redirects, authentication, retries and the meaning of a status are the session's business, not this module's. ::

    transport = HTTPTransport(Hosts(Settings()))
    with transport.send(Request("GET", "https://localhost:5000/v2/")) as response:
        print(response.status, response.read())

:mod:`~manyfest.stores.registry.http1` holds the messages, :mod:`~manyfest.stores.registry.connections` the connections.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from manyfest.errors import InputError, Unreachable
from manyfest.stores.registry.connections import Address, Pool, Refused, Silent, default_port
from manyfest.stores.registry.http1 import Body, Cut, SpeaksTLS
from manyfest.stores.registry.proxies import join_authority, split_authority
from manyfest.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Self

    from manyfest.stores.base import Readable
    from manyfest.stores.registry.hosts import Hosts
    from manyfest.stores.registry.http1 import Connection, Head

USER_AGENT = "manyfest"

GUESS_S = 2.0
"""Seconds that a server has for a TLS handshake which nothing but a cut connection suggested."""

__all__ = ["Cut", "HTTPTransport", "Headers", "Request", "Response", "Transport"]


class Request(Value):
    """One request.

    ``url`` is absolute. ``https://`` to a host that may speak plain HTTP (a loopback registry, ``--insecure``, the
    config file) means "the way this host speaks": the transport finds out once; ``Response.url`` says which it was.
    ``headers`` are sent as given; Host, Content-Length, Transfer-Encoding and User-Agent are added where missing.
    ``body`` is nothing, bytes, or a stream read once in 1 MiB pieces; ``length`` is the byte count of a stream, and a
    stream without it goes out chunked. ``timeout_s`` bounds the peer's silence, ``None`` takes the transport's.
    """

    __slots__ = ("body", "headers", "length", "method", "timeout_s", "url")
    method: str
    url: str
    headers: dict[str, str]
    body: bytes | Readable | None
    length: int | None
    timeout_s: float | None

    def __init__(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | Readable | None = None,
        length: int | None = None,
        timeout_s: float | None = None,
    ) -> None:
        self._set(
            method=method, url=url, headers=dict(headers or {}), body=body, length=length, timeout_s=timeout_s
        )

    def __repr__(self) -> str:
        """Without headers and query, which hold credentials."""
        return f"Request({self.method} {shown(self.url)})"


class Headers:
    """Header fields: names in any case, a name may come several times, order kept."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        self._fields = tuple(fields)

    def get(self, name: str, default: str | None = None) -> str | None:
        """The first value of ``name``."""
        wanted = name.lower()
        return next((value for key, value in self._fields if key.lower() == wanted), default)

    def get_all(self, name: str) -> list[str]:
        """Every value of ``name``, in order."""
        wanted = name.lower()
        return [value for key, value in self._fields if key.lower() == wanted]

    def items(self) -> tuple[tuple[str, str], ...]:
        """Every field as received."""
        return self._fields

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self._fields))

    def __len__(self) -> int:
        return len(dict(self._fields))

    def __repr__(self) -> str:
        """Names only: values hold credentials and cookies."""
        return f"Headers({', '.join(key for key, _ in self._fields)})"


class Response:
    """An answer whose body is still on its way. Read it to the end or ``close`` it; both give the connection back.

    Test doubles construct it with any stream: ``Response(200, Headers([...]), BytesIO(b"..."), url)``.
    """

    __slots__ = ("_body", "headers", "status", "url")

    def __init__(self, status: int, headers: Headers, body: Readable, url: str) -> None:
        self.status = status
        self.headers = headers
        self.url = url
        self._body = body

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes of the body, all of it when negative; ``b""`` only at the end.

        Raises :class:`Cut` when the connection ends before the body does.
        """
        return self._body.read(size)

    def close(self) -> None:
        """Give the connection back, or drop it when much of the body was not read. May be called twice."""
        self._body.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Response({self.status} {shown(self.url)})"


class Transport(ABC):
    """The way out. May be called from several threads at once."""

    @abstractmethod
    def send(self, request: Request) -> Response:
        """Send one request and give the answer, whatever its status; redirects are not followed.

        Raises :class:`~manyfest.errors.Unreachable`, or :class:`Cut`, when there is no answer.
        """

    def warm(self, url: str, count: int) -> None:  # noqa: B027 (a hint may be ignored)
        """A hint that ``count`` requests to the host of ``url`` will follow soon; opens connections meanwhile."""

    def interrupt(self) -> None:  # noqa: B027 (doubles do not wait)
        """End what is under way, from another thread: whoever waits for a peer gets an error and cleans up.

        After it only DELETE is sent, which is how an upload is given up.
        """

    def close(self) -> None:  # noqa: B027 (doubles have nothing to close)
        """Close every connection. May be called twice."""


class HTTPTransport(Transport):
    """HTTP/1.1 over kept-alive connections; ``hosts`` says how to reach each host.

    Without ``timeout_s`` the one of the hosts' settings counts.
    """

    def __init__(self, hosts: Hosts, *, timeout_s: float | None = None) -> None:
        self._hosts = hosts
        self._timeout_s = hosts.settings.timeout_s if timeout_s is None else timeout_s
        self._pool = Pool(hosts.reach, self._timeout_s)
        self._guessed: set[str] = set()
        self._busy: set[Connection] = set()
        self._interrupted = False

    def send(self, request: Request) -> Response:
        """See :meth:`Transport.send`."""
        url = Target.parse(request.url)
        schemes = self._schemes(url)
        if len(schemes) == 1:
            return self._send(request, url, schemes[0])
        if request.body is not None and not isinstance(request.body, bytes):
            # A stream can be read once, so the way is found with something that can be repeated.
            self.send(
                Request("GET", f"{url.scheme}://{url.authority}/v2/", timeout_s=request.timeout_s)
            ).close()
            return self.send(request)
        return self._find_out(request, url, schemes)

    def warm(self, url: str, count: int) -> None:
        """See :meth:`Transport.warm`. Where the scheme is not known yet, the likelier one is warmed."""
        target = Target.parse(url)
        self._pool.warm(target.address(self._schemes(target)[0]), count)

    def interrupt(self) -> None:
        """See :meth:`Transport.interrupt`."""
        self._interrupted = True
        for connection in tuple(self._busy):
            connection.abort()

    def close(self) -> None:
        """See :meth:`Transport.close`."""
        self._pool.close()

    def _schemes(self, url: Target) -> tuple[str, ...]:
        if url.scheme == "http":
            return ("http",)
        spoken = self._hosts.spoken(url.authority)
        return (spoken,) if spoken else self._hosts.reach(url.authority).schemes

    def _find_out(self, request: Request, url: Target, schemes: tuple[str, ...]) -> Response:
        """Try the schemes in their order; remember the one that was answered in."""
        first, second = schemes
        try:
            response = self._send(request, url, first)
            response = _unless_tls_wanted(response) if first == "http" else response
        except Unreachable as problem:
            if not _is_wrong_scheme(problem, url):
                raise
            # A server that hung up without a word may want TLS, or be in trouble. It is asked once, and briefly: one
            # that speaks plain HTTP waits in silence for the end of a line.
            guess = isinstance(problem, Cut)
            if guess and (first == "https" or url.authority in self._guessed):
                raise
            try:
                response = self._send(request, url, second, GUESS_S if guess else None)
            except Unreachable as other:
                if guess:
                    self._guessed.add(url.authority)
                # Neither worked: the error of a server that spoke says more than that of a guess.
                wrong = _is_wrong_scheme(other, url) or isinstance(other, Silent)
                raise (problem if wrong else other) from None
            first = second
        self._hosts.remember(url.authority, first)
        return response

    def _send(self, request: Request, url: Target, scheme: str, handshake_s: float | None = None) -> Response:
        address = url.address(scheme)
        head = self._head(request, url, address)
        while True:
            connection = self._pool.take(address, handshake_s)
            reused = connection.uses > 0
            try:
                return self._converse(connection, request, head, address, url)
            except Cut as cut:
                # An idle connection may die just as it is used. When nothing was answered and repeating does no
                # harm, a fresh one is tried; the loop ends because a fresh connection has no uses.
                if cut.answered or not reused or not _is_repeatable(request):
                    raise

    def _converse(
        self, connection: Connection, request: Request, head: bytes, address: Address, url: Target
    ) -> Response:
        if self._interrupted and request.method != "DELETE":
            connection.close()
            from manyfest.stores.pool import Stopped

            raise Stopped(f"{address}: not asked any more after an interrupt")
        connection.uses += 1
        self._busy.add(connection)
        connection.timeout_s = self._timeout_s if request.timeout_s is None else request.timeout_s
        chunked = request.length is None

        def done(keep: bool) -> None:
            self._busy.discard(connection)
            if keep and complete:
                self._pool.give_back(address, connection)
            else:
                connection.close()

        try:
            complete = connection.send(head, request.body, chunked=chunked, length=request.length)
            answer = connection.head()
            body = Body(connection, answer, request.method, done)
        except BaseException:
            self._busy.discard(connection)
            connection.close()
            raise
        self._check_proxy(answer, address)
        return Response(answer.status, Headers(answer.fields), body, f"{address}{url.path}")

    def _check_proxy(self, answer: Head, address: Address) -> None:
        proxy = self._pool.proxy(address) if answer.status == 407 else None
        if proxy is not None and address.scheme == "http":
            raise Unreachable(
                f"proxy {proxy.name}: it wants credentials for the way to {address} (407)",
                hint=f"put them into {proxy.variable} as http://USER:PASSWORD@{proxy.name}",
            )

    def _head(self, request: Request, url: Target, address: Address) -> bytes:
        """The request line and the header, checked so that no value can smuggle in another line."""
        proxy = self._pool.proxy(address) if address.scheme == "http" else None
        target = f"{address}{url.path}" if proxy else url.path
        fields = {
            "Host": address.authority,
            "User-Agent": USER_AGENT,
            # Digests are of the bytes as stored; a proxy must not recompress them.
            "Accept-Encoding": "identity",
            **_framing(request),
        }
        given = {name.lower() for name in request.headers}
        fields = {name: value for name, value in fields.items() if name.lower() not in given}
        if proxy and proxy.authorization:
            fields["Proxy-Authorization"] = proxy.authorization
        fields.update(request.headers)
        lines = [
            f"{request.method} {target} HTTP/1.1",
            *(f"{name}: {value}" for name, value in fields.items()),
        ]
        for name, line in zip(("the request line", *fields), lines, strict=True):
            if any(c in "\r\n\0" for c in line) or not line.isascii():
                raise InputError(f"{shown(request.url)}: {name} holds a character that HTTP does not allow")
        return "\r\n".join([*lines, "", ""]).encode("ascii")


class Target(Value):
    """A URL in the parts that a request needs; ``path`` includes the query."""

    __slots__ = ("host", "path", "port", "scheme")
    scheme: str
    host: str
    port: int
    path: str

    def __init__(self, scheme: str, host: str, port: int, path: str) -> None:
        self._set(scheme=scheme, host=host, port=port, path=path)

    @classmethod
    def parse(cls, url: str) -> Self:
        """Split an absolute http or https URL. Raises :class:`~manyfest.errors.InputError`."""
        scheme, marker, rest = url.partition("://")
        scheme = scheme.lower()
        rest = rest.partition("#")[0]
        end = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
        path = rest[end:] if rest[end : end + 1] == "/" else f"/{rest[end:]}"
        usable = bool(marker) and scheme in ("http", "https") and not any(c <= " " for c in path)
        try:
            host, port = split_authority(rest[:end].rpartition("@")[2] if usable else "", 0)
        except ValueError as error:
            raise InputError(f"expected an http or https URL, got {shown(url)!r}") from error
        return cls(scheme, host.lower(), port, path)

    @property
    def authority(self) -> str:
        """Host and port as written in the URL."""
        if self.port:
            return join_authority(self.host, self.port)
        return f"[{self.host}]" if ":" in self.host else self.host

    def address(self, scheme: str) -> Address:
        """Where to connect when ``scheme`` is spoken."""
        return Address(scheme, self.host, self.port or default_port(scheme))


class _Replayed:
    """A body of which the start has been read already."""

    def __init__(self, start: bytes, rest: Readable) -> None:
        self._start = start
        self._rest = rest

    def read(self, size: int = -1, /) -> bytes:
        if size < 0:
            start, self._start = self._start, b""
            return start + self._rest.read()
        if not self._start:
            return self._rest.read(size)
        data, self._start = self._start[:size], self._start[size:]
        return data

    def close(self) -> None:
        self._rest.close()


# What servers say, with status 400, to plain HTTP on their TLS port: Go, nginx, Apache httpd, and others alike.
TLS_WANTED = (
    b"http request to an https server",
    b"http request was sent to https port",
    b"ssl-enabled server port",
)


def _unless_tls_wanted(response: Response) -> Response:
    if response.status != 400:
        return response
    start = b""
    while len(start) < 4096 and (data := response.read(4096 - len(start))):
        start += data
    if any(words in start.lower() for words in TLS_WANTED):
        response.close()
        raise SpeaksTLS(
            f"{shown(response.url)}: expected plain HTTP, the server wants TLS", hint="use https://"
        )
    return Response(response.status, response.headers, _Replayed(start, response), response.url)


def _is_wrong_scheme(problem: Unreachable, url: Target) -> bool:
    """Could the host speak the other scheme?"""
    if isinstance(problem, Refused):
        return not url.port  # with a port of its own both schemes end at the same closed door
    if isinstance(problem, Cut):
        return not problem.answered
    return isinstance(problem, SpeaksTLS) or type(problem).__name__ == "NotTLS"


def _is_repeatable(request: Request) -> bool:
    stream = request.body is not None and not isinstance(request.body, bytes)
    return not stream and request.method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS")


def _framing(request: Request) -> dict[str, str]:
    if isinstance(request.body, bytes):
        return {"Content-Length": str(len(request.body))}
    if request.body is not None:
        if request.length is None:
            return {"Transfer-Encoding": "chunked"}
        return {"Content-Length": str(request.length)}
    return {"Content-Length": "0"} if request.method in ("POST", "PUT", "PATCH") else {}


def shown(url: str) -> str:
    """A URL fit for messages: no user, no password, no query."""
    scheme, _, rest = url.partition("://")
    rest = rest.partition("?")[0].partition("#")[0]
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"
