# SPDX-License-Identifier: Apache-2.0
"""Variables in text, as Compose and Dockerfiles write them.

    >>> interpolate("${REGISTRY:-ghcr.io}/app:${TAG-1}$$x", {"TAG": ""})
    'ghcr.io/app:$x'

https://github.com/compose-spec/compose-spec/blob/main/12-interpolation.md
"""

from __future__ import annotations

import re

from manyfest.errors import InvalidSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["interpolate", "read_env"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATORS = (":-", ":+", ":?", "-", "+", "?")
_DEEPEST = 16


def interpolate(
    text: str, variables: Mapping[str, str], on_unset: Callable[[str], None] | None = None, *, depth: int = 0
) -> str:
    """The text with ``$NAME``, ``${NAME}``, ``${NAME:-default}``, ``${NAME:+other}``, ``${NAME:?error}`` replaced, and
    ``$$`` as a dollar. ``on_unset`` hears of names that are nowhere, which become empty. Raises :class:`InvalidSpec`.
    """
    if depth > _DEEPEST:
        raise InvalidSpec(f"variables nested more than {_DEEPEST} deep")
    found: list[str] = []
    at = 0
    while (dollar := text.find("$", at)) >= 0:
        found.append(text[at:dollar])
        at = dollar + 1
        if text.startswith("$", at):
            found.append("$")
            at += 1
        elif text.startswith("{", at):
            end = _closing(text, at)
            found.append(_braced(text[at + 1 : end], variables, on_unset, depth))
            at = end + 1
        elif (name := _NAME.match(text, at)) is not None:
            found.append(_value(name[0], variables, on_unset))
            at = name.end()
        else:
            found.append("$")
    return "".join((*found, text[at:]))


def read_env(text: str) -> dict[str, str]:
    """The variables of a ``.env`` file: ``NAME=value`` lines, quotes taken off, comments and ``export`` allowed."""
    found: dict[str, str] = {}
    for raw in text.split("\n"):
        line = raw.strip().removeprefix("export ").lstrip()
        name, equals, value = line.partition("=")
        if not equals or not _NAME.fullmatch(name.strip()):
            continue
        value = value.strip()
        if value[:1] in "'\"" and value[:1] and (end := value.find(value[0], 1)) > 0:
            quoted = value[1:end]
            found[name.strip()] = quoted if value[0] == "'" else interpolate(quoted, found)
        else:
            value = re.sub(r"(^|\s)#.*", "", value).strip()
            found[name.strip()] = interpolate(value, found)
    return found


def _closing(text: str, opening: int) -> int:
    depth = 0
    for at in range(opening, len(text)):
        if text[at] == "{" and (at == opening or text[at - 1] == "$"):
            depth += 1
        elif text[at] == "}":
            depth -= 1
            if depth == 0:
                return at
    raise InvalidSpec(f"{text!r}: a ${{ without its }}")


def _braced(
    inside: str, variables: Mapping[str, str], on_unset: Callable[[str], None] | None, depth: int
) -> str:
    name = _NAME.match(inside)
    if name is None:
        raise InvalidSpec(f"${{{inside}}}: expected a name after ${{")
    rest = inside[name.end() :]
    operator = next((each for each in _OPERATORS if rest.startswith(each)), "")
    if rest and not operator:
        raise InvalidSpec(f"${{{inside}}}: expected one of {' '.join(_OPERATORS)} after {name[0]}")
    other = rest[len(operator) :]
    value = variables.get(name[0])
    counts = bool(value) if operator.startswith(":") else value is not None
    if operator.endswith("+"):
        return interpolate(other, variables, on_unset, depth=depth + 1) if counts else ""
    if counts and value is not None:
        return value
    if operator.endswith("?"):
        raise InvalidSpec(f"the variable {name[0]} is not set: {other or 'it is required'}")
    if operator:
        return interpolate(other, variables, on_unset, depth=depth + 1)
    return _value(name[0], variables, on_unset)


def _value(name: str, variables: Mapping[str, str], on_unset: Callable[[str], None] | None) -> str:
    if name not in variables and on_unset is not None:
        on_unset(name)
    return variables.get(name, "")
