# SPDX-License-Identifier: Apache-2.0
"""Which image a machine takes: containerd's vectors."""

from __future__ import annotations

import pytest

from manyfest.content.descriptor import Descriptor
from manyfest.platforms import AnyOf, Only, OnlyStrict, Ordered, Platform, best, ranked, vector


def platform(text: str) -> Platform:
    """Shorthand."""
    return Platform.parse(text)


ARM64_TAIL = "arm/v8 arm/v7 arm/v6 arm/v5"
VECTORS = [
    ("amd64", "amd64 386"),
    ("amd64/v1", "amd64 386"),
    ("amd64/v2", "amd64/v2 amd64 386"),
    ("amd64/v4", "amd64/v4 amd64/v3 amd64/v2 amd64 386"),
    ("386", "386"),
    ("arm", "arm/v7 arm/v6 arm/v5"),
    ("arm/v8", "arm/v8 arm/v7 arm/v6 arm/v5"),
    ("arm/v6", "arm/v6 arm/v5"),
    ("arm/v5", "arm/v5"),
    ("arm/v4", "arm/v4"),
    ("arm64", f"arm64 {ARM64_TAIL}"),
    ("arm64/v8", f"arm64 {ARM64_TAIL}"),
    ("arm64/v8.2", f"arm64/v8.2 arm64/v8.1 arm64 {ARM64_TAIL}"),
    (
        "arm64/v9",
        f"arm64/v9 arm64/v8.5 arm64/v8.4 arm64/v8.3 arm64/v8.2 arm64/v8.1 arm64 {ARM64_TAIL}",
    ),
    (
        "arm64/v9.2",
        "arm64/v9.2 arm64/v9.1 arm64/v9 arm64/v8.7 arm64/v8.6 arm64/v8.5 arm64/v8.4 arm64/v8.3 arm64/v8.2 "
        f"arm64/v8.1 arm64 {ARM64_TAIL}",
    ),
    (
        "arm64/v9.6",
        "arm64/v9.6 arm64/v9.5 arm64/v9.4 arm64/v9.3 arm64/v9.2 arm64/v9.1 arm64/v9 arm64/v8.9 arm64/v8.8 "
        f"arm64/v8.7 arm64/v8.6 arm64/v8.5 arm64/v8.4 arm64/v8.3 arm64/v8.2 arm64/v8.1 arm64 {ARM64_TAIL}",
    ),
    ("ppc64le", "ppc64le"),
    ("ppc64le/power10", "ppc64le/power10 ppc64le/power9 ppc64le/power8 ppc64le"),
    ("riscv64", "riscv64"),
    ("riscv64/rva22u64", "riscv64/rva22u64 riscv64/rva20u64 riscv64"),
    ("s390x", "s390x"),
    ("loong64", "loong64"),
    ("amd64/v999999999", "amd64/v999999999 386"),
    ("amd64/3", "amd64/3 amd64/v2 amd64 386"),
    ("arm64/7", "arm64/7 arm/v7 arm/v6 arm/v5"),
    ("arm64/odd", "arm64/odd arm/odd"),
    ("s390x/z15", "s390x/z15 s390x"),
]


@pytest.mark.parametrize(("host", "expected"), VECTORS)
def test_vector(host: str, expected: str) -> None:
    """Best first, each in the form to compare."""
    assert [str(p) for p in vector(platform(f"linux/{host}"))] == [
        f"linux/{word}" for word in expected.split()
    ]


MATCHES = [
    # host, matches Only, matches neither
    (
        "linux/amd64",
        "linux/amd64 linux/amd64/v1 linux/386",
        "linux/amd64/v2 linux/arm64 linux/arm windows/amd64 freebsd/amd64",
    ),
    ("linux/amd64/v2", "linux/amd64 linux/amd64/v1 linux/amd64/v2 linux/386", "linux/amd64/v3 linux/arm64"),
    ("linux/386", "linux/386 linux/i386", "linux/amd64"),
    (
        "linux/arm",
        "linux/arm linux/arm/v5 linux/arm/v6 linux/arm/v7",
        "linux/arm/v8 linux/arm/v4 linux/arm64",
    ),
    ("linux/arm/v6", "linux/arm/v6 linux/arm/v5 linux/armel", "linux/arm linux/arm/v7 linux/armhf"),
    (
        "linux/arm64",
        "linux/arm64 linux/arm64/v8 linux/aarch64 linux/arm linux/arm/v8 linux/arm/v5",
        "linux/arm64/v9 linux/arm64/v8.1 linux/arm/v4 linux/amd64",
    ),
    (
        "linux/arm64/v9",
        "linux/arm64/v9.0 linux/arm64 linux/arm64/v8.5 linux/arm",
        "linux/arm64/v8.6 linux/arm64/v9.1",
    ),
    ("darwin/arm64", "darwin/arm64 macos/arm64", "linux/arm64"),
    ("linux/s390x", "linux/s390x", "linux/s390 linux/amd64 unknown/unknown"),
]


@pytest.mark.parametrize(("host", "yes", "no"), MATCHES)
def test_only(host: str, yes: str, no: str) -> None:
    """A machine and what it runs natively."""
    matcher = Only(platform(host))
    assert [text for text in yes.split() if not matcher.matches(platform(text))] == []
    assert [text for text in no.split() if matcher.matches(platform(text))] == []


STRICT = [
    ("linux/amd64", "linux/amd64 linux/x86_64 linux/amd64/v1", "linux/386 linux/amd64/v2"),
    ("linux/arm", "linux/arm linux/arm/v7 linux/armhf", "linux/arm/v6 linux/arm/v8"),
    ("linux/arm64", "linux/arm64 linux/arm64/v8", "linux/arm linux/arm64/v9"),
    ("linux/arm64/v9", "linux/arm64/v9 linux/arm64/v9.0", "linux/arm64 linux/arm64/v9.1"),
    ("windows/amd64", "windows/amd64 windows(10.0.17763)/amd64", "linux/amd64"),
]


@pytest.mark.parametrize(("wanted", "yes", "no"), STRICT)
def test_only_strict(wanted: str, yes: str, no: str) -> None:
    """That platform in any spelling, and nothing below it."""
    matcher = OnlyStrict(platform(wanted))
    assert [text for text in yes.split() if not matcher.matches(platform(text))] == []
    assert [text for text in no.split() if matcher.matches(platform(text))] == []


WINDOWS = [
    # host's version, image's version, does it run
    ("10.0.17763", "10.0.17763.4737", True),
    ("10.0.17763", "10.0.17764.1", False),
    ("10.0.17763", "10.0.14393.1", False),
    ("10.0.17763.1", "10.0.17763.9999", True),
    ("10.0.17763", "", True),
    ("", "10.0.14393.1", True),
    ("10.0.20348", "10.0.20348.1", True),
    ("10.0.20348", "10.0.17763.1", False),
    ("10.0.20348", "10.0.26100.1", False),
    ("10.0.22621", "10.0.20348.1", True),
    ("10.0.26100", "10.0.20348.1", True),
    ("10.0.26100", "10.0.25398.1", True),
    ("10.0.26100", "10.0.17763.1", False),
    ("11.0.26100", "10.0.20348.1", False),
    ("10.0.17763", "not-a-version", False),
]


@pytest.mark.parametrize(("host", "image", "runs"), WINDOWS)
def test_windows_builds(host: str, image: str, runs: bool) -> None:
    """Equal builds before 20348; from there on any from 20348 up to the host's own."""
    matcher = Only(Platform("windows", "amd64", os_version=host))
    assert matcher.matches(Platform("windows", "amd64", os_version=image)) is runs


def test_windows_takes_the_newest_version_it_runs() -> None:
    """Whatever the order of the list; by number and not by text."""
    listed = [
        Platform("windows", "amd64", os_version=v)
        for v in ("10.0.20348.9", "10.0.20348.1787", "10.0.25398.1")
    ]
    assert best(listed, Only(Platform("windows", "amd64", os_version="10.0.20348"))) is listed[1]
    assert best(listed, Only(Platform("windows", "amd64", os_version="10.0.26100"))) is listed[2]


def test_linux_ignores_versions() -> None:
    """Only Windows' versions say anything."""
    assert Only(Platform("linux", "amd64", os_version="5.4")).matches(
        Platform("linux", "amd64", os_version="9")
    )


@pytest.mark.parametrize(
    ("host", "image", "runs"),
    [
        ((), (), True),
        (("a", "b"), (), True),
        (("b", "a"), ("a",), True),
        (("a",), ("a", "b"), False),
        ((), ("a",), False),
    ],
)
def test_features_must_be_a_subset(host: tuple[str, ...], image: tuple[str, ...], runs: bool) -> None:
    """What an image asks for, the machine must have."""
    matcher = Only(Platform("linux", "amd64", os_features=host))
    assert matcher.matches(Platform("linux", "amd64", os_features=image)) is runs


def test_win32k_does_not_count() -> None:
    """On Windows only."""
    assert Only(Platform("windows", "amd64")).matches(Platform("windows", "amd64", os_features=["win32k"]))
    assert not Only(Platform("linux", "amd64")).matches(Platform("linux", "amd64", os_features=["win32k"]))


def test_more_matching_features_win_among_equals() -> None:
    """But never over a better architecture."""
    plain, rich = Platform("linux", "amd64"), Platform("linux", "amd64", os_features=["a"])
    old = Platform("linux", "386", os_features=["a", "b"])
    host = Only(Platform("linux", "amd64", os_features=["a", "b"]))
    assert ranked([old, plain, rich], host) == [rich, plain, old]


def test_the_first_of_equals_wins() -> None:
    """Order in the list decides, as the specification says."""
    first = Descriptor.of(b"1", "x/y", platform=platform("linux/arm64"))
    second = Descriptor.of(b"2", "x/y", platform=platform("linux/arm64/v8"))
    matcher = Only(platform("linux/arm64"))
    assert best([first, second], matcher) is first
    assert best([second, first], matcher) is second


def test_entries_without_a_platform_do_not_match() -> None:
    """The caller opens their config to find out."""
    entries = [Descriptor.of(b"1", "x/y"), Descriptor.of(b"2", "x/y", platform=platform("linux/386"))]
    assert best(entries, Only(platform("linux/amd64"))) is entries[1]
    assert best(entries[:1], Only(platform("linux/amd64"))) is None
    told = ranked(
        entries, Only(platform("linux/amd64")), lambda entry: entry.platform or platform("linux/amd64")
    )
    assert told == entries


def test_ranks() -> None:
    """0 is best, None is no."""
    host = Only(platform("linux/arm64"))
    ranks = [
        host.rank(platform(f"linux/{word}")) for word in ("arm64/v8", "arm/v8", "arm", "arm/v5", "amd64")
    ]
    assert ranks == [0, 1, 2, 4, None]
    ordered = Ordered(platform("linux/s390x"), platform("linux/amd64"))
    assert [ordered.rank(platform(f"linux/{word}")) for word in ("s390x", "amd64", "386")] == [0, 1, None]
    anything = AnyOf(platform("linux/s390x"), platform("linux/amd64"))
    assert [anything.rank(platform(f"linux/{word}")) for word in ("s390x", "amd64", "386")] == [0, 0, None]


def test_any_of_keeps_the_list_order() -> None:
    """No preference means the first that is there."""
    listed = [platform("linux/amd64"), platform("linux/s390x")]
    assert ranked(listed, AnyOf(platform("linux/s390x"), platform("linux/amd64"))) == listed
    assert ranked(listed, Ordered(platform("linux/s390x"), platform("linux/amd64"))) == listed[::-1]


def test_repr_shows_the_vector() -> None:
    """For assertions and explanations."""
    assert repr(Only(platform("linux/arm/v6"))) == "Only(linux/arm/v6, linux/arm/v5)"
