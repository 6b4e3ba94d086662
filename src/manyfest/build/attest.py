# SPDX-License-Identifier: Apache-2.0
"""Attestations: what is in an image and how it was built, attached to the index as BuildKit attaches them.

Each image gets one more entry of the index: a manifest for ``unknown/unknown``, annotated with the image's digest,
whose layers are in-toto statements (https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md). Who copies
the index copies them; engines never take that platform.

https://docs.docker.com/build/metadata/attestations/attestation-storage/
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from manyfest.content import mediatypes
from manyfest.content.descriptor import Descriptor
from manyfest.content.digest import Digest
from manyfest.content.document import Document
from manyfest.errors import InputError
from manyfest.platforms import Platform
from manyfest.values import Value

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

__all__ = ["IN_TOTO", "Attest", "Statement", "attach", "statement"]

IN_TOTO = "application/vnd.in-toto+json"
_STATEMENT = "https://in-toto.io/Statement/v1"
_PREDICATE_TYPE = "in-toto.io/predicate-type"
_UNKNOWN = Platform("unknown", "unknown")
_MODES = {"true": "max", "false": "", "max": "max", "min": "min", "mode=max": "max", "mode=min": "min"}


class Attest(Value):
    """What to attest. ``provenance``: empty, ``min`` (no values) or ``max``; ``builder_id``: a URI of who builds."""

    __slots__ = ("builder_id", "provenance", "sbom")
    builder_id: str
    provenance: str
    sbom: bool

    def __init__(self, provenance: str = "", *, sbom: bool = False, builder_id: str = "") -> None:
        self._set(provenance=provenance, sbom=sbom, builder_id=builder_id)

    def __bool__(self) -> bool:
        return bool(self.provenance) or self.sbom

    @classmethod
    def parse(cls, provenance: str, sbom: str) -> Attest:
        """From ``docker buildx build``'s words: ``mode=max,builder-id=URI``, ``true``. Raises :class:`InputError`."""
        mode, builder_id = "", ""
        words = [word.strip() for word in provenance.split(",") if word.strip()]
        for word in words:
            key, _, value = word.partition("=")
            if word in _MODES:
                mode = _MODES[word]
            elif key == "builder-id" and value:
                mode, builder_id = mode or "max", value
            elif word != "version=v1":
                raise InputError(
                    f"provenance {provenance!r}: {word!r} is not known",
                    hint="true, false, mode=min, mode=max, builder-id=URI, separated by commas",
                )
        if sbom not in ("", "true", "false"):
            raise InputError(
                f"sbom {sbom!r}: expected true or false",
                hint="a folder goes before the option, or write --sbom=true; scanners of others are not run",
            )
        return cls(mode, sbom=sbom == "true", builder_id=builder_id)


class Statement(Value):
    """An in-toto statement as bytes."""

    __slots__ = ("predicate_type", "raw")
    predicate_type: str
    raw: bytes

    def __init__(self, predicate_type: str, raw: bytes) -> None:
        self._set(predicate_type=predicate_type, raw=raw)

    @property
    def descriptor(self) -> Descriptor:
        """As a layer of an attestation manifest."""
        made = Descriptor.of(self.raw, IN_TOTO)
        return made.with_annotations({_PREDICATE_TYPE: self.predicate_type})


def statement(image: Document, predicate_type: str, predicate: dict[str, Any]) -> Statement:
    """A predicate about an image. The image has no name in it: wherever it is pushed, it is the same."""
    digest = image.digest
    fields = {
        "_type": _STATEMENT,
        "predicateType": predicate_type,
        "subject": [{"name": "_", "digest": {digest.algorithm: digest.hex}}],
        "predicate": predicate,
    }
    return Statement(predicate_type, _encoded(fields))


def attach(image: Document, statements: Sequence[Statement]) -> tuple[Document, Descriptor, bytes]:
    """The attestation manifest of an image, its entry in the index, and its configuration."""
    layers = [each.descriptor for each in statements]
    config = _encoded(
        {
            "architecture": "unknown",
            "os": "unknown",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(each.raw)) for each in statements]},
        }
    )
    manifest = {
        "schemaVersion": 2,
        "mediaType": mediatypes.OCI_MANIFEST,
        "config": Descriptor.of(config, mediatypes.OCI_CONFIG).to_json(),
        "layers": [layer.to_json() for layer in layers],
    }
    document = Document(mediatypes.OCI_MANIFEST, _encoded(manifest))
    annotations = {
        "vnd.docker.reference.digest": str(image.digest),
        "vnd.docker.reference.type": "attestation-manifest",
    }
    entry = document.descriptor.with_annotations(annotations).with_platform(_UNKNOWN)
    return document, entry, config


def _encoded(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
