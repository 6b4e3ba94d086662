# SPDX-License-Identifier: Apache-2.0
"""``manyfest copy``."""

from __future__ import annotations

from manyfest.cli.arguments import platforms, split
from manyfest.cli.plain import Plain
from manyfest.errors import InputError
from manyfest.reference import Reference, is_tag

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from manyfest.cli.console import Console
    from manyfest.cli.parser import CommandParser
    from manyfest.content.document import Document
    from manyfest.platforms import Platform
    from manyfest.stores.base import Source

SUMMARY = "copy an image with all its platforms"
EXAMPLES = (
    "manyfest copy docker.io/library/debian:12 ghcr.io/acme/debian:12",
    "manyfest copy ghcr.io/acme/app:1 oci:out:1 --platform linux/amd64 --platform linux/arm64",
    "manyfest copy ghcr.io/acme/app:1 docker-daemon:app:1 --platform linux/amd64",
)

PLAIN = Plain(("source", "target"), platform=None, flat=False, referrers=False, tag=None, dry_run=False)


def configure(parser: CommandParser) -> None:
    """Two places."""
    parser.description = (
        "Copy an image with all its platforms and attestations from any place to any place: pull, push, export, "
        "import and mirror. What the target has is not sent again; the tag is written last."
    )
    parser.add_argument("source", metavar="SRC", help="an image or index in any place")
    parser.add_argument("target", metavar="DST", help="where to copy it to")
    parser.add_argument(
        "--platform",
        metavar="PLATFORM",
        action="append",
        help="only these platforms, as a list of their own; may be repeated",
    )
    parser.add_argument(
        "--flat", action="store_true", help="the image of one platform without a list around it"
    )
    parser.add_argument("--referrers", action="store_true", help="take signatures and other referrers along")
    parser.add_argument(
        "--tag", metavar="TAG", action="append", help="one more tag at the target; may be repeated"
    )
    parser.add_argument("--dry-run", action="store_true", help="show what would be moved, but move nothing")


def run(args: argparse.Namespace, console: Console) -> int:
    """The digest at the target is the last line."""
    from manyfest.cli.places import Places
    from manyfest.cli.progress import Transfer
    from manyfest.stores.copy import copy, plan
    from manyfest.stores.pool import Pool

    wanted, more = platforms(args.platform), split(args.tag)
    wrong = next((tag for tag in more if not is_tag(tag)), None)
    if wrong is not None:
        raise InputError(
            f"--tag {wrong!r}: not a tag, expected up to 128 of A-Z a-z 0-9 _ . -",
            hint="only what follows the colon: the repository is DST's",
        )
    _refuse_own_file(args.source, args.target)
    with Places(args, console) as places:
        places.warm(args.source, *([] if args.dry_run else [args.target]))
        source, name = places.source(args.source)
        root = _chosen(source, source.resolve(name), wanted, flat=args.flat or _holds_one(args.target))
        pool = Pool()
        if args.dry_run:
            return _tell_plan(
                console, plan([(source, root)], pool, referrers=args.referrers), root, args.target
            )
        target, tag = places.store(args.target)
        names = list(dict.fromkeys(_names(args.target, tag, root) + more))
        if not names and not _is_registry(args.target):
            # The only image of a layout or an archive; without an entry there nobody would find it.
            names = [""]
        with Transfer(console) as transfer:
            copied = copy(
                source,
                root,
                target,
                names,
                referrers=args.referrers,
                pool=pool,
                on_event=transfer.on_event,
                on_plan=transfer.on_plan,
            )
    console.say(f"{target.place}: {transfer.summary()}")
    shown = {
        "digest": str(copied.digest),
        "media_type": copied.media_type,
        "tags": [name for name in names if name],
    }
    console.result({**shown, "transfer": transfer.to_json()}, str(copied.digest))
    return 0


def _refuse_own_file(source: str, target: str) -> None:
    """Raise :class:`InputError` for a docker-archive copied into itself: writing one replaces the whole file."""
    import os

    from manyfest.stores.places import Place

    one, other = Place.parse(source), Place.parse(target)
    both = one.transport == other.transport == "docker-archive"
    if both and os.path.realpath(one.location) == os.path.realpath(other.location):
        raise InputError(
            f"{target}: would replace the file that is read, with every other image in it",
            hint="write to another file",
        )


def _holds_one(target: str) -> bool:
    """Engines of old, and their archives, hold the image of one platform and no list."""
    from manyfest.stores.places import Place

    return Place.parse(target).transport.startswith("docker-")


def _is_registry(target: str) -> bool:
    """There content by digest alone is enough."""
    from manyfest.stores.places import Place

    return Place.parse(target).transport == "docker"


def _chosen(source: Source, root: Document, wanted: Sequence[Platform], *, flat: bool) -> Document:
    """Chosen platforms are a new index, with their attestations; ``flat`` is the image without a list around it."""
    if not flat and not wanted:
        return root
    from manyfest.indexes.select import image_for, keep

    if flat or (wanted and not root.is_index):
        if len(wanted) > 1:
            raise InputError(f"one platform and no more can be copied there, got {len(wanted)}")
        if not wanted and root.is_index:
            from manyfest.cli.host import host_platform

            return image_for(source, root, host_platform())
        return image_for(source, root, wanted[0], strict=True) if wanted else root
    return keep(root, wanted)


def _names(target: str, name: str, root: Document) -> list[str]:
    """The target's tag; a digest there is none, but says what must arrive, under the tag before it if it has one."""
    if not name.startswith(("sha256:", "sha512:")):
        return [name] if name else []
    if name != str(root.digest):
        raise InputError(
            f"the target names {name}, the source is {root.digest}", hint="give the target a tag"
        )
    from manyfest.stores.places import Place

    if Place.parse(target).transport != "docker":
        return []
    tag = Reference.parse(target.removeprefix("docker://")).tag
    return [tag] if tag else []


def _tell_plan(console: Console, made: object, root: Document, target: str) -> int:
    from manyfest.cli.render import plural, size
    from manyfest.stores.copy import Plan

    assert isinstance(made, Plan)
    blobs = len(made.blobs)
    shown = {"digest": str(root.digest), "documents": len(made.documents), "blobs": blobs, "bytes": made.size}
    told = f"would copy {plural(len(made.documents), 'document')} and {plural(blobs, 'blob')} ({size(made.size)}) "
    console.result(shown, f"{told}to {target}\n{root.digest}")
    return 0
