# SPDX-License-Identifier: Apache-2.0
"""The objects that run an image on every node of a mixed Kubernetes cluster that can have it. No cluster is asked.

Kubernetes does not look into images: a pod goes to any node, and the kubelet finds out there that the list has nothing
for it. What keeps it away is a node affinity on the labels that every kubelet sets, ``kubernetes.io/os`` and
``kubernetes.io/arch``, written from the list. They tell architectures apart and no variants.

https://kubernetes.io/docs/reference/labels-annotations-taints/#kubernetes-io-arch
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from manyfest.coverage.placement import SwarmConstraint
from manyfest.errors import InputError, InvalidPlatform, Refused
from manyfest.platforms import Only, Platform, from_uname, normalise
from manyfest.values import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from manyfest.deploy.swarm import Port, Wish
    from manyfest.indexes.listing import Listing

__all__ = ["Affinity", "affinity", "objects", "to_yaml"]

_ARCH = "kubernetes.io/arch"
_OS = "kubernetes.io/os"
_BUILD = "node.kubernetes.io/windows-build"
_CONTROL = "node-role.kubernetes.io/control-plane"

_NAME = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_.-][A-Za-z0-9_.-]*")
_LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
_LABEL = re.compile(
    r"(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
)
_PROGRESS_S = 600
"""Seconds after which Kubernetes gives an update up, unless it is told otherwise."""


class Affinity(Value):
    """``terms``: the pod goes where one of them holds, each a list of label requirements (none: anywhere).

    ``architectures`` are those of the terms, in order; ``notes`` say what labels cannot tell.
    """

    __slots__ = ("architectures", "notes", "terms")
    terms: tuple[tuple[tuple[str, tuple[str, ...]], ...], ...]
    architectures: tuple[str, ...]
    notes: tuple[str, ...]

    def __init__(
        self,
        terms: Iterable[Iterable[tuple[str, tuple[str, ...]]]],
        architectures: Iterable[str] = (),
        notes: Iterable[str] = (),
    ) -> None:
        self._set(
            terms=tuple(tuple(term) for term in terms),
            architectures=tuple(dict.fromkeys(architectures)),
            notes=tuple(notes),
        )


def affinity(listing: Listing) -> Affinity:
    """Where the images of a list may go, as far as labels tell. Raises :class:`Refused` when it has no image."""
    if not listing.images:
        raise Refused("the list has no image in it, so no node could run it")
    if any(entry.known is None for entry in listing.images):
        note = "an image of the list does not say what it is for, so nothing keeps it away from any node"
        return Affinity((), (), [note])
    groups: dict[tuple[str, str], list[Platform]] = {}
    for platform in map(normalise, listing.platforms):
        groups.setdefault((platform.os, _build(platform)), []).append(platform)
    terms, notes, architectures = [], [], list[str]()
    for (system, build), platforms in groups.items():
        words = dict.fromkeys(platform.architecture for platform in platforms)
        if system == "linux" and "386" in words:
            words["amd64"] = None  # every such processor runs it, and container runtimes take it
        requirements: list[tuple[str, tuple[str, ...]]] = [(_OS, (system,)), (_ARCH, tuple(words))]
        if build:
            requirements.append((_BUILD, (build,)))
        terms.append(requirements)
        architectures += words
        notes += [note for word in words if (note := _blind(system, word, platforms))]
        if "arm" in words and "arm64" not in words:
            notes.append("arm64 nodes are left out: some of them could run it, and no label says which")
    if any(platform.os_features for platform in map(normalise, listing.platforms)):
        notes.append("features of the operating system (os.features) are in no label: they are not looked at")
    return Affinity(terms, architectures, notes)


def _build(platform: Platform) -> str:
    """Windows images run on their own build of it, which is a label: ``10.0.17763``."""
    if platform.os != "windows" or not platform.os_version:
        return ""
    return ".".join(platform.os_version.split(".")[:3])


def _blind(system: str, architecture: str, platforms: Sequence[Platform]) -> str:
    """Nodes with the same label that could not run what the list has."""
    have = [platform for platform in platforms if platform.architecture == architecture]
    lowest = Platform(system, architecture, variant="v5" if architecture == "arm" else "")
    if not have or any(Only(lowest).matches(platform.replace(os_version="")) for platform in have):
        return ""
    shown = ", ".join(str(platform) for platform in have)
    if architecture != "arm":
        return f"container runtimes look for plain {lowest} on such nodes, and take no {shown}"
    return (
        f"the label {_ARCH}={architecture} says nothing of variants: older {architecture} nodes than {shown} "
        "would be tried and fail; label those that fit, and add --constraint node.labels.KEY==VALUE"
    )


def objects(wish: Wish, image: str, where: Affinity) -> list[dict[str, Any]]:
    """A DaemonSet (global) or Deployment (replicated), and a Service when ports are published.

    Raises :class:`InputError` for what Kubernetes has not or would refuse.
    """
    if not _NAME.fullmatch(wish.name):
        raise InputError(
            f"{wish.name!r}: Kubernetes wants names of small letters, digits and -, a letter first, at most 63"
        )
    labels = {"app.kubernetes.io/name": wish.name}
    template = {"metadata": {"labels": labels}, "spec": _pod(wish, image, where)}
    kind = "Deployment" if wish.mode == "replicated" else "DaemonSet"
    spec: dict[str, Any] = {"selector": {"matchLabels": labels}, "template": template, **_rolling(wish)}
    if wish.mode == "replicated":
        spec = {"replicas": wish.replicas or 1, **spec}
    found: list[dict[str, Any]] = [_object("apps/v1", kind, wish.name, labels, spec)]
    if wish.ports:
        found.append(_object("v1", "Service", wish.name, labels, _service(wish.ports, labels)))
    return found


def _object(
    version: str, kind: str, name: str, labels: dict[str, str], spec: dict[str, Any]
) -> dict[str, Any]:
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name, "labels": labels},
        "spec": spec,
    }


def _pod(wish: Wish, image: str, where: Affinity) -> dict[str, Any]:
    container: dict[str, Any] = {"name": wish.name, "image": image}
    if wish.env:
        container["env"] = [_variable(text) for text in wish.env]
    if wish.ports:
        container["ports"] = [_container_port(port) for port in wish.ports]
    if resources := wish.resources.to_kubernetes():
        container["resources"] = resources
    pod: dict[str, Any] = {"containers": [container]}
    extra = [_expression(SwarmConstraint.parse(text)) for text in wish.constraints or ()]
    terms = [[_in(key, values) for key, values in term] + extra for term in where.terms]
    if not terms and extra:
        terms = [extra]
    if terms:
        required = {"nodeSelectorTerms": [{"matchExpressions": term} for term in terms]}
        pod["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    # Providers taint nodes of an architecture to keep images away that lack it; this one has it.
    tolerations = [
        {"key": _ARCH, "operator": "Equal", "value": word, "effect": "NoSchedule"}
        for word in where.architectures
    ]
    if tolerations:
        pod["tolerations"] = tolerations
    return pod


def _variable(text: str) -> dict[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"--env {text}: expected KEY=VALUE, since nothing is filled in later")
    if not _VARIABLE.fullmatch(name):
        raise InputError(f"--env {text}: Kubernetes wants names of letters, digits, -, _ and . only")
    # Kubernetes would put other variables in place of $(NAME).
    return {"name": name, "value": value.replace("$(", "$$(")}


def _port_name(port: Port) -> str:
    return f"{port.protocol}-{port.published}"


def _container_port(port: Port) -> dict[str, Any]:
    found: dict[str, Any] = {"containerPort": port.target, "protocol": port.protocol.upper()}
    if port.mode == "host":
        found["hostPort"] = port.published
    return {"name": _port_name(port), **found}


def _service(ports: Sequence[Port], labels: dict[str, str]) -> dict[str, Any]:
    """Published by every node of a swarm is, here, by the cluster's load balancer."""
    kind = "ClusterIP" if all(port.mode == "host" for port in ports) else "LoadBalancer"
    listed = [
        {
            "name": _port_name(port),
            "port": port.published,
            "targetPort": _port_name(port),
            "protocol": port.protocol.upper(),
        }
        for port in ports
    ]
    return {"type": kind, "selector": labels, "ports": listed}


def _rolling(wish: Wish) -> dict[str, Any]:
    """As Swarm does it: so many at a time, the old one stopped first, and a pause after each."""
    many: int | str = 1 if wish.parallelism is None else wish.parallelism or "100%"
    rolling: dict[str, Any] = {"maxUnavailable": many}
    replicated = wish.mode == "replicated"
    if replicated:
        rolling["maxSurge"] = 0
    spec: dict[str, Any] = {
        "strategy" if replicated else "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling}
    }
    if wish.delay_s:
        spec["minReadySeconds"] = math.ceil(wish.delay_s)
        if replicated and spec["minReadySeconds"] >= _PROGRESS_S:
            spec["progressDeadlineSeconds"] = spec["minReadySeconds"] + _PROGRESS_S
    return spec


def _in(key: str, values: Sequence[str]) -> dict[str, Any]:
    return {"key": key, "operator": "In", "values": list(values)}


def _expression(constraint: SwarmConstraint) -> dict[str, Any]:
    """What a constraint of Swarm is in labels of Kubernetes. Raises :class:`InputError` where it is nothing."""
    key, value = constraint.key.lower(), constraint.value
    if key == "node.role" and value.lower() in ("manager", "worker"):
        there = (value.lower() == "manager") is constraint.equal
        return {"key": _CONTROL, "operator": "Exists" if there else "DoesNotExist"}
    if key == "node.platform.arch":
        value = _architecture(value)
    label = {
        "node.hostname": "kubernetes.io/hostname",
        "node.platform.os": _OS,
        "node.platform.arch": _ARCH,
    }.get(key)
    if key.startswith("node.labels."):
        label = constraint.key[len("node.labels.") :]
    if label is None or not _LABEL.fullmatch(label) or not _LABEL_VALUE.fullmatch(value):
        raise InputError(
            f"--constraint {constraint}: no label of Kubernetes says that",
            hint="node.labels.KEY, node.hostname, node.role, node.platform.os and node.platform.arch can be rendered",
        )
    return {"key": label, "operator": "In" if constraint.equal else "NotIn", "values": [value]}


def _architecture(word: str) -> str:
    """Swarm has the kernel's word, Kubernetes Go's."""
    try:
        return from_uname(word).architecture
    except InvalidPlatform:
        return word


def to_yaml(found: Sequence[dict[str, Any]], comments: Sequence[str] = ()) -> str:
    """A stream of documents, with comments on top."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Quotes every text that any version of YAML could take for something else."""

        def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the labels are one object and written each time
            return True

    def text(dumper: Any, value: str) -> Any:
        return dumper.represent_scalar(
            "tag:yaml.org,2002:str", value, style=None if _is_plain(value) else '"'
        )

    Dumper.add_representer(str, text)
    head = "".join(f"# {re.sub(r'[^ -~]+', ' ', line)}\n" for line in comments)
    body = yaml.dump_all(found, Dumper=Dumper, sort_keys=False, explicit_start=True, width=10_000)
    return head + str(body)


def _is_plain(text: str) -> bool:
    """Letters and harmless signs only, and none of the words that mean true, false or nothing to somebody."""
    words = ("y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf")
    return bool(re.fullmatch(r"[A-Za-z][A-Za-z0-9_./@:-]*[A-Za-z0-9]", text)) and text.lower() not in words
