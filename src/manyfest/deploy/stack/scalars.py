# SPDX-License-Identifier: Apache-2.0
"""The values of a stack file as docker's own client reads them: its YAML, its variables, its durations.

Docker's reader is Go's yaml.v2. It knows YAML 1.1's ``yes`` and ``off``, but none of its base-60 numbers, so that
``22:22`` is text to it; numbers where text is expected become text again as Go prints them: ``1.10`` is ``1.1``.

https://github.com/go-yaml/yaml/blob/v2/resolve.go
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from manyfest.coverage.interpolate import interpolate
from manyfest.deploy.resources import parse_cpus, parse_memory
from manyfest.errors import InputError, InvalidSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import NoReturn

    from manyfest.coverage.marked import Marked

__all__ = ["Scalars", "go_text", "go_words", "parse_duration", "plain"]

_NULL = ("", "~", "null", "Null", "NULL")
_TRUE = ("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON")
_FALSE = ("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF")
_INTEGER = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO]?[0-7]+|0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_DURATION = re.compile(r"(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+|0")
_PART = re.compile(r"([0-9]*\.?[0-9]*)(ns|us|µs|μs|ms|s|m|h)")
_UNITS = {
    "ns": 1, "us": 1000, "µs": 1000, "μs": 1000, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9,
}  # fmt: skip
_MOST = 2**63 - 1

Scalar = str | int | float | bool | None


def plain(raw: str) -> Scalar:
    """What a scalar without quotes is to Go's yaml.v2."""
    if raw in _NULL:
        return None
    if raw in _TRUE or raw in _FALSE:
        return raw in _TRUE
    bare = raw.replace("_", "")
    if raw[0].isascii() and raw[0] in "+-.0123456789":
        if _INTEGER.fullmatch(bare) and -(2**63) <= (number := _integer(bare)) < 2**64:
            return number
        if _FLOAT.fullmatch(bare):
            return float(bare)
        if _SPECIAL.fullmatch(raw):
            return float(raw.replace(".", ""))
    return raw


def _integer(text: str) -> int:
    sign, digits = (-1 if text[0] == "-" else 1), text.lstrip("+-").lower()
    for prefix, base in (("0x", 16), ("0b", 2), ("0o", 8), ("0", 8)):
        if digits.startswith(prefix) and digits != "0":
            return sign * int(digits[len(prefix) :], base)
    return sign * int(digits)


def go_text(value: str | float) -> str:
    """A scalar as text, as Go's ``%v`` has it: ``1.1``, ``1e+06``."""
    if not isinstance(value, float):
        return str(value)
    if value != value or value in (float("inf"), float("-inf")):
        return {"inf": "+Inf", "-inf": "-Inf"}.get(str(value), "NaN")
    digits, _, exponent = f"{value:.17e}".partition("e")
    for precision in range(17):
        digits, _, exponent = f"{value:.{precision}e}".partition("e")
        if float(f"{digits}e{exponent}") == value:
            break
    power = int(exponent)
    if -4 <= power < 6:  # where Go changes over
        return f"{value:.{max(len(digits.replace('.', '').lstrip('-')) - 1 - power, 0)}f}"
    return f"{digits}e{'-' if power < 0 else '+'}{abs(power):02d}"


def go_words(text: str) -> list[str]:
    """A command line cut into words as docker cuts it. Raises :class:`InputError` for a quote without its end."""
    words: list[str] = []
    word: list[str] | None = None
    at, quote = 0, ""
    while at < len(text):
        sign = text[at]
        at += 1
        if quote == "'":
            if sign == "'":
                quote = ""
            else:
                word = [*(word or ()), sign]
        elif sign == "\\":
            if at == len(text):
                raise InputError("a command that ends in a backslash")
            word = [*(word or ()), text[at]]
            at += 1
        elif quote == '"':
            if sign == '"':
                quote = ""
            else:
                word = [*(word or ()), sign]
        elif sign in "'\"":
            quote, word = sign, word or []
        elif sign in " \t\r\n":
            if word is not None:
                words.append("".join(word))
            word = None
        elif sign == "#" and word is None:
            end = text.find("\n", at)
            at = len(text) if end < 0 else end
        else:
            word = [*(word or ()), sign]
    if quote:
        raise InputError(f"a command with {quote} that is not closed")
    return words if word is None else [*words, "".join(word)]


def parse_duration(text: str) -> int:
    """``1m30s`` in billionths of a second. Raises :class:`InputError`."""
    bare = text.removeprefix("+")
    nano = 0
    if _DURATION.fullmatch(bare):
        from decimal import Decimal

        nano = sum(int(Decimal(number) * _UNITS[unit]) for number, unit in _PART.findall(bare))
    if not _DURATION.fullmatch(bare) or nano > _MOST:
        raise InputError(f"{text!r}: expected a duration such as 10s or 1m30s")
    return nano


class Scalars:
    """Reads values whose variables come from ``variables``; ``on_warning`` hears of those that are not set.

    Every method raises :class:`InvalidSpec` with line and column, and takes what is absent as nothing at all.
    """

    def __init__(self, variables: Mapping[str, str], on_warning: Callable[[str], None]) -> None:
        self.variables = variables
        self.warn = on_warning
        self._unset: set[str] = set()

    def scalar(self, item: Marked, what: str) -> Scalar:
        """As docker reads it, variables filled in."""
        if isinstance(item.value, dict | list):
            item.refuse(what)
        if item.raw is None:
            return None if item.value is None else self._filled(item, str(item.value))
        found = plain(item.raw)
        return self._filled(item, found) if isinstance(found, str) else found

    def text(self, item: Marked, what: str = "text") -> str:
        """Empty when absent."""
        found = self.scalar(item, what)
        if isinstance(found, bool):
            self.refuse(item, f"{what}; put {item.raw} in quotes")
        return "" if found is None else go_text(found)

    def number(self, item: Marked, what: str = "a number") -> int | None:
        """A whole one, not below zero."""
        found = self.scalar(item, what)
        if found is None or found == "":
            return None
        if isinstance(found, str) and re.fullmatch(r"[0-9]{1,19}", found):
            found = int(found)
        if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found <= _MOST:
            self.refuse(item, f"{what}: a whole number, not below zero")
        return found

    def fraction(self, item: Marked, what: str) -> float:
        """A number from zero to one."""
        found = self.scalar(item, what)
        if isinstance(found, str) and _FLOAT.fullmatch(found):
            found = float(found)
        if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found <= 1:
            self.refuse(item, f"{what}: a number from 0 to 1")
        return found

    def boolean(self, item: Marked, what: str = "true or false") -> bool | None:
        """``None`` when absent."""
        found = self.scalar(item, what)
        if isinstance(found, str) and found.lower() in ("true", "1", "false", "0"):  # from a variable
            return found.lower() in ("true", "1")
        if found is not None and not isinstance(found, bool):
            self.refuse(item, what)
        return found

    def duration(self, item: Marked) -> int | None:
        """In billionths of a second."""
        return self._parsed(item, "a duration such as 1m30s", parse_duration)

    def memory(self, item: Marked) -> int | None:
        """In bytes; a bare number is bytes."""
        return self._parsed(item, "memory such as 64m", parse_memory)

    def processors(self, item: Marked) -> int | None:
        """In billionths of one."""
        return self._parsed(item, "processors such as '0.5'", parse_cpus)

    def _parsed(self, item: Marked, what: str, parse: Callable[[str], int]) -> int | None:
        text = self.text(item, what)
        if not text:
            return None
        try:
            return parse(text)
        except InputError as error:
            raise InvalidSpec(f"{item.where}: {item.path}: {error}") from error

    def words(self, item: Marked, what: str = "a command") -> list[str] | None:
        """A command: a list, or text that is cut into words."""
        if not item.is_there:
            return None
        if isinstance(item.value, list):
            return [self.text(each, what) for each in item.value]
        try:
            return go_words(self.text(item, what))
        except InputError as error:
            raise InvalidSpec(f"{item.where}: {item.path}: {error}") from error

    def texts(self, item: Marked, what: str = "a list of texts") -> list[str]:
        """A list, or one text."""
        if isinstance(item.value, list):
            return [self.text(each, what) for each in item.value]
        return [self.text(item, what)] if item.is_there else []

    def pairs(self, item: Marked, what: str = "KEY: VALUE pairs") -> dict[str, str | None]:
        """A mapping, or a list of ``KEY=VALUE``; what has no value is ``None``."""
        found: dict[str, str | None] = {}
        if isinstance(item.value, list):
            for each in item.value:
                key, equals, value = self.text(each, what).partition("=")
                found[key] = value if equals else None
        else:
            for key, each in item.mapping(what).items():
                found[key] = None if self.scalar(each, what) is None else self.text(each, what)
        return found

    def labels(self, item: Marked) -> dict[str, str]:
        """:meth:`pairs` whose value may be empty."""
        return {key: value or "" for key, value in self.pairs(item, "labels").items()}

    def options(self, item: Marked) -> dict[str, str]:
        """A mapping of text."""
        return {key: self.text(each) for key, each in item.mapping("a mapping of options").items()}

    def refuse(self, item: Marked, expected: str) -> NoReturn:
        """Raises :class:`InvalidSpec`. Shows what was read where that is no secret of the environment."""
        shown = item.raw if item.raw is not None else repr(item.value)
        if isinstance(item.value, dict | list):
            item.refuse(expected)
        raise InvalidSpec(f"{item.where}: {item.path} is {shown[:80]}, expected {expected}")

    def _filled(self, item: Marked, text: str) -> str:
        def unset(name: str) -> None:
            if name not in self._unset:
                self._unset.add(name)
                self.warn(f"{item.where}: the variable {name} is not set; it is taken as empty")

        try:
            return interpolate(text, self.variables, unset)
        except InvalidSpec as error:
            raise InvalidSpec(f"{item.where}: {item.path}: {error}", hint=error.hint) from error
