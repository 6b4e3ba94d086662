# SPDX-License-Identifier: Apache-2.0
"""The dashboard's state: boards, sentences, swarms, probes, lists; nothing is asked over a network."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, cast

import pytest

from manyfest.content.descriptor import Descriptor
from manyfest.content.document import Document
from manyfest.engines.docker import Docker
from manyfest.errors import EngineError, InputError, NotFound
from manyfest.platforms import Platform
from manyfest.serve.dashboard import cluster
from manyfest.serve.dashboard.events import event, follow
from manyfest.serve.dashboard.lists import looked_at
from manyfest.serve.dashboard.probe import KEPT, Probe, named
from manyfest.serve.dashboard.state import Board, list_changes, probe_changes, swarm_changes
from manyfest.serve.dashboard.watchers import Lists, Probing, Swarm, Watchers
from manyfest.serve.exchange import Request, Response
from manyfest.serve.http import Server
from manyfest.stores.base import Source
from manyfest.stores.memory import Memory
from manyfest.stores.pool import Pool
from manyfest.testing.images import make_image, make_index
from manyfest.verify.cache import Cache

NAME = "registry.test/app:1"


def machine(name: str, word: str, state: str = "ready", availability: str = "active") -> dict[str, Any]:
    """A node in the Engine API's words; its id is its name."""
    return {
        "ID": name,
        "Description": {"Hostname": name, "Platform": {"Architecture": word, "OS": "linux"}},
        "Spec": {"Role": "worker", "Availability": availability},
        "Status": {"State": state},
    }


def service(name: str, mode: Mapping[str, Any]) -> dict[str, Any]:
    """A service; its id is its name."""
    template = {"ContainerSpec": {"Image": "app:1@sha256:00"}}
    return {"ID": name, "Spec": {"Name": name, "Mode": mode, "TaskTemplate": template}}


def task(
    at: int, of: str, node: str, state: str, *, slot: int = 0, error: str = "", wanted: str = "running"
) -> Any:
    """A task, made at ``at``."""
    return {
        "ID": f"t{at}",
        "CreatedAt": f"2026-01-01T00:00:{at:02d}Z",
        "ServiceID": of,
        "NodeID": node,
        "Slot": slot or None,
        "DesiredState": wanted,
        "Status": {"State": state, "Err": error},
        "Spec": {},
    }


NODES = [machine("b", "i686"), machine("a", "x86_64"), machine("c", "aarch64", availability="drain")]
SERVICES = [service("web", {"Global": {}}), service("api", {"Replicated": {"Replicas": 3}})]
TASKS = [
    task(1, "web", "a", "failed", error="exec format error", wanted="shutdown"),
    task(2, "web", "a", "running"),
    task(3, "web", "b", "rejected", error="no suitable platform", wanted="shutdown"),
    task(4, "web", "c", "shutdown", wanted="shutdown"),
    task(5, "api", "a", "running", slot=1),
    task(6, "api", "", "pending", slot=2),
]


def test_a_board_tells_each_change_once() -> None:
    """The same value again is no change; snapshots have the newest sentence first."""
    board = Board()
    board.put("lists", [1], ["one", "two"])
    board.put("lists", [1])
    assert board.version == 1
    assert [change["text"] for change in board.snapshot()["changes"]] == ["two", "one"]
    assert [change["number"] for change in board.snapshot()["changes"]] == [2, 1]
    assert not board.wait(1, 0)
    assert board.wait(0, 0)


def test_a_closed_board_wakes_who_waits() -> None:
    """Long before the time is over."""
    board = Board()
    heard: list[bool] = []
    waiting = threading.Thread(target=lambda: heard.append(board.wait(0, 30)))
    waiting.start()
    board.close()
    waiting.join(5)
    assert heard == [False]
    board.rest(30)


def test_a_swarm_by_architecture_and_the_newest_task_of_each_place() -> None:
    """What failed before something that runs is history; what is not wanted any more is gone."""
    shown = cluster.view(NODES, SERVICES, TASKS)
    assert [(n["name"], n["platform"], n["machine"], n["state"], n["running"]) for n in shown["nodes"]] == [
        ("b", "linux/386", "i686", "ready", 0),
        ("a", "linux/amd64", "x86_64", "ready", 2),
        ("c", "linux/arm64", "aarch64", "drained", 0),
    ]
    api, web = shown["services"]
    assert (web["mode"], web["image"], web["running"], web["expected"]) == ("global", "app:1", 1, 2)
    assert [(t["node"], t["architecture"], t["state"], t["detail"]) for t in web["tasks"]] == [
        ("a", "amd64", "running", ""),
        ("b", "386", "rejected", "no suitable platform"),
    ]
    assert (api["mode"], api["running"], api["expected"]) == ("replicated", 1, 3)
    assert [(t["node"], t["state"]) for t in api["tasks"]] == [("", "pending"), ("a", "running")]


def test_sentences_about_a_swarm() -> None:
    """First how many there are, then what moves."""
    before = cluster.view(NODES, SERVICES, TASKS)
    assert swarm_changes(None, before) == ["the swarm has 3 nodes"]
    assert swarm_changes(before, before) == []
    after = cluster.view(
        [machine("a", "x86_64"), machine("b", "i686", "down")],
        SERVICES,
        [*TASKS, task(9, "web", "b", "running")],
    )
    assert swarm_changes(before, after) == ["node b: down", "node c: gone", "web on b: running"]
    away = cluster.unreachable(EngineError("it does not answer", hint="start it"), before)
    assert (away["nodes"], away["hint"]) == (before["nodes"], "start it")
    assert swarm_changes(before, away) == ["it does not answer"]
    assert swarm_changes(away, away) == []


@pytest.mark.parametrize(
    ("text", "architecture"),
    [
        ("Hello from linux/arm64", "arm64"),
        ("linux/arm/v7 here", "arm"),
        ("I run on aarch64.", "arm64"),
        ("Linux z 6.1 s390x GNU/Linux", "s390x"),
        ("amd64 blue\n", "amd64"),
        ("i686", "386"),
        ("<html><title>Welcome to nginx!</title>", ""),
        ("linux/nonsense", ""),
        ("", ""),
    ],
)
def test_an_architecture_is_found_in_an_answer(text: str, architecture: str) -> None:
    """In whatever words."""
    assert named(text) == architecture


@pytest.mark.parametrize(
    "url",
    ["", "localhost:80", "file:///etc/passwd", "http://", "http://h:x/", "http://a b/", "http://h/\r\nX: y"],
)
def test_what_cannot_be_probed_is_refused(url: str) -> None:
    """Before anything is asked."""
    with pytest.raises(InputError):
        Probe(url)


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    """It would be on the page."""
    with pytest.raises(InputError) as raised:
        Probe("http://me:secret@host/")
    assert "secret" not in str(raised.value) + raised.value.hint


class Service:
    """Answers with an architecture after the other; ``None`` is an error."""

    def __init__(self, *words: str | None) -> None:
        self.words = list(words)

    def handle(self, request: Request, /) -> Response:
        assert (request.method, request.target) == ("GET", "/who?x=1")
        word = self.words.pop(0)
        return Response(502, {}, b"bad gateway") if word is None else Response(200, {}, word.encode())


def test_who_answers_is_counted() -> None:
    """By architecture, else by the first line; what fails is counted apart, and told once."""
    with Server(Service("linux/arm64", "x86_64", None, None, "\n  It works!\n")) as server:
        probe = Probe(f"{server.url}/who?x=1")
        shown = [probe.ask() for _ in range(5)]
    last = shown[-1]
    assert last["answers"] == [{"name": n, "count": 1} for n in ("It works!", "amd64", "arm64")]
    assert (last["total"], last["failures"], last["recent_failures"]) == (5, 2, 2)
    assert [each["error"] for each in last["recent"]][2:4] == ["it answers with status 502"] * 2
    steps = [
        probe_changes(None, shown[0]),
        *(probe_changes(a, b) for a, b in pairwise(shown)),
    ]
    url = last["url"]
    assert steps == [
        ["arm64 answers"],
        ["amd64 answers"],
        [f"{url}: it answers with status 502"],
        [],
        ["It works! answers", f"{url} answers again"],
    ]


def test_nobody_answers() -> None:
    """The reason is in words, and the last requests only are kept."""
    with Server(Service()) as server:
        url = server.url
    probe = Probe(url)
    for _ in range(KEPT + 1):
        shown = probe.ask()
    assert (len(shown["recent"]), shown["total"], shown["answers"]) == (KEPT, KEPT + 1, [])
    assert shown["recent"][-1]["error"] == "no answer: Connection refused"


class Opened:
    """Places for a watcher: one store under every repository."""

    def __init__(self, store: Source) -> None:
        self.store = store

    def __call__(self, place: str) -> tuple[Source, str]:
        return self.store, place.rpartition(":")[2]


@pytest.fixture
def cache(tmp_path: Any) -> Cache:
    """Of findings."""
    return Cache(str(tmp_path / "cache"))


def once(board: Board, watcher: Lists | Swarm | Probing) -> dict[str, Any]:
    """What the board shows after one look."""
    Watchers(board, [watcher]).once()
    return board.snapshot()


def test_a_list_is_shown_and_verified(cache: Cache) -> None:
    """Rows, sizes, attestations; then what its programs are."""
    store = Memory()
    root = make_index(store, ("linux/amd64", "linux/arm64"), attestations=True, tag="1")
    shown = once(board := Board(), Lists([NAME], Opened(store), cache))
    (found,) = shown["lists"]
    assert (found["state"], found["digest"], found["errors"]) == ("ready", str(root.digest), 0)
    assert [(r["platform"], r["attestations"], r["starts"]) for r in found["platforms"]] == [
        ("linux/amd64", ["provenance"], "starts"),
        ("linux/arm64", ["provenance"], "starts"),
    ]
    assert all(row["size"] > 100 and row["layers"] == 1 for row in found["platforms"])
    said = [change["text"] for change in reversed(shown["changes"])]
    assert said == [f"{NAME} is {str(root.digest)[:19]}, 2 platforms", f"{NAME}: no errors found"]
    assert board.version == shown["version"]


def test_each_document_of_a_big_list_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of many attested images, in as many looks as it has entries."""
    store, looks = Memory(), 0
    root = make_index(store, [f"linux/arm/v{n}" for n in range(80)], attestations=True)
    attests = Descriptor.attests.fget  # type: ignore[attr-defined]

    def counted(entry: Descriptor) -> str:
        nonlocal looks
        looks += 1
        return str(attests(entry))

    monkeypatch.setattr(Descriptor, "attests", property(counted))
    rows = looked_at(NAME, store, root, Pool(2))["platforms"]
    assert [row["attestations"] for row in rows] == [["provenance"]] * 80
    assert looks <= 4 * len(root.index.manifests)


def test_a_wrong_program_is_found(cache: Cache) -> None:
    """arm64 that holds amd64."""
    from manyfest.emulate.images import PROGRAM_PATH
    from manyfest.emulate.programs import program

    store = Memory()
    amd64 = (program(Platform("linux", "amd64")), 0o755)
    make_image(store, "linux/arm64", files={PROGRAM_PATH: amd64}, tag="1")
    (found,) = once(Board(), Lists([NAME], Opened(store), cache))["lists"]
    assert (found["kind"], found["errors"]) == ("image", 1)
    assert found["platforms"][0]["starts"] == "fails"
    assert (found["findings"][0]["name"], found["findings"][0]["severity"]) == ("wrong-architecture", "error")


def test_what_is_gone_comes_back_and_moves(cache: Cache) -> None:
    """Each time in one sentence; an unchanged list is not looked into again."""
    store, board = Memory(), Board()
    watcher = Lists([NAME], Opened(store), cache)
    shown = once(board, watcher)["lists"][0]
    assert (shown["state"], shown["platforms"]) == ("failed", [])
    once(board, watcher)
    first = make_index(store, ("linux/amd64",), tag="1")
    once(board, watcher)
    version = board.version
    once(board, watcher)
    assert board.version == version
    second = make_index(store, ("linux/amd64",), tag="1", seed=1)
    texts = [change["text"] for change in reversed(once(board, watcher)["changes"])]
    assert texts[0].startswith(f"{NAME}: ")
    assert texts[1:] == [
        f"{NAME} is {str(first.digest)[:19]}, 1 platform",
        f"{NAME}: no errors found",
        f"{NAME} was moved to {str(second.digest)[:19]}, 1 platform",
        f"{NAME}: no errors found",
    ]


def test_a_list_with_a_missing_image(cache: Cache) -> None:
    """It says so in its row, whatever verifying says."""

    class Half(Memory):
        def resolve(self, name: str) -> Document:
            if name == gone:
                raise NotFound("gone")
            return super().resolve(name)

    half, gone = Half(), ""
    root = make_index(half, ("linux/amd64", "linux/arm64"), tag="1")
    gone = str(root.index.manifests[0].digest)
    (found,) = once(Board(), Lists([NAME], Opened(half), cache))["lists"]
    assert [row["missing"] for row in found["platforms"]] == [True, False]
    assert found["errors"] > 0


def test_every_tag_of_a_repository(cache: Cache) -> None:
    """And tags that come later."""
    store, board = Memory(), Board()
    make_index(store, ("linux/amd64",), tag="1")
    watcher = Lists([], Opened(store), cache, repositories=["registry.test/app"])
    assert [found["name"] for found in once(board, watcher)["lists"]] == ["registry.test/app:1"]
    make_index(store, ("linux/arm64",), tag="2")
    names = [found["name"] for found in once(board, watcher)["lists"]]
    assert names == ["registry.test/app:1", "registry.test/app:2"]


def test_nothing_is_read_once_nobody_looks(cache: Cache) -> None:
    """What is not known stays as it was."""
    board, stop = Board(), threading.Event()
    stop.set()
    Lists([NAME], Opened(Memory()), cache).look(board, stop)
    assert [found["state"] for found in board.snapshot()["lists"]] == ["reading"]


class Engine:
    """Answers, or fails with what it was given."""

    def __init__(self) -> None:
        self.error: EngineError | None = None

    def _give(self, value: Sequence[Any]) -> Sequence[Any]:
        if self.error:
            raise self.error
        return value

    def nodes(self) -> Sequence[Any]:
        return self._give(NODES)

    def services(self) -> Sequence[Any]:
        return self._give(SERVICES)

    def tasks(self) -> Sequence[Any]:
        return self._give(TASKS)


def test_an_engine_that_goes_away_and_comes_back() -> None:
    """The last that was known stays, with why it may be old."""
    engine, board = Engine(), Board()
    watcher = Swarm(cast(Docker, engine))
    assert len(once(board, watcher)["swarm"]["nodes"]) == 3
    engine.error = EngineError("nothing answers", hint="start it")
    swarm = once(board, watcher)["swarm"]
    assert (len(swarm["nodes"]), swarm["error"], swarm["hint"]) == (3, "nothing answers", "start it")
    engine.error = None
    assert once(board, watcher)["swarm"]["error"] == ""


def test_watchers_begin_and_end() -> None:
    """Each in a thread of its own, until the end."""
    board = Board()
    looking = Watchers(board, [Swarm(cast(Docker, Engine()))])
    with looking:
        assert board.wait(0, 10)
    assert board.closed
    (thread,) = looking._threads
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_watcher_that_breaks_is_told_of() -> None:
    """A bug of ours must not look like a quiet cluster."""

    class Broken(Engine):
        def nodes(self) -> Sequence[Any]:
            raise RuntimeError("a bug")

    board = Board()
    with Watchers(board, [Swarm(cast(Docker, Broken()))]):
        assert board.wait(0, 10)
    (change,) = board.snapshot()["changes"]
    assert change["text"] == "internal error, swarm is not looked at any more: RuntimeError"


def test_what_is_closed_under_a_watcher_is_no_bug() -> None:
    """It may be in the middle of reading when nobody looks any more."""
    reading, closed = threading.Event(), threading.Event()

    class Closed(Engine):
        def nodes(self) -> Sequence[Any]:
            reading.set()
            assert closed.wait(10)
            raise ValueError("I/O operation on closed file")

    board = Board()
    looking = Watchers(board, [Swarm(cast(Docker, Closed()))])
    with looking:
        assert reading.wait(10)
        stop = looking._stop.set

        def told() -> None:
            stop()
            closed.set()

        looking._stop.set = told  # type: ignore[method-assign]
    (thread,) = looking._threads
    thread.join(10)
    assert board.snapshot()["changes"] == []


def test_events_are_snapshots_then_a_heartbeat() -> None:
    """The first at once, the next when something changes, a sign of life in between, the end with the board."""
    board = Board()
    stream = follow(board, heartbeat_s=0.01)
    assert next(stream) == b"retry: 2000\n\n"
    assert next(stream) == event(board.snapshot())
    board.put("probe", {"text": "a\nb"})
    second = next(stream)
    assert second.startswith(b"id: 1\nevent: state\ndata: {")
    assert second.count(b"\n") == 4
    board_thread = threading.Timer(0.0, board.close)
    beats = set()
    for piece in stream:
        beats.add(piece)
        if piece and not board_thread.is_alive() and not board.closed:
            board_thread.start()
    assert beats <= {b"", b"event: alive\ndata:\n\n"}
    assert b"event: alive\ndata:\n\n" in beats


def test_sentences_about_a_list_that_fails_twice() -> None:
    """The same error is told once."""
    shown = {"name": NAME, "state": "failed", "error": "no", "digest": "", "platforms": [], "verified": False}
    assert list_changes(None, shown) == [f"{NAME}: no"]
    assert list_changes(shown, shown) == []
