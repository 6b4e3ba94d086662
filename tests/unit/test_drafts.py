# SPDX-License-Identifier: Apache-2.0
"""Drafts: one file a list, no two lists in one file, nothing half-written."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
from pathlib import Path

import pytest

from manyfest import drafts
from manyfest.errors import InputError, InvalidSpec, NotFound, StoreError
from manyfest.indexes.spec import Entry, Override, Spec
from manyfest.platforms import Platform
from manyfest.reference import Reference

LIST = Reference.parse("ghcr.io/acme/app:1")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where drafts are."""
    monkeypatch.setenv("MANYFEST_DATA", str(tmp_path))
    return tmp_path / "drafts"


def spec_of(name: str, *images: str) -> Spec:
    """A list of these images."""
    return Spec(name, tuple(Entry(image) for image in images))


FULL = Spec(
    "ghcr.io/acme/app:1",
    (
        Entry(
            "ghcr.io/acme/app:1-armhf",
            Override(os="linux", architecture="arm", variant="v7", os_features=()),
            "sha256:" + "0" * 64,
            (("a", "b"),),
        ),
        Entry(
            "ghcr.io/acme/app:1-386", Override(architecture="386", os_version="10.0", os_features=("x", "y"))
        ),
        Entry("oci:out:1"),
    ),
    tags=("1.2", "1", "latest"),
    annotations=(("k", "v: é\n"),),
    type="oci",
    expect=(Platform("linux", "amd64"),),
)


@pytest.mark.parametrize(
    "spec", [FULL, spec_of("ghcr.io/acme/app:1"), spec_of("ghcr.io/acme/app:1", "yes", "1.0")]
)
def test_round_trip(spec: Spec) -> None:
    """What is loaded is what was saved, numbers that look like text and text that looks like numbers included."""
    path = drafts.save(spec)
    assert drafts.load(LIST) == spec
    assert drafts.read_spec(path) == spec


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("host.io/app:1-latest", "host.io/app-1:latest"),
        ("host.io/a/b:t", "host.io/a_b:t"),
        ("host.io/a:v1", "host.io/a:V1"),
        ("host.io/a:latest", "host.io/a:Latest"),
        ("host.io:5000/a:t", "host.io/5000/a:t"),
    ],
)
def test_no_two_lists_share_a_file(one: str, other: str) -> None:
    """Not even where file names ignore case. docker's store fails on the first two."""
    paths = {drafts.path_of(Reference.parse(text)).lower() for text in (one, other)}
    assert len(paths) == 2


def test_names_mean_their_full_form() -> None:
    """``app`` is ``docker.io/library/app:latest``."""
    assert drafts.path_of(Reference.parse("app")) == drafts.path_of(
        Reference.parse("docker.io/library/app:latest")
    )


def test_all_reads_names_back_from_files() -> None:
    """Sorted, long names included, which do not fit into one file name."""
    long = f"registry.example/{'a/' * 100}{'b' * 40}:{'T' * 100}"
    names = ["b.io/x:2", long, "a.io/y:V1"]
    for name in names:
        drafts.save(spec_of(name, "z"))
    assert [spec.image for spec in drafts.all()] == sorted(names)
    assert all(len(part) <= 255 for part in drafts.path_of(Reference.parse(long)).split("/"))
    drafts.remove(Reference.parse(long))
    assert len(drafts.all()) == 2


def test_missing() -> None:
    """docker's words."""
    with pytest.raises(NotFound, match=r"^No such manifest: ghcr\.io/acme/app:1$"):
        drafts.load(LIST)
    with pytest.raises(NotFound, match="No such manifest"):
        drafts.remove(LIST)
    assert drafts.all() == []


def test_a_list_has_no_digest() -> None:
    """A digest is what it gets by being pushed."""
    with pytest.raises(InputError, match="a list has a tag"):
        drafts.path_of(LIST.with_digest("sha256:" + "0" * 64))


def test_update_changes_what_is_there() -> None:
    """``None`` where nothing is; an exception changes nothing."""
    drafts.update(LIST, lambda known: spec_of(str(LIST), "a") if known is None else known)
    drafts.update(LIST, lambda known: known.with_entry(Entry("b")) if known else spec_of(str(LIST)))
    with pytest.raises(ZeroDivisionError):
        drafts.update(LIST, lambda known: spec_of(str(1 // 0)))
    assert [entry.image for entry in drafts.load(LIST).entries] == ["a", "b"]


def _append(data: str, number: int) -> None:
    os.environ["MANYFEST_DATA"] = data
    drafts.update(LIST, lambda known: (known or spec_of(str(LIST))).with_entry(Entry(f"image{number}")))


def test_a_removal_waits_for_an_update_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """It used to go between reading and writing, and what it removed was back."""
    drafts.save(spec_of(str(LIST), "a"))
    wait = fcntl.flock

    def change(known: Spec | None) -> Spec:
        monkeypatch.setattr(fcntl, "flock", lambda handle, how: wait(handle, how | fcntl.LOCK_NB))
        with pytest.raises(BlockingIOError):
            drafts.remove(LIST)
        monkeypatch.setattr(fcntl, "flock", wait)
        return known or spec_of(str(LIST))

    assert drafts.update(LIST, change) == drafts.load(LIST)
    drafts.remove(LIST)
    assert drafts.all() == []


@pytest.mark.slow
def test_writers_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    """Each in a process of its own."""
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_append, args=(str(tmp_path), n)) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert {entry.image for entry in drafts.load(LIST).entries} == {f"image{n}" for n in range(4)}


def test_nothing_is_left_of_a_failed_write(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old draft stays, and no temporary file."""
    drafts.save(spec_of(str(LIST), "a"))

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left on device"):
        drafts.save(spec_of(str(LIST), "b"))
    monkeypatch.setattr(os, "fsync", lambda _handle: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        drafts.save(spec_of(str(LIST), "b"))
    assert [entry.image for entry in drafts.load(LIST).entries] == ["a"]
    assert sorted(path.name for path in folder.iterdir() if path.name != ".lock") == [
        Path(drafts.path_of(LIST)).name
    ]


def test_a_folder_that_cannot_be_made(folder: Path) -> None:
    """The system's word, and where drafts live."""
    folder.parent.mkdir(exist_ok=True)
    folder.write_text("in the way")
    with pytest.raises(StoreError, match=r"exists|Not a directory"):
        drafts.save(FULL)
    with pytest.raises(NotFound):
        drafts.load(LIST)


def test_private() -> None:
    """Names of unpublished images are nobody else's business."""
    drafts.save(FULL)
    assert os.stat(drafts.directory()).st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (b"image: a\nmanifests:\n  - image: b\n    platform:\n      os.version: [1]\n", "f:5:7: "),
        (b"image: a\nmanifests:\n  - image: b\n  - platform: linux/amd64\n", "f:4:5: "),
        (b"image: a\nmanifests:\n  - image: b\n    digest: sha256:0\n", "f:4:5: "),
        (b"image: a\nannotations: {k: 1}\n", "f:2:15: "),
        (b"image: a\nexpect: [linux/]\n", "f:2:1: "),
        (b"image: a\n\ttags: []\n", "f:2:1: "),
        (b"image: \xff\n", "f: not YAML: "),
        (b"a: 1\n---\nb: 2\n", "f:2:1: "),
        (b"image: !!python/object:os.system x\n", "f:1:8: "),
        (b"[" * 5000, "f"),
    ],
)
def test_errors_say_where(text: bytes, where: str) -> None:
    """File, line and column."""
    with pytest.raises(InvalidSpec) as caught:
        drafts.parse(text, "f")
    assert str(caught.value).startswith(where)


def test_numbers_that_people_write() -> None:
    """``architecture: 386`` without quotes, as manifest-tool's users have it."""
    spec = drafts.parse(
        b"image: a\ntags: [1]\nmanifests: [{image: b, platform: {architecture: 386, os: linux}}]", "f"
    )
    assert (spec.entries[0].override.architecture, spec.tags) == ("386", ("1",))


def test_too_large() -> None:
    """Before it is parsed."""
    with pytest.raises(InvalidSpec, match="more than"):
        drafts.parse(b"#" * (drafts.MAX_BYTES + 1), "f")
