# SPDX-License-Identifier: Apache-2.0
"""Running every platform: what is chosen, what is expected, and how a failure is explained."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.unit.emulate.kernel import Kernel, emulator

from manyfest.content.document import Document
from manyfest.emulate.binfmt import registration, target_named
from manyfest.emulate.doctor import Report, examine
from manyfest.emulate.images import program_image
from manyfest.engines.containers import Ran
from manyfest.errors import EngineError, InvalidSpec, NotFound
from manyfest.platforms import Platform
from manyfest.smoke import Expectation, Plan, Result, smoke
from manyfest.stores.memory import Memory
from manyfest.testing.images import make_index

ARM64 = Platform.parse("linux/arm64")
PLATFORMS = ("linux/amd64", "linux/386", "linux/arm64", "linux/s390x")


class Engine:
    """An engine that answers for each image as a table says; by the order of the runs."""

    def __init__(self, *ran: Ran, platform: str = "linux/amd64", remote: bool = False) -> None:
        self.name = "docker"
        self.is_remote = remote
        self.ran = list(ran)
        self.log: list[str] = []
        self._platform = Platform.parse(platform)

    def __str__(self) -> str:
        return "docker"

    def platform(self) -> Platform:
        return self._platform

    def load(self, path: str) -> str:
        assert os.path.exists(path)
        self.log.append("load")
        return "img"

    def run(self, image: str, command: Any, *, timeout_s: float, network: str, platform: str = "") -> Ran:
        self.log.append(" ".join(["run", *command, platform]).strip())
        return self.ran.pop(0)

    def forget(self, image: str) -> None:
        self.log.append("forget")

    def stop(self) -> None:
        self.log.append("stop")


@pytest.fixture
def report(tmp_path: Path) -> Report:
    """An amd64 machine that emulates arm64."""
    kernel = Kernel(tmp_path / "binfmt_misc")
    path = emulator(tmp_path, "qemu-aarch64-static")
    kernel.register(registration("qemu-aarch64", target_named("aarch64"), path, "F"))
    return examine(kernel, host="x86_64")


@pytest.fixture
def store() -> Memory:
    """Nothing in it."""
    return Memory()


def run(
    store: Memory, root: Document, report: Report, engine: Engine, plan: Plan | None = None, **options: Any
) -> tuple[Result, ...]:
    """One after the other."""
    return smoke(
        store,
        root,
        lambda platform: engine,  # type: ignore[arg-type,return-value]
        report,
        plan or Plan(),
        jobs=1,
        **options,
    )


def test_every_platform_in_order(store: Memory, report: Report) -> None:
    """Loaded, run, forgotten; attestations are no platforms; what is native and what is emulated is said."""
    root = make_index(store, PLATFORMS, attestations=True)
    engine = Engine(*(Ran(0, b"x") for _ in PLATFORMS))
    results = run(store, root, report, engine)
    assert [str(result.platform) for result in results] == list(PLATFORMS)
    assert [result.how for result in results] == ["native", "native", "qemu-aarch64", "binfmt_misc"]
    assert all(result.ok for result in results)
    assert engine.log == ["load", "run", "forget"] * 4


def test_chosen_platforms(store: Memory, report: Report) -> None:
    """One of them, or an error that lists what there is."""
    root = make_index(store, PLATFORMS)
    (result,) = run(store, root, report, Engine(Ran(0)), platforms=[ARM64])
    assert result.platform == ARM64
    with pytest.raises(NotFound, match="no image for linux/riscv64") as caught:
        run(store, root, report, Engine(), platforms=[Platform.parse("linux/riscv64")])
    assert "linux/s390x" in caught.value.hint


def test_a_single_image_is_for_its_own_platform(store: Memory, report: Report) -> None:
    """No list needed."""
    document = program_image(store, ARM64)
    (result,) = run(store, document, report, Engine(Ran(0)))
    assert (result.platform, result.digest) == (ARM64, str(document.digest))


def test_other_systems_are_not_tried(store: Memory, report: Report) -> None:
    """Unless asked for: then it is a failure."""
    root = make_index(store, ("linux/amd64", "windows/amd64"))
    windows = run(store, root, report, Engine(Ran(0)))[1]
    assert (windows.ok, windows.reasons) == (None, ("docker runs linux, not windows",))
    (asked,) = run(store, root, report, Engine(), platforms=[Platform.parse("windows/amd64")])
    assert asked.ok is False


def test_engine_that_wants_the_platform(store: Memory, report: Report) -> None:
    """Stores with several platforms under one name are told which."""
    engine = Engine(Ran(-1, problem="does not provide the specified platform"), Ran(0))
    (result,) = run(store, program_image(store, ARM64), report, engine)
    assert (result.ok, engine.log) == (True, ["load", "run", "run linux/arm64", "forget"])


def test_image_is_forgotten_when_the_engine_fails(store: Memory, report: Report) -> None:
    """However a run ends."""

    class Broken(Engine):
        def run(self, image: str, command: Any, **options: Any) -> Ran:
            raise EngineError("gone")

    engine = Broken()
    with pytest.raises(EngineError):
        run(store, program_image(store, ARM64), report, engine)
    assert engine.log == ["load", "forget"]


def test_an_engine_that_fails_costs_its_own_platforms(store: Memory, report: Report) -> None:
    """The others are run; one that does not answer is asked once, and one that there is none of is not asked at all."""

    class Silent(Engine):
        def platform(self) -> Platform:
            self.log.append("ask")
            raise EngineError("no answer", hint="is it up?")

    class Full(Engine):
        def load(self, path: str) -> str:
            raise EngineError("no space left")

    silent, full, none = Silent(), Full(), EngineError("it did not start")
    where = {"linux/arm64": silent, "linux/s390x": silent, "linux/386": full, "linux/riscv64": none}
    engine = Engine(Ran(0))
    names = ("linux/arm64", "linux/s390x", "linux/riscv64", "linux/386", "linux/amd64")
    told: list[Result] = []
    results = smoke(
        store,
        make_index(store, names),
        lambda platform: where.get(str(platform), engine),  # type: ignore[arg-type,return-value]
        report,
        Plan(),
        on_done=told.append,
    )
    assert [(result.ok, result.reasons) for result in results] == [
        (None, ("no answer",)),
        (None, ("no answer",)),
        (None, ("it did not start",)),
        (None, ("no space left",)),
        (True, ()),
    ]
    assert (results[0].hint, results[2].error, results[4].error) == ("is it up?", none, None)
    assert (silent.log, full.log, tuple(told)) == (["ask"], [], results)


def test_nothing_to_compare_is_an_error(store: Memory, report: Report) -> None:
    """What all were to run on fails."""
    with pytest.raises(EngineError, match="gone"):
        smoke(store, make_index(store, PLATFORMS), lambda _: EngineError("gone"), report, Plan())


def test_interrupt_stops_what_runs_and_begins_nothing(store: Memory, report: Report) -> None:
    """With one at a time: the first is done, the others never load."""

    def interrupt(result: Result) -> None:
        raise KeyboardInterrupt

    release = threading.Event()

    class Slow(Engine):
        def run(self, image: str, command: Any, **options: Any) -> Ran:
            if self.log.count("load") > 1:
                assert release.wait(20), "nobody stopped it"
            return Ran(0)

        def stop(self) -> None:
            super().stop()
            release.set()

    engine = Slow()
    with pytest.raises(KeyboardInterrupt):
        run(store, make_index(store, PLATFORMS), report, engine, on_done=interrupt)
    assert engine.log.count("load") == engine.log.count("forget") <= 2
    assert "stop" in engine.log


@pytest.mark.parametrize(
    ("expectation", "ran", "unmet"),
    [
        (Expectation(), Ran(0, b"anything"), ()),
        (Expectation(), Ran(2), ("exit code 2, expected 0",)),
        (Expectation(exit_code=2), Ran(2), ()),
        (Expectation("{platform}"), Ran(0, b"linux/arm64\n"), ()),
        (Expectation("{os}-{arch}"), Ran(0, b" linux-arm64\n"), ()),
        (Expectation("a"), Ran(0, b"b"), ("printed 'b', expected 'a'",)),
        (Expectation(contains=("1.2",)), Ran(0, b"v1.2.3"), ()),
        (Expectation(contains=("1.2",)), Ran(0, b"", b"v1.2.3"), ()),
        (Expectation(contains=("1.2", "b")), Ran(0, b"1.2"), ("printed '1.2', expected it to contain 'b'",)),
        (Expectation("{0} {x}"), Ran(0, b"{0} {x}"), ()),
        (Expectation("a"), Ran(0, b"\xff" * 100), (f"printed {chr(0xFFFD) * 80!r}…, expected 'a'",)),
    ],
)
def test_expectations(expectation: Expectation, ran: Ran, unmet: tuple[str, ...]) -> None:
    """Texts with the platform filled in, and nothing else."""
    assert expectation.unmet(ARM64, ran) == unmet


def test_failures_are_explained(store: Memory, report: Report) -> None:
    """Without an emulator: which command makes one."""
    image = program_image(store, Platform.parse("linux/s390x"))
    (result,) = run(store, image, report, Engine(Ran(1, b"", b"exec /hello: exec format error")))
    assert result.ok is False
    assert result.explanation[0] == "exec format error: no emulator is registered for it"
    assert result.hint == "manyfest emulators install s390x"


def test_verify_is_asked(store: Memory, report: Report) -> None:
    """A program of another architecture in the image."""
    image = program_image(store, Platform.parse("linux/s390x"), claims=Platform.parse("linux/amd64"))
    (result,) = run(store, image, report, Engine(Ran(1, b"", b"exec format error")))
    assert any("/hello is for linux/s390x" in text for text in result.explanation)


@pytest.mark.parametrize(
    ("ran", "platform", "words"),
    [
        (Ran(-1, problem="it did not end", timed_out=True), "linux/arm64", "emulation is slow"),
        (Ran(-1, problem="it did not end", timed_out=True), "linux/amd64", "may be a server"),
        (Ran(137, killed=True), "linux/amd64", "out of memory"),
        (Ran(139), "linux/arm64", "SIGSEGV under the emulator"),
        (Ran(132), "linux/amd64", "SIGILL"),
    ],
)
def test_ends_in_words(store: Memory, report: Report, ran: Ran, platform: str, words: str) -> None:
    """Time, memory, signals."""
    (result,) = run(store, program_image(store, Platform.parse(platform)), report, Engine(ran))
    assert words in " ".join(result.explanation)


def test_another_machines_emulators_are_not_ours(store: Memory, report: Report) -> None:
    """What a node runs is native there, or emulated by what it has."""
    for platform, how in (("linux/arm64", "native"), ("linux/s390x", "emulated"), ("linux/arm/v7", "native")):
        engine = Engine(Ran(0), platform="linux/arm64", remote=True)
        (result,) = run(store, program_image(store, Platform.parse(platform)), report, engine)
        assert result.how == how
    failing = Engine(Ran(1, b"", b"exec format error"), platform="linux/arm64", remote=True)
    (result,) = run(store, program_image(store, Platform.parse("linux/s390x")), report, failing)
    assert "the node has no emulator" in result.explanation[0]


def test_plan_from_a_file() -> None:
    """The key smoke of manyfest.yaml, with what is special about some platforms."""
    plan = Plan.from_mapping(
        {
            "cmd": ["/app", "--version"],
            "contains": 1.2,
            "timeout": 5,
            "platforms": {"linux/arm/v7": {"expect": "v7", "exit_code": 3}, "linux/s390x": {"cmd": "x"}},
        }
    )
    assert (plan.command, plan.expectation.contains, plan.timeout_s) == (("/app", "--version"), ("1.2",), 5)
    arm = plan.of(Platform.parse("linux/arm"))
    assert (arm.command, arm.timeout_s, arm.expectation) == (
        ("/app", "--version"),
        5,
        Expectation("v7", ("1.2",), 3),
    )
    assert plan.of(Platform.parse("linux/s390x")).command == ("x",)
    assert plan.of(ARM64) == plan


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ([], "smoke: expected cmd"),
        ({"comand": "x"}, "'comand' is not known"),
        ({"cmd": [None]}, "smoke.cmd: expected text"),
        ({"contains": True}, "smoke.contains: expected text"),
        ({"timeout": "5"}, "smoke.timeout: expected seconds"),
        ({"timeout": 0}, "smoke.timeout: expected seconds, more than 0"),
        ({"timeout": float("inf")}, "smoke.timeout: expected seconds"),
        ({"timeout": float("nan")}, "smoke.timeout: expected seconds"),
        ({"exit_code": -1}, "smoke.exit_code: expected a whole number up to 255"),
        ({"exit_code": True}, "smoke.exit_code: expected a whole number"),
        ({"exit_code": 1.0}, "smoke.exit_code: expected a whole number"),
        ({"exit_code": float("inf")}, "smoke.exit_code: expected a whole number"),
        (
            {"platforms": {"linux/a/b/c": {}}},
            "smoke.platforms.linux/a/b/c: 'linux/a/b/c': character 10 is '/'",
        ),
        ({"platforms": {"vax": {}}}, "smoke.platforms.vax: 'vax': neither an operating system"),
        ({"platforms": ["linux/amd64"]}, "smoke.platforms: expected platforms"),
        (
            {"platforms": {"linux/amd64": {"platforms": {}}}},
            "smoke.platforms.linux/amd64: 'platforms' is not known",
        ),
    ],
)
def test_wrong_plans(fields: object, message: str) -> None:
    """The key is named."""
    with pytest.raises(InvalidSpec, match=message):
        Plan.from_mapping(fields)
