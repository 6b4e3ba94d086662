# SPDX-License-Identifier: Apache-2.0
"""A bounded pool of threads whose first failure, or Ctrl-C, stops the others.

Work that moves bytes reads through :meth:`Pool.watched`, so that a 10 GB upload in another thread ends within one
chunk instead of holding the process. Errors come out as they were raised, the earliest first.
"""

from __future__ import annotations

import threading
from time import monotonic

from manyfest.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future
    from typing import Any, Self, TypeVar

    from manyfest.stores.base import Readable

    T = TypeVar("T")
    R = TypeVar("R")

__all__ = ["WORKERS", "Call", "Pool", "Stopped", "wait_for"]

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
        """``[work(item) for item in items]``, side by side. One item, or worker, runs right here, without a thread."""
        todo = list(items)
        if min(len(todo), self.workers) <= 1:
            return [work(item) for item in todo]
        crew = _Crew(work, todo, self._stop)
        try:
            crew.start(min(self.workers, len(todo)))
            crew.wait()
        except BaseException:
            # Ctrl-C. Work ends at its next read and cleans up; what only waits for a silent peer is left behind.
            crew.stop()
            crew.wait(GRACE_S)
            raise
        return crew.results()

    def watched(self, stream: Readable, on_bytes: Callable[[int], None] | None = None) -> Readable:
        """The stream, ending with :class:`Stopped` once the pool stops; ``on_bytes`` hears of every read."""
        return _Watched(stream, self._stop, on_bytes)


class Call:
    """One piece of work in a thread of its own, begun at once. :meth:`wait` before ``value`` and ``error`` are read."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.value: Any = None
        self.error: BaseException | None = None
        self._work = work
        self._thread = threading.Thread(target=self._run, name="manyfest-call")
        self._thread.start()

    def wait(self) -> Self:
        """Until it has returned or raised."""
        while self._thread.is_alive():
            self._thread.join(TICK_S)  # in short turns: see :func:`wait_for`
        return self

    def _run(self) -> None:
        try:
            self.value = self._work()
        except BaseException as error:  # noqa: BLE001 - for whoever waits
            self.error = error


class _Crew:
    """Threads that share one list of work.

    Not :mod:`concurrent.futures`, whose import (it takes :mod:`logging` along) is a tenth of a short command.
    """

    def __init__(self, work: Callable[[Any], Any], todo: list[Any], stop: threading.Event) -> None:
        self._work = work
        self._todo = enumerate(todo)
        self._results = [None] * len(todo)
        self._failures: list[tuple[int, BaseException]] = []
        self._transfers_stop = stop
        self._stopped = False
        self._running = 0
        self._changed = threading.Condition()

    def start(self, threads: int) -> None:
        for _ in range(threads):
            thread = threading.Thread(target=self._run, name="manyfest")
            with self._changed:
                self._running += 1
            try:
                thread.start()
            except BaseException:
                with self._changed:
                    self._running -= 1
                raise

    def wait(self, timeout_s: float | None = None) -> None:
        """Until all threads have ended, or for so long. In short turns: see :func:`wait_for`."""
        deadline = None if timeout_s is None else monotonic() + timeout_s
        with self._changed:
            while self._running and (deadline is None or monotonic() < deadline):
                self._changed.wait(TICK_S)

    def stop(self) -> None:
        """Begin nothing more, and end transfers at their next read."""
        self._stopped = True
        self._transfers_stop.set()

    def results(self) -> list[Any]:
        """In the order of the list; or raises what failed first in that order, the cause before what it stopped."""
        for _, failure in sorted(self._failures, key=lambda pair: (_is_consequence(pair[1]), pair[0])):
            raise failure
        return self._results

    def _run(self) -> None:
        try:
            while (item := self._next()) is not None:
                at, what = item
                try:
                    self._results[at] = self._work(what)
                except BaseException as error:  # noqa: BLE001 - raised by results()
                    self._failures.append((at, error))
                    self.stop()
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def _next(self) -> tuple[int, Any] | None:
        with self._changed:
            return None if self._stopped else next(self._todo, None)


def wait_for(futures: list[Future[R]], *, first_failure: bool = True) -> bool:
    """Wait until all are done, or one failed; ``True`` when some are not done then.

    In short turns: a signal that comes after the main thread last looked and before it sleeps, or that the system
    gives to another thread, wakes nobody. Ctrl-C would be heard when the work is done, which a silent peer delays
    (https://docs.python.org/3/library/signal.html#execution-of-python-signal-handlers).
    """
    from concurrent.futures import ALL_COMPLETED, FIRST_EXCEPTION, wait  # see _Crew

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


def _is_consequence(error: BaseException) -> bool:
    return isinstance(error, Stopped) or isinstance(error.__cause__, Stopped)
