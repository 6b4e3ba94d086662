# SPDX-License-Identifier: Apache-2.0
"""Reading layers, while it happens: a bar on terminals when there is much to read."""

from __future__ import annotations

import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from rich.progress import Progress, TaskID

    from manyfest.cli.console import Console

__all__ = ["Reading"]

BAR_FROM = 4_000_000
"""Bytes below which no bar is drawn: loading it would take longer."""


class Reading:
    """Hears what is read, from several threads; a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def on_plan(self, total: int) -> None:
        """How many bytes will be read."""
        if total < BAR_FROM or not self._console.is_live:
            return
        from rich.console import Console as Terminal
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        columns = (TextColumn("reading layers"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        terminal = Terminal(file=self._console.err)
        self._bar = Progress(*columns, TimeRemainingColumn(), console=terminal, transient=True)
        self._task = self._bar.add_task("", total=total)
        self._bar.start()

    def on_bytes(self, count: int) -> None:
        """So many more were read."""
        if self._bar is None or self._task is None:
            return
        with self._lock:
            self._bar.update(self._task, advance=count)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
