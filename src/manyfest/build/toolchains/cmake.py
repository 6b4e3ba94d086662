# SPDX-License-Identifier: Apache-2.0
"""CMake: a toolchain file for every platform, over zig or GNU's cross compilers.

``libc: musl`` compiles with zig, and links statically. ``libc: gnu`` takes ``TRIPLE-gcc`` from PATH, as Debian's
packages ``gcc-TRIPLE`` install it, else zig. https://cmake.org/cmake/help/latest/manual/cmake-toolchains.7.html
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from manyfest.build.toolchains.setup import Setup, on_path
from manyfest.build.toolchains.zig import compilers
from manyfest.errors import InvalidProject
from manyfest.platforms import names

if TYPE_CHECKING:
    from manyfest.platforms import Platform

__all__ = ["cmake"]


def cmake(platform: Platform, libc: str, folder: str) -> Setup:
    """CMAKE_TOOLCHAIN_FILE, which CMake reads from 3.21 on. ``folder`` is for files of ours.

    Raises :class:`BuildError` where there is no CMake or no compiler, :class:`InvalidProject` for a platform.
    """
    row = names(platform)
    if platform.os != "linux" or not row.uname:
        raise InvalidProject(
            f"toolchain cmake: no compiler for {platform}", hint="toolchain: custom runs any"
        )
    tool = on_path("cmake", "apt-get install cmake, or pip install cmake")
    file = os.path.join(folder, "toolchain.cmake")
    gcc = shutil.which(f"{row.gnu}-gcc") if libc == "gnu" else None
    if gcc is not None:
        files, lines = dict[str, str](), _gnu(row.gnu, gcc)
    else:
        files, lines = compilers(platform, libc, folder), _zig(folder, libc)
    head = ["set(CMAKE_SYSTEM_NAME Linux)", f"set(CMAKE_SYSTEM_PROCESSOR {row.uname})"]
    files[file] = "\n".join([*head, *lines, ""])
    facts = () if gcc is None else (gcc, str(os.stat(gcc).st_mtime_ns))
    return Setup(tool, {"CMAKE_TOOLCHAIN_FILE": file}, files, facts)


def _gnu(triple: str, gcc: str) -> list[str]:
    made = [f'set(CMAKE_C_COMPILER "{gcc}")']
    cxx = shutil.which(f"{triple}-g++")
    return [*made, f'set(CMAKE_CXX_COMPILER "{cxx}")'] if cxx else made


def _zig(folder: str, libc: str) -> list[str]:
    programs = {"C_COMPILER": "cc", "CXX_COMPILER": "c++", "AR": "ar", "RANLIB": "ranlib"}
    static = ['set(CMAKE_EXE_LINKER_FLAGS_INIT "-static")'] if libc == "musl" else []
    # zig's C library comes with what debuggers read, many times the size of the program.
    static.append('set(CMAKE_EXE_LINKER_FLAGS_RELEASE_INIT "-s")')
    return [
        *(f'set(CMAKE_{name} "{os.path.join(folder, program)}")' for name, program in programs.items()),
        *static,
        # Nothing of this machine's libraries is for that platform, or for that libc.
        f'set(CMAKE_FIND_ROOT_PATH "{folder}/none")',
        "set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)",
        *(f"set(CMAKE_FIND_ROOT_PATH_MODE_{kind} ONLY)" for kind in ("LIBRARY", "INCLUDE", "PACKAGE")),
    ]
