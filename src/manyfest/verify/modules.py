# SPDX-License-Identifier: Apache-2.0
"""Which modules a Go program was made of, from the build information that Go's linker leaves in it.

https://pkg.go.dev/runtime/debug#BuildInfo. The program goes by in pieces; where the information is, no header says, and
a program that can read such information has its first bytes among its own constants too.
"""

from __future__ import annotations

from manyfest.verify._go import MAGIC, info

__all__ = ["MAX_MODULES", "Modules"]

MAX_MODULES = 2000
_WINDOW = 1 << 20
"""Bytes after the mark. A program with a thousand modules has a tenth of it."""

_LONGEST = 300


class Modules:
    """Feed it the program, then ask for :meth:`found`."""

    def __init__(self) -> None:
        self._rest = b""
        self._found: list[tuple[str, str]] = []

    def feed(self, piece: bytes) -> None:
        """The next bytes."""
        if not self._found:
            self._rest = self._search(self._rest + piece, last=False)

    def found(self) -> list[tuple[str, str]]:
        """(module, version), the program's own first and ``stdlib`` second; empty for what is no Go program."""
        if not self._found:
            self._search(self._rest, last=True)
        return self._found

    def _search(self, data: bytes, *, last: bool) -> bytes:
        """Look for the mark; returns what must be seen again with what follows."""
        at = data.find(MAGIC)
        while at >= 0:
            if len(data) - at < _WINDOW and not last:
                return data[at:]
            told = info(data[: at + _WINDOW], at)
            self._found = [] if told is None else _modules(*told)
            if self._found:
                return b""
            at = data.find(MAGIC, at + 1)
        return data[-len(MAGIC) + 1 :]


def _modules(version: bytes, lines: bytes) -> list[tuple[str, str]]:
    if not version.startswith((b"go", b"devel")):
        return []
    own: list[tuple[str, str]] = []
    found: dict[str, str] = {}
    last = ""
    for line in lines.decode("utf-8", "replace").split("\n")[:MAX_MODULES]:
        kind, *fields = line.split("\t")
        name, number = (*fields, "", "")[:2]
        if not name or len(name) > _LONGEST or len(number) > _LONGEST:
            continue
        number = "" if number == "(devel)" else number
        if kind == "mod":
            own = [(name, number)]
        elif kind == "dep":
            found[name], last = number, name
        elif kind == "=>" and last:
            # What was compiled is the replacement; one in a folder has no version.
            del found[last]
            found[name], last = number, ""
    said = version.decode("utf-8", "replace").split(" ")[0]
    stdlib = said.removeprefix("go")[:_LONGEST] if said.startswith("go") else ""
    return [*own, ("stdlib", stdlib), *found.items()]
