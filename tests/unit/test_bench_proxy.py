# SPDX-License-Identifier: Apache-2.0
"""The bench's delaying proxy: what it delays, what it leaves alone, what it counts."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
from bench.proxy import DelayingProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROUND_TRIP_S = 0.08
TRIES = 20


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends back what it gets, until the client has finished."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_serve, args=(server,), daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


@pytest.mark.slow
def test_first_answer_takes_two_round_trips_and_the_next_one(echo: int) -> None:
    """One for the connection, which the kernel here makes at once, and one for the exchange."""
    with DelayingProxy(echo, ROUND_TRIP_S) as proxy, _connected(proxy) as link:
        began = time.monotonic()
        link.sendall(b"one")
        assert link.recv(16) == b"one"
        first_s = time.monotonic() - began
        next_s = _least(lambda: link)
    assert first_s >= 2 * ROUND_TRIP_S * 0.95
    assert ROUND_TRIP_S * 0.95 <= next_s < 2 * ROUND_TRIP_S


@pytest.mark.slow
def test_connecting_ahead_of_need_saves_a_round_trip(echo: int) -> None:
    """The other way to say it: connections made side by side are ready together."""
    with contextlib.ExitStack() as stack:
        proxy = stack.enter_context(DelayingProxy(echo, ROUND_TRIP_S))
        first, *others = [stack.enter_context(_connected(proxy)) for _ in range(1 + TRIES)]
        first.sendall(b"one")
        assert first.recv(16) == b"one"  # two round trips have passed since all connected
        assert _least(others.pop) < 2 * ROUND_TRIP_S
        assert proxy.connections == 1 + TRIES


@pytest.mark.slow
def test_bytes_arrive_in_order_and_none_is_lost() -> None:
    """More than the proxy holds at once, cut anywhere."""
    data = bytes(range(256)) * 8192
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=_send, args=(server, data))
        thread.start()
        with DelayingProxy(server.getsockname()[1], 0.002) as proxy, _connected(proxy) as link:
            received = b"".join(iter(lambda: link.recv(65536), b""))
        thread.join(5)
    assert received == data


def test_half_a_connection_may_end_before_the_other(echo: int) -> None:
    """A client that has finished sending still gets the answer, then the end."""
    with DelayingProxy(echo, 0.0) as proxy, _connected(proxy) as link:
        link.sendall(b"last words")
        link.shutdown(socket.SHUT_WR)
        assert b"".join(iter(lambda: link.recv(64), b"")) == b"last words"


def test_a_closed_door_behind_it_ends_the_connection() -> None:
    """The client hears of it as a connection that ends without an answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with DelayingProxy(port, 0.0) as proxy, _connected(proxy) as link:
        try:
            answer = link.recv(16)
        except ConnectionResetError:
            answer = b""
        assert answer == b""


def _connected(proxy: DelayingProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def _least(link: Callable[[], socket.socket]) -> float:
    """Seconds that an exchange takes at least: what else the machine does only adds to it."""
    least = float("inf")
    for _ in range(TRIES):
        end, began = link(), time.monotonic()
        end.sendall(b"two")
        assert end.recv(16) == b"two"
        least = min(least, time.monotonic() - began)
        if least < 2 * ROUND_TRIP_S:
            break
    return least


def _serve(server: socket.socket) -> None:
    while True:
        try:
            link, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=_echo, args=(link,), daemon=True).start()


def _echo(link: socket.socket) -> None:
    with link, contextlib.suppress(ConnectionError):
        while data := link.recv(65536):
            link.sendall(data)


def _send(server: socket.socket, data: bytes) -> None:
    link, _ = server.accept()
    with link:
        link.sendall(data)
