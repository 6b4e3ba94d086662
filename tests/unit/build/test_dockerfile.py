# SPDX-License-Identifier: Apache-2.0
"""Stages, flags and what is refused before anything is built."""

from __future__ import annotations

import pytest

from manyfest.build.assemble import needed_stages
from manyfest.build.dockerfile import parse, parse_trigger
from manyfest.errors import InvalidProject


def test_stages_and_globals() -> None:
    """ARG before FROM, names in any case, lines."""
    recipe = parse("ARG A=1\n# c\nFROM --platform=$BUILDPLATFORM x AS One\nENV B=2\nfrom one\n")
    assert [step.args for step in recipe.globals] == [("A=1",)]
    one, last = recipe.stages
    assert (one.name, one.base, one.platform, one.line) == ("one", "x", "$BUILDPLATFORM", 3)
    assert [(step.name, step.line) for step in one.steps] == [("ENV", 4)]
    assert (last.name, last.base, last.steps) == ("", "one", ())
    assert recipe.stage("ONE") == one == recipe.stage("0")
    assert recipe.stage("7") is None


def test_flags_and_heredocs() -> None:
    """Repeated ones, switches, and files that stand in the Dockerfile."""
    text = "FROM scratch\nCOPY --link --exclude=a --exclude=b --chmod=755 <<-EOF <<'RAW' /x/\n\tone\nEOF\n$two\nRAW\n"
    (step,) = parse(text).stages[0].steps
    assert step.flags == {"link": [""], "exclude": ["a", "b"], "chmod": ["755"]}
    assert step.switch("link")
    assert [(doc.name, doc.text, doc.expand) for doc in step.heredocs] == [
        ("EOF", "one\n", True),
        ("RAW", "$two\n", False),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no FROM"),
        ("ENV a=b\nFROM x\n", r"Dockerfile:1: ENV before the first FROM"),
        ("FROM a b\n", r":1: FROM a b: expected FROM IMAGE"),
        ("FROM a AS 9x\n", r"stage name '9x'"),
        ("FROM a\nFETCH b\n", r":2: .*unknown instruction"),
        ("FROM a\nCOPY b\n", r":2: COPY needs at least 2 arguments, got 1"),
        ("FROM a\nCOPY --froom=x b c\n", r":2: COPY: unknown flag --froom"),
        ("FROM a\nCOPY --from=x --from=y b c\n", r"--from is given twice"),
        ("FROM a\nCOPY --chown b c\n", r"--chown needs a value"),
        ("FROM a\nSHELL /bin/sh\n", r"SHELL needs the JSON form"),
        ("FROM a\nCOPY <<EOF /x\nno end\n", r":2: .*unterminated heredoc"),
        ("FROM a\nONBUILD FROM b\n", r":2: ONBUILD FROM"),
        ("FROM a\nONBUILD ONBUILD ENV a=b\n", r":2: ONBUILD ONBUILD"),
        ("FROM a\nONBUILD\n", r":2: ONBUILD"),
        ("FROM a\nENV A\n", r":2: .*ENV must have two arguments"),
    ],
)
def test_refused(text: str, message: str) -> None:
    """With the line."""
    with pytest.raises(InvalidProject, match=message):
        parse(text)


def test_triggers() -> None:
    """ONBUILD holds one instruction, whose line is the FROM that runs it."""
    step = parse_trigger("COPY --from=x a b", 7, "Dockerfile")
    assert (step.name, step.args, step.line, step.flag("from")) == ("COPY", ("a", "b"), 7, "x")


def test_only_needed_stages() -> None:
    """What the target neither starts from nor copies from is not built."""
    recipe = parse("FROM a AS one\nFROM b AS two\nFROM one AS three\nCOPY --from=1 x y\nFROM c AS four\n")
    assert [stage.name for stage in needed_stages(recipe, "three")] == ["one", "two", "three"]
    assert [stage.name for stage in needed_stages(recipe, "")] == ["four"]
    with pytest.raises(InvalidProject, match="no stage 'five'"):
        needed_stages(recipe, "five")
