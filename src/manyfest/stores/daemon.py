# SPDX-License-Identifier: Apache-2.0
"""Images in a Docker Engine (``docker-daemon:``), through its API.

An engine gives and takes images as the archives of ``docker save`` and ``docker load``, so reading exports an image
into a temporary file, and writing loads one. What that means is in :mod:`manyfest.stores.dockerarchive`: an engine with
the containerd image store gives the documents it has; a classic one has no manifest any more, and one is made.
"""

from __future__ import annotations

import os
import tempfile
import threading
from typing import TYPE_CHECKING

from manyfest.engines.docker import Docker
from manyfest.errors import EngineError, NotFound
from manyfest.platforms import Platform
from manyfest.reference import Reference
from manyfest.stores._dockersave import refuse_index, write_docker_archive
from manyfest.stores._files import Part, translated
from manyfest.stores._staging import Staging
from manyfest.stores.base import Source, Store, put_bytes
from manyfest.stores.dockerarchive import DockerArchive

if TYPE_CHECKING:
    from collections.abc import Iterable

    from manyfest.content.descriptor import Descriptor
    from manyfest.content.digest import Digest
    from manyfest.content.document import Document
    from manyfest.stores.base import Opener, Readable

__all__ = ["DaemonSource", "DaemonStore"]


class DaemonSource(Source):
    """Reading the images of one repository in an engine, or any image by its id.

    ``resolve`` takes a tag, a digest, an image id (``sha256:…``), or ``""`` for the tag ``latest``.
    """

    def __init__(self, repository: str, engine: Docker | None = None) -> None:
        """``repository`` as in a reference (``docker.io/library/app``), or ``""`` for ids only."""
        self.place = f"docker-daemon:{_familiar(repository)}"
        self.engine = engine or Docker()
        self._repository = repository
        self._lock = threading.Lock()
        self._files = Staging(tempfile.gettempdir(), self.place)
        self._archives: dict[str, DockerArchive] = {}

    def resolve(self, name: str) -> Document:
        """See :meth:`Source.resolve`. Exports the image."""
        with self._lock:
            found = _first(self._archives.values(), name) if name.startswith("sha256:") else None
            if found is not None:
                return found
            return self._archive(self._inspected(name)[0]).resolve("")

    def platform(self, name: str) -> Platform:
        """The platform that the engine says the image is for; nothing is exported."""
        said = self._inspected(name)[1]
        fields = {"Os": "os", "Architecture": "architecture", "Variant": "variant", "OsVersion": "os.version"}
        return Platform.from_config(
            {ours: said[theirs] for theirs, ours in fields.items() if said.get(theirs)}
        )

    def exists(self, descriptor: Descriptor) -> bool:
        """See :meth:`Source.exists`: in what was resolved."""
        return any(archive.exists(descriptor) for archive in self._exported())

    def open(self, descriptor: Descriptor, offset: int = 0) -> Readable:
        """See :meth:`Source.open`: of what was resolved."""
        for archive in self._exported():
            if archive.exists(descriptor):
                return archive.open(descriptor, offset)
        raise NotFound(f"{self.place}: no content {descriptor.digest} in what was resolved so far")

    def close(self) -> None:
        """Remove the exports and close connections."""
        for archive in self._exported():
            archive.close()
        self._archives.clear()
        self._files.close()
        self.engine.close()

    def _exported(self) -> list[DockerArchive]:
        return list(self._archives.values())

    def _inspected(self, name: str) -> tuple[str, dict[str, object]]:
        """The first spelling that the engine knows, and what it says of the image."""
        spellings = _spellings(self._repository, name)
        for spelling in spellings[:-1]:
            try:
                return spelling, self.engine.inspect(spelling)
            except NotFound:
                continue
        try:
            return spellings[-1], self.engine.inspect(spellings[-1])
        except NotFound as error:
            raise NotFound(
                f"{self.place}: the engine has no image {spellings[0]}",
                hint=f"docker pull {spellings[0]}, or name it without docker-daemon: to read the registry",
            ) from error

    def _archive(self, image: str) -> DockerArchive:
        if image not in self._archives:
            path = self._files.scratch(f"export-{len(self._archives)}.tar")
            with (
                translated(self.place, f"exporting {image}", writing=True),
                Part(os.path.dirname(path)) as part,
            ):
                for chunk in self.engine.save(image):
                    part.write(chunk)
                part.commit(path)
            self._archives[image] = DockerArchive(path, place=self.place)
        return self._archives[image]


class DaemonStore(Store):
    """Writing images into an engine. Reads back what was put into this object; the engine is the place's real reader.

    An index is refused with :class:`~manyfest.errors.Unsupported`: an engine takes one platform per name.
    """

    def __init__(self, repository: str, engine: Docker | None = None) -> None:
        """``repository`` as in a reference (``docker.io/library/app``)."""
        self.place = f"docker-daemon:{_familiar(repository)}"
        self.engine = engine or Docker()
        self._repository = repository
        self._lock = threading.Lock()
        self._staging = Staging(tempfile.gettempdir(), self.place)
        self._names: dict[str, Document] = {}
        self._loaded: dict[Digest, str] = {}

    def resolve(self, name: str) -> Document:
        """See :meth:`Source.resolve`: what was tagged through this object."""
        if name in self._names:
            return self._names[name]
        images = {document.digest: document for document in self._names.values()}
        if not name and len(images) == 1:
            return next(iter(images.values()))
        if name.startswith("sha256:") and self._staging.started is not None:
            return self._staging.started.resolve(name)
        raise NotFound(
            f"{self.place}: no {name!r} among what was written",
            hint=f"written so far: {', '.join(self._names) or 'nothing'}",
        )

    def exists(self, descriptor: Descriptor) -> bool:
        """See :meth:`Source.exists`."""
        started = self._staging.started
        return started is not None and started.exists(descriptor)

    def open(self, descriptor: Descriptor, offset: int = 0) -> Readable:
        """See :meth:`Source.open`."""
        if self._staging.started is None:
            raise NotFound(f"{self.place}: no content {descriptor.digest}")
        return self._staging.started.open(descriptor, offset)

    def put(self, descriptor: Descriptor, content: Opener) -> None:
        """See :meth:`Store.put`."""
        refuse_index(descriptor.media_type, self.place)
        self._staging.layout.put(descriptor, content)

    def tag(self, document: Document, name: str) -> None:
        """See :meth:`Store.tag`. Loads the image; ``""`` means ``latest``.

        Raises :class:`EngineError` if the engine then has another image under the name.
        """
        refuse_index(document.media_type, self.place)
        put_bytes(self._staging.layout, document.descriptor, document.raw)
        tag = name or "latest"
        full = str(Reference.parse(self._repository).with_tag(tag))
        with self._lock:
            if not self._tag_loaded(document, full):
                self._load(document, full)
            self._loaded[document.digest] = self._verified_id(document, full)
            self._names[name] = document

    def close(self) -> None:
        """Remove temporary files and close connections."""
        self._staging.close()
        self.engine.close()

    def _load(self, document: Document, full: str) -> None:
        path = self._staging.scratch("load.tar")
        write_docker_archive(path, self.place, {full: document}, self._staging)
        with translated(self.place, "loading"), open(path, "rb") as archive:
            self.engine.load(archive)
        os.unlink(path)

    def _tag_loaded(self, document: Document, full: str) -> bool:
        """Name what this object loaded before; ``False`` if there is no such image (any more)."""
        image = self._loaded.get(document.digest)
        if image is None:
            return False
        try:
            self.engine.tag(image, *_pair(full))
        except NotFound:
            return False
        return True

    def _verified_id(self, document: Document, full: str) -> str:
        found = self.engine.inspect(full)
        got, expected = str(found.get("Id")), str(document.manifest.config.digest)
        # An engine with the containerd store goes by a manifest's digest, of a manifest it made itself.
        if got == expected or isinstance(found.get("Descriptor"), dict):
            return got
        raise EngineError(
            f"{self.place}: loaded {document.digest}, expected the image {expected} under {full}, got {got}",
            hint="another process may have moved the name at the same time; try again",
        )


def _pair(full: str) -> tuple[str, str]:
    reference = Reference.parse(full)
    return reference.without().familiar, reference.tag


def _familiar(repository: str) -> str:
    return Reference.parse(repository).familiar if repository else "(by id)"


def _spellings(repository: str, name: str) -> list[str]:
    """How an engine may know the image: a digest can be a repository digest or an image id."""
    if not name.startswith("sha256:"):
        return [Reference.parse(repository).with_tag(name or "latest").familiar]
    if not repository:
        return [name]
    return [f"{_familiar(repository)}@{name}", name]


def _first(archives: Iterable[DockerArchive], name: str) -> Document | None:
    for archive in archives:
        try:
            return archive.resolve(name)
        except NotFound:
            continue
    return None
