# SPDX-License-Identifier: Apache-2.0
"""The files of an image as its layers leave them: what a copy's destination meets, and what ``--from`` reads.

A tree may stand on a base whose listings are only searched. As soon as somebody asks what a folder holds, they are
read. Links are followed inside the image only; ``..`` stops at its root.
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from manyfest.build.layer import Entry
from manyfest.build.listing import EMPTIED, REMOVED
from manyfest.errors import BuildError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from manyfest.build.listing import Below

__all__ = ["Tree"]

MAX_LINKS = 40
"""Symbolic links on the way to one file, as Linux counts them."""


class Tree:
    """Paths without a leading slash; the root is ``""`` and always there. ``below``: the layers it stands on."""

    def __init__(self, below: Below | None = None) -> None:
        self._below = below
        self._entries: dict[str, Entry] = {}
        self._names: dict[str, set[str]] = {"": set()}

    def copy(self) -> Tree:
        """Another tree with the same files; changing one leaves the other."""
        made = Tree(self._below)
        made._entries = dict(self._entries)
        made._names = {folder: set(names) for folder, names in self._names.items()}
        return made

    def find(self, path: str) -> Entry | None:
        """What is at a path, not following a link there."""
        entry = self._entries.get(path)
        if entry is None and self._below is not None and path:
            return self._below.find(path)
        return entry

    def is_folder(self, path: str) -> bool:
        """Is it a folder (or the root)?"""
        if path == "":
            return True
        entry = self.find(path)
        return entry is not None and entry.kind == "dir"

    def names(self, folder: str) -> list[str]:
        """What a folder holds, sorted."""
        self._read()
        return sorted(self._names.get(folder, ()))

    def below(self, folder: str) -> Iterator[Entry]:
        """Everything under a folder, parents before children."""
        todo = self._children(folder)
        while todo:
            entry = self._entries[todo.pop()]
            yield entry
            if entry.kind == "dir":
                todo += self._children(entry.path)

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
            entry = self.find(here)
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
        if entry.kind != "dir" and self.is_folder(path):
            self.remove(path)
        self._parents(path)
        self._entries[path] = entry
        if entry.kind == "dir":
            self._names.setdefault(path, set())

    def remove(self, path: str) -> None:
        """Take away a path and all below it."""
        self._read()
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
            if name == EMPTIED:
                for child in self.names(folder):
                    self.remove(posixpath.join(folder, child))
            elif name.startswith(REMOVED):
                self.remove(posixpath.join(folder, name.removeprefix(REMOVED)))
        for entry in entries:
            folder, name = posixpath.split(entry.path)
            if not name.startswith(REMOVED):
                # As engines unpack it: through the links on the way, which a layer may lead through.
                self.add(self._linked(entry).moved(posixpath.join(self.resolve(folder), name)))
            elif folder and not self.is_folder(folder):
                self.add(Entry(folder, "dir", 0o755))

    def _read(self) -> None:
        """Read the layers below, and put over them what was added since."""
        if self._below is None:
            return
        added, below = self._entries, self._below
        self._below, self._entries, self._names = None, {}, {"": set()}
        for layer in below.layers:
            self.lay(layer)
        for entry in added.values():
            self.add(entry)

    def _children(self, folder: str) -> list[str]:
        """Paths in a folder, the last one first."""
        return [posixpath.join(folder, name) for name in reversed(self.names(folder))]

    def _linked(self, entry: Entry) -> Entry:
        """A hard link is the file it names."""
        if entry.kind != "hard":
            return entry
        target = self.find(entry.link)
        if target is None:
            raise BuildError(f"the layer links /{entry.path} to /{entry.link}, which is not there")
        return target.moved(entry.path)

    def _parents(self, path: str) -> None:
        folder, name = posixpath.split(path)
        if folder and not self.is_folder(folder):
            self.add(Entry(folder, "dir", 0o755))
        self._names.setdefault(folder, set()).add(name)
