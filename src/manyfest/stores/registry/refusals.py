# SPDX-License-Identifier: Apache-2.0
"""What an answer nobody expected means: from a status and an error body to the error tree. No I/O.

The registry's own words are quoted as such, bounded and printable; a URL is shown without its query, which may hold a
signature.
"""

from __future__ import annotations

from manyfest.errors import (
    AuthRequired,
    Forbidden,
    NotFound,
    RateLimited,
    RegistryError,
    Unsupported,
)
from manyfest.stores.registry.wire import shown_url

TYPE_CHECKING = False
if TYPE_CHECKING:
    from manyfest.errors import StoreError
    from manyfest.stores.registry.wire import Problem

__all__ = ["refusal"]

_MEANINGS = {
    400: "the registry does not accept the request",
    401: "authentication is required",
    403: "not allowed",
    404: "not found",
    405: "the registry does not support this",
    413: "too large for the registry, or for a proxy before it",
    429: "too many requests",
}


def refusal(
    host: str,
    method: str,
    url: str,
    status: int,
    problem: Problem,
    *,
    who: str = "",
    wait_s: float | None = None,
) -> StoreError:
    """The error for an unexpected status; ``who`` says whose credentials were used, ``wait_s`` what a 429 asked for."""
    message = f"{method} {shown_url(url)}: {_meaning(status)} (HTTP {status}){_words(problem)}"
    if status == 401:
        return _auth_required(host, message, problem, who)
    if status == 403:
        hint = f"it was asked with {who}" if who else "the credentials in use do not allow it"
        return Forbidden(
            message,
            hint=f"{hint}; `manyfest login {host}` gives others",
            status=status,
            codes=problem.codes,
        )
    if status == 429:
        return RateLimited(message, hint=_patience(host, wait_s), status=status, codes=problem.codes)
    if status == 404 and not problem.is_html:
        return NotFound(message)
    if status == 405 or "UNSUPPORTED" in problem.codes:
        return Unsupported(message)
    return RegistryError(message, hint=_hint(host, status, problem), status=status, codes=problem.codes)


def _auth_required(host: str, message: str, problem: Problem, who: str) -> AuthRequired:
    said = f"; {who}" if who else ""
    return AuthRequired(
        f"{message}{said}",
        hint=f"`manyfest login {host}`; check the name too: many registries answer so for what does not exist",
        status=401,
        codes=problem.codes,
    )


def _meaning(status: int) -> str:
    if status in _MEANINGS:
        return _MEANINGS[status]
    if 300 <= status < 400:
        return "sent on elsewhere, which is followed for reading only"
    return "the registry failed" if status >= 500 else "not the expected answer"


def _words(problem: Problem) -> str:
    codes = ", ".join(problem.codes[:3])
    if problem.is_html:
        return f"; it answered with an HTML page{f' titled {problem.words!r}' if problem.words else ''}"
    if codes and problem.words:
        return f"; it says {codes}: {problem.words!r}"
    return f"; it says {codes or repr(problem.words)}" if codes or problem.words else ""


def _hint(host: str, status: int, problem: Problem) -> str:
    if problem.is_html:
        return f"{host} does not look like a registry, or a proxy or a log-in page is in between"
    if status >= 500:
        return "try again later; the registry's operator can find the reason in its log"
    return ""


def _patience(host: str, wait_s: float | None) -> str:
    when = f"it asks to wait {wait_s:.0f} s" if wait_s else "try again later"
    return f"{when}; logged-in users often have a higher limit: `manyfest login {host}`"
