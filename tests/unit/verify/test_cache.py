# SPDX-License-Identifier: Apache-2.0
"""What is kept between runs: whole or not at all, bounded, and never trusted blindly."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path

import pytest
from tests.unit.verify.conftest import elf, layer

from manyfest.build.cache import directory
from manyfest.verify.cache import Cache, default_folder

DIGEST = "sha256:" + "a" * 64


def only(folder: Path) -> Path:
    """The one file there."""
    (found,) = folder.iterdir()
    return found


def test_a_layer_comes_back_as_it_was(tmp_path: Path) -> None:
    """Facts, links, settings and all."""
    kept = layer({"a": elf(), "b": "-> a", "etc/passwd": "root:x", "!gone": None}, DIGEST)
    Cache(str(tmp_path)).keep_layer(kept)
    found = Cache(str(tmp_path)).layer(DIGEST)
    assert found is not None
    assert found.to_json() == kept.to_json()
    assert only(tmp_path).stat().st_mode & 0o077 == 0


def test_nothing_is_kept_where_nothing_shall_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder, or one that cannot be made."""
    monkeypatch.chdir(tmp_path)
    for folder in ("", "/proc/nowhere/cache"):
        cache = Cache(folder)
        cache.keep_layer(layer({}, DIGEST))
        assert cache.layer(DIGEST) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [b"", b"junk", zlib.compress(b"not json"), zlib.compress(b"[]"), zlib.compress(b'{"digest": 1}')],
)
def test_damaged_files_are_as_good_as_none(tmp_path: Path, content: bytes) -> None:
    """And are written anew."""
    cache = Cache(str(tmp_path))
    cache.keep_layer(layer({}, DIGEST))
    only(tmp_path).write_bytes(content)
    assert cache.layer(DIGEST) is None
    cache.keep_layer(layer({}, DIGEST))
    assert cache.layer(DIGEST) is not None


@pytest.mark.parametrize(
    "change", [{"kinds": "f"}, {"sizes": []}, {"paths": None}, {"more": [1]}, {"more": {"a": [""] * 9}}]
)
def test_entries_that_do_not_fit_together_are_as_good_as_none(
    tmp_path: Path, change: dict[str, object]
) -> None:
    """A column too short, one that is none, and more than an entry has."""
    kept = layer({"a": "text", "b": "-> a"}, DIGEST)
    shown = kept.to_json()
    shown["entries"].update(change)
    cache = Cache(str(tmp_path))
    cache.keep_layer(kept)
    only(tmp_path).write_bytes(zlib.compress(json.dumps(shown).encode()))
    assert cache.layer(DIGEST) is None


def test_a_file_under_another_name_is_not_taken(tmp_path: Path) -> None:
    """A layer is what its digest says, not what a file is called."""
    cache = Cache(str(tmp_path))
    cache.keep_layer(layer({}, DIGEST))
    other = "sha256:" + "b" * 64
    path = only(tmp_path)
    path.rename(path.with_name(path.name.replace("a" * 64, "b" * 64)))
    assert cache.layer(other) is None


def test_the_oldest_go_first(tmp_path: Path) -> None:
    """By last use."""
    cache = Cache(str(tmp_path), limit=2000)
    digests = [f"sha256:{i:064d}" for i in range(12)]
    for i, digest in enumerate(digests):
        cache.keep_result(digest, os.urandom(200).hex())
        for path in tmp_path.iterdir():
            if digest[7:] in path.name:
                os.utime(path, (i, i))
    sizes = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert sizes <= 2000
    assert cache.result(digests[0]) is None
    assert cache.result(digests[-1]) is not None


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even a temporary file."""

    def interrupted(_fd: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Cache(str(tmp_path)).keep_layer(layer({}, DIGEST))
    assert list(tmp_path.iterdir()) == []


def test_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's cache, or where $MANYFEST_CACHE says; beside what builds remember."""
    monkeypatch.setenv("XDG_CACHE_HOME", "/c")
    assert (default_folder(), directory()) == ("/c/manyfest/layers", "/c/manyfest/build")
    monkeypatch.setenv("MANYFEST_CACHE", "/m")
    assert (default_folder(), directory()) == ("/m/layers", "/m/build")
    monkeypatch.setenv("MANYFEST_CACHE", "")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/h")
    assert default_folder() == "/h/.cache/manyfest/layers"
