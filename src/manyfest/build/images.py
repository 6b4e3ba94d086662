# SPDX-License-Identifier: Apache-2.0
"""The configuration and the manifest of one platform's image.

https://github.com/opencontainers/image-spec/blob/v1.1.1/config.md and manifest.md beside it; annotations.md for what is
said of the base.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from manyfest.build.assemble import timestamp
from manyfest.content import mediatypes
from manyfest.content.descriptor import Descriptor
from manyfest.content.document import Document
from manyfest.errors import BuildError
from manyfest.stores.places import Place

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from manyfest.build.assemble import Result
    from manyfest.build.bases import Base
    from manyfest.build.built import Built
    from manyfest.build.engines import Made
    from manyfest.build.layer import Layer
    from manyfest.build.options import Options
    from manyfest.platforms import Platform

__all__ = ["Images"]

_BASE_NAME = "org.opencontainers.image.base.name"
_BASE_DIGEST = "org.opencontainers.image.base.digest"

_FOREIGN_LAYERS = {
    mediatypes.DOCKER_LAYER: mediatypes.OCI_LAYER_GZIP,
    mediatypes.OCI_LAYER_GZIP: mediatypes.DOCKER_LAYER,
}


class Images:
    """Makes the documents of a build's images, as its options want them, and notes them in ``built``."""

    def __init__(self, options: Options, built: Built) -> None:
        self._options = options
        self._built = built

    def assembled(self, platform: Platform, result: Result, layers: list[Layer]) -> Document:
        """Of what was assembled here, with ``layers`` over those of its base."""
        base = result.base
        config = self._settings(result.config)
        below = list(base.config.diff_ids) if base is not None else []
        fields = {
            "created": timestamp(self._options.epoch),
            **{k: v for k, v in result.fields.items() if k in ("author", "os.features")},
            "architecture": platform.architecture,
            "os": platform.os,
            **({"variant": platform.variant} if platform.variant else {}),
            **{k: v for k, v in result.fields.items() if k == "os.version"},
            "config": config,
            "rootfs": {
                "type": "layers",
                "diff_ids": [str(d) for d in (*below, *(x.diff_id for x in layers))],
            },
            "history": result.history,
        }
        return self._noted(platform, fields, base, layers)

    def taken(self, platform: Platform, made: Made) -> Document:
        """Of an engine's image. It knows nothing of our variants: a base for arm/v6 may serve arm/v7."""
        fields = {
            **made.fields,
            "architecture": platform.architecture,
            "os": platform.os,
            **({"variant": platform.variant} if platform.variant else {}),
            "config": self._settings(
                {k: v for k, v in made.fields["config"].items() if v not in ("", False)}
            ),
        }
        return self._noted(platform, fields, made.base, list(made.layers), made.below)

    def _settings(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """An image's settings without empty ones, with the labels that were asked for."""
        config = {k: v for k, v in settings.items() if v not in (None, {}, [])}
        if self._options.labels:
            config["Labels"] = {**(config.get("Labels") or {}), **dict(self._options.labels)}
        return config

    def _noted(
        self,
        platform: Platform,
        fields: Mapping[str, Any],
        base: Base | None,
        layers: Sequence[Layer],
        below: int | None = None,
    ) -> Document:
        """The manifest over a configuration. ``below``: how many layers are the base's, by default all it has."""
        docker = self._options.type == "docker"
        raw = _encoded(fields)
        config_type = mediatypes.DOCKER_CONFIG if docker else mediatypes.OCI_CONFIG
        own = base.layers[:below] if base is not None else ()
        stored = [self._base_layer(each, base.name) for each in own] if base is not None else []
        manifest: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": mediatypes.DOCKER_MANIFEST if docker else mediatypes.OCI_MANIFEST,
            "config": Descriptor.of(raw, config_type).to_json(),
            "layers": [each.to_json() for each in (*stored, *(x.descriptor for x in layers))],
        }
        annotations = dict(self._options.annotations)
        if base is not None:
            annotations.update(_base_annotations(base))
        if annotations and not docker:
            manifest["annotations"] = annotations
        document = Document(manifest["mediaType"], _encoded(manifest))
        sources = {} if base is None else {layer.digest: base.source for layer in own}
        self._built.note(document, platform, raw, sources)
        return document

    def _base_layer(self, layer: Descriptor, name: str) -> Descriptor:
        """A base's layer under the media type that goes with this image: the bytes are the same."""
        wanted_docker = self._options.type == "docker"
        if mediatypes.is_docker(layer.media_type) == wanted_docker:
            return layer.bare()
        other = _FOREIGN_LAYERS.get(layer.media_type)
        if other is None:
            raise BuildError(
                f"{name}: a layer of type {layer.media_type} in {self._options.type} format",
                hint=f"build with --type {'oci' if wanted_docker else 'docker'}",
            )
        return Descriptor(other, layer.digest, layer.size)


def _base_annotations(base: Base) -> dict[str, str]:
    """Its digest, and its name if others can reach it under that: a path of this machine is nobody's business."""
    found = {_BASE_DIGEST: str(base.document.digest)}
    place = Place.parse(base.name)
    if place.transport == "docker":
        reference = place.reference
        found[_BASE_NAME] = str(reference if reference.digest else reference.with_tag(reference.target))
    return dict(sorted(found.items(), reverse=True))


def _encoded(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
