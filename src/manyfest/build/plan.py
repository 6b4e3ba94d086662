# SPDX-License-Identifier: Apache-2.0
"""From a project to an index in a store: plan, compile, assemble, write layers, push.

1. Read every platform's Dockerfile, resolve all bases; refuse what cannot be carried out before anything is done.
2. Carry out ``Dockerfile.build`` once, where there is one; compile, platforms side by side.
3. Assemble every platform; a layer that several have is one layer.
4. Write the layers that no earlier build wrote, side by side.
5. Configurations, manifests, attestations, index. :func:`manyfest.build.built.push` brings them to a store.

Same files, same settings: same digests. Times in the image are ``epoch`` (``SOURCE_DATE_EPOCH``, else 1970).
"""

from __future__ import annotations

import difflib
import os
import threading
from typing import TYPE_CHECKING

from manyfest.build.assemble import Assembler, needed_stages, refuse_run
from manyfest.build.bases import Bases, Named
from manyfest.build.built import Built
from manyfest.build.cache import Cache, Hashes
from manyfest.build.caution import secrets_of
from manyfest.build.compressing import engine_of
from manyfest.build.dockerfile import parse
from manyfest.build.engines import Task, first_run, order_for, run_all
from manyfest.build.expand import PROXIES
from manyfest.build.ignore import Context, matcher_for
from manyfest.build.images import Images
from manyfest.build.layer import Layer, key_of
from manyfest.build.options import Options, Planned, source_date_epoch
from manyfest.build.toolchains import Compiler
from manyfest.build.twostep import First, FirstWork, TwoStep, take
from manyfest.content.descriptor import Descriptor
from manyfest.errors import BuildError, Error, InputError, InvalidProject, Refused
from manyfest.indexes import edit
from manyfest.indexes.publish import missing_from
from manyfest.platforms import Platform, normalise
from manyfest.stores.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from manyfest.build.assemble import Result
    from manyfest.build.bases import OpenSource
    from manyfest.build.dockerfile import Recipe, Stage
    from manyfest.build.engines import Choice, Engines, Made
    from manyfest.build.project import Project

__all__ = ["Options", "Planned", "build", "plan", "source_date_epoch"]


def plan(
    project: Project,
    options: Options,
    host: Platform,
    open_source: OpenSource,
    cache: Cache,
    engines: Engines | None = None,
) -> list[Planned]:
    """What :func:`build` would do, platform by platform. Resolves bases, asks engines whether they are there,
    compiles nothing.

    Raises what reading the Dockerfiles, choosing engines and resolving bases raises.
    """
    work = _Work(project, options, host, open_source, cache, engines=engines)
    try:
        return work.planned()
    finally:
        work.close()


def build(
    project: Project,
    options: Options,
    host: Platform,
    open_source: OpenSource,
    cache: Cache,
    *,
    engines: Engines | None = None,
    on_step: Callable[[str], None] | None = None,
    on_warning: Callable[[str], None] | None = None,
) -> Built:
    """Build all platforms. ``on_step`` hears what was done, ``on_warning`` what should be looked at, each once.

    ``engines`` build what has a RUN; without them a RUN is an error.
    Raises :class:`InvalidProject`, :class:`BuildError`, or what the bases' places raise. Nothing is pushed.
    """
    work = _Work(project, options, host, open_source, cache, on_step, on_warning, engines=engines)
    try:
        return work.built()
    finally:
        work.close()


def _no_layers_for(platform: Platform) -> BuildError:
    """Windows' layers hold their files below ``Files`` and say who may do what with them; ours would not start."""
    return BuildError(
        f"{platform}: layers for Windows cannot be made here",
        hint="build that image on Windows with docker build, then: manyfest join LIST IMAGE",
    )


class _Work:
    """One build under way."""

    def __init__(
        self,
        project: Project,
        options: Options,
        host: Platform,
        open_source: OpenSource,
        cache: Cache,
        on_step: Callable[[str], None] | None = None,
        on_warning: Callable[[str], None] | None = None,
        *,
        engines: Engines | None = None,
    ) -> None:
        self.engines = engines
        self.choices: dict[Platform, Choice] = {}
        self.keeps_going = False
        self.hopeless: list[tuple[Platform, Error]] = []
        self.first_choice: Choice | None = None
        self.project = project
        self.options = options
        self.host = host
        self.cache = cache
        self.bases = Bases(open_source, cache)
        self.hashes = Hashes(cache, project.folder)
        self.pool = Pool(options.jobs)
        self._tell = on_step or _ignore
        self._warn = on_warning or _ignore
        self._warned: set[str] = set()
        self._lock = threading.Lock()
        self._assemblers: list[Assembler] = []
        self._recipes: dict[str, Recipe] = {}
        self._texts: dict[str, str] = {}
        self.compiler = (
            None
            if project.compile is None
            else Compiler(project.folder, project.compile, cache, self.hashes, self._compiled)
        )

    def close(self) -> None:
        """End compilers, drop temporary files, keep what was learned."""
        if self.compiler is not None:
            self.compiler.stop()
        for assembler in self._assemblers:
            for spool in assembler.spools:
                spool.close()
        self.bases.close()
        self.hashes.save()

    def planned(self) -> list[Planned]:
        """See :func:`plan`."""
        self._check()
        made = []
        step, first = self.project.first, None
        if step is not None:
            first = First(step, self.first_choice, tuple(self._bases_of(self._first_assembler(step))))
        jobs = {} if self.compiler is None else self.compiler.jobs(self.options.platforms)
        for platform in self.options.platforms:
            assembler = self._assembler(platform, {})
            job = jobs.get(platform)
            path = self.project.dockerfile_for(platform)
            bases = tuple(self._bases_of(assembler))
            made.append(Planned(platform, path, bases, job, self.choices.get(platform), first))
        return made

    def built(self) -> Built:
        """See :func:`build`."""
        # 1.
        self.keeps_going = True
        self._check()
        # 2.
        over = self._made_before()
        # 3.
        by_engines = {*self.choices, *(platform for platform, _ in self.hopeless)}
        results = self.pool.map(
            lambda platform: (platform, self._assembled(platform, over.get(platform, {}))),
            [platform for platform in self.options.platforms if platform not in by_engines],
        )
        ran = self._run_engines(over)
        self._warn_unused()
        # 4.
        written = self._write(results)
        # 5.
        built = Built(self.cache)
        images = Images(self.options, built)
        entries = []
        embedded = dict(results)
        for platform in self.options.platforms:
            if platform in ran:
                document = images.taken(platform, ran[platform])
            else:
                result = embedded[platform]
                layers = [written[id(each)] for each in result.layers]
                document = images.assembled(platform, result, layers)
            entries.append(document.descriptor.with_platform(platform))
        edit.refuse_duplicates(entries)
        if self.options.attest:
            entries += self._attested(built)
        built.index = edit.build(
            entries, type=self.options.type, annotations=dict(self.options.annotations) or None
        )
        built.layers_made, built.layers_reused = self.cache.made, self.cache.reused
        built.compressor = engine_of(self.options.compression)
        return built

    def _attested(self, built: Built) -> list[Descriptor]:
        """The entries of what is attested of the images."""
        from manyfest.build.provenance import Run
        from manyfest.build.statements import attest

        first = () if self.project.first is None else (self._first_assembler(self.project.first),)
        runs = {}
        for platform in self.options.platforms:
            assemblers = (self._assembler(platform, {}), *first)
            runs[platform] = Run(self.project, self.options, assemblers, self.choices.get(platform))
        return attest(built, runs, self.cache, self.pool, self._warn_once)

    def _check(self) -> None:
        """What can be refused before anything is compiled: by reading, and by asking for bases."""
        absent = missing_from(self.options.expect, self.options.platforms)
        if absent:
            raise Refused(
                f"expected {', '.join(map(str, absent))}, but it is built for "
                f"{', '.join(map(str, self.options.platforms))} only",
                hint="build for all that is expected, or expect less (expect: of manyfest.yaml; --expect adds)",
            )
        seen: set[Platform] = set()
        for platform in self.options.platforms:
            if normalise(platform) in seen:
                raise InputError(f"{platform} is asked for twice")
            seen.add(normalise(platform))
            if platform.os == "windows":
                raise _no_layers_for(platform)
            recipe = self._recipe(platform)
            self._warn_of_secrets(recipe)
            step = first_run(recipe, self._target())
            if step is None:
                continue
            if self.engines is None:
                raise refuse_run(step, recipe.where(step.line), str(platform))
            self._choose(self.engines, platform, recipe.where(step.line))
        if self.project.first is not None:
            self._check_first(self._read(self.project.first.dockerfile))
        self.bases.resolve_all(self._named(), Pool())

    def _warn_of_secrets(self, recipe: Recipe) -> None:
        """Before an engine or a compiler has begun."""
        steps = [*recipe.globals]
        for stage in needed_stages(recipe, self._target()):
            steps += stage.steps
        for warning in secrets_of((step, recipe.where(step.line)) for step in steps):
            self._warn_once(warning)

    def _named(self) -> Iterator[Named]:
        """Every image that is needed."""
        assemblers = [self._assembler(platform, {}) for platform in self.options.platforms]
        if self.project.first is not None:
            assemblers.append(self._first_assembler(self.project.first))
        for assembler in assemblers:
            for stage, step, name, platform in assembler.images():
                # What names no image is refused where it is used, with words of its own.
                if step is None or not (name.isdecimal() or "$" in name):
                    where = assembler.recipe.where(stage.line if step is None else step.line)
                    yield Named(name, platform, where, _other_stage(assembler.recipe, stage, name))

    def _choose(self, engines: Engines, platform: Platform, where: str) -> None:
        try:
            self.choices[platform] = engines.choose(platform, where)
        except BuildError as error:
            if not (self.keeps_going and engines.keep_going):
                raise
            self.hopeless.append((platform, error))

    def _check_first(self, recipe: Recipe) -> None:
        step = first_run(recipe, "")
        if step is None:
            return
        if self.engines is None:
            raise refuse_run(step, recipe.where(step.line), "its own platform")
        self.first_choice = self.engines.first(recipe.where(step.line))

    def _made_before(self) -> dict[Platform, dict[str, str]]:
        """What the Dockerfiles find in the project beside its own files: of the first step, and compiled."""
        step, taken = self.project.first, dict[str, str]()
        if step is not None:
            network = self.engines.network if self.engines is not None else ""
            text, assembler = self._texts[step.dockerfile], self._first_assembler(step)
            work = FirstWork(step, assembler, text, self.first_choice, self.cache, network)
            taken, reused = take(work)
            by = "unchanged" if reused else f"with {self.first_choice}" if self.first_choice else "embedded"
            self._tell(f"took {', '.join(taken)} out of {step.shown} ({by})")
        compiled = self._compile()
        return {each: {**taken, **compiled.get(each, {})} for each in self.options.platforms}

    def _run_engines(self, over: Mapping[Platform, Mapping[str, str]]) -> dict[Platform, Made]:
        """What engines make of the platforms that they were chosen for."""
        tasks = []
        for platform, choice in self.choices.items():
            assembler = self._assembler(platform, over.get(platform, {}))
            text = self._texts[self.project.dockerfile_for(platform)]
            order, base = order_for(assembler, text)
            tasks.append(Task(order, choice, assembler.context, base, self._warn_once))
        if self.engines is None or not (tasks or self.hopeless):
            return {}

        def told(platform: Platform, choice: Choice, reused: bool) -> None:
            self._tell(f"built for {platform} " + ("(unchanged)" if reused else f"with {choice}"))

        docker = self.options.type == "docker"
        return run_all(
            tasks,
            self.engines,
            self.cache,
            self.options.compression,
            docker=docker,
            jobs=self.options.jobs,
            on_done=told,
            failed=self.hopeless,
        )

    def _target(self) -> str:
        return self.options.target or self.project.target

    def _recipe(self, platform: Platform) -> Recipe:
        return self._read(self.project.dockerfile_for(platform))

    def _read(self, path: str) -> Recipe:
        if path not in self._recipes:
            try:
                with open(path, encoding="utf-8", errors="surrogateescape") as file:
                    text = file.read()
            except OSError as error:
                raise InvalidProject(f"{path}: {error.strerror}") from error
            self._texts[path] = text
            recipe = self._recipes[path] = parse(text, _shown(path))
            for warning in recipe.warnings:
                self._warn_once(warning)
        return self._recipes[path]

    def _assembled(self, platform: Platform, over: Mapping[str, str]) -> Result:
        try:
            return self._assembler(platform, over).result()
        except RecursionError:
            raise BuildError(f"building for {platform}: folders or stages nested too deep") from None

    def _assembler(self, platform: Platform, over: Mapping[str, str]) -> Assembler:
        choice = self.choices.get(platform)
        host = self.host if choice is None else choice.builder.platform()
        path = self.project.dockerfile_for(platform)
        return self._assembler_of(path, platform, host, over, self._target())

    def _first_assembler(self, step: TwoStep) -> Assembler:
        choice = self.first_choice
        own = self.host if choice is None else choice.builder.platform()
        return self._assembler_of(step.dockerfile, own, own, {}, "")

    def _assembler_of(
        self, path: str, platform: Platform, host: Platform, over: Mapping[str, str], target: str
    ) -> Assembler:
        ignore, ignore_file = matcher_for(self.project.folder, path)
        context = Context(self.project.folder, ignore, self.hashes, ignore_file=ignore_file, over=over)
        assembler = Assembler(
            self._read(path),
            platform,
            host,
            context,
            self.bases,
            args={**self.project.args_for(platform), **dict(self.options.args)},
            epoch=self.options.epoch,
            target=target,
            warn=self._warn_once,
        )
        self._assemblers.append(assembler)
        return assembler

    def _bases_of(self, assembler: Assembler) -> list[tuple[str, str, str]]:
        found = []
        for stage in needed_stages(assembler.recipe, assembler.target):
            name, parent, platform = assembler.base_of(stage)
            if parent is not None:
                continue
            digest = ""
            if name != "scratch":
                base = self.bases.find(name, platform, assembler.recipe.where(stage.line))
                digest = str(base.document.digest)
            found.append((stage.name or str(stage.index), name, digest))
        return found

    def _compile(self) -> dict[Platform, dict[str, str]]:
        if self.compiler is None:
            return {}
        keep_going = self.engines is not None and self.engines.keep_going
        return self.compiler.run_all(self.options.platforms, self.pool, keep_going=keep_going)

    def _compiled(self, platform: Platform, reused: bool) -> None:
        with self._lock:
            shared = self.compiler is not None and self.compiler.is_shared
            self._tell(
                f"compiled for {'all platforms' if shared else platform}" + (" (unchanged)" if reused else "")
            )

    def _write(self, results: Sequence[tuple[Platform, Result]]) -> dict[int, Layer]:
        docker = self.options.type == "docker"
        by_key: dict[str, list[Any]] = {}
        keys: dict[int, str] = {}

        for _, result in results:
            for entries in result.layers:
                if id(entries) not in keys:
                    key = key_of(entries, self.options.epoch, self.options.compression)
                    keys[id(entries)] = key
                    by_key.setdefault(key, entries)
        order = sorted(by_key, key=lambda key: -sum(entry.size for entry in by_key[key]))
        made = self.pool.map(
            lambda key: self.cache.layer(
                by_key[key], self.options.epoch, self.options.compression, docker=docker
            ),
            order,
        )
        layers = dict(zip(order, made, strict=True))
        return {each: layers[key] for each, key in keys.items()}

    def _warn_unused(self) -> None:
        used = {name for assembler in self._assemblers for name in assembler.used} | PROXIES
        for name in dict(self.options.args):
            if name not in used:
                self._warn_once(f"build argument {name} is given, but no ARG of that name was met")

    def _warn_once(self, text: str) -> None:
        with self._lock:
            if text not in self._warned:
                self._warned.add(text)
                self._warn(text)


def _other_stage(recipe: Recipe, stage: Stage, name: str) -> str:
    """A hint for the name of an image that is nearly that of a stage before."""
    names = [other.name for other in recipe.stages[: stage.index] if other.name]
    near = difflib.get_close_matches(name.lower(), names, 1)
    return f"no stage before that line is called {name}; did you mean {near[0]}?" if near else ""


def _shown(path: str) -> str:
    """A path as people know it: from here if it is below here."""
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative


def _ignore(_: str) -> None:
    pass
