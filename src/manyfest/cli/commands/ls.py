# SPDX-License-Identifier: Apache-2.0
"""``manyfest ls``."""

from __future__ import annotations

from manyfest.cli.render import table

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from manyfest.cli.console import Console
    from manyfest.cli.parser import CommandParser

SUMMARY = "show the drafts of lists"
EXAMPLES = ("manyfest ls", "manyfest ls --json")


def configure(parser: CommandParser) -> None:
    """Takes no arguments."""
    parser.description = "Show the drafts of lists: what create and annotate made and push has not purged."


def run(_args: argparse.Namespace, console: Console) -> int:
    """A table, or the specs."""
    from manyfest import drafts

    specs = drafts.all()
    if console.json:
        console.document({"drafts": [{**spec.to_mapping(), "path": _path(spec.image)} for spec in specs]})
        return 0
    if not specs:
        console.say("no drafts; manyfest create LIST IMAGE... makes one")
        return 0
    rows = [(spec.image, str(len(spec.entries)), ", ".join(spec.tags)) for spec in specs]
    console.print(table(("LIST", "IMAGES", "MORE TAGS"), rows, right=(1,)))
    return 0


def _path(image: str) -> str:
    from manyfest.drafts import path_of
    from manyfest.reference import Reference

    return path_of(Reference.parse(image))
