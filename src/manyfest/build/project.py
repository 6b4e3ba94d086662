# SPDX-License-Identifier: Apache-2.0
"""What is in a project's folder: Dockerfiles, and ``manyfest.yaml`` if there is one.

A project has one ``Dockerfile``, or one for each architecture under any of its names (``Dockerfile.arm64``,
``Dockerfile.armhf``, ``Dockerfile.x86_64``), or both: the architecture's own goes first. ``manyfest.yaml`` is a list
spec (:mod:`manyfest.indexes.spec`) with more keys; ``docs/reference/manyfest-yaml.md`` describes them all.
"""

from __future__ import annotations

import os
import posixpath
from typing import TYPE_CHECKING

from manyfest import drafts
from manyfest.build import twostep
from manyfest.build.attest import Attest
from manyfest.build.toolchains import LIBCS, SHARED, TOOLCHAINS, WITH_LIBC, Compile, default_run
from manyfest.build.twostep import TwoStep
from manyfest.errors import InputError, InvalidPlatform, InvalidProject
from manyfest.platforms import Platform, from_name, normalise
from manyfest.values import Value

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from manyfest.indexes.spec import Spec

__all__ = ["FILE", "Project", "load"]

FILE = "manyfest.yaml"
_COMPILE_KEYS = frozenset({"toolchain", "run", "outputs", "env", "libc", "once"})
_BUILD_KEYS = frozenset({"args", "builder", "context", "copy", "dockerfile", "provenance", "sbom", "target"})
_DEFAULT_COPY = "/out"


class Project(Value):
    """What can be built. ``folder``: where the files are that Dockerfiles copy and commands start in.

    ``dockerfiles``: the files named after an architecture, by platform. ``dockerfile``: the one for all others, or
    empty. ``platforms``: what the project says it is for, may be empty. ``nodes``: engines by platform. ``first``: a
    Dockerfile that is built before all others, once. ``args``: names and values of build arguments, those with a
    platform for that one only.
    """

    __slots__ = (
        "args",
        "attest",
        "compile",
        "dockerfile",
        "dockerfiles",
        "first",
        "folder",
        "nodes",
        "platforms",
        "spec",
        "target",
    )
    args: tuple[tuple[str, Platform | None, str], ...]
    attest: Attest
    compile: Compile | None
    dockerfile: str
    dockerfiles: tuple[tuple[Platform, str], ...]
    first: TwoStep | None
    folder: str
    nodes: tuple[tuple[Platform, str], ...]
    platforms: tuple[Platform, ...]
    spec: Spec | None
    target: str

    def __init__(
        self,
        folder: str,
        dockerfile: str = "",
        dockerfiles: tuple[tuple[Platform, str], ...] = (),
        *,
        args: tuple[tuple[str, Platform | None, str], ...] = (),
        attest: Attest | None = None,
        compile: Compile | None = None,
        first: TwoStep | None = None,
        nodes: tuple[tuple[Platform, str], ...] = (),
        platforms: tuple[Platform, ...] = (),
        spec: Spec | None = None,
        target: str = "",
    ) -> None:
        self._set(
            folder=folder,
            dockerfile=dockerfile,
            dockerfiles=dockerfiles,
            args=args,
            attest=attest or Attest(),
            compile=compile,
            first=first,
            nodes=nodes,
            platforms=platforms,
            spec=spec,
            target=target,
        )

    def args_for(self, platform: Platform) -> dict[str, str]:
        """Build arguments of a platform: those of its architecture go before those of all, its own before both."""
        wanted = normalise(platform)
        found = {name: value for name, only, value in self.args if only is None}
        for key in (wanted.replace(variant=""), wanted):
            found.update(
                (name, value)
                for name, only, value in self.args
                if only is not None and normalise(only) == key
            )
        return found

    def dockerfile_for(self, platform: Platform) -> str:
        """The Dockerfile of a platform. Raises :class:`InvalidProject` if there is none."""
        wanted = normalise(platform)
        own = {normalise(each): path for each, path in self.dockerfiles}
        found = own.get(wanted) or own.get(wanted.replace(variant="")) or self.dockerfile
        if not found:
            there = ", ".join(os.path.basename(path) for _, path in self.dockerfiles)
            raise InvalidProject(
                f"{self.folder}: no Dockerfile for {platform}",
                hint=f"it has {there}; add one, or a Dockerfile for all the others",
            )
        return found


def load(folder: str, dockerfile: str = "") -> Project:
    """Read a project. ``dockerfile``, a path, is used for all platforms in place of what is found.

    Raises :class:`InvalidProject`, or :class:`InvalidSpec` for a broken ``manyfest.yaml``, with line and column.
    """
    if not os.path.isdir(folder):
        raise InvalidProject(
            f"{folder}: no such folder", hint="manyfest build DIR takes the project's folder"
        )
    file = os.path.join(folder, FILE)
    spec, keys, where = _read(file) if os.path.lexists(file) else (None, {}, _Where(file, b""))
    build = where.mapping(keys, "build", _BUILD_KEYS)
    named = dockerfile or where.text(build, "build.dockerfile")
    if named and not dockerfile:
        named = os.path.join(folder, named)
    if named and not os.path.isfile(named):
        raise InvalidProject(f"{named}: no such file", hint="-f and build: dockerfile: name a Dockerfile")
    common, own = (named, {}) if named else _found(folder)
    if not common and not own:
        raise InvalidProject(
            f"{folder}: no Dockerfile and no Dockerfile.ARCH",
            hint="add a Dockerfile; two lines do: FROM scratch and COPY . /",
        )
    platforms = where.platforms(keys) or tuple(own)
    compile = _compile(where.mapping(keys, "compile", _COMPILE_KEYS), where) if keys.get("compile") else None
    return Project(
        _context(folder, where.text(build, "build.context"), where),
        common,
        tuple(own.items()),
        args=where.args(build),
        attest=_attest(build, where),
        compile=compile,
        first=_first(folder, build, where, compile, named),
        nodes=where.nodes(keys),
        platforms=platforms,
        spec=spec,
        target=where.text(build, "build.target"),
    )


def _context(folder: str, named: str, where: _Where) -> str:
    """The project's folder, or another that ``build: context:`` names from there."""
    if not named:
        return folder
    path = os.path.normpath(os.path.join(folder, named))
    if not os.path.isdir(path):
        raise where.wrong(
            "build.context", f"{path}: no such folder", hint="context: names a folder, such as .."
        )
    return path


def _found(folder: str) -> tuple[str, dict[Platform, str]]:
    common = ""
    own: dict[Platform, str] = {}
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if not os.path.isfile(path):
            continue
        if name == "Dockerfile":
            common = path
        elif name.startswith("Dockerfile.") and not name.endswith(".dockerignore"):
            try:
                platform = from_name(name.removeprefix("Dockerfile."))
            except InvalidPlatform:
                continue  # Dockerfile.dev, Dockerfile.build: not an architecture's.
            other = own.get(platform)
            if other is not None:
                raise InvalidProject(
                    f"{folder}: {os.path.basename(other)} and {name} are both for {platform}", hint="keep one"
                )
            own[platform] = path
    return common, own


def _read(file: str) -> tuple[Spec, dict[str, Any], _Where]:
    try:
        with open(file, "rb") as stream:
            raw = stream.read(drafts.MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}") from error
    spec = drafts.parse(raw, file)
    return spec, dict(spec.project), _Where(file, raw)


def _compile(fields: Mapping[str, Any], where: _Where) -> Compile:
    toolchain = where.text(fields, "compile.toolchain") or "custom"
    if toolchain not in TOOLCHAINS:
        raise where.wrong(
            "compile.toolchain",
            f"{toolchain!r}: expected one of {', '.join(TOOLCHAINS)}",
            hint="custom runs any command, with {triple} and {arch} filled in",
        )
    outputs = where.texts(fields, "compile.outputs")
    if not outputs:
        raise where.wrong("compile", "lacks outputs:", hint="list the paths that the command writes")
    for output in outputs:
        if output.startswith("/") or ".." in output.split("/") or output in ("", "."):
            raise where.wrong("compile.outputs", f"{output!r}: expected a path inside the project")
    run = where.text(fields, "compile.run") or default_run(toolchain, outputs)
    if not run:
        raise where.wrong("compile", "lacks run:", hint="the command that writes the outputs")
    libc = where.text(fields, "compile.libc")
    if libc and toolchain not in WITH_LIBC:
        raise where.wrong(
            "compile.libc", f"{toolchain} has no choice of it", hint=f"{', '.join(sorted(WITH_LIBC))} have"
        )
    if libc and libc not in LIBCS:
        raise where.wrong("compile.libc", f"{libc!r}: expected one of {', '.join(LIBCS)}")
    once = where.flag(fields, "compile.once")
    if once and toolchain not in ("custom", *SHARED):
        raise where.wrong(
            "compile.once",
            f"{toolchain} compiles for each platform",
            hint="toolchain: custom can do with one run",
        )
    environment = where.pairs(fields, "compile.env")
    return Compile(toolchain, run, tuple(outputs), environment, libc or LIBCS[0], once=once)


def _attest(build: Mapping[str, Any], where: _Where) -> Attest:
    """``provenance:`` and ``sbom:``."""
    provenance, sbom = (where.word(build, f"build.{key}") for key in ("provenance", "sbom"))
    for key, words in (("provenance", (provenance, "")), ("sbom", ("", sbom))):
        try:
            Attest.parse(*words)
        except InputError as error:
            raise where.wrong(f"build.{key}", str(error), hint=error.hint) from error
    return Attest.parse(provenance, sbom)


def _first(
    folder: str, build: Mapping[str, Any], where: _Where, compile: Compile | None, named: str
) -> TwoStep | None:
    """``builder:`` and ``copy:``; a ``Dockerfile.build`` is used without being named."""
    value = build.get("builder")
    name = "" if value is False else where.text(build, "build.builder")
    path = os.path.join(folder, name or twostep.FILE)
    if name and not os.path.isfile(path):
        raise where.wrong("build.builder", f"{path}: no such file", hint="builder: names a Dockerfile")
    copies = tuple(_copied(text, where) for text in where.texts(build, "build.copy"))
    is_there = os.path.isfile(path) and not (named and os.path.samefile(named, path))
    if value is False or not is_there:
        if copies:
            raise where.wrong(
                "build.copy",
                "there is nothing to copy out of",
                hint=f"add a {twostep.FILE}, or name one with builder:",
            )
        return None
    made = list(compile.outputs) if compile is not None else []
    for _, dest in copies:
        if _covers(dest, made):
            raise where.wrong("build.copy", f"{dest!r} is written twice, or inside of another")
        made.append(dest)
    return TwoStep(path, copies or (_copied(_DEFAULT_COPY, where),))


def _covers(path: str, others: list[str]) -> bool:
    """Is one of them the path, in it, or around it?"""
    return any(f"{path}/".startswith(f"{other}/") or f"{other}/".startswith(f"{path}/") for other in others)


def _copied(text: str, where: _Where) -> tuple[str, str]:
    source, colon, dest = text.partition(":")
    clean = posixpath.normpath(f"/{source.lstrip('/')}")
    if not source.startswith("/") or clean == "/" or (colon and not dest):
        raise where.wrong(
            "build.copy",
            f"{text!r}: expected a path from the root of what was built",
            hint="/out, or /out:bin to have it as bin in the project",
        )
    dest = dest or posixpath.basename(clean)
    if dest.startswith("/") or ".." in dest.split("/") or posixpath.normpath(dest) == ".":
        raise where.wrong("build.copy", f"{dest!r}: expected a path inside the project")
    return clean, posixpath.normpath(dest)


class _Where:
    """Reads keys of the project file; errors name file, line and column."""

    def __init__(self, file: str, raw: bytes) -> None:
        self._file = file
        self._raw = raw

    def wrong(self, path: str, message: str, *, hint: str = "") -> InvalidProject:
        """The error for a key such as ``compile.outputs``."""
        return InvalidProject(f"{self._file}{self._position(path)}: {path}: {message}", hint=hint)

    def mapping(self, fields: Mapping[str, Any], path: str, known: frozenset[str]) -> Mapping[str, Any]:
        """A mapping with known keys; empty if it is not there."""
        value = fields.get(path.rpartition(".")[2])
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self.wrong(path, f"expected a mapping of keys to values, got {type(value).__name__}")
        for key in value:
            if key not in known:
                raise self.wrong(
                    f"{path}.{key}", "unknown key", hint=f"it may have: {', '.join(sorted(known))}"
                )
        return value

    def text(self, fields: Mapping[str, Any], path: str) -> str:
        """Text; empty if it is not there."""
        value = fields.get(path.rpartition(".")[2])
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self.wrong(path, f"expected text, got {value!r}", hint="put it in quotes")
        return value.strip()

    def word(self, fields: Mapping[str, Any], path: str) -> str:
        """Text; yes and no as ``true`` and ``false``."""
        value = fields.get(path.rpartition(".")[2])
        return str(value).lower() if isinstance(value, bool) else self.text(fields, path)

    def flag(self, fields: Mapping[str, Any], path: str) -> bool:
        """Yes or no; no if it is not there."""
        value = fields.get(path.rpartition(".")[2], False)
        if not isinstance(value, bool):
            raise self.wrong(path, f"expected true or false, got {value!r}")
        return value

    def texts(self, fields: Mapping[str, Any], path: str) -> list[str]:
        """A list of texts, or one text."""
        value = fields.get(path.rpartition(".")[2])
        items = [] if value is None else [value] if isinstance(value, str) else value
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise self.wrong(path, f"expected a list of texts, got {value!r}")
        return items

    def pairs(self, fields: Mapping[str, Any], path: str) -> tuple[tuple[str, str], ...]:
        """Names and values; whole numbers are taken as written, fractions must be quoted."""
        value = fields.get(path.rpartition(".")[2])
        if value is None:
            return ()
        if not isinstance(value, dict):
            raise self.wrong(path, f"expected names and values, got {value!r}")
        made = []
        for key, item in value.items():
            whole = isinstance(item, int) and not isinstance(item, bool)
            if not isinstance(key, str) or not (whole or isinstance(item, str)):
                raise self.wrong(f"{path}.{key}", f"expected text, got {item!r}", hint="put it in quotes")
            made.append((key, str(item)))
        return tuple(made)

    def args(self, build: Mapping[str, Any]) -> tuple[tuple[str, Platform | None, str], ...]:
        """``build.args``: a value for all platforms, or values by platform."""
        given = build.get("args")
        if not isinstance(given, dict):
            return tuple((name, None, value) for name, value in self.pairs(build, "build.args"))
        common = {name: value for name, value in given.items() if not isinstance(value, dict)}
        made: list[tuple[str, Platform | None, str]] = [
            (name, None, value) for name, value in self.pairs({"args": common}, "build.args")
        ]
        for name, values in given.items():
            if isinstance(values, dict):
                pairs = self._by_platform({str(name): values}, f"build.args.{name}")
                made += [(str(name), platform, value) for platform, value in pairs]
        return tuple(made)

    def platforms(self, fields: Mapping[str, Any]) -> tuple[Platform, ...]:
        """``platforms:``."""
        made: list[Platform] = []
        for i, text in enumerate(self.texts(fields, "platforms")):
            try:
                platform = Platform.parse(text)
            except InvalidPlatform as error:
                raise self.wrong(f"platforms.{i}", str(error), hint=error.hint) from error
            if not platform.is_known:
                near = platform.suggestion
                raise self.wrong(
                    f"platforms.{i}",
                    f"{text}: nobody runs that",
                    hint=f"did you mean {near}?" if near else "",
                )
            made.append(platform)
        return tuple(made)

    def nodes(self, fields: Mapping[str, Any]) -> tuple[tuple[Platform, str], ...]:
        """``nodes:``."""
        return self._by_platform(fields, "nodes")

    def _by_platform(self, fields: Mapping[str, Any], path: str) -> tuple[tuple[Platform, str], ...]:
        """A mapping of platforms to texts."""
        made = []
        for key, value in self.pairs(fields, path):
            try:
                made.append((Platform.parse(key), value))
            except InvalidPlatform as error:
                raise self.wrong(f"{path}.{key}", str(error), hint=error.hint) from error
        return tuple(made)

    def _position(self, path: str) -> str:
        """``:line:column`` of a key; of the nearest one above it that is there."""
        import yaml

        node = (
            yaml.compose(self._raw, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
            if self._raw
            else None
        )
        mark = None if node is None else node.start_mark
        for part in path.split("."):
            if isinstance(node, yaml.SequenceNode) and part.isdecimal() and int(part) < len(node.value):
                node = node.value[int(part)]
                mark = node.start_mark
                continue
            pairs = node.value if isinstance(node, yaml.MappingNode) else []
            found = next(((key, value) for key, value in pairs if key.value == part), None)
            if found is None:
                break
            mark, node = found[0].start_mark, found[1]
        return "" if mark is None else f":{mark.line + 1}:{mark.column + 1}"
