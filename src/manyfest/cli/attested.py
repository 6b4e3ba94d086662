# SPDX-License-Identifier: Apache-2.0
"""What attestations of an index say: in-toto statements, read where BuildKit and ``manyfest build`` store them.

A statement is believed to be about an image only if it names the image's digest, or nothing (as BuildKit writes it
for an image without a name); who signed it is not looked at.
"""

from __future__ import annotations

import json

from manyfest.errors import InputError, InvalidDocument, NotFound
from manyfest.indexes.select import images
from manyfest.platforms import OnlyStrict
from manyfest.stores.base import load, read
from manyfest.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from manyfest.content.descriptor import Descriptor
    from manyfest.content.document import Document
    from manyfest.platforms import Platform
    from manyfest.stores.base import Source

__all__ = ["KINDS", "Said", "said_of"]

KINDS = {
    "provenance": ("https://slsa.dev/provenance/",),
    "sbom": ("https://spdx.dev/", "https://cyclonedx.org/"),
}

MAX_STATEMENT = 64 * 1024 * 1024
"""Bytes of a statement. An SBOM of a large distribution has ten million."""

_PREDICATE = "in-toto.io/predicate-type"


class Said(Value):
    """A statement about one image of an index."""

    __slots__ = ("image", "predicate", "predicate_type")
    image: Descriptor
    predicate: Any
    predicate_type: str

    def __init__(self, image: Descriptor, predicate_type: str, predicate: Any) -> None:
        self._set(image=image, predicate_type=predicate_type, predicate=predicate)

    def to_json(self) -> dict[str, Any]:
        """The shape of ``docs/reference/json.md``."""
        return {
            "platform": str(self.image.platform),
            "digest": str(self.image.digest),
            "predicate_type": self.predicate_type,
            "predicate": self.predicate,
        }


def said_of(source: Source, root: Document, kind: str, platform: Platform | None) -> list[Said]:
    """The statements of a kind (one of :data:`KINDS`, or a predicate type) about every image, or one platform's.

    Raises :class:`NotFound` where there is none, :class:`InvalidDocument` for one that is about something else.
    """
    if not root.is_index:
        raise InputError(
            f"{source.place}: a single image; attestations belong to an index",
            hint="name the tag, not a platform's digest",
        )
    entries = root.index.manifests
    wanted = [
        entry
        for entry in images(entries)
        if entry.platform is not None and (platform is None or OnlyStrict(platform).matches(entry.platform))
    ]
    found = [said for image in wanted for said in _about(source, entries, image, KINDS.get(kind, (kind,)))]
    if not found:
        whose = f"for {platform}" if platform is not None else "for any platform"
        raise NotFound(
            f"{source.place}: no {kind} {whose}",
            hint="manyfest inspect shows what is attested; manyfest build --provenance --sbom attests",
        )
    return found


def _about(
    source: Source, entries: tuple[Descriptor, ...], image: Descriptor, prefixes: tuple[str, ...]
) -> list[Said]:
    found = []
    for entry in entries:
        if entry.attests != str(image.digest):
            continue
        for layer in load(source, entry).manifest.layers:
            kind = layer.annotations.get(_PREDICATE, "")
            if kind.startswith(prefixes):
                found.append(Said(image, kind, _predicate(source, layer, kind, image)))
    return found


def _predicate(source: Source, layer: Descriptor, kind: str, image: Descriptor) -> Any:
    what = f"{source.place}: the attestation {layer.digest.short}"
    try:
        value = json.loads(read(source, layer, MAX_STATEMENT))
        stated, subjects = value["predicateType"], value.get("subject") or []
        digests = {f"{k}:{v}" for each in subjects for k, v in each["digest"].items()}
        predicate = value["predicate"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidDocument(f"{what} is no in-toto statement: {error}") from error
    if stated != kind:
        raise InvalidDocument(f"{what} is annotated as {kind}, and says {stated}")
    if subjects and str(image.digest) not in digests:
        raise InvalidDocument(
            f"{what} is about {', '.join(sorted(digests)) or 'nothing'}, not about {image.digest}",
            hint="the index was put together from other images than its attestations: build it again",
        )
    return predicate
