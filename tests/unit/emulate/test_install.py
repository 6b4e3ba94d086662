# SPDX-License-Identifier: Apache-2.0
"""Registering and removing: what happens once, twice, over somebody else's, and when a step fails."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.unit.emulate.kernel import Kernel, elf, emulator

from manyfest.emulate import install as module
from manyfest.emulate.binfmt import registration, target_named
from manyfest.emulate.install import Change, check_emulator, install, locate, remove
from manyfest.emulate.interpreter import read_interpreter
from manyfest.errors import EmulationError, InputError

ARM, S390X = target_named("arm"), target_named("s390x")
OURS = "manyfest-qemu-arm"


@pytest.fixture
def qemu(tmp_path: Path) -> str:
    """A static emulator; registrations come after it."""
    return emulator(tmp_path, "qemu-arm-static")


@pytest.fixture(autouse=True)
def later(kernel: Kernel) -> None:
    """Every registration is newer than every file."""
    kernel.clock = 9 * 10**18


def run(kernel: Kernel, path: str, **options: object) -> Change:
    """Install for arm on an amd64 machine."""
    (change,) = install(kernel, [(ARM, path)], host="x86_64", **options)  # type: ignore[arg-type]
    return change


def names(kernel: Kernel) -> list[str]:
    """The handlers, the one asked first first."""
    return [handler.name for handler in kernel.handlers()]


def test_registers_once(kernel: Kernel, qemu: str) -> None:
    """The second time there is nothing to do."""
    change = run(kernel, qemu)
    assert (change.action, change.handler, change.flags) == ("registered", OURS, "F")
    before = list(kernel.log)
    assert run(kernel, qemu).action == "unchanged"
    assert kernel.log == before


@pytest.mark.parametrize(("flags", "shown"), [("CF", "CF"), ("F", "F"), ("", ""), ("FP", "PF")])
def test_flags_as_asked(kernel: Kernel, qemu: str, flags: str, shown: str) -> None:
    """And other flags the next time are a change."""
    assert run(kernel, qemu, flags=flags).flags == shown
    assert kernel.handlers()[0].flags == shown
    assert run(kernel, qemu, flags=flags).action == "unchanged"
    assert run(kernel, qemu, flags="O").action == "renewed"


def test_disabled_one_of_ours_is_enabled(kernel: Kernel, qemu: str) -> None:
    """Not registered anew."""
    run(kernel, qemu)
    kernel._put(OURS, b"0")
    assert run(kernel, qemu).action == "renewed"
    assert kernel.handlers()[0].enabled


def test_upgraded_emulator_is_registered_again(kernel: Kernel, qemu: str) -> None:
    """The kernel holds the old file open."""
    kernel.clock = 0
    run(kernel, qemu)
    kernel.clock = 9 * 10**18
    assert run(kernel, qemu).action == "renewed"
    assert run(kernel, qemu).action == "unchanged"


def test_others_are_left_alone(kernel: Kernel, qemu: str) -> None:
    """Unless they are to be replaced; then ours is there before theirs goes."""
    kernel.register(registration("qemu-arm", ARM, qemu, "F"))
    change = run(kernel, qemu)
    assert (change.action, change.handler) == ("kept", "qemu-arm")
    assert names(kernel) == ["qemu-arm"]
    kernel.log.clear()
    change = run(kernel, qemu, replace=True)
    assert (change.action, change.removed) == ("registered", ("qemu-arm",))
    assert kernel.log == [f"register {OURS}", "qemu-arm -1"]
    assert names(kernel) == [OURS]


def test_failure_undoes_everything(kernel: Kernel, qemu: str, tmp_path: Path) -> None:
    """The second architecture fails: the first is gone again, the files too, and others' handlers never went."""
    kernel.register(registration("qemu-arm", ARM, qemu, "F"))
    kernel.fail_at = "register manyfest-qemu-s390x"
    persistent = tmp_path / "binfmt.d"
    with pytest.raises(EmulationError):
        install(
            kernel,
            [(ARM, qemu), (S390X, qemu)],
            host="x86_64",
            replace=True,
            persistent=str(persistent),
        )
    assert names(kernel) == ["qemu-arm"]
    assert list(persistent.iterdir()) == []


def test_failure_puts_the_old_one_back(kernel: Kernel, qemu: str, tmp_path: Path) -> None:
    """Ours with other flags was taken away first; its file is as it was."""
    persistent = str(tmp_path / "binfmt.d")
    run(kernel, qemu, flags="CF", persistent=persistent)
    written = (tmp_path / "binfmt.d" / f"{OURS}.conf").read_text()
    kernel.fail_at = "register manyfest-qemu-s390x"
    with pytest.raises(EmulationError):
        install(kernel, [(ARM, qemu), (S390X, qemu)], host="x86_64", persistent=persistent)
    assert [(h.name, h.flags) for h in kernel.handlers()] == [(OURS, "CF")]
    assert (tmp_path / "binfmt.d" / f"{OURS}.conf").read_text() == written


def test_failing_undo_is_told_too(kernel: Kernel, qemu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first error stands; what could not be undone is a note on it."""
    kernel.fail_at = "register manyfest-qemu-s390x"

    def refuse(name: str) -> None:
        raise EmulationError("no more")

    monkeypatch.setattr(kernel, "remove", refuse)
    with pytest.raises(EmulationError) as caught:
        install(kernel, [(ARM, qemu), (S390X, qemu)], host="x86_64")
    assert caught.value.__notes__ == ["undoing it failed as well: no more"]


def test_persistent_file_is_the_line(kernel: Kernel, qemu: str, tmp_path: Path) -> None:
    """What systemd-binfmt reads at the next start."""
    change = run(kernel, qemu, persistent=str(tmp_path / "binfmt.d"))
    comment, line = Path(change.persisted).read_text().splitlines()
    assert comment.startswith("# ")
    assert line == registration(OURS, ARM, qemu, "F")
    assert [path.name for path in (tmp_path / "binfmt.d").iterdir()] == [f"{OURS}.conf"]


def test_own_architecture_is_refused(kernel: Kernel, qemu: str) -> None:
    """Before anything is touched."""
    with pytest.raises(InputError, match="this machine's own architecture"):
        install(kernel, [(ARM, qemu), (target_named("x86_64"), qemu)], host="x86_64")
    assert kernel.log == []


@pytest.mark.parametrize("runs", [True, False])
def test_386_on_amd64(kernel: Kernel, qemu: str, monkeypatch: pytest.MonkeyPatch, runs: bool) -> None:
    """Refused if the processor and its kernel run it, and left out of all; registered if they do not."""
    monkeypatch.setattr(module, "_runs_here", lambda target: runs)
    pairs = [(S390X, qemu), (target_named("i386"), qemu)]
    if not runs:
        assert [c.action for c in install(kernel, pairs, host="x86_64")] == ["registered", "registered"]
        return
    with pytest.raises(InputError, match="runs i386 by itself"):
        install(kernel, pairs, host="x86_64")
    assert names(kernel) == []
    changes = install(kernel, pairs, host="x86_64", skip_native=True)
    assert [c.action for c in changes] == ["registered", "native"]
    assert names(kernel) == ["manyfest-qemu-s390x"]


def test_dynamic_emulator_is_refused_with_f(tmp_path: Path) -> None:
    """It would fail in every container; without F it is the user's wish."""
    path = emulator(tmp_path, "qemu-arm", dynamic=True)
    with pytest.raises(InputError, match="linked dynamically") as caught:
        check_emulator(ARM, path, "F", "x86_64")
    assert "qemu-user-static" in caught.value.hint
    check_emulator(ARM, path, "", "x86_64")


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), (b"not a program", "expected an ELF program"), (elf(183), "another machine")],
)
def test_files_that_are_no_emulators(tmp_path: Path, content: bytes | None, message: str) -> None:
    """Named, with what was expected."""
    path = tmp_path / "qemu-arm-static"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        check_emulator(ARM, str(path), "F", "x86_64")


def test_relative_path_and_strange_flags(qemu: str) -> None:
    """The kernel would take the first for something else."""
    with pytest.raises(InputError, match="whole path"):
        check_emulator(ARM, "qemu-arm-static", "F", "x86_64")
    with pytest.raises(InputError, match="expected letters of POCF"):
        check_emulator(ARM, qemu, "FZ", "x86_64")


def test_debians_other_name_gets_its_flag(kernel: Kernel, tmp_path: Path) -> None:
    """Without P it would take the first argument for argv[0]."""
    path = emulator(tmp_path, "arm-binfmt-P")
    assert run(kernel, path).flags == "PF"


def test_old_emulators_do_not_know_argv0(tmp_path: Path, qemu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """P is refused for QEMU before 6.0."""
    found = read_interpreter(qemu).replace(version="5.2.0")
    monkeypatch.setattr(module, "read_interpreter", lambda path: found)
    with pytest.raises(InputError, match=r"QEMU 6\.0"):
        check_emulator(ARM, qemu, "PF", "x86_64")
    check_emulator(ARM, qemu, "F", "x86_64")


def test_locating(tmp_path: Path) -> None:
    """The static one before the dynamic one; Debian's other name only with P."""
    assert locate(ARM, folders=[str(tmp_path)]) == ""
    dynamic = emulator(tmp_path, "qemu-arm", dynamic=True)
    assert locate(ARM, folders=[str(tmp_path)]) == dynamic
    static = emulator(tmp_path, "qemu-arm-static")
    other = emulator(tmp_path, "arm-binfmt-P")
    assert locate(ARM, folders=[str(tmp_path)]) == static
    assert locate(ARM, "PF", folders=[str(tmp_path)]) == other
    os.chmod(static, 0o644)
    assert locate(ARM, folders=[str(tmp_path)]) == dynamic


def test_remove_takes_what_is_ours(kernel: Kernel, qemu: str, tmp_path: Path) -> None:
    """The handler, the file for the next start, and an emulator that came out of an image; not somebody else's."""
    data, persistent = tmp_path / "data", str(tmp_path / "binfmt.d")
    (data / "0123").mkdir(parents=True)
    kept = emulator(data / "0123", "qemu-arm")
    run(kernel, kept, persistent=persistent)
    kernel.register(registration("qemu-s390x", S390X, qemu, "F"))
    changes = remove(kernel, [ARM, S390X], persistent=persistent, data=str(data))
    assert [change.action for change in changes] == ["removed", "absent"]
    assert names(kernel) == ["qemu-s390x"]
    assert list(data.iterdir()) == []
    assert os.listdir(persistent) == []


def test_remove_everybodys(kernel: Kernel, qemu: str, tmp_path: Path) -> None:
    """Only when told to."""
    run(kernel, qemu)
    kernel.register(registration("qemu-arm", ARM, qemu, "F"))
    (change,) = remove(kernel, [ARM], others=True, persistent=str(tmp_path), data=str(tmp_path / "none"))
    assert change.removed == (OURS, "qemu-arm")
    assert names(kernel) == []
    assert Path(qemu).exists()


def test_remove_by_name(kernel: Kernel, qemu: str, tmp_path: Path) -> None:
    """Ours, or anybody's when told to; an unknown one is an error."""
    kernel.register(registration("qemu-arm", ARM, qemu, "F"))
    with pytest.raises(InputError, match="somebody else"):
        remove(kernel, [], names=["qemu-arm"], persistent=str(tmp_path))
    with pytest.raises(InputError, match="no handler nobody"):
        remove(kernel, [], names=["nobody"], persistent=str(tmp_path))
    (change,) = remove(kernel, [], names=["qemu-arm"], others=True, persistent=str(tmp_path))
    assert (change.action, names(kernel)) == ("removed", [])


def test_persisting_without_rights(kernel: Kernel, qemu: str, tmp_path: Path) -> None:
    """Nothing stays registered when the file cannot be written."""
    (tmp_path / "file").write_text("")
    with pytest.raises(EmulationError):
        run(kernel, qemu, persistent=str(tmp_path / "file" / "binfmt.d"))
    assert names(kernel) == []
