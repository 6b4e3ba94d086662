# SPDX-License-Identifier: Apache-2.0
"""``manyfest deploy -f stack.yaml``: all services of a stack file, on the nodes that can have each."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from manyfest.cli.outcomes import cell_json, failed_text, next_step, outcome_json, port_json
from manyfest.cli.render import table
from manyfest.errors import DeployError, EngineError, Error, InputError, InvalidSpec, NotFound, Refused

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence
    from typing import Any

    from manyfest.cli.console import Console
    from manyfest.cli.places import Places
    from manyfest.coverage.nodes import Node
    from manyfest.deploy.converge import Outcome
    from manyfest.deploy.place import Placement
    from manyfest.deploy.stack.apply import Book
    from manyfest.deploy.stack.file import Service, Stack
    from manyfest.deploy.stack.plan import PartStep, ServiceStep, Standing
    from manyfest.engines.docker import Docker
    from manyfest.indexes.listing import Listing
    from manyfest.stores.places import Place

__all__ = ["StackDeployment", "read_stack", "refuse_options", "remove_stack"]

ROLLBACK_S = 60.0
"""Seconds that going back may take; by then the reason is told anyway."""

_OF_SERVICES = (
    "mode", "replicas", "publish", "publish_mode", "env", "constraint", "limit_cpu", "limit_memory", "reserve_cpu",
    "reserve_memory", "update_parallelism", "update_delay",
)  # fmt: skip


def refuse_options(args: argparse.Namespace) -> None:
    """Raises :class:`InputError` for what the file says by itself."""
    for name in _OF_SERVICES:
        if getattr(args, name):
            raise InputError(
                f"--{name.replace('_', '-')}: not with -f, where the file says it for each service"
            )
    if args.place:
        raise InputError(f"-f {args.file} {args.name} {args.place}: expected one name, that of the stack")


def read_stack(args: argparse.Namespace, console: Console) -> Stack:
    """The file, with the variables of our environment. Raises :class:`InputError`."""
    from manyfest.deploy.stack.file import read

    return read(args.file, args.name, dict(os.environ), console.warn)


class StackDeployment:
    """One run: what was found out on the way is needed in several places."""

    def __init__(
        self, args: argparse.Namespace, console: Console, engine: Docker, places: Places, stack: Stack
    ) -> None:
        self.args, self.console, self.engine, self.places = args, console, engine, places
        self.stack = stack
        self.shown: dict[str, Any] = {}

    def run(self) -> int:
        """0 if everything runs."""
        from manyfest.coverage.nodes import from_swarm
        from manyfest.deploy.stack.apply import remove_services
        from manyfest.deploy.stack.plan import Standing, part_steps, prunable, refuse_taken_ports

        nodes = from_swarm(self.engine.nodes(), self.engine.tasks())
        standing = Standing.of(self.engine)
        parts = part_steps(self.stack, standing)
        steps = self._steps(nodes, standing)
        refuse_taken_ports(self.stack, standing)
        surplus = prunable(self.stack, standing) if self.args.prune else []
        self._announce(parts, steps, [str(each["Spec"]["Name"]) for each in surplus])
        self._warn_of_mesh(steps)
        if self.args.dry_run:
            self.console.result(self.shown, _plan_text(self.shown))
            return 0
        self._deploy(parts, steps)
        remove_services(self.engine, surplus)
        self.console.result(self.shown, _done_text(self.shown))
        return 0

    def _deploy(self, parts: Sequence[PartStep], steps: Sequence[ServiceStep]) -> None:
        """Raises :class:`DeployError` when it did not work and was taken back."""
        from manyfest.deploy.stack.apply import Book, change
        from manyfest.deploy.stack.watch import wait_for_all

        auths = {step.service.name: self._auth(step) for step in steps if step.action != "unchanged"}
        book = Book()
        try:
            change(self.engine, parts, steps, lambda step: auths[step.service.name], book)
            outcomes = wait_for_all(
                self.engine, book.targets, timeout_s=self.args.timeout, on_change=self._say_line
            )  # fmt: skip
        except KeyboardInterrupt:
            self.console.tell(
                f"{self.stack.name}: interrupted; what was changed stays as it is now, and Swarm goes on with it "
                f"(docker stack ps {self.stack.name})"
            )
            raise
        except (EngineError, NotFound) as error:
            raise self._given_up(book, {}, str(error), error.hint) from error
        failed = {name: outcome for name, outcome in outcomes.items() if not outcome.ok}
        if failed:
            reasons = "\n".join(failed_text(name, outcome) for name, outcome in failed.items())
            raise self._given_up(book, outcomes, reasons, next_step(list(failed.values())))
        self._record(outcomes, ok=True)

    def _given_up(self, book: Book, outcomes: Mapping[str, Outcome], reason: str, hint: str) -> DeployError:
        """The error to raise, when everything is taken back."""
        self._record(outcomes, ok=False)
        back = self._back(book)
        if self.console.json:
            self.console.document(self.shown)
        return DeployError(f"{reason}\n{back}", hint=hint)

    def _say_line(self, service: str, node: str, state: str, detail: str) -> None:
        self.console.say(f"{service}: {node}: {state}{f': {detail}' if detail else ''}")

    def _auth(self, step: ServiceStep) -> str:
        """Before anything is changed: who is not logged in shall hear of it then."""
        from manyfest.deploy.swarm import engine_credentials

        reference = _place(step.service).reference
        asked = self.args.with_registry_auth
        auth = engine_credentials(reference, self.places.session.settings, asked=asked)
        if auth:
            self.console.say(f"{step.service.name}: the nodes get our credentials for {reference.domain}")
        return auth

    def _record(self, outcomes: Mapping[str, Outcome], *, ok: bool) -> None:
        for each in self.shown["services"]:
            outcome = outcomes.get(each["service"])
            there = {} if outcome is None else outcome_json(outcome)
            each |= {key: there.get(key) for key in ("ok", "seconds", "running", "expected", "failures")}
        self.shown |= {
            "ok": ok,
            "seconds": max((round(outcome.seconds, 1) for outcome in outcomes.values()), default=0.0),
            "rolled_back": False,
        }

    def _back(self, book: Book) -> str:
        """Undo, and say in words what there is now."""
        from manyfest.deploy.stack.apply import undo

        if book.is_empty:
            return f"nothing had been changed, so {self.stack.name} stays as it is"
        self.console.say(f"{self.stack.name}: going back")
        troubles = undo(self.engine, book, timeout_s=min(self.args.timeout, ROLLBACK_S))
        self.shown["rolled_back"] = not troubles
        if troubles:
            return "\n".join(("going back did not work for all:", *(f"  {text}" for text in troubles)))
        removed = [name for name, _, before in book.services if before is None]
        removed += [f"{kind.removesuffix('s')} {name}" for kind, name, _ in book.parts]
        kept = [name for name, _, before in book.services if before is not None]
        said = [f"removed again: {', '.join(removed)}"] if removed else []
        said += [f"as before: {', '.join(kept)}"] if kept else []
        return "; ".join(said)

    def _steps(self, nodes: Sequence[Node], standing: Standing) -> list[ServiceStep]:
        """What each service shall be. Raises :class:`Refused` when one would leave a node out, for all that would."""
        from manyfest.deploy.stack.plan import service_step

        read = self._read()
        steps, refusals = [], []
        for service in self.stack.services:
            place, listing = read[service.key]
            placement = _placed(service, listing, nodes)
            image = str(place.reference.with_digest(listing.digest))
            try:
                # One task finds a node that can have it; a global service shall be on all of them.
                is_global = "Global" in service.spec["Mode"]
                placement.require(service.image, partial=self.args.partial or not is_global)
            except Refused as error:
                refusals.append((service, error))
                continue
            steps.append(
                service_step(service, image, placement, standing, self.stack.name, force=self.args.force)
            )
        if refusals:
            text = "\n".join(
                f"{service.where}: service {service.key}: {error}" for service, error in refusals
            )
            raise Refused(text, hint=refusals[0][1].hint)
        return steps

    def _read(self) -> dict[str, tuple[Place, Listing]]:
        """Every image, side by side. Raises the first one's error, with what is wrong with all."""
        from manyfest.stores.pool import Pool

        places = {service.key: _place(service) for service in self.stack.services}
        opened = {key: self.places.source(str(place)) for key, place in places.items()}

        def ask(service: Service) -> Listing | Error:
            from manyfest.indexes.listing import list_images

            source, name = opened[service.key]
            try:
                return list_images(source, source.resolve(name))
            except Error as error:
                return error

        found = Pool().map(ask, self.stack.services)
        wrong = [(s, e) for s, e in zip(self.stack.services, found, strict=True) if isinstance(e, Error)]
        if wrong:
            text = "\n".join(f"{service.where}: service {service.key}: {error}" for service, error in wrong)
            raise type(wrong[0][1])(text, hint=wrong[0][1].hint)
        return {
            service.key: (places[service.key], listing)
            for service, listing in zip(self.stack.services, found, strict=True)
            if not isinstance(listing, Error)
        }

    def _announce(
        self, parts: Sequence[PartStep], steps: Sequence[ServiceStep], surplus: Sequence[str]
    ) -> None:
        for step in steps:
            for cell in step.placement.left_out:
                self.console.warn(f"{step.service.name}: {cell.node.name} is left out: {cell.reason}")
            for cell in step.placement.cells:
                if cell.state == "unknown":
                    self.console.warn(f"{step.service.name}: {cell.node.name}: {cell.reason}")
        for each in parts:
            if each.note:
                self.console.warn(each.note)
        self.shown = {
            "stack": self.stack.name,
            "action": "deploy",
            "dry_run": self.args.dry_run,
            "parts": [
                {"kind": each.part.kind.removesuffix("s"), "name": each.part.name, "action": each.action}
                for each in parts
            ],
            "services": [_service_json(step) for step in steps],
            "pruned": list(surplus),
        }

    def _warn_of_mesh(self, steps: Sequence[ServiceStep]) -> None:
        from manyfest.deploy.swarm import has_routing_mesh

        if has_routing_mesh(self.engine.endpoint.url) is not False:
            return
        meshed = [step.service.name for step in steps if _has_mesh_ports(step.spec)]
        virtual = [step.service.name for step in steps if _is_virtual(step.spec)]
        if meshed:
            self.console.warn(
                f"the kernel has no IPVS, so ports of the routing mesh will not answer: {', '.join(meshed)}; "
                "write them as {target: 80, published: 8080, mode: host}"
            )
        if virtual:
            self.console.warn(
                f"the kernel has no IPVS, so the names of these services lead nowhere: {', '.join(virtual)}; "
                "deploy: {endpoint_mode: dnsrr} makes them lead to the tasks"
            )


def remove_stack(name: str, console: Console, engine: Docker) -> int:
    """Everything that carries its label, docker's own doing included. 0."""
    from manyfest.deploy.stack.apply import REMOVE_S, remove_all

    services, parts, left = remove_all(engine, name)
    if left:
        console.warn(f"{name}: {left} of its tasks still run after {REMOVE_S:g} s")
    shown = {
        "stack": name,
        "action": "remove",
        "ok": not left,
        "removed": [*services, *parts],
        "tasks_left": left,
    }
    console.result(shown, f"{name}: removed {', '.join((*services, *parts))}")
    return 0


def _place(service: Service) -> Place:
    from manyfest.stores.places import Place

    try:
        place = Place.parse(f"docker://{service.image}")
    except InputError as error:
        raise InvalidSpec(f"{service.where}: service {service.key}: {error}", hint=error.hint) from error
    return place


def _placed(service: Service, listing: Listing, nodes: Sequence[Node]) -> Placement:
    from manyfest.coverage.placement import SwarmConstraint
    from manyfest.deploy.place import place

    given = (service.spec["TaskTemplate"].get("Placement") or {}).get("Constraints") or ()
    return place(listing, nodes, [SwarmConstraint.parse(text) for text in given])


def _has_mesh_ports(spec: dict[str, Any]) -> bool:
    ports = (spec.get("EndpointSpec") or {}).get("Ports") or ()
    return any(port.get("PublishMode", "ingress") == "ingress" for port in ports)


def _is_virtual(spec: dict[str, Any]) -> bool:
    return (
        bool(spec["TaskTemplate"].get("Networks")) and (spec.get("EndpointSpec") or {}).get("Mode") != "dnsrr"
    )


def _service_json(step: ServiceStep) -> dict[str, Any]:
    ports = (step.spec.get("EndpointSpec") or {}).get("Ports") or ()
    mode = step.spec["Mode"]
    return {
        "service": step.service.name,
        "action": step.action,
        "image": step.spec["TaskTemplate"]["ContainerSpec"]["Image"],
        "mode": "global" if "Global" in mode else "replicated",
        "replicas": None if "Global" in mode else mode["Replicated"].get("Replicas"),
        "platforms": [f"{os}/{word}" for os, word in step.placement.platforms],
        "ports": [port_json(port) for port in ports],
        "nodes": [cell_json(cell) for cell in step.placement.cells],
    }


def _plan_text(shown: dict[str, Any]) -> str:
    rows = [
        (
            each["service"],
            each["action"],
            each["mode"] if each["replicas"] is None else f"{each['replicas']} replicas",
            ", ".join(
                node["name"] for node in each["nodes"] if node["state"] in ("native", "emulated", "unknown")
            ),
            each["image"],
        )
        for each in shown["services"]
    ]
    lines = [table(("SERVICE", "ACTION", "MODE", "NODES", "IMAGE"), rows), ""]
    for word in ("create", "update"):
        made = [f"{part['kind']} {part['name']}" for part in shown["parts"] if part["action"] == word]
        lines += [f"would {word}: {', '.join(made)}"] if made else []
    lines += [f"would remove: {', '.join(shown['pruned'])}"] if shown["pruned"] else []
    return "\n".join(lines).rstrip("\n")


def _done_text(shown: Mapping[str, Any]) -> str:
    verbs = {"create": "created", "update": "updated", "unchanged": "unchanged"}
    lines = [
        f"{each['service']}: {verbs[each['action']]}, {each['running'] or 0} of {each['expected'] or 0} tasks run, "
        f"{each['image']}"
        for each in shown["services"]
    ]
    lines += [f"{name}: removed, the file does not have it" for name in shown["pruned"]]
    return "\n".join(lines)
