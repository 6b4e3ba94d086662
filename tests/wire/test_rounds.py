# SPDX-License-Identifier: Apache-2.0
"""How many requests a whole operation sends, and which of them travel side by side.

Round trips are what operations on a registry far away wait for, so they are counted here. A barrier stands for the
distance: it opens when all requests of a round are under way, and a conversation that asks one after another breaks
it.
"""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

import pytest

from manyfest.errors import CopyError, NotFound
from manyfest.indexes.publish import publish
from manyfest.indexes.spec import Entry, Spec
from manyfest.stores.base import CanWarm
from manyfest.stores.copy import ASK_FIRST, copy
from manyfest.testing.images import make_image, make_index, random_bytes
from manyfest.testing.inprocess import InProcess

if TYPE_CHECKING:
    from collections.abc import Callable

    from manyfest.content.descriptor import Descriptor
    from manyfest.stores.base import Readable, Source
    from manyfest.stores.registry.transport import Request, Response

PLATFORMS = ("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/ppc64le", "linux/s390x", "linux/riscv64")


class Rounds:
    """A hook that holds each request back until the rest of its round is there; ``sizes`` is in order."""

    def __init__(self, *sizes: int) -> None:
        self._barriers = [
            barrier for size in sizes for barrier in [threading.Barrier(size, timeout=10)] * size
        ]
        self._lock = threading.Lock()

    def __call__(self, _: Request) -> Response | None:
        with self._lock:
            assert self._barriers, "a request more than expected"
            barrier = self._barriers.pop(0)
        barrier.wait()
        return None

    @property
    def left(self) -> int:
        """Requests that were expected and not sent."""
        return len(self._barriers)


@pytest.fixture
def registry() -> InProcess:
    """With six images and a list of them in ``acme/app``, written down no more."""
    made = InProcess()
    store = made.store()
    for number, platform in enumerate(PLATFORMS):
        make_image(store, platform, tag=str(number))
    make_index(store, PLATFORMS, tag="list")
    made.requests.clear()
    return made


class Tracked:
    """A stream that knows whether it was closed."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self.closed = False

    def read(self, size: int = -1, /) -> bytes:
        """See :class:`Readable`."""
        return self._stream.read(size)

    def close(self) -> None:
        """See :class:`Readable`."""
        self.closed = True
        self._stream.close()


def opened(registry: InProcess) -> Callable[[str], tuple[Source, str]]:
    store = registry.store()
    return lambda text: (store, text.rpartition(":")[2])


def test_create_and_push_of_six_is_two_rounds_and_one_request(registry: InProcess) -> None:
    """The six names and what the tag holds now; the six configs; the index."""
    spec = Spec("acme/app:new", tuple(Entry(f"acme/app:{number}") for number in range(6)))
    registry.hook = rounds = Rounds(7, 6, 1)
    publish(spec, registry.store(), "new", opened(registry))
    assert rounds.left == 0
    assert registry.methods == ["GET"] * 13 + ["PUT"]


def test_copy_within_a_registry_mounts_everything_in_one_round(registry: InProcess) -> None:
    """Children and the new name; twelve mounts; children; the tag."""
    source, target = registry.store(), registry.store("acme/other")
    root = source.resolve("list")
    registry.requests.clear()
    registry.hook = rounds = Rounds(7, 12, 6, 1)
    copy(source, root, target, ["1"])
    assert rounds.left == 0
    assert sorted(set(registry.methods)) == ["GET", "HEAD", "POST", "PUT"]


def test_copy_to_another_registry_reads_while_the_target_is_told(registry: InProcess) -> None:
    """Children and the new name; twelve blobs asked for here and announced there; sent; children; the tag."""
    there = InProcess()
    source = registry.store()
    root = source.resolve("list")
    there.hook = registry.hook = rounds = Rounds(7, 24, 12, 6, 1)
    copy(source, root, there.store(), ["1"])
    assert rounds.left == 0


def test_a_big_blob_too_is_asked_for_while_the_target_is_told(registry: InProcess) -> None:
    """The new name; is the layer there, and the config as above; the layer likewise, the config sent; the rest."""
    source, there = registry.store(), InProcess()
    files = {"/big": (random_bytes(2 * ASK_FIRST), 0o644)}
    image = make_image(source, "linux/amd64", files=files, tag="big")
    root = source.resolve("big")
    assert root.digest == image.digest
    there.hook = registry.hook = rounds = Rounds(1, 3, 3, 1, 1)
    copy(source, root, there.store(), ["1"])
    assert rounds.left == 0


def test_a_target_that_refuses_gives_back_what_was_asked_for_ahead(registry: InProcess) -> None:
    """The source's answers are closed, and the target's own refusal is told."""
    there = InProcess()
    there.hook = lambda request: there.refuse(request, 403, "DENIED") if request.method == "POST" else None
    source = registry.store()
    opened: list[Tracked] = []
    ask = source.open

    def tracked(descriptor: Descriptor, offset: int = 0) -> Readable:
        opened.append(Tracked(ask(descriptor, offset)))
        return opened[-1]

    source.open = tracked  # type: ignore[method-assign]
    with pytest.raises(CopyError) as caught:
        copy(source, source.resolve("list"), there.store(), ["1"])
    assert caught.value.side == "target"
    assert opened
    assert all(stream.closed for stream in opened)


def test_a_name_that_is_not_there_costs_one_look(registry: InProcess) -> None:
    """A copy to a new name waits for this."""
    with pytest.raises(NotFound, match="no tag 'new'"):
        registry.store().peek("new")
    assert registry.methods == ["HEAD"]


def test_a_repository_warms_the_connections_of_its_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that a store knows of connections is how many it will want."""
    registry = InProcess()
    asked: list[tuple[str, int]] = []
    monkeypatch.setattr(registry, "warm", lambda url, count: asked.append((url, count)))
    store = registry.store()
    assert isinstance(store, CanWarm)
    store.warm(7)
    assert [(re.sub(r"^https?://", "", url), count) for url, count in asked] == [("localhost:5000", 7)]
