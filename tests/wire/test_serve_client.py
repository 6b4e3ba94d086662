# SPDX-License-Identifier: Apache-2.0
"""Our own client against our own registry, over loopback."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from manyfest.errors import AuthRequired
from manyfest.serve.http import Server
from manyfest.serve.registry import RegistryApp
from manyfest.serve.tokens import TokenGuard
from manyfest.stores.base import Source, Store
from manyfest.stores.copy import copy
from manyfest.stores.layout import Layout
from manyfest.stores.memory import Memory
from manyfest.stores.registry.client import Registry
from manyfest.stores.registry.session import Session
from manyfest.stores.registry.settings import Settings
from manyfest.testing import check_store, make_index

PLATFORMS = ["linux/amd64", "linux/arm/v7", "linux/s390x"]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Nothing of the machine's own configuration."""
    return Settings(config=str(tmp_path / "none.toml"), docker_config=str(tmp_path))


@pytest.fixture
def session(settings: Settings) -> Iterator[Session]:
    with Session(settings) as session:
        yield session


@pytest.mark.slow
def test_store_contract_over_http(tmp_path: Path, session: Session) -> None:
    numbers = count()
    with Server(RegistryApp(str(tmp_path / "root"), durable=False)) as server:

        def fresh() -> Store:
            return Registry(server.host, f"contract/{next(numbers)}", session)

        def reopen(store: Store) -> Source:
            return Registry(server.host, store.place.removeprefix(f"{server.host}/"), session)

        check_store(fresh, reopen=reopen, pair=lambda: (fresh(), fresh()), nameless=False)


def test_index_with_attestations_there_and_back(tmp_path: Path, session: Session) -> None:
    here = Memory()
    index = make_index(here, PLATFORMS, attestations=True, tag="1")
    with Server(RegistryApp(str(tmp_path / "root"))) as server:
        copy(here, index, Registry(server.host, "acme/app", session), ["1"])
        back = Memory()
        there = Registry(server.host, "acme/app", session)
        copy(there, there.resolve("1"), back, ["1"])
        assert back.resolve("1") == index
    # The same content, without the registry.
    with Layout(str(tmp_path / "root/acme/app")) as layout:
        assert layout.resolve("1") == index
        for entry in index.index.manifests:
            assert layout.resolve(str(entry.digest)).descriptor.digest == entry.digest


def test_parallel_clients_into_one_repository(tmp_path: Path, settings: Settings) -> None:
    """Several sessions push different images at once; every tag is there in the end."""
    with Server(RegistryApp(str(tmp_path / "root"))) as server:

        def push(seed: int) -> None:
            here = Memory()
            index = make_index(here, PLATFORMS, seed=seed)
            with Session(settings) as session:
                copy(here, index, Registry(server.host, "acme/app", session), [f"v{seed}"])

        threads = [threading.Thread(target=push, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with Session(settings) as session:
            assert list(Registry(server.host, "acme/app", session).tags()) == ["v0", "v1", "v2", "v3"]


def test_tokens(tmp_path: Path, settings: Settings) -> None:
    """Push with a name, pull without one, and no push without one."""
    here = Memory()
    index = make_index(here, PLATFORMS)
    guard = TokenGuard({"ann": "secret"}, anonymous=("pull",))
    with Server(RegistryApp(str(tmp_path / "root"), guard=guard)) as server:
        with Session(settings.replace(username="ann", password="secret")) as session:
            copy(here, index, Registry(server.host, "acme/app", session), ["1"])
        with Session(settings) as session:
            anyone = Registry(server.host, "acme/app", session)
            assert anyone.resolve("1") == index
            guard.revoke()
            assert anyone.resolve("1") == index
            with pytest.raises(AuthRequired):
                anyone.tag(index, "2")
