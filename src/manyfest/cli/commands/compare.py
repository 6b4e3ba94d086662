# SPDX-License-Identifier: Apache-2.0
"""``manyfest compare``."""

from __future__ import annotations

from manyfest.cli.arguments import platforms
from manyfest.cli.render import plural, printable, size, table
from manyfest.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from manyfest.cli.console import Console
    from manyfest.cli.parser import CommandParser
    from manyfest.cli.places import Places
    from manyfest.platforms import Platform
    from manyfest.stores.pool import Pool
    from manyfest.verify.cache import Cache
    from manyfest.verify.parity import Difference, Side

SUMMARY = "show an image's platforms side by side, and what stands out"
EXAMPLES = (
    "manyfest compare ghcr.io/acme/app:1",
    "manyfest compare ghcr.io/acme/app:1 ghcr.io/acme/app:2 --platform linux/arm64",
    "manyfest compare ghcr.io/acme/app:1 --base debian:12 --strict",
)


def configure(parser: CommandParser) -> None:
    """One image or two."""
    parser.description = (
        "Show the platforms of an image side by side: sizes, layers, creation, settings, packages and files, and say "
        "what one platform has otherwise than the rest. With two images, each platform of one is held against the same "
        "platform of the other. Layers are read once and remembered. Exit code 0; with --strict 1 if anything differs."
    )
    parser.add_argument("place", metavar="IMAGE", help="an image in any place")
    parser.add_argument("other", metavar="IMAGE", nargs="?", help="another image, to compare with")
    parser.add_argument("--platform", metavar="P,P", action="append", help="only these platforms")
    parser.add_argument("--base", metavar="IMAGE", help="say which platforms stand on this image's layers")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if anything differs")


def run(args: argparse.Namespace, console: Console) -> int:
    """0, or 1 with --strict and a difference."""
    from manyfest.cli.places import Places
    from manyfest.stores.pool import Pool
    from manyfest.verify.cache import Cache
    from manyfest.verify.parity import compare

    pool, cache, wanted = Pool(), Cache(), platforms(args.platform)
    with Places(args, console) as places:
        sides = _sides(places, args.place, wanted, pool, cache)
        others = _sides(places, args.other, wanted, pool, cache) if args.other else []
        base = _base(places, args.base, pool) if args.base else {}
    if args.other:
        pairs = _pairs(sides, others, args.place, args.other)
        differences = [difference for pair in pairs for difference in compare(pair)]
        sides = [side for pair in pairs for side in pair]
    else:
        differences = compare(sides)
    stands = {side.name: _stands_on(side, base) for side in sides} if args.base else {}
    console.result(_shape(sides, differences, stands), _text(sides, differences, stands))
    return 1 if args.strict and differences else 0


def _sides(places: Places, text: str, wanted: Sequence[Platform], pool: Pool, cache: Cache) -> list[Side]:
    from manyfest.platforms import AnyOf
    from manyfest.verify.sides import read_sides, variants_of

    source, name = places.source(text)
    matcher = AnyOf(*wanted)
    variants = variants_of(
        source, source.resolve(name), lambda platform: not wanted or matcher.matches(platform), pool
    )
    if not variants:
        raise InputError(f"{text}: none of the platforms asked for", hint=f"manyfest inspect {text}")
    return read_sides(source, variants, pool, cache)


def _pairs(one: list[Side], two: list[Side], first: str, second: str) -> list[tuple[Side, Side]]:
    """The same platform of two images; the names say which image."""
    from manyfest.platforms import Platform, normalise

    def key(side: Side) -> object:
        return normalise(Platform.parse(side.name)) if "/" in side.name else side.name

    known = {key(side): side for side in two}
    pairs = [
        (
            side.replace(name=f"{side.name} of {first}"),
            known[key(side)].replace(name=f"{side.name} of {second}"),
        )
        for side in one
        if key(side) in known
    ]
    if not pairs:
        raise InputError(
            f"{first} and {second} have no platform in common", hint="manyfest inspect shows what each has"
        )
    return pairs


def _base(places: Places, text: str, pool: Pool) -> dict[str, tuple[str, ...]]:
    """Platform → layers (diff IDs) of the base."""
    from manyfest.content.document import ImageConfig
    from manyfest.stores.base import read
    from manyfest.verify.sides import variants_of

    source, name = places.source(text)
    found = {}
    for platform, document in variants_of(source, source.resolve(name), lambda _: True, pool):
        config = ImageConfig(read(source, document.manifest.config))
        found[platform] = tuple(str(digest) for digest in config.diff_ids)
    return found


def _stands_on(side: Side, base: dict[str, tuple[str, ...]]) -> str:
    """The platform of the base whose layers an image begins with; empty for none."""
    from manyfest.verify.sides import base_prefix

    return next((name for name, layers in base.items() if base_prefix(side.diff_ids, layers)), "")


def _shape(
    sides: Sequence[Side], differences: Sequence[Difference], stands: dict[str, str]
) -> dict[str, object]:
    return {
        "sides": [
            {
                "name": side.name,
                "digest": side.digest,
                "size": side.size,
                "unpacked": side.unpacked,
                "layers": len(side.diff_ids),
                "created": side.created or None,
                "files": len(side.files),
                "settings": dict(side.settings),
                "packages": {manager: dict(found) for manager, found in side.packages.items()},
                **({"base": stands[side.name] or None} if stands else {}),
            }
            for side in sides
        ],
        "differences": [
            {"subject": d.subject, "sides": list(d.sides), "message": d.message, "values": dict(d.values)}
            for d in differences
        ],
    }


def _text(sides: Sequence[Side], differences: Sequence[Difference], stands: dict[str, str]) -> str:
    header = ["PLATFORM", "SIZE", "UNPACKED", "LAYERS", "FILES", "PACKAGES", "CREATED"]
    rows = [
        [
            side.name,
            size(side.size),
            size(side.unpacked),
            str(len(side.diff_ids)),
            str(len(side.files)),
            str(sum(map(len, side.packages.values()))),
            side.created,
        ]
        for side in sides
    ]
    if stands:
        header.append("BASE")
        for row, side in zip(rows, sides, strict=True):
            row.append(stands[side.name] or "another")
    lines = [table(tuple(header), rows, right=(1, 2, 3, 4, 5)), ""]
    if not differences:
        return "\n".join([*lines, "nothing stands out"])
    lines += [f"{difference.subject}: {difference.message}" for difference in differences]
    lines += ["", plural(len(differences), "difference")]
    return printable("\n".join(lines))
