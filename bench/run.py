# SPDX-License-Identifier: Apache-2.0
"""Measure manyfest and its peers side by side: ``python bench/run.py --help``; ``README.md`` says how to read it."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench import building, peers, report  # noqa: E402
from bench.daemon import Daemon  # noqa: E402
from bench.project import Project  # noqa: E402
from bench.proxy import DelayingProxy  # noqa: E402
from bench.registry import Authority, Registry  # noqa: E402
from bench.starter import Took  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from bench.peers import Scene, Tool

RESULTS = Path(__file__).resolve().parent / "results"
LAYER_BYTES = 500_000_000
ROUND_TRIP_S = 0.05
CONDITIONS = ("http", "tls", "http-50ms", "tls-50ms")
JOBS = (
    "version",
    "raw",
    "configs",
    "create",
    "copy-repository",
    "copy-registry",
    "layer",
    *building.BUILDING,
)
_LONG_S = 2.5
"""A tool that takes longer is run a few times only; its ratio is far from any target."""


class Failed(Exception):
    """A process did not do its job; the text says why."""


class Sample:
    """What one doing of a job took: seconds, processor seconds, and the largest process in bytes."""

    def __init__(self, wall_s: float, cpu_s: float, peak_bytes: int) -> None:
        self.wall_s, self.cpu_s, self.peak_bytes = wall_s, cpu_s, peak_bytes


class Stage:
    """Two registries, each behind plain HTTP and TLS, each of these near and far; an engine for ``jobs`` that build."""

    def __init__(self, scratch: Path, stack: contextlib.ExitStack, jobs: Sequence[str] = ()) -> None:
        self.scratch = scratch
        self.daemon = Daemon(scratch)
        self.project = Project(scratch)
        if set(jobs) & set(building.BUILDING):
            self.project.write()
            stack.callback(_unmount, scratch)
            stack.enter_context(self.daemon)
        self.authority = Authority(scratch)
        self._serial = 0
        self._near: dict[str, tuple[Registry, Registry]] = {}
        self._far: dict[str, tuple[DelayingProxy, DelayingProxy]] = {}
        for scheme in ("http", "tls"):
            authority = self.authority if scheme == "tls" else None
            pair = [stack.enter_context(Registry(scratch, scratch / name, authority)) for name in "ab"]
            far = [stack.enter_context(DelayingProxy(each.port, ROUND_TRIP_S)) for each in pair]
            self._near[scheme] = (pair[0], pair[1])
            self._far[scheme] = (far[0], far[1])
        for end in (*self._near["tls"], *self._far["tls"]):
            peers.trust(self.authority.ca, f"127.0.0.1:{end.port}", scratch)

    def fill(self, layer_bytes: int) -> None:
        """Push the images of all jobs."""
        host = f"127.0.0.1:{self._near['http'][0].port}"
        path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
        subprocess.run(
            [sys.executable, "-m", "bench.images", host, str(layer_bytes)],
            check=True,
            env={**os.environ, "PYTHONPATH": path, "TMPDIR": str(self.scratch)},
        )

    def scene(self, condition: str, job: str = "") -> Scene:
        """A fresh target under one condition, and for what builds a project that is another than before."""
        self._serial += 1
        if job in building.BUILDING and job != "rebuild":
            self.project.change(self._serial)
        ports = [end.port for end in self._ends(condition)]
        here, there = (f"127.0.0.1:{port}" for port in ports)
        tls, engine = _scheme(condition) == "tls", bool(self.daemon.host)
        return peers.Scene(here, there, tls, self.scratch, f"t{self._serial}", engine)

    def counted(self, condition: str) -> tuple[int, int, int]:
        """Requests, those that write, and connections so far; connections are known of the far condition only."""
        # A log line is written after the answer; by then the client may be gone.
        time.sleep(0.1)
        near = self._near[_scheme(condition)]
        connections = sum(getattr(end, "connections", 0) for end in self._ends(condition))
        return sum(each.requests for each in near), sum(each.writes for each in near), connections

    def forget(self) -> None:
        """Throw away what the registries logged."""
        for pair in self._near.values():
            for registry in pair:
                registry.forget()

    def _ends(self, condition: str) -> tuple[Registry, Registry] | tuple[DelayingProxy, DelayingProxy]:
        scheme = _scheme(condition)
        return self._far[scheme] if condition.endswith("ms") else self._near[scheme]


def measure(
    stage: Stage, tools: Sequence[Tool], job: str, condition: str, repetitions: int
) -> dict[str, dict[str, Any]]:
    """Each tool's samples. One doing before them is counted instead of timed, and drops tools that fail."""
    environment = peers.environment(
        stage.authority.ca if _scheme(condition) == "tls" else None, stage.scratch, stage.daemon.host
    )
    results: dict[str, dict[str, Any]] = {}
    for tool in tools:
        if tool.commands(job, stage.scene(condition, job)):
            results[tool.name] = _counted(stage, tool, job, condition, environment)
    stage.forget()
    running = [tool for tool in tools if "failed" not in results.get(tool.name, {"failed": ""})]
    for turn in range(repetitions):
        order = [t for t in running if turn < 2 or results[t.name]["first_s"] < _LONG_S or job == "layer"]
        random.shuffle(order)
        for tool in order:
            scene = stage.scene(condition, job)
            sample = _do(
                tool.commands(job, scene), environment, stage.daemon if tool.name == "docker" else None
            )
            if job in building.BUILDING and job != "rebuild":
                _do(tool.commands("clean", scene), environment)
            entry = results[tool.name]
            entry["wall_s"].append(round(sample.wall_s, 5))
            entry["cpu_s"].append(round(sample.cpu_s, 5))
            entry["peak_bytes"].append(sample.peak_bytes)
    return results


def _counted(
    stage: Stage, tool: Tool, job: str, condition: str, environment: Mapping[str, str]
) -> dict[str, Any]:
    try:
        if job == "rebuild":
            _do(tool.commands(job, stage.scene(condition, job)), environment)
        before = stage.counted(condition)
        scene = stage.scene(condition, job)
        sample = _do(tool.commands(job, scene), environment)
        if job in building.BUILDING and job != "rebuild":
            _do(tool.commands("clean", scene), environment)
    except Failed as error:
        print(f"  {tool.name}: {error}", file=sys.stderr)
        return {"failed": str(error)}
    after = stage.counted(condition)
    return {
        "first_s": round(sample.wall_s, 5),
        "requests": after[0] - before[0],
        "writes": after[1] - before[1],
        "connections": after[2] - before[2] if condition.endswith("ms") else None,
        "wall_s": [],
        "cpu_s": [],
        "peak_bytes": [],
    }


def _do(
    commands: Sequence[Sequence[str]], environment: Mapping[str, str], daemon: Daemon | None = None
) -> Sample:
    """Run the processes of one job, one after another; what a ``daemon`` works meanwhile is theirs.

    Raises :class:`Failed`.
    """
    busy = daemon.cpu_s if daemon is not None else 0.0
    wall_s, cpu_s, peak = 0.0, 0.0, 0
    for command in commands:
        took = Took(command, environment)
        if took.code:
            last = took.said.strip().splitlines()[-1:]
            raise Failed(f"exit status {took.code}: {' '.join(last)[:300]}")
        wall_s += took.wall_s
        cpu_s += took.cpu_s
        peak = max(peak, took.peak_bytes)
    return Sample(wall_s, cpu_s + (daemon.cpu_s - busy if daemon is not None else 0.0), peak)


def _unmount(folder: Path) -> None:
    """Engines leave mounts below their storage, and a mount cannot be removed."""
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for place in sorted((each for each in mounted if each.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "-l", place], check=False)


def _scheme(condition: str) -> str:
    return condition.partition("-")[0]


def _conditions_of(job: str, wanted: Sequence[str]) -> list[str]:
    if job == "version":
        return ["http"]  # it asks no registry
    if job in building.BUILDING:
        return ["http"]  # docker and buildah speak it to loopback without being told
    if job == "layer":
        return [c for c in wanted if not c.endswith("ms")]  # bytes, not round trips
    return list(wanted)


def _repetitions(job: str, asked: int) -> int:
    if job in building.BUILDING:
        return max(2, asked // 5)
    return max(3, asked // 3) if job == "layer" else asked


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """A folder in memory where there is room, so that no disk is measured."""
    shared = Path("/dev/shm")
    room = shared.is_dir() and shutil.disk_usage(shared).free > 8 * LAYER_BYTES
    with tempfile.TemporaryDirectory(prefix="manyfest-bench-", dir=shared if room else None) as folder:
        yield Path(folder)


def main(argv: Sequence[str] | None = None) -> int:
    """Run, write the results, print them; 1 when ``--check`` and a target is missed."""
    args = _arguments(argv)
    peers.build()
    program = args.manyfest or peers.manyfest(args.project)
    tools, missing = peers.tools(program)
    if args.tools:
        tools = [tool for tool in tools if tool.name in args.tools.split(",")]
    repetitions = 3 if args.quick else args.repetitions
    measured: dict[str, dict[str, Any]] = {}
    with _scratch() as scratch, contextlib.ExitStack() as stack:
        stage = Stage(scratch, stack, args.jobs.split(","))
        stage.fill(LAYER_BYTES if "layer" in args.jobs.split(",") else 0)
        for job in args.jobs.split(","):
            for condition in _conditions_of(job, args.conditions.split(",")):
                print(f"{job} {condition} …", file=sys.stderr, flush=True)
                found = measure(stage, tools, job, condition, _repetitions(job, repetitions))
                measured.setdefault(job, {})[condition] = found
    stamp = time.strftime("%Y-%m-%d", time.gmtime())
    path = RESULTS / f"{stamp}.json"
    results: dict[str, Any] = {
        "machine": report.machine(),
        "tools": {tool.name: tool.version for tool in tools},
        "missing": missing,
        "dates": dict.fromkeys(measured, stamp),
        "measured": measured,
    }
    if args.update and (earlier := sorted(RESULTS.glob("[0-9]*.json"))):
        results = report.updated(json.loads(earlier[-1].read_text()), results, earlier[-1].stem)
    text = report.text(results)
    if not args.no_write:
        RESULTS.mkdir(exist_ok=True)
        path.write_text(json.dumps(results, indent=1) + "\n")
        (RESULTS / "latest.md").write_text(text)
    print(text)
    return 1 if args.check and report.has_missed(results) else 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three repetitions of everything")
    parser.add_argument(
        "--repetitions", type=int, default=15, metavar="N", help="default 15; a third for layers"
    )
    parser.add_argument("--jobs", default=",".join(JOBS), help="of " + ",".join(JOBS))
    parser.add_argument("--conditions", default=",".join(CONDITIONS), help="of " + ",".join(CONDITIONS))
    parser.add_argument("--tools", default="", help="only these, by name")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a target is missed")
    parser.add_argument("--update", action="store_true", help="keep what the newest file has of other jobs")
    parser.add_argument("--no-write", action="store_true", help="leave bench/results alone")
    parser.add_argument("--project", type=Path, default=ROOT, help="the source tree to install and measure")
    parser.add_argument("--manyfest", default="", metavar="PROGRAM", help="measure this one; install nothing")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
