# SPDX-License-Identifier: Apache-2.0
"""``manyfest lint``."""

from __future__ import annotations

from manyfest.cli.arguments import platforms, split
from manyfest.cli.render import plural, printable
from manyfest.errors import Error, InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from manyfest.build.lint import Finding
    from manyfest.cli.console import Console
    from manyfest.cli.parser import CommandParser
    from manyfest.cli.places import Places
    from manyfest.platforms import Platform

SUMMARY = "find what in a project's files works on one architecture only"
EXAMPLES = (
    "manyfest lint",
    "manyfest lint app --platform linux/amd64,linux/arm64,linux/s390x",
    "manyfest lint --disable constant-apt-arch,ML109 --json",
)


def configure(parser: CommandParser) -> None:
    """A folder, and what is wanted of it."""
    parser.description = (
        "Read a project's Dockerfiles, Makefiles, shell scripts, Go and C sources and CI files, and say what will go "
        "wrong on another architecture: the line, why it matters, and the line as it should be. Nothing is run. With "
        "--platform the base images are looked up too. Exit code 1 when there is an error; with --strict, or a warning."
    )
    parser.add_argument("folder", metavar="DIR", nargs="?", default=".", help="the project (default: here)")
    parser.add_argument(
        "--platform",
        metavar="P,P",
        action="append",
        help="platforms that the bases must have; asks their registries",
    )
    parser.add_argument(
        "--disable", metavar="RULE,RULE", action="append", help="leave out rules, by id or name"
    )
    parser.add_argument("--strict", action="store_true", help="warnings count as errors")


def run(args: argparse.Namespace, console: Console) -> int:
    """0 nothing to mend, 1 something."""
    from manyfest.build.lint import inspect_tree
    from manyfest.cli.places import Places

    disabled = _disabled(split(args.disable))
    wanted = platforms(args.platform)
    with Places(args, console) as places:
        found = inspect_tree(args.folder, _lacking(places, wanted) if wanted else None)
    findings = [finding for finding in found if finding.rule.id not in disabled]
    console.result({"findings": [_shape(finding) for finding in findings]}, _text(findings))
    counts = {kind: sum(f.severity == kind for f in findings) for kind in ("error", "warning", "note")}
    told = ", ".join(plural(count, kind) for kind, count in counts.items() if count)
    console.say(f"{args.folder}: {told or 'nothing that depends on one architecture'}")
    return 1 if counts["error"] or (args.strict and counts["warning"]) else 0


def _lacking(places: Places, wanted: Sequence[Platform]) -> Callable[[str], tuple[list[str], str]]:
    from manyfest.indexes.publish import held_platforms, missing_from

    def lacking(image: str) -> tuple[list[str], str]:
        try:
            source, name = places.source(image)
            there = held_platforms(source, source.resolve(name))
        except Error as error:
            return [], str(error)
        return [str(platform) for platform in missing_from(wanted, there)], ""

    return lacking


def _disabled(names: Sequence[str]) -> set[str]:
    from manyfest.build.lint import RULES

    known = {rule.id: rule.id for rule in RULES.values()} | {name: rule.id for name, rule in RULES.items()}
    for name in names:
        if name not in known:
            raise InputError(f"no rule {name!r}", hint=f"the rules are {', '.join(sorted(RULES))}")
    return {known[name] for name in names}


def _shape(finding: Finding) -> dict[str, object]:
    return {
        "rule": finding.rule.id,
        "name": finding.rule.name,
        "severity": finding.severity,
        "path": finding.path,
        "line": finding.line,
        "message": finding.message,
        "why": finding.rule.why,
        "fixed": finding.fixed or None,
    }


def _text(findings: Sequence[Finding]) -> str:
    return "\n\n".join(_paragraph(finding) for finding in findings)


def _paragraph(finding: Finding) -> str:
    rule = finding.rule
    lines = [f"{finding.path}:{finding.line}: {rule.severity}: {finding.message} [{rule.id} {rule.name}]"]
    lines.append(f"  why:   {rule.why}")
    for place, line in enumerate(finding.fixed.splitlines()):
        lines.append(f"  {'fixed: ' if place == 0 else '       '}{line.strip()}")
    return printable("\n".join(lines))
