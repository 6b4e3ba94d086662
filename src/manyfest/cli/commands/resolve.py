# SPDX-License-Identifier: Apache-2.0
"""``manyfest resolve``."""

from __future__ import annotations

from manyfest.cli.render import table
from manyfest.platforms import Only, OnlyStrict, Platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from manyfest.cli.console import Console
    from manyfest.cli.parser import CommandParser
    from manyfest.content.descriptor import Descriptor
    from manyfest.content.document import Document
    from manyfest.platforms import Matcher
    from manyfest.stores.base import Source

SUMMARY = "print the pinned name@digest that an engine would pick"
EXAMPLES = (
    "manyfest resolve debian:12",
    "docker build --build-arg BASE=$(manyfest resolve debian:12 --platform linux/s390x) .",
    "manyfest resolve debian:12 --platform linux/arm/v6 --explain",
)


def configure(parser: CommandParser) -> None:
    """A place and a platform."""
    parser.description = (
        "Print the pinned name@digest that an engine would pick: for this machine (which also runs what its processor "
        "runs besides, such as 386 on amd64), or for exactly the platform given."
    )
    parser.add_argument("place", metavar="REF", help="an image in any place")
    parser.add_argument("--platform", metavar="PLATFORM", default="", help="default: this machine's")
    parser.add_argument(
        "--compatible", action="store_true", help="with --platform: also what such a machine runs"
    )
    parser.add_argument(
        "--explain", action="store_true", help="say on standard error how each entry was judged"
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """One request where the list itself tells."""
    from manyfest.cli.host import host_platform
    from manyfest.cli.places import Places

    strict = bool(args.platform) and not args.compatible
    platform = Platform.parse(args.platform) if args.platform else host_platform()
    with Places(args, console) as places:
        source, name = places.source(args.place)
        root = source.resolve(name)
        matcher: Matcher = OnlyStrict(platform) if strict else Only(platform)
        if args.explain and root.is_index:
            console.tell(_explained(root, matcher))
        digest = _choose(source, root, matcher, platform, strict=strict)
    pinned = _pinned(args.place, digest)
    shown = {"name": pinned, "digest": digest, "platform": str(platform), "list_digest": str(root.digest)}
    console.result(shown, pinned)
    return 0


def _choose(source: Source, root: Document, matcher: Matcher, platform: Platform, *, strict: bool) -> str:
    from manyfest.content.mediatypes import is_index
    from manyfest.indexes.select import choose, image_for

    if root.is_index:
        chosen = choose(root.index.manifests, matcher)
        if chosen is not None and not is_index(chosen.media_type):
            return str(chosen.digest)
    return str(image_for(source, root, platform, strict=strict).digest)


def _pinned(text: str, digest: str) -> str:
    from manyfest.stores.places import Place

    place = Place.parse(text)
    if place.transport == "docker":
        return str(place.reference.without().with_digest(digest))
    return f"{place.transport}:{place.location}@{digest}"


def _explained(root: Document, matcher: Matcher) -> str:
    from manyfest.indexes.select import choose

    entries = root.index.manifests
    chosen = choose(entries, matcher)
    rows = [(str(e.platform or "-"), e.digest.short, _verdict(e, chosen, matcher)) for e in entries]
    wanted = ", ".join(str(platform) for platform in matcher.wanted)
    return f"looking for {wanted}, in this order\n" + table(("PLATFORM", "DIGEST", "VERDICT"), rows)


def _verdict(entry: Descriptor, chosen: Descriptor | None, matcher: Matcher) -> str:
    if entry is chosen:
        return "chosen"
    if entry.is_attestation:
        return "an attestation, not an image"
    if entry.platform is None:
        return "says no platform"
    rank = matcher.rank(entry.platform)
    if rank is None:
        return "does not fit"
    return f"fits as {matcher.wanted[rank]}, but another fits better or stands before it"
