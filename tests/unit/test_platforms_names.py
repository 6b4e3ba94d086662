# SPDX-License-Identifier: Apache-2.0
"""The names that kernels, compilers and distributions have for platforms."""

from __future__ import annotations

from pathlib import Path

import pytest

from manyfest.errors import InvalidPlatform
from manyfest.platforms import (
    Platform,
    from_alpine,
    from_debian,
    from_name,
    from_uname,
    go_environment,
    names,
    normalise,
)

TABLE = [
    # platform, uname, GNU, Debian, Alpine, docker-library
    ("amd64", "x86_64", "x86_64-linux-gnu", "amd64", "x86_64", "amd64"),
    ("amd64/v3", "x86_64", "x86_64-linux-gnu", "amd64", "x86_64", "amd64"),
    ("386", "i686", "i686-linux-gnu", "i386", "x86", "i386"),
    ("arm64", "aarch64", "aarch64-linux-gnu", "arm64", "aarch64", "arm64v8"),
    ("arm64/v8", "aarch64", "aarch64-linux-gnu", "arm64", "aarch64", "arm64v8"),
    ("arm", "armv7l", "arm-linux-gnueabihf", "armhf", "armv7", "arm32v7"),
    ("arm/v8", "armv7l", "arm-linux-gnueabihf", "armhf", "armv7", "arm32v7"),
    ("arm/v7", "armv7l", "arm-linux-gnueabihf", "armhf", "armv7", "arm32v7"),
    ("arm/v6", "armv6l", "arm-linux-gnueabihf", "", "armhf", "arm32v6"),
    ("arm/v5", "armv5tel", "arm-linux-gnueabi", "armel", "", "arm32v5"),
    ("ppc64le", "ppc64le", "powerpc64le-linux-gnu", "ppc64el", "ppc64le", "ppc64le"),
    ("s390x", "s390x", "s390x-linux-gnu", "s390x", "s390x", "s390x"),
    ("riscv64", "riscv64", "riscv64-linux-gnu", "riscv64", "riscv64", "riscv64"),
    ("loong64", "loongarch64", "loongarch64-linux-gnu", "loong64", "loongarch64", ""),
    ("mips64le", "mips64", "mips64el-linux-gnuabi64", "mips64el", "", "mips64le"),
    ("haiku64", "", "", "", "", ""),
]


@pytest.mark.parametrize(("text", "uname", "gnu", "debian", "alpine", "library"), TABLE)
def test_names(text: str, uname: str, gnu: str, debian: str, alpine: str, library: str) -> None:
    """One row each; empty where a world has no word for it."""
    row = names(Platform.parse(f"linux/{text}"))
    assert (row.uname, row.gnu, row.debian, row.alpine, row.docker_library) == (
        uname,
        gnu,
        debian,
        alpine,
        library,
    )


UNAME = [
    ("x86_64", "amd64"),
    ("AMD64", "amd64"),
    ("i386", "386"),
    ("i686", "386"),
    ("i86pc", "386"),
    ("armv5tel", "arm/v5"),
    ("armv6l", "arm/v6"),
    ("armv7l", "arm/v7"),
    ("armv8l", "arm/v8"),
    ("aarch64", "arm64"),
    ("arm64", "arm64"),
    ("ppc64le", "ppc64le"),
    ("s390x", "s390x"),
    ("riscv64", "riscv64"),
    ("loongarch64", "loong64"),
]


@pytest.mark.parametrize(("machine", "expected"), UNAME)
def test_from_uname(machine: str, expected: str) -> None:
    """What kernels say."""
    assert str(from_uname(machine)) == f"linux/{expected}"


def test_mips_kernels_do_not_tell_their_byte_order() -> None:
    """So the caller does."""
    assert str(from_uname("mips64")) == "linux/mips64"
    assert str(from_uname("mips64", little_endian=True)) == "linux/mips64le"
    assert str(from_uname("mips", little_endian=True)) == "linux/mipsle"


def test_unknown_machines_are_an_error() -> None:
    """Which names what was received."""
    with pytest.raises(InvalidPlatform, match="machine 'vax'"):
        from_uname("vax")


TRAPS = [
    # word, containerd's meaning, Debian's, Alpine's
    ("armhf", "arm/v7", "arm/v7", "arm/v6"),
    ("armel", "arm/v6", "arm/v5", None),
]


@pytest.mark.parametrize(("word", "plain", "debian", "alpine"), TRAPS)
def test_the_traps(word: str, plain: str, debian: str, alpine: str | None) -> None:
    """One word, several machines: each owner has a function."""
    assert str(from_name(word)) == f"linux/{plain}"
    assert str(normalise(Platform.parse(f"linux/{word}"))) == f"linux/{plain}"
    assert str(from_debian(word)) == f"linux/{debian}"
    if alpine is None:
        with pytest.raises(InvalidPlatform, match="no architecture of Alpine's"):
            from_alpine(word)
    else:
        assert str(from_alpine(word)) == f"linux/{alpine}"


@pytest.mark.parametrize("word", ["", "x86", "AMD64"])
def test_debian_knows_its_own_words_only(word: str) -> None:
    """Listing them."""
    with pytest.raises(InvalidPlatform, match="expected one of amd64, arm64, armel, armhf, i386"):
        from_debian(word)


SPELLINGS = [
    # as in Dockerfile.WORD
    ("amd64", "amd64"),
    ("x86_64", "amd64"),
    ("x64", "amd64"),
    ("x86-64", "amd64"),
    ("AMD64", "amd64"),
    ("amd64v3", None),
    ("amd64-v3", "amd64/v3"),
    ("amd64_v2", "amd64/v2"),
    ("386", "386"),
    ("i386", "386"),
    ("i686", "386"),
    ("x86", "386"),
    ("arm64", "arm64"),
    ("aarch64", "arm64"),
    ("arm64v8", "arm64"),
    ("arm64-v8", "arm64"),
    ("armv8", "arm64"),
    ("arm", "arm/v7"),
    ("armhf", "arm/v7"),
    ("armel", "arm/v6"),
    ("armv5", "arm/v5"),
    ("armv6", "arm/v6"),
    ("armv6l", "arm/v6"),
    ("armv7", "arm/v7"),
    ("armv7l", "arm/v7"),
    ("arm32v5", "arm/v5"),
    ("arm32v6", "arm/v6"),
    ("arm32v7", "arm/v7"),
    ("arm-v6", "arm/v6"),
    ("arm_v6", "arm/v6"),
    ("arm.v6", "arm/v6"),
    ("arm/v6", "arm/v6"),
    ("ppc64le", "ppc64le"),
    ("ppc64el", "ppc64le"),
    ("powerpc64le-linux-gnu", "ppc64le"),
    ("s390x", "s390x"),
    ("riscv64", "riscv64"),
    ("loong64", "loong64"),
    ("loongarch64", "loong64"),
    ("mips64el", "mips64le"),
    ("arm-linux-gnueabihf", "arm/v7"),
    ("arm-linux-gnueabi", "arm/v5"),
    ("aarch64-linux-musl", "arm64"),
    ("linux-arm-v7", "arm/v7"),
    ("linux-amd64", "amd64"),
    ("linux_arm64", "arm64"),
    ("linux/s390x", "s390x"),
    ("test", None),
    ("", None),
    ("dev", None),
]


@pytest.mark.parametrize(("word", "expected"), SPELLINGS)
def test_from_name(word: str, expected: str | None) -> None:
    """Every spelling found in the wild, and nothing else."""
    if expected is None:
        with pytest.raises(InvalidPlatform, match="not the name of an architecture"):
            from_name(word)
    else:
        assert str(from_name(word)) == f"linux/{expected}"


def test_from_name_reads_the_operating_system_too() -> None:
    """When it is written, or given."""
    assert str(from_name("darwin-arm64")) == "darwin/arm64"
    assert str(from_name("macos-arm64")) == "darwin/arm64"
    assert str(from_name("windows_amd64")) == "windows/amd64"
    assert str(from_name("amd64", os="freebsd")) == "freebsd/amd64"


def test_every_name_of_every_row_reads_back() -> None:
    """Except where two rows share a word: then the traps' rule holds."""
    shared = {"armhf", "armel", "mips64", "mips", "arm-linux-gnueabihf"}
    for text, uname, gnu, debian, alpine, library in TABLE:
        expected = normalise(Platform.parse(f"linux/{text}")).replace(variant="")
        for word in {uname, gnu, debian, alpine, library} - shared - {""}:
            assert normalise(from_name(word)).replace(variant="") == expected


GO = [
    ("linux/amd64", {"GOOS": "linux", "GOARCH": "amd64"}),
    ("linux/amd64/v3", {"GOOS": "linux", "GOARCH": "amd64", "GOAMD64": "v3"}),
    ("linux/arm", {"GOOS": "linux", "GOARCH": "arm", "GOARM": "7"}),
    ("linux/arm/v5", {"GOOS": "linux", "GOARCH": "arm", "GOARM": "5"}),
    ("linux/arm/v8", {"GOOS": "linux", "GOARCH": "arm", "GOARM": "7"}),
    ("linux/arm64/v8", {"GOOS": "linux", "GOARCH": "arm64"}),
    ("linux/arm64/v8.2", {"GOOS": "linux", "GOARCH": "arm64", "GOARM64": "v8.2"}),
    ("linux/arm64/v9", {"GOOS": "linux", "GOARCH": "arm64", "GOARM64": "v9.0"}),
    ("linux/ppc64le/power9", {"GOOS": "linux", "GOARCH": "ppc64le", "GOPPC64": "power9"}),
    ("linux/riscv64/rva22u64", {"GOOS": "linux", "GOARCH": "riscv64", "GORISCV64": "rva22u64"}),
    ("macos/aarch64", {"GOOS": "darwin", "GOARCH": "arm64"}),
]


@pytest.mark.parametrize(("text", "expected"), GO)
def test_go_environment(text: str, expected: dict[str, str]) -> None:
    """What go build must be told."""
    assert go_environment(Platform.parse(text)) == expected


def test_the_reference_page_has_the_same_table() -> None:
    """docs/reference/platforms.md is what people read."""
    page = (Path(__file__).parents[2] / "docs" / "reference" / "platforms.md").read_text(encoding="utf-8")
    lines = page.partition("## Other names")[2].partition("`names(platform)`")[0].splitlines()
    rows = [
        [cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")
    ]
    assert len(rows) == 11
    for text, *told in rows:
        row = names(Platform.parse(f"linux/{text}"))
        assert told == [row.uname, row.gnu, row.debian, row.alpine, row.docker_library], text
