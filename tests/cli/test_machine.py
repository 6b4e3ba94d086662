# SPDX-License-Identifier: Apache-2.0
"""``manyfest machine`` without QEMU: what it refuses, and what it shows of none. tests/real has the rest."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tests.cli.conftest import Run
from tests.docs.test_json import keys_of

from manyfest.emulate.machine import machines
from manyfest.emulate.machine.record import Record
from manyfest.platforms import Platform


@pytest.fixture(autouse=True)
def _data(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANYFEST_DATA", str(tmp_path_factory.mktemp("m")))


def test_no_machines(run: Run) -> None:
    ran = run("machine")
    assert (ran.out, ran.err) == ("", "no machines; manyfest machine create ARCH makes one\n")
    assert run("machine", "list", "--json").json == {"machines": []}


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("create", "z", "--arch", "vax"), 2, "machines can be amd64, 386, arm64, armhf, ppc64le, riscv64, s390x"),
        (("create", "z"), 2, "no architecture of a machine"),
        (("create", "../z", "--arch", "s390x"), 2, "expected a name of up to 31"),
        (("create", "s390x", "--memory", "lots"), 2, "--memory lots: expected a size such as 512M or 2G"),
        (("create", "s390x", "--memory", "512"), 2, "512 bytes of memory: expected at least 512M"),
        (("create", "s390x", "--disk", "1G"), 2, "of disk: expected at least 2048M"),
        (("create", "s390x", "--cpus", "-1"), 2, "-1 processors: expected a number from 1"),
        (("create", "s390x", "--bridge", "br0"), 2, "a bridge alone: expected a bridge, and the machine's address"),
        (("create", "s390x", "--address", "10.9.0.1/24"), 2, "an address alone: expected a bridge"),
        (("start", "z", "--memory", "2G"), 2, "manyfest machine start: --memory is for create"),
        (("list", "--timeout", "5"), 2, "--timeout is for start and stop"),
        (("rm", "z", "--suspend"), 2, "--suspend is for stop"),
        (("stop", "z", "--timeout", "-1"), 2, "--timeout -1: expected seconds"),
        (("stop", "z", "--timeout", "inf"), 2, "--timeout inf: expected seconds"),
        (("create",), 2, "manyfest machine create NAME"),
        (("start", "z", "--port", "70000"), 2, "expected 1 to 65535"),
        (("start", "z", "y"), 2, "takes one name, got also y"),
        (("start", "z"), 3, "manyfest machine create z --arch ARCH makes one"),
        (("stop", "z"), 3, "no machine 'z'"),
        (("ssh", "z"), 3, "no machine 'z'"),
        (("rm", "z"), 3, "no machine 'z'"),
        (("explode", "z"), 2, "explode"),
    ],
)  # fmt: skip
def test_what_is_refused(words: tuple[str, ...], code: int, message: str, run: Run) -> None:
    ran = run("machine", *words, ok=False)
    assert (ran.code, ran.out) == (code, "")
    assert message in ran.err


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("", "no token of a swarm in $SWARM_TOKEN"),
        ("x", "no token of a swarm"),
        ("SWMTKN-1-x", "is on no bridge"),
    ],
)
def test_what_cannot_join_is_not_started(
    token: str, message: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Starting takes a minute."""
    record = Record("z", Platform("linux", "s390x"), memory=2**30, cpus=1, disk=2**33, created_at=0)
    found = machines.Machine(record, "/z", "stopped", 0)
    monkeypatch.setattr(machines, "find", lambda _: found)
    monkeypatch.setattr(machines, "start", lambda *_, **__: pytest.fail("it was started"))
    monkeypatch.setenv("SWARM_TOKEN", token)
    ran = run("machine", "start", "z", "--join-swarm", "10.9.0.1", ok=False)
    assert (ran.code, message in ran.err) == (2, True), ran


def test_no_qemu(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("manyfest.emulate.machine.outside._SBIN", "")
    (tmp_path / "ssh").write_text("#!/bin/sh\n")
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    ran = run("machine", "create", "arm64", ok=False)
    assert ran.code == 3
    assert ran.err == (
        "manyfest: error: no qemu-system-aarch64 on this machine\nhint: apt-get install qemu-system-arm\n"
    )
    assert run("machine", "list", "--json").json == {"machines": []}


def test_a_broken_one_hides_no_others(run: Run) -> None:
    folder = Path(os.environ["MANYFEST_DATA"]) / "machines"
    whole = {
        "format": 1,
        "platform": "linux/s390x",
        "memory": 2**30,
        "cpus": 1,
        "disk": 10 * 2**30,
        "created_at": 5,
    }
    for name, text in (("a", "{"), ("z", json.dumps(whole))):
        (folder / name).mkdir(parents=True)
        (folder / name / "machine.json").write_text(text)
    ran = run("machine")
    assert [line.split()[:3] for line in ran.out.splitlines()[1:]] == [
        ["z", "linux/s390x", "stopped"],
        ["a", "-", "broken"],
    ]
    shown = run("machine", "list", "--json").json["machines"]
    assert [(each["name"], each["state"]) for each in shown] == [("z", "stopped"), ("a", "broken")]
    assert set(shown[0]) <= keys_of("machine")
    assert set(shown[1]) <= keys_of("machine")
    assert run("machine", "list", "a", ok=False).code == 3
    assert run("machine", "rm", "a", "--force", "--json").json == {"removed": "a"}
    assert len(run("machine", "--json").json["machines"]) == 1
