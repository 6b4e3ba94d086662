# SPDX-License-Identifier: Apache-2.0
"""The nearest tags that have a platform, and what looking for them costs."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from manyfest.content.descriptor import Descriptor
from manyfest.content.document import Document
from manyfest.errors import NotFound, Unsupported
from manyfest.indexes.listing import Listing
from manyfest.indexes.nearest import FEW_GETS, MAX_GETS, MAX_HEADS, nearest, nearest_within, order
from manyfest.platforms import Platform
from manyfest.stores.base import HasTags
from manyfest.stores.memory import Memory
from manyfest.testing.images import make_index


@pytest.mark.parametrize(
    ("tag", "tags", "expected"),
    [
        ("1.2.3", ["2.0.0", "1.2.4", "1.3.0", "1.2.2"], ["1.2.4", "1.2.2", "1.3.0", "2.0.0"]),
        ("1.2.3-alpine", ["1.2.3", "1.2.4-alpine", "2.0-alpine"], ["1.2.4-alpine", "2.0-alpine", "1.2.3"]),
        ("v1.2", ["v1.1", "v1.10", "v2.0"], ["v1.10", "v1.1", "v2.0"]),
        ("latest", ["1.0", "edge", "2.0"], ["2.0", "1.0", "edge"]),
        ("12", ["11", "13", "12-slim", "12.5"], ["12.5", "13", "11", "12-slim"]),
        ("bookworm", ["trixie", "12"], ["12", "trixie"]),
    ],
)
def test_order(tag: str, tags: list[str], expected: list[str]) -> None:
    """Flavour, then as many equal numbers as possible, then the newest."""
    assert order(tags, tag) == expected


class Tagged(Memory, HasTags):
    """A store that lists its tags and counts what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.asked: Counter[str] = Counter()

    def tags(self) -> Iterator[str]:
        yield from self.names

    def add(self, name: str, *platforms: str, seed: int = 0) -> None:
        """A tag."""
        make_index(self, platforms, tag=name, seed=seed)
        self.names.append(name)

    def peek(self, name: str) -> Descriptor:
        self.asked["head"] += 1
        return super().resolve(name).descriptor

    def resolve(self, name: str) -> Document:
        self.asked["get"] += 1
        return super().resolve(name)


def test_the_nearest_is_found() -> None:
    """Tags of the same image are looked at once; signatures are no candidates."""
    store = Tagged()
    store.add("1.2.3", "linux/amd64")
    store.add("1.2.4", "linux/amd64", seed=1)
    store.add("1.2.5", "linux/amd64", "linux/s390x")
    store.add("latest", "linux/amd64", "linux/s390x")
    store.add("1.1", "linux/s390x")
    store.names.append("sha256-" + "0" * 64 + ".sig")
    store.names.append("gone")
    store.asked.clear()
    found = nearest(store, "1.2.3", lambda listing: Platform.parse("linux/s390x") in listing.platforms)
    assert [near.tag for near in found.found] == ["1.2.5", "1.1"]
    assert (found.tags, found.heads, found.gets) == (6, 5, 3)
    assert store.asked == {"head": 5, "get": 3}
    assert str(found) == "1.2.5, 1.1 have it (looked at 5 of 6 tags: 5 HEAD, 3 GET)"
    assert found.to_json()["found"][0]["platforms"] == ["linux/amd64", "linux/s390x"]


def test_the_budget_holds() -> None:
    """However many tags there are."""
    store = Tagged()
    for number in range(60):
        store.add(f"1.{number}", "linux/amd64", seed=number)
    store.asked.clear()
    found = nearest(store, "1.0", lambda _: False)
    assert (found.heads, found.gets) == (MAX_HEADS, MAX_GETS)
    assert store.asked == {"head": MAX_HEADS, "get": MAX_GETS}
    assert "no other tag has it (looked at 24 of 59 tags" in str(found)


def test_enough_is_enough() -> None:
    """It stops early."""
    store = Tagged()
    for number in range(30):
        store.add(f"1.{number}", "linux/amd64", seed=number)
    store.asked.clear()
    assert [near.tag for near in nearest(store, "1.0", lambda _: True).found] == ["1.29", "1.28", "1.27"]
    assert store.asked["get"] == 4


def test_places_without_tags() -> None:
    """Say so."""

    class NoTags:
        place = "docker-archive:x"

    with pytest.raises(Unsupported, match="does not list tags"):
        nearest(NoTags(), "1", lambda _: True)  # type: ignore[arg-type]


def test_tags_that_vanish_meanwhile() -> None:
    """Are not it."""

    class Vanishing(Tagged):
        def resolve(self, name: str) -> Document:
            raise NotFound(name)

    store = Vanishing()
    store.add("1.1", "linux/amd64")
    accepts: list[Listing] = []
    assert nearest(store, "1.0", lambda listing: not accepts.append(listing)).found == ()  # type: ignore[func-returns-value]
    assert accepts == []


def test_in_time_it_is_the_same() -> None:
    """With threads that nobody need wait for."""
    store = Tagged()
    for number in range(30):
        store.add(f"1.{number}", "linux/amd64", seed=number)
    assert nearest_within(store, "1.0", lambda _: True, 60) == nearest(store, "1.0", lambda _: True)


def test_who_did_not_ask_pays_little() -> None:
    """Few GET: some registries count them."""
    store = Tagged()
    for number in range(30):
        store.add(f"1.{number}", "linux/amd64", seed=number)
    store.asked.clear()
    assert nearest_within(store, "1.0", lambda _: False, 60) is not None
    assert store.asked["get"] == FEW_GETS


def test_a_registry_that_takes_its_time() -> None:
    """Is left alone, with threads that do not hold the process."""
    answer = threading.Event()

    class Slow(Tagged):
        def peek(self, name: str) -> Descriptor:
            answer.wait(60)
            return super().peek(name)

    store = Slow()
    store.add("1.1", "linux/amd64")
    store.add("1.2", "linux/amd64")
    before = set(threading.enumerate())
    assert nearest_within(store, "1.0", lambda _: True, 0.01) is None
    left = set(threading.enumerate()) - before
    assert left
    assert all(thread.daemon for thread in left)
    answer.set()
    for thread in left:
        thread.join()


def test_what_is_told_in_time_or_not_at_all() -> None:
    """A place without tags, or one that fails, is no error beside the one that is being told; a mistake of ours is."""

    class NoTags:
        place = "docker-archive:x"

    class Broken(Tagged):
        def tags(self) -> Iterator[str]:
            raise NotFound("no such repository")

    assert nearest_within(NoTags(), "1", lambda _: True) is None  # type: ignore[arg-type]
    assert nearest_within(Broken(), "1", lambda _: True) is None
    store = Tagged()
    store.add("1.1", "linux/amd64")
    with pytest.raises(ZeroDivisionError):
        nearest_within(store, "1.0", lambda _: bool(1 / 0))


def test_a_mistake_in_a_thread_is_heard_of() -> None:
    """Whichever thread it is in."""

    class Wrong(Tagged):
        def peek(self, name: str) -> Descriptor:
            raise ZeroDivisionError(name)

    store = Wrong()
    store.add("1.1", "linux/amd64")
    with pytest.raises(ZeroDivisionError):
        nearest_within(store, "1.0", lambda _: True)
