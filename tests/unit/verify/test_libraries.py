# SPDX-License-Identifier: Apache-2.0
"""Libraries are found where the program's own loader looks, glibc's or musl's, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.verify.conftest import GLIBC, elf, program, tree

from manyfest.verify import libraries as module
from manyfest.verify.facts import Facts
from manyfest.verify.libraries import Closure, Libraries

MUSL = "/lib/ld-musl-x86_64.so.1"


def closure(
    files: dict[str, Any], facts: Facts, path: str = "app/bin/app", library_path: str = ""
) -> Closure:
    """What a program loads."""
    found = tree({**GLIBC, MUSL[1:]: elf(), **files, path: facts})
    loader = facts.interpreter.lstrip("/")
    return Libraries(found, library_path).closure(path, facts, loader)


def lacks(found: Closure) -> list[tuple[str, str]]:
    """What is missing."""
    return [(lack.kind, lack.name) for lack in found.lacks]


def loaded(found: Closure) -> list[str]:
    """Where everything came from."""
    return [each.path for each in found.objects]


@pytest.mark.parametrize(
    ("where", "fields", "there"),
    [
        ("usr/lib/x86_64-linux-gnu/libx.so", {}, True),
        ("lib/libx.so", {}, True),
        ("usr/lib64/libx.so", {}, True),
        ("opt/lib/libx.so", {}, False),
        ("usr/lib/aarch64-linux-gnu/libx.so", {}, False),
        ("opt/lib/libx.so", {"rpath": ("/opt/lib",)}, True),
        ("opt/lib/libx.so", {"runpath": ("/opt/lib",)}, True),
        ("app/lib/libx.so", {"runpath": ("$ORIGIN/../lib",)}, True),
        ("app/lib/libx.so", {"rpath": ("${ORIGIN}/../lib",)}, True),
        ("app/bin/libx.so", {"runpath": ("$ORIGIN",)}, True),
        ("opt/lib64/libx.so", {"runpath": ("/opt/$LIB",)}, True),
    ],
)
def test_where_glibc_looks(where: str, fields: dict[str, Any], there: bool) -> None:
    """ld.so(8)."""
    found = closure({where: elf()}, program(needed=("libx.so",), **fields))
    assert (where in loaded(found)) == there
    assert lacks(found) == ([] if there else [("library", "libx.so")])


def test_rpath_is_inherited_and_runpath_is_not() -> None:
    """The old one speaks for what libraries ask for too, unless they have the new one."""
    libraries = {"opt/liba.so": elf(needed=("libb.so",)), "opt/libb.so": elf()}
    assert lacks(closure(libraries, program(needed=("liba.so",), rpath=("/opt",)))) == []
    assert lacks(closure(libraries, program(needed=("liba.so",), runpath=("/opt",)))) == [
        ("library", "libb.so")
    ]
    libraries["opt/liba.so"] = elf(needed=("libb.so",), runpath=("/elsewhere",))
    assert lacks(closure(libraries, program(needed=("liba.so",), rpath=("/opt",)))) == [
        ("library", "libb.so")
    ]


def test_the_environment_and_a_path_as_a_name() -> None:
    """LD_LIBRARY_PATH of the image; a name with a slash is no search."""
    assert lacks(closure({"opt/libx.so": elf()}, program(needed=("libx.so",)), library_path="/opt:/a")) == []
    assert lacks(closure({"opt/libx.so": elf()}, program(needed=("/opt/libx.so",)))) == []


def test_a_name_may_say_origin() -> None:
    """ld.so puts in the folder there too, as portable Pythons have it."""
    asks = program(needed=("$ORIGIN/../lib/libx.so",))
    assert loaded(closure({"app/lib/libx.so": elf()}, asks)) == ["app/bin/app", "app/lib/libx.so"]


def test_ld_so_conf_with_its_includes_and_its_cache() -> None:
    """Without the cache the folder is not searched, which is said."""
    files = {
        "etc/ld.so.conf": "include ld.so.conf.d/*.conf # more\n/ignored\n",
        "etc/ld.so.conf.d/x.conf": "/opt/lib\n",
        "etc/ld.so.conf.d/x.txt": "/opt/other\n",
        "opt/lib/libx.so": elf(),
    }
    assert lacks(closure(files, program(needed=("libx.so",)))) == [("cache", "libx.so")]
    assert lacks(closure({**files, "etc/ld.so.cache": "x"}, program(needed=("libx.so",)))) == []


def test_candidates_for_another_machine_are_passed_over() -> None:
    """And are named when nothing else is there."""
    files = {"lib/libx.so": elf("linux/386"), "usr/lib/libx.so": elf()}
    assert "usr/lib/libx.so" in loaded(closure(files, program(needed=("libx.so",))))
    found = closure({"lib/libx.so": elf("linux/386")}, program(needed=("libx.so",)))
    assert found.lacks[0].detail == "/lib/libx.so is 386 32-bit"
    soft, hard = {"float_abi": "soft"}, {"float_abi": "hard"}
    loader = {"interpreter": "/lib/ld-linux.so.3"}
    asking = program("linux/arm/v7", needed=("libx.so",), **hard, **loader)
    assert lacks(closure({"lib/libx.so": elf("linux/arm/v7", **soft)}, asking)) == [("library", "libx.so")]
    assert lacks(closure({"lib/libx.so": elf("linux/arm/v7", **hard)}, asking)) == []


def test_abis_of_one_machine() -> None:
    """ELFv1 and ELFv2 do not mix."""
    asking = program("linux/ppc64le", needed=("libx.so",), abi="elfv2", interpreter="/lib64/ld64.so.2")
    assert lacks(closure({"lib/libx.so": elf("linux/ppc64le", abi="elfv2")}, asking)) == []
    found = closure({"lib/libx.so": elf("linux/ppc64le", abi="elfv1")}, asking)
    assert found.lacks[0].detail == "/lib/libx.so is ppc64le 64-bit elfv1"


def test_versions() -> None:
    """Each must be defined by the library that was found; one without versions lets everything pass."""
    asks = program(needed=("libc.so.6",), version_needs=(("libc.so.6", ("GLIBC_2.34",)),))
    assert lacks(closure({}, asks)) == []
    newer = program(needed=("libc.so.6",), version_needs=(("libc.so.6", ("GLIBC_2.38",)),))
    found = closure({}, newer)
    assert lacks(found) == [("version", "libc.so.6")]
    assert found.lacks[0].detail == "/usr/lib/x86_64-linux-gnu/libc.so.6 has no GLIBC_2.38"
    plain = {"usr/lib/x86_64-linux-gnu/libc.so.6": elf()}
    assert lacks(closure(plain, newer)) == []


def test_where_musl_looks() -> None:
    """Its own parts are itself, versions mean nothing, its path file replaces the default."""
    asks = program(needed=("libc.musl-x86_64.so.1", "libx.so"), interpreter=MUSL)
    versions = (("libx.so", ("V_9",)),)
    assert lacks(closure({"usr/local/lib/libx.so": elf(version_defs=("V_1",))}, asks)) == []
    assert lacks(closure({"usr/lib64/libx.so": elf()}, asks)) == [("library", "libx.so")]
    assert lacks(closure({"usr/lib/libx.so": elf()}, asks.replace(version_needs=versions))) == []
    only = {"etc/ld-musl-x86_64.path": "/opt/lib\n/usr/opt", "usr/lib/libx.so": elf()}
    assert lacks(closure(only, asks)) == [("library", "libx.so")]
    inherited = {"opt/liba.so": elf(needed=("libb.so",)), "opt/libb.so": elf()}
    with_path = program(needed=("liba.so",), interpreter=MUSL, runpath=("/opt",))
    assert lacks(closure(inherited, with_path)) == []


def test_circles_of_libraries_end() -> None:
    """Each is loaded once."""
    files = {"lib/liba.so": elf(needed=("libb.so",)), "lib/libb.so": elf(needed=("liba.so",))}
    found = closure(files, program(needed=("liba.so",)))
    assert loaded(found) == ["app/bin/app", "lib/liba.so", "lib/libb.so"]


def test_a_hostile_number_of_libraries_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """And it is said that not all was looked at."""
    monkeypatch.setattr(module, "MAX_LOADED", 50)
    files = {f"lib/lib{i}.so": elf(needed=(f"lib{i + 1}.so",)) for i in range(200)}
    asks = program(needed=("lib0.so",))
    libraries = Libraries(tree({**GLIBC, **files, "app": asks}))
    assert len(libraries.closure("app", asks).objects) == 51
    assert libraries.is_spent
