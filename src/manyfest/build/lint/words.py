# SPDX-License-Identifier: Apache-2.0
"""Words that mean one architecture, and how to say the same for all: shared by every reader of files."""

from __future__ import annotations

import re

__all__ = [
    "ARCHITECTURES",
    "GO_NAMES",
    "constant_goarch",
    "for_any",
    "is_chosen_by_case",
    "lines_of",
    "names_one",
    "one_arch_url",
    "shell_variable",
    "tuned",
    "uname_as_goarch",
]

GO_NAMES = ("amd64", "arm64", "386", "ppc64le", "s390x", "riscv64", "loong64", "armv7", "armv6", "armhf")
_KERNEL_NAMES = (
    "x86_64",
    "x86-64",
    "x64",
    "aarch64",
    "i386",
    "i686",
    "armv7l",
    "armv6l",
    "ppc64el",
    "loongarch64",
)
# What TARGETARCH and GOARCH can be, and what uname -m prints; armv7 or x64 are neither.
_GO_ONLY = ("amd64", "arm64", "386", "ppc64le", "s390x", "riscv64", "loong64")
_UNAME_SAYS = ("x86_64", "aarch64", "i686", "armv7l", "armv6l", "loongarch64")
ARCHITECTURES = (*GO_NAMES, *_KERNEL_NAMES)

_WORD = "|".join(sorted(map(re.escape, ARCHITECTURES), key=len, reverse=True))
_NAMED = re.compile(rf"(?<![A-Za-z0-9$])(?P<arch>{_WORD})(?![A-Za-z0-9])")
_URL = re.compile(r"(?:https?|ftp)://[^\s\"'`<>|;)]+")
_GOARCH = re.compile(r"\bGOARCH\s*[:?]?=\s*[\"']?(?P<arch>[a-z0-9]+)\b")
_UNAME = re.compile(r"\$\(\s*uname\s+-(?:m|p|i|mp)\s*\)|`uname\s+-[mpi]`|\$\(shell\s+uname\s+-[mpi]\s*\)")
_TUNED = re.compile(r"-m(?:arch|cpu|tune)=(?:native|x86-64-v[234])|\btarget-cpu=(?:native|x86-64-v[234])")
_PLATFORM_WORDS = (
    "TARGETARCH",
    "TARGETPLATFORM",
    "TARGETVARIANT",
    "GOARCH",
    "BUILDARCH",
    "dpkg --print-architecture",
)


def lines_of(text: str) -> list[str]:
    """Lines as shells, make and compilers end them. :meth:`str.splitlines` also ends them at form feeds, which C
    sources are full of, and at some characters of Unicode."""
    return [line.removesuffix("\r") for line in text.split("\n")]


def names_one(text: str) -> str:
    """The architecture that a piece of text names, when it names exactly one; else the empty string."""
    found = {match["arch"] for match in _NAMED.finditer(text)}
    return found.pop() if len(found) == 1 else ""


def one_arch_url(line: str) -> tuple[str, str] | None:
    """A URL for one architecture, and that architecture; ``None`` when there is none or it holds a variable for it."""
    for match in _URL.finditer(line):
        url = match[0]
        arch = names_one(url.partition("://")[2].partition("/")[2])
        if (
            arch
            and not any(word in url for word in _PLATFORM_WORDS)
            and not re.search(r"\$\{?\w*(?i:arch)\w*", url)
        ):
            return url, arch
    return None


def for_any(line: str, arch: str, *, go: str = "", kernel: str = "") -> str:
    """The line with the architecture's name replaced by what says it on any machine: ``go`` stands for one of Go's
    names, ``kernel`` for one of uname's. Empty where neither gives that spelling, or quotes keep it from being
    expanded."""
    value = go if arch in _GO_ONLY else kernel if arch in _UNAME_SAYS else ""
    named = re.compile(rf"(?<![A-Za-z0-9]){re.escape(arch)}(?![A-Za-z0-9])")
    if not value or any(line.count("'", 0, match.start()) % 2 for match in named.finditer(line)):
        return ""
    return named.sub(lambda _: value, line)


def constant_goarch(line: str) -> str:
    """The architecture in ``GOARCH=amd64``; empty when it is a variable or not there."""
    match = _GOARCH.search(line)
    return match["arch"] if match and match["arch"] in (*GO_NAMES, "arm", "mips64le", "wasm") else ""


def uname_as_goarch(line: str) -> re.Match[str] | None:
    """``uname`` where a Go, Docker or Debian name is wanted: in GOARCH, in ``linux-…`` or in a ``.deb``'s name."""
    match = _UNAME.search(line)
    if match is None:
        return None
    before, after = line[: match.start()], line[match.end() :]
    wanted = re.search(r"(GOARCH|TARGETARCH|DEB_ARCH)\s*[:?]?=\s*[\"']?$", before) or after.startswith(".deb")
    return match if wanted else None


def is_chosen_by_case(lines: list[str], index: int) -> bool:
    """Does the line stand in a branch that was chosen by architecture (``case``, ``if``, ``ifeq``)?"""
    for line in reversed(lines[max(0, index - 12) : index + 1]):
        if re.search(r"\besac\b|\bfi\b|\bendif\b", line) and line is not lines[index]:
            return False
        if re.search(r"^\s*[\"'(]?(?:[\w.*-]+\s*\|\s*)*[\w.*-]+[\"']?\)", line) and names_one(
            line.partition(")")[0]
        ):
            return True
        if re.search(r"\b(case|if|ifeq|elif)\b", line) and re.search(
            r"(?i)arch|uname|machine|platform", line
        ):
            return True
    return False


def shell_variable(line: str) -> bool:
    """Is the line an assignment of a default that can be overridden (``ARCH ?= amd64``, ``${ARCH:-amd64}``)?"""
    return bool(re.search(r"\?=|:-|:=.*\$\{", line))


def tuned(line: str) -> str:
    """A compiler flag that asks for a newer processor than the platform's baseline."""
    match = _TUNED.search(line)
    return match[0] if match else ""
