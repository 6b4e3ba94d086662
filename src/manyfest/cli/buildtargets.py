# SPDX-License-Identifier: Apache-2.0
"""Where ``manyfest build`` pushes to, looked at before minutes of compiling go by."""

from __future__ import annotations

from manyfest.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["check_targets"]


def check_targets(names: Sequence[str], tags: Sequence[str], count: int) -> None:
    """Refuse names and tags that ``count`` images could not be pushed to. Asks nobody, and makes nothing.

    Raises :class:`InvalidReference` for text that is no name or tag there, :class:`InputError` for a digest in place
    of a tag, and for a place that holds one platform only.
    """
    from manyfest.cli.places import list_name
    from manyfest.stores.layout import check_target_name
    from manyfest.stores.places import Place

    for text in names:
        list_name(text)
        place = Place.parse(text)
        if not place.holds_index and count != 1:
            raise InputError(
                f"{text} holds images of one platform, got {count}",
                hint="name one with --platform, or push to a registry or a layout",
            )
        if place.transport in ("oci", "oci-archive"):
            for name in (place.name, *tags):
                check_target_name(name)
        elif place.transport in ("docker", "docker-daemon") and place.location:
            for tag in tags:
                place.reference.with_tag(tag)
