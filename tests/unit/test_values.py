# SPDX-License-Identifier: Apache-2.0
"""The base of every value."""

from __future__ import annotations

import copy
import pickle

import pytest

from manyfest.content.digest import Digest
from manyfest.errors import InvalidDigest
from manyfest.platforms import Platform
from manyfest.values import Value, brief


class Point(Value):
    """Two numbers."""

    __slots__ = ("x", "y")
    x: int
    y: int

    def __init__(self, x: int, y: int) -> None:
        self._set(x=x, y=y)


class Pair(Value):
    """The same fields, another kind."""

    __slots__ = ("x", "y")

    def __init__(self, x: int, y: int) -> None:
        self._set(x=x, y=y)


def test_equal_by_fields_and_kind() -> None:
    """A point is not a pair, whatever its numbers."""
    assert Point(1, 2) == Point(1, 2)
    assert Point(1, 2) != Point(2, 1)
    assert Point(1, 2) != Pair(1, 2)
    assert Point(1, 2) != (1, 2)
    assert len({Point(1, 2), Point(1, 2), Pair(1, 2)}) == 2


def test_assignment_and_deletion_are_refused() -> None:
    """Frozen means frozen, for known and unknown names."""
    point = Point(1, 2)
    with pytest.raises(AttributeError, match="immutable"):
        point.x = 5
    with pytest.raises(AttributeError, match="immutable"):
        del point.x
    with pytest.raises(AttributeError, match="immutable"):
        setattr(point, "z", 1)  # noqa: B010


def test_repr_names_every_field() -> None:
    """Worth asserting on."""
    assert repr(Point(1, 2)) == "Point(x=1, y=2)"


def test_replace_validates_again() -> None:
    """A change goes through the constructor."""
    digest = Digest.of(b"")
    assert digest.replace(hex="0" * 64) == Digest("sha256", "0" * 64)
    with pytest.raises(InvalidDigest):
        digest.replace(hex="zz")


@pytest.mark.parametrize("value", [Point(1, 2), Digest.of(b""), Platform("linux", "arm", "v7")])
def test_copies_and_pickles(value: Value) -> None:
    """Values travel between processes."""
    assert copy.copy(value) == value
    assert copy.deepcopy(value) == value
    assert pickle.loads(pickle.dumps(value)) == value


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a", "'a'"),
        (None, "None"),
        (5, "5"),
        ({"a": 1}, "a dict"),
        ([[]], "a list"),
        ("x" * 500, f"'{'x' * 79}…"),
        ("\x1b[31m", r"'\x1b[31m'"),
    ],
)
def test_brief_is_short_and_safe(value: object, shown: str) -> None:
    """Nothing untrusted reaches a terminal raw or at length."""
    assert brief(value) == shown
