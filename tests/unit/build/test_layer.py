# SPDX-License-Identifier: Apache-2.0
"""Layers: the same entries, the same bytes; and bytes that every reader of tar understands."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import threading
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manyfest.build import compressing
from manyfest.build.compressing import BLOCK_BYTES, compressor, engine_of, even
from manyfest.build.layer import (
    Bytes,
    Entry,
    key_of,
    media_type_of,
    tar_pieces,
    write_layer,
    write_tar,
)
from manyfest.errors import BuildError, InputError


def file(path: str, data: bytes = b"data", mode: int = 0o644, **more: object) -> Entry:
    return Entry(path, "file", mode, size=len(data), content=Bytes(data), **more)  # type: ignore[arg-type]


def read_back(entries: list[Entry], epoch: int = 0) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(b"".join(tar_pieces(entries, epoch)))) as archive:
        return archive.getmembers()


def test_what_is_written_is_what_tarfile_reads() -> None:
    """Every kind of entry, sorted, with its facts."""
    entries = [
        Entry("z", "dir", 0o1777, uid=5, gid=6),
        file("a/b", b"hello", 0o4755, uid=7, gid=8),
        Entry("a", "dir", 0o750),
        Entry("l", "link", 0o777, link="a/b"),
        Entry("n", "char", 0o600, device=(1, 3)),
        Entry("p", "fifo", 0o600),
    ]
    members = read_back(entries, 1234)
    assert [(m.name, m.type, m.mode, m.uid, m.gid, m.size) for m in members] == [
        ("a", tarfile.DIRTYPE, 0o750, 0, 0, 0),
        ("a/b", tarfile.REGTYPE, 0o4755, 7, 8, 5),
        ("l", tarfile.SYMTYPE, 0o777, 0, 0, 0),
        ("n", tarfile.CHRTYPE, 0o600, 0, 0, 0),
        ("p", tarfile.FIFOTYPE, 0o600, 0, 0, 0),
        ("z", tarfile.DIRTYPE, 0o1777, 5, 6, 0),
    ]
    assert {m.mtime for m in members} == {1234}
    assert (members[3].devmajor, members[3].devminor) == (1, 3)
    assert members[2].linkname == "a/b"


@pytest.mark.parametrize(
    "path",
    [
        "x" * 100,
        "d" * 60 + "/" + "x" * 90,
        "x" * 101,
        "d/" * 120 + "x" * 100,
        "ümläut",
        "\udcff",
        "d" * 160 + "/x",
    ],
)
def test_long_and_odd_names(path: str) -> None:
    """ustar's prefix where it fits, else PAX."""
    (member,) = read_back([file(path)])
    assert member.name == path
    (member,) = read_back([Entry("l", "link", 0o777, link=path)])
    assert member.linkname == path


def test_big_numbers() -> None:
    """Owners beyond octal's 2097151 go into the extended header."""
    (member,) = read_back([file("a", uid=4_000_000, gid=2**31)])
    assert (member.uid, member.gid) == (4_000_000, 2**31)


def test_extended_attributes_are_kept() -> None:
    """As records of the PAX header."""
    entry = file("a", pax=(("SCHILY.xattr.security.capability", "x"),))
    assert read_back([entry])[0].pax_headers["SCHILY.xattr.security.capability"] == "x"


@given(
    st.lists(
        st.text("abc/é", min_size=1, max_size=200).map(lambda t: "x" + t.rstrip("/").replace("//", "/")),
        unique=True,
    ),
    st.binary(max_size=2000),
)
@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@pytest.mark.property
def test_names_survive(names: list[str], data: bytes) -> None:
    """And order of the entries does not matter."""
    entries = [file(name, data) for name in names]
    assert sorted(m.name for m in read_back(entries)) == sorted(names)
    assert b"".join(tar_pieces(entries, 0)) == b"".join(tar_pieces(entries[::-1], 0))
    assert key_of(entries, 0, "none") == key_of(entries[::-1], 0, "none")


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_digests_are_those_of_the_bytes(compression: str) -> None:
    """Both, counted while writing."""
    if compression == "zstd":
        pytest.importorskip("zstandard")
    pieces: list[bytes] = []
    entries = [file("a", b"x" * 3_000_000), file("b", b"")]
    layer = write_layer(entries, 0, compression, pieces.append, docker=False)
    stored = b"".join(pieces)
    assert layer.descriptor.size == len(stored)
    assert layer.descriptor.digest.hex == hashlib.sha256(stored).hexdigest()
    plain = b"".join(tar_pieces(entries, 0))
    assert layer.diff_id.hex == hashlib.sha256(plain).hexdigest()
    if compression == "gzip":
        assert gzip.decompress(stored) == plain
        assert stored[4:8] == b"\0\0\0\0"  # no time


def test_gzip_without_isal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The standard library's does the same."""
    monkeypatch.setitem(__import__("sys").modules, "isal", None)
    engine = compressor("gzip")
    data = engine.compress(b"hello" * 1000) + engine.compress(b"there") + engine.flush()
    assert gzip.decompress(data) == b"hello" * 1000 + b"there"
    assert engine_of("gzip").startswith("zlib ")


def test_gzip_is_the_same_on_every_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many work on its blocks, and however its bytes arrive; one member that every reader reads."""
    plain = b"".join(hashlib.sha256(b"%d" % at).digest().hex().encode() for at in range(100_000))
    made = set()
    for count, size in ((1, 1), (3, 1), (1, 700_001), (3, len(plain))):
        monkeypatch.setattr(compressing, "workers", lambda count=count: count)
        engine, found = compressor("gzip"), []
        try:
            pieces = [plain[at : at + size] for at in range(0, len(plain), size)] if size > 1 else [plain]
            found = [engine.compress(piece) for piece in even(pieces)]
            made.add(b"".join((*found, engine.flush())))
        finally:
            engine.close()
    (stored,) = made
    assert len(plain) > 6 * BLOCK_BYTES
    assert gzip.decompress(stored) == plain
    inflater = zlib.decompressobj(31)
    assert (inflater.decompress(stored), inflater.eof, inflater.unused_data) == (plain, True, b"")


def test_gzip_that_is_given_up() -> None:
    """What fails while a layer is read ends its threads."""

    def pieces() -> Iterator[bytes]:
        yield bytes(3 * BLOCK_BYTES)
        raise BuildError("gone")

    with pytest.raises(BuildError, match="gone"):
        write_tar(pieces(), "gzip", lambda _: None, docker=False)
    assert [thread.name for thread in threading.enumerate() if "gzip" in thread.name] == []


@given(st.lists(st.binary(max_size=9)), st.integers(1, 5))
@pytest.mark.property
def test_even_pieces(pieces: list[bytes], size: int) -> None:
    """Nothing is lost, and only the last may be shorter."""
    made = list(even(pieces, size))
    assert b"".join(made) == b"".join(pieces)
    assert all(len(piece) == size for piece in made[:-1])
    assert all(0 < len(piece) <= size for piece in made[-1:])


@pytest.mark.parametrize("change", [{"mode": 0o600}, {"uid": 1}, {"data": b"dat4"}, {"path": "b"}])
def test_keys_tell_layers_apart(change: dict[str, object]) -> None:
    """Whatever shows in the archive shows in the key."""
    facts: dict[str, object] = {"path": "a", "data": b"data", "mode": 0o644, "uid": 0}
    one, other = file(**facts), file(**{**facts, **change})  # type: ignore[arg-type]
    assert key_of([one], 0, "gzip") != key_of([other], 0, "gzip")
    assert key_of([one], 0, "gzip") != key_of([one], 1, "gzip")
    assert key_of([one], 0, "gzip") != key_of([one], 0, "none")


@pytest.mark.parametrize("size", [3, 5])
def test_a_file_that_changes_while_it_is_read(size: int) -> None:
    """Shorter or longer than it was: an error that names it."""
    entry = Entry("a", "file", 0o644, size=size, content=Bytes(b"four"))
    with pytest.raises(BuildError, match=r"a: expected \d bytes, it changed"):
        list(tar_pieces([entry], 0))


def test_docker_layers_are_gzip() -> None:
    """Its format has no other."""
    with pytest.raises(InputError, match="zstd layers in a Docker image: expected gzip"):
        media_type_of("zstd", docker=True)
