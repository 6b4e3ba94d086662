# SPDX-License-Identifier: Apache-2.0
"""Local archives: plain ones are read where they lie, packed ones from a copy; neither may change meanwhile."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest

from manyfest.build.archives import Spool, entries_of, spool_file
from manyfest.errors import BuildError


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
