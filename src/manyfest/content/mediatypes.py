# SPDX-License-Identifier: Apache-2.0
"""Media types of the two families, and what kind of content each names.

https://github.com/opencontainers/image-spec/blob/v1.1.1/media-types.md and
https://distribution.github.io/distribution/spec/manifest-v2-2/
"""

from __future__ import annotations

__all__ = [
    "DOCKER_CONFIG",
    "DOCKER_FOREIGN_LAYER",
    "DOCKER_LAYER",
    "DOCKER_LIST",
    "DOCKER_MANIFEST",
    "DOCKER_SCHEMA1",
    "DOCKER_SCHEMA1_SIGNED",
    "DOCUMENTS",
    "INDEXES",
    "MANIFESTS",
    "OCI_CONFIG",
    "OCI_EMPTY",
    "OCI_INDEX",
    "OCI_LAYER",
    "OCI_LAYER_GZIP",
    "OCI_LAYER_ZSTD",
    "OCI_MANIFEST",
    "SCHEMA1",
    "is_config",
    "is_docker",
    "is_document",
    "is_foreign",
    "is_index",
    "is_manifest",
]

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"

DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_FOREIGN_LAYER = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
DOCKER_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"

INDEXES = frozenset({OCI_INDEX, DOCKER_LIST})
MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
SCHEMA1 = frozenset({DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED})
DOCUMENTS = INDEXES | MANIFESTS


def is_index(media_type: str) -> bool:
    """Is it several manifests under one name (an OCI index or a Docker manifest list)?"""
    return media_type in INDEXES


def is_manifest(media_type: str) -> bool:
    """Is it a manifest of one platform, or of one artifact?"""
    return media_type in MANIFESTS


def is_document(media_type: str) -> bool:
    """Does it live under ``/manifests/`` in a registry, and is it small enough to read whole?"""
    return media_type in DOCUMENTS


def is_config(media_type: str) -> bool:
    """Is it an image configuration?"""
    return media_type in (OCI_CONFIG, DOCKER_CONFIG)


def is_docker(media_type: str) -> bool:
    """Does it belong to Docker's family?"""
    return media_type.startswith("application/vnd.docker.")


def is_foreign(media_type: str) -> bool:
    """Are its bytes served from elsewhere (``urls``), and not to be pushed to a registry?"""
    return media_type == DOCKER_FOREIGN_LAYER or ".layer.nondistributable." in media_type
