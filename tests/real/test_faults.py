# SPDX-License-Identifier: Apache-2.0
"""Real file systems that are full or read-only: a clear error, exit code 3, and nothing half-written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.real.parts import Host, Registry, free_port, listening, stop, wait_for

from manyfest.stores.layout import Layout
from manyfest.testing.images import make_image, make_index, random_bytes

pytestmark = pytest.mark.real

MEGABYTE = 1024 * 1024


def _mount(folder: Path, *options: str) -> None:
    done = subprocess.run(["mount", *options, str(folder)], check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(
            f"no file system can be mounted here ({done.stderr.strip()}); run as root with CAP_SYS_ADMIN"
        )


@pytest.fixture
def disk(here: Host) -> Iterator[Path]:
    """A file system of 2 MB."""
    folder = here.home / "disk"
    folder.mkdir()
    _mount(folder, "-t", "tmpfs", "-o", f"size={2 * MEGABYTE}", "tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def big(here: Host) -> str:
    """A layout with an image of 6 MB, one of a third of one and a small list."""
    with Layout.create(str(here.home / "layout"), durable=False) as store:
        for tag, size in (("big", 6 * MEGABYTE), ("half", MEGABYTE // 3)):
            make_image(store, files={"/f": (random_bytes(size, tag), 0o644)}, docker=True, tag=tag)
        make_index(store, ("linux/amd64", "linux/s390x"), tag="list")
    return f"oci:{here.home}/layout"


@pytest.mark.parametrize(
    "place", ["oci:{}/out:1", "oci-archive:{}/out.tar:1", "docker-archive:{}/out.tar:app:1"]
)
def test_a_full_disk(here: Host, disk: Path, big: str, place: str) -> None:
    """What was there stays, what did not fit is gone, and afterwards there is as much room as before."""
    target = place.format(disk)
    before = _free(disk)
    failed = here.manyfest("copy", f"{big}:big", target, ok=False)
    assert failed.code == 3, failed
    assert "No space left on device" in failed.err, failed
    assert "\nhint: nothing was left behind; make room there" in failed.err, failed
    assert _left(disk) == []
    assert before - _free(disk) < 64 * 1024
    here.manyfest("copy", f"{big}:half", target)
    digest = here.manyfest("inspect", target, "--json").json["digest"]
    assert here.manyfest("copy", f"{big}:big", target, ok=False).code == 3
    assert here.manyfest("inspect", target, "--json").json["digest"] == digest
    assert _left(disk) == []


@pytest.mark.parametrize("full", ["cache", "target"])
def test_a_full_disk_while_building(here: Host, disk: Path, full: str) -> None:
    """Wherever the layer does not fit: what was built before stays, and nothing of the new is left."""
    project = here.home / "project"
    project.mkdir()
    (project / "Dockerfile").write_text("FROM scratch\nCOPY data /data\n")
    (project / "data").write_bytes(random_bytes(MEGABYTE // 3, "small"))
    target = f"oci:{disk if full == 'target' else here.home}/out:1"
    here.env["MANYFEST_CACHE"] = str((disk if full == "cache" else here.home) / "cache")
    here.manyfest("build", "project", "-t", target, "--platform", "linux/amd64")
    digest, before = here.manyfest("inspect", target, "--json").json["digest"], _free(disk)
    (project / "data").write_bytes(random_bytes(6 * MEGABYTE, "large"))
    failed = here.manyfest("build", "project", "-t", target, "--platform", "linux/amd64", ok=False)
    assert (failed.code, "No space left on device" in failed.err) == (3, True), failed
    assert "\nhint: nothing was left behind; make room there" in failed.err, failed
    assert here.manyfest("inspect", target, "--json").json["digest"] == digest
    assert before - _free(disk) < 64 * 1024
    assert not [path for path in disk.rglob("*") if path.name.endswith(".part")]


def test_a_full_disk_under_the_registry(here: Host, disk: Path, big: str, plain: Registry) -> None:
    """The client is told, the upload is gone, and the registry goes on serving."""
    port = free_port()
    log = here.home / "registry.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "manyfest", "registry", str(disk), "--port", str(port)],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src"), "HOME": str(here.home)},
            stdout=stream,
            stderr=stream,
        )
    try:
        wait_for(lambda: listening(port), "manyfest registry", process, log)
        name = f"127.0.0.1:{port}/app"
        here.manyfest("copy", f"{big}:list", f"{name}:list")
        failed = here.manyfest("copy", f"{big}:big", f"{name}:big", ok=False)
        assert failed.code == 3, failed
        assert "\nhint: " in failed.err, failed
        assert here.manyfest("tags", name).out.split() == ["list"]
        assert not [path for path in disk.rglob("*") if path.is_file() and path.stat().st_size > MEGABYTE]
        here.manyfest("copy", f"{name}:list", f"{plain.host}/full:list")
    finally:
        stop(process)


def test_a_full_disk_under_the_drafts(here: Host, disk: Path, big: str) -> None:
    """The draft that was there stays as it was."""
    here.env["MANYFEST_DATA"] = str(disk / "data")
    here.manyfest("create", "app:1", f"{big}:half")
    (disk / "filler").write_bytes(bytes(_free(disk)))
    before = here.manyfest("ls", "--json").json
    failed = here.manyfest("create", "app:1", "--amend", f"{big}:list", ok=False)
    if failed.code:  # a draft of a few bytes may still fit into a page that is there
        assert (failed.code, "No space left on device" in failed.err) == (3, True), failed
        assert here.manyfest("ls", "--json").json == before
    assert not [path for path in disk.rglob("*") if path.name.endswith(".tmp")]


def test_a_read_only_layout(here: Host, big: str) -> None:
    """Reading goes on; every way of writing says what to do."""
    layout = here.home / "layout"
    _mount(layout, "--bind", str(layout))
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(layout)], check=True)
        before = (layout / "index.json").read_bytes()
        here.manyfest("inspect", f"{big}:list")
        here.manyfest("resolve", f"{big}:list", "--platform", "linux/s390x")
        here.manyfest("copy", f"{big}:list", f"oci:{here.home}/elsewhere:1")
        for argv in (
            ("copy", f"oci:{here.home}/elsewhere:1", f"{big}:new"),
            ("create", f"{big}:new", f"{big}:half", "--push"),
            ("drop", f"{big}:list", "linux/s390x"),
            ("add", f"{big}:list", f"{big}:half"),
            ("annotate", f"{big}:list", "linux/s390x", "--annotation", "a=b"),
            ("join", f"{big}:list", f"{big}:half"),
            ("delete", f"{big}:list"),
        ):
            failed = here.manyfest(*argv, ok=False)
            assert failed.code in (1, 3), (argv, failed)
            if argv[0] != "add":
                assert "Read-only file system" in failed.err, (argv, failed)
                assert "\nhint: check the permissions, or choose another place" in failed.err, (argv, failed)
            assert (layout / "index.json").read_bytes() == before
        failed = here.manyfest("copy", f"{big}:list", f"oci-archive:{layout}/x.tar", ok=False)
        assert (failed.code, "Read-only file system" in failed.err) == (3, True), failed
        assert json.loads(before)
    finally:
        subprocess.run(["umount", "-l", str(layout)], check=True)


def _free(folder: Path) -> int:
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def _left(folder: Path) -> list[str]:
    """Temporary files."""
    return [path.name for path in folder.rglob("*") if path.name.startswith(".")]
