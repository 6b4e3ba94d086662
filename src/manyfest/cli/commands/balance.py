# SPDX-License-Identifier: Apache-2.0
"""``manyfest balance``: nginx in front of the nodes of a service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from manyfest.errors import EngineError, InputError, NotFound

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from typing import Any

    from manyfest.cli.console import Console
    from manyfest.cli.parser import CommandParser
    from manyfest.deploy.balance import Front, Upstream
    from manyfest.engines.docker import Docker

SUMMARY = "put nginx in front of the nodes of a service"
EXAMPLES = (
    "manyfest balance web",
    "manyfest balance web --listen 80 --output /etc/nginx/conf.d/web.conf",
    "manyfest balance web --listen 127.0.0.1:8080 --run",
)


def configure(parser: CommandParser) -> None:
    """Which service, where to listen, and what to do with the configuration."""
    parser.description = (
        "Write the nginx configuration that sends requests to every node with a running task of a service whose port "
        "is published in host mode. Drained nodes and those that are down are left out; nginx passes over a node that "
        "stops answering. By default print it; --output writes a file for nginx's conf.d, --run starts nginx here "
        "and reloads it when nodes change. It is checked with nginx -t where nginx is installed."
    )
    parser.add_argument("name", metavar="NAME", help="the service")
    parser.add_argument(
        "--port",
        metavar="TARGET",
        type=int,
        default=None,
        help="the port inside, where several are published",
    )
    parser.add_argument(
        "--listen", metavar="[ADDRESS:]PORT", default="8080", help="where nginx listens (default: 8080)"
    )
    parser.add_argument(
        "--max-fails",
        metavar="N",
        type=int,
        default=1,
        help="failures after which a node is passed over (default: 1)",
    )
    parser.add_argument(
        "--fail-timeout", metavar="SECONDS", type=int, default=5, help="and for how long (default: 5)"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--print", action="store_true", help="print the configuration (the default)")
    what.add_argument("--output", metavar="FILE", default="", help="write it to a file")
    what.add_argument("--run", action="store_true", help="run nginx here until interrupted")
    parser.add_argument(
        "--interval", metavar="SECONDS", type=float, default=2.0, help="between looks with --run (default: 2)"
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """0 when the configuration was written, or nginx ran until somebody ended it."""
    from manyfest.deploy.balance import Front, check, render, write
    from manyfest.engines.docker import Docker

    front = Front(args.name, args.listen, args.max_fails, args.fail_timeout)
    if args.interval <= 0:
        raise InputError(f"--interval {args.interval:g}: expected seconds")
    with Docker() as engine:
        found = _look(engine, args)
        if not found:
            console.warn(f"no node runs {args.name} at this moment: every request is answered with 503")
        if args.run:
            return _until_interrupted(args, console, engine, front, found)
        blocks = render(front, found)
        checked = check(blocks)
        if checked is None:
            console.say("nginx is not installed here, so its check of the configuration was left out")
        if args.output:
            write(args.output, blocks)
            console.say(f"wrote {args.output}; nginx -s reload makes it count")
    shown = _json(front, found) | {
        "configuration": blocks,
        "checked": checked is True,
        "path": args.output or None,
    }
    console.result(shown, "" if args.output else blocks.rstrip("\n"))
    return 0


def _look(engine: Docker, args: argparse.Namespace) -> list[Upstream]:
    from manyfest.deploy.balance import upstreams

    try:
        service = engine.service(args.name)
    except NotFound as error:
        raise NotFound(
            f"there is no service {args.name}", hint="docker service ls shows what there is"
        ) from error
    return upstreams(service, engine.nodes(), engine.tasks(service["ID"]), args.port)


def _until_interrupted(
    args: argparse.Namespace, console: Console, engine: Docker, front: Front, found: Sequence[Upstream]
) -> int:
    """Being ended is how it ends."""
    try:
        _run(args, console, engine, front, found)
    except KeyboardInterrupt:
        console.say("stopped")
    return 0


def _run(
    args: argparse.Namespace, console: Console, engine: Docker, front: Front, found: Sequence[Upstream]
) -> None:
    """Look again and again; what cannot be read leaves everything as it is."""
    from manyfest.deploy.balance import Nginx, render

    away = False
    with Nginx(render(front, found)) as nginx:
        console.result(_json(front, found), f"{front.service}: nginx listens at {front.listen}")
        console.flush()
        console.say(f"{front.service}: {_named(found)}; Ctrl-C ends it")
        while True:
            nginx.wait(args.interval)
            try:
                now = _look(engine, args)
            except EngineError as error:
                if not away:
                    console.warn(f"{error}; going on with the nodes known")
                away = True
                continue
            away = False
            if list(now) != list(found):
                nginx.reload(render(front, now))
                console.say(f"{front.service}: {_change(found, now)}; now {_named(now)}")
                found = now


def _named(found: Sequence[Upstream]) -> str:
    return ", ".join(f"{each.node} ({each.machine}) at {each}" for each in found) or "no node"


def _change(before: Sequence[Upstream], now: Sequence[Upstream]) -> str:
    gone = [f"-{each.node}" for each in before if each not in now]
    come = [f"+{each.node}" for each in now if each not in before]
    return " ".join(gone + come)


def _json(front: Front, found: Sequence[Upstream]) -> dict[str, Any]:
    return {
        "service": front.service,
        "listen": front.listen,
        "upstreams": [
            {"node": each.node, "machine": each.machine, "address": each.address, "port": each.port}
            for each in found
        ],
    }
