# SPDX-License-Identifier: Apache-2.0
"""A folder with images and registries for every page; see ``world.py``."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.docs.world import Shell, registries, write_images


@pytest.fixture(scope="session")
def tour_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images, made once."""
    folder = tmp_path_factory.mktemp("tour") / "images"
    write_images(folder)
    return folder


@pytest.fixture
def shell(tmp_path: Path, tour_images: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    """In an own folder, with everything that pages speak of."""
    here = tmp_path / "here"
    shutil.copytree(tour_images, here / "tour" / "images")
    monkeypatch.chdir(here)
    with registries(tmp_path / "registries") as config:
        monkeypatch.setenv("MANYFEST_CONFIG", str(config))
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
        yield Shell(tmp_path / "bin")
