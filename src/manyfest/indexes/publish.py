# SPDX-License-Identifier: Apache-2.0
"""From a spec to a tag: gather, check, bring the children over, write the index, tag it last.

Steps, numbered here and in :func:`publish`:

1. Resolve all entries, and what the tag holds now, side by side.
2. Refuse what nobody means: two entries for one platform, an expected platform missing, a tag that would shrink.
3. Build the index, and show it to the gate, with its children where they are; with ``dry_run`` stop here.
4. Copy children that the target does not hold from wherever they are.
5. Write the index under every tag. Nothing before this changes what a reader of the tag sees.
"""

from __future__ import annotations

from manyfest.content.document import Document
from manyfest.errors import NotFound, Refused
from manyfest.indexes.edit import build, docker_bytes, refuse_duplicates
from manyfest.indexes.gather import gather, pinned
from manyfest.indexes.select import images, platform_of, platforms_of
from manyfest.platforms import normalise
from manyfest.stores.base import load
from manyfest.stores.copy import move, plan, present
from manyfest.stores.pool import Pool
from manyfest.stores.union import Union
from manyfest.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from manyfest.content.descriptor import Descriptor
    from manyfest.indexes.gather import Found, OpenSource
    from manyfest.indexes.spec import Entry, Spec
    from manyfest.platforms import Platform
    from manyfest.stores.base import Source, Store
    from manyfest.stores.copy import Event

__all__ = ["Options", "Published", "bring", "held_platforms", "missing_from", "publish", "refuse_to_shrink"]


class Options(Value):
    """How to publish. ``compat="docker"`` writes the bytes that ``docker manifest push`` would."""

    __slots__ = ("allow_shrink", "compat", "dry_run", "expect", "ignore_missing", "locked", "type")
    allow_shrink: bool
    compat: str
    dry_run: bool
    expect: tuple[Platform, ...]
    ignore_missing: bool
    locked: bool
    type: str

    def __init__(
        self,
        *,
        allow_shrink: bool = False,
        compat: str = "",
        dry_run: bool = False,
        expect: tuple[Platform, ...] = (),
        ignore_missing: bool = False,
        locked: bool = False,
        type: str = "",
    ) -> None:
        self._set(
            allow_shrink=allow_shrink,
            compat=compat,
            dry_run=dry_run,
            expect=expect,
            ignore_missing=ignore_missing,
            locked=locked,
            type=type,
        )


class Published(Value):
    """What was (or with ``dry_run`` would be) written.

    ``found``: the entries as they resolved. ``missing``: entries left out by ``ignore_missing``. ``copied``: entries
    whose content came from another place. ``before``: what the tag held, if anything. ``replaced``: platforms of
    entries that a later one stands for (``replaces`` in the spec), with both.
    """

    __slots__ = ("before", "copied", "document", "found", "missing", "names", "replaced")
    before: Document | None
    copied: tuple[Found, ...]
    document: Document
    found: tuple[Found, ...]
    missing: tuple[Entry, ...]
    names: tuple[str, ...]
    replaced: tuple[tuple[Platform, Entry, Entry], ...]

    def __init__(
        self,
        document: Document,
        names: tuple[str, ...],
        *,
        found: tuple[Found, ...],
        missing: tuple[Entry, ...] = (),
        copied: tuple[Found, ...] = (),
        before: Document | None = None,
        replaced: tuple[tuple[Platform, Entry, Entry], ...] = (),
    ) -> None:
        self._set(
            document=document,
            names=names,
            found=found,
            missing=missing,
            copied=copied,
            before=before,
            replaced=replaced,
        )

    @property
    def moved(self) -> tuple[Found, ...]:
        """Entries whose tag points at something else than when they were added."""
        return tuple(found for found in self.found if found.moved)


def publish(
    spec: Spec,
    target: Store,
    name: str,
    open_source: OpenSource,
    options: Options | None = None,
    *,
    pool: Pool | None = None,
    on_event: Callable[[Event], None] | None = None,
    gate: Callable[[Source, Document], None] | None = None,
) -> Published:
    """Carry out a spec: its index in ``target`` under ``name`` and the spec's further tags.

    ``gate`` is given the index, and a source that its children can be read from; what it raises stops the push.

    Raises :class:`Refused` when a gate says no, :class:`InvalidSpec` or :class:`InvalidPlatform` for a spec that cannot
    be carried out, :class:`NotFound` for a missing image, :class:`CopyError` for a failed transfer. After any of them
    every tag is as it was.
    """
    options = options or Options()
    pool = pool or Pool()
    # 1. Everything that must be read, side by side.
    opener = pinned(open_source, spec.entries) if options.locked else open_source
    missing: list[Entry] = []
    found, before = _read(spec, target, name, opener, options, pool, missing)
    # 2. The gates.
    found, replaced = _with_replaced(found)
    if not found:
        raise Refused(f"{spec.image}: no image to publish", hint="every entry was missing or holds none")
    entries = _unique(descriptor for item in found for descriptor in item.descriptors)
    refuse_duplicates(entries)
    _refuse_missing(spec, entries, options)
    if before is not None and not options.allow_shrink:
        refuse_to_shrink(target.place, name, held_platforms(target, before), platforms_of(entries))
    # 3. The index.
    document = _document(spec, found, entries, options)
    names = (name, *(tag for tag in spec.tags if tag != name))
    foreign = tuple(item for item in found if item.source.place != target.place)
    result = Published(
        document,
        names,
        found=tuple(found),
        missing=tuple(missing),
        copied=foreign,
        before=before,
        replaced=replaced,
    )
    if gate is not None:
        gate(Union(item.source for item in found), document)
    if options.dry_run:
        return result
    # 4. and 5.
    bring(foreign, target, document, names, pool, on_event=on_event, older=before)
    return result


def bring(
    foreign: Sequence[Found],
    target: Store,
    document: Document,
    names: Sequence[str],
    pool: Pool,
    *,
    on_event: Callable[[Event], None] | None = None,
    older: Document | None = None,
) -> None:
    """Copy the children of entries from other places, then write ``document`` under ``names``."""
    wanted = [(item, descriptor) for item in foreign for descriptor in item.descriptors]
    made = plan(pool.map(_child, wanted), pool)
    if older is not None and made.documents:
        made = made.without(present(made, target, pool))
    move(made, target, names, document, pool, on_event)


def held_platforms(source: Source, document: Document) -> tuple[Platform, ...]:
    """The platforms that a name offers today: an index's entries, or what a single image's config claims."""
    if document.is_index:
        return platforms_of(document.index.manifests)
    stated = platform_of(source, document)
    return () if stated is None else (stated,)


def missing_from(wanted: Iterable[Platform], there: Iterable[Platform]) -> tuple[Platform, ...]:
    """The wanted platforms that are not there, compared normalised."""
    known = {normalise(platform) for platform in there}
    return tuple(platform for platform in wanted if normalise(platform) not in known)


def refuse_to_shrink(place: str, name: str, before: Iterable[Platform], after: Iterable[Platform]) -> None:
    """Raise :class:`Refused` if a platform that the tag has would be gone."""
    lost = missing_from(before, after)
    if lost:
        listed = ", ".join(str(platform) for platform in lost)
        raise Refused(
            f"{place}:{name} would lose {listed}",
            hint="add what is missing (manyfest add keeps the rest), or say --allow-shrink if that is what you want",
        )


def _read(
    spec: Spec,
    target: Store,
    name: str,
    open_source: OpenSource,
    options: Options,
    pool: Pool,
    missing: list[Entry],
) -> tuple[list[Found], Document | None]:
    found: list[Found] = []
    before: list[Document] = []

    def entries() -> None:
        found.extend(
            gather(
                spec.entries,
                open_source,
                pool,
                ignore_missing=options.ignore_missing,
                on_missing=missing.append,
            )
        )

    def current() -> None:
        try:
            before.append(target.resolve(name))
        except NotFound:
            return

    Pool(2).map(lambda step: step(), [entries, current])
    return found, before[0] if before else None


def _refuse_missing(spec: Spec, entries: Sequence[Descriptor], options: Options) -> None:
    expected = (*spec.expect, *options.expect)
    absent = missing_from(expected, platforms_of(entries))
    if absent:
        listed = ", ".join(str(platform) for platform in absent)
        there = ", ".join(str(platform) for platform in platforms_of(entries)) or "nothing"
        raise Refused(
            f"{spec.image}: expected {listed}, which no entry provides", hint=f"the entries give {there}"
        )


def _document(
    spec: Spec, found: Sequence[Found], entries: Sequence[Descriptor], options: Options
) -> Document:
    if options.compat == "docker":
        named = [(item.entry.image, descriptor) for item in found for descriptor in item.descriptors]
        return docker_bytes(named)
    return build(entries, type=options.type or spec.type, annotations=dict(spec.annotations))


def _with_replaced(
    found: Sequence[Found],
) -> tuple[list[Found], tuple[tuple[Platform, Entry, Entry], ...]]:
    """Entries that a later one replaces taken out, with what attests them; and which those were.

    The later one stands where an entry stood of which nothing is left, else at its own place.
    """
    kept: list[Found] = []
    replaced: list[tuple[Platform, Entry, Entry]] = []
    for newer in found:
        empty = None
        for at, older in enumerate(kept) if newer.entry.replaces else ():
            gone = _replaced_by(newer, older)
            digests = {str(d.digest) for d in gone}
            rest = tuple(d for d in older.descriptors if d not in gone and d.attests not in digests)
            kept[at] = older.replace(descriptors=rest)
            empty = at if gone and not rest and empty is None else empty
            replaced += [(d.platform, older.entry, newer.entry) for d in gone if d.platform is not None]
        kept.append(newer)
        if empty is not None:
            kept[empty] = kept.pop()
    return [item for item in kept if item.descriptors], tuple(replaced)


def _replaced_by(newer: Found, older: Found) -> list[Descriptor]:
    """Images of the older entry for platforms that the newer one has another image for."""
    platforms = {normalise(platform) for platform in platforms_of(newer.descriptors)}
    same = {d.digest for d in newer.descriptors}
    return [
        d
        for d in images(older.descriptors)
        if d.platform is not None and normalise(d.platform) in platforms and d.digest not in same
    ]


def _unique(entries: Iterable[Descriptor]) -> list[Descriptor]:
    """The same image given twice counts once."""
    return list(dict.fromkeys(entries))


def _child(wanted: tuple[Found, Descriptor]) -> tuple[Source, Document]:
    item, descriptor = wanted
    if item.document.digest == descriptor.digest:
        return item.source, item.document
    return item.source, load(item.source, descriptor)
