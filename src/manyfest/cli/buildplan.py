# SPDX-License-Identifier: Apache-2.0
"""What ``manyfest build --dry-run`` prints."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from manyfest.build.options import Planned
    from manyfest.build.twostep import First
    from manyfest.cli.console import Console

__all__ = ["tell_plan"]

_NO_RUN = "nothing has to run"


def tell_plan(console: Console, planned: list[Planned]) -> int:
    """One block of lines for each platform, or one document."""
    first = planned[0].first
    value = [
        {
            "platform": str(each.platform),
            "dockerfile": each.dockerfile,
            "builder": "embedded" if each.choice is None else str(each.choice),
            "why": _NO_RUN if each.choice is None else each.choice.why,
            "bases": [{"stage": s, "name": n, "digest": d or None} for s, n, d in each.bases],
            "compile": None
            if each.job is None
            else {
                "command": each.job.command,
                "environment": dict(each.job.environment),
                "tool": each.job.tool or None,
            },
        }
        for each in planned
    ]  # fmt: skip
    lines: list[str] = [] if first is None else ["first, once for all platforms", *_first_lines(first)]
    for each in planned:
        lines += [
            f"{each.platform}",
            f"  dockerfile: {each.dockerfile}",
            "  builder:    "
            + (f"embedded ({_NO_RUN})" if each.choice is None else f"{each.choice} ({each.choice.why})"),
        ]
        lines += _base_lines(each.bases)
        if each.job is not None:
            lines.append(f"  compile:    {each.job.command}")
            lines += [f"    {name}={text}" for name, text in each.job.environment]
    told = {"first": None if first is None else _first_json(first), "platforms": value}
    console.result(told, "\n".join(lines))
    return 0


def _first_lines(first: First) -> list[str]:
    choice = first.choice
    return [
        f"  dockerfile: {first.step.dockerfile}",
        "  builder:    " + (f"embedded ({_NO_RUN})" if choice is None else f"{choice} ({choice.why})"),
        *_base_lines(first.bases),
        *(f"  copy:       {source} to {dest}" for source, dest in first.step.copies),
    ]


def _first_json(first: First) -> dict[str, object]:
    choice = first.choice
    return {
        "dockerfile": first.step.dockerfile,
        "builder": "embedded" if choice is None else str(choice),
        "why": _NO_RUN if choice is None else choice.why,
        "bases": [{"stage": s, "name": n, "digest": d or None} for s, n, d in first.bases],
        "copy": [{"source": source, "destination": dest} for source, dest in first.step.copies],
    }


def _base_lines(bases: Sequence[tuple[str, str, str]]) -> list[str]:
    return [
        f"  base:       {name}" + (f"@{digest}" if digest else "") + (f" ({stage})" if len(bases) > 1 else "")
        for stage, name, digest in bases
    ]
