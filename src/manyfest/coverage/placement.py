# SPDX-License-Identifier: Apache-2.0
"""Where something may be scheduled: what files say about nodes, evaluated as Swarm and Kubernetes do.

>>> from manyfest.coverage.nodes import from_platforms
>>> from manyfest.platforms import Platform
>>> arm, = from_platforms([Platform.parse("linux/arm64")])
>>> SwarmConstraint.parse("node.platform.arch == x86_64").allows(arm)
False
"""

from __future__ import annotations

import re
from abc import abstractmethod

from manyfest.errors import InvalidSpec
from manyfest.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from manyfest.coverage.nodes import Node

__all__ = ["LabelTerm", "NodeSelector", "Restriction", "SwarmConstraint"]


class Restriction(Value):
    """Something a file says about the nodes it wants."""

    __slots__ = ()

    @abstractmethod
    def allows(self, node: Node) -> bool:
        """May it be scheduled there? What nobody knows of a node does not restrict."""

    def refusal(self, node: Node) -> str:  # noqa: ARG002 - some say more about the node
        """Why not, as a sentence without its end."""
        return f"kept away by {self}"


class SwarmConstraint(Restriction):
    """``node.platform.arch == x86_64``: case does not matter, except in the names of labels.

    https://github.com/moby/swarmkit/blob/master/manager/constraint/constraint.go
    """

    __slots__ = ("equal", "key", "value")
    key: str
    equal: bool
    value: str

    def __init__(self, key: str, equal: bool, value: str) -> None:
        self._set(key=key, equal=equal, value=value)

    @classmethod
    def parse(cls, text: str) -> SwarmConstraint:
        """Raises :class:`InvalidSpec` unless it is ``KEY == VALUE`` or ``KEY != VALUE``."""
        found = re.fullmatch(r"\s*([A-Za-z_][\w.\-/]*)\s*(==|!=)\s*(\S.*?)\s*", text)
        if found is None:
            raise InvalidSpec(f"{text!r}: expected a constraint such as node.platform.arch == x86_64")
        return cls(found[1], found[2] == "==", found[3])

    def allows(self, node: Node) -> bool:
        """See :meth:`Restriction.allows`."""
        actual = self._actual(node)
        return True if actual is None else (actual.lower() == self.value.lower()) is self.equal

    def refusal(self, node: Node) -> str:
        """See :meth:`Restriction.refusal`. Go's names in place of the kernel's are the usual mistake."""
        if self.key.lower() == "node.platform.arch" and self.value.lower() == node.platform.architecture:
            return f"kept away by {self}, since the node calls itself {node.host.machine}"
        return super().refusal(node)

    def _actual(self, node: Node) -> str | None:
        key = self.key.lower()
        if key == "node.platform.arch":
            return node.host.machine
        if key == "node.platform.os":
            return node.platform.os
        if node.kind != "swarm" and node.labels is None:
            return None
        if key.startswith("node.labels."):
            return dict(node.labels or ()).get(self.key[len("node.labels.") :], "")
        if key.startswith("engine.labels."):
            return dict(node.engine_labels).get(self.key[len("engine.labels.") :], "")
        plain = {"node.id": node.id, "node.hostname": node.name}
        if key == "node.role":
            return "manager" if node.role == "leader" else node.role
        return plain.get(key)

    def __str__(self) -> str:
        return f"{self.key} {'==' if self.equal else '!='} {self.value}"


class LabelTerm(Value):
    """One requirement on a label: ``In``, ``NotIn``, ``Exists``, ``DoesNotExist``, ``Gt``, ``Lt``."""

    __slots__ = ("key", "operator", "values")
    key: str
    operator: str
    values: tuple[str, ...]

    OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt")

    def __init__(self, key: str, operator: str, values: Sequence[str] = ()) -> None:
        if operator not in self.OPERATORS:
            raise InvalidSpec(f"operator {operator!r}, expected one of {', '.join(self.OPERATORS)}")
        self._set(key=key, operator=operator, values=tuple(values))

    def holds(self, node: Node) -> bool:
        """Is it so on this node? ``True`` where nobody knows."""
        there, known = self._actual(node)
        if not known:
            return True
        if self.operator == "Exists":
            return there is not None
        if self.operator == "DoesNotExist":
            return there is None
        if self.operator == "NotIn":
            return there not in self.values
        if there is None:
            return False
        if self.operator == "In":
            return there in self.values
        return self._compares(there)

    def _compares(self, there: str) -> bool:
        try:
            left, right = int(there), int(self.values[0])
        except (ValueError, IndexError):
            return False
        return left > right if self.operator == "Gt" else left < right

    def _actual(self, node: Node) -> tuple[str | None, bool]:
        """The label's value, and whether anybody knows it. Every node has those of its platform."""
        if node.labels is not None and self.key in dict(node.labels):
            return dict(node.labels)[self.key], True
        if self.key in ("kubernetes.io/arch", "beta.kubernetes.io/arch"):
            return node.platform.architecture, True
        if self.key in ("kubernetes.io/os", "beta.kubernetes.io/os"):
            return node.platform.os, True
        if self.key == "kubernetes.io/hostname" and node.kind in ("kubernetes", "file"):
            return node.name, True
        return None, node.labels is not None

    def __str__(self) -> str:
        values = f" {', '.join(self.values)}" if self.values else ""
        return f"{self.key} {self.operator}{values}"


class NodeSelector(Restriction):
    """Terms of which one must hold, each of requirements that all must hold, as in a node affinity.

    https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/
    """

    __slots__ = ("terms", "what")
    what: str
    terms: tuple[tuple[LabelTerm, ...], ...]

    def __init__(self, what: str, terms: Sequence[Sequence[LabelTerm]]) -> None:
        self._set(what=what, terms=tuple(tuple(term) for term in terms))

    def allows(self, node: Node) -> bool:
        """See :meth:`Restriction.allows`. An empty term holds nowhere, as in Kubernetes."""
        return any(term and all(each.holds(node) for each in term) for term in self.terms)

    def __str__(self) -> str:
        return f"{self.what}: {' or '.join(', '.join(map(str, term)) for term in self.terms)}"
