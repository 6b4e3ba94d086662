# SPDX-License-Identifier: Apache-2.0
"""Rust: cargo with the platform's target triple, and a linker for it.

``libc: musl`` makes static programs where Rust has a musl target (not for s390x); ``libc: gnu`` programs that need a
glibc. The linker is what the user set, else the compiler of this machine for its own platform and glibc, else GNU's
cross compiler from PATH, else zig. https://doc.rust-lang.org/nightly/rustc/platform-support.html
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from manyfest.build.toolchains import ziglink
from manyfest.build.toolchains.setup import Setup, on_path, variable, wrapper
from manyfest.build.toolchains.zig import compilers, find_zig, zig_target
from manyfest.errors import BuildError, InvalidProject
from manyfest.platforms import names, normalise

if TYPE_CHECKING:
    from manyfest.platforms import Platform

__all__ = ["rust", "rust_target"]

_TIMEOUT_S = 120
"""Seconds for a question to rustc; rustup may first bring the toolchain that the project asks for."""

_TARGETS = {
    ("amd64", ""): ("x86_64-unknown-linux-musl", "x86_64-unknown-linux-gnu"),
    ("386", ""): ("i686-unknown-linux-musl", "i686-unknown-linux-gnu"),
    ("arm64", ""): ("aarch64-unknown-linux-musl", "aarch64-unknown-linux-gnu"),
    ("arm", "v7"): ("armv7-unknown-linux-musleabihf", "armv7-unknown-linux-gnueabihf"),
    ("arm", "v6"): ("arm-unknown-linux-musleabihf", "arm-unknown-linux-gnueabihf"),
    ("arm", "v5"): ("armv5te-unknown-linux-musleabi", "armv5te-unknown-linux-gnueabi"),
    ("ppc64le", ""): ("powerpc64le-unknown-linux-musl", "powerpc64le-unknown-linux-gnu"),
    ("riscv64", ""): ("riscv64gc-unknown-linux-musl", "riscv64gc-unknown-linux-gnu"),
    ("loong64", ""): ("loongarch64-unknown-linux-musl", "loongarch64-unknown-linux-gnu"),
    ("s390x", ""): ("", "s390x-unknown-linux-gnu"),
}
_LEVELS = {"v2": "x86-64-v2", "v3": "x86-64-v3", "v4": "x86-64-v4"}


def rust(platform: Platform, libc: str, folder: str, project: str) -> Setup:
    """CARGO_BUILD_TARGET and the linker of that target. ``folder`` is for files of ours.

    Raises :class:`BuildError` without cargo, without the target's libraries, or without any linker;
    :class:`InvalidProject` for a platform that Rust does not have.
    """
    target = rust_target(platform, libc)
    cargo = on_path("cargo", "install Rust: https://rustup.rs, or apt-get install cargo")
    rustc = variable("RUSTC") or on_path("rustc", "install Rust: https://rustup.rs, or apt-get install rustc")
    version, sysroot = _ask(rustc, project, "-vV"), _ask(rustc, project, "--print", "sysroot")
    if not os.path.isdir(os.path.join(sysroot, "lib", "rustlib", target, "lib")):
        raise BuildError(
            f"compiling for {platform}: {rustc} has no libraries for {target}",
            hint=_how_to_add(target, libc),
        )
    upper = target.upper().replace("-", "_")
    environment = {"CARGO_BUILD_TARGET": target, "CARGO_TERM_COLOR": "never"}
    level = _LEVELS.get(platform.variant) if platform.architecture == "amd64" else None
    if level is not None:
        environment[f"CARGO_TARGET_{upper}_RUSTFLAGS"] = f"-Ctarget-cpu={level}"
    files: dict[str, str] = {}
    name = f"CARGO_TARGET_{upper}_LINKER"
    if name not in os.environ and not _is_own(version, target):
        environment[name], more, files = _linker(platform, target, folder)
        environment.update(more)
    return Setup(cargo, environment, files, (rustc, version))


def rust_target(platform: Platform, libc: str) -> str:
    """rustc's name. Raises :class:`InvalidProject`."""
    normal = normalise(platform)
    found = _TARGETS.get((normal.architecture, normal.variant)) or _TARGETS.get((normal.architecture, ""))
    if normal.os != "linux" or found is None:
        known = ", ".join("linux/" + "/".join(filter(None, pair)) for pair in _TARGETS)
        raise InvalidProject(f"toolchain rust: no target for {platform}", hint=f"it has {known}")
    return found[1] if libc == "gnu" or not found[0] else found[0]


def _ask(rustc: str, project: str, *words: str) -> str:
    """What rustc prints in the project's folder, where a ``rust-toolchain.toml`` counts."""
    try:
        done = subprocess.run(
            [rustc, *words],
            cwd=project,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{rustc} {' '.join(words)}: {error}") from error
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise BuildError(f"{rustc} {' '.join(words)}: {said[0] if said else f'exit code {done.returncode}'}")
    return done.stdout.strip()


def _how_to_add(target: str, libc: str) -> str:
    if shutil.which("rustup") is not None:
        return f"rustup target add {target}"
    other = "" if libc == "gnu" else "; compile: {libc: gnu} needs no musl"
    return f"a Rust of rustup (https://rustup.rs) can: rustup target add {target}{other}"


def _is_own(version: str, target: str) -> bool:
    """Does this machine's own compiler link it, with nothing said?"""
    return f"host: {target}" in version.splitlines() and shutil.which("cc") is not None


def _linker(platform: Platform, target: str, folder: str) -> tuple[str, dict[str, str], dict[str, str]]:
    """The linker's path; what crates with C in them need; files to write."""
    libc = "gnu" if "-gnu" in target else "musl"
    triple = names(platform).gnu
    cross = shutil.which(f"{triple}-gcc" if libc == "gnu" else f"{triple.replace('gnu', 'musl')}-gcc")
    key = target.replace("-", "_")
    if cross is not None:
        return cross, {f"CC_{key}": cross}, {}
    try:
        zig = find_zig()
    except BuildError as error:
        raise BuildError(
            f"compiling for {platform}: no linker for {target}",
            hint="pip install 'manyfest[toolchains]' brings zig, which is one; or apt-get install "
            f"gcc-{triple} with compile: {{libc: gnu}}",
        ) from error
    path = os.path.join(folder, "linker")
    zig_name, cpu = zig_target(platform, libc)
    words = (sys.executable, "-I", ziglink.__file__, zig, zig_name, cpu)
    files = compilers(platform, libc, folder)
    files[path] = wrapper(*map(shlex.quote, words))
    known = {f"CC_{key}": "cc", f"CXX_{key}": "c++", f"AR_{key}": "ar"}
    return path, {name: os.path.join(folder, program) for name, program in known.items()}, files
