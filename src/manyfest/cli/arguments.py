# SPDX-License-Identifier: Apache-2.0
"""Arguments that several commands share, and what their texts mean."""

from __future__ import annotations

from manyfest.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from manyfest.indexes.spec import Override
    from manyfest.platforms import Platform

__all__ = ["add_gate", "add_override", "add_type", "override", "pairs", "platforms", "split"]


def split(values: Iterable[str] | None) -> list[str]:
    """An option that may be repeated and may hold commas, as one list."""
    return [part.strip() for value in values or () for part in value.split(",") if part.strip()]


def platforms(values: Iterable[str] | None) -> tuple[Platform, ...]:
    """Platforms of a repeated or comma-separated option. Raises :class:`InvalidPlatform`."""
    from manyfest.platforms import Platform

    return tuple(Platform.parse(text) for text in split(values))


def pairs(values: Iterable[str] | None) -> dict[str, str]:
    """``KEY=VALUE`` texts as a mapping. Raises :class:`InputError`."""
    found: dict[str, str] = {}
    for text in values or ():
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise InputError(f"{text!r}: expected an annotation as KEY=VALUE")
        found[key] = value
    return found


def add_type(parser: argparse.ArgumentParser) -> None:
    """``--type``: the kind of index to write."""
    parser.add_argument(
        "--type",
        choices=("docker", "oci"),
        default="",
        help="write a Docker manifest list or an OCI index (default: Docker's if every entry is Docker's)",
    )


def add_gate(parser: argparse.ArgumentParser) -> None:
    """``--verify`` and ``--verify-strict``: look inside before publishing."""
    parser.add_argument(
        "--verify",
        action="store_const",
        const="yes",
        default="",
        help="look inside first, and refuse to push what verify finds errors in",
    )
    parser.add_argument(
        "--verify-strict",
        action="store_const",
        const="strict",
        dest="verify",
        help="the same, and refuse warnings too",
    )


def add_override(parser: argparse.ArgumentParser) -> None:
    """docker's options that say what an entry is for."""
    parser.add_argument("--os", metavar="OS", help="operating system")
    parser.add_argument("--arch", metavar="ARCH", help="architecture")
    parser.add_argument("--variant", metavar="VARIANT", help="variant of the architecture, such as v7")
    parser.add_argument("--os-version", metavar="VERSION", help="version of the operating system")
    parser.add_argument(
        "--os-features", metavar="A,B", action="append", help="features of the operating system; '' for none"
    )
    parser.add_argument(
        "--annotation", metavar="KEY=VALUE", action="append", help="annotation on the entry; may be repeated"
    )


def override(args: argparse.Namespace) -> Override:
    """What :func:`add_override`'s options say."""
    from manyfest.indexes.spec import Override

    features = None if args.os_features is None else tuple(split(args.os_features))
    return Override(
        os=args.os,
        architecture=args.arch,
        variant=args.variant,
        os_version=args.os_version,
        os_features=features,
    )
