# SPDX-License-Identifier: Apache-2.0
"""The layers of an image laid over each other, as an engine does it, and paths found in the result.

Rules (https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md and what containerd does where that is silent):

1. A layer's whiteouts hide what is below it, never what the layer itself brings.
2. A directory over a directory keeps the content; anything else replaces what was there with all below it.
3. A member's folder is looked up through the links that are there, inside the root.
4. A hard link is another name of what its target is at that moment.
"""

from __future__ import annotations

from manyfest.errors import TooLarge
from manyfest.values import Value
from manyfest.verify.layers import DIRECTORY, FILE, HARD, OPAQUE, SYMLINK, Entry, Layer, Oddity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["MAX_LINKS", "Found", "Link", "Node", "Tree"]

MAX_LINKS = 40
"""Links followed on the way to one file: Linux's limit."""

MAX_FOLLOWED = 20_000_000
"""Parts of paths that links may send us through, for all the files of an image."""


class Node:
    """A file of the image: its entry, the layer it came from (a position), and for directories what is in them."""

    __slots__ = ("children", "entry", "layer")

    def __init__(self, entry: Entry, layer: int) -> None:
        self.entry = entry
        self.layer = layer
        self.children: dict[str, Node] | None = {} if entry.kind == DIRECTORY else None

    @property
    def is_file(self) -> bool:
        """Is it a regular file?"""
        return self.entry.kind == FILE

    @property
    def is_directory(self) -> bool:
        """Is it a directory?"""
        return self.children is not None

    @property
    def is_executable(self) -> bool:
        """May somebody run it?"""
        return bool(self.entry.mode & 0o111)


class Link(Value):
    """A link that was followed: where it is, what it says, the layer (a position) it came from."""

    __slots__ = ("path", "target", "layer")  # noqa: RUF023
    path: str
    target: str
    layer: int

    def __init__(self, path: str, target: str, layer: int) -> None:
        self._set(path=path, target=target, layer=layer)

    def __str__(self) -> str:
        return f"/{self.path} -> {self.target}"


class Found:
    """Where a path leads: ``node`` is ``None`` if nowhere, and ``why`` says so: ``"missing"``,
    ``"not a directory"``, ``"loop"`` (a link leads back to itself) or ``"too many links"`` (more than
    :data:`MAX_LINKS`). ``path`` is the real one (from the root, no slash in front), or the first that is not there;
    ``links`` what was followed on the way."""

    __slots__ = ("links", "node", "path", "why")

    def __init__(self, path: str, node: Node | None, why: str = "", links: tuple[Link, ...] = ()) -> None:
        self.path = path
        self.node = node
        self.why = why
        self.links = links

    @property
    def file(self) -> Node | None:
        """The node if it is a regular file."""
        return self.node if self.node is not None and self.node.is_file else None


class Tree:
    """The files of an image."""

    def __init__(self, layers: Iterable[Layer] = ()) -> None:
        self.root = Node(Entry(DIRECTORY), -1)
        self.oddities: list[tuple[int, Oddity]] = []
        self._count = 0
        self._followed = 0
        self._through: set[str] = set()
        self._parent: tuple[str, Node | None] = ("", self.root)
        for layer in layers:
            self.add(layer)

    def add(self, layer: Layer) -> None:
        """Lay a layer over what is there."""
        position = self._count
        self._count += 1
        for path, kind in layer.whiteouts.items():
            self._hide(path, kind)
        self._parent = ("", self.root)
        self._through.clear()
        for path, entry in layer.entries.items():
            self._put(path, entry, position)

    def find(self, path: str, start: str = "", *, follow: bool = True) -> Found:
        """Where a path leads, inside the root whatever its links say; ``start`` is for relative ones."""
        parts = (path if path.startswith("/") else f"{start}/{path}").split("/")
        parts.reverse()
        at: list[tuple[str, Node]] = []
        node = self.root
        links: list[Link] = []
        inside: list[tuple[str, int]] = []  # links that are being followed, and what is left after each
        while parts:
            part = parts.pop()
            if part in ("", "."):
                continue
            children = node.children
            if children is None:
                return Found(_join(at), None, "not a directory", tuple(links))
            if part == "..":
                if at:
                    at.pop()
                node = at[-1][1] if at else self.root
                continue
            child = children.get(part)
            if child is None:
                return Found(_join([*at, (part, node)]), None, "missing", tuple(links))
            if child.entry.kind == SYMLINK and (follow or any(p not in ("", ".") for p in parts)):
                here = _join([*at, (part, node)])
                while inside and inside[-1][1] > len(parts):
                    inside.pop()
                if len(links) >= MAX_LINKS:
                    circle = any(name == here for name, _ in inside)
                    return Found(here, None, "loop" if circle else "too many links", tuple(links))
                inside.append((here, len(parts)))
                links.append(Link(here, child.entry.link, child.layer))
                self._follow(child.entry.link, parts)
                if child.entry.link.startswith("/"):
                    at, node = [], self.root
                continue
            at.append((part, child))
            node = child
        return Found(_join(at), node, "", tuple(links))

    def files(self) -> Iterator[tuple[str, Node]]:
        """Every regular file with its real path, folder by folder."""
        stack: list[tuple[str, Node]] = [("", self.root)]
        while stack:
            folder, node = stack.pop()
            for name, child in (node.children or {}).items():
                path = f"{folder}/{name}" if folder else name
                if child.children is not None:
                    stack.append((path, child))
                elif child.entry.kind == FILE:
                    yield path, child

    def text(self, path: str) -> str:
        """The content of a settings file; empty when it is not there."""
        node = self.find(path).file
        return node.entry.text if node is not None else ""

    def names(self, folder: str) -> list[str]:
        """What is in a folder, sorted; empty when it is none."""
        node = self.find(folder).node
        return sorted(node.children) if node is not None and node.children is not None else []

    def _follow(self, link: str, parts: list[str]) -> None:
        more = link.split("/")
        self._followed += len(more)
        if self._followed > MAX_FOLLOWED:
            raise TooLarge("the image's links lead to each other without end")
        parts.extend(reversed(more))

    def _hide(self, path: str, kind: str) -> None:
        if kind == OPAQUE:
            folder = self.find(path, follow=False).node
            if folder is not None and folder.children:
                folder.children.clear()
            return
        parent, _, name = path.rpartition("/")
        above = self.find(parent).node
        if above is not None and above.children is not None:
            above.children.pop(name, None)

    def _put(self, path: str, entry: Entry, position: int) -> None:
        folder, _, name = path.rpartition("/")
        known, parent = self._parent  # members come in order: most are in the folder of the one before
        if parent is None or known != folder:
            parent = self._folder(folder, position)
        if parent is None or parent.children is None:
            return
        if entry.kind == HARD:
            target = self.find(entry.link, follow=False).node if entry.link else None
            if target is None or target.is_directory:
                if entry.link:
                    self._odd(position, "MF504", path, f"a hard link to /{entry.link}, which is not there")
                return
            parent.children[name] = target
            return
        there = parent.children.get(name)
        if there is not None and there.children is not None and entry.kind == DIRECTORY:
            there.entry, there.layer = entry, position
            return
        parent.children[name] = Node(entry, position)
        if there is not None:
            self._parent = ("", self.root)  # what was known of folders may have changed

    def _folder(self, path: str, position: int) -> Node | None:
        """The folder a member goes into, made if it is not there. The last answer is kept."""
        node = self._straight(path)
        if node is None:
            node = self._found_or_made(path, position)
        self._parent = (path, node)
        return node

    def _straight(self, path: str) -> Node | None:
        """The folder, if it is there and no link is on the way to it, as nearly always."""
        node = self.root
        for part in path.split("/") if path else ():
            child = node.children.get(part) if node.children is not None else None
            if child is None:
                return None
            node = child
        return node if node.children is not None else None

    def _found_or_made(self, path: str, position: int) -> Node | None:
        found = self.find(path)
        node = found.node
        if found.links and path not in self._through:
            self._through.add(path)
            if found.links[0].layer != position:
                message = (
                    f"goes through the link {found.links[0]} of a layer below; engines differ on whether the folder "
                    "replaces the link"
                )
                self._odd(position, "MF509", path, message)
        if found.why == "missing":
            node = self._made(path, position)
        elif found.why:
            self._odd(position, "MF504", path, f"files in /{found.path}, which is no directory ({found.why})")
        return node

    def _made(self, path: str, position: int) -> Node | None:
        at = ""
        node: Node | None = self.root
        links: tuple[Link, ...] = ()
        for part in path.split("/"):
            at = f"{at}/{part}" if at else part
            child = node.children.get(part) if node is not None and node.children is not None else None
            if child is not None and child.children is not None:
                node = child
            elif child is None and node is not None and node.children is not None:
                if links:
                    return None  # through a link that leads nowhere
                made = node.children[part] = Node(Entry(DIRECTORY), position)
                node = made
            else:
                found = self.find(at)
                node, links = found.node, found.links
        return node

    def _odd(self, position: int, check: str, path: str, message: str) -> None:
        if len(self.oddities) < 100:
            self.oddities.append((position, Oddity(check, path, message)))


def _join(at: list[tuple[str, Node]]) -> str:
    return "/".join(part for part, _ in at)
