# SPDX-License-Identifier: Apache-2.0
"""Push what the jobs work on: six one-file images and a list over them, and one image with a big layer.

    python -m bench.images HOST:PORT [LAYER_BYTES]

A program of its own, so that the memory of the measuring one stays small: a child's peak is never reported below
what its parent held when it was started.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import sys
import tarfile
import tempfile
import zlib
from itertools import chain
from typing import TYPE_CHECKING

from bench.names import LAYER_REPOSITORY, PLATFORMS, REPOSITORY, tag_of
from manyfest.content.descriptor import Descriptor
from manyfest.content.digest import Digest
from manyfest.content.document import Document
from manyfest.content.mediatypes import DOCKER_CONFIG, DOCKER_LAYER, DOCKER_LIST, DOCKER_MANIFEST
from manyfest.emulate.images import write_json
from manyfest.stores.base import put_bytes
from manyfest.stores.registry.client import Registry
from manyfest.stores.registry.session import Session
from manyfest.stores.registry.settings import Settings
from manyfest.testing.images import make_image, random_bytes

if TYPE_CHECKING:
    from manyfest.stores.base import Readable, Store

FILE_BYTES = 64 * 1024
_MIB = 1024 * 1024


def push_list(store: Store) -> None:
    """The six images under tags of their own, and the list of them as ``list``."""
    entries = []
    for platform in PLATFORMS:
        files = {"/app": (random_bytes(FILE_BYTES, platform), 0o755)}
        image = make_image(store, platform, files=files, docker=True, tag=tag_of(platform))
        os_name, _, rest = platform.partition("/")
        architecture, _, variant = rest.partition("/")
        stated = {"architecture": architecture, "os": os_name} | ({"variant": variant} if variant else {})
        entries.append({**image.descriptor.to_json(), "platform": stated})
    fields = {"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": entries}
    index = Document(DOCKER_LIST, json.dumps(fields, indent=2).encode())
    put_bytes(store, index.descriptor, index.raw)
    store.tag(index, "list")


def push_layer(store: Store, size: int) -> None:
    """An image whose one layer holds ``size`` random bytes, as gzip of stored blocks; tagged ``1``."""
    with tempfile.TemporaryFile(dir=tempfile.gettempdir()) as file:
        diff_id, digest = hashlib.sha256(), hashlib.sha256()
        packer = zlib.compressobj(0, wbits=31)
        length = 0

        def write(data: bytes) -> None:
            nonlocal length
            digest.update(data)
            length += file.write(data)

        header = tarfile.TarInfo("big")
        header.size = size
        source = random.Random(7)
        pieces = (source.randbytes(min(_MIB, size - at)) for at in range(0, size, _MIB))
        for data in chain([header.tobuf(tarfile.USTAR_FORMAT)], pieces, [bytes(-size % 512 + 1024)]):
            diff_id.update(data)
            write(packer.compress(data))
        write(packer.flush())
        layer = Descriptor(DOCKER_LAYER, Digest.parse(f"sha256:{digest.hexdigest()}"), length)

        def opened(offset: int) -> Readable:
            file.seek(offset)
            return io.FileIO(file.fileno(), closefd=False)

        store.put(layer, opened)
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{diff_id.hexdigest()}"]}
    config = write_json(
        store, {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs}, DOCKER_CONFIG
    )
    fields = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": config.to_json(),
        "layers": [layer.to_json()],
    }
    store.tag(Document(DOCKER_MANIFEST, json.dumps(fields).encode()), "1")


def main(host: str, layer_bytes: int) -> None:
    """Push everything to the registry at ``host``; no layer for 0 bytes."""
    session = Session(Settings())
    try:
        push_list(Registry(host, REPOSITORY, session))
        if layer_bytes:
            push_layer(Registry(host, LAYER_REPOSITORY, session), layer_bytes)
    finally:
        session.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0)
