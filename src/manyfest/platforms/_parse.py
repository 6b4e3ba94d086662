# SPDX-License-Identifier: Apache-2.0
"""Reading the text form of a platform, with the three spellings of an operating system's version."""

from __future__ import annotations

import re

from manyfest.errors import InvalidPlatform
from manyfest.platforms._platform import _ARCHITECTURES, _SYSTEMS, Platform, normal_architecture

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["parse"]

_OPTION = r"[A-Za-z0-9_.%-]*"
_SYSTEM = rf"([A-Za-z0-9_-]+)(?:\(({_OPTION})((?:\+{_OPTION})*)\))?"
_WORD = r"[A-Za-z0-9_.-]+"
_FORMS = "expected os/arch[/variant], for example linux/arm/v7"


def parse(text: str, host: Platform | None) -> Platform:
    """See :meth:`Platform.parse`."""
    if not text:
        raise InvalidPlatform(f"an empty platform, {_FORMS}")
    body, version = _split_version(text)
    parts = body.split("/")
    if len(parts) > 3:
        at = len("/".join(parts[:3]))
        raise InvalidPlatform(
            f"{text!r}: character {at + 1} is '/', expected the end: os/arch/variant has three parts"
        )
    found = re.fullmatch(_SYSTEM, parts[0])
    if found is None:
        _explain_system(text, parts[0])
    _check_words(text, parts)
    features = tuple(_decoded(text, f) for f in found[3][1:].split("+")) if found[3] else ()
    if found[2] and version:
        raise InvalidPlatform(
            f"{text!r}: the operating system's version is given twice, {found[2]!r} and {version!r}"
        )
    system = Platform(_system(found[1]), "", "", _decoded(text, found[2] or "") or version, features)
    if len(parts) == 1:
        return _complete(text, system, host)
    architecture, variant = normal_architecture(parts[1], parts[2] if len(parts) == 3 else "")
    return system.replace(
        architecture=architecture, variant=_shown_variant(architecture, variant, len(parts))
    )


def _split_version(text: str) -> tuple[str, str]:
    """``linux/arm/v7:1.0`` (crane, oras) and ``windows/amd64,osver=10.0.1`` (regctl)."""
    body, comma, options = text.partition(",")
    if comma:
        key, equals, version = options.partition("=")
        if key not in ("osver", "os.version", "os-version", "osversion") or not equals or not version:
            raise InvalidPlatform(
                f"{text!r}: after character {len(body) + 1} expected osver=VERSION, got {options!r}"
            )
    else:
        body, colon, version = text.partition(":")
        if colon and not version:
            raise InvalidPlatform(
                f"{text!r}: it ends after character {len(text)}, expected a version after ':'"
            )
    return body, version


def _system(name: str) -> str:
    name = name.lower()
    return "darwin" if name == "macos" else name


def _shown_variant(architecture: str, variant: str, parts: int) -> str:
    """arm's v7 is shown only where it was written; arm64's v8 too, although comparing forgets it."""
    if architecture == "arm" and variant == "v7" and parts < 3:
        return ""
    if architecture == "arm64" and not variant and parts == 3:
        return "v8"
    return variant


def _complete(text: str, system: Platform, host: Platform | None) -> Platform:
    if system.os in _SYSTEMS:
        if host is None:
            raise InvalidPlatform(f"{text!r}: names only an operating system, {_FORMS}")
        variant = "" if (host.architecture, host.variant) == ("arm", "v7") else host.variant
        return system.replace(architecture=host.architecture, variant=variant)
    architecture, variant = normal_architecture(system.os, "")
    if architecture in _ARCHITECTURES and not text.endswith(")"):
        shown = _shown_variant(architecture, variant, 1)
        return system.replace(os=host.os if host else "linux", architecture=architecture, variant=shown)
    from manyfest.platforms._names import suggest

    near = suggest(text)
    raise InvalidPlatform(
        f"{text!r}: neither an operating system nor an architecture, {_FORMS}",
        hint=f"did you mean {near}?" if near else "",
    )


def _explain_system(text: str, part: str) -> NoReturn:
    begun = re.match(r"[A-Za-z0-9_-]*", part)
    at = begun.end() if begun else 0
    if at == 0 and not part:
        raise InvalidPlatform(f"{text!r}: it begins with '/', {_FORMS}")
    if at and part[at] == "(":
        inside = re.match(rf"{_OPTION}(?:\+{_OPTION})*", part[at + 1 :])
        at += 1 + (inside.end() if inside else 0)
        if at >= len(part):
            raise InvalidPlatform(
                f"{text!r}: character {at + 1} should be ')', expected os(version+feature)/arch"
            )
        if part[at] == ")":
            at += 1
            raise InvalidPlatform(f"{text!r}: character {at + 1} is {part[at]!r}, expected '/' after ')'")
    if part[at] == "*":
        raise InvalidPlatform(f"{text!r}: character {at + 1} is '*', and a platform has no wildcards")
    raise InvalidPlatform(
        f"{text!r}: character {at + 1} is {part[at]!r}, expected a letter, digit, '_' or '-'"
    )


def _check_words(text: str, parts: list[str]) -> None:
    at = len(parts[0]) + 1
    for part in parts[1:]:
        if not part:
            where = f"character {at + 1} is '/'" if at < len(text) else f"it ends after character {at}"
            raise InvalidPlatform(f"{text!r}: {where}, {_FORMS}")
        if not re.fullmatch(_WORD, part):
            begun = re.match(r"[A-Za-z0-9_.-]*", part)
            wrong = at + (begun.end() if begun else 0)
            raise InvalidPlatform(
                f"{text!r}: character {wrong + 1} is {text[wrong]!r}, "
                "expected a letter, digit, '_', '.' or '-'"
            )
        at += len(part) + 1


def _decoded(text: str, option: str) -> str:
    """Undo percent-encoding."""
    wrong = re.search(r"%(?![0-9A-Fa-f]{2})", option)
    if wrong is not None:
        raise InvalidPlatform(f"{text!r}: '%' in {option!r} must be followed by two hexadecimal digits")
    raw = re.sub(rb"%([0-9A-Fa-f]{2})", lambda m: bytes([int(m[1], 16)]), option.encode())
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise InvalidPlatform(f"{text!r}: {option!r} is not UTF-8 when decoded") from None
