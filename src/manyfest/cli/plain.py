# SPDX-License-Identifier: Apache-2.0
"""The commonest form of a command, told without argparse, which is 5 of the 40 ms before a copy's first byte.

A command that has such a form says so in ``PLAIN``. Everything else that may be on a command line, ``--help`` and
mistakes among it, is the parser's (:mod:`manyfest.cli.parser`); tests hold both to the same answer.

>>> form = Plain(("source", "target"), tag=None)
>>> form.told(["a", "b", "--quiet"]).quiet, form.told(["a"]), form.told(["a", "b", "--tag=1"])
(True, None, None)
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence
    from typing import Any

__all__ = ["Plain"]

_QUIET = {"-q": "quiet", "--quiet": "quiet"}
_GENERAL = {
    **dict.fromkeys(("debug", "insecure", "json", "plain_http", "quiet", "verbose"), False),
    **dict.fromkeys(("config", "docker_cfg", "password", "username"), ""),
}


class Plain:
    """``names`` that have to be given, ``switches`` that may be, and what every other argument then is."""

    def __init__(
        self, names: Sequence[str], switches: Mapping[str, str] | None = None, **others: Any
    ) -> None:
        self._names = names
        own = switches or {}
        self._switches = {**_QUIET, **own}
        self._others = {**_GENERAL, **dict.fromkeys(own.values(), False), **others}

    def told(self, argv: Sequence[str]) -> argparse.Namespace | None:
        """The arguments that a parser would make of ``argv``, or ``None`` if there is more in it than this form has."""
        names = [word for word in argv if word not in self._switches]
        if len(names) != len(self._names) or any(word.startswith("-") for word in names):
            return None
        from types import SimpleNamespace

        given = {self._switches[word]: True for word in argv if word in self._switches}
        named = dict(zip(self._names, names, strict=True))
        return SimpleNamespace(**{**self._others, **given, **named})  # type: ignore[return-value]
