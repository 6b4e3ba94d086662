# SPDX-License-Identifier: Apache-2.0
"""Reading, printing and normalising platforms."""

from __future__ import annotations

import pytest

from manyfest.errors import InvalidPlatform
from manyfest.platforms import Platform, normalise, require_known

PARSED = [
    # written, printed, normalised
    ("linux/amd64", "linux/amd64", "linux/amd64"),
    ("linux/amd64/v1", "linux/amd64", "linux/amd64"),
    ("linux/amd64/v3", "linux/amd64/v3", "linux/amd64/v3"),
    ("linux/x86_64", "linux/amd64", "linux/amd64"),
    ("linux/x86-64/v2", "linux/amd64/v2", "linux/amd64/v2"),
    ("Linux/AMD64", "linux/amd64", "linux/amd64"),
    ("linux/i386", "linux/386", "linux/386"),
    ("linux/i386/v9", "linux/386", "linux/386"),
    ("linux/aarch64", "linux/arm64", "linux/arm64"),
    ("linux/arm64/v8", "linux/arm64/v8", "linux/arm64"),
    ("linux/arm64/8", "linux/arm64/v8", "linux/arm64"),
    ("linux/arm64/v8.0", "linux/arm64/v8", "linux/arm64"),
    ("linux/arm64/v8.2", "linux/arm64/v8.2", "linux/arm64/v8.2"),
    ("linux/arm64/9", "linux/arm64/v9", "linux/arm64/v9"),
    ("linux/arm64/v9.0", "linux/arm64/v9", "linux/arm64/v9"),
    ("linux/arm", "linux/arm", "linux/arm/v7"),
    ("linux/arm/v7", "linux/arm/v7", "linux/arm/v7"),
    ("linux/arm/7", "linux/arm/v7", "linux/arm/v7"),
    ("linux/arm/6", "linux/arm/v6", "linux/arm/v6"),
    ("linux/arm/v5", "linux/arm/v5", "linux/arm/v5"),
    ("linux/armhf", "linux/arm", "linux/arm/v7"),
    ("linux/armel", "linux/arm/v6", "linux/arm/v6"),
    ("macos/arm64", "darwin/arm64", "darwin/arm64"),
    ("amd64", "linux/amd64", "linux/amd64"),
    ("armhf", "linux/arm", "linux/arm/v7"),
    ("armel", "linux/arm/v6", "linux/arm/v6"),
    ("arm64", "linux/arm64", "linux/arm64"),
    ("windows(10.0.17763)/amd64", "windows(10.0.17763)/amd64", "windows(10.0.17763)/amd64"),
    ("windows(10.0.17763+win32k)/amd64", "windows(10.0.17763+win32k)/amd64", None),
    ("windows(+win32k+b)/amd64", "windows(+win32k+b)/amd64", "windows(+b+win32k)/amd64"),
    ("linux(a%2Fb)/arm/v7", "linux(a%2Fb)/arm/v7", None),
    # crane and oras, then regctl
    ("windows/amd64:10.0.17763.1", "windows(10.0.17763.1)/amd64", None),
    ("linux/arm/v7:1.0", "linux(1.0)/arm/v7", None),
    ("windows/amd64,osver=10.0.17763.1", "windows(10.0.17763.1)/amd64", None),
    # The list is open.
    ("haiku/loong128/x.y", "haiku/loong128/x.y", "haiku/loong128/x.y"),
    ("unknown/unknown", "unknown/unknown", "unknown/unknown"),
]


@pytest.mark.parametrize(("text", "printed", "normal"), PARSED)
def test_reads_prints_and_normalises(text: str, printed: str, normal: str | None) -> None:
    """Printed as written where containerd does, compared in one form."""
    platform = Platform.parse(text)
    assert str(platform) == printed
    assert Platform.parse(printed) == platform
    assert str(normalise(platform)) == (normal or printed)


@pytest.mark.parametrize(
    ("text", "host", "expected"),
    [
        ("linux", "linux/arm/v6", "linux/arm/v6"),
        ("linux", "linux/arm/v7", "linux/arm"),
        ("windows(10.0.1)", "linux/amd64", "windows(10.0.1)/amd64"),
        ("arm64", "darwin/arm64", "darwin/arm64"),
        ("s390x", "linux/amd64", "linux/s390x"),
    ],
)
def test_a_lone_word_is_completed_from_the_host(text: str, host: str, expected: str) -> None:
    """An operating system first, else an architecture."""
    assert str(Platform.parse(text, host=Platform.parse(host))) == expected


INVALID = [
    ("", "an empty platform, expected os/arch"),
    ("linux", "names only an operating system"),
    ("linux/..", "architecture is '..'"),
    ("linux/arm/.", "variant is '.'"),
    ("arm()", "neither an operating system nor an architecture"),
    ("arm64(1.0)", "neither an operating system nor an architecture"),
    ("nonsense", "neither an operating system nor an architecture"),
    ("linux/", "it ends after character 6"),
    ("linux//v7", "character 7 is '/'"),
    ("/amd64", "begins with '/'"),
    ("linux/arm/v7/x", "character 13 is '/', expected the end"),
    ("linux/ar m", "character 9 is ' '"),
    ("linux/*", "character 7 is '*'"),
    ("*/amd64", "no wildcards"),
    ("li nux/amd64", "character 3 is ' '"),
    ("windows(10.0/amd64", "should be ')'"),
    ("windows(10.0)x/amd64", "character 14 is 'x', expected '/'"),
    ("windows(1 0)/amd64", "character 10 is ' '"),
    ("windows(a%zz)/amd64", "two hexadecimal digits"),
    ("windows(%ff)/amd64", "not UTF-8"),
    ("windows(%0a)/amd64", "expected printable text"),
    ("windows(1)/amd64:2", "given twice"),
    ("linux/amd64:", "expected a version after ':'"),
    ("windows/amd64,version=1", "expected osver=VERSION"),
    ("linux/" + "a" * 200, "at most 128"),
]


@pytest.mark.parametrize(("text", "message"), INVALID)
def test_says_what_is_wrong(text: str, message: str) -> None:
    """With the character, counted from one."""
    with pytest.raises(InvalidPlatform) as caught:
        Platform.parse(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "near"),
    [("armv7", "linux/arm/v7"), ("arm46", "linux/arm64"), ("amd46", "linux/amd64"), ("x64", "linux/amd64")],
)
def test_suggests_for_a_lone_word(text: str, near: str) -> None:
    """Aliases that are no architecture's name here, and slips."""
    with pytest.raises(InvalidPlatform) as caught:
        Platform.parse(text)
    assert caught.value.hint == f"did you mean {near}?"


@pytest.mark.parametrize(
    ("os", "architecture", "near"),
    [
        ("linux", "armv7", "linux/arm/v7"),
        ("linux", "armv6l", "linux/arm/v6"),
        ("linux", "x86", "linux/386"),
        ("linux", "ppc64el", "linux/ppc64le"),
        ("linux", "loongarch64", "linux/loong64"),
        ("linux", "riscv46", "linux/riscv64"),
        ("lunix", "amd64", "linux/amd64"),
        ("linux", "arm32v7", "linux/arm/v7"),
        ("linux", "amd64", ""),
        ("linux", "aarch64", ""),
        ("unknown", "unknown", ""),
        ("linux", "qqqqqq", ""),
        ("", "", ""),
    ],
)
def test_suggests_what_was_meant(os: str, architecture: str, near: str) -> None:
    """Only for what is not known."""
    assert Platform(os, architecture).suggestion == near


@pytest.mark.parametrize(
    "text",
    [
        # Every pair docker manifest annotate takes, then some that it refuses.
        "darwin/386",
        "darwin/amd64",
        "darwin/arm",
        "darwin/arm64",
        "dragonfly/amd64",
        "freebsd/386",
        "freebsd/amd64",
        "freebsd/arm",
        "linux/386",
        "linux/amd64",
        "linux/arm",
        "linux/arm64",
        "linux/ppc64le",
        "linux/mips64",
        "linux/mips64le",
        "linux/riscv64",
        "linux/s390x",
        "netbsd/386",
        "netbsd/amd64",
        "netbsd/arm",
        "openbsd/386",
        "openbsd/amd64",
        "openbsd/arm",
        "plan9/386",
        "plan9/amd64",
        "solaris/amd64",
        "windows/386",
        "windows/amd64",
        "windows/arm",
        "windows/arm64",
        "linux/loong64",
        "linux/mips",
        "linux/mipsle",
        "freebsd/arm64",
        "wasip1/wasm",
        "linux/aarch64",
        "macos/arm64",
    ],
)
def test_knows(text: str) -> None:
    """Docker's list and more."""
    platform = Platform.parse(text)
    assert platform.is_known
    assert require_known(platform) is platform


def test_require_known_uses_dockers_words() -> None:
    """Scripts look for them."""
    with pytest.raises(InvalidPlatform, match="unsupported os/arch combination: linux/armv7") as caught:
        require_known(Platform("linux", "armv7"))
    assert caught.value.hint == "did you mean linux/arm/v7?"
    with pytest.raises(InvalidPlatform, match="unsupported os/arch combination: windows/s390x"):
        require_known(Platform("windows", "s390x"))


def test_json_round_trip_in_gos_order() -> None:
    """All six fields, and none that is empty."""
    fields = {
        "architecture": "amd64",
        "os": "windows",
        "os.version": "10.0.17763.1",
        "os.features": ["win32k"],
        "variant": "v2",
        "features": ["sse4"],
    }
    platform = Platform.from_json(fields)
    assert platform.to_json() == fields
    assert list(platform.to_json()) == list(fields)
    assert Platform("linux", "arm64").to_json() == {"architecture": "arm64", "os": "linux"}


def test_json_is_kept_as_written() -> None:
    """Nothing is normalised on the way in or out."""
    fields = {"architecture": "aarch64", "os": "Linux", "variant": "V8"}
    assert Platform.from_json(fields).to_json() == fields


def test_json_with_nulls_and_nothing() -> None:
    """Go writes empty platforms for artifacts; they are readable, and say so."""
    platform = Platform.from_json({"architecture": None, "os": "", "os.features": None, "variant": None})
    assert platform == Platform("", "")
    assert not platform.is_complete
    assert str(platform) == "unknown"
    assert Platform.from_json({"architecture": "unknown", "os": "unknown"}).is_unknown


@pytest.mark.parametrize(
    "fields",
    [
        None,
        [],
        "linux/amd64",
        {"os": "linux", "architecture": 386},
        {"os": ["linux"], "architecture": "amd64"},
        {"os": "linux", "architecture": "arm", "variant": 7},
        {"os": "windows", "architecture": "amd64", "os.version": 10.0},
        {"os": "windows", "architecture": "amd64", "os.features": "win32k"},
        {"os": "windows", "architecture": "amd64", "os.features": [1]},
        {"os": "windows", "architecture": "amd64", "os.version": "10\x1b[31m"},
        {"os": "lin/ux", "architecture": "amd64"},
        {"os": "linux", "architecture": "amd64\n"},
        {"os": "linux", "architecture": "a" * 10_000},
    ],
)
def test_json_of_the_wrong_kind(fields: object) -> None:
    """Hostile or sloppy: an error, and a short one."""
    with pytest.raises(InvalidPlatform) as caught:
        Platform.from_json(fields)
    assert len(str(caught.value)) < 300


def test_from_config() -> None:
    """An image config spells the same fields; its other ones do not matter."""
    config = {
        "architecture": "arm",
        "os": "linux",
        "variant": "v6",
        "os.version": "1",
        "os.features": ["a"],
        "features": {"unrelated": True},
        "config": {},
    }
    assert Platform.from_config(config) == Platform("linux", "arm", "v6", "1", ("a",))
    assert not Platform.from_config({}).is_complete
    with pytest.raises(InvalidPlatform):
        Platform.from_config([])


def test_options_are_encoded() -> None:
    """What the text form needs for itself is written with percent signs."""
    platform = Platform("windows", "amd64", "", "1 (a)/b+c%", ("ü",))
    assert str(platform) == "windows(1%20%28a%29%2Fb%2Bc%25+%C3%BC)/amd64"
    assert Platform.parse(str(platform)) == platform


def test_features_do_not_split_equal_platforms() -> None:
    """Sorted and once each when compared, as written otherwise."""
    one, other = (
        Platform("windows", "amd64", os_features=["b", "a", "b"]),
        Platform("windows", "amd64", os_features=["a", "b"]),
    )
    assert one != other
    assert one.os_features == ("b", "a", "b")
    assert normalise(one) == normalise(other)
