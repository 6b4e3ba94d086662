# SPDX-License-Identifier: Apache-2.0
"""Joining from parallel jobs: every interleaving of reads and writes ends with every platform."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

import pytest

from manyfest.content.descriptor import Descriptor
from manyfest.content.document import Document
from manyfest.errors import InvalidSpec, Refused, RegistryError
from manyfest.indexes.join import clear_marks, join, mark_name
from manyfest.platforms import Platform
from manyfest.stores.memory import Memory
from manyfest.stores.pool import Pool

MakeImage = Callable[..., Document]


def entry(make_image: MakeImage, store: Memory, platform: str) -> Descriptor:
    document = make_image(store, platform, content=platform.encode())
    return document.descriptor.with_platform(Platform.parse(platform))


def shown(store: Memory, name: str) -> list[str]:
    return sorted(str(e.platform) for e in store.resolve(name).index.manifests)


def test_one_after_the_other(make_image: MakeImage) -> None:
    """Each joins what is there."""
    store = Memory()
    for platform in ("linux/amd64", "linux/arm64"):
        join(store, "v1", [entry(make_image, store, platform)])
    assert shown(store, "v1") == ["linux/amd64", "linux/arm64"]


def test_an_image_pushed_straight_to_the_tag_is_the_first_platform(make_image: MakeImage) -> None:
    """The usual accident of matrix builds is repaired."""
    store = Memory()
    make_image(store, "linux/amd64", "v1")
    join(store, "v1", [entry(make_image, store, "linux/arm64")])
    assert shown(store, "v1") == ["linux/amd64", "linux/arm64"]


class Scheduled(Memory):
    """A store whose tag is read and written in an order that the test dictates."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = threading.Condition()
        self.order: list[str] = []

    def step(self) -> None:
        me = threading.current_thread().name
        with self.turn:
            # When the dictated order is used up, or names a job that has ended, everybody runs freely.
            self.turn.wait_for(lambda: not self.order or self.order[0] == me, timeout=0.2)
            if self.order and self.order[0] == me:
                self.order.pop(0)
            self.turn.notify_all()

    def resolve(self, name: str) -> Document:
        if name == "v1":
            self.step()
        return super().resolve(name)

    def tag(self, document: Document, name: str) -> None:
        if name == "v1":
            self.step()
        super().tag(document, name)


@pytest.mark.slow
@pytest.mark.parametrize("order", sorted(set(itertools.permutations("aabb"))))
def test_no_interleaving_loses_a_platform(make_image: MakeImage, order: tuple[str, ...]) -> None:
    """Two jobs, each reading then writing the tag, in every order of their first two steps."""
    store = Scheduled()
    entries = {"a": entry(make_image, store, "linux/amd64"), "b": entry(make_image, store, "linux/arm64")}
    store.order = list(order)

    def job(name: str) -> None:
        join(store, "v1", [entries[name]], pause=lambda _: None, pool=Pool(1))

    threads = [threading.Thread(target=job, name=name, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    store.order = []
    assert shown(store, "v1") == ["linux/amd64", "linux/arm64"]


@pytest.mark.slow
def test_twelve_jobs_at_once(make_image: MakeImage) -> None:
    """No order dictated: just all of them."""
    store = Memory()
    platforms = [f"linux/a{i}" for i in range(12)]
    entries = [entry(make_image, store, platform) for platform in platforms]
    threads = [threading.Thread(target=join, args=(store, "v1", [e])) for e in entries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert shown(store, "v1") == sorted(platforms)


def test_the_tag_waits_for_the_expected_set_when_asked(make_image: MakeImage) -> None:
    """Readers keep the old release until the new one is complete."""
    store = Memory()
    expect = [Platform.parse("linux/amd64"), Platform.parse("linux/arm64")]
    first = join(store, "v1", [entry(make_image, store, "linux/amd64")], expect=expect, when_complete=True)
    assert [str(p) for p in first.missing] == ["linux/arm64"]
    assert "v1" not in list(store.tags())
    last = join(store, "v1", [entry(make_image, store, "linux/arm64")], expect=expect, when_complete=True)
    assert last.missing == ()
    assert shown(store, "v1") == ["linux/amd64", "linux/arm64"]


def test_marks_can_be_cleared(make_image: MakeImage) -> None:
    """When all jobs have ended."""
    store = Memory()
    join(store, "v1", [entry(make_image, store, "linux/arm/v7")])
    assert clear_marks(store, "v1") == ("v1.join-linux-arm-v7",)
    assert list(store.tags()) == ["v1"]


def test_a_mark_is_a_valid_tag_however_long_the_name() -> None:
    """At most 128 characters, and different for different names."""
    long = "x" * 120
    marks = {mark_name(long + end, Platform.parse("linux/arm/v7")) for end in "ab"}
    assert len(marks) == 2
    assert all(len(mark) <= 128 for mark in marks)


def test_a_tag_that_never_rests_ends_in_a_refusal(make_image: MakeImage) -> None:
    """Something else keeps writing it."""

    class Restless(Memory):
        def tag(self, document: Document, name: str) -> None:
            if name != "v1":
                super().tag(document, name)

    store = Restless()
    with pytest.raises(Refused, match="changed by others"):
        join(store, "v1", [entry(make_image, store, "linux/amd64")], tries=3, pause=lambda _: None)


def test_a_registry_that_stumbles_over_a_write_is_asked_again(make_image: MakeImage) -> None:
    """distribution 2.8 answers 500 to a read that meets the write of the same tag; any other failure is raised."""

    class Stumbling(Memory):
        status = 500
        failures = 2

        def resolve(self, name: str) -> Document:
            if name == "v1" and self.failures:
                self.failures -= 1
                raise RegistryError("unknown error", status=self.status)
            return super().resolve(name)

    store = Stumbling()
    joined = join(store, "v1", [entry(make_image, store, "linux/amd64")], pause=lambda _: None)
    assert (shown(store, "v1"), joined.rounds) == (["linux/amd64"], 4)
    store.failures, store.status = 1, 503
    with pytest.raises(RegistryError):
        join(store, "v1", [entry(make_image, store, "linux/arm64")], pause=lambda _: None)


def test_an_entry_needs_a_platform(make_image: MakeImage) -> None:
    """It joins by it."""
    store = Memory()
    with pytest.raises(InvalidSpec, match="no platform"):
        join(store, "v1", [make_image(store, "linux/amd64").descriptor])
