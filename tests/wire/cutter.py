# SPDX-License-Identifier: Apache-2.0
"""A wire that breaks after a number of bytes, to put between a client and a server."""

from __future__ import annotations

import socket
import threading
from typing import Self

__all__ = ["Cutter"]


class Cutter:
    """Passes bytes on to ``port`` until ``left`` of them have gone in one direction, then cuts.

    ``answers`` counts what the server says, otherwise what the client says. With ``dead`` nothing passes any more
    after the cut; without it only the connection in which it happened is gone, and later ones work. ``passed`` is how
    many bytes went in the direction that counts; ``left=None`` never cuts.
    """

    def __init__(
        self, port: int, left: int | None = None, *, answers: bool = True, dead: bool = True
    ) -> None:
        self._to = port
        self._left = left
        self._answers = answers
        self._dead = dead
        self._lock = threading.Lock()
        self._broken = False
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.passed = 0
        self._spawn(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        _shut(self._listener)
        # What it has accepted by now is among what is cut.
        self._threads[0].join(10)
        self._listener.close()
        self._cut_all()
        for thread in self._threads:
            thread.join(10)

    def _spawn(self, work: object, *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                refused = self._broken and self._dead
            if refused:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                client.close()
                continue
            for sock in (client, server):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open |= {client, server}
            self._spawn(self._pump, client, server, not self._answers)
            self._spawn(self._pump, server, client, self._answers)

    def _pump(self, source: socket.socket, target: socket.socket, counts: bool) -> None:
        try:
            while data := source.recv(65536):
                whole = len(data)
                if counts:
                    data = self._allowed(data)
                if data:
                    target.sendall(data)
                if len(data) < whole:
                    if self._dead:
                        self._cut_all()
                    break
        except OSError:
            pass  # the other pump, or the end of the test, closed it
        for sock in (source, target):
            _shut(sock)

    def _allowed(self, data: bytes) -> bytes:
        with self._lock:
            if self._left is not None:
                if self._broken and not self._dead:
                    self.passed += len(data)
                    return data
                if len(data) > self._left:
                    data, self._broken = data[: self._left], True
                self._left -= len(data)
            self.passed += len(data)
            return data

    def _cut_all(self) -> None:
        with self._lock:
            sockets = list(self._open)
            self._open.clear()
        for sock in sockets:
            _shut(sock)
            sock.close()


def _shut(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
