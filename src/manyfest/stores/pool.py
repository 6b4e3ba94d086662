# SPDX-License-Identifier: Apache-2.0
"""A bounded pool of threads whose first failure, or Ctrl-C, stops the others.

Work that moves bytes reads through :meth:`Pool.watched`, so that a 10 GB upload in another thread ends within one
chunk instead of holding the process. Errors come out as they were raised, the earliest first.
"""

from __future__ import annotations

import threading

from manyfest.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future
    from typing import TypeVar

    from manyfest.stores.base import Readable

    T = TypeVar("T")
    R = TypeVar("R")

__all__ = ["WORKERS", "Pool", "Stopped", "wait_for"]

WORKERS = 16
"""Threads. Round trips, not processors, are what small blobs and documents wait for."""


GRACE_S = 0.5
"""Seconds that interrupted work gets to end at its next read and clean up."""


TICK_S = 0.25
"""Seconds after which a thread that waits for others looks for signals."""


class Stopped(Error):
    """Work was given up because something else failed first."""


class Pool:
    """``map`` over threads, as often as needed, until ``close``."""

    def __init__(self, workers: int = WORKERS) -> None:
        self.workers = workers
        self._stop = threading.Event()

    def map(self, work: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """``[work(item) for item in items]``, side by side. A single item runs right here, without a thread."""
        todo = list(items)
        if len(todo) <= 1:
            return [work(item) for item in todo]
        # Imported here: it costs 12 ms, and a command that asks for one document never needs it.
        from concurrent.futures import ThreadPoolExecutor, wait

        executor = ThreadPoolExecutor(min(self.workers, len(todo)), thread_name_prefix="manyfest")
        futures: list[Future[R]] = []
        try:
            futures = [executor.submit(work, item) for item in todo]
            if wait_for(futures):
                self._stop.set()
        except BaseException:
            # Ctrl-C. Work ends at its next read and cleans up; what only waits for a silent peer is left behind.
            self._stop.set()
            executor.shutdown(wait=False, cancel_futures=True)
            wait(futures, timeout=GRACE_S)
            raise
        executor.shutdown(wait=True, cancel_futures=True)
        return _results(futures)

    def watched(self, stream: Readable, on_bytes: Callable[[int], None] | None = None) -> Readable:
        """The stream, ending with :class:`Stopped` once the pool stops; ``on_bytes`` hears of every read."""
        return _Watched(stream, self._stop, on_bytes)


def wait_for(futures: list[Future[R]], *, first_failure: bool = True) -> bool:
    """Wait until all are done, or one failed; ``True`` when some are not done then.

    In short turns: a signal that comes after the main thread last looked and before it sleeps, or that the system
    gives to another thread, wakes nobody. Ctrl-C would be heard when the work is done, which a silent peer delays
    (https://docs.python.org/3/library/signal.html#execution-of-python-signal-handlers).
    """
    from concurrent.futures import ALL_COMPLETED, FIRST_EXCEPTION, wait  # see Pool.map

    until = FIRST_EXCEPTION if first_failure else ALL_COMPLETED
    while True:
        done, pending = wait(futures, timeout=TICK_S, return_when=until)
        if not pending or (first_failure and any(not f.cancelled() and f.exception() for f in done)):
            return bool(pending)


class _Watched:
    def __init__(
        self, stream: Readable, stop: threading.Event, on_bytes: Callable[[int], None] | None
    ) -> None:
        self._stream = stream
        self._stop = stop
        self._on_bytes = on_bytes

    def read(self, size: int = -1, /) -> bytes:
        if self._stop.is_set():
            raise Stopped("stopped because another transfer failed")
        data = self._stream.read(size)
        if self._on_bytes is not None:
            self._on_bytes(len(data))
        return data

    def close(self) -> None:
        self._stream.close()


def _results(futures: list[Future[R]]) -> list[R]:
    failures = [e for f in futures if not f.cancelled() and (e := f.exception()) is not None]
    # What was stopped is a consequence; show the cause.
    for failure in sorted(failures, key=_is_consequence):
        raise failure
    return [future.result() for future in futures]


def _is_consequence(error: BaseException) -> bool:
    return isinstance(error, Stopped) or isinstance(error.__cause__, Stopped)
