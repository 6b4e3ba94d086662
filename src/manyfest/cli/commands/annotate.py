# SPDX-License-Identifier: Apache-2.0
"""``manyfest annotate``."""

from __future__ import annotations

from manyfest.cli.arguments import add_override, override, pairs
from manyfest.errors import InputError, InvalidPlatform, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from manyfest.cli.console import Console
    from manyfest.cli.parser import CommandParser
    from manyfest.cli.places import Places
    from manyfest.content.descriptor import Descriptor
    from manyfest.content.document import Document
    from manyfest.indexes.spec import Entry, Override, Spec
    from manyfest.reference import Reference
    from manyfest.stores.base import Source

SUMMARY = "override what a list says about one of its images"
EXAMPLES = (
    "manyfest annotate ghcr.io/acme/app:1 ghcr.io/acme/app:1-armhf --os linux --arch arm --variant v7",
    "manyfest annotate ghcr.io/acme/app:1 linux/arm64 --annotation org.example.soc=bcm2712",
    "manyfest annotate ghcr.io/acme/app:1 --annotation org.opencontainers.image.version=1.0",
)


def configure(parser: CommandParser) -> None:
    """docker's options, and annotations."""
    parser.description = (
        "Override what a list says about one of its images: in its draft if there is one, else in the list as it is "
        "pushed. Without IMAGE, annotations go on the index itself."
    )
    parser.add_argument("list", metavar="LIST", help="the list's name")
    parser.add_argument(
        "image",
        metavar="IMAGE",
        nargs="?",
        help="the image as it was added; in a pushed list also its digest or its platform",
    )
    add_override(parser)
    parser.add_argument(
        "--remote", action="store_true", help="change the pushed list even if there is a draft"
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """Silent on a draft, like docker; a pushed list gets a new digest, which is printed."""
    from manyfest.cli.places import Places, list_name
    from manyfest.stores.places import Place

    name = list_name(args.list)
    change, notes = override(args), pairs(args.annotation)
    if not change and not notes:
        raise InputError(
            "nothing to change", hint="give at least one of --os --arch --variant --annotation ..."
        )
    if change and args.image is None:
        raise InputError(
            "a platform belongs to an image of the list", hint="manyfest annotate LIST IMAGE ..."
        )
    _check_known(args.image, change)
    place = Place.parse(name)
    if place.transport == "docker" and not args.remote and _has_draft(place.reference):
        spec = _change_draft(place.reference, args.image, change, notes)
        console.result({"list": name, "draft": True, "entries": len(spec.entries)}, "")
        return 0
    with Places(args, console) as places:
        digest = _change_pushed(places, name, args.image, change, notes)
    console.result({"list": name, "draft": False, "digest": digest}, digest)
    return 0


def _check_known(image: str | None, change: Override) -> None:
    """docker knows a closed list of pairs and so do we, only longer: a typo here would be published."""
    if change.architecture is None:
        return
    from manyfest.platforms import Platform, require_known

    try:
        require_known(Platform(change.os or "linux", change.architecture))
    except InvalidPlatform as error:
        raise InvalidPlatform(f"manifest entry for image {image} has {error}", hint=error.hint) from error


def _has_draft(reference: Reference) -> bool:
    import os

    from manyfest import drafts

    return os.path.exists(drafts.path_of(reference))


def _change_draft(reference: Reference, image: str | None, change: Override, notes: dict[str, str]) -> Spec:
    from manyfest import drafts

    def changed(known: Spec | None) -> Spec:
        spec = known or drafts.load(reference)
        if image is None:
            return spec.replace(annotations=tuple({**dict(spec.annotations), **notes}.items()))
        entry = entry_of(spec, image)
        return spec.with_entry(
            entry.replace(
                override=entry.override.merged(change),
                annotations=tuple({**dict(entry.annotations), **notes}.items()),
            )
        )

    return drafts.update(reference, changed)


def entry_of(spec: Spec, image: str) -> Entry:
    """The entry of an image, by any spelling of its name."""
    from manyfest.cli.places import with_tag

    wanted = with_tag(image)
    found = next((entry for entry in spec.entries if entry.image in (image, wanted)), None)
    if found is None:
        there = ", ".join(entry.image for entry in spec.entries) or "no image"
        raise NotFound(f"manifest for image {image} does not exist in {spec.image}", hint=f"it has {there}")
    return found


def _change_pushed(
    places: Places, name: str, image: str | None, change: Override, notes: dict[str, str]
) -> str:
    from manyfest.indexes.edit import changed, rebuilt, refuse_duplicates

    store, tag = places.list_store(name)
    root = store.resolve(tag)
    if image is None:
        new = rebuilt(root, root.index.manifests, {**root.index.annotations, **notes})
    else:
        old = find_entry(places, store, root, image)
        entry = old.with_platform(change.over(old.platform)) if change else old
        new = changed(root, old, entry.with_annotations({**entry.annotations, **notes}) if notes else entry)
        refuse_duplicates(new.index.manifests)
    if new != root:
        store.tag(new, tag)
    return str(new.digest)


def find_entry(places: Places, store: Source, root: Document, image: str) -> Descriptor:
    """The entry that a platform, a digest or an image's name means."""
    from manyfest.errors import Error
    from manyfest.indexes.select import platforms_of
    from manyfest.platforms import OnlyStrict, Platform, best

    entries = root.index.manifests
    by_digest = next((e for e in entries if image == str(e.digest) or image.endswith(f"@{e.digest}")), None)
    if by_digest is not None:
        return by_digest
    try:
        by_platform = best(entries, OnlyStrict(Platform.parse(image)))
    except InvalidPlatform:
        by_platform = None
    if by_platform is not None:
        return by_platform
    there = ", ".join(str(p) for p in platforms_of(entries)) or "no platform"
    missing = NotFound(f"manifest for image {image} does not exist in {store.place}", hint=f"it has {there}")
    try:
        source, name = places.source(image)
        digest = source.peek(name).digest
    except Error as error:
        raise missing from error
    found = next((e for e in entries if e.digest == digest), None)
    if found is None:
        raise missing
    return found
