# SPDX-License-Identifier: Apache-2.0
"""Files that lie at random: never an exception, never a look beyond the end, never more than the budget."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from manyfest.verify import elf
from manyfest.verify._attributes import parse
from manyfest.verify._reader import BUDGET
from manyfest.verify.facts import Facts, Kept
from manyfest.verify.kinds import read_facts, wanted

pytestmark = pytest.mark.property

ASSETS = Path(__file__).parents[1] / "assets"
SAMPLES = [
    path.read_bytes() for folder in ("elf", "pe", "macho") for path in sorted((ASSETS / folder).iterdir())
]
MAGICS = [
    b"\x7fELF\x02\x01\x01",
    b"\x7fELF\x01\x02\x01",
    b"MZ",
    b"#!",
    b"!<arch>\n",
    b"PK\x03\x04",
    b"\xca\xfe\xba\xbe",
]
MAGICS += [b"\xcf\xfa\xed\xfe", b"\xef\xbb\xbf#!"]

INTERESTING = [0, 1, 0x7F, 0x80, 0xFF]
mutations = st.lists(
    st.tuples(
        st.integers(0, 4095),
        st.one_of(st.sampled_from(INTERESTING), st.integers(0, 255)),
        st.sampled_from([1, 2, 4, 8]),
    ),
    min_size=1,
    max_size=12,
)


def mutated(raw: bytes, changes: list[tuple[int, int, int]], cut: int) -> bytes:
    """Some bytes, or runs of them, overwritten; then cut."""
    changed = bytearray(raw)
    for place, value, width in changes:
        at = place % len(changed)
        changed[at : at + width] = bytes([value]) * min(width, len(changed) - at)
    return bytes(changed[: max(len(changed) - cut, 0)])


def examine(raw: bytes, size: int, head: int) -> Facts | None:
    """Read as a file that can be sought in, and as a stream; both within bounds and the same where both saw all."""
    asked = []

    def more(offset: int, length: int) -> bytes:
        assert offset >= 0
        assert length > 0
        assert offset + length <= size
        asked.append(length)
        return raw[offset : offset + length]

    found = read_facts(raw[:head], size, more)
    assert sum(asked) <= BUDGET
    ranges = wanted(raw[:head], size)
    assert all(
        offset >= min(head, len(raw)) and length > 0 and offset + length <= size for offset, length in ranges
    )
    assert all(a + n <= b for (a, n), (b, _) in pairwise(ranges))
    assert sum(length for _, length in ranges) <= elf.KEEP
    kept = Kept(ranges)
    kept.feed(raw)
    streamed = read_facts(raw[:head], size, kept)
    assert (found is None) == (streamed is None)
    if found is not None and streamed is not None:
        assert found.platforms == streamed.platforms or "attributes" in streamed.incomplete + found.incomplete
        assert Facts.from_json(found.to_json()) == found
        assert len(repr(found)) < 500_000
    return found


@given(
    st.sampled_from(SAMPLES),
    mutations,
    st.one_of(st.just(0), st.integers(0, 4096)),
    st.sampled_from([64, 512, 4096]),
)
@settings(max_examples=1500)
def test_mutated_programs_never_raise(
    raw: bytes, changes: list[tuple[int, int, int]], cut: int, head: int
) -> None:
    """Every sample with a few wrong bytes, whole or cut."""
    broken = mutated(raw, changes, cut)
    examine(broken, len(broken), head)


@given(st.sampled_from(SAMPLES), mutations, st.integers(0, 1 << 40))
@settings(max_examples=300)
def test_sizes_that_lie_never_raise(raw: bytes, changes: list[tuple[int, int, int]], size: int) -> None:
    """The caller says a size, and cannot hand over that much."""
    broken = mutated(raw, changes, 0)
    examine(broken, max(size, len(broken)), 4096)


@given(st.sampled_from(MAGICS), st.binary(max_size=600))
@settings(max_examples=500)
@example(b"\x7fELF\x02\x01\x01", b"")
def test_noise_behind_a_magic_never_raises(magic: bytes, noise: bytes) -> None:
    """Only the first bytes are right."""
    raw = magic + noise
    examine(raw, len(raw), 4096)


@given(st.binary(max_size=200), st.sampled_from(["little", "big"]))
@settings(max_examples=500)
def test_attributes_of_noise_never_raise(noise: bytes, order: str) -> None:
    """A parser of its own format, fed from its first byte on."""
    parse(b"A" + noise, order)
    parse(noise, order)
    body = b"aeabi\0" + b"\1" + (len(noise) + 5).to_bytes(4, "little" if order == "little" else "big") + noise
    parse(b"A" + (len(body) + 4).to_bytes(4, "little" if order == "little" else "big") + body, order)
