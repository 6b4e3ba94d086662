# SPDX-License-Identifier: Apache-2.0
"""What a build made: an index and its images as a source, and how they get into a store.

Layers that were made are files of the cache, a base's are wherever the base is: a registry that has the base mounts
them. :func:`push` moves what the target lacks and tags it last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from manyfest.content import mediatypes
from manyfest.content.digest import Digest
from manyfest.content.document import Document
from manyfest.errors import InputError, NotFound, Refused
from manyfest.indexes.publish import held_platforms, missing_from, refuse_to_shrink
from manyfest.stores.base import Source, opener_of
from manyfest.stores.copy import Plan, move, present
from manyfest.stores.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from manyfest.build.attest import Statement
    from manyfest.build.cache import Cache
    from manyfest.content.descriptor import Descriptor
    from manyfest.platforms import Platform
    from manyfest.stores.base import Readable, Store
    from manyfest.stores.copy import Event

__all__ = ["Built", "push"]


class Built(Source):
    """A finished build: an index, its images, and where their blobs are. A source like any other."""

    place = "the build"

    def __init__(self, cache: Cache) -> None:
        self.index = Document(mediatypes.OCI_INDEX, b'{"schemaVersion":2,"manifests":[]}')
        self.platforms: list[tuple[Platform, Document]] = []
        self.attestations: list[tuple[Descriptor, tuple[Statement, ...]]] = []
        self.layers_made = 0
        self.layers_reused = 0
        self.compressor = ""
        self._cache = cache
        self._documents: dict[Digest, Document] = {}
        self._small: dict[Digest, bytes] = {}
        self._elsewhere: dict[Digest, Source] = {}

    def resolve(self, name: str) -> Document:
        """The index (``""``) or a manifest by digest."""
        if not name:
            return self.index
        found = next((d for d in (self.index, *self._documents.values()) if str(d.digest) == name), None)
        if found is None:
            raise NotFound(f"{self.place}: no document {name}")
        return found

    def exists(self, descriptor: Descriptor) -> bool:
        """Is it a part of this build?"""
        return descriptor.digest in {*self._documents, *self._small, *self._elsewhere} or self._cache.has(
            descriptor
        )

    def open(self, descriptor: Descriptor, offset: int = 0) -> Readable:
        """A blob: a configuration, a layer made here, or a base's layer from where the base is."""
        raw = self._small.get(descriptor.digest)
        if raw is not None:
            return opener_of(raw)(offset)
        other = self._elsewhere.get(descriptor.digest)
        return other.open(descriptor, offset) if other is not None else self._cache.open(descriptor, offset)

    def source_of(self, descriptor: Descriptor) -> Source:
        """The place that holds a blob, so that a registry can mount from another repository."""
        return self._elsewhere.get(descriptor.digest, self)

    def note(
        self, document: Document, platform: Platform, config: bytes, base: Mapping[Digest, Source]
    ) -> None:
        """Take an image in."""
        self.platforms.append((platform, document))
        self._documents[document.digest] = document
        self._small[Digest.of(config)] = config
        self._elsewhere.update(base)

    def note_attestation(
        self, document: Document, entry: Descriptor, config: bytes, statements: Sequence[Statement]
    ) -> None:
        """Take in what is attested of an image: its manifest, and that one's entry in the index."""
        self.attestations.append((entry, tuple(statements)))
        self._documents[document.digest] = document
        for raw in (config, *(each.raw for each in statements)):
            self._small[Digest.of(raw)] = raw

    def documents(self) -> list[Document]:
        """All but the index: images, then what is attested of them, each once."""
        images = [document for _, document in self.platforms]
        attesting = [self._documents[entry.digest] for entry, _ in self.attestations]
        return list(dict.fromkeys([*images, *attesting]))


def push(
    built: Built,
    target: Store,
    names: Sequence[str],
    *,
    index: bool = True,
    expect: Sequence[Platform] = (),
    allow_shrink: bool = False,
    pool: Pool | None = None,
    on_event: Callable[[Event], None] | None = None,
    on_plan: Callable[[Plan], None] | None = None,
) -> Document:
    """Move what the target lacks, and tag it last. ``index=False`` pushes the only image without an index around it.

    Raises :class:`Refused` when an expected platform is missing or the tag would lose one, :class:`CopyError` for a
    failed transfer. Every tag is then as it was.
    """

    pool = pool or Pool()
    there = [platform for platform, _ in built.platforms]
    absent = missing_from(expect, there)
    if absent:
        raise Refused(f"expected {', '.join(map(str, absent))}, which was not built")
    if not index and len(built.platforms) != 1:
        raise InputError(
            f"{target.place} holds images of one platform, got {len(built.platforms)}",
            hint="name one with --platform, or push to a registry or a layout",
        )
    root = built.index if index else built.platforms[0][1]
    older: Document | None = None
    try:
        older = target.resolve(names[0]) if names and names[0] else None
    except NotFound:
        older = None
    if older is not None and index and not allow_shrink:
        refuse_to_shrink(target.place, names[0], held_platforms(target, older), there)
    moved = _Moved(built, root)
    if older is not None:
        same = older.digest == root.digest
        moved = moved.less(set(moved.documents) if same else present(moved, target, pool))
    if on_plan is not None:
        on_plan(moved)
    todo = list(names)
    if older is not None and older.digest == root.digest:
        todo = [name for name in names[1:] if not _points_at(target, name, root)]
        if not todo:
            return root
    move(moved, target, todo, root, pool, on_event)
    return root


class _Moved(Plan):
    """A plan whose blobs come from where each is: layers of a base from the base's own place."""

    def __init__(self, built: Built, root: Document) -> None:
        super().__init__()
        self._built = built
        self.levels = [[root]]
        self.note(built, root)
        if root.is_index:
            self.levels.append(built.documents())
            for document in built.documents():
                self.note(built, document)

    @property
    def blobs(self) -> dict[Digest, tuple[Source, Descriptor]]:
        return {digest: (self._built.source_of(blob), blob) for digest, (_, blob) in super().blobs.items()}

    def less(self, there: set[Digest]) -> _Moved:
        """Without these documents and the blobs that only they need."""
        rest = self.without(there)
        made = _Moved.__new__(_Moved)
        Plan.__init__(made)
        made._built = self._built
        made.documents = rest.documents
        made.levels = rest.levels
        return made


def _points_at(target: Store, name: str, root: Document) -> bool:
    try:
        return target.peek(name).digest == root.digest
    except NotFound:
        return False
