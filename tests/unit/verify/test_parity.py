# SPDX-License-Identifier: Apache-2.0
"""Comparing platforms: who stands out, who does not, and what must differ by nature."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from manyfest.stores.layout import Layout
from manyfest.stores.pool import Pool
from manyfest.testing import make_image
from manyfest.verify.cache import Cache
from manyfest.verify.packages import is_database, node_package, packages, python_package, reduced
from manyfest.verify.parity import Side, compare, neutral_path
from manyfest.verify.sides import base_prefix, read_sides


def side(name: str, **fields: Any) -> Side:
    return Side(name, "sha256:" + "0" * 64, **fields)


def told(*sides: Side) -> list[tuple[str, tuple[str, ...]]]:
    return [(d.subject, d.sides) for d in compare(sides)]


def test_equal_sides_have_nothing_to_tell() -> None:
    """And one side alone is never different."""
    sides = [side(name, size=100, unpacked=300, settings={"cmd": "/app"}) for name in ("a", "b", "c")]
    assert compare(sides) == []
    assert compare(sides[:1]) == []


def test_a_platform_much_smaller_than_the_rest() -> None:
    """attevon-llc/OpenTranscribe#680: arm64 was 5.8 times smaller, without the CUDA stack."""
    found = compare([side("amd64", size=5800), side("s390x", size=5500), side("arm64", size=1000)])
    assert [(d.subject, d.sides) for d in found] == [("size", ("arm64",))]
    assert "5.5 times smaller" in found[0].message


def test_sizes_within_a_factor_of_two_are_usual() -> None:
    """Architectures differ in code density."""
    assert told(side("a", size=100), side("b", size=150), side("c", size=190)) == []


def test_the_minority_is_named() -> None:
    """The most frequent value is the intended one."""
    sides = [side(name, settings={"entrypoint": "/app", "env V": "2"}) for name in ("a", "b")]
    sides.append(side("c", settings={"entrypoint": "/app", "env V": "1"}))
    found = compare(sides)
    assert [(d.subject, d.sides) for d in found] == [("env V", ("c",))]
    assert found[0].message == "c has '1', the others '2'"


def test_without_a_majority_nobody_is_blamed() -> None:
    """Both are named."""
    found = compare([side("a", settings={"user": "app"}), side("b")])
    assert found[0].sides == ("a", "b")
    assert found[0].message == "user differs: a: 'app'; b: nothing"


def test_a_child_that_was_not_rebuilt() -> None:
    """Older than the newest by more than a day; times that are not told do not count."""
    day = 86400.0
    found = compare([side("a", created_s=10 * day), side("b", created_s=3 * day), side("c", created_s=None)])
    assert [(d.subject, d.sides) for d in found] == [("created", ("b",))]
    assert "7 days" in found[0].message


def test_packages_that_one_platform_lacks_or_has_older() -> None:
    """By manager and name."""
    usual = {"dpkg": {"bash": "5.2", "curl": "8.1"}, "python": {"numpy": "2.0"}}
    odd = {"dpkg": {"bash": "5.1"}, "python": {"numpy": "2.0"}}
    found = compare([side("a", packages=usual), side("b", packages=usual), side("c", packages=odd)])
    assert [(d.subject, d.message) for d in found] == [
        ("package dpkg/bash", "c has 5.1, the others 5.2"),
        ("package dpkg/curl", "c has no such package, the others 8.1"),
    ]


def test_files_that_only_some_have() -> None:
    """Lacking what most have, or having what nobody else has."""
    common = frozenset({"app", "data/one"})
    found = compare(
        [side("a", files=common), side("b", files=common), side("c", files=frozenset({"app", "extra"}))]
    )
    assert [d.message for d in found] == ["c lacks 1 files: /data/one", "c alone has 1 files: /extra"]


def test_two_sides_each_show_their_own_files() -> None:
    """Nobody is in the majority, so nobody lacks anything."""
    found = compare([side("a", files=frozenset({"x", "y"})), side("b", files=frozenset({"x", "z"}))])
    assert [d.message for d in found] == ["a has 1 files: /y", "b has 1 files: /z"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("usr/lib/x86_64-linux-gnu/libz.so.1", "usr/lib/aarch64-linux-gnu/libz.so.1"),
        ("usr/lib/arm-linux-gnueabihf/libz.so.1", "usr/lib/s390x-linux-gnu/libz.so.1"),
        ("lib64/ld-linux-x86-64.so.2", "lib/ld-linux-armhf.so.3"),
        ("lib/ld-musl-x86_64.so.1", "lib/ld-musl-aarch64.so.1"),
        ("lib64/ld64.so.2", "lib/ld-linux-riscv64-lp64d.so.1"),
        ("a/x.cpython-311-x86_64-linux-gnu.so", "a/x.cpython-311-powerpc64le-linux-gnu.so"),
    ],
)
def test_names_that_differ_by_nature_are_equal(one: str, other: str) -> None:
    """What every architecture spells its own way."""
    assert neutral_path(one) == neutral_path(other)


@pytest.mark.parametrize(
    "path", ["app/data.json", "usr/bin/ld", "usr/lib/libz.so.1", "usr/share/doc/linux-gnu-notes"]
)
def test_other_names_stay(path: str) -> None:
    """Nothing else is touched."""
    assert neutral_path(path) == path


DPKG = """\
Package: bash
Status: install ok installed
Version: 5.2.15-2+b8
Description: the shell
 long text
 Package: not one

Package: gone
Status: deinstall ok config-files
Version: 1

Package: zlib1g
Status: install ok installed
Version: 1:1.2.13.dfsg-1
"""
APK = "C:Q1x\nP:musl\nV:1.2.5-r0\nA:x86_64\n\nP:busybox\nV:1.36.1-r29\n\n"


def test_databases_are_reduced_to_names_and_versions() -> None:
    """Removed packages whose settings stayed are not installed."""
    assert reduced("var/lib/dpkg/status", DPKG.encode()) == "bash\t5.2.15-2+b8\nzlib1g\t1:1.2.13.dfsg-1\n"
    assert reduced("lib/apk/db/installed", APK.encode()) == "busybox\t1.36.1-r29\nmusl\t1.2.5-r0\n"
    distroless = b"Package: tzdata\nVersion: 2024a\n"
    assert reduced("var/lib/dpkg/status.d/tzdata", distroless) == "tzdata\t2024a\n"
    assert reduced("var/lib/dpkg/status", b"\xff\xfe not text") == ""


def test_packages_of_every_manager() -> None:
    """From databases and from the names of folders."""
    paths = [
        "usr/lib/python3/dist-packages/PyYAML-6.0.dist-info/METADATA",
        "opt/app/node_modules/left-pad/package.json",
        "opt/app/node_modules/@scope/x/package.json",
        "opt/app/node_modules/left-pad/lib/package.json",
        "var/lib/rpm/rpmdb.sqlite",
        "bin/sh",
    ]
    assert packages(
        [("lib/apk/db/installed", "musl\t1.2.5-r0\n"), ("var/lib/dpkg/status.d/x", "x\t1\n")], paths
    ) == {
        "apk": {"musl": "1.2.5-r0"},
        "dpkg": {"x": "1"},
        "python": {"pyyaml": "6.0"},
        "node": {"left-pad": "", "@scope/x": ""},
        "rpm": {},
    }


def test_what_is_a_database() -> None:
    """And what only looks like one."""
    assert is_database("var/lib/dpkg/status")
    assert is_database("var/lib/dpkg/status.d/libc6")
    assert not is_database("var/lib/dpkg/status.d/libc6.md5sums")
    assert not is_database("home/me/var/lib/dpkg/status")
    assert python_package("x/site-packages/foo/info.py") is None
    assert node_package("node_modules/.bin/package.json") is None


def test_a_base_is_a_prefix_of_layers() -> None:
    """Whole layers from the first on; an empty base is nobody's."""
    assert base_prefix(("a", "b", "c"), ("a", "b"))
    assert not base_prefix(("a", "b"), ("b",))
    assert not base_prefix(("a",), ("a", "b"))
    assert not base_prefix(("a",), ())


def test_a_database_is_kept_of_a_layer_and_survives_the_cache(tmp_path: Path) -> None:
    """Read from a real layer, through the cache and back."""
    store = Layout.create(str(tmp_path / "layout"))
    document = make_image(store, "linux/amd64", files={"/var/lib/dpkg/status": (DPKG.encode(), 0o644)})
    cache, pool = Cache(str(tmp_path / "cache")), Pool()
    for _ in range(2):
        sides = read_sides(store, [("linux/amd64", document)], pool, cache)
        assert sides[0].packages == {"dpkg": {"bash": "5.2.15-2+b8", "zlib1g": "1:1.2.13.dfsg-1"}}
