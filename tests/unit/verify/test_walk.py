# SPDX-License-Identifier: Apache-2.0
"""One pass over a layer: what is seen, what is left out and said, what is refused; hostile archives included."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import subprocess
import sys
import tarfile
import time
import tracemalloc
import zlib
from collections.abc import Iterator
from importlib.machinery import PathFinder
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from manyfest.content.descriptor import Descriptor
from manyfest.emulate.programs import program
from manyfest.errors import DigestMismatch, Error, InvalidDocument, SizeMismatch, TooLarge
from manyfest.platforms import Platform
from manyfest.verify import streams, walk
from manyfest.verify.layers import Entry, Layer, clean_path

GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
S390X = program(Platform.parse("linux/s390x"))


def member(name: str, data: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    """A member with its content."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mode = 0o755
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def tar(*members: tuple[tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    """An archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    """The data as it may come."""
    return (data[at : at + size] for at in range(0, len(data), size))


def read(blob: bytes, limit: int = streams.MAX_UNPACKED) -> Layer:
    """As from a store."""
    return walk.read_layer(io.BytesIO(blob), Descriptor.of(blob, GZIP), limit=limit)


def kinds(layer: Layer) -> dict[str, str]:
    """The kinds of entries by path."""
    return {path: entry.kind for path, entry in layer.entries.items()}


def odd(layer: Layer) -> list[tuple[str, str]]:
    """The checks and paths of what was odd."""
    return [(oddity.check, oddity.path) for oddity in layer.oddities]


SAMPLE = tar(
    member("./", type=tarfile.DIRTYPE),
    member("./usr/bin/", type=tarfile.DIRTYPE),
    member("./usr/bin/app", S390X),
    member("usr/bin/link", type=tarfile.SYMTYPE, linkname="app"),
    member("usr/bin/hard", type=tarfile.LNKTYPE, linkname="./usr/bin/app"),
    member("etc/passwd", b"root:x:0:0::/:/bin/sh\n", mode=0o644),
    member("etc/motd", b"hello", mode=0o644, uid=12),
    member("run.sh", b"#!/bin/sh\r\n"),
    member("a/.wh.gone"),
    member("b/.wh..wh..opq"),
    member("long/" + "x" * 200, b"data"),
)


@pytest.mark.parametrize("size", [1, 511, 512, 513, 100_000])
def test_entries_whatever_the_pieces(size: int) -> None:
    """The same, however the bytes come."""
    layer = walk.walk(pieces(SAMPLE, size))
    assert kinds(layer) == {
        "usr/bin": "d",
        "usr/bin/app": "f",
        "usr/bin/link": "l",
        "usr/bin/hard": "h",
        "etc/passwd": "f",
        "etc/motd": "f",
        "run.sh": "f",
        "long/" + "x" * 200: "f",
    }
    assert layer.whiteouts == {"a/gone": "w", "b": "o"}
    app = layer.entries["usr/bin/app"]
    assert app.facts is not None
    assert str(app.facts.platform) == "linux/s390x"
    assert layer.entries["usr/bin/hard"].link == "usr/bin/app"
    assert layer.entries["etc/passwd"].text.startswith("root:")
    assert layer.entries["etc/motd"] == Entry("f", 0o755 & 0o644, 5, "", 12)
    script = layer.entries["run.sh"].facts
    assert script is not None
    assert script.shebang is not None
    assert script.shebang.crlf


def test_a_layer_survives_json() -> None:
    """The cache's form."""
    layer = read(gzip.compress(SAMPLE))
    again = Layer.from_json(layer.to_json())
    assert again.to_json() == layer.to_json()
    assert again.entries["usr/bin/app"].facts == layer.entries["usr/bin/app"].facts


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("length", [99, 100, 101, 255, 3000])
def test_long_names(format: int, length: int) -> None:
    """GNU's and POSIX's way."""
    name = "d/" + "n" * (length - 2)
    layer = walk.walk(
        [tar(member(name, b"x"), member("l", type=tarfile.SYMTYPE, linkname=name), format=format)]
    )
    assert kinds(layer) == {name: "f", "l": "l"}
    assert layer.entries["l"].link == name


def packed(packing: str) -> bytes:
    """The sample."""
    if packing == "gzip":
        return gzip.compress(SAMPLE)
    if packing == "members":
        return b"".join(gzip.compress(piece) for piece in pieces(SAMPLE, 700))
    if packing == "padded":
        return gzip.compress(SAMPLE) + bytes(700)
    if packing == "zstd":
        return zstandard.compress(SAMPLE)
    return SAMPLE


@pytest.mark.parametrize("fast", [True, False], ids=["isal", "zlib"])
@pytest.mark.parametrize("packing", ["gzip", "members", "padded", "zstd", "none"])
def test_packings(packing: str, fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told by the first bytes, whatever the media type; both digests are right."""
    if not fast:
        monkeypatch.setattr(streams, "inflater", lambda: zlib.decompressobj)
    layer = read(packed(packing))
    assert layer.diff_id == "sha256:" + hashlib.sha256(SAMPLE).hexdigest()
    assert layer.unpacked == len(SAMPLE)
    assert "usr/bin/app" in layer.entries


def test_zstandard_is_read_without_its_package() -> None:
    """By the same code, of which the package finds the same classes when it is imported afterwards."""
    script = (
        "import sys; from manyfest.verify.streams import _zstandard; part = _zstandard()\n"
        "assert part is _zstandard() and 'zstandard' not in sys.modules\n"
        "import zstandard; assert zstandard.ZstdDecompressor is part.ZstdDecompressor"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_zstandard_that_is_built_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the part in C, or behind an importer of its own, the package is used."""
    monkeypatch.delitem(sys.modules, "zstandard.backend_c")
    monkeypatch.setattr(PathFinder, "find_spec", lambda *_: None)
    assert read(packed("zstd")).packing == "zstd"
    assert streams._zstandard() is zstandard


def test_content_that_is_not_what_the_digest_says() -> None:
    """Another one, one that is cut, one that goes on."""
    blob = gzip.compress(SAMPLE)
    right = Descriptor.of(blob, GZIP)
    with pytest.raises(DigestMismatch):
        walk.read_layer(
            io.BytesIO(gzip.compress(SAMPLE[:512] + bytes(1024))[: len(blob)].ljust(len(blob))), right
        )
    with pytest.raises((SizeMismatch, InvalidDocument)):
        walk.read_layer(io.BytesIO(blob[:-30]), right)
    with pytest.raises(SizeMismatch):
        walk.read_layer(io.BytesIO(blob + bytes(10)), right)


@pytest.mark.parametrize("cut", [1, 8, 200, 400])
def test_a_layer_that_was_cut_before_it_was_named(cut: int) -> None:
    """The digest is right, the content is not."""
    with pytest.raises(InvalidDocument, match="damaged"):
        read(gzip.compress(SAMPLE)[:-cut])


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("/abs/file", "abs/file"),
        ("a/../b", "b"),
        ("./a//b/./c", "a/b/c"),
        ("../../etc/shadow", None),
        ("a/../../b", None),
        ("..", None),
        ("", ""),
        ("...", "..."),
        (".hidden", ".hidden"),
        ("a/..b", "a/..b"),
    ],
)
def test_paths(name: str, path: str | None) -> None:
    """From the root, or outside."""
    assert clean_path(name) == path


def test_what_leads_out_is_left_out_and_said() -> None:
    """Names and hard links; symbolic links stay as they are, and are followed inside the root only."""
    layer = walk.walk(
        [
            tar(
                member("../evil", b"x"),
                member("hard", type=tarfile.LNKTYPE, linkname="../../etc/shadow"),
                member("soft", type=tarfile.SYMTYPE, linkname="../../../etc/shadow"),
                member("n" * 5000, b"x"),
                member("dev/sda", type=tarfile.BLKTYPE),
                member("twice", b"1"),
                member("twice", b"2"),
            )
        ]
    )
    assert {check for check, _ in odd(layer)} == {"MF504", "MF506", "MF507"}
    assert "soft" in layer.entries
    assert layer.entries["twice"].size == 1
    assert not any("evil" in path for path in layer.entries)


def test_sparse_files_do_not_lose_the_place() -> None:
    """Old GNU's map may go on after the header; what follows is still found."""
    header = bytearray(member("sparse", bytes(512))[0].tobuf(tarfile.GNU_FORMAT))
    header[156:157] = b"S"
    header[482] = 1
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    archive = bytes(header) + bytes(512) + bytes(512) + tar(member("after", S390X))
    layer = walk.walk([archive])
    assert odd(layer) == [("MF508", "sparse")]
    assert layer.entries["after"].facts is not None
    pax = tar(member("s", S390X, pax_headers={"GNU.sparse.major": "1", "GNU.sparse.name": "real"}))
    assert odd(walk.walk([pax])) == [("MF508", "real")]


def broken_header(offset: int, data: bytes) -> bytes:
    """The sample with some bytes of its first header changed, and the sum right again."""
    header = bytearray(SAMPLE[:512])
    header[offset : offset + len(data)] = data
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + SAMPLE[512:]


@pytest.mark.parametrize(
    "data",
    [
        b"x" * 100,
        SAMPLE[:148] + b"000000\0 " + SAMPLE[156:],
        broken_header(124, b"-0000000001\0"),
        broken_header(124, b"\xff" * 12),
        broken_header(124, b"hello world\0"),
        broken_header(124, b"0000000_012\0"),
        broken_header(124, b"+0000000012\0"),
        broken_header(124, b"0o000000012\0"),
        SAMPLE[:512] + bytes(512) + SAMPLE[512:],
        b"".join(
            (
                SAMPLE[:512],
                tar(member("a", pax_headers={"path": "b"}))[:512],
                b"99999 path=x\n".ljust(512, b"\0"),
            )
        ),
    ],
    ids=[
        "no-tar",
        "bad-sum",
        "negative",
        "negative-binary",
        "no-number",
        "underscore",
        "plus",
        "prefix",
        "hole",
        "bad-pax",
    ],
)
def test_damaged_archives_are_refused(data: bytes) -> None:
    """With a sentence, whatever is wrong."""
    with pytest.raises(InvalidDocument, match="damaged"):
        walk.walk([data])


def test_sums_of_old_writers() -> None:
    """Some summed signed characters."""
    header = bytearray(member("\xe9t\xe9", b"")[0].tobuf(tarfile.USTAR_FORMAT, "latin-1"))
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(c - 256 if c > 127 else c for c in header)
    assert len(walk.walk([bytes(header)]).entries) == 1


def test_a_bomb_is_given_up_by_limit_and_by_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    """And in little memory."""
    big = tar(member("zeros", bytes(8_000_000)))
    blob = gzip.compress(big)
    with pytest.raises(TooLarge, match="more than 1000000 bytes"):
        read(blob, limit=1_000_000)
    monkeypatch.setattr(streams, "FREE", 1_000_000)
    with pytest.raises(TooLarge, match="times its size"):
        read(blob)


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
def test_memory_stays_small(pack: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """32 MB of zeros and 16 MB of noise need neither in memory."""
    blob = pack(
        tar(member("zeros", bytes(32_000_000)), member("noise", random.Random(1).randbytes(16_000_000)))
    )
    descriptor = Descriptor.of(blob, GZIP)
    stream = io.BytesIO(blob)
    tracemalloc.start()
    try:
        walk.read_layer(stream, descriptor)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6_000_000


@pytest.mark.slow
def test_a_hundred_thousand_entries() -> None:
    """In seconds, each of them kept."""
    header = bytearray(member("d/000000")[0].tobuf(tarfile.USTAR_FORMAT))
    out = bytearray()
    for i in range(100_000):
        header[2:8] = b"%06d" % i
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        out += header
    began = time.process_time()
    layer = walk.walk([bytes(out)])
    assert len(layer.entries) == 100_000
    assert time.process_time() - began < 20


def test_too_many_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Are not collected."""
    monkeypatch.setattr(walk, "MAX_ENTRIES", 3)
    with pytest.raises(TooLarge, match="more than 3 entries"):
        walk.walk([SAMPLE])


@pytest.mark.property
@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=3000), st.integers(0, len(SAMPLE) - 1), st.integers(1, 2000))
def test_no_bytes_break_the_walk(noise: bytes, at: int, size: int) -> None:
    """Noise in a good archive: entries or an error of ours."""
    data = SAMPLE[:at] + noise + SAMPLE[at + len(noise) :]
    try:
        layer = walk.walk(pieces(data, size))
    except Error:
        return
    assert Layer.from_json(layer.to_json()).to_json() == layer.to_json()


@pytest.mark.property
@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(S390X) - 1), st.integers(0, 255)), max_size=20))
def test_no_mutation_of_a_program_breaks_the_walk(changes: list[tuple[int, int]]) -> None:
    """Facts, or facts with a problem."""
    data = bytearray(S390X)
    for at, value in changes:
        data[at] = value
    layer = walk.walk([tar(member("app", bytes(data)), member("after", b"x"))])
    assert set(layer.entries) == {"app", "after"}


def test_names_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, and those that programs say too."""
    monkeypatch.setattr(walk, "MAX_NAMES", 200)
    with pytest.raises(TooLarge, match="bytes of names"):
        walk.walk([SAMPLE])


def test_a_layer_that_ends_right_after_a_header() -> None:
    """Cut at a record's edge, where there is not one byte of the file that was announced (found by fuzzing)."""
    member = tarfile.TarInfo("bin/app")
    member.size = 100
    with pytest.raises(InvalidDocument, match="ends inside a file"):
        walk.walk([member.tobuf(tarfile.USTAR_FORMAT)])
