# SPDX-License-Identifier: Apache-2.0
"""Platforms: reading, printing, normalising and choosing agree with each other."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyfest.errors import InvalidPlatform
from manyfest.platforms import (
    AnyOf,
    Only,
    OnlyStrict,
    Ordered,
    Platform,
    best,
    from_name,
    normalise,
    ranked,
    vector,
)

pytestmark = pytest.mark.property


def refusal(call: Callable[[], object]) -> str:
    """The message of our error, or the empty string when there is none; any other error goes through."""
    try:
        call()
    except InvalidPlatform as error:
        return str(error) or "an error without a message"
    return ""


ARCHITECTURES = (
    "amd64",
    "AMD64",
    "x86_64",
    "x86-64",
    "386",
    "i386",
    "arm",
    "armhf",
    "armel",
    "ARM",
    "arm64",
    "aarch64",
    "Aarch64",
    "ppc64le",
    "riscv64",
    "s390x",
    "mips64le",
    "odd.arch",
)
VARIANTS = (
    "v1",
    "v2",
    "v3",
    "v5",
    "v6",
    "v7",
    "v8",
    "V8",
    "5",
    "6",
    "7",
    "8",
    "9",
    "9.0",
    "v8.0",
    "v8.2",
    "v9",
    "v9.0",
    "v9.4",
    "power9",
    "rva22u64",
    "odd",
)

systems = st.sampled_from(["linux", "Linux", "windows", "darwin", "macos", "MacOS", "freebsd", "odd_os"])
options = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1, max_size=6)
versions = st.one_of(st.just(""), options, st.sampled_from(["10.0.17763.1", "10.0.20348", "10.0.26100.2"]))


@st.composite
def platforms(draw: st.DrawFn) -> Platform:
    """Any platform, strange ones included."""
    return Platform(
        draw(systems),
        draw(st.sampled_from(ARCHITECTURES)),
        draw(st.one_of(st.just(""), st.sampled_from(VARIANTS))),
        draw(versions),
        draw(st.lists(options, max_size=3)),
        draw(st.lists(options, max_size=2)),
    )


@given(platforms())
def test_normalise_is_idempotent(platform: Platform) -> None:
    """Once is enough."""
    normal = normalise(platform)
    assert normalise(normal) == normal


@given(platforms())
def test_text_round_trip(platform: Platform) -> None:
    """What is printed means the same; what was read prints the same."""
    told = platform.replace(features=())
    read = Platform.parse(str(told))
    assert normalise(read) == normalise(told)
    assert str(Platform.parse(str(read))) == str(read)
    assert Platform.parse(str(read)) == read


@given(platforms())
def test_json_round_trip(platform: Platform) -> None:
    """Nothing is lost or changed."""
    assert Platform.from_json(json.loads(json.dumps(platform.to_json()))) == platform


@given(platforms())
def test_a_machine_runs_its_own_platform_best(platform: Platform) -> None:
    """In every matcher, and as it was written."""
    for matcher in (Only(platform), OnlyStrict(platform), Ordered(platform), AnyOf(platform)):
        assert matcher.rank(platform) == 0
        assert matcher.rank(normalise(platform)) == 0


@given(platforms(), platforms())
def test_strict_implies_only(host: Platform, image: Platform) -> None:
    """And every element of the vector matches at its own place at the latest."""
    if OnlyStrict(host).matches(image):
        assert Only(host).rank(image) == 0
    for position, wanted in enumerate(vector(host)):
        rank = Only(host).rank(wanted)
        assert rank is not None
        assert rank <= position


@given(platforms())
def test_running_is_transitive(host: Platform) -> None:
    """What a lesser machine of the vector runs, the greater one runs too, in the same order."""
    whole = vector(host)
    for position, lesser in enumerate(whole):
        assert [p for p in vector(lesser) if p not in whole] == []
        assert position == 0 or lesser != whole[0]


@given(platforms(), st.lists(platforms(), max_size=6))
def test_ranked_is_stable_and_best_is_its_first(host: Platform, listed: list[Platform]) -> None:
    """Equals stay in order; nothing is lost or made up."""
    entries = list(enumerate(listed))

    def platform_of(entry: tuple[int, Platform]) -> Platform:
        return entry[1]

    found = ranked(entries, Only(host), platform_of)
    assert sorted(found, key=lambda entry: entry[0]) == [e for e in entries if Only(host).matches(e[1])]
    assert best(entries, Only(host), platform_of) == (found[0] if found else None)
    for before, after in pairwise(found):
        if normalise(before[1]) == normalise(after[1]):
            assert before[0] < after[0]
    ranks = [Only(host).rank(entry[1]) or 0 for entry in found]
    assert ranks == sorted(ranks)


@given(st.text(max_size=30))
def test_any_text_gives_a_platform_or_our_error(text: str) -> None:
    """Nothing else escapes, from any reader."""
    refusal(lambda: Platform.parse(text))
    refusal(lambda: from_name(text))


@given(st.text(alphabet="linuxarm64/()+%:,=v. ", max_size=20))
def test_near_misses(text: str) -> None:
    """Text that looks like a platform is read or refused, and what is read prints."""
    if not refusal(lambda: Platform.parse(text)):
        platform = Platform.parse(text)
        assert Platform.parse(str(platform)) == platform
        assert isinstance(platform.suggestion, str)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = ["os", "architecture", "variant", "os.version", "os.features", "features"]


@given(st.dictionaries(st.sampled_from(KEYS), json_values) | json_values)
def test_any_json_gives_a_platform_or_our_error(value: Any) -> None:
    """Nothing else escapes."""
    if not refusal(lambda: Platform.from_json(value)):
        assert str(Platform.from_json(value))
    if not refusal(lambda: Platform.from_config(value)):
        assert str(Platform.from_config(value))
