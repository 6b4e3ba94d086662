# SPDX-License-Identifier: Apache-2.0
"""Server-sent events: every snapshot of a board to one page, until the page or the board goes away.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from manyfest.serve.dashboard.state import Board

__all__ = ["HEARTBEAT_S", "RETRY_MS", "event", "follow"]

HEARTBEAT_S = 10.0
"""A page that hears nothing for longer knows that the connection is dead, whatever stands in between."""

RETRY_MS = 2000
"""After how long a page calls again."""

_LOOK_S = 0.5
_QUIET_S = 0.2
"""At most five snapshots a second: many changes come together."""


def event(snapshot: dict[str, Any]) -> bytes:
    """One event. JSON has no line breaks, so it is one ``data`` line."""
    data = json.dumps(snapshot, separators=(",", ":"))
    return f"id: {snapshot['version']}\nevent: state\ndata: {data}\n\n".encode()


def follow(board: Board, *, heartbeat_s: float = HEARTBEAT_S) -> Iterator[bytes]:
    """The present state, then every change; ``b""`` now and then, so that whoever sends can stop."""
    yield f"retry: {RETRY_MS}\n\n".encode()
    snapshot = board.snapshot()
    yield event(snapshot)
    spoke = time.monotonic()
    while not board.closed:
        if board.wait(snapshot["version"], min(_LOOK_S, heartbeat_s)):
            snapshot = board.snapshot()
            yield event(snapshot)
            spoke = time.monotonic()
            # Not a sleep for its own sake: what comes meanwhile is in the next snapshot.
            board.rest(_QUIET_S)
        elif time.monotonic() - spoke >= heartbeat_s:
            spoke = time.monotonic()
            yield b"event: alive\ndata:\n\n"
        else:
            yield b""
