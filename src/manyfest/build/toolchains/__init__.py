# SPDX-License-Identifier: Apache-2.0
"""Compiling for every platform on this machine, before the image step.

A toolchain says what a compiler needs to know of a platform:

- ``go``: GOOS, GOARCH, GOARM, GOAMD64, …; CGO_ENABLED=0
- ``zig``: CC, CXX, AR and RANLIB as ``zig cc -target …``, for C and C++
- ``rust``: CARGO_BUILD_TARGET, CARGO_TARGET_DIR and a linker for the target
- ``cmake``: CMAKE_TOOLCHAIN_FILE
- ``java``: JAVA_HOME; compiled once for all platforms
- ``custom``: nothing but the words below; with ``once: true`` run once for all platforms

Every command may use ``{os} {arch} {variant} {triple} {debian} {uname} {platform}`` and ``{out}``, a folder of the
platform's own, and finds most of them in TARGETOS, TARGETARCH, TARGETVARIANT, TARGETPLATFORM, TARGETTRIPLE and OUT;
``{build}`` (BUILD) is a folder that is still there the next time. Outputs are taken out of the project after each run,
so platforms never see each other's; a command whose words are the outputs themselves (``-o out/app``), or that uses
``{out}``, writes there at once and runs for several platforms side by side.

What a platform's outputs were made from is remembered; the command runs again only if that changed.
"""

from __future__ import annotations

from manyfest.build.toolchains.compiler import Compiler, Job
from manyfest.build.toolchains.presets import SHARED, TOOLCHAINS, WITH_LIBC, default_run
from manyfest.build.toolchains.rust import rust_target
from manyfest.build.toolchains.setup import LIBCS, Compile
from manyfest.build.toolchains.zig import zig_target

__all__ = [
    "LIBCS",
    "SHARED",
    "TOOLCHAINS",
    "WITH_LIBC",
    "Compile",
    "Compiler",
    "Job",
    "default_run",
    "rust_target",
    "zig_target",
]
