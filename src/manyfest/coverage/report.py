# SPDX-License-Identifier: Apache-2.0
"""The matrix for programs and pull requests: JSON, SARIF and Markdown; and the words that all of them share."""

from __future__ import annotations

from urllib.parse import quote

from manyfest.coverage.fixes import fixes
from manyfest.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from manyfest.coverage.matrix import Cell, Matrix, Row
    from manyfest.indexes.nearest import Nearest

__all__ = ["WORDS", "Group", "columns", "finding", "findings", "to_json", "to_markdown", "to_sarif"]

WORDS = {
    "native": "native",
    "emulated": "emulated",
    "fails": "NO",
    "unknown": "?",
    "excluded": "-",
}
"""A cell in a table."""

_SARIF_LEVEL = {"fails": "error", "unknown": "warning", "emulated": "note"}
_SARIF_RULES = {
    "fails": ("will-not-start", "The image will not start on a node that it may be scheduled on."),
    "unknown": ("unknown", "Nobody can tell whether the image starts there."),
    "emulated": ("emulated", "The image runs, slowly, under an emulator."),
}
HELP = "https://github.com/manyfest/manyfest/blob/main/docs/reference/check.md"


class Group(Value):
    """Nodes that are alike for every row, as one column: ``linux/amd64 x12``."""

    __slots__ = ("members", "title")
    title: str
    members: tuple[int, ...]

    def __init__(self, title: str, members: Sequence[int]) -> None:
        self._set(title=title, members=tuple(members))


def columns(matrix: Matrix, most: int = 6) -> list[Group]:
    """A column for each node, or, when there are more than ``most``, for each kind of node with the same answers."""
    if len(matrix.nodes) <= most:
        return [Group(node.name, [at]) for at, node in enumerate(matrix.nodes)]
    alike: dict[tuple[str, ...], list[int]] = {}
    for at, node in enumerate(matrix.nodes):
        states = tuple(row.cells[at].state for row in matrix.rows if row.cells)
        alike.setdefault((str(node.platform), node.host.machine, *states), []).append(at)
    return [
        Group(
            matrix.nodes[members[0]].name
            if len(members) == 1
            else f"{matrix.nodes[members[0]].platform} x{len(members)}",
            members,
        )
        for members in alike.values()
    ]


def finding(state: str, cells: Sequence[Cell]) -> str:
    """What happens on nodes for one reason, as a sentence without its end."""
    names = ", ".join(
        cell.node.name
        if cell.node.name == str(cell.node.platform)
        else f"{cell.node.name} ({cell.node.platform})"
        for cell in cells[:4]
    )
    if len(cells) > 4:
        names += f" and {len(cells) - 4} more"
    verb = {
        "fails": "will not start on",
        "unknown": "may or may not start on",
        "emulated": "runs emulated on",
        "excluded": "is not scheduled on",
        "native": "runs on",
    }[state]
    return f"{verb} {names}: {cells[0].reason}"


def findings(row: Row) -> list[tuple[str, list[Cell]]]:
    """Cells of one state and reason together, worst first."""
    together: dict[tuple[str, str], list[Cell]] = {}
    for cell in row.cells:
        together.setdefault((cell.state, cell.reason), []).append(cell)
    rank = {state: at for at, state in enumerate(("fails", "unknown", "emulated", "excluded", "native"))}
    return [
        (state, cells) for (state, _), cells in sorted(together.items(), key=lambda pair: rank[pair[0][0]])
    ]


def label(row: Row) -> str:
    """Who wants which image: ``service web: nginx:1``."""
    image = row.use.image or row.use.problem
    return f"{row.use.owner}: {image}" if row.use.owner else image


def to_json(
    matrix: Matrix, warnings: Sequence[str] = (), near: Mapping[int, Nearest] | None = None
) -> dict[str, Any]:
    """The shape that ``docs/reference/json.md`` describes; ``near`` by the number of the row."""
    return {
        "verdict": matrix.verdict,
        "nodes": [node.to_json() for node in matrix.nodes],
        "images": [_row_to_json(row, (near or {}).get(at)) for at, row in enumerate(matrix.rows)],
        "warnings": list(warnings),
    }


def _row_to_json(row: Row, near: Nearest | None) -> dict[str, Any]:
    listing, problem = row.listing, row.problem
    return {
        **row.use.to_json(),
        "state": row.state,
        "digest": None if listing is None else listing.digest,
        "platforms": [] if listing is None else [str(platform) for platform in listing.platforms],
        "problem": None
        if problem is None
        else {"kind": problem.kind, "message": problem.message, "hint": problem.hint},
        "cells": [
            {
                "node": cell.node.name,
                "state": cell.state,
                "rule": cell.rule or None,
                "platform": None if cell.platform is None else str(cell.platform),
                "digest": cell.digest or None,
                "reason": cell.reason,
            }
            for cell in row.cells
        ],
        "fixes": [{"title": fix.title, "text": fix.text} for fix in fixes(row)],
        "nearest": None if near is None else near.to_json(),
    }


def to_markdown(matrix: Matrix, near: Mapping[int, Nearest] | None = None) -> str:
    """For a comment on a pull request: a verdict, a table, and what to do about what will not run."""
    head = {
        "yes": "**Every image runs on every node it may go to.**",
        "no": "**Some images will not run.**",
        "unknown": "**Nobody can tell for some images.**",
    }[matrix.verdict]
    groups = columns(matrix)
    marks = {"native": "native", "emulated": "emulated", "fails": "**NO**", "unknown": "?", "excluded": "-"}
    lines = [
        head,
        "",
        _line("image", *(group.title for group in groups)),
        _line(*["---"] * (len(groups) + 1)),
    ]
    for row in matrix.rows:
        if row.cells:
            states = [marks[row.cells[group.members[0]].state] for group in groups]
        else:
            states = ["not built" if row.state == "not built" else "?"] * len(groups)
        lines.append(_line(label(row), *states))
    for at, row in enumerate(matrix.rows):
        lines += _details(row, (near or {}).get(at))
    return "\n".join(lines)


def _details(row: Row, near: Nearest | None) -> list[str]:
    if row.problem is not None and row.state == "unknown":
        return ["", f"- {_code(label(row))}: {row.problem.kind}: {_plain(row.problem.message)}"]
    shown = [(state, cells) for state, cells in findings(row) if state in _SARIF_LEVEL]
    lines = [f"- {_code(label(row))} {_plain(finding(state, cells))}" for state, cells in shown]
    if row.is_stranded:
        lines.append(f"- {_code(label(row))} may go to no node at all")
    for fix in fixes(row) if row.state == "fails" else ():
        lines += ["", f"{_plain(fix.title)}:", "", "```yaml", fix.text, "```"]
    if near is not None:
        lines.append(f"- nearest tags: {_plain(str(near))}")
    return ["", *lines] if lines else []


def _line(*cells: str) -> str:
    return "| " + " | ".join(cell if cell.startswith("**") else _plain(cell) for cell in cells) + " |"


def _plain(text: str) -> str:
    """Names come from strangers; in a comment they must not become markup."""
    shown = "".join(c if c.isprintable() else " " for c in text)
    return shown.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("@", "@\u200b")


def _code(text: str) -> str:
    return "`" + "".join(c if c.isprintable() else " " for c in text).replace("`", "'") + "`"


def to_sarif(matrix: Matrix, version: str) -> dict[str, Any]:
    """SARIF 2.1.0, one result for each image and reason; what runs natively is not a result.

    https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
    """
    results = []
    for row in matrix.rows:
        if row.problem is not None:
            if row.state == "unknown":
                text = f"{label(row)}: {row.problem.kind}: {row.problem.message}"
                results.append(_result(row, "unknown", text))
            continue
        for state, cells in findings(row):
            if state in _SARIF_LEVEL:
                results.append(_result(row, state, f"{label(row)} {finding(state, cells)}"))
        if row.is_stranded:
            results.append(_result(row, "fails", f"{label(row)} may go to no node at all"))
    driver = {
        "name": "manyfest",
        "version": version,
        "informationUri": HELP,
        "rules": [
            {
                "id": name,
                "shortDescription": {"text": text},
                "helpUri": HELP,
                "defaultConfiguration": {"level": _SARIF_LEVEL[state]},
            }
            for state, (name, text) in _SARIF_RULES.items()
        ],
    }
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results}],
    }


def _result(row: Row, state: str, text: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "ruleId": _SARIF_RULES[state][0],
        "level": _SARIF_LEVEL[state],
        "message": {"text": text},
    }
    location: dict[str, Any] = {
        "logicalLocations": [{"name": row.use.owner or row.use.image, "kind": "resource"}]
    }
    if row.use.file:
        location["physicalLocation"] = {
            "artifactLocation": {"uri": quote(row.use.file)},
            "region": {"startLine": row.use.line, "startColumn": row.use.column},
        }
    found["locations"] = [location]
    return found
