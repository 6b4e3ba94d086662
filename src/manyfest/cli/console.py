# SPDX-License-Identifier: Apache-2.0
"""Where a command's words go: results to standard output, messages to standard error."""

from __future__ import annotations

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
        self.out = out or sys.stdout
        self.err = err or sys.stderr

    def print(self, text: str = "") -> None:
        """A line of the result."""
        self.out.write(f"{text}\n")

    def document(self, value: Any, *, indent: int | str = 2) -> None:
        """The result as the one JSON document of ``--json``."""
        from json import dumps  # not every command has a document

        self.out.write(dumps(value, indent=indent) + "\n")

    def result(self, value: Any, text: str) -> None:
        """The result: ``value`` under ``--json``, else ``text`` (nothing when it is empty)."""
        if self.json:
            self.document(value)
        elif text:
            self.print(text)

    def bytes(self, data: bytes) -> None:
        """The result as the very bytes, no line end added."""
        self.out.flush()
        binary = getattr(self.out, "buffer", None)
        if binary is None:
            self.out.write(data.decode("utf-8", "replace"))
            return
        binary.write(data)
        binary.flush()

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
        self.err.write(printable(text) + "\n")
        self.err.flush()

    @property
    def is_live(self) -> bool:
        """May progress be drawn: standard error is a terminal, and nobody asked for silence?"""
        return not self.quiet and self.err.isatty()
