# SPDX-License-Identifier: Apache-2.0
"""How far a build is with reading the project and writing layers, once that takes time.

A terminal gets a line that is written over; a log gets one line after some seconds, and one now and then.
"""

from __future__ import annotations

import threading
import time

from manyfest.cli.render import size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from manyfest.cli.console import Console

__all__ = ["Working"]

LIVE_S, LIVE_EVERY_S = 1.0, 0.2
"""Seconds before a terminal's line appears, and between two of them."""

LOG_S, LOG_EVERY_S = 5.0, 30.0
"""The same for logs."""


class Working:
    """Hears of bytes from several threads; a context manager that takes the line away."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._lock = threading.Lock()
        self._counts = {"read": 0, "written": 0, "listed": 0}
        self._is_live = console.is_live
        self._drawn = False
        self._next = clock() + (LIVE_S if self._is_live else LOG_S)

    def on_bytes(self, what: str, count: int) -> None:
        """So many more were ``read``, ``written`` or ``listed``."""
        with self._lock:
            self._counts[what] += count
            now = self._clock()
            if now < self._next:
                return
            self._next = now + (LIVE_EVERY_S if self._is_live else LOG_EVERY_S)
            text = (
                f"read {size(self._counts['read'])} of the project, "
                f"wrote {size(self._counts['written'])} of layers"
            )
            if self._counts["listed"]:
                text += f", looked into {size(self._counts['listed'])} of them"
            if self._is_live:
                self._drawn = True
                self._console.err.write(f"\r{text}\x1b[K")
                self._console.err.flush()
            else:
                self._console.say(f"{text} so far")

    def warn(self, text: str) -> None:
        """A warning, on a line of its own."""
        with self._lock:
            self._clear()
            self._console.warn(text)

    def detail(self, text: str) -> None:
        """What was done, on a line of its own."""
        with self._lock:
            self._clear()
            self._console.detail(text)

    def _clear(self) -> None:
        if self._drawn:
            self._drawn = False
            self._console.err.write("\r\x1b[K")
            self._console.err.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._clear()
            self._next = float("inf")
