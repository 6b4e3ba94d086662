# SPDX-License-Identifier: Apache-2.0
"""The conversation with registries, shared by every repository of a process.

A session knows how to get one request through: it asks mirrors first where that is wanted, answers challenges
(:mod:`.auth`), follows redirects of reads, tries again what is temporary (:mod:`.retry`) and turns every other answer
into the error tree (:mod:`.refusals`). What the requests mean is the client's business, how bytes travel the
transport's.

Rules for redirects: at most :data:`MAX_REDIRECTS`, for GET and HEAD only, never from https to plain http, and
``Authorization`` and cookies go to the origin (scheme, host, port) they were made for and nowhere else.
"""

from __future__ import annotations

import os
import re
from _thread import allocate_lock

from manyfest.errors import NotFound, RegistryError, StoreError, TooLarge, Unreachable
from manyfest.stores.registry.hosts import Hosts
from manyfest.stores.registry.retry import ATTEMPTS, Clock, Patience
from manyfest.stores.registry.scopes import Party, Scope
from manyfest.stores.registry.transport import Request, Response
from manyfest.stores.registry.wire import (
    MAX_ERROR_BYTES,
    Problem,
    challenges,
    follow_link,
    next_link,
    origin,
    problem,
    resolve_location,
    retry_after,
    shown_url,
    warning_text,
)
from manyfest.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from manyfest.stores.base import Opener
    from manyfest.stores.registry.auth import Authenticator
    from manyfest.stores.registry.hosts import HostPolicy
    from manyfest.stores.registry.mirrors import Endpoint, Mirrors
    from manyfest.stores.registry.settings import Settings
    from manyfest.stores.registry.transport import Transport

__all__ = ["MAX_REDIRECTS", "Scope", "Session"]

MAX_REDIRECTS = 5

BRIEF_S = 2.0
"""Seconds that a registry may be silent when it is asked in passing."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization"})
_MAX_WARNINGS = 20


class _Call(Value):
    """What one ``send`` was asked for, apart from where it goes."""

    __slots__ = ("body", "expect", "headers", "idempotent", "length", "method", "scopes", "timeout_s")
    method: str
    scopes: tuple[Scope, ...]
    headers: Mapping[str, str]
    body: bytes | Opener | None
    length: int | None
    expect: tuple[int, ...]
    idempotent: bool
    timeout_s: float | None

    def __init__(
        self,
        method: str,
        *,
        scopes: tuple[Scope, ...] = (),
        headers: Mapping[str, str] | None = None,
        body: bytes | Opener | None = None,
        length: int | None = None,
        expect: tuple[int, ...] = (200,),
        idempotent: bool = True,
        timeout_s: float | None = None,
    ) -> None:
        self._set(
            method=method,
            timeout_s=timeout_s,
            scopes=scopes,
            headers=headers or {},
            body=body,
            length=length,
            expect=expect,
            idempotent=idempotent,
        )


class Session:
    """Connections, tokens, retries and mirrors. Thread-safe; a context manager; ``close`` may be called twice.

    A ``transport`` given is the caller's to close as well as ours; ``clock`` is for tests.
    """

    def __init__(
        self, settings: Settings, transport: Transport | None = None, *, clock: Clock | None = None
    ) -> None:
        self.settings = settings
        self._hosts = Hosts(settings)
        self._clock = clock or Clock()
        self._transport = transport or self._own_transport()
        self._authenticator: Authenticator | None = None
        self._lock = allocate_lock()
        self._shown: set[str] = set()
        self._mirrors: Mirrors | None = None
        self._ways: dict[tuple[str, str, bool], tuple[Endpoint, ...]] = {}
        self._own: dict[tuple[str, str], HostPolicy] = {}
        self._dead: set[str] = set()

    def send(
        self,
        host: str,
        method: str,
        path_or_url: str,
        *,
        scopes: tuple[Scope, ...] = (),
        headers: Mapping[str, str] | None = None,
        body: bytes | Opener | None = None,
        length: int | None = None,
        expect: tuple[int, ...] = (200,),
        idempotent: bool | None = None,
        reading: bool = False,
        brief: bool = False,
    ) -> Response:
        """Send one request and give the answer, whose status is in ``expect``; the caller reads and closes it.

        ``host`` is the registry's name as in a reference ("docker.io", "localhost:5000"), ``path_or_url``
        "/v2/…" or an absolute URL (from :meth:`location` or :meth:`next_page`). ``scopes`` are what a token must
        allow. A ``body`` that is an opener is opened at 0 for every attempt and closed here; ``length`` is its bytes.
        ``idempotent=None`` is true for every method but POST and PATCH. ``reading=True`` may ask mirrors first.
        ``brief=True`` is for what matters little: one attempt, which may take :data:`BRIEF_S`.

        Raises what :func:`~manyfest.stores.registry.refusals.refusal` makes of any other status
        (:class:`~manyfest.errors.NotFound`, :class:`~manyfest.errors.AuthRequired`, …),
        :class:`~manyfest.errors.Unreachable` when there is no answer, and
        :class:`~manyfest.errors.InputError` when the stored credentials cannot be understood.
        """
        call = _Call(
            method,
            scopes=scopes,
            headers=headers,
            body=body,
            length=length,
            expect=expect,
            idempotent=method not in ("POST", "PATCH") if idempotent is None else idempotent,
            timeout_s=BRIEF_S if brief else None,
        )
        if path_or_url.startswith("/"):
            return self._send_path(host, path_or_url, call, reading=reading)
        attempts = 1 if brief else ATTEMPTS
        return self._finish(call, self._party_of(host, path_or_url), path_or_url, attempts=attempts)

    def interrupt(self) -> None:
        """See :meth:`~manyfest.stores.registry.transport.Transport.interrupt`."""
        self._transport.interrupt()

    def location(self, host: str, response: Response) -> str:
        """The absolute URL in the ``Location`` of an answer, for the next :meth:`send` to ``host``.

        Raises :class:`~manyfest.errors.RegistryError` when there is none or it leads from https to plain http.
        """
        return resolve_location(response.url, response.headers.get("Location"), host)

    def next_page(self, host: str, response: Response) -> str | None:
        """The URL of the next page (``Link: <…>; rel="next"``), ``None`` on the last one.

        Raises :class:`~manyfest.errors.RegistryError` when it is on another host.
        """
        for value in response.headers.get_all("Link"):
            target = next_link(value)
            if target is not None:
                return follow_link(response.url, target, host)
        return None

    def read(self, response: Response, limit: int) -> bytes:
        """The whole body, and the response closed.

        Raises :class:`~manyfest.errors.TooLarge` as soon as there are more than ``limit`` bytes.
        """
        try:
            body, whole = _read_up_to(response, limit)
        finally:
            response.close()
        if not whole:
            raise TooLarge(f"{shown_url(response.url)}: an answer of more than {limit} bytes")
        return body

    def warm(self, host: str, count: int) -> None:
        """A hint that ``count`` requests to ``host`` will follow soon; connections open meanwhile."""
        self._transport.warm(self._hosts.policy(host).base, count)

    def close(self) -> None:
        """Close every connection."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Session({self._transport!r})"

    def _own_transport(self) -> Transport:
        from manyfest.stores.registry.transport import HTTPTransport

        return HTTPTransport(self._hosts, timeout_s=self.settings.timeout_s)

    def _auth(self) -> Authenticator:
        """Made, and imported, for the first challenge: many reads never see one."""
        from manyfest.stores.registry.auth import Authenticator
        from manyfest.stores.registry.credentials import Keychain

        with self._lock:
            if self._authenticator is None:
                mine = self.settings
                keychain = Keychain(
                    mine.docker_config, username=mine.username or "", password=mine.password or ""
                )
                self._authenticator = Authenticator(self._ask_token_server, keychain, self._clock)
            return self._authenticator

    # One request, until it has an answer.

    def _converse(self, call: _Call, party: Party, url: str, patience: Patience) -> tuple[Response, Party]:
        """The answer after challenge and redirects, whatever its status, and who gave it."""
        known = self._authenticator
        value = None if known is None else known.header(party, call.scopes)
        challenged = False
        redirects = 0
        while True:
            response = patience.run(self._attempt(call, url, value), idempotent=call.idempotent)
            if response.status == 401 and not challenged:
                challenged = True
                better = self._answer(call, party, response, value)
                if better is None:
                    return response, party
                response.close()
                value = better
                continue
            if not _is_redirect(call, response):
                return response, party
            redirects += 1
            target = _next_hop(response, redirects)
            if origin(target) != origin(response.url):
                # The target is a party of its own: it gets no header made for another, and may ask again.
                call = call.replace(headers=_without_secrets(call.headers))
                party, value, challenged = _stranger(target), None, False
            url = target

    def _answer(self, call: _Call, party: Party, response: Response, rejected: str | None) -> str | None:
        asked = challenges(response.headers.get_all("WWW-Authenticate"))
        try:
            return self._auth().answer(party, asked, response.url, call.scopes, rejected)
        except BaseException:
            response.close()
            raise

    def _attempt(self, call: _Call, url: str, value: str | None) -> _Attempt:
        headers = dict(call.headers)
        if value is not None:
            headers["Authorization"] = value
        return _Attempt(self._transport, call, url, headers)

    def _ask_token_server(self, request: Request) -> Response:
        """One request of the authenticator's; a redirect is followed without its credentials."""
        call = _Call(request.method, headers=request.headers, body=request.body)  # type: ignore[arg-type]
        url, headers = request.url, request.headers
        patience = Patience(self.settings.deadline_s, self._clock)
        redirects = 0
        while True:
            response = patience.run(_Attempt(self._transport, call, url, headers), idempotent=True)
            if not _is_redirect(call, response):
                return response
            redirects += 1
            target = _next_hop(response, redirects)
            if origin(target) != origin(response.url):
                headers = _without_secrets(headers)
            url = target

    # What became of it.

    def _refusal(self, call: _Call, party: Party, answering: Party, response: Response) -> StoreError:
        from manyfest.stores.registry.refusals import refusal

        return refusal(
            party.host,
            call.method,
            response.url,
            response.status,
            self._problem(response),
            who=self._auth().who(answering, call.scopes) if response.status in (401, 403) else "",
            wait_s=retry_after(response.headers.get("Retry-After"), self._clock.wall()),
        )

    def _problem(self, response: Response) -> Problem:
        """The error body, as far as it can be read."""
        try:
            body, _ = _read_up_to(response, MAX_ERROR_BYTES)
        except StoreError:
            body = b""  # cut in the middle of the excuse: the status says enough
        finally:
            response.close()
        return problem(body, response.headers.get("Content-Type") or "")

    def _show_warnings(self, party: Party, response: Response) -> None:
        if self.settings.on_warning is None:
            return
        for value in response.headers.get_all("Warning")[:_MAX_WARNINGS]:
            text = warning_text(value)
            if text is not None:
                self._show(f"{party.host}: {text}")

    def _show(self, line: str) -> None:
        """Once in the life of a session."""
        with self._lock:
            new = line not in self._shown
            self._shown.add(line)
        if new and self.settings.on_warning is not None:
            self.settings.on_warning(line)

    # Where it goes.

    def _send_path(self, host: str, path: str, call: _Call, *, reading: bool) -> Response:
        place = re.fullmatch(r"/v2/(.+)/((manifests|blobs|tags|referrers)/[^?]*(?:\?.*)?)", path)
        policy = self._hosts.policy(host)
        if place is None:
            return self._send_to(host, policy, path, call)
        repository, rest, kind = place.groups()
        if not self._has_other_places(policy):
            return self._send_to(host, policy, path, call)
        *mirrors, own = self._endpoints(host, repository, digest=":" in rest)
        if reading and kind in ("manifests", "blobs"):
            for mirror in mirrors:
                response = self._from_mirror(
                    host, mirror, rest, _renamed(call, repository, mirror.repository)
                )
                if response is not None:
                    return response
        renamed = _renamed(call, repository, own.repository)
        return self._send_to(host, own.policy, f"/v2/{own.repository}/{rest}", renamed)

    def _send_to(self, host: str, policy: HostPolicy, path: str, call: _Call) -> Response:
        url = policy.base + path
        party = Party(policy.host, policy.credentials)
        with self._lock:
            self._own[host, policy.endpoint] = policy
        return self._finish(call, party, url)

    def _party_of(self, host: str, url: str) -> Party:
        """Whose credentials an absolute URL may have: the registry's if it is the registry's, else nobody's."""
        with self._lock:
            mine = [policy for (name, _), policy in self._own.items() if name == host]
        for policy in (*mine, self._hosts.policy(host)):
            if _is_ours(url, policy):
                return Party(policy.host, policy.credentials)
        return _stranger(url)

    def _has_other_places(self, policy: HostPolicy) -> bool:
        """May some file say that repositories are (also) elsewhere?"""
        if policy.mirrors or "docker" in self._hosts.config:
            return True
        return any(map(os.path.exists, self.settings.registries_conf))

    def _endpoints(self, host: str, repository: str, *, digest: bool) -> tuple[Endpoint, ...]:
        key = (host, repository, digest)
        found = self._ways.get(key)
        if found is None:
            from manyfest.stores.registry.mirrors import Mirrors

            self._mirrors = self._mirrors or Mirrors(self._hosts)
            found = self._ways[key] = self._mirrors.endpoints(host, repository, digest=digest)
        return found

    def _from_mirror(self, host: str, mirror: Endpoint, rest: str, call: _Call) -> Response | None:
        """A mirror's answer; ``None`` when the next place is to be asked."""
        name = mirror.policy.host
        if name in self._dead:
            return None
        # What a mirror does not have may still be at the registry, so its 404 is not an answer.
        asked = call.replace(expect=tuple(status for status in call.expect if status != 404))
        url = f"{mirror.policy.base}/v2/{mirror.repository}/{rest}"
        try:
            return self._finish(asked, Party(name, mirror.policy.credentials, mirror=True), url, attempts=1)
        except NotFound:
            return None
        except StoreError as error:
            if isinstance(error, Unreachable):
                self._dead.add(name)
            self._show(f"mirror {name} of {host}: {error}; asking the next place")
            return None

    def _finish(self, call: _Call, party: Party, url: str, *, attempts: int = ATTEMPTS) -> Response:
        patience = Patience(self.settings.deadline_s, self._clock, attempts=attempts)
        response, answering = self._converse(call, party, url, patience)
        self._show_warnings(party, response)
        if response.status in call.expect:
            return response
        raise self._refusal(call, party, answering, response)


class _Attempt:
    """Sends the same request each time it is called, with its body from the start."""

    def __init__(self, transport: Transport, call: _Call, url: str, headers: Mapping[str, str]) -> None:
        self._transport = transport
        self._call = call
        self._url = url
        self._headers = headers

    def __call__(self) -> Response:
        call = self._call
        if call.body is None or isinstance(call.body, bytes):
            return self._transport.send(
                Request(call.method, self._url, self._headers, call.body, call.length, call.timeout_s)
            )
        stream = call.body(0)
        try:
            return self._transport.send(
                Request(call.method, self._url, self._headers, stream, call.length, call.timeout_s)
            )
        finally:
            stream.close()


def _is_ours(url: str, policy: HostPolicy) -> bool:
    """Does an absolute URL belong to the registry itself? Only then does it get the registry's credentials."""
    return origin(url) in {origin(policy.base), *(origin(f"{s}://{policy.endpoint}") for s in policy.schemes)}


def _renamed(call: _Call, repository: str, name: str) -> _Call:
    """The same call where the repository goes by another name."""
    if repository == name:
        return call
    scopes = (s.replace(name=name) if s.name == repository else s for s in call.scopes)
    return call.replace(scopes=tuple(scopes))


def _is_redirect(call: _Call, response: Response) -> bool:
    return (
        response.status in _REDIRECTS
        and response.status not in call.expect
        and call.method in ("GET", "HEAD")
    )


def _next_hop(response: Response, redirects: int) -> str:
    """Where a redirect leads; the response is closed."""
    response.close()
    if redirects > MAX_REDIRECTS:
        raise RegistryError(
            f"{shown_url(response.url)}: sent on more than {MAX_REDIRECTS} times",
            status=response.status,
            hint="the registry, or a proxy before it, sends requests round in circles",
        )
    return resolve_location(response.url, response.headers.get("Location"))


def _stranger(url: str) -> Party:
    scheme, host, port = origin(url)
    usual = 443 if scheme == "https" else 80
    return Party(host if port == usual else f"{host}:{port}", anonymous=True)


def _without_secrets(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _SECRET_HEADERS}


def _read_up_to(response: Response, limit: int) -> tuple[bytes, bool]:
    """At most ``limit`` bytes of a body, and whether that was all of it."""
    parts: list[bytes] = []
    left = limit + 1
    while left > 0:
        data = response.read(min(left, 65536))
        if not data:
            return b"".join(parts), True
        parts.append(data)
        left -= len(data)
    return b"".join(parts)[:limit], False
