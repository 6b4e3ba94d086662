# SPDX-License-Identifier: Apache-2.0
"""``manyfest add``."""

from __future__ import annotations

from manyfest.cli.arguments import add_override
from manyfest.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from manyfest.cli.console import Console
    from manyfest.cli.parser import CommandParser

SUMMARY = "add images to a list that is already pushed"
EXAMPLES = (
    "manyfest add ghcr.io/acme/app:1 ghcr.io/acme/app:1-riscv64",
    "manyfest add ghcr.io/acme/app:1 oci:out/armhf --os linux --arch arm --variant v7",
)


def configure(parser: CommandParser) -> None:
    """A list and images."""
    parser.description = (
        "Add images to a list that is already pushed. An image for a platform that the list has takes the old one's "
        "place; everything else stays as it is, to the byte. For jobs that do this at the same time use join."
    )
    parser.add_argument("list", metavar="LIST", help="the list's name")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="an image or index in any place")
    add_override(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    """Read the list and the images side by side, bring the content, write the tag."""
    from manyfest.cli.editing import bring_all, entries_of, report
    from manyfest.cli.places import Places, list_name
    from manyfest.indexes.edit import added, refuse_duplicates
    from manyfest.indexes.gather import gather
    from manyfest.indexes.select import platforms_of
    from manyfest.stores.pool import Pool

    entries, name, pool = entries_of(args), list_name(args.list), Pool()
    with Places(args, console) as places:
        store, tag = places.list_store(name)
        root = store.resolve(tag)
        if not root.is_index:
            raise InputError(
                f"{name} is the image of one platform, not a list",
                hint="make a list of both: manyfest create LIST IMAGE IMAGE --push",
            )
        found = gather(entries, places.source, pool)
        new = added(root, [descriptor for item in found for descriptor in item.descriptors])
        refuse_duplicates(new.index.manifests)
        bring_all(found, store, pool, console)
        if new != root:
            store.tag(new, tag)
        held = [str(platform) for platform in platforms_of(new.index.manifests)]
        return report(console, name, str(root.digest), str(new.digest), held)
