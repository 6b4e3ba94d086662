# SPDX-License-Identifier: Apache-2.0
"""Bounded looks into a file of which only the first bytes are at hand."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from manyfest.verify.facts import More

__all__ = ["BUDGET", "Reader", "text"]

BUDGET = 1 << 20
"""How many bytes of one file are looked at, at most, beside the head that was given."""


class Reader:
    """Ranges of one file: from the head where it holds them, else asked for, within :data:`BUDGET`."""

    __slots__ = ("_budget", "_head", "_more", "size")

    def __init__(self, head: bytes, size: int, more: More | None) -> None:
        self._head = head
        self._more = more
        self._budget = BUDGET
        self.size = max(size, len(head))

    def take(self, offset: int, length: int) -> bytes:
        """The bytes from ``offset`` on: at most ``length``, as many as can be had without a gap."""
        end = min(offset + length, self.size)
        if offset < 0 or end <= offset:
            return b""
        known = self._head[offset:end]
        if len(known) == end - offset:
            return known
        if self._more is None:
            return known
        start = offset + len(known)
        length = min(end - start, self._budget)
        self._budget -= length
        return known + bytes(self._more(start, length)[:length]) if length else known


def text(raw: bytes) -> str:
    """A name out of a file, for messages and comparisons: what is not UTF-8 is shown as an escape."""
    return raw.decode("utf-8", "backslashreplace")
