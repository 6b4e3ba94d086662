# SPDX-License-Identifier: Apache-2.0
"""What a preset says of one platform, and how compilers are found."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from manyfest.errors import BuildError
from manyfest.values import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LIBCS", "Compile", "Setup", "on_path", "variable", "wrapper"]

LIBCS = ("musl", "gnu")


class Compile(Value):
    """``compile:`` of a project file.

    ``libc``: musl or gnu, for the presets that can do both. ``once``: one run is for all platforms.
    """

    __slots__ = ("environment", "libc", "once", "outputs", "run", "toolchain")
    environment: tuple[tuple[str, str], ...]
    libc: str
    once: bool
    outputs: tuple[str, ...]
    run: str
    toolchain: str

    def __init__(
        self,
        toolchain: str,
        run: str,
        outputs: tuple[str, ...],
        environment: tuple[tuple[str, str], ...] = (),
        libc: str = "musl",
        *,
        once: bool = False,
    ) -> None:
        self._set(
            toolchain=toolchain, run=run, outputs=outputs, environment=environment, libc=libc, once=once
        )


class Setup(Value):
    """What a compiler needs for a platform.

    ``tool``: the compiler's path, whose folder goes first on PATH; may be empty. ``files``: path and text of programs
    and settings that are written before. ``facts``: what else tells this compiler from another.
    """

    __slots__ = ("environment", "facts", "files", "tool")
    environment: tuple[tuple[str, str], ...]
    facts: tuple[str, ...]
    files: tuple[tuple[str, str], ...]
    tool: str

    def __init__(
        self,
        tool: str = "",
        environment: Mapping[str, str] | None = None,
        files: Mapping[str, str] | None = None,
        facts: tuple[str, ...] = (),
    ) -> None:
        self._set(
            tool=tool,
            environment=tuple((environment or {}).items()),
            files=tuple((files or {}).items()),
            facts=facts,
        )


def on_path(name: str, hint: str = "") -> str:
    """A program's path. Raises :class:`BuildError`, with how to get it."""
    found = shutil.which(name)
    if found is None:
        preset = f"pip install 'manyfest[toolchains]', or put {name} on PATH"
        raise BuildError(f"toolchain {name}: no {name} is installed", hint=hint or preset)
    return found


def variable(name: str) -> str:
    """A path from the environment, if a program is there."""
    path = os.environ.get(name, "")
    return path if path and os.access(path, os.X_OK) else ""


def wrapper(*words: str) -> str:
    """The text of a program that calls another with some words in front of its own; the words are shell-quoted."""
    return f'#!/bin/sh\nexec {" ".join(words)} "$@"\n'
