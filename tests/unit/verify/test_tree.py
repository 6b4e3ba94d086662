# SPDX-License-Identifier: Apache-2.0
"""Layers over each other as engines lay them, and paths that stay inside the root."""

from __future__ import annotations

from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.verify.conftest import entry, layer, tree

from manyfest.errors import TooLarge
from manyfest.verify import tree as module
from manyfest.verify.layers import OPAQUE, Layer
from manyfest.verify.tree import Tree


def paths(found: Tree) -> set[str]:
    """Every regular file."""
    return {path for path, _ in found.files()}


def test_whiteouts_hide_what_is_below_and_not_what_is_beside() -> None:
    """Whatever the order in the archive."""
    assert paths(tree({"a/x": "1", "a/y": "2"}, {"!a": None, "a/z": "3"})) == {"a/z"}
    assert paths(tree({"a": "1"}, {"!a": None, "a": "2"})) == {"a"}
    assert paths(tree({"a": "1"}, {"!nowhere/b": None})) == {"a"}


def test_opaque_folders_start_empty() -> None:
    """The folder itself stays."""
    below = layer({"d/old": "1", "other": "1"})
    above = Layer("", entries={"d/new": entry("2")}, whiteouts={"d": OPAQUE})
    assert paths(Tree([below, above])) == {"d/new", "other"}


def test_what_replaces_what() -> None:
    """A folder over a folder keeps its content; anything else does not."""
    assert paths(tree({"d/x": "1"}, {"d": "/"})) == {"d/x"}
    assert paths(tree({"d/x": "1"}, {"d": "file"})) == {"d"}
    assert paths(tree({"d": "file"}, {"d": "/", "d/x": "1"})) == {"d/x"}
    assert paths(tree({"real/x": "1", "d": "-> real"}, {"d": "/"})) == {"real/x"}


def test_hard_links_are_other_names() -> None:
    """Of what was there at that moment, in this layer or below."""
    found = tree({"a": "first"}, {"b": "= a"}, {"a": "second!"})
    node = found.find("/b").node
    assert node is not None
    assert node.entry.text == "first"
    assert [o.check for _, o in tree({"b": "= nowhere"}).oddities] == ["MF504"]


def test_members_go_through_links_of_lower_layers() -> None:
    """As containerd puts them, which is said, since not every engine does."""
    found = tree({"usr/lib/x": "1", "lib": "-> usr/lib"}, {"lib/y": "2"})
    assert paths(found) == {"usr/lib/x", "usr/lib/y"}
    assert [o.check for _, o in found.oddities] == ["MF509"]
    assert tree({"lib": "-> usr/lib", "usr/lib/x": "1", "lib/y": "2"}).oddities == []


@pytest.mark.parametrize(
    ("path", "leads_to", "why"),
    [
        ("/bin/sh", "usr/bin/dash", ""),
        ("/usr/bin/../bin/sh", "usr/bin/dash", ""),
        ("/../../bin/sh", "usr/bin/dash", ""),
        ("/out", "etc/passwd", ""),
        ("/loop/x", "loop", "loop"),
        ("/nowhere/x", "nowhere", "missing"),
        ("/etc/passwd/x", "etc/passwd", "not a directory"),
        ("/dangling", "gone", "missing"),
        ("/", "", ""),
    ],
)
def test_where_paths_lead(path: str, leads_to: str, why: str) -> None:
    """Inside the root, whatever links say."""
    files = {"bin": "-> usr/bin", "usr/bin/sh": "-> dash", "usr/bin/dash": "x", "etc/passwd": "x"}
    files |= {"out": "-> ../../../etc/passwd", "loop": "-> /loop", "dangling": "-> gone"}
    found = tree(files).find(path)
    assert (found.path, found.why) == (leads_to, why)


@pytest.mark.parametrize(
    ("files", "path", "why"),
    [
        ({f"l{n}": f"-> l{n + 1}" for n in range(40)} | {"l40": "x"}, "/l0", ""),
        ({f"l{n}": f"-> l{n + 1}" for n in range(41)} | {"l41": "x"}, "/l0", "too many links"),
        ({"here": "-> .", "x": "x"}, "/here" * 40 + "/x", ""),
        ({"here": "-> .", "x": "x"}, "/here" * 41 + "/x", "too many links"),
        ({"a": "-> b", "b": "-> a"}, "/a", "loop"),
        ({"a": "-> a/x"}, "/a", "loop"),
    ],
    ids=["40 in a row", "41 in a row", "40 on the way", "41 on the way", "a circle", "into itself"],
)
def test_a_circle_and_too_many_links_differ(files: dict[str, str | None], path: str, why: str) -> None:
    """Linux refuses both with ELOOP; a person mends them differently."""
    assert tree(files).find(path).why == why


def test_the_link_itself() -> None:
    """Without following the last one."""
    node = tree({"bin": "-> usr/bin", "usr/bin/sh": "-> dash"}).find("/bin/sh", follow=False).node
    assert node is not None
    assert node.entry.link == "dash"


def test_links_without_end_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each lookup is bounded, and all of them together."""
    monkeypatch.setattr(module, "MAX_FOLLOWED", 1000)
    far = "/".join(["x", ".."] * 40)
    with pytest.raises(TooLarge, match="without end"):
        tree({"x": "/", "l": f"-> {far}/d", "d": "/"}, {f"l/{i}/f": "1" for i in range(100)})


NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
WHATS = st.one_of(
    st.sampled_from(["/", "text"]),
    PATHS.map("-> {}".format),
    PATHS.map("-> /{}".format),
    PATHS.map("= {}".format),
)
LAYERS = st.lists(st.dictionaries(st.one_of(PATHS, PATHS.map("!{}".format)), WHATS, max_size=8), max_size=4)


@pytest.mark.property
@settings(max_examples=300, deadline=None)
@given(LAYERS, PATHS)
def test_any_layers_make_a_tree(layers: list[dict[str, str]], path: str) -> None:
    """And what it lists can be found where it says."""
    found = tree(*layers)
    for real, node in found.files():
        assert found.find(f"/{real}").node is node
    found.find(path)


@pytest.mark.property
@settings(max_examples=200, deadline=None)
@given(LAYERS)
def test_the_straight_way_to_a_folder_is_a_short_cut_only(layers: list[dict[str, str]]) -> None:
    """With every folder looked up through what may be links, the same tree and the same oddities come out."""
    found = tree(*layers)
    with mock.patch.object(Tree, "_straight", return_value=None):
        slowly = tree(*layers)
    assert [(path, node.layer) for path, node in found.files()] == [
        (path, node.layer) for path, node in slowly.files()
    ]
    assert found.oddities == slowly.oddities
