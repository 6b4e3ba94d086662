# SPDX-License-Identifier: Apache-2.0
"""Images in an engine: a small one in this process, which speaks in archives as Docker does; and which engine it is."""

from __future__ import annotations

import hashlib
import io
import json
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest

from manyfest.engines.docker import Docker, Endpoint, endpoint
from manyfest.errors import EngineError, NotFound, Unsupported
from manyfest.stores.copy import copy
from manyfest.stores.daemon import DaemonSource, DaemonStore
from manyfest.stores.dockerarchive import DockerArchive, DockerArchiveStore
from manyfest.stores.memory import Memory
from manyfest.testing import make_image, make_index

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import IO


class Engine:
    """What the daemon place asks of an engine, with archives in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.images: dict[str, tuple[str, Path, dict[str, Any]]] = {}
        self.calls: list[str] = []
        self.answers_id = ""

    def load(self, archive: IO[bytes]) -> None:
        self.calls.append("load")
        file = self.folder / f"{len(self.calls)}.tar"
        file.write_bytes(archive.read())
        with DockerArchive(str(file)) as images:
            for name in images.tags():
                manifest = images.resolve(name).manifest
                config = json.loads(images.open(manifest.config).read())
                said = {
                    "Architecture": config["architecture"],
                    "Os": config["os"],
                    "Variant": config.get("variant", ""),
                }
                self.images[name] = (str(manifest.config.digest), file, said)

    def inspect(self, name: str) -> dict[str, Any]:
        found = self._find(name)
        return {"Id": self.answers_id or found[0], **found[2]}

    def save(self, name: str) -> Iterator[bytes]:
        self.calls.append(f"save {name}")
        yield self._find(name)[1].read_bytes()

    def tag(self, image: str, repository: str, tag: str) -> None:
        self.calls.append("tag")
        self.images[f"{repository}:{tag}"] = self._find(image)

    def close(self) -> None:
        self.calls.append("close")

    def _find(self, name: str) -> tuple[str, Path, dict[str, Any]]:
        for known, image in self.images.items():
            if name in (known, image[0], f"docker.io/library/{known}"):
                return image
        raise NotFound(f"no {name}")


@pytest.fixture
def engine(tmp_path: Path) -> Any:
    """Without images."""
    return Engine(tmp_path)


def test_image_goes_in_and_comes_out(engine: Any) -> None:
    """Under two names, loaded once; the config, so the image id, stays the same."""
    source = Memory()
    image = make_image(source, "linux/arm/v7")
    with DaemonStore("docker.io/library/app", engine) as store:
        copy(source, image, store, ["1", "2"])
    assert engine.calls == ["load", "tag", "close"]
    with DaemonSource("docker.io/library/app", engine) as daemon:
        found = daemon.resolve("2")
        assert found.manifest.config == image.manifest.config.bare() or (
            found.manifest.config.digest == image.manifest.config.digest
        )
        copy(daemon, found, Memory(), ["whole"])
        assert daemon.resolve(str(found.digest)) == found
        assert daemon.resolve(str(found.manifest.config.digest)) == found
        assert engine.calls.count("save app:2") == 1
        assert str(daemon.platform("2")) == "linux/arm/v7"


def test_image_by_id(engine: Any) -> None:
    """``docker-daemon:sha256:…``"""
    source = Memory()
    image = make_image(source)
    with DaemonStore("docker.io/library/app", engine) as store:
        copy(source, image, store, ["1"])
    image_id = str(image.manifest.config.digest)
    with DaemonSource("", engine) as daemon:
        assert str(daemon.resolve(image_id).manifest.config.digest) == image_id


def test_image_that_the_engine_has_not(engine: Any) -> None:
    """The hint names the two ways on."""
    with DaemonSource("docker.io/library/app", engine) as daemon, pytest.raises(NotFound) as caught:
        daemon.resolve("1")
    assert "docker pull app:1" in caught.value.hint


def test_index_is_refused(engine: Any) -> None:
    """Before anything is loaded."""
    source = Memory()
    with DaemonStore("docker.io/library/app", engine) as store, pytest.raises(Unsupported):
        store.tag(make_index(source), "1")
    assert engine.calls == ["close"]


def test_another_image_under_the_name_is_an_error(engine: Any) -> None:
    """The engine did not do what it was asked."""
    source = Memory()
    image = make_image(source)
    engine.answers_id = "sha256:" + "0" * 64
    with DaemonStore("docker.io/library/app", engine) as store:
        for blob in (image.manifest.config, *image.manifest.layers):
            store.put(blob, lambda offset, blob=blob: source.open(blob, offset))  # type: ignore[misc]
        with pytest.raises(EngineError, match="expected the image sha256:"):
            store.tag(image, "1")


def context(folder: Path, name: str, host: str) -> None:
    """As ``docker context create`` writes it."""
    meta = folder / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest()
    meta.mkdir(parents=True)
    fields = {"Name": name, "Metadata": {}, "Endpoints": {"docker": {"Host": host, "SkipTLSVerify": False}}}
    (meta / "meta.json").write_text(json.dumps(fields))
    (folder / "config.json").write_text(json.dumps({"currentContext": name}))


def test_which_engine(tmp_path: Path) -> None:
    """The variable, then the context, then the usual socket."""
    env = {"DOCKER_CONFIG": str(tmp_path), "HOME": str(tmp_path)}
    assert endpoint(env).url.startswith("unix://")
    context(tmp_path, "far", "ssh://user@far")
    assert endpoint(env) == Endpoint("ssh://user@far")
    assert endpoint({**env, "DOCKER_CONTEXT": "default"}).url.startswith("unix://")
    assert endpoint({**env, "DOCKER_HOST": "tcp://near:2375"}) == Endpoint("tcp://near:2375")
    tls = {**env, "DOCKER_HOST": "tcp://near:2376", "DOCKER_TLS_VERIFY": "1"}
    assert endpoint(tls) == Endpoint("tcp://near:2376", str(tmp_path))
    with pytest.raises(EngineError, match="'gone'"):
        endpoint({**env, "DOCKER_CONTEXT": "gone"})
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(EngineError, match=r"config\.json"):
        endpoint(env)


def test_no_socket(tmp_path: Path) -> None:
    """Says how to start the engine."""
    with (
        Docker(Endpoint(f"unix://{tmp_path}/docker.sock")) as docker,
        pytest.raises(EngineError, match="no such socket") as caught,
    ):
        docker.ping()
    assert "systemctl start docker" in caught.value.hint


def test_nobody_listens(tmp_path: Path) -> None:
    """A socket that an engine left behind."""
    path = str(tmp_path / "docker.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
    with Docker(Endpoint(f"unix://{path}")) as docker, pytest.raises(EngineError, match="nothing answers"):
        docker.version()


def test_save_is_streamed(engine: Any, tmp_path: Path) -> None:
    """An export that breaks leaves nothing behind."""
    source = Memory()
    image = make_image(source)
    with DockerArchiveStore(str(tmp_path / "x.tar")) as store:
        copy(source, image, store, ["app:1"])
    engine.load(io.BytesIO((tmp_path / "x.tar").read_bytes()))

    def broken(name: str) -> Iterator[bytes]:
        yield b"half"
        raise EngineError("the engine went away")

    engine.save = broken
    daemon = DaemonSource("docker.io/library/app", engine)
    with pytest.raises(EngineError, match="went away"):
        daemon.resolve("1")
    started = daemon._files.layout.path
    assert not [name for name in os.listdir(started) if name.endswith((".tar", ".part"))]
    daemon.close()
    assert not os.path.exists(started)
