# SPDX-License-Identifier: Apache-2.0
"""One address in front of several: each connection goes to the next of them, as a swarm's routing mesh does it.

For showing things on one machine; a cluster has nginx (:mod:`manyfest.deploy.balance`). Bytes are passed on as they
are::

    with Relay([("127.0.0.1", 8081), ("127.0.0.1", 8082)]) as relay:
        print(relay.url)
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from typing import TYPE_CHECKING

from manyfest.errors import InputError, StoreError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

__all__ = ["Relay"]

_PIECE = 64 * 1024
_CONNECT_S = 2.0
_RETRY_S = 0.05
_AT_ONCE = 64
"""Connections; more wait in the kernel's queue."""


class Relay:
    """Listening from construction, passing on inside ``with``. An address that refuses is passed over.

    ``idle_s``: how long a connection may be silent. Raises :class:`StoreError` for a port that cannot be had.
    """

    def __init__(
        self,
        addresses: Sequence[tuple[str, int]],
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        idle_s: float = 60.0,
    ) -> None:
        if not addresses:
            raise InputError("a relay to nobody: expected at least one address")
        self._addresses = tuple(addresses)
        self._idle_s = idle_s
        self._next = 0
        self._places = threading.Semaphore(_AT_ONCE)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: set[threading.Thread] = set()
        self._closed = threading.Event()
        try:
            self._listener = socket.create_server((host, port))
        except OSError as error:
            raise StoreError(f"{host}:{port}: {error.strerror}", hint="name another port") from error
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://{host}:{self.port}/"
        self._accepting = threading.Thread(target=self._accept, name="relay", daemon=True)

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every connection."""
        with self._lock:
            self._closed.set()
            sockets = [self._listener, *self._open]
        for each in sockets:
            _hang_up(each)
        # A place, so that the accepting thread does not wait for one for ever.
        self._places.release()
        if self._accepting.ident is not None:
            self._accepting.join()
        # Not before: its number may be another socket's at once, and that would be accepted from.
        self._listener.close()
        for thread in list(self._threads):
            thread.join()

    def _accept(self) -> None:
        while not self._closed.is_set():
            self._places.acquire()
            try:
                client, _ = self._listener.accept()
            except OSError:
                self._places.release()
                # Closed, or this process has too many files open, and some will be closed soon.
                if self._closed.wait(_RETRY_S):
                    return
                continue
            thread = threading.Thread(target=self._serve, args=(client, self._turn()), daemon=True)
            self._threads.add(thread)
            try:
                thread.start()
            except RuntimeError:
                # The system gives no more threads: this client is turned away, and the next may have more luck.
                self._threads.discard(thread)
                self._places.release()
                client.close()

    def _turn(self) -> list[tuple[str, int]]:
        """Whom to try for a connection, in order."""
        at = self._next
        self._next = (at + 1) % len(self._addresses)
        return [*self._addresses[at:], *self._addresses[:at]]

    def _serve(self, client: socket.socket, addresses: Sequence[tuple[str, int]]) -> None:
        try:
            with client, contextlib.ExitStack() as stack:
                service = _connect(addresses)
                if service is None:
                    return
                stack.enter_context(service)
                if self._keep(client, service):
                    # Who hangs up in the middle ends this connection, and no other.
                    with contextlib.suppress(OSError):
                        _pass(client, service, self._idle_s)
        finally:
            with self._lock:
                self._open = {each for each in self._open if each.fileno() >= 0}
            self._threads.discard(threading.current_thread())
            self._places.release()

    def _keep(self, *sockets: socket.socket) -> bool:
        """Remember them to be closed; no where all is being closed already."""
        with self._lock:
            self._open.update(sockets)
            return not self._closed.is_set()


def _connect(addresses: Sequence[tuple[str, int]]) -> socket.socket | None:
    for address in addresses:
        with contextlib.suppress(OSError):
            return socket.create_connection(address, _CONNECT_S)
    return None


def _pass(one: socket.socket, other: socket.socket, idle_s: float) -> None:
    """Both ways, until both have said all, or neither has said anything for too long."""
    with selectors.DefaultSelector() as ready:
        for end, peer in ((one, other), (other, one)):
            end.settimeout(idle_s)
            ready.register(end, selectors.EVENT_READ, peer)
        while ready.get_map():
            events = ready.select(idle_s)
            if not events:
                return
            for key, _ in events:
                assert isinstance(key.fileobj, socket.socket)
                end, peer = key.fileobj, key.data
                data = end.recv(_PIECE)
                if data:
                    peer.sendall(data)
                    continue
                ready.unregister(end)
                peer.shutdown(socket.SHUT_WR)


def _hang_up(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
