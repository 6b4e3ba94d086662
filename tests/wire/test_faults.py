# SPDX-License-Identifier: Apache-2.0
"""Whole commands over a wire that breaks, at every point of their conversation.

What must hold wherever it breaks: the exit code says that the world failed (or that the job was done nevertheless), the
message has a hint, a tag shows the old list or the whole new one, and nothing half-written stays.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.wire.cutter import Cutter

from manyfest.cli.main import main
from manyfest.errors import NotFound
from manyfest.serve.http import Server
from manyfest.serve.registry import RegistryApp
from manyfest.stores.copy import plan
from manyfest.stores.layout import Layout
from manyfest.stores.registry.retry import Clock
from manyfest.testing.images import make_image, make_index

Command = Callable[[str, Path, str], list[str]]


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries happen, and nobody waits for them."""
    monkeypatch.setattr(Clock, "sleep", lambda self, seconds: None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layout with an index and two images, small ones."""
    path = tmp_path_factory.mktemp("faults")
    store = Layout.create(str(path / "layout"), durable=False)
    make_index(store, ("linux/amd64", "linux/s390x"), attestations=True, tag="list")
    for name, platform in (("one", "linux/amd64"), ("two", "linux/arm64")):
        make_image(store, platform, docker=True, files={"/f": (b"x", 0o644)}, tag=name)
    return path


@pytest.fixture
def server(folder: Path, tmp_path: Path) -> Iterator[Server]:
    """A registry that holds what the layout holds, as ``app``."""
    app = RegistryApp(str(tmp_path / "registry"), durable=False)
    with Server(app) as serving:
        for tag in ("list", "one", "two"):
            assert main(["copy", f"oci:{folder}/layout:{tag}", f"{serving.host}/app:{tag}", "-q"]) == 0
        yield serving


def _inspect(host: str, work: Path, new: str) -> list[str]:
    return ["inspect", f"{host}/app:list", "--all"]


def _resolve(host: str, work: Path, new: str) -> list[str]:
    return ["resolve", f"{host}/app:list", "--platform", "linux/s390x"]


def _pull(host: str, work: Path, new: str) -> list[str]:
    return ["copy", f"{host}/app:list", f"oci:{work}/pulled:1"]


def _archive(host: str, work: Path, new: str) -> list[str]:
    return ["copy", f"{host}/app:one", f"docker-archive:{work}/pulled.tar:app:1"]


def _create(host: str, work: Path, new: str) -> list[str]:
    return ["create", "--push", f"{host}/{new}:1", f"{host}/app:one", f"{host}/app:two"]


def _push(host: str, work: Path, new: str) -> list[str]:
    return ["copy", f"oci:{work}/layout:list", f"{host}/{new}:1"]


def _add(host: str, work: Path, new: str) -> list[str]:
    return ["add", f"{host}/app:list", f"{host}/app:two"]


def _join(host: str, work: Path, new: str) -> list[str]:
    return ["join", f"{host}/{new}:1", f"{host}/app:two"]


COMMANDS: list[tuple[Command, int]] = [
    (_inspect, 307),
    (_resolve, 29),
    (_pull, 1009),
    (_archive, 71),
    (_create, 211),
    (_push, 1009),
    (_add, 211),
    (_join, 401),
]
"""Each with the bytes between two cuts: primes, so that every kind of place is hit. The first bytes are all tried."""


@pytest.mark.slow
@pytest.mark.parametrize("answers", [True, False], ids=["answers", "requests"])
@pytest.mark.parametrize("dead", [True, False], ids=["dead", "once"])
@pytest.mark.parametrize(("command", "step"), COMMANDS, ids=[each.__name__ for each, _ in COMMANDS])
def test_a_cut_anywhere(
    command: Command,
    step: int,
    dead: bool,
    answers: bool,
    folder: Path,
    server: Server,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Cut after so many bytes of either direction, for good or once."""
    work = tmp_path / "work"
    work.mkdir()
    (work / "layout").symlink_to(folder / "layout")
    before = _digest(server, "app", "list")
    with Cutter(server.port, answers=answers) as wire:
        assert main(command(wire.host, work, "whole")) == 0
    whole = wire.passed
    after = {_digest(server, "app", "list"), _digest(server, "whole", "1")} - {""}
    at = failures = 0
    while at < whole:
        _reset(server, folder, work)
        capfd.readouterr()
        new = f"new{at}"
        with Cutter(server.port, at, answers=answers, dead=dead) as wire:
            code = main(command(wire.host, work, new))
        told = capfd.readouterr().err
        assert code in (0, 3), (at, code, told)
        if code:
            failures += 1
            assert "manyfest: error: " in told, at
            assert "\nhint: " in told, (at, told)
        _check_local(work, code)
        assert _digest(server, "app", "list") in {before, *after}, at
        assert _digest(server, new, "1") in {"", *after}, at
        at += 1 if at < 16 else step
    # One cut is overcome; a registry that is gone is an error, unless it went after the last byte that mattered.
    assert bool(failures) is dead


def _digest(server: Server, repository: str, tag: str) -> str:
    """What the registry's tag shows, whole: everything below it is there. Empty when there is no such tag."""
    path = Path(server.app.root, repository)  # type: ignore[attr-defined]
    # The registry may still be making it: of the request before the cut.
    if not (path / "oci-layout").exists():
        return ""
    store = Layout(str(path), durable=False)
    try:
        document = store.resolve(tag)
    except NotFound:
        return ""
    needed = plan([(store, document)])
    assert all(store.exists(blob) for _, blob in needed.blobs.values())
    return str(document.digest)


def _check_local(work: Path, code: int) -> None:
    """Blobs have the names of their content, no temporary file is left, and what failed gave nothing a name."""
    pulled = work / "pulled"
    for blob in pulled.glob("blobs/sha256/*"):
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
    assert not [path for path in work.rglob("*") if path.name.startswith(".manyfest")]
    if code and pulled.is_dir():
        assert json.loads((pulled / "index.json").read_text())["manifests"] == []
    if code:
        assert not (work / "pulled.tar").exists()


def _reset(server: Server, folder: Path, work: Path) -> None:
    shutil.rmtree(work / "pulled", ignore_errors=True)
    (work / "pulled.tar").unlink(missing_ok=True)
    with Layout(str(folder / "layout"), durable=False) as store:
        root = store.resolve("list")
    Layout(f"{server.app.root}/app", durable=False).tag(root, "list")  # type: ignore[attr-defined]
