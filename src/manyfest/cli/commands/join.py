# SPDX-License-Identifier: Apache-2.0
"""``manyfest join``."""

from __future__ import annotations

from manyfest.cli.arguments import add_override, add_type, platforms
from manyfest.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from manyfest.cli.console import Console
    from manyfest.cli.parser import CommandParser
    from manyfest.indexes.join import Joined

SUMMARY = "merge an image into a list, from parallel jobs"
EXAMPLES = (
    "manyfest join ghcr.io/acme/app:1 docker-archive:app.tar",
    "manyfest join ghcr.io/acme/app:1 oci:out --expect linux/amd64,linux/arm64 --when-complete",
    "manyfest join ghcr.io/acme/app:1 --clear-marks",
)


def configure(parser: CommandParser) -> None:
    """A list and images."""
    parser.description = (
        "Merge images into a list from jobs that run at the same time, with nothing between them but the registry: no "
        "artifacts, no merge job. When all jobs have ended the tag holds the platforms of all of them. Each job leaves "
        "a mark, a tag such as 1.join-linux-arm64; --clear-marks removes them afterwards."
    )
    parser.add_argument("list", metavar="LIST", help="the list's name")
    parser.add_argument("images", metavar="IMAGE", nargs="*", help="an image or index in any place")
    parser.add_argument(
        "--expect", metavar="P,P", action="append", help="the platforms that all jobs bring together"
    )
    parser.add_argument(
        "--when-complete", action="store_true", help="do not write the tag before all expected are there"
    )
    parser.add_argument(
        "--clear-marks", action="store_true", help="remove the marks; for when all jobs have ended"
    )
    add_override(parser)
    add_type(parser)


def run(args: argparse.Namespace, console: Console) -> int:
    """The digest is the last line; missing platforms are told, and are not an error."""
    from manyfest.cli.places import Places, list_name

    if not args.images and not args.clear_marks:
        raise InputError("nothing to join", hint="manyfest join LIST IMAGE...")
    expect = platforms(args.expect)
    if args.when_complete and not expect:
        raise InputError("--when-complete needs to know what complete is", hint="add --expect P,P")
    with Places(args, console) as places:
        store, tag = places.list_store(list_name(args.list))
        joined = None
        if args.images:
            from manyfest.cli.editing import bring_all, entries_of
            from manyfest.indexes.gather import gather
            from manyfest.indexes.join import join
            from manyfest.stores.pool import Pool

            pool = Pool()
            found = gather(entries_of(args), places.source, pool)
            bring_all(found, store, pool, console)
            joined = join(
                store,
                tag,
                [descriptor for item in found for descriptor in item.descriptors],
                expect=expect,
                when_complete=args.when_complete,
                type=args.type,
                pool=pool,
            )
        cleared: tuple[str, ...] = ()
        if args.clear_marks:
            from manyfest.indexes.join import clear_marks

            cleared = clear_marks(store, tag)
    return _tell(console, list_name(args.list), joined, cleared, when_complete=args.when_complete)


def _tell(
    console: Console, name: str, joined: Joined | None, cleared: tuple[str, ...], *, when_complete: bool
) -> int:
    from manyfest.indexes.select import platforms_of

    if cleared:
        console.say(f"removed {', '.join(cleared)}")
    if joined is None:
        console.result({"list": name, "cleared": list(cleared)}, "")
        return 0
    missing = [str(platform) for platform in joined.missing]
    held = [str(platform) for platform in platforms_of(joined.document.index.manifests)]
    if missing:
        console.say(f"{name}: still expected: {', '.join(missing)}")
    waits = bool(missing) and when_complete
    digest = str(joined.document.digest)
    shown = {
        "list": name,
        "digest": None if waits else digest,
        "written": joined.written,
        "complete": not missing,
        "platforms": held,
        "missing": missing,
        "rounds": joined.rounds,
        "cleared": list(cleared),
    }
    console.result(shown, "" if waits else digest)
    return 0
