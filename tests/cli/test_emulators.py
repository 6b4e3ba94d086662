# SPDX-License-Identifier: Apache-2.0
"""The command emulators, on a folder in place of the kernel's binfmt_misc."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from tests.cli.conftest import Run
from tests.unit.emulate.kernel import Kernel, emulator

from manyfest.cli.commands import emulators as command
from manyfest.emulate.binfmt import registration, target_for, target_named
from manyfest.emulate.doctor import examine, this_machine
from manyfest.emulate.images import layer_tar, write_image
from manyfest.emulate.probe import PLATFORMS, Probe, probe
from manyfest.errors import EmulationError
from manyfest.platforms import Platform
from manyfest.stores.layout import Layout

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "json.md").read_text(encoding="utf-8")
MACHINE = target_named(this_machine()).machine
OWN = next(p for p in PLATFORMS if target_for(p).qemu == this_machine())
FOREIGN = "s390x" if OWN.architecture != "s390x" else "arm64"
QEMU = target_for(Platform("linux", FOREIGN)).qemu


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """In place of the real one, with folders of our own for everything else."""
    made = Kernel(tmp_path / "binfmt_misc")
    made.clock = 9 * 10**18
    monkeypatch.setattr(command, "Binfmt", lambda root: made)
    monkeypatch.setattr(command, "PERSISTENT", str(tmp_path / "binfmt.d"))
    monkeypatch.setattr(command, "DATA", str(tmp_path / "data"))
    return made


@pytest.fixture
def qemu(tmp_path: Path) -> str:
    """A static emulator of a foreign architecture for this machine, that nobody can really start."""
    return emulator(tmp_path, f"qemu-{QEMU}-static", machine=MACHINE)


def keys(section: str) -> set[str]:
    """What the page says of one form of the document."""
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{section}` |"))
    return set(re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", row.partition(" | ")[2])))


def test_status_without_emulators(run: Run, kernel: Kernel) -> None:
    """This machine's own program runs; the note says what to do for the others."""
    shown = run("emulators", "--json").json
    own = next(one for one in shown["probes"] if one["platform"] == str(OWN))
    assert (shown["state"], shown["handlers"], own["ok"], own["how"]) == ("ready", [], True, "native")
    assert [finding["code"] for finding in shown["findings"]] == ["none"]
    assert "manyfest emulators install all" in run("emulators").out


def test_status_of_every_kind(run: Run, kernel: Kernel, qemu: str) -> None:
    """Handlers with their findings, as table and as documented JSON."""
    kernel.register(registration("old", target_named(QEMU), qemu, "F"))
    kernel.register(registration("bare", target_named(QEMU), qemu, ""))
    kernel.register(":WSLInterop:M::MZ::/init:P")
    text = run("emulators").out
    assert "behind bare" in text
    assert "problem: bare: without the flag F" in text
    assert "Windows Subsystem for Linux" in text
    shown = run("emulators", "--json").json
    assert set(shown) == keys("emulators status")
    assert set(shown["handlers"][0]) == keys("handlers[]")
    assert set(shown["probes"][0]) == keys("probes[]")
    assert set(shown["handlers"][1]["findings"][0]) == keys("findings[]")
    assert [handler["name"] for handler in shown["handlers"]] == ["WSLInterop", "bare", "old"]


def test_many_handlers_are_counted_in_a_finding(run: Run, kernel: Kernel, qemu: str) -> None:
    """Not listed one by one."""
    for name in "abcde":
        kernel.register(registration(name, target_named("sparc"), qemu, ""))
    assert "5 handlers: without the flag F" in run("emulators").out


@pytest.mark.parametrize("there", [True, False])
def test_containers_are_pointed_to(
    run: Run, kernel: Kernel, qemu: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    """Where there are emulators and an engine, for a kernel that runs a program is no container that does."""
    (tmp_path / "bin").mkdir()
    if there:
        (tmp_path / "bin" / "podman").write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / "bin" / "podman").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert "--engine any" not in run("emulators").err
    kernel.register(registration("q", target_named(QEMU), qemu, "F"))
    assert ("--engine any does that too" in run("emulators").err) is there
    assert "--engine any" not in run("emulators", "--engine", "any").err
    assert "--engine any" not in run("emulators", "test", str(OWN)).err


def test_test_answers_with_its_code(run: Run, kernel: Kernel) -> None:
    """0 for this machine, 2 for what nobody knows."""
    assert str(OWN) in run("emulators", "test").out
    shown = run("emulators", "test", str(OWN), "--json").json
    assert set(shown) == keys("emulators test")
    assert shown["ok"] is True
    assert run("emulators", "test", "nonsense", ok=False).code == 2


def test_test_says_no(run: Run, kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """1, with the reason and what to do."""
    failed = [
        one.replace(ok=False, explanation="exec format error: no emulator is registered for it")
        for one in probe(examine(kernel), [OWN])
    ]
    monkeypatch.setattr(command, "probe", lambda report, platforms: failed)
    done = run("emulators", "test", ok=False)
    assert (done.code, "no emulator is registered" in done.out) == (1, True)
    assert run("emulators", "status", OWN.architecture, ok=False).code == 1
    assert run("emulators", "status").code == 0


def test_what_to_do_is_told_once(
    run: Run, kernel: Kernel, qemu: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that is to be installed in one command; the rest line by line."""
    install = "manyfest emulators install"
    failed = [
        Probe(OWN, where, "", False, "", "no", hint)
        for where, hint in (("a", f"{install} arm64"), ("b", f"{install} s390x"), ("c", f"{install} arm64"))
    ]
    failed.append(Probe(OWN, "d", "", False, "", "no", f"{install} arm --replace"))
    monkeypatch.setattr(command, "probe", lambda report, platforms: failed)
    hints = [f"hint: {install} arm64 s390x", f"hint: {install} arm --replace"]
    told = run("emulators", "test", ok=False).out.splitlines()
    assert [line for line in told if line.startswith("hint")] == hints
    assert "hint" not in run("emulators").out  # the note says all there
    kernel.register(registration("q", target_named(QEMU), qemu, "F"))
    assert [line for line in run("emulators").out.splitlines() if line.startswith("hint")] == hints


def test_not_mounted_is_told(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user is told; root has it mounted, or is told why not."""
    kernel = Kernel(tmp_path / "b", mounted=False)
    monkeypatch.setattr(command, "Binfmt", lambda root: kernel)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "problem: binfmt_misc is not mounted" in run("emulators").out
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    def refuse(words: list[str], doing: str, state: str) -> None:
        raise EmulationError(f"{doing}: permission denied")

    monkeypatch.setattr(kernel, "_command", refuse)
    refused = run("emulators")
    assert refused.err == "mounting binfmt_misc: permission denied\n"
    assert "problem: binfmt_misc is not mounted" in refused.out
    monkeypatch.setattr(kernel, "_command", lambda *words: Kernel(tmp_path / "b"))
    mounted = run("emulators")
    assert (mounted.err, "not mounted" in mounted.out) == ("binfmt_misc was not mounted; now it is\n", False)


def test_install_and_remove(
    run: Run, kernel: Kernel, qemu: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Registered with F, kept for the next start, taken away again; the documents as documented."""
    monkeypatch.setattr(command, "probe", lambda report, platforms: [])
    done = run("emulators", "install", FOREIGN, "--from", str(tmp_path), "--persist", "--json").json
    assert set(done) == keys("emulators install")
    (change,) = done["changes"]
    assert set(change) == keys("changes[]")
    assert (change["action"], change["flags"]) == ("registered", "F")
    assert Path(change["persisted"]).exists()
    again = run("emulators", "install", FOREIGN, "--from", qemu)
    assert f"{QEMU}: unchanged as manyfest-qemu-{QEMU}" in again.out
    gone = run("emulators", "remove", "all", "--json").json
    assert set(gone) == keys("emulators remove")
    assert [one["action"] for one in gone["changes"]] == ["removed"]
    assert list((tmp_path / "binfmt.d").iterdir()) == []
    assert "nothing of ours is registered" in run("emulators", "remove", "all").out


def test_somebody_elses_handler_with_a_problem(
    run: Run, kernel: Kernel, qemu: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left alone, and the answer is no: containers would not work."""
    monkeypatch.setattr(command, "probe", lambda report, platforms: [])
    kernel.register(registration("theirs", target_named(QEMU), qemu, ""))
    done = run("emulators", "install", FOREIGN, "--from", qemu, ok=False)
    assert done.code == 1
    assert "left alone, theirs" in done.out
    assert "problem: theirs: without the flag F" in done.out
    assert "instead of theirs" in run("emulators", "install", FOREIGN, "--from", qemu, "--replace").out


def test_install_from_an_image(
    run: Run, kernel: Kernel, qemu: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the wanted file comes out; a failure leaves nothing of it."""
    monkeypatch.setattr(command, "probe", lambda report, platforms: [])
    content = Path(qemu).read_bytes()
    with Layout.create(str(tmp_path / "layout")) as layout:
        layer = layer_tar({f"usr/bin/qemu-{QEMU}": (content, 0o755), "usr/bin/qemu-sh4": (content, 0o755)})
        layout.tag(write_image(layout, OWN, [layer]), "1")
    place = f"oci:{tmp_path}/layout:1"
    kernel.fail_at = f"register manyfest-qemu-{QEMU}"
    assert run("emulators", "install", FOREIGN, "--from", place, ok=False).code == 3
    assert list((tmp_path / "data").iterdir()) == []
    kernel.fail_at = ""
    run("emulators", "install", FOREIGN, "--from", place)
    (handler,) = kernel.handlers()
    assert handler.interpreter.startswith(str(tmp_path / "data"))
    assert [path.name for path in Path(handler.interpreter).parent.iterdir()] == [f"qemu-{QEMU}"]
    run("emulators", "remove", FOREIGN)
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (("install",), 2, "install what?"),
        (("remove",), 2, "remove what?"),
        (("install", "nonsense"), 2, "not the name of an architecture"),
        (("install", "windows/amd64"), 2, "no emulator for windows/amd64"),
        (("install", str(OWN)), 3, "no emulator for"),
        (("install", FOREIGN, "--from", "/nonexistent"), 2, "no such file"),
        (("install", "arm", "riscv64", "ppc64le", "--from", "/etc/passwd"), 2, "is one emulator"),
        (("install", FOREIGN, "--from", "/etc/passwd"), 2, "expected an ELF program"),
        (("explode",), 2, "invalid choice"),
        (("status", "--persist"), 2, "manyfest emulators status: --persist is for install"),
        (("install", FOREIGN, "--engine", "docker"), 2, "--engine is for status and test"),
        (("install", FOREIGN, "--any"), 2, "--any is for remove"),
        (("install", FOREIGN, "--flags", "Q"), 2, "expected letters of POCF"),
    ],
)
def test_wrong_use(
    run: Run, kernel: Kernel, tmp_path: Path, argv: tuple[str, ...], code: int, message: str
) -> None:
    """Each with its message, and nothing changed."""
    if argv == ("install", str(OWN)):
        argv = (*argv, "--from", str(tmp_path))
    if "--flags" in argv:
        argv = (*argv, "--from", emulator(tmp_path, "q", machine=MACHINE))
    done = run("emulators", *argv, ok=False)
    assert (done.code, message in done.err) == (code, True), done
    assert kernel.log == []


def test_own_architecture_is_never_registered(run: Run, kernel: Kernel, tmp_path: Path) -> None:
    """Not even from a file."""
    path = emulator(tmp_path, "qemu-own", machine=MACHINE)
    done = run("emulators", "install", OWN.architecture, "--from", path, ok=False)
    assert (done.code, "own architecture" in done.err, kernel.log) == (2, True, [])


def test_all_leaves_out_what_is_not_there(run: Run, kernel: Kernel, qemu: str, tmp_path: Path) -> None:
    """One emulator in the folder: one handler, and a word on the others."""
    done = run("emulators", "install", "all", "--from", str(tmp_path), ok=False)
    assert [handler.name for handler in kernel.handlers()] == [f"manyfest-qemu-{QEMU}"]
    assert "no emulator here for" in done.err
