# SPDX-License-Identifier: Apache-2.0
"""Scripts: the ``#!`` line, read as Linux reads it (``fs/binfmt_script.c``).

>>> facts = read(b"#!/usr/bin/env python3\\r\\n", 24)
>>> facts.shebang.crlf, facts.shebang.program, facts.problem
(True, 'python3\\r', '')
"""

from __future__ import annotations

from manyfest.verify._reader import text
from manyfest.verify.facts import Facts, Shebang

__all__ = ["LINE", "MAGIC", "MARK", "read"]

MAGIC = b"#!"
MARK = b"\xef\xbb\xbf"
"""The byte order mark that editors on Windows put in front of a file."""

LINE = 255
"""How many bytes of the first line Linux looks at (127 before 5.1)."""

_BLANKS = b" \t"


def read(head: bytes, size: int) -> Facts:
    """``head`` starts with :data:`MAGIC`, or with :data:`MARK` and it. The carriage return of a line that ends
    as on Windows stays where the kernel sees it, at the end of the argument or interpreter; ``crlf`` tells."""
    marked = head.startswith(MARK)
    raw = head[len(MARK) if marked else 0 :][:4096]
    line, newline, _ = raw.partition(b"\n")
    interpreter, argument, cut = _split(line[2:])
    problem = ""
    if marked:
        problem = "starts with a byte order mark, so the kernel does not see #!"
    elif not interpreter:
        problem = "has #! but no interpreter"
    elif cut:
        problem = f"the interpreter's name reaches beyond the {LINE} bytes that the kernel reads"
    elif not newline and size > len(raw) and len(line) > LINE:
        problem = f"the first line is longer than {len(line)} bytes"
    shebang = Shebang(text(interpreter), text(argument), line.endswith(b"\r"))
    return Facts("script", interpreter=shebang.interpreter, shebang=shebang, problem=problem)


def _split(line: bytes) -> tuple[bytes, bytes, bool]:
    """Interpreter, argument, and whether the interpreter's name does not fit into what the kernel reads."""
    start = len(line) - len(line.lstrip(_BLANKS))
    seen = line[: LINE - 2]
    name = seen[start:].split(b"\0")[0]
    ends = [at for at in map(name.find, (b" ", b"\t")) if at >= 0]
    if not ends:
        return name.rstrip(_BLANKS), b"", len(line) > len(seen) and b"\0" not in seen
    end = min(ends)
    return name[:end], name[end:].strip(_BLANKS), False
