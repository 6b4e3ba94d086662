# SPDX-License-Identifier: Apache-2.0
"""One address in front of several."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress

import pytest

from manyfest.errors import InputError, StoreError
from manyfest.serve import relay as module
from manyfest.serve.relay import Relay


class Echo:
    """Says its name, then everything it hears in capitals, and ends when the other side has."""

    def __init__(self, name: str) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self.server.getsockname()
        self.name = name
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.server.accept()
            except OSError:
                return
            # The relay may hang up at any moment.
            with connection, suppress(ConnectionError):
                connection.sendall(f"{self.name}:".encode())
                while data := connection.recv(1000):
                    connection.sendall(data.upper())

    def close(self) -> None:
        self.server.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.server.close()


@pytest.fixture
def echoes() -> Iterator[list[Echo]]:
    """Two of them."""
    with ExitStack() as stack:
        made = [Echo("a"), Echo("b")]
        for each in made:
            stack.callback(each.close)
        yield made


def talk(relay: Relay, text: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", relay.port), 10) as client:
        client.sendall(text)
        client.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: client.recv(65536), b""))


def test_connections_take_turns(echoes: list[Echo]) -> None:
    """And bytes go both ways, more than one piece of them."""
    with Relay([each.address for each in echoes]) as relay:
        assert [talk(relay, b"x") for _ in range(3)] == [b"a:X", b"b:X", b"a:X"]
        assert talk(relay, b"y" * 300_000) == b"b:" + b"Y" * 300_000
        assert relay.url == f"http://127.0.0.1:{relay.port}/"


def test_who_refuses_is_passed_over(echoes: list[Echo]) -> None:
    """Whoever comes after it answers; where nobody does the connection is closed."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        dead: tuple[str, int] = server.getsockname()
    with Relay([dead, echoes[1].address]) as relay:
        assert [talk(relay, b"") for _ in range(2)] == [b"b:", b"b:"]
    with Relay([dead]) as relay, socket.create_connection(("127.0.0.1", relay.port), 10) as client:
        assert client.recv(10) == b""


def test_closing_ends_connections(echoes: list[Echo]) -> None:
    """Also those that are silent."""
    with Relay([echoes[0].address]) as relay:
        client = socket.create_connection(("127.0.0.1", relay.port), 10)
        assert client.recv(10) == b"a:"
    with client:
        assert client.recv(10) == b""


def test_without_a_thread_a_client_is_turned_away(
    echoes: list[Echo], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the next one is served, if there is a thread by then."""
    start, left = threading.Thread.start, [1]

    def refuse(thread: threading.Thread) -> None:
        if left and thread.name.endswith("(_serve)"):
            left.pop()
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with Relay([echoes[0].address]) as relay:
        with socket.create_connection(("127.0.0.1", relay.port), 10) as client:
            assert client.recv(10) == b""
        assert talk(relay, b"x") == b"a:X"


def test_silence_ends_a_connection(echoes: list[Echo], monkeypatch: pytest.MonkeyPatch) -> None:
    """After the time that was given."""
    connect, made = module._connect, Relay([echoes[0].address], idle_s=0.02)

    def greeted(addresses: Sequence[tuple[str, int]]) -> socket.socket | None:
        service = connect(addresses)
        assert service is not None
        assert select.select([service], [], [], 10)[0]
        return service

    monkeypatch.setattr(module, "_connect", greeted)
    with made as relay, socket.create_connection(("127.0.0.1", relay.port), 10) as client:
        assert client.recv(10) == b"a:"
        assert client.recv(10) == b""


def test_mistakes(echoes: list[Echo]) -> None:
    """Nobody to go to, and a port that is taken."""
    with pytest.raises(InputError, match="at least one"):
        Relay([])
    with pytest.raises(StoreError, match="in use"):
        Relay([echoes[0].address], port=echoes[1].address[1])
