# SPDX-License-Identifier: Apache-2.0
"""Choosing entries of an index: the one an engine would take, or the ones to keep.

Choosing is :func:`manyfest.platforms.best` over the entries that are images; keeping makes a **new index** whose other
bytes (entries, annotations, unknown fields) are as they were. Attestations go where the image they speak of goes.
"""

from __future__ import annotations

from manyfest.content.document import Document, ImageConfig
from manyfest.content.mediatypes import is_index, is_manifest
from manyfest.errors import InputError, InvalidDocument, NotFound
from manyfest.indexes.edit import rebuilt
from manyfest.platforms import AnyOf, Only, OnlyStrict, Platform, normalise
from manyfest.stores.base import load, read
from manyfest.stores.pool import Pool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from manyfest.content.descriptor import Descriptor
    from manyfest.content.digest import Digest
    from manyfest.platforms import Matcher
    from manyfest.stores.base import Source

__all__ = ["choose", "image_for", "images", "keep", "platform_of", "platforms_of"]


def images(entries: Iterable[Descriptor]) -> tuple[Descriptor, ...]:
    """The entries that are images for some platform: neither attestations nor marked ``unknown``."""
    return tuple(entry for entry in entries if not entry.is_attestation and not _is_unknown(entry.platform))


def platforms_of(entries: Iterable[Descriptor]) -> tuple[Platform, ...]:
    """The platforms of the images among the entries, as stored, in order."""
    return tuple(entry.platform for entry in images(entries) if entry.platform is not None)


def choose(entries: Sequence[Descriptor], matcher: Matcher) -> Descriptor | None:
    """The entry an engine with this matcher would take: best rank, first among equals. ``None`` if none matches."""
    ranked = [
        (rank, entry)
        for entry in images(entries)
        if entry.platform is not None and (rank := matcher.rank(entry.platform)) is not None
    ]
    return min(ranked, key=lambda pair: pair[0])[1] if ranked else None


MAX_NESTED = 32
"""How many indexes inside an index are looked into. Nobody has more than a few; who claims more is hostile."""


def image_for(source: Source, root: Document, platform: Platform, *, strict: bool = False) -> Document:
    """The manifest for a platform, through nested indexes; an image that is no index must be for it.

    Raises :class:`NotFound` listing the platforms that are there, :class:`InvalidDocument` for what nests without end.
    """
    matcher = OnlyStrict(platform) if strict else Only(platform)
    return _image_for(source, root, platform, matcher, {root.digest})


def _image_for(
    source: Source, root: Document, platform: Platform, matcher: Matcher, seen: set[Digest]
) -> Document:
    if not root.is_index:
        has = platform_of(source, root)
        if has is not None and matcher.matches(has):
            return root
        raise _none_for(source, platform, () if has is None else (has,))
    entries = root.index.manifests
    chosen = choose(entries, matcher)
    if chosen is not None and not is_index(chosen.media_type):
        return load(source, chosen)
    nested = [chosen] if chosen is not None else [e for e in entries if is_index(e.media_type)]
    for entry in nested:
        if entry.digest in seen:
            continue
        seen.add(entry.digest)
        if len(seen) > MAX_NESTED:
            raise InvalidDocument(f"{source.place}: more than {MAX_NESTED} nested indexes under one name")
        try:
            return _image_for(source, load(source, entry), platform, matcher, seen)
        except NotFound:
            continue
    unsaid = _by_config(source, entries, matcher)
    if unsaid is not None:
        return unsaid
    raise _none_for(source, platform, platforms_of(entries))


def _by_config(source: Source, entries: Sequence[Descriptor], matcher: Matcher) -> Document | None:
    """The best of the entries that say no platform: then, as containerd does, their configs are asked."""
    unsaid = [
        entry
        for entry in entries
        if entry.platform is None and not entry.is_attestation and is_manifest(entry.media_type)
    ]
    documents = Pool().map(lambda entry: load(source, entry), unsaid)
    stated = Pool().map(lambda document: platform_of(source, document), documents)
    found = [
        (rank, document)
        for platform, document in zip(stated, documents, strict=True)
        if platform is not None and (rank := matcher.rank(platform)) is not None
    ]
    return min(found, key=lambda pair: pair[0])[1] if found else None


def platform_of(source: Source, document: Document) -> Platform | None:
    """The platform that an image's config claims; ``None`` for an artifact or a config that claims none."""
    manifest = document.manifest
    if not manifest.is_image:
        return None
    return ImageConfig(read(source, manifest.config)).platform


def keep(root: Document, platforms: Sequence[Platform]) -> Document:
    """The index with only these platforms. The very same document when nothing goes.

    A platform without a variant keeps all variants of its architecture. Raises :class:`InputError` for a platform
    that the index does not have.
    """
    entries = root.index.manifests
    for platform in platforms:
        if not any(_is_kept(entry, [platform]) for entry in images(entries)):
            there = ", ".join(str(p) for p in platforms_of(entries)) or "no platform"
            raise InputError(f"no {platform} in the index", hint=f"it has {there}")
    chosen = [e for e in images(entries) if _is_kept(e, platforms)]
    kept = {str(e.digest) for e in chosen}
    rest = [e for e in entries if e in chosen or e.attests in kept]
    return root if len(rest) == len(entries) else rebuilt(root, rest)


def _is_kept(entry: Descriptor, platforms: Sequence[Platform]) -> bool:
    if entry.platform is None:
        return False
    return AnyOf(*platforms).matches(entry.platform) or any(
        not wanted.variant
        and normalise(wanted.replace(variant=entry.platform.variant)) == normalise(entry.platform)
        for wanted in platforms
    )


def _is_unknown(platform: Platform | None) -> bool:
    return platform is not None and platform.os == "unknown" and platform.architecture == "unknown"


def _none_for(source: Source, platform: Platform, there: Sequence[Platform]) -> NotFound:
    listed = ", ".join(str(p) for p in there) or "no platform at all"
    return NotFound(f"{source.place}: nothing for {platform}", hint=f"it has {listed}")
