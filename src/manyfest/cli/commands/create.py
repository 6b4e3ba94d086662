# SPDX-License-Identifier: Apache-2.0
"""``manyfest create``."""

from __future__ import annotations

from manyfest.cli.arguments import add_gate, add_type, pairs, platforms, split
from manyfest.errors import InputError, Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from manyfest.cli.console import Console
    from manyfest.cli.parser import CommandParser
    from manyfest.cli.places import Places
    from manyfest.indexes.spec import Entry, Spec
    from manyfest.reference import Reference

SUMMARY = "start a list from images (--push: and push it)"
EXAMPLES = (
    "manyfest create ghcr.io/acme/app:1 ghcr.io/acme/app:1-amd64 ghcr.io/acme/app:1-arm64",
    "manyfest create ghcr.io/acme/app:1 oci:out/amd64 docker-archive:arm64.tar --push",
    "manyfest create --amend ghcr.io/acme/app:1 ghcr.io/acme/app:1-s390x",
)


def configure(parser: CommandParser) -> None:
    """docker's arguments, and ours."""
    parser.description = (
        "Start a list: a draft that says which images it is made of, with the digests they have now. push resolves "
        "them again and says so when one has moved. Images may be indexes (all their platforms are taken, with "
        "attestations) and may be in any place."
    )
    parser.add_argument("list", metavar="LIST", help="the name that the images will share")
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="an image or index in any place")
    parser.add_argument("-a", "--amend", action="store_true", help="add to a draft that is there")
    parser.add_argument("--push", action="store_true", help="push at once and keep no draft")
    parser.add_argument(
        "--tag", metavar="TAG", action="append", help="one more tag for the same list; may be repeated"
    )
    parser.add_argument("--annotation", metavar="KEY=VALUE", action="append", help="annotation on the index")
    parser.add_argument("--expect", metavar="P,P", action="append", help="never push without these platforms")
    parser.add_argument("--allow-shrink", action="store_true", help="with --push: the tag may lose platforms")
    add_gate(parser)
    add_type(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    """Draft, or publish."""
    from manyfest.cli.places import Places, list_name, with_tag
    from manyfest.indexes.spec import Entry, Spec

    name = list_name(args.list)
    entries = tuple(Entry(with_tag(text)) for text in dict.fromkeys(args.images))
    spec = Spec(
        name,
        entries,
        tags=tuple(split(args.tag)),
        annotations=tuple(pairs(args.annotation).items()),
        type=args.type,
        expect=platforms(args.expect),
        verify=args.verify,
    )
    with Places(args, console) as places:
        if args.push:
            if args.amend:
                raise InputError(
                    "--amend changes a draft, --push keeps none", hint="manyfest add LIST IMAGE..."
                )
            from manyfest.cli.publishing import publish_and_tell
            from manyfest.indexes.publish import Options

            return publish_and_tell(spec, places, console, Options(allow_shrink=args.allow_shrink))
        return _draft(spec, places, console, amend=args.amend)


def _draft(spec: Spec, places: Places, console: Console, *, amend: bool) -> int:
    from manyfest import drafts
    from manyfest.reference import Reference
    from manyfest.stores.places import Place

    if Place.parse(spec.image).transport != "docker":
        raise InputError(
            f"{spec.image}: only a list in a registry has a draft", hint="push it at once with --push"
        )
    reference = Reference.parse(spec.image)
    _refuse_unless_amended(reference, amend=amend)
    seen = _seen(spec.entries, places)

    def change(known: Spec | None) -> Spec:
        if known is None:
            return spec.replace(entries=seen)
        _refuse(amend=amend)
        return _amended(known, spec, seen)

    made = drafts.update(reference, change)
    shown = {
        "list": made.image,
        "draft": drafts.path_of(reference),
        "entries": [{"image": entry.image, "digest": entry.digest} for entry in made.entries],
    }
    console.result(shown, f"Created manifest list {made.image}")
    return 0


def _refuse_unless_amended(reference: Reference, *, amend: bool) -> None:
    """Before asking any registry: docker refuses first, too."""
    import os

    from manyfest import drafts

    if os.path.exists(drafts.path_of(reference)):
        _refuse(amend=amend)


def _refuse(*, amend: bool) -> None:
    if not amend:
        raise Refused(
            "refusing to amend an existing manifest list with no --amend flag",
            hint="add --amend, or forget the draft with: manyfest rm LIST",
        )


def _seen(entries: Sequence[Entry], places: Places) -> tuple[Entry, ...]:
    """The entries with the digests that their names have now, asked for side by side."""
    from manyfest.stores.pool import Pool

    opened = [(entry, *places.source(entry.image)) for entry in entries]
    digests = Pool().map(lambda item: str(item[1].peek(item[2]).digest), opened)
    return tuple(entry.replace(digest=digest) for entry, digest in zip(entries, digests, strict=True))


def _amended(known: Spec, given: Spec, seen: Sequence[Entry]) -> Spec:
    """The known draft with these entries added or refreshed; what annotate said about them stays.

    One that is new replaces what is there for the same platform. That is decided by push, when all of them have been
    annotated: docker would send both, and engines go on taking the old one.
    """
    spec = known
    for entry in seen:
        old = spec.entry(entry.image)
        spec = spec.with_entry(
            entry.replace(replaces=True) if old is None else old.replace(digest=entry.digest)
        )
    return spec.replace(
        tags=tuple(dict.fromkeys((*known.tags, *given.tags))),
        annotations=tuple({**dict(known.annotations), **dict(given.annotations)}.items()),
        type=given.type or known.type,
        expect=given.expect or known.expect,
        verify=given.verify or known.verify,
    )
