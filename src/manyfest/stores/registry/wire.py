# SPDX-License-Identifier: Apache-2.0
"""Reading what registries write: challenges, error bodies, links, ranges, dates. No I/O.

Everything here is hostile text: sizes are bounded, control characters never reach a message.

    >>> challenges(['Bearer realm="https://auth.example/token",service="registry.example"'])
    (Challenge(scheme='bearer', parameters={'realm': 'https://auth.example/token', 'service': 'registry.example'}),)
    >>> next_link('</v2/app/tags/list?last=b&n=2>; rel="next"')
    '/v2/app/tags/list?last=b&n=2'
    >>> parse_range("0-99")
    100

https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md, https://www.rfc-editor.org/rfc/rfc9110
(sections 5.6 and 11) and https://www.rfc-editor.org/rfc/rfc8288 (links).
"""

from __future__ import annotations

import json
import re

from manyfest.content.digest import Digest
from manyfest.errors import InputError, InvalidDigest, RegistryError
from manyfest.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from manyfest.stores.registry.transport import Headers

__all__ = [
    "Challenge",
    "Problem",
    "challenges",
    "content_digest",
    "follow_link",
    "is_count",
    "next_link",
    "origin",
    "parse_range",
    "printable",
    "problem",
    "resolve_location",
    "retry_after",
    "shown_url",
    "warning_text",
]

MAX_ERROR_BYTES = 64 * 1024
"""How much of an error body is read."""

MAX_WORDS = 300
"""How many characters of a registry's own words are quoted."""

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_TOKEN68 = r"[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))"
_QUOTED = r'"((?:[^"\\]|\\.)*)"'
_SPACES = r"[ \t]*"
_SEPARATORS = r"[ \t,]*"


class Challenge(Value):
    """One entry of ``WWW-Authenticate``; the scheme and the parameters' names in lower case."""

    __slots__ = ("parameters", "scheme")
    scheme: str
    parameters: dict[str, str]

    def __init__(self, scheme: str, parameters: dict[str, str]) -> None:
        self._set(scheme=scheme, parameters=parameters)

    def __hash__(self) -> int:
        return hash((self.scheme, *sorted(self.parameters.items())))

    def __repr__(self) -> str:
        return f"Challenge(scheme={self.scheme!r}, parameters={self.parameters!r})"


class Problem(Value):
    """An error body: the codes, the registry's own words (bounded, printable), and what kind of body it was."""

    __slots__ = ("codes", "is_html", "words")
    codes: tuple[str, ...]
    words: str
    is_html: bool

    def __init__(self, codes: tuple[str, ...] = (), words: str = "", is_html: bool = False) -> None:
        self._set(codes=codes, words=words, is_html=is_html)


def challenges(values: Iterable[str]) -> tuple[Challenge, ...]:
    """Every challenge in ``WWW-Authenticate`` headers, in order; what cannot be read ends that header.

    Accepts what registries really send: several challenges in one header, blanks around ``=``, a comma too many,
    single values without quotes.
    """
    found: list[Challenge] = []
    for value in values:
        found.extend(_challenges_in(value))
    return tuple(found)


def _challenges_in(value: str) -> list[Challenge]:
    found: list[Challenge] = []
    at = _skip(_SEPARATORS, value, 0)
    while at < len(value):
        match = _match(_WORD, value, at)
        if match is None:
            break
        at = match.end()
        challenge = Challenge(match[0].lower(), {})
        found.append(challenge)
        at = _skip(_SPACES, value, at)
        token = _match(_TOKEN68, value, at)
        if token is not None and at > match.end() and token[0] != "":
            at = _skip(_SEPARATORS, value, token.end())
            continue
        at = _parameters(value, at, challenge.parameters)
    return found


def _parameters(value: str, at: int, into: dict[str, str]) -> int:
    """Read ``name=value`` pairs until something that is not one: the next scheme, or the end."""
    while True:
        start = _skip(_SEPARATORS, value, at)
        name = _match(_WORD, value, start)
        if name is None:
            return start
        equals = _skip(_SPACES, value, name.end())
        if equals >= len(value) or value[equals] != "=":
            return start
        begin = _skip(_SPACES, value, equals + 1)
        quoted = _match(_QUOTED, value, begin)
        if quoted is not None:
            text, at = re.sub(r"\\(.)", r"\1", quoted[1]), quoted.end()
        else:
            end = value.find(",", begin)
            at = len(value) if end < 0 else end
            text = value[begin:at].strip().strip('"')
        into.setdefault(name[0].lower(), text)


def _match(pattern: str, value: str, at: int) -> re.Match[str] | None:
    # Compiled when first needed: most conversations of one request never see a challenge.
    return re.compile(pattern).match(value, at)


def _skip(pattern: str, value: str, at: int) -> int:
    match = _match(pattern, value, at)
    return at if match is None else match.end()


def problem(body: bytes, media_type: str = "") -> Problem:
    """Read an error body as the distribution specification words it, or as close as it comes."""
    text = body[:MAX_ERROR_BYTES].decode("utf-8", "replace").strip()
    if _is_html(text, media_type):
        title = re.search(r"<title[^>]*>([^<]{1,300})", text[:4096], re.IGNORECASE)
        return Problem((), printable(title[1]) if title else "", is_html=True)
    try:
        fields = json.loads(text) if text else None
    except (ValueError, RecursionError):
        return Problem((), printable(text))
    return _from_json(fields)


def _is_html(text: str, media_type: str) -> bool:
    start = text[:200].lower()
    return "html" in media_type.lower() or start.startswith(("<!doctype html", "<html", "<head"))


def _from_json(fields: object) -> Problem:
    if not isinstance(fields, dict):
        return Problem((), printable(fields) if isinstance(fields, str) else "")
    entries = fields.get("errors")
    if isinstance(entries, list):
        known = [entry for entry in entries[:10] if isinstance(entry, dict)]
        codes = tuple(printable(e["code"]) for e in known if isinstance(e.get("code"), str))
        return Problem(codes, printable("; ".join(filter(None, map(_words_of, known)))))
    # Token servers speak OAuth2 (RFC 6749, 5.2), some registries {"details": …} or {"message": …}.
    code = fields.get("error") if isinstance(fields.get("error"), str) else fields.get("code")
    for key in ("error_description", "details", "message", "detail"):
        if isinstance(fields.get(key), str):
            return Problem((printable(code),) if isinstance(code, str) else (), printable(fields[key]))
    return Problem((printable(code),) if isinstance(code, str) else ())


def _words_of(entry: dict[str, object]) -> str:
    message, detail = entry.get("message"), entry.get("detail")
    parts = [message] if isinstance(message, str) else []
    if isinstance(detail, str) and detail != message:
        parts.append(detail)
    return ": ".join(parts)


def printable(text: str, limit: int = MAX_WORDS) -> str:
    """Foreign text as one bounded line without control or direction-changing characters."""
    start = " ".join(text[: limit * 4].split())
    clean = "".join(c if c.isprintable() else "?" for c in start)
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def next_link(value: str | None) -> str | None:
    """The target of the ``rel="next"`` link, as written, or ``None``."""
    for target, parameters in re.findall(r"<([^>]*)>([^<]*)", (value or "")[:8192]):
        relation = re.search(r';\s*rel\s*=\s*"?([^";,]*)', parameters, re.IGNORECASE)
        if relation is not None and "next" in relation[1].lower().split():
            return str(target).strip()
    return None


def follow_link(base: str, target: str, host: str = "") -> str:
    """Resolve the target of a ``Link`` header against the URL it came from.

    Raises :class:`~manyfest.errors.RegistryError` when it leaves the host: a page of a listing has no reason to.
    """
    try:
        url = _joined(base, target)
        elsewhere = origin(url) != origin(base)
        usable = _is_plain(url)
    except (ValueError, InputError):
        usable = False
    if not usable:
        raise RegistryError(
            f"{_place(base, host)}: the next page is said to be at {_quoted(target)}, which is no address"
        )
    if elsewhere:
        raise RegistryError(
            f"{_place(base, host)}: the next page is said to be at {shown_url(url)}, which is another host",
            hint="the registry, or a proxy before it, is set up with a wrong external address",
        )
    return url


def resolve_location(base: str, target: str | None, host: str = "") -> str:
    """Resolve a ``Location`` against the URL it came from.

    Raises :class:`~manyfest.errors.RegistryError` when there is none, when it is no http or https URL, or when it
    leads from https to plain http.
    """
    if not target:
        raise RegistryError(f"{_place(base, host)}: the answer has no Location header")
    try:
        url = _joined(base, target.strip())
        scheme = origin(url)[0]
        usable = _is_plain(url)
    except (ValueError, InputError):
        usable = False
    if not usable:
        raise RegistryError(
            f"{_place(base, host)}: expected an http or https address in Location, got {_quoted(target)}"
        )
    if scheme == "http" and origin(base)[0] == "https":
        raise RegistryError(
            f"{_place(base, host)}: sent on from https to plain http ({shown_url(url)}), which is refused",
            hint="a proxy before the registry probably does not pass on X-Forwarded-Proto",
        )
    return url


def _joined(base: str, target: str) -> str:
    """``target`` as seen from ``base`` (RFC 3986, 5.2), which has a path.

    What registries send is a whole address or a path from the root: those need no :mod:`urllib`, whose import would be
    2 ms between opening an upload and its first byte.
    """
    if _is_plain(target) and "/." not in target and not target.endswith("?") and "#" not in target:
        if target.startswith(("http://", "https://")):
            return target
        if target.startswith("/") and not target.startswith("//"):
            scheme, _, rest = base.partition("://")
            return f"{scheme}://{rest.partition('/')[0]}{target}"
    from urllib.parse import urljoin

    return urljoin(base, target)


def _is_plain(url: str) -> bool:
    """May it stand in a request line? Everything else has to come percent-encoded (RFC 3986)."""
    return url.isascii() and not any(c <= " " or c == "\x7f" for c in url)


def _place(base: str, host: str) -> str:
    return f"{host}: {shown_url(base)}" if host else shown_url(base)


def _quoted(target: str) -> str:
    return repr(printable(target.partition("?")[0], 80))


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port: what two URLs must share before one gets the other's credentials.

    Split as the transport splits it, which decides where a request goes. Raises
    :class:`~manyfest.errors.InputError` for what it would not send to.
    """
    from manyfest.stores.registry.transport import Target

    target = Target.parse(url)
    return target.scheme, target.host, target.port or (443 if target.scheme == "https" else 80)


def shown_url(url: str) -> str:
    """A URL fit for messages: no user, no query (both carry secrets, signed storage addresses above all)."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "(not a URL)"
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    shown = f"{parts.scheme}://{host}{port}{parts.path}" if parts.scheme else parts.path
    return printable(shown)


def is_count(text: str) -> bool:
    """Is it a number of bytes in digits, and of a size that content can have (below a terabyte)?"""
    return text.isascii() and text.isdigit() and len(text) < 13


def parse_range(value: str | None) -> int | None:
    """The number of bytes a registry says it has (``Range: 0-99`` or ``bytes=0-99`` is 100), or ``None``.

    ``0-0`` is what registries answer both for nothing and for one byte; it counts as nothing, which at worst sends
    one byte again.
    """
    match = re.fullmatch(r"(?:bytes[= ])?0-(\d{1,18})", (value or "").strip())
    if match is None:
        return None
    last = int(match[1])
    return last + 1 if last else 0


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds to wait, from whole or fractional seconds, ``250ms`` or an HTTP date; ``now`` is Unix time."""
    text = (value or "").strip()
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?) ?(ms|s)?", text)
    if match is not None:
        return float(match[1]) / (1000 if match[2] == "ms" else 1)
    if not text:
        return None
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


def warning_text(value: str) -> str | None:
    """The text of one ``Warning: 299 - "text"`` header (distribution-spec 1.1, "Warnings"), or ``None``."""
    match = re.match(r'\s*299\s+\S+\s+"((?:[^"\\]|\\.)*)"', value)
    return None if match is None else printable(re.sub(r"\\(.)", r"\1", match[1]))


def content_digest(headers: Headers) -> Digest | None:
    """The digest in ``Docker-Content-Digest``, or ``None`` when the header is missing.

    Raises :class:`~manyfest.errors.RegistryError` when it is not a digest.
    """
    value = headers.get("Docker-Content-Digest")
    if not value:
        return None
    try:
        return Digest.parse(value.strip())
    except InvalidDigest as error:
        raise RegistryError(
            f"the registry's Docker-Content-Digest is not a digest: {printable(str(error))}"
        ) from error
