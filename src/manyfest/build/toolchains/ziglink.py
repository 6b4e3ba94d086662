# SPDX-License-Identifier: Apache-2.0
"""Run as a program: zig as the linker of rustc, without the arguments that only GCC understands.

``python ziglink.py ZIG TARGET CPU ARGUMENTS…``. rustc brings start files and a C library of its own for musl; zig adds
both itself, and they must not meet.
"""

from __future__ import annotations

import os
import sys

_REFUSED = ("-Wl,--fix-cortex-a53-843419", "-Wl,-melf_i386")
_OWN = "self-contained"


def arguments(given: list[str]) -> list[str]:
    """What zig gets of rustc's arguments."""
    made: list[str] = []
    words = iter(given)
    for word in words:
        if word == "-L":
            folder = next(words, "")
            if os.path.basename(folder) != _OWN:
                made += [word, folder]
        elif word.startswith("@"):
            made.append(_shorter(word))
        elif word not in _REFUSED and not _is_start_file(word):
            made.append(word)
    return made


def _is_start_file(word: str) -> bool:
    return word.endswith(".o") and os.path.basename(os.path.dirname(word)) == _OWN


def _shorter(word: str) -> str:
    """A file of arguments, for more than a command line holds: one a line."""
    path = f"{word[1:]}.zig"
    with open(word[1:], encoding="utf-8") as file:
        lines = file.read().splitlines()
    with open(path, "w", encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in arguments(lines)))
    return f"@{path}"


if __name__ == "__main__":
    zig, target, cpu, *rest = sys.argv[1:]
    os.execv(zig, [zig, "cc", "-target", target, *([f"-mcpu={cpu}"] if cpu else []), *arguments(rest)])  # noqa: S606
