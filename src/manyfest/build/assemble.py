# SPDX-License-Identifier: Apache-2.0
"""The embedded builder: carries out a Dockerfile for one platform, everything but RUN.

The outcome is a :class:`Result`: a configuration, the base's layers, and entries of new layers that nobody has written
yet. Writing them is :mod:`manyfest.build.plan`'s work, so that a layer that is the same for all platforms is written
once. Stages are carried out only if the target needs them, each once.
"""

from __future__ import annotations

import copy
import datetime
import posixpath
import re
from typing import TYPE_CHECKING

from manyfest.build import modes, settings
from manyfest.build.caution import much_of, secrets_of
from manyfest.build.copying import Copying, copied, folders, goes_into, several
from manyfest.build.dockerfile import parse_trigger
from manyfest.build.expand import PROXIES, Scope, platform_args
from manyfest.build.layer import Bytes, Entry
from manyfest.build.tree import Tree
from manyfest.errors import BuildError, InputError, InvalidPlatform, InvalidProject
from manyfest.platforms import Platform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from manyfest.build.archives import Spool
    from manyfest.build.bases import Base, Bases
    from manyfest.build.dockerfile import Recipe, Stage, Step
    from manyfest.build.ignore import Context

__all__ = ["Assembler", "Result", "needed_stages", "refuse_run", "target_stage", "timestamp"]

_MAX_PASSWD = 4 * 1024 * 1024
_REMOTE = re.compile(r"^(https?|ftp|ssh|git)://|^git@|\.git(#|$)")


class Result:
    """A finished stage. ``layers``: the entries of each new layer; ``base`` is ``None`` for scratch."""

    def __init__(self, base: Base | None, fields: dict[str, Any]) -> None:
        self.base = base
        self.fields = fields
        self.config: dict[str, Any] = fields["config"]
        self.history: list[dict[str, Any]] = list(fields.get("history") or [])
        self.layers: list[list[Entry]] = []

    def child(self) -> Result:
        """The start of a stage that goes on from here."""
        made = Result(self.base, copy.deepcopy({**self.fields, "config": self.config}))
        made.history = list(self.history)
        made.layers = list(self.layers)
        return made


class Assembler:
    """One Dockerfile for one platform. ``warn`` hears what a person should look at."""

    def __init__(
        self,
        recipe: Recipe,
        platform: Platform,
        host: Platform,
        context: Context,
        bases: Bases,
        *,
        args: Mapping[str, str],
        epoch: int = 0,
        target: str = "",
        warn: Callable[[str], None] | None = None,
    ) -> None:
        self.recipe = recipe
        self.platform = platform
        self.host = host
        self.context = context
        self.bases = bases
        self.epoch = epoch
        self.target = target
        self.given = dict(args)
        self.used: set[str] = set()
        self.spools: list[Spool] = []
        self._warn = warn or _ignore
        self._stages: dict[int, tuple[Result, _Files]] = {}
        self._platform_args = platform_args(platform, host, target)
        self.globals = self._global_args()

    def result(self) -> Result:
        """Carry out the target stage. Raises :class:`BuildError` or :class:`InvalidProject` with the line."""
        result, _ = self.stage(target_stage(self.recipe, self.target))
        # The files of a base may be a hundred thousand, and other platforms have as many.
        self._stages.clear()
        return result

    def files(self) -> Tree:
        """Carry out the target stage for its files alone. Raises as :meth:`result` does."""
        tree = self.stage(target_stage(self.recipe, self.target))[1].tree
        self._stages.clear()
        return tree

    def stage(self, stage: Stage) -> tuple[Result, _Files]:
        """A stage's outcome and its files, made on first use."""
        known = self._stages.get(stage.index)
        if known is None:
            known = self._stages[stage.index] = _Run(self, stage).done()
        return known

    def base_of(self, stage: Stage) -> tuple[str, Stage | None, Platform]:
        """What FROM names: its text, the stage it is (if it is one), and the platform asked for."""
        where = self.recipe.where(stage.line)
        scope = Scope(self.recipe.escape, {**self._platform_args, **self.globals}, where)
        name = scope.word(stage.base)
        if not name:
            raise InvalidProject(
                f"{where}: FROM {stage.base} names nothing once variables are replaced",
                hint="give the ARG a default before FROM, or a value with --build-arg",
            )
        wanted = self.platform
        if stage.platform:
            text = scope.word(stage.platform)
            try:
                wanted = Platform.parse(text)
            except InvalidPlatform as error:
                raise InvalidProject(f"{where}: --platform={text}: {error}", hint=error.hint) from error
        return name, stage_before(self.recipe, stage, name), wanted

    def images(self) -> Iterator[tuple[Stage, Step | None, str, Platform]]:
        """Every image that is needed: the stage, its COPY (``None`` for its FROM), name and platform; no stages."""
        for stage in needed_stages(self.recipe, self.target):
            name, parent, platform = self.base_of(stage)
            if parent is None and name != "scratch":
                yield stage, None, name, platform
            for step in stage.steps:
                other = step.flag("from") if step.name == "COPY" else ""
                if other and other != "scratch" and not stage_before(self.recipe, stage, other, numbers=True):
                    yield stage, step, other, self.platform

    def arg(self, name: str, default: str | None) -> str | None:
        """The value of an ARG that a stage declares; ``None`` leaves it unset."""
        if name in self.given:
            self.used.add(name)
            return self.given[name]
        if default is not None:
            return default
        return self.globals.get(name, self._platform_args.get(name))

    def warn(self, text: str) -> None:
        """Tell a person."""
        self._warn(text)

    def _global_args(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for step in self.recipe.globals:
            where = self.recipe.where(step.line)
            for word in step.args:
                scope = Scope(self.recipe.escape, {**self._platform_args, **found}, where)
                name, equals, value = word.partition("=")
                if name in self.given:
                    self.used.add(name)
                    found[name] = self.given[name]
                elif equals:
                    found[name] = scope.word(value)
        return found


class _Files:
    """A stage's files, read from its base only when somebody needs them."""

    def __init__(self, load: Callable[[], Tree]) -> None:
        self._load = load
        self._tree: Tree | None = None

    @property
    def tree(self) -> Tree:
        if self._tree is None:
            self._tree = self._load()
        return self._tree


class _Run:
    """Carries out one stage."""

    def __init__(self, assembler: Assembler, stage: Stage) -> None:
        self._a = assembler
        self._stage = stage
        self._args: dict[str, str] = {}
        self._cmd_set = False
        self._where = assembler.recipe.where(stage.line)
        self._result, self._files = self._start()
        if "PATH" not in settings.env_of(self._result.config):
            settings.set_env(self._result.config, "PATH", settings.PATH)

    def done(self) -> tuple[Result, _Files]:
        """The outcome."""
        triggers = self._result.config.pop("OnBuild", None) or []
        for text in triggers:
            self._carry_out(parse_trigger(text, self._stage.line, self._a.recipe.path))
        for step in self._stage.steps:
            self._carry_out(step)
        return self._result, self._files

    def _start(self) -> tuple[Result, _Files]:
        name, parent, platform = self._a.base_of(self._stage)
        if parent is not None:
            result, files = self._a.stage(parent)
            return result.child(), _Files(lambda: files.tree.copy())
        if name == "scratch":
            fields: dict[str, Any] = {**platform.to_json(), "config": {"WorkingDir": "/"}}
            return Result(None, fields), _Files(Tree)
        base = self._a.bases.find(name, platform, self._where)
        fields = copy.deepcopy(base.config.json)
        # The image is for the platform that was asked for, also where a base of a lower variant serves it.
        asked = {k: v for k, v in platform.to_json().items() if k != "os.version"}
        fields = {**fields, **asked, "config": fields.get("config") or {}}
        return Result(base, fields), _Files(lambda: self._a.bases.tree(base))

    def _carry_out(self, step: Step) -> None:
        self._where = self._a.recipe.where(step.line)
        for warning in secrets_of([(step, self._where)]):
            self._a.warn(warning)
        config = self._result.config
        if step.name == "RUN":
            raise refuse_run(step, self._where, str(self._a.platform))
        if step.name == "ARG":
            self._arg(step)
        elif step.name == "WORKDIR":
            self._workdir(step)
            return
        elif step.name in ("COPY", "ADD"):
            self._copy(step)
            return
        elif step.name == "MAINTAINER":
            self._result.fields["author"] = step.args[0]
        else:
            settings.apply(config, step, self._scope(), self._where)
            self._after_setting(step)
        self._note(step, empty=True)

    def _after_setting(self, step: Step) -> None:
        if step.name == "CMD":
            self._cmd_set = True
        elif step.name == "ENTRYPOINT" and not self._cmd_set:
            # A base's CMD are arguments for the base's entrypoint.
            self._result.config.pop("Cmd", None)

    def _scope(self) -> Scope:
        proxies = {k: v for k, v in self._a.given.items() if k in PROXIES}
        variables = {**proxies, **self._args, **settings.env_of(self._result.config)}
        return Scope(self._a.recipe.escape, variables, self._where)

    def _arg(self, step: Step) -> None:
        for word in step.args:
            name, equals, default = word.partition("=")
            value = self._a.arg(name, self._scope().word(default) if equals else None)
            if value is not None:
                self._args[name] = value

    def _workdir(self, step: Step) -> None:
        path = self._scope().word(step.args[0])
        if not path:
            raise InvalidProject(f"{self._where}: WORKDIR: expected a path")
        full = posixpath.normpath(posixpath.join("/", self._workdir_now(), path))
        full = "/" + full.lstrip("/")
        self._result.config["WorkingDir"] = full
        tree = self._files.tree
        real = tree.resolve(full.lstrip("/"))
        made = [
            Entry(folder, "dir", 0o755, uid=owner[0], gid=owner[1])
            for owner in [self._user()]
            for folder in [*folders(real), real]
            if folder and not tree.is_folder(folder)
        ]
        self._add(made, step)

    def _workdir_now(self) -> str:
        return str(self._result.config.get("WorkingDir") or "/")

    def _user(self) -> tuple[int, int]:
        """USER as numbers, root where it cannot be told: a folder of WORKDIR belongs to whoever works in it."""
        user = str(self._result.config.get("User") or "")
        try:
            return self._owner(user) if user else (0, 0)
        except BuildError:
            return (0, 0)

    def _copy(self, step: Step) -> None:
        scope = self._scope()
        words = [scope.word(word) for word in step.args]
        names = {doc.name: doc for doc in step.heredocs}
        inline = [w for w in step.args[:-1] if w.startswith("<<") and step.heredocs]
        plain = [word for word, raw in zip(words[:-1], step.args[:-1], strict=True) if raw not in inline]
        copying = self._copying(step, scope, tuple(plain), words[-1])
        tree = self._files.tree
        if inline and len(plain) + len(inline) > 1 and not goes_into(copying, tree):
            raise several(copying)
        entries: list[Entry] = []
        if names:
            entries += copied(
                copying.replace(sources=tuple(names)), _heredocs(step, scope), tree, self._a.spools
            )
        if plain:
            found = copied(copying, self._origin(step), tree, self._a.spools)
            if not found:
                self._a.warn(f"{self._where}: {step.name} copies nothing: {' '.join(plain)} matches no file")
            for warning in () if step.flag("from") else much_of(found, f"{self._where}: copies"):
                self._a.warn(warning)
            entries += found
        self._add(list({entry.path: entry for entry in entries}.values()), step)

    def _copying(self, step: Step, scope: Scope, sources: tuple[str, ...], dest: str) -> Copying:
        is_add = step.name == "ADD"
        for source in sources if is_add else ():
            if _REMOTE.search(source):
                raise BuildError(
                    f"{self._where}: ADD {source}: remote files are not fetched here",
                    hint="fetch it before the build, check its hash, and COPY it",
                )
        chown = scope.word(step.flag("chown"))
        return Copying(
            sources,
            dest,
            self._where,
            folder=self._workdir_now(),
            exclude=tuple(scope.word(each) for each in step.flags.get("exclude", ())),
            link=step.switch("link"),
            mode=_mode(scope.word(step.flag("chmod")), self._where),
            owner=self._owner(chown) if chown else None,
            parents=step.switch("parents"),
            unpack=is_add and ("unpack" not in step.flags or step.switch("unpack")),
        )

    def _origin(self, step: Step) -> Context | Tree:
        name = step.flag("from")
        if not name:
            return self._a.context
        if "$" in name:
            raise InvalidProject(
                f"{self._where}: --from={name}: variables are not replaced here",
                hint="name a stage: FROM with the variable, AS NAME, then --from=NAME",
            )
        stage = stage_before(self._a.recipe, self._stage, name, numbers=True)
        if stage is not None:
            return self._a.stage(stage)[1].tree
        if name == "scratch" or name.isdecimal():
            raise InvalidProject(
                f"{self._where}: --from={name}: no such stage before this one",
                hint="stages count from 0; one that is copied from stands above",
            )
        return self._a.bases.tree(self._a.bases.find(name, self._a.platform, self._where))

    def _owner(self, text: str) -> tuple[int, int]:
        """``user[:group]`` as numbers; names are looked up in the image's own files."""
        user, colon, group = text.partition(":")
        uid, own_group = self._number("etc/passwd", user, text)
        if not colon or not group:
            return uid, uid if user.isdecimal() else own_group
        return uid, self._number("etc/group", group, text)[0]

    def _number(self, path: str, name: str, text: str) -> tuple[int, int]:
        if name.isdecimal():
            return int(name), int(name)
        tree = self._files.tree
        entry = tree.find(tree.resolve(path))
        if entry is not None and entry.content is not None and entry.size <= _MAX_PASSWD:
            stream = entry.content.open()
            try:
                lines = stream.read().decode("utf-8", "replace").split("\n")
            finally:
                stream.close()
            for line in lines:
                fields = line.split(":")
                if fields[0] == name and len(fields) > 3 and fields[2].isdecimal():
                    return int(fields[2]), int(fields[3]) if fields[3].isdecimal() else int(fields[2])
        raise BuildError(
            f"{self._where}: {text}: the image's /{path} has no {name}",
            hint="use numbers: --chown=UID:GID works without that file",
        )

    def _add(self, entries: list[Entry], step: Step) -> None:
        if entries:
            tree = self._files.tree
            for entry in sorted(entries, key=lambda each: each.path):
                tree.add(entry)
            self._result.layers.append(entries)
        self._note(step, empty=not entries)

    def _note(self, step: Step, *, empty: bool) -> None:
        said: dict[str, Any] = {
            "created": timestamp(self._a.epoch),
            "created_by": step.text,
            "comment": "manyfest",
        }
        if empty:
            said["empty_layer"] = True
        self._result.history.append(said)


def target_stage(recipe: Recipe, name: str) -> Stage:
    """The stage to build: the last one by default. Raises :class:`InvalidProject`."""
    stage = recipe.stage(name) if name else recipe.stages[-1]
    if stage is None:
        named = ", ".join(each.name for each in recipe.stages if each.name) or "none with a name"
        raise InvalidProject(f"{recipe.path}: no stage {name!r}", hint=f"it has {named}")
    return stage


def stage_before(recipe: Recipe, stage: Stage, name: str, *, numbers: bool = False) -> Stage | None:
    """The stage of that name (or number) that stands before ``stage``."""
    for other in reversed(recipe.stages[: stage.index]):
        if other.name == name.lower() or (numbers and name == str(other.index)):
            return other
    return None


def needed_stages(recipe: Recipe, target: str) -> list[Stage]:
    """The stages that the target is built from, as far as that can be told without variables; the target last."""
    needed: dict[int, Stage] = {}

    def visit(stage: Stage) -> None:
        names = [(stage.base, False)]
        names += [(step.flag("from"), True) for step in stage.steps if step.flag("from")]
        for name, numbers in names:
            other = stage_before(recipe, stage, name, numbers=numbers)
            if other is not None and other.index not in needed:
                visit(other)
        needed[stage.index] = stage

    visit(target_stage(recipe, target))
    return list(needed.values())


def refuse_run(step: Step, where: str, platform: str) -> BuildError:
    """The error for a RUN: nothing here runs what an image holds."""
    shown = step.text if len(step.text) <= 80 else f"{step.text[:80]}…"
    return BuildError(
        f"{where}: {shown}: RUN needs a container engine that runs {platform}; manyfest build runs nothing",
        hint="compile before the image step (compile: in manyfest.yaml) and COPY the result; or build this image with "
        "docker buildx build or buildah, push it, and put the platforms under one name with manyfest join",
    )


def timestamp(epoch: int) -> str:
    """Seconds since 1970 as configurations write them."""
    moment = datetime.datetime.fromtimestamp(epoch, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _heredocs(step: Step, scope: Scope) -> Tree:
    tree = Tree()
    for doc in step.heredocs:
        data = (scope.text(doc.text) if doc.expand else doc.text).encode("utf-8", "surrogateescape")
        tree.add(Entry(doc.name, "file", 0o644, size=len(data), content=Bytes(data)))
    return tree


def _mode(text: str, where: str) -> modes.Mode | None:
    if not text:
        return None
    try:
        return modes.parse(text)
    except InputError as error:
        raise InvalidProject(f"{where}: --chmod={error}", hint=error.hint) from error


def _ignore(_: str) -> None:
    pass
