# SPDX-License-Identifier: Apache-2.0
"""One copy between any two places: plan, then move.

1. **Plan**: walk the small documents, side by side, until every blob that is needed is known.
2. **Move** the blobs through a bounded pool: mounted where the target can, streamed otherwise.
3. **Put the documents**, children before parents.
4. **Tag**, last. A reader never sees a name whose content is not all there.

Pull, push, export, import and mirror are this with other arguments:

    >>> from manyfest.stores.memory import Memory
    >>> from manyfest.content.document import Document
    >>> here, there = Memory("here"), Memory("there")
    >>> index = Document.parse(b'{"schemaVersion":2,"manifests":[]}')
    >>> here.tag(index, "v1")
    >>> copy(here, here.resolve("v1"), there, ["v1", "latest"]).digest == there.resolve("latest").digest
    True

Round trips, not bytes, are what a copy between registries waits for, so nothing is asked that the next request
would tell anyway: a blob under :data:`ASK_FIRST` bytes is sent without asking whether it is there.
"""

from __future__ import annotations

from manyfest.content.descriptor import Descriptor
from manyfest.content.document import Document, successors
from manyfest.content.mediatypes import is_document, is_foreign
from manyfest.errors import ContentError, CopyError, Error, InvalidDocument, NotFound
from manyfest.stores.base import CanMount, CanWarm, HasReferrers, HasTags, load, opener_of
from manyfest.stores.pool import Call, Pool
from manyfest.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeVar

    from manyfest.content.digest import Digest
    from manyfest.stores.base import Opener, Readable, Source, Store

    T = TypeVar("T")

__all__ = ["ASK_FIRST", "MAX_DEPTH", "MAX_DOCUMENTS", "Event", "Plan", "copy", "move", "plan", "present"]

MAX_DEPTH = 8
"""How deep indexes may nest. Nobody nests more than two; a registry that claims more is hostile or broken."""

MAX_DOCUMENTS = 10_000
"""How many documents one name may lead to."""

ASK_FIRST = 1024 * 1024
"""Bytes from which a blob's presence is asked for before it is sent."""


class Event(Value):
    """Something happened to a piece of content.

    ``kind``: ``"sent"`` (``size`` more bytes have moved), ``"done"`` (a blob arrived), ``"mounted"``, ``"there"`` (it
    was there already), ``"skipped"`` (a foreign layer), ``"document"`` (a child document was put), ``"tagged"``.
    """

    __slots__ = ("descriptor", "kind", "name", "size")
    kind: str
    descriptor: Descriptor
    size: int
    name: str

    def __init__(self, kind: str, descriptor: Descriptor, size: int = 0, name: str = "") -> None:
        self._set(kind=kind, descriptor=descriptor, size=size, name=name)


class Plan:
    """What has to arrive: ``documents`` with the source each comes from, and ``levels`` of them, parents first."""

    def __init__(self) -> None:
        self.documents: dict[Digest, tuple[Source, Document]] = {}
        self.levels: list[list[Document]] = []

    @property
    def blobs(self) -> dict[Digest, tuple[Source, Descriptor]]:
        """Configs and layers of all documents, each once."""
        return {
            blob.digest: (source, blob)
            for source, document in self.documents.values()
            for blob in successors(document)
            if not is_document(blob.media_type)
        }

    @property
    def size(self) -> int:
        """Bytes of all blobs that can be sent."""
        return sum(blob.size for _, blob in self.blobs.values() if not is_foreign(blob.media_type))

    def note(self, source: Source, document: Document) -> bool:
        """Take a document in; ``False`` if it was known."""
        return self.documents.setdefault(document.digest, (source, document))[1] is document

    def without(self, present: set[Digest]) -> Plan:
        """The same, less these documents and the blobs that only they need."""
        rest = Plan()
        rest.documents = {d: pair for d, pair in self.documents.items() if d not in present}
        rest.levels = [[d for d in level if d.digest not in present] for level in self.levels]
        return rest

    def __repr__(self) -> str:
        return f"Plan(documents={len(self.documents)}, blobs={len(self.blobs)}, size={self.size})"


def plan(
    roots: Iterable[tuple[Source, Document]], pool: Pool | None = None, *, referrers: bool = False
) -> Plan:
    """Walk from the roots to every document and blob they need.

    ``referrers`` takes in what names a document as its subject (signatures, attestations), recursively.
    Raises :class:`CopyError` with side ``"source"``, caused by the source's own error, or
    :class:`InvalidDocument` for what nests too deep or leads to too much.
    """
    pool = pool or Pool()
    made = Plan()
    front = list(roots)
    while front:
        fresh = [pair for pair in front if made.note(*pair)]
        if fresh and len(made.levels) >= MAX_DEPTH:
            raise InvalidDocument(f"{fresh[0][1].digest}: indexes nested more than {MAX_DEPTH} deep")
        made.levels.append([document for _, document in fresh])
        children = _children(fresh)
        if referrers:
            for source, found in pool.map(_referrers, fresh):
                children.update((d.digest, (source, d)) for d in found)
        unknown = [pair for digest, pair in children.items() if digest not in made.documents]
        if len(made.documents) + len(unknown) > MAX_DOCUMENTS:
            raise InvalidDocument(f"more than {MAX_DOCUMENTS} documents under one name")
        front = pool.map(_load, unknown)
    return made


def move(
    made: Plan,
    target: Store,
    names: Sequence[str],
    root: Document,
    pool: Pool | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> None:
    """Carry out a plan. The root is written by its names only; with no names it is put by digest.

    Raises :class:`CopyError`; its ``side`` says which end failed and its cause how.
    """
    pool = pool or Pool()
    tell = on_event or _ignore
    # Biggest first, so that the last one to finish is a small one.
    blobs = sorted(made.blobs.values(), key=lambda pair: -pair[1].size)
    pool.map(lambda pair: _move_blob(*pair, target, pool, tell), blobs)
    # A document found on two levels belongs to the deeper one: it must be there before either parent.
    placed: set[Digest] = {root.digest}
    for level in reversed(made.levels):
        todo = [d for d in level if d.digest not in placed]
        placed.update(d.digest for d in todo)
        pool.map(lambda document: _put_document(document, target, tell), todo)
    if not names:
        _put_document(root, target, tell)
    for name in names:
        doing = f"tagging {name}" if name else f"writing {root.digest}"
        _on_target(lambda name=name: target.tag(root, name), target, doing)  # type: ignore[misc]
        tell(Event("tagged", root.descriptor, name=name))


def copy(
    source: Source,
    root: Document,
    target: Store,
    names: Sequence[str],
    *,
    referrers: bool = False,
    pool: Pool | None = None,
    on_event: Callable[[Event], None] | None = None,
    on_plan: Callable[[Plan], None] | None = None,
) -> Descriptor:
    """Copy ``root`` with all it needs from ``source`` to ``target``, under ``names``; returns its descriptor.

    If a name already stands at the target, what it has is not sent again. Raises :class:`CopyError`.
    """
    pool = pool or Pool()
    _warm(source, target, root)
    steps: list[Callable[[], Plan | Descriptor | None]] = [
        lambda: plan([(source, root)], pool, referrers=referrers),
        lambda: _older(target, names),
    ]
    # The plan of a single image asks nobody, so nothing is gained by a thread.
    made, older = Pool(2 if root.is_index or referrers else 1).map(lambda step: step(), steps)
    assert isinstance(made, Plan)
    if isinstance(older, Descriptor):
        same = older.digest == root.digest
        made = made.without(set(made.documents) if same else present(made, target, pool))
    if on_plan is not None:
        on_plan(made)
    move(made, target, names, root, pool, on_event)
    if referrers:
        _copy_signature_tags(source, made, target, pool, on_event)
    return root.descriptor


def _children(parents: Iterable[tuple[Source, Document]]) -> dict[Digest, tuple[Source, Descriptor]]:
    return {
        child.digest: (source, child)
        for source, parent in parents
        for child in successors(parent)
        if is_document(child.media_type)
    }


def _load(pair: tuple[Source, Descriptor]) -> tuple[Source, Document]:
    source, descriptor = pair
    try:
        return source, load(source, descriptor)
    except NotFound as error:
        raise CopyError(
            f"{source.place}: the index names {descriptor.digest} ({descriptor.platform or 'no platform'}), "
            "which is not there",
            side="source",
            hint="the list is sparse, or its child was deleted; choose the platforms that are there with --platform",
        ) from error
    except Error as error:
        raise CopyError(f"reading from {source.place}: {error}", side="source", hint=error.hint) from error


def _warm(source: Source, target: Store, root: Document) -> None:
    """Have connections opened while the first answers are under way."""
    # A child image has a config and at least one layer.
    count = len(successors(root)) * (2 if root.is_index else 1)
    for place in (source, target):
        if isinstance(place, CanWarm):
            place.warm(count)


def _older(target: Store, names: Sequence[str]) -> Descriptor | None:
    """What the first name points at now, which suggests that part of the content is there."""
    if not names:
        return None
    try:
        return target.peek(names[0])
    except NotFound:
        return None
    except Error as error:
        raise CopyError(f"{target.place}: {error}", side="target", hint=error.hint) from error


def present(made: Plan, target: Store, pool: Pool) -> set[Digest]:
    """The plan's documents that stand at the target already: whole, since children come before parents."""
    documents = [document for _, document in made.documents.values()]
    known = pool.map(
        lambda document: _on_target(
            lambda: target.exists(document.descriptor), target, f"asking for {document.digest}"
        ),
        documents,
    )
    return {document.digest for document, there in zip(documents, known, strict=True) if there}


def _referrers(pair: tuple[Source, Document]) -> tuple[Source, tuple[Descriptor, ...]]:
    source, document = pair
    if not isinstance(source, HasReferrers):
        return source, ()
    try:
        return source, source.referrers(document.digest)
    except Error as error:
        raise CopyError(f"referrers of {document.digest}: {error}", side="source", hint=error.hint) from error


def _move_blob(
    source: Source, blob: Descriptor, target: Store, pool: Pool, tell: Callable[[Event], None]
) -> None:
    if is_foreign(blob.media_type):
        tell(Event("skipped", blob))
        return
    plain = blob.bare()
    if blob.size >= ASK_FIRST and _on_target(
        lambda: target.exists(plain), target, f"asking for {blob.digest}"
    ):
        tell(Event("there", blob))
        return
    if isinstance(target, CanMount) and _on_target(
        lambda: target.mount(plain, source), target, f"mounting {blob.digest}"
    ):
        tell(Event("mounted", blob))
        return
    moved = False

    def count(event: Event) -> None:
        nonlocal moved
        moved = True
        tell(event)

    content = _from_source(source, blob, pool, count)
    if isinstance(source, CanWarm) and isinstance(target, CanWarm) and blob.size:
        ahead = _Ahead(content)
        try:
            _on_target(lambda: target.put(plain, ahead), target, f"writing {blob.digest}")
        finally:
            ahead.close()
    else:
        _on_target(lambda: target.put(plain, content), target, f"writing {blob.digest}")
    # A target that never read had it: small blobs are not asked for before.
    tell(Event("done" if moved or not blob.size else "there", blob))


def _put_document(document: Document, target: Store, tell: Callable[[Event], None]) -> None:
    def put() -> None:
        target.put(document.descriptor, opener_of(document.raw))

    _on_target(put, target, f"writing {document.digest}")
    tell(Event("document", document.descriptor))


def _from_source(source: Source, blob: Descriptor, pool: Pool, tell: Callable[[Event], None]) -> Opener:
    """An opener whose errors say that the source failed."""

    def opened(offset: int) -> Readable:
        try:
            stream = source.open(blob, offset)
        except Error as error:
            raise _source_failed(source, blob, error) from error
        return _Told(pool.watched(stream, lambda size: tell(Event("sent", blob, size))), source, blob)

    return opened


class _Ahead:
    """An opener that asks a distant source at once, while a distant target is told that content will come.

    One round trip less for each blob. ``close`` gives back what was not opened.
    """

    def __init__(self, content: Opener) -> None:
        self._content = content
        self._begun: Call | None = Call(lambda: content(0))

    def __call__(self, offset: int) -> Readable:
        begun, self._begun = self._begun, None
        if begun is None:
            return self._content(offset)
        if begun.wait().error is not None:
            raise begun.error  # type: ignore[misc]  # just told apart
        stream: Readable = begun.value
        if not offset:
            return stream
        stream.close()
        return self._content(offset)

    def close(self) -> None:
        begun, self._begun = self._begun, None
        if begun is not None and begun.wait().error is None:
            begun.value.close()


class _Told:
    """A stream from the source: its errors become :class:`CopyError` of that side."""

    def __init__(self, stream: Readable, source: Source, blob: Descriptor) -> None:
        self._stream = stream
        self._source = source
        self._blob = blob

    def read(self, size: int = -1, /) -> bytes:
        try:
            return self._stream.read(size)
        except Error as error:
            raise _source_failed(self._source, self._blob, error) from error

    def close(self) -> None:
        self._stream.close()


def _source_failed(source: Source, blob: Descriptor, error: Error) -> CopyError:
    return CopyError(f"reading {blob.digest} from {source.place}: {error}", side="source", hint=error.hint)


def _on_target(work: Callable[[], T], target: Store, doing: str) -> T:
    try:
        return work()
    except CopyError:
        raise
    except ContentError as error:
        # The target found that the bytes it was sent are wrong.
        raise CopyError(f"{doing}: {error}", side="source", hint=error.hint) from error
    except Error as error:
        where = "" if str(error).startswith(target.place) else f" in {target.place}"
        raise CopyError(f"{doing}{where}: {error}", side="target", hint=error.hint) from error


def _copy_signature_tags(
    source: Source, made: Plan, target: Store, pool: Pool, on_event: Callable[[Event], None] | None
) -> None:
    """Take along cosign's signatures, which hang on tags named after the digest they sign.

    https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md
    """
    if not isinstance(source, HasTags):
        return
    stems = {f"{digest.algorithm}-{digest.hex}" for digest in made.documents}
    for name in [tag for tag in source.tags() if tag.partition(".")[0] in stems and "." in tag]:
        root = source.resolve(name)
        move(plan([(source, root)], pool), target, [name], root, pool, on_event)


def _ignore(_: Event) -> None:
    pass
