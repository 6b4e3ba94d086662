# SPDX-License-Identifier: Apache-2.0
"""Trying again: the one place that does, and only for what is known to be temporary.

That is 429 (the request was not carried out, whatever its method), and for idempotent requests 502, 503, 504 and a
connection that was cut before any answer. Time between attempts grows and is spread at random; a ``Retry-After`` is
kept to the letter, and where it goes beyond the deadline nobody waits at all: the answer is given back.
"""

from __future__ import annotations

import os
import time

from manyfest.stores.registry.transport import Cut
from manyfest.stores.registry.wire import retry_after

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from manyfest.stores.registry.transport import Response

__all__ = ["ATTEMPTS", "Clock", "Patience"]

ATTEMPTS = 6
"""How often one request is sent at most, first time included."""

_FIRST_S = 0.25
_LONGEST_S = 8.0
_TEMPORARY = frozenset({502, 503, 504})


class Clock:
    """Time as this room sees it; tests bring their own and never sleep."""

    def monotonic(self) -> float:
        """Seconds that only go forward."""
        return time.monotonic()

    def wall(self) -> float:
        """Unix time."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def jitter(self) -> float:
        """At random between 0 and 1."""
        return int.from_bytes(os.urandom(2), "big") / 65536


class Patience:
    """The attempts of one request (and of what it takes to get it through) under one total deadline in seconds."""

    def __init__(self, deadline_s: float, clock: Clock, *, attempts: int = ATTEMPTS) -> None:
        self._clock = clock
        self._end = clock.monotonic() + deadline_s
        self._attempts = attempts

    def run(self, attempt: Callable[[], Response], *, idempotent: bool) -> Response:
        """The answer of the last attempt, whatever its status; or what its connection raised."""
        for number in range(1, self._attempts):
            try:
                response = attempt()
            except Cut as cut:
                if cut.answered or not idempotent:
                    raise
                wait = self._wait(number)
                if not self._has(wait):
                    raise
            else:
                asked = self._asked(response, number, idempotent)
                if asked is None or not self._has(asked):
                    return response
                response.close()
                wait = asked
            self._clock.sleep(wait)
        return attempt()

    def _asked(self, response: Response, number: int, idempotent: bool) -> float | None:
        """Seconds until the next attempt, ``None`` when there should be none."""
        if response.status != 429 and not (idempotent and response.status in _TEMPORARY):
            return None
        said = retry_after(response.headers.get("Retry-After"), self._clock.wall())
        # A server that says "0" while it is busy is not to be hammered.
        return self._wait(number) if said is None else max(said, _FIRST_S)

    def _wait(self, number: int) -> float:
        longest = min(_FIRST_S * 2 ** (number - 1), _LONGEST_S)
        return float(longest * (0.5 + self._clock.jitter() / 2))

    def _has(self, wait: float) -> bool:
        return self._clock.monotonic() + wait <= self._end
