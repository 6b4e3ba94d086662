# SPDX-License-Identifier: Apache-2.0
"""Images made of Debian's packages, to be looked into, whole and broken on purpose."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.real import debian

from manyfest.content import mediatypes
from manyfest.content.document import Document
from manyfest.emulate.images import layer_tar, write_image, write_json
from manyfest.platforms import Platform
from manyfest.stores.base import put_bytes, read
from manyfest.stores.layout import Layout
from manyfest.verify.cache import Cache
from manyfest.verify.image import verify_image
from manyfest.verify.report import Report

__all__ = ["PATH", "Bench", "File", "bad"]

File = tuple[bytes, int] | str

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def bad(report: Report) -> set[str]:
    """The ids of errors and warnings."""
    return {finding.check for finding in report.findings if finding.severity != "note"}


class Bench:
    """A layout with every architecture's packages as layers, a cache over all tests, and images made of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Layout.create(str(folder / "layout"))
        self.cache = Cache(str(folder / "cache"))
        self._known: dict[str, dict[str, tuple[bytes, str]]] = {}
        self._bases: dict[tuple[str, str], Document] = {}
        with ThreadPoolExecutor(len(debian.ARCHITECTURES)) as pool:
            files = list(pool.map(debian.packages, debian.ARCHITECTURES))
        self.layers = {
            architecture: [
                debian.tar_of(package) for name, package in found.items() if name not in debian.JNI
            ]
            for architecture, found in zip(debian.ARCHITECTURES, files, strict=True)
        }
        self.native = {
            architecture: _library(debian.tar_of(found["libjna-jni"]), "libjnidispatch.system.so")
            for architecture, found in zip(debian.ARCHITECTURES, files, strict=True)
        }

    def image(
        self,
        architecture: str,
        files: Mapping[str, File] | None = None,
        *,
        platform: str = "",
        tars: Sequence[bytes] = (),
        compression: str = "gzip",
        **settings: Any,
    ) -> Document:
        """An image of the architecture's packages, with a layer on top when files are given."""
        top = [*tars, *([layer_tar(files)] if files else [])]
        settings = {"Cmd": ["bash"], "Env": [PATH], **settings}
        claimed = Platform.parse(platform or debian.ARCHITECTURES[architecture])
        base = self._base(architecture, compression)
        new = write_image(self.store, claimed, top, settings=settings, compression=compression)
        # The packages' layers under the new ones: packing them again for each test would take most of its time.
        config = json.loads(read(self.store, new.manifest.config))
        below = json.loads(read(self.store, base.manifest.config))
        config["rootfs"]["diff_ids"] = below["rootfs"]["diff_ids"] + config["rootfs"]["diff_ids"]
        fields = new.to_json()
        fields["config"] = write_json(self.store, config, new.manifest.config.media_type).to_json()
        fields["layers"] = base.to_json()["layers"] + fields["layers"]
        return self._put(new.media_type, fields)

    def _base(self, architecture: str, compression: str) -> Document:
        key = (architecture, compression)
        if key not in self._bases:
            platform = Platform.parse(debian.ARCHITECTURES[architecture])
            layers = self.layers[architecture]
            self._bases[key] = write_image(self.store, platform, layers, compression=compression)
        return self._bases[key]

    def _put(self, media_type: str, fields: dict[str, Any]) -> Document:
        document = Document(media_type, json.dumps(fields).encode())
        put_bytes(self.store, document.descriptor, document.raw)
        return document

    def index(self, *images: tuple[str, Document]) -> Document:
        """An index over images, each for the platform named."""
        entries = [d.descriptor.with_platform(Platform.parse(p)).to_json() for p, d in images]
        fields = {"schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX, "manifests": entries}
        return self._put(mediatypes.OCI_INDEX, fields)

    def verify(self, document: Document, **options: Any) -> Report:
        """With the cache of all tests, so that only what is new is read."""
        return verify_image(self.store, document, cache=self.cache, **options)

    def file(self, architecture: str, path: str) -> bytes:
        """The content of a file of the packages."""
        layer, name = self._members(architecture)[path]
        with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
            found = archive.extractfile(name)
            assert found is not None
            return found.read()

    def path_of(self, architecture: str, base: str) -> str:
        """The path that ends so, in the packages."""
        return next(path for path in self._members(architecture) if f"/{path}".endswith(f"/{base}"))

    def _members(self, architecture: str) -> dict[str, tuple[bytes, str]]:
        """Where each file of the packages is: the layer, and its name there."""
        if architecture not in self._known:
            known = self._known[architecture] = {}
            for layer in self.layers[architecture]:
                with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
                    for name in archive.getnames():
                        known.setdefault(name.removeprefix("./"), (layer, name))
        return self._known[architecture]


def _library(package: bytes, base: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(package)) as archive:
        for member in archive:
            if member.isfile() and member.name.endswith(f"/{base}") and (data := archive.extractfile(member)):
                return data.read()
    raise AssertionError(f"no {base}")
