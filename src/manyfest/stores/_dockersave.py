# SPDX-License-Identifier: Apache-2.0
"""Writing what ``docker load`` takes, from images whose content is staged. See :mod:`manyfest.stores.dockerarchive`."""

from __future__ import annotations

import json
import os
from io import BytesIO
from typing import TYPE_CHECKING

from manyfest.content.digest import Digest
from manyfest.content.document import Document, ImageConfig
from manyfest.content.mediatypes import is_config, is_foreign, is_index
from manyfest.errors import DigestMismatch, InvalidDocument, InvalidReference, Unsupported
from manyfest.reference import Reference
from manyfest.stores._files import Part, translated
from manyfest.stores._inflate import Inflated, is_compressed
from manyfest.stores._tar import TarWriter, write_tar
from manyfest.stores.base import chunks, read

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from manyfest.content.descriptor import Descriptor
    from manyfest.stores._staging import Staging
    from manyfest.stores.base import Readable
    from manyfest.stores.layout import Layout

__all__ = [
    "MANIFEST",
    "MAX_CONFIG",
    "check_diff_id",
    "familiar",
    "key_of",
    "refuse_index",
    "write_docker_archive",
]

MANIFEST = "manifest.json"
MAX_CONFIG = 8 * 1024 * 1024
"""Bytes of an image's config."""

_CREATED = "1970-01-01T00:00:00Z"


def key_of(name: str) -> str:
    """The full name with its tag; ``""`` stays. Raises :class:`InvalidReference`."""
    if not name or name.startswith("sha256:"):
        return ""
    reference = Reference.parse(name)
    if reference.digest:
        raise InvalidReference(f"{name!r}: an archive's images have a NAME:TAG, not a digest")
    return str(reference.with_tag(reference.tag or "latest"))


def familiar(name: str) -> str:
    try:
        reference = Reference.parse(name)
    except InvalidReference:
        return name
    return reference.with_tag(reference.tag or "latest").familiar


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
            known.append(familiar(name))
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
            check_diff_id(inflated, diff_id, f"{place}: layer {layer.digest}", part)
            part.commit(target)
    return target


def check_diff_id(plain: Readable, diff_id: Digest, what: str, part: Part | None = None) -> None:
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
