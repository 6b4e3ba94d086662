# SPDX-License-Identifier: Apache-2.0
"""Debian 13, where 32-bit systems have 64-bit time, everything is in /usr and RISC-V is one of the architectures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.real import debian
from tests.real.verify_bench import PATH

from manyfest.content.document import Document
from manyfest.emulate.images import layer_tar, write_image
from manyfest.platforms import Platform
from manyfest.stores.layout import Layout
from manyfest.verify.cache import Cache
from manyfest.verify.image import verify_image

pytestmark = pytest.mark.real

PLATFORMS = {"armhf": "linux/arm/v7", "i386": "linux/386", "riscv64": "linux/riscv64"}
PACKAGES: tuple[str, ...] = (
    "base-files",
    "base-passwd",
    "bash",
    "busybox-static",
    "coreutils",
    "dash",
    "gosu",
    "grep",
    "openssl",
)
PACKAGES += ("perl-base", "python3-minimal", "sed", "tar", "tini")
COMMANDS = {
    "bash": ["bash"],
    "busybox": ["/bin/busybox", "sh"],
    "openssl": ["openssl", "version"],
    "perl": ["/usr/bin/perl", "-v"],
    "python": ["tini", "--", "python3", "--version"],
    "shell-form": ["/bin/sh", "-c", "exec tar --version"],
}


class Release:
    """An image of the packages for each architecture, read once."""

    def __init__(self, folder: Path) -> None:
        self.store = Layout.create(str(folder / "layout"))
        self.cache = Cache(str(folder / "cache"))
        self._tars: dict[str, list[bytes]] = {}

    def image(self, architecture: str, *more: bytes, **settings: Any) -> Document:
        """The packages, each a layer, and what is laid over them."""
        if architecture not in self._tars:
            files = debian.closure(architecture, PACKAGES, "trixie")
            self._tars[architecture] = [debian.tar_of(each) for each in files]
        layers = [*self._tars[architecture], *more]
        platform = Platform.parse(PLATFORMS[architecture])
        settings = {"Env": [PATH], **settings}
        return write_image(self.store, platform, layers, settings=settings, compression="none")

    def look(self, document: Document) -> tuple[list[str], str]:
        """Errors and warnings, and whether it starts."""
        report = verify_image(self.store, document, cache=self.cache)
        start = report.images[0].start
        assert start is not None
        assert report.images[0].counts["programs"] > 100
        said = [
            f"{each.check} {each.path} {each.message}" for each in report.findings if each.severity != "note"
        ]
        return said, start["verdict"]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """One store for all."""
    return Release(tmp_path_factory.mktemp("trixie"))


@pytest.mark.parametrize("architecture", list(PLATFORMS))
def test_untouched_it_gives_no_error_and_no_warning(release: Release, architecture: str) -> None:
    """Every program along PATH with all its libraries, whatever the image starts."""
    for command in COMMANDS.values():
        assert release.look(release.image(architecture, Cmd=command)) == ([], "starts"), command


@pytest.mark.parametrize("architecture", list(PLATFORMS))
def test_without_a_library_exactly_that_is_said(release: Release, architecture: str) -> None:
    """openssl without the library that was renamed for 64-bit time."""
    names = {"armhf": "arm-linux-gnueabihf", "i386": "i386-linux-gnu", "riscv64": "riscv64-linux-gnu"}
    gone = layer_tar({f"usr/lib/{names[architecture]}/.wh.libssl.so.3": (b"", 0o644)})
    said, verdict = release.look(release.image(architecture, gone, Cmd=["openssl", "version"]))
    assert verdict == "fails"
    assert {each.split()[0] for each in said} == {"MF305"}
    assert "libssl.so.3" in said[0]
