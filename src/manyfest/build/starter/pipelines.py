# SPDX-License-Identifier: Apache-2.0
"""Pipelines of GitHub and GitLab that build and push when a tag is pushed, with the compilers that this takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from manyfest.build.toolchains import rust_target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from manyfest.build.starter.recipe import Recipe
    from manyfest.platforms import Platform

__all__ = ["CI", "pipeline"]

CI = ("github", "gitlab")

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
{setup}      - run: pip install 'manyfest[{extras}]'
      - run: echo "$TOKEN" | manyfest login {host} --username "$GITHUB_ACTOR" --password-stdin
        env:
          TOKEN: ${{{{ secrets.GITHUB_TOKEN }}}}
      - run: manyfest build --git --tag "${{GITHUB_REF_NAME#v}}"
"""
_GITLAB = """\
image:
  image: python:3.13-trixie
  rules:
    - if: $CI_COMMIT_TAG
  script:
{setup}    - pip install 'manyfest[{extras}]'
    - echo "$CI_REGISTRY_PASSWORD" | manyfest login {host} --username "$CI_REGISTRY_USER" --password-stdin
    - manyfest build --git --tag "${{CI_COMMIT_TAG#v}}"
"""
_JAVA = """\
      - uses: actions/setup-java@v4
        with:
          distribution: temurin
          java-version: "21"
"""
_APT = {
    "cmake": "cmake make",
    "java": "default-jdk-headless",
    "maven": "default-jdk-headless maven",
    "rust": "rustup",
}
_WITHOUT_COMPILER = ("java", "maven", "python")
"""What needs neither Go nor zig. Rust and CMake link and compile with zig."""


def pipeline(ci: str, recipe: Recipe, platforms: Sequence[Platform], host: str, libc: str) -> tuple[str, str]:
    """Path and text. GitHub's machines have CMake, Maven and rustup; GitLab's image gets them from Debian."""
    bare = recipe.needs in _WITHOUT_COMPILER or not recipe.compile
    extras = "fast" if bare else "fast,toolchains"
    targets = (
        " ".join(dict.fromkeys(rust_target(each, libc) for each in platforms))
        if recipe.needs == "rust"
        else ""
    )
    if ci == "github":
        setup = _JAVA if recipe.needs in ("java", "maven") else ""
        setup += f"      - run: rustup target add {targets}\n" if targets else ""
        return ".github/workflows/image.yml", _GITHUB.format(host=host, setup=setup, extras=extras)
    lines = []
    if recipe.needs in _APT:
        lines.append(f"apt-get update -q && apt-get install -yq --no-install-recommends {_APT[recipe.needs]}")
    if targets:
        lines += ["rustup default stable", f"rustup target add {targets}"]
    setup = "".join(f"    - {line}\n" for line in lines)
    return ".gitlab-ci.yml", _GITLAB.format(host=host, setup=setup, extras=extras)
