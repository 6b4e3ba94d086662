# SPDX-License-Identifier: Apache-2.0
"""Emulators out of an image: the topmost counts, deletions count, hostile layers do not get through."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from manyfest.content.document import Document
from manyfest.emulate import extract as module
from manyfest.emulate.extract import extract, extract_into
from manyfest.emulate.images import layer_tar, write_image
from manyfest.errors import ContentError, NotFound, TooLarge
from manyfest.platforms import Platform
from manyfest.stores.memory import Memory

File = tuple[bytes, int] | str

AMD64 = Platform.parse("linux/amd64")


def image(store: Memory, *layers: dict[str, File], compression: str = "gzip") -> Document:
    """An image of some layers."""
    return write_image(store, AMD64, [layer_tar(files) for files in layers], compression=compression)


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_files_come_out(tmp_path: Path, compression: str) -> None:
    """With the right to be executed, and nothing else beside them."""
    store = Memory()
    files: dict[str, File] = {
        "usr/bin/qemu-arm": (b"arm", 0o644),
        "usr/bin/qemu-s390x-static": (b"s390x", 0o755),
        "usr/bin/other": (b"x", 0o4755),
    }
    found = extract(
        store, image(store, files, compression=compression), ["arm", "s390x", "sh4"], str(tmp_path)
    )
    assert found == {"arm": str(tmp_path / "qemu-arm"), "s390x": str(tmp_path / "qemu-s390x")}
    assert (tmp_path / "qemu-s390x").read_bytes() == b"s390x"
    assert stat.S_IMODE((tmp_path / "qemu-arm").stat().st_mode) == 0o755
    assert sorted(path.name for path in tmp_path.iterdir()) == ["qemu-arm", "qemu-s390x"]


def test_upper_layers_count(tmp_path: Path) -> None:
    """The last version, and not what was deleted."""
    store = Memory()
    document = image(
        store,
        {"usr/bin/qemu-arm": (b"old", 0o755), "usr/bin/qemu-s390x": (b"gone", 0o755)},
        {"usr/bin/qemu-arm": (b"new", 0o755), "usr/bin/.wh.qemu-s390x": (b"", 0o644)},
    )
    found = extract(store, document, ["arm", "s390x"], str(tmp_path))
    assert set(found) == {"arm"}
    assert (tmp_path / "qemu-arm").read_bytes() == b"new"


@pytest.mark.parametrize("mark", [".wh.usr", "usr/.wh.bin", "usr/bin/.wh..wh..opq"])
def test_deleted_folders(tmp_path: Path, mark: str) -> None:
    """Then there is nothing."""
    store = Memory()
    document = image(store, {"usr/bin/qemu-arm": (b"old", 0o755)}, {mark: (b"", 0o644)})
    with pytest.raises(NotFound, match="/usr/bin/qemu-arm"):
        extract(store, document, ["arm"], str(tmp_path))


def test_links_inside_the_layer(tmp_path: Path) -> None:
    """Are followed there, and nowhere else."""
    store = Memory()
    files: dict[str, File] = {
        "usr/bin/qemu-arm": "qemu-arm-static",
        "usr/bin/qemu-arm-static": (b"arm", 0o755),
        "usr/bin/qemu-s390x": "/etc/passwd",
    }
    found = extract(store, image(store, files), ["arm", "s390x"], str(tmp_path))
    assert set(found) == {"arm"}
    assert (tmp_path / "qemu-arm").read_bytes() == b"arm"
    assert not (tmp_path / "qemu-arm").is_symlink()


def test_big_files_and_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused, and nothing is left."""
    store = Memory()
    document = image(store, {"usr/bin/qemu-arm": (bytes(5000), 0o755), "usr/bin/qemu-aarch64": (b"a", 0o755)})
    with monkeypatch.context() as patch:
        patch.setattr(module, "MAX_EMULATOR", 4999)
        with pytest.raises(TooLarge):
            extract_into(store, document, ["aarch64", "arm"], str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(module, "MAX_LAYER", 5000)
        with pytest.raises(TooLarge):
            extract_into(store, document, ["arm"], str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_damaged_layer(tmp_path: Path) -> None:
    """Verified before anything is written."""
    store = Memory()
    document = image(store, {"usr/bin/qemu-arm": (b"arm", 0o755)})
    layer = document.manifest.layers[0]
    raw = bytearray(store._blobs[layer.digest])
    raw[40] ^= 1
    store._blobs[layer.digest] = bytes(raw)
    with pytest.raises(ContentError):
        extract_into(store, document, ["arm"], str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_second_time_nothing_is_written(tmp_path: Path) -> None:
    """What is there stays as it is, so handlers of it stay good; a new one is added."""
    store = Memory()
    document = image(store, {"usr/bin/qemu-arm": (b"a", 0o755), "usr/bin/qemu-s390x": (b"s", 0o755)})
    first, fresh = extract_into(store, document, ["arm"], str(tmp_path))
    assert fresh == (first["arm"],)
    inode = os.stat(first["arm"]).st_ino
    both, fresh = extract_into(store, document, ["arm", "s390x"], str(tmp_path))
    assert fresh == (both["s390x"],)
    assert extract_into(store, document, ["arm", "sh4"], str(tmp_path)) == (first, ())
    assert os.stat(first["arm"]).st_ino == inode
