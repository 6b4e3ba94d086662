# SPDX-License-Identifier: Apache-2.0
"""Bringing a service to what it shall be, watching it node by node until it is, and taking it back when it is not.

Swarm replaces tasks for ever when they fail; it is the watching that knows when to give up. A deployment has arrived
when every task that is expected runs and has been seen running for :data:`SETTLE_S`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from manyfest.deploy.renewal import renew, set_back
from manyfest.deploy.sight import Failure, Seen, ended, explain, look
from manyfest.errors import EngineError, NotFound
from manyfest.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from manyfest.deploy.sight import Target
    from manyfest.engines.docker import Docker

__all__ = ["POLL_S", "SETTLE_S", "SILENT_S", "Clock", "Outcome", "Watch", "undo", "wait"]

POLL_S = 0.5
SETTLE_S = 2.5
"""Seconds that everything must have been running before it counts: programs that end at once have ended by then."""

SILENT_S = 60.0
"""Seconds that a manager may be away, since it may be restarting."""


class Clock:
    """Time, for tests to replace."""

    def now(self) -> float:
        """Seconds of a steady clock."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


class Outcome(Value):
    """How it ended; ``seen`` is the last look, ``seconds`` how long it took."""

    __slots__ = ("failures", "ok", "reason", "seconds", "seen")
    ok: bool
    seen: Seen
    reason: str
    failures: tuple[Failure, ...]
    seconds: float

    def __init__(
        self, ok: bool, seen: Seen, reason: str = "", failures: Sequence[Failure] = (), seconds: float = 0.0
    ) -> None:
        self._set(ok=ok, seen=seen, reason=reason, failures=tuple(failures), seconds=seconds)


def wait(
    engine: Docker,
    target: Target,
    *,
    timeout_s: float,
    settle_s: float = SETTLE_S,
    on_change: Callable[[str, str, str], None] | None = None,
    clock: Clock | None = None,
) -> Outcome:
    """Watch until everything runs and stays, or something has failed for good, or the time is over.

    ``on_change`` hears ``(node, state, detail)`` whenever a line changes. Raises :class:`EngineError` when the manager
    is away for longer than :data:`SILENT_S`, and :class:`NotFound` when the service is removed meanwhile.
    """
    clock = clock or Clock()
    began = heard = clock.now()
    shown: dict[str, tuple[str, str]] = {}
    watch = Watch(settle_s)
    while True:
        try:
            seen = _ask(engine, target)
            now = clock.now()
            outcome = watch.judge(engine, seen, now)
            if outcome is None:
                watch.free(engine, target.service, seen)
            heard = clock.now()
        except EngineError:
            if clock.now() - heard > SILENT_S:
                raise
            _tell({"manager": ("away", "it does not answer; waiting for it")}, shown, on_change)
            watch.lose_sight()
            clock.sleep(POLL_S)
            continue
        _tell({node: (state, detail) for node, state, detail in seen.lines}, shown, on_change)
        if outcome is None and now - began > timeout_s:
            outcome = watch.too_late(timeout_s)
        if outcome is not None:
            return outcome.replace(seconds=now - began)
        clock.sleep(POLL_S)


class Watch:
    """What has been seen of one service on its way, look by look.

    What failed while it was ``forgiven`` does not count: then it may have needed what was not there yet.
    """

    def __init__(self, settle_s: float = SETTLE_S) -> None:
        self.seen = Seen((), (), 0)
        self._settle_s = settle_s
        self._since: float | None = None
        self._staying: tuple[str, ...] = ()
        self._looked: dict[str, Failure] = {}
        self._known: list[Failure] = []
        self._counted: dict[str, set[str]] = {}
        self._forgiven: dict[str, int] = {}
        self._passed: set[str] = set()
        self._hopeless_since: float | None = None

    def lose_sight(self) -> None:
        """Nobody knows what happened meanwhile, so staying begins anew."""
        self._since = self._hopeless_since = None

    def free(self, engine: Docker, service: str, seen: Seen) -> None:
        """Let an update go on that Swarm holds up, once for each task that it is held up by.

        Raises :class:`EngineError`.
        """
        if not seen.is_there and not self._passed.issuperset(seen.held_up_by):
            renew(engine, service)
            self._passed.update(seen.held_up_by)

    def judge(self, engine: Docker, seen: Seen, now: float, *, forgiving: bool = False) -> Outcome | None:
        """Arrived, failed, or neither yet; the engine is asked what failed tasks printed."""
        self.seen = seen
        if not seen.is_there:
            self._since = None
        elif self._since is None or seen.tasks != self._staying:
            self._since, self._staying = now, seen.tasks
        if self._since is not None and now - self._since >= self._settle_s:
            return Outcome(True, seen)
        self._known = [
            _looked_into(engine, failure, self._looked).replace(tries=self._tries_of(failure))
            for failure in seen.failures
        ]
        if forgiving:
            self._forgiven.update((failure.slot, failure.tries) for failure in self._known)
        final = [failure for failure in self._known if self._is_final(failure)]
        if final or seen.taken_back or self._is_hopeless(seen, now):
            failures = final or self._known
            reason = seen.taken_back or seen.paused
            return Outcome(False, seen, "a task failed" if failures else reason, failures)
        return None

    def _tries_of(self, failure: Failure) -> int:
        """Also those that Swarm has forgotten: how many tasks it remembers is a setting of the swarm."""
        counted = self._counted.setdefault(failure.slot, set())
        counted.add(failure.task)
        return max(failure.tries, len(counted))

    def _is_hopeless(self, seen: Seen, now: float) -> bool:
        """Is it given up, and stays so? A task that has just ended may be about to get a successor."""
        if not seen.is_given_up:
            self._hopeless_since = None
        elif self._hopeless_since is None:
            self._hopeless_since = now
        return self._hopeless_since is not None and now - self._hopeless_since >= self._settle_s

    def too_late(self, timeout_s: float) -> Outcome:
        """The time is over."""
        reason = f"{self.seen.running} of {self.seen.expected} tasks run after {timeout_s:g} s"
        return Outcome(False, self.seen, reason, self._known or _waiting(self.seen))

    def _is_final(self, failure: Failure) -> bool:
        return failure.replace(tries=failure.tries - self._forgiven.get(failure.slot, 0)).is_final


def undo(
    engine: Docker,
    service: str,
    before: Mapping[str, Any] | None,
    target: Target | None,
    *,
    timeout_s: float,
    clock: Clock | None = None,
) -> Outcome | None:
    """Back to what it was: the previous spec, or no service at all (``before`` is ``None``; then the answer is too)."""
    if before is None:
        engine.remove_service(service)
        return None
    assert target is not None
    past = ended(engine.tasks(service))
    set_back(engine, engine.service(service), before)
    if target.replicas == 0:
        return Outcome(True, Seen((), (), 0))
    return wait(engine, target.replace(past=past), timeout_s=timeout_s, clock=clock)


def _ask(engine: Docker, target: Target) -> Seen:
    try:
        service = engine.service(target.service)
    except NotFound as error:
        raise NotFound(
            f"the service {target.service} is gone: somebody removed it", hint="deploy it again"
        ) from error
    return look(target, service, engine.nodes(), engine.tasks(target.service))


def _waiting(seen: Seen) -> list[Failure]:
    """Nothing failed, and yet it is not there: what each says of itself."""
    return [
        Failure(node, detail or f"still {state}", explain(detail)[0])
        for node, state, detail in seen.lines
        if state not in ("running", "left")
    ]


def _looked_into(engine: Docker, failure: Failure, looked: dict[str, Failure]) -> Failure:
    """Each failed task is asked once for what it printed."""
    if failure.task not in looked:
        looked[failure.task] = _with_output(engine, failure)
    return looked[failure.task]


def _with_output(engine: Docker, failure: Failure) -> Failure:
    """Also what the program printed, which often is the reason: runc reports exec format errors there only."""
    if not failure.task:
        return failure
    try:
        output = engine.task_logs(failure.task)
    except (EngineError, NotFound):
        return failure
    meaning, limit = explain(output)
    if limit > 1:
        return failure.replace(output=output)
    return failure.replace(output=output, explanation=meaning, limit=1)


def _tell(
    lines: Mapping[str, tuple[str, str]],
    shown: dict[str, tuple[str, str]],
    on_change: Callable[[str, str, str], None] | None,
) -> None:
    for node, line in lines.items():
        if shown.get(node) != line:
            shown[node] = line
            if on_change is not None:
                on_change(node, *line)
