# SPDX-License-Identifier: Apache-2.0
"""Bytes over HTTP: one request, one answer. The seam between what registries say and how it travels.

Redirects, authentication, retries and the meaning of a status are the session's business, not this module's.

SIGNATURES ARE FINAL; :class:`HTTPTransport` is being written.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from manyfest.errors import Unreachable
from manyfest.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Self

    from manyfest.stores.base import Readable
    from manyfest.stores.registry.hosts import Hosts

__all__ = ["Cut", "HTTPTransport", "Headers", "Request", "Response", "Transport"]


class Cut(Unreachable):
    """The connection ended before the whole answer came.

    ``received`` is how many bytes of the body came, ``answered`` whether the head of the answer did. A request that
    was cut with ``answered`` false may or may not have been carried out.
    """

    def __init__(self, message: str, *, hint: str = "", received: int = 0, answered: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.received = received
        self.answered = answered


class Request(Value):
    """One request.

    ``url`` is absolute. ``https://`` to a host that may speak plain HTTP (a loopback registry, ``--insecure``, the
    config file) means "the way this host speaks": the transport finds out once; ``Response.url`` says which it was.
    ``headers`` are sent as given; Host, Content-Length, Transfer-Encoding and User-Agent are added where missing.
    ``body`` is nothing, bytes, or a stream read once in 1 MiB pieces; ``length`` is the byte count of a stream, and a
    stream without it goes out chunked. ``timeout_s`` bounds the peer's silence, ``None`` takes the transport's.
    """

    __slots__ = ("method", "url", "headers", "body", "length", "timeout_s")
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

    __slots__ = ("status", "headers", "url", "_body")

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

    def warm(self, url: str, count: int) -> None:
        """A hint that ``count`` requests to the host of ``url`` will follow soon; opens connections meanwhile."""

    def close(self) -> None:
        """Close every connection. May be called twice."""


class HTTPTransport(Transport):
    """HTTP/1.1 over kept-alive connections; ``hosts`` says how to reach each host."""

    def __init__(self, hosts: Hosts, *, timeout_s: float | None = None) -> None:
        raise NotImplementedError

    def send(self, request: Request) -> Response:
        """See :meth:`Transport.send`."""
        raise NotImplementedError


def shown(url: str) -> str:
    """A URL fit for messages: no user, no password, no query."""
    scheme, _, rest = url.partition("://")
    rest = rest.partition("?")[0].partition("#")[0]
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"
