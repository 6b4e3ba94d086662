# SPDX-License-Identifier: Apache-2.0
"""The contract of :mod:`manyfest.stores.base` as checks that any store can be held to, yours too.

    >>> from manyfest.stores.memory import Memory
    >>> check_store(Memory)

Needs no test framework: a promise that is not kept raises :class:`AssertionError`, whose text says which.
"""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import TYPE_CHECKING

from manyfest.content.descriptor import Descriptor
from manyfest.content.digest import Digest
from manyfest.content.document import Document
from manyfest.content.mediatypes import OCI_CONFIG, OCI_EMPTY, OCI_INDEX, OCI_LAYER, OCI_MANIFEST
from manyfest.errors import ContentError, DigestMismatch, Error, NotFound, SizeMismatch, Unsupported
from manyfest.stores.base import (
    CanDelete,
    CanMount,
    HasReferrers,
    HasTags,
    Source,
    Store,
    load,
    put_bytes,
    read,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from manyfest.stores.base import Readable

__all__ = ["check_store"]

_BIG = 3 * 1024 * 1024 + 17
"""Bytes: more than any buffer on the way, and no multiple of one."""


def check_store(
    factory: Callable[[], Store],
    *,
    reopen: Callable[[Store], Source] | None = None,
    pair: Callable[[], tuple[Store, Store]] | None = None,
    indexes: bool = True,
    nameless: bool = True,
) -> None:
    """Raise :class:`AssertionError` for the first promise that the store does not keep.

    :param factory: makes a fresh, empty store for each check; it is closed after it.
    :param reopen: opens the place of a store for reading a second time, as another process would.
    :param pair: makes two stores between which content can be mounted; needed where the store is a ``CanMount``.
    :param indexes: can it hold an index? If not, it must refuse one with ``Unsupported``.
    :param nameless: is ``""`` the only image of the place? (A registry has no such thing.)
    """
    checks: list[Callable[[Store], None]] = [
        _check_put,
        _check_wrong_content,
        _check_endless,
        _check_interrupted,
        _check_offsets,
        _check_absent,
        _check_documents,
        _check_index if indexes else _check_index_refused,
        _check_tags_move,
        _check_names,
        _check_same_content_at_once,
        _check_other_content_at_once,
        _check_tags_at_once,
        _check_readers_see_old_or_new,
        _check_listing,
        _check_referrers,
        _check_deleting,
    ]
    if nameless:
        checks.append(_check_only_image)
    for check in checks:
        _keep(lambda check=check: _with_fresh(factory, check))  # type: ignore[misc]
    _keep(lambda: _check_closing(factory))
    if reopen is not None:
        _keep(lambda: _check_lasting(factory, reopen))
    if pair is not None:
        _keep(lambda: _check_mounting(pair))


def _with_fresh(factory: Callable[[], Store], check: Callable[[Store], None]) -> None:
    with factory() as store:
        check(store)


def _keep(check: Callable[[], None]) -> None:
    try:
        check()
    except Error as error:
        raise AssertionError(f"an error where none should be: {type(error).__name__}: {error}") from error


# What is put in. Everything a document points to is put before it: strict registries insist on that.


def _blob(seed: str, size: int = 1000) -> tuple[Descriptor, bytes]:
    data = (f"{seed} ".encode() * (size // (len(seed) + 1) + 1))[:size]
    return Descriptor.of(data, OCI_LAYER), data


def _image(store: Store, seed: str) -> Document:
    """An image of one layer, all of it put but the manifest."""
    layer, data = _blob(f"layer {seed}")
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Labels": {"seed": seed}},
            "rootfs": {"type": "layers", "diff_ids": [str(layer.digest)]},
        }
    ).encode()
    described = Descriptor.of(config, OCI_CONFIG)
    put_bytes(store, layer, data)
    put_bytes(store, described, config)
    return _manifest(described, [layer])


def _manifest(config: Descriptor, layers: Iterable[Descriptor], **more: object) -> Document:
    fields = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": config.to_json(),
        "layers": [layer.to_json() for layer in layers],
        **more,
    }
    # Spaces and a last line end: bytes that nobody would get by encoding it again.
    return Document.parse(json.dumps(fields, indent=3).encode() + b"\n")


def _index(children: Iterable[Document]) -> Document:
    entries = [child.descriptor.to_json() for child in children]
    fields = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    return Document.parse(json.dumps(fields, indent=1).encode())


def _put_document(store: Store, document: Document) -> None:
    put_bytes(store, document.descriptor, document.raw)


def _require(kept: object, promise: str) -> None:
    if not kept:
        raise AssertionError(promise)


def _raised(work: Callable[[], object], *kinds: type[BaseException]) -> BaseException:
    try:
        work()
    except kinds as error:
        return error
    raise AssertionError(f"expected {' or '.join(kind.__name__ for kind in kinds)}, nothing was raised")


def _all(stream: Readable) -> bytes:
    try:
        pieces = []
        while piece := stream.read(65536):
            _require(len(piece) <= 65536, "read(n) gives at most n bytes")
            pieces.append(piece)
        _require(stream.read(1) == b"", "after the end, read gives no bytes")
        return b"".join(pieces)
    finally:
        stream.close()


# Putting


def _check_put(store: Store) -> None:
    for size in (0, 1, 1000, _BIG):
        blob, data = _blob("put", size)
        _require(not store.exists(blob), "content that was not put does not exist")
        put_bytes(store, blob, data)
        _require(store.exists(blob), "content that was put exists")
        _require(_all(store.open(blob)) == data, "open gives the bytes that were put")
        _require(read(store, blob) == data, "what is read is verified and whole")
        put_bytes(store, blob, data)
        _require(read(store, blob) == data, "putting content again changes nothing")
    data = b"of another algorithm"
    other = Descriptor(OCI_LAYER, Digest.of(data, "sha512"), len(data))
    try:
        put_bytes(store, other, data)
    except Error:
        return  # sha512 is optional for registries.
    _require(read(store, other) == data, "sha512 content that was taken can be read")


def _check_wrong_content(store: Store) -> None:
    blob, data = _blob("right")
    cases: dict[str, tuple[bytes, type[ContentError]]] = {
        "other bytes": (b"x" * blob.size, DigestMismatch),
        "too few bytes": (data[:-1], SizeMismatch),
        "no bytes": (b"", SizeMismatch),
        "too many bytes": (data + b"x", SizeMismatch),
    }
    for what, (wrong, kind) in cases.items():
        _raised(lambda wrong=wrong: put_bytes(store, blob, wrong), kind)  # type: ignore[misc]
        _require(not store.exists(blob), f"after {what}, nothing of it is visible")
        _raised(lambda: store.open(blob), NotFound)
    put_bytes(store, blob, data)
    _require(read(store, blob) == data, "after errors, the right content can be put")


class _Endless:
    """Gives bytes for ever."""

    def __init__(self) -> None:
        self.given = 0

    def read(self, size: int = -1, /) -> bytes:
        _require(size >= 0, "a stream of unknown length is read in pieces")
        self.given += size
        _require(
            self.given < 64 * 1024 * 1024, "an endless stream is left soon after the size in the descriptor"
        )
        return b"x" * size

    def close(self) -> None:
        pass


def _check_endless(store: Store) -> None:
    blob, _ = _blob("endless", 4096)
    _raised(lambda: store.put(blob, lambda _: _Endless()), SizeMismatch)
    _require(not store.exists(blob), "nothing of an endless stream is visible")


class _Breaking:
    """Gives half of the bytes, then raises."""

    def __init__(self, data: bytes, error: BaseException) -> None:
        self._stream = BytesIO(data[: len(data) // 2])
        self._error = error
        self.closed = False

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        if not data:
            raise self._error
        return data

    def close(self) -> None:
        self.closed = True


def _check_interrupted(store: Store) -> None:
    blob, data = _blob("interrupted", _BIG)
    for error in (NotFound("gone"), RuntimeError("a bug"), KeyboardInterrupt()):
        streams: list[_Breaking] = []

        def opener(offset: int, error: BaseException = error, streams: list[_Breaking] = streams) -> Readable:
            streams.append(_Breaking(data[offset:], error))
            return streams[-1]

        got = _raised(lambda opener=opener: store.put(blob, opener), type(error))  # type: ignore[misc]
        _require(got is error, f"the opener's own {type(error).__name__} comes out")
        _require(all(stream.closed for stream in streams), "streams are closed after an error too")
        _require(not store.exists(blob), f"after {type(error).__name__}, nothing of it is visible")
        _raised(lambda: store.open(blob), NotFound)

    def refusing(_: int) -> Readable:
        raise NotFound("nothing to open")

    _raised(lambda: store.put(blob, refusing), NotFound)
    put_bytes(store, blob, data)
    _require(read(store, blob) == data, "after interruptions, the content can be put")


# Reading


def _check_offsets(store: Store) -> None:
    blob, data = _blob("offsets", _BIG)
    put_bytes(store, blob, data)
    for offset in (0, 1, 1024 * 1024, blob.size - 1):
        _require(_all(store.open(blob, offset)) == data[offset:], f"open from offset {offset} gives the rest")
    first, second = store.open(blob), store.open(blob, 5)
    try:
        _require(
            first.read(3) == data[:3] and second.read(3) == data[5:8], "two streams do not disturb each other"
        )
        _require(first.read(0) == b"", "read(0) gives nothing, and is not the end")
        _require(first.read(2) == data[3:5], "a stream goes on where it was")
    finally:
        first.close()
        second.close()


def _check_absent(store: Store) -> None:
    absent, _ = _blob("absent")
    _require(store.exists(absent) is False, "exists answers False for what is not there")
    _raised(lambda: store.open(absent), NotFound)
    _raised(lambda: store.resolve("no-such-tag"), NotFound)
    _raised(lambda: store.peek("no-such-tag"), NotFound)
    _raised(lambda: store.resolve(str(absent.digest)), NotFound)
    _require(isinstance(store.place, str) and store.place, "place says what it is, for messages")
    _require(store.place in repr(store), "repr names the place")


def _check_documents(store: Store) -> None:
    document = _image(store, "document")
    _require(not store.exists(document.descriptor), "a document that was not put does not exist")
    _put_document(store, document)
    _require(store.exists(document.descriptor), "a document that was put exists")
    found = store.resolve(str(document.digest))
    _require(found.raw == document.raw, "a document comes back to the byte")
    _require(found.media_type == document.media_type, "a document keeps its media type")
    _require(store.peek(str(document.digest)) == document.descriptor, "peek gives the document's descriptor")
    _require(load(store, document.descriptor) == document, "load gives a child document")
    _require(read(store, document.manifest.config), "the config of a document can be read")


def _check_index(store: Store) -> None:
    children = [_image(store, "first"), _image(store, "second")]
    for child in children:
        _put_document(store, child)
    index = _index(children)
    store.tag(index, "several")
    _require(store.resolve("several") == index, "an index comes back to the byte")
    for child in children:
        _require(load(store, child.descriptor) == child, "children of an index can be loaded")


def _check_index_refused(store: Store) -> None:
    child = _image(store, "child")
    _put_document(store, child)
    error = _raised(lambda: store.tag(_index([child]), "several"), Unsupported)
    _require(isinstance(error, Unsupported) and error.hint, "who refuses an index says what to do instead")
    _raised(lambda: store.resolve("several"), NotFound)


# Names


def _check_tags_move(store: Store) -> None:
    old, new = _image(store, "old"), _image(store, "new")
    store.tag(old, "moving")
    _require(store.resolve("moving") == old, "a tag gives the document it was put on")
    _require(store.exists(old.descriptor), "tag stores the document")
    store.tag(new, "moving")
    _require(store.resolve("moving") == new, "a tag can be moved")
    _require(store.resolve(str(old.digest)) == old, "what a tag left is still there by digest")
    store.tag(new, "moving")
    store.tag(new, "other")
    _require(store.resolve("moving") == store.resolve("other") == new, "a document can have several tags")
    _require(store.peek("moving").digest == new.digest, "peek follows the tag")


def _check_names(store: Store) -> None:
    document = _image(store, "names")
    for name in ("v1", "1.2.3", "V_1-x.y", "a" * 128):
        store.tag(document, name)
        _require(store.resolve(name) == document, f"{name!r} is a tag like any other")


def _check_only_image(store: Store) -> None:
    _raised(lambda: store.resolve(""), NotFound)
    first = _image(store, "only")
    store.tag(first, "one")
    store.tag(first, "same")
    _require(store.resolve("") == first, "the empty name means the only image, however many tags it has")
    second = _image(store, "another")
    store.tag(second, "two")
    error = _raised(lambda: store.resolve(""), NotFound)
    said = f"{error} {error.hint if isinstance(error, Error) else ''}"
    _require("one" in said and "two" in said, "with several images, the error lists their names")


# From several threads


def _at_once(*work: Callable[[], object]) -> None:
    barrier = threading.Barrier(len(work))

    def run(step: Callable[[], object]) -> object:
        barrier.wait(30)
        return step()

    with ThreadPoolExecutor(len(work)) as executor:
        for future in [executor.submit(run, step) for step in work]:
            future.result(60)


def _check_same_content_at_once(store: Store) -> None:
    blob, data = _blob("same", _BIG)
    _at_once(*[lambda: put_bytes(store, blob, data)] * 8)
    _require(read(store, blob) == data, "the same content put by several threads is there once, whole")


def _check_other_content_at_once(store: Store) -> None:
    blobs = [_blob(f"thread {n}", 100_000 + n) for n in range(8)]

    def put(blob: Descriptor, data: bytes) -> Callable[[], None]:
        return lambda: put_bytes(store, blob, data)

    _at_once(*[put(*each) for each in blobs])
    for blob, data in blobs:
        _require(read(store, blob) == data, "what several threads put is all there")


def _check_tags_at_once(store: Store) -> None:
    documents = {f"thread-{n}": _image(store, f"thread {n}") for n in range(6)}

    def tag(name: str) -> Callable[[], None]:
        return lambda: store.tag(documents[name], name)

    _at_once(*[tag(name) for name in documents])
    for name, document in documents.items():
        _require(store.resolve(name) == document, "tags set by several threads at once are all there")


def _check_readers_see_old_or_new(store: Store) -> None:
    documents = [_image(store, "even"), _image(store, "odd")]
    store.tag(documents[0], "turning")
    done = threading.Event()

    def turn() -> None:
        try:
            for n in range(1, 12):
                store.tag(documents[n % 2], "turning")
        finally:
            done.set()

    def look() -> None:
        while not done.is_set():
            _require(store.resolve("turning") in documents, "a reader sees the old document or the new one")

    _at_once(turn, look, look)


# Abilities


def _check_listing(store: Store) -> None:
    if not isinstance(store, HasTags):
        return
    try:
        _require(not list(store.tags()), "an empty store has no tags")
    except NotFound:
        pass  # To a registry, a repository that nothing was pushed to does not exist.
    document = _image(store, "listed")
    wanted = ["a", "b", "v1.0"]
    for name in wanted:
        store.tag(document, name)
    _put_document(store, _image(store, "unlisted"))
    listed = list(store.tags())
    _require(len(listed) == len(wanted), f"tags lists each tag once and nothing else, got {listed}")
    for name in listed:
        _require(store.resolve(name) == document, f"the listed tag {name!r} resolves")


def _check_referrers(store: Store) -> None:
    if not isinstance(store, HasReferrers):
        return
    subject = _image(store, "subject")
    store.tag(subject, "signed")
    _require(store.referrers(subject.digest) == (), "without referrers the answer is empty")
    empty = Descriptor.of(b"{}", OCI_EMPTY)
    put_bytes(store, empty, b"{}")
    made = {}
    for kind in ("application/vnd.example.signature", "application/vnd.example.sbom"):
        pointing = subject.descriptor.to_json()
        made[kind] = _manifest(
            empty, [empty], artifactType=kind, subject=pointing, annotations={"kind": kind}
        )
        _put_document(store, made[kind])
    found = {d.digest: d for d in store.referrers(subject.digest)}
    _require(
        set(found) == {d.digest for d in made.values()}, "every document with this subject is a referrer"
    )
    for kind, document in made.items():
        one = store.referrers(subject.digest, kind)
        _require([d.digest for d in one] == [document.digest], "referrers can be asked for by artifact type")
        _require(one[0].artifact_type == kind, "a referrer's descriptor says its artifact type")
        _require(one[0].annotations == {"kind": kind}, "a referrer's descriptor has its annotations")
        _require(load(store, one[0]) == document, "a referrer can be loaded")
    _require(store.referrers(made[kind].digest) == (), "referrers are those of one digest")
    _require(store.resolve("signed") == subject, "referrers do not disturb the tag")


def _check_deleting(store: Store) -> None:
    if not isinstance(store, CanDelete):
        return
    document, other = _image(store, "deleted"), _image(store, "kept")
    store.tag(document, "first")
    store.tag(document, "second")
    store.tag(other, "kept")
    try:
        store.untag("first")
    except Unsupported:
        pass
    else:
        _raised(lambda: store.resolve("first"), NotFound)
        _raised(lambda: store.untag("first"), NotFound)
    _require(store.resolve("second") == document, "removing a tag removes nothing else")
    store.delete(document.descriptor)
    _require(not store.exists(document.descriptor), "deleted content does not exist")
    _raised(lambda: store.resolve("second"), NotFound)
    _raised(lambda: store.resolve(str(document.digest)), NotFound)
    _raised(lambda: store.delete(document.descriptor), NotFound)
    _require(store.resolve("kept") == other, "deleting leaves other content alone")
    store.tag(_image(store, "deleted"), "second")
    _require(store.resolve("second") == document, "deleted content can be put again")


# Life


def _check_closing(factory: Callable[[], Store]) -> None:
    store = factory()
    blob, data = _blob("closing")
    put_bytes(store, blob, data)
    store.close()
    store.close()


def _check_lasting(factory: Callable[[], Store], reopen: Callable[[Store], Source]) -> None:
    with factory() as store:
        first, second = _image(store, "lasting"), _image(store, "lasting too")
        store.tag(first, "one")
        with reopen(store) as other:
            _require(other.resolve("one") == first, "what was tagged is there for others at once")
        store.tag(second, "two")
        store.tag(second, "one")
        with reopen(store) as other:
            _require(other.resolve("one") == second, "others see a tag that moved")
            _require(other.resolve("two") == second, "others see every tag")
            for piece in (second.manifest.config, *second.manifest.layers, *first.manifest.layers):
                _require(len(read(other, piece)) == piece.size, "others can read the content")
    with reopen(store) as other:
        _require(other.resolve("two") == second, "what was tagged outlives the store's closing")


def _check_mounting(pair: Callable[[], tuple[Store, Store]]) -> None:
    source, target = pair()
    with source, target:
        _require(isinstance(target, CanMount), "a pair is for stores that can mount")
        assert isinstance(target, CanMount)
        blob, data = _blob("mounted")
        put_bytes(source, blob, data)
        if target.mount(blob, source):
            _require(read(target, blob) == data, "mounted content can be read")
        else:
            _require(not target.exists(blob), "when mounting was refused, nothing is there")
        absent, _ = _blob("nowhere")
        _require(not target.mount(absent, source), "what the source has not cannot be mounted")
        _require(not target.exists(absent), "a mount that was refused leaves nothing")
