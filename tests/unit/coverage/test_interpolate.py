# SPDX-License-Identifier: Apache-2.0
"""Variables as Compose and Dockerfiles write them."""

from __future__ import annotations

import pytest

from manyfest.coverage.interpolate import interpolate, read_env
from manyfest.errors import InvalidSpec

VARIABLES = {"A": "a", "EMPTY": "", "B": "b"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("$A-${B}", "a-b"),
        ("$$A", "$A"),
        ("${X:-d}", "d"),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY-d}", ""),
        ("${X-d}", "d"),
        ("${A:+yes}", "yes"),
        ("${EMPTY:+yes}", ""),
        ("${EMPTY+yes}", "yes"),
        ("${X+yes}", ""),
        ("${A:?must}", "a"),
        ("${X:-${Y:-${B}}}/z", "b/z"),
        ("${X:-a}b}", "ab}"),
        ("ends in $", "ends in $"),
        ("$1", "$1"),
        ("$X", ""),
    ],
)
def test_interpolate(text: str, expected: str) -> None:
    """compose-spec's table."""
    assert interpolate(text, VARIABLES) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${A", "without its }"),
        ("${}", "expected a name"),
        ("${X:?give a tag}", "X is not set: give a tag"),
        ("${EMPTY:?}", "EMPTY is not set"),
        ("${A!}", "expected one of"),
        ("${X:-" * 40 + "}" * 40, "nested more than"),
    ],
)
def test_mistakes(text: str, message: str) -> None:
    """Said, not guessed."""
    with pytest.raises(InvalidSpec) as caught:
        interpolate(text, VARIABLES)
    assert message in str(caught.value)


def test_unset_names_are_told() -> None:
    """Each time; a default is no surprise."""
    told: list[str] = []
    assert interpolate("${X}${Y:-y}$X", {}, told.append) == "y"
    assert told == ["X", "X"]


def test_env_files() -> None:
    """Comments, quotes, export, and variables of lines above."""
    text = (
        "# c\nA=1\nexport B='$A x' # c\nC=\"$A y\"\nD= spaced # c\nE=a#b\nnot a line\n1X=3\nF=${A}${G:-g}\n"
    )
    assert read_env(text) == {"A": "1", "B": "$A x", "C": "1 y", "D": "spaced", "E": "a#b", "F": "1g"}
