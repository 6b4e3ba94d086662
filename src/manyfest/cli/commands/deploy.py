# SPDX-License-Identifier: Apache-2.0
"""``manyfest deploy``: one image on every node of a mixed swarm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from manyfest.cli.outcomes import cell_json, failed_text, next_step, outcome_json, port_json
from manyfest.cli.render import table
from manyfest.errors import DeployError, EngineError, InputError, NotFound, Refused

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from manyfest.cli.console import Console
    from manyfest.cli.parser import CommandParser
    from manyfest.cli.places import Places
    from manyfest.coverage.nodes import Node
    from manyfest.deploy.converge import Outcome
    from manyfest.deploy.place import Placement
    from manyfest.deploy.sight import Target
    from manyfest.deploy.swarm import Port, Wish
    from manyfest.engines.docker import Docker
    from manyfest.stores.places import Place

SUMMARY = "run an image as a service on every node of a mixed swarm"
EXAMPLES = (
    "manyfest deploy web ghcr.io/acme/app:1.2 -p 8082:8080",
    "manyfest deploy web ghcr.io/acme/app:1.3 --update-delay 5 --dry-run",
    "manyfest deploy worker ghcr.io/acme/worker:1 --replicas 3 --constraint node.role==worker",
    "manyfest deploy --remove web",
    "manyfest deploy -f stack.yaml shop --dry-run",
    "manyfest deploy web ghcr.io/acme/app:1.2 -p 80:8080 --render kubernetes >web.yaml",
)

REMOVE_S = 30.0
ROLLBACK_S = 60.0
"""Seconds that going back may take; by then the reason is told anyway."""


def configure(parser: CommandParser) -> None:
    """What, where, and how."""
    parser.description = (
        "Run an image as a service of the swarm that the engine (DOCKER_HOST or Docker's context) manages. First see "
        "that it runs on every node it may go to, then pin it by digest, tell Swarm which nodes can have it in the "
        "words that those nodes use, create or update the service and wait until every task runs. If one does not: "
        "say which node and why, and go back. Options that are not given leave an existing service as it is. "
        "With -f: the same for every service of a stack file, and its networks, secrets and configs. "
        "With --render kubernetes: print the objects that do the same on a Kubernetes cluster; nothing is deployed. "
        "Exit 1: a node would be left out; nothing was changed. Exit 3: it was tried and did not work."
    )
    parser.add_argument(
        "name",
        metavar="NAME",
        nargs="?",
        default="",
        help="the service; with -f the stack (default: name: in it)",
    )
    parser.add_argument("place", metavar="PLACE", nargs="?", default="", help="an image in a registry")
    parser.add_argument(
        "-f", "--file", metavar="FILE", default="",
        help="deploy all services of a stack file, as docker stack deploy takes it (- for standard input)",
    )  # fmt: skip
    parser.add_argument("--remove", action="store_true", help="remove the service, or the stack, instead")
    parser.add_argument(
        "--mode", choices=("global", "replicated"), default=None,
        help="one task on every node (default for a new service), or as many as --replicas says",
    )  # fmt: skip
    parser.add_argument(
        "--replicas", metavar="N", type=int, default=None, help="tasks of a replicated service"
    )
    parser.add_argument(
        "-p", "--publish", metavar="PUB:TARGET", action="append", help="publish a port; may be repeated"
    )
    parser.add_argument(
        "--publish-mode", choices=("ingress", "host"), default="",
        help="over the routing mesh, or on each task's own node (default: the mesh where the kernel has IPVS)",
    )  # fmt: skip
    parser.add_argument(
        "--env", metavar="KEY=VALUE", action="append", help="environment variable; may be repeated"
    )
    parser.add_argument(
        "--constraint", metavar="EXPR", action="append", help="such as node.labels.zone==lab; may be repeated"
    )
    for kind, meaning in (("limit", "at most"), ("reserve", "kept for each task:")):
        parser.add_argument(
            f"--{kind}-cpu", metavar="N", default=None, help=f"{meaning} so many processors, such as 0.5"
        )
        parser.add_argument(
            f"--{kind}-memory", metavar="SIZE", default=None, help=f"{meaning} so much memory, such as 512m"
        )
    parser.add_argument(
        "--update-parallelism",
        metavar="N",
        type=int,
        default=None,
        help="tasks at a time (default: 1; 0: all)",
    )
    parser.add_argument(
        "--update-delay", metavar="SECONDS", type=float, default=None, help="between tasks (default: 0)"
    )
    parser.add_argument(
        "--with-registry-auth", action="store_true",
        help="give the nodes our credentials (default: only if the registry refuses those without)",
    )  # fmt: skip
    parser.add_argument(
        "--partial",
        action="store_true",
        help="accept that some nodes are left out, and keep it away from them",
    )
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=float, default=300.0, help="for all tasks to run (default: 300)"
    )
    parser.add_argument("--dry-run", action="store_true", help="only tell what would be done")
    parser.add_argument(
        "--prune",
        action="store_true",
        help="with -f: remove services of the stack that the file does not have",
    )
    parser.add_argument("--force", action="store_true", help="start all tasks anew even if nothing changed")
    parser.add_argument(
        "--render", choices=("kubernetes",), default="", metavar="kubernetes",
        help="print a DaemonSet or Deployment and a Service with node affinity instead",
    )  # fmt: skip


def run(args: argparse.Namespace, console: Console) -> int:
    """0 if everything runs."""
    from manyfest.cli.places import Places
    from manyfest.engines.docker import Docker

    if args.render:
        from manyfest.cli.kubernetes import refuse_options

        refuse_options(args)
    if args.timeout <= 0:
        raise InputError(f"--timeout {args.timeout:g}: expected seconds")
    if args.file:
        return _of_file(args, console)
    if args.prune:
        raise InputError("--prune: expected -f FILE too, which says what shall be left")
    if not args.name:
        raise InputError(
            "deploy what? expected a service and an image, or -f FILE", hint="manyfest deploy --help"
        )
    if args.remove:
        if args.place:
            raise InputError(f"--remove {args.name} {args.place}: expected the service alone")
        return _remove(args.name, console)
    if not args.place:
        raise InputError(f"deploy {args.name}: what? expected an image after the service's name")
    place = _in_registry(args.place)
    if args.render:
        from manyfest.cli.kubernetes import render

        with Places(args, console) as places:
            return render(args, console, places, place, _wish(args, _plain_ports(args)))
    with Docker() as engine, Places(args, console) as places:
        wish = _wish(args, _ports(args, engine, console) if args.publish else None)
        return _Deployment(args, console, engine, places, place, wish).run()


def _of_file(args: argparse.Namespace, console: Console) -> int:
    from manyfest.cli.places import Places
    from manyfest.cli.stacks import StackDeployment, read_stack, refuse_options, remove_stack
    from manyfest.engines.docker import Docker

    if args.render:
        raise InputError("--render kubernetes: not with -f", hint="render each service by its name and image")
    refuse_options(args)
    if args.remove:
        name = args.name or read_stack(args, console).name
        with Docker() as engine:
            return remove_stack(name, console, engine)
    stack = read_stack(args, console)
    with Docker() as engine, Places(args, console) as places:
        return StackDeployment(args, console, engine, places, stack).run()


class _Deployment:
    """One run: what was found out on the way is needed in several places."""

    def __init__(
        self,
        args: argparse.Namespace,
        console: Console,
        engine: Docker,
        places: Places,
        place: Place,
        wish: Wish,
    ) -> None:
        self.args, self.console, self.engine, self.places = args, console, engine, places
        self.place, self.wish = place, wish
        self.shown: dict[str, Any] = {}

    def run(self) -> int:
        from manyfest.deploy.sight import Target, ended, next_generation
        from manyfest.deploy.swarm import refuse_taken_ports, service_spec

        nodes = self._nodes()
        before = _existing(self.engine, self.wish.name)
        old = before["Spec"] if before else None
        image, placement = self._placement(nodes, old)
        generation = next_generation(before) if before else 0
        spec = service_spec(self.wish, image, placement, old, force=self.args.force, generation=generation)
        self._announce(image, placement, spec, before)
        if self.args.dry_run:
            self.console.result(self.shown, _plan_text(self.shown))
            return 0
        refuse_taken_ports(self.wish, self.engine.services())
        past = ended(self.engine.tasks(str(before["ID"]))) if before else ()
        service = self._change(spec, before)
        target = Target.of(service, spec, [node.id for node in placement.runs_on], past)
        return self._conclude(target, spec, placement, before)

    def _nodes(self) -> list[Node]:
        from manyfest.coverage.nodes import from_swarm

        return from_swarm(self.engine.nodes(), self.engine.tasks())

    def _placement(self, nodes: Sequence[Node], old: Mapping[str, Any] | None) -> tuple[str, Placement]:
        """The pinned name, and where it may go. Raises :class:`Refused` when that is not everywhere it should."""
        from manyfest.coverage.placement import SwarmConstraint
        from manyfest.deploy.place import place
        from manyfest.deploy.swarm import constraints_of
        from manyfest.indexes.listing import list_images

        source, name = self.places.source(str(self.place))
        document = source.resolve(name)
        given = self.wish.constraints if self.wish.constraints is not None else constraints_of(old or {})
        placement = place(
            list_images(source, document), nodes, [SwarmConstraint.parse(text) for text in given]
        )
        placement.require(self.args.place, partial=self.args.partial)
        return str(self.place.reference.with_digest(document.digest)), placement

    def _announce(
        self, image: str, placement: Placement, spec: Mapping[str, Any], before: Mapping[str, Any] | None
    ) -> None:
        for cell in placement.left_out:
            self.console.warn(f"{cell.node.name} is left out: {cell.reason}")
        for cell in placement.cells:
            if cell.state == "unknown":
                self.console.warn(f"{cell.node.name}: {cell.reason}")
        action = "create" if before is None else "unchanged" if before["Spec"] == spec else "update"
        mode = "global" if "Global" in spec["Mode"] else "replicated"
        self.shown = {
            "service": self.wish.name,
            "image": image,
            "action": action,
            "dry_run": self.args.dry_run,
            "mode": mode,
            "platforms": [f"{os}/{word}" for os, word in placement.platforms],
            "ports": [port_json(port) for port in (spec.get("EndpointSpec") or {}).get("Ports") or ()],
            "nodes": [cell_json(cell) for cell in placement.cells],
        }

    def _change(self, spec: Mapping[str, Any], before: Mapping[str, Any] | None) -> str:
        """Create or update; the service's id."""
        from manyfest.deploy.renewal import is_paused, renew
        from manyfest.deploy.swarm import engine_credentials

        if before is not None and self.shown["action"] == "unchanged":
            if is_paused(before):
                self.console.say(f"{self.wish.name}: its last update was stopped; Swarm goes on with it")
                renew(self.engine, str(before["ID"]))
            return str(before["ID"])
        reference = self.place.reference
        auth = engine_credentials(
            reference, self.places.session.settings, asked=self.args.with_registry_auth
        )  # fmt: skip
        if auth:
            self.console.say(f"{self.wish.name}: the nodes get our credentials for {reference.domain}")
        if before is None:
            return self.engine.create_service(spec, auth)
        self.engine.update_service(before, spec, auth)
        return str(before["ID"])

    def _conclude(
        self,
        target: Target,
        spec: Mapping[str, Any],
        placement: Placement,
        before: Mapping[str, Any] | None,
    ) -> int:
        from manyfest.deploy.converge import wait

        try:
            outcome = wait(
                self.engine, target, timeout_s=self.args.timeout, on_change=_line_teller(self.console)
            )  # fmt: skip
        except KeyboardInterrupt:
            self.console.tell(
                f"{self.wish.name}: interrupted while waiting; the service stays as it is now, and Swarm goes on with "
                f"it (docker service ps {self.wish.name})"
            )
            raise
        self.shown |= outcome_json(outcome)
        if outcome.ok:
            self._warn_of_ports(target.service, spec, placement)
            self.console.result(self.shown, _done_text(self.shown, outcome))
            return 0
        back = self._back(target, before)
        self.shown["rolled_back"] = back[0]
        if self.console.json:
            self.console.document(self.shown)
        raise DeployError(f"{failed_text(self.wish.name, outcome)}\n{back[1]}", hint=next_step([outcome]))

    def _warn_of_ports(self, service: str, spec: Mapping[str, Any], placement: Placement) -> None:
        """It has arrived as Swarm sees it; that nobody reaches it is not seen there."""
        from manyfest.deploy.swarm import without_ports

        try:
            silent = without_ports(spec, self.engine.tasks(service))
        except EngineError:
            return  # This was more than was asked for.
        for node in placement.runs_on:
            if node.id in silent:
                self.console.warn(
                    f"{node.name}: the task runs without its published port; the same with --force starts it anew"
                )

    def _back(self, target: Target, before: Mapping[str, Any] | None) -> tuple[bool, str]:
        """Undo, and say in words what there is now."""
        from manyfest.deploy.converge import undo
        from manyfest.deploy.sight import Target

        name = self.wish.name
        if before is not None and self.shown["action"] == "unchanged":
            return False, f"nothing had been changed, so {name} stays as it is"
        self.console.say(f"{name}: going back")
        old = None if before is None else before["Spec"]
        was = None if old is None else Target.of(target.service, old, target.nodes)
        try:
            undone = undo(self.engine, target.service, old, was, timeout_s=min(self.args.timeout, ROLLBACK_S))
        except (EngineError, NotFound) as error:
            # The reason for going back must not get lost over this one.
            return False, f"going back did not work either: {error}"
        if old is None or undone is None:
            return True, f"the service {name} was removed again"
        image = old["TaskTemplate"]["ContainerSpec"]["Image"]
        if undone.ok:
            return True, f"{name} runs {image} again, as before"
        return True, f"{name} is set back to {image}, which does not run everywhere either: {undone.reason}"


def _remove(name: str, console: Console) -> int:
    """Remove the service, or the stack of that name, and wait until its tasks are gone."""
    from manyfest.cli.stacks import remove_stack
    from manyfest.deploy.converge import POLL_S, Clock
    from manyfest.deploy.stack.apply import has_stack
    from manyfest.engines.docker import Docker

    clock = Clock()
    with Docker() as engine:
        found = _existing(engine, name)
        is_stack = has_stack(engine, name)
        if found is None and is_stack:
            return remove_stack(name, console, engine)
        if is_stack:
            raise Refused(
                f"there is a service {name} and a stack {name}: which of them?",
                hint=f"manyfest deploy --remove -f FILE {name} removes the stack, docker service rm {name} the service",
            )
        if found is None:
            raise NotFound(
                f"there is no service {name}", hint="docker service ls and docker stack ls show what there is"
            )
        service = found["ID"]
        engine.remove_service(service)
        until = clock.now() + REMOVE_S
        while (left := _alive(service, engine.tasks())) and clock.now() < until:
            clock.sleep(POLL_S)
    shown = {"service": name, "action": "remove", "ok": not left, "tasks_left": len(left)}
    if left:
        console.warn(f"{name}: {len(left)} of its tasks still run after {REMOVE_S:g} s")
    console.result(shown, f"{name}: removed")
    return 0


def _alive(service: str, tasks: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    from manyfest.deploy.sight import ended

    # Asked of all tasks: the engine does not filter by a service that is gone.
    mine = [task for task in tasks if task.get("ServiceID") == service]
    over = ended(mine)
    return [task for task in mine if task["ID"] not in over]


def _in_registry(text: str) -> Place:
    from manyfest.stores.places import Place

    place = Place.parse(text)
    if place.transport != "docker":
        raise InputError(
            f"{text}: nodes pull from a registry",
            hint=f"manyfest copy {text} REGISTRY/NAME:TAG, and deploy that",
        )
    return place


def _wish(args: argparse.Namespace, ports: Sequence[Port] | None) -> Wish:
    from manyfest.deploy.resources import Resources
    from manyfest.deploy.swarm import Wish

    if args.update_parallelism is not None and args.update_parallelism < 0:
        raise InputError(f"--update-parallelism {args.update_parallelism}: expected 0 or more")
    if args.update_delay is not None and args.update_delay < 0:
        raise InputError(f"--update-delay {args.update_delay:g}: expected seconds")
    return Wish(
        args.name,
        mode=args.mode,
        replicas=args.replicas,
        ports=ports,
        env=args.env,
        constraints=args.constraint,
        parallelism=args.update_parallelism,
        delay_s=args.update_delay,
        resources=Resources.of(
            limit_cpus=args.limit_cpu,
            limit_memory=args.limit_memory,
            reserve_cpus=args.reserve_cpu,
            reserve_memory=args.reserve_memory,
        ),
    )


def _plain_ports(args: argparse.Namespace) -> list[Port] | None:
    """Without looking at anybody's kernel."""
    from manyfest.deploy.swarm import Port

    if not args.publish:
        return None
    return [Port.parse(text, args.publish_mode or "ingress") for text in args.publish]


def _ports(args: argparse.Namespace, engine: Docker, console: Console) -> list[Port]:
    """The published ports, in the mode that works there."""
    from manyfest.deploy.swarm import Port, has_routing_mesh

    ports = [Port.parse(text) for text in args.publish]
    mesh = has_routing_mesh(engine.endpoint.url)
    mode = args.publish_mode or ("host" if mesh is False else "ingress")
    if mesh is False and args.publish_mode == "ingress":
        console.warn(
            "the kernel has no IPVS, so ports of the routing mesh will not answer; --publish-mode host does"
        )
    elif mesh is False and not args.publish_mode:
        console.say(
            "the kernel has no IPVS, so no routing mesh: each node answers for its own task (host mode)"
        )
    elif mesh is None and not args.publish_mode:
        console.say("the manager's kernel cannot be seen from here: taking the routing mesh (ingress)")
    return [port.replace(mode=mode) for port in ports]


def _existing(engine: Docker, name: str) -> dict[str, Any] | None:
    try:
        found = engine.service(name)
    except NotFound:
        return None
    # The engine also takes the beginning of an id for a name.
    return found if found["Spec"]["Name"] == name else None


def _line_teller(console: Console) -> Callable[[str, str, str], None]:
    return lambda node, state, detail: console.say(f"{node}: {state}{f': {detail}' if detail else ''}")


def _plan_text(shown: Mapping[str, Any]) -> str:
    rows = [
        (node["name"], node["machine"], node["state"], node["platform"] or "-", node["reason"])
        for node in shown["nodes"]
    ]
    ports = ", ".join(f"{p['published']}:{p['target']}/{p['protocol']} ({p['mode']})" for p in shown["ports"])
    lines = [
        table(("NODE", "KERNEL", "STATE", "PLATFORM", "WHY"), rows),
        "",
        f"would {shown['action'].replace('unchanged', 'leave unchanged')}: {shown['service']} ({shown['mode']})",
        f"image: {shown['image']}",
        f"Swarm is told: {', '.join(shown['platforms']) or 'no platforms'}",
        *([f"ports: {ports}"] if ports else []),
    ]
    return "\n".join(lines)


def _done_text(shown: Mapping[str, Any], outcome: Outcome) -> str:
    verb = {"create": "created", "update": "updated", "unchanged": "unchanged"}[shown["action"]]
    count = f"{outcome.seen.running} of {outcome.seen.expected} tasks run"
    return f"{shown['service']}: {verb}, {count}, {shown['image']}"
