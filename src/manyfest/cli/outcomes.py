# SPDX-License-Identifier: Apache-2.0
"""How a deployment went, for people and in documents."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from manyfest.coverage.matrix import Cell
    from manyfest.deploy.converge import Outcome
    from manyfest.deploy.sight import Failure

__all__ = ["cell_json", "failed_text", "next_step", "outcome_json", "port_json"]


def outcome_json(outcome: Outcome) -> dict[str, Any]:
    """The shape of ``docs/reference/json.md``."""
    return {
        "ok": outcome.ok,
        "seconds": round(outcome.seconds, 1),
        "running": outcome.seen.running,
        "expected": outcome.seen.expected,
        "failures": [failure.to_json() for failure in outcome.failures],
        "rolled_back": False,
    }


def port_json(port: Mapping[str, Any]) -> dict[str, Any]:
    """A port as the Engine API has it."""
    return {
        "published": port.get("PublishedPort"),
        "target": port.get("TargetPort"),
        "protocol": port.get("Protocol"),
        "mode": port.get("PublishMode"),
    }


def cell_json(cell: Cell) -> dict[str, Any]:
    """What would happen on one node."""
    return {
        "name": cell.node.name,
        "machine": cell.node.host.machine,
        "state": cell.state,
        "platform": None if cell.platform is None else str(cell.platform),
        "reason": cell.reason,
    }


def failed_text(name: str, outcome: Outcome) -> str:
    """Which node, in the engine's words, what the program printed, and what that means."""
    lines = [f"{name}: {outcome.reason}"]
    for failure in outcome.failures:
        lines.append(f"  {failure.node}: {failure.error or 'no reason given'}{_tries(failure)}")
        if failure.output:
            lines.append(f"    it printed: {failure.output.splitlines()[-1][:200]}")
        if failure.explanation:
            lines.append(f"    {failure.explanation}")
    return "\n".join(lines)


def _tries(failure: Failure) -> str:
    return f" ({failure.tries} times)" if failure.tries > 1 else ""


def next_step(outcomes: Sequence[Outcome]) -> str:
    """What to do about it."""
    if any("non-zero exit" in failure.error for outcome in outcomes for failure in outcome.failures):
        return "manyfest verify IMAGE looks into it, manyfest smoke IMAGE runs it"
    return "manyfest check IMAGE --swarm tells what each node would do"
