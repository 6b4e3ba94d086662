# SPDX-License-Identifier: Apache-2.0
"""Local archives: plain ones are read where they lie, packed ones from a copy; neither may change meanwhile."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from manyfest.build.archives import Spool, entries_of, is_archive, spool_file
from manyfest.errors import BuildError, ContentError


def archive(path: Path, *, packed: bool) -> Spool:
    """With two files of 600 bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        for name in "ab":
            info = tarfile.TarInfo(name)
            info.size = 600
            made.addfile(info, io.BytesIO(name.encode() * 600))
    path.write_bytes(gzip.compress(out.getvalue()) if packed else out.getvalue())
    return spool_file(str(path), "x")


@pytest.mark.parametrize("packed", [False, True])
def test_members(tmp_path: Path, packed: bool) -> None:
    """Read by position; a plain archive is not copied first."""
    path = tmp_path / "a.tar"
    spool = archive(path, packed=packed)
    first, second = entries_of(spool, "a.tar")
    assert first.content is not None
    assert second.content is not None
    assert (first.content.open().read(), second.content.open().read()) == (b"a" * 600, b"b" * 600)
    same = os.fstat(spool.fd()).st_ino == path.stat().st_ino
    spool.close()
    assert same is not packed


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lambda data: lzma.compress(data, preset=0),
    "zst": lambda data: zstandard.ZstdCompressor(write_checksum=True).compress(data),
}


def noise(*, packer: str, cut: bool) -> bytes:
    """An archive of a file that cannot be made smaller, without its end or with other bytes in the middle."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as made:
        info = tarfile.TarInfo("noise")
        info.size = 1_200_000
        made.addfile(info, io.BytesIO(random.Random(1).randbytes(info.size)))
    packed = bytearray(PACKERS[packer](out.getvalue()))
    if cut:
        return bytes(packed[:-1000])
    middle = len(packed) - 300_000
    packed[middle : middle + 40] = bytes(40)
    return bytes(packed)


@pytest.mark.slow
@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("packer", PACKERS)
def test_a_damaged_archive(tmp_path: Path, packer: str, cut: bool) -> None:
    """It still begins like an archive; the error names the file, whoever unpacks it."""
    path = tmp_path / "a.tar"
    path.write_bytes(noise(packer=packer, cut=cut))
    assert is_archive(str(path))
    with pytest.raises((BuildError, ContentError)) as told:
        entries_of(spool_file(str(path), "x"), str(path))
    assert str(told.value).startswith(f"{path}: ")
    assert "compressed content" in str(told.value)


@pytest.mark.parametrize("head", [b"BZh9", b"\xfd7zXZ\0", b"\x1f\x8b\x08"])
def test_what_only_begins_like_one(tmp_path: Path, head: bytes) -> None:
    """Is a file like others."""
    path = tmp_path / "a.tar"
    path.write_bytes(head + b"\xff" * 100)
    assert not is_archive(str(path))


def test_an_archive_that_changes(tmp_path: Path) -> None:
    """While its members are read, which is long after they were counted."""
    path = tmp_path / "a.tar"
    spool = archive(path, packed=False)
    entry, _ = entries_of(spool, "a.tar")
    assert entry.content is not None
    with path.open("ab") as file:
        file.write(b"more")
    with pytest.raises(BuildError, match=r"a.tar: it changed while it was read"):
        entry.content.open()
    spool.close()
