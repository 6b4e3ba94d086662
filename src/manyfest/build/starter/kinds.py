# SPDX-License-Identifier: Apache-2.0
"""The kinds of projects: how one is recognised, and how it is built."""

from __future__ import annotations

import os
import re
import tomllib
from typing import TYPE_CHECKING

from manyfest.build.starter.java import java, maven
from manyfest.build.starter.python import python
from manyfest.build.starter.recipe import PLATFORMS, Recipe, Wish, found, plain, read_text
from manyfest.build.toolchains import LIBCS
from manyfest.errors import InputError, InvalidProject

if TYPE_CHECKING:
    from typing import Any

__all__ = ["KINDS", "WITH_LIBC", "kind_of", "recipe_of"]

KINDS = ("go", "rust", "cmake", "c", "cpp", "java", "maven", "python", "static")

WITH_LIBC = ("c", "cpp", "rust", "cmake")

_FILES = {"go.mod": "go", "Cargo.toml": "rust", "CMakeLists.txt": "cmake", "pom.xml": "maven"}
_PYTHON = ("pyproject.toml", "requirements.txt", "setup.py")
_ENDINGS = (
    (".java", "java"),
    (".py", "python"),
    (".cpp", "cpp"),
    (".cc", "cpp"),
    (".cxx", "cpp"),
    (".c", "c"),
)
_GNU_BASE = "docker.io/library/debian:stable-slim"
_FOUND_EXECUTABLE = re.compile(r"^\s*add_executable\s*\(\s*([^\s)]+)", re.MULTILINE | re.IGNORECASE)
_PROJECT_NAME = re.compile(r"^\s*project\s*\(\s*([A-Za-z0-9_.-]+)", re.MULTILINE | re.IGNORECASE)
_INSTALLS = re.compile(r"^\s*install\s*\(", re.MULTILINE | re.IGNORECASE)


def kind_of(folder: str) -> str:
    """By the files in a folder: one of :data:`KINDS`. Raises :class:`InvalidProject` where it cannot be read."""
    try:
        names = set(os.listdir(folder))
    except OSError as error:
        raise InvalidProject(
            f"{folder}: {error.strerror}", hint="init writes into the folder of a project that is there"
        ) from error
    for name, kind in _FILES.items():
        if name in names:
            return kind
    if names.intersection(_PYTHON):
        return "python"
    # Sources lie here, or somewhere in src; what is deep elsewhere may be anything.
    sources = [*names, *found(os.path.join(folder, "src"), *(ending for ending, _ in _ENDINGS))]
    for ending, kind in _ENDINGS:
        if any(name.endswith(ending) for name in sources):
            return kind
    return "static"


def recipe_of(kind: str, folder: str, name: str, libc: str) -> Recipe:
    """How a folder of a kind is built.

    Raises :class:`InputError` for a kind that is not one of :data:`KINDS`, :class:`InvalidProject` for a folder that
    lacks what the kind needs.
    """
    recipes = {
        "go": _go,
        "rust": _rust,
        "cmake": _cmake,
        "c": _c,
        "cpp": _cpp,
        "java": java,
        "maven": maven,
        "python": python,
        "static": _static,
    }
    if kind not in recipes:
        raise InputError(f"kind {kind!r}: expected one of {', '.join(KINDS)}")
    if libc != LIBCS[0] and kind not in WITH_LIBC:
        raise InputError(f"kind {kind} has no choice of a libc", hint=f"{', '.join(WITH_LIBC)} have")
    return recipes[kind](Wish(folder, name, libc))


def _static(wish: Wish) -> Recipe:
    del wish
    return Recipe("", "FROM scratch\nCOPY . /srv/\n")


def _go(wish: Wish) -> Recipe:
    wish.require("go.mod", "go mod init NAME writes one")
    output, package = f"out/{wish.name}", _main_package(wish)
    text = f"""\
compile:
  toolchain: go
  run: go build -trimpath -ldflags=-s -o {output} {package}
  outputs: [{output}]
"""
    return Recipe(text, _program(output), is_whole=True)


def _main_package(wish: Wish) -> str:
    """The module's own folder, or the one under ``cmd`` that is named like the image, or the only one."""
    own = [name for name in os.listdir(wish.folder) if name.endswith(".go") and not name.endswith("_test.go")]
    commands = sorted({os.path.dirname(path) for path in found(wish.path("cmd"), ".go")} - {""})
    if own or not commands:
        return "."
    chosen = wish.name if wish.name in commands else commands[0]
    if len(commands) > 1 and chosen != wish.name:
        raise InvalidProject(
            f"{wish.folder}/cmd has {', '.join(commands)}: which one?", hint="name the image like one of them"
        )
    return f"./cmd/{plain(chosen, 'a folder')}"


def _c(wish: Wish) -> Recipe:
    return _zig(wish, "$CC $CFLAGS", (".c",))


def _cpp(wish: Wish) -> Recipe:
    return _zig(wish, "$CXX $CXXFLAGS", (".cpp", ".cc", ".cxx"))


def _zig(wish: Wish, compiler: str, endings: tuple[str, ...]) -> Recipe:
    sources = sorted(
        {
            os.path.join(folder, f"*{ending}")
            for folder in ("", "src")
            for ending in endings
            if os.path.isdir(wish.path(folder))
            and any(n.endswith(ending) for n in os.listdir(wish.path(folder)))
        }
    )
    if not sources:
        raise InvalidProject(
            f"{wish.folder}: no {', '.join(endings)} files here or in src",
            hint="run init in the folder of the sources; --kind cmake is for larger trees",
        )
    output, static = f"out/{wish.name}", " -static" if wish.libc == "musl" else ""
    text = f"""\
compile:
  toolchain: zig{_libc(wish)}
  run: {compiler} -Os -s{static} -o {output} {" ".join(sources)}
  outputs: [{output}]
"""
    return _native(wish, text, output)


def _rust(wish: Wish) -> Recipe:
    output = f"out/{_cargo_program(wish)}"
    text = f"""\
compile:
  toolchain: rust{_libc(wish)}
  outputs: [{output}]
"""
    # Rust has no musl for s390x, and a program that needs a glibc does not start from scratch.
    able = PLATFORMS if wish.libc == "gnu" else tuple(each for each in PLATFORMS if each != "linux/s390x")
    return _native(wish, text, output, needs="rust", platforms=able, ignored=("target",))


def _cargo_program(wish: Wish) -> str:
    """The program that cargo makes: the first ``[[bin]]``, else the package's name."""
    text = read_text(wish.path("Cargo.toml"))
    try:
        fields: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidProject(f"{wish.path('Cargo.toml')}: {error}") from error
    package, programs = fields.get("package"), fields.get("bin")
    first = programs[0] if isinstance(programs, list) and programs else package
    name = first.get("name") if isinstance(first, dict) else None
    if not isinstance(name, str):
        raise InvalidProject(
            f"{wish.folder}: no Cargo.toml with a [package]",
            hint="run init in the folder of the package to build",
        )
    return plain(name, "Cargo.toml: the program")


def _cmake(wish: Wish) -> Recipe:
    wish.require("CMakeLists.txt", "run init in the folder that has it")
    text = re.sub(r"#.*", "", read_text(wish.path("CMakeLists.txt")))
    programs = [name.strip('"') for name in _FOUND_EXECUTABLE.findall(text)]
    name = wish.name if wish.name in programs or not programs else programs[0]
    project = _PROJECT_NAME.search(text)
    if name.upper() in ("${PROJECT_NAME}", "${CMAKE_PROJECT_NAME}") and project is not None:
        name = project[1]
    name = plain(name, "CMakeLists.txt: the program")
    run = ""
    if not _INSTALLS.search(text):
        # Without install() nothing would be installed; the program is where it was built.
        run = (
            "\n  run: >-\n    cmake -S . -B {build} -DCMAKE_BUILD_TYPE=Release && cmake --build {build} --parallel &&"
            f"\n    install -D {{build}}/{name} {{out}}/out/bin/{name}"
        )
    made = f"compile:\n  toolchain: cmake{_libc(wish)}{run}\n  outputs: [out]\n"
    head = _base(wish)
    dockerfile = f'{head}COPY out/ /usr/local/\nUSER 65532:65532\nENTRYPOINT ["/usr/local/bin/{name}"]\n'
    return Recipe(made, dockerfile, is_whole=wish.libc == "musl", needs="cmake")


def _native(
    wish: Wish,
    compile: str,
    output: str,
    *,
    needs: str = "",
    platforms: tuple[str, ...] = PLATFORMS,
    ignored: tuple[str, ...] = (),
) -> Recipe:
    dockerfile = _base(wish) + _program(output).removeprefix("FROM scratch\n")
    whole = wish.libc == "musl"
    return Recipe(compile, dockerfile, is_whole=whole, needs=needs, platforms=platforms, ignored=ignored)


def _base(wish: Wish) -> str:
    return "FROM scratch\n" if wish.libc == "musl" else f"ARG BASE={_GNU_BASE}\nFROM $BASE\n"


def _program(output: str) -> str:
    name = output.rpartition("/")[2]
    return f'FROM scratch\nCOPY {output} /{name}\nUSER 65532:65532\nENTRYPOINT ["/{name}"]\n'


def _libc(wish: Wish) -> str:
    return "\n  libc: gnu" if wish.libc == "gnu" else ""
