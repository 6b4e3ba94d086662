# SPDX-License-Identifier: Apache-2.0
"""What a token is for, and who is asked: the words of authentication that every request needs.

    >>> join((Scope.parse("repository:acme/app:push,pull"), Scope.parse("repository:acme/app:pull")))
    (Scope('repository:acme/app:pull,push'),)

https://distribution.github.io/distribution/spec/auth/scope/
"""

from __future__ import annotations

from manyfest.errors import InputError
from manyfest.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Party", "Scope", "join"]


class Scope(Value):
    """What a token is for: a type, a name and actions (kept sorted, each once)."""

    __slots__ = ("actions", "name", "type")
    type: str
    name: str
    actions: tuple[str, ...]

    def __init__(self, type: str, name: str, actions: Iterable[str]) -> None:
        self._set(type=type, name=name, actions=tuple(sorted(set(actions))))

    @classmethod
    def repository(cls, name: str, *actions: str) -> Scope:
        """For a repository; actions are ``pull``, ``push``, ``delete``."""
        return cls("repository", name, actions)

    @classmethod
    def parse(cls, text: str) -> Scope:
        """Read ``repository:acme/app:pull,push``. Raises :class:`~manyfest.errors.InputError`."""
        kind, colon, rest = text.partition(":")
        name, second, actions = rest.rpartition(":")
        if not (colon and second and kind and name and actions):
            raise InputError(f"scope {text[:200]!r}: expected TYPE:NAME:ACTION,…")
        return cls(kind, name, filter(None, actions.split(",")))

    def covers(self, other: Scope) -> bool:
        """Does a token for this scope serve for the other?"""
        if (self.type, self.name) != (other.type, other.name):
            return False
        return "*" in self.actions or set(other.actions) <= set(self.actions)

    def __str__(self) -> str:
        return f"{self.type}:{self.name}:{','.join(self.actions)}"

    def __repr__(self) -> str:
        return f"Scope({str(self)!r})"


def join(scopes: Iterable[Scope]) -> tuple[Scope, ...]:
    """Sorted, with the actions on one thing put together: one token for a mount across repositories."""
    actions: dict[tuple[str, str], set[str]] = {}
    for scope in scopes:
        actions.setdefault((scope.type, scope.name), set()).update(scope.actions)
    return tuple(Scope(kind, name, actions[kind, name]) for kind, name in sorted(actions))


class Party(Value):
    """Who a request is addressed to: ``host`` as a person says it, and the host whose stored credentials count.

    An ``anonymous`` party (the target of a redirect) never gets credentials, only tokens that anybody gets; a
    ``mirror`` only what is stored under its own name, not what the user gave for the registry.
    """

    __slots__ = ("anonymous", "credentials", "host", "mirror")
    host: str
    credentials: str
    anonymous: bool
    mirror: bool

    def __init__(
        self, host: str, credentials: str = "", *, anonymous: bool = False, mirror: bool = False
    ) -> None:
        self._set(host=host, credentials=credentials or host, anonymous=anonymous, mirror=mirror)
