# SPDX-License-Identifier: Apache-2.0
"""On which nodes of a swarm an image runs, and the words that make Swarm's scheduler see the same.

Swarm compares a service's ``Placement.Platforms`` with ``uname -m`` of each node and knows only that x86_64 is amd64
and aarch64 is arm64. Written by docker's own client, a list with 386 never reaches an i686 node, one with loong64
never a loongarch64 one, and one with any arm goes to every node. :func:`place` writes what nodes call themselves.

https://github.com/moby/swarmkit/blob/master/manager/scheduler/filter.go
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from manyfest.coverage.matrix import RUNS, judge
from manyfest.coverage.nodes import Node
from manyfest.coverage.rules import Host
from manyfest.coverage.use import Use
from manyfest.errors import Refused
from manyfest.values import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from manyfest.coverage.matrix import Cell
    from manyfest.coverage.placement import Restriction
    from manyfest.indexes.listing import Listing

__all__ = ["SPELLINGS", "Placement", "place"]

SPELLINGS = (
    "x86_64", "aarch64", "i386", "i486", "i586", "i686", "armv5tel", "armv5tejl", "armv6l", "armv7l", "armv8l",
    "ppc64le", "s390x", "riscv64", "loongarch64", "ppc64", "mips64",
)  # fmt: skip
"""What Linux kernels call themselves: nodes of these may join later and shall be served too."""

_SWARM_KNOWS = {"x86_64": "amd64", "aarch64": "arm64"}
_GOOD = (*RUNS, "unknown")


class Placement(Value):
    """``cells`` says of each node what would happen there, ``platforms`` what Swarm is told: ``(os, architecture)``.

    ``apart`` are nodes that cannot run the image and have the same word as nodes that can, so that only a constraint
    keeps it away from them.
    """

    __slots__ = ("apart", "cells", "platforms")
    cells: tuple[Cell, ...]
    platforms: tuple[tuple[str, str], ...]
    apart: tuple[Node, ...]

    def __init__(
        self, cells: Sequence[Cell], platforms: Sequence[tuple[str, str]], apart: Sequence[Node] = ()
    ) -> None:
        self._set(cells=tuple(cells), platforms=tuple(platforms), apart=tuple(apart))

    @property
    def left_out(self) -> tuple[Cell, ...]:
        """The nodes that it may go to and where it would not run."""
        return tuple(cell for cell in self.cells if cell.state == "fails")

    @property
    def runs_on(self) -> tuple[Node, ...]:
        """The nodes that would have it now."""
        return tuple(cell.node for cell in self.cells if cell.state in _GOOD)

    def require(self, image: str, *, partial: bool = False) -> None:
        """Raises :class:`Refused` when a node would be left out, or (also with ``partial``) when all would be."""
        bad = self.left_out
        if not self.runs_on:
            reasons = "; ".join(f"{_named(cell.node)}: {cell.reason}" for cell in self.cells)
            raise Refused(
                f"{image} runs on none of the {len(self.cells)} nodes: {reasons or 'the swarm has none'}",
                hint="manyfest check --swarm --fix shows what to do about it",
            )
        if bad and not partial:
            reasons = "; ".join(f"{_named(cell.node)}: {cell.reason}" for cell in bad)
            count = f"{len(bad)} of {len(self.cells)} nodes"
            raise Refused(
                f"{image} does not run on {count} that it may go to: {reasons}",
                hint="add the platform to the list, keep it away with --constraint, or accept it with --partial",
            )

    def constraints(self) -> list[str]:
        """What keeps it away from :attr:`apart`."""
        return [f"node.id!={node.id}" for node in self.apart]


def place(listing: Listing, nodes: Sequence[Node], restrictions: Sequence[Restriction] = ()) -> Placement:
    """Judge an image on every node of a swarm, by what its engine does once Swarm lets it."""
    use = Use("image", restrictions=restrictions)
    cells = [judge(use, _unfiltered(node), listing).replace(node=node) for node in nodes]
    # Nodes that are down or that a constraint excludes now may come back, so their words count as well.
    able = [node for node in nodes if _is_able(node, listing)]
    unable = [node for node in nodes if node not in able]
    theirs = {_word(node) for node in able}
    blocked = {_word(node) for node in unable} - theirs
    found: dict[tuple[str, str], None] = {}
    for os, architecture in (*_own_words(listing), *map(_machine, able), *_later(listing)):
        if (os, _SWARM_KNOWS.get(architecture, architecture)) not in blocked:
            found[os, architecture] = None
    silent = any(entry.known is None for entry in listing.images)
    # Where an image does not say what it is for, nobody can tell Swarm: no platforms, no filter.
    platforms = [] if silent else _without_twins(found)
    apart = [node for node in unable if silent or _word(node) in theirs]
    return Placement(cells, platforms, apart)


def _is_able(node: Node, listing: Listing) -> bool:
    free = _unfiltered(node).replace(state="", availability="")
    return judge(Use("image"), free, listing).state in _GOOD


def _unfiltered(node: Node) -> Node:
    """The same machine without Swarm's own filter, which is what this module gets right."""
    return node.replace(kind="engine")


def _own_words(listing: Listing) -> list[tuple[str, str]]:
    """The list's own names: no node with a name that Swarm translates is missed, and people find them there."""
    return [(each.os, each.architecture) for each in listing.platforms if each.architecture != "arm"]


def _later(listing: Listing) -> list[tuple[str, str]]:
    """Machines that may join one day, judged by the strictest engine."""
    hosts = (Host.of_machine(word) for word in SPELLINGS)
    nodes = (Node(host.machine, host, "engine", "docker-20.10") for host in hosts)
    return [
        _machine(node) for node in nodes if judge(Use("image"), node, listing).state == "native"
    ]  # emulators are not assumed


def _machine(node: Node) -> tuple[str, str]:
    return node.platform.os, node.host.machine


def _word(node: Node) -> tuple[str, str]:
    """What Swarm makes of a node's name."""
    return node.platform.os, _SWARM_KNOWS.get(node.host.machine, node.host.machine)


def _without_twins(found: dict[tuple[str, str], None]) -> list[tuple[str, str]]:
    """amd64 and x86_64 are one for Swarm: the first will do."""
    kept: dict[tuple[str, str], tuple[str, str]] = {}
    for os, architecture in found:
        kept.setdefault((os, _SWARM_KNOWS.get(architecture, architecture)), (os, architecture))
    return list(kept.values())


def _named(node: Node) -> str:
    return f"{node.name} ({node.host.machine})"
