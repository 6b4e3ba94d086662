# SPDX-License-Identifier: Apache-2.0
"""``manyfest drop``."""

from __future__ import annotations

from manyfest.cli.arguments import platforms

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from manyfest.cli.console import Console
    from manyfest.cli.parser import CommandParser

SUMMARY = "take platforms out of a list that is already pushed"
EXAMPLES = ("manyfest drop ghcr.io/acme/app:1 linux/386 linux/arm/v5",)


def configure(parser: CommandParser) -> None:
    """A list and platforms."""
    parser.description = (
        "Take platforms, and what attests them, out of a list that is already pushed. Their images stay in the "
        "registry, reachable by digest."
    )
    parser.add_argument("list", metavar="LIST", help="the list's name")
    parser.add_argument("platforms", metavar="PLATFORM", nargs="+", help="a platform as inspect shows it")
    parser.add_argument("--dry-run", action="store_true", help="show what would be left, but write nothing")


def run(args: argparse.Namespace, console: Console) -> int:
    """The new digest is the last line."""
    from manyfest.cli.editing import report
    from manyfest.cli.places import Places, list_name
    from manyfest.indexes.edit import dropped
    from manyfest.indexes.select import platforms_of

    name, gone = list_name(args.list), platforms(args.platforms)
    with Places(args, console) as places:
        store, tag = places.list_store(name)
        root = store.resolve(tag)
        new = dropped(root, gone)
        held = [str(platform) for platform in platforms_of(new.index.manifests)]
        if args.dry_run:
            console.say(f"would keep {', '.join(held)}")
        else:
            store.tag(new, tag)
        return report(console, name, str(root.digest), str(new.digest), held)
