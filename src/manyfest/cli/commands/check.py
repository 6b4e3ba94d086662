# SPDX-License-Identifier: Apache-2.0
"""``manyfest check``."""

from __future__ import annotations

import os

from manyfest.cli.commands.nodes import add_nodes, nodes_of, this_machine
from manyfest.cli.render import table
from manyfest.errors import Error, InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from manyfest.cli.console import Console
    from manyfest.cli.parser import CommandParser
    from manyfest.cli.places import Places
    from manyfest.coverage.matrix import Matrix, Row
    from manyfest.coverage.nodes import Node
    from manyfest.coverage.sources import Sources
    from manyfest.indexes.listing import Listing
    from manyfest.indexes.nearest import Nearest

SUMMARY = "tell before deploying whether images run on the nodes"
EXAMPLES = (
    "manyfest check compose.yaml --platform linux/amd64,linux/arm64",
    "manyfest check stack.yaml --swarm --fix",
    "manyfest check rendered-chart.yaml --kube nodes.json --markdown",
    "manyfest check ghcr.io/acme/app:1.2 --nodes nodes.yaml --nearest",
)


def configure(parser: CommandParser) -> None:
    """What, where, and how to tell."""
    parser.description = (
        "Tell for every image and every node whether it would run natively, emulated or not at all, and why, by the "
        "rules of the engine there. Files may be Compose files, Swarm stacks, Kubernetes YAML (what helm template and "
        "kubectl kustomize print) and Dockerfiles. Exit 0: all will run; 1: some will not; 3: nobody can tell."
    )
    parser.add_argument(
        "what", metavar="FILE|IMAGE", nargs="+", help="files (- for standard input) and images"
    )
    add_nodes(parser)
    parser.add_argument(
        "--engine",
        choices=("docker", "docker-containerd", "docker-20.10", "containerd", "buildkit", "podman"),
        default="",
        help="the engine on every node (default: what each node says, else what such a file is for)",
    )
    parser.add_argument("--native", action="store_true", help="emulation is not good enough")
    parser.add_argument(
        "--fix", action="store_true", help="suggest what to write so that nothing lands wrong"
    )
    parser.add_argument(
        "--nearest", action="store_true", help="look for the nearest tags that have the platform"
    )
    parser.add_argument(
        "--profile", metavar="NAME", action="append", help="enable a Compose profile; '*' for all"
    )
    parser.add_argument(
        "--env-file", metavar="FILE", action="append", help="variables for Compose files, instead of .env"
    )
    parser.add_argument("--build-arg", metavar="KEY=VALUE", action="append", help="argument of a Dockerfile")
    parser.add_argument("--sarif", action="store_true", help="print SARIF 2.1.0, for code scanning")
    parser.add_argument("--markdown", action="store_true", help="print Markdown, for a pull request")


def run(args: argparse.Namespace, console: Console) -> int:
    """Read the files first, so that nothing is asked of anybody when one is wrong."""
    from manyfest.cli.places import Places
    from manyfest.coverage.matrix import check, exit_code

    if args.json + args.sarif + args.markdown > 1:
        raise InputError("--json, --sarif and --markdown are three ways to tell", hint="choose one of them")
    found = _sources(args, console)
    nodes = _nodes(args, console)
    with Places(args, console) as places:
        matrix = check(found.uses, nodes, places.source, engine=args.engine, native=args.native)
        near = _nearest(matrix, places, console, args.engine) if args.nearest else {}
    _show(args, console, matrix, found.warnings, near)
    return exit_code(matrix)


def _sources(args: argparse.Namespace, console: Console) -> Sources:
    from manyfest.cli.arguments import pairs, split
    from manyfest.coverage.sources import Options, read

    options = Options(split(args.profile), args.env_file or (), pairs(args.build_arg), os.environ)
    found = read(args.what, options)
    for warning in found.warnings:
        console.warn(warning)
    return found


def _nodes(args: argparse.Namespace, console: Console) -> list[Node]:
    if not (args.swarm or args.kube or args.nodes or args.host or args.platform):
        console.say(
            "no nodes given: looking at this machine (--swarm, --kube, --nodes, --platform name others)"
        )
        return [this_machine()]
    found = nodes_of(args)
    if not found:
        raise InputError("there is not a single node", hint="the file or the cluster is empty")
    return found


def _nearest(matrix: Matrix, places: Places, console: Console, engine: str) -> dict[int, Nearest]:
    """For every row that fails, the tags that run everywhere it may go."""
    from manyfest.coverage.matrix import place_of
    from manyfest.indexes.nearest import nearest

    found: dict[int, Nearest] = {}
    for at, row in enumerate(matrix.rows):
        failing = [cell.node for cell in row.cells if cell.state == "fails"]
        if not failing:
            continue
        source, name = places.source(place_of(row.use))
        try:
            found[at] = nearest(source, name, _runs_on(row, failing, engine))
        except Error as error:
            console.warn(f"{row.use.image}: looking for the nearest tags: {error}")
    return found


def _runs_on(row: Row, nodes: list[Node], engine: str) -> Callable[[Listing], bool]:
    from manyfest.coverage.matrix import RUNS, judge

    return lambda listing: all(judge(row.use, node, listing, engine=engine).state in RUNS for node in nodes)


def _show(
    args: argparse.Namespace,
    console: Console,
    matrix: Matrix,
    warnings: tuple[str, ...],
    near: dict[int, Nearest],
) -> None:
    from manyfest.coverage import report

    if args.sarif:
        from manyfest import __version__

        console.document(report.to_sarif(matrix, __version__))
    elif args.markdown:
        console.print(report.to_markdown(matrix, near))
    elif console.json:
        console.document(report.to_json(matrix, warnings, near))
    else:
        console.print(_text(args, matrix, near))


def _text(args: argparse.Namespace, matrix: Matrix, near: dict[int, Nearest]) -> str:
    from manyfest.coverage.report import WORDS, columns, label

    groups = columns(matrix)
    rows = []
    for row in matrix.rows:
        states = (
            [WORDS[row.cells[group.members[0]].state] for group in groups]
            if row.cells
            else [row.state if row.state == "not built" else "?"] * len(groups)
        )
        rows.append((label(row), *states))
    parts = [table(("IMAGE", *(group.title for group in groups)), rows)] if rows else []
    details = [line for at, row in enumerate(matrix.rows) for line in _details(args, row, near.get(at))]
    parts += ["\n".join(details)] if details else []
    parts.append(_conclusion(matrix))
    return "\n\n".join(parts)


def _details(args: argparse.Namespace, row: Row, near: Nearest | None) -> list[str]:
    from manyfest.coverage.fixes import fixes
    from manyfest.coverage.report import finding, findings, label

    name = f"{row.use.place}: {label(row)}" if row.use.place else label(row)
    if row.state == "not built":
        return [f"{row.use.place}: {row.use.owner}: {note}" for note in row.use.notes]
    if row.problem is not None:
        lines = [f"{name}: {row.problem.kind}: {row.problem.message}"]
        return lines + (
            [f"  hint: {row.problem.hint}"] if row.problem.hint and row.state == "unknown" else []
        )
    shown = findings(row) if args.verbose else [f for f in findings(row) if f[0] != "native"]
    lines = [f"{name} {finding(state, cells)}" for state, cells in shown]
    if row.is_stranded:
        lines.append(f"{name} may go to no node at all")
    lines += [f"  note: {note}" for note in row.use.notes]
    for fix in fixes(row) if args.fix else ():
        lines += [f"  fix: {fix.title}", *(f"    {line}" for line in fix.text.splitlines())]
    if near is not None:
        lines.append(f"  nearest: {near}")
    return lines


def _conclusion(matrix: Matrix) -> str:
    bad = sum(row.state == "fails" for row in matrix.rows)
    unknown = sum(row.state == "unknown" for row in matrix.rows)
    unbuilt = sum(row.state == "not built" for row in matrix.rows)
    parts = []
    if bad:
        parts.append(f"{bad} of {len(matrix.rows)} will not run everywhere they may go")
    if unknown:
        parts.append(f"{unknown} cannot be told")
    if not parts:
        parts.append("all will run" if matrix.rows else "nothing to check")
    if unbuilt:
        parts.append(f"{unbuilt} not built yet")
    return ", ".join(parts)
