# SPDX-License-Identifier: Apache-2.0
"""The two-step way: one ``Dockerfile.build`` makes the programs of all platforms, the platforms' Dockerfiles copy them.

1. ``Dockerfile.build`` is built once, by an engine for what that engine runs on; by the embedded builder if it has no
   ``RUN``.
2. Files are copied out of what was built, and put aside in the cache. No container of it is ever started.
3. For the Dockerfiles that follow they are files of the project, like what ``compile:`` writes.

What was taken is remembered by all that it was made from: Dockerfile, arguments, digests of bases, and the project's
files without those that ``.dockerignore`` leaves out.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import shutil
import tempfile
import time
from typing import TYPE_CHECKING

from manyfest.build.archives import Spool, entries_of, spool_file
from manyfest.build.cache import KEEP_S
from manyfest.build.engines import IGNORE_FILES, lay_out, layers_tree, order_for
from manyfest.build.tree import Tree
from manyfest.engines.builders import near
from manyfest.errors import BuildError, EngineError
from manyfest.stores._files import translated
from manyfest.stores.base import CHUNK, chunks
from manyfest.stores.dockerarchive import DockerArchive
from manyfest.values import Value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manyfest.build.assemble import Assembler
    from manyfest.build.cache import Cache
    from manyfest.build.engines import Choice
    from manyfest.build.layer import Entry

__all__ = ["FILE", "First", "FirstWork", "TwoStep", "take"]

FILE = "Dockerfile.build"
_PREFIX = "taken-"


class TwoStep(Value):
    """``build: builder:`` and ``copy:`` of a project.

    ``dockerfile``: a path; ``copies``: what to copy from where in the image to where in the project.
    """

    __slots__ = ("copies", "dockerfile")
    copies: tuple[tuple[str, str], ...]
    dockerfile: str

    def __init__(self, dockerfile: str, copies: tuple[tuple[str, str], ...]) -> None:
        self._set(dockerfile=dockerfile, copies=copies)

    @property
    def shown(self) -> str:
        """The Dockerfile's name, for messages."""
        return os.path.basename(self.dockerfile)


class First(Value):
    """What the first step would do. ``choice``: the engine, ``None`` for the embedded builder."""

    __slots__ = ("bases", "choice", "step")
    bases: tuple[tuple[str, str, str], ...]
    choice: Choice | None
    step: TwoStep

    def __init__(self, step: TwoStep, choice: Choice | None, bases: tuple[tuple[str, str, str], ...]) -> None:
        self._set(step=step, choice=choice, bases=bases)


class FirstWork(Value):
    """What the first step works with. ``text``: of the Dockerfile; ``network``: what RUN gets."""

    __slots__ = ("assembler", "cache", "choice", "network", "step", "text")
    assembler: Assembler
    cache: Cache
    choice: Choice | None
    network: str
    step: TwoStep
    text: str

    def __init__(
        self,
        step: TwoStep,
        assembler: Assembler,
        text: str,
        choice: Choice | None,
        cache: Cache,
        network: str = "",
    ) -> None:
        self._set(step=step, assembler=assembler, text=text, choice=choice, cache=cache, network=network)


def take(work: FirstWork) -> tuple[dict[str, str], bool]:
    """Where on this machine each copied path of the project is, and whether all were there from an earlier build.

    Raises :class:`BuildError` for a build that fails, and for a path that is not in what was built, with what is.
    """
    root = work.cache.compiled(work.assembler.context.folder)
    folder = os.path.join(root, f"{_PREFIX}{_key(work)}")
    made = {dest: os.path.join(folder, str(number)) for number, (_, dest) in enumerate(work.step.copies)}
    if not work.cache.fresh and os.path.isdir(folder):
        os.utime(folder)
        return made, True
    with translated(root, "putting aside what was built", writing=True):
        os.makedirs(root, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="first-", dir=root) as temporary:
            ready = os.path.join(temporary, "ready")
            os.mkdir(ready)
            try:
                _take(work, temporary, ready)
            except EngineError as error:
                raise BuildError(f"{work.step.shown}: {error}", hint=error.hint) from error
            _replace(ready, folder, temporary)
        _forget(root, folder)
    return made, False


def _take(work: FirstWork, temporary: str, ready: str) -> None:
    """Build, and write each copied path to ``ready`` under its number."""
    paths = [source for source, _ in work.step.copies]
    assembler, choice = work.assembler, work.choice
    if choice is None:
        files = assembler.files()
        for number, path in enumerate(paths):
            _write(files, path, os.path.join(ready, str(number)), work)
        return
    order, _ = order_for(assembler, work.text)
    context = os.path.join(temporary, "context")
    os.mkdir(context)
    lay_out(assembler.context, context)
    order = order.replace(context=context, network=work.network)
    spools: list[Spool] = []
    try:
        if choice.builder.has_containers:
            archives = choice.builder.copy_out(order, paths, temporary, no_cache=work.cache.fresh)
            for number, archive in enumerate(archives):
                spools.append(spool_file(archive, archive))
                tree = Tree()
                tree.lay(entries_of(spools[-1], paths[number]))
                # One thing is in it, under its last name or that of what a link leads to.
                _write(tree, next(iter(tree.names("")), ""), os.path.join(ready, str(number)), work)
            return
        archive = os.path.join(temporary, "image.tar")
        choice.builder.build(order, archive, no_cache=work.cache.fresh)
        with DockerArchive(archive, place=str(choice.builder)) as source:
            tree = layers_tree(source, order.platform, spools)
            for number, path in enumerate(paths):
                _write(tree, path, os.path.join(ready, str(number)), work)
    finally:
        for spool in spools:
            spool.close()


def _write(tree: Tree, path: str, target: str, work: FirstWork) -> None:
    """A file or folder of an image as a file or folder here. Owners are not kept; links below it stay links."""
    real = tree.resolve(path)
    entry = tree.find(real)
    if entry is None:
        raise BuildError(f"{work.step.shown}: there is no {path} in what was built", hint=_near(tree, real))
    todo = [(entry, target)]
    if entry.kind == "dir":
        todo += [
            (child, os.path.join(target, posixpath.relpath(child.path, real))) for child in tree.below(real)
        ]
    folders = []
    for each, at in todo:
        if each.kind == "dir":
            os.mkdir(at)
            folders.append((at, each.mode | 0o700))
        elif each.kind == "link":
            os.symlink(each.link, at)
        elif each.kind == "file":
            _write_file(each, at)
        else:
            raise BuildError(
                f"{work.step.shown}: /{each.path} is a device or a pipe", hint="copy files and folders only"
            )
    for at, mode in reversed(folders):
        os.chmod(at, mode)


def _write_file(entry: Entry, at: str) -> None:
    assert entry.content is not None
    stream = entry.content.open()
    try:
        with open(at, "xb") as file:
            for piece in chunks(stream, CHUNK):
                file.write(piece)
            os.fchmod(file.fileno(), (entry.mode & 0o777) | 0o400)
    finally:
        stream.close()


def _near(tree: Tree, path: str) -> str:
    while path and not tree.is_folder(path):
        path = posixpath.dirname(path)
    return near(path, {path: tree.names(path)})


def _key(work: FirstWork) -> str:
    """Everything that what is taken depends on, as far as anybody can know: what RUN fetches is not in it."""
    assembler = work.assembler
    facts = [
        [str(assembler.platform), work.text, sorted(assembler.given.items()), list(_pins(assembler))],
        [list(pair) for pair in work.step.copies],
        [entry.facts() for entry in assembler.context.below("") if entry.path not in IGNORE_FILES],
    ]
    text = json.dumps(facts, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _pins(assembler: Assembler) -> Iterator[list[str]]:
    """Every image that the Dockerfile names, with its digest."""
    for stage, step, name, platform in assembler.images():
        where = assembler.recipe.where(stage.line if step is None else step.line)
        yield [name, str(platform), str(assembler.bases.find(name, platform, where).document.digest)]


def _replace(ready: str, folder: str, temporary: str) -> None:
    """Put a finished folder under its name; one that was there may be in use no more."""
    if os.path.isdir(folder):
        os.rename(folder, os.path.join(temporary, "old"))
    os.rename(ready, folder)


def _forget(root: str, folder: str) -> None:
    """Remove what earlier builds took, but for those of the last day: one may be under way."""
    for name in os.listdir(root):
        path = os.path.join(root, name)
        if name.startswith(_PREFIX) and path != folder and time.time() - os.stat(path).st_mtime > KEEP_S:
            shutil.rmtree(path, ignore_errors=True)
