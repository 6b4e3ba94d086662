# SPDX-License-Identifier: Apache-2.0
"""What ``--chmod`` says: a mode in octal, or changes to the file's own as chmod(1) writes them.

    >>> f"{parse('u+x,go-w').of(0o666, is_folder=False):o}", f"{parse('u=rwX,go=u-w').of(0o600, is_folder=True):o}"
    ('744', '755')

As in BuildKit, a change that names nobody (``+w``) is for all: there is no umask. ``X`` is for folders, and for what
somebody may execute already.
https://docs.docker.com/reference/dockerfile/#copy---chown---chmod
"""

from __future__ import annotations

import re

from manyfest.errors import InputError
from manyfest.values import Value

__all__ = ["Mode", "parse"]

_OCTAL = re.compile(r"[0-7]{1,5}")
_ACTION = re.compile(r"([-+=])([rwxXst]*|[ugo])(?=[-+=]|$)")
_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[rwxXst]*|[ugo]))+)")
_WHO = {"u": 0o4700, "g": 0o2070, "o": 0o0007, "a": 0o6777}
_BITS = {"r": 0o444, "w": 0o222, "x": 0o111, "s": 0o6000, "t": 0o1000}
_SHIFT = {"u": 6, "g": 3, "o": 0}
_STICKY = 0o1000


class Mode(Value):
    """What to make of a file's mode. ``octal``: the very mode; else ``steps``: who, sign and letters of each change."""

    __slots__ = ("octal", "steps")
    octal: int | None
    steps: tuple[tuple[str, str, str], ...]

    def __init__(self, octal: int | None, steps: tuple[tuple[str, str, str], ...] = ()) -> None:
        self._set(octal=octal, steps=steps)

    def of(self, old: int, *, is_folder: bool) -> int:
        """The new mode of something whose mode is ``old``."""
        if self.octal is not None:
            return self.octal
        mode = old
        for who, sign, letters in self.steps:
            bits, reach = _change(who, letters, mode, executable=is_folder or bool(old & 0o111))
            if sign == "+":
                mode |= bits
            elif sign == "-":
                mode &= ~bits
            else:
                mode = mode & ~reach | bits
        return mode


def parse(text: str) -> Mode:
    """Read what ``--chmod`` says. Raises :class:`InputError`."""
    if _OCTAL.fullmatch(text) and int(text, 8) <= 0o7777:
        return Mode(int(text, 8))
    steps: list[tuple[str, str, str]] = []
    for each in text.split(","):
        clause = _CLAUSE.fullmatch(each)
        if clause is None:
            raise InputError(
                f"{text}: expected a mode such as 755 or 0644, or changes such as u+x,go-w",
                hint="who (u, g, o, a), then +, - or =, then r, w, x, X, s, t",
            )
        steps += [(clause[1], sign, letters) for sign, letters in _ACTION.findall(clause[2])]
    return Mode(None, tuple(steps))


def _change(who: str, letters: str, mode: int, *, executable: bool) -> tuple[int, int]:
    """The bits that a change is about, and all that it could be about."""
    reach = 0
    for each in who or "a":
        reach |= _WHO[each]
    if letters and letters in _SHIFT:
        reach &= 0o777
        return ((mode >> _SHIFT[letters]) & 0o7) * 0o111 & reach, reach
    if "t" in letters and not who:
        # BuildKit's own reading: it is about that bit alone then.
        reach = _STICKY
    elif "t" in letters and who.strip("o"):
        reach |= _STICKY
    return _bits(letters, executable=executable) & reach, reach


def _bits(letters: str, *, executable: bool) -> int:
    bits = 0
    for letter in letters:
        if letter != "X":
            bits |= _BITS[letter]
        elif executable:
            bits |= _BITS["x"]
    return bits
