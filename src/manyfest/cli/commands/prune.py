# SPDX-License-Identifier: Apache-2.0
"""``manyfest prune``."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from manyfest.cli.render import plural, table
from manyfest.errors import InputError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from typing import Any

    from manyfest.cli.console import Console
    from manyfest.cli.parser import CommandParser
    from manyfest.indexes.prune import Left, Pruning, Tagged

SUMMARY = "delete old tags and what only they need, never part of what stays"
EXAMPLES = (
    "manyfest prune ghcr.io/acme/app --keep 'v*' --keep latest --keep-last 10 --dry-run",
    "manyfest prune ghcr.io/acme/app --only 'pr-*' --older-than 14d",
    "manyfest prune oci:build/out --keep-last 3",
)

_UNITS = {"h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


def configure(parser: CommandParser) -> None:
    """A repository and what stays."""
    parser.description = (
        "Delete the tags of a repository that no rule keeps, with their images, attestations and signatures. What a "
        "kept list needs stays, though it has no tag. Nothing is asked: look first, with --dry-run."
    )
    parser.add_argument("place", metavar="REPO", help="a repository, or a folder: oci:DIR")
    parser.add_argument(
        "--keep",
        metavar="TAGS",
        action="append",
        help="keep these tags: a name with * and ?; may be repeated",
    )
    parser.add_argument(
        "--only", metavar="TAGS", action="append", help="touch no other tags than these; may be repeated"
    )
    parser.add_argument(
        "--keep-last",
        metavar="N",
        type=int,
        default=0,
        help="keep the N newest of the rest, by when their images were created",
    )
    parser.add_argument("--older-than", metavar="AGE", default="", help="keep what is younger: 12h, 30d, 8w")
    parser.add_argument("--allow-empty", action="store_true", help="allow that no tag stays")
    parser.add_argument("--dry-run", action="store_true", help="show what would go, but delete nothing")


def run(args: argparse.Namespace, console: Console) -> int:
    """Plan, then delete."""
    from manyfest.cli.places import Places
    from manyfest.indexes.prune import Rules, carry_out, plan

    if args.keep_last < 0:
        raise InputError(f"--keep-last {args.keep_last}: expected how many tags stay")
    rules = Rules(
        keep=tuple(args.keep or ()),
        only=tuple(args.only or ()),
        keep_last=args.keep_last,
        older_than_s=_seconds(args.older_than) if args.older_than else 0.0,
    )
    with Places(args, console) as places:
        target, name = places.store(args.place)
        if name and not _is_implied(args.place):
            raise InputError(f"{args.place}: expected a repository without a tag", hint=f"say {target.place}")
        pruning = plan(target, rules, time.time(), allow_empty=args.allow_empty)
        left: Sequence[Left] = ()
        if not args.dry_run:
            left = carry_out(pruning, target, on_gone=lambda what: console.detail(f"deleted {what}"))
        console.result(
            _json(target.place, pruning, left, dry_run=args.dry_run),
            _text(target.place, pruning, left, dry_run=args.dry_run),
        )
    for each in left:
        console.warn(f"{each.tag} stays: {each.reason}")
    return 0


def _is_implied(text: str) -> bool:
    """Is the tag one that nobody wrote?"""
    from manyfest.reference import Reference
    from manyfest.stores.places import Place

    if Place.parse(text).transport != "docker":
        return False
    reference = Reference.parse(text.removeprefix("docker://"))
    return not (reference.tag or reference.digest)


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d{1,6})([hdw])", text.strip())
    if match is None or not int(match[1]):
        raise InputError(f"--older-than {text}: expected an age such as 12h, 30d or 8w")
    return int(match[1]) * _UNITS[match[2]]


def _text(place: str, pruning: Pruning, left: Sequence[Left], *, dry_run: bool) -> str:
    stuck = {each.tag for each in left}
    verb = "would go" if dry_run else "gone"
    rows = [(row.tag, _date(row), "kept", row.reason) for row in pruning.kept]
    rows += [(row.tag, _date(row), "left" if row.tag in stuck else verb, "") for row in pruning.gone]
    gone = len(pruning.gone) - len(stuck)
    verb = "would delete" if dry_run else "deleted"
    summary = (
        f"{place}: {verb} {plural(gone, 'tag')} and {plural(len(pruning.content), 'document')}, "
        f"kept {plural(len(pruning.kept), 'tag')}"
    )
    return f"{table(('TAG', 'CREATED', '', 'WHY'), sorted(rows))}\n\n{summary}" if rows else summary


def _date(row: Tagged) -> str:
    return "-" if row.created_s is None else _time(row.created_s)[:10]


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _json(place: str, pruning: Pruning, left: Sequence[Left], *, dry_run: bool) -> dict[str, Any]:
    stuck = {each.tag: each.reason for each in left}
    return {
        "place": place,
        "kept": [{**_row(row), "reason": row.reason} for row in pruning.kept],
        "deleted": [_row(row) for row in pruning.gone if row.tag not in stuck],
        "left": [{**_row(row), "reason": stuck[row.tag]} for row in pruning.gone if row.tag in stuck],
        "content": [str(descriptor.digest) for descriptor in pruning.content],
        "dry_run": dry_run,
    }


def _row(row: Tagged) -> dict[str, Any]:
    return {
        "tag": row.tag,
        "digest": str(row.descriptor.digest),
        "created": None if row.created_s is None else _time(row.created_s),
    }
