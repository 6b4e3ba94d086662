# SPDX-License-Identifier: Apache-2.0
"""Values of a stack file, as Go's YAML and docker's own client read them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from manyfest.coverage.marked import Marked, load
from manyfest.deploy.stack.scalars import Scalars, go_text, go_words, parse_duration, plain
from manyfest.errors import InputError, InvalidSpec


def item(text: str) -> Marked:
    """The value of the key ``a``."""
    (document,) = load(f"a: {text}\n".encode(), "s.yaml")
    return document["a"]


def scalars(warnings: list[str] | None = None) -> Scalars:
    return Scalars({"SET": "there", "N": "3", "YES": "true"}, (warnings or []).append)


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("22:22", "22:22"),
        ("1e3", 1000.0),
        ("1.10", 1.1),
        ("010", 8),
        ("0o17", 15),
        ("0x1F", 31),
        ("0b11", 3),
        ("1_000", 1000),
        ("-5", -5),
        ("12345678901234567890", 12345678901234567890),
        ("123456789012345678901", 123456789012345678901.0),
        (".5", 0.5),
        (".inf", float("inf")),
        ("09", 9.0),
        ("2001-01-01", "2001-01-01"),
        ("yes", True),
        ("Off", False),
        ("yEs", "yEs"),
        ("~", None),
        ("null", None),
        ("v1", "v1"),
        ("1.2.3", "1.2.3"),
    ],
)
def test_plain_scalars(raw: str, value: object) -> None:
    assert plain(raw) == value
    assert type(plain(raw)) is type(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.1, "1.1"),
        (1000.0, "1000"),
        (0.5, "0.5"),
        (100000.0, "100000"),
        (1000000.0, "1e+06"),
        (1234567.5, "1.2345675e+06"),
        (0.00001, "1e-05"),
        (1e21, "1e+21"),
        (-2.5, "-2.5"),
        (123456789012345678901.0, "1.2345678901234568e+20"),
        (float("-inf"), "-Inf"),
        (float("nan"), "NaN"),
        (7, "7"),
    ],
)
def test_numbers_as_text(value: float, text: str) -> None:
    assert go_text(value) == text


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", []),
        ("a  b\tc", ["a", "b", "c"]),
        ("sh -c 'a b' \"c d\"", ["sh", "-c", "a b", "c d"]),
        (r'a\ b "x\"y" \n', ["a b", 'x"y', "n"]),
        ("a z#q # comment", ["a", "z#q"]),
        ("''", [""]),
        ("a'b'c", ["abc"]),
        ("a # b\nc", ["a", "c"]),
    ],
)
def test_words(line: str, words: list[str]) -> None:
    assert go_words(line) == words


@pytest.mark.parametrize("line", ["'a", '"a', "a\\"])
def test_words_without_an_end(line: str) -> None:
    with pytest.raises(InputError):
        go_words(line)


@pytest.mark.parametrize(
    ("text", "nano"),
    [
        ("10s", 10**10),
        ("1m30s", 9 * 10**10),
        ("1.5h", 54 * 10**11),
        ("100ms", 10**8),
        ("3us", 3000),
        ("0", 0),
    ],
)
def test_durations(text: str, nano: int) -> None:
    assert parse_duration(text) == nano


@pytest.mark.parametrize("text", ["", "10", "s", "1x", "-1s", "1s ", "1m 3s", "9" * 30 + "h"])
def test_no_durations(text: str) -> None:
    with pytest.raises(InputError):
        parse_duration(text)


@pytest.mark.parametrize(
    ("yaml", "read", "value"),
    [
        ("${SET}-x", Scalars.text, "there-x"),
        ("'1.10'", Scalars.text, "1.10"),
        ("1.10", Scalars.text, "1.1"),
        ("", Scalars.text, ""),
        ("${N}", Scalars.number, 3),
        ("7", Scalars.number, 7),
        ("", Scalars.number, None),
        ("${YES}", Scalars.boolean, True),
        ("no", Scalars.boolean, False),
        ("1m", Scalars.duration, 6 * 10**10),
        ("64m", Scalars.memory, 64 << 20),
        ("1000", Scalars.memory, 1000),
        ("0.5", Scalars.processors, 5 * 10**8),
        ("[a, 1]", Scalars.texts, ["a", "1"]),
        ("a", Scalars.texts, ["a"]),
        ("a b", Scalars.words, ["a", "b"]),
        ("[a b]", Scalars.words, ["a b"]),
        ("[A, B=, C=x=y]", Scalars.pairs, {"A": None, "B": "", "C": "x=y"}),
        ("{A: , B: '', C: 1}", Scalars.pairs, {"A": None, "B": "", "C": "1"}),
        ("[a, b=c]", Scalars.labels, {"a": "", "b": "c"}),
    ],
)
def test_readers(yaml: str, read: Callable[[Scalars, Marked], Any], value: object) -> None:
    assert read(scalars(), item(yaml)) == value


@pytest.mark.parametrize(
    ("yaml", "read"),
    [
        ("yes", Scalars.text),
        ("[a]", Scalars.text),
        ("{a: b}", Scalars.texts),
        ("x", Scalars.number),
        ("-1", Scalars.number),
        ("1.5", Scalars.number),
        ("true", Scalars.number),
        ("maybe", Scalars.boolean),
        ("5", Scalars.boolean),
        ("5", Scalars.duration),
        ("lots", Scalars.memory),
        ("lots", Scalars.processors),
        ('"\'a"', Scalars.words),
        ("${N", Scalars.text),
        ("${NOT:?must be}", Scalars.text),
        ("a", Scalars.pairs),
        ("[[a]]", Scalars.pairs),
    ],
)
def test_refusals_say_where(yaml: str, read: Callable[[Scalars, Marked], Any]) -> None:
    with pytest.raises(InvalidSpec, match=r"^s\.yaml:1:\d+: a"):
        read(scalars(), item(yaml))


def test_variables_that_are_not_set_are_told_once() -> None:
    warnings: list[str] = []
    reading = Scalars({}, warnings.append)
    assert reading.text(item("x${NOPE}")) == reading.text(item("x$NOPE")) == "x"
    assert warnings == ["s.yaml:1:4: the variable NOPE is not set; it is taken as empty"]
