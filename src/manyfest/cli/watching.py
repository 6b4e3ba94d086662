# SPDX-License-Identifier: Apache-2.0
"""What ``watch`` and ``dashboard`` look at: the options, and those who look."""

from __future__ import annotations

from contextlib import contextmanager

from manyfest.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from manyfest.cli.console import Console
    from manyfest.serve.dashboard.state import Board
    from manyfest.serve.dashboard.watchers import Lists, Probing, Swarm, Watchers

__all__ = ["add_looks", "watchers"]


def add_looks(parser: argparse.ArgumentParser) -> None:
    """What to look at."""
    parser.add_argument("places", metavar="REF", nargs="*", help="lists to show, in any place")
    parser.add_argument(
        "--registry",
        metavar="HOST/REPO",
        action="append",
        default=[],
        help="every tag of a repository (the last 40); may be repeated",
    )
    parser.add_argument(
        "--swarm", action="store_true", help="nodes, services and tasks of the swarm that the engine manages"
    )
    parser.add_argument(
        "--probe", metavar="URL", default="", help="ask this URL once a second, and show who answers"
    )


@contextmanager
def watchers(args: argparse.Namespace, console: Console, board: Board) -> Iterator[Watchers]:
    """Those who find out what was asked for; entering what is yielded lets them begin.

    Raises :class:`InputError` when nothing was asked for, or something that cannot be.
    """
    from manyfest.cli.places import Places
    from manyfest.engines.docker import Docker
    from manyfest.serve.dashboard.probe import Probe
    from manyfest.serve.dashboard.watchers import Lists, Probing, Swarm, Watchers
    from manyfest.stores.places import Place
    from manyfest.verify.cache import Cache

    if not (args.places or args.registry or args.swarm or args.probe):
        raise InputError(
            "nothing to look at", hint="name lists, or add --registry HOST/REPO, --swarm or --probe URL"
        )
    for place in (*args.places, *args.registry):
        Place.parse(place)
    found: list[Lists | Swarm | Probing] = []
    if args.probe:
        found.append(Probing(Probe(args.probe)))
    with Places(args, console) as places, Docker() as engine:
        if args.swarm:
            found.append(Swarm(engine))
        if args.places or args.registry:
            found.append(Lists(args.places, places.source, Cache(), repositories=args.registry))
        yield Watchers(board, found)
