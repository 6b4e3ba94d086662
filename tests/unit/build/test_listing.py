# SPDX-License-Identifier: Apache-2.0
"""Listings are searched as if they had been read."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyfest.build.archives import Part, Spool
from manyfest.build.layer import Entry
from manyfest.build.listing import Below, Listing, ancestors
from manyfest.build.tree import Tree
from manyfest.errors import BuildError

SPOOL = Spool("sha256:x", lambda: io.BytesIO())
PARTS = ["a", "b", 'c"', "é", ".wh.a", ".wh..wh..opq"]
PATHS = st.lists(st.sampled_from(PARTS), min_size=1, max_size=3).map("/".join)


def listing(*entries: Entry) -> Listing:
    return Listing(Listing.write(entries), SPOOL)


def test_everything_is_kept() -> None:
    """And found by its path alone."""
    entries = [
        Entry("a/b", "file", 0o4755, uid=1, gid=2, size=3, content=Part(SPOOL, 512, 3)),
        Entry("a", "dir", 0o750),
        Entry('q"\n\udcff', "link", 0o777, link='x"y'),
        Entry("dev", "char", 0o600, device=(1, 3), pax=(("SCHILY.xattr.a", "b"),)),
    ]
    found = listing(*entries)
    assert [entry.facts() for entry in found] == [entry.facts() for entry in entries]
    for entry in entries:
        seen = found.find(entry.path)
        assert seen is not None
        assert seen.facts() == entry.facts()
    assert (found.find("a/"), found.find("b"), found.find("a/b/c"), found.has_below("b")) == (
        None,
        None,
        None,
        False,
    )
    assert found.has_below("a")


def test_damage_is_seen() -> None:
    """A bit, or a missing end."""
    raw = Listing.write([Entry("a", "dir", 0o755)])
    assert Listing.is_whole(raw)
    assert not Listing.is_whole(raw[:-1])
    assert not Listing.is_whole(raw.replace(b"a", b"b"))
    assert not Listing.is_whole(b"")


def test_ancestors() -> None:
    """The path itself first."""
    assert ancestors("a/b/c") == ["a/b/c", "a/b", "a"]


@st.composite
def layers(draw: st.DrawFn) -> list[list[Entry]]:
    """Layers as tools write them: each path once, and nothing below what is no folder."""
    made = []
    for _ in range(draw(st.integers(1, 3))):
        kinds = draw(st.dictionaries(PATHS, st.sampled_from(["file", "dir"]), max_size=6))
        sane = {
            path: kind
            for path, kind in kinds.items()
            if not any(kinds.get(above, "dir") != "dir" or ".wh" in above for above in ancestors(path)[1:])
        }
        made.append([Entry(p, "file" if ".wh" in p else k, 0o600) for p, k in sane.items()])
    return made


@given(layers(), PATHS)
@pytest.mark.property
def test_searching_finds_what_reading_finds(made: list[list[Entry]], path: str) -> None:
    """Whiteouts, opaque folders, folders that nobody lists."""
    if ".wh" in path:
        return
    read, below = Tree(), Below([listing(*entries) for entries in made])
    for entries in made:
        read.lay(entries)
    one, other = read.find(path), below.find(path)
    assert (one and one.kind) == (other and other.kind)
    stood = Tree(below)
    assert stood.is_folder(path) == read.is_folder(path)
    stood.add(Entry("new/x", "file", 0o600))
    read.add(Entry("new/x", "file", 0o600))
    assert [entry.path for entry in stood.below("")] == [entry.path for entry in read.below("")]


def test_a_link_to_nothing_ends_when_it_is_read() -> None:
    """Not before."""
    tree = Tree(Below([listing(Entry("a", "hard", 0, link="nowhere"))]))
    assert tree.find("a") is None
    with pytest.raises(BuildError, match="links /a to /nowhere"):
        tree.names("")
