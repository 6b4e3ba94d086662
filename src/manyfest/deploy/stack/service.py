# SPDX-License-Identifier: Apache-2.0
"""One service of a stack file as the Engine API's ServiceSpec, key by key as docker's own client makes it.

https://github.com/docker/cli/blob/v20.10.24/cli/compose/convert/service.go
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from manyfest.coverage.placement import SwarmConstraint
from manyfest.deploy.stack.container import container_spec, kept
from manyfest.deploy.stack.parts import NAMESPACE, refuse_unknown
from manyfest.deploy.stack.ports import ports_of
from manyfest.errors import InvalidSpec

if TYPE_CHECKING:
    from typing import Any

    from manyfest.coverage.marked import Marked
    from manyfest.deploy.stack.container import Surroundings
    from manyfest.deploy.stack.parts import Parts
    from manyfest.deploy.stack.scalars import Scalars

__all__ = ["DROPPED", "IMAGE", "KEYS", "service_spec"]

IMAGE = "com.docker.stack.image"
"""The label with the image as it stands in the file."""

KEYS = (
    "cap_add", "cap_drop", "command", "configs", "credential_spec", "deploy", "dns", "dns_search", "entrypoint",
    "env_file", "environment", "extra_hosts", "healthcheck", "hostname", "image", "init", "isolation", "labels",
    "logging", "networks", "ports", "read_only", "restart", "secrets", "stdin_open", "stop_grace_period",
    "stop_signal", "sysctls", "tty", "ulimits", "user", "volumes", "working_dir",
)  # fmt: skip
"""What becomes part of the specification."""

DROPPED = {
    **dict.fromkeys(
        (
            "build", "cgroup_parent", "cgroupns_mode", "devices", "domainname", "external_links", "ipc", "links",
            "mac_address", "network_mode", "pid", "privileged", "security_opt", "shm_size", "userns_mode",
        ),
        "Swarm has nothing for it",
    ),
    "container_name": "Swarm names containers by itself",
    "depends_on": "Swarm starts all services at once",
    "expose": "services of a network reach every port of each other",
    "tmpfs": "docker stack deploy drops it; a volume of type tmpfs does it",
}  # fmt: skip
"""What is left out, and why; it is said."""

_DEPLOY = (
    "endpoint_mode", "labels", "mode", "placement", "replicas", "resources", "restart_policy", "rollback_config",
    "update_config",
)  # fmt: skip
_UPDATE = ("parallelism", "delay", "failure_action", "monitor", "max_failure_ratio", "order")
_CONDITIONS = {"none": "none", "on-failure": "on-failure", "any": "any", "": ""}


def service_spec(name: str, item: Marked, scalars: Scalars, around: Surroundings) -> dict[str, Any]:
    """Empty values left out. Networks, secrets and configs are named by name, which the engine wants as ids.

    Raises :class:`InvalidSpec` with line and column.
    """
    deploy = item["deploy"]
    refuse_unknown(deploy, _DEPLOY)
    image = scalars.text(item["image"], "the name of an image")
    if not image:
        raise InvalidSpec(
            f"{item.where}: service {name} has no image", hint="a stack runs images that are there"
        )
    template = {
        "ContainerSpec": container_spec(item, scalars, around, image),
        "LogDriver": _logging(item["logging"], scalars),
        "Resources": _resources(deploy["resources"], scalars),
        "RestartPolicy": _restart(item["restart"], deploy["restart_policy"], scalars),
        "Placement": _placement(deploy["placement"], scalars),
        "Networks": _networks(name, item["networks"], scalars, around.networks),
    }
    spec = {
        "Name": f"{around.stack}_{name}",
        "Labels": {**scalars.labels(deploy["labels"]), NAMESPACE: around.stack, IMAGE: image},
        "TaskTemplate": kept(template),
        "Mode": _mode(deploy, scalars),
        "UpdateConfig": _update(deploy["update_config"], scalars),
        "RollbackConfig": _update(deploy["rollback_config"], scalars),
    }
    # Written also when it is empty, as docker does: engines show something else where it is missing.
    return kept(spec) | {"EndpointSpec": _endpoint(item, deploy, scalars)}


def _logging(item: Marked, scalars: Scalars) -> dict[str, Any]:
    refuse_unknown(item, ("driver", "options"))
    return kept({"Name": scalars.text(item["driver"]), "Options": scalars.options(item["options"])})


def _resources(item: Marked, scalars: Scalars) -> dict[str, Any]:
    refuse_unknown(item, ("limits", "reservations"))
    limits, reserved = item["limits"], item["reservations"]
    refuse_unknown(limits, ("cpus", "memory", "pids"))
    refuse_unknown(reserved, ("cpus", "memory", "generic_resources"))
    generic = []
    for each in reserved["generic_resources"].items("a list of resources"):
        discrete = each["discrete_resource_spec"]
        kind, value = scalars.text(discrete["kind"]), scalars.number(discrete["value"])
        if not kind or value is None:
            each.refuse("discrete_resource_spec with kind and value")
        generic.append({"DiscreteResourceSpec": {"Kind": kind, "Value": value}})
    said = {
        "Limits": kept(
            {
                "NanoCPUs": scalars.processors(limits["cpus"]),
                "MemoryBytes": scalars.memory(limits["memory"]),
                "Pids": scalars.number(limits["pids"]),
            }
        ),
        "Reservations": kept(
            {
                "NanoCPUs": scalars.processors(reserved["cpus"]),
                "MemoryBytes": scalars.memory(reserved["memory"]),
                "GenericResources": generic,
            }
        ),
    }
    return {word: said[word] for word in said if item[word.lower()].is_there}


def _restart(item: Marked, policy: Marked, scalars: Scalars) -> dict[str, Any]:
    """Of ``deploy``, else what ``restart`` means to Swarm: nothing said is its own default, to restart always."""
    refuse_unknown(policy, ("condition", "delay", "max_attempts", "window"))
    if policy.is_there:
        condition = scalars.text(policy["condition"])
        if condition not in _CONDITIONS:
            scalars.refuse(policy["condition"], "none, on-failure or any")
        return kept(
            {
                "Condition": condition,
                "Delay": scalars.duration(policy["delay"]),
                "MaxAttempts": scalars.number(policy["max_attempts"]),
                "Window": scalars.duration(policy["window"]),
            }
        )
    text = scalars.text(item, "a policy")
    kind, _, times = text.partition(":")
    if not re.fullmatch(r"(no|always|unless-stopped|on-failure(:\d{1,9})?)?", text):
        scalars.refuse(item, "no, always, unless-stopped or on-failure[:TIMES]")
    if kind == "no":
        scalars.warn(
            f"{item.where}: {item.path}: Swarm restarts it all the same; deploy.restart_policy says so"
        )
    if kind in ("", "no"):
        return {}
    if kind == "on-failure":
        return {"Condition": "on-failure", "MaxAttempts": int(times or 0)}
    return {"Condition": "any"}


def _placement(item: Marked, scalars: Scalars) -> dict[str, Any]:
    refuse_unknown(item, ("constraints", "preferences", "max_replicas_per_node"))
    constraints = []
    for each in item["constraints"].items("a list of constraints"):
        constraints.append(scalars.text(each))
        try:
            SwarmConstraint.parse(constraints[-1])
        except InvalidSpec as error:
            raise InvalidSpec(f"{each.where}: {error}") from error
    spreads = []
    for each in item["preferences"].items("a list of preferences"):
        refuse_unknown(each, ("spread",))
        spreads.append({"Spread": {"SpreadDescriptor": scalars.text(each["spread"])}})
    most = scalars.number(item["max_replicas_per_node"])
    return kept({"Constraints": constraints, "Preferences": spreads, "MaxReplicas": most})


def _networks(name: str, item: Marked, scalars: Scalars, known: Parts) -> list[dict[str, Any]]:
    """By the names that networks have on the swarm."""
    listed: dict[str, Marked | None] = {}
    if isinstance(item.value, dict):
        listed.update(item.value)
    else:
        listed.update((scalars.text(each), None) for each in item.items("a list of networks"))
    found = []
    for key, each in (listed or {"default": None}).items():
        if key not in known:
            raise InvalidSpec(f"{item.where}: {item.path}: no network {key!r} in this file")
        aliases = [] if each is None else _aliases(each, scalars)
        target = known[key].name
        # Only networks that somebody made have names in them.
        own = [name] if target not in ("host", "none", "bridge", "default") else []
        found.append(kept({"Target": target, "Aliases": [*aliases, *own]}))
    return sorted(found, key=lambda each: str(each["Target"]))


def _aliases(item: Marked, scalars: Scalars) -> list[str]:
    known = ("aliases", "ipv4_address", "ipv6_address", "link_local_ips", "priority")
    refuse_unknown(item, known)
    for key in known[1:]:
        if item[key].is_there:
            scalars.warn(f"{item[key].where}: {item[key].path} is left out: Swarm has nothing for it")
    return [scalars.text(each) for each in item["aliases"].items("a list of names")]


def _mode(deploy: Marked, scalars: Scalars) -> dict[str, Any]:
    mode, replicas = scalars.text(deploy["mode"]), scalars.number(deploy["replicas"])
    if mode == "global":
        if replicas is not None:
            raise InvalidSpec(
                f"{deploy['replicas'].where}: a global service has one task a node, and no replicas"
            )
        return {"Global": {}}
    if mode not in ("", "replicated"):
        scalars.refuse(deploy["mode"], "replicated or global")
    return {"Replicated": {"Replicas": 1 if replicas is None else replicas}}


def _update(item: Marked, scalars: Scalars) -> dict[str, Any] | None:
    if not item.is_there:
        return None
    refuse_unknown(item, _UPDATE)
    action, order = scalars.text(item["failure_action"]), scalars.text(item["order"])
    if action not in ("", "pause", "continue", "rollback"):
        scalars.refuse(item["failure_action"], "pause, continue or rollback")
    if order not in ("", "start-first", "stop-first"):
        scalars.refuse(item["order"], "start-first or stop-first")
    many = scalars.number(item["parallelism"])
    ratio = (
        scalars.fraction(item["max_failure_ratio"], "a ratio") if item["max_failure_ratio"].is_there else 0
    )
    # No parallelism is one at a time, and 0 is all of them: it has to be written.
    return {"Parallelism": 1 if many is None else many} | kept(
        {
            "Delay": scalars.duration(item["delay"]),
            "FailureAction": action,
            "Monitor": scalars.duration(item["monitor"]),
            "MaxFailureRatio": ratio or None,
            "Order": order,
        }
    )


def _endpoint(item: Marked, deploy: Marked, scalars: Scalars) -> dict[str, Any]:
    mode, ports = scalars.text(deploy["endpoint_mode"]).lower(), ports_of(item["ports"], scalars)
    if mode not in ("", "vip", "dnsrr"):
        scalars.refuse(deploy["endpoint_mode"], "vip or dnsrr")
    if mode == "dnsrr" and (meshed := [port for port in ports if port["PublishMode"] == "ingress"]):
        raise InvalidSpec(
            f"{item['ports'].where}: port {meshed[0]['TargetPort']}: with endpoint_mode dnsrr ports are published "
            "in host mode only",
            hint="{target: 80, published: 8080, mode: host}",
        )
    return kept({"Mode": mode, "Ports": ports})
