# SPDX-License-Identifier: Apache-2.0
"""``manyfest rm``."""

from __future__ import annotations

from manyfest.errors import NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from manyfest.cli.console import Console
    from manyfest.cli.parser import CommandParser

SUMMARY = "forget drafts of lists"
EXAMPLES = ("manyfest rm ghcr.io/acme/app:1.2",)


def configure(parser: CommandParser) -> None:
    """Some lists."""
    parser.description = "Forget drafts of lists. What was pushed stays: manyfest delete removes that."
    parser.add_argument("lists", metavar="LIST", nargs="+", help="the list's name")


def run(args: argparse.Namespace, console: Console) -> int:
    """All that are there go; those that are not are one error at the end."""
    from manyfest import drafts
    from manyfest.stores.places import Place

    references = [Place.parse(text).reference for text in args.lists]
    removed: list[str] = []
    missing: list[NotFound] = []
    for reference in references:
        try:
            drafts.remove(reference)
            removed.append(str(reference))
        except NotFound as error:
            missing.append(error)
    console.result({"removed": removed}, "")
    if missing:
        raise NotFound("\n".join(str(error) for error in missing), hint=missing[0].hint)
    return 0
