# SPDX-License-Identifier: Apache-2.0
"""Names: whatever is valid reads back, whatever is not points at the right character."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from manyfest.errors import InvalidReference
from manyfest.reference import Reference

pytestmark = pytest.mark.property


def refusal(call: Callable[[], object]) -> str:
    """The message of our error, or the empty string when there is none; any other error goes through."""
    try:
        call()
    except InvalidReference as error:
        return str(error) or "an error without a message"
    return ""


component = st.from_regex(r"[a-z0-9]{1,5}(?:(?:[._]|__|-{1,3})[a-z0-9]{1,4}){0,2}", fullmatch=True)
host = st.one_of(
    st.from_regex(
        r"[a-zA-Z0-9]{1,4}(?:-{1,2}[a-z0-9]{1,3})?(?:\.[a-zA-Z0-9]{1,4}){1,2}(?::[0-9]{1,5})?", fullmatch=True
    ),
    st.from_regex(r"\[[a-f0-9]{0,3}:[a-f0-9:]{1,8}\](?::[0-9]{1,5})?", fullmatch=True),
    st.sampled_from(["localhost", "localhost:5000", "docker.io", "index.docker.io", "ghcr.io"]),
)
path = st.lists(component, min_size=1, max_size=3).map("/".join)
tag = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
digest = st.from_regex(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}", fullmatch=True)


@st.composite
def written(draw: st.DrawFn) -> str:
    """A valid name as somebody would write it."""
    text = draw(path)
    if draw(st.booleans()):
        text = f"{draw(host)}/{text}"
    else:
        first, slash, rest = text.partition("/")
        # A dot in the first of several components would make it a domain.
        text = (first.replace(".", "-") if slash else first) + slash + rest
    if draw(st.booleans()):
        text += f":{draw(tag)}"
    if draw(st.booleans()):
        text += f"@{draw(digest)}"
    return text


@given(written())
def test_round_trip(text: str) -> None:
    """Qualified and familiar forms are names of the same thing, and stay as they are."""
    assume(not re.fullmatch("[0-9a-f]{64}", text))
    reference = Reference.parse(text)
    assert Reference.parse(str(reference)) == reference
    assert str(Reference.parse(str(reference))) == str(reference)
    assert Reference.parse(reference.familiar) == reference
    assert Reference(reference.domain, reference.path, reference.tag, reference.digest) == reference


ENDINGS = ("", "a", "/a", "]/a", ":]/a", "1/a", "a/a", "1]/a", "sha256:" + "0" * 64)
PIECES = [
    "a",
    "b1",
    "A",
    "/",
    ".",
    ":",
    "-",
    "_",
    "@",
    "[",
    "]",
    " ",
    "é",
    "\n",
    "localhost",
    "sha256:",
    "0" * 63,
]


def can_be_continued(prefix: str) -> bool:
    """Is there a valid name that begins like this?"""
    digest_so_far = prefix.rpartition("sha256:")[2]
    endings = (*ENDINGS, "0" * max(64 - len(digest_so_far), 0))
    return any(not refusal(partial(Reference.parse, prefix + ending)) for ending in endings)


@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=9).map("".join))
def test_the_wrong_character_is_the_first_wrong_one(text: str) -> None:
    """What stands before it could still have become a name; it, in this place, could not."""
    assume(len(text) <= 240)  # Beyond that the limit on the whole name comes into it.
    message = refusal(lambda: Reference.parse(text))
    if not message:
        assert str(Reference.parse(text)).endswith(
            text.removeprefix("index.docker.io/").removeprefix("docker.io/")
        )
        return
    assume("64 hexadecimal" not in message)
    found = re.search(r"character ([0-9]+)(?: is (?P<char>'.+?'),)?", message)
    assert found is not None, message
    position = int(found[1])
    if found["char"]:
        assert found["char"] == repr(text[position - 1])
        position -= 1
    else:
        assert position == len(text)
    assert can_be_continued(text[:position]), message


@given(st.text(max_size=60))
def test_any_text_gives_a_name_or_our_error(text: str) -> None:
    """Nothing else escapes."""
    refusal(lambda: Reference.parse(text))
