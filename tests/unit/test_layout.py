# SPDX-License-Identifier: Apache-2.0
"""OCI layouts: names as other tools write them, hostile files, full disks, several writers."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
from typing import TYPE_CHECKING

import pytest

from manyfest.content.descriptor import Descriptor
from manyfest.content.mediatypes import OCI_LAYER
from manyfest.errors import (
    DigestMismatch,
    Error,
    InvalidDocument,
    InvalidReference,
    NotFound,
    ReadOnly,
    SizeMismatch,
    StoreError,
    TooLarge,
    Unsupported,
)
from manyfest.stores._files import Part
from manyfest.stores.base import put_bytes, read
from manyfest.stores.layout import Layout, _key
from manyfest.testing import make_image, make_index

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from manyfest.content.document import Document

BLOB = b"some bytes"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A fresh one."""
    return Layout.create(str(tmp_path / "layout"))


def blob() -> Descriptor:
    """Of :data:`BLOB`."""
    return Descriptor.of(BLOB, OCI_LAYER)


def files(layout: Layout) -> list[str]:
    """Every file, relative."""
    found = [os.path.join(folder, name) for folder, _, names in os.walk(layout.path) for name in names]
    return sorted(os.path.relpath(path, layout.path) for path in found)


def write_index(layout: Layout, entries: list[dict[str, Any]], **more: object) -> None:
    """As another tool would."""
    fields = {"schemaVersion": 2, "manifests": entries, **more}
    with open(os.path.join(layout.path, "index.json"), "w", encoding="utf-8") as file:
        json.dump(fields, file)


def entry(document: Document, **annotations: str) -> dict[str, Any]:
    """For ``index.json``; two underscores stand for a dot."""
    named = {key.replace("__", "."): value for key, value in annotations.items()}
    return {**document.descriptor.to_json(), "annotations": named}


def test_fresh_layout_is_what_the_specification_says(layout: Layout) -> None:
    """Marker, index and the folder of blobs."""
    assert files(layout) == ["index.json", "oci-layout"]
    with open(os.path.join(layout.path, "oci-layout"), "rb") as file:
        assert json.load(file) == {"imageLayoutVersion": "1.0.0"}
    assert os.path.isdir(os.path.join(layout.path, "blobs", "sha256"))


def test_blob_is_named_by_its_digest(layout: Layout) -> None:
    """So that other tools find it."""
    put_bytes(layout, blob(), BLOB)
    assert files(layout) == [f"blobs/sha256/{blob().digest.hex}", "index.json", "oci-layout"]
    assert layout.size_of(blob().digest) == len(BLOB)


REF = "org__opencontainers__image__ref__name"
CONTAINERD = "io__containerd__image__name"


@pytest.mark.parametrize(
    ("annotations", "name"),
    [
        ({REF: "1.2"}, "1.2"),
        ({REF: "ghcr.io/acme/app:1.2"}, "1.2"),
        ({REF: "ghcr.io/acme/app:1.2"}, "ghcr.io/acme/app:1.2"),
        ({REF: "docker.io/library/app:1.2"}, "app:1.2"),
        ({REF: "1.2", CONTAINERD: "docker.io/library/app:1.2"}, "app:1.2"),
        ({CONTAINERD: "docker.io/library/app:1.2"}, "docker.io/library/app:1.2"),
        ({CONTAINERD: "docker.io/library/app:1.2"}, "1.2"),
        ({REF: "latest", CONTAINERD: "docker.io/library/app:latest"}, "app"),
        ({REF: "anything at all"}, "anything at all"),
        ({}, ""),
    ],
)
def test_names_as_other_tools_write_them(layout: Layout, annotations: dict[str, str], name: str) -> None:
    """A tag, a full reference, or containerd's annotation."""
    document = make_image(layout)
    put_bytes(layout, document.descriptor, document.raw)
    write_index(layout, [entry(document, **annotations)])
    assert layout.resolve(name) == document
    assert layout.resolve("") == document


def test_same_tag_of_two_repositories_is_told_apart(layout: Layout) -> None:
    """Docker writes the bare tag, which means nothing by itself."""
    one, two = make_image(layout, seed=1), make_image(layout, seed=2)
    for document in (one, two):
        layout.tag(document, "x")
    write_index(
        layout,
        [
            entry(one, **{REF: "latest", CONTAINERD: "docker.io/library/one:latest"}),
            entry(two, **{REF: "latest", CONTAINERD: "docker.io/library/two:latest"}),
        ],
    )
    assert list(layout.tags()) == ["docker.io/library/one:latest", "docker.io/library/two:latest"]
    assert layout.resolve("one") == one
    assert layout.resolve("docker.io/library/two:latest") == two
    with pytest.raises(NotFound, match="'latest' means 2 different images") as caught:
        layout.resolve("latest")
    assert "docker.io/library/two:latest" in caught.value.hint


def test_several_images_without_names_are_listed(layout: Layout) -> None:
    """With their platforms, as the choice is between those."""
    one, two = make_image(layout, "linux/amd64"), make_image(layout, "linux/arm64")
    platforms = [{"os": "linux", "architecture": a} for a in ("amd64", "arm64")]
    for document in (one, two):
        put_bytes(layout, document.descriptor, document.raw)
    write_index(
        layout,
        [{**d.descriptor.to_json(), "platform": p} for d, p in zip((one, two), platforms, strict=True)],
    )
    with pytest.raises(NotFound, match="holds 2 images") as caught:
        layout.resolve("")
    assert f"{two.digest} (linux/arm64)" in caught.value.hint
    assert layout.resolve(str(two.digest)) == two


def test_tag_without_name_takes_the_place_of_the_one_before(layout: Layout) -> None:
    """Copying to ``oci:DIR`` twice leaves one image there, and named ones alone."""
    one, two, named = (make_image(layout, seed=n) for n in (1, 2, 3))
    layout.tag(one, "")
    layout.tag(two, "")
    assert layout.resolve("") == two
    layout.tag(named, "v1")
    assert [d.digest for d in layout.entries()] == [two.digest, named.digest]


def test_what_others_wrote_stays(layout: Layout) -> None:
    """Unknown fields, entries of unknown types, annotations, order."""
    document = make_image(layout)
    put_bytes(layout, document.descriptor, document.raw)
    strange = {
        "mediaType": "application/x-strange",
        "digest": str(blob().digest),
        "size": 10,
        "new": {"a": [1, 2.50, None]},
    }
    other = {**entry(document, **{REF: "old", "org__example": "ä<&>"}), "x": True}
    write_index(layout, [strange, other], annotations={"k": "v"}, future=[{}])
    layout.tag(make_image(layout, seed=5), "new")
    layout.untag("new")
    with open(os.path.join(layout.path, "index.json"), encoding="utf-8") as file:
        fields = json.load(file)
    assert fields["manifests"] == [strange, other]
    assert fields["annotations"] == {"k": "v"}
    assert fields["future"] == [{}]


@pytest.mark.parametrize("name", ["a b", "a\n", "é", "x" * 2000])
def test_names_that_cannot_be_written(layout: Layout, name: str) -> None:
    """Other tools would not read them."""
    with pytest.raises(InvalidReference):
        layout.tag(make_image(layout), name)
    assert list(layout.tags()) == []


def test_digest_as_name(layout: Layout) -> None:
    """A document's own digest adds no name; another one is refused."""
    document = make_image(layout)
    layout.tag(document, str(document.digest))
    assert list(layout.tags()) == []
    assert layout.resolve("") == document
    with pytest.raises(InvalidReference, match="cannot be the name"):
        layout.tag(document, str(blob().digest))


def test_cut_file_counts_as_absent_and_is_replaced(layout: Layout) -> None:
    """A crash of another tool, or a full disk, left half of it."""
    put_bytes(layout, blob(), BLOB)
    path = layout.blob_path(blob().digest)
    with open(path, "wb") as file:
        file.write(BLOB[:3])
    assert not layout.exists(blob())
    with pytest.raises(SizeMismatch):
        layout.open(blob())
    put_bytes(layout, blob(), BLOB)
    assert read(layout, blob()) == BLOB


def test_replaced_content_is_noticed_when_it_is_read(layout: Layout) -> None:
    """The size is right, the bytes are not."""
    document = make_image(layout)
    layout.tag(document, "v1")
    with open(layout.blob_path(document.digest), "r+b") as file:
        file.write(b"[")
    for name in ("v1", str(document.digest)):
        with pytest.raises(DigestMismatch):
            layout.resolve(name)
    layout.untag("v1")
    with pytest.raises(DigestMismatch):
        layout.resolve(str(document.digest))


def _link(path: str) -> None:
    os.rename(path, path + ".real")
    os.symlink(path + ".real", path)


@pytest.mark.parametrize("what", ["oci-layout", "index.json", "blobs", "blobs/sha256"])
def test_links_inside_are_refused(layout: Layout, what: str) -> None:
    """They could lead anywhere."""
    layout.tag(make_image(layout), "v1")
    _link(os.path.join(layout.path, what))
    with pytest.raises(Unsupported, match="symbolic link"):
        Layout(layout.path).resolve("v1")


def test_linked_blob_is_refused(layout: Layout, tmp_path: Path) -> None:
    """A blob is a file of its own; putting it replaces the link, not what it leads to."""
    put_bytes(layout, blob(), BLOB)
    _link(layout.blob_path(blob().digest))
    assert not layout.exists(blob())
    with pytest.raises(Unsupported, match="symbolic link"):
        layout.open(blob())
    put_bytes(layout, blob(), BLOB)
    assert not os.path.islink(layout.blob_path(blob().digest))


def test_pipe_instead_of_a_blob_does_not_hang(layout: Layout) -> None:
    """Nobody writes to it."""
    os.mkfifo(layout.blob_path(blob().digest))
    assert not layout.exists(blob())
    with pytest.raises(Unsupported):
        layout.open(blob())


def test_huge_document_is_refused(layout: Layout) -> None:
    """Before it is read."""
    digest = blob().digest
    with open(layout.blob_path(digest), "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(TooLarge):
        layout.resolve(str(digest))


@pytest.mark.parametrize(
    ("index", "kind"),
    [
        (b"", InvalidDocument),
        (b"[]", InvalidDocument),
        (b"{}", InvalidDocument),
        (b'{"manifests": 1}', InvalidDocument),
        (b'{"manifests": [{"digest": "sha256:x"}]}', InvalidDocument),
        (b'{"manifests": [{"mediaType": "a", "digest": "md5:x", "size": 1}]}', InvalidDocument),
        (b'{"schemaVersion": 3, "manifests": []}', Unsupported),
        (b"[" * 100_000, InvalidDocument),
    ],
)
def test_broken_index(layout: Layout, index: bytes, kind: type[Error]) -> None:
    """Says which place, and leaves the file as it is."""
    path = os.path.join(layout.path, "index.json")
    with open(path, "wb") as file:
        file.write(index)
    with pytest.raises(kind, match="oci:"):
        layout.resolve("v1")
    with pytest.raises(kind):
        layout.tag(make_image(layout), "v1")
    with open(path, "rb") as file:
        assert file.read() == index


@pytest.mark.parametrize(
    ("marker", "kind"),
    [
        (b"", InvalidDocument),
        (b"{}", InvalidDocument),
        (b"[]", InvalidDocument),
        (b'{"imageLayoutVersion":"2.0"}', Unsupported),
    ],
)
def test_broken_marker(layout: Layout, marker: bytes, kind: type[Error]) -> None:
    """Another version is not guessed at."""
    with open(os.path.join(layout.path, "oci-layout"), "wb") as file:
        file.write(marker)
    with pytest.raises(kind):
        Layout(layout.path)


def test_what_is_no_layout(tmp_path: Path) -> None:
    """A missing directory, an empty one, one with other things in it."""
    with pytest.raises(NotFound, match="no such directory"):
        Layout(str(tmp_path / "missing"))
    with pytest.raises(NotFound, match="no file oci-layout"):
        Layout(str(tmp_path))
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(StoreError, match=r"other files \(photo.jpg\)"):
        Layout.create(str(tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["photo.jpg"]


def _failing(code: int) -> Callable[..., int]:
    def write(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    return write


def test_full_disk(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing stays, the error says what to do, and later it works."""
    before = files(layout)
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", _failing(errno.ENOSPC))
        with pytest.raises(StoreError, match="No space left") as caught:
            put_bytes(layout, blob(), BLOB)
    assert "make room" in caught.value.hint
    assert files(layout) == before
    put_bytes(layout, blob(), BLOB)
    assert read(layout, blob()) == BLOB


def test_full_disk_while_tagging(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old index stays whole."""
    old, new = make_image(layout, seed=1), make_image(layout, seed=2)
    layout.tag(old, "v1")
    put_bytes(layout, new.descriptor, new.raw)
    before = files(layout)
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", _failing(errno.ENOSPC))
        with pytest.raises(StoreError):
            layout.tag(new, "v1")
    assert files(layout) == before
    assert Layout(layout.path).resolve("v1") == old


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_read_only(layout: Layout, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Reading goes on."""
    layout.tag(make_image(layout), "v1")
    opened = os.open

    def read_only(path: str, flags: int, *rest: int) -> int:
        if flags & os.O_CREAT:
            raise OSError(code, os.strerror(code))
        return opened(path, flags, *rest)

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(ReadOnly):
        put_bytes(layout, blob(), BLOB)
    with pytest.raises(ReadOnly):
        layout.tag(layout.resolve("v1"), "v2")
    assert list(layout.tags()) == ["v1"]


def test_interrupt_leaves_no_file(layout: Layout) -> None:
    """Ctrl-C in the middle of a blob."""

    class Interrupted:
        def __init__(self) -> None:
            self.reads = 0

        def read(self, size: int = -1, /) -> bytes:
            self.reads += 1
            if self.reads > 1:
                raise KeyboardInterrupt
            return BLOB[:3]

        def close(self) -> None:
            return

    before = files(layout)
    with pytest.raises(KeyboardInterrupt):
        layout.put(blob(), lambda _: Interrupted())
    assert files(layout) == before


def test_sparse_index_is_legal(layout: Layout) -> None:
    """A child that is not here does not stop the search for referrers, and its loss is said when it is asked for."""
    index = make_index(layout, ["linux/amd64", "linux/arm64"])
    layout.tag(index, "v1")
    child = index.index.manifests[0]
    os.unlink(layout.blob_path(child.digest))
    assert layout.referrers(index.digest) == ()
    with pytest.raises(NotFound):
        layout.resolve(str(child.digest))


def test_quick_changes_are_told_apart(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel's clock has ticks of milliseconds too, and each file gets the number of the one before."""
    write, keys = Part.write, []

    def ticked(part: Part, data: bytes) -> None:
        write(part, data)
        os.utime(part.fd, ns=(10**18, 10**18))

    monkeypatch.setattr(Part, "write", ticked)
    for platform in ("linux/amd64", "linux/arm64", "linux/s390x"):
        layout.tag(make_image(layout, platform), "1")
        found = os.stat(os.path.join(layout.path, "index.json"))
        keys.append(_key(found)[1:])
    assert len(set(keys)) == 3


def _tag_many(path: str, worker: int) -> None:
    layout = Layout(path)
    document = layout.resolve("start")
    for n in range(5):
        layout.tag(document, f"w{worker}-{n}")


@pytest.mark.slow
def test_processes_lose_no_tag(layout: Layout) -> None:
    """Four processes tag at the same time."""
    layout.tag(make_image(layout), "start")
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=_tag_many, args=(layout.path, n)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert set(layout.tags()) == {"start", *(f"w{w}-{n}" for w in range(4) for n in range(5))}
