# SPDX-License-Identifier: Apache-2.0
"""Variables, with every modifier."""

from __future__ import annotations

import pytest

from manyfest.build.expand import Scope, platform_args
from manyfest.errors import BuildError
from manyfest.platforms import Platform

VALUES = {"x": "foobarfoo", "e": "", "p": "a/b.tar.gz", "sp": "a b"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$x", "foobarfoo"),
        ("${x}y", "foobarfooy"),
        ("a$none!", "a!"),
        ("${none:-d}", "d"),
        ("${e:-d}", "d"),
        ("${e-d}", ""),
        ("${none-d}", "d"),
        ("${x:+yes}", "yes"),
        ("${e:+yes}", ""),
        ("${e+yes}", "yes"),
        ("${none:+yes}", ""),
        ("${x:-${p}}", "foobarfoo"),
        ("${none:-${p}}", "a/b.tar.gz"),
        ("${x#f*o}", "obarfoo"),
        ("${x##f*o}", ""),
        ("${x%o*}", "foobarfo"),
        ("${p%.*}", "a/b.tar"),
        ("${p%%.*}", "a/b"),
        ("${x/foo/X}", "Xbarfoo"),
        ("${x//foo/X}", "XbarX"),
        ("'$x'", "$x"),
        ('"$x y"', "foobarfoo y"),
        (r"\$x", "$x"),
        (r"a\ b", "a b"),
        ("${x:?needed}", "foobarfoo"),
    ],
)
def test_word(text: str, expected: str) -> None:
    """One word."""
    assert Scope("\\", VALUES).word(text) == expected


@pytest.mark.parametrize("text", ["${none:?needed}", "${x", "${x:!y}", "'open"])
def test_wrong(text: str) -> None:
    """Says where."""
    with pytest.raises(BuildError, match=r"^Dockerfile:3: "):
        Scope("\\", VALUES, "Dockerfile:3").word(text)


def test_words_and_text() -> None:
    """A variable may become several words; a heredoc keeps its quotes."""
    assert Scope("\\", VALUES).words("$sp c") == ["a", "b", "c"]
    assert Scope("\\", VALUES).text("say \"$x\" 'and $e'\n") == "say \"foobarfoo\" 'and '\n"
    assert Scope("`", VALUES).word("`$x") == "$x"


def test_platform_args() -> None:
    """Of the target and of this machine."""
    args = platform_args(Platform.parse("linux/arm/v7"), Platform.parse("linux/amd64"), "")
    assert args["TARGETPLATFORM"] == "linux/arm/v7"
    assert (args["TARGETARCH"], args["TARGETVARIANT"], args["TARGETOS"]) == ("arm", "v7", "linux")
    assert (args["BUILDPLATFORM"], args["BUILDVARIANT"], args["TARGETSTAGE"]) == (
        "linux/amd64",
        "",
        "default",
    )
