# SPDX-License-Identifier: Apache-2.0
"""A Dockerfile as stages of instructions, checked for what can be known without building.

Lines, heredocs, JSON forms and the escape directive are e2b-dockerfile-utils' work; stages, flags and arity are done
here. Nothing is expanded yet.

    >>> recipe = parse("ARG V=1\\nFROM debian:$V AS base\\nFROM base\\nCOPY --chown=7 a /b\\n")
    >>> [(stage.name, stage.base) for stage in recipe.stages], recipe.stages[1].steps[0].flags
    ([('base', 'debian:$V'), ('', 'base')], {'chown': ['7']})

https://docs.docker.com/reference/dockerfile/
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

from e2b_dockerfile_utils import DockerfileSyntaxError, chomp_heredoc_content, parse_dockerfile_ast

from manyfest.errors import InvalidProject
from manyfest.values import Value

if TYPE_CHECKING:
    from e2b_dockerfile_utils import DockerfileInstruction

__all__ = ["Heredoc", "Recipe", "Stage", "Step", "parse", "parse_trigger"]

_FLAGS: dict[str, frozenset[str]] = {
    "FROM": frozenset({"platform"}),
    "COPY": frozenset({"from", "chown", "chmod", "link", "parents", "exclude"}),
    "ADD": frozenset({"chown", "chmod", "link", "exclude", "checksum", "keep-git-dir", "unpack"}),
    "HEALTHCHECK": frozenset({"interval", "timeout", "start-period", "start-interval", "retries"}),
    "RUN": frozenset({"mount", "network", "security", "device"}),
}
_REPEATED = frozenset({"exclude", "mount", "device"})
_SWITCHES = frozenset({"link", "parents", "keep-git-dir", "unpack"})

# Instruction -> the fewest arguments it takes (name and value count as one), and whether one is also the most.
_ARITY = {
    "ADD": (2, False),
    "ARG": (1, False),
    "CMD": (0, False),
    "COPY": (2, False),
    "ENTRYPOINT": (0, False),
    "ENV": (1, False),
    "EXPOSE": (1, False),
    "HEALTHCHECK": (1, False),
    "LABEL": (1, False),
    "MAINTAINER": (1, True),
    "RUN": (0, False),
    "SHELL": (1, False),
    "STOPSIGNAL": (1, True),
    "USER": (1, True),
    "VOLUME": (1, False),
    "WORKDIR": (1, True),
}
_NOT_TRIGGERS = ("FROM", "MAINTAINER", "ONBUILD")


class Heredoc(Value):
    """A file that stands in the Dockerfile. ``expand``: its variables are to be replaced."""

    __slots__ = ("expand", "name", "text")
    expand: bool
    name: str
    text: str

    def __init__(self, name: str, text: str, *, expand: bool) -> None:
        self._set(name=name, text=text, expand=expand)


class Step(Value):
    """An instruction of a stage. ``flags`` without dashes; ``text`` is the line as written, continuations joined."""

    __slots__ = ("args", "flags", "heredocs", "json", "line", "name", "text")
    args: tuple[str, ...]
    flags: dict[str, list[str]]
    heredocs: tuple[Heredoc, ...]
    json: bool
    line: int
    name: str
    text: str

    def __init__(
        self,
        name: str,
        args: tuple[str, ...],
        line: int,
        *,
        flags: dict[str, list[str]] | None = None,
        heredocs: tuple[Heredoc, ...] = (),
        json: bool = False,
        text: str = "",
    ) -> None:
        self._set(name=name, args=args, line=line, flags=flags or {}, heredocs=heredocs, json=json, text=text)

    def flag(self, name: str) -> str:
        """The value of a flag, or the empty string."""
        values = self.flags.get(name)
        return values[-1] if values else ""

    def switch(self, name: str) -> bool:
        """Is a flag without a value set?"""
        return name in self.flags and self.flag(name).lower() not in ("false", "0")


class Stage(Value):
    """``FROM`` and what follows. ``base`` and ``platform`` are not expanded."""

    __slots__ = ("base", "index", "line", "name", "platform", "steps")
    base: str
    index: int
    line: int
    name: str
    platform: str
    steps: tuple[Step, ...]

    def __init__(
        self, index: int, name: str, base: str, platform: str, line: int, steps: tuple[Step, ...]
    ) -> None:
        self._set(index=index, name=name, base=base, platform=platform, line=line, steps=steps)


class Recipe(Value):
    """A whole Dockerfile; ``path`` is how messages name it."""

    __slots__ = ("escape", "globals", "path", "stages", "warnings")
    escape: str
    globals: tuple[Step, ...]
    path: str
    stages: tuple[Stage, ...]
    warnings: tuple[str, ...]

    def __init__(
        self,
        path: str,
        stages: tuple[Stage, ...],
        *,
        globals: tuple[Step, ...] = (),
        escape: str = "\\",
        warnings: tuple[str, ...] = (),
    ) -> None:
        self._set(path=path, stages=stages, globals=globals, escape=escape, warnings=warnings)

    def stage(self, name: str) -> Stage | None:
        """By name (case does not matter) or number; the last of a name wins."""
        found = [stage for stage in self.stages if stage.name and stage.name == name.lower()]
        if found:
            return found[-1]
        return self.stages[int(name)] if name.isdecimal() and int(name) < len(self.stages) else None

    def where(self, line: int) -> str:
        """``Dockerfile:3``."""
        return f"{self.path}:{line}"


def parse(text: str, path: str = "Dockerfile") -> Recipe:
    """Read a Dockerfile. Raises :class:`InvalidProject` with the line."""
    try:
        ast = parse_dockerfile_ast(text)
    except DockerfileSyntaxError as error:
        raise InvalidProject(f"{path}:{error.line}: {_reason(error)}", hint=_known(error)) from error
    steps = [_step(item, path) for item in ast.instructions]
    first = next((i for i, step in enumerate(steps) if step.name == "FROM"), len(steps))
    for step in steps[:first]:
        if step.name != "ARG":
            raise InvalidProject(
                f"{path}:{step.line}: {step.name} before the first FROM", hint="only ARG may stand there"
            )
    if first == len(steps):
        raise InvalidProject(f"{path}: no FROM", hint="a Dockerfile starts with FROM; FROM scratch is empty")
    warnings = tuple(f"{path}:{warning.line}: {warning.message}" for warning in ast.warnings)
    return Recipe(
        path,
        tuple(_stages(steps[first:], path)),
        globals=tuple(steps[:first]),
        escape=ast.escape_token,
        warnings=warnings,
    )


def parse_trigger(text: str, line: int, path: str) -> Step:
    """The instruction that an ONBUILD holds. Raises :class:`InvalidProject`."""
    name = text.split(None, 1)[0].upper() if text.strip() else ""
    if not name or name in _NOT_TRIGGERS:
        raise InvalidProject(
            f"{path}:{line}: ONBUILD {name}: expected an instruction that may wait, such as COPY"
        )
    try:
        ast = parse_dockerfile_ast(text)
    except DockerfileSyntaxError as error:
        raise InvalidProject(f"{path}:{line}: ONBUILD: {_reason(error)}") from error
    if len(ast.instructions) != 1:
        raise InvalidProject(f"{path}:{line}: ONBUILD holds one instruction, got {len(ast.instructions)}")
    return _step(ast.instructions[0], path).replace(line=line)


def _reason(error: DockerfileSyntaxError) -> str:
    """What is wrong, without the line: of a trigger's text that would be the first."""
    return re.sub(r"^Dockerfile parse error on line \d+: ", "", str(error))


def _known(error: DockerfileSyntaxError) -> str:
    """What a word that is no instruction may have meant."""
    found = re.fullmatch(r"unknown instruction: (\S+)", _reason(error))
    if found is None:
        return ""
    names = sorted({*_ARITY, "FROM", "ONBUILD"})
    near = difflib.get_close_matches(found[1].upper(), names, 1, 0.5)
    return f"did you mean {near[0]}?" if near else f"instructions are {', '.join(names)}"


def _stages(steps: list[Step], path: str) -> list[Stage]:
    stages: list[Stage] = []
    starts = [i for i, step in enumerate(steps) if step.name == "FROM"]
    for index, (start, end) in enumerate(zip(starts, [*starts[1:], len(steps)], strict=True)):
        step = steps[start]
        words = step.args
        named = len(words) == 3 and words[1].lower() == "as"
        if len(words) != 1 and not named:
            raise InvalidProject(
                f"{path}:{step.line}: FROM {' '.join(words)}: expected FROM IMAGE or FROM IMAGE AS NAME"
            )
        name = words[2].lower() if named else ""
        if name and not (name[0].isalpha() and all(c.isalnum() or c in "-_." for c in name)):
            raise InvalidProject(
                f"{path}:{step.line}: stage name {words[2]!r}: expected a letter, then letters, digits, -_."
            )
        body = tuple(steps[start + 1 : end])
        stages.append(Stage(index, name, words[0], step.flag("platform"), step.line, body))
    return stages


def _step(item: DockerfileInstruction, path: str) -> Step:
    where = f"{path}:{item.start_line}"
    heredocs = tuple(
        Heredoc(doc.name, chomp_heredoc_content(doc.content) if doc.chomp else doc.content, expand=doc.expand)
        for doc in item.heredocs
    )
    args = tuple(item.args)
    if item.name == "ONBUILD":
        args = (item.original.strip().split(None, 1)[1].strip() if " " in item.original.strip() else "",)
        parse_trigger(args[0], item.start_line, path)
    step = Step(
        item.name,
        args,
        item.start_line,
        flags=_flags(item, where),
        heredocs=heredocs,
        json=item.json,
        text=" ".join(item.original.split()),
    )
    _check_arity(step, where)
    return step


def _flags(item: DockerfileInstruction, where: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    allowed = _FLAGS.get(item.name, frozenset())
    for flag in item.flags:
        name, equals, value = flag.removeprefix("--").partition("=")
        if name not in allowed:
            known = ", ".join(f"--{each}" for each in sorted(allowed)) or "none"
            raise InvalidProject(f"{where}: {item.name}: unknown flag --{name}", hint=f"it takes {known}")
        if name in found and name not in _REPEATED:
            raise InvalidProject(f"{where}: {item.name}: --{name} is given twice")
        if not equals and name not in _SWITCHES:
            raise InvalidProject(f"{where}: {item.name}: --{name} needs a value: --{name}=…")
        found.setdefault(name, []).append(value)
    return found


def _check_arity(step: Step, where: str) -> None:
    if step.name not in _ARITY:
        return
    least, single = _ARITY[step.name]
    count = len(step.args) // 3 if step.name in ("ENV", "LABEL") else len(step.args)
    if count < least:
        raise InvalidProject(f"{where}: {step.name} needs at least {least} arguments, got {count}")
    if single and count > 1:
        raise InvalidProject(f"{where}: {step.name} takes one argument, got {count}")
    if step.name == "SHELL" and not step.json:
        raise InvalidProject(f"{where}: SHELL needs the JSON form", hint='SHELL ["/bin/sh", "-c"]')
