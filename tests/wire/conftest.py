# SPDX-License-Identifier: Apache-2.0
"""What conversations with scripted registries share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from manyfest.stores.registry.hosts import Hosts
from manyfest.stores.registry.settings import Settings
from manyfest.stores.registry.transport import HTTPTransport
from manyfest.testing.script import Certificate, ScriptedRegistry, make_certificate

_LEAKS = ("proxy", "docker_config", "manyfest_", "ssl_cert_", "registries_conf", "xdg_config_home")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the machine's proxies, credentials or certificates reaches a test."""
    for name in os.environ:
        if any(part in name.lower() for part in _LEAKS):
            monkeypatch.delenv(name)


@pytest.fixture
def isolated(tmp_path: Path) -> Callable[..., Settings]:
    """Settings that read nothing outside the test's own directory."""

    def make(**changes: object) -> Settings:
        fields: dict[str, object] = {
            "config": str(tmp_path / "config.toml"),
            "docker_config": str(tmp_path / "docker"),
            "certs_d": (str(tmp_path / "certs.d"),),
            "registries_conf": (),
            "timeout_s": 10.0,
        }
        return Settings(**{**fields, **changes})  # type: ignore[arg-type]

    return make


@pytest.fixture
def connect(isolated: Callable[..., Settings]) -> Iterator[Callable[..., HTTPTransport]]:
    """Makes transports, and closes them."""
    made: list[HTTPTransport] = []

    def make(**changes: object) -> HTTPTransport:
        made.append(HTTPTransport(Hosts(isolated(**changes))))
        return made[-1]

    yield make
    for transport in made:
        transport.close()


@pytest.fixture
def registry() -> Iterator[ScriptedRegistry]:
    """A scripted registry on plain HTTP."""
    with ScriptedRegistry() as scripted:
        yield scripted


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A self-signed CA:TRUE certificate for localhost and 127.0.0.1, as plain ``openssl req -x509`` makes it."""
    return make_certificate(str(tmp_path_factory.mktemp("ca")), "ca")


@pytest.fixture(scope="session")
def certificate(authority: Certificate, tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A leaf for localhost and 127.0.0.1, signed by ``authority``."""
    return make_certificate(str(tmp_path_factory.mktemp("leaf")), "leaf", issuer=authority)
