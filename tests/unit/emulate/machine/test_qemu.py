# SPDX-License-Identifier: Apache-2.0
"""QEMU's command line, and whose process it is."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from manyfest.emulate.machine import qemu
from manyfest.emulate.machine.kinds import KINDS, Kind, kind_of
from manyfest.emulate.machine.record import Record
from manyfest.errors import EmulationError


def record(kind: Kind) -> Record:
    return Record("z", kind.platform, memory=2**30, cpus=2, disk=10 * 2**30, created_at=0)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine's, and programs that are called as QEMU's are."""
    for kind in KINDS:
        program = tmp_path / "bin" / f"qemu-system-{kind.qemu}"
        program.parent.mkdir(exist_ok=True)
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    (tmp_path / "z,1").mkdir()
    return tmp_path / "z,1"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.debian)
def test_nothing_listens_but_one_loopback_port(kind: Kind, folder: Path) -> None:
    words = qemu.command(kind, record(kind), str(folder), 2222)
    text = " ".join(words)
    assert text.count("hostfwd=") == 1
    assert "hostfwd=tcp:127.0.0.1:2222-10.0.2.15:22" in text
    assert not {"-vnc", "-monitor", "-gdb", "-s", "-spice"} & set(words)
    assert f"virtio-blk-{kind.bus},drive=disk" in words


def test_commas_are_escaped_where_qemu_splits_at_them(folder: Path) -> None:
    words = qemu.command(kind_of("s390x"), record(kind_of("s390x")), str(folder), 2222)
    drive = next(word for word in words if word.startswith("if=none"))
    assert f"file={str(folder).replace(',', ',,')}/disk.img," in drive
    assert words[words.index("-kernel") + 1] == f"{folder}/kernel"


def test_kvm_only_where_it_can_be(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kind = kind_of("amd64").replace(hosts=(os.uname().machine,))
    monkeypatch.setattr("manyfest.emulate.machine.kinds.KVM", str(tmp_path / "no-kvm"))
    assert "kvm" not in qemu.command(kind, record(kind), str(folder), 1)
    (tmp_path / "kvm").write_text("")
    monkeypatch.setattr("manyfest.emulate.machine.kinds.KVM", str(tmp_path / "kvm"))
    words = qemu.command(kind, record(kind), str(folder), 1)
    assert words.index("kvm") < words.index("tcg")
    assert "kvm" not in qemu.command(kind.replace(hosts=("other",)), record(kind), str(folder), 1)


def test_no_qemu_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manyfest.emulate.machine.outside._SBIN", "")
    monkeypatch.setenv("PATH", "/nonexistent")
    kind = kind_of("ppc64le")
    with pytest.raises(EmulationError, match="no qemu-system-ppc64") as caught:
        qemu.command(kind, record(kind), "/x", 1)
    assert caught.value.hint == "apt-get install qemu-system-ppc qemu-slof"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("Could not set up host forwarding rule 'tcp:127.0.0.1:22-:22'", "port 22 of 127.0.0.1 is in use"),
        ("qemu: cannot set up guest memory: Cannot allocate memory", "Cannot allocate memory"),
    ],
)
def test_what_qemu_complains_of(said: str, message: str, folder: Path) -> None:
    program = folder.parent / "bin" / "qemu-system-s390x"
    program.write_text(f'#!/bin/sh\necho "{said}" >&2\nexit 1\n')
    with pytest.raises(EmulationError, match=message):
        qemu.launch([str(program)], str(folder), 22)


# --- whose process it is ---


@pytest.fixture
def sleeper(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that looks like this machine's QEMU."""
    words = [
        "qemu-system-s390x",
        "-c",
        "import time; print(flush=True); time.sleep(60)",
        "-pidfile",
        str(folder / "qemu.pid"),
    ]
    process = subprocess.Popen(words, executable=sys.executable, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read(1)  # until then the kernel may not show its words yet
    (folder / "qemu.pid").write_text(f"{process.pid}\n")
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_ours_is_found_and_ended(
    folder: Path, sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qemu, "QMP_TIMEOUT_S", 0.1)
    found = qemu.find(str(folder))
    assert found is not None
    with found:
        assert (found.pid, found.has_ended()) == (sleeper.pid, False)
        found.end()  # nobody listens on its socket: the signal does it
        assert found.has_ended()


def test_other_processes_are_not_ours(folder: Path, sleeper: subprocess.Popen[bytes]) -> None:
    """A number that was given to another process meanwhile, or to the QEMU of another machine."""
    other = folder.parent / "other"
    other.mkdir()
    for text in (str(sleeper.pid), str(os.getpid()), "1", "0", "-1", "nonsense", "999999999"):
        (other / "qemu.pid").write_text(text)
        assert qemu.find(str(other)) is None
    assert qemu.find(str(folder.parent / "none")) is None


@pytest.mark.parametrize(
    ("answers", "obeys"),
    [
        ([{"QMP": {}}, {"return": {}}, {"event": "STOP"}, {"return": {}}], True),
        ([{"QMP": {}}, {"return": {}}, {"error": {"class": "x"}}], False),
        ([{"QMP": {}}], False),
        ([], False),
    ],
)
def test_its_own_commands(
    answers: list[dict[str, object]], obeys: bool, folder: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    with (
        socket.socket(socket.AF_UNIX) as listener,
        qemu.find(str(folder)) or pytest.fail("not found") as found,
    ):
        listener.bind(str(folder / "qmp.sock"))
        listener.listen()
        heard = b""

        def serve() -> None:
            nonlocal heard
            door, _ = listener.accept()
            with door:
                for answer in answers:
                    door.sendall(json.dumps(answer).encode() + b"\r\n")
                door.shutdown(socket.SHUT_WR)
                while data := door.recv(1024):
                    heard += data

        thread = threading.Thread(target=serve)
        thread.start()
        assert found.tell("quit") is obeys
        thread.join(10)
        assert (b"quit" in heard) is (len(answers) > 2)


def test_the_end_of_a_long_console(folder: Path) -> None:
    (folder / "console.log").write_bytes(b"x" * 10**6 + b"\r\nmachine: system\r\n\xff")
    said = qemu.console(str(folder))
    assert len(said) < 300_000
    assert said.endswith("machine: system\n\ufffd")
    assert qemu.console("/nonexistent") == ""
