# SPDX-License-Identifier: Apache-2.0
"""What --chmod says, with results that BuildKit 0.25.1 gave."""

from __future__ import annotations

import pytest

from manyfest.build.modes import parse
from manyfest.errors import InputError


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        ("755", 0o600, 0o755),
        ("07777", 0, 0o7777),
        ("0", 0o755, 0),
        ("u+x", 0o644, 0o744),
        ("u+x,go-r", 0o644, 0o700),
        ("+w", 0o644, 0o666),
        ("-r", 0o755, 0o311),
        ("=r", 0o4755, 0o444),
        ("a=rX", 0o640, 0o444),
        ("a=rX", 0o650, 0o555),
        ("g+X", 0o644, 0o644),
        ("go=u-w", 0o600, 0o644),
        ("g=o,o=", 0o4755, 0o4750),
        ("u=", 0o4755, 0o055),
        ("ug+s,+t", 0o755, 0o7755),
        ("o+s", 0o755, 0o755),
        ("u+t", 0o755, 0o1755),
        ("u-s", 0o6755, 0o2755),
        ("-tr", 0o1755, 0o755),
        ("u+rw-x", 0o755, 0o655),
        ("a+x,u=g", 0o640, 0o551),
    ],
)
def test_files(text: str, old: int, new: int) -> None:
    """Octal, and each kind of change."""
    assert f"{parse(text).of(old, is_folder=False):o}" == f"{new:o}"


def test_folders() -> None:
    """Big X is for them, whatever they had."""
    assert parse("u=rwX,go=rX").of(0o600, is_folder=True) == 0o755
    assert parse("-X").of(0o755, is_folder=True) == 0o644


@pytest.mark.parametrize(
    "text", ["", "8", "10000", "77777", "u", "u+y", "x+r", "u+rg", "u+x,", ",u+x", "u+x g+x", "rwx", "\uff10"]
)
def test_wrong(text: str) -> None:
    """With what was expected."""
    with pytest.raises(InputError, match="expected a mode such as 755"):
        parse(text)
