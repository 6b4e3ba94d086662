# SPDX-License-Identifier: Apache-2.0
"""What a service of Docker Swarm shall be, in the words of the Engine API. Swarm schedules; nothing here does.

https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Service
"""

from __future__ import annotations

import base64
import copy
import json
import os
import re
import sys
from typing import TYPE_CHECKING

from manyfest.coverage.placement import SwarmConstraint
from manyfest.deploy.resources import Resources
from manyfest.errors import AuthRequired, Forbidden, InputError, Refused
from manyfest.values import Value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from manyfest.deploy.place import Placement
    from manyfest.reference import Reference
    from manyfest.stores.registry.session import Session
    from manyfest.stores.registry.settings import Settings

__all__ = [
    "APART",
    "Port",
    "Wish",
    "constraints_of",
    "engine_credentials",
    "has_routing_mesh",
    "refuse_taken_ports",
    "service_spec",
    "without_ports",
]

APART = "io.manyfest.apart"
"""The label with the constraints that were added for nodes that Swarm cannot tell apart by their platform."""

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")
_NANO = 1_000_000_000


class Port(Value):
    """A published port. ``mode`` is ``ingress`` (every node answers, over the routing mesh) or ``host``."""

    __slots__ = ("mode", "protocol", "published", "target")
    published: int
    target: int
    protocol: str
    mode: str

    def __init__(self, published: int, target: int, protocol: str = "tcp", mode: str = "ingress") -> None:
        self._set(published=published, target=target, protocol=protocol, mode=mode)

    @classmethod
    def parse(cls, text: str, mode: str = "ingress") -> Port:
        """``8082:8080``, ``8082:8080/udp``, or ``8080`` for the same on both sides. Raises :class:`InputError`."""
        found = re.fullmatch(r"(?:(\d{1,5}):)?(\d{1,5})(?:/(tcp|udp|sctp))?", text)
        if found is None:
            raise InputError(
                f"{text!r}: expected a port as PUBLISHED:TARGET[/tcp|udp|sctp], such as 8082:8080"
            )
        target = int(found[2])
        published = int(found[1]) if found[1] else target
        for number in (published, target):
            if not 1 <= number <= 65535:
                raise InputError(f"{text!r}: {number} is no port, expected 1 to 65535")
        return cls(published, target, found[3] or "tcp", mode)

    def to_json(self) -> dict[str, Any]:
        """As the Engine API has it."""
        return {
            "Protocol": self.protocol,
            "TargetPort": self.target,
            "PublishedPort": self.published,
            "PublishMode": self.mode,
        }

    def __str__(self) -> str:
        return f"{self.published}:{self.target}/{self.protocol} ({self.mode})"


class Wish(Value):
    """What the user says of a service; ``None`` leaves a service that is there as it is in that respect.

    ``mode`` is ``global`` or ``replicated``; delays are in seconds.
    """

    __slots__ = (
        "constraints", "delay_s", "env", "mode", "name", "parallelism", "ports", "replicas", "resources",
    )  # fmt: skip
    name: str
    mode: str | None
    replicas: int | None
    ports: tuple[Port, ...] | None
    env: tuple[str, ...] | None
    constraints: tuple[str, ...] | None
    parallelism: int | None
    delay_s: float | None
    resources: Resources

    def __init__(
        self,
        name: str,
        *,
        mode: str | None = None,
        replicas: int | None = None,
        ports: Sequence[Port] | None = None,
        env: Sequence[str] | None = None,
        constraints: Sequence[str] | None = None,
        parallelism: int | None = None,
        delay_s: float | None = None,
        resources: Resources | None = None,
    ) -> None:
        """Raises :class:`InputError` for what Swarm would refuse, before anything is asked of it."""
        if not _NAME.fullmatch(name):
            raise InputError(f"{name!r} is no service name: expected letters, digits, - and _, at most 63")
        if replicas is not None and (replicas < 1 or mode == "global"):
            raise InputError(
                f"--replicas {replicas}: expected 1 or more, of a replicated service",
                hint="a global service has one task a node; add --mode replicated",
            )
        for text in env or ():
            if not text.partition("=")[0]:
                raise InputError(f"{text!r}: expected an environment variable as KEY=VALUE")
        for text in constraints or ():
            SwarmConstraint.parse(text)
        self._set(
            name=name,
            mode="replicated" if mode is None and replicas is not None else mode,
            replicas=replicas,
            ports=None if ports is None else tuple(ports),
            env=None if env is None else tuple(env),
            constraints=None if constraints is None else tuple(constraints),
            parallelism=parallelism,
            delay_s=delay_s,
            resources=resources or Resources(),
        )


def service_spec(
    wish: Wish,
    image: str,
    placement: Placement,
    before: Mapping[str, Any] | None = None,
    *,
    force: bool = False,
    generation: int = 1,
) -> dict[str, Any]:
    """The API's ServiceSpec. ``image`` is pinned; ``before`` is the spec of the service that is there.

    What changes tasks also sets ``ForceUpdate`` to ``generation``, by which the tasks of this deployment are told from
    older ones: :func:`~manyfest.deploy.converge.next_generation`.
    Raises :class:`InputError` for a change of mode, which Swarm has not.
    """
    spec: dict[str, Any] = copy.deepcopy(dict(before)) if before is not None else {"Name": wish.name}
    spec["Mode"] = _mode(wish, spec.get("Mode"))
    template = spec.setdefault("TaskTemplate", {})
    container = template.setdefault("ContainerSpec", {})
    container["Image"] = image
    if wish.env is not None:
        container["Env"] = list(wish.env)
    if limits := wish.resources.to_swarm():
        had = template.get("Resources") or {}
        template["Resources"] = had | {key: {**(had.get(key) or {}), **said} for key, said in limits.items()}
    given = wish.constraints if wish.constraints is not None else constraints_of(spec)
    apart = placement.constraints()
    where = {
        "Constraints": [*given, *apart],
        "Platforms": [{"OS": os, "Architecture": word} for os, word in placement.platforms],
    }
    # The API leaves out what is empty, and what is compared with its answer has to do the same.
    kept = {key: value for key, value in (template.get("Placement") or {}).items() if key not in where}
    template["Placement"] = kept | {key: value for key, value in where.items() if value}
    labels = {key: text for key, text in (spec.get("Labels") or {}).items() if key != APART}
    spec["Labels"] = {**labels, APART: " ".join(apart)} if apart else labels
    if wish.ports is not None:
        endpoint = spec.setdefault("EndpointSpec", {})
        endpoint["Ports"] = [port.to_json() for port in wish.ports]
    _rolling(wish, spec)
    if before is not None and (force or _changes_tasks(before, spec)):
        template["ForceUpdate"] = generation
    return spec


def constraints_of(spec: Mapping[str, Any]) -> list[str]:
    """The constraints that somebody wrote, without those that a deployment added."""
    ours = str((spec.get("Labels") or {}).get(APART, "")).split()
    found = ((spec.get("TaskTemplate") or {}).get("Placement") or {}).get("Constraints") or []
    return [text for text in found if text not in ours]


def _mode(wish: Wish, before: Mapping[str, Any] | None) -> dict[str, Any]:
    kind = "replicated" if before is not None and "Replicated" in before else "global"
    if before is not None and wish.mode not in (None, kind):
        raise InputError(
            f"the service {wish.name} is {kind}, and Swarm cannot make it {wish.mode}",
            hint=f"manyfest deploy --remove {wish.name}, then deploy it again; or take another name",
        )
    if (wish.mode or kind) == "global":
        return {"Global": {}}
    had = (before or {}).get("Replicated") or {}
    return {"Replicated": {"Replicas": wish.replicas or int(had.get("Replicas") or 1)}}


def _rolling(wish: Wish, spec: dict[str, Any]) -> None:
    """How an update goes from task to task: it stops at the first failure, and the deployment takes it back."""
    config = spec.setdefault("UpdateConfig", {"Parallelism": 1, "Order": "stop-first"})
    config["FailureAction"] = "pause"
    if wish.parallelism is not None:
        config["Parallelism"] = wish.parallelism
    if wish.delay_s is not None:
        config["Delay"] = int(wish.delay_s * _NANO)


def _changes_tasks(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    return any(
        (before.get(part) or {}) != (after.get(part) or {}) for part in ("TaskTemplate", "EndpointSpec")
    )


def refuse_taken_ports(wish: Wish, services: Sequence[Mapping[str, Any]]) -> None:
    """Raises :class:`Refused` when another service publishes one of the ports."""
    wanted = {(port.published, port.protocol): port for port in wish.ports or ()}
    for service in services:
        spec = service.get("Spec") or {}
        if spec.get("Name") == wish.name:
            continue
        for port in (spec.get("EndpointSpec") or {}).get("Ports") or ():
            if (port.get("PublishedPort"), port.get("Protocol")) in wanted:
                raise Refused(
                    f"port {port['PublishedPort']}/{port['Protocol']} is published by the service {spec.get('Name')}",
                    hint="choose another: -p PUBLISHED:TARGET",
                )


def without_ports(spec: Mapping[str, Any], tasks: Sequence[Mapping[str, Any]]) -> list[str]:
    """The ids of nodes whose running task of a service has not the ports in host mode that it should have.

    Swarm calls such a task running. It is seen when an engine was killed while the task was starting.
    """
    ports = (spec.get("EndpointSpec") or {}).get("Ports") or ()
    wanted = {port["TargetPort"] for port in ports if port.get("PublishMode") == "host"}
    generation = int(spec["TaskTemplate"].get("ForceUpdate") or 0)
    found = []
    for task in tasks:
        status = task["Status"]
        if status.get("State") != "running" or task.get("DesiredState") != "running":
            continue
        has = {port.get("TargetPort") for port in (status.get("PortStatus") or {}).get("Ports") or ()}
        if int(task["Spec"].get("ForceUpdate") or 0) == generation and wanted - has:
            found.append(str(task.get("NodeID")))
    return found


def has_routing_mesh(url: str, proc: str = "/proc", modules: str = "/lib/modules") -> bool | None:
    """Can the kernel of the engine at ``url`` do what ingress ports need (IPVS)? ``None`` when it cannot be seen.

    Without it Swarm takes an ingress port, says nothing, and nobody ever answers there.
    """
    if not url.startswith("unix://") or sys.platform != "linux":
        return None
    if os.path.exists(f"{proc}/net/ip_vs"):
        return True
    for name in ("modules.builtin", "modules.dep"):
        try:
            with open(f"{modules}/{os.uname().release}/{name}", encoding="utf-8") as file:
                if any("/ip_vs.ko" in line.partition(":")[0] for line in file):
                    return True
        except OSError:
            continue
    return False


def engine_credentials(reference: Reference, settings: Settings, *, asked: bool) -> str:
    """The value of ``X-Registry-Auth`` for the nodes: when asked for, or when the registry gives nothing to nobody.

    Empty when there is nothing to send. Raises :class:`InputError` when asked for and there are none.
    """
    from manyfest.stores.registry.credentials import Keychain, config_key

    keys = Keychain(
        settings.docker_config, username=settings.username or "", password=settings.password or ""
    )
    found = keys.lookup(reference.domain, reference.path)
    if found.is_anonymous:
        if asked:
            raise InputError(
                f"--with-registry-auth: {found.source}", hint=f"manyfest login {reference.domain}"
            )
        return ""
    if not asked and not _needs_credentials(reference, settings):
        return ""
    fields = {
        "username": found.username,
        "password": found.password,
        "identitytoken": found.identity_token,
        "registrytoken": found.registry_token,
        "serveraddress": config_key(reference.domain),
    }
    text = json.dumps({key: value for key, value in fields.items() if value})
    return base64.urlsafe_b64encode(text.encode()).decode()


def _needs_credentials(reference: Reference, settings: Settings) -> bool:
    """Does the registry refuse one who has none? Secrets are not spread for nothing: a swarm keeps them."""
    from manyfest.stores.places import Place, open_source

    with (
        _anonymous(settings) as session,
        open_source(Place.parse(f"docker://{reference}"), session) as source,
    ):
        try:
            source.peek(reference.target)
        except (AuthRequired, Forbidden):
            return True
    return False


def _anonymous(settings: Settings) -> Session:
    """A conversation in which nothing that is stored is shown."""
    from manyfest.stores.registry.auth import Authenticator
    from manyfest.stores.registry.credentials import Credentials, Keychain
    from manyfest.stores.registry.session import Session

    class NoKeys(Keychain):
        def lookup(self, host: str, repository: str = "", *, stored_only: bool = False) -> Credentials:  # noqa: ARG002
            return Credentials(source="nobody's, on purpose")

    class Anonymous(Session):
        def _auth(self) -> Authenticator:
            return Authenticator(self._ask_token_server, NoKeys(""), self._clock)

    return Anonymous(settings.replace(username=None, password=None, on_warning=None))
