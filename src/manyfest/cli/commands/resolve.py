# SPDX-License-Identifier: Apache-2.0
"""``manyfest resolve``."""

from __future__ import annotations

from manyfest.cli.render import table
from manyfest.errors import InputError, NotFound
from manyfest.platforms import Only, OnlyStrict, Platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

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
    "manyfest resolve acme/app:1.4 --platform linux/riscv64 --nearest",
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
        "--cpu",
        choices=("v1", "v2", "v3", "v4"),
        default="",
        help="level of an amd64 processor (default: this one's)",
    )
    parser.add_argument("--os-version", metavar="VERSION", default="", help="build of Windows: 10.0.20348")
    parser.add_argument(
        "--explain",
        action="store_true",
        help="say on standard error (and in --json) what every engine would take, and why the other entries lost",
    )
    parser.add_argument(
        "--nearest",
        action="store_true",
        help="when nothing fits, look for the nearest tags that have the platform",
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """One request where the list itself tells."""
    from manyfest.cli.places import Places

    strict = bool(args.platform) and not args.compatible
    platform = _wanted(args)
    with Places(args, console) as places:
        source, name = places.source(args.place)
        root = source.resolve(name)
        matcher: Matcher = OnlyStrict(platform) if strict else Only(platform)
        engines = _explain(args, console, source, root, matcher, platform) if args.explain else None
        try:
            digest = _choose(source, root, matcher, platform, strict=strict)
        except NotFound as error:
            if args.nearest:
                _look_around(console, source, name, platform, error, strict=strict)
            raise
    pinned = _pinned(args.place, digest)
    shown: dict[str, Any] = {
        "name": pinned,
        "digest": digest,
        "platform": str(platform),
        "list_digest": str(root.digest),
    }
    if engines is not None:
        shown["engines"] = engines
    console.result(shown, pinned)
    return 0


def _wanted(args: argparse.Namespace) -> Platform:
    from manyfest.cli.host import host_platform

    platform = Platform.parse(args.platform) if args.platform else host_platform()
    if args.cpu:
        if platform.architecture != "amd64":
            raise InputError(f"--cpu is for amd64, and the platform is {platform}")
        platform = platform.replace(variant=args.cpu)
    return platform.replace(os_version=args.os_version) if args.os_version else platform


def _explain(
    args: argparse.Namespace,
    console: Console,
    source: Source,
    root: Document,
    matcher: Matcher,
    platform: Platform,
) -> list[dict[str, Any]]:
    """Tell how each entry was judged, here and by every engine."""
    from manyfest.cli.explanation import choices, text, to_json
    from manyfest.coverage.rules import Host
    from manyfest.indexes.listing import list_images

    if root.is_index:
        console.tell(_explained(root, matcher))
    # --platform with --compatible describes the machine; alone it is what docker's own option of that name is.
    asked = platform if args.platform and not args.compatible else None
    made = choices(list_images(source, root), Host(_machine(args, platform)), asked)
    if not console.json:
        console.tell("\n" + text(made))
    return to_json(made)


def _machine(args: argparse.Namespace, platform: Platform) -> Platform:
    """The machine that engines run on: with its processor's level when it is this one."""
    from manyfest.engines.host import amd64_level

    if args.platform or args.cpu or platform.architecture != "amd64":
        return platform
    return platform.replace(variant=amd64_level())


def _look_around(
    console: Console, source: Source, name: str, platform: Platform, error: NotFound, *, strict: bool
) -> None:
    """Put the nearest tags into the error's hint."""
    from manyfest.cli.explanation import nearest_to

    console.say(f"nothing for {platform} in {name}; looking at the tags near it")
    near = nearest_to(source, name, platform, strict=strict)
    error.hint = f"{error.hint}\n{near}" if error.hint else str(near)


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
