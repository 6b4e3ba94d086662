# SPDX-License-Identifier: Apache-2.0
"""QEMU's command line, and whose process it is."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


def test_a_second_card_on_a_bridge(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = kind_of("arm64")
    wanted = record(kind).replace(bridge="mfnone0", address="10.99.0.7/24")
    with pytest.raises(EmulationError, match="no bridge 'mfnone0'") as caught:
        qemu.command(kind, wanted, str(folder), 1)
    assert caught.value.hint == "ip link add mfnone0 type bridge"
    monkeypatch.setattr(os.path, "isdir", lambda _: True)
    monkeypatch.setattr(qemu, "need", lambda program, _: f"/bin/{program}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    words = qemu.command(kind, wanted, str(folder), 1)
    assert f"tap,id=bridged,script={str(folder).replace(',', ',,')}/bridge-up,downscript=no" in words
    assert 'exec /bin/ip link set "$1" master mfnone0 up' in (folder / "bridge-up").read_text()
    card = next(word for word in words if "netdev=bridged" in word)
    assert re.search(r"mac=52:54(:[0-9a-f]{2}){4},", card)
    assert any("netdev=own,mac=52:54:00:12:34:56" in word for word in words), "the guest knows it by that"
    other = qemu.command(kind, wanted, str(folder.parent), 1)
    assert card not in other, "two machines would have one address"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "bridge,id=bridged,br=mfnone0" in qemu.command(kind, wanted, str(folder), 1)


def test_going_on_from_a_file(folder: Path) -> None:
    kind = kind_of("arm64")
    words = qemu.command(kind, record(kind), str(folder), 1, state=f"{folder}/it's memory")
    assert words[-2:] == ["-incoming", f"exec:exec cat '{folder}/it'\"'\"'s memory'"]
    assert "-incoming" not in qemu.command(kind, record(kind), str(folder), 1)


def test_kvm_only_where_it_can_be(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kind = kind_of("amd64").replace(hosts=(os.uname().machine,))
    monkeypatch.setattr("manyfest.emulate.machine.kinds.KVM", str(tmp_path / "no-kvm"))
    assert "kvm" not in qemu.command(kind, record(kind), str(folder), 1)
    (tmp_path / "kvm").write_text("")
    monkeypatch.setattr("manyfest.emulate.machine.kinds.KVM", str(tmp_path / "kvm"))
    words = qemu.command(kind, record(kind), str(folder), 1)
    assert words.index("kvm") < words.index("tcg")
    assert "kvm" not in qemu.command(kind.replace(hosts=("other",)), record(kind), str(folder), 1)
    assert "kvm" not in qemu.command(kind, record(kind).replace(emulated=True), str(folder), 1)


def test_no_qemu_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manyfest.emulate.machine.outside._SBIN", "")
    monkeypatch.setenv("PATH", "/nonexistent")
    kind = kind_of("ppc64le")
    with pytest.raises(EmulationError, match="no qemu-system-ppc64") as caught:
        qemu.command(kind, record(kind), "/x", 1)
    assert caught.value.hint == "apt-get install qemu-system-ppc"


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


class Monitor:
    """QEMU's own socket: answers each command with the next of a list, and remembers what it was asked."""

    def __init__(self, folder: Path, answers: list[dict[str, object]]) -> None:
        self.asked: list[dict[str, Any]] = []
        self._answers = answers
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / "qmp.sock"))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            door, _ = self._listener.accept()
            with door, door.makefile("rb") as lines:
                door.sendall(b'{"QMP": {}}\r\n')
                for line in lines:
                    self.asked.append(json.loads(line))
                    if self.asked[-1]["execute"] == "end":
                        return
                    if self.asked[-1]["execute"] == "qmp_capabilities":
                        door.sendall(b'{"event": "STOP"}\r\n{"return": {}}\r\n')
                    elif self._answers:
                        door.sendall(json.dumps(self._answers.pop(0)).encode() + b"\r\n")
                    else:
                        break

    def close(self, folder: Path) -> None:
        with socket.socket(socket.AF_UNIX) as door:
            door.connect(str(folder / "qmp.sock"))
            door.sendall(b'{"execute": "end"}\n')
            self._thread.join(10)
        self._listener.close()


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        ([{"return": {"status": "running"}}], {"status": "running"}),
        ([{"error": {"class": "x"}}], None),
        ([], None),
    ],
)
def test_its_own_commands(
    answers: list[dict[str, object]], found: object, folder: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    monitor = Monitor(folder, answers)
    with qemu.find(str(folder)) or pytest.fail("not found") as process:
        told = process.ask("query-status", extra=1)
    monitor.close(folder)
    assert told == found
    assert monitor.asked[1] == {"execute": "query-status", "arguments": {"extra": 1}}


@pytest.mark.parametrize(
    ("answers", "version"),
    [
        ([{"return": {"qemu": {"major": 8, "minor": 2, "micro": 1}, "package": "x"}}], (8, 2)),
        ([{"return": {"qemu": {"major": "8"}}}], (0, 0)),
        ([{"return": {"qemu": None}}], (0, 0)),
        ([{"error": {"class": "x"}}], (0, 0)),
        ([], (0, 0)),
    ],
)
def test_its_version(
    answers: list[dict[str, object]],
    version: tuple[int, int],
    folder: Path,
    sleeper: subprocess.Popen[bytes],
) -> None:
    monitor = Monitor(folder, answers)
    with qemu.find(str(folder)) or pytest.fail("not found") as process:
        assert process.version() == version
    monitor.close(folder)


@pytest.mark.parametrize(
    ("states", "saved"),
    [(["active", "completed"], True), (["failed"], False), (["setup", "cancelled"], False)],
)
def test_saving(states: list[str], saved: bool, folder: Path, sleeper: subprocess.Popen[bytes]) -> None:
    answers: list[dict[str, object]] = [{"return": {}}, {"return": {}}]
    monitor = Monitor(folder, answers + [{"return": {"status": state}} for state in states])
    with qemu.find(str(folder)) or pytest.fail("not found") as process:
        assert process.save(f"{folder}/a b", 10) is saved
    monitor.close(folder)
    asked = [each for each in monitor.asked if each["execute"] != "qmp_capabilities"]
    assert asked[1] == {"execute": "migrate", "arguments": {"uri": f"exec:exec cat >'{folder}/a b'"}}


def test_nobody_to_ask(folder: Path, sleeper: subprocess.Popen[bytes]) -> None:
    with qemu.find(str(folder)) or pytest.fail("not found") as process:
        assert process.ask("query-status") is None
        assert not process.save(f"{folder}/memory", 10)


def test_the_end_of_a_long_console(folder: Path) -> None:
    (folder / "console.log").write_bytes(b"x" * 10**6 + b"\r\nmachine: system\r\n\xff")
    said = qemu.console(str(folder))
    assert len(said) < 300_000
    assert said.endswith("machine: system\n\ufffd")
    assert qemu.console("/nonexistent") == ""
