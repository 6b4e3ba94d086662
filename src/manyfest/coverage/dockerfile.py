# SPDX-License-Identifier: Apache-2.0
"""The images that a Dockerfile starts from. Only ``FROM`` and the ``ARG`` before it matter; nothing else is judged.

>>> found = bases("ARG V=12\\nFROM --platform=linux/arm64 debian:${V} AS a\\nFROM a\\n", "Dockerfile")
>>> [(use.image, str(use.platform), use.place) for use in found]
[('debian:12', 'linux/arm64', 'Dockerfile:2:29')]
"""

from __future__ import annotations

import re
import shlex

from manyfest.coverage.interpolate import interpolate
from manyfest.coverage.use import Use
from manyfest.errors import InvalidPlatform, InvalidSpec
from manyfest.platforms import Platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["bases"]

_HERE = re.compile(r"<<-?\s*(['\"]?)([A-Za-z_]\w*)\1")
_PLATFORM_ARGS = {
    "BUILDPLATFORM", "BUILDOS", "BUILDARCH", "BUILDVARIANT",
    "TARGETPLATFORM", "TARGETOS", "TARGETARCH", "TARGETVARIANT",
}  # fmt: skip


def bases(text: str, file: str, arguments: Mapping[str, str] | None = None) -> list[Use]:
    """One use for each ``FROM`` that names an image; stages and ``scratch`` are none.

    ``arguments`` are those of ``--build-arg``. Raises :class:`InvalidSpec` with line and column.
    """
    given = arguments or {}
    known: dict[str, str] = {}
    stages: set[str] = set()
    found: list[Use] = []
    started = False
    for line, instruction, column, rest in _instructions(text):
        where = f"{file}:{line}:{column}"
        if instruction == "ARG" and not started:
            for word in _words(rest, where):
                name, equals, default = word.partition("=")
                if name in given or equals:
                    known[name] = given.get(name, "") if name in given else _filled(default, known, where)[0]
        elif instruction == "FROM":
            started = True
            use, stage = _base(rest, known, where, stages, line, column, file)
            if use is not None:
                found.append(use)
            if stage:
                stages.add(stage.lower())
    if not started:
        raise InvalidSpec(f"{file}: no FROM in it, expected a Dockerfile")
    return found


def _base(
    rest: str, known: Mapping[str, str], where: str, stages: set[str], line: int, column: int, file: str
) -> tuple[Use | None, str]:
    """The use, unless it is a stage; and the name of the stage that begins here."""
    words = _words(rest, where)
    asked = ""
    while words and words[0].startswith("--"):
        flag = words.pop(0)
        if flag.startswith("--platform="):
            asked = flag.partition("=")[2]
    if not words or len(words) not in (1, 3) or (len(words) == 3 and words[1].upper() != "AS"):
        raise InvalidSpec(f"{where}: expected FROM [--platform=PLATFORM] IMAGE [AS NAME]")
    stage = words[2] if len(words) == 3 else ""
    image, unset = _filled(words[0], known, where)
    at = f"{file}:{line}:{column + _offset(rest, words[0])}"
    if image.lower() in stages or image == "scratch":
        return None, stage
    platform, notes = _asked(asked, known, where)
    problem = ""
    if unset & _PLATFORM_ARGS:
        problem = f"its name depends on {', '.join(sorted(unset))}, so it differs by platform"
    elif unset or not image:
        problem = f"{words[0]}: no value for {', '.join(sorted(unset)) or 'it'}; give one with --build-arg"
    return Use(
        "" if problem else image, "dockerfile", f"FROM {words[0]}", at, platform, notes=notes, problem=problem
    ), stage


def _asked(text: str, known: Mapping[str, str], where: str) -> tuple[Platform | None, list[str]]:
    if not text:
        return None, []
    filled, unset = _filled(text, known, where)
    if unset & {"BUILDPLATFORM"}:
        return None, ["for the machine that builds, whatever the target is"]
    if unset & _PLATFORM_ARGS or not filled:
        return None, []
    try:
        return Platform.parse(filled), []
    except InvalidPlatform as error:
        raise InvalidSpec(f"{where}: --platform: {error}", hint=error.hint) from error


def _filled(text: str, known: Mapping[str, str], where: str) -> tuple[str, set[str]]:
    unset: set[str] = set()
    try:
        return interpolate(text, known, unset.add), unset
    except InvalidSpec as error:
        raise InvalidSpec(f"{where}: {error}") from error


def _words(rest: str, where: str) -> list[str]:
    try:
        return shlex.split(rest)
    except ValueError as error:
        raise InvalidSpec(f"{where}: {error}") from None


def _offset(rest: str, word: str) -> int:
    return max(rest.find(word), 0)


def _instructions(text: str) -> Iterator[tuple[int, str, int, str]]:
    """Line, instruction, column of its arguments, and those, continued lines joined."""
    lines = [line.removesuffix("\r") for line in text.removeprefix("\ufeff").split("\n")]
    escape = _escape(lines)
    at = 0
    while at < len(lines):
        first, line = at, lines[at]
        at += 1
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        while line.rstrip().endswith(escape) and at < len(lines):
            following = lines[at]
            at += 1
            if not following.lstrip().startswith("#"):
                line = line.rstrip()[: -len(escape)] + following
        if not line.strip():
            continue  # nothing but a sign of continuation
        word = line.split(None, 1)[0]
        rest = line.lstrip()[len(word) :]
        for _, name in _HERE.findall(rest) if word.upper() in ("RUN", "COPY", "ADD") else ():
            while at < len(lines) and lines[at].strip() != name:
                at += 1
            at += 1
        column = len(line) - len(rest.lstrip()) + 1
        yield first + 1, word.upper(), column, rest.strip()


def _escape(lines: list[str]) -> str:
    """The line continuation, which a directive at the very top may change."""
    for line in lines:
        found = re.fullmatch(r"#\s*(\w+)\s*=\s*(\S+)\s*", line.strip())
        if found is None:
            break
        if found[1].lower() == "escape":
            return found[2]
    return "\\"
