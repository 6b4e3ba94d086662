# SPDX-License-Identifier: Apache-2.0
"""Objects for Kubernetes: valid by its own schemas, and read back by `check` as they were meant."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest
import yaml

from manyfest.coverage import kubernetes as reading
from manyfest.coverage.marked import load
from manyfest.coverage.matrix import judge
from manyfest.coverage.nodes import from_platforms
from manyfest.coverage.rules import listing_of
from manyfest.deploy.kubernetes import Affinity, affinity, objects, to_yaml
from manyfest.deploy.resources import Resources
from manyfest.deploy.swarm import Port, Wish
from manyfest.errors import InputError, Refused
from manyfest.platforms import Platform

IMAGE = "reg.test/app:1@sha256:" + "1" * 64
LIST = listing_of("linux/amd64", "linux/arm/v7", "linux/s390x")
FULL = {
    "ports": (Port(80, 8080), Port(53, 5353, "udp")),
    "env": ("A=1", "B=$(A) yes", "C=", "D=1e3"),
    "constraints": ("node.labels.zone == lab", "node.role!=manager", "node.platform.arch != x86_64"),
    "parallelism": 2,
    "delay_s": 1.5,
    "resources": Resources.of(limit_cpus="0.5", limit_memory="64m", reserve_memory="32m"),
}
VERSIONS = ("1.25", kubernetes_validate.latest_version())


def rendered(wish: Wish, where: Affinity) -> list[Any]:
    """Through the text, and each document by the schemas of an old and of the newest version."""
    documents = list(yaml.safe_load_all(to_yaml(objects(wish, IMAGE, where), ["a comment\nof two lines"])))
    for document in documents:
        for version in VERSIONS:
            kubernetes_validate.validate(document, version, strict=True)
    return documents


@pytest.mark.parametrize("mode", ["global", "replicated"])
@pytest.mark.parametrize("host", [True, False])
@pytest.mark.parametrize("more", [{}, FULL])
def test_kubernetes_takes_it(mode: str, host: bool, more: dict[str, Any]) -> None:
    wish = Wish("web", mode=mode, **more)
    if host and wish.ports:
        wish = wish.replace(ports=[port.replace(mode="host") for port in wish.ports])
    found = rendered(wish, affinity(LIST))
    assert [each["kind"] for each in found] == [
        "DaemonSet" if mode == "global" else "Deployment",
        *(["Service"] if more else []),
    ]


def test_the_schemas_refuse() -> None:
    """So that a test above can fail."""
    (found,) = objects(Wish("web"), IMAGE, affinity(LIST))
    found["spec"]["template"]["spec"]["nodeAffinity"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(found, VERSIONS[-1], strict=True)


def test_a_whole_one() -> None:
    """What everything becomes."""
    made, service = rendered(Wish("web", **FULL), affinity(LIST))  # type: ignore[arg-type]
    pod = made["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == IMAGE
    assert container["env"] == [
        {"name": "A", "value": "1"},
        {"name": "B", "value": "$$(A) yes"},
        {"name": "C", "value": ""},
        {"name": "D", "value": "1e3"},
    ]
    assert container["resources"] == {
        "limits": {"cpu": "500m", "memory": str(64 << 20)},
        "requests": {"memory": str(32 << 20)},
    }
    assert container["ports"][1] == {"name": "udp-53", "containerPort": 5353, "protocol": "UDP"}
    assert made["spec"]["updateStrategy"]["rollingUpdate"] == {"maxUnavailable": 2}
    assert made["spec"]["minReadySeconds"] == 2
    required = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert required["nodeSelectorTerms"] == [
        {
            "matchExpressions": [
                {"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]},
                {"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64", "arm", "s390x"]},
                {"key": "zone", "operator": "In", "values": ["lab"]},
                {"key": "node-role.kubernetes.io/control-plane", "operator": "DoesNotExist"},
                {"key": "kubernetes.io/arch", "operator": "NotIn", "values": ["amd64"]},
            ]
        }
    ]
    assert service["spec"]["type"] == "LoadBalancer"
    assert service["spec"]["selector"] == made["spec"]["selector"]["matchLabels"]
    assert service["spec"]["ports"][0]["targetPort"] == container["ports"][0]["name"]


def test_ports_of_the_node() -> None:
    """A cluster address is enough then."""
    made, service = rendered(Wish("web", ports=[Port(8082, 8080, "tcp", "host")]), affinity(LIST))
    (container,) = made["spec"]["template"]["spec"]["containers"]
    assert container["ports"][0]["hostPort"] == 8082
    assert service["spec"]["type"] == "ClusterIP"


def test_updates_of_replicas() -> None:
    """As Swarm does it: the old one goes first. Kubernetes wants its deadline after the pause."""
    (made,) = rendered(Wish("web", replicas=3, parallelism=0, delay_s=700), affinity(LIST))
    assert made["spec"]["replicas"] == 3
    assert made["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": "100%", "maxSurge": 0}
    assert made["spec"]["progressDeadlineSeconds"] > made["spec"]["minReadySeconds"] == 700


@pytest.mark.parametrize(
    ("platforms", "runs", "not_there", "noted"),
    [
        (
            ("linux/amd64", "linux/s390x"),
            ("linux/amd64", "linux/s390x"),
            ("linux/arm64", "windows/amd64"),
            "",
        ),
        (("linux/386",), ("linux/386", "linux/amd64"), ("linux/arm64",), ""),
        (("linux/arm/v5",), ("linux/arm/v7",), ("linux/arm64", "linux/amd64"), "arm64 nodes are left out"),
        (
            ("linux/arm/v7", "linux/arm64"),
            ("linux/arm/v7", "linux/arm64"),
            ("linux/amd64",),
            "older arm nodes",
        ),
        (
            ("linux/amd64/v3",),
            (),
            ("linux/s390x",),
            "plain linux/amd64 on such nodes, and take no linux/amd64/v3",
        ),
        (("linux/amd64", "linux/amd64/v3"), ("linux/amd64",), ("linux/s390x",), ""),
        (("linux/amd64", "windows/amd64"), ("linux/amd64", "windows/amd64"), ("linux/arm64",), ""),
    ],
)
def test_check_reads_what_was_written(
    platforms: tuple[str, ...], runs: tuple[str, ...], not_there: tuple[str, ...], noted: str
) -> None:
    """Native where the list has it, kept away where it has not; what labels cannot tell is noted."""
    listing = listing_of(*platforms)
    where = affinity(listing)
    text = to_yaml(objects(Wish("web"), IMAGE, where))
    (document,) = load(text.encode(), "web.yaml")
    (use,) = reading.uses_of(document)
    assert use.image == IMAGE
    for name, state in [*((each, "native") for each in runs), *((each, "excluded") for each in not_there)]:
        (node,) = from_platforms([Platform.parse(name)], "containerd")
        assert judge(use, node, listing).state == state, name
    assert noted in " ".join(where.notes)
    assert bool(noted) is bool(where.notes)


def test_windows_builds_are_labels() -> None:
    """Two builds are two terms."""
    where = affinity(listing_of("windows(10.0.17763.1)/amd64", "windows(10.0.20348.5)/amd64"))
    assert [dict(term)["node.kubernetes.io/windows-build"] for term in where.terms] == [
        ("10.0.17763",),
        ("10.0.20348",),
    ]
    rendered(Wish("web"), where)


def test_an_image_that_does_not_say() -> None:
    """No affinity, and that is said; constraints stand alone then."""
    where = affinity(listing_of(None))
    assert where.terms == ()
    assert "does not say what it is for" in where.notes[0]
    assert "affinity" not in rendered(Wish("web"), where)[0]["spec"]["template"]["spec"]
    pod = rendered(Wish("web", constraints=["node.hostname==a"]), where)[0]["spec"]["template"]["spec"]
    assert "kubernetes.io/hostname" in str(pod["affinity"])


def test_a_list_of_no_image() -> None:
    with pytest.raises(Refused, match="no image in it"):
        affinity(listing_of())


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (Wish("Web"), "small letters"),
        (Wish("1web"), "small letters"),
        (Wish("web", env=["A"]), "expected KEY=VALUE"),
        (Wish("web", env=["A B=1"]), "letters, digits"),
        (Wish("web", constraints=["node.id==x"]), "no label of Kubernetes"),
        (Wish("web", constraints=["engine.labels.a==x"]), "no label of Kubernetes"),
        (Wish("web", constraints=["node.role==boss"]), "no label of Kubernetes"),
        (Wish("web", constraints=["node.labels.zone==a b"]), "no label of Kubernetes"),
    ],
)
def test_what_kubernetes_has_not(wish: Wish, said: str) -> None:
    with pytest.raises(InputError, match=said):
        objects(wish, IMAGE, affinity(LIST))


@pytest.mark.parametrize(
    "text", ["1", "1e3", "0o17", "yes", "N", "null", "~", "a: b", "#a", "", " a", "1:30", "a\nb"]
)
def test_texts_stay_texts(text: str) -> None:
    """By every version of YAML: quoted unless nobody could take it for anything else."""
    assert f'value: "{text}"'.encode("unicode_escape").decode() in to_yaml([{"value": text}])
    assert yaml.safe_load(to_yaml([{"value": text}])) == {"value": text}


def test_comments_cannot_be_left() -> None:
    assert list(yaml.safe_load_all(to_yaml([], ["a\nkind: Pod"]))) in ([], [None])
