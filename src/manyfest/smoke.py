# SPDX-License-Identifier: Apache-2.0
"""Run every platform of an image and compare: does each start, end well, and say what it should?

Each platform's image is taken out of its place, loaded into an engine under a name of our own, run once in a container
without a network, and removed again. Whether it ran natively or emulated is said, and a failure is explained: by what
the engine said, by the emulators of this machine, and by what :mod:`manyfest.verify` finds without running anything.
"""

from __future__ import annotations

import errno
import os
import secrets
import signal
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from manyfest.content.mediatypes import is_index
from manyfest.emulate.known import reports
from manyfest.emulate.probe import explain
from manyfest.errors import EngineError, Error, InvalidPlatform, InvalidSpec, NotFound
from manyfest.indexes.select import images, platform_of
from manyfest.platforms import OnlyStrict, Platform, normalise
from manyfest.stores.base import load
from manyfest.stores.copy import copy
from manyfest.stores.dockerarchive import DockerArchiveStore
from manyfest.stores.pool import wait_for
from manyfest.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from manyfest.content.document import Document
    from manyfest.emulate.doctor import Report
    from manyfest.engines.containers import Containers, Ran
    from manyfest.stores.base import Source

__all__ = ["MOST_S", "TIMEOUT_S", "Expectation", "Plan", "Result", "smoke"]

TIMEOUT_S = 60.0
"""For one platform; emulation takes five to twenty times as long as the processor."""

_MAX_NESTING = 4
MOST_S = 1e6
"""What is longer cannot be waited for on every system, and nobody would."""

_BESIDE = {"amd64": ("386",), "arm64": ("arm",)}


class Expectation(Value):
    """What a run should do. ``{platform}``, ``{os}``, ``{arch}`` and ``{variant}`` in texts are filled in.

    ``output``: all of standard output, without white space at its ends; ``contains``: texts somewhere in output or
    errors; ``exit_code``.
    """

    __slots__ = ("contains", "exit_code", "output")
    output: str | None
    contains: tuple[str, ...]
    exit_code: int

    def __init__(self, output: str | None = None, contains: tuple[str, ...] = (), exit_code: int = 0) -> None:
        self._set(output=output, contains=contains, exit_code=exit_code)

    def unmet(self, platform: Platform, ran: Ran) -> tuple[str, ...]:
        """What was not as expected, as sentences."""
        if ran.exit_code != self.exit_code:
            return (f"exit code {ran.exit_code}, expected {self.exit_code}",)
        found = []
        output, errors = _text(ran.output), _text(ran.errors)
        if self.output is not None and output.strip() != _filled(self.output, platform).strip():
            found.append(f"printed {_shown(output)}, expected {_shown(_filled(self.output, platform))}")
        for text in self.contains:
            wanted = _filled(text, platform)
            if wanted not in output and wanted not in errors:
                found.append(f"printed {_shown(output or errors)}, expected it to contain {_shown(wanted)}")
        return tuple(found)


class Plan(Value):
    """What to run and what to expect, for every platform or for some.

    The key ``smoke`` of a ``manyfest.yaml``: ``cmd``, ``expect``, ``contains``, ``exit_code``, ``timeout`` (seconds),
    and ``platforms``, which maps platforms to any of these again.
    """

    __slots__ = ("command", "expectation", "special", "timeout_s")
    command: tuple[str, ...]
    expectation: Expectation
    timeout_s: float
    special: tuple[tuple[Platform, Plan], ...]

    def __init__(
        self,
        command: tuple[str, ...] = (),
        expectation: Expectation | None = None,
        timeout_s: float = TIMEOUT_S,
        special: tuple[tuple[Platform, Plan], ...] = (),
    ) -> None:
        """``command``: instead of the image's Cmd, after its entrypoint; empty leaves it."""
        self._set(
            command=command,
            expectation=expectation or Expectation(),
            timeout_s=timeout_s,
            special=special,
        )

    @classmethod
    def from_mapping(cls, fields: object) -> Plan:
        """Read the value of ``smoke``. Raises :class:`InvalidSpec` naming the key."""
        plan = _plan(fields, cls(), "smoke", _KEYS)
        assert isinstance(fields, dict)
        special = fields.get("platforms") or {}
        if not isinstance(special, dict):
            raise InvalidSpec("smoke.platforms: expected platforms with what is special about them")
        rows = []
        for key, value in special.items():
            where = f"smoke.platforms.{key}"
            try:
                platform = Platform.parse(str(key))
            except InvalidPlatform as error:
                raise InvalidSpec(f"{where}: {error}", hint=error.hint) from error
            rows.append((platform, _plan(value, plan, where, _KEYS - {"platforms"})))
        return plan.replace(special=tuple(rows))

    def of(self, platform: Platform) -> Plan:
        """The one for a platform."""
        return next((plan for key, plan in self.special if normalise(key) == normalise(platform)), self)


class Result(Value):
    """One platform. ``ok`` is ``None`` when it was not tried: the engine is for another system, or ``error`` says why
    none could be had, or how it failed.

    ``how``: ``"native"``, the name of the handler that emulates it, ``"binfmt_misc"`` when that is not to be seen here,
    ``"emulated"`` on another machine, or empty;
    ``reasons``: what was wrong; ``explanation`` and ``hint``: why, and what to do.
    """

    __slots__ = (
        "digest",
        "engine",
        "error",
        "explanation",
        "hint",
        "how",
        "ok",
        "platform",
        "ran",
        "reasons",
    )
    platform: Platform
    digest: str
    engine: str
    how: str
    ok: bool | None
    ran: Ran | None
    reasons: tuple[str, ...]
    explanation: tuple[str, ...]
    hint: str
    error: EngineError | None

    def __init__(
        self,
        platform: Platform,
        digest: str,
        engine: str = "",
        how: str = "",
        ok: bool | None = None,
        ran: Ran | None = None,
        reasons: tuple[str, ...] = (),
        explanation: tuple[str, ...] = (),
        hint: str = "",
        error: EngineError | None = None,
    ) -> None:
        self._set(
            platform=platform,
            digest=digest,
            engine=engine,
            how=how,
            ok=ok,
            ran=ran,
            reasons=reasons,
            explanation=explanation,
            hint=hint,
            error=error,
        )


def smoke(
    source: Source,
    root: Document,
    engine_for: Callable[[Platform], Containers | EngineError],
    report: Report,
    plan: Plan,
    *,
    platforms: Sequence[Platform] = (),
    network: str = "none",
    jobs: int = 2,
    on_done: Callable[[Result], None] | None = None,
) -> tuple[Result, ...]:
    """Run ``plan`` on every platform behind ``root``, or on the given ones; results in the order of the image.

    ``engine_for`` says where a platform runs, or why it cannot, and is asked once for each before any runs; ``report``
    is this machine's emulators. An engine that fails costs its own platforms, and the others are run. Raises
    :class:`NotFound` for a platform that the image lacks, what ``source`` and ``engine_for`` raise, and
    :class:`EngineError` when none could be tried, for one reason.
    """
    chosen = _chosen(source, root, platforms)
    engines = _Engines({platform: engine_for(platform) for platform, _ in chosen})
    with tempfile.TemporaryDirectory(prefix="manyfest-smoke-") as folder, ThreadPoolExecutor(jobs) as pool:
        runs = _Runs(source, engines, report, plan, network, folder, asked=bool(platforms))
        running = [pool.submit(runs.of, *pair) for pair in chosen]
        done = []
        try:
            for each in running:
                wait_for([each])
                done.append(each.result())
                if on_done is not None:
                    on_done(done[-1])
        except BaseException:
            # What has not begun never does; what runs is stopped, and cleans up behind itself.
            pool.shutdown(wait=False, cancel_futures=True)
            for engine in engines.all():
                engine.stop()
            raise
    _refuse_nothing(done)
    return tuple(done)


def _refuse_nothing(results: Sequence[Result]) -> None:
    """There is nothing to compare when what fails is all that was to run them: that is an error as any other."""
    errors = [result.error for result in results]
    if errors[0] is not None and {str(error) for error in errors} == {str(errors[0])}:
        raise errors[0]


class _Engines:
    """Where each platform runs, or why it cannot; what an engine runs on is asked once, also if it does not answer."""

    def __init__(self, found: Mapping[Platform, Containers | EngineError]) -> None:
        self._found = found
        self._own: dict[Containers, Platform | EngineError] = {}
        self._asking = {engine: threading.Lock() for engine in self.all()}

    def all(self) -> set[Containers]:
        """Each once."""
        return {engine for engine in self._found.values() if not isinstance(engine, EngineError)}

    def of(self, platform: Platform) -> Containers:
        """Raises :class:`EngineError`."""
        engine = self._found[platform]
        if isinstance(engine, EngineError):
            raise engine
        return engine

    def own(self, engine: Containers) -> Platform:
        """What it runs on. Raises :class:`EngineError`."""
        with self._asking[engine]:
            if engine not in self._own:
                try:
                    self._own[engine] = engine.platform()
                except EngineError as error:
                    self._own[engine] = error
        told = self._own[engine]
        if isinstance(told, EngineError):
            raise told
        return told


class _Runs:
    """What all runs share."""

    def __init__(
        self,
        source: Source,
        engines: _Engines,
        report: Report,
        plan: Plan,
        network: str,
        folder: str,
        *,
        asked: bool,
    ) -> None:
        """``asked``: were the platforms named?"""
        self._source = source
        self._engines = engines
        self._report = report
        self._plan = plan
        self._network = network
        self._folder = folder
        self._asked = asked

    def of(self, platform: Platform, document: Document) -> Result:
        """One platform, whatever its engine does."""
        digest, name = str(document.digest), ""
        try:
            engine = self._engines.of(platform)
            name = engine.name
            own = self._engines.own(engine)
            if own.os != platform.os:
                told = f"{engine} runs {own.os}, not {platform.os}"
                return Result(platform, digest, name, ok=False if self._asked else None, reasons=(told,))
            ran = self._ran(engine, platform, document)
        except EngineError as error:
            return Result(platform, digest, name, reasons=(str(error),), hint=error.hint, error=error)
        how = _how(engine, own, platform, self._report)
        reasons = (ran.problem,) if ran.problem else self._plan.of(platform).expectation.unmet(platform, ran)
        if not reasons:
            return Result(platform, digest, name, how or "binfmt_misc", True, ran)
        why, hint = _why(self._source, document, platform, ran, self._report, how)
        return Result(platform, digest, name, how, False, ran, reasons, why, hint)

    def _ran(self, engine: Containers, platform: Platform, document: Document) -> Ran:
        """Loaded under a name of its own, run, and forgotten."""
        mine = self._plan.of(platform)
        path = os.path.join(self._folder, f"{secrets.token_hex(8)}.tar")
        archive = DockerArchiveStore(path)
        try:
            copy(self._source, document, archive, [f"manyfest-smoke:{secrets.token_hex(8)}"])
            image = engine.load(path)
        finally:
            archive.close()
            if os.path.exists(path):
                os.unlink(path)
        try:
            ran = engine.run(image, mine.command, timeout_s=mine.timeout_s, network=self._network)
            if "platform" in ran.problem:
                # Stores that keep several platforms under a name want to be told which.
                ran = engine.run(
                    image,
                    mine.command,
                    timeout_s=mine.timeout_s,
                    network=self._network,
                    platform=str(platform),
                )
        finally:
            engine.forget(image)
        return ran


def _how(engine: Containers, own: Platform, platform: Platform, report: Report) -> str:
    if platform.architecture == own.architecture:
        return "native"
    if engine.is_remote:
        return "native" if platform.architecture in _BESIDE.get(own.architecture, ()) else "emulated"
    status = report.serving(platform)
    if status is not None:
        return status.handler.name
    return "native" if platform.architecture in _BESIDE.get(own.architecture, ()) else ""


# --- why it failed ---


def _why(
    source: Source, document: Document, platform: Platform, ran: Ran, report: Report, how: str
) -> tuple[tuple[str, ...], str]:
    """What is known, the most telling first; and one hint."""
    told: list[tuple[str, str]] = []
    said = f"{ran.problem}\n{_text(ran.errors)}".lower()
    if "exec format error" in said and not how:
        told.append(explain(errno.ENOEXEC, report, platform))
    if "exec format error" in said and how == "emulated":
        told.append(
            (
                "exec format error: the node has no emulator for it",
                "install one there, or name another --node",
            )
        )
    told += _verified(source, document)
    told += _of_the_end(ran, report, platform, how)
    hint = next((hint for _, hint in told if hint), "")
    return tuple(text for text, _ in told), hint


def _verified(source: Source, document: Document) -> Iterator[tuple[str, str]]:
    """What looking into the image tells; an image that cannot be looked into is not what the run was about."""
    from manyfest.verify.image import verify_image

    try:
        found = verify_image(source, document, platforms=()).findings
    except Error:
        return
    for finding in [f for f in found if f.severity == "error" and not f.allowed][:3]:
        yield f"verify: {finding.message}", finding.hint


def _of_the_end(ran: Ran, report: Report, platform: Platform, how: str) -> Iterator[tuple[str, str]]:
    emulated = how not in ("", "native")
    if ran.timed_out:
        yield (
            ("emulation is slow: the same takes a fraction of the time on a real machine", "--timeout 600")
            if emulated
            else ("it may be a server: give it a command that ends", "manyfest smoke PLACE -- CMD")
        )
    if ran.killed:
        yield "the kernel killed it: the container was out of memory", ""
    number = ran.exit_code - 128
    if number in (signal.SIGSEGV, signal.SIGILL, signal.SIGBUS, signal.SIGABRT):
        yield f"it was ended by {signal.Signals(number).name}{' under the emulator' if emulated else ''}", ""
        status = report.serving(platform)
        if emulated and status is not None:
            for target in status.targets:
                for known in reports(target.qemu, status.interpreter.version):
                    version = status.interpreter.version
                    yield (
                        f"QEMU {version}, reported: {known.text} ({known.url})",
                        "try another version of QEMU",
                    )


# --- which images ---


def _chosen(source: Source, root: Document, platforms: Sequence[Platform]) -> list[tuple[Platform, Document]]:
    there = list(_all(source, root, _MAX_NESTING))
    if not platforms:
        if not there:
            raise NotFound(f"{source.place}: there is no image to run behind {root.digest}")
        return there
    found = []
    for wanted in platforms:
        matcher = OnlyStrict(wanted)
        matching = [pair for pair in there if matcher.matches(pair[0])]
        if not matching:
            listed = ", ".join(str(platform) for platform, _ in there)
            raise NotFound(f"{source.place}: no image for {wanted}", hint=f"there are images for {listed}")
        found += [pair for pair in matching if pair not in found]
    return found


def _all(source: Source, root: Document, depth: int) -> Iterator[tuple[Platform, Document]]:
    if not root.is_index:
        platform = platform_of(source, root)
        if platform is not None:
            yield platform, root
        return
    for entry in images(root.index.manifests):
        document = load(source, entry)
        if is_index(entry.media_type):
            if depth:
                yield from _all(source, document, depth - 1)
        elif entry.platform is not None:
            yield entry.platform, document
        elif (platform := platform_of(source, document)) is not None:
            yield platform, document


# --- the spec ---

_KEYS = frozenset({"cmd", "contains", "exit_code", "expect", "platforms", "timeout"})


def _plan(fields: object, base: Plan, where: str, known: frozenset[str]) -> Plan:
    if not isinstance(fields, dict):
        raise InvalidSpec(f"{where}: expected cmd, expect, contains, …, got {type(fields).__name__}")
    strange = sorted(str(key) for key in fields if key not in known)
    if strange:
        raise InvalidSpec(
            f"{where}: {strange[0]!r} is not known here", hint=f"known: {', '.join(sorted(known))}"
        )
    expectation = base.expectation
    if "expect" in fields:
        expectation = expectation.replace(output=_scalar(fields["expect"], f"{where}.expect"))
    if "contains" in fields:
        expectation = expectation.replace(contains=_words(fields["contains"], f"{where}.contains"))
    if "exit_code" in fields:
        code = fields["exit_code"]
        if isinstance(code, bool) or not isinstance(code, int) or not 0 <= code < 256:
            raise InvalidSpec(f"{where}.exit_code: expected a whole number up to 255, got {code!r:.40}")
        expectation = expectation.replace(exit_code=code)
    return Plan(
        _words(fields["cmd"], f"{where}.cmd") if "cmd" in fields else base.command,
        expectation,
        _seconds(fields["timeout"], f"{where}.timeout") if "timeout" in fields else base.timeout_s,
    )


def _words(value: Any, where: str) -> tuple[str, ...]:
    if isinstance(value, list):
        return tuple(_scalar(item, where) for item in value)
    return (_scalar(value, where),)


def _scalar(value: Any, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise InvalidSpec(f"{where}: expected text, got {type(value).__name__}", hint="put it in quotes")
    return str(value)


def _seconds(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MOST_S:
        raise InvalidSpec(f"{where}: expected seconds, more than 0 and at most {MOST_S:g}, got {value!r:.40}")
    return value


# --- texts ---


def _filled(text: str, platform: Platform) -> str:
    values: Mapping[str, str] = {
        "{platform}": str(platform),
        "{os}": platform.os,
        "{arch}": platform.architecture,
        "{variant}": platform.variant,
    }
    for name, value in values.items():
        text = text.replace(name, value)
    return text


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _shown(text: str) -> str:
    text = text.strip()
    return repr(text) if len(text) <= 80 else f"{text[:80]!r}…"
