# SPDX-License-Identifier: Apache-2.0
"""Projects written in a line, built in this process, with bases in memory."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from manyfest.build.built import Built
from manyfest.build.cache import Cache
from manyfest.build.plan import Options, build
from manyfest.build.project import load
from manyfest.content.document import Document
from manyfest.errors import NotFound
from manyfest.platforms import Platform
from manyfest.stores._inflate import Inflated
from manyfest.stores.base import Source
from manyfest.stores.memory import Memory

HOST = Platform.parse("linux/amd64")


class Kitchen:
    """A project's folder, a cache, and bases by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "project"
        self.folder.mkdir()
        self.cache_folder = folder / "cache"
        self.bases: dict[str, Memory] = {}
        self.warnings: list[str] = []
        self.steps: list[str] = []

    def write(self, name: str, text: str | bytes = "", mode: int = 0o644) -> Path:
        """A file of the project."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(mode)
        return path

    def base(self, name: str) -> Memory:
        """A place called ``name``, whose tag is ``1``."""
        return self.bases.setdefault(name, Memory(name))

    def open_source(self, name: str) -> tuple[Source, str]:
        """See ``Bases``."""
        place = self.bases.get(name)
        if place is None:
            raise NotFound(f"{name}: no such repository")
        return place, "1"

    def build(self, dockerfile: str = "", platforms: str = "linux/amd64", **options: Any) -> Built:
        """Build, after writing the Dockerfile if one is given."""
        if dockerfile:
            self.write("Dockerfile", dockerfile)
        wanted = tuple(Platform.parse(text) for text in platforms.split(","))
        return build(
            load(str(self.folder)),
            Options(wanted, **options),
            HOST,
            self.open_source,
            Cache(str(self.cache_folder)),
            on_step=self.steps.append,
            on_warning=self.warnings.append,
        )


def image_of(built: Built, at: int = 0) -> Document:
    """One platform's manifest."""
    return built.platforms[at][1]


def config_of(built: Built, at: int = 0) -> dict[str, Any]:
    """Its whole configuration."""
    stream = built.open(image_of(built, at).manifest.config)
    fields: dict[str, Any] = json.loads(stream.read())
    stream.close()
    return fields


def settings_of(built: Built, at: int = 0) -> dict[str, Any]:
    """What it runs with."""
    fields: dict[str, Any] = config_of(built, at)["config"]
    return fields


def members_of(built: Built, at: int = 0) -> list[tarfile.TarInfo]:
    """The entries of all its layers, in order."""
    found = []
    for layer in image_of(built, at).manifest.layers:
        with tarfile.open(fileobj=io.BytesIO(plain(built.source_of(layer), layer))) as archive:
            found += archive.getmembers()
    return found


def files_of(built: Built, at: int = 0) -> dict[str, str | None]:
    """Path -> text; ``None`` for folders, ``-> target`` for links."""
    found: dict[str, str | None] = {}
    for layer in image_of(built, at).manifest.layers:
        with tarfile.open(fileobj=io.BytesIO(plain(built.source_of(layer), layer))) as archive:
            for member in archive:
                stream = archive.extractfile(member) if member.isreg() else None
                text = stream.read().decode("utf-8", "replace") if stream is not None else None
                found[member.name] = f"-> {member.linkname}" if member.issym() else text
    return found


def plain(source: Source, layer: Any) -> bytes:
    """A layer's uncompressed bytes."""
    stream = Inflated(source.open(layer), "layer")
    try:
        return stream.read() if layer.media_type.endswith(("gzip", "zstd")) else source.open(layer).read()
    finally:
        stream.close()


@pytest.fixture
def kitchen(tmp_path: Path) -> Kitchen:
    """An empty project."""
    return Kitchen(tmp_path)
