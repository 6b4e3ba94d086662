# SPDX-License-Identifier: Apache-2.0
"""Walking a project: which files are read, by whom, and what is left alone.

Folders that hold other people's code or results are not entered; files over :data:`MAX_BYTES` are not source code.
Links are not followed, so nothing outside the folder is read.
"""

from __future__ import annotations

import os
import re

from manyfest.build.lint.dockerfile import bases, inspect_dockerfile
from manyfest.build.lint.finding import RULES, Finding
from manyfest.build.lint.pipelines import inspect_pipeline
from manyfest.build.lint.scripts import inspect_script
from manyfest.build.lint.sources import inspect_c, inspect_go
from manyfest.errors import InvalidProject

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["MAX_BYTES", "MAX_FILES", "inspect_tree"]

MAX_BYTES = 1024 * 1024
MAX_FILES = 50_000

_LEFT_ALONE = frozenset(
    {
        ".git",
        ".hg",
        ".svn",
        "node_modules",
        "vendor",
        "third_party",
        "testdata",
        ".venv",
        "venv",
        "dist",
        "target",
    }
)
_C_ENDINGS = (".c", ".cc", ".cpp", ".cxx", ".h", ".hpp")


def inspect_tree(folder: str, lacking: Callable[[str], tuple[list[str], str]] | None = None) -> list[Finding]:
    """Every finding in the project, by path and line.

    ``lacking(image)`` tells which of the project's platforms a base image lacks, or why that is not known; without it
    no base is looked up. Raises :class:`InvalidProject` when the folder cannot be read.
    """
    if not os.path.isdir(folder):
        raise InvalidProject(f"{folder}: no such folder", hint="manyfest lint takes the project's folder")
    findings: list[Finding] = []
    looked: dict[str, tuple[list[str], str]] = {}
    for directory, names in _folders(folder):
        go: dict[str, str] = {}
        for name in names:
            # As the user would type it from where they stand, so that editors can open it.
            path = shown = os.path.normpath(os.path.join(directory, name))
            text = _read(path) if _is_wanted(shown) else None
            if text is None:
                continue
            if name.endswith(".go"):
                go[shown] = text
            findings.extend(_inspect(shown, text))
            if lacking is not None and _is_dockerfile(name):
                findings.extend(_bases(shown, text, lacking, looked))
        findings.extend(inspect_go(go))
    return sorted(findings, key=lambda finding: (finding.path, finding.line, finding.rule.id))


def _inspect(path: str, text: str) -> Iterator[Finding]:
    name = os.path.basename(path)
    if _is_dockerfile(name):
        yield from inspect_dockerfile(path, text)
    elif _is_makefile(name):
        yield from inspect_script(path, text, make=True)
    elif name.endswith((".sh", ".bash")) or re.match(r"#!.*\b(?:ba|da|k|z)?sh\b", text):
        yield from inspect_script(path, text)
    elif _is_pipeline(path):
        yield from inspect_pipeline(path, text)
    elif name.endswith(_C_ENDINGS):
        yield from inspect_c(path, text)


def _bases(
    path: str,
    text: str,
    lacking: Callable[[str], tuple[list[str], str]],
    looked: dict[str, tuple[list[str], str]],
) -> Iterator[Finding]:
    for line, image in bases(text):
        if image not in looked:
            looked[image] = lacking(image)
        missing, problem = looked[image]
        if problem:
            yield Finding(RULES["base-not-read"], path, line, f"{image}: {problem}")
        elif missing:
            yield Finding(RULES["base-lacks-platform"], path, line, f"{image} has no {', '.join(missing)}")


def _folders(folder: str) -> Iterator[tuple[str, list[str]]]:
    seen = 0
    for directory, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _LEFT_ALONE)
        seen += len(names)
        if seen > MAX_FILES:
            raise InvalidProject(
                f"{folder}: more than {MAX_FILES} files",
                hint="give the folder of one project, not of all of them",
            )
        yield directory, sorted(names)


def _is_wanted(path: str) -> bool:
    name = os.path.basename(path)
    endings = (".go", ".sh", ".bash", *_C_ENDINGS)
    if _is_dockerfile(name) or _is_makefile(name) or _is_pipeline(path) or name.endswith(endings):
        return True
    return "." not in name  # a script may have no ending; its first line tells


def _is_dockerfile(name: str) -> bool:
    small = name.lower()
    if small.endswith((".dockerignore", ".md", ".sh")):
        return False
    return small.startswith(("dockerfile", "containerfile")) or small.endswith(
        (".dockerfile", ".containerfile")
    )


def _is_makefile(name: str) -> bool:
    return name in ("Makefile", "makefile", "GNUmakefile") or name.endswith(".mk")


def _is_pipeline(path: str) -> bool:
    parts = path.replace(os.sep, "/")
    if re.search(r"(^|/)\.github/(workflows|actions)/.+\.ya?ml$", parts):
        return True
    return bool(re.search(r"(^|/)\.gitlab-ci\.ya?ml$|(^|/)\.gitlab/.+\.ya?ml$", parts))


def _read(path: str) -> str | None:
    """The text of a regular file of sensible size; ``None`` for links, devices, big files and binaries."""
    try:
        if os.path.islink(path) or not os.path.isfile(path) or os.path.getsize(path) > MAX_BYTES:
            return None
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES)
    except OSError:
        return None
    return None if b"\0" in data else data.decode("utf-8", "replace")
