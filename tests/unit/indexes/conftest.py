# SPDX-License-Identifier: Apache-2.0
"""Tiny images in memory."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from manyfest.content import mediatypes as types
from manyfest.content.descriptor import Descriptor
from manyfest.content.document import Document
from manyfest.platforms import Platform
from manyfest.stores.base import put_bytes
from manyfest.stores.memory import Memory

MakeImage = Callable[..., Document]


def _image(
    store: Memory, platform: str, tag: str = "", *, content: bytes = b"layer", docker: bool = False
) -> Document:
    parsed = Platform.parse(platform) if platform else None
    stated = parsed.to_json() if parsed is not None else {}
    config = json.dumps({**stated, "rootfs": {"type": "layers", "diff_ids": []}}).encode()
    config_at = Descriptor.of(config, types.DOCKER_CONFIG if docker else types.OCI_CONFIG)
    layer_at = Descriptor.of(content, types.DOCKER_LAYER if docker else types.OCI_LAYER)
    put_bytes(store, config_at, config)
    put_bytes(store, layer_at, content)
    media_type = types.DOCKER_MANIFEST if docker else types.OCI_MANIFEST
    fields = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": config_at.to_json(),
        "layers": [layer_at.to_json()],
    }
    document = Document(media_type, json.dumps(fields).encode())
    put_bytes(store, document.descriptor, document.raw)
    if tag:
        store.tag(document, tag)
    return document


def attestation_of(store: Memory, image: Descriptor) -> Descriptor:
    """An attestation manifest as BuildKit attaches it."""
    empty = Descriptor.of(b"{}", types.OCI_CONFIG)
    put_bytes(store, empty, b"{}")
    statement = f'{{"about": "{image.digest}"}}'.encode()
    layer = Descriptor.of(statement, "application/vnd.in-toto+json")
    put_bytes(store, layer, statement)
    fields = {
        "schemaVersion": 2,
        "mediaType": types.OCI_MANIFEST,
        "config": empty.to_json(),
        "layers": [layer.to_json()],
    }
    document = Document(types.OCI_MANIFEST, json.dumps(fields).encode())
    put_bytes(store, document.descriptor, document.raw)
    return document.descriptor.with_platform(Platform("unknown", "unknown")).with_annotations(
        {
            "vnd.docker.reference.type": "attestation-manifest",
            "vnd.docker.reference.digest": str(image.digest),
        }
    )


@pytest.fixture
def make_image() -> MakeImage:
    """``make_image(store, "linux/arm64", "tag")``."""
    return _image


@pytest.fixture
def attest() -> Callable[[Memory, Descriptor], Descriptor]:
    """``attest(store, descriptor)``."""
    return attestation_of
