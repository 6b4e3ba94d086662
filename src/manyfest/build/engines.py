# SPDX-License-Identifier: Apache-2.0
"""Platforms whose Dockerfile has a RUN: which engine builds each, and how its image becomes part of our list.

1. :meth:`Engines.choose`: a node that was named for the platform, else the engine of this machine, natively, else
   emulated if an emulator serves the platform.
2. :func:`order_for`: the Dockerfile with every base pinned to the digest that we resolved.
3. :func:`run_all`: context (the project without what is ignored, and what was compiled) and Dockerfile in a temporary
   folder, the engine's build, and its archive taken in: a base's layers are the base's own, new ones are compressed
   into the cache.

What an engine made is kept by what it was made from, as engines keep the results of RUN: the second build of the same
files asks no engine, and after a failure only what failed is built again.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from manyfest.build.archives import Spool, entries_of
from manyfest.build.assemble import needed_stages, target_stage
from manyfest.build.caution import much_of
from manyfest.build.expand import platform_args
from manyfest.build.ignore import DiskFile
from manyfest.build.layer import Layer
from manyfest.build.tree import Tree
from manyfest.content.descriptor import Descriptor
from manyfest.content.digest import Digest
from manyfest.content.document import ImageConfig
from manyfest.emulate.machine.node import builder_on, is_machine, planned
from manyfest.engines import builders
from manyfest.errors import BuildError, EngineError, Error, InvalidDigest, InvalidDocument
from manyfest.indexes.select import image_for
from manyfest.platforms import Platform, normalise
from manyfest.stores._files import translated
from manyfest.stores._inflate import Inflated
from manyfest.stores.base import chunks, read
from manyfest.stores.dockerarchive import DockerArchive
from manyfest.stores.places import Place
from manyfest.stores.pool import wait_for
from manyfest.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from manyfest.build.assemble import Assembler
    from manyfest.build.bases import Base
    from manyfest.build.cache import Cache
    from manyfest.build.dockerfile import Recipe, Stage, Step
    from manyfest.build.ignore import Context
    from manyfest.build.layer import Entry
    from manyfest.emulate.doctor import Report
    from manyfest.engines.builders import Builder, Order
    from manyfest.stores.base import Readable

__all__ = [
    "IGNORE_FILES",
    "Choice",
    "Engines",
    "Made",
    "Task",
    "first_run",
    "lay_out",
    "layers_tree",
    "order_for",
    "run_all",
]

_BESIDE = {"amd64": ("386",), "arm64": ("arm",)}
IGNORE_FILES = (".dockerignore", ".containerignore")
_COMPRESSED = ("gzip", "zstd")
_KEPT = (
    "architecture",
    "author",
    "created",
    "history",
    "os",
    "os.features",
    "os.version",
    "rootfs",
    "variant",
)


class Choice(Value):
    """Who builds a platform. ``how``: ``"native"``, ``"emulated by NAME"``, …; ``why``: one sentence."""

    __slots__ = ("builder", "how", "why")
    builder: Builder
    how: str
    why: str

    def __init__(self, builder: Builder, how: str, why: str) -> None:
        self._set(builder=builder, how=how, why=why)

    def __str__(self) -> str:
        return f"{self.builder}, {self.how}"


class Made:
    """An engine's image. ``below``: how many of its layers are those of ``base``; ``layers`` are the rest."""

    def __init__(
        self, fields: dict[str, Any], base: Base | None, below: int, layers: Sequence[Layer]
    ) -> None:
        self.fields = fields
        self.base = base
        self.below = below
        self.layers = tuple(layers)
        self.is_reused = False


class Task:
    """One platform to build. ``base``: the image that the target stage starts from, if it starts from one.

    ``warn`` hears what a person should look at.
    """

    def __init__(
        self,
        order: Order,
        choice: Choice,
        context: Context,
        base: Base | None,
        warn: Callable[[str], None],
    ) -> None:
        self.order = order
        self.choice = choice
        self.context = context
        self.base = base
        self.warn = warn


class Engines:
    """The engines of a build. ``nodes``: URLs, Docker contexts or ``machine:NAME`` by platform.

    ``engine``: a name, or whichever answers. ``keep_going``: a platform that fails does not stop the others.
    ``network``: what RUN gets, as engines name it. ``report`` tells the emulators of this machine. Machines of ours
    that are nodes are started when they are needed, which ``on_step`` hears of, unless ``dry``.
    """

    def __init__(
        self,
        report: Callable[[], Report],
        *,
        engine: str = "",
        nodes: Mapping[Platform, str] | None = None,
        keep_going: bool = False,
        network: str = "",
        dry: bool = False,
        on_step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.keep_going = keep_going
        self.network = network
        self._dry = dry
        self._tell = on_step
        self._engine = engine
        self._nodes = {normalise(platform): where for platform, where in (nodes or {}).items()}
        self._ask = report
        self._report: Report | None = None
        self._here: Builder | None = None
        self._at: dict[str, Builder] = {}

    def choose(self, platform: Platform, where: str) -> Choice:
        """Who builds ``platform``. ``where`` is the line with the RUN.

        Raises :class:`BuildError` where nothing can, with what was looked for and what would help.
        """
        node = self._nodes.get(normalise(platform))
        try:
            builder = self._local() if node is None else self._node(node)
        except EngineError as error:
            hint = (
                error.hint if node is not None else f"{error.hint}; or compile before the image step and COPY"
            )
            raise BuildError(f"{where}: RUN for {platform}: {error}", hint=hint) from error
        own = builder.platform()
        named = f"--node {platform}={node}" if node is not None else f"{builder.name} answers here"
        if own.os != platform.os:
            raise BuildError(f"{where}: RUN for {platform}: {builder} runs {own.os}", hint=_NODE)
        if platform.architecture in (own.architecture, *_BESIDE.get(own.architecture, ())):
            return Choice(builder, "native", f"{named} and runs {platform} itself")
        if node is not None:
            raise BuildError(
                f"{where}: RUN for {platform}: {builder} runs {own}, not {platform}",
                hint=f"a node runs its platform itself: name a machine that does, or leave {platform} out of the nodes "
                "to have it emulated",
            )
        if builder.is_remote:
            return Choice(
                builder, "emulated there", f"{named}; it is {own}, its emulators are not seen from here"
            )
        if self._report is None:
            self._report = self._ask()
        status = self._report.serving(platform)
        if status is None:
            raise BuildError(
                f"{where}: RUN for {platform}: {builder} is {own}, and no emulator here serves {platform}",
                hint=f"manyfest emulators install {platform.architecture}; or {_NODE}, or a machine made here: "
                f"manyfest machine create NAME --arch {platform.architecture}, --node {platform}=machine:NAME",
            )
        name = status.handler.name
        return Choice(builder, f"emulated by {name}", f"{named}, is {own}, and {name} runs {platform}")

    def first(self, where: str) -> Choice:
        """Who builds what is built once, for what the engine runs on: this machine's, else the first node.

        Raises :class:`BuildError` where there is none.
        """
        try:
            return Choice(self._local(), "native", "once, for all platforms")
        except EngineError as error:
            if self._nodes:
                node = next(iter(self._nodes.values()))
                return Choice(self._node(node), "native", "once, for all platforms; no engine answers here")
            hint = f"{error.hint}; or build: {{builder: false}} in manyfest.yaml leaves this step out"
            raise BuildError(f"{where}: {error}", hint=hint) from error

    def stop(self) -> None:
        """End all that engines do for us."""
        for builder in (self._here, *self._at.values()):
            if builder is not None:
                builder.stop()

    def _local(self) -> Builder:
        if self._here is None:
            self._here = builders.find(self._engine)
        return self._here

    def _node(self, where: str) -> Builder:
        if where not in self._at:
            if is_machine(where):
                self._at[where] = (
                    planned(where, self._engine) if self._dry else builder_on(where, self._engine, self._tell)
                )
            else:
                self._at[where] = builders.on_node(where, self._engine)
        return self._at[where]


_NODE = "name a machine that runs it: --node PLATFORM=ssh://user@host"


def first_run(recipe: Recipe, target: str) -> Step | None:
    """The first RUN of the stages that the target needs."""
    steps = (step for stage in needed_stages(recipe, target) for step in stage.steps)
    return next((step for step in steps if step.name == "RUN"), None)


def order_for(assembler: Assembler, text: str, context: str = "") -> tuple[Order, Base | None]:
    """The Dockerfile ``text`` with pinned bases, and the base of the target stage.

    Raises what resolving bases raises, and :class:`BuildError` for one that engines cannot pull.
    """
    recipe, lines = assembler.recipe, text.split("\n")
    pinned: list[tuple[str, str, Platform]] = []
    found: dict[int, Base] = {}

    def pin(name: str, platform: Platform, line: int) -> tuple[str, Base]:
        base = assembler.bases.find(name, platform, recipe.where(line))
        pinned.append((f"@@manyfest-base-{len(pinned)}@@", _pullable(base, recipe.where(line)), platform))
        return pinned[-1][0], base

    for stage, step, name, platform in assembler.images():
        word, base = pin(name, platform, stage.line if step is None else step.line)
        if step is None:
            found[stage.index] = base
            _write_from(lines, recipe, stage, word, platform if stage.platform else None)
        else:
            _write_copy(lines, step, name, word)
    args = {**_declared(recipe, assembler), **assembler.given}
    order = builders.Order(
        assembler.platform,
        "\n".join(lines),
        context,
        args=tuple(args.items()),
        bases=tuple(pinned),
        target=assembler.target,
    )
    return order, _root_of(assembler, found)


def run_all(
    tasks: Sequence[Task],
    engines: Engines,
    cache: Cache,
    compression: str,
    *,
    docker: bool,
    jobs: int,
    on_done: Callable[[Platform, Choice, bool], None],
    failed: Sequence[tuple[Platform, Error]] = (),
) -> dict[Platform, Made]:
    """Build side by side. ``on_done`` hears of each platform, who built it, and whether nothing had to be done.

    ``failed``: platforms that nobody can build, told of with the others that fail.
    Raises :class:`BuildError` for the first that failed, or for all with ``keep_going``; what succeeded is in the
    cache. Ctrl-C ends the engines' builds.
    """
    made: dict[Platform, Made] = {}
    failures = list(failed)
    lock = threading.Lock()

    def one(task: Task) -> None:
        try:
            result = _run(task, engines.network, cache, compression, docker=docker)
        except Error as error:
            with lock:
                failures.append((task.order.platform, error))
            raise
        with lock:
            made[task.order.platform] = result
            on_done(task.order.platform, task.choice, result.is_reused)

    executor = ThreadPoolExecutor(max(1, min(jobs, len(tasks))), thread_name_prefix="manyfest-engine")
    try:
        running = [executor.submit(one, task) for task in tasks]
        if wait_for(running, first_failure=not engines.keep_going):
            engines.stop()
    except BaseException:
        engines.stop()
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
    for future in running:
        if (
            not future.cancelled()
            and (error := future.exception()) is not None
            and not isinstance(error, Error)
        ):
            raise error
    if failures:
        raise _failure(failures, len(tasks) + len(failed), keep_going=engines.keep_going)
    return made


def _failure(failed: Sequence[tuple[Platform, Error]], count: int, *, keep_going: bool) -> BuildError:
    platform, error = failed[0]
    if not keep_going or len(failed) == 1:
        kept = "; what was built is kept: the same command builds only the rest" if count > 1 else ""
        hint = error.hint or ("--keep-going lets the others finish" if count > 1 and not keep_going else "")
        return BuildError(f"building for {platform}: {error}", hint=f"{hint}{kept}".removeprefix("; "))
    told = "\n".join(f"building for {platform}: {error}" for platform, error in failed)
    return BuildError(
        f"{len(failed)} of {count} platforms failed\n{told}",
        hint="what was built is kept: the same command builds only the rest",
    )


def _run(task: Task, network: str, cache: Cache, compression: str, *, docker: bool) -> Made:
    entries = [entry for entry in task.context.below("") if entry.path not in IGNORE_FILES]
    for warning in much_of(entries, "the engine gets"):
        task.warn(warning)
    key = _key(task, entries, compression, docker=docker)
    known = None if cache.fresh else _known(task, cache, key)
    if known is not None:
        return known
    with (
        translated(cache.root, "laying out the context", writing=True),
        tempfile.TemporaryDirectory(prefix="engine-", dir=cache.root) as folder,
    ):
        context = os.path.join(folder, "context")
        os.mkdir(context)
        lay_out(task.context, context)
        archive = os.path.join(folder, "image.tar")
        order = task.order.replace(context=context, network=network)
        try:
            task.choice.builder.build(order, archive, no_cache=cache.fresh)
        except EngineError as error:
            raise BuildError(f"{task.choice.how}: {error}", hint=error.hint) from error
        made = _taken(archive, task, cache, compression, docker=docker)
    cache.save(
        "layers",
        key,
        {
            "fields": made.fields,
            "below": made.below,
            "layers": [[each.descriptor.to_json(), str(each.diff_id)] for each in made.layers],
        },
    )
    return made


def _taken(archive: str, task: Task, cache: Cache, compression: str, *, docker: bool) -> Made:
    """The image of an archive: its layers compressed into the cache, but for the base's, which are kept as they are."""
    platform, base = task.order.platform, task.base
    with DockerArchive(archive, place=str(task.choice.builder)) as source:
        document = image_for(source, source.resolve(""), platform)
        config = ImageConfig(read(source, document.manifest.config))
        own = config.platform
        if own is None or (own.os, own.architecture) != (platform.os, platform.architecture):
            raise BuildError(f"{task.choice}: made an image for {own}, not for {platform}", hint=_NODE)
        below = 0
        if base is not None and config.diff_ids[: len(base.layers)] == base.config.diff_ids:
            below = len(base.layers)
        rest = list(zip(config.diff_ids, document.manifest.layers, strict=True))[below:]
        layers = [
            cache.tar(diff_id, lambda layer=layer: _plain(source, layer), compression, docker=docker)  # type: ignore[misc]
            for diff_id, layer in rest
        ]
    fields = {key: value for key, value in config.json.items() if key in _KEPT}
    fields["config"] = copy.deepcopy(config.settings)
    for key in ("Hostname", "Domainname", "Image"):
        fields["config"].pop(key, None)
    return Made(fields, base, below, layers)


def _opened(source: DockerArchive, layer: Descriptor) -> Readable:
    stream = source.open(layer)
    return Inflated(stream, source.place) if layer.media_type.endswith(_COMPRESSED) else stream


def layers_tree(source: DockerArchive, platform: Platform, spools: list[Spool]) -> Tree:
    """The files of an archive's image; their content can be read until ``spools``, which get more, are closed."""
    tree = Tree()
    for layer in image_for(source, source.resolve(""), platform).manifest.layers:
        spools.append(
            Spool(str(layer.digest), lambda layer=layer: _opened(source, layer))  # type: ignore[misc]
        )
        tree.lay(entries_of(spools[-1], f"{source.place}: layer {layer.digest}"))
    return tree


def _plain(source: DockerArchive, layer: Descriptor) -> Iterator[bytes]:
    plain = _opened(source, layer)
    try:
        yield from chunks(plain)
    finally:
        plain.close()


def _known(task: Task, cache: Cache, key: str) -> Made | None:
    value = cache.read("layers", key)
    try:
        layers = [Layer(Descriptor.from_json(d), Digest.parse(diff)) for d, diff in value["layers"]]
        made = Made(dict(value["fields"]), task.base, int(value["below"]), layers)
    except (TypeError, KeyError, ValueError, InvalidDocument, InvalidDigest):
        return None
    made.is_reused = True
    return made if all(cache.has(layer.descriptor) for layer in layers) else None


def _key(task: Task, entries: Sequence[Entry], compression: str, *, docker: bool) -> str:
    """What the image is made from, as far as anybody can know: what RUN fetches is not in it."""
    order, builder = task.order, task.choice.builder
    facts = [
        ["engine", 1, builder.name, builder.mode, compression, docker],
        [str(order.platform), order.text, order.target, sorted(order.args)],
        [[word, name, str(platform)] for word, name, platform in order.bases],
        [entry.facts() for entry in entries],
    ]
    text = json.dumps(facts, separators=(",", ":"))
    return f"engine-{hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()}"


def lay_out(context: Context, folder: str) -> None:
    """The context as a folder: files are hard links where that works, else copies.

    Ignore files stay out: what they leave out is not there, and what was compiled must stay whatever they say.
    """
    modes = []
    for entry in context.below(""):
        path = os.path.join(folder, entry.path)
        if entry.path in IGNORE_FILES:
            continue
        if entry.kind == "dir":
            os.mkdir(path)
            modes.append((path, entry.mode | 0o700))
        elif entry.kind == "link":
            os.symlink(entry.link, path)
        else:
            assert isinstance(entry.content, DiskFile)
            _bring(entry.content.path, path)
    for path, mode in reversed(modes):
        os.chmod(path, mode)


def _bring(source: str, path: str) -> None:
    try:
        os.link(source, path, follow_symlinks=False)
    except OSError:
        # Another file system, or somebody else's file.
        shutil.copy2(source, path, follow_symlinks=False)


def _pullable(base: Base, where: str) -> str:
    place = Place.parse(base.name)
    if place.transport != "docker":
        raise BuildError(
            f"{where}: {base.name}: engines pull bases from registries, and RUN needs one",
            hint="copy it into a registry: manyfest registry DIR serves one, manyfest copy brings it there",
        )
    return str(place.reference.without().with_digest(str(base.document.digest)))


def _write_from(lines: list[str], recipe: Recipe, stage: Stage, word: str, platform: Platform | None) -> None:
    """Replace a FROM line, and keep the numbers of all others."""
    at = stage.line - 1
    last = at
    while lines[last].rstrip().endswith(recipe.escape) and last + 1 < len(lines):
        last += 1
    flag = f"--platform={platform} " if platform is not None else ""
    lines[at] = f"FROM {flag}{word}" + (f" AS {stage.name}" if stage.name else "")
    for line in range(at + 1, last + 1):
        lines[line] = ""


def _write_copy(lines: list[str], step: Step, name: str, word: str) -> None:
    for at in range(step.line - 1, len(lines)):
        if f"--from={name}" in lines[at]:
            lines[at] = lines[at].replace(f"--from={name}", f"--from={word}", 1)
            return


def _declared(recipe: Recipe, assembler: Assembler) -> dict[str, str]:
    """The platform's arguments that the Dockerfile asks for: not every builder has them by itself."""
    steps = [*recipe.globals, *(step for stage in recipe.stages for step in stage.steps)]
    names = {word.partition("=")[0] for step in steps if step.name == "ARG" for word in step.args}
    assembler.used.update(names & assembler.given.keys())
    known = platform_args(assembler.platform, assembler.host, assembler.target)
    return {name: value for name, value in known.items() if name in names and name != "TARGETSTAGE"}


def _root_of(assembler: Assembler, found: Mapping[int, Base]) -> Base | None:
    stage: Stage | None = target_stage(assembler.recipe, assembler.target)
    while stage is not None and stage.index not in found:
        stage = assembler.base_of(stage)[1]
    return None if stage is None else found[stage.index]
