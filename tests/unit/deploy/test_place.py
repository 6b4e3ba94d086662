# SPDX-License-Identifier: Apache-2.0
"""What Swarm is told about platforms, held against the letter of its own filter."""

from __future__ import annotations

import pytest

from manyfest.coverage.nodes import Node
from manyfest.coverage.placement import SwarmConstraint
from manyfest.coverage.rules import DockerClassic, Host, Swarm, listing_of
from manyfest.deploy.place import place
from manyfest.errors import Refused
from manyfest.platforms import Platform

FILTER = Swarm(DockerClassic())


def node(machine: str, name: str = "", engine: str = "docker-20.10", **more: str) -> Node:
    """A node of a swarm that calls itself so."""
    host = Host.of_machine(machine)
    return Node(name or machine, host, "swarm", engine, id=f"id-{name or machine}", labels=(), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("platforms", "machines", "stranded"),
    [
        # the platforms of a list, nodes that must get it, nodes that must not
        (("linux/amd64", "linux/386"), ("x86_64", "i686", "i386", "i586"), ("aarch64", "s390x")),
        (("linux/amd64",), ("x86_64",), ("i686", "aarch64", "armv7l")),
        (("linux/arm/v7", "linux/arm64"), ("armv7l", "aarch64"), ("x86_64", "s390x", "armv6l")),
        (("linux/arm/v6",), ("armv6l", "armv7l"), ("x86_64", "armv5tel", "s390x")),
        (("linux/loong64",), ("loongarch64",), ("x86_64", "riscv64")),
        (("linux/ppc64le", "linux/s390x"), ("ppc64le", "s390x"), ("ppc64", "x86_64")),
    ],
)
@pytest.mark.parametrize("known", [True, False])
def test_the_filter_admits_who_can_and_nobody_else(
    platforms: tuple[str, ...], machines: tuple[str, ...], stranded: tuple[str, ...], known: bool
) -> None:
    """Whether those nodes are there already or join later."""
    nodes = [node(word) for word in (*machines, *stranded)] if known else [node("x86_64")]
    placement = place(listing_of(*platforms), nodes)
    for word in machines:
        assert FILTER.admits(Host.of_machine(word), placement.platforms), word
    for word in stranded:
        assert not FILTER.admits(Host.of_machine(word), placement.platforms), word
    assert placement.apart == ()


def test_both_spellings_are_there() -> None:
    """The list's own word, and the kernel's; x86_64 is what Swarm understands by itself."""
    placement = place(listing_of("linux/amd64", "linux/386"), [node("x86_64"), node("i686")])
    assert {("linux", "386"), ("linux", "i686")} <= set(placement.platforms)
    assert ("linux", "amd64") in placement.platforms
    assert ("linux", "x86_64") not in placement.platforms


def test_newer_engines_run_386_on_amd64() -> None:
    """An engine that falls back has its node's word in, one that does not has not."""
    listing = listing_of("linux/386")
    new = place(listing, [node("x86_64", engine="docker")])
    assert FILTER.admits(Host.of_machine("x86_64"), new.platforms)
    old = place(listing, [node("x86_64", engine="docker-20.10"), node("i686")])
    assert not FILTER.admits(Host.of_machine("x86_64"), old.platforms)


def test_twins_that_differ_are_kept_apart_by_a_constraint() -> None:
    """Swarm cannot tell an old engine from a new one by the platform."""
    nodes = [node("x86_64", "new", "docker"), node("x86_64", "old", "docker-20.10")]
    placement = place(listing_of("linux/386"), nodes)
    assert [each.name for each in placement.apart] == ["old"]
    assert placement.constraints() == ["node.id!=id-old"]


def test_a_silent_image_has_no_filter() -> None:
    """Nobody can tell Swarm what an image is for that says nothing."""
    assert place(listing_of(None, single=True), [node("x86_64")]).platforms == ()


def test_left_out_is_refused_by_name() -> None:
    """The node, its kernel's word, and what the list has."""
    placement = place(listing_of("linux/amd64"), [node("x86_64"), node("i686", "attic")])
    with pytest.raises(Refused, match=r"1 of 2 nodes .*attic \(i686\): no entry is for linux/386") as caught:
        placement.require("app:1")
    assert "--partial" in caught.value.hint
    placement.require("app:1", partial=True)


def test_a_wrong_single_image_is_refused_even_partially() -> None:
    """Nothing runs anywhere."""
    placement = place(listing_of("linux/s390x", single=True), [node("x86_64")])
    with pytest.raises(Refused, match="none of the 1 nodes"):
        placement.require("app:1", partial=True)


def test_constraints_and_drained_nodes_are_nobodys_problem() -> None:
    """What a constraint excludes is not left out; a node that is drained is not waited for and keeps its word."""
    nodes = [node("x86_64"), node("i686", "attic"), node("i586", "cellar", availability="drain")]
    listing = listing_of("linux/amd64")
    placement = place(listing, nodes, [SwarmConstraint.parse("node.hostname != attic")])
    placement.require("app:1")
    assert [each.name for each in placement.runs_on] == ["x86_64"]
    both = place(listing_of("linux/amd64", "linux/386"), nodes)
    assert ("linux", "i586") in both.platforms
    assert [each.name for each in both.runs_on] == ["x86_64", "attic"]


def test_an_unknown_kernel_word_is_kept() -> None:
    """A machine nobody here has a name for, and an image for its own word."""
    strange = Node("x", Host(Platform("linux", "e2k"), "e2k"), "swarm", "docker", id="id-x", labels=())
    assert ("linux", "e2k") in place(listing_of("linux/e2k"), [strange]).platforms
