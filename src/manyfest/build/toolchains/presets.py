# SPDX-License-Identifier: Apache-2.0
"""The presets by name."""

from __future__ import annotations

import posixpath
import shlex
from typing import TYPE_CHECKING

from manyfest.build.toolchains.cmake import cmake
from manyfest.build.toolchains.golang import go
from manyfest.build.toolchains.java import java
from manyfest.build.toolchains.rust import rust
from manyfest.build.toolchains.setup import Setup
from manyfest.build.toolchains.zig import zig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from manyfest.build.toolchains.setup import Compile
    from manyfest.platforms import Platform

__all__ = ["SHARED", "TOOLCHAINS", "WITH_LIBC", "default_run", "setup"]

TOOLCHAINS = ("go", "zig", "rust", "java", "cmake", "custom")

SHARED = frozenset({"java"})
"""Whose outputs run everywhere."""

WITH_LIBC = frozenset({"zig", "rust", "cmake"})
"""Who can compile against musl or glibc."""


def setup(wanted: Compile, platform: Platform, folder: str, project: str) -> Setup:
    """What the toolchain needs for a platform. ``folder``: where files of ours will be.

    Raises :class:`BuildError` for a missing compiler, :class:`InvalidProject` for a platform that it lacks.
    """
    name, libc = wanted.toolchain, wanted.libc
    if name == "go":
        return go(platform)
    if name == "zig":
        return zig(platform, libc)
    if name == "rust":
        return rust(platform, libc, folder, project)
    if name == "cmake":
        return cmake(platform, libc, folder)
    return java() if name == "java" else Setup()


def default_run(toolchain: str, outputs: Sequence[str]) -> str:
    """The command where the project says none; empty if nobody can know it."""
    if len(outputs) != 1:
        return ""
    output = shlex.quote(outputs[0])
    if toolchain == "go":
        return f"go build -trimpath -ldflags=-s -o {outputs[0]} ."
    if toolchain == "rust":
        program = shlex.quote(posixpath.basename(outputs[0]))
        made = f'"$CARGO_TARGET_DIR/$CARGO_BUILD_TARGET/release/"{program}'
        return f"cargo build --release && install -D {made} {{out}}/{output}"
    if toolchain == "cmake":
        return (
            "cmake -S . -B {build} -DCMAKE_BUILD_TYPE=Release && cmake --build {build} --parallel && "
            f"cmake --install {{build}} --prefix {{out}}/{output}"
        )
    return ""
