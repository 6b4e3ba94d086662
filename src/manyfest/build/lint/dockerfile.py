# SPDX-License-Identifier: Apache-2.0
"""Dockerfiles: scopes of platform arguments, stages, bases, downloads.

Scoping follows https://docs.docker.com/build/building/variables/#scoping: an ``ARG`` before the first ``FROM`` is seen
by ``FROM`` lines only, and the platform arguments must be declared in every stage that uses them
(https://docs.docker.com/build/building/multi-platform/#building-multi-platform-images).
"""

from __future__ import annotations

import re

from manyfest.build.lint.finding import RULES, Finding
from manyfest.build.lint.words import (
    constant_goarch,
    for_any,
    is_chosen_by_case,
    names_one,
    one_arch_url,
    tuned,
    uname_as_goarch,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from e2b_dockerfile_utils import DockerfileInstruction

__all__ = ["bases", "inspect_dockerfile"]

_PLATFORM_ARGS = (
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETARCH",
    "TARGETVARIANT",
    "BUILDPLATFORM",
    "BUILDOS",
    "BUILDARCH",
)
_USES = re.compile(rf"\$\{{?({'|'.join(_PLATFORM_ARGS)})\b")
_ARCH_NAMESPACES = re.compile(
    r"^(?:docker\.io/)?(amd64|i386|arm32v[567]|arm64v8|ppc64le|s390x|riscv64|mips64le|armhf|aarch64)/(?P<rest>.+)$"
)
_TRIPLET = re.compile(r"(/(?:usr/)?lib/|/usr/include/)(?P<triple>[a-z0-9_]+-linux-gnu[a-z0-9]*)")
_DEBIAN = "amd64|arm64|armel|armhf|i386|loong64|mips64el|ppc64el|riscv64|s390x"
_JVM = re.compile(rf"(?P<folder>/usr/lib/jvm/[\w.+-]*-)(?P<arch>{_DEBIAN})\b")
_APT_PACKAGE = re.compile(rf"(?<![^\s])(?P<name>[a-z0-9][a-z0-9+.-]+):(?P<arch>{_DEBIAN})(?=[\s=]|$)")
_APT_INSTALL = re.compile(r"\bapt(?:-get|itude)?\s(?:.*\s)?install\s")
_COMMANDS = re.compile(r"(&&|\|\||[;|&])")
_APT_ARCH = re.compile(r"\[[^]]*\barch=(?P<arch>[a-z0-9]+)(?=[\s\]])[^]]*\]")


def inspect_dockerfile(path: str, text: str) -> Iterator[Finding]:
    """Every finding in one Dockerfile, in the order of its lines."""
    from e2b_dockerfile_utils import DockerfileSyntaxError, parse_dockerfile_ast

    try:
        instructions = parse_dockerfile_ast(text).instructions
    except DockerfileSyntaxError as error:
        yield Finding(
            RULES["unreadable"], path, getattr(error, "line", None) or 1, f"not a Dockerfile: {error}"
        )
        return
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    yield from _stages(path, instructions, lines)
    declared: set[str] = set()
    chosen = False
    for instruction in instructions:
        kind = instruction.name.lower()
        if kind == "from":
            declared, chosen = set(), _is_chosen(_stage_name(instruction), instructions)
        elif kind == "arg":
            declared |= {word.partition("=")[0] for word in instruction.args}
        if not chosen:
            yield from _instruction(path, instruction, lines, declared)


def bases(text: str) -> list[tuple[int, str]]:
    """(line, image) of every ``FROM`` that names an image outright: no stage, no variable, not ``scratch``."""
    from e2b_dockerfile_utils import DockerfileSyntaxError, parse_dockerfile_ast

    try:
        instructions = parse_dockerfile_ast(text).instructions
    except DockerfileSyntaxError:
        return []
    defaults = _global_defaults(instructions)
    stages: set[str] = set()
    found = []
    for instruction in _froms(instructions):
        image = re.sub(r"\$\{?(\w+)\}?", lambda m: defaults.get(m[1], m[0]), _image(instruction))
        constant = any(flag.startswith("--platform=") for flag in instruction.flags)
        if image and image != "scratch" and image.lower() not in stages and "$" not in image and not constant:
            found.append((instruction.start_line, image))
        stages.add(_stage_name(instruction))
    return found


def _stages(path: str, instructions: list[DockerfileInstruction], lines: list[str]) -> Iterator[Finding]:
    froms = _froms(instructions)
    for instruction in froms:
        yield from _from(path, instruction, lines, final=instruction is froms[-1])
    declared: set[str] = set()
    seen_from = False
    for instruction in instructions:
        if instruction.name.lower() == "from":
            declared, seen_from = set(), True
            continue
        if instruction.name.lower() == "arg":
            for name, _, default in (word.partition("=") for word in instruction.args):
                declared.add(name)
                if name in _PLATFORM_ARGS and default:
                    yield Finding(
                        RULES["platform-arg-default"],
                        path,
                        instruction.start_line,
                        f"{name} has the default {default}",
                        f"ARG {name}",
                    )
            continue
        if seen_from:
            yield from _undeclared(path, instruction, declared, lines)


def _undeclared(
    path: str, instruction: DockerfileInstruction, declared: set[str], lines: list[str]
) -> Iterator[Finding]:
    for number in range(instruction.start_line, instruction.end_line + 1):
        for match in _USES.finditer(_line(lines, number)):
            name = match[1]
            if name not in declared:
                declared.add(name)  # told once a stage
                yield Finding(
                    RULES["platform-arg-out-of-scope"],
                    path,
                    number,
                    f"{name} is used in a stage that does not declare it",
                    f"ARG {name}\n{_line(lines, instruction.start_line)}",
                )


def _from(
    path: str, instruction: DockerfileInstruction, lines: list[str], *, final: bool
) -> Iterator[Finding]:
    line = _line(lines, instruction.start_line)
    platform = next((f.partition("=")[2] for f in instruction.flags if f.startswith("--platform=")), "")
    plain = re.sub(r"\s--platform=\S+", "", line)
    if platform.strip("${}") == "BUILDPLATFORM" and final:
        yield Finding(
            RULES["build-platform-final-stage"],
            path,
            instruction.start_line,
            "the last stage is for the build machine's platform",
            plain,
        )
    elif platform and "$" not in platform:
        yield Finding(
            RULES["constant-platform"], path, instruction.start_line, f"FROM is always for {platform}", plain
        )
    image = _image(instruction)
    match = _ARCH_NAMESPACES.match(image)
    if match is not None:
        fixed = line.replace(image, match["rest"], 1)
        message = f"{image} is for {match[1]} only"
        yield Finding(RULES["one-arch-base"], path, instruction.start_line, message, fixed)


def _is_chosen(stage: str, instructions: list[DockerfileInstruction]) -> bool:
    """Is it one of the stages among which a later ``FROM base-${TARGETARCH}`` chooses?"""
    begins = (re.match(r"([^$]+)\$\{?TARGET", _image(each)) for each in _froms(instructions))
    return any(begin is not None and stage.startswith(begin[1].lower()) for begin in begins)


def _instruction(
    path: str, instruction: DockerfileInstruction, lines: list[str], declared: set[str]
) -> Iterator[Finding]:
    kind = instruction.name.lower()
    if kind in ("from", "label", "maintainer"):
        return
    for number in range(instruction.start_line, instruction.end_line + 1):
        line = _line(lines, number)
        if line.lstrip().startswith("#"):
            continue
        if kind in ("run", "add") and not is_chosen_by_case(lines, number - 1):
            yield from _download(path, number, line, declared, kind)
        yield from _compiler(path, number, line, declared)
        yield from _folders(path, number, line, kind)
    if kind == "run":
        yield from _packages(path, instruction, lines)


def _with_arg(fixed: str, declared: set[str]) -> str:
    """The line, after the declaration that it needs."""
    needs = bool(re.search(r"\$\{?TARGETARCH\b", fixed)) and "TARGETARCH" not in declared
    return f"ARG TARGETARCH\n{fixed}" if needs else fixed


def _download(path: str, number: int, line: str, declared: set[str], kind: str) -> Iterator[Finding]:
    hit = one_arch_url(line)
    if hit is not None:
        url, arch = hit
        shown = url if len(url) < 80 else url[:77] + "…"
        # No shell looks at what ADD fetches.
        fixed = for_any(line, arch, go="${TARGETARCH}", kernel="$(uname -m)" if kind == "run" else "")
        fixed = _with_arg(fixed, declared)
        yield Finding(RULES["one-arch-download"], path, number, f"{shown} is for {arch} only", fixed)


def _compiler(path: str, number: int, line: str, declared: set[str]) -> Iterator[Finding]:
    arch = constant_goarch(line)
    if arch:
        fixed = _with_arg(re.sub(r"(GOARCH\s*=\s*)[\"']?\w+[\"']?", r"\1$TARGETARCH", line), declared)
        yield Finding(RULES["constant-goarch"], path, number, f"GOARCH is always {arch}", fixed)
    match = uname_as_goarch(line)
    if match is not None:
        fixed = _with_arg(line.replace(match[0], "$TARGETARCH"), declared)
        yield Finding(
            RULES["uname-as-goarch"], path, number, f"{match[0]} stands where a Go name is wanted", fixed
        )
    flag = tuned(line)
    if flag:
        fixed = re.sub(r"\s*" + re.escape(flag), "", line)
        yield Finding(
            RULES["builders-own-cpu"], path, number, f"{flag} asks for more than the platform has", fixed
        )


def _folders(path: str, number: int, line: str, kind: str) -> Iterator[Finding]:
    match = _TRIPLET.search(line)
    if match is not None:
        # A variable is not expanded like a pattern.
        fixed = line.replace(match["triple"], "*-linux-gnu*") if kind in ("run", "copy", "add") else ""
        message = f"{match['triple']} is the folder of one architecture"
        yield Finding(RULES["constant-multiarch-path"], path, number, message, fixed)
    jvm = _JVM.search(line)
    if jvm is not None:
        # Debian's own names: TARGETARCH differs from them on arm and ppc64le. ENV runs no shell that could ask.
        asked = {"run": "$(dpkg --print-architecture)", "copy": "*", "add": "*"}.get(kind, "")
        fixed = line.replace(jvm[0], jvm["folder"] + asked) if asked else ""
        message = f"{jvm[0]} is the folder of one architecture"
        yield Finding(RULES["constant-multiarch-path"], path, number, message, fixed)
    apt = _APT_ARCH.search(line)
    if apt is not None and names_one(apt["arch"]):
        fixed = line.replace(f"arch={apt['arch']}", "arch=$(dpkg --print-architecture)")
        yield Finding(
            RULES["constant-apt-arch"], path, number, f"the source is for {apt['arch']} only", fixed
        )


def _packages(path: str, instruction: DockerfileInstruction, lines: list[str]) -> Iterator[Finding]:
    """``apt-get install libc6:amd64``. Where a foreign architecture was added it is meant so."""
    if any("--add-architecture" in line for line in lines):
        return
    installing = False
    for number in range(instruction.start_line, instruction.end_line + 1):
        line = _line(lines, number)
        if line.lstrip().startswith("#"):
            continue
        found: list[str] = []
        fixed = ""
        for piece in _COMMANDS.split(line):
            installing = not _COMMANDS.fullmatch(piece) and (installing or bool(_APT_INSTALL.search(piece)))
            if installing:
                found += [match[0] for match in _APT_PACKAGE.finditer(piece)]
                piece = _APT_PACKAGE.sub(r"\g<name>", piece)
            fixed += piece
        if found:
            message = f"{', '.join(found)}: of one architecture, whatever the platform"
            yield Finding(RULES["constant-apt-arch"], path, number, message, fixed)


def _froms(instructions: list[DockerfileInstruction]) -> list[DockerfileInstruction]:
    return [instruction for instruction in instructions if instruction.name.lower() == "from"]


def _image(instruction: DockerfileInstruction) -> str:
    return instruction.args[0] if instruction.args else ""


def _stage_name(instruction: DockerfileInstruction) -> str:
    words = [word.lower() for word in instruction.args]
    return words[2] if len(words) > 2 and words[1] == "as" else ""


def _global_defaults(instructions: list[DockerfileInstruction]) -> dict[str, str]:
    values: dict[str, str] = {}
    for instruction in instructions:
        if instruction.name.lower() == "from":
            break
        if instruction.name.lower() == "arg":
            for name, _, default in (word.partition("=") for word in instruction.args):
                values[name] = default.strip("\"'")
    return {name: value for name, value in values.items() if value}


def _line(lines: list[str], number: int) -> str:
    return lines[number - 1] if 0 < number <= len(lines) else ""
