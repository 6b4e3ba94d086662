# SPDX-License-Identifier: Apache-2.0
"""What is written of a machine, and what is made of files that somebody broke."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from manyfest.emulate.machine.record import (
    Record,
    Run,
    check_name,
    check_network,
    folder_of,
    read_record,
    read_run,
    write,
)
from manyfest.errors import EmulationError, InputError
from manyfest.platforms import Platform

RECORD = Record(
    "z", Platform("linux", "s390x"), memory=2**30, cpus=2, disk=10 * 2**30, created_at=1.5, address="10.0.0.2/24"
)  # fmt: skip


@pytest.fixture(autouse=True)
def _data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANYFEST_DATA", str(tmp_path))


def test_round_trip() -> None:
    folder = folder_of("z")
    os.makedirs(folder)
    write(f"{folder}/machine.json", RECORD)
    write(f"{folder}/run.json", Run(12, 34, 5.5))
    assert read_record("z") == RECORD
    assert read_run(folder) == Run(12, 34, 5.5)
    assert os.stat(f"{folder}/machine.json").st_mode & 0o777 == 0o600
    assert sorted(os.listdir(folder)) == ["machine.json", "run.json"]


def test_nothing_there() -> None:
    with pytest.raises(EmulationError, match="no machine 'z'") as caught:
        read_record("z")
    assert "machine list" in caught.value.hint
    assert read_run(folder_of("z")) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": 2}',
        '{"format": 1, "platform": "linux/s390x"}',
        '{"format": 1, "platform": "???", "memory": 1, "cpus": 1, "disk": 1, "created_at": 1}',
        '{"format": 1, "platform": 5, "memory": 1, "cpus": 1, "disk": 1, "created_at": 1}',
        '{"format": 1, "platform": "linux/s390x", "memory": "-m 1", "cpus": 1, "disk": 1, "created_at": 1}',
        '{"format": 1, "platform": "linux/s390x", "memory": 1, "cpus": 1, "disk": 1, "created_at": 1, "more": 1}',
        '{"format": 1, "platform": "linux/s390x", "memory": 1, "cpus": 1, "disk": 1, "created_at": 1, "emulated": 1}',
    ],
)
def test_broken_files(text: str) -> None:
    folder = folder_of("z")
    os.makedirs(folder)
    Path(folder, "machine.json").write_text(text)
    with pytest.raises(EmulationError) as caught:
        read_record("z")
    assert "rm --force" in caught.value.hint


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-a", "A", "a" * 32, "a b", "ä", "x\n"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(InputError, match="expected a name"):
        check_name(name)


@pytest.mark.parametrize("folder", ["x" * 100, "a:b", 'a"b', "a%h", "${HOME}"])
def test_paths_that_no_socket_can_have(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANYFEST_DATA", f"/{folder}")
    with pytest.raises(InputError, match="no machine can be in there") as caught:
        check_name("z")
    assert "MANYFEST_DATA" in caught.value.hint


@pytest.mark.parametrize(
    ("bridge", "address"),
    [
        ("br0", ""),
        ("", "10.0.0.2/24"),
        ("br0", "10.0.0.2"),
        ("br0", "10.0.0.2/32"),
        ("br0", "10.0.0.2/24; reboot"),
        ("br0", "fd00::1/64"),
        ("br0 up", "10.0.0.2/24"),
        ("../br0", "10.0.0.2/24"),
        ("x" * 16, "10.0.0.2/24"),
    ],
)
def test_networks_that_are_none(bridge: str, address: str) -> None:
    with pytest.raises(InputError):
        check_network(bridge, address)
    check_network("", "")
    check_network("br0", "10.0.0.2/24")
