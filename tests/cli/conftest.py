# SPDX-License-Identifier: Apache-2.0
"""Commands run in this process, against an embedded registry on a free port."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from manyfest.cli.main import main
from manyfest.serve.http import Server
from manyfest.serve.registry import RegistryApp
from manyfest.stores.layout import Layout
from manyfest.testing.images import make_image, make_index


class Ran:
    """How a command ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def json(self) -> Any:
        """Standard output, which must be one JSON document."""
        return json.loads(self.out)

    @property
    def last(self) -> str:
        """The last line of standard output."""
        return self.out.splitlines()[-1]

    def __repr__(self) -> str:
        return f"exit {self.code}\n{self.out}{self.err}"


Run = Callable[..., Ran]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """``run("push", "-f", path)``; ``ok=True`` by default asks for exit code 0."""

    def call(*argv: str, ok: bool = True) -> Ran:
        capfd.readouterr()
        code = main(argv)
        ran = Ran(code, *capfd.readouterr())
        if ok:
            assert code == 0, ran
        return ran

    return call


@pytest.fixture
def host(tmp_path: Path) -> Iterator[str]:
    """``HOST:PORT`` of a registry that holds nothing."""
    with Server(RegistryApp(str(tmp_path / "registry"))) as server:
        yield server.host


@pytest.fixture
def layout(tmp_path: Path) -> str:
    """An OCI layout with Docker images ``amd64``, ``armhf`` (whose config only says arm), ``s390x`` and an attested
    OCI index ``attested``."""
    path = str(tmp_path / "layout")
    store = Layout.create(path, durable=False)
    for tag, platform in (("amd64", "linux/amd64"), ("armhf", "linux/arm"), ("s390x", "linux/s390x")):
        make_image(store, platform, docker=True, tag=tag)
    make_index(store, ("linux/amd64", "linux/arm64"), attestations=True, tag="attested")
    return f"oci:{path}"


@pytest.fixture
def app(run: Run, host: str, layout: str) -> str:
    """A repository that holds what the layout holds."""
    name = f"{host}/acme/app"
    for tag in ("amd64", "armhf", "s390x", "attested"):
        run("copy", f"{layout}:{tag}", f"{name}:{tag}", "-q")
    return name
