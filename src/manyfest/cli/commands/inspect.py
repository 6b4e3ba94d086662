# SPDX-License-Identifier: Apache-2.0
"""``manyfest inspect``. Imports here are what ``inspect --raw`` pays for: there must be few."""

from __future__ import annotations

from manyfest.cli.plain import Plain
from manyfest.errors import AuthRequired, Forbidden, InputError, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from manyfest.cli.console import Console
    from manyfest.cli.parser import CommandParser
    from manyfest.cli.places import Places
    from manyfest.content.document import Document
    from manyfest.indexes.spec import Override, Spec
    from manyfest.stores.base import Source

SUMMARY = "show the platforms behind a name, or its very bytes"
EXAMPLES = (
    "manyfest inspect debian:12",
    "manyfest inspect debian:12 --raw",
    "manyfest inspect debian:12 --platform linux/s390x",
    "manyfest inspect debian:12 --all --json",
    "manyfest inspect ghcr.io/acme/app:1.2 --attestation sbom --platform linux/arm64",
    "manyfest inspect -v --json debian:12",
)

PLAIN = Plain(("place",), {"--raw": "raw"}, image=None, platform="", all=False, attestation="", draft=False)


def configure(parser: CommandParser) -> None:
    """docker's arguments, and ours."""
    parser.description = (
        "Show the platforms behind a name: digests, sizes of their content, attestations. With LIST IMAGE, show one "
        "image of a list. Reads what is pushed; a draft is shown where nothing is pushed yet, or with --draft."
    )
    parser.add_argument("place", metavar="REF", help="an image or index in any place, or a LIST")
    parser.add_argument("image", metavar="IMAGE", nargs="?", help="one image of the list")
    parser.add_argument("--raw", action="store_true", help="the very bytes, in one request")
    parser.add_argument(
        "--platform", metavar="PLATFORM", default="", help="only this platform, with its configuration"
    )
    parser.add_argument("--all", action="store_true", help="the configuration of every platform")
    parser.add_argument(
        "--attestation", metavar="WHICH", default="",
        help="what is attested: provenance, sbom, or a predicate type; of all platforms, or one with --platform",
    )  # fmt: skip
    parser.add_argument("--draft", action="store_true", help="the draft of this name")
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="layers too; with --json docker's verbose shapes"
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """Find what is meant, then show it one way."""
    from manyfest.cli.places import Places

    if args.raw and args.json:
        raise InputError("--raw is the document as it is, --json is ours", hint="leave out one of them")
    if args.attestation and (args.raw or args.image or args.draft):
        raise InputError("--attestation shows what an index says", hint="leave --raw, --draft and IMAGE out")
    with Places(args, console) as places:
        if args.attestation:
            return _show_attestation(args, console, *places.source(args.place))
        if args.draft and args.image is None:
            return _show_draft(args.place, console)
        override = None
        if args.image is not None:
            source, root, override, shown_name = _image_of(args, places)
        else:
            shown_name = args.place
            if not (args.raw or args.platform):
                places.warm(args.place)
            source, name = places.source(args.place)
            try:
                root = source.resolve(name)
            except (NotFound, AuthRequired, Forbidden):
                if args.raw or not _has_draft(args.place):
                    raise
                console.say(f"{args.place} is not pushed; this is its draft")
                return _show_draft(args.place, console)
        if args.platform:
            from manyfest.indexes.select import image_for
            from manyfest.platforms import Platform

            root = image_for(source, root, Platform.parse(args.platform), strict=True)
        return _show(args, console, source, root, override, shown_name)


def _show(
    args: argparse.Namespace,
    console: Console,
    source: Source,
    root: Document,
    override: Override | None,
    shown_name: str,
) -> int:
    if args.raw:
        console.bytes(root.raw)
        return 0
    from manyfest.cli.places import with_tag

    shown_name = with_tag(shown_name)
    if args.verbose and args.json:
        from manyfest.cli.dockershape import verbose

        console.print(verbose(source, root, shown_name, override))
        return 0
    from manyfest.cli.inspection import inspect, text, to_json

    single = bool(args.platform) or args.image is not None
    found = inspect(source, root, shown_name, configs=args.all or args.verbose or single, override=override)
    if console.json:
        console.document(to_json(found))
    else:
        console.print(text(found, layers=args.verbose))
    return 0


def _show_attestation(args: argparse.Namespace, console: Console, source: Source, name: str) -> int:
    """One predicate by itself, so that it can be handed on; several by platform."""
    import json

    from manyfest.cli.attested import said_of
    from manyfest.platforms import Platform

    platform = Platform.parse(args.platform) if args.platform else None
    said = said_of(source, source.resolve(name), args.attestation, platform)
    if console.json:
        console.document({"name": args.place, "attestations": [each.to_json() for each in said]})
        return 0
    one = said[0].predicate
    several = {str(each.image.platform): each.predicate for each in said}
    console.print(json.dumps(one if len(said) == 1 else several, indent=2, ensure_ascii=False))
    return 0


def _has_draft(text: str) -> bool:
    import os

    from manyfest import drafts
    from manyfest.stores.places import Place

    place = Place.parse(text)
    if place.transport != "docker" or place.reference.digest:
        return False
    return os.path.exists(drafts.path_of(place.reference))


def _show_draft(text: str, console: Console) -> int:
    from manyfest.cli.inspection import draft_text

    spec = _draft(text)
    console.result({"kind": "draft", **spec.to_mapping()}, draft_text(spec))
    return 0


def _image_of(args: argparse.Namespace, places: Places) -> tuple[Source, Document, Override | None, str]:
    """One image of a list, from its draft if there is one, else from what is pushed; and its full name."""
    from manyfest.cli.commands.annotate import entry_of, find_entry
    from manyfest.indexes.spec import Override
    from manyfest.stores.base import load

    if _has_draft(args.place):
        spec = _draft(args.place)
        entry = entry_of(spec, args.image)
        source, name = places.source(entry.image)
        return source, source.resolve(entry.digest or name), entry.override, entry.image
    source, name = places.source(args.place)
    descriptor = find_entry(places, source, source.resolve(name), args.image)
    override = Override.of(descriptor.platform) if descriptor.platform else None
    return source, load(source, descriptor), override, f"{source.place}@{descriptor.digest}"


def _draft(text: str) -> Spec:
    from manyfest import drafts
    from manyfest.stores.places import Place

    return drafts.load(Place.parse(text).reference)
