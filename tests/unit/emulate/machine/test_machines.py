# SPDX-License-Identifier: Apache-2.0
"""The life of a machine whose QEMU, image and ssh are small programs of ours."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from manyfest.emulate.machine import image, machines, qemu
from manyfest.emulate.machine import running as running_module
from manyfest.emulate.machine.folders import new_folder
from manyfest.emulate.machine.image import Image, require_room, with_image
from manyfest.emulate.machine.kinds import kind_of
from manyfest.emulate.machine.machines import create, remove, start, stop
from manyfest.emulate.machine.running import launch
from manyfest.errors import EmulationError, InputError, InvalidPlatform, Refused

pytestmark = pytest.mark.slow

# As QEMU does with -daemonize: go on in the background, and write a console and the pid file first.
QEMU = """\
#!{python}
import os, sys, time
words = sys.argv
if "CRASH" in os.environ:
    sys.exit("cannot set up guest memory 'ram': Cannot allocate memory")
if "kvm" in words:
    sys.exit("failed to set MSR 0x10a")
pidfile = words[words.index("-pidfile") + 1]
console = next(word for word in words if word.startswith("file,id=console")).partition("path=")[2]
read, write = os.pipe()
if os.fork():
    os.read(read, 1)
    os._exit(0)
os.setsid()
open(console, "w").write("machine: system\\nKernel panic \\x1b[31m- not syncing\\n")
open(pidfile, "w").write(str(os.getpid()))
code = "import time, os; os.write(int(sys.argv[1]), b'x')"
if "ENDS" in os.environ:
    # Once it was seen.
    noted = os.path.join(os.path.dirname(pidfile), "run.json")
    code += f"\\nwhile not os.path.exists({{noted!r}}): time.sleep(0.01)"
else:
    code += "; time.sleep(60)"
os.set_inheritable(write, True)
nowhere = os.open(os.devnull, os.O_RDWR)
for number in range(3):
    os.dup2(nowhere, number)
os.execv({python!r}, ["qemu-system-s390x", "-c", "import sys; " + code, str(write), *words])
"""
PANIC = "Kernel panic"


@pytest.fixture
def place(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders of our own, programs instead of QEMU and resize2fs, an image of a few bytes."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "qemu-system-s390x").write_text(QEMU.format(python=sys.executable))
    (programs / "resize2fs").write_text(
        '#!/bin/sh\n[ -z "$FULL" ] || { echo "No space left on device" >&2; exit 1; }\n'
    )
    for program in programs.iterdir():
        program.chmod(0o755)
    for name in ("ssh", "ssh-keygen"):
        if shutil.which(name) is None:
            pytest.skip(f"no {name}; apt-get install openssh-client")
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    data = tmp_path_factory.mktemp("m")  # sockets want short paths
    monkeypatch.setenv("MANYFEST_DATA", str(data))
    monkeypatch.setenv("MANYFEST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(machines, "_ROOM", 0)
    monkeypatch.setattr(qemu, "QMP_TIMEOUT_S", 0.1)
    made = tmp_path / "image"
    made.mkdir()
    for name in ("disk.img", "kernel", "initramfs"):
        (made / name).write_text(name)

    @contextlib.contextmanager
    def small(*_: Any, **__: Any) -> Iterator[Image]:
        yield Image(str(made), 0.0)

    monkeypatch.setattr(machines, "with_image", small)
    return data / "machines"


def left(place: Path) -> list[str]:
    """Machines and what else lies around them."""
    return sorted(name for name in os.listdir(place) if name != ".lock") if place.exists() else []


def test_create(place: Path) -> None:
    machine = create("z", "s390x", memory=2**30, disk=4 * 2**30)
    assert (machine.state, str(machine.record.platform), machine.port) == ("stopped", "linux/s390x", 0)
    assert machine.engine == f"unix://{place}/z/docker.sock"
    assert place.stat().st_mode & 0o777 == (place / "z").stat().st_mode & 0o777 == 0o700
    for name in ("id", "host_key", "initramfs", "machine.json"):
        assert (place / "z" / name).stat().st_mode & 0o077 == 0, name
    assert (place / "z" / "known_hosts").read_text().startswith("manyfest-z ssh-ed25519 ")
    own = (place / "z" / "initramfs").read_bytes()
    assert own.startswith(b"initramfs070701")
    assert b"name=z\n" in own
    assert (place / "z" / "id.pub").read_bytes() in own
    assert machines.all() == [machine]


def test_an_architecture_may_be_the_name(place: Path) -> None:
    assert str(create("s390x").record.platform) == "linux/s390x"


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"name": "z", "architecture": "vax"}, InvalidPlatform),
        ({"name": "../z", "architecture": "s390x"}, InputError),
        ({"name": "z", "architecture": "s390x", "memory": 1}, InputError),
        ({"name": "z", "architecture": "s390x", "memory": 2**60}, InputError),
        ({"name": "z", "architecture": "s390x", "disk": 1}, InputError),
        ({"name": "z", "architecture": "s390x", "cpus": -1}, InputError),
        ({"name": "z", "architecture": "riscv64"}, EmulationError),
    ],
)
def test_what_cannot_be_made_leaves_nothing(
    given: dict[str, Any], kind: type[Exception], place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr("manyfest.emulate.machine.outside._SBIN", "")
    with pytest.raises(kind):
        create(**given)
    assert left(place) == []


def test_a_second_one_of_that_name(place: Path) -> None:
    create("z", "s390x")
    with pytest.raises(EmulationError, match="already"):
        create("z", "s390x")
    assert left(place) == ["z"]


def test_no_room(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FULL", "yes")
    with pytest.raises(EmulationError, match="No space left"):
        create("z", "s390x")
    assert left(place) == []
    with pytest.raises(EmulationError, match="GB free, a machine takes") as caught:
        require_room(str(place), 10**18, "a machine")
    assert "MANYFEST_DATA" in caught.value.hint


def test_two_are_made_at_a_time(place: Path) -> None:
    """Each keeps its own folder, and the later of one name is refused at the end."""
    first = contextlib.ExitStack()
    path = first.enter_context(new_folder("a"))
    with new_folder("b"), new_folder("a"):
        assert len(left(place)) == 3
        assert os.path.isdir(path)
    with pytest.raises(EmulationError, match="already"):
        first.close()
    assert left(place) == ["a", "b"]


def test_what_a_killed_create_left_goes(place: Path) -> None:
    (place / ".new-0123").mkdir(parents=True)
    (place / ".new-0123" / "disk.img").write_text("half")
    (place / ".gone-0123").mkdir()
    create("z", "s390x")
    assert left(place) == ["z"]


def test_start_tells_what_the_console_said(place: Path) -> None:
    create("z", "s390x")
    with pytest.raises(EmulationError, match=r"no engine answered within 0\.5 s") as caught:
        start("z", timeout_s=0.5)
    assert PANIC in str(caught.value)
    assert "--timeout" in caught.value.hint
    assert machines.find("z").state == "stopped"
    assert not {"run.json", "qemu.pid", "docker.sock", "ssh"} & set(os.listdir(place / "z"))


def test_a_machine_that_turns_itself_off(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create("z", "s390x")
    monkeypatch.setenv("ENDS", "yes")
    with pytest.raises(EmulationError, match="turned itself off") as caught:
        start("z", timeout_s=30)
    assert PANIC in str(caught.value)
    assert machines.find("z").state == "stopped"


def test_qemu_that_does_not_start(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create("z", "s390x")
    monkeypatch.setenv("CRASH", "yes")
    with pytest.raises(EmulationError, match="cannot set up guest memory") as caught:
        start("z")
    assert "with less --memory" in caught.value.hint
    assert machines.find("z").state == "stopped"


@pytest.fixture
def running(place: Path) -> Iterator[str]:
    """A machine whose engine never answers, as if its start were still going on."""
    create("z", "s390x")
    process, _ = launch(machines.find("z").record, str(place / "z"), 0, print)
    with process:
        yield "z"
        process.end()


def test_one_that_runs_is_not_removed(running: str, place: Path) -> None:
    assert machines.find(running).state == "starting"
    with pytest.raises(Refused, match="running"):
        remove(running)
    assert left(place) == ["z"]
    remove(running, force=True)
    assert left(place) == []


def test_stop_ends_what_cannot_be_asked(running: str) -> None:
    said: list[str] = []
    assert stop(running, timeout_s=2, on_step=said.append)
    assert any("cannot be asked" in line for line in said)
    assert machines.find(running).state == "stopped"
    assert not stop(running)


def test_a_machine_that_cannot_be_suspended_runs_on(running: str, place: Path) -> None:
    with pytest.raises(EmulationError, match="does not write its memory down"):
        stop(running, suspend=True)
    assert machines.find(running).state == "starting"
    assert not list((place / running).glob("memory*"))


@pytest.mark.parametrize(
    ("architecture", "program", "version", "message"),
    [
        ("ppc64le", "ppc64", (7, 2), "does not save the timers of linux/ppc64le"),
        ("ppc64le", "ppc64", (8, 2), "does not write its memory"),
        ("riscv64", "riscv64", (10, 1), "does not save the timers of linux/riscv64"),
        ("riscv64", "riscv64", (10, 2), "does not write its memory"),
    ],
)
def test_a_machine_whose_timers_are_not_saved(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    architecture: str,
    program: str,
    version: tuple[int, int],
    message: str,
) -> None:
    """Refused: it would stand still after some of the resumptions."""
    script = shutil.which("qemu-system-s390x")
    assert script is not None
    os.symlink(script, os.path.join(os.path.dirname(script), f"qemu-system-{program}"))
    create("p", architecture)
    monkeypatch.setattr(qemu.Process, "version", lambda _: version)
    process, _ = launch(machines.find("p").record, str(place / "p"), 0, print)
    with process:
        with pytest.raises(EmulationError, match=message):
            stop("p", suspend=True)
        assert machines.find("p").state == "starting"
        process.end()


def test_what_cannot_be_resumed_starts_anew(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create("z", "s390x")
    (place / "z" / "memory").write_text("of another QEMU")
    assert machines.find("z").state == "suspended"
    monkeypatch.setenv("ENDS", "yes")
    said: list[str] = []
    with pytest.raises(EmulationError, match="turned itself off"):
        start("z", timeout_s=30, on_step=said.append)
    assert any("cannot go on where it was" in line for line in said)
    assert not (place / "z" / "memory").exists()
    assert machines.find("z").state == "stopped"


def test_saved_memory_is_used_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if nobody lives to forget it: the disk has changed since, and old memory over it would ruin it."""
    create("z", "s390x")
    (place / "z" / "memory").write_text("memory")
    process, _ = launch(machines.find("z").record, str(place / "z"), 0, print, resumes=True)
    with process:
        assert machines.find("z").state == "starting"
        process.end()
    assert machines.find("z").state == "stopped"
    assert (place / "z" / "memory.used").exists()
    stop("z")
    assert not list((place / "z").glob("memory*"))


def test_stopping_a_suspended_one_forgets_its_memory(place: Path) -> None:
    create("z", "s390x")
    (place / "z" / "memory").write_text("memory")
    assert not stop("z", suspend=True)
    assert machines.find("z").state == "suspended"
    assert not stop("z")
    assert machines.find("z").state == "stopped"


def test_where_kvm_fails_it_is_emulated(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create("z", "s390x")
    create("y", "s390x", emulated=True)
    monkeypatch.setattr(qemu, "uses_kvm", lambda _, record: not record.emulated)
    said: list[str] = []
    for name in ("z", "y"):
        with pytest.raises(EmulationError, match="no engine answered"):
            start(name, timeout_s=0.3, on_step=said.append)
    assert said == [
        "z: linux/s390x, by KVM, 1024 MiB",
        "KVM does not work here (starting the machine: qemu-system-s390x: failed to set MSR 0x10a); emulating",
        "the kernel is up",
        "y: linux/s390x, emulated, 1024 MiB",
        "the kernel is up",
    ]


def test_where_kvm_hangs_it_is_emulated_from_then_on(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create("z", "s390x")
    monkeypatch.setattr(running_module, "KVM_PATIENCE_S", 0.0)
    monkeypatch.setattr(running_module, "_STEPS", {})
    monkeypatch.setattr(qemu, "uses_kvm", lambda _, record: not record.emulated)
    monkeypatch.setattr(qemu, "command", without_kvm(qemu.command))
    said: list[str] = []
    with pytest.raises(EmulationError, match="no engine answered"):
        start("z", timeout_s=0.3, on_step=said.append)
    assert said == [
        "z: linux/s390x, by KVM, 1024 MiB",
        "z: by KVM the machine's kernel is not up within 0 s; from now on it is emulated",
        "z: linux/s390x, emulated, 1024 MiB",
    ]
    assert machines.find("z").record.emulated


def without_kvm(command: Callable[..., list[str]]) -> Callable[..., list[str]]:
    """Command lines that the program here takes."""
    return lambda *given, **named: [word for word in command(*given, **named) if word != "kvm"]


def test_ctrl_c_ends_what_was_started(place: Path) -> None:
    create("z", "s390x")

    def interrupt(step: str) -> None:
        if "kernel" in step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start("z", on_step=interrupt)
    assert machines.find("z").state == "stopped"


def test_a_broken_one_can_be_removed(place: Path) -> None:
    create("z", "s390x")
    (place / "z" / "machine.json").write_text("{")
    with pytest.raises(EmulationError, match=r"machine\.json"):
        remove("z")
    remove("z", force=True)
    with pytest.raises(EmulationError, match="no machine"):
        remove("z", force=True)
    assert left(place) == []


# --- the image in the cache ---


def test_the_image_is_made_once_and_whole(
    place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[str] = []

    def make(kind: Any, folder: str, target: str, mirror: str, on_step: Any) -> None:
        made.append(mirror)
        shutil.copytree(tmp_path / "image", target, dirs_exist_ok=True)
        Path(target, "made.json").write_text(
            json.dumps({"recipe": image.RECIPE, "made_at": 86400 * len(made)})
        )

    monkeypatch.setattr(image, "_make", make)
    kind, said = kind_of("s390x"), list[str]()
    killed = tmp_path / "cache" / "machines" / "s390x" / "new-1"
    killed.mkdir(parents=True)
    with with_image(kind, mirror="http://a/debian") as first:
        assert first.made_at == 86400
    with with_image(kind, on_step=said.append) as again:
        assert again == first
    with with_image(kind, mirror="http://b/debian", fresh=True) as fresh:
        assert fresh.made_at == 2 * 86400
    (killed.parent / "image" / "made.json").write_text('{"recipe": 0, "made_at": 1}')
    with with_image(kind, mirror="http://c/debian"):
        assert made == ["http://a/debian", "http://b/debian", "http://c/debian"]
    assert said == ["from the image of 1970-01-02"]
    assert not killed.exists()


def test_programs_that_lack_are_named_before_anything_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("manyfest.emulate.machine.outside._SBIN", "")
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(EmulationError, match="no mke2fs") as caught, with_image(kind_of("s390x")):
        pytest.fail("made without mke2fs")
    assert caught.value.hint == "apt-get install e2fsprogs"
    assert subprocess.run(["true"], check=False, env={"PATH": "/bin:/usr/bin"}).returncode == 0
