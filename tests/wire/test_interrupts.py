# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C in the middle: the process ends soon with 130, and neither place keeps anything half-written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from manyfest.stores.layout import Layout
from manyfest.testing.images import make_image, random_bytes
from manyfest.testing.script import Answer, Received, ScriptedRegistry

SOON_S = 20.0
"""Seconds after which an interrupted command must be gone, on a busy machine too; it gives itself three.

A registry that says nothing would be waited for half a minute.
"""


class Started:
    """A command in a process of its own."""

    def __init__(self, home: Path, *argv: str) -> None:
        env = {
            "HOME": str(home),
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(__file__).parents[2] / "src"),
            "CONTAINERS_REGISTRIES_CONF": "",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "manyfest", *argv],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def interrupt(self, number: int = signal.SIGINT) -> tuple[int, str, str]:
        """Signal it; how it ended. Fails when it does not end soon."""
        began = time.monotonic()
        self.process.send_signal(number)
        try:
            out, err = self.process.communicate(timeout=60)
        finally:
            self.process.kill()
        assert time.monotonic() - began < SOON_S, err
        return self.process.returncode, out, err


@pytest.fixture
def registry() -> Iterator[ScriptedRegistry]:
    """Without the bodies it gets, which are large here."""
    with ScriptedRegistry(keep_bodies=False) as scripted:
        yield scripted


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layout with an image of one layer of 8 MB."""
    path = tmp_path_factory.mktemp("big")
    store = Layout.create(str(path / "layout"), durable=False)
    make_image(store, files={"/big": (random_bytes(8_000_000), 0o644)}, tag="1", docker=True)
    return path


def reached(event: threading.Event, answer: Answer) -> Callable[[Received], Answer]:
    """The answer, and a sign that the request has come."""

    def give(_: Received) -> Answer:
        event.set()
        return answer

    return give


def wait_for(condition: Callable[[], bool]) -> None:
    """Look until it holds."""
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("silent", ["before the head", "at once", "in the middle"])
@pytest.mark.parametrize(
    "place", ["oci:{}/out:1", "oci-archive:{}/out.tar:1", "docker-archive:{}/out.tar:app:1"]
)
def test_interrupting_a_download(
    registry: ScriptedRegistry, folder: Path, tmp_path: Path, place: str, silent: str, number: int
) -> None:
    """From a registry that says no more."""
    store = Layout(str(folder / "layout"))
    root = store.resolve("1")
    config, layer = root.manifest.config, root.manifest.layers[0]
    begun = threading.Event()
    registry.on("GET", "/v2/app/manifests/1", Answer(200, root.raw, {"Content-Type": root.media_type}))
    registry.on("GET", f"/v2/app/blobs/{config.digest}", Answer(200, store.open(config).read()))
    body = store.open(layer).read()
    after = {"before the head": None, "at once": 0, "in the middle": layer.size // 2}[silent]
    answer = Answer(silent=True) if after is None else Answer(200, body, silent_after=after)
    registry.on("GET", f"/v2/app/blobs/{layer.digest}", reached(begun, answer))
    home = tmp_path / "home"
    home.mkdir()
    command = Started(home, "copy", f"{registry.host}/app:1", place.format(tmp_path))
    assert begun.wait(20)
    if after:
        wait_for(lambda: any(path.stat().st_size > 1_000_000 for path in tmp_path.rglob(".manyfest*")))
    code, out, err = command.interrupt(number)
    assert (code, out, err) == (130, "", "manyfest: interrupted\n"), err
    left = [path for path in tmp_path.rglob("*") if path.name.startswith(".manyfest")]
    assert not left
    assert not (tmp_path / "out.tar").exists()
    if (tmp_path / "out").exists():
        assert json.loads((tmp_path / "out" / "index.json").read_text())["manifests"] == []
        assert layer.digest.hex not in {path.name for path in (tmp_path / "out").rglob("*")}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["before reading", "after reading"])
def test_interrupting_an_upload(registry: ScriptedRegistry, folder: Path, tmp_path: Path, how: str) -> None:
    """The upload is cancelled at the registry, and no tag is written."""
    begun = threading.Event()
    registry.on("HEAD", "*", Answer(404))
    registry.on("GET", "*", Answer(404))
    registry.on("POST", "/v2/app/blobs/uploads/", Answer(202, b"", {"Location": "/v2/app/up/1"}))
    registry.on("DELETE", "/v2/app/up/1", Answer(204))
    silent = Answer(silent=True, early=how == "before reading")
    if how == "before reading":
        registry.on("PATCH", "/v2/app/up/1", silent)
        registry.on("PUT", "/v2/app/up/1", silent)
    else:
        registry.on("*", "/v2/app/up/1", reached(begun, silent))
    home = tmp_path / "home"
    home.mkdir()
    command = Started(home, "copy", f"oci:{folder}/layout:1", f"{registry.host}/app:1")
    wait_for(lambda: begun.is_set() or bool(registry.count("*", "/v2/app/up/1")))
    code, out, err = command.interrupt()
    assert (code, out, err) == (130, "", "manyfest: interrupted\n"), err
    assert registry.count("DELETE", "/v2/app/up/1")
    assert not registry.count("PUT", "/v2/app/manifests/*")


@pytest.mark.slow
def test_interrupting_a_wait(registry: ScriptedRegistry, tmp_path: Path) -> None:
    """A registry asked for patience; a person has none. No draft is made."""
    begun = threading.Event()
    registry.on("*", "*", reached(begun, Answer(429, b"", {"Retry-After": "25"})))
    command = Started(tmp_path, "create", "app:1", f"{registry.host}/app:1")
    assert begun.wait(20)
    assert command.interrupt() == (130, "", "manyfest: interrupted\n")
    assert not list(tmp_path.rglob("*.yaml"))
