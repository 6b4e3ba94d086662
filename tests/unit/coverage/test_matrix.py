# SPDX-License-Identifier: Apache-2.0
"""Images times nodes: states, verdicts, what could not be read, what to write, and how it is told."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from manyfest.content.descriptor import Descriptor
from manyfest.content.document import Document
from manyfest.coverage.fixes import fixes
from manyfest.coverage.matrix import Cell, Matrix, Row, check, exit_code, judge, place_of
from manyfest.coverage.nodes import Node
from manyfest.coverage.placement import LabelTerm, NodeSelector, SwarmConstraint
from manyfest.coverage.report import columns, findings, to_json, to_markdown, to_sarif
from manyfest.coverage.rules import Host, listing_of
from manyfest.coverage.use import Use
from manyfest.errors import AuthRequired, Error, Forbidden, InputError, NotFound, RateLimited, Unreachable
from manyfest.indexes.listing import Listing, list_images
from manyfest.platforms import Platform
from manyfest.stores.base import Source
from manyfest.stores.memory import Memory
from manyfest.testing.images import make_image, make_index

if TYPE_CHECKING:
    from manyfest.stores.base import Readable

Open = Callable[[str], tuple[Source, str]]


def node(platform: str, kind: str = "platform", machine: str = "", **more: object) -> Node:
    """One, named after its platform unless ``name`` is given."""
    name = str(more.pop("name", platform))
    return Node(name, Host(Platform.parse(platform), machine), kind, **more)  # type: ignore[arg-type]


def platforms(*texts: str) -> list[Platform]:
    """Parsed."""
    return [Platform.parse(text) for text in texts]


def state(use: Use, where: Node, *listed: str | None, single: bool = False, native: bool = False) -> str:
    """Of one cell."""
    return judge(use, where, listing_of(*listed, single=single), native=native).state


IMAGE = Use("app")
SERVICE = Use("app", "compose", "service web", "c.yaml:3:12", everywhere=False)
GLOBAL = SERVICE.replace(everywhere=True)
POD = Use("app", "kubernetes", "Deployment web, container c", "k.yaml:9:5")
BASE = Use("app", "dockerfile", "FROM app", "Dockerfile:1:6")
EMULATING = node("linux/amd64", emulates=platforms("linux/arm64"))
I686 = node("linux/386", "swarm", "i686")
S390X = node("linux/s390x", "swarm", "s390x")


@pytest.mark.parametrize(
    ("use", "where", "listed", "expected"),
    [
        (IMAGE, node("linux/amd64"), ("linux/amd64",), "native"),
        (IMAGE, node("linux/amd64"), ("linux/arm64",), "fails"),
        # An emulator does not make an engine pull another platform: it must be asked for by name.
        (IMAGE, EMULATING, ("linux/arm64",), "fails"),
        (
            SERVICE.replace(platform=Platform.parse("linux/arm64")),
            EMULATING,
            ("linux/amd64", "linux/arm64"),
            "emulated",
        ),
        (
            SERVICE.replace(platform=Platform.parse("linux/arm64")),
            node("linux/amd64"),
            ("linux/arm64",),
            "fails",
        ),
        (IMAGE, node("linux/amd64"), ("linux/amd64/v3",), "fails"),
        (IMAGE, node("linux/arm64"), ("linux/arm/v7",), "native"),
        # Swarm ignores platform:, filters by uname, and leaves a node out of a replicated service.
        (GLOBAL, I686, ("linux/386",), "fails"),
        (SERVICE, I686, ("linux/386",), "excluded"),
        (SERVICE, S390X, ("linux/amd64", "linux/arm/v7"), "fails"),
        (SERVICE, S390X, ("linux/amd64",), "excluded"),
        (GLOBAL, S390X, ("linux/s390x",), "native"),
        (IMAGE, S390X, ("linux/amd64",), "fails"),
        # Kubernetes has no filter.
        (POD, node("linux/s390x", "kubernetes", engine="containerd"), ("linux/amd64",), "fails"),
        (POD, node("linux/arm64", "kubernetes", engine="podman"), ("linux/arm/v7",), "fails"),
        (POD, node("linux/arm64"), ("linux/arm/v7",), "native"),
        (BASE, node("linux/arm64"), ("linux/arm64",), "native"),
        # Nobody gets work who is down.
        (IMAGE, node("linux/amd64", availability="drain"), ("linux/amd64",), "excluded"),
        (IMAGE, node("linux/amd64", state="down"), ("linux/amd64",), "excluded"),
        # What the file says.
        (
            SERVICE.replace(restrictions=(SwarmConstraint("node.platform.arch", True, "x86_64"),)),
            S390X,
            ("linux/amd64",),
            "excluded",
        ),
        (
            POD.replace(
                restrictions=(NodeSelector("x", [[LabelTerm("kubernetes.io/arch", "In", ("amd64",))]]),)
            ),
            node("linux/arm64"),
            ("linux/amd64",),
            "excluded",
        ),
        (IMAGE, node("linux/amd64"), (None,), "unknown"),
    ],
)
def test_one_cell(use: Use, where: Node, listed: Sequence[str | None], expected: str) -> None:
    """Every way to run, and not to."""
    assert state(use, where, *listed) == expected


def test_a_single_image() -> None:
    """Is started anyway: natively, under an emulator, or with an exec format error; a level may be unknown."""
    assert state(IMAGE, EMULATING, "linux/arm64", single=True) == "emulated"
    assert state(IMAGE, EMULATING, "linux/arm64", single=True, native=True) == "fails"
    cell = judge(IMAGE, node("linux/amd64"), listing_of("linux/arm64", single=True))
    assert cell.state == "fails"
    assert "exec format error" in cell.reason
    assert state(IMAGE, node("linux/amd64"), "linux/amd64/v3", single=True) == "unknown"
    assert state(IMAGE, node("linux/amd64/v3"), "linux/amd64/v3", single=True) == "native"


def test_what_an_emulator_could_do_is_said() -> None:
    """So that people know what to write."""
    cell = judge(SERVICE, EMULATING, listing_of("linux/arm64"))
    assert "emulated it would run as linux/arm64, if that were asked for by name" in cell.reason
    row = Row(SERVICE, listing_of("linux/arm64"), None, [cell])
    (fix,) = fixes(row)
    assert fix.text == "services:\n  web:\n    platform: linux/arm64"


# The whole ----------------------------------------------------------------------------------------


class Counting(Memory):
    """Counts requests, and can be told to fail."""

    def __init__(self, error: Error | None = None) -> None:
        super().__init__()
        self.asked: Counter[str] = Counter()
        self.error = error

    def resolve(self, name: str) -> Document:
        self.asked["resolve"] += 1
        if self.error:
            raise self.error
        return super().resolve(name)

    def open(self, descriptor: Descriptor, offset: int = 0) -> Readable:
        self.asked["open"] += 1
        return super().open(descriptor, offset)


def over(*stores: Counting) -> Open:
    """Opens ``a:…`` from the first store, ``b:…`` from the second, and so on."""

    def open_(place: str) -> tuple[Source, str]:
        name, _, tag = place.rpartition(":")
        return stores[ord(name[-1]) - ord("a")], tag

    return open_


def test_one_request_for_each_image() -> None:
    """However many nodes and uses; two for an image that is no list."""
    store = Counting()
    make_index(store, ["linux/amd64", "linux/arm64"], tag="list", attestations=True)
    make_image(store, "linux/amd64", tag="one")
    nodes = [node("linux/amd64"), node("linux/arm64"), node("linux/s390x")]
    store.asked.clear()
    matrix = check([Use("a:list"), Use("a:list"), GLOBAL.replace(image="a:list")], nodes, over(store))
    assert store.asked == {"resolve": 1}
    assert [[cell.state for cell in row.cells] for row in matrix.rows] == [["native", "native", "fails"]] * 3
    assert (matrix.verdict, exit_code(matrix)) == ("no", 1)
    store.asked.clear()
    check([Use("a:one")], nodes, over(store))
    assert store.asked == {"resolve": 1, "open": 1}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (AuthRequired("x", status=401), "unauthorised"),
        (Forbidden("x", status=403), "forbidden"),
        (NotFound("x"), "not found"),
        (RateLimited("x", status=429), "rate limited"),
        (Unreachable("x"), "unreachable"),
        (Error("x"), "unreadable"),
    ],
)
def test_what_cannot_be_read_is_told_apart(error: Error, kind: str) -> None:
    """Others are still judged; nobody can tell is 3, and a plain no is 1."""
    good = Counting()
    make_index(good, ["linux/amd64"], tag="1")
    uses = [Use("a:1"), Use("b:1")]
    matrix = check(uses, [node("linux/amd64")], over(good, Counting(error)))
    assert [row.state for row in matrix.rows] == ["ok", "unknown"]
    assert matrix.rows[1].problem is not None
    assert matrix.rows[1].problem.kind == kind
    assert exit_code(matrix) == 3
    assert exit_code(check(uses, [node("linux/arm64")], over(good, Counting(error)))) == 1


def test_a_place_that_does_not_open() -> None:
    """A layout that is not there, for one."""

    def open_(place: str) -> tuple[Source, str]:
        raise NotFound(f"{place} is not there")

    matrix = check([Use("oci:x:1")], [node("linux/amd64")], open_)
    assert matrix.rows[0].problem is not None
    assert matrix.rows[0].problem.kind == "not found"


def test_what_a_build_makes_may_not_be_there_yet() -> None:
    """It is not counted against anybody."""
    store = Counting(NotFound("x"))
    uses = [
        GLOBAL.replace(image="a:1", built=True),
        GLOBAL.replace(image="", built=True, problem="its build section makes it"),
    ]
    matrix = check(uses, [node("linux/amd64")], over(store))
    assert [row.state for row in matrix.rows] == ["not built", "not built"]
    assert exit_code(matrix) == 0
    nameless = check([POD.replace(image="", problem="it names no image")], [node("linux/amd64")], over(store))
    assert exit_code(nameless) == 3


def test_alike_nodes_are_judged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """But each has its own cell, and one that a file speaks of by name is not like the others."""
    store = Counting()
    make_index(store, ["linux/amd64"], tag="1")
    judged = []

    def watched(use: Use, where: Node, listing: Listing, **options: Any) -> Cell:
        judged.append(where.name)
        return judge(use, where, listing, **options)

    monkeypatch.setattr("manyfest.coverage.matrix.judge", watched)
    nodes = [node("linux/amd64", "swarm", "x86_64", name=f"n{n}") for n in range(5)]
    (row,) = check([Use("a:1")], nodes, over(store)).rows
    assert judged == ["n0"]
    assert [cell.node.name for cell in row.cells] == ["n0", "n1", "n2", "n3", "n4"]
    here = GLOBAL.replace(image="a:1", restrictions=(SwarmConstraint("node.hostname", True, "n3"),))
    (row,) = check([here], nodes, over(store)).rows
    assert [cell.state for cell in row.cells] == ["excluded"] * 3 + ["native", "excluded"]


def test_the_kernels_word_is_said() -> None:
    """The usual mistake with constraints."""
    use = GLOBAL.replace(restrictions=(SwarmConstraint("node.platform.arch", True, "amd64"),))
    cell = judge(use, node("linux/amd64", "swarm", "x86_64"), listing_of("linux/amd64"))
    assert cell.reason == "kept away by node.platform.arch == amd64, since the node calls itself x86_64"


def test_nowhere_to_go() -> None:
    """Every node excluded is a no."""
    store = Counting()
    make_index(store, ["linux/amd64"], tag="1")
    use = SERVICE.replace(image="a:1", restrictions=(SwarmConstraint("node.platform.arch", True, "riscv64"),))
    matrix = check([use], [node("linux/amd64", "swarm", "x86_64")], over(store))
    assert matrix.rows[0].is_stranded
    assert exit_code(matrix) == 1
    assert "may go to no node at all" in to_markdown(matrix)
    assert "may go to no node at all" in json.dumps(to_sarif(matrix, "1"))


def test_names_that_are_none() -> None:
    """Before anything is asked, with the place in the file."""
    with pytest.raises(InputError, match=r"c.yaml:3:12: service web: .*'U'"):
        place_of(SERVICE.replace(image="web/UPPER"))
    with pytest.raises(InputError):
        place_of(Use("web/UPPER"))
    assert place_of(SERVICE.replace(image="oci:1")) == "docker://oci:1"


# Telling ------------------------------------------------------------------------------------------


def matrix_of(use: Use, nodes: Sequence[Node], *listed: str) -> Matrix:
    """Judged by hand."""
    listing: Listing = listing_of(*listed)
    return Matrix(nodes, [Row(use, listing, None, [judge(use, each, listing) for each in nodes])])


def test_columns() -> None:
    """Few nodes stand for themselves; many together where their answers are the same."""
    few = matrix_of(IMAGE, [node("linux/amd64", name="a"), node("linux/arm64", name="b")], "linux/amd64")
    assert [group.title for group in columns(few)] == ["a", "b"]
    many = [node("linux/amd64", name=f"n{n}") for n in range(8)] + [node("linux/s390x", name="z")]
    groups = columns(matrix_of(IMAGE, many, "linux/amd64"))
    assert [(group.title, len(group.members)) for group in groups] == [("linux/amd64 x8", 8), ("z", 1)]


def test_findings_come_together_worst_first() -> None:
    """One line for nodes with the same reason."""
    nodes = [node("linux/amd64", name="a"), *(node("linux/s390x", name=f"z{n}") for n in range(3))]
    (row,) = matrix_of(IMAGE, nodes, "linux/amd64").rows
    assert [(state, [cell.node.name for cell in cells]) for state, cells in findings(row)] == [
        ("fails", ["z0", "z1", "z2"]),
        ("native", ["a"]),
    ]


def test_json() -> None:
    """Everything, serialisable."""
    matrix = matrix_of(GLOBAL, [S390X, node("linux/amd64", "swarm", "x86_64")], "linux/amd64")
    shown = json.loads(json.dumps(to_json(matrix, ["careful"])))
    assert shown["verdict"] == "no"
    assert shown["warnings"] == ["careful"]
    (row,) = shown["images"]
    assert (row["file"], row["line"], row["column"], row["state"]) == ("c.yaml", 3, 12, "fails")
    assert [cell["state"] for cell in row["cells"]] == ["fails", "native"]
    assert row["fixes"][0]["text"].endswith("- node.platform.arch != s390x")


def test_sarif() -> None:
    """Levels, places in files, one rule for each kind of result; what is native is none."""
    nodes = [EMULATING.replace(name="e"), node("linux/s390x", name="z"), node("linux/arm64", name="a")]
    use = GLOBAL.replace(platform=Platform.parse("linux/arm64"))
    run = to_sarif(matrix_of(use, nodes, "linux/arm64"), "1.0")["runs"][0]
    assert {(r["ruleId"], r["level"]) for r in run["results"]} == {
        ("will-not-start", "error"),
        ("emulated", "note"),
    }
    assert {r["ruleId"] for r in run["results"]} <= {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    place = run["results"][0]["locations"][0]["physicalLocation"]
    assert place == {"artifactLocation": {"uri": "c.yaml"}, "region": {"startLine": 3, "startColumn": 12}}
    plain = to_sarif(matrix_of(IMAGE, nodes, "linux/arm64"), "1.0")["runs"][0]["results"][0]
    assert "physicalLocation" not in plain["locations"][0]


def test_markdown_is_not_written_by_strangers() -> None:
    """Names cannot break the table, mention people or add markup."""
    use = IMAGE.replace(image="a|b<i>@team`x`\n# head", owner="service <x>")
    text = to_markdown(matrix_of(use, [node("linux/s390x")], "linux/amd64"))
    assert "\n# head" not in text
    assert "<i>" not in text.replace("`service <x>: a|b<i>@team'x' # head`", "")
    assert "**Some images will not run.**" in text
    assert "a\\|b&lt;i>@\u200bteam" in text


# What to write ------------------------------------------------------------------------------------


def test_constraints_for_swarm() -> None:
    """An override file for a stack, options for a single service; other spellings are an own advice."""
    nodes = [node("linux/amd64", "swarm", "x86_64", name="a"), S390X, I686]
    (row,) = matrix_of(GLOBAL, nodes, "linux/amd64", "linux/386").rows
    away, spelling = fixes(row)
    assert [line.strip() for line in away.text.splitlines()[-2:]] == [
        "- node.platform.arch != i686",
        "- node.platform.arch != s390x",
    ]
    assert "linux/386" in spelling.title
    assert "--resolve-image never" in spelling.text
    (row,) = matrix_of(IMAGE, nodes[:2], "linux/amd64").rows
    assert fixes(row)[0].text == "docker service create --constraint 'node.platform.arch!=s390x' …"


@pytest.mark.parametrize(
    ("owner", "path"),
    [
        ("Deployment web, container c", ["spec", "template", "spec"]),
        ("CronJob web, container c", ["spec", "jobTemplate", "spec", "template", "spec"]),
        ("Pod web, container c", ["spec"]),
    ],
)
def test_affinity_for_kubernetes(owner: str, path: list[str]) -> None:
    """A patch that keeps the pod where it runs."""
    import yaml

    nodes = [
        node(each, "kubernetes", engine="containerd")
        for each in ("linux/amd64", "linux/arm64", "linux/s390x")
    ]
    (row,) = matrix_of(POD.replace(owner=owner), nodes, "linux/amd64", "linux/arm64").rows
    (fix,) = fixes(row)
    patch = yaml.safe_load(fix.text)
    for key in path:
        patch = patch[key]
    required = patch["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    (term,) = required["nodeSelectorTerms"]
    assert [(e["key"], e["values"]) for e in term["matchExpressions"]] == [
        ("kubernetes.io/os", ["linux"]),
        ("kubernetes.io/arch", ["amd64", "arm64"]),
    ]


def test_nothing_to_write() -> None:
    """When all runs, or nothing does."""
    for listed in ("linux/amd64", "linux/s390x"):
        (row,) = matrix_of(POD, [node("linux/amd64", "kubernetes")], listed).rows
        assert fixes(row) == []


# What a name leads to -----------------------------------------------------------------------------


def test_listing_a_list_costs_nothing_more() -> None:
    """Entries that say nothing, and indexes in the index, are opened."""
    store = Counting()
    index = make_index(store, ["linux/amd64", "linux/arm64"], attestations=True, tag="1")
    listing = list_images(store, index)
    assert [entry.kind for entry in listing.entries] == ["image", "image", "attestation", "attestation"]
    assert (listing.platforms, listing.single) == (tuple(platforms("linux/amd64", "linux/arm64")), False)
    fields = index.to_json()
    del fields["manifests"][0]["platform"]
    fields["manifests"].append(
        {**index.descriptor.to_json(), "platform": {"os": "linux", "architecture": "amd64"}}
    )
    changed = list_images(store, Document(index.media_type, json.dumps(fields).encode()))
    assert (changed.entries[0].platform, str(changed.entries[0].config)) == (None, "linux/amd64")
    assert [entry.nested for entry in changed.entries] == [False] * 4 + [True] * 4
