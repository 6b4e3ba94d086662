# SPDX-License-Identifier: Apache-2.0
"""Those who find out what a board shows, each in a thread of its own: lists, a swarm, who answers.

One list at a time is looked into, so however many there are, a registry and this machine are asked little at once.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from manyfest.errors import Error, Unsupported
from manyfest.serve.dashboard import cluster, lists
from manyfest.serve.dashboard.probe import Probe
from manyfest.serve.dashboard.state import Board, list_changes, probe_changes, swarm_changes
from manyfest.stores.base import HasTags
from manyfest.stores.pool import Pool, Stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import TracebackType
    from typing import Any, Self

    from manyfest.engines.docker import Docker
    from manyfest.stores.base import Source
    from manyfest.verify.cache import Cache

    Open = Callable[[str], tuple[Source, str]]
    """Opens a place: the source, and the tag or digest meant there."""

__all__ = ["Lists", "Probing", "Swarm", "Watchers"]

LISTS_S = 10.0
SWARM_S = 1.0
PROBE_S = 1.0
MAX_TAGS = 40
"""Tags of a repository that are shown: the last ones that the registry lists."""

_WORKERS = 4
_FIRST_PROBES = 8


class Lists:
    """The lists that were named, and every tag of the repositories that were."""

    def __init__(
        self,
        places: Sequence[str],
        open_place: Open,
        cache: Cache,
        *,
        repositories: Sequence[str] = (),
        every_s: float = LISTS_S,
    ) -> None:
        self.every_s = every_s
        self._places = tuple(places)
        self._repositories = tuple(repositories)
        self._open = open_place
        self._cache = cache
        self._shown: dict[str, dict[str, Any]] = {}

    def announce(self, board: Board) -> None:
        """What will be looked at, before it is."""
        self._shown = {name: self._shown.get(name) or lists.waiting(name) for name in self._places}
        self._tell(board)

    def look(self, board: Board, stop: threading.Event) -> None:
        """Once: every name, then into what is new. What cannot be read is said on the board."""
        names = self._names(stop)
        self._shown = {name: self._shown.get(name) or lists.waiting(name) for name in names}
        self._tell(board)
        for name in names:
            if not stop.is_set():
                self._update(board, name, stop, self._read)
        for name in names:
            if not stop.is_set() and self._shown[name]["state"] == "verifying":
                self._update(board, name, stop, self._verify)

    def _names(self, stop: threading.Event) -> list[str]:
        names = dict.fromkeys(self._places)
        for repository in self._repositories:
            if stop.is_set():
                break
            try:
                source, _ = self._open(repository)
                if not isinstance(source, HasTags):
                    raise Unsupported(f"{source.place} does not list tags")
                names.update(dict.fromkeys(f"{repository}:{tag}" for tag in list(source.tags())[-MAX_TAGS:]))
            except Error:
                # Read like a list below, it says why; what was known before stays.
                known = [name for name in self._shown if name.startswith(f"{repository}:")]
                names.update(dict.fromkeys(known or [repository]))
        return list(names)

    def _update(
        self,
        board: Board,
        name: str,
        stop: threading.Event,
        find: Callable[[str, threading.Event], dict[str, Any]],
    ) -> None:
        before = self._shown[name]
        try:
            after = find(name, stop)
        except Stopped:
            return
        except Error as error:
            after = lists.failed(name, error)
        self._shown[name] = after
        self._tell(board, list_changes(before, after))

    def _tell(self, board: Board, sentences: Iterable[str] = ()) -> None:
        board.put("lists", list(self._shown.values()), sentences)

    def _read(self, name: str, _stop: threading.Event) -> dict[str, Any]:
        source, tag = self._open(name)
        root = source.resolve(tag)
        before = self._shown[name]
        if before["digest"] == str(root.digest) and before["state"] != "failed":
            return before
        return lists.looked_at(name, source, root, Pool(_WORKERS))

    def _verify(self, name: str, stop: threading.Event) -> dict[str, Any]:
        source, _ = self._open(name)
        shown = self._shown[name]

        def on_bytes(_count: int) -> None:
            if stop.is_set():
                raise Stopped("nobody looks any more")

        root = source.resolve(shown["digest"])
        pool = Pool(_WORKERS)
        report = lists.verify(source, root, name, cache=self._cache, pool=pool, on_bytes=on_bytes)
        return lists.judged(shown, report)


class Swarm:
    """Nodes, services and tasks of the swarm that an engine manages."""

    def __init__(self, engine: Docker, *, every_s: float = SWARM_S) -> None:
        self.every_s = every_s
        self._engine = engine
        self._shown: dict[str, Any] | None = None

    def look(self, board: Board, _stop: threading.Event) -> None:
        """Once."""
        before = self._shown
        try:
            after = cluster.view(self._engine.nodes(), self._engine.services(), self._engine.tasks())
        except Error as error:
            after = cluster.unreachable(error, before)
        self._shown = after
        board.put("swarm", after, swarm_changes(before, after))


class Probing:
    """Who answers at a URL."""

    def __init__(self, probe: Probe, *, every_s: float = PROBE_S, first: int = _FIRST_PROBES) -> None:
        """``first``: how many requests the first look makes, so that there is something to see at once."""
        self.every_s = every_s
        self._probe = probe
        self._first = first
        self._shown: dict[str, Any] | None = None

    def look(self, board: Board, stop: threading.Event) -> None:
        """Ask once more."""
        count = 1 if self._shown else self._first
        for _ in range(count):
            before, self._shown = self._shown, self._probe.ask()
            board.put("probe", self._shown, probe_changes(before, self._shown))
            if stop.is_set() or self._shown["recent"][-1]["error"]:
                return


class Watchers:
    """Lets each look again and again in a thread of its own, inside ``with``."""

    def __init__(self, board: Board, watchers: Iterable[Lists | Swarm | Probing]) -> None:
        self._board = board
        self._stop = threading.Event()
        self._watchers = tuple(watchers)
        for each in self._watchers:
            if isinstance(each, Lists):
                each.announce(board)
        self._threads = [
            threading.Thread(target=self._run, args=(each,), name=type(each).__name__.lower(), daemon=True)
            for each in self._watchers
        ]

    def once(self) -> None:
        """Let each look once, one after the other, in this thread."""
        for watcher in self._watchers:
            watcher.look(self._board, self._stop)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._board.close()
        for thread in self._threads:
            thread.join(1.0)

    def _run(self, watcher: Lists | Swarm | Probing) -> None:
        try:
            while not self._stop.is_set():
                watcher.look(self._board, self._stop)
                self._stop.wait(watcher.every_s)
        except BaseException as error:
            if self._stop.is_set():
                return  # nobody looks any more, and what was being read may be closed
            # A bug of ours: the thread ends with the trace on stderr, and nobody takes what is shown for the present.
            what = type(watcher).__name__.lower()
            self._board.say(f"internal error, {what} is not looked at any more: {type(error).__name__}")
            raise
