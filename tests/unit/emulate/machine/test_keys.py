# SPDX-License-Identifier: Apache-2.0
"""What ssh makes of our options, and the keys of a machine. tests/real has a connection."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from manyfest.emulate.machine.keys import Connection, make_keys
from manyfest.errors import EmulationError

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a space in its path, as people's folders have."""
    for program in ("ssh", "ssh-keygen"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program}; apt-get install openssh-client")
    made = tmp_path_factory.mktemp("my data")
    make_keys(str(made), "manyfest-z")
    return made


def test_ssh_reads_our_files_and_no_others(folder: Path) -> None:
    words = Connection(str(folder), "manyfest-z", 2222).words([])
    told = subprocess.run([words[0], "-G", *words[1:]], check=True, capture_output=True, text=True).stdout
    found = dict(line.split(" ", 1) for line in told.splitlines() if " " in line)
    expected = {
        "user": "root",
        "hostname": "127.0.0.1",
        "port": "2222",
        "hostkeyalias": "manyfest-z",
        "controlpath": str(folder / "ssh"),
        "userknownhostsfile": str(folder / "known_hosts"),
        "globalknownhostsfile": "/dev/null",
        "identityfile": str(folder / "id"),
        "stricthostkeychecking": "true",
        "batchmode": "yes",
        "identitiesonly": "yes",
        "preferredauthentications": "publickey",
    }
    assert {key: found[key] for key in expected} == expected


def test_keys(folder: Path) -> None:
    for name in ("id", "host_key"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600
    known, kind, key = (folder / "known_hosts").read_text().split()
    assert known == "manyfest-z"
    assert f"{kind} {key}" in (folder / "host_key.pub").read_text()


def test_nobody_there(folder: Path) -> None:
    """What ssh says is in the error, and no socket is left."""
    connection = Connection(str(folder), "manyfest-z", 1)
    with pytest.raises(EmulationError, match=r"ssh: .*refused"):
        connection.open()
    assert not connection.is_up
    with pytest.raises(EmulationError, match="running uname in the machine"):
        connection.run("uname", timeout_s=20)
    connection.close()
    assert not {"ssh", "docker.sock"} & {path.name for path in folder.iterdir()}
