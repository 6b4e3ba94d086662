# SPDX-License-Identifier: Apache-2.0
"""What COPY and ADD put where: from a context or another image's files to entries of a new layer.

As BuildKit does it: the contents of a folder are copied, not the folder; a folder that is already there keeps its
owner and mode, those below the source take the source's; folders on the way are made 0755; links are followed on the
way to a source and to a destination, and copied as links below a source.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Protocol

from e2b_dockerfile_utils import PatternMatcher

from manyfest.build.archives import entries_of, is_archive, spool_file
from manyfest.build.ignore import Context, DiskFile, has_wildcard, pattern_of
from manyfest.build.layer import Entry
from manyfest.errors import BuildError, ContentError, InvalidProject
from manyfest.values import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from manyfest.build.archives import Spool
    from manyfest.build.modes import Mode
    from manyfest.build.tree import Tree

__all__ = ["Copying", "Placement", "copied", "folders", "goes_into", "several"]

_ANEW = "make the archive again; COPY takes it as the file that it is"


class Origin(Protocol):
    """Files that can be copied: a :class:`Context` or a :class:`Tree`."""

    def resolve(self, path: str) -> str: ...
    def find(self, path: str) -> Entry | None: ...
    def names(self, folder: str) -> list[str]: ...
    def below(self, folder: str) -> Iterator[Entry]: ...


class Copying(Value):
    """One COPY or ADD, its words already expanded.

    ``folder``: where relative destinations start. ``unpack``: local archives are taken apart. ``owner`` is ``None``
    where the files' own is kept, ``mode`` likewise; else it gives a file's mode from that which it has.
    """

    __slots__ = (
        "dest",
        "exclude",
        "folder",
        "link",
        "mode",
        "owner",
        "parents",
        "sources",
        "unpack",
        "where",
    )
    dest: str
    exclude: tuple[str, ...]
    folder: str
    link: bool
    mode: Mode | None
    owner: tuple[int, int] | None
    parents: bool
    sources: tuple[str, ...]
    unpack: bool
    where: str

    def __init__(
        self,
        sources: tuple[str, ...],
        dest: str,
        where: str,
        *,
        folder: str = "/",
        exclude: tuple[str, ...] = (),
        link: bool = False,
        mode: Mode | None = None,
        owner: tuple[int, int] | None = None,
        parents: bool = False,
        unpack: bool = False,
    ) -> None:
        self._set(
            sources=sources,
            dest=dest,
            where=where,
            folder=folder,
            exclude=exclude,
            link=link,
            mode=mode,
            owner=owner,
            parents=parents,
            unpack=unpack,
        )

    @property
    def target(self) -> str:
        """The destination from the root, without a leading slash."""
        return posixpath.normpath(posixpath.join("/", self.folder, self.dest)).lstrip("/")

    @property
    def into_folder(self) -> bool:
        """Does the destination say that it is a folder?"""
        return self.dest.endswith(("/", "/.")) or self.dest in (".", "..", "")


class Placement:
    """The entries of the layer that is being made, over the files that are there already."""

    def __init__(self, tree: Tree, copying: Copying) -> None:
        self._tree = tree
        self._copying = copying
        self._made: dict[str, Entry] = {}
        self._folders: dict[str, str] = {}

    def entries(self) -> list[Entry]:
        """What was placed."""
        return list(self._made.values())

    def folder(self, path: str) -> str:
        """Where a path leads if links are followed (not with ``--link``, which knows nothing of what is below)."""
        if self._copying.link:
            return path
        known = self._folders.get(path)
        if known is None:
            known = self._folders[path] = self._tree.resolve(path)
        return known

    def has(self, path: str) -> bool:
        """Was something placed there just now?"""
        return path in self._made

    def is_folder(self, path: str) -> bool:
        """Is there a folder at a path, from below or placed just now?"""
        made = self._made.get(path)
        return made.kind == "dir" if made is not None else self._tree.is_folder(path)

    def put(self, entry: Entry, path: str, *, archived: bool = False) -> None:
        """Place an entry, and the folders on the way that nobody has made yet.

        ``archived``: it is from an archive, which ``--chmod`` leaves alone; folders that it only implies are root's.
        """
        parent, name = posixpath.split(path)
        path = posixpath.join(self.folder(parent), name)
        if entry.kind == "dir":
            path = self._folder_at(path)
        elif self.is_folder(path):
            raise BuildError(
                f"{self._copying.where}: /{path} is a folder, cannot be replaced by a file",
                hint="end the destination with / to copy into the folder",
            )
        self.make_parents(path, owner=(0, 0) if archived else None)
        change = None if archived else self._copying.mode
        mode = None if change is None else change.of(entry.mode, is_folder=entry.kind == "dir")
        self._made[path] = entry.moved(path, owner=self._copying.owner, mode=mode)

    def make_parents(self, path: str, owner: tuple[int, int] | None = None) -> None:
        """Folders on the way that nobody has made yet."""
        mode = 0o755
        if self._copying.parents and self._copying.mode is not None and self._copying.mode.octal is not None:
            mode = self._copying.mode.octal
        for parent in folders(path):
            if not self.is_folder(parent):
                self._refuse_file(parent)
                uid, gid = owner or self._copying.owner or (0, 0)
                self._made[parent] = Entry(parent, "dir", mode, uid=uid, gid=gid)

    def _folder_at(self, path: str) -> str:
        """The folder that a path is, also through a link: a layer's folder entry would replace the link."""
        real = self.folder(path)
        if self.is_folder(real):
            return real
        self._refuse_file(path)
        return path

    def _refuse_file(self, path: str) -> None:
        there = self._made.get(path) or self._tree.find(path)
        if there is not None and there.kind != "dir" and not self._copying.link:
            raise BuildError(f"{self._copying.where}: /{path} is no folder, cannot put anything below it")


def copied(copying: Copying, origin: Origin, tree: Tree, spools: list[Spool]) -> list[Entry]:
    """The entries that a COPY or ADD gives over ``tree``; archives opened on the way are added to ``spools``.

    A wildcard may match nothing: ``COPY package.json yarn.lock* ./`` is how people copy what may be there.
    Raises :class:`BuildError` or :class:`InvalidProject` with the line.
    """
    placement = Placement(tree, copying)
    for source in copying.sources:
        for match in _matches(origin, source, copying):
            _place(placement, copying, origin, source, match, spools)
    return placement.entries()


def goes_into(copying: Copying, tree: Tree) -> bool:
    """Is the destination a folder: does it say so, or is it one already?"""
    return copying.into_folder or tree.is_folder(tree.resolve(copying.target))


def several(copying: Copying) -> InvalidProject:
    """The error for files that would overwrite each other; BuildKit keeps the last one and says nothing."""
    return InvalidProject(
        f"{copying.where}: several files for one destination {copying.dest!r}",
        hint="a destination for several files is a folder and ends with /",
    )


def folders(path: str) -> list[str]:
    """The folders that a path is in, outermost first."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[: i + 1]) for i in range(len(parts)) if parts[i]]


def _place(
    placement: Placement, copying: Copying, origin: Origin, source: str, match: str, spools: list[Spool]
) -> None:
    folder, name = posixpath.split(match)
    # What --parents keeps the path of is copied as it is there, links too.
    real = posixpath.join(origin.resolve(folder), name) if copying.parents else origin.resolve(match)
    entry = Entry("", "dir", 0o755) if real == "" else origin.find(real)
    if entry is None:
        raise _missing(origin, match, copying)
    excluded = _excluder(copying)
    # Patterns of --exclude are about what stands below the source, or below what --parents keeps.
    kept = _kept(source, match) if copying.parents else ""
    target = posixpath.join(copying.target, kept) if kept else copying.target
    if entry.kind == "dir":
        _keep_parents(placement, copying, origin, match, f"{kept}/")
        inner = placement.folder(target)
        if inner:
            # The destination is made as a folder on the way is; only what is below takes after the source.
            placement.make_parents(f"{inner}/")
        for child in origin.below(real):
            relative = child.path[len(real) :].lstrip("/")
            if not excluded(posixpath.join(kept, relative)):
                placement.put(child, posixpath.join(inner, relative))
        return
    if excluded(kept or name):
        return
    _keep_parents(placement, copying, origin, match, kept)
    if copying.unpack and isinstance(entry.content, DiskFile) and is_archive(entry.content.path):
        _unpack(placement, copying, entry.content, spools)
        return
    if copying.parents:
        placement.put(entry, target)
        return
    target = target if copying.link else placement.folder(target) or target
    if copying.into_folder or placement.is_folder(target):
        target = posixpath.join(placement.folder(target), name)
    elif placement.has(target):
        raise several(copying)
    placement.put(entry, target)


def _keep_parents(placement: Placement, copying: Copying, origin: Origin, match: str, kept: str) -> None:
    """Make the folders that ``--parents`` keeps, as they are in the source."""
    prefix = match[: len(match) - len(kept.rstrip("/"))]
    for folder in folders(kept) if copying.parents else ():
        path = posixpath.join(copying.target, folder)
        there = origin.find(origin.resolve(prefix + folder))
        if there is not None and not placement.is_folder(placement.folder(path)):
            placement.put(there, path)


def _unpack(placement: Placement, copying: Copying, content: DiskFile, spools: list[Spool]) -> None:
    spool = spool_file(content.path, f"archive:{content.key}")
    spools.append(spool)
    target = placement.folder(copying.target)
    if target:
        placement.make_parents(f"{target}/")
    members: dict[str, Entry] = {}
    try:
        entries = entries_of(spool, content.path)
    except (BuildError, ContentError) as error:
        raise BuildError(f"{copying.where}: {error}", hint=error.hint or _ANEW) from error
    for entry in entries:
        if entry.kind == "hard":
            named = members.get(entry.link)
            if named is None:
                raise BuildError(
                    f"{copying.where}: {content.path}: {entry.path} is a link to {entry.link}, which is not before it",
                    hint=_ANEW,
                )
            entry = named.moved(entry.path)
        members[entry.path] = entry
        placement.put(entry, posixpath.join(target, entry.path), archived=True)


def _matches(origin: Origin, source: str, copying: Copying) -> list[str]:
    """The paths that a source names; a wildcard's may be none. Raises :class:`BuildError` for one that leads out."""
    clean = posixpath.normpath(source.replace("/./", "/")).lstrip("/")
    if clean == ".." or clean.startswith("../"):
        raise BuildError(
            f"{copying.where}: {source} leads out of the project",
            hint="copy the file into the project, or build from a folder that holds both",
        )
    if clean in (".", ""):
        return [""]
    if not has_wildcard(clean):
        return [clean]
    return sorted(_glob(origin, "", clean.split("/")))


def _glob(origin: Origin, folder: str, parts: Sequence[str]) -> Iterable[str]:
    first, rest = parts[0], parts[1:]
    if first == "**" and rest:
        # Any number of folders; only --parents of newer Dockerfiles has it.
        yield from _glob(origin, folder, rest)
        for name in origin.names(folder):
            child = posixpath.join(folder, name)
            entry = origin.find(child)
            if entry is not None and entry.kind == "dir":
                yield from _glob(origin, child, parts)
        return
    pattern = pattern_of(first)
    for name in origin.names(folder):
        child = posixpath.join(folder, name)
        if pattern.fullmatch(name) and origin.find(child) is not None:
            if rest:
                yield from _glob(origin, child, rest)
            else:
                yield child


def _kept(source: str, match: str) -> str:
    """The part of a path that ``--parents`` keeps: what follows ``/./``, else all of it."""
    pivot = source.find("/./")
    if pivot < 0:
        return match
    prefix = posixpath.normpath(source[:pivot]).lstrip("/")
    return match.removeprefix(prefix).lstrip("/")


def _excluder(copying: Copying) -> _Excluder:
    try:
        return _Excluder(PatternMatcher(list(copying.exclude)))
    except ValueError as error:
        raise InvalidProject(f"{copying.where}: --exclude: {error}") from error


class _Excluder:
    def __init__(self, matcher: PatternMatcher) -> None:
        self._matcher = matcher
        self._any = bool(matcher.patterns)

    def __call__(self, path: str) -> bool:
        return self._any and bool(path) and self._matcher.matches(path)


def _missing(origin: Origin, path: str, copying: Copying) -> BuildError:
    hint = "sources are looked for in the image that --from names"
    where = "that image"
    if isinstance(origin, Context):
        where = origin.folder
        hint = "paths are relative to the project; what is compiled must be listed under compile: outputs:"
        if origin.is_ignored(path):
            hint = f"it is there, but {origin.ignore_file} leaves it out"
    return BuildError(f"{copying.where}: {path}: not in {where}", hint=hint)
