# SPDX-License-Identifier: Apache-2.0
"""Makefiles and shell scripts: one architecture's downloads and flags, ``uname`` where Go's name is wanted."""

from __future__ import annotations

import re

from manyfest.build.lint.finding import RULES, Finding
from manyfest.build.lint.words import (
    ARCHITECTURES,
    constant_goarch,
    for_any,
    is_chosen_by_case,
    lines_of,
    one_arch_url,
    shell_variable,
    tuned,
    uname_as_goarch,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["inspect_script"]


def inspect_script(path: str, text: str, *, make: bool = False) -> Iterator[Finding]:
    """Every finding in a shell script, or in a Makefile (``make``)."""
    lines = lines_of(text)
    # A file that builds several architectures, one line each, names each of them on purpose.
    several = len({arch for line in lines if (arch := constant_goarch(line))}) > 1
    for index, line in enumerate(lines):
        if line.lstrip().startswith("#"):
            continue
        yield from _line(path, index, lines, make=make, several=several)


def _line(path: str, index: int, lines: list[str], *, make: bool, several: bool) -> Iterator[Finding]:
    line, number = lines[index], index + 1
    chosen = is_chosen_by_case(lines, index) or _names_itself(lines, index)
    hit = one_arch_url(line)
    if hit is not None and not chosen:
        url, arch = hit
        shown = url if len(url) < 80 else url[:77] + "…"
        fixed = _for_here(line, arch, make=make)
        yield Finding(RULES["one-arch-download"], path, number, f"{shown} is for {arch} only", fixed)
    arch = constant_goarch(line)
    if arch and not several and not chosen and not shell_variable(line):
        value = "$(shell go env GOARCH)" if make else "$(go env GOARCH)"
        fixed = re.sub(r"(GOARCH\s*:?=\s*)[\"']?\w+[\"']?", lambda m: m[1] + value, line)
        yield Finding(RULES["constant-goarch"], path, number, f"GOARCH is always {arch}", fixed)
    match = uname_as_goarch(line)
    if match is not None:
        fixed = line.replace(match[0], "$(shell go env GOARCH)" if make else "$(go env GOARCH)")
        yield Finding(
            RULES["uname-as-goarch"], path, number, f"{match[0]} stands where a Go name is wanted", fixed
        )
    flag = tuned(line)
    if flag:
        fixed = re.sub(r"\s*" + re.escape(flag), "", line)
        yield Finding(
            RULES["builders-own-cpu"], path, number, f"{flag} asks for more than the platform has", fixed
        )
    if re.search(r"\bdocker\s+manifest\s+create\b", line):
        fixed = re.sub(r"\bdocker\s+manifest\s+create\b", "manyfest create", line)
        message = "docker manifest create refuses images with attestations"
        yield Finding(RULES["docker-manifest-create"], path, number, message, fixed)


def _for_here(line: str, arch: str, *, make: bool) -> str:
    """The line for whatever machine the script runs on, after the line that finds Go's name for it if that is used."""
    names = "uname -m | sed 's/x86_64/amd64/; s/aarch64/arm64/'"
    if make:
        fixed = for_any(line, arch, go="$(ARCH)", kernel="$(shell uname -m)")
        return f"ARCH ?= $(shell {names})\n{fixed}" if "$(ARCH)" in fixed else fixed
    fixed = for_any(line, arch, go="${ARCH}", kernel="$(uname -m)")
    return f"ARCH=$({names})\n{fixed}" if "${ARCH}" in fixed else fixed


def _names_itself(lines: list[str], index: int) -> bool:
    """Is the line part of a recipe whose target names an architecture (``build-amd64:``)?"""
    for line in reversed(lines[: index + 1]):
        target = re.match(r"([\w./%$(){}-]+)\s*:(?!=)", line)
        if target is not None:
            return any(word in ARCHITECTURES for word in re.split(r"[-_./]", target[1]))
    return False
