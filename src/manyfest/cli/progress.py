# SPDX-License-Identifier: Apache-2.0
"""What a copy does, while it does it: a bar on terminals, a count for the line at the end.

A bar is worth its import only when bytes take time, so small copies never load it.
"""

from __future__ import annotations

import threading
import time

from manyfest.cli.render import duration, plural, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from rich.progress import Progress, TaskID

    from manyfest.cli.console import Console
    from manyfest.stores.copy import Event, Plan

__all__ = ["Transfer"]

BAR_FROM = 4_000_000
"""Bytes below which no bar is drawn."""


class Transfer:
    """Takes the events of one or more copies; a context manager; called from several threads."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._began = time.monotonic()
        self.total = 0
        self.sent = 0
        self.counts = {"done": 0, "mounted": 0, "there": 0, "skipped": 0, "document": 0, "tagged": 0}

    def on_plan(self, plan: Plan) -> None:
        """Learn how much there is to move, and draw the bar if that is much."""
        with self._lock:
            self.total += plan.size
            if self._bar is None and self.total >= BAR_FROM and self._console.is_live:
                self._start_bar()
            if self._bar is not None and self._task is not None:
                self._bar.update(self._task, total=self.total)

    def on_event(self, event: Event) -> None:
        """Count an event and move the bar."""
        with self._lock:
            if event.kind in self.counts:
                self.counts[event.kind] += 1
            moved = self._advance(event)
            if self._bar is not None and self._task is not None and moved:
                self._bar.update(self._task, advance=moved)

    def to_json(self) -> dict[str, int]:
        """For ``--json``: what was moved, in bytes and blobs."""
        return {
            "bytes_sent": self.sent,
            "blobs_sent": self.counts["done"],
            "blobs_mounted": self.counts["mounted"],
            "blobs_there": self.counts["there"],
            "blobs_skipped": self.counts["skipped"],
            "documents": self.counts["document"],
        }

    def summary(self) -> str:
        """``sent 3 blobs (12 MB), mounted 2, 1 there already, in 0.4 s``."""
        counts = self.counts
        parts = [f"sent {plural(counts['done'], 'blob')} ({size(self.sent)})"]
        if counts["mounted"]:
            parts.append(f"mounted {counts['mounted']}")
        if counts["there"]:
            parts.append(f"{counts['there']} there already")
        if counts["skipped"]:
            parts.append(f"left out {plural(counts['skipped'], 'foreign layer')}")
        return ", ".join(parts) + f", in {duration(time.monotonic() - self._began)}"

    def _advance(self, event: Event) -> int:
        if event.kind == "sent":
            self.sent += event.size
            return event.size
        return event.descriptor.size if event.kind in ("mounted", "there") else 0

    def _start_bar(self) -> None:
        from rich.console import Console as Terminal
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=Terminal(file=self._console.err), transient=True)
        self._task = self._bar.add_task("", total=self.total)
        self._bar.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
