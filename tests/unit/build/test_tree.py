# SPDX-License-Identifier: Apache-2.0
"""The files that layers leave."""

from __future__ import annotations

import pytest

from manyfest.build.layer import Entry
from manyfest.build.tree import Tree
from manyfest.errors import BuildError


def tree(*entries: Entry) -> Tree:
    made = Tree()
    made.lay(entries)
    return made


def link(path: str, target: str) -> Entry:
    return Entry(path, "link", 0o777, link=target)


def file(path: str) -> Entry:
    return Entry(path, "file", 0o644)


def paths(made: Tree) -> list[str]:
    return [entry.path for entry in made.below("")]


def test_whiteouts() -> None:
    """One name, and a whole folder."""
    made = tree(file("a/x"), file("a/y"), file("b/x"), file("b/c/d"))
    made.lay([file("a/.wh.x"), file("b/.wh..wh..opq"), file("b/new")])
    assert paths(made) == ["a", "a/y", "b", "b/new"]


def test_a_file_over_a_folder() -> None:
    """What was in the folder is gone."""
    made = tree(file("a/x"))
    made.lay([file("a")])
    assert paths(made) == ["a"]


def test_hard_links_are_the_file() -> None:
    """Under another name."""
    made = tree(Entry("a", "file", 0o755, uid=4), Entry("b", "hard", 0, link="a"))
    found = made.find("b")
    assert found is not None
    assert (found.kind, found.mode, found.uid) == ("file", 0o755, 4)
    with pytest.raises(BuildError, match="links /c to /nowhere"):
        made.lay([Entry("c", "hard", 0, link="nowhere")])


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("bin/sh", "usr/bin/sh"),
        ("abs/sh", "usr/bin/sh"),
        ("up/x", "x"),
        ("usr/../bin", "usr/bin"),
        ("../../bin/x", "usr/bin/x"),
        ("nothing/here", "nothing/here"),
        ("", ""),
    ],
)
def test_links_are_followed_inside(path: str, expected: str) -> None:
    """Absolute and relative; .. ends at the root."""
    made = tree(file("usr/bin/sh"), link("bin", "usr/bin"), link("abs", "/usr/bin"), link("up", "../../.."))
    assert made.resolve(path) == expected


def test_the_last_link_may_stay() -> None:
    """When it is about the link itself."""
    made = tree(link("a", "b"))
    assert (made.resolve("a"), made.resolve("a", last=False)) == ("b", "a")


def test_circles() -> None:
    """End in an error."""
    with pytest.raises(BuildError, match="circle"):
        tree(link("a", "b"), link("b", "a")).resolve("a/x")


def test_copies_are_independent() -> None:
    """A stage goes on from another without changing it."""
    made = tree(file("a/x"))
    other = made.copy()
    other.remove("a")
    assert (paths(made), paths(other)) == (["a", "a/x"], [])


def test_a_layer_may_lead_through_a_link() -> None:
    """Its files land where the link leads, as engines unpack them."""
    made = tree(file("usr/bin/sh"), link("bin", "usr/bin"))
    made.lay([file("bin/app")])
    assert paths(made) == ["bin", "usr", "usr/bin", "usr/bin/app", "usr/bin/sh"]
