# SPDX-License-Identifier: Apache-2.0
"""The copy command into places without a tag: the image is there, and is the only one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from manyfest.cli.main import main
from manyfest.stores.archive import Archive
from manyfest.stores.dockerarchive import DockerArchive
from manyfest.stores.layout import Layout
from manyfest.testing import make_image, make_index

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from manyfest.stores.base import Source


@pytest.mark.parametrize(
    ("scheme", "opened"), [("oci", Layout), ("oci-archive", Archive), ("docker-archive", DockerArchive)]
)
def test_copy_without_a_tag(tmp_path: Path, scheme: str, opened: Callable[[str], Source]) -> None:
    """It can be read back without one; a second copy takes its place."""
    source, target = Layout.create(str(tmp_path / "from")), str(tmp_path / "to")
    for seed in (1, 2):
        make_index(source, ["linux/amd64", "linux/arm64"], seed=seed, tag=f"v{seed}")
        image = make_image(source, "linux/arm64", seed=seed)
        assert (
            main(["copy", f"{source.place}:v{seed}", f"{scheme}:{target}", "--platform", "linux/arm64"]) == 0
        )
    with opened(target) as place:
        found = place.resolve("")
        if found.is_index:
            assert [child.digest for child in found.index.manifests] == [image.digest]
        else:
            assert found.manifest.config.digest == image.manifest.config.digest
