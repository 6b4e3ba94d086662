# SPDX-License-Identifier: Apache-2.0
"""``manyfest nodes``."""

from __future__ import annotations

from manyfest.cli.render import size, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from manyfest.cli.console import Console
    from manyfest.cli.parser import CommandParser
    from manyfest.coverage.nodes import Node

SUMMARY = "show a cluster's nodes by architecture"
EXAMPLES = (
    "manyfest nodes",
    "manyfest nodes --labels --json",
    "manyfest nodes --kube nodes.json",
)


def configure(parser: CommandParser) -> None:
    """Where the nodes are known from."""
    parser.description = (
        "Show the nodes by architecture: what the kernel calls it and what images call it, the engine, the state, and "
        "the room that is left. Without an option, the swarm that the engine here manages."
    )
    add_nodes(parser)
    parser.add_argument("--labels", action="store_true", help="show labels too")


def add_nodes(parser: CommandParser) -> None:
    """The options that say which nodes are meant; they may be combined."""
    parser.add_argument(
        "--swarm", action="store_true", help="the swarm that the engine (DOCKER_HOST) manages"
    )
    parser.add_argument("--kube", metavar="FILE", default="", help="what kubectl get nodes -o json printed")
    parser.add_argument(
        "--nodes", metavar="FILE", default="", help="YAML with name, platform, emulates: [...]"
    )
    parser.add_argument("--host", action="store_true", help="this machine, with its registered emulators")
    parser.add_argument(
        "-p", "--platform", metavar="PLATFORM,…", action="append", help="a machine of each of these platforms"
    )


def nodes_of(args: argparse.Namespace) -> list[Node]:
    """What the options name, in this order. Raises what reading them raises."""
    from manyfest.cli.arguments import platforms
    from manyfest.coverage import nodes

    found: list[Node] = []
    if args.swarm:
        found += swarm_nodes()
    if args.kube:
        from manyfest.coverage.marked import read_file

        found += nodes.from_kubectl(read_file(args.kube), "standard input" if args.kube == "-" else args.kube)
    if args.nodes:
        found += nodes.from_file(args.nodes)
    if args.host:
        found.append(this_machine())
    found += nodes.from_platforms(platforms(args.platform))
    return found


def this_machine() -> Node:
    """This machine with the level of its processor."""
    from manyfest.cli.host import host_platform
    from manyfest.coverage.nodes import this_host
    from manyfest.engines.host import amd64_level

    platform = host_platform()
    if platform.architecture == "amd64" and not platform.variant:
        platform = platform.replace(variant=amd64_level())
    return this_host(platform)


def swarm_nodes() -> list[Node]:
    """The nodes of the swarm that the engine manages. Raises :class:`EngineError`."""
    from manyfest.coverage.nodes import from_swarm
    from manyfest.engines.docker import Docker

    with Docker() as engine:
        return from_swarm(engine.nodes(), engine.tasks())


def run(args: argparse.Namespace, console: Console) -> int:
    """One line a node, those of an architecture together."""
    given = args.swarm or args.kube or args.nodes or args.host or args.platform
    found = nodes_of(args) if given else swarm_nodes()
    found.sort(key=lambda node: (str(node.platform), node.name))
    console.result({"nodes": [node.to_json() for node in found]}, _text(found, labels=args.labels))
    return 0


def _text(found: Sequence[Node], *, labels: bool) -> str:
    head = ["PLATFORM", "KERNEL", "NAME", "ROLE", "STATE", "ENGINE", "FREE", "EMULATES"]
    rows = [_row(node) for node in found]
    if labels:
        head.append("LABELS")
        rows = [
            (*row, ",".join(f"{key}={value}" for key, value in node.labels or ()) or "-")
            for row, node in zip(rows, found, strict=True)
        ]
    counts: dict[str, int] = {}
    for node in found:
        counts[str(node.platform)] = counts.get(str(node.platform), 0) + 1
    summary = ", ".join(f"{count} {platform}" for platform, count in counts.items())
    return (
        f"{table(head, rows)}\n\n{len(found)} {'node' if len(found) == 1 else 'nodes'}: {summary or 'none'}"
    )


def _row(node: Node) -> tuple[str, ...]:
    state = " ".join(part for part in (node.state, node.availability) if part not in ("", "active"))
    return (
        str(node.platform),
        node.host.machine,
        node.name,
        node.role or "-",
        state or "-",
        node.version or node.engine or "-",
        _free(node),
        ", ".join(str(platform) for platform in node.emulates) or "-",
    )


def _free(node: Node) -> str:
    """Processors and memory: what is left where it is known, else all."""
    cpus = node.cpus if node.free_cpus is None else node.free_cpus
    memory = node.memory if node.free_memory is None else node.free_memory
    parts = []
    if cpus is not None:
        parts.append(f"{cpus:g} of {node.cpus:g} CPU" if node.free_cpus is not None else f"{cpus:g} CPU")
    if memory is not None:
        parts.append(size(memory))
    return ", ".join(parts) or "-"
