# SPDX-License-Identifier: Apache-2.0
"""One image that something wants to run: which, who, where it is written, and where it may go."""

from __future__ import annotations

from manyfest.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from manyfest.coverage.placement import Restriction
    from manyfest.platforms import Platform

__all__ = ["Use"]


class Use(Value):
    """``image`` is the text of a place. ``kind``: ``image``, ``compose``, ``kubernetes``, ``dockerfile``.

    ``owner`` is who runs it (``service web``); ``place`` is where it is written (``FILE:LINE:COLUMN``); ``platform``
    is the one asked for by name; ``everywhere`` if it must run on every node that it may go to, as a global service.
    ``problem`` says why there is nothing to look up; ``built`` that a build makes the image, so it may not be there.
    """

    __slots__ = (  # noqa: RUF023 - the order in which people ask
        "image", "kind", "owner", "place", "platform", "restrictions", "notes", "everywhere", "built", "problem",
    )  # fmt: skip
    image: str
    kind: str
    owner: str
    place: str
    platform: Platform | None
    restrictions: tuple[Restriction, ...]
    notes: tuple[str, ...]
    everywhere: bool
    built: bool
    problem: str

    def __init__(
        self,
        image: str,
        kind: str = "image",
        owner: str = "",
        place: str = "",
        platform: Platform | None = None,
        restrictions: Iterable[Restriction] = (),
        notes: Iterable[str] = (),
        everywhere: bool = True,
        built: bool = False,
        problem: str = "",
    ) -> None:
        self._set(
            image=image,
            kind=kind,
            owner=owner,
            place=place,
            platform=platform,
            restrictions=tuple(restrictions),
            notes=tuple(notes),
            everywhere=everywhere,
            built=built,
            problem=problem,
        )

    @property
    def file(self) -> str:
        """The file it is written in; empty for one given by name."""
        return self.place.rsplit(":", 2)[0] if self.place else ""

    @property
    def line(self) -> int:
        """Counted from one; 0 where there is no file."""
        return int(self.place.rsplit(":", 2)[1]) if self.place else 0

    @property
    def column(self) -> int:
        """Counted from one; 0 where there is no file."""
        return int(self.place.rsplit(":", 2)[2]) if self.place else 0

    def to_json(self) -> dict[str, Any]:
        """The part of a row that does not depend on nodes."""
        return {
            "image": self.image,
            "kind": self.kind,
            "owner": self.owner,
            "file": self.file or None,
            "line": self.line or None,
            "column": self.column or None,
            "asked_platform": None if self.platform is None else str(self.platform),
            "restrictions": [str(each) for each in self.restrictions],
            "notes": list(self.notes),
        }
