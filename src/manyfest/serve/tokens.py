# SPDX-License-Identifier: Apache-2.0
"""Docker's token protocol in front of the embedded registry: challenges, ``/token`` by GET and by POST, expiry.

For tests of clients, and for a registry among people who trust each other: everyone with a name may do everything,
``anonymous`` says what others may do.

https://distribution.github.io/distribution/spec/auth/token/ and .../oauth/

>>> guard = TokenGuard({"ann": "secret"}, anonymous=("pull",))
>>> guard
TokenGuard(1 users, anonymous=('pull',))
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from manyfest.serve.access import Need, credentials, knows
from manyfest.serve.exchange import Response
from manyfest.serve.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import Any

    from manyfest.serve.exchange import Request

__all__ = ["TokenGuard"]

_MAX_FORM = 64 * 1024
_PATH = "/token"


class TokenGuard:
    """Signs tokens with a key of its own, so they end with the process (or with :meth:`revoke`).

    ``lifetime_s`` is how many seconds a token is good for; ``clock`` gives the time (tests move it).
    """

    def __init__(
        self,
        users: Mapping[str, str],
        *,
        anonymous: Collection[str] = (),
        service: str = "manyfest",
        lifetime_s: int = 300,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._users = dict(users)
        self._anonymous = frozenset(anonymous)
        self._service = service
        self._lifetime_s = lifetime_s
        self._clock = clock
        self._key = os.urandom(32)

    def revoke(self) -> None:
        """Every token and refresh token given out until now is worthless."""
        self._key = os.urandom(32)

    def answer(self, request: Request, /) -> Response | None:
        """Hand out a token when ``/token`` is asked for. Raises :class:`Problem` (401, 400)."""
        if request.path != _PATH:
            return None
        if request.method in ("GET", "HEAD"):
            return self._by_get(request)
        if request.method == "POST":
            return self._by_post(request)
        raise Problem(
            405, "UNSUPPORTED", "tokens are asked for by GET or POST", headers={"Allow": "GET, POST"}
        )

    def check(self, request: Request, needs: tuple[Need, ...], /) -> None:
        """Raises :class:`Problem` (401) with a challenge that names every scope."""
        scheme, _, token = request.headers.get("authorization").partition(" ")
        claims = self._opened(token.strip(), "access") if scheme.lower() == "bearer" else None
        if claims is None:
            raise self._challenge(request, needs, "invalid_token" if token else "")
        granted = {(a["type"], a["name"], action) for a in claims["access"] for action in a["actions"]}
        for need in needs:
            if any((need.kind, need.name, action) not in granted for action in need.actions):
                raise self._challenge(request, needs, "insufficient_scope")

    def _challenge(self, request: Request, needs: tuple[Need, ...], error: str) -> Problem:
        host = request.headers.get("host", "localhost")
        fields = [f'realm="{request.scheme}://{host}{_PATH}"', f'service="{self._service}"']
        if needs:
            fields.append(f'scope="{" ".join(map(str, needs))}"')
        if error:
            fields.append(f'error="{error}"')
        challenge = {"WWW-Authenticate": f"Bearer {','.join(fields)}"}
        return Problem(401, "UNAUTHORIZED", "authentication required", headers=challenge)

    def _by_get(self, request: Request) -> Response:
        given = credentials(request)
        if given is None and "authorization" in request.headers:
            raise _denied()
        if given is not None and not knows(self._users, *given):
            raise _denied()
        user = given[0] if given else ""
        fields = request.queries
        self._check_service(dict(fields).get("service", self._service))
        offline = dict(fields).get("offline_token") == "true"
        return self._grant(user, [value for name, value in fields if name == "scope"], refresh=offline)

    def _by_post(self, request: Request) -> Response:
        raw = bytearray()
        while data := request.body.read(_MAX_FORM + 1 - len(raw)):
            raw += data
            if len(raw) > _MAX_FORM:
                raise Problem(413, "SIZE_INVALID", "a token request of that size")
        try:
            form = dict(parse_qsl(raw.decode(), keep_blank_values=True, max_num_fields=64))
        except ValueError as error:
            raise Problem(400, "UNSUPPORTED", "expected a form") from error
        self._check_service(form.get("service", self._service))
        user = self._user_of(form)
        return self._grant(user, [form.get("scope", "")], refresh=form.get("access_type") == "offline")

    def _user_of(self, form: Mapping[str, str]) -> str:
        grant = form.get("grant_type")
        if grant == "password":
            user = form.get("username", "")
            if not knows(self._users, user, form.get("password", "")):
                raise _denied()
            return user
        if grant == "refresh_token":
            claims = self._opened(form.get("refresh_token", ""), "refresh")
            if claims is None:
                raise _denied()
            return str(claims["user"])
        raise Problem(400, "UNSUPPORTED", "grant_type must be password or refresh_token")

    def _check_service(self, service: str) -> None:
        if service != self._service:
            raise Problem(400, "UNSUPPORTED", f"tokens here are for the service {self._service!r}")

    def _grant(self, user: str, scopes: list[str], *, refresh: bool) -> Response:
        now = self._clock()
        access = [_access(need, self._allowed(user, need)) for need in _needs(" ".join(scopes))]
        token = self._sealed({"kind": "access", "until": now + self._lifetime_s, "access": access})
        answer: dict[str, object] = {
            "token": token,
            "access_token": token,
            "expires_in": self._lifetime_s,
            "issued_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
        }
        if refresh and user:
            answer["refresh_token"] = self._sealed({"kind": "refresh", "user": user})
        return Response.json(200, answer, {"Cache-Control": "no-store"})

    def _allowed(self, user: str, need: Need) -> frozenset[str]:
        return need.actions if user else need.actions & self._anonymous

    def _sealed(self, claims: Mapping[str, object]) -> str:
        # With a nonce, so that no two tokens are alike and a test can tell a fresh one from a kept one.
        body = json.dumps({**claims, "nonce": os.urandom(8).hex()}, separators=(",", ":")).encode()
        return f"{_text(body)}.{_text(self._signature(body))}"

    def _opened(self, token: str, kind: str) -> dict[str, Any] | None:
        """The claims of a token of ours that is still good."""
        body_text, _, signature_text = token.partition(".")
        try:
            body, signature = _bytes(body_text), _bytes(signature_text)
        except ValueError:
            return None
        if not hmac.compare_digest(signature, self._signature(body)):
            return None
        claims = json.loads(body)
        if claims["kind"] != kind or claims.get("until", self._clock() + 1) <= self._clock():
            return None
        return dict(claims)

    def _signature(self, body: bytes) -> bytes:
        return hmac.digest(self._key, body, hashlib.sha256)

    def __repr__(self) -> str:
        return f"TokenGuard({len(self._users)} users, anonymous={tuple(sorted(self._anonymous))})"


def _denied() -> Problem:
    return Problem(401, "UNAUTHORIZED", "incorrect user name, password or token")


def _needs(scopes: str) -> list[Need]:
    """``TYPE:NAME:ACTION,…`` separated by spaces; a name may have a colon (a registry's port)."""
    found = []
    for scope in scopes.split():
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        found.append(Need(kind, name, frozenset(filter(None, actions.split(",")))))
    return found


def _access(need: Need, actions: frozenset[str]) -> dict[str, object]:
    return {"type": need.kind, "name": need.name, "actions": sorted(actions)}


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
