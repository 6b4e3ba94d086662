# SPDX-License-Identifier: Apache-2.0
"""zig as a C and C++ compiler: it brings musl and glibc for every architecture."""

from __future__ import annotations

import importlib.util
import os
import shlex

from manyfest.build.toolchains.setup import Setup, on_path, wrapper
from manyfest.errors import InvalidProject
from manyfest.platforms import Platform, normalise

__all__ = ["compilers", "find_zig", "zig", "zig_target"]

_TARGETS = {
    ("amd64", ""): ("x86_64-linux-musl", ""),
    ("amd64", "v2"): ("x86_64-linux-musl", "x86_64_v2"),
    ("amd64", "v3"): ("x86_64-linux-musl", "x86_64_v3"),
    ("amd64", "v4"): ("x86_64-linux-musl", "x86_64_v4"),
    ("386", ""): ("x86-linux-musl", "i686"),
    ("arm64", ""): ("aarch64-linux-musl", ""),
    ("arm", "v7"): ("arm-linux-musleabihf", "generic+v7a+vfp3d16"),
    ("arm", "v6"): ("arm-linux-musleabihf", "arm1176jzf_s"),
    ("arm", "v5"): ("arm-linux-musleabi", "arm926ej_s"),
    ("ppc64le", ""): ("powerpc64le-linux-musl", ""),
    ("s390x", ""): ("s390x-linux-musl", ""),
    ("riscv64", ""): ("riscv64-linux-musl", ""),
    ("loong64", ""): ("loongarch64-linux-musl", ""),
    ("mips64le", ""): ("mips64el-linux-muslabi64", ""),
    ("mipsle", ""): ("mipsel-linux-musleabi", ""),
}


def zig(platform: Platform, libc: str) -> Setup:
    """CC, CXX, AR and RANLIB. Raises :class:`BuildError` where there is no zig, InvalidProject for a platform."""
    target, cpu = zig_target(platform, libc)
    tool = find_zig()
    quoted = shlex.quote(tool)
    flags = f" -target {target}" + (f" -mcpu={cpu}" if cpu else "")
    return Setup(
        tool,
        {
            "CC": f"{quoted} cc{flags}",
            "CXX": f"{quoted} c++{flags}",
            "AR": f"{quoted} ar",
            "RANLIB": f"{quoted} ranlib",
            "ZIGTARGET": target,
        },
    )


def compilers(platform: Platform, libc: str, folder: str) -> dict[str, str]:
    """Programs ``cc``, ``c++``, ``ar`` and ``ranlib`` for what takes a path and no words: path -> text."""
    target, cpu = zig_target(platform, libc)
    quoted = shlex.quote(find_zig())
    flags = ("-target", target, *([f"-mcpu={cpu}"] if cpu else []))
    return {
        os.path.join(folder, "cc"): wrapper(quoted, "cc", *flags),
        os.path.join(folder, "c++"): wrapper(quoted, "c++", *flags),
        os.path.join(folder, "ar"): wrapper(quoted, "ar"),
        os.path.join(folder, "ranlib"): wrapper(quoted, "ranlib"),
    }


def zig_target(platform: Platform, libc: str = "musl") -> tuple[str, str]:
    """zig's ``-target`` and ``-mcpu`` (may be empty). Raises :class:`InvalidProject`."""
    normal = normalise(platform)
    found = _TARGETS.get((normal.architecture, normal.variant))
    if found is None and normal.architecture in ("arm64", "riscv64", "ppc64le"):
        found = _TARGETS.get((normal.architecture, ""))
    if normal.os != "linux" or found is None:
        known = ", ".join("linux/" + "/".join(filter(None, pair)) for pair in _TARGETS)
        raise InvalidProject(f"toolchain zig: no target for {platform}", hint=f"it has {known}")
    return found[0].replace("musl", libc), found[1]


def find_zig() -> str:
    """The zig of the extra ``toolchains`` (package ziglang), else the one on PATH. Raises :class:`BuildError`."""
    found = importlib.util.find_spec("ziglang")
    for folder in (found.submodule_search_locations or ()) if found is not None else ():
        path = os.path.join(folder, "zig")
        if os.access(path, os.X_OK):
            return path
    return on_path("zig")
