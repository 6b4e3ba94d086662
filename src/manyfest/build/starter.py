# SPDX-License-Identifier: Apache-2.0
"""The files that a new project starts with, from what is in its folder."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from manyfest.build.project import FILE
from manyfest.errors import InputError, InvalidProject
from manyfest.stores._files import Part, translated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from manyfest.platforms import Platform

__all__ = ["CI", "KINDS", "PLATFORMS", "files", "kind_of", "write"]

KINDS = ("go", "c", "static")
CI = ("github", "gitlab")
PLATFORMS = ("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/ppc64le", "linux/s390x", "linux/riscv64")

_COMPILE = {
    "go": """\
compile:
  toolchain: go
  run: go build -trimpath -ldflags=-s -o out/{name} .
  outputs: [out/{name}]
""",
    "c": """\
compile:
  toolchain: zig
  run: $CC -Os -static -o out/{name} *.c
  outputs: [out/{name}]
""",
    "static": "",
}
_PROGRAM = 'FROM scratch\nCOPY out/{name} /{name}\nUSER 65532:65532\nENTRYPOINT ["/{name}"]\n'
_STATIC = "FROM scratch\nCOPY . /srv/\n"

_GITHUB = """\
name: image
on:
  push:
    tags: ["v*"]
permissions:
  contents: read
  packages: write
jobs:
  image:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: "3.13"
      - run: pip install 'manyfest[fast,toolchains]'
      - run: echo "$TOKEN" | manyfest login {host} --username "$GITHUB_ACTOR" --password-stdin
        env:
          TOKEN: ${{{{ secrets.GITHUB_TOKEN }}}}
      - run: manyfest build --git --tag "${{GITHUB_REF_NAME#v}}"
"""
_GITLAB = """\
image:
  image: python:3.13
  rules:
    - if: $CI_COMMIT_TAG
  script:
    - pip install 'manyfest[fast,toolchains]'
    - echo "$CI_REGISTRY_PASSWORD" | manyfest login {host} --username "$CI_REGISTRY_USER" --password-stdin
    - manyfest build --git --tag "${{CI_COMMIT_TAG#v}}"
"""


def kind_of(folder: str) -> str:
    """``go`` where there is a go.mod, ``c`` where there are C files, else ``static``. Raises InvalidProject."""
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise InvalidProject(f"{folder}: {error.strerror}") from error
    if "go.mod" in names:
        return "go"
    return "c" if any(name.endswith(".c") for name in names) else "static"


def files(kind: str, image: str, platforms: Sequence[Platform], ci: str = "") -> dict[str, str]:
    """Path -> text. Raises :class:`InputError` for a kind that is not one of :data:`KINDS`."""
    if kind not in KINDS:
        raise InputError(f"kind {kind!r}: expected one of {', '.join(KINDS)}")
    name = _program_name(image)
    listed = ", ".join(map(str, platforms))
    made = {
        FILE: f"image: {image}\nplatforms: [{listed}]\n"
        + _COMPILE[kind].format(name=name)
        + f"expect: [{listed}]\n",
        "Dockerfile": (_STATIC if kind == "static" else _PROGRAM).format(name=name),
        ".dockerignore": f".git\n.github\n.gitlab-ci.yml\n.dockerignore\nDockerfile*\n{FILE}\n",
    }
    host = image.partition("/")[0]
    if ci == "github":
        made[".github/workflows/image.yml"] = _GITHUB.format(host=host)
    if ci == "gitlab":
        made[".gitlab-ci.yml"] = _GITLAB.format(host=host)
    return made


def write(folder: str, made: dict[str, str]) -> tuple[list[str], list[str]]:
    """Write what is not there yet. Returns the paths that were written and those that were there."""
    written: list[str] = []
    kept: list[str] = []
    for path, text in made.items():
        target = os.path.join(folder, path)
        if os.path.lexists(target):
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


def _program_name(image: str) -> str:
    last = image.rpartition("/")[2]
    return re.sub(r"[^a-z0-9_-]", "-", re.split(r"[:@]", last)[0]) or "app"
