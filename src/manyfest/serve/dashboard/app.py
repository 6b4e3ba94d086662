# SPDX-License-Identifier: Apache-2.0
"""The dashboard's few pages: read-only, nothing from elsewhere, and only for those who may see it.

1. Only GET and HEAD; there is nothing to change.
2. The Host header must be an address, ``localhost`` or this machine's name: a stranger's page that makes its own name
   point here (DNS rebinding) gets nothing.
3. With a token, it is asked for: once in the address, from then on in a cookie that scripts and other sites cannot use.
4. No other site may read, frame or embed what is here, and the page may load nothing from anywhere else.

https://www.w3.org/TR/CSP3/
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import secrets
import threading
from importlib import resources
from typing import TYPE_CHECKING

from manyfest.serve.dashboard.events import follow
from manyfest.serve.exchange import Response, Stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manyfest.serve.dashboard.state import Board
    from manyfest.serve.exchange import Request

__all__ = ["DashboardApp", "is_loopback", "new_token"]

_PLACE = b'id="state">null</script>'

STREAMS = 64
"""Pages that are kept up to date at once."""

_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/script.js": ("script.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}


def new_token() -> str:
    """Nobody guesses it."""
    return secrets.token_urlsafe(24)


def is_loopback(host: str) -> bool:
    """Can only this machine reach what listens there?"""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class DashboardApp:
    """Serves a board. ``token`` empty: everybody who reaches it may look. ``names``: host names it goes by."""

    def __init__(self, board: Board, *, token: str = "", names: tuple[str, ...] = ()) -> None:
        self._board = board
        self._token = token
        # Cookies do not know ports: two dashboards on one machine need two names.
        self._cookie = f"manyfest-{hashlib.sha256(token.encode()).hexdigest()[:12]}"
        self._names = {"localhost", *(name.lower() for name in names if name)}
        self._streams = threading.Semaphore(STREAMS)
        page = resources.files(__package__) / "page"
        self._files = {path: ((page / name).read_bytes(), kind) for path, (name, kind) in _FILES.items()}

    def handle(self, request: Request, /) -> Response:
        """One answer, with the headers that all have."""
        response = self._answer(request)
        response.headers = {**_HEADERS, **response.headers}
        return response

    def _answer(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            return _said(405, "There is nothing to change here.", {"Allow": "GET, HEAD"})
        if not self._is_named(request.headers.get("host")):
            return _said(421, "This dashboard does not go by that name; use its address, or localhost.")
        if self._token:
            given = request.query.get("token", "")
            if given and request.path == "/" and _same(given, self._token):
                return self._let_in(request)
            if not self._knows(request.headers.get("cookie")):
                return _said(401, "Open the address that manyfest dashboard printed: it has the token.")
        if request.path == "/events":
            return self._events(request)
        if request.path == "/state.json":
            return Response.json(200, self._board.snapshot())
        if request.path not in self._files:
            return _said(404, "There is no such page.")
        content, kind = self._files[request.path]
        if request.path == "/":
            content = content.replace(_PLACE, self._state(), 1)
        return Response(200, {"Content-Type": kind}, content)

    def _state(self) -> bytes:
        """For the page itself; no text of a stranger ends the element that it stands in."""
        state = json.dumps(self._board.snapshot(), separators=(",", ":"))
        return b'id="state">' + state.replace("<", "\\u003c").encode() + b"</script>"

    def _is_named(self, host: str) -> bool:
        name = host.lower()
        name = name[1:].partition("]")[0] if name.startswith("[") else name.rpartition(":")[0] or name
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _let_in(self, request: Request) -> Response:
        """The token leaves the address bar, where it would be seen and kept in the history."""
        secure = "; Secure" if request.scheme == "https" else ""
        cookie = f"{self._cookie}={self._token}; Path=/; HttpOnly; SameSite=Strict{secure}"
        return Response(303, {"Location": "/", "Set-Cookie": cookie})

    def _knows(self, cookies: str) -> bool:
        for part in cookies.split(";"):
            name, _, value = part.strip().partition("=")
            if name == self._cookie and _same(value, self._token):
                return True
        return False

    def _events(self, request: Request) -> Response:
        headers = {"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
        if request.method == "HEAD":
            return Response(200, headers)
        if not self._streams.acquire(blocking=False):
            return _said(503, f"{STREAMS} pages are open already.", {"Retry-After": "10"})
        return Response(200, headers, _Kept(follow(self._board), self._streams))


class _Kept(Stream):
    """A stream that gives its place back, begun or not."""

    __slots__ = ("_places",)

    def __init__(self, pieces: Iterator[bytes], places: threading.Semaphore) -> None:
        super().__init__(pieces)
        self._places: threading.Semaphore | None = places

    def close(self) -> None:
        super().close()
        places, self._places = self._places, None
        if places is not None:
            places.release()


def _same(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), token.encode())


def _said(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    return Response(
        status, {"Content-Type": "text/plain; charset=utf-8", **(headers or {})}, f"{text}\n".encode()
    )
