# SPDX-License-Identifier: Apache-2.0
"""Who may do what in the embedded registry: the question, and the simplest answer to it.

A guard is asked on every request. :class:`BasicGuard` wants one of a few names and passwords;
:class:`manyfest.serve.tokens.TokenGuard` wants a bearer token and hands them out.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import TYPE_CHECKING

from manyfest.serve.problems import Problem
from manyfest.values import Value

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Protocol

    from manyfest.serve.exchange import Request, Response

    class Guard(Protocol):
        """Decides about requests."""

        def answer(self, request: Request, /) -> Response | None:
            """The whole answer to a request for one of the guard's own paths, which a registry does not know."""

        def check(self, request: Request, needs: tuple[Need, ...], /) -> None:
            """Raises :class:`Problem` (401) unless whoever asks may have all of ``needs``."""


__all__ = ["BasicGuard", "Guard", "Need", "credentials", "knows"]


class Need(Value):
    """Actions on one resource; ``str()`` gives the scope of Docker's token protocol.

    >>> str(Need("repository", "team/app", frozenset({"push", "pull"})))
    'repository:team/app:pull,push'
    """

    __slots__ = ("actions", "kind", "name")
    kind: str
    name: str
    actions: frozenset[str]

    def __init__(self, kind: str, name: str, actions: frozenset[str]) -> None:
        self._set(kind=kind, name=name, actions=actions)

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}:{','.join(sorted(self.actions))}"


class BasicGuard:
    """Everything for anybody with a name and its password (RFC 7617), nothing for others."""

    def __init__(self, users: Mapping[str, str], realm: str = "manyfest registry") -> None:
        self._users = dict(users)
        self._realm = realm

    def answer(self, _request: Request, /) -> Response | None:
        """It has no paths of its own."""
        return None

    def check(self, request: Request, _needs: tuple[Need, ...], /) -> None:
        """Raises :class:`Problem` (401)."""
        given = credentials(request)
        if given is None or not knows(self._users, *given):
            challenge = {"WWW-Authenticate": f'Basic realm="{self._realm}", charset="UTF-8"'}
            raise Problem(401, "UNAUTHORIZED", "authentication required", headers=challenge)

    def __repr__(self) -> str:
        return f"BasicGuard({len(self._users)} users)"


def credentials(request: Request) -> tuple[str, str] | None:
    """Name and password from an ``Authorization: Basic`` header; ``None`` when there is no such header."""
    scheme, _, encoded = request.headers.get("authorization").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    name, colon, password = text.partition(":")
    return (name, password) if colon else None


def knows(users: Mapping[str, str], name: str, password: str) -> bool:
    """Is it this user's password? Takes as long for a wrong name as for a wrong password."""
    expected = users.get(name)
    same = hmac.compare_digest((expected or "").encode(), password.encode())
    return same and expected is not None
