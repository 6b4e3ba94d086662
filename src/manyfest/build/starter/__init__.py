# SPDX-License-Identifier: Apache-2.0
"""The files that a new project starts with, from what is in its folder.

:mod:`~manyfest.build.starter.kinds` knows what kinds of projects there are and how each is built,
:mod:`~manyfest.build.starter.pipelines` how a pipeline does the same.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from manyfest.build.project import FILE
from manyfest.build.starter.kinds import KINDS, kind_of, recipe_of
from manyfest.build.starter.pipelines import CI, pipeline
from manyfest.errors import InputError, InvalidPlatform
from manyfest.platforms import Platform, from_name, normalise
from manyfest.stores._files import Part, translated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from manyfest.build.starter.recipe import Recipe

__all__ = ["CI", "KINDS", "files", "kind_of", "write"]

_IGNORED = (
    *(".git", ".github", ".gitlab-ci.yml", ".dockerignore", ".manyfest", "Dockerfile*", "Makefile"),
    FILE,
)
_MAKEFILE = """\
# What is built, for which platforms and how stands in {file}.
# `make` builds into a folder, `make push TAG=1.0` publishes.
TAG ?= dev
BUILT := oci:.manyfest/image:$(TAG)

.PHONY: image plan verify push clean

image:
	manyfest build -t $(BUILT)

plan:
	manyfest build --dry-run

verify: image
	manyfest verify $(BUILT)

push:
	manyfest build --git --tag $(TAG)

clean:
	rm -rf .manyfest
"""


def files(
    folder: str,
    kind: str,
    image: str,
    platforms: Sequence[Platform] = (),
    *,
    ci: str = "",
    libc: str = "musl",
    makefile: bool = False,
    per_arch: bool = False,
) -> dict[str, str]:
    """Path -> text. ``platforms``: empty for those that the kind can do; ``per_arch``: a Dockerfile for each.

    Raises :class:`InputError` for an unknown kind and for a platform that no file can be named after,
    :class:`InvalidProject` for a folder that lacks what it needs.
    """
    recipe = recipe_of(kind, folder, _program_name(image), libc)
    wanted = list(platforms) or [Platform.parse(text) for text in recipe.platforms]
    made = {
        FILE: _project(image, wanted, recipe),
        **dict.fromkeys(map(_dockerfile_for, wanted) if per_arch else ("Dockerfile",), recipe.dockerfile),
        ".dockerignore": "".join(f"{line}\n" for line in (*_IGNORED, *recipe.ignored)),
    }
    if makefile:
        made["Makefile"] = _MAKEFILE.format(file=FILE)
    if ci:
        path, text = pipeline(ci, recipe, wanted, image.partition("/")[0], libc)
        made[path] = text
    return made


def write(folder: str, made: dict[str, str], *, force: bool = False) -> tuple[list[str], list[str]]:
    """Write what is not there yet; with ``force`` all. Returns the paths that were written and those that were left."""
    written: list[str] = []
    kept: list[str] = []
    for path, text in made.items():
        target = os.path.join(folder, path)
        if os.path.lexists(target) and not force:
            kept.append(path)
            continue
        with translated(folder, f"writing {path}", writing=True):
            parent = os.path.dirname(target)
            os.makedirs(parent, exist_ok=True)
            with Part(parent) as part:
                part.write(text.encode())
                part.commit(target)
        written.append(path)
    return written, kept


def _dockerfile_for(platform: Platform) -> str:
    """A name that :mod:`manyfest.build.project` takes for this platform's."""
    word = f"{platform.architecture}{platform.variant}"
    try:
        is_told = from_name(word) == normalise(platform)
    except InvalidPlatform:
        is_told = False
    if not is_told:
        raise InputError(f"no name of a file says {platform}", hint="one Dockerfile can be for all platforms")
    return f"Dockerfile.{word}"


def _project(image: str, platforms: Sequence[Platform], recipe: Recipe) -> str:
    listed = ", ".join(map(str, platforms))
    lines = [f"image: {image}", f"platforms: [{listed}]", *recipe.compile.splitlines(), f"expect: [{listed}]"]
    if recipe.is_whole:
        lines.append("verify: true")
    return "\n".join([*lines, ""])


def _program_name(image: str) -> str:
    last = image.rpartition("/")[2]
    return re.sub(r"[^a-z0-9_-]", "-", re.split(r"[:@]", last)[0]) or "app"
