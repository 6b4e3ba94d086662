# SPDX-License-Identifier: Apache-2.0
"""What the building jobs build: a project with a big shared part and a program for each platform, and a tar archive.

The bytes are those of the running Python's own files, one after another and from the beginning again: text, byte code
and machine code, as images hold them; gzip makes a third of them. What is built differs a little every time, so that no
tool finds it in a cache of its own.
"""

from __future__ import annotations

import sysconfig
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from bench.names import PLATFORMS

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PROGRAM_BYTES", "SHARED_BYTES", "TAR_BYTES", "Project"]

SHARED_BYTES = 300_000_000
PROGRAM_BYTES = 10_000_000
TAR_BYTES = 400_000_000
_FILES = 100
_PIECE = 1024 * 1024
_DOCKERFILE = """\
FROM scratch
COPY shared /shared
ARG TARGETARCH
COPY bin/$TARGETARCH /app
ENTRYPOINT ["/app"]
"""


class Project:
    """``folder`` is for ``build``, ``archive`` holds ``layer.tar`` and a Dockerfile that adds it, and no more."""

    def __init__(self, scratch: Path) -> None:
        self.folder = scratch / "project"
        self.archive = scratch / "archive"
        self.tar = self.archive / "layer.tar"

    def write(self) -> None:
        """Everything."""
        source = _python()
        for name in ("shared", "bin"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "Dockerfile").write_text(_DOCKERFILE)
        for number in range(_FILES):
            _fill(self.folder / "shared" / f"{number:03}", SHARED_BYTES // _FILES, source)
        for platform in PLATFORMS:
            program = self.folder / "bin" / platform.split("/")[1]
            _fill(program, PROGRAM_BYTES, source, platform.encode())
            program.chmod(0o755)
        self.archive.mkdir()
        (self.archive / "Dockerfile").write_text("FROM scratch\nADD layer.tar /\n")
        (self.archive / ".dockerignore").write_text("content\n")
        _fill(self.archive / "content", TAR_BYTES, source)
        with tarfile.open(self.tar, "w") as tar:
            tar.add(self.archive / "content", "content")
        (self.archive / "content").unlink()

    def change(self, serial: int) -> None:
        """A few bytes of the shared part, of every program and of what the archive holds."""
        paths = [self.folder / "shared" / "000", *(self.folder / "bin").iterdir(), self.tar]
        for path in paths:
            with path.open("r+b") as file:
                file.seek(4096)
                file.write(b"%016d" % serial)


def _fill(path: Path, size: int, source: Iterator[bytes], head: bytes = b"") -> None:
    with path.open("wb") as file:
        file.write(head)
        while (left := size - file.tell()) > 0:
            file.write(next(source)[:left])


def _python() -> Iterator[bytes]:
    """What Python's library consists of, for ever, in pieces."""
    folder = sysconfig.get_path("stdlib")
    found = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    while True:
        for path in found:
            with path.open("rb") as file:
                while piece := file.read(_PIECE):
                    yield piece
