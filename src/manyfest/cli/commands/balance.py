# SPDX-License-Identifier: Apache-2.0
"""``manyfest balance``: nginx in front of the nodes of a service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from manyfest.errors import DeployError, EngineError, InputError, NotFound

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from typing import Any, Protocol

    from manyfest.cli.console import Console
    from manyfest.cli.parser import CommandParser
    from manyfest.deploy.balance import Front, Upstream
    from manyfest.deploy.health import Health
    from manyfest.engines.docker import Docker
    from manyfest.engines.runner import Runner

    class Balancer(Protocol):
        """A running nginx: ``name`` is that of its container or service, or empty."""

        name: str

        def reload(self, found: Sequence[Upstream]) -> None: ...
        def wait(self, seconds: float) -> None: ...


SUMMARY = "put nginx in front of the nodes of a service"
EXAMPLES = (
    "manyfest balance web",
    "manyfest balance web --listen 80 --output /etc/nginx/conf.d/web.conf",
    "manyfest balance web --listen 127.0.0.1:8080 --run",
    "manyfest balance web --listen 80 --run container --image nginx:1.28",
    "manyfest balance web --listen 80 --run service --detach",
    "manyfest balance web --stop",
)
IMAGE = "nginx:stable"
CONSTRAINT = "node.role==manager"


def configure(parser: CommandParser) -> None:
    """Which service, where to listen, and what to do with the configuration."""
    parser.description = (
        "Write the nginx configuration that sends requests to every node with a running task of a service whose port "
        "is published in host mode. Drained nodes and those that are down are left out; nginx passes over a node that "
        "stops answering. By default print it; --output writes a file for nginx's conf.d. --run runs nginx and gives "
        "it another configuration whenever nodes change, until Ctrl-C: as a process here, in a container of the "
        "engine, or as a service of the swarm. Nothing counts before nginx -t has taken it; where nginx is not "
        "installed, what is only printed or written stays unchecked."
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
    parser.add_argument(
        "--health", metavar="PATH", default="",
        help="ask each node for this path, and leave out those that do not answer with 200 to 399",
    )  # fmt: skip
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--print", action="store_true", help="print the configuration (the default)")
    what.add_argument("--output", metavar="FILE", default="", help="write it to a file")
    what.add_argument(
        "--run", metavar="HOW", nargs="?", const="process", choices=("process", "container", "service"), default="",
        help="run nginx: process (here; the default), container or service",
    )  # fmt: skip
    what.add_argument(
        "--stop", action="store_true", help="end and remove the container or service in front of it"
    )
    parser.add_argument(
        "--image", default="", help=f"with container and service: an image with nginx (default: {IMAGE})"
    )
    parser.add_argument(
        "--constraint", metavar="EXPR", action="append",
        help=f"with service: where it may run (default: {CONSTRAINT}); may be repeated",
    )  # fmt: skip
    parser.add_argument(
        "--detach", action="store_true",
        help="leave the container or service running and end; the same again brings it up to date",
    )  # fmt: skip
    parser.add_argument(
        "--interval", metavar="SECONDS", type=float, default=2.0, help="between looks with --run (default: 2)"
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """0 when the configuration was written, or nginx ran until somebody ended it."""
    from manyfest.deploy.balance import Front
    from manyfest.engines.docker import Docker

    front = Front(args.name, args.listen, args.max_fails, args.fail_timeout)
    _refuse(args)
    if args.stop:
        return _stop(args, console)
    if args.run in ("container", "service"):
        from manyfest.engines.runner import Runner

        with Runner() as runner:
            looking = _Looking(args, console, runner)
            found = looking.first()
            balancer = _there(args, console, runner, front, found)
            return _until_interrupted(args, console, looking, balancer, front, found)
    with Docker() as engine:
        looking = _Looking(args, console, engine)
        found = looking.first()
        if args.run:
            return _until_interrupted(args, console, looking, _here(front, found), front, found)
    return _written(args, console, front, found)


def _refuse(args: argparse.Namespace) -> None:
    """Options that mean nothing together."""
    from manyfest.coverage.placement import SwarmConstraint

    if args.interval <= 0:
        raise InputError(f"--interval {args.interval:g}: expected seconds")
    if args.run not in ("container", "service"):
        for option, given in (("--image", args.image), ("--detach", args.detach)):
            if given:
                raise InputError(f"{option}: expected --run container or --run service with it")
    if args.constraint and args.run != "service":
        raise InputError("--constraint: expected --run service with it")
    for text in args.constraint or ():
        SwarmConstraint.parse(text)


def _written(args: argparse.Namespace, console: Console, front: Front, found: Sequence[Upstream]) -> int:
    from manyfest.deploy.balance import render
    from manyfest.deploy.nginx import check, write

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


def _here(front: Front, found: Sequence[Upstream]) -> AbstractContextManager[Balancer]:
    from manyfest.deploy.nginx import Nginx

    return Nginx(front, found)


def _there(
    args: argparse.Namespace, console: Console, engine: Runner, front: Front, found: Sequence[Upstream]
) -> AbstractContextManager[Balancer]:
    from manyfest.deploy.balancers import ContainerNginx, ServiceNginx

    image, auth = _image(args, console)
    if args.run == "container":
        return ContainerNginx(engine, front, image, found, auth=auth, keep=args.detach)
    return ServiceNginx(
        engine, front, image, found, constraints=args.constraint or [CONSTRAINT], auth=auth,
        keep=args.detach, on_change=lambda node, state, detail: console.detail(f"{node}: {state} {detail}".rstrip()),
    )  # fmt: skip


def _image(args: argparse.Namespace, console: Console) -> tuple[str, str]:
    """Its whole name, and the credentials that the engine needs to pull it."""
    from manyfest.cli.places import Places
    from manyfest.deploy.swarm import engine_credentials
    from manyfest.stores.places import Place

    text = args.image or IMAGE
    place = Place.parse(text)
    if place.transport != "docker":
        raise InputError(f"--image {text}: engines pull from a registry", hint="manyfest copy puts it there")
    with Places(args, console) as places:
        return str(place.reference), engine_credentials(place.reference, places.session.settings, asked=False)


def _stop(args: argparse.Namespace, console: Console) -> int:
    from manyfest.deploy.balancers import balancer_name, stop
    from manyfest.engines.runner import Runner

    with Runner() as engine:
        ended = stop(engine, args.name)
    if not ended:
        raise NotFound(
            f"there is no balancer of {args.name}: no container and no service {balancer_name(args.name)}",
            hint="a process ends with Ctrl-C; a container is on the engine that it was started at (DOCKER_HOST)",
        )
    console.result({"service": args.name, "stopped": ended}, "\n".join(f"{each}: removed" for each in ended))
    return 0


class _Looking:
    """Which nodes count, moment for moment."""

    def __init__(self, args: argparse.Namespace, console: Console, engine: Docker) -> None:
        from manyfest.deploy.health import Health

        self._args, self._console, self._engine = args, console, engine
        self._health = Health(args.health) if args.health else None
        self._told: list[str] = []

    def first(self) -> list[Upstream]:
        """With a word about there being none."""
        found = self.now()
        if not found:
            name = self._args.name
            self._console.warn(f"no node runs {name} at this moment: every request is answered with 503")
        return found

    def now(self) -> list[Upstream]:
        """Raises :class:`NotFound`, and :class:`EngineError` when the manager is away."""
        from manyfest.deploy.balance import upstreams

        try:
            service = self._engine.service(self._args.name)
        except NotFound as error:
            raise NotFound(
                f"there is no service {self._args.name}", hint="docker service ls shows what there is"
            ) from error
        tasks = self._engine.tasks(service["ID"])
        found = upstreams(service, self._engine.nodes(), tasks, self._args.port)
        return found if self._health is None else self._well(self._health, found)

    def _well(self, health: Health, found: Sequence[Upstream]) -> list[Upstream]:
        good, told = health.well(found), health.told()
        if told and told != self._told:
            stay = "none is well, so all stay" if len(good) == len(found) else "left out"
            self._console.warn(f"{stay}: {'; '.join(told)}")
        self._told = told
        return good


def _until_interrupted(
    args: argparse.Namespace,
    console: Console,
    looking: _Looking,
    balancer: AbstractContextManager[Balancer],
    front: Front,
    found: Sequence[Upstream],
) -> int:
    """Being ended is how it ends."""
    try:
        with balancer as nginx:
            console.result(_running_json(args, nginx, front, found), _running_text(nginx, front))
            console.flush()
            if args.detach:
                console.say(
                    f"{front.service}: {_named(found)}; manyfest balance {front.service} --stop ends it"
                )
                return 0
            console.say(f"{front.service}: {_named(found)}; Ctrl-C ends it")
            _follow(args, console, looking, nginx, front, found)
    except KeyboardInterrupt:
        console.say("stopped")
    return 0


def _follow(
    args: argparse.Namespace,
    console: Console,
    looking: _Looking,
    nginx: Balancer,
    front: Front,
    found: Sequence[Upstream],
) -> None:
    """Look again and again; what cannot be read, and what nginx does not take, leaves everything as it is."""
    trouble = ""
    while True:
        try:
            nginx.wait(args.interval)
            before, found = found, _taken(nginx, found, looking.now())
        except (EngineError, _NotTaken) as error:
            if not trouble:
                console.warn(f"{error}; going on with the nodes known")
            trouble = str(error)
            continue
        if trouble:
            console.say(f"{front.service}: all is well again")
        trouble = ""
        if list(found) != list(before):
            console.say(f"{front.service}: {_change(before, found)}; now {_named(found)}")


class _NotTaken(Exception):
    """nginx did not take another configuration; the text says why."""


def _taken(nginx: Balancer, before: Sequence[Upstream], now: Sequence[Upstream]) -> Sequence[Upstream]:
    if list(now) != list(before):
        try:
            nginx.reload(now)
        except DeployError as error:
            raise _NotTaken(str(error)) from error
    return now


def _named(found: Sequence[Upstream]) -> str:
    return ", ".join(f"{each.node} ({each.machine}) at {each}" for each in found) or "no node"


def _change(before: Sequence[Upstream], now: Sequence[Upstream]) -> str:
    gone = [f"-{each.node}" for each in before if each not in now]
    come = [f"+{each.node}" for each in now if each not in before]
    return " ".join(gone + come)


def _running_text(nginx: Balancer, front: Front) -> str:
    where = f", {nginx.name}" if nginx.name else ""
    return f"{front.service}: nginx listens at {front.listen}{where}"


def _running_json(
    args: argparse.Namespace, nginx: Balancer, front: Front, found: Sequence[Upstream]
) -> dict[str, Any]:
    return _json(front, found) | {"run": args.run, "name": nginx.name or None}


def _json(front: Front, found: Sequence[Upstream]) -> dict[str, Any]:
    return {
        "service": front.service,
        "listen": front.listen,
        "upstreams": [
            {"node": each.node, "machine": each.machine, "address": each.address, "port": each.port}
            for each in found
        ],
    }
