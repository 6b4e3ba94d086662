# SPDX-License-Identifier: Apache-2.0
"""Whatever stands in a file ends in an answer or in one of our errors; whatever a list holds, no entry is forgotten."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyfest.coverage.compose import Compose
from manyfest.coverage.dockerfile import bases
from manyfest.coverage.interpolate import interpolate, read_env
from manyfest.coverage.kubernetes import uses_of
from manyfest.coverage.marked import load
from manyfest.coverage.nodes import from_kubectl, from_swarm
from manyfest.coverage.rules import ENGINES, DockerClassic, Host, Swarm, rules
from manyfest.coverage.use import Use
from manyfest.errors import InputError
from manyfest.indexes.listing import Entry, Listing
from manyfest.platforms import Platform

pytestmark = pytest.mark.property

WORDS = st.sampled_from(
    [
        "services",
        "image",
        "a",
        "a:1",
        "extends",
        "service",
        "file",
        "profiles",
        "deploy",
        "placement",
        "constraints",
        "apiVersion",
        "kind",
        "Pod",
        "List",
        "items",
        "spec",
        "template",
        "containers",
        "nodeSelector",
        "metadata",
        "name",
        "${A}",
        "${A:-",
        "linux/arm64",
        "build",
        "platform",
        "include",
        "status",
        "nodeInfo",
    ]
)
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=20,
)
PLATFORMS = st.builds(
    Platform,
    st.sampled_from(["linux", "windows", "unknown", ""]),
    st.sampled_from(["amd64", "arm64", "arm", "386", "s390x", "x86_64", "unknown", ""]),
    st.sampled_from(["", "v5", "v6", "v7", "v8", "v3", "v9"]),
)
MACHINES = st.sampled_from(
    [
        "linux/amd64",
        "linux/amd64/v3",
        "linux/arm64",
        "linux/arm/v5",
        "linux/arm/v6",
        "linux/arm/v7",
        "linux/386",
        "linux/s390x",
        "windows/amd64",
    ]
).map(Platform.parse)


def refusal(call: Callable[[], object]) -> str:
    """The message of an input error, empty when there is none; any other error goes through."""
    try:
        call()
    except InputError as error:
        return str(error) or "an error without a message"
    return ""


@given(st.binary(max_size=200))
def test_any_bytes_as_yaml(raw: bytes) -> None:
    """A document or an input error."""
    assert refusal(lambda: load(raw, "f"))[:1] in ("", "f")


@given(TREES)
def test_any_tree_as_compose_and_kubernetes(tree: object) -> None:
    """The words of the languages in any order."""
    for document in load(json.dumps(tree).encode(), "f.yaml"):
        found: list[Use] = []
        wrong = refusal(lambda document=document, found=found: found.extend(Compose({}).uses(document)))  # type: ignore[misc]
        wrong += refusal(lambda document=document, found=found: found.extend(uses_of(document)))  # type: ignore[misc]
        assert not wrong or ".yaml" in wrong or "No such file" in wrong
        assert all(use.place.startswith("f.yaml:") for use in found)


@given(TREES)
def test_any_tree_as_nodes(tree: object) -> None:
    """What kubectl would never print."""
    assert refusal(lambda: from_kubectl(json.dumps(tree).encode(), "f"))[:1] in ("", "f")


@given(st.lists(st.dictionaries(st.sampled_from(["ID", "Description", "Spec", "Status"]), TREES), max_size=3))
def test_any_tree_as_a_swarm(nodes: list[dict[str, object]]) -> None:
    """Names are made up where there are none."""
    assert len(from_swarm(nodes)) == len(nodes)


@given(st.text(alphabet="FROMARG=$${}:-_ab \\\n#'\"<@/", max_size=120))
def test_any_text_as_a_dockerfile(text: str) -> None:
    """Bases or an error with a line."""
    assert refusal(lambda: bases(text, "Dockerfile"))[:10] in ("", "Dockerfile")


@given(st.text(alphabet="${}:-+?AB ", max_size=60))
def test_any_text_with_variables(text: str) -> None:
    """Text or an error; without a dollar the text itself."""
    filled: list[str] = []
    if not refusal(lambda: filled.append(interpolate(text, {"A": "x"}))):
        assert "$" in text or filled == [text]
    refusal(lambda: read_env(f"X={text}"))


@given(MACHINES, st.lists(st.none() | PLATFORMS, max_size=8), st.none() | MACHINES)
def test_every_entry_is_accounted_for(
    machine: Platform, listed: list[Platform | None], asked: Platform | None
) -> None:
    """Chosen or rejected, once; the same list gives the same choice; a first duplicate wins."""
    entries = tuple(Entry(f"sha256:{at:064x}", platform) for at, platform in enumerate(listed))
    listing = Listing("sha256:" + "f" * 64, entries)
    for rule in rules():
        choice = rule.choose(Host(machine), listing, asked)
        told = [id(entry) for entry, _ in choice.rejected] + ([id(choice.entry)] if choice.entry else [])
        assert sorted(told) == sorted(map(id, entries))
        assert choice.reason
        assert all(why for _, why in choice.rejected)
        if choice.entry is not None:
            same = [entry for entry in entries if entry.platform == choice.entry.platform]
            assert choice.entry is same[0]


@given(MACHINES, st.lists(PLATFORMS, min_size=1, max_size=6))
def test_swarms_filter_only_widens(machine: Platform, listed: list[Platform]) -> None:
    """One more entry never turns a node away, unless there was nothing to compare before."""
    rule, host = Swarm(DockerClassic()), Host(machine)
    entries = tuple(Entry(f"sha256:{at:064x}", platform) for at, platform in enumerate(listed))
    fewer = rule.placement(Listing("x", entries[:-1]))
    more = rule.placement(Listing("x", entries))
    assert set(fewer) <= set(more)
    if fewer and rule.admits(host, fewer):
        assert rule.admits(host, more)


@given(MACHINES)
def test_every_engine_takes_what_the_machine_is(machine: Platform) -> None:
    """In a list of nothing else."""
    plain = machine.replace(variant="") if machine.architecture == "amd64" else machine
    listing = Listing("x", (Entry("sha256:" + "0" * 64, plain),))
    for name, rule in ENGINES.items():
        assert rule().choose(Host(machine), listing).entry is not None, name
