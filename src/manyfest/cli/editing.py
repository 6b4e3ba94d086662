# SPDX-License-Identifier: Apache-2.0
"""Gathering images for a list that is pushed already: for ``add`` and ``join``."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from manyfest.cli.console import Console
    from manyfest.indexes.gather import Found
    from manyfest.indexes.spec import Entry
    from manyfest.stores.base import Store
    from manyfest.stores.pool import Pool

__all__ = ["bring_all", "entries_of", "report"]


def entries_of(args: argparse.Namespace) -> list[Entry]:
    """The images of the arguments, with the platform and annotations given for the only one of them."""
    from manyfest.cli.arguments import override, pairs
    from manyfest.cli.places import with_tag
    from manyfest.errors import InputError
    from manyfest.indexes.spec import Entry

    images = list(dict.fromkeys(args.images))
    change, notes = override(args), pairs(args.annotation)
    if (change or notes) and len(images) > 1:
        raise InputError("a platform or annotation belongs to one image", hint="add the images one by one")
    return [Entry(with_tag(image), change, annotations=tuple(notes.items())) for image in images]


def bring_all(found: Sequence[Found], target: Store, pool: Pool, console: Console) -> None:
    """Copy what the target lacks of the images, without touching a tag."""
    from manyfest.cli.progress import Transfer
    from manyfest.stores.copy import copy

    with Transfer(console) as transfer:
        for item in found:
            if item.source.place != target.place:
                copy(
                    item.source,
                    item.document,
                    target,
                    (),
                    pool=pool,
                    on_event=transfer.on_event,
                    on_plan=transfer.on_plan,
                )


def report(console: Console, name: str, before: str, after: str, platforms: list[str]) -> int:
    """The digest as the last line, and whether it is a new one."""
    changed = before != after
    if not changed:
        console.say(f"{name} holds this already")
    console.result({"list": name, "digest": after, "changed": changed, "platforms": platforms}, after)
    return 0
