# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 messages on one connected socket (RFC 9112): what the transport's pool holds.

Written on :mod:`socket` rather than :mod:`http.client` for three reasons: importing ``http.client`` costs more than a
whole request on a near network, it cannot hear an early answer while a body is being sent, and it bounds neither the
size of a head nor the time it takes. Everything received is hostile: heads, lines and field counts are bounded, and a
body is never shorter than announced without :class:`Cut`.
"""

from __future__ import annotations

import select
from time import monotonic

from manyfest.errors import Unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Iterable

    from manyfest.stores.base import Readable

__all__ = ["Body", "Connection", "Cut", "Head", "SpeaksTLS"]

CHUNK = 1024 * 1024
"""Bytes read from a request body, and at most received, at once."""

MAX_HEAD = 64 * 1024
"""Bytes of a status line with all header fields."""

MAX_FIELDS = 256
MAX_LINE = 4096
"""Bytes of a chunk-size line."""

SMALL = 64 * 1024
"""A body up to this many bytes travels with its head, and is drained to save a connection."""


class Cut(Unreachable):
    """The connection ended before the whole answer came.

    ``received`` is how many bytes of the body came, ``answered`` whether the head of the answer did. A request that
    was cut with ``answered`` false may or may not have been carried out.
    """

    def __init__(self, message: str, *, hint: str = "", received: int = 0, answered: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.received = received
        self.answered = answered


class SpeaksTLS(Unreachable):
    """The answer to plain HTTP was a TLS record, or a server's complaint that it expected one."""


class Head:
    """Status, header fields and version of an answer."""

    __slots__ = ("fields", "status", "version")

    def __init__(self, status: int, fields: list[tuple[str, str]], version: bytes) -> None:
        self.status = status
        self.fields = fields
        self.version = version

    def values(self, name: str) -> list[str]:
        """Every value of a field, ``name`` in lower case."""
        return [value for key, value in self.fields if key.lower() == name]

    def tokens(self, name: str) -> list[str]:
        """The comma-separated words of a field, in lower case."""
        joined = ",".join(self.values(name)).lower()
        return [word.strip() for word in joined.split(",") if word.strip()]

    @property
    def keeps_alive(self) -> bool:
        """May the connection serve another request?"""
        words = self.tokens("connection")
        return "close" not in words and (self.version == b"HTTP/1.1" or "keep-alive" in words)


class Connection:
    """One socket, what was received beyond the current answer, and who is at the other end (for messages)."""

    __slots__ = ("_buffer", "_failure", "_tls", "idle_since", "peer", "sock", "timeout_s", "uses")

    def __init__(self, sock: socket.socket | ssl.SSLSocket, peer: str, *, tls: bool) -> None:
        self.sock = sock
        self.peer = peer
        self.uses = 0
        self.idle_since = 0.0
        self.timeout_s = 30.0
        self._tls = tls
        self._buffer = bytearray()
        self._failure: OSError | None = None

    def close(self) -> None:
        """Drop the connection."""
        self.sock.close()

    def abort(self) -> None:
        """From another thread: whoever waits for the peer is told that it has gone."""
        import socket

        try:
            # Not SSLSocket's own, which takes the session away under the thread that reads.
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)
        except OSError:
            return  # gone already

    def is_alive(self) -> bool:
        """Is an idle connection still open, with nothing unasked for on it?"""
        if self._buffer:
            return False
        if not _poll(self.sock, select.POLLIN, 0):
            return True
        # A TLS peer may have sent session tickets, which are no data.
        return self._tls and not self._hears()

    # Sending

    def send(self, head: bytes, body: bytes | Readable | None, *, chunked: bool, length: int | None) -> bool:
        """Send a request; ``False``, early, when the answer starts to come before the body is out.

        Raises :class:`Cut` when the peer is gone and left no answer.
        """
        if body is None or isinstance(body, bytes):
            return self._send_bytes(head, body or b"")
        return self._send_stream(head, body, chunked=chunked, length=length)

    def _send_bytes(self, head: bytes, body: bytes) -> bool:
        if len(body) <= SMALL:
            return self._push(head + body)  # one packet where it fits
        return self._push(head) and self._push(body)

    def _send_stream(self, head: bytes, body: Readable, *, chunked: bool, length: int | None) -> bool:
        waiting, sent = head, 0
        while data := body.read(CHUNK if length is None else min(CHUNK, length - sent)):
            sent += len(data)
            piece = b"%x\r\n%b\r\n" % (len(data), data) if chunked else data
            if len(waiting) + len(piece) <= SMALL:
                piece, waiting = waiting + piece, b""
            if waiting and not self._push(waiting):
                return False
            waiting = b""
            if not self._push(piece):
                return False
        if length is not None and sent < length:
            raise Unreachable(
                f"{self.peer}: the content to send ended after {sent} bytes, expected {length}",
                hint="the source was cut or changed while it was read; try again",
            )
        return self._push(waiting + (b"0\r\n\r\n" if chunked else b""))

    def _push(self, data: bytes) -> bool:
        """Send one piece; ``False`` when the answer is already coming and the rest need not be sent."""
        try:
            return self._pour(memoryview(data))
        except TimeoutError as error:
            raise self._silent("took nothing of the request") from error
        except OSError as error:
            # The peer may have answered before it hung up: that answer says more than "broken pipe".
            if not self._has_answer():
                raise self._gone(error) from error
            return False

    def _pour(self, view: memoryview) -> bool:
        """Send everything while listening; ``False`` as soon as the peer says something."""
        self.sock.settimeout(self.timeout_s)
        while view:
            events = _poll(self.sock, select.POLLIN | select.POLLOUT, self.timeout_s)
            if not events:
                raise TimeoutError
            if events & ~select.POLLOUT and self._hears():
                return False
            if events & select.POLLOUT:
                view = view[self.sock.send(view) :]
        return True

    def _hears(self) -> bool:
        """Take what has come without waiting; true when that was data or the end of the connection."""
        self.sock.settimeout(0)
        try:
            data = self.sock.recv(SMALL)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            if _is_ssl(error, "SSLWantReadError", "SSLWantWriteError"):
                return False
            self._failure = error  # a TLS alert is told once; whoever reads next must get it
            return True
        finally:
            self.sock.settimeout(self.timeout_s)
        self._buffer += data
        return not data or not self._drop_interim()

    def _drop_interim(self) -> bool:
        """Remove a complete 1xx answer from the buffer; true when nothing else is there."""
        end = _end_of_head(self._buffer)
        if self._buffer[:8] == b"HTTP/1.1" and self._buffer[9:10] == b"1" and end > 0:
            del self._buffer[:end]
        return not self._buffer

    def _has_answer(self) -> bool:
        """After a failed send: is there the start of an answer, or a TLS alert that says why?"""
        try:
            self.sock.settimeout(min(self.timeout_s, 1.0))
            if not self._buffer:
                self._buffer += self.sock.recv(SMALL)
        except OSError as error:
            if not _is_ssl(error, "SSLError"):
                return False
            self._failure = error
            return True
        return bool(self._buffer)

    # Receiving

    def head(self) -> Head:
        """The head of the final answer; interim ones (1xx) are skipped.

        Raises :class:`Cut`, :class:`SpeaksTLS`, or :class:`~manyfest.errors.Unreachable` for what is no HTTP.
        """
        for _ in range(16):
            head = _parse_head(self._raw_head(), self.peer)
            if head.status >= 200:
                return head
            if head.status == 101:
                break
        raise Unreachable(f"{self.peer}: expected an answer, got only interim ones (1xx)", hint=NOT_HTTP)

    def _raw_head(self) -> bytes:
        deadline = monotonic() + self.timeout_s
        while (end := _end_of_head(self._buffer)) < 0:
            if len(self._buffer) > MAX_HEAD:
                raise Unreachable(f"{self.peer}: the header is larger than {MAX_HEAD} bytes", hint=NOT_HTTP)
            self._check_start()
            had = len(self._buffer)
            data = self._receive_before(deadline)
            if not data:
                where = f"after {had} bytes of the header" if had else "without an answer"
                raise Cut(f"{self.peer}: the connection was closed {where}", hint=TRY_AGAIN)
            self._buffer += data
            if not had:
                deadline = monotonic() + self.timeout_s
        self._check_start()
        raw = bytes(self._buffer[:end])
        del self._buffer[:end]
        if len(raw) > MAX_HEAD:
            raise Unreachable(f"{self.peer}: the header is larger than {MAX_HEAD} bytes", hint=NOT_HTTP)
        return raw

    def _receive_before(self, deadline: float) -> bytes:
        left = deadline - monotonic()
        if left <= 0:
            raise self._silent("did not finish its answer's header" if self._buffer else "did not answer")
        self.sock.settimeout(left)
        try:
            if self._failure is not None:
                raise self._failure
            return self.sock.recv(SMALL)
        except TimeoutError as error:
            raise self._silent("did not answer") from error
        except OSError as error:
            raise self._gone(error) from error

    def _check_start(self) -> None:
        start = bytes(self._buffer[:5])
        if b"HTTP/".startswith(start) or not start:
            return
        if start[0] in (0x15, 0x16) and not self._tls:
            raise SpeaksTLS(
                f"{self.peer}: expected plain HTTP, got TLS",
                hint="this port speaks HTTPS; remove plain_http for this host, or the http:// before it",
            )
        seen = bytes(self._buffer[:40]).decode("latin-1")
        printable = "".join(c if c.isprintable() else "?" for c in seen)
        raise Unreachable(f"{self.peer}: expected an HTTP answer, got {printable!r}", hint=NOT_HTTP)

    def take(self, size: int) -> bytes:
        """At most ``size`` bytes of the answer; ``b""`` when the peer has closed the connection."""
        if self._buffer:
            data = bytes(self._buffer[:size])
            del self._buffer[:size]
            return data
        try:
            self.sock.settimeout(self.timeout_s)
            return self._fill(min(size, CHUNK))
        except TimeoutError as error:
            raise self._silent("stopped in the middle of its answer", answered=True) from error
        except OSError as error:
            raise self._gone(error, answered=True) from error

    def _fill(self, size: int) -> bytes:
        """Several receives in one piece: TLS gives 16 KiB at a time, and each piece costs the layers above."""
        first = self.sock.recv(size)
        if not first or len(first) == size or not self._tls:
            return first
        pieces, have = [first], len(first)
        while have < size:
            try:
                data = self.sock.recv(min(size - have, SMALL))
            except OSError:
                break  # what has come counts; the next take meets the same error
            if not data:
                break
            pieces.append(data)
            have += len(data)
        return b"".join(pieces)

    def line(self) -> bytes:
        """One line of chunked framing, without its end; bounded."""
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > MAX_LINE:
                raise Unreachable(f"{self.peer}: a line of chunked framing is too long", hint=NOT_HTTP)
            data = self._take_more()
            if not data:
                raise Cut(f"{self.peer}: the connection was closed between two chunks", answered=True)
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line.rstrip(b"\r")

    def _take_more(self) -> bytes:
        kept = bytes(self._buffer)
        self._buffer.clear()
        try:
            return self.take(SMALL)
        finally:
            self._buffer[:0] = kept

    # Errors

    def _silent(self, what: str, *, answered: bool = False) -> Unreachable:
        message = f"{self.peer}: {what} for {self.timeout_s:g} s"
        hint = "the registry or the network is overloaded; try again later"
        return Cut(message, hint=hint, answered=True) if answered else Unreachable(message, hint=hint)

    def _gone(self, error: OSError, *, answered: bool = False) -> Unreachable:
        if _is_ssl(error, "SSLError") and not _is_ssl(error, "SSLEOFError", "SSLZeroReturnError"):
            from manyfest.stores.registry.tls import tls_error

            return tls_error(error, self.peer)
        reason = error.strerror or type(error).__name__
        return Cut(f"{self.peer}: the connection was cut ({reason})", hint=TRY_AGAIN, answered=answered)


NOT_HTTP = "check the name and the port: something else than a registry may listen there"
TRY_AGAIN = "the registry or a proxy before it hung up; try again"


class Body:
    """The body of an answer, framed by length, by chunks or by the end of the connection.

    ``done`` is called once: with true when the connection can serve another request.
    """

    __slots__ = ("_chunked", "_connection", "_done", "_keep", "_left", "_open", "received")

    def __init__(self, connection: Connection, head: Head, method: str, done: Callable[[bool], None]) -> None:
        self._connection = connection
        self._done = done
        self._open = True
        self.received = 0
        self._keep = head.keeps_alive
        self._chunked, self._left = _framing(head, method, connection.peer)
        if self._left is None and not self._chunked:
            self._keep = False
        if self._chunked and head.values("content-length"):
            self._keep = (
                False  # RFC 9112 6.1: two lengths, one of them a lie; nothing after it can be trusted
            )
        if self._left == 0 and not self._chunked:
            self._finish(self._keep)

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes, all when negative; ``b""`` only at the end. Raises :class:`Cut`."""
        if size < 0:
            return b"".join(self._pieces())
        if not self._open or not size:
            return b""
        try:
            data = self._read(size)
        except BaseException as error:
            self._finish(False)
            if isinstance(error, Cut):
                error.received = self.received
            raise
        self.received += len(data)
        if self._left == 0 and not self._chunked:
            self._finish(self._keep)
        return data

    def _pieces(self) -> Iterable[bytes]:
        while data := self.read(CHUNK):
            yield data

    def _read(self, size: int) -> bytes:
        if self._chunked and not self._next_chunk():
            return b""
        data = self._connection.take(size if self._left is None else min(size, self._left))
        if self._left is None:
            if not data:
                self._finish(False)
            return data
        if not data:
            raise Cut(
                f"{self._connection.peer}: the connection was closed after {self.received} bytes of the answer, "
                f"{self._left} or more were still to come",
                hint=TRY_AGAIN,
                answered=True,
            )
        self._left -= len(data)
        return data

    def _next_chunk(self) -> bool:
        """Make sure that bytes of a chunk are due; false at the end of the body."""
        if self._left:
            return True
        if self._left == 0 and self._connection.line():
            raise self._bad_chunk()
        text = self._connection.line().partition(b";")[0].strip()
        if not text or len(text) > 15 or text.strip(b"0123456789abcdefABCDEF"):
            raise self._bad_chunk()
        self._left = int(text, 16)
        if self._left:
            return True
        for _ in range(MAX_FIELDS):
            if not self._connection.line():
                self._finish(self._keep)
                return False
        raise self._bad_chunk()

    def _bad_chunk(self) -> Unreachable:
        return Unreachable(
            f"{self._connection.peer}: the chunked framing of the answer is broken", hint=NOT_HTTP
        )

    def close(self) -> None:
        """Give the connection back; a little rest is drained, a long one drops the connection."""
        if not self._open:
            return
        self._connection.timeout_s = min(self._connection.timeout_s, 1.0)
        try:
            for _ in range(8):
                if not self._open or not self._keep or (self._left or 0) > SMALL:
                    break
                self.read(SMALL)
        except Unreachable:
            return  # the rest is not wanted, so its loss is no error; read has dropped the connection
        finally:
            self._finish(False)

    def _finish(self, keep: bool) -> None:
        if self._open:
            self._open = False
            self._done(keep)


def _framing(head: Head, method: str, peer: str) -> tuple[bool, int | None]:
    """Chunked or not, and the length: RFC 9112 6.3. ``(False, None)`` is a body up to the connection's end."""
    if method == "HEAD" or head.status in (204, 304):
        return False, 0
    codings = head.tokens("transfer-encoding")
    if codings:
        if codings != ["chunked"]:
            raise Unreachable(
                f"{peer}: transfer encoding {', '.join(codings)[:80]!r} is not known", hint=NOT_HTTP
            )
        return True, None
    lengths = {value.strip() for value in ",".join(head.values("content-length")).split(",")}
    if lengths == {""}:
        return False, None
    if len(lengths) > 1 or not (text := lengths.pop()).isascii() or not text.isdigit() or len(text) > 18:
        raise Unreachable(f"{peer}: the answer's Content-Length is not a number", hint=NOT_HTTP)
    return False, int(text)


def _end_of_head(buffer: bytearray) -> int:
    """Where the head ends in ``buffer``, or -1. Bare line feeds are accepted, as RFC 9112 2.2 allows."""
    proper = buffer.find(b"\r\n\r\n")
    bare = buffer.find(b"\n\n", 0, proper + 1 if proper >= 0 else len(buffer))
    if bare >= 0:
        return bare + 2
    return proper + 4 if proper >= 0 else -1


def _parse_head(raw: bytes, peer: str) -> Head:
    lines = raw.split(b"\n")
    version, _, rest = lines[0].rstrip(b"\r").partition(b" ")
    code = rest[:3]
    if version not in (b"HTTP/1.1", b"HTTP/1.0") or not code.isdigit() or rest[3:4].strip() or code < b"100":
        shown = "".join(c if c.isprintable() else "?" for c in lines[0][:40].decode("latin-1").strip())
        raise Unreachable(f"{peer}: expected an HTTP/1.1 status line, got {shown!r}", hint=NOT_HTTP)
    fields: list[tuple[str, str]] = []
    for line in lines[1:]:
        text = line.decode("latin-1").rstrip("\r")
        if not text:
            continue
        name, colon, value = text.partition(":")
        if text[0] in " \t" and fields:  # obsolete line folding, RFC 9112 5.2
            fields[-1] = (fields[-1][0], f"{fields[-1][1]} {text.strip()}")
            continue
        if not colon or not name or name.strip() != name or "\0" in value or "\r" in value:
            raise Unreachable(f"{peer}: a header field of the answer is malformed", hint=NOT_HTTP)
        fields.append((name, value.strip(" \t")))
        if len(fields) > MAX_FIELDS:
            raise Unreachable(f"{peer}: the answer has more than {MAX_FIELDS} header fields", hint=NOT_HTTP)
    return Head(int(code), fields, version)


def _poll(sock: socket.socket, events: int, timeout_s: float) -> int:
    poller = select.poll()
    poller.register(sock, events)
    ready = poller.poll(timeout_s * 1000)
    return ready[0][1] if ready else 0


def _is_ssl(error: OSError, *names: str) -> bool:
    """Is this one of :mod:`ssl`'s errors? By name, so that plain HTTP never imports it."""
    return any(kind.__name__ in names and kind.__module__ == "ssl" for kind in type(error).__mro__)
