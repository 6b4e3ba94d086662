# SPDX-License-Identifier: Apache-2.0
"""The archives of ``docker save`` and ``docker load`` (``docker-archive:``).

Reading knows three shapes, without unpacking any:

* Docker 25 and later: an OCI layout with a ``manifest.json`` beside it. Documents are taken from the layout as they
  are, with their digests.
* Docker 1.10 to 24, skopeo, podman: ``manifest.json`` names a config and plain layer tars. There is no manifest, so
  one is made: Docker's schema 2 with layers of type ``application/vnd.docker.image.rootfs.diff.tar`` (skopeo makes the
  same bytes but calls plain layers gzip, which they are not). Layer digests are the config's ``diff_ids``, and are
  checked as they are read.
* crane, Bazel, kaniko: the same with gzip-compressed layers. They are hashed once, checked against ``diff_ids``, and
  keep the compressed bytes, so the digests of a registry survive the way through an archive.

Writing gives what every engine from Docker 1.10 on can load: plain layers (compressed ones are inflated, since old
engines need that), one platform per name. The file is replaced whole; the same images give the same bytes.
"""

from __future__ import annotations

import json
import os
import threading
from io import BytesIO
from typing import TYPE_CHECKING

from manyfest.content.descriptor import Descriptor
from manyfest.content.digest import Digest
from manyfest.content.document import Document, ImageConfig
from manyfest.content.mediatypes import (
    DOCKER_CONFIG,
    DOCKER_LAYER,
    DOCKER_MANIFEST,
    OCI_LAYER_ZSTD,
)
from manyfest.errors import InvalidDocument, InvalidReference, NotFound, Unsupported
from manyfest.stores._dockersave import (
    MANIFEST,
    MAX_CONFIG,
    check_diff_id,
    familiar,
    key_of,
    refuse_index,
    write_docker_archive,
)
from manyfest.stores._entries import CONTAINERD_NAME
from manyfest.stores._inflate import Inflated, kind_of
from manyfest.stores._staging import Staging
from manyfest.stores._tar import TarTable
from manyfest.stores.archive import ArchiveReader, check_target
from manyfest.stores.base import CHUNK, HasTags, Source, Store, chunks, put_bytes
from manyfest.stores.layout import INDEX, MARKER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from manyfest.stores.base import Opener, Readable

__all__ = ["DOCKER_LAYER_PLAIN", "DockerArchive", "DockerArchiveStore"]

DOCKER_LAYER_PLAIN = "application/vnd.docker.image.rootfs.diff.tar"

MAX_MANIFEST = 16 * 1024 * 1024
"""Bytes of ``manifest.json``: some ten thousand images."""


class _Image:
    """One entry of ``manifest.json``."""

    def __init__(self, fields: object, place: str) -> None:
        if not isinstance(fields, dict):
            raise InvalidDocument(f"{place}: {MANIFEST}: an image must be an object, got {fields!r:.80}")
        self.config = _text(fields.get("Config"), "Config", place)
        self.names = _texts(fields.get("RepoTags") or [], "RepoTags", place)
        self.layers = _texts(fields.get("Layers") or [], "Layers", place)
        self.document: Document | None = None


class DockerArchive(Source, HasTags):
    """Reading an archive. Names are ``NAME:TAG``, ``@N`` (the image at that place, from 0), digests and image ids."""

    def __init__(self, path: str, *, place: str = "") -> None:
        """Raises :class:`NotFound`, :class:`InvalidDocument` or :class:`Unsupported`."""
        self.path = path
        self.place = place or f"docker-archive:{path}"
        self._lock = threading.Lock()
        self._blobs: dict[Digest, tuple[str, int]] = {}
        self._images: list[_Image] = []
        self._layout: ArchiveReader | None = None
        self._table = TarTable(path, self.place)
        try:
            self._read_tables()
        except BaseException:
            self._table.close()
            raise

    def resolve(self, name: str) -> Document:
        """See :meth:`Source.resolve`."""
        if self._layout is not None:
            return self._resolve_in_layout(self._layout, name)
        return self._made(self._find(name))

    def exists(self, descriptor: Descriptor) -> bool:
        """See :meth:`Source.exists`."""
        if self._layout is not None:
            return self._layout.exists(descriptor)
        return (
            self._member(descriptor.digest) is not None or self._by_digest(str(descriptor.digest)) is not None
        )

    def open(self, descriptor: Descriptor, offset: int = 0) -> Readable:
        """See :meth:`Source.open`."""
        if self._layout is not None:
            return self._layout.open(descriptor, offset)
        found = self._member(descriptor.digest)
        if found is None:
            image = self._by_digest(str(descriptor.digest))
            if image is None:
                raise NotFound(f"{self.place}: no content {descriptor.digest}")
            return BytesIO(self._made(image).raw[offset:])
        stream = self._table.open(found[0])
        assert stream is not None  # It was there when the table was made.
        stream.skip(offset)
        return stream

    def tags(self) -> Iterator[str]:
        """Every ``NAME:TAG``, as people write it."""
        if self._layout is None:
            return iter(dict.fromkeys(familiar(name) for image in self._images for name in image.names))
        named = [d.annotations.get(CONTAINERD_NAME, "") for d in self._layout.entries()]
        return iter(dict.fromkeys(familiar(name) for name in named if name) or self._layout.tags())

    def close(self) -> None:
        """Close the file."""
        self._table.close()

    def _read_tables(self) -> None:
        if self._table.size(MARKER) is not None and self._table.size(INDEX) is not None:
            self._layout = ArchiveReader(self._table, self.place)
            return
        if self._table.size(MANIFEST) is None:
            old = self._table.size("repositories") is not None
            raise Unsupported(
                f"{self.place}: the archive has no {MANIFEST}",
                hint="saved by a Docker older than 1.10: load it into an engine and save it again"
                if old
                else "expected what docker save writes",
            )
        try:
            entries = json.loads(self._table.read(MANIFEST, MAX_MANIFEST))
        except (ValueError, RecursionError) as error:
            raise InvalidDocument(f"{self.place}: {MANIFEST} is not JSON: {error}") from error
        if not isinstance(entries, list):
            raise InvalidDocument(f"{self.place}: {MANIFEST} must be a list, got {type(entries).__name__}")
        self._images = [_Image(entry, self.place) for entry in entries]

    def _resolve_in_layout(self, layout: ArchiveReader, name: str) -> Document:
        if not name.startswith("@"):
            return layout.resolve(name)
        entries = layout.entries().descriptors
        entry = entries[_position(name, len(entries), self.place)]
        return layout.resolve(str(entry.digest))

    def _find(self, name: str) -> _Image:
        if not name:
            return self._only()
        if name.startswith("@"):
            return self._images[_position(name, len(self._images), self.place)]
        for image in self._images:
            if name in image.names or any(_is_same(name, other) for other in image.names):
                return image
        found = self._by_digest(name)
        if found is None:
            raise NotFound(f"{self.place}: no {name!r}", hint=f"it holds {self._described()}")
        return found

    def _only(self) -> _Image:
        if len({image.config for image in self._images}) == 1:
            return self._images[0]
        raise NotFound(
            f"{self.place}: holds {len(self._images)} images, expected one or a name",
            hint=f"name one of: {self._described()}",
        )

    def _described(self) -> str:
        return ", ".join(" ".join(i.names) or f"@{at}" for at, i in enumerate(self._images)) or "nothing"

    def _by_digest(self, name: str) -> _Image | None:
        """The image of a manifest's digest or of an image id, which is its config's digest."""
        if not name.startswith("sha256:"):
            return None
        for image in self._images:
            document = self._made(image)
            if name in (str(document.digest), str(document.manifest.config.digest)):
                return image
        return None

    def _member(self, digest: Digest) -> tuple[str, int] | None:
        if digest not in self._blobs:
            for image in self._images:
                self._made(image)
        return self._blobs.get(digest)

    def _made(self, image: _Image) -> Document:
        """The manifest that the image would have."""
        with self._lock:
            if image.document is None:
                image.document = self._make(image)
            return image.document

    def _make(self, image: _Image) -> Document:
        raw = self._table.read(image.config, MAX_CONFIG)
        config = Descriptor.of(raw, DOCKER_CONFIG)
        diff_ids = ImageConfig(raw).diff_ids
        if len(diff_ids) != len(image.layers):
            raise InvalidDocument(
                f"{self.place}: {image.config} tells of {len(diff_ids)} layers, {MANIFEST} of {len(image.layers)}"
            )
        self._blobs[config.digest] = (image.config, config.size)
        layers = []
        for name, diff_id in zip(image.layers, diff_ids, strict=True):
            layer = self._layer(name, diff_id)
            self._blobs[layer.digest] = (name, layer.size)
            layers.append(layer)
        fields = {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST,
            "config": _schema2(config),
            "layers": [_schema2(layer) for layer in layers],
        }
        return Document(DOCKER_MANIFEST, json.dumps(fields, separators=(",", ":")).encode())

    def _layer(self, name: str, diff_id: Digest) -> Descriptor:
        stream, size = self._table.open(name), self._table.size(name)
        if stream is None or size is None:
            raise InvalidDocument(f"{self.place}: {MANIFEST} names {name}, which the archive has not")
        kind = kind_of(stream.read(16))
        if not kind:
            return Descriptor(DOCKER_LAYER_PLAIN, diff_id, size)
        again = self._table.open(name)
        assert again is not None
        packed = _Hashed(again)
        check_diff_id(Inflated(packed, self.place), diff_id, f"{self.place}: {name}")
        return Descriptor(DOCKER_LAYER if kind == "gzip" else OCI_LAYER_ZSTD, packed.digest(), size)


class DockerArchiveStore(Store, HasTags):
    """Writing an archive. It replaces the file when something is first tagged, as ``docker save -o`` does.

    What is read back is what was put into this object; open the file with :class:`DockerArchive` to see what it
    holds. An index is refused with :class:`Unsupported`, as is what is no image.
    """

    def __init__(self, path: str, *, place: str = "") -> None:
        """Raises :class:`NotFound` or :class:`Unsupported` if no file can be written there."""
        self.place = place or f"docker-archive:{path}"
        self.path = check_target(path, self.place)
        self._lock = threading.Lock()
        self._staging = Staging(os.path.dirname(self.path), self.place)
        self._names: dict[str, Document] = {}

    def resolve(self, name: str) -> Document:
        """See :meth:`Source.resolve`."""
        if name.startswith("sha256:") and self._staging.started is not None:
            return self._staging.started.resolve(name)
        found = self._names.get(key_of(name)) or self._only(name)
        if found is not None:
            return found
        there = ", ".join(self.tags()) or "nothing"
        raise NotFound(f"{self.place}: no {name!r}", hint=f"what was written so far is {there}")

    def _only(self, name: str) -> Document | None:
        images = {document.digest: document for document in self._names.values()}
        return next(iter(images.values())) if not name and len(images) == 1 else None

    def exists(self, descriptor: Descriptor) -> bool:
        """See :meth:`Source.exists`."""
        started = self._staging.started
        return started is not None and started.exists(descriptor)

    def open(self, descriptor: Descriptor, offset: int = 0) -> Readable:
        """See :meth:`Source.open`."""
        if self._staging.started is None:
            raise NotFound(f"{self.place}: no content {descriptor.digest}")
        return self._staging.started.open(descriptor, offset)

    def put(self, descriptor: Descriptor, content: Opener) -> None:
        """See :meth:`Store.put`."""
        refuse_index(descriptor.media_type, self.place)
        self._staging.layout.put(descriptor, content)

    def tag(self, document: Document, name: str) -> None:
        """See :meth:`Store.tag`. ``name`` is ``NAME:TAG``; ``""`` leaves the image without one. Writes the archive."""
        refuse_index(document.media_type, self.place)
        key = key_of(name)
        put_bytes(self._staging.layout, document.descriptor, document.raw)
        with self._lock:
            names = {**self._names, key: document}
            write_docker_archive(self.path, self.place, names, self._staging)
            self._names = names

    def tags(self) -> Iterator[str]:
        """Every ``NAME:TAG`` written."""
        return iter([familiar(name) for name in self._names if name])

    def close(self) -> None:
        """Remove temporary files; what was tagged is in the archive."""
        self._staging.close()


class _Hashed:
    """A stream that hashes what goes through."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._hash = Digest.of(b"").hasher()

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        self._hash.update(data)
        return data

    def digest(self) -> Digest:
        """Of all that was read, after reading the rest."""
        for _ in chunks(self, CHUNK):
            pass
        return Digest("sha256", self._hash.hexdigest())

    def close(self) -> None:
        self._stream.close()


def _schema2(descriptor: Descriptor) -> dict[str, Any]:
    """Fields in the order of Docker's own type."""
    return {"mediaType": descriptor.media_type, "size": descriptor.size, "digest": str(descriptor.digest)}


def _is_same(name: str, other: str) -> bool:
    try:
        return key_of(name) == key_of(other) != ""
    except InvalidReference:
        return False


def _position(name: str, count: int, place: str) -> int:
    digits = name[1:]
    if not digits.isdecimal():
        raise InvalidReference(f"{name!r}: expected @ and a number, such as @0")
    if int(digits) >= count:
        raise NotFound(f"{place}: no image {name}", hint=f"it holds {count}, counted from @0")
    return int(digits)


def _text(value: object, key: str, place: str) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidDocument(f"{place}: {MANIFEST}: {key} must be text, got {value!r:.80}")
    return value


def _texts(value: object, key: str, place: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise InvalidDocument(f"{place}: {MANIFEST}: {key} must be a list of texts, got {value!r:.80}")
    return list(value)
