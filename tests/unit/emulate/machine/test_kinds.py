# SPDX-License-Identifier: Apache-2.0
"""Kinds of machines, by anybody's name for them."""

from __future__ import annotations

import pytest

from manyfest.emulate.machine.kinds import KINDS, kind_of
from manyfest.errors import InvalidPlatform


@pytest.mark.parametrize(
    ("text", "debian"),
    [
        ("arm64", "arm64"),
        ("aarch64", "arm64"),
        ("linux/arm64/v8", "arm64"),
        ("armhf", "armhf"),
        ("arm", "armhf"),
        ("linux/arm/v7", "armhf"),
        ("386", "i386"),
        ("i686", "i386"),
        ("x86_64", "amd64"),
        ("ppc64el", "ppc64el"),
        ("ppc64le", "ppc64el"),
        ("riscv64", "riscv64"),
        ("s390x", "s390x"),
    ],
)
def test_every_spelling(text: str, debian: str) -> None:
    assert kind_of(text).debian == debian


@pytest.mark.parametrize("text", ["sparc64", "vax", "arm/v6", "windows/amd64", "", "linux/mips64le"])
def test_unknown_ones_name_the_known(text: str) -> None:
    with pytest.raises(InvalidPlatform) as caught:
        kind_of(text)
    assert caught.value.hint == "machines can be amd64, 386, arm64, armhf, ppc64le, riscv64, s390x"


def test_each_platform_finds_itself() -> None:
    assert [kind_of(str(kind.platform)) for kind in KINDS] == list(KINDS)
