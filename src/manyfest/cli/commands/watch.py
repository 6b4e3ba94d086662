# SPDX-License-Identifier: Apache-2.0
"""``manyfest watch``."""

from __future__ import annotations

from manyfest.cli.render import plural, printable, size, table
from manyfest.cli.watching import add_looks

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping
    from typing import Any

    from manyfest.cli.console import Console
    from manyfest.cli.parser import CommandParser
    from manyfest.serve.dashboard.state import Board

SUMMARY = "show lists, a swarm and who answers in the terminal, live"
EXAMPLES = (
    "manyfest watch ghcr.io/acme/app:1.2",
    "manyfest watch --swarm --probe http://localhost:8080/",
    "manyfest watch ghcr.io/acme/app:1.2 --once",
    "manyfest watch --swarm --json | jq --unbuffered .changes[0].text",
)
_QUIET_S = 0.2
_LOOK_S = 0.5
_FAILED = 3
_SHOWN_CHANGES = 5
_WORDS = {"starts": "yes", "fails": "NO", "second": "not everywhere", "nothing": "no command"}


def configure(parser: CommandParser) -> None:
    """What to look at, and whether to go on."""
    parser.description = (
        "Show what manyfest dashboard shows, here: drawn anew in a terminal, else a line for each change. With --json "
        "a document a line, for each change. Ends with Ctrl-C."
    )
    add_looks(parser)
    parser.add_argument("--once", action="store_true", help="look once, print, and end")


def run(args: argparse.Namespace, console: Console) -> int:
    """Ctrl-C is how it ends, and success. With ``--once`` 3 when something could not be looked at."""
    from manyfest.cli.watching import watchers
    from manyfest.serve.dashboard.state import Board

    board = Board()
    try:
        with watchers(args, console, board) as looking:
            if args.once:
                looking.once()
                snapshot = board.snapshot()
                console.result(snapshot, text(snapshot))
                return _FAILED if _is_blind(snapshot) else 0
            with looking:
                if console.json:
                    _documents(board, console)
                elif console.out.isatty():
                    _draw(board, console)
                else:
                    _lines(board, console)
    except KeyboardInterrupt:
        if args.once:
            raise
    return 0


def _is_blind(snapshot: Mapping[str, Any]) -> bool:
    """Is there anything that could not be read or asked?"""
    swarm, probe = snapshot["swarm"], snapshot["probe"]
    return (
        any(shown["state"] == "failed" for shown in snapshot["lists"])
        or bool(swarm and swarm["error"])
        or bool(probe and not probe["answers"])
    )


def _documents(board: Board, console: Console) -> None:
    from json import dumps

    version = -1
    while not console.is_unheard:
        if board.wait(version, _LOOK_S):
            snapshot = board.snapshot()
            version = snapshot["version"]
            console.print(dumps(snapshot))
            console.flush()
            board.rest(_QUIET_S)


def _lines(board: Board, console: Console) -> None:
    version, heard = -1, 0
    while not console.is_unheard:
        if board.wait(version, _LOOK_S):
            snapshot = board.snapshot()
            version = snapshot["version"]
            for change in reversed(snapshot["changes"]):
                if change["number"] > heard:
                    heard = change["number"]
                    console.print(f"{change['at']} {printable(change['text'])}")
            console.flush()


def _draw(board: Board, console: Console) -> None:
    """In place, on a screen of its own that goes when it ends; the last state stays behind."""
    from rich.console import Console as Screen
    from rich.live import Live
    from rich.text import Text

    screen = Screen(file=console.out, highlight=False)
    version = -1
    try:
        with Live(console=screen, screen=True, auto_refresh=False) as live:
            while not console.is_unheard:
                if board.wait(version, _LOOK_S):
                    snapshot = board.snapshot()
                    version = snapshot["version"]
                    live.update(Text(text(snapshot, changes=True), no_wrap=True), refresh=True)
                    board.rest(_QUIET_S)
    finally:
        console.print(text(board.snapshot()))


def text(snapshot: Mapping[str, Any], *, changes: bool = False) -> str:
    """A snapshot for people."""
    parts = [_list(shown) for shown in snapshot["lists"]]
    if snapshot["probe"]:
        parts.append(_probe(snapshot["probe"]))
    if snapshot["swarm"]:
        parts += _swarm(snapshot["swarm"])
    if changes and snapshot["changes"]:
        newest = snapshot["changes"][:_SHOWN_CHANGES]
        parts.append("\n".join(f"{change['at'][11:19]} {printable(change['text'])}" for change in newest))
    return "\n\n".join(parts)


def _list(shown: Mapping[str, Any]) -> str:
    name = printable(shown["name"])
    if shown["state"] == "failed":
        hint = f"\n  hint: {printable(shown['hint'])}" if shown["hint"] else ""
        return f"{name}: cannot be read\n  {printable(shown['error'])}{hint}"
    if shown["state"] == "reading":
        return f"{name}: reading"
    rows = [_row(shown, row) for row in shown["platforms"]]
    head = ("PLATFORM", "DIGEST", "SIZE", "LAYERS", "ATTESTATIONS", "STARTS", "ERRORS", "WARNINGS")
    lines = [f"{name} {shown['digest'][:19]}: {_verdict(shown)}", table(head, rows, right=(2, 3, 6, 7))]
    if shown["left_out"]:
        lines.append(f"{shown['left_out']} more entries are left out")
    for found in shown["findings"]:
        where = f"{found['platform']}: " if found["platform"] else ""
        lines.append(
            printable(f"{found['severity']} {found['check']} {found['name']}: {where}{found['message']}")
        )
    return "\n".join(lines)


def _verdict(shown: Mapping[str, Any]) -> str:
    if not shown["verified"]:
        return "looking inside"
    return f"{plural(shown['errors'], 'error')}, {plural(shown['warnings'], 'warning')}"


def _row(shown: Mapping[str, Any], row: Mapping[str, Any]) -> tuple[str, ...]:
    verified = shown["verified"]
    return (
        row["platform"] or "-",
        row["digest"][:19],
        "MISSING" if row["missing"] else "-" if row["size"] is None else size(row["size"]),
        "-" if row["layers"] is None else str(row["layers"]),
        ", ".join(row["attestations"]) or "-",
        _WORDS.get(row["starts"], "-") if verified else "…",
        str(row["errors"]) if verified else "…",
        str(row["warnings"]) if verified else "…",
    )


def _probe(probe: Mapping[str, Any]) -> str:
    recent = probe["recent"]
    counts = [
        (each["name"], str(each["count"]), _share(each["count"], len(recent))) for each in probe["answers"]
    ]
    if probe["recent_failures"]:
        failures = probe["recent_failures"]
        counts.append(("no good answer", str(failures), _share(failures, len(recent))))
    lines = [f"{printable(probe['url'])}: the last {plural(len(recent), 'request')}"]
    lines.append(table(("ANSWERED BY", "REQUESTS", "SHARE"), counts, right=(1, 2)))
    if recent and recent[-1]["error"]:
        lines.append(printable(recent[-1]["error"]))
    return "\n".join(lines)


def _share(count: int, total: int) -> str:
    return f"{100 * count / total:.0f} %"


def _swarm(swarm: Mapping[str, Any]) -> list[str]:
    parts = []
    if swarm["error"]:
        hint = f"\n  hint: {printable(swarm['hint'])}" if swarm["hint"] else ""
        parts.append(f"{printable(swarm['error'])}{hint}")
    if swarm["nodes"]:
        rows = [
            (n["platform"], n["machine"], n["name"], n["role"] or "-", n["state"], str(n["running"]))
            for n in swarm["nodes"]
        ]
        parts.append(table(("PLATFORM", "KERNEL", "NODE", "ROLE", "STATE", "TASKS"), rows, right=(5,)))
    tasks = [
        (
            service["name"],
            task["node"] or "-",
            task["architecture"] or "-",
            task["state"],
            task["detail"] or "-",
        )
        for service in swarm["services"]
        for task in service["tasks"]
    ]
    if tasks:
        parts.append(table(("SERVICE", "NODE", "ARCHITECTURE", "STATE", "DETAIL"), tasks))
    for service in swarm["services"]:
        if not service["tasks"]:
            parts.append(f"{printable(service['name'])}: 0 of {service['expected']} running")
    return parts
