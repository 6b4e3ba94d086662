# SPDX-License-Identifier: Apache-2.0
"""Files that are there once for each platform, of which the right one is chosen at run time: is one for this platform?

Netty's jars are such (``netty-epoll-linux-x86_64.jar``, ``…-aarch_64.jar``), and the packages and prebuilt addons of
Node (``@esbuild/linux-x64``, ``prebuilds/linux-arm64/x.node``).

    >>> package_of("app/node_modules/@img/sharp-linux-arm64/lib/x.node")
    'app/node_modules/@img/sharp-linux'
    >>> package_of("app/node_modules/x/prebuilds/linux-x64/x.node")
    'app/node_modules/x'
"""

from __future__ import annotations

from manyfest.verify.archives import without_architecture

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from manyfest.verify.tree import Node

__all__ = ["Sibling", "Siblings", "addon_of", "is_of_node", "jar_of", "package_of"]

_MODULES = "node_modules/"


class Sibling:
    """One of them; ``kinds`` are the platforms that it is for, ``fits`` whether one of those is the image's."""

    __slots__ = ("fits", "kinds", "node", "path")

    def __init__(self, path: str, node: Node, kinds: set[str], *, fits: bool) -> None:
        self.path = path
        self.node = node
        self.kinds = kinds
        self.fits = fits


class Siblings:
    """Groups by what their names have in common."""

    def __init__(self) -> None:
        self._groups: dict[str, list[Sibling]] = {}

    def add(self, key: str, sibling: Sibling) -> None:
        """One more of a group."""
        self._groups.setdefault(key, []).append(sibling)

    def groups(self) -> Iterator[tuple[list[Sibling], bool]]:
        """Each group, sorted by path, and whether one of it fits."""
        for group in self._groups.values():
            yield sorted(group, key=lambda each: each.path), any(each.fits for each in group)


def jar_of(path: str) -> str:
    """What jars for different architectures have in common."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/{without_architecture(name)}"


def is_of_node(path: str) -> bool:
    """Is it an addon, or a program or library in a package (as esbuild's in ``@esbuild/linux-arm64/bin``)?"""
    return path.endswith(".node") or _MODULES in path


def addon_of(path: str) -> str:
    """What addons of a package have in common, and what its programs and libraries have."""
    return f"{package_of(path)}{'/*.node' if path.endswith('.node') else ''}"


def package_of(path: str) -> str:
    """The Node package that a file is in, without the architecture in its name; the folder for others."""
    at = path.rfind(_MODULES)
    if at < 0:
        return path.rpartition("/")[0]
    top = path[: at + len(_MODULES)]
    parts = path[at + len(_MODULES) :].split("/")
    scope = f"{parts[0]}/" if parts[0].startswith("@") and len(parts) > 1 else ""
    name = parts[1 if scope else 0].replace("linuxmusl", "linux")
    common = [
        word for word in without_architecture(name).split("-") if word not in ("gnu", "musl", "gnueabihf")
    ]
    return f"{top}{scope}{'-'.join(common)}"
