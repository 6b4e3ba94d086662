# SPDX-License-Identifier: Apache-2.0
"""``manyfest tags``."""

from __future__ import annotations

from manyfest.errors import Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from manyfest.cli.console import Console
    from manyfest.cli.parser import CommandParser

SUMMARY = "list the tags of a repository"
EXAMPLES = ("manyfest tags ghcr.io/acme/app", "manyfest tags oci:build/out --json")


def configure(parser: CommandParser) -> None:
    """One place."""
    parser.add_argument("place", metavar="REPO", help="a repository, or another place that has tags")


def run(args: argparse.Namespace, console: Console) -> int:
    """One tag a line, as they come."""
    from manyfest.cli.places import Places
    from manyfest.stores.base import HasTags

    with Places(args, console) as places:
        source, _ = places.source(args.place)
        if not isinstance(source, HasTags):
            raise Unsupported(f"{source.place} does not list tags")
        if console.json:
            console.document({"place": source.place, "tags": list(source.tags())})
            return 0
        for tag in source.tags():
            console.print(tag)
            if console.is_unheard:
                break
    return 0
