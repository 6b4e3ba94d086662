# SPDX-License-Identifier: Apache-2.0
"""The files of an image as its layers leave them: what a copy's destination meets, and what ``--from`` reads.

Layers lie over each other as the image specification says
(https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md#applying-changesets): ``.wh.name`` removes what is
below, ``.wh..wh..opq`` empties a folder. Links are followed inside the image only; ``..`` stops at its root.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from manyfest.build.layer import Entry
from manyfest.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Tree"]

MAX_LINKS = 40
"""Symbolic links on the way to one file, as Linux counts them."""

_REMOVED, _EMPTIED = ".wh.", ".wh..wh..opq"


class Tree:
    """Paths without a leading slash; the root is ``""`` and always there."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self._names: dict[str, set[str]] = {"": set()}

    def copy(self) -> Tree:
        """Another tree with the same files; changing one leaves the other."""
        made = Tree()
        made._entries = dict(self._entries)
        made._names = {folder: set(names) for folder, names in self._names.items()}
        return made

    def find(self, path: str) -> Entry | None:
        """What is at a path, not following a link there."""
        return self._entries.get(path)

    def is_folder(self, path: str) -> bool:
        """Is it a folder (or the root)?"""
        entry = self._entries.get(path)
        return path == "" or (entry is not None and entry.kind == "dir")

    def names(self, folder: str) -> list[str]:
        """What a folder holds, sorted."""
        return sorted(self._names.get(folder, ()))

    def below(self, folder: str) -> Iterator[Entry]:
        """Everything under a folder, parents before children."""
        for name in self.names(folder):
            entry = self._entries[posixpath.join(folder, name)]
            yield entry
            if entry.kind == "dir":
                yield from self.below(entry.path)

    def resolve(self, path: str, *, last: bool = True) -> str:
        """The path with links in it followed; ``last``: also where the path itself is one.

        Parts that do not exist are kept as they are. Raises :class:`BuildError` for links in a circle.
        """
        done: list[str] = []
        todo = [part for part in reversed(path.split("/")) if part]
        links = 0
        while todo:
            part = todo.pop()
            if part in (".", ".."):
                del done[len(done) - (part == "..") :]
                continue
            here = "/".join([*done, part])
            entry = self._entries.get(here)
            if entry is None or entry.kind != "link" or (not todo and not last):
                done.append(part)
                continue
            links += 1
            if links > MAX_LINKS:
                raise BuildError(
                    f"/{path}: symbolic links lead in a circle, or through more than {MAX_LINKS}"
                )
            if entry.link.startswith("/"):
                done = []
            todo += [piece for piece in reversed(entry.link.split("/")) if piece]
        return "/".join(done)

    def add(self, entry: Entry) -> None:
        """Put something at its path, over what was there; folders on the way come into being."""
        path = entry.path
        older = self._entries.get(path)
        if older is not None and older.kind == "dir" and entry.kind != "dir":
            self.remove(path)
        self._parents(path)
        self._entries[path] = entry
        if entry.kind == "dir":
            self._names.setdefault(path, set())

    def remove(self, path: str) -> None:
        """Take away a path and all below it."""
        for name in list(self._names.get(path, ())):
            self.remove(posixpath.join(path, name))
        self._names.pop(path, None)
        self._entries.pop(path, None)
        self._names.get(posixpath.dirname(path), set()).discard(posixpath.basename(path))

    def lay(self, entries: Iterable[Entry]) -> None:
        """Apply a layer read from an image, whiteouts included."""
        entries = list(entries)
        for entry in entries:
            folder, name = posixpath.split(entry.path)
            if name == _EMPTIED:
                for child in list(self._names.get(folder, ())):
                    self.remove(posixpath.join(folder, child))
            elif name.startswith(_REMOVED):
                self.remove(posixpath.join(folder, name.removeprefix(_REMOVED)))
        for entry in entries:
            if not posixpath.basename(entry.path).startswith(_REMOVED):
                self.add(self._linked(entry))

    def _linked(self, entry: Entry) -> Entry:
        """A hard link is the file it names."""
        if entry.kind != "hard":
            return entry
        target = self._entries.get(entry.link)
        if target is None:
            raise BuildError(f"the layer links /{entry.path} to /{entry.link}, which is not there")
        return target.moved(entry.path)

    def _parents(self, path: str) -> None:
        folder, name = posixpath.split(path)
        if folder and not self.is_folder(folder):
            self.add(Entry(folder, "dir", 0o755))
        self._names.setdefault(folder, set()).add(name)
