# SPDX-License-Identifier: Apache-2.0
"""From the names in a spec to index entries, in two concurrent rounds.

Round 1 resolves every image, round 2 reads the configs of those that are single images (an index says itself which
platforms it holds). Nothing is asked twice and nothing one after the other: six images cost two round trips.

What comes out per entry is a list of descriptors: one for an image; all of them, attestations and annotations
included, for an index.
"""

from __future__ import annotations

from manyfest.content.document import Document
from manyfest.errors import InvalidPlatform, InvalidSpec, NotFound
from manyfest.indexes.select import images, platform_of, platforms_of
from manyfest.stores.base import CanWarm, load
from manyfest.stores.pool import Pool
from manyfest.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from manyfest.content.descriptor import Descriptor
    from manyfest.indexes.spec import Entry
    from manyfest.platforms import Platform
    from manyfest.stores.base import Source

    OpenSource = Callable[[str], tuple[Source, str]]
    """Opens the place that a text names: the source, and the tag or digest in it."""

__all__ = ["Found", "gather", "pinned"]


class Found(Value):
    """An entry of the spec, what it resolved to, and the index entries it gives."""

    __slots__ = ("descriptors", "document", "entry", "source")
    entry: Entry
    source: Source
    document: Document
    descriptors: tuple[Descriptor, ...]

    def __init__(
        self, entry: Entry, source: Source, document: Document, descriptors: tuple[Descriptor, ...] = ()
    ) -> None:
        self._set(entry=entry, source=source, document=document, descriptors=descriptors)

    @property
    def moved(self) -> bool:
        """Does the name point at something else than when the entry was added?"""
        return bool(self.entry.digest) and self.entry.digest != str(self.document.digest)


def gather(
    entries: Sequence[Entry],
    open_source: OpenSource,
    pool: Pool,
    *,
    ignore_missing: bool = False,
    on_missing: Callable[[Entry], None] | None = None,
) -> list[Found]:
    """Resolve every entry. The result keeps their order.

    Raises :class:`NotFound` for an image that is not there (left out with ``ignore_missing``, and ``on_missing`` told),
    :class:`InvalidPlatform` for one that no platform can be told of.
    """
    opened = [(entry, *open_source(entry.image)) for entry in entries]
    for source in {id(s): s for _, s, _ in opened}.values():
        if isinstance(source, CanWarm):
            source.warm(sum(1 for _, other, _ in opened if other is source))

    def resolve(item: tuple[Entry, Source, str]) -> Found | None:
        entry, source, name = item
        try:
            return Found(entry, source, source.resolve(name))
        except NotFound:
            if not ignore_missing:
                raise
            if on_missing is not None:
                on_missing(entry)
            return None

    found = [item for item in pool.map(resolve, opened) if item is not None]
    return pool.map(lambda item: _described(item, pool), found)


def pinned(open_source: OpenSource, entries: Sequence[Entry]) -> OpenSource:
    """An opener that answers with the digests recorded in the entries instead of their tags (``--locked``)."""
    recorded = {entry.image: entry.digest for entry in entries}

    def opened(image: str) -> tuple[Source, str]:
        source, name = open_source(image)
        if not recorded.get(image):
            raise InvalidSpec(
                f"{image}: no digest was recorded for it",
                hint="create the list again, or push without --locked",
            )
        return source, recorded[image] or name

    return opened


def _described(found: Found, pool: Pool) -> Found:
    entry, source, document = found.entry, found.source, found.document
    if document.is_index:
        return found.replace(descriptors=_from_index(found, pool))
    stated = platform_of(source, document)
    descriptor = document.descriptor.with_platform(_platform(entry, stated))
    return found.replace(descriptors=(_annotated(descriptor, entry),))


def _from_index(found: Found, pool: Pool) -> tuple[Descriptor, ...]:
    """Every entry of a source index; a platform given by hand labels the only image, or selects one of several."""
    entry, source = found.entry, found.source
    filled = _filled(source, found.document.index.manifests, pool)
    if not entry.override:
        return tuple(d if d.is_attestation else _annotated(d, entry) for d in filled)
    candidates = images(filled)
    if len(candidates) != 1:
        candidates = tuple(
            d for d in candidates if d.platform is not None and entry.override.selects(d.platform)
        )
        if len(candidates) != 1:
            there = ", ".join(str(p) for p in platforms_of(filled))
            raise InvalidSpec(
                f"{entry.image} holds {len(images(filled))} platforms, of which {len(candidates)} match the given one",
                hint=f"it has {there}; name one of these, or give no platform to take them all",
            )
    chosen = candidates[0]
    labelled = _annotated(chosen.with_platform(_platform(entry, chosen.platform)), entry)
    attestations = tuple(d for d in filled if d.attests == str(chosen.digest))
    return (labelled, *attestations)


def _filled(source: Source, entries: Sequence[Descriptor], pool: Pool) -> tuple[Descriptor, ...]:
    """The entries; one without a platform gets the one that its image claims, as containerd reads it."""
    unsaid = [entry for entry in entries if entry.platform is None and not entry.is_attestation]
    claims = dict(zip(unsaid, pool.map(lambda entry: _claimed(source, entry), unsaid), strict=True))
    return tuple(entry.with_platform(claim) if (claim := claims.get(entry)) else entry for entry in entries)


def _claimed(source: Source, entry: Descriptor) -> Platform | None:
    child = load(source, entry)
    return None if child.is_index else platform_of(source, child)


def _platform(entry: Entry, stated: Platform | None) -> Platform:
    try:
        return entry.override.over(stated)
    except InvalidPlatform as error:
        raise InvalidPlatform(f"{entry.image}: {error}", hint=error.hint) from error


def _annotated(descriptor: Descriptor, entry: Entry) -> Descriptor:
    if not entry.annotations:
        return descriptor
    return descriptor.with_annotations({**descriptor.annotations, **dict(entry.annotations)})
