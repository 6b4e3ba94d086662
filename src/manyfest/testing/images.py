# SPDX-License-Identifier: Apache-2.0
"""Images and indexes for tests: tiny, deterministic, of any platform.

    >>> from manyfest.stores.memory import Memory
    >>> store = Memory()
    >>> index = make_index(store, ["linux/amd64", "linux/arm/v7"], tag="1.0")
    >>> store.resolve("1.0") == index, [str(entry.platform) for entry in index.index.manifests]
    (True, ['linux/amd64', 'linux/arm/v7'])

Same arguments, same digests. Another ``seed`` changes the content of every layer, so two images share no
blob unless a test wants them to.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

from manyfest.content import mediatypes
from manyfest.content.descriptor import Descriptor
from manyfest.content.document import Document
from manyfest.emulate.images import PROGRAM_PATH, layer_tar, write_image, write_json
from manyfest.emulate.programs import PLATFORMS, program
from manyfest.errors import InputError
from manyfest.platforms import Platform, normalise
from manyfest.stores.base import put_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from manyfest.emulate.images import File
    from manyfest.stores.base import Store

__all__ = ["make_attestation", "make_image", "make_index", "random_bytes"]

_PIECE = 64 * 1024 * 1024
_IN_TOTO = "application/vnd.in-toto+json"


def random_bytes(size: int, seed: object = 0) -> bytes:
    """``size`` bytes that do not compress and depend on ``seed`` only."""
    source = random.Random(str(seed))
    # In pieces: randbytes makes one integer of what it is asked for, which ends at 2**31 bits. Whole words, so that
    # the pieces are the same bytes.
    return b"".join(source.randbytes(min(_PIECE, size - at)) for at in range(0, size, _PIECE))


def make_image(
    store: Store,
    platform: Platform | str = "linux/amd64",
    *,
    files: Mapping[str, File] | None = None,
    entrypoint: Sequence[str] | None = None,
    env: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    docker: bool = False,
    seed: int = 0,
    compression: str = "gzip",
    extra_layers: Sequence[Mapping[str, File]] = (),
    tag: str = "",
) -> Document:
    """Put an image into ``store`` and return its manifest; also tag it when ``tag`` is given.

    ``files`` maps paths to ``(content, mode)``, or to a text: the target of a symbolic link. By default the
    image holds the program of its platform (random bytes where there is none) and a file that depends on
    ``seed``. Raises what :func:`~manyfest.emulate.images.write_image` raises.
    """
    platform = Platform.parse(platform) if isinstance(platform, str) else platform
    content = _default_files(platform, seed) if files is None else files
    settings: dict[str, Any] = {"Entrypoint": list(entrypoint if entrypoint is not None else [PROGRAM_PATH])}
    if env:
        settings["Env"] = [f"{name}={value}" for name, value in env.items()]
    if labels:
        settings["Labels"] = dict(labels)
    layers = [layer_tar(each) for each in (content, *extra_layers)]
    document = write_image(
        store,
        platform,
        layers,
        settings=settings,
        annotations=annotations,
        docker=docker,
        compression=compression,
    )
    if tag:
        store.tag(document, tag)
    return document


def make_index(
    store: Store,
    platforms: Sequence[Platform | str] = ("linux/amd64", "linux/arm64", "linux/arm/v7"),
    *,
    attestations: bool = False,
    annotations: Mapping[str, str] | None = None,
    docker: bool = False,
    seed: int = 0,
    tag: str = "",
) -> Document:
    """Put one image for each platform and an index over them into ``store``; return the index.

    With ``attestations`` every image has one, after all the images, as BuildKit orders them; those are OCI
    only (:class:`~manyfest.errors.InputError` with ``docker``).
    """
    if attestations and docker:
        raise InputError("attestations in a Docker manifest list: expected docker=False")
    entries = []
    for each in platforms:
        platform = Platform.parse(each) if isinstance(each, str) else each
        image = make_image(store, platform, docker=docker, seed=seed)
        entries.append(image.descriptor.with_platform(platform))
    if attestations:
        entries += [make_attestation(store, entry) for entry in entries]
    media_type = mediatypes.DOCKER_LIST if docker else mediatypes.OCI_INDEX
    fields: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "manifests": [entry.to_json() for entry in entries],
    }
    if annotations:
        fields["annotations"] = dict(annotations)
    document = Document(media_type, json.dumps(fields, separators=(",", ":")).encode())
    put_bytes(store, document.descriptor, document.raw)
    if tag:
        store.tag(document, tag)
    return document


def make_attestation(store: Store, image: Descriptor) -> Descriptor:
    """Put a provenance attestation of ``image`` in BuildKit's shape; return the entry an index holds for it.

    https://github.com/moby/buildkit/blob/master/docs/attestations/attestation-storage.md
    """
    predicate = "https://slsa.dev/provenance/v0.2"
    statement = {
        "_type": "https://in-toto.io/Statement/v0.1",
        "predicateType": predicate,
        "subject": [{"name": "pkg:docker/test", "digest": {image.digest.algorithm: image.digest.hex}}],
        "predicate": {"builder": {"id": ""}, "buildType": "https://mobyproject.org/buildkit@v1"},
    }
    layer = write_json(store, statement, _IN_TOTO)
    unknown = {"architecture": "unknown", "os": "unknown"}
    rootfs = {"type": "layers", "diff_ids": [str(layer.digest)]}
    config = write_json(store, {**unknown, "config": {}, "rootfs": rootfs}, mediatypes.OCI_CONFIG)
    fields = {
        "schemaVersion": 2,
        "mediaType": mediatypes.OCI_MANIFEST,
        "config": config.to_json(),
        "layers": [layer.with_annotations({"in-toto.io/predicate-type": predicate}).to_json()],
    }
    document = Document(mediatypes.OCI_MANIFEST, json.dumps(fields, separators=(",", ":")).encode())
    put_bytes(store, document.descriptor, document.raw)
    annotations = {
        "vnd.docker.reference.digest": str(image.digest),
        "vnd.docker.reference.type": "attestation-manifest",
    }
    return document.descriptor.with_annotations(annotations).with_platform(Platform("unknown", "unknown"))


def _default_files(platform: Platform, seed: int) -> dict[str, File]:
    known = normalise(platform) in {normalise(each) for each in PLATFORMS}
    content = program(platform) if known else random_bytes(256, str(platform))
    return {PROGRAM_PATH: (content, 0o755), "/data/seed": (random_bytes(64, f"{seed} {platform}"), 0o644)}
