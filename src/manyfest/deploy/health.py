# SPDX-License-Identifier: Apache-2.0
"""Asking nodes whether their task is well, before requests of others find out.

nginx notices a node that does not answer; that one answers and is not well, only a question to it tells. A node is
left out after :data:`FALL` bad answers in a row and taken back after a good one. When none is well all of them stay: a
question that was wrong must not take everything away.
"""

from __future__ import annotations

from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING

from manyfest.errors import InputError
from manyfest.stores.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from manyfest.deploy.balance import Upstream

__all__ = ["FALL", "Health", "ask"]

FALL = 2
TIMEOUT_S = 2.0
WORKERS = 16
_MAX_READ = 4096


class Health:
    """Of the nodes behind a balancer, by what they answer to ``path`` over HTTP: 200 to 399 is well."""

    def __init__(self, path: str, asking: Callable[[Upstream, str], str] | None = None) -> None:
        """``asking`` is :func:`ask`, or what tests have. Raises :class:`InputError` for what is no path."""
        if not path.startswith("/") or not path.isascii() or not path.isprintable() or " " in path:
            raise InputError(f"{path!r}: expected a path to ask each node for, such as /healthz")
        self._path = path
        self._ask = asking or ask
        self._bad: dict[Upstream, int] = {}
        self._reasons: dict[Upstream, str] = {}

    def well(self, found: Sequence[Upstream]) -> list[Upstream]:
        """Those that are; each is asked once. A node that is new has no past: its first bad answer counts fully."""
        answers = Pool(WORKERS).map(lambda each: self._ask(each, self._path), found)
        before, self._bad, self._reasons = self._bad, {}, {}
        for each, problem in zip(found, answers, strict=True):
            self._bad[each] = before.get(each, FALL - 1) + 1 if problem else 0
            if problem:
                self._reasons[each] = problem
        good = [each for each in found if self._bad[each] < FALL]
        return good or list(found)

    def told(self) -> list[str]:
        """What was wrong at the last look, a sentence for each node that is left out or would be."""
        return [
            f"{each.node} at {each}: {why}" for each, why in self._reasons.items() if self._bad[each] >= FALL
        ]


def ask(upstream: Upstream, path: str) -> str:
    """What is wrong with a node's answer; empty if nothing is."""
    connection = HTTPConnection(upstream.address, upstream.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path, headers={"Connection": "close", "User-Agent": "manyfest-balance"})
        answer = connection.getresponse()
        answer.read(_MAX_READ)
    except (OSError, HTTPException) as error:
        return f"no answer to {path}: {getattr(error, 'strerror', None) or error or type(error).__name__}"
    finally:
        connection.close()
    return "" if 200 <= answer.status < 400 else f"{path} is answered with {answer.status}"
