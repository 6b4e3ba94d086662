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

The first component is a domain if it has a "." or ":" or an upper-case letter, or is ``localhost``; otherwise the name
belongs to ``docker.io``, where a single component means ``library/``. ``index.docker.io`` is an old word for it.

    >>> r = Reference.parse("app:1.2")
    >>> str(r), r.name, r.familiar, r.target
    ('docker.io/library/app:1.2', 'docker.io/library/app', 'app:1.2', '1.2')
    >>> Reference.parse("localhost:5000/acme/app").target
    'latest'
    >>> Reference.parse("acme/app:1+2")
    Traceback (most recent call last):
    manyfest.errors.InvalidReference: 'acme/app:1+2': character 11 is '+', expected a letter, digit, '_', '.' or '-'
"""

from __future__ import annotations

import re

from manyfest.errors import InvalidReference
from manyfest.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["DEFAULT_DOMAIN", "DEFAULT_TAG", "MAX_PATH", "Reference"]

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

_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_UPPER = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_HEX = frozenset("0123456789abcdef")
_TAG_START = _LOWER | _UPPER | {"_"}
_TAG_CHARACTER = _TAG_START | {".", "-"}


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
                f"{text!r}: {domain!r} is not a registry, expected a name with '.' or ':', or localhost"
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
                f"{text[:80]!r}…: the repository name has {len(path)} characters, expected at most {MAX_PATH}"
            )

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a name as people write it. Raises :class:`InvalidReference`, saying which character is wrong."""
        if not text:
            raise InvalidReference("an empty name, expected one such as ghcr.io/acme/app:1.2")
        if len(text) > _MAX_TEXT:
            raise InvalidReference(
                f"{text[:80]!r}…: a name of {len(text)} characters, expected at most {_MAX_TEXT}"
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
        """As people write it: without ``docker.io/`` and ``library/`` where that reads back as the same name."""
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
            return self.name if re.fullmatch(_IDENTIFIER, short) else short
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

    ``full`` is the completed text, whose path begins at ``start``; ``shift`` is what to add to a position in its
    path to get the one in ``text`` (negative when something was completed).
    """
    shown = _shown(text)
    at, expected = _first_wrong(full, start)
    if at >= start:
        at += shift
    hint = _hint(text, at)
    if at < len(text):
        what = f"character {at + 1} is {text[at]!r}"
    else:
        what = f"it ends after character {len(text)}"
    raise InvalidReference(f"{shown}: {what}, expected {expected}", hint=hint)


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


def _first_wrong(full: str, start: int) -> tuple[int, str]:
    """The first position that no valid name could have here, and what could be there."""
    wrong = _wrong_in_domain(full[: start - 1])
    if wrong is not None:
        return wrong
    at, expected = _scan_path(full, start)
    if at < len(full) and full[at] == ":" and expected.startswith("more"):
        at, expected = _scan_tag(full, at + 1)
    if at < len(full) and full[at] == "@" and expected.startswith("more"):
        return _scan_digest(full, at + 1)
    return at, expected.removeprefix("more: ")


def _wrong_in_domain(domain: str) -> tuple[int, str] | None:
    if re.fullmatch(_DOMAIN, domain):
        return None
    begun = re.match(_HOST, domain)
    if begun is None:
        return _wrong_host(domain)
    at = begun.end()
    if at < len(domain) and domain[at] == ":":
        port = re.match(_PORT, domain[at + 1 :])
        return at + 1 + (port.end() if port else 0), "the digits of a port, then '/'"
    if at < len(domain) and domain[at] in ".-":
        # A dot or hyphen must be followed by another letter or digit; hyphens may come in runs.
        run = at + 1
        while domain[at] == "-" and run < len(domain) and domain[run] == "-":
            run += 1
        return run, "a letter or digit"
    return at, "a letter, digit, '.', '-', ':' or '/'"


def _wrong_host(domain: str) -> tuple[int, str]:
    if not domain.startswith("["):
        return 0, "a letter, a digit or '['"
    inside = re.match(r"\[[a-fA-F0-9:]*", domain)
    at = inside.end() if inside else 1
    return at, "hexadecimal digits and ':' of an IPv6 address, then ']'"


def _scan_path(full: str, at: int) -> tuple[int, str]:
    """From the start of a path component to the first character that does not belong to the path."""
    path = re.match(rf"{_PATH}", full[at:])
    if path is None:
        return at, "a lower-case letter or digit"
    at += path.end()
    if at < len(full) and full[at] in "/._-":
        return _after_separator(full, at), "a lower-case letter or digit"
    return at, "more: a lower-case letter, digit, '.', '_', '-', '/', ':' or '@'"


def _after_separator(full: str, at: int) -> int:
    longest = re.match(rf"/|{_SEPARATOR.replace('[._]|__', '__|[._]')}", full[at:])
    return at + (longest.end() if longest else 1)


def _scan_tag(full: str, at: int) -> tuple[int, str]:
    start = at
    if at >= len(full) or full[at] not in _TAG_START:
        return at, "a letter, digit or '_' to start the tag"
    while at < len(full) and full[at] in _TAG_CHARACTER and at - start < 128:
        at += 1
    if at - start == 128 and at < len(full) and full[at] in _TAG_CHARACTER:
        return at, "the end of a tag of at most 128 characters"
    if at < len(full) and full[at] != "@":
        return at, "a letter, digit, '_', '.' or '-'"
    return at, "more: a letter, digit, '_', '.', '-' or '@'"


def _scan_digest(full: str, at: int) -> tuple[int, str]:
    algorithm, colon, encoded = full[at:].partition(":")
    length = _DIGEST_LENGTHS.get(algorithm)
    if length is None or not colon:
        return at, "a digest: sha256:, sha384: or sha512: and hexadecimal digits"
    start = at + len(algorithm) + 1
    wrong = next((i for i, c in enumerate(encoded[:length]) if c not in _HEX), min(len(encoded), length))
    return start + wrong, f"{length} of 0-9 a-f after {algorithm}:"
