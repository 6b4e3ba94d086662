# SPDX-License-Identifier: Apache-2.0
"""Handlers and their lines: computed ones equal those of Debian and QEMU, and what is read back is what was written."""

from __future__ import annotations

import glob
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.emulate.kernel import Kernel, described, emulator

from manyfest.emulate import binfmt as module
from manyfest.emulate.binfmt import (
    TARGETS,
    Binfmt,
    Handler,
    line_of,
    overlap,
    parse_line,
    registration,
    target_for,
    target_named,
)
from manyfest.emulate.programs import PLATFORMS, program
from manyfest.errors import EmulationError, InputError
from manyfest.platforms import Platform

# Magic and mask as Debian's qemu-user 7.2 registers them (for amd64 and 386: QEMU's script on other machines).
REGISTERED = {
    "x86_64": ("7f454c4602010100000000000000000002003e00", "fffffffffffefe00fffffffffffffffffeffffff"),
    "i386": ("7f454c4601010100000000000000000002000300", "fffffffffffefe00fffffffffffffffffeffffff"),
    "aarch64": ("7f454c460201010000000000000000000200b700", "ffffffffffffff00fffffffffffffffffeffffff"),
    "arm": ("7f454c4601010100000000000000000002002800", "ffffffffffffff00fffffffffffffffffeffffff"),
    "ppc64le": ("7f454c4602010100000000000000000002001500", "fffffffffffffffcfffffffffffffffffeffff00"),
    "s390x": ("7f454c4602020100000000000000000000020016", "fffffffffffffffcfffffffffffffffffffeffff"),
    "riscv64": ("7f454c460201010000000000000000000200f300", "ffffffffffffff00fffffffffffffffffeffffff"),
    "loongarch64": ("7f454c4602010100000000000000000002000201", "fffffffffffffffc00fffffffffffffffeffffff"),
    "mips64el": ("7f454c4602010100000000000000000002000800", "ffffffffffffff00fefffffffffffffffeffffff"),
    "mips64": ("7f454c4602020100000000000000000000020008", "ffffffffffffff00fefffffffffffffffffeffff"),
    "ppc64": ("7f454c4602020100000000000000000000020015", "fffffffffffffffcfffffffffffffffffffeffff"),
    "mipsn32el": (
        "7f454c4601010100000000000000000002000800" + "00" * 16 + "20",
        "ffffffffffffff00fefffffffffffffffeffffff" + "00" * 16 + "20",
    ),
    "mipsn32": (
        "7f454c4601020100000000000000000000020008" + "00" * 19 + "20",
        "ffffffffffffff00fefffffffffffffffffeffff" + "00" * 19 + "20",
    ),
}
DEBIAN = sorted(glob.glob("/usr/lib/binfmt.d/qemu-*.conf"))


@pytest.mark.parametrize("name", REGISTERED)
def test_magic_and_mask(name: str) -> None:
    """Computed from class, order, machine and what is peculiar."""
    target = target_named(name)
    assert (target.magic.hex(), target.mask.hex()) == REGISTERED[name]


@pytest.mark.parametrize("path", DEBIAN, ids=[os.path.basename(path) for path in DEBIAN])
def test_debians_lines(path: str) -> None:
    """Where Debian's package is installed: its very lines, name, magic, mask and all."""
    handler = parse_line(Path(path).read_text())
    target = target_named(handler.name.removeprefix("qemu-"))
    assert (handler.magic, handler.mask) == (target.magic, target.mask)
    ours = parse_line(registration(handler.name, target, handler.interpreter, handler.flags))
    assert ours == handler


@pytest.mark.parametrize("platform", PLATFORMS, ids=str)
def test_real_programs_have_one_handler(platform: Platform) -> None:
    """Of all the architectures exactly the right one matches a real executable, position-independent or not."""
    for kind in (2, 3):
        head = bytearray(program(platform)[:256].ljust(256, b"\0"))
        head[17 if head[5] == 2 else 16] = kind
        matching = [
            t.qemu for t in TARGETS if parse_line(registration("x", t, "/x", "")).matches(bytes(head))
        ]
        assert matching == [target_for(platform).qemu]


def test_targets_lie_apart() -> None:
    """No two architectures take each other's programs."""
    handlers = [parse_line(registration(t.qemu, t, "/x", "")) for t in TARGETS]
    pairs = [(a.name, b.name) for a in handlers for b in handlers if a is not b and overlap(a, b)]
    assert pairs == []


def test_line_is_what_the_kernel_wants() -> None:
    """Letter by letter, once."""
    line = registration("qemu-arm", target_named("arm"), "/usr/bin/qemu-arm-static", "CF")
    assert line == (
        r":qemu-arm:M:0:\x7f\x45\x4c\x46\x01\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x28\x00"
        r":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:/usr/bin/qemu-arm-static:CF"
    )


@pytest.mark.parametrize(
    ("name", "interpreter", "flags"),
    [
        ("a:b", "/x", "F"),
        ("", "/x", "F"),
        ("register", "/x", "F"),
        ("..", "/x", "F"),
        ("a/b", "/x", "F"),
        ("a", "/x:y", "F"),
        ("a", "/x\ny", "F"),
        ("a", "", "F"),
        ("a", "/x", "FX"),
    ],
)
def test_lines_that_cannot_be(name: str, interpreter: str, flags: str) -> None:
    """Refused before the kernel would misread them."""
    with pytest.raises(InputError):
        registration(name, target_named("arm"), interpreter, flags)


@pytest.mark.parametrize("line", ["", "no line", ":a:X:0:b:c:/d:", ":a:M:0:b:c:/d", r":a:M:0:\xzz:c:/d:"])
def test_lines_that_cannot_be_read(line: str) -> None:
    """Each with a message, no traceback."""
    with pytest.raises(InputError):
        parse_line(line)


@pytest.mark.property
@settings(max_examples=50, deadline=None)
@given(st.binary(min_size=1, max_size=64), st.data())
def test_lines_come_back(magic: bytes, data: st.DataObject) -> None:
    """Any bytes survive the line and the kernel's own text."""
    mask = data.draw(st.binary(min_size=len(magic), max_size=len(magic)))
    flags = "".join(sorted(data.draw(st.sets(st.sampled_from("POCF"))), key="POCF".index))
    handler = Handler("x", "/bin/x", flags, magic=magic, mask=mask)
    assert parse_line(line_of(handler)) == handler
    assert Handler.parse("x", described(handler)) == handler


def test_extensions_are_handlers_too() -> None:
    """Such as .exe of Wine."""
    handler = parse_line(":exe:E::exe::/usr/bin/wine:")
    assert (handler.extension, handler.matches(b"MZ")) == ("exe", False)
    assert Handler.parse("exe", described(handler)) == handler


@pytest.mark.parametrize("text", ["", "enabled\n", "enabled\ninterpreter /x\nmagic zz\n", "garbage"])
def test_strange_entries(text: str) -> None:
    """What is no handler is an error that shows it."""
    with pytest.raises(EmulationError, match="expected a handler"):
        Handler.parse("x", text)


def test_overlap_has_a_direction() -> None:
    """A wide mask covers a narrow one, which takes only some of it."""
    wide = Handler("wide", "/x", magic=b"\x7fELF")
    narrow = parse_line(registration("narrow", target_named("arm"), "/x", ""))
    assert (overlap(wide, narrow), overlap(narrow, wide)) == ("all", "some")


@pytest.mark.parametrize(
    ("text", "qemu"),
    [
        ("linux/arm/v6", "arm"),
        ("linux/arm64/v8", "aarch64"),
        ("linux/386", "i386"),
        ("linux/mips64le", "mips64el"),
    ],
)
def test_platforms_have_targets(text: str, qemu: str) -> None:
    """Whatever the variant."""
    assert target_for(Platform.parse(text)).qemu == qemu


@pytest.mark.parametrize("text", ["windows/amd64", "linux/sparc64", "linux/nonsense"])
def test_platforms_without_target(text: str) -> None:
    """The hint lists what there is."""
    with pytest.raises(InputError) as caught:
        target_for(Platform.parse(text))
    assert "s390x" in caught.value.hint


def test_states(tmp_path: Path) -> None:
    """Not in the kernel, not mounted, mounted, switched off: told apart."""
    assert Kernel(tmp_path / "a", mounted=False, known=False).state() == "unsupported"
    assert Kernel(tmp_path / "b", mounted=False).state() == "unmounted"
    kernel = Kernel(tmp_path / "c")
    assert kernel.state() == "ready"
    (tmp_path / "c" / "status").write_text("disabled\n")
    assert kernel.state() == "disabled"
    kernel.ensure()
    assert kernel.state() == "ready"


def test_last_registered_is_asked_first(kernel: Kernel, tmp_path: Path) -> None:
    """And a disabled one not at all."""
    path, target = emulator(tmp_path, "qemu-arm-static"), target_named("arm")
    for name in ("first", "second", "third"):
        kernel.register(registration(name, target, path, "F"))
    assert [h.name for h in kernel.handlers()] == ["third", "second", "first"]
    kernel._put("third", b"0")
    winner = kernel.winner(target.head)
    assert winner is not None
    assert winner.name == "second"
    assert kernel.winner(target_named("s390x").head) is None


def test_refusals_are_explained(kernel: Kernel, tmp_path: Path) -> None:
    """The kernel's error numbers in words, with a hint."""
    target = target_named("arm")
    with pytest.raises(EmulationError, match="the interpreter does not exist"):
        kernel.register(registration("x", target, str(tmp_path / "gone"), "F"))
    path = emulator(tmp_path, "qemu-arm-static")
    kernel.register(registration("x", target, path, "F"))
    with pytest.raises(EmulationError, match="registered already") as caught:
        kernel.register(registration("x", target, path, "F"))
    assert caught.value.hint
    kernel.fail_at = "register y"
    with pytest.raises(EmulationError, match="registering y: the kernel does not take this line"):
        kernel.register(registration("y", target, path, "F"))


def test_no_root_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that root would run."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(EmulationError, match="not mounted, and mounting binfmt_misc needs root") as caught:
        Kernel(tmp_path / "a", mounted=False).ensure()
    assert caught.value.hint.startswith("sudo mount -t binfmt_misc")
    with pytest.raises(EmulationError, match="this kernel has none"):
        Kernel(tmp_path / "b", mounted=False, known=False).ensure()


def test_failing_mount_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container without privileges: mount's own words."""
    (tmp_path / "mount").write_text("#!/bin/sh\necho mount: permission denied >&2\nexit 32\n")
    (tmp_path / "mount").chmod(0o755)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    with pytest.raises(EmulationError, match="mounting binfmt_misc: mount: permission denied"):
        Kernel(tmp_path / "a", mounted=False).ensure()


def test_kernel_without_it_is_told_after_trying_the_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No modprobe at all is no traceback."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EmulationError, match="this kernel has no binfmt_misc"):
        Kernel(tmp_path / "a", mounted=False, known=False).ensure()


def test_no_permission_to_write(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user sees everything and changes nothing."""

    def refuse(self: Binfmt, name: str, data: bytes) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Kernel, "_put", refuse)
    with pytest.raises(EmulationError, match="permission denied") as caught:
        kernel.register(registration("x", target_named("arm"), "/x", ""))
    assert "root" in caught.value.hint


def test_root_is_the_kernels_own() -> None:
    """The default."""
    assert Binfmt().root == module.ROOT == "/proc/sys/fs/binfmt_misc"
