# SPDX-License-Identifier: Apache-2.0
"""The archives of ``docker save`` and ``docker load`` (``docker-archive:``).

Reading knows three shapes, without unpacking any:

* Docker 25 and later: an OCI layout with a ``manifest.json`` beside it. Documents are taken from the layout as they
  are, with their digests.
* Docker 1.10 to 24, skopeo, podman: ``manifest.json`` names a config and plain layer tars. There is no manifest, so
  one is made: Docker's schema 2 with layers of type ``application/vnd.docker.image.rootfs.diff.tar``, the bytes that
  skopeo makes, so both arrive at the same digest. Layer digests are the config's ``diff_ids``, and are checked as they
  are read.
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
    is_config,
    is_foreign,
    is_index,
)
from manyfest.errors import DigestMismatch, InvalidDocument, InvalidReference, NotFound, Unsupported
from manyfest.reference import Reference
from manyfest.stores._entries import CONTAINERD_NAME
from manyfest.stores._files import Part, translated
from manyfest.stores._inflate import Inflated, is_compressed, kind_of
from manyfest.stores._staging import Staging
from manyfest.stores._tar import TarTable, TarWriter, write_tar
from manyfest.stores.archive import ArchiveReader, check_target
from manyfest.stores.base import CHUNK, HasTags, Source, Store, chunks, put_bytes, read
from manyfest.stores.layout import INDEX, MARKER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from manyfest.stores.base import Opener, Readable
    from manyfest.stores.layout import Layout

__all__ = ["DOCKER_LAYER_PLAIN", "DockerArchive", "DockerArchiveStore", "write_docker_archive"]

DOCKER_LAYER_PLAIN = "application/vnd.docker.image.rootfs.diff.tar"

MANIFEST = "manifest.json"
MAX_MANIFEST = 16 * 1024 * 1024
MAX_CONFIG = 8 * 1024 * 1024
_CREATED = "1970-01-01T00:00:00Z"


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
            return iter(dict.fromkeys(_familiar(name) for image in self._images for name in image.names))
        named = [d.annotations.get(CONTAINERD_NAME, "") for d in self._layout.entries()]
        return iter(dict.fromkeys(_familiar(name) for name in named if name) or self._layout.tags())

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
        _check_diff_id(Inflated(packed, self.place), diff_id, f"{self.place}: {name}")
        return Descriptor(DOCKER_LAYER if kind == "gzip" else OCI_LAYER_ZSTD, packed.digest(), size)


class DockerArchiveStore(Store, HasTags):
    """Writing an archive. It replaces the file when something is first tagged, as ``docker save -o`` does.

    What is read back is what was put into this object; open the file with :class:`DockerArchive` to see what it
    holds. An index is refused with :class:`Unsupported`, as is what is no image.
    """

    def __init__(self, path: str, *, place: str = "") -> None:
        """Raises :class:`NotFound` or :class:`Unsupported` if no file can be written there."""
        self.path = path
        self.place = place or f"docker-archive:{path}"
        check_target(path, self.place)
        self._lock = threading.Lock()
        self._staging = Staging(os.path.dirname(path) or ".", self.place)
        self._names: dict[str, Document] = {}

    def resolve(self, name: str) -> Document:
        """See :meth:`Source.resolve`."""
        if name.startswith("sha256:") and self._staging.started is not None:
            return self._staging.started.resolve(name)
        found = self._names.get(_key(name)) or self._only(name)
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
        key = _key(name)
        put_bytes(self._staging.layout, document.descriptor, document.raw)
        with self._lock:
            names = {**self._names, key: document}
            write_docker_archive(self.path, self.place, names, self._staging)
            self._names = names

    def tags(self) -> Iterator[str]:
        """Every ``NAME:TAG`` written."""
        return iter([_familiar(name) for name in self._names if name])

    def close(self) -> None:
        """Remove temporary files; what was tagged is in the archive."""
        self._staging.close()


def refuse_index(media_type: str, place: str) -> None:
    """Raises :class:`Unsupported` for what has several platforms."""
    if is_index(media_type):
        raise Unsupported(
            f"{place}: holds one platform per name, got an index of several",
            hint="choose one with --platform, for example --platform linux/arm64",
        )


def write_docker_archive(path: str, place: str, names: Mapping[str, Document], staging: Staging) -> None:
    """Write an archive of images whose content is staged. Keys are ``NAME:TAG`` or ``""``."""
    images: dict[Digest, tuple[Document, list[str]]] = {}
    for name, document in names.items():
        _, known = images.setdefault(document.digest, (document, []))
        if name:
            known.append(_familiar(name))
    outgoing = [_Outgoing(document, tags, staging, place) for document, tags in images.values()]
    small: dict[str, bytes] = {
        MANIFEST: _packed([image.entry() for image in outgoing]),
        "repositories": _packed(_repositories(outgoing)),
    }
    large: dict[str, str] = {}
    links: dict[str, str] = {}
    for image in outgoing:
        small[f"{image.config.digest.hex}.json"] = image.raw_config
        image.add_layers(small, large, links)

    def fill(tar: TarWriter) -> None:
        for name in sorted({*small, *large, *links}):
            if name in small:
                tar.add(name, len(small[name]), BytesIO(small[name]))
            elif name in large:
                tar.add(name, os.path.getsize(large[name]), open(large[name], "rb"))  # noqa: SIM115 - add closes it
            else:
                tar.link(name, links[name])

    write_tar(path, place, fill)


class _Outgoing:
    """One image on its way into an archive."""

    def __init__(self, document: Document, names: list[str], staging: Staging, place: str) -> None:
        self.names = names
        self._place = place
        layout = staging.layout
        manifest = document.manifest
        if not is_config(manifest.config.media_type):
            raise Unsupported(
                f"{place}: {document.digest} is no image that runs (its config is {manifest.config.media_type})",
                hint="copy artifacts to a registry, oci:DIR or oci-archive:FILE",
            )
        self.config = manifest.config
        self.raw_config = read(layout, manifest.config, MAX_CONFIG)
        self.diff_ids = ImageConfig(self.raw_config).diff_ids
        if len(self.diff_ids) != len(manifest.layers):
            raise InvalidDocument(
                f"{place}: the config of {document.digest} tells of {len(self.diff_ids)} layers, "
                f"the manifest of {len(manifest.layers)}"
            )
        pairs = zip(manifest.layers, self.diff_ids, strict=True)
        self.files = [_plain_layer(layout, staging, layer, diff_id, place) for layer, diff_id in pairs]
        self.ids = _layer_ids(self.diff_ids)

    def entry(self) -> dict[str, Any]:
        """For ``manifest.json``."""
        first = self._first_ids()
        return {
            "Config": f"{self.config.digest.hex}.json",
            "RepoTags": self.names or None,
            "Layers": [f"{first[diff_id]}/layer.tar" for diff_id in self.diff_ids],
        }

    def add_layers(self, small: dict[str, bytes], large: dict[str, str], links: dict[str, str]) -> None:
        """The folder of each layer, with the two files that Docker before 1.10 reads."""
        first = self._first_ids()
        for at, (layer_id, diff_id, file) in enumerate(zip(self.ids, self.diff_ids, self.files, strict=True)):
            described: dict[str, Any] = {"id": layer_id, "created": _CREATED}
            if at:
                described["parent"] = self.ids[at - 1]
            small[f"{layer_id}/VERSION"] = b"1.0"
            small[f"{layer_id}/json"] = _packed(described)
            if first[diff_id] == layer_id:
                large[f"{layer_id}/layer.tar"] = file
            else:
                links[f"{layer_id}/layer.tar"] = f"../{first[diff_id]}/layer.tar"

    def _first_ids(self) -> dict[Digest, str]:
        """A layer that comes twice (an empty one does) is stored once."""
        first: dict[Digest, str] = {}
        for layer_id, diff_id in zip(self.ids, self.diff_ids, strict=True):
            first.setdefault(diff_id, layer_id)
        return first


def _plain_layer(layout: Layout, staging: Staging, layer: Descriptor, diff_id: Digest, place: str) -> str:
    """The path of the layer's plain tar: the blob itself, or what it inflates to."""
    if is_foreign(layer.media_type) and not layout.exists(layer):
        raise Unsupported(
            f"{place}: layer {layer.digest} is only to be had from {', '.join(layer.urls) or 'elsewhere'}"
        )
    stream = layout.open(layer)
    try:
        compressed = is_compressed(stream.read(16))
    finally:
        stream.close()
    if not compressed:
        if layer.digest != diff_id:
            raise _wrong_diff_id(f"{place}: layer {layer.digest}", diff_id, layer.digest)
        return layout.blob_path(layer.digest)
    target = staging.scratch(f"{diff_id.hex}.tar")
    if not os.path.exists(target):
        inflated = Inflated(layout.open(layer), place)
        with translated(place, "inflating a layer", writing=True), Part(layout.path, durable=False) as part:
            _check_diff_id(inflated, diff_id, f"{place}: layer {layer.digest}", part)
            part.commit(target)
    return target


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


def _check_diff_id(plain: Readable, diff_id: Digest, what: str, part: Part | None = None) -> None:
    """Read a layer to its end, writing it too; raises :class:`DigestMismatch` if it is not ``diff_id``."""
    hasher = diff_id.hasher()
    try:
        for chunk in chunks(plain):
            hasher.update(chunk)
            if part is not None:
                part.write(chunk)
    finally:
        plain.close()
    got = Digest(diff_id.algorithm, hasher.hexdigest())
    if got != diff_id:
        raise _wrong_diff_id(what, diff_id, got)


def _wrong_diff_id(what: str, expected: Digest, got: Digest) -> DigestMismatch:
    return DigestMismatch(
        f"{what}: the config expects content {expected}, got {got}",
        hint="config and layers are not of one image; save or push it again",
    )


def _layer_ids(diff_ids: tuple[Digest, ...]) -> list[str]:
    """Ids as Docker before 1.10 wants them: each stands for a layer and all below it."""
    ids: list[str] = []
    for diff_id in diff_ids:
        parent = ids[-1] if ids else ""
        ids.append(Digest.of(f"{parent} {diff_id}".encode()).hex)
    return ids


def _repositories(images: list[_Outgoing]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for image in images:
        for name in image.names:
            repository, _, tag = name.rpartition(":")
            if image.ids:
                found.setdefault(repository, {})[tag] = image.ids[-1]
    return found


def _packed(fields: object) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


def _schema2(descriptor: Descriptor) -> dict[str, Any]:
    """Fields in the order of Docker's own type, which is what skopeo writes."""
    return {"mediaType": descriptor.media_type, "size": descriptor.size, "digest": str(descriptor.digest)}


def _key(name: str) -> str:
    """The full name with its tag; ``""`` stays. Raises :class:`InvalidReference`."""
    if not name or name.startswith("sha256:"):
        return ""
    reference = Reference.parse(name)
    if reference.digest:
        raise InvalidReference(f"{name!r}: an archive's images have a NAME:TAG, not a digest")
    return str(reference.with_tag(reference.tag or "latest"))


def _familiar(name: str) -> str:
    try:
        reference = Reference.parse(name)
    except InvalidReference:
        return name
    return reference.with_tag(reference.tag or "latest").familiar


def _is_same(name: str, other: str) -> bool:
    try:
        return _key(name) == _key(other) != ""
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
