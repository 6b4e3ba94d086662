# SPDX-License-Identifier: Apache-2.0
"""What to write so that nothing lands where it cannot run: text to merge, never applied by itself."""

from __future__ import annotations

from manyfest.coverage.kubernetes import pod_path
from manyfest.coverage.matrix import RUNS
from manyfest.coverage.rules import ENGINES, DockerClassic, Swarm
from manyfest.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from manyfest.coverage.matrix import Cell, Row

__all__ = ["Fix", "fixes"]


class Fix(Value):
    """``title`` in words, ``text`` to merge (YAML) or to run."""

    __slots__ = ("text", "title")
    title: str
    text: str

    def __init__(self, title: str, text: str) -> None:
        self._set(title=title, text=text)


def fixes(row: Row) -> list[Fix]:
    """What helps a row that fails on some nodes; empty when nothing of this kind does."""
    bad = [cell for cell in row.cells if cell.state == "fails"]
    good = [cell for cell in row.cells if cell.state in RUNS]
    kinds = {cell.node.kind for cell in row.cells}
    found: list[Fix] = []
    if row.use.kind == "kubernetes" or kinds == {"kubernetes"}:
        found += _affinity(row, good, bad)
    elif "swarm" in kinds:
        found += _constraints(row, good, bad)
        found += _spelling(row)
    elif row.use.kind == "compose":
        found += _platform(row, bad)
    return found


def _constraints(row: Row, good: Sequence[Cell], bad: Sequence[Cell]) -> list[Fix]:
    machines = {cell.node.host.machine for cell in bad} - {cell.node.host.machine for cell in good}
    if not machines or not good:
        return []
    # Constraints are all of them required, so several architectures can only be told by what they are not.
    lines = [f"node.platform.arch != {machine}" for machine in sorted(machines)]
    if row.use.kind != "compose":
        words = " ".join(f"--constraint {line.replace(' ', '')!r}" for line in lines)
        return [Fix("keep it away from nodes that cannot run it", f"docker service create {words} …")]
    service = row.use.owner.removeprefix("service ")
    constraints = {"deploy": {"placement": {"constraints": lines}}}
    return [Fix("keep it away from nodes that cannot run it", _yaml({"services": {service: constraints}}))]


def _spelling(row: Row) -> list[Fix]:
    """Nodes that Swarm filters out although their engine would run it."""
    listing = row.listing
    if listing is None:
        return []
    stranded = []
    for cell in row.cells:
        rule = Swarm(ENGINES.get(cell.node.engine, DockerClassic)())
        inside = rule.engine.choose(cell.node.host, listing).entry
        if not rule.admits(cell.node.host, rule.placement(listing)) and inside is not None:
            stranded.append(cell.node.name)
    if not stranded:
        return []
    title = f"let {', '.join(stranded)} run it: Swarm compares its own name for the machine"
    option = (
        "docker stack deploy --resolve-image never"
        if row.use.kind == "compose"
        else ("docker service create --no-resolve-image")
    )
    return [Fix(title, f"{option} …   # no filter at all: combine it with constraints")]


def _platform(row: Row, bad: Sequence[Cell]) -> list[Fix]:
    """An emulator is there, and would be used if the platform were asked for by name."""
    if row.listing is None or row.use.platform is not None:
        return []
    for cell in bad:
        for platform in row.listing.platforms:
            if cell.node.runs(platform) == "emulated":
                service = row.use.owner.removeprefix("service ")
                text = _yaml({"services": {service: {"platform": str(platform)}}})
                return [Fix(f"run it emulated on {cell.node.name}, knowingly", text)]
    return []


def _affinity(row: Row, good: Sequence[Cell], bad: Sequence[Cell]) -> list[Fix]:
    failing = {_labels(cell) for cell in bad}
    systems = sorted({_labels(cell) for cell in good} - failing)
    if not bad or not systems:
        return []
    terms = []
    for system in sorted({system for system, _ in systems}):
        architectures = [architecture for os, architecture in systems if os == system]
        terms.append(
            {
                "matchExpressions": [
                    {"key": "kubernetes.io/os", "operator": "In", "values": [system]},
                    {"key": "kubernetes.io/arch", "operator": "In", "values": architectures},
                ]
            }
        )
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    affinity: dict[str, Any] = {"affinity": {"nodeAffinity": required}}
    if row.use.kind != "kubernetes":
        return [Fix("schedule it only where it runs: in the pod's spec", _yaml(affinity))]
    kind, _, name = row.use.owner.partition(",")[0].partition(" ")
    patch: dict[str, Any] = affinity
    for key in reversed(pod_path(kind)):
        patch = {key: patch}
    title = f"schedule it only where it runs: kubectl patch {kind.lower()} {name} --patch-file FILE"
    return [Fix(title, _yaml(patch))]


def _labels(cell: Cell) -> tuple[str, str]:
    return cell.node.platform.os, cell.node.platform.architecture


def _yaml(value: object) -> str:
    import yaml

    return str(yaml.safe_dump(value, sort_keys=False, width=110)).rstrip("\n")
