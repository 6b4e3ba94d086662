# SPDX-License-Identifier: Apache-2.0
"""A small threading HTTP/1.1 server: ready at once, files by sendfile, nothing to install.

For tests, for one-shot serving, and for a registry that a few machines pull from::

    with Server(RegistryApp("/srv/registry"), port=5000) as server:
        print(server.url)                    # http://127.0.0.1:5000

A thread serves each connection. When all are taken, the connection that has idled longest makes room for a new one;
when none idles, new ones wait in the kernel's queue. ``docs/reference/registry.md`` lists the limits.
"""

from __future__ import annotations

import io
import os
import signal
import socket
import threading
import time
from http import HTTPStatus
from typing import TYPE_CHECKING

from manyfest.errors import InputError, StoreError
from manyfest.serve.exchange import Cut, File, Request, Response, Stream
from manyfest.serve.wire import BadRequest, Body, read_head
from manyfest.stores.pool import TICK_S

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from types import FrameType, TracebackType
    from typing import Self

    from manyfest.serve.exchange import Application
    from manyfest.serve.wire import Head, Inbox

    Observer = Callable[[Request, Response, float], None]
    """Called after each exchange with the seconds it took, from the thread that served it."""

__all__ = ["Server"]

_DRAIN = 64 * 1024
"""Bytes of an unread request body that are read away to keep a connection."""
_LINGER = 16 * 1024 * 1024
"""Bytes read away before a connection is closed, so that the client sees the answer and not a reset."""
_LINGER_S = 2.0
_FULL_S = 0.05
"""Seconds between two looks for an idle connection while every place is taken."""
_DAYS = "MonTueWedThuFriSatSun"
_MONTHS = "JanFebMarAprMayJunJulAugSepOctNovDec"
_TLS_PIECE = 256 * 1024
_REASONS = {status.value: status.phrase for status in HTTPStatus}


class Server:
    """Serves an application until closed. A context manager: listening from construction, serving inside ``with``.

    ``port=0`` takes a free port. ``tls`` is a certificate chain file and a key file, both PEM. ``idle_s`` is how
    long a connection may be silent, within a request or between two. ``connections`` is how many are served at once.
    Raises :class:`~manyfest.errors.StoreError` when the address cannot be bound, and
    :class:`~manyfest.errors.InputError` for a certificate that cannot be loaded.
    """

    def __init__(
        self,
        app: Application,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: tuple[str, str] | None = None,
        *,
        connections: int = 256,
        idle_s: float = 60.0,
        observer: Observer | None = None,
    ) -> None:
        self.app = app
        self.observer = observer
        self.idle_s = idle_s
        self.tls = None if tls is None else _tls_context(*tls)
        self._listener = _listen(host, port)
        self._address = self._listener.getsockname()
        self._name = host
        self._room = threading.Semaphore(connections)
        self._lock = threading.Lock()
        self._served: set[_Connection] = set()
        self._closing = threading.Event()
        self._acceptor = threading.Thread(target=self._accept, name="accept", daemon=True)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._address[1])

    @property
    def host(self) -> str:
        """``HOST:PORT``, as it stands in an image's name."""
        name = self._name or self._address[0]
        return f"[{name}]:{self.port}" if ":" in name else f"{name}:{self.port}"

    @property
    def scheme(self) -> str:
        """``http`` or ``https``."""
        return "http" if self.tls is None else "https"

    @property
    def url(self) -> str:
        """Where it is, without a path."""
        return f"{self.scheme}://{self.host}"

    def start(self) -> Self:
        """Serve from now on, in threads of its own."""
        self._acceptor.start()
        return self

    def close(self, grace_s: float = 1.0) -> None:
        """Stop listening, let running exchanges finish for ``grace_s`` seconds, then cut them. May be called twice."""
        self._closing.set()
        _hang_up(self._listener)
        until = time.monotonic() + grace_s
        self._finish(until)
        if self._acceptor.is_alive():
            # It may wait for room; when the grace is over, cutting makes some.
            self._acceptor.join(max(until - time.monotonic(), 0.0))
        self._finish(until)
        for connection in self._snapshot():
            connection.cut()
        for connection in self._snapshot():
            connection.join(1.0)
        if self._acceptor.is_alive():
            self._acceptor.join()
        self._listener.close()

    def serve_forever(self, grace_s: float = 10.0, *, ready: Callable[[], None] | None = None) -> None:
        """Serve until SIGINT or SIGTERM, then stop gracefully. For the main thread; handlers are put back after.

        ``ready`` is called once both signals are handled: whoever is told of the address then may stop it at once.
        """
        done = threading.Event()

        def stop(_number: int, _frame: FrameType | None) -> None:
            done.set()

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            if not self._acceptor.is_alive():
                self.start()
            if ready is not None:
                ready()
            # In short turns: see manyfest.stores.pool.wait_for.
            while not done.wait(TICK_S):
                pass
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            self.close(grace_s)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Server({self.url!r})"

    @property
    def closing(self) -> bool:
        """Has ``close`` been called?"""
        return self._closing.is_set()

    def _finish(self, until: float) -> None:
        for connection in self._snapshot():
            connection.finish_soon()
        for connection in self._snapshot():
            connection.join(until - time.monotonic())

    def _accept(self) -> None:
        while not self.closing:
            try:
                client, address = self._listener.accept()
            except OSError:
                # Closed by close(), or out of file descriptors: then an idle connection gives some back.
                if not self.closing:
                    self._evict()
                    self._closing.wait(_FULL_S)
                continue
            if not self._find_room() or not self._serve(client, str(address[0])):
                client.close()
                return

    def _serve(self, client: socket.socket, peer: str) -> bool:
        """Begin to serve a client, whose place is taken; ``False`` when the server closes before it can."""
        while True:
            connection = _Connection(self, client, peer)
            try:
                with self._lock:
                    # Together, so that close() finds nothing that has not begun and cannot be waited for.
                    connection.start()
                    self._served.add(connection)
            except RuntimeError:
                # The system gives no more threads. As with places: an idle connection gives one back, or it waits.
                self._evict()
                if self._closing.wait(_FULL_S):
                    self._room.release()
                    return False
            else:
                return True

    def _find_room(self) -> bool:
        """Wait until one more connection may be served; ``False`` when the server closes instead."""
        while not self._room.acquire(blocking=False):
            self._evict()
            if self._room.acquire(timeout=_FULL_S):
                return True
            if self.closing:
                return False
        return True

    def _evict(self) -> None:
        idle = [c for c in self._snapshot() if c.idle_since]
        if idle:
            min(idle, key=lambda c: c.idle_since).cut()

    def _snapshot(self) -> list[_Connection]:
        with self._lock:
            return list(self._served)

    def forget(self, connection: _Connection) -> None:
        """A connection has ended; called by itself."""
        with self._lock:
            self._served.discard(connection)
        self._room.release()


class _Connection:
    """One client: its thread, its socket, and whether it is between two requests."""

    def __init__(self, server: Server, client: socket.socket, peer: str) -> None:
        self._server = server
        self._socket = client
        self._peer = peer
        self._last = False
        self.idle_since = 0.0
        self._thread = threading.Thread(target=self._run, name=f"http {peer}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout_s: float) -> None:
        if self._thread is not threading.current_thread():
            self._thread.join(max(timeout_s, 0.0))

    def finish_soon(self) -> None:
        """After the exchange under way; at once when there is none."""
        self._last = True
        if self.idle_since:
            self.cut()

    def cut(self) -> None:
        """Wake the thread with the end of its connection."""
        _hang_up(self._socket)

    def _run(self) -> None:
        try:
            self._socket.settimeout(self._server.idle_s)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._shake_hands()
            with io.BufferedReader(self._socket.makefile("rb", 0), 64 * 1024) as inbox:
                while self._exchange(inbox):
                    pass
        except OSError:
            # The peer is gone, silent, or does not speak TLS; there is nobody left to tell.
            return
        finally:
            self._socket.close()
            self._server.forget(self)

    def _shake_hands(self) -> None:
        if self._server.tls is None:
            return
        # Wrapped first, so that cut() reaches the socket while hands are shaken.
        wrapped = self._server.tls.wrap_socket(self._socket, server_side=True, do_handshake_on_connect=False)
        self._socket = wrapped
        wrapped.do_handshake()

    def _exchange(self, inbox: Inbox) -> bool:
        """Serve one request. Is the connection still good for another?"""
        self.idle_since = time.monotonic()
        if self._last:
            return False
        try:
            head = read_head(inbox)
        except BadRequest as error:
            self._send(_plain(error.status, str(error)), with_body=True, keep=False)
            self._linger()
            return False
        finally:
            self.idle_since = 0.0
        if head is None:
            return False
        body = Body(inbox, head.length, self._proceed if head.wants_continue else None)
        request = Request(
            head.method,
            head.target,
            headers=head.headers,
            body=body,
            scheme=self._server.scheme,
            peer=self._peer,
        )
        return self._answer(request, head, body)

    def _answer(self, request: Request, head: Head, body: Body) -> bool:
        began = time.monotonic()
        try:
            response = self._server.app.handle(request)
        except BadRequest as error:
            response = _plain(error.status, str(error))
            body.finished = False
            head.keep_alive = False
        except Cut:
            return False
        except BaseException:
            # A bug of ours: the client hears of it, and the thread ends with the trace on stderr.
            self._send(_plain(500, "internal error"), with_body=True, keep=False)
            raise
        keep = head.keep_alive and not self._last and response.size >= 0 and self._drained(body)
        try:
            self._send(response, with_body=request.method != "HEAD", keep=keep)
        finally:
            response.close()
            if self._server.observer is not None:
                self._server.observer(request, response, time.monotonic() - began)
        if not keep and not body.finished:
            self._linger()
        return keep

    def _drained(self, body: Body) -> bool:
        """Read away the rest of a small body, so that the next request starts where it should."""
        if body.finished:
            return True
        if body.waits_for_continue:
            return False
        left = _DRAIN
        try:
            while left > 0 and (data := body.read(left)):
                left -= len(data)
        except (BadRequest, OSError):
            return False
        return body.finished

    def _proceed(self) -> None:
        self._socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _send(self, response: Response, *, with_body: bool, keep: bool) -> None:
        head = _head(response, keep=keep)
        if not with_body or response.size == 0:
            self._socket.sendall(head)
        elif isinstance(response.body, bytes):
            self._socket.sendall(head + response.body)
        elif isinstance(response.body, Stream):
            self._send_stream(head, response.body)
        else:
            self._send_file(head, response.body)

    def _send_stream(self, head: bytes, body: Stream) -> None:
        self._socket.sendall(head)
        for piece in body.pieces:
            if self._last:
                return
            if piece:
                self._socket.sendall(piece)

    def _send_file(self, head: bytes, body: File) -> None:
        if self._server.tls is not None:
            self._socket.sendall(head)
            self._send_pieces(body)
            return
        # MSG_MORE lets the head travel in the first packet of the body.
        self._socket.sendall(head, socket.MSG_MORE)
        with open(body.handle, "rb", buffering=0, closefd=False) as file:
            sent = self._socket.sendfile(file, body.offset, body.size)
        if sent < body.size:
            raise Cut("a file became shorter while it was sent")

    def _send_pieces(self, body: File) -> None:
        """ssl's own sendfile goes in pieces of 8 KiB; these are several times as fast."""
        offset, end = body.offset, body.offset + body.size
        while offset < end:
            piece = os.pread(body.handle, min(_TLS_PIECE, end - offset), offset)
            if not piece:
                raise Cut("a file became shorter while it was sent")
            self._socket.sendall(piece)
            offset += len(piece)

    def _linger(self) -> None:
        """Close our half and read on for a moment: closing with unread bytes would reset the answer away."""
        until = time.monotonic() + _LINGER_S
        left = _LINGER
        raw = socket.socket  # below TLS: nobody will read what comes, so nobody need decrypt it
        try:
            raw.shutdown(self._socket, socket.SHUT_WR)
            while left > 0 and (wait := until - time.monotonic()) > 0:
                self._socket.settimeout(wait)
                data = raw.recv(self._socket, 64 * 1024)
                if not data:
                    return
                left -= len(data)
        except OSError:
            return


def _head(response: Response, *, keep: bool) -> bytes:
    fields = dict(response.headers)
    if response.status not in (204, 304) and response.size >= 0:
        fields.setdefault("Content-Length", str(response.size))
    fields["Date"] = _date(time.time())
    # An HTTP/1.0 client that asked for it needs to be told; to the others it says nothing new.
    fields["Connection"] = "keep-alive" if keep else "close"
    lines = [f"HTTP/1.1 {response.status} {_REASONS.get(response.status, '')}"]
    for name, value in fields.items():
        if "\r" in value or "\n" in value:
            raise ValueError(f"a line break in the header {name}")
        lines.append(f"{name}: {value}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


def _date(seconds: float) -> str:
    """RFC 9110 section 5.6.7, in English whatever the locale is; email.utils takes milliseconds to load."""
    year, month, day, hour, minute, second, weekday, *_ = time.gmtime(seconds)
    name = _DAYS[3 * weekday : 3 * weekday + 3]
    month_name = _MONTHS[3 * month - 3 : 3 * month]
    return f"{name}, {day:02} {month_name} {year} {hour:02}:{minute:02}:{second:02} GMT"


def _plain(status: int, message: str) -> Response:
    return Response(status, {"Content-Type": "text/plain; charset=utf-8"}, f"{message}\n".encode())


def _hang_up(connection: socket.socket) -> None:
    try:
        # Not SSLSocket.shutdown, which takes the TLS state away from under the thread that reads.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
    except OSError:
        # Not connected any more, which is what was wanted.
        return


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][
            0
        ]
        return socket.create_server((host, port), family=family, backlog=512)
    except (OSError, OverflowError) as error:
        raise StoreError(
            f"cannot listen on {host or '*'} port {port}: {error}",
            hint="choose another port (0 takes a free one), or stop what listens there",
        ) from error


def _tls_context(certificate: str, key: str) -> ssl.SSLContext:
    import ssl  # here: it takes longer to load than everything else, and most registries on loopback do without

    from manyfest.stores.registry.tls import Connected

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslsocket_class = Connected
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:
        raise InputError(
            f"cannot load the certificate {certificate} with the key {key}: {error}",
            hint="both must be PEM files, and the key must be the certificate's",
        ) from error
    return context
