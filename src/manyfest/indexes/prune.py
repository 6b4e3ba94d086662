# SPDX-License-Identifier: Apache-2.0
"""Clearing a repository out: which tags go, and which content goes with them.

Untagged is not unused. The images behind a list have no tag of their own, and tools that delete "untagged" manifests
break lists (https://github.com/distribution/distribution/issues/3178). So what goes is worked out from what stays: the
documents that lead from a tag that goes, less all that lead from a tag that is kept.

First :func:`plan`, which only reads, then :func:`carry_out`, which looks again whether a tag has been moved meanwhile.
"""

from __future__ import annotations

import re
from datetime import datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from manyfest.content.document import ImageConfig, successors
from manyfest.content.mediatypes import is_document, is_index
from manyfest.errors import ContentError, Error, InputError, NotFound, Refused, StoreError, Unsupported
from manyfest.indexes.join import marked_name
from manyfest.indexes.select import images
from manyfest.stores.base import CanDelete, HasReferrers, HasTags, load, read
from manyfest.stores.layout import Layout
from manyfest.stores.pool import Pool
from manyfest.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from manyfest.content.descriptor import Descriptor
    from manyfest.content.digest import Digest
    from manyfest.content.document import Document
    from manyfest.stores.base import Source

__all__ = ["Left", "Pruning", "Rules", "Tagged", "carry_out", "plan"]

MAX_NESTED = 64
"""Indexes inside indexes that are followed from one tag; who claims more is hostile."""

_CREATED = "org.opencontainers.image.created"
_SPEAKS_OF = re.compile(r"(sha256|sha512)-([0-9a-f]{64,128})(\..+)?")
"""Tags about a digest: the referrers' stand-in (distribution-spec, "Referrers Tag Schema") and cosign's signatures."""


class Rules(Value):
    """What stays. Tags are matched with the wildcards ``*``, ``?`` and ``[…]``, case counts.

    ``only``: tags that may go at all (none given: all); ``keep``: tags that stay; ``keep_last``: so many of the newest
    stay; ``older_than_s``: what is younger, in seconds, stays. A tag goes when no rule keeps it.
    """

    __slots__ = ("keep", "keep_last", "older_than_s", "only")
    keep: tuple[str, ...]
    only: tuple[str, ...]
    keep_last: int
    older_than_s: float

    def __init__(
        self,
        keep: tuple[str, ...] = (),
        only: tuple[str, ...] = (),
        keep_last: int = 0,
        older_than_s: float = 0.0,
    ) -> None:
        """Raises :class:`InputError` when there is no rule, which would mean everything."""
        if not keep and not only and keep_last <= 0 and older_than_s <= 0:
            raise InputError(
                "no rule says what stays", hint="for example --keep 'v*' --keep latest, or --keep-last 10"
            )
        self._set(keep=keep, only=only, keep_last=keep_last, older_than_s=older_than_s)

    @property
    def need_age(self) -> bool:
        """Must it be known when images were created?"""
        return self.keep_last > 0 or self.older_than_s > 0


class Tagged(Value):
    """A tag and what becomes of it. ``created_s``: seconds since 1970, ``None`` if unknown or not asked for.

    ``reason``: why it is kept; empty when it goes.
    """

    __slots__ = ("created_s", "descriptor", "reason", "tag")
    tag: str
    descriptor: Descriptor
    created_s: float | None
    reason: str

    def __init__(self, tag: str, descriptor: Descriptor, created_s: float | None, reason: str) -> None:
        self._set(tag=tag, descriptor=descriptor, created_s=created_s, reason=reason)


class Pruning(Value):
    """What a pruning does: ``kept`` and ``gone`` tags, and the ``content`` (documents) that goes, parents first."""

    __slots__ = ("content", "gone", "kept")
    kept: tuple[Tagged, ...]
    gone: tuple[Tagged, ...]
    content: tuple[Descriptor, ...]

    def __init__(
        self, kept: tuple[Tagged, ...], gone: tuple[Tagged, ...], content: tuple[Descriptor, ...]
    ) -> None:
        self._set(kept=kept, gone=gone, content=content)


class Left(Value):
    """A tag that should have gone and could not, and why."""

    __slots__ = ("reason", "tag")
    tag: str
    reason: str

    def __init__(self, tag: str, reason: str) -> None:
        self._set(tag=tag, reason=reason)


def plan(
    source: Source, rules: Rules, now_s: float, pool: Pool | None = None, *, allow_empty: bool = False
) -> Pruning:
    """What ``rules`` mean for a repository at the time ``now_s`` (seconds since 1970). Reads only.

    Raises :class:`Refused` when no tag would stay and that is not allowed, :class:`Unsupported` for a place without
    tags, and what the source raises: nothing is guessed about content that cannot be read.
    """
    if not isinstance(source, HasTags):
        raise Unsupported(f"{source.place} does not list tags")
    pool = pool or Pool()
    documents = _resolved(source, list(source.tags()), pool)
    ages = _ages(source, rules, documents, pool) if rules.need_age else {}
    own = {tag for tag in documents if not _SPEAKS_OF.fullmatch(tag) and marked_name(tag, documents) is None}
    reasons = _judge(rules, {tag: ages.get(documents[tag].digest) for tag in sorted(own)}, now_s)
    if own and not any(reasons[tag] for tag in own) and not allow_empty:
        raise Refused(
            f"{source.place}: these rules would keep none of {len(own)} tags",
            hint="add a --keep for what must stay, or --allow-empty if nothing must",
        )
    closures = _Closures(source, documents, pool)
    closures.follow(reasons)
    rows = [
        Tagged(tag, documents[tag].descriptor, ages.get(documents[tag].digest), reasons[tag])
        for tag in sorted(documents)
    ]
    return Pruning(
        tuple(row for row in rows if row.reason),
        tuple(row for row in rows if not row.reason),
        closures.leaving(reasons),
    )


def carry_out(
    pruning: Pruning,
    target: Source,
    on_gone: Callable[[str], None] | None = None,
) -> tuple[Left, ...]:
    """Delete what a plan says; returns the tags that could not go.

    Lists go before what they list, so a reader never meets a list with holes. A tag that has been moved since the plan
    raises :class:`Refused` before anything is deleted. When deleting fails half way the error says what is left.
    """
    folder = target if isinstance(target, Layout) else None
    if not isinstance(target, CanDelete):
        raise Unsupported(f"{target.place} cannot delete")
    _check_unmoved(pruning, target)
    tell = on_gone or _ignore
    doomed = {descriptor.digest for descriptor in pruning.content}
    left, done = [], 0
    try:
        for row in pruning.gone:
            try:
                target.untag(row.tag)
            except Unsupported as error:
                # This place removes tags only with their content, and what else leads there is to stay.
                if row.descriptor.digest not in doomed:
                    left.append(Left(row.tag, str(error)))
        blobs = _blobs(target, pruning.content)
        for descriptor in pruning.content:
            _delete(target, descriptor)
            done += 1
            tell(str(descriptor.digest))
        if folder is not None:
            folder.forget(blobs - _needed(folder))
    except Error as error:
        rest = ", ".join(str(descriptor.digest) for descriptor in pruning.content[done:][:5])
        raise StoreError(
            f"{target.place}: pruning stopped half way: {error}",
            hint=f"what is tagged is whole; without a tag are left: {rest or 'none'}"
            f"{', …' if len(pruning.content) - done > 5 else ''}",
        ) from error
    return tuple(left)


def _blobs(target: Source, leaving: Iterable[Descriptor]) -> set[Digest]:
    """Configs and layers of images in a folder. A registry frees what nothing needs by itself, or its operator does."""
    if not isinstance(target, Layout):
        return set()
    found = (_there(target, descriptor) for descriptor in leaving)
    return {blob.digest for document in found if document is not None for blob in successors(document)}


def _needed(layout: Layout) -> set[Digest]:
    """All that leads from an entry of ``index.json``, with a tag or without."""
    needed: set[Digest] = set()
    todo = list(layout.entries().descriptors)
    while todo:
        descriptor = todo.pop()
        if descriptor.digest in needed:
            continue
        needed.add(descriptor.digest)
        if is_document(descriptor.media_type) and (document := _there(layout, descriptor)) is not None:
            todo += successors(document)
    return needed


def _there(source: Source, descriptor: Descriptor) -> Document | None:
    try:
        return load(source, descriptor)
    except NotFound:
        return None  # a list with a hole: what is not there leads nowhere


def _delete(target: CanDelete, descriptor: Descriptor) -> None:
    try:
        target.delete(descriptor)
    except NotFound:
        return  # gone with its tag, or deleted by somebody else: either way it is what was wanted


def _check_unmoved(pruning: Pruning, target: Source) -> None:
    assert isinstance(target, HasTags)
    known = {row.tag for row in (*pruning.kept, *pruning.gone)}
    fresh = [tag for tag in target.tags() if tag not in known]

    def moved(row: Tagged) -> bool:
        try:
            return target.peek(row.tag).digest != row.descriptor.digest
        except NotFound:
            return False

    changed = [
        row.tag
        for row, is_moved in zip(pruning.gone, Pool().map(moved, pruning.gone), strict=True)
        if is_moved
    ]
    if fresh or changed:
        names = ", ".join([*fresh, *changed][:5])
        raise Refused(
            f"{target.place}: tags were pushed meanwhile: {names}",
            hint="nothing was deleted; run the same command again",
        )


def _resolved(source: Source, tags: Sequence[str], pool: Pool) -> dict[str, Document]:
    def resolved(tag: str) -> Document | None:
        try:
            return source.resolve(tag)
        except NotFound:
            return None  # deleted by somebody else meanwhile

    found = zip(tags, pool.map(resolved, tags), strict=True)
    return {tag: document for tag, document in found if document is not None}


# --- which tags ---


def _judge(rules: Rules, created: Mapping[str, float | None], now_s: float) -> dict[str, str]:
    """Why each tag stays; empty when it goes."""
    reasons: dict[str, str] = {}
    open_tags = []
    for tag in created:
        if rules.only and not _matches(tag, rules.only):
            reasons[tag] = "not asked about"
        elif pattern := _matches(tag, rules.keep):
            reasons[tag] = f"kept by {pattern}"
        elif rules.need_age and created[tag] is None:
            reasons[tag] = "its age is not known"
        else:
            reasons[tag] = ""
            open_tags.append(tag)
    newest = sorted(open_tags, key=lambda tag: (-(created[tag] or 0), tag))
    for tag in newest[: rules.keep_last]:
        reasons[tag] = f"one of the {rules.keep_last} newest" if rules.keep_last > 1 else "the newest"
    for tag in open_tags:
        age = now_s - (created[tag] or 0)
        if not reasons[tag] and rules.older_than_s and age < rules.older_than_s:
            reasons[tag] = "not old enough"
    return reasons


def _matches(tag: str, patterns: Iterable[str]) -> str:
    return next((pattern for pattern in patterns if fnmatchcase(tag, pattern)), "")


def _ages(
    source: Source, rules: Rules, documents: Mapping[str, Document], pool: Pool
) -> dict[Digest, float | None]:
    """When what each tag names was created: what the list says itself, else its newest image. Each is read once."""
    wanted = {
        document.digest: document
        for tag, document in documents.items()
        if not _matches(tag, rules.keep) and (not rules.only or _matches(tag, rules.only))
    }
    said = {digest: _said(document) for digest, document in wanted.items()}
    members = {
        digest: [entry for entry in images(document.index.manifests) if not is_index(entry.media_type)]
        for digest, document in wanted.items()
        if said[digest] is None and document.is_index
    }
    plain = {digest: document for digest, document in wanted.items() if not document.is_index}
    entries = {entry.digest: entry for each in members.values() for entry in each}
    loaded = dict(plain)
    loaded.update(zip(entries, pool.map(lambda e: load(source, e), entries.values()), strict=True))
    unsaid = {digest: document for digest, document in loaded.items() if said.get(digest) is None}
    configs = dict(
        zip(unsaid, pool.map(lambda document: _configured(source, document), unsaid.values()), strict=True)
    )

    def age(digest: Digest) -> float | None:
        if said[digest] is not None:
            return said[digest]
        found = [configs.get(entry.digest) for entry in members.get(digest, ())] or [configs.get(digest)]
        return max((each for each in found if each is not None), default=None)

    return {digest: age(digest) for digest in wanted}


def _said(document: Document) -> float | None:
    view = document.index if document.is_index else document.manifest
    return _seconds(view.annotations.get(_CREATED, ""))


def _configured(source: Source, document: Document) -> float | None:
    manifest = document.manifest
    if not manifest.is_image:
        return None
    try:
        return _seconds(ImageConfig(read(source, manifest.config)).created)
    except (ContentError, NotFound):
        return None  # an age that cannot be read is not known, and then the tag stays


def _seconds(created: str) -> float | None:
    """Seconds since 1970 of an RFC 3339 time; ``None`` for no time, and for the zero of reproducible builds."""
    try:
        seconds = datetime.fromisoformat(created).timestamp() if created else 0.0
    except (ValueError, OverflowError):
        return None
    return seconds if seconds > 0 else None


# --- which content ---


class _Closures:
    """What leads from where; each index is read once, and no image's manifest at all."""

    def __init__(self, source: Source, documents: Mapping[str, Document], pool: Pool) -> None:
        self._source = source
        self._documents = documents
        self._pool = pool
        self._indexes = {d.digest: d for d in documents.values() if d.is_index}

    def follow(self, reasons: dict[str, str]) -> None:
        """Enter what becomes of tags that are about another tag or a digest: they go with it, and stay otherwise."""
        kept = self._below(tag for tag, reason in reasons.items() if reason)
        gone = self._below(tag for tag, reason in reasons.items() if not reason)
        for tag in self._documents:
            if tag in reasons:
                continue
            spoken = _SPEAKS_OF.fullmatch(tag)
            if spoken is not None:
                subject = f"{spoken[1]}:{spoken[2]}"
                goes = subject in _texts(gone) - _texts(kept)
                reasons[tag] = "" if goes else "about something that stays"
                continue
            name = marked_name(tag, self._documents)
            reasons[tag] = reasons.get(name or "", "") or ("" if name in reasons else "a mark of a join")

    def leaving(self, reasons: Mapping[str, str]) -> tuple[Descriptor, ...]:
        """The documents behind tags that go, less those behind tags that stay; parents first, referrers last."""
        kept = self._below(tag for tag, reason in reasons.items() if reason)
        gone = self._below(tag for tag, reason in reasons.items() if not reason)
        leaving = {digest: descriptor for digest, descriptor in gone.items() if digest not in kept}
        front = list(leaving)
        while front and isinstance(self._source, HasReferrers):
            found = self._pool.map(self._source.referrers, front)
            fresh = {d.digest: d for each in found for d in each if d.digest not in kept}
            front = [digest for digest in fresh if digest not in leaving]
            leaving.update((digest, fresh[digest]) for digest in front)
        return tuple(leaving.values())

    def _below(self, tags: Iterable[str]) -> dict[Digest, Descriptor]:
        """The documents that tags lead to, themselves included, parents first."""
        found: dict[Digest, Descriptor] = {}
        front = [self._documents[tag].descriptor for tag in tags]
        for _ in range(MAX_NESTED):
            fresh = [descriptor for descriptor in front if descriptor.digest not in found]
            found.update((descriptor.digest, descriptor) for descriptor in fresh)
            nested = {d.digest: d for d in fresh if is_index(d.media_type)}
            unread = [d for digest, d in nested.items() if digest not in self._indexes]
            for document in self._pool.map(lambda d: _there(self._source, d), unread):
                if document is not None:
                    self._indexes[document.digest] = document
            front = [e for digest in nested if (d := self._indexes.get(digest)) for e in d.index.manifests]
            if not front:
                return found
        raise Refused(
            f"{self._source.place}: indexes are nested more than {MAX_NESTED} deep; nothing was deleted"
        )


def _texts(digests: Iterable[Digest]) -> set[str]:
    return {str(digest) for digest in digests}


def _ignore(_: str) -> None:
    pass
