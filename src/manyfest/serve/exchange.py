# SPDX-License-Identifier: Apache-2.0
"""One request and one response, without a socket: what an application sees of HTTP.

An application is anything with ``handle(request) -> Response``. :mod:`manyfest.serve.http` serves one; a test calls
``handle`` itself::

    >>> request = Request("get", "/v2/?n=1")
    >>> request.method, request.path, request.query["n"]
    ('GET', '/v2/', '1')
    >>> Response.json(200, {}).headers
    {'Content-Type': 'application/json'}

https://www.rfc-editor.org/rfc/rfc9110
"""

from __future__ import annotations

import json
import os
from io import BytesIO
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Protocol

    from manyfest.stores.base import Readable

    class Application(Protocol):
        """What a server serves. ``handle`` may be called from several threads at once."""

        def handle(self, request: Request, /) -> Response: ...


__all__ = ["Application", "Cut", "File", "Headers", "Request", "Response", "Stream"]


class Cut(ConnectionError):
    """The peer went away, or fell silent, in the middle of a request's body."""


class Headers:
    """Header fields by name, in any case. Repeated ones are joined by commas, as RFC 9110 section 5.3 allows."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[str, str] | None = None) -> None:
        self._fields: dict[str, str] = {}
        for name, value in (fields or {}).items():
            self.add(name, value)

    def add(self, name: str, value: str) -> None:
        """One more field."""
        key = name.lower()
        before = self._fields.get(key)
        self._fields[key] = value if before is None else f"{before}, {value}"

    def get(self, name: str, default: str = "") -> str:
        """The value, or ``default``."""
        return self._fields.get(name.lower(), default)

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._fields

    def __repr__(self) -> str:
        # Names only: values may be credentials.
        return f"Headers({', '.join(sorted(self._fields))})"


class Request:
    """``target`` is the path and query as they were sent; ``path`` stays percent-encoded."""

    __slots__ = ("body", "headers", "method", "path", "peer", "query_string", "scheme", "target")

    def __init__(
        self,
        method: str,
        target: str,
        *,
        headers: Headers | Mapping[str, str] | None = None,
        body: Readable | bytes = b"",
        scheme: str = "http",
        peer: str = "",
    ) -> None:
        self.method = method.upper()
        self.target = target
        self.path, _, self.query_string = target.partition("?")
        self.headers = headers if isinstance(headers, Headers) else Headers(headers)
        self.body: Readable = BytesIO(body) if isinstance(body, bytes) else body
        self.scheme = scheme
        self.peer = peer

    @property
    def query(self) -> dict[str, str]:
        """The query's fields, decoded; the first of each name counts."""
        fields: dict[str, str] = {}
        for name, value in self.queries:
            fields.setdefault(name, value)
        return fields

    @property
    def queries(self) -> list[tuple[str, str]]:
        """The query's fields in order, repeated ones too."""
        if not self.query_string:
            return []
        try:
            return parse_qsl(self.query_string, keep_blank_values=True, max_num_fields=64)
        except ValueError:
            return []

    def __repr__(self) -> str:
        return f"Request({self.method} {self.path})"


class File:
    """A piece of an open file as a response's body; the server sends it with sendfile and closes it."""

    __slots__ = ("handle", "offset", "size")

    def __init__(self, handle: int, offset: int, size: int) -> None:
        self.handle = handle
        self.offset = offset
        self.size = size

    def read(self) -> bytes:
        """The piece in memory: for tests, and for servers without sendfile."""
        return os.pread(self.handle, self.size, self.offset)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self.handle >= 0:
            os.close(self.handle)
            self.handle = -1


class Stream:
    """A body without an end that is known: pieces as they come, after which the connection closes.

    ``pieces`` yields at least once a second, ``b""`` when there is nothing to say, so that a server that stops is
    not held up. ``close`` ends the iterator.
    """

    __slots__ = ("pieces", "size")

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self.pieces = pieces
        self.size = -1

    def read(self) -> bytes:
        """Everything, for tests of streams that end."""
        return b"".join(self.pieces)

    def close(self) -> None:
        """Let the iterator clean up; a second call does nothing."""
        close = getattr(self.pieces, "close", None)
        if close is not None:
            close()


class Response:
    """A status, header fields (one of each name) and a body in memory, in a file, or as it comes."""

    __slots__ = ("body", "headers", "status")

    def __init__(
        self, status: int, headers: Mapping[str, str] | None = None, body: bytes | File | Stream = b""
    ) -> None:
        self.status = status
        self.headers = dict(headers or {})
        self.body = body

    @classmethod
    def json(cls, status: int, content: object, headers: Mapping[str, str] | None = None) -> Response:
        """A JSON document."""
        raw = json.dumps(content, separators=(",", ":")).encode()
        return cls(status, {"Content-Type": "application/json", **(headers or {})}, raw)

    @property
    def size(self) -> int:
        """Bytes of the body; -1 when nobody knows."""
        return len(self.body) if isinstance(self.body, bytes) else self.body.size

    def content(self) -> bytes:
        """The whole body in memory; closes a file or a stream."""
        if isinstance(self.body, bytes):
            return self.body
        try:
            return self.body.read()
        finally:
            self.body.close()

    def close(self) -> None:
        """Close a file or a stream that nobody will send."""
        if not isinstance(self.body, bytes):
            self.body.close()

    def __repr__(self) -> str:
        return f"Response({self.status}, {self.size} bytes)"
