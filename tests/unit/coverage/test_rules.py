# SPDX-License-Identifier: Apache-2.0
"""Every engine's rule against tables made by hand from its code and its users' reports."""

from __future__ import annotations

from pathlib import Path

import pytest

from manyfest.coverage.rules import (
    ENGINES,
    BuildKit,
    Containerd,
    DockerClassic,
    DockerContainerd,
    Host,
    Kubernetes,
    Podman,
    Swarm,
    listing_of,
    rules,
)
from manyfest.platforms import Platform

CURRENT = ("docker", "docker-containerd", "containerd", "buildkit", "podman")
DOCKER, STORE, CONTAINERD, BUILDKIT, PODMAN = (ENGINES[name]() for name in CURRENT)


def host(text: str) -> Host:
    """A machine of a platform, saying what such machines usually say."""
    return Host(Platform.parse(text))


def taken(rule: str, machine: str, *listed: str | None, asked: str = "", single: bool = False) -> str:
    """The platform that a rule takes, ``-`` for nothing."""
    platform = Platform.parse(asked) if asked else None
    choice = ENGINES[rule]().choose(host(machine), listing_of(*listed, single=single), platform)
    return "-" if choice.entry is None else str(choice.platform)


ARM = ("linux/amd64", "linux/arm/v5", "linux/arm/v6", "linux/arm/v7", "linux/arm64/v8")
NO_V7 = ("linux/amd64", "linux/arm/v5", "linux/arm/v6", "linux/arm64/v8")
V7_ONLY = ("linux/amd64", "linux/arm/v7")
UNSAID = ("linux/amd64", "linux/arm")

# The table of https://github.com/moby/moby/issues/37647, and what became of it: machine, list, what each engine takes.
CASES = [
    # machine, list, docker, docker-containerd, containerd, buildkit, podman
    ("linux/arm/v7", ARM, ("linux/arm/v7",) * 5),
    ("linux/arm/v6", ARM, ("linux/arm/v6",) * 5),
    ("linux/arm/v5", ARM, ("linux/arm/v5",) * 5),
    ("linux/arm64", ARM, ("linux/arm64/v8",) * 5),
    ("linux/arm/v7", NO_V7, ("linux/arm/v6",) * 5),
    ("linux/arm/v6", V7_ONLY, ("-",) * 5),
    # A list that only says arm means v7 to containerd; podman tries the empty variant last on every arm.
    ("linux/arm/v7", UNSAID, ("linux/arm",) * 5),
    ("linux/arm/v6", UNSAID, ("-", "-", "-", "-", "linux/arm")),
    # An arm64 runs 32-bit images in Docker's family, and not with podman.
    ("linux/arm64", V7_ONLY, ("linux/arm/v7", "linux/arm/v7", "linux/arm/v7", "linux/arm/v7", "-")),
    ("linux/arm64", ("linux/arm/v5", "linux/arm/v6"), ("linux/arm/v6",) * 4 + ("-",)),
    ("linux/arm64", ("linux/arm64",), ("linux/arm64",) * 5),
    ("linux/arm64", ("linux/arm64/v9",), ("-",) * 5),
    # amd64 runs 386 in Docker's family; levels count only where they are detected.
    ("linux/amd64", ("linux/386",), ("linux/386",) * 4 + ("-",)),
    ("linux/amd64", ("linux/386", "linux/amd64"), ("linux/amd64",) * 5),
    ("linux/amd64/v3", ("linux/amd64", "linux/amd64/v3"), ("linux/amd64/v3", "linux/amd64/v3") + ("linux/amd64",) * 3),
    ("linux/amd64/v2", ("linux/amd64/v3",), ("-",) * 5),
    ("linux/amd64", ("linux/s390x", "linux/ppc64le"), ("-",) * 5),
    ("linux/386", ("linux/amd64", "linux/386"), ("linux/386",) * 5),
    ("linux/loong64", ("linux/loong64",), ("linux/loong64",) * 5),
]  # fmt: skip


@pytest.mark.parametrize(("machine", "listed", "expected"), CASES)
def test_what_engines_take(machine: str, listed: tuple[str, ...], expected: tuple[str, ...]) -> None:
    """Without a platform asked for by name."""
    assert tuple(taken(rule, machine, *listed) for rule in CURRENT) == expected


@pytest.mark.parametrize(
    ("machine", "listed", "expected"),
    [
        ("linux/amd64", ("linux/386",), "-"),
        ("linux/amd64/v3", ("linux/amd64/v3", "linux/amd64"), "linux/amd64"),
        ("linux/arm64", V7_ONLY, "-"),
        ("linux/arm/v7", NO_V7, "linux/arm/v5"),
        ("linux/arm/v6", V7_ONLY, "linux/arm/v7"),
        ("linux/arm/v6", UNSAID, "linux/arm"),
        ("linux/arm/v7", ARM, "linux/arm/v7"),
        ("linux/s390x", ARM, "-"),
    ],
)
def test_docker_before_23(machine: str, listed: tuple[str, ...], expected: str) -> None:
    """One platform and no way down; on arm then anything for arm, in the list's order: what moby#37647 complains of."""
    assert taken("docker-20.10", machine, *listed) == expected


@pytest.mark.parametrize(
    ("asked", "listed", "expected"),
    [
        # The containerd store and containerd take exactly what is asked for; the others what such a machine runs.
        ("linux/arm64", V7_ONLY, ("linux/arm/v7", "-", "-", "linux/arm/v7", "-")),
        ("linux/arm/v7", NO_V7, ("linux/arm/v6", "-", "-", "linux/arm/v6", "linux/arm/v6")),
        ("linux/amd64", ("linux/386",), ("linux/386", "-", "-", "linux/386", "-")),
        ("linux/arm64", ("linux/arm64/v8",), ("linux/arm64/v8",) * 5),
        ("linux/arm64/v8", ("linux/arm64",), ("linux/arm64",) * 5),
        # Without a variant podman tries none first, then every one from v8 down.
        ("linux/arm", ("linux/arm/v6", "linux/arm/v7"), ("linux/arm/v7",) * 5),
        ("linux/arm", ("linux/arm/v6",), ("linux/arm/v6", "-", "-", "linux/arm/v6", "linux/arm/v6")),
        ("linux/s390x", ("linux/amd64",), ("-",) * 5),
    ],
)
def test_what_engines_take_when_asked(asked: str, listed: tuple[str, ...], expected: tuple[str, ...]) -> None:
    """``--platform`` on an amd64 machine."""
    assert tuple(taken(rule, "linux/amd64", *listed, asked=asked) for rule in CURRENT) == expected


def test_podman_compares_words() -> None:
    """What it never normalises is not the same word."""
    from manyfest.indexes.listing import Entry, Listing

    for platform in (
        Platform("linux", "amd64", "v1"),
        Platform("linux", "x86_64"),
        Platform("Linux", "amd64"),
    ):
        entry = Entry("sha256:" + "1" * 64, platform)
        listing = Listing("sha256:" + "0" * 64, (entry,))
        assert Containerd().choose(host("linux/amd64"), listing).entry is entry
        assert Podman().choose(host("linux/amd64"), listing).entry is None


def test_equal_entries_the_first_wins() -> None:
    """And the second loses by name."""
    listing = listing_of("linux/amd64", "linux/arm64", "linux/arm64/v8")
    for rule in (DOCKER, STORE, CONTAINERD, BUILDKIT):
        choice = rule.choose(host("linux/arm64"), listing)
        assert choice.entry is listing.entries[1], rule
        assert "stands before it" in {e.digest: why for e, why in choice.rejected}[listing.entries[2].digest]


def test_an_entry_that_says_nothing() -> None:
    """Docker's classic store takes it last, unseen; containerd opens it; podman never takes it."""
    from manyfest.indexes.listing import Entry, Listing

    silent = Entry("sha256:" + "1" * 64, None, Platform.parse("linux/s390x"))
    listing = Listing("sha256:" + "0" * 64, (silent, *listing_of("linux/amd64").entries))
    assert DockerClassic().choose(host("linux/amd64"), listing).platform == Platform.parse("linux/amd64")
    assert DockerClassic().choose(host("linux/arm64"), listing).entry is silent
    assert Containerd().choose(host("linux/arm64"), listing).entry is None
    assert Containerd().choose(host("linux/s390x"), listing).entry is silent
    assert Podman().choose(host("linux/s390x"), listing).entry is None


def test_an_index_within_an_index() -> None:
    """The classic store does not look into it."""
    from manyfest.indexes.listing import Entry, Listing

    inner = Entry("sha256:" + "1" * 64, Platform.parse("linux/amd64"), nested=True)
    listing = Listing("sha256:" + "0" * 64, (inner,))
    choice = DockerClassic().choose(host("linux/amd64"), listing)
    assert choice.entry is None
    assert "index within the index" in choice.rejected[0][1]
    assert DockerContainerd().choose(host("linux/amd64"), listing).entry is inner


def test_a_single_image_skips_matching() -> None:
    """It is started whatever it is for; only Docker refuses it when another platform was asked for by name."""
    for rule in ENGINES:
        assert taken(rule, "linux/amd64", "linux/arm64", single=True) == "linux/arm64"
    refused = tuple(
        taken(rule, "linux/amd64", "linux/arm64", single=True, asked="linux/amd64") for rule in CURRENT
    )
    assert refused == ("-", "-", "linux/arm64", "linux/arm64", "linux/arm64")


def test_attestations_are_no_images() -> None:
    """And are said to be none."""
    listing = listing_of("linux/arm64", "unknown/unknown")
    for rule in rules():
        choice = rule.choose(host("linux/arm64"), listing)
        assert choice.entry is listing.entries[0]
        assert ("an attestation, not an image") in [why for _, why in choice.rejected]


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        ("10.0.17763.1", "10.0.17763.4000"),
        ("10.0.20348", "10.0.20348.100"),
        ("10.0.26100", "10.0.26100.1"),
        ("10.0.14393", "-"),
    ],
)
def test_windows_builds(build: str, expected: str) -> None:
    """Equal builds below 2022, any from there up to the host's own, the newest first; podman takes the first."""
    listing = listing_of(
        "windows(10.0.17763.4000)/amd64", "windows(10.0.20348.100)/amd64", "windows(10.0.26100.1)/amd64"
    )
    windows = Host(Platform("windows", "amd64", os_version=build))
    entry = DockerClassic().choose(windows, listing).entry
    assert expected == ("-" if entry is None or entry.platform is None else entry.platform.os_version)
    assert Podman().choose(windows, listing).entry is listing.entries[0]


# Swarm --------------------------------------------------------------------------------------------

SWARM = Swarm(DockerClassic())


@pytest.mark.parametrize(
    ("listed", "placement"),
    [
        (("linux/amd64", "linux/arm64/v8"), (("linux", "amd64"), ("linux", "arm64"))),
        (("linux/amd64", "unknown/unknown"), (("linux", "amd64"),)),
        (("linux/arm/v6", "linux/arm/v7"), (("linux", ""),)),
        (("linux/amd64", "linux/amd64/v3"), (("linux", "amd64"),)),
        (("windows(10.0.17763.1)/amd64", "windows(10.0.20348.1)/amd64"), (("windows", "amd64"),)),
        (("linux/amd64", None), (("linux", "amd64"), ("", ""))),
        (("unknown/unknown",), ()),
    ],
)
def test_what_the_client_writes_down(
    listed: tuple[str | None, ...], placement: tuple[tuple[str, str], ...]
) -> None:
    """``Placement.Platforms``: no variants, no unknown ones, arm blanked, doubles gone."""
    assert SWARM.placement(listing_of(*listed)) == placement


@pytest.mark.parametrize(
    ("machine", "listed", "admitted"),
    [
        ("x86_64", ("linux/amd64",), True),
        ("aarch64", ("linux/arm64/v8",), True),
        ("x86_64", ("linux/arm64",), False),
        # Any list with arm passes on every Linux node.
        ("s390x", ("linux/amd64", "linux/arm/v7"), True),
        ("x86_64", ("linux/arm/v7",), True),
        ("armv7l", ("linux/arm/v7",), True),
        ("armv6l", ("linux/arm/v7",), True),
        # Names that Swarm does not know to be the same.
        ("i686", ("linux/386",), False),
        ("i686", ("linux/amd64", "linux/386"), False),
        ("loongarch64", ("linux/loong64",), False),
        ("mips64", ("linux/mips64le",), False),
        ("ppc64le", ("linux/ppc64le",), True),
        ("armv7l", ("linux/arm64",), False),
        ("aarch64", ("linux/arm/v7",), True),
        ("s390x", ("linux/amd64", None), True),
    ],
)
def test_the_schedulers_filter(machine: str, listed: tuple[str | None, ...], admitted: bool) -> None:
    """``uname -m`` against what the client wrote."""
    listing = listing_of(*listed)
    assert SWARM.admits(Host.of_machine(machine), SWARM.placement(listing)) is admitted


def test_swarms_operating_systems_are_compared_too() -> None:
    """A Windows node gets no Linux task, arm or not."""
    windows = Host(Platform("windows", "amd64"), "x86_64")
    assert not SWARM.admits(windows, SWARM.placement(listing_of("linux/amd64")))
    assert not SWARM.admits(windows, SWARM.placement(listing_of("linux/arm/v7")))


def test_a_single_image_gives_its_configs_platform() -> None:
    """One that says nothing gives none, and then there is no filter."""
    assert SWARM.placement(listing_of("linux/arm64", single=True)) == (("linux", "arm64"),)
    from manyfest.indexes.listing import Entry, Listing

    silent = Listing(
        "sha256:" + "0" * 64, (Entry("sha256:" + "0" * 64, None, Platform("", "")),), single=True
    )
    assert SWARM.placement(silent) == ()
    assert SWARM.admits(Host.of_machine("s390x"), ())


def test_swarm_explains() -> None:
    """A filtered node whose engine would run it; and an admitted one whose engine would not."""
    filtered = SWARM.choose(Host.of_machine("i686"), listing_of("linux/386"))
    assert filtered.entry is None
    assert "linux/386 with what the node calls itself, linux/i686" in filtered.reason
    assert "its engine would run linux/386" in filtered.reason
    admitted = SWARM.choose(Host.of_machine("s390x"), listing_of("linux/amd64", "linux/arm/v7"))
    assert admitted.entry is None
    assert "Swarm sends it there" in admitted.reason
    assert "every node passes" in admitted.reason
    old = SWARM.choose(Host.of_machine("armv6l"), listing_of("linux/arm/v7"))
    assert old.entry is None


def test_kubernetes_asks_the_runtime() -> None:
    """No filter: it lands there and fails."""
    choice = Kubernetes().choose(host("linux/s390x"), listing_of("linux/amd64"))
    assert choice.entry is None
    assert "ImagePullBackOff" in choice.reason
    assert Kubernetes(Podman()).choose(host("linux/arm64"), listing_of(*V7_ONLY)).entry is None
    assert Kubernetes().choose(host("linux/arm64"), listing_of(*V7_ONLY)).entry is not None


# Reasons ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("machine", "listed", "reason"),
    [
        ("linux/amd64", "linux/s390x", "for s390x, not amd64"),
        ("linux/amd64", "windows/amd64", "for windows, not linux"),
        ("linux/arm/v6", "linux/arm/v7", "for arm/v7, and arm/v6 was looked for"),
        ("linux/amd64", "linux/amd64/v3", "for amd64/v3, and amd64 was looked for"),
        ("windows/amd64", "linux/amd64", "for linux, not windows"),
        ("linux/amd64", None, "says no platform"),
    ],
)
def test_losers_know_why(machine: str, listed: str | None, reason: str) -> None:
    """One sentence each."""
    choice = BuildKit().choose(host(machine), listing_of(listed))
    assert [why for _, why in choice.rejected] == [reason]


def test_every_entry_is_chosen_or_rejected() -> None:
    """None is forgotten, none is told twice."""
    listing = listing_of(*ARM, "unknown/unknown", None, "linux/386", "linux/arm/v7")
    for rule in rules():
        for machine in ("linux/amd64/v3", "linux/arm/v6", "linux/arm64", "linux/s390x"):
            choice = rule.choose(host(machine), listing)
            told = [id(entry) for entry, _ in choice.rejected] + ([id(choice.entry)] if choice.entry else [])
            assert sorted(told) == sorted(id(entry) for entry in listing.entries), (rule, machine)


def test_rules_have_evidence() -> None:
    """Links, and ids that differ."""
    assert len({rule.id for rule in rules()}) == len(rules())
    assert all(link.startswith("https://") for rule in rules() for link in rule.evidence)
    assert all(rule.evidence and rule.title for rule in rules())


def test_the_page_says_what_the_code_does() -> None:
    """The rows of docs/explanation/engines-rules.md that a list and a machine can decide."""
    page = Path(__file__).parents[3] / "docs" / "explanation" / "engines-rules.md"
    table = {
        cells[0]: cells[1:]
        for line in page.read_text(encoding="utf-8").splitlines()
        if line.startswith("| ")
        and len(cells := [cell.strip(" *") for cell in line.strip("|").split("|")]) == 7
    }
    rows = {
        "arm64 takes arm/v7": ("linux/arm64", "linux/arm/v7"),
        "amd64 takes 386": ("linux/amd64", "linux/386"),
        "arm/v7 takes arm/v6": ("linux/arm/v7", "linux/arm/v6"),
        "arm/v6 takes arm/v7": ("linux/arm/v6", "linux/arm/v7"),
    }
    for row, (machine, listed) in rows.items():
        told = [not cell.startswith("no") for cell in table[row]]
        assert told == [taken(rule, machine, listed) != "-" for rule in ENGINES], row
    prefers = [
        taken(rule, "linux/amd64/v3", "linux/amd64", "linux/amd64/v3").endswith("v3") for rule in ENGINES
    ]
    assert [cell == "yes" for cell in table["amd64/v3 machine prefers amd64/v3"]] == prefers
    silent = [taken(rule, "linux/amd64", None) != "-" for rule in ENGINES]
    assert [cell.startswith("taken") for cell in table["entry without a platform"]] == silent
    refused = [
        taken(rule, "linux/amd64", "linux/arm64", single=True, asked="linux/amd64") == "-" for rule in ENGINES
    ]
    assert [cell == "refused" for cell in table["single image, another platform asked for"]] == refused
