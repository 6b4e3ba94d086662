# SPDX-License-Identifier: Apache-2.0
"""Names of images, read exactly as Docker reads them.

Grammar (https://pkg.go.dev/github.com/distribution/reference, whose words these are)::

    reference        ::= name [ ":" tag ] [ "@" digest ]
    name             ::= [ domain "/" ] path
    domain           ::= host [ ":" port ]
    host             ::= domain-component ( "." domain-component )* | "[" ipv6-address "]"
    domain-component ::= letters and digits of either case, with "-" inside
    path             ::= path-component ( "/" path-component )*      at most 255 characters
    path-component   ::= alphanumeric ( separator alphanumeric )*
    alphanumeric     ::= one or more of a-z 0-9
    separator        ::= "." | "_" | "__" | one or more "-"
    tag              ::= one of A-Z a-z 0-9 "_", then up to 127 of those or "." "-"
    digest           ::= "sha256:" 64 of 0-9 a-f | "sha384:" 96 | "sha512:" 128

The first component is a domain if it has a "." or ":" or an upper-case letter, or is ``localhost``; otherwise
the name belongs to ``docker.io``, where one component means ``library/``. ``index.docker.io`` is an old word
for it.

    >>> r = Reference.parse("app:1.2")
    >>> str(r), r.name, r.familiar, r.target
    ('docker.io/library/app:1.2', 'docker.io/library/app', 'app:1.2', '1.2')
    >>> Reference.parse("localhost:5000/acme/app").target
    'latest'
    >>> Reference.parse("acme/app:+2")
    Traceback (most recent call last):
    manyfest.errors.InvalidReference: 'acme/app:+2': character 10 is '+', expected a letter, digit or '_'
"""

from __future__ import annotations

import re

from manyfest.errors import InvalidReference
from manyfest.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["DEFAULT_DOMAIN", "DEFAULT_TAG", "MAX_PATH", "Reference", "is_tag"]

DEFAULT_DOMAIN = "docker.io"
"""Where names without a domain live."""

DEFAULT_TAG = "latest"
"""What a name without tag and digest means."""

MAX_PATH = 255
"""Characters in a repository's path."""

_MAX_TEXT = 2048  # Nothing valid comes near: a DNS name, a path, a tag and the longest digest are under 800.

_LEGACY_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"

# The words of the grammar. None of them can match one text in two ways, so matching is linear in its length.
_PORT = r"[0-9]+"
_DOMAIN_COMPONENT = r"[a-zA-Z0-9]+(?:-+[a-zA-Z0-9]+)*"
_IPV6_ADDRESS = r"\[[a-fA-F0-9:]+\]"
_HOST = rf"(?:{_DOMAIN_COMPONENT}(?:\.{_DOMAIN_COMPONENT})*|{_IPV6_ADDRESS})"
_DOMAIN = rf"{_HOST}(?::{_PORT})?"
_ALPHANUMERIC = r"[a-z0-9]+"
_SEPARATOR = r"(?:[._]|__|-+)"
_PATH_COMPONENT = rf"{_ALPHANUMERIC}(?:{_SEPARATOR}{_ALPHANUMERIC})*"
_PATH = rf"{_PATH_COMPONENT}(?:/{_PATH_COMPONENT})*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}
_DIGEST = "|".join(rf"{name}:[0-9a-f]{{{length}}}" for name, length in _DIGEST_LENGTHS.items())
_QUALIFIED = rf"({_DOMAIN})/({_PATH})(?::({_TAG}))?(?:@({_DIGEST}))?"
_IDENTIFIER = r"[0-9a-f]{64}"

_UPPER = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_TAG_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")


def is_tag(text: str) -> bool:
    """Is it a tag by itself? ``v1@sha256:…`` and ``app:v1`` are none.

    >>> is_tag("1.2-rc1"), is_tag("app:1.2"), is_tag("")
    (True, False, False)
    """
    return re.fullmatch(_TAG, text) is not None


class Reference(Value):
    """A fully qualified name; ``tag`` and ``digest`` are empty when absent, and both may be there.

    ``str()`` prints all of it and parses back to an equal value. Raises :class:`InvalidReference`.
    """

    __slots__ = ("domain", "path", "tag", "digest")  # noqa: RUF023 - the order in which they are written
    domain: str
    path: str
    tag: str
    digest: str

    def __init__(self, domain: str, path: str, tag: str = "", digest: str = "") -> None:
        domain, path = _canonical(domain, path)
        self._set(domain=domain, path=path, tag=tag, digest=digest)
        text = str(self)
        if not _is_domain(domain):
            raise InvalidReference(
                f"{_shown(text)}: {domain!r} is not a registry, expected a name with '.' or ':', or localhost"
            )
        found = _match(text)
        if found is None:
            _explain(text, text, len(domain) + 1, 0)
        if found != (domain, path, tag, digest):
            raise InvalidReference(
                f"{text!r}: its parts are mixed up, expected a domain, a path, a tag and a digest"
            )
        if len(path) > MAX_PATH:
            raise InvalidReference(
                f"{_shown(text)[:80]}…: the repository name has {len(path)} characters, expected at most {MAX_PATH}"
            )

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a name as people write it. Raises :class:`InvalidReference` naming the wrong character."""
        if not text:
            raise InvalidReference("an empty name, expected one such as ghcr.io/acme/app:1.2")
        if len(text) > _MAX_TEXT:
            raise InvalidReference(
                f"{_shown(text)[:80]}…: a name of {len(text)} characters, expected at most {_MAX_TEXT}"
            )
        if re.fullmatch(_IDENTIFIER, text):
            raise InvalidReference(
                f"{text!r}: 64 hexadecimal characters are an image's id, expected a name",
                hint="for content in a repository write NAME@sha256:…",
            )
        domain, rest = _split(text)
        found = _match(f"{domain}/{rest}")
        if found is None:
            _explain(text, f"{domain}/{rest}", len(domain) + 1, len(text) - len(domain) - 1 - len(rest))
        return cls(*found)

    @property
    def name(self) -> str:
        """The repository, fully qualified: ``docker.io/library/app``."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar(self) -> str:
        """As people write it: without ``docker.io/`` and ``library/`` where that reads back the same."""
        return self._short() + self._suffix()

    @property
    def target(self) -> str:
        """What to ask a registry for: the digest, else the tag, else ``latest``."""
        return self.digest or self.tag or DEFAULT_TAG

    def with_tag(self, tag: str) -> Reference:
        """Another tag of this repository. A digest is dropped: it said what the old tag was."""
        return Reference(self.domain, self.path, tag)

    def with_digest(self, digest: object) -> Reference:
        """Pinned to this digest (text, or anything that prints as one); the tag stays for people to read."""
        return Reference(self.domain, self.path, self.tag, str(digest))

    def without(self) -> Reference:
        """Only the repository."""
        return Reference(self.domain, self.path)

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def _short(self) -> str:
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        official, short = self.path.startswith(_OFFICIAL), self.path.removeprefix(_OFFICIAL)
        if official and "/" not in short:
            is_id = re.fullmatch(_IDENTIFIER, short) and not self._suffix()
            return self.name if is_id else short
        first = self.path.partition("/")[0]
        return self.name if _is_domain(first) else self.path

    def __str__(self) -> str:
        return self.name + self._suffix()


def _match(text: str) -> tuple[str, str, str, str] | None:
    found = re.fullmatch(_QUALIFIED, text)
    if found is None:
        return None
    domain, path, tag, digest = found.groups(default="")
    return domain, path, tag, digest


def _is_domain(word: str) -> bool:
    return word == "localhost" or "." in word or ":" in word or word.lower() != word


def _canonical(domain: str, path: str) -> tuple[str, str]:
    if domain == _LEGACY_DOMAIN:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = _OFFICIAL + path
    return domain, path


def _split(text: str) -> tuple[str, str]:
    """Domain and the rest with tag and digest, both completed."""
    first, slash, rest = text.partition("/")
    if not slash or not _is_domain(first):
        return _canonical(DEFAULT_DOMAIN, text)
    return _canonical(first, rest)


def _explain(text: str, full: str, start: int, shift: int) -> NoReturn:
    """Say which character breaks the grammar, counted from one in the text as it was given.

    ``full`` is the completed text, whose path begins at ``start``; ``shift`` is what to add to a position in
    its path to get the one in ``text``: negative when something was completed.
    """
    at, expected = _wrong_in_domain(full[: start - 1]) or _wrong_after_domain(full, start)
    if at >= start:
        at += shift
    what = f"character {at + 1} is {text[at]!r}" if at < len(text) else f"it ends after character {len(text)}"
    raise InvalidReference(f"{_shown(text)}: {what}, expected {expected}", hint=_hint(text, at))


def _shown(text: str) -> str:
    """Quoted, with whatever stands before an "@" in the address hidden: it may be a password."""
    before, at, after = text.rpartition("@")
    if at and ("/" in after or "://" in before):
        return repr(f"…@{after}")
    return repr(text)


def _hint(text: str, at: int) -> str:
    if "://" in text:
        return "write the name without the scheme, for example ghcr.io/acme/app:1"
    if text.strip() != text:
        return "there is white space around the name"
    if at < len(text) and text[at] in _UPPER:
        return "names of repositories are lower case"
    return "a name looks like ghcr.io/acme/app:1.2 or ghcr.io/acme/app@sha256:…"


def _wrong_in_domain(domain: str) -> tuple[int, str] | None:
    """Position and expectation, or ``None`` for a good domain."""
    if re.fullmatch(_DOMAIN, domain):
        return None
    at = _end(_HOST, domain, 0)
    if at == 0:
        return _wrong_host(domain)
    if domain.startswith(":", at):
        return _end(_PORT, domain, at + 1), "the digits of a port, then '/'"
    if domain[at] in ".-" and domain[0] != "[":
        return _end(r"\.|-+", domain, at), "a letter or digit"
    return at, "'.', '-', ':' or '/' after the host's letters and digits"


def _wrong_host(domain: str) -> tuple[int, str]:
    if not domain.startswith("["):
        return 0, "a letter, a digit or '['"
    return _end(r"\[[a-fA-F0-9:]*", domain, 0), "hexadecimal digits and ':' of an IPv6 address, then ']'"


def _wrong_after_domain(full: str, start: int) -> tuple[int, str]:
    at = _end(_PATH, full, start)
    if at == start:
        return at, "a lower-case letter or digit"
    if full.startswith(("/", ".", "_", "-"), at):
        return _end(r"/|\.|__?|-+", full, at), "a lower-case letter or digit"
    if full.startswith(":", at):
        start, at = at + 1, _end(_TAG, full, at + 1)
        if at == start:
            return at, "a letter, digit or '_'"
        if at < len(full) and full[at] in _TAG_CHARACTERS:
            return at, "the end of the tag, which has at most 128 characters"
        if not full.startswith("@", at):
            return at, "a letter, digit, '_', '.' or '-'"
    if full.startswith("@", at):
        return _wrong_in_digest(full, at + 1)
    return at, "a lower-case letter, digit, '.', '_', '-', '/', ':' or '@'"


def _wrong_in_digest(full: str, at: int) -> tuple[int, str]:
    algorithm, colon, _ = full[at:].partition(":")
    length = _DIGEST_LENGTHS.get(algorithm)
    if length is None or not colon:
        return at, "a digest: sha256:, sha384: or sha512: and hexadecimal digits"
    return _end(
        f"[0-9a-f]{{0,{length}}}", full, at + len(algorithm) + 1
    ), f"{length} of 0-9 a-f after {algorithm}:"


def _end(word: str, text: str, at: int) -> int:
    """Where ``word`` stops matching from ``at`` on; ``at`` itself when it does not match."""
    found = re.compile(word).match(text, at)
    return at if found is None else found.end()
