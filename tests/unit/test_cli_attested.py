# SPDX-License-Identifier: Apache-2.0
"""Attestations as they are read: BuildKit's, ours, and those that are about something else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from manyfest.build.attest import Statement, attach
from manyfest.cli.attested import said_of
from manyfest.content.descriptor import Descriptor
from manyfest.content.document import Document
from manyfest.errors import InputError, InvalidDocument, NotFound
from manyfest.indexes.edit import build
from manyfest.platforms import Platform
from manyfest.stores.base import put_bytes
from manyfest.stores.memory import Memory
from manyfest.testing.images import make_image, make_index

ARM64 = Platform.parse("linux/arm64")
SLSA = "https://slsa.dev/provenance/v0.2"


def attested(store: Memory, image: Document, raw: bytes, kind: str = SLSA) -> Document:
    """An index of one image and one attestation with these bytes."""
    statement = Statement(kind, raw)
    document, entry, config = attach(image, [statement])
    for descriptor, data in (
        (document.descriptor, document.raw),
        (document.manifest.config, config),
        (statement.descriptor.bare(), raw),
    ):
        put_bytes(store, descriptor, data)
    return build([image.descriptor.with_platform(ARM64), entry], type="oci")


def encoded(image: Document | None, **other: Any) -> bytes:
    """A statement about an image, or about nothing in particular."""
    subject = [] if image is None else [{"name": "x", "digest": {"sha256": image.digest.hex}}]
    fields = {"predicateType": SLSA, "subject": subject, "predicate": {"builder": {"id": "me"}}, **other}
    return json.dumps(fields).encode()


@pytest.mark.parametrize("named", [True, False])
def test_what_is_said(named: bool) -> None:
    """With the image's digest, or as BuildKit writes it for an image without a name."""
    store = Memory()
    image = make_image(store, ARM64)
    root = attested(store, image, encoded(image if named else None))
    (said,) = said_of(store, root, "provenance", ARM64)
    assert (said.predicate, said.predicate_type) == ({"builder": {"id": "me"}}, SLSA)
    assert said_of(store, root, SLSA, None) == [said]
    with pytest.raises(NotFound, match="no sbom for any platform"):
        said_of(store, root, "sbom", None)
    with pytest.raises(NotFound, match="no provenance for linux/amd64"):
        said_of(store, root, "provenance", Platform.parse("linux/amd64"))


def test_of_an_index_by_buildkit() -> None:
    """Each platform has its own."""
    store = Memory()
    root = make_index(store, attestations=True)
    assert [str(said.image.platform) for said in said_of(store, root, "provenance", None)] == [
        "linux/amd64",
        "linux/arm64",
        "linux/arm/v7",
    ]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"{", "is no in-toto statement"),
        (b"[]", "is no in-toto statement"),
        (b"[" * 100_000, "is no in-toto statement"),
        (b'{"predicateType": 1}', "is no in-toto statement"),
        (encoded(None, subject=[{"digest": {"sha256": "0" * 64}}]), "is about sha256:0+, not about sha256:"),
        (encoded(None, subject=["x"]), "is no in-toto statement"),
        (encoded(None, predicateType="https://spdx.dev/Document"), "annotated as https://slsa.dev"),
    ],
)
def test_what_is_about_something_else(raw: bytes, message: str) -> None:
    """Is refused, never shown as if it were about the image."""
    store = Memory()
    root = attested(store, make_image(store, ARM64), raw)
    with pytest.raises(InvalidDocument, match=message):
        said_of(store, root, "provenance", None)


def test_a_single_image_has_none() -> None:
    """They belong to the index."""
    store = Memory()
    with pytest.raises(InputError, match="attestations belong to an index"):
        said_of(store, make_image(store, ARM64), "sbom", None)


def test_descriptors_are_compared_whole() -> None:
    """An entry for another image's digest is not this one's."""
    store = Memory()
    image, other = make_image(store, ARM64), make_image(store, ARM64, seed=1)
    entries = attested(store, other, encoded(other)).index.manifests
    own: Descriptor = image.descriptor.with_platform(ARM64)
    with pytest.raises(NotFound):
        said_of(store, build([own, entries[1]], type="oci"), "provenance", None)
