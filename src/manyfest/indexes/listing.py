# SPDX-License-Identifier: Apache-2.0
"""What a name leads to, as far as choosing among it goes. One request for a list, two for a single image."""

from __future__ import annotations

from manyfest.content.document import ImageConfig
from manyfest.content.mediatypes import is_config, is_index
from manyfest.stores.base import load, read
from manyfest.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from manyfest.content.descriptor import Descriptor
    from manyfest.content.document import Document
    from manyfest.platforms import Platform
    from manyfest.stores.base import Source

__all__ = ["Entry", "Listing", "list_images"]

_DEEPEST = 4
"""Indexes within indexes are rare, and deeper ones are somebody's joke."""


class Entry(Value):
    """One thing a list names. ``platform`` is what the list says, ``config`` what the image itself says where it was
    asked; ``kind`` is ``image``, ``attestation`` or ``artifact``; ``nested`` if it stands in an index in the index."""

    __slots__ = ("config", "digest", "kind", "nested", "platform")
    digest: str
    platform: Platform | None
    config: Platform | None
    kind: str
    nested: bool

    def __init__(
        self,
        digest: str,
        platform: Platform | None = None,
        config: Platform | None = None,
        kind: str = "image",
        nested: bool = False,
    ) -> None:
        self._set(digest=digest, platform=platform, config=config, kind=kind, nested=nested)

    @property
    def known(self) -> Platform | None:
        """The platform that anybody can find out: the list's word, else the image's own."""
        return self.platform or self.config


class Listing(Value):
    """``single`` if the name is one image and no list: then engines have nothing to choose from."""

    __slots__ = ("digest", "entries", "single")
    digest: str
    entries: tuple[Entry, ...]
    single: bool

    def __init__(self, digest: str, entries: tuple[Entry, ...], single: bool = False) -> None:
        self._set(digest=digest, entries=entries, single=single)

    @property
    def images(self) -> tuple[Entry, ...]:
        """The entries that are images."""
        return tuple(entry for entry in self.entries if entry.kind == "image")

    @property
    def platforms(self) -> tuple[Platform, ...]:
        """Of the images, in order, where somebody says it."""
        return tuple(entry.known for entry in self.images if entry.known is not None)


def list_images(source: Source, root: Document) -> Listing:
    """Read what choosing needs: nothing more for a list whose entries say their platform.

    Raises what the store raises.
    """
    if root.is_index:
        return Listing(str(root.digest), tuple(_entries(source, root, nested=False, depth=1)))
    manifest = root.manifest
    config = ImageConfig(read(source, manifest.config)).platform if manifest.is_image else None
    kind = "image" if manifest.is_image else "artifact"
    return Listing(str(root.digest), (Entry(str(root.digest), None, config, kind),), single=True)


def _entries(source: Source, root: Document, *, nested: bool, depth: int) -> list[Entry]:
    found: list[Entry] = []
    for descriptor in root.index.manifests:
        if is_index(descriptor.media_type) and depth < _DEEPEST:
            found += _entries(source, load(source, descriptor), nested=True, depth=depth + 1)
        else:
            found.append(_entry(source, descriptor, nested=nested))
    return found


def _entry(source: Source, descriptor: Descriptor, *, nested: bool) -> Entry:
    digest, platform = str(descriptor.digest), descriptor.platform
    if descriptor.is_attestation or (platform is not None and platform.is_unknown):
        return Entry(digest, platform, kind="attestation", nested=nested)
    if is_index(descriptor.media_type):
        return Entry(digest, platform, kind="artifact", nested=nested)
    if platform is not None and platform.is_complete:
        return Entry(digest, platform, nested=nested)
    manifest = load(source, descriptor).manifest
    if not is_config(manifest.config.media_type):
        return Entry(digest, platform, kind="artifact", nested=nested)
    return Entry(digest, platform, ImageConfig(read(source, manifest.config)).platform, nested=nested)
