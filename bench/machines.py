# SPDX-License-Identifier: Apache-2.0
"""How long ``manyfest machine`` takes: to create, to an engine that answers, to suspend and go on; and how much memory.

    python -m bench.machines [--arch A,B] [--no-write]

For each architecture, with an empty cache: create, which downloads Debian's packages, so that the network counts;
create another, which needs none; start, until the engine answers; suspend, and start again (empty where QEMU cannot);
stop. Each once: the second machine of a kind starts as the first did. Memory is the most that QEMU ever had resident,
from the kernel. All is emulated (``--emulate``), the machine's own architecture too. What is measured for some
architectures takes the place of what was known of those, in ``results/machines.json``; ``results/machines.md`` shows
all.

No other tool does the same, so that the figures stand alone and depend on the machine; the targets are for two cores.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import peers, report

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROJECT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results"

ARCHITECTURES = ("amd64", "386", "arm64", "armhf", "ppc64le", "riscv64", "s390x")

COLUMNS = {
    "create": "create, s",
    "again": "create another, s",
    "ready": "start to engine, s",
    "suspend": "suspend, s",
    "resume": "start again to engine, s",
    "stop": "stop, s",
    "memory": "QEMU, most MB",
    "disk": "disk, MB",
}
TARGETS = {"create": 60.0, "ready": 60.0, "memory": 1500.0}
"""At most so much, in the column's unit."""


class NotSuspended(Exception):
    """This QEMU cannot resume the architecture."""


class Machine:
    """A machine of an architecture, in folders of its own."""

    def __init__(self, program: str, folder: Path) -> None:
        self._program = program
        self._env = {
            **os.environ,
            "MANYFEST_CACHE": str(folder / "cache"),
            "MANYFEST_DATA": str(folder),
            "DOCKER_CONFIG": str(folder / "docker"),
        }
        self.folder = folder / "machines" / "m"

    def took(self, *words: str) -> float:
        """Seconds that ``manyfest machine`` with these words takes."""
        begun = time.perf_counter()
        done = subprocess.run(
            [self._program, "machine", *words],
            check=False,
            env=self._env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        if "--suspend" in words and "could stand still" in done.stderr:
            raise NotSuspended
        if done.returncode:
            raise SystemExit(
                f"bench: machine {' '.join(words)}: exit {done.returncode}\n{done.stderr[-2000:]}"
            )
        return time.perf_counter() - begun

    def memory(self) -> float:
        """The most that QEMU had resident, in MB."""
        pid = (self.folder / "qemu.pid").read_text().strip()
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("VmHWM:"))) * 1024 / 1e6


def measure(program: str, architecture: str) -> dict[str, float]:
    """Every figure of one architecture."""
    found: dict[str, float] = {}
    # A short path: there are sockets in it.
    with tempfile.TemporaryDirectory(prefix="m") as scratch:
        machine = Machine(program, Path(scratch))
        try:
            found["create"] = machine.took("create", "m", "--arch", architecture, "--emulate")
            found["again"] = machine.took("create", "n", "--arch", architecture, "--emulate")
            found["ready"] = machine.took("start", "m")
            found["memory"] = machine.memory()
            with contextlib.suppress(NotSuspended):
                found["suspend"] = machine.took("stop", "m", "--suspend")
                found["resume"] = machine.took("start", "m")
                found["memory"] = max(found["memory"], machine.memory())
            found["stop"] = machine.took("stop", "m")
            found["disk"] = (machine.folder / "disk.img").stat().st_blocks * 512 / 1e6
        finally:
            for name in ("m", "n"):
                if (machine.folder.parent / name).exists():
                    machine.took("rm", name, "--force")
    return found


def missed(found: Mapping[str, float]) -> list[str]:
    """The columns whose target a row misses."""
    return [name for name, most in TARGETS.items() if name in found and found[name] > most]


def page(results: Mapping[str, Mapping[str, Any]], about: Mapping[str, str]) -> str:
    """As a table, an architecture a row."""
    limits = ", ".join(
        f"{COLUMNS[name].rpartition(', ')[0]} at most {most:g}" for name, most in TARGETS.items()
    )
    lines = [
        "# Machines",
        "",
        f"{about['cores']} cores ({about['processor']}), {about['system']}; see `../machines.py`.",
    ]
    lines += [f"Targets: {limits}. What misses one is **bold**.", ""]
    lines += [
        f"| machine | {' | '.join(COLUMNS.values())} | measured |",
        f"| --- |{' ---: |' * len(COLUMNS)} --- |",
    ]
    for architecture in (each for each in ARCHITECTURES if each in results):
        row = results[architecture]
        late = missed(row["found"])
        cells = [_cell(row["found"].get(name), bold=name in late) for name in COLUMNS]
        lines.append(f"| {architecture} | {' | '.join(cells)} | {row['date']} |")
    return "\n".join(lines) + "\n"


def _cell(value: float | None, *, bold: bool) -> str:
    if value is None:
        return ""
    text = f"{value:.0f}" if value >= 100 else f"{value:.3g}"
    return f"**{text}**" if bold else text


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arch", default=",".join(ARCHITECTURES))
    parser.add_argument("--no-write", action="store_true")
    args = parser.parse_args(argv)
    wanted = args.arch.split(",")
    if strange := [each for each in wanted if each not in ARCHITECTURES]:
        parser.error(f"{', '.join(strange)}: expected some of {', '.join(ARCHITECTURES)}")
    kept = RESULTS / "machines.json"
    results: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    program, date = peers.manyfest(PROJECT), datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    for architecture in wanted:
        found = {name: round(value, 2) for name, value in measure(program, architecture).items()}
        results[architecture] = {"date": date, "found": found}
        print(architecture, found, flush=True)
        if not args.no_write:
            kept.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    told = page(results, report.machine())
    if not args.no_write:
        (RESULTS / "machines.md").write_text(told)
    print(told)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
