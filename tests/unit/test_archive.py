# SPDX-License-Identifier: Apache-2.0
"""OCI archives: the same bytes each time, old content kept, hostile tar files."""

from __future__ import annotations

import errno
import gzip
import io
import os
import tarfile
import tempfile
import threading
import time
from functools import cache
from typing import TYPE_CHECKING

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from manyfest.content.descriptor import Descriptor
from manyfest.content.document import Document
from manyfest.content.mediatypes import OCI_LAYER
from manyfest.errors import (
    DigestMismatch,
    Error,
    InvalidDocument,
    NotFound,
    SizeMismatch,
    StoreError,
    TooLarge,
    Unsupported,
)
from manyfest.stores._inflate import Inflated
from manyfest.stores._tar import MAX_HEADER, TarTable
from manyfest.stores.archive import Archive
from manyfest.stores.base import put_bytes, read
from manyfest.stores.copy import copy
from manyfest.stores.layout import Layout
from manyfest.stores.memory import Memory
from manyfest.testing import make_image, make_index

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from manyfest.content.document import Document

MARKER = b'{"imageLayoutVersion":"1.0.0"}'


def fill(path: str, *names: str) -> Document:
    """An archive with an index under each of the names."""
    source = Memory()
    index = make_index(source, ["linux/amd64", "linux/arm64"])
    with Archive.create(path) as archive:
        copy(source, index, archive, names)
    return index


def member(
    name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    """One member of a tar file made by hand."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.type = kind
    info.linkname = link
    return info, data


def tar(
    path: Path, *members: tuple[tarfile.TarInfo, bytes], layout: bool = True, form: int = tarfile.PAX_FORMAT
) -> str:
    """A tar file; with the two files of an empty layout unless told otherwise."""
    base = [member("oci-layout", MARKER), member("index.json", b'{"manifests":[]}')] if layout else []
    with tarfile.open(path, "w", format=form) as file:
        for info, data in [*base, *members]:
            file.addfile(info, io.BytesIO(data))
    return str(path)


def test_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    """Whatever the order in which it came, and the time."""
    one, two = tmp_path / "one.tar", tmp_path / "two.tar"
    fill(str(one), "a", "b")
    source = Memory()
    index = make_index(source, ["linux/amd64", "linux/arm64"])
    with Archive.create(str(two)) as archive:
        copy(source, index, archive, ["a"])
        copy(source, index, archive, ["b"])
    assert one.read_bytes() == two.read_bytes()
    with tarfile.open(one) as file:
        members = file.getmembers()
    assert [m.name for m in members] == sorted(m.name for m in members)
    assert {(m.mtime, m.uid, m.gid, m.uname) for m in members} == {(0, 0, 0, "")}


def test_adding_keeps_what_is_there(tmp_path: Path) -> None:
    """Another run, another tag."""
    path = str(tmp_path / "x.tar")
    index = fill(path, "first")
    with Archive.create(path) as archive:
        image = make_image(archive, seed=9)
        archive.tag(image, "second")
    with Archive(path) as archive:
        assert list(archive.tags()) == ["first", "second"]
        assert archive.resolve("first") == index
        copy(archive, index, Memory(), ["all there"])


def test_two_writers_lose_nothing(tmp_path: Path) -> None:
    """Both opened the file before either wrote."""
    path = str(tmp_path / "x.tar")
    with Archive.create(path) as one, Archive.create(path) as two:
        one.tag(make_image(one, seed=1), "one")
        two.tag(make_image(two, seed=2), "two")
    with Archive(path) as archive:
        assert list(archive.tags()) == ["one", "two"]
        for name in ("one", "two"):
            copy(archive, archive.resolve(name), Memory(), [name])


def test_stream_outlives_a_rewrite(tmp_path: Path) -> None:
    """It goes on in the old file."""
    path = str(tmp_path / "x.tar")
    with Archive.create(path) as archive:
        image = make_image(archive)
        archive.tag(image, "a")
        stream = archive.open(image.manifest.config)
        archive.tag(make_image(archive, seed=2), "a")
        assert len(stream.read()) == image.manifest.config.size


def test_nothing_is_left_beside_the_file(tmp_path: Path) -> None:
    """After success, after failure, and after content that was never tagged."""
    path = str(tmp_path / "x.tar")
    with Archive.create(path) as archive:
        make_image(archive)
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []
    fill(path, "a")
    assert [p.name for p in tmp_path.iterdir()] == ["x.tar"]


def test_full_disk_keeps_the_old_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says so."""
    path = str(tmp_path / "x.tar")
    fill(path, "a")
    before = (tmp_path / "x.tar").read_bytes()
    with Archive.create(path) as archive:
        image = make_image(archive, seed=3)

        def full(*_: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(os, "write", full)
            with pytest.raises(StoreError, match="No space left"):
                archive.tag(image, "b")
    assert (tmp_path / "x.tar").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["x.tar"]


def test_link_to_an_archive_stays_a_link(tmp_path: Path) -> None:
    """Writing goes where it leads."""
    real, link = tmp_path / "real.tar", tmp_path / "link.tar"
    link.symlink_to(real)
    fill(str(link), "a")
    fill(str(link), "b")
    assert link.is_symlink()
    with Archive(str(real)) as archive:
        assert list(archive.tags()) == ["a", "b"]


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
def test_compressed_archives_are_read(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    """And become plain when something is added."""
    path = str(tmp_path / "x.tar")
    index = fill(path, "a")
    packed = tmp_path / "x.tar.packed"
    packed.write_bytes(pack((tmp_path / "x.tar").read_bytes()))
    with Archive.create(str(packed)) as archive:
        assert archive.resolve("a") == index
        copy(archive, index, Memory(), ["b"])
        archive.tag(index, "b")
    assert tarfile.is_tarfile(packed)


def test_pipe_is_read(tmp_path: Path) -> None:
    """``oci-archive:/dev/stdin`` at the end of a pipe."""
    path = str(tmp_path / "x.tar")
    index = fill(path, "a")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes((tmp_path / "x.tar").read_bytes()))
    writer.start()
    with Archive(str(pipe)) as archive:
        assert archive.resolve("a") == index
    writer.join(10)


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        (b"", InvalidDocument, "an empty file"),
        (b"hello", InvalidDocument, "not a tar archive"),
        (b"x" * 2048, InvalidDocument, "not a tar archive"),
        (b"\x1f\x8b" + b"x" * 50, InvalidDocument, "damaged compressed"),
        (b"\x28\xb5\x2f\xfd" + b"x" * 50, InvalidDocument, "damaged compressed"),
        (gzip.compress(b"x" * 5000)[:-20], InvalidDocument, "ends early"),
    ],
)
def test_what_is_no_archive(tmp_path: Path, data: bytes, kind: type[Error], words: str) -> None:
    """Says what it is."""
    path = tmp_path / "x.tar"
    path.write_bytes(data)
    with pytest.raises(kind, match=words):
        Archive(str(path))


def test_other_things_under_the_path(tmp_path: Path) -> None:
    """No file, a directory, a tar of something else, no directory to write to."""
    with pytest.raises(NotFound):
        Archive(str(tmp_path / "missing.tar"))
    with pytest.raises(Unsupported, match="a directory"):
        Archive(str(tmp_path))
    with pytest.raises(Unsupported, match="a directory"):
        Archive.create(str(tmp_path))
    with pytest.raises(NotFound, match="not an image layout"):
        Archive(tar(tmp_path / "other.tar", member("readme", b"x"), layout=False))
    with pytest.raises(NotFound, match="no directory"):
        Archive.create(str(tmp_path / "no" / "x.tar"))
    with pytest.raises(Unsupported, match="not a regular file"):
        Archive.create("/dev/null")


BLOB = Descriptor.of(b"hello", OCI_LAYER)
BLOB_NAME = f"blobs/sha256/{BLOB.digest.hex}"


def test_names_as_other_tools_write_them(tmp_path: Path) -> None:
    """``./`` in front, links to files that are there twice in the tree, hard links."""
    path = tar(
        tmp_path / "x.tar",
        member("./data", b"hello"),
        member(BLOB_NAME, kind=tarfile.SYMTYPE, link="../../data"),
    )
    with Archive(path) as archive:
        assert read(archive, BLOB) == b"hello"
    path = tar(
        tmp_path / "y.tar", member("data", b"hello"), member(BLOB_NAME, kind=tarfile.LNKTYPE, link="data")
    )
    with Archive(path) as archive:
        assert read(archive, BLOB) == b"hello"


@pytest.mark.parametrize(
    "hostile",
    [
        member("/" + BLOB_NAME, b"hello"),
        member("../" + BLOB_NAME, b"hello"),
        member("a/../../" + BLOB_NAME, b"hello"),
        member(BLOB_NAME, kind=tarfile.SYMTYPE, link="/etc/passwd"),
        member(BLOB_NAME, kind=tarfile.SYMTYPE, link="../../../../etc/passwd"),
        member(BLOB_NAME, kind=tarfile.LNKTYPE, link="/etc/passwd"),
        member(BLOB_NAME, kind=tarfile.CHRTYPE),
        member(BLOB_NAME, kind=tarfile.BLKTYPE),
        member(BLOB_NAME, kind=tarfile.FIFOTYPE),
        member(BLOB_NAME, kind=tarfile.DIRTYPE),
        member(BLOB_NAME, kind=tarfile.SYMTYPE, link="../../no-such-file"),
    ],
    ids=lambda m: f"{m[0].name[:12]} {m[0].type!r} {m[0].linkname}",
)
def test_hostile_members_are_not_there(tmp_path: Path, hostile: tuple[tarfile.TarInfo, bytes]) -> None:
    """Outside names, links to the outside, devices."""
    with Archive(tar(tmp_path / "x.tar", hostile)) as archive:
        assert not archive.exists(BLOB)
        with pytest.raises(NotFound):
            archive.open(BLOB)


def test_same_file_twice_is_refused(tmp_path: Path) -> None:
    """Readers disagree on which one counts; other files of the archive can be read."""
    other = Descriptor.of(b"other", OCI_LAYER)
    path = tar(
        tmp_path / "x.tar",
        member(BLOB_NAME, b"hello"),
        member(f"blobs/sha256/{other.digest.hex}", b"other"),
        member(BLOB_NAME, b"jello"),
    )
    with Archive(path) as archive:
        with pytest.raises(InvalidDocument, match="twice"):
            archive.open(BLOB)
        assert read(archive, other) == b"other"


def test_links_in_a_circle(tmp_path: Path) -> None:
    """End."""
    path = tar(
        tmp_path / "x.tar",
        member("a", kind=tarfile.SYMTYPE, link="b"),
        member("b", kind=tarfile.SYMTYPE, link="a"),
    )
    table = TarTable(path, "x")
    with pytest.raises(InvalidDocument, match="circle"):
        table.open("a")
    table.close()


def test_blob_of_another_size_or_content(tmp_path: Path) -> None:
    """Is noticed as soon as possible."""
    with Archive(tar(tmp_path / "x.tar", member(BLOB_NAME, b"hello world"))) as archive:
        assert not archive.exists(BLOB)
        with pytest.raises(SizeMismatch):
            archive.open(BLOB)
    with (
        Archive(tar(tmp_path / "y.tar", member(BLOB_NAME, b"jello"))) as archive,
        pytest.raises(DigestMismatch),
    ):
        read(archive, BLOB)


def test_huge_headers(tmp_path: Path) -> None:
    """A name of a gigabyte, which a reader would hold in memory."""
    info = tarfile.TarInfo("././@LongLink")
    info.type = tarfile.GNUTYPE_LONGNAME
    info.size = MAX_HEADER + 1
    path = tmp_path / "x.tar"
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + b"x" * (MAX_HEADER + 1024))
    with pytest.raises(TooLarge, match="header"):
        Archive(str(path))


def test_size_beyond_the_end(tmp_path: Path) -> None:
    """The archive was cut, or lies."""
    whole = tmp_path / "x.tar"
    fill(str(whole), "a")
    whole.write_bytes(whole.read_bytes()[:-11_000])
    with pytest.raises(InvalidDocument, match="cut"):
        Archive(str(whole))


def test_an_archive_stays_as_private_as_it_was(tmp_path: Path) -> None:
    """It is replaced, and by a file that no more people can read."""
    path = str(tmp_path / "x.tar")
    fill(path, "1")
    os.chmod(path, 0o600)
    fill(path, "2")
    assert os.stat(path).st_mode & 0o777 == 0o600


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_in_every_format(tmp_path: Path, form: int) -> None:
    """As Python's tarfile writes them; ours reads the same."""
    names = (
        ["short", "d/" * 40 + "f" * 60, "ä/ö"]
        if form != tarfile.USTAR_FORMAT
        else ["short", "d/" * 40 + "f" * 60]
    )
    if form != tarfile.USTAR_FORMAT:
        names.append("e" * 300)
    path = tar(tmp_path / "x.tar", *[member(name, name.encode()) for name in names], layout=False, form=form)
    table = TarTable(path, "x")
    assert table.names() == sorted(names)
    for name in names:
        assert table.read(name, 1000) == name.encode()
    table.close()


def test_a_header_full_of_records_takes_linear_time(tmp_path: Path) -> None:
    """Four times as many, four times as long (sixteen if each record copied the rest)."""

    def seconds(records: int) -> float:
        member_of_pax = member("x", b"5 a=\n" * records, kind=tarfile.XHDTYPE)
        path = tar(tmp_path / "x.tar", member_of_pax, member("file"), layout=False, form=tarfile.GNU_FORMAT)
        began = time.process_time()
        TarTable(path, "x").close()
        return time.process_time() - began

    short, long = (min(seconds(records) for _ in range(3)) for records in (50_000, 200_000))
    assert long < 9 * short


@pytest.mark.parametrize(
    "record", [b"x a=b\n", b"99 a=b\n", b"1 a=b\n", b"2 \n", b" a=b\n", b"000000006 a=\n", b"6"]
)
def test_records_of_a_wrong_length(tmp_path: Path, record: bytes) -> None:
    """An extended header that does not add up is a damaged archive."""
    path = tar(tmp_path / "x.tar", member("x", record, kind=tarfile.XHDTYPE), member("file"), layout=False)
    with pytest.raises(InvalidDocument, match="bad extended header"):
        TarTable(path, "x")


def test_sparse_files_are_left_out(tmp_path: Path) -> None:
    """Their bytes in the archive are not the file's."""
    info, data = member("sparse", b"hello")
    info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}
    table = TarTable(tar(tmp_path / "x.tar", (info, data), layout=False), "x")
    assert table.names() == []
    table.close()


@pytest.mark.property
@given(at=st.integers(0, 20_000), value=st.integers(0, 255))
@settings(max_examples=150, deadline=None)
def test_any_changed_byte_is_an_error_or_harmless(at: int, value: int) -> None:
    """Never another exception, never other content."""
    data = bytearray(_sample())
    data[at % len(data)] = value
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        try:
            with Archive(file.name) as archive:
                copy(archive, archive.resolve("a"), Memory(), ["a"])
        except Error:
            return


@cache
def _sample() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "x.tar")
        fill(path, "a")
        with open(path, "rb") as file:
            return file.read()


def test_inflated_reads_several_members_and_padding() -> None:
    """As gzip itself does."""
    packed = gzip.compress(b"one ") + gzip.compress(b"two") + b"\0" * 700
    assert Inflated(io.BytesIO(packed), "x").read() == b"one two"
    stream = Inflated(io.BytesIO(packed), "x")
    assert [stream.read(3) for _ in range(4)] == [b"one", b" tw", b"o", b""]


def test_copy_from_archive_to_layout_keeps_digests(tmp_path: Path) -> None:
    """There and back."""
    index = fill(str(tmp_path / "x.tar"), "a")
    layout = Layout.create(str(tmp_path / "layout"))
    with Archive(str(tmp_path / "x.tar")) as archive:
        copy(archive, archive.resolve("a"), layout, ["a"])
    assert layout.resolve("a") == index


def test_content_by_digest_alone_is_not_in_the_file_before_a_tag(tmp_path: Path) -> None:
    """An archive is written when it is named."""
    with Archive.create(str(tmp_path / "x.tar")) as archive:
        put_bytes(archive, BLOB, b"hello")
        assert read(archive, BLOB) == b"hello"
        assert not (tmp_path / "x.tar").exists()


@pytest.mark.parametrize("way", ["tag", "put"])
def test_a_document_is_not_cleared_away_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Another thread's tag takes what waits into the archive; what is still being written stays until then."""
    store = Archive.create(str(tmp_path / "a.tar"))
    first, second = make_image(store, "linux/amd64"), make_image(store, "linux/arm64")
    listed = Layout._list_referrer
    other = threading.Thread(target=lambda: store.tag(second, "second"))

    def slowly(layout: Layout, descriptor: Descriptor) -> None:
        if descriptor.digest == last.digest:
            other.start()
            other.join(0.2)
        listed(layout, descriptor)

    last = Document(first.media_type, first.raw + b"\n")
    monkeypatch.setattr(Layout, "_list_referrer", slowly)
    if way == "tag":
        store.tag(last, "first")
    else:
        put_bytes(store, last.descriptor, last.raw)
    other.join(10)
    assert store.resolve("second") == second
    assert store.resolve(str(last.digest)) == last
    store.close()
