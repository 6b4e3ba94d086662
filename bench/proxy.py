# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy that is a long way off: every byte takes half the round trip each way.

It looks at nothing, so it works under TLS. What a real distance would do is modelled as follows:

- The kernel answers ``connect`` at once here, while over a distance the client would know after one round trip. So
  nothing a client sends counts as sent before one round trip after it connected; a client that connects ahead of its
  need gains what it would gain in earnest.
- Bytes keep their order and arrive half a round trip after they were sent. The end of a stream travels like bytes.
- There is no limit of bandwidth, no slow start and no loss.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

__all__ = ["DelayingProxy"]

_CHUNK = 256 * 1024


class DelayingProxy:
    """Forwards to ``host:port`` from a port of its own, in a thread; a context manager.

    ``round_trip_s`` may be 0. ``connections`` counts what was accepted.
    """

    def __init__(self, port: int, round_trip_s: float, host: str = "127.0.0.1") -> None:
        self.connections = 0
        self.port = 0
        self._upstream = (host, port)
        self._round_trip_s = round_trip_s
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="delaying proxy", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = self._loop.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        known_at = self._loop.time() + self._round_trip_s
        try:
            up_reader, up_writer = await asyncio.open_connection(*self._upstream)
        except OSError:
            writer.transport.abort()
            return
        try:
            await asyncio.gather(
                self._carry(reader, up_writer, known_at), self._carry(up_reader, writer, known_at)
            )
        finally:
            writer.transport.abort()
            up_writer.transport.abort()

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, known_at: float
    ) -> None:
        """One direction. Reading goes on while earlier bytes are under way."""
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=256)
        delivering = self._loop.create_task(self._deliver(under_way, writer))
        try:
            while True:
                try:
                    data = await reader.read(_CHUNK)
                except OSError:
                    data = b""
                sent_at = max(self._loop.time(), known_at)
                await under_way.put((sent_at + self._round_trip_s / 2, data))
                if not data:
                    break
            await delivering
        finally:
            delivering.cancel()

    async def _deliver(
        self, under_way: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        while True:
            due, data = await under_way.get()
            if (left := due - self._loop.time()) > 0:
                await asyncio.sleep(left)
            try:
                if not data:
                    writer.write_eof()
                    return
                writer.write(data)
                await writer.drain()
            except OSError:
                return  # the other side has hung up; what is still under way has nobody to go to
