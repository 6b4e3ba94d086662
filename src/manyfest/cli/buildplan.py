# SPDX-License-Identifier: Apache-2.0
"""What ``manyfest build --dry-run`` prints."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from manyfest.build.engines import Choice
    from manyfest.build.options import Planned
    from manyfest.build.twostep import First
    from manyfest.cli.console import Console

__all__ = ["tell_plan"]


def tell_plan(console: Console, planned: list[Planned]) -> int:
    """One block of lines for each platform, or one document."""
    first = planned[0].first
    value = [
        {
            "platform": str(each.platform),
            "dockerfile": each.dockerfile,
            **_builder(each.choice),
            "bases": _bases(each.bases),
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
            _builder_line(each.choice),
            *_base_lines(each.bases),
        ]
        if each.job is not None:
            lines.append(f"  compile:    {each.job.command}")
            lines += [f"    {name}={text}" for name, text in each.job.environment]
    told = {"first": None if first is None else _first_json(first), "platforms": value}
    console.result(told, "\n".join(lines))
    return 0


def _first_lines(first: First) -> list[str]:
    return [
        f"  dockerfile: {first.step.dockerfile}",
        _builder_line(first.choice),
        *_base_lines(first.bases),
        *(f"  copy:       {source} to {dest}" for source, dest in first.step.copies),
    ]


def _first_json(first: First) -> dict[str, object]:
    return {
        "dockerfile": first.step.dockerfile,
        **_builder(first.choice),
        "bases": _bases(first.bases),
        "copy": [{"source": source, "destination": dest} for source, dest in first.step.copies],
    }


def _builder(choice: Choice | None) -> dict[str, str]:
    if choice is None:
        return {"builder": "embedded", "why": "nothing has to run"}
    return {"builder": str(choice), "why": choice.why}


def _builder_line(choice: Choice | None) -> str:
    return "  builder:    {builder} ({why})".format(**_builder(choice))


def _bases(bases: Sequence[tuple[str, str, str]]) -> list[dict[str, str | None]]:
    return [{"stage": stage, "name": name, "digest": digest or None} for stage, name, digest in bases]


def _base_lines(bases: Sequence[tuple[str, str, str]]) -> list[str]:
    return [
        f"  base:       {name}" + (f"@{digest}" if digest else "") + (f" ({stage})" if len(bases) > 1 else "")
        for stage, name, digest in bases
    ]
