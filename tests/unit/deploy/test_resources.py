# SPDX-License-Identifier: Apache-2.0
"""Processors and memory, as people write them and as engines take them."""

from __future__ import annotations

import pytest

from manyfest.deploy.resources import Resources, parse_cpus, parse_memory
from manyfest.errors import InputError


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("512m", 512 << 20), ("1g", 1 << 30), ("1.5GiB", 3 << 29), ("20K", 20480), ("2 MB", 2 << 20)],
)
def test_memory(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "m", "0", "-1m", "1x", "1e3", "9" * 30, "1..5g", "0.1b"])
def test_no_memory(text: str) -> None:
    with pytest.raises(InputError, match="expected memory"):
        parse_memory(text)


@pytest.mark.parametrize(
    ("text", "nano"), [("1", 10**9), ("0.5", 5 * 10**8), (".000000001", 1), ("1e1", 10**10)]
)
def test_processors(text: str, nano: int) -> None:
    assert parse_cpus(text) == nano


@pytest.mark.parametrize("text", ["", "0", "-1", "half", "nan", "inf", "0.0000000001", "1e30"])
def test_no_processors(text: str) -> None:
    with pytest.raises(InputError, match="expected processors"):
        parse_cpus(text)


def test_both_engines() -> None:
    """Only what is said; Kubernetes gets thousandths, rounded up."""
    said = Resources.of(limit_cpus="0.0001", reserve_memory="1m")
    assert said.to_swarm() == {"Limits": {"NanoCPUs": 100000}, "Reservations": {"MemoryBytes": 1 << 20}}
    assert said.to_kubernetes() == {"limits": {"cpu": "1m"}, "requests": {"memory": "1048576"}}
    assert Resources().to_swarm() == Resources().to_kubernetes() == {}


def test_more_reserved_than_allowed() -> None:
    """Neither engine would ever start it."""
    with pytest.raises(InputError, match="more memory reserved than the limit"):
        Resources.of(limit_memory="1m", reserve_memory="2m")
    with pytest.raises(InputError, match="more processors reserved"):
        Resources.of(limit_cpus="1", reserve_cpus="2")
