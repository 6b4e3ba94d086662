# SPDX-License-Identifier: Apache-2.0
"""``manyfest push``: a draft, a spec file, or manifest-tool's own argument forms."""

from __future__ import annotations

from manyfest.cli.arguments import add_gate, add_type, pairs, platforms, split
from manyfest.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from manyfest.cli.console import Console
    from manyfest.cli.parser import CommandParser
    from manyfest.indexes.spec import Spec

SUMMARY = "resolve a list and push it; the last line is its digest"
EXAMPLES = (
    "manyfest push ghcr.io/acme/app:1",
    "manyfest push -f list.yaml --expect linux/amd64,linux/arm64",
    "manyfest push from-spec list.yaml",
    "manyfest push from-args --platforms linux/amd64,linux/arm/v7 --template acme/app:1-ARCH --target acme/app:1",
)
FROM_SPEC, FROM_ARGS = "from-spec", "from-args"


def configure(parser: CommandParser) -> None:
    """Ours, docker's and manifest-tool's options."""
    parser.description = (
        "Resolve every image of a list afresh, side by side, bring over what the target lacks, and write the index "
        "under its tags, last. A tag never loses a platform unless told to. manifest-tool's forms work as they are: "
        "push from-spec FILE, push from-args --platforms P,P --template NAME --target NAME."
    )
    parser.add_argument("words", metavar="LIST", nargs="*", help="the draft's name")
    parser.add_argument(
        "-f", "--file", metavar="SPEC", help="push what this YAML file describes; - reads standard input"
    )
    parser.add_argument("-p", "--purge", action="store_true", help="forget the draft once it is pushed")
    parser.add_argument("--dry-run", action="store_true", help="resolve, check and show, but write nothing")
    parser.add_argument(
        "--expect",
        metavar="P,P",
        action="append",
        help="refuse to push without these platforms either; adds to those of the file or draft",
    )
    parser.add_argument(
        "--allow-shrink", action="store_true", help="the tag may lose platforms that it has now"
    )
    parser.add_argument(
        "--locked", action="store_true", help="push the digests recorded by create, whatever moved"
    )
    parser.add_argument("--ignore-missing", action="store_true", help="leave out images that are not there")
    parser.add_argument(
        "--compat", choices=("docker",), default="", help="write docker manifest push's bytes"
    )
    parser.add_argument(
        "--tag", metavar="TAG", action="append", help="one more tag for the same list; may be repeated"
    )
    add_gate(parser)
    add_type(parser)
    parser.add_argument(
        "--platforms", metavar="P,P", action="append", help="from-args: the platforms to fill in"
    )
    parser.add_argument("--template", metavar="NAME", help="from-args: image name with OS, ARCH and VARIANT")
    parser.add_argument("--target", metavar="NAME", help="from-args: the list's name")
    parser.add_argument("--tags", metavar="T,T", action="append", help="from-args: more tags")
    parser.add_argument(
        "--annotations", metavar="K=V,K=V", action="append", help="from-args: annotations on the index"
    )
    from manyfest.cli.parser import TOOL_OPTIONS

    for flag, how in TOOL_OPTIONS:
        parser.add_argument(flag, **how)


def run(args: argparse.Namespace, console: Console) -> int:
    """Find the spec, publish it, purge the draft."""
    from manyfest.cli.places import Places
    from manyfest.cli.publishing import publish_and_tell
    from manyfest.indexes.publish import Options

    spec = _spec(args)
    if args.tag:
        spec = spec.replace(tags=tuple(dict.fromkeys((*spec.tags, *split(args.tag)))))
    if args.verify:
        spec = spec.replace(verify=args.verify)
    options = Options(
        allow_shrink=args.allow_shrink,
        compat=args.compat,
        dry_run=args.dry_run,
        expect=platforms(args.expect),
        ignore_missing=args.ignore_missing,
        locked=args.locked,
        type=args.type,
    )
    with Places(args, console) as places:
        code = publish_and_tell(spec, places, console, options, length=_is_tool_form(args))
    if args.purge and args.words and not args.dry_run and not _is_tool_form(args):
        from manyfest import drafts
        from manyfest.reference import Reference

        drafts.remove(Reference.parse(spec.image))
    return code


def _is_tool_form(args: argparse.Namespace) -> bool:
    return bool(args.words) and args.words[0] in (FROM_SPEC, FROM_ARGS)


def _spec(args: argparse.Namespace) -> Spec:
    from manyfest import drafts

    if args.words[:1] == [FROM_ARGS] and len(args.words) == 1:
        return _from_args(args)
    if args.words[:1] == [FROM_SPEC] and len(args.words) == 2:
        return drafts.read_spec(args.words[1])
    if args.file:
        if args.words:
            raise InputError(f"-f {args.file} says what to push, {args.words[0]!r} is too much")
        return drafts.read_spec(args.file)
    if len(args.words) != 1:
        raise InputError(
            f"push wants one LIST or -f SPEC, got {len(args.words)} names", hint="manyfest push --help"
        )
    from manyfest.cli.places import list_name
    from manyfest.reference import Reference

    return drafts.load(Reference.parse(list_name(args.words[0])))


def _from_args(args: argparse.Namespace) -> Spec:
    from manyfest.indexes.spec import Entry, Override, Spec, expand_template

    absent = [flag for flag in ("platforms", "template", "target") if not getattr(args, flag)]
    if absent:
        raise InputError(
            f"push from-args lacks --{absent[0]}",
            hint="push from-args --platforms OS/ARCH[/VARIANT],... --template NAME --target NAME",
        )
    wanted = platforms(args.platforms)
    entries = tuple(Entry(expand_template(args.template, p), Override.of(p)) for p in wanted)
    return Spec(
        args.target,
        entries,
        tags=tuple(split(args.tags)),
        annotations=tuple(pairs(split(args.annotations)).items()),
    )
