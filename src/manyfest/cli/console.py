# SPDX-License-Identifier: Apache-2.0
"""Where a command's words go: results to standard output, messages to standard error.

Nobody may be listening: a reader goes away (``| head``), a stream was closed before we began (``2>&-``). The command
goes on all the same, for what it does and how it ends must not depend on who listens: ``manyfest verify REF | head -1``
still says no.
"""

from __future__ import annotations

import io
import os
import sys

from manyfest.cli.render import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any

__all__ = ["Console"]


class Console:
    """``json`` asks for one JSON document; ``quiet`` and ``verbose`` say how much to tell on the way."""

    def __init__(
        self,
        *,
        json: bool = False,
        quiet: bool = False,
        verbose: bool = False,
        out: IO[str] | None = None,
        err: IO[str] | None = None,
    ) -> None:
        self.json = json
        self.quiet = quiet
        self.verbose = verbose
        self.is_unheard = False
        """Has whoever read the result gone away? A result that goes on and on may end here."""
        self.out = out or sys.stdout or _Nowhere()
        self.err = err or sys.stderr or _Nowhere()

    def print(self, text: str = "") -> None:
        """A line of the result."""
        self._write(f"{text}\n")

    def document(self, value: Any, *, indent: int | str = 2) -> None:
        """The result as the one JSON document of ``--json``."""
        from json import dumps  # not every command has a document

        self._write(dumps(value, indent=indent) + "\n")

    def result(self, value: Any, text: str) -> None:
        """The result: ``value`` under ``--json``, else ``text`` (nothing when it is empty)."""
        if self.json:
            self.document(value)
        elif text:
            self.print(text)

    def bytes(self, data: bytes) -> None:
        """The result as the very bytes, no line end added."""
        self.flush()
        binary = getattr(self.out, "buffer", None)
        if binary is None:
            self._write(data.decode("utf-8", "replace"))
            return
        try:
            binary.write(data)
            binary.flush()
        except BrokenPipeError:
            self.drop()

    def flush(self) -> None:
        """Send what was printed on its way. Raises :class:`OSError` for a full disk."""
        try:
            self.out.flush()
        except BrokenPipeError:
            self.drop()

    def drop(self) -> None:
        """Print nothing from now on, and forget what could not be sent."""
        self.is_unheard = True
        _let_go(self.out)

    def say(self, text: str) -> None:
        """A message for a person; ``--quiet`` drops it."""
        if not self.quiet:
            self.tell(text)

    def detail(self, text: str) -> None:
        """A message that only ``--verbose`` asks for."""
        if self.verbose and not self.quiet:
            self.tell(text)

    def warn(self, text: str) -> None:
        """Something that went on but should be looked at; ``--quiet`` drops it."""
        self.say(f"manyfest: warning: {text}")

    def tell(self, text: str) -> None:
        """A line on standard error whatever was asked; control characters spelled out."""
        try:
            self.err.write(printable(text) + "\n")
            self.err.flush()
        except OSError:
            _let_go(self.err)

    @property
    def is_live(self) -> bool:
        """May progress be drawn: standard error is a terminal, and nobody asked for silence?"""
        return not self.quiet and self.err.isatty()

    def _write(self, text: str) -> None:
        try:
            self.out.write(text)
        except UnicodeEncodeError:
            # A terminal that is not UTF-8, or a file name that is not.
            encoding = getattr(self.out, "encoding", None) or "ascii"
            self.out.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except BrokenPipeError:
            self.drop()


class _Nowhere(io.StringIO):
    """Stands in for a stream that was closed before we began."""

    def write(self, text: str, /) -> int:
        return len(text)


def _let_go(stream: IO[str]) -> None:
    """Lead a stream that nobody reads to nowhere, so that what it still holds does no harm at the end."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        return  # not a file: there is nothing to be flushed at the end
