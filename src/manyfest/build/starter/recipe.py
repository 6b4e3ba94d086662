# SPDX-License-Identifier: Apache-2.0
"""What the kinds of projects differ in."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from manyfest.errors import InvalidProject
from manyfest.values import Value

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PLATFORMS", "Recipe", "Wish", "found", "plain", "read_text"]

PLATFORMS = ("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/ppc64le", "linux/s390x", "linux/riscv64")

_MAX_BYTES = 1 << 20
_MAX_FILES = 10_000
_SKIPPED = frozenset({"build", "dist", "node_modules", "out", "target", "vendor", "venv"})


class Wish(Value):
    """What is asked for: the project's ``folder``, the image's last ``name``, and the ``libc``."""

    __slots__ = ("folder", "libc", "name")
    folder: str
    libc: str
    name: str

    def __init__(self, folder: str, name: str, libc: str = "musl") -> None:
        self._set(folder=folder, name=name, libc=libc)

    def path(self, name: str) -> str:
        """Of a file in the folder."""
        return os.path.normpath(os.path.join(self.folder, name))

    def require(self, name: str, hint: str) -> None:
        """Raises :class:`InvalidProject` unless the folder has that file."""
        if not os.path.isfile(self.path(name)):
            raise InvalidProject(f"{self.folder}: no {name}", hint=hint)


class Recipe(Value):
    """How a kind of project is built.

    ``compile``: the key of the project file, may be empty; ``ignored``: more lines for ``.dockerignore``;
    ``is_whole``: is all that starts in the image from this project, so that ``verify`` need not read a base?
    ``needs``: what a pipeline has to install, a key of its table; ``platforms``: those that it can do.
    """

    __slots__ = ("compile", "dockerfile", "ignored", "is_whole", "needs", "platforms")
    compile: str
    dockerfile: str
    ignored: tuple[str, ...]
    is_whole: bool
    needs: str
    platforms: tuple[str, ...]

    def __init__(
        self,
        compile: str,
        dockerfile: str,
        *,
        ignored: tuple[str, ...] = (),
        is_whole: bool = False,
        needs: str = "",
        platforms: tuple[str, ...] = PLATFORMS,
    ) -> None:
        self._set(
            compile=compile,
            dockerfile=dockerfile,
            ignored=ignored,
            is_whole=is_whole,
            needs=needs,
            platforms=platforms,
        )


def found(folder: str, *endings: str) -> Iterator[str]:
    """Files with one of the endings, by path in the folder, sorted; not what is hidden or was made."""
    seen = 0
    for at, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED and not name.startswith("."))
        seen += len(names)
        if seen > _MAX_FILES:
            return
        for name in sorted(names):
            if name.endswith(endings):
                yield os.path.relpath(os.path.join(at, name), folder)


def read_text(path: str) -> str:
    """The beginning of a file, which may be anything; empty where there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_MAX_BYTES)
    except (FileNotFoundError, IsADirectoryError):
        return ""
    except OSError as error:
        raise InvalidProject(f"{path}: {error.strerror}") from error


def plain(word: str, what: str) -> str:
    """A word of the project that is going to stand in commands and YAML as it is. Raises :class:`InvalidProject`."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_./-]*", word) or ".." in word:
        raise InvalidProject(f"{what} {word!r}: expected letters, digits, dots and dashes only")
    return word
