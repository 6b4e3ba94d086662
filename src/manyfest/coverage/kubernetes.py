# SPDX-License-Identifier: Apache-2.0
"""Images of Kubernetes objects: whatever has a pod in it, and what already says where that pod may go.

Also reads what Helm and Kustomize print, and kinds that nobody here knows as long as they have a pod template where
Deployments have it (Argo Rollouts, Knative Services).
"""

from __future__ import annotations

from manyfest.coverage.placement import LabelTerm, NodeSelector
from manyfest.coverage.use import Use
from manyfest.errors import InvalidSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from manyfest.coverage.marked import Marked
    from manyfest.coverage.placement import Restriction

__all__ = ["is_object", "pod_path", "uses_of"]

_CONTAINERS = (
    ("initContainers", "init container"),
    ("containers", "container"),
    ("ephemeralContainers", "ephemeral container"),
)

# Where the pod is, by kind; others are looked at as a Deployment.
_PODS = {
    "Pod": ("spec",),
    "PodTemplate": ("template", "spec"),
    "CronJob": ("spec", "jobTemplate", "spec", "template", "spec"),
}
_TEMPLATE = ("spec", "template", "spec")
_WITH_PODS = (
    "Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job", "ReplicationController", *_PODS,
)  # fmt: skip

_AFFINITY = ("affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")


def is_object(document: Marked) -> bool:
    """Does it look like an object of Kubernetes?"""
    return document["kind"].is_there and document["apiVersion"].is_there


def pod_path(kind: str) -> tuple[str, ...]:
    """The keys that lead from an object to its pod's spec."""
    return _PODS.get(kind, _TEMPLATE)


def uses_of(document: Marked) -> Iterator[Use]:
    """The images of one object, or of all objects of a List. Raises :class:`InvalidSpec`."""
    kind = document["kind"].text("the kind of object")
    if kind.endswith("List") and document["items"].is_there:
        for item in document["items"].items("a list of objects"):
            yield from uses_of(item)
        return
    pod = document
    for key in pod_path(kind):
        pod = pod[key]
    if kind not in _WITH_PODS and not pod["containers"].is_there:
        return
    if not pod.is_there:
        path = ".".join(pod_path(kind))
        raise InvalidSpec(f"{document.where}: a {kind} without {path}")
    name = document["metadata"]["name"].text("a name") or document["metadata"]["generateName"].text("a name")
    owner = f"{kind} {name or '?'}"
    yield from _uses_of_pod(pod, owner)


def _uses_of_pod(pod: Marked, owner: str) -> Iterator[Use]:
    restrictions = _restrictions(pod)
    notes = _notes(pod)
    for key, what in _CONTAINERS:
        for container in pod[key].items("a list of containers"):
            container.mapping("a container")
            name = container["name"].text("a name") or "?"
            image = container["image"]
            # A container without an image is valid: a template whose image somebody fills in later.
            yield Use(
                image.text("the name of an image"),
                "kubernetes",
                f"{owner}, {what} {name}",
                image.where,
                restrictions=restrictions,
                notes=notes,
                problem="" if image.is_there else "it names no image",
            )


def _restrictions(pod: Marked) -> list[Restriction]:
    found: list[Restriction] = []
    selector = [
        LabelTerm(key, "In", (value.text("text"),)) for key, value in pod["nodeSelector"].mapping().items()
    ]
    if selector:
        found.append(NodeSelector("nodeSelector", [selector]))
    system = pod["os"]["name"].text("linux or windows")
    if system:
        found.append(NodeSelector("os", [[LabelTerm("kubernetes.io/os", "In", (system,))]]))
    node = pod["nodeName"].text("a node's name")
    if node:
        found.append(NodeSelector("nodeName", [[LabelTerm("kubernetes.io/hostname", "In", (node,))]]))
    required = pod
    for key in _AFFINITY:
        required = required[key]
    if required.is_there:
        terms = required["nodeSelectorTerms"].items("a list of terms")
        found.append(NodeSelector("nodeAffinity", [_term(term) for term in terms]))
    return found


def _term(term: Marked) -> list[LabelTerm]:
    found = []
    for expression in term["matchExpressions"].items("a list of expressions"):
        values = expression["values"].texts()
        try:
            found.append(
                LabelTerm(
                    expression["key"].text("a label"), expression["operator"].text("an operator"), values
                )
            )
        except InvalidSpec as error:
            raise InvalidSpec(f"{expression.where}: {error}") from error
    for field in term["matchFields"].items("a list of expressions"):
        if field["key"].text("a field") == "metadata.name":
            operator = field["operator"].text("an operator")
            found.append(LabelTerm("kubernetes.io/hostname", operator, field["values"].texts()))
    return found


def _notes(pod: Marked) -> Sequence[str]:
    keys = [
        each["key"].text("a taint's key") or "every taint"
        for each in pod["tolerations"].items("a list of tolerations")
    ]
    return [f"tolerates {', '.join(dict.fromkeys(keys))}: taints are not looked at"] if keys else []
