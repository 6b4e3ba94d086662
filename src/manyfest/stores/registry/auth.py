# SPDX-License-Identifier: Apache-2.0
"""Showing a registry who we are: HTTP Basic, and bearer tokens from the server that a challenge names.

Nothing is asked in advance. The first real request to a host goes out bare; if it is challenged, the host's way of
asking is remembered and later requests carry a token from the start. Tokens are kept by realm, service and scopes
until shortly before they expire; a token for more serves for less; of several threads that want the same token one
fetches it and the others wait.

Three things keep a password where it belongs: the realm must be https unless the registry itself speaks plain http;
nothing that is not the party's own host gets its credentials (a mirror and the target of a redirect are parties of
their own); and no message or repr holds one.

https://distribution.github.io/distribution/spec/auth/token/ and …/auth/oauth/
"""

from __future__ import annotations

import json
import threading
from urllib.parse import urlencode, urljoin, urlsplit

from manyfest.errors import AuthRequired, InputError, RegistryError, StoreError
from manyfest.stores.pool import TICK_S
from manyfest.stores.registry.credentials import Credentials
from manyfest.stores.registry.scopes import Party, Scope, join
from manyfest.stores.registry.transport import Request
from manyfest.stores.registry.wire import Challenge, printable, problem, shown_url
from manyfest.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from manyfest.stores.registry.credentials import Keychain
    from manyfest.stores.registry.retry import Clock
    from manyfest.stores.registry.transport import Response

__all__ = ["Authenticator", "Party", "Scope", "join"]

CLIENT_ID = "manyfest"

_MAX_TOKEN_BODY = 1024 * 1024
_SHORTEST_S = 60.0
"""A token lives at least this long, the specification says, whatever its answer does not say."""


class _Way(Value):
    """How a party asks: the scheme, and for bearer tokens where they are had."""

    __slots__ = ("realm", "scheme", "service")
    scheme: str
    realm: str
    service: str

    def __init__(self, scheme: str, realm: str = "", service: str = "") -> None:
        self._set(scheme=scheme, realm=realm, service=service)


class _Token(Value):
    __slots__ = ("scopes", "text", "until")
    text: str
    scopes: tuple[Scope, ...]
    until: float

    def __init__(self, text: str, scopes: tuple[Scope, ...], until: float) -> None:
        self._set(text=text, scopes=scopes, until=until)

    def __repr__(self) -> str:
        return f"_Token(***, {self.scopes!r}, until={self.until})"

    def serves(self, scopes: tuple[Scope, ...], now: float) -> bool:
        # A token without any scope says only who we are; it serves for nothing but the same question.
        if now >= self.until or bool(scopes) != bool(self.scopes):
            return False
        return all(any(mine.covers(scope) for mine in self.scopes) for scope in scopes)


class _Flight:
    """One fetch that others wait for."""

    def __init__(self) -> None:
        self.landed = threading.Event()
        self.error: StoreError | None = None


class Authenticator:
    """The ``Authorization`` of every request. Thread-safe.

    ``send`` sends one request to a token server (with retries, without authentication).
    """

    def __init__(self, send: Callable[[Request], Response], keychain: Keychain, clock: Clock) -> None:
        self._send = send
        self._keychain = keychain
        self._clock = clock
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._ways: dict[Party, _Way] = {}
        self._tokens: dict[tuple[str, str, Credentials], list[_Token]] = {}
        self._flights: dict[tuple[str, str, Credentials, tuple[Scope, ...]], _Flight] = {}
        self._found: dict[tuple[str, str, bool], Credentials] = {}

    def header(self, party: Party, scopes: tuple[Scope, ...]) -> str | None:
        """The value to send from the start, ``None`` while the party has not asked for any."""
        way = self._ways.get(party)
        if way is None:
            return None
        return self._value(way, party, join(scopes))

    def answer(
        self,
        party: Party,
        asked: tuple[Challenge, ...],
        url: str,
        scopes: tuple[Scope, ...],
        rejected: str | None,
    ) -> str | None:
        """The value to try after a 401 from ``url`` that carried the challenges ``asked``; ``None``: nothing to try.

        ``rejected`` is what the refused request carried. Raises :class:`~manyfest.errors.AuthRequired` when the token
        server refuses, :class:`~manyfest.errors.RegistryError` when the realm cannot be trusted or used.
        """
        challenge = next((c for c in asked if c.scheme == "bearer"), None)
        challenge = challenge or next((c for c in asked if c.scheme == "basic"), None)
        if challenge is None:
            return None
        wanted = join((*scopes, *_scopes_in(challenge)))
        way = _way(challenge, url, party)
        if rejected is not None and challenge.parameters.get("error") != "insufficient_scope":
            self._forget((way.realm, way.service, self._credentials(party, wanted)), rejected)
        value = self._value(way, party, wanted)
        if value is None or value == rejected:
            return None
        with self._lock:
            self._ways[party] = way
        return value

    def who(self, party: Party, scopes: tuple[Scope, ...]) -> str:
        """Whose credentials count for such a request, in words for a message."""
        if party.anonymous:
            return f"no credentials for {party.host}, where a redirect led"
        found = self._credentials(party, scopes)
        if found.is_anonymous:
            return found.source
        name = f"user {printable(found.username, 80)!r} from " if found.username else "the token from "
        return f"{name}{found.source}"

    def _credentials(self, party: Party, scopes: tuple[Scope, ...]) -> Credentials:
        if party.anonymous:
            return Credentials(source="anonymous")
        repository = next((scope.name for scope in scopes if scope.type == "repository"), "")
        key = (party.credentials, repository, party.mirror)
        with self._asking:  # held while a helper runs, so that it is asked once and not by every thread
            found = self._found.get(key)
            if found is None:
                found = self._found[key] = self._keychain.lookup(
                    party.credentials, repository, stored_only=party.mirror
                )
        return found

    def _value(self, way: _Way, party: Party, scopes: tuple[Scope, ...]) -> str | None:
        credentials = self._credentials(party, scopes)
        if way.scheme == "basic":
            return credentials.basic if credentials.password else None
        if credentials.registry_token:
            return f"Bearer {_checked(credentials.registry_token, credentials.source)}"
        return f"Bearer {self._token(way, party, credentials, scopes).text}"

    def _forget(self, key: tuple[str, str, Credentials], value: str) -> None:
        """Drop a token that the registry no longer takes, and all it came with.

        Whatever ended one of them (a new signing key, a changed password) ended the others, and a request is answered
        only once: to try the next old one would be to fail. Who finds that somebody else was first drops nothing, for
        what is there by then is new.
        """
        text = value.removeprefix("Bearer ")
        with self._lock:
            known = self._tokens.get(key, [])
            if any(token.text == text for token in known):
                known.clear()

    def _token(self, way: _Way, party: Party, credentials: Credentials, scopes: tuple[Scope, ...]) -> _Token:
        key = (way.realm, way.service, credentials)
        while True:
            with self._lock:
                now = self._clock.monotonic()
                known = self._tokens.setdefault(key, [])
                token = next((token for token in known if token.serves(scopes, now)), None)
                if token is not None:
                    return token
                flight = self._flights.get((*key, scopes))
                mine = flight is None
                if flight is None:
                    flight = self._flights[(*key, scopes)] = _Flight()
            if mine:
                return self._fly(flight, way, party, credentials, scopes)
            while not flight.landed.wait(TICK_S):  # in short turns: see manyfest.stores.pool.wait_for
                pass
            if flight.error is not None:
                raise flight.error

    def _fly(
        self, flight: _Flight, way: _Way, party: Party, credentials: Credentials, scopes: tuple[Scope, ...]
    ) -> _Token:
        key = (way.realm, way.service, credentials)
        try:
            token = self._fetch(way, party, credentials, scopes)
            with self._lock:
                now = self._clock.monotonic()
                self._tokens[key] = [token, *(old for old in self._tokens[key] if old.until > now)]
            return token
        except StoreError as error:
            flight.error = error
            raise
        finally:
            with self._lock:
                del self._flights[(*key, scopes)]
            flight.landed.set()

    def _fetch(self, way: _Way, party: Party, credentials: Credentials, scopes: tuple[Scope, ...]) -> _Token:
        began = self._clock.monotonic()
        if credentials.identity_token:
            response = self._send(_post(way, credentials, scopes))
        else:
            response = self._send(_ask(way, credentials, scopes))
            if response.status in (404, 405) and credentials.password:
                response.close()  # a server that knows only OAuth2
                response = self._send(_post(way, credentials, scopes))
        try:
            body = _read(response)
            if response.status != 200:
                raise self._refused(response, body, way, party, credentials)
            fields = _fields(body, way)
        finally:
            response.close()
        text = _text_of(fields, way)
        life = _life(fields, response.headers.get("Date"), self._clock.wall())
        return _Token(text, scopes, began + life)

    def _refused(
        self, response: Response, body: bytes, way: _Way, party: Party, credentials: Credentials
    ) -> RegistryError:
        said = problem(body, response.headers.get("Content-Type") or "")
        words = f": {said.words!r}" if said.words else ""
        realm = shown_url(way.realm)
        denied = response.status in (401, 403) or (response.status == 400 and "invalid_grant" in said.codes)
        if denied and not credentials.is_anonymous:
            return AuthRequired(
                f"{party.host}: {realm} does not accept {_whose(credentials)} (HTTP {response.status}){words}",
                hint=f"correct them with `manyfest login {party.host}`",
                status=401,
                codes=said.codes,
            )
        if denied:
            source = f"; {credentials.source}" if credentials.source else ""
            return AuthRequired(
                f"{party.host}: {realm} gives no token without credentials (HTTP {response.status}){words}{source}",
                hint=f"`manyfest login {party.host}`; check the name too: it may not exist",
                status=401,
                codes=said.codes,
            )
        return RegistryError(
            f"{party.host}: the token server {realm} answered HTTP {response.status}{words}",
            hint="try again later" if response.status >= 500 or response.status == 429 else "",
            status=response.status,
            codes=said.codes,
        )


def _whose(credentials: Credentials) -> str:
    name = f" of user {printable(credentials.username, 80)!r}" if credentials.username else ""
    return f"the credentials{name} from {credentials.source}"


def _scopes_in(challenge: Challenge) -> list[Scope]:
    found = []
    for text in challenge.parameters.get("scope", "").split()[:20]:
        try:
            found.append(Scope.parse(text))
        except InputError:
            continue  # a registry's own kind of scope; the token server will not miss it
    return found


def _way(challenge: Challenge, url: str, party: Party) -> _Way:
    """Where the challenge sends us, checked: a password for an https registry never goes to an http realm."""
    if challenge.scheme == "basic":
        return _Way("basic")
    try:
        realm = urljoin(url, challenge.parameters.get("realm", "").strip())
        parts = urlsplit(realm)
        usable = bool(parts.hostname) and parts.scheme in ("http", "https") and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable or not challenge.parameters.get("realm") or not realm.isascii() or not realm.isprintable():
        raise RegistryError(
            f"{party.host}: expected the address of a token server in the challenge, got "
            f"{printable(challenge.parameters.get('realm', '').partition('?')[0], 80)!r}"
        )
    if parts.scheme != "https" and urlsplit(url).scheme == "https":
        raise RegistryError(
            f"{party.host}: the registry speaks https, but its token server {shown_url(realm)} is plain http; "
            "no credentials were sent there",
            hint="the registry's realm setting must be an https address",
        )
    return _Way("bearer", realm, challenge.parameters.get("service", ""))


def _ask(way: _Way, credentials: Credentials, scopes: tuple[Scope, ...]) -> Request:
    """The GET flow: the account in Basic, nothing for anybody."""
    query = [("service", way.service)] if way.service else []
    query += [("scope", str(scope)) for scope in scopes]
    headers = {"Accept": "application/json"}
    if credentials.password:
        headers["Authorization"] = credentials.basic
        query += [("account", credentials.username), ("client_id", CLIENT_ID)]
    address, _, _fragment = way.realm.partition("#")
    if query:
        address += ("&" if "?" in address else "?") + urlencode(query)
    return Request("GET", address, headers)


def _post(way: _Way, credentials: Credentials, scopes: tuple[Scope, ...]) -> Request:
    """The OAuth2 flow: an identity token, or the password where a server knows no other way."""
    form = {"client_id": CLIENT_ID, "service": way.service, "scope": " ".join(map(str, scopes))}
    if credentials.identity_token:
        form |= {"grant_type": "refresh_token", "refresh_token": credentials.identity_token}
    else:
        form |= {"grant_type": "password", "username": credentials.username, "password": credentials.password}
    headers = {"Accept": "application/json", "Content-Type": "application/x-www-form-urlencoded"}
    return Request("POST", way.realm.partition("#")[0], headers, urlencode(form).encode())


def _read(response: Response) -> bytes:
    body = b""
    while data := response.read(65536):
        body += data
        if len(body) > _MAX_TOKEN_BODY:
            raise RegistryError(f"{shown_url(response.url)}: a token of more than {_MAX_TOKEN_BODY} bytes")
    return body


def _fields(body: bytes, way: _Way) -> dict[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise RegistryError(f"{shown_url(way.realm)}: expected a token as JSON, got something else")
    return fields


def _text_of(fields: dict[str, Any], way: _Way) -> str:
    text = fields.get("token") or fields.get("access_token")
    if not isinstance(text, str):
        raise RegistryError(
            f"{shown_url(way.realm)}: expected token or access_token in the answer, got neither"
        )
    return _checked(text, shown_url(way.realm))


def _checked(text: str, source: str) -> str:
    """A token goes into a header: it may not bring a line of its own."""
    if not text.isascii() or not text.isprintable() or " " in text:
        raise RegistryError(f"{source}: a token with characters that no header may hold")
    return text


def _life(fields: dict[str, Any], date: str | None, wall: float) -> float:
    """Seconds a token is good for, less a margin; its age is told by the server's clock where we know it."""
    stated = fields.get("expires_in")
    known = isinstance(stated, int | float) and not isinstance(stated, bool) and stated > 0
    life = float(min(stated, 86400)) if known and stated is not None else _SHORTEST_S
    age = _seconds_between(fields.get("issued_at"), date, wall)
    if age > 0:
        life = max(life - age, min(life, _SHORTEST_S))
    return life - min(10.0, life / 10)


def _seconds_between(issued_at: object, date: str | None, wall: float) -> float:
    if not isinstance(issued_at, str):
        return 0.0
    from datetime import datetime
    from email.utils import parsedate_to_datetime

    try:
        now = parsedate_to_datetime(date).timestamp() if date else wall
        return now - datetime.fromisoformat(issued_at).timestamp()
    except (ValueError, TypeError, OverflowError):
        return 0.0
