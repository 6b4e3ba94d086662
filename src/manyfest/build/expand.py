# SPDX-License-Identifier: Apache-2.0
"""Variables in a Dockerfile: which are in scope where, and what a word becomes.

Substitution itself (``${x:-default}``, ``${x#prefix}``, ``${x/a/b}``, quotes, the escape character) is
e2b-dockerfile-utils'; here is the scope: ARGs before the first FROM serve FROM lines and are seen in a stage only
when it declares them; so are the platform's (https://docs.docker.com/reference/dockerfile/#automatic-platform-args-in-the-global-scope);
ENV wins over ARG.

    >>> scope = Scope("\\\\", {"VERSION": "1.2.3"})
    >>> scope.word("app-${VERSION%.*}${NONE:-!}")
    'app-1.2!'
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from e2b_dockerfile_utils import ShellLex

from manyfest.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from manyfest.platforms import Platform

__all__ = ["PROXIES", "Scope", "platform_args"]

PROXIES = frozenset(
    name
    for upper in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (upper, upper.lower())
)
"""Build arguments that need no declaration."""


class Scope:
    """The variables at one line of a Dockerfile."""

    def __init__(self, escape: str, variables: Mapping[str, str], where: str = "Dockerfile") -> None:
        self._escape = escape
        self._variables = variables
        self._where = where

    def word(self, text: str) -> str:
        """One word with variables replaced, quotes and escapes removed. Raises :class:`BuildError`."""
        return self._processed(text, self._lex().process_word)

    def words(self, text: str) -> list[str]:
        """Like :meth:`word`; a variable may become several words."""
        try:
            return self._lex().process_words(text)
        except ValueError as error:
            raise self._failed(error) from None

    def text(self, text: str) -> str:
        """A heredoc: variables replaced, quotes kept."""
        lex = ShellLex(self._escape, skip_process_quotes=True, env=self._variables, skip_unset_env=False)
        return self._processed(text, lex.process_word)

    def _lex(self) -> ShellLex:
        return ShellLex(self._escape, env=self._variables, skip_unset_env=False)

    def _processed(self, text: str, process: object) -> str:
        assert callable(process)
        try:
            return str(process(text))
        except ValueError as error:
            raise self._failed(error) from None

    def _failed(self, error: ValueError) -> BuildError:
        return BuildError(f"{self._where}: {error}", hint="give a value with --build-arg, or a default")


def platform_args(target: Platform, host: Platform, stage: str) -> dict[str, str]:
    """The arguments that every Dockerfile has without declaring them globally."""

    def four(prefix: str, platform: Platform) -> dict[str, str]:
        plain = platform.replace(os_version="", os_features=(), features=())
        return {
            f"{prefix}PLATFORM": str(plain),
            f"{prefix}OS": platform.os,
            f"{prefix}ARCH": platform.architecture,
            f"{prefix}VARIANT": platform.variant,
        }

    return {**four("TARGET", target), **four("BUILD", host), "TARGETSTAGE": stage or "default"}
