# SPDX-License-Identifier: Apache-2.0
"""The pool: order, the first failure, and stopping what is under way."""

from __future__ import annotations

import io
import signal
import sys
import threading

import pytest

from manyfest.stores.pool import Pool, Stopped


def test_results_keep_the_order_of_the_items() -> None:
    """Whatever finishes first."""
    assert Pool(4).map(lambda n: n * n, range(20)) == [n * n for n in range(20)]


def test_one_item_runs_without_a_thread() -> None:
    """So that a command with one request starts none."""
    assert Pool().map(lambda _: threading.current_thread(), [0]) == [threading.current_thread()]


def test_one_worker_is_the_caller() -> None:
    """One after another, and what fails is raised before the next one begins."""
    done: list[int] = []
    assert Pool(1).map(lambda _: threading.current_thread(), range(3)) == [threading.current_thread()] * 3
    with pytest.raises(ZeroDivisionError):
        Pool(1).map(lambda n: done.append(6 // n), [2, 0, 1])
    assert done == [3]


def test_a_failure_stops_transfers_under_way_and_is_the_one_shown() -> None:
    """An endless stream in another thread ends, and the cause is raised, not the consequence."""
    pool = Pool(2)
    started = threading.Event()

    class Endless(io.RawIOBase):
        def read(self, size: int = -1, /) -> bytes:
            started.set()
            return b"x"

    def work(n: int) -> None:
        if n == 0:
            stream = pool.watched(Endless())
            while stream.read(1):
                pass
        started.wait(10)
        raise ValueError("the cause")

    with pytest.raises(ValueError, match="the cause"):
        pool.map(work, [0, 1])
    with pytest.raises(Stopped):
        pool.watched(io.BytesIO(b"more")).read(1)


def test_nothing_is_begun_after_a_failure() -> None:
    """And the earliest of several failures is the one that is raised."""
    begun, together = [], threading.Barrier(2)

    def work(n: int) -> None:
        begun.append(n)
        together.wait(10)
        raise ValueError(f"number {n}")

    with pytest.raises(ValueError, match="number 0"):
        Pool(2).map(work, range(20))
    assert sorted(begun) == [0, 1]


def test_a_pool_works_again_after_a_failure() -> None:
    """Only its transfers stay stopped."""
    pool = Pool(2)
    with pytest.raises(ZeroDivisionError):
        pool.map(lambda n: 1 // n, [0, 0])
    assert pool.map(str, [1, 2]) == ["1", "2"]


def test_watched_streams_count() -> None:
    """Every read is told with its size."""
    seen: list[int] = []
    stream = Pool().watched(io.BytesIO(b"abcde"), seen.append)
    assert stream.read(3) + stream.read(3) == b"abcde"
    assert seen == [3, 2]


def test_a_signal_that_wakes_nobody_is_heard() -> None:
    """The system may give it to another thread, or just before the main one sleeps: not only when the work is done."""
    main, released, late = threading.get_ident(), threading.Event(), []

    def main_sleeps() -> bool:
        frame = sys._current_frames()[main]
        above = frame.f_back
        waits = frame.f_code is threading.Condition.wait.__code__
        return waits and above is not None and above.f_code.co_qualname == "_Crew.wait"

    def work(n: int) -> None:
        if n == 0:
            while not main_sleeps():
                pass
            # To this thread: the handler's turn is the main one's, which is not woken.
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        if not released.wait(10):
            late.append(n)

    with pytest.raises(KeyboardInterrupt):
        Pool(2).map(work, [0, 1])
    released.set()
    assert not late
