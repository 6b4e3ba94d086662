# SPDX-License-Identifier: Apache-2.0
"""Every store keeps the contract, and the suite notices one that does not."""

from __future__ import annotations

import threading
from itertools import count
from typing import TYPE_CHECKING

import pytest

from manyfest.content.document import Document
from manyfest.errors import NotFound
from manyfest.stores.archive import Archive
from manyfest.stores.base import Verified
from manyfest.stores.daemon import DaemonStore
from manyfest.stores.dockerarchive import DockerArchive, DockerArchiveStore
from manyfest.stores.layout import Layout
from manyfest.stores.memory import Memory
from manyfest.testing import InProcess, check_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import IO, Any

    from manyfest.content.descriptor import Descriptor
    from manyfest.engines.docker import Docker
    from manyfest.stores.base import Opener, Readable, Source, Store


def _fresh(folder: Path) -> Callable[[], str]:
    numbers = count()
    return lambda: str(folder / f"store-{next(numbers)}")


def test_memory() -> None:
    """In memory."""
    check_store(Memory)


def test_layout(tmp_path: Path) -> None:
    """A directory, read by others while it is written."""
    path = _fresh(tmp_path)

    def reopen(store: Store) -> Source:
        assert isinstance(store, Layout)
        return Layout(store.path)

    check_store(lambda: Layout.create(path()), reopen=reopen)


def test_archive(tmp_path: Path) -> None:
    """A tar file, read by others as soon as something is tagged."""
    path = _fresh(tmp_path)

    def reopen(store: Store) -> Source:
        assert isinstance(store, Archive)
        return Archive(store.path)

    check_store(lambda: Archive.create(path()), reopen=reopen)
    assert all(p.suffix != ".part" for p in tmp_path.iterdir())


class _Named(DockerArchiveStore):
    """Tags of one repository: an archive's names are whole references."""

    def tag(self, document: Document, name: str) -> None:
        super().tag(document, self._whole(name))

    def resolve(self, name: str) -> Document:
        return super().resolve(self._whole(name))

    @staticmethod
    def _whole(name: str) -> str:
        return name if not name or ":" in name else f"example.org/acme/app:{name}"


def test_docker_archive(tmp_path: Path) -> None:
    """What ``docker load`` takes. It reads back what was written, and gives others a manifest it makes."""
    path = _fresh(tmp_path)
    check_store(lambda: _Named(path()), indexes=False)
    assert all(p.suffix != ".part" for p in tmp_path.iterdir())


class _Engine:
    """An engine as far as the daemon store asks: it takes archives and knows names."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._images: dict[str, str] = {}
        self._lock = threading.Lock()

    def load(self, archive: IO[bytes]) -> None:
        with self._lock:
            file = self._folder / f"loaded-{len(self._images)}.tar"
            file.write_bytes(archive.read())
            with DockerArchive(str(file)) as images:
                for name in images.tags():
                    self._images[name] = str(images.resolve(name).manifest.config.digest)

    def inspect(self, name: str) -> dict[str, Any]:
        for known, image in self._images.items():
            if name in (image, known, f"docker.io/library/{known}"):
                return {"Id": image}
        raise NotFound(f"no {name}")

    def tag(self, image: str, repository: str, tag: str) -> None:
        self._images[f"{repository}:{tag}"] = image

    def close(self) -> None:
        self._images.clear()


def test_daemon(tmp_path: Path) -> None:
    """An engine, here a small one in this process."""

    def factory() -> Store:
        engine: Any = _Engine(tmp_path)
        docker: Docker = engine
        return DaemonStore("docker.io/library/app", docker)

    check_store(factory, indexes=False)


def test_registry_in_process() -> None:
    """The registry client, against a registry without a socket."""

    def pair() -> tuple[Store, Store]:
        registry = InProcess()
        return registry.store("acme/app"), registry.store("acme/other")

    check_store(lambda: InProcess().store("acme/app"), pair=pair, nameless=False)


class _KeepsWrongContent(Memory):
    """Broken: takes what it is given."""

    def put(self, descriptor: Descriptor, content: Opener) -> None:
        self._blobs[descriptor.digest] = content(0).read(descriptor.size)


class _MovesNoTags(Memory):
    """Broken: the first tag wins."""

    def tag(self, document: Document, name: str) -> None:
        if name not in self._tags:
            super().tag(document, name)


class _ForgetsOffset(Memory):
    """Broken: always from the beginning."""

    def open(self, descriptor: Descriptor, offset: int = 0) -> Readable:
        return super().open(descriptor)


class _LeavesStreamsOpen(Memory):
    """Broken: closes only after success."""

    def put(self, descriptor: Descriptor, content: Opener) -> None:
        stream = Verified(content(0), descriptor)
        data = stream.read()
        stream.close()
        super().put(descriptor, lambda offset: _Bytes(data[offset:]))


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, size: int = -1, /) -> bytes:
        size = len(self._data) if size < 0 else size
        data, self._data = self._data[:size], self._data[size:]
        return data

    def close(self) -> None:
        self._data = b""


class _EncodesAgain(Memory):
    """Broken: other bytes, same meaning."""

    def resolve(self, name: str) -> Document:
        found = super().resolve(name)
        return Document(found.media_type, found.raw.replace(b"\n", b""))


class _ListsTwice(Memory):
    """Broken: every tag two times."""

    def tags(self) -> Iterator[str]:
        return iter([*super().tags(), *super().tags()])


class _DeletesNothing(Memory):
    """Broken: says it did."""

    def delete(self, descriptor: Descriptor) -> None:
        return


class _TrustsOneThread(Memory):
    """Broken: tags set by a second thread are lost."""

    def tag(self, document: Document, name: str) -> None:
        if self.__dict__.setdefault("thread", threading.get_ident()) == threading.get_ident():
            super().tag(document, name)


@pytest.mark.parametrize(
    "broken",
    [
        _KeepsWrongContent,
        _MovesNoTags,
        _ForgetsOffset,
        _LeavesStreamsOpen,
        _EncodesAgain,
        _ListsTwice,
        _DeletesNothing,
        _TrustsOneThread,
    ],
)
def test_suite_notices(broken: type[Memory]) -> None:
    """Each broken store is found out, with a sentence that says how."""
    with pytest.raises(AssertionError) as caught:
        check_store(broken)
    assert str(caught.value)
