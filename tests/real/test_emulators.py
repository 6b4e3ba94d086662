# SPDX-License-Identifier: Apache-2.0
"""Emulators for real: Debian's static QEMU, the kernel's binfmt_misc (an instance of our own) and engines.

What changes handlers runs in a user namespace, which has a binfmt_misc of its own since Linux 6.7; so nothing of the
machine's is touched. Where that cannot be, the machine's handlers are put aside and put back. Engines use the machine's
own: there only an architecture that nobody else here uses is changed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.real.parts import Done, Host, need

from manyfest.emulate.binfmt import TARGETS, Binfmt, line_of
from manyfest.emulate.doctor import this_machine
from manyfest.emulate.images import layer_tar, write_image
from manyfest.platforms import Platform
from manyfest.stores.layout import Layout

pytestmark = pytest.mark.real

BINFMT = Path("/proc/sys/fs/binfmt_misc")
FOREIGN = ("arm64", "armhf", "ppc64le", "s390x", "riscv64")
PROGRAMS = ("linux/arm64", "linux/arm/v7", "linux/ppc64le", "linux/s390x", "linux/riscv64")
HOLDER = """
set -e
mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
mount -t tmpfs tmpfs /var/lib
echo ready
exec sleep 600
"""

Inside = Callable[..., Done]


@pytest.fixture
def inside(here: Host) -> Iterator[Inside]:
    """Runs a program as root where binfmt_misc has no emulator."""
    need("qemu-s390x-static", package="qemu-user-static")
    need("unshare", "nsenter", package="util-linux")
    holder = subprocess.Popen(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", HOLDER],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stderr is not None
        if holder.stdout.readline() != "ready\n":
            with put_aside():
                yield here.run
            return
        enter = ("nsenter", "-t", str(holder.pid), "-U", "-m", "--preserve-credentials")

        def run(*command: str, ok: bool = True, stdin: str = "") -> Done:
            return here.run(*enter, *command, ok=ok, stdin=stdin)

        yield run
    finally:
        holder.kill()
        holder.communicate()


@contextmanager
def put_aside() -> Iterator[None]:
    """No emulator on this machine for a while, then the same ones in the same order."""
    if os.geteuid() != 0:
        pytest.skip("needs root, or Linux 6.7 with user namespaces")
    binfmt = Binfmt()
    binfmt.ensure()
    before = [handler for handler in binfmt.handlers() if any(handler.matches(t.head) for t in TARGETS)]
    for handler in before:
        binfmt.remove(handler.name)
    try:
        yield
    finally:
        for handler in binfmt.handlers():
            if any(handler.matches(target.head) for target in TARGETS):
                binfmt.remove(handler.name)
        for handler in reversed(before):
            binfmt.register(line_of(handler))


@pytest.fixture
def ours(inside: Inside) -> Inside:
    """Our command, in there."""

    def run(*words: str, ok: bool = True) -> Done:
        return inside(sys.executable, "-m", "manyfest", "emulators", *words, ok=ok)

    return run


def register(inside: Inside, line: str) -> None:
    """What any other tool does."""
    inside("tee", str(BINFMT / "register"), stdin=line)


def works(document: Any) -> dict[str, bool]:
    """Of each platform."""
    return {one["platform"]: one["ok"] for one in document["probes"]}


def test_nothing_registered(ours: Inside) -> None:
    """Foreign programs do not start, and it is said why."""
    shown = ours("--json").json
    assert (shown["state"], shown["handlers"]) == ("ready", [])
    wrong = {one["platform"]: one["explanation"] for one in shown["probes"] if not one["ok"]}
    assert set(PROGRAMS) <= set(wrong)
    assert set(wrong.values()) == {"exec format error: no emulator is registered for it"}
    assert ours("test", *FOREIGN, ok=False).code == 1


def test_install_test_remove(ours: Inside) -> None:
    """Five architectures: registered, running, registered again without a change, gone."""
    done = ours("install", *FOREIGN, "--json").json
    assert [change["action"] for change in done["changes"]] == ["registered"] * 5
    assert {change["flags"] for change in done["changes"]} == {"F"}
    assert done["ok"]
    assert works(ours("test", *FOREIGN, "--json").json) == dict.fromkeys(PROGRAMS, True)
    shown = ours("--json").json
    for handler in shown["handlers"]:
        assert (handler["kind"], handler["linking"], handler["flags"]) == ("qemu", "static", "F")
        assert handler["version"][0].isdigit()
    again = ours("install", *FOREIGN, "--json").json
    assert [change["action"] for change in again["changes"]] == ["unchanged"] * 5
    removed = ours("remove", "all", "--json").json
    assert [change["action"] for change in removed["changes"]] == ["removed"] * 5
    assert ours("test", *FOREIGN, ok=False).code == 1


def test_all_and_nothing_native(ours: Inside) -> None:
    """Everything there is a QEMU for, and this machine's own programs still start without one."""
    ours("install", "all")
    shown = ours("--json").json
    assert all(works(shown).values())
    own = [h["name"] for h in shown["handlers"] if this_machine() in h["architectures"]]
    assert own == []
    assert not [f for handler in shown["handlers"] for f in handler["findings"] if f["level"] == "problem"]


@pytest.mark.skipif(this_machine() != "x86_64", reason="386 runs on amd64 only")
def test_386_stays_native(ours: Inside) -> None:
    """An emulator would be slower than the processor."""
    refused = ours("install", "386", ok=False)
    assert (refused.code, "runs i386 by itself" in refused.err) == (2, True)
    assert works(ours("test", "386", "--json").json) == {"linux/386": True}


@pytest.mark.parametrize("flags", ["F", "PF", "CF", ""])
def test_flags(ours: Inside, flags: str) -> None:
    """With P it is Debian's other name, which knows what to do with it."""
    done = ours("install", "s390x", "--flags", flags, "--json").json
    assert set(done["changes"][0]["flags"]) == set(flags)
    assert done["changes"][0]["interpreter"].endswith("-binfmt-P") is ("P" in flags)
    assert works(done) == {"linux/s390x": True}


def test_somebody_elses_handler(ours: Inside, inside: Inside) -> None:
    """Debian's own line is left alone, then replaced; the kernel asks the last one first."""
    register(inside, Path("/usr/lib/binfmt.d/qemu-s390x.conf").read_text().strip())
    assert "left alone, qemu-s390x" in ours("install", "s390x").out
    line = Path("/usr/lib/binfmt.d/qemu-s390x.conf").read_text().strip()
    register(inside, line.replace(":qemu-s390x:", ":later:").replace("s390x-binfmt-P:OPF", "gone:"))
    shown = ours("--json").json
    assert [handler["name"] for handler in shown["handlers"]] == ["later", "qemu-s390x"]
    assert shown["handlers"][1]["shadowed_by"] == "later"
    refused = ours("test", "s390x", "--json", ok=False)
    assert refused.code == 1
    assert "later names /usr/libexec/qemu-binfmt/gone" in refused.json["probes"][0]["explanation"]
    replaced = ours("install", "s390x", "--replace", "--json").json
    assert sorted(replaced["changes"][0]["removed"]) == ["later", "qemu-s390x"]
    assert works(replaced) == {"linux/s390x": True}


def test_switched_off(ours: Inside, inside: Inside) -> None:
    """One handler, then all of them; installing mends both."""
    ours("install", "s390x")
    inside("tee", str(BINFMT / "manyfest-qemu-s390x"), stdin="0")
    why = ours("test", "s390x", "--json", ok=False).json["probes"][0]["explanation"]
    assert "manyfest-qemu-s390x is switched off" in why
    inside("tee", str(BINFMT / "status"), stdin="0")
    assert ours("--json").json["state"] == "disabled"
    assert ours("install", "s390x", "--json").json["ok"]


def test_from_an_image(ours: Inside, here: Host) -> None:
    """As tonistiigi/binfmt has them; the emulator comes out, runs, and goes with its handler."""
    content = Path("/usr/bin/qemu-riscv64-static").read_bytes()
    with Layout.create(str(here.home / "layout")) as layout:
        layer = layer_tar({"usr/bin/qemu-riscv64": (content, 0o755)})
        own = Platform.parse(ours("--json").json["probes"][0]["platform"])
        layout.tag(write_image(layout, own, [layer]), "1")
    done = ours("install", "riscv64", "--from", f"oci:{here.home}/layout:1", "--json").json
    assert done["changes"][0]["interpreter"].startswith("/var/lib/manyfest/emulators/")
    assert works(done) == {"linux/riscv64": True}
    ours("remove", "riscv64")
    assert ours("test", "riscv64", ok=False).code == 1


@pytest.fixture
def docker(here: Host, engine: str) -> Iterator[Host]:
    """An engine on a machine with Debian's handlers; none for mips64le, before and after."""
    here.env["DOCKER_HOST"] = engine
    here.manyfest("emulators", "remove", "mips64le", "--any")
    yield here
    here.manyfest("emulators", "remove", "mips64le", "--any")


def test_in_a_container(docker: Host) -> None:
    """Five architectures inside Docker, by Debian's handlers with F."""
    shown = docker.manyfest("emulators", "test", *FOREIGN, "--engine", "docker", "--json").json
    assert {(one["platform"], one["where"], one["ok"]) for one in shown["probes"]} == {
        (platform, where, True) for platform in PROGRAMS for where in ("kernel", "docker")
    }
    assert "manyfest-probe" not in docker.run("/usr/bin/docker", "image", "ls").out


def test_without_f_only_outside_of_containers(docker: Host) -> None:
    """The trouble that most people have; then the cure."""
    docker.manyfest("emulators", "install", "mips64le", "--flags", "")
    (handler,) = [
        one
        for one in docker.manyfest("emulators", "--json").json["handlers"]
        if one["name"] == "manyfest-qemu-mips64el"
    ]
    assert "not-fixed" in {finding["code"] for finding in handler["findings"]}
    tried = docker.manyfest("emulators", "test", "mips64le", "--engine", "docker", "--json", ok=False).json
    assert [one["ok"] for one in tried["probes"]] == [True, False]
    assert "has no flag F" in tried["probes"][1]["explanation"]
    docker.manyfest("emulators", "install", "mips64le")
    assert docker.manyfest("emulators", "test", "mips64le", "--engine", "docker").code == 0
