# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 on a buffered stream, the reading half: request heads and bodies, strictly and with limits.

A message that two parsers could read in two ways is refused, never guessed at (request smuggling): both
``Transfer-Encoding`` and ``Content-Length``, lengths that disagree, folded header lines, spaces before a colon.

https://www.rfc-editor.org/rfc/rfc9112
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from manyfest.serve.exchange import Cut, Headers

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Inbox(Protocol):
        """The part of :class:`io.BufferedReader` that is used here."""

        def readline(self, limit: int = -1, /) -> bytes: ...
        def read1(self, size: int = -1, /) -> bytes: ...


__all__ = ["MAX_FIELDS", "MAX_HEAD", "MAX_LINE", "BadRequest", "Body", "Head", "read_head"]

MAX_LINE = 16 * 1024
"""Bytes in a request line or a header line. Tokens of some registries have several thousand."""
MAX_HEAD = 64 * 1024
"""Bytes in all header lines of a request, and in the trailers of a chunked body."""
MAX_FIELDS = 100
"""Header lines in a request."""

_REQUEST_LINE = re.compile(rb"([A-Z]{1,20}) (/[\x21-\x7e]*) HTTP/1\.([01])")
_ABSOLUTE = re.compile(rb"([A-Z]{1,20}) https?://[^/?# ]*(/[\x21-\x7e]*) HTTP/1\.([01])")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*")
_LENGTH = re.compile(r"[0-9]{1,18}")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?")


class BadRequest(Exception):
    """A request that cannot be read; the connection ends after the answer. ``status`` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Head:
    """A request line and header fields. ``length`` is the body's size in bytes, -1 when it comes in chunks."""

    __slots__ = ("headers", "keep_alive", "length", "method", "target", "wants_continue")

    def __init__(self, method: str, target: str, minor: int, headers: Headers) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.length = _body_length(headers, minor)
        connection = [word.strip().lower() for word in headers.get("connection").split(",")]
        self.keep_alive = "close" not in connection and (minor == 1 or "keep-alive" in connection)
        self.wants_continue = minor == 1 and headers.get("expect").lower() == "100-continue"


def read_head(inbox: Inbox) -> Head | None:
    """The next request's head; ``None`` when the peer closed the connection between two requests.

    Raises :class:`BadRequest`, or :class:`Cut` when the connection ends inside the head.
    """
    line = _line(inbox, 414)
    if line == b"":  # one empty line before a request is to be forgiven: RFC 9112 section 2.2
        line = _line(inbox, 414)
    if line is None:
        return None
    match = _REQUEST_LINE.fullmatch(line) or _ABSOLUTE.fullmatch(line)
    if match is None:
        version = 505 if re.search(rb" HTTP/[02-9]", line) else 400
        raise BadRequest(version, f"expected METHOD /PATH HTTP/1.1, got {line[:80]!r}")
    method, target, minor = match.groups()
    headers = _fields(inbox)
    if minor == b"1" and "host" not in headers:
        raise BadRequest(400, "a request of HTTP/1.1 needs a Host header")
    return Head(method.decode(), target.decode(), int(minor), headers)


def _fields(inbox: Inbox) -> Headers:
    headers = Headers()
    seen = 0
    for _ in range(MAX_FIELDS + 1):
        line = _line(inbox, 431)
        if line is None:
            raise Cut("the connection ended inside a request's head")
        if not line:
            return headers
        seen += len(line)
        if seen > MAX_HEAD:
            raise BadRequest(431, f"header lines of more than {MAX_HEAD} bytes")
        match = _FIELD.fullmatch(line)
        if match is None:
            raise BadRequest(400, f"expected a header line NAME: VALUE, got {_name_only(line)!r}")
        headers.add(match[1].decode(), match[2].decode("latin-1"))
    raise BadRequest(431, f"more than {MAX_FIELDS} header lines")


def _name_only(line: bytes) -> bytes:
    """The line without its value, which may be a credential."""
    return line.partition(b":")[0][:40]


def _line(inbox: Inbox, status: int) -> bytes | None:
    line = inbox.readline(MAX_LINE + 2)
    if not line:
        return None
    if not line.endswith(b"\n"):
        if len(line) >= MAX_LINE + 2:
            raise BadRequest(status, f"a line of more than {MAX_LINE} bytes")
        raise Cut("the connection ended inside a request's head")
    return line[:-2] if line.endswith(b"\r\n") else line[:-1]


def _body_length(headers: Headers, minor: int) -> int:
    coding = headers.get("transfer-encoding").lower()
    lengths = {part.strip() for part in headers.get("content-length", "0").split(",")}
    if coding:
        if "content-length" in headers or minor == 0:
            raise BadRequest(400, "Transfer-Encoding together with Content-Length, or in HTTP/1.0")
        if coding != "chunked":
            raise BadRequest(501, f"a transfer encoding other than chunked: {coding[:40]!r}")
        return -1
    text = lengths.pop()
    if lengths or not _LENGTH.fullmatch(text):
        raise BadRequest(400, "Content-Length must be one number of bytes")
    return int(text)


class Body:
    """A request's body, as a stream. ``finished`` tells whether all of it was read.

    ``read`` raises :class:`Cut` when the connection ends first, and :class:`BadRequest` for broken chunks. The
    interim answer that ``Expect: 100-continue`` asks for is sent at the first read, so an application that refuses
    without reading spares the client the upload.
    """

    def __init__(self, inbox: Inbox, length: int, proceed: Callable[[], None] | None = None) -> None:
        self._inbox = inbox
        self._chunked = length < 0
        self._left = max(length, 0)
        self._proceed = proceed
        self._first_chunk = True
        self.finished = length == 0

    @property
    def waits_for_continue(self) -> bool:
        """Is the client still holding the body back?"""
        return self._proceed is not None and not self.finished

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes, ``b""`` only at the end; everything when negative."""
        if size < 0:
            return b"".join(iter(lambda: self.read(1024 * 1024), b""))
        if self.finished or size == 0:
            return b""
        try:
            data = self._receive(size)
        except Cut:
            raise
        except OSError as error:
            raise Cut(f"the connection failed inside a request's body: {error}") from error
        if data is None:
            return b""
        if not data:
            raise Cut("the connection ended inside a request's body")
        self._left -= len(data)
        if not self._chunked and self._left == 0:
            self.finished = True
        return data

    def _receive(self, size: int) -> bytes | None:
        """What comes next; ``None`` at the body's end, ``b""`` at the connection's."""
        if self._proceed is not None:
            proceed, self._proceed = self._proceed, None
            proceed()
        if self._chunked and self._left == 0 and not self._next_chunk():
            return None
        return self._inbox.read1(min(size, self._left))

    def close(self) -> None:
        """Nothing to give back: the connection belongs to the server."""

    def _next_chunk(self) -> bool:
        if not self._first_chunk and self._chunk_line() != b"":
            raise BadRequest(400, "a chunk longer than it says")
        self._first_chunk = False
        line = self._chunk_line()
        match = _CHUNK.fullmatch(line)
        if match is None:
            raise BadRequest(400, f"expected a chunk's size, got {line[:40]!r}")
        self._left = int(match[1], 16)
        if self._left:
            return True
        self._skip_trailers()
        self.finished = True
        return False

    def _skip_trailers(self) -> None:
        seen = 0
        while line := self._chunk_line():
            seen += len(line)
            if seen > MAX_HEAD:
                raise BadRequest(431, f"trailers of more than {MAX_HEAD} bytes")

    def _chunk_line(self) -> bytes:
        line = _line(self._inbox, 400)
        if line is None:
            raise Cut("the connection ended inside a chunked body")
        return line
