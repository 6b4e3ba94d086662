# SPDX-License-Identifier: Apache-2.0
"""binfmt_misc: the kernel's table of which interpreter starts which programs, and the lines that go into it.

A handler says: a file whose first bytes, under a mask, are these, is started by that program. One table
(:data:`TARGETS`) holds what tells QEMU's architectures apart; magic and mask are computed from it:

    >>> target = target_named("s390x")
    >>> target.magic.hex(), target.mask.hex()
    ('7f454c4602020100000000000000000000020016', 'fffffffffffffffcfffffffffffffffffffeffff')
    >>> registration("qemu-s390x", target, "/usr/bin/qemu-s390x-static", "F")[:35]
    ':qemu-s390x:M:0:\\\\x7f\\\\x45\\\\x4c\\\\x46\\\\x0'

The handler that was registered last is asked first, and all of them before the kernel's own loader: a handler for
the machine's own programs would take those over.

https://docs.kernel.org/admin-guide/binfmt-misc.html
"""

from __future__ import annotations

import errno
import os
import struct
import subprocess
from typing import TYPE_CHECKING

from manyfest.emulate.programs import PLATFORMS
from manyfest.errors import EmulationError, InputError
from manyfest.platforms import Platform, normalise
from manyfest.values import Value

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "FLAGS",
    "ROOT",
    "TARGETS",
    "Binfmt",
    "Handler",
    "Target",
    "line_of",
    "overlap",
    "parse_line",
    "registration",
    "target_for",
    "target_named",
]

ROOT = "/proc/sys/fs/binfmt_misc"

FLAGS = "POCF"
"""P keeps argv[0], O passes an open file, C takes credentials from the program (and implies O), F opens the
interpreter now, so that it is found in every container."""

_HEAD = 256
"""Bytes of a file that the kernel compares (``BINPRM_BUF_SIZE``)."""

_MAX_ENTRY = 64 * 1024
"""Characters of one handler's description: a path, and twice 256 bytes in hexadecimal, are far less."""

_MOUNT_TIMEOUT_S = 20


class Target(Value):
    """An architecture of QEMU: what its executables start with, and how strictly that is compared."""

    __slots__ = ("bits", "flags", "loose", "machine", "order", "platforms", "qemu")
    qemu: str
    platforms: tuple[Platform, ...]
    bits: int
    order: str
    machine: int
    loose: tuple[tuple[int, int], ...]
    flags: tuple[int, int] | None

    def __init__(
        self,
        qemu: str,
        platforms: tuple[Platform, ...],
        bits: int,
        order: str,
        machine: int,
        loose: tuple[tuple[int, int], ...] = (),
        flags: tuple[int, int] | None = None,
    ) -> None:
        """``qemu`` as in ``qemu-NAME``; ``loose``: (byte, mask) beyond the usual; ``flags``: ``e_flags``, its mask."""
        self._set(
            qemu=qemu,
            platforms=platforms,
            bits=bits,
            order=order,
            machine=machine,
            loose=loose,
            flags=flags,
        )

    @property
    def magic(self) -> bytes:
        """The ELF header up to ``e_machine`` (for 32-bit MIPS up to ``e_flags``) of an ``ET_EXEC`` file."""
        ident = b"\x7fELF" + bytes((self.bits // 32, 1 if self.order == "<" else 2, 1)) + bytes(9)
        head = ident + struct.pack(f"{self.order}HH", 2, self.machine)
        if self.flags is None:
            return head
        return head + bytes(16) + self._last(self.flags[0])

    @property
    def mask(self) -> bytes:
        """Which bits of it count: not the ABI (byte 7), and ``ET_DYN`` is as good as ``ET_EXEC``."""
        mask = bytearray(b"\xff" * 20)
        mask[7] = 0
        mask[16 if self.order == "<" else 17] = 0xFE
        for at, value in self.loose:
            mask[at] = value
        if self.flags is None:
            return bytes(mask)
        return bytes(mask) + bytes(16) + self._last(self.flags[1])

    def _last(self, flags: int) -> bytes:
        """``e_flags``, up to the byte that counts."""
        return bytes((flags,)) if self.order == "<" else struct.pack(">I", flags)

    @property
    def head(self) -> bytes:
        """As much of such a file as the kernel looks at."""
        return self.magic.ljust(_HEAD, b"\0")


# The ABI byte may be System V (0) to Linux (3), where QEMU's table does not allow all of them.
_LINUX_ABI = ((7, 0xFC),)
_X86 = ((5, 0xFE), (6, 0xFE))
_MIPS = ((8, 0xFE),)
_N32 = 0x20  # EF_MIPS_ABI2

_ROWS: tuple[tuple[str, int, str, int, tuple[tuple[int, int], ...]], ...] = (
    # QEMU's name, bits, byte order, e_machine, looser bytes of the mask
    ("x86_64", 64, "<", 62, _X86),
    ("i386", 32, "<", 3, _X86),
    ("aarch64", 64, "<", 183, ()),
    ("arm", 32, "<", 40, ()),
    ("ppc64le", 64, "<", 21, (*_LINUX_ABI, (19, 0))),
    ("s390x", 64, ">", 22, _LINUX_ABI),
    ("riscv64", 64, "<", 243, ()),
    ("loongarch64", 64, "<", 258, (*_LINUX_ABI, (8, 0))),
    ("mips64el", 64, "<", 8, _MIPS),
    ("mips64", 64, ">", 8, _MIPS),
    ("ppc64", 64, ">", 21, _LINUX_ABI),
    ("mips", 32, ">", 8, _MIPS),
    ("mipsel", 32, "<", 8, _MIPS),
    ("mipsn32", 32, ">", 8, _MIPS),
    ("mipsn32el", 32, "<", 8, _MIPS),
    ("ppc", 32, ">", 20, _LINUX_ABI),
    ("riscv32", 32, "<", 243, ()),
    ("sparc", 32, ">", 2, _LINUX_ABI),
    ("sparc32plus", 32, ">", 18, _LINUX_ABI),
    ("sparc64", 64, ">", 43, _LINUX_ABI),
    ("alpha", 64, "<", 0x9026, ()),
    ("armeb", 32, ">", 40, ()),
    ("hppa", 32, ">", 15, ()),
    ("m68k", 32, ">", 4, ()),
    ("sh4", 32, "<", 42, _LINUX_ABI),
    ("sh4eb", 32, ">", 42, _LINUX_ABI),
    ("microblaze", 32, ">", 0xBAAB, ()),
    ("cris", 32, "<", 76, ()),
    ("hexagon", 32, "<", 164, ()),
    ("xtensa", 32, "<", 94, ()),
    ("xtensaeb", 32, ">", 94, ()),
)

# Names of QEMU, as Go has them; for those the image specification knows.
_ARCHITECTURES = {
    "x86_64": "amd64",
    "i386": "386",
    "aarch64": "arm64",
    "loongarch64": "loong64",
    "mips64el": "mips64le",
    "mipsel": "mipsle",
}
# fmt: off
_OCI = frozenset((
    "amd64", "386", "arm64", "arm", "ppc64le", "s390x", "riscv64", "loong64", "mips64le", "mips64", "ppc64", "mips",
    "mipsle",
))
# fmt: on


def _platforms(qemu: str) -> tuple[Platform, ...]:
    architecture = _ARCHITECTURES.get(qemu, qemu)
    if architecture not in _OCI:
        return ()
    ours = tuple(p for p in PLATFORMS if p.architecture == architecture)
    return ours or (Platform("linux", architecture),)


def _flags(qemu: str, bits: int, machine: int) -> tuple[int, int] | None:
    """Only 32-bit MIPS needs them: o32 and n32 files differ in nothing else."""
    if machine != 8 or bits != 32:
        return None
    return (_N32 if "n32" in qemu else 0), _N32


TARGETS: tuple[Target, ...] = tuple(
    Target(qemu, _platforms(qemu), bits, order, machine, loose, _flags(qemu, bits, machine))
    for qemu, bits, order, machine, loose in _ROWS
)
"""Every architecture, those that images are made for first."""


def target_named(qemu: str) -> Target:
    """By QEMU's name. Raises :class:`InputError`."""
    for target in TARGETS:
        if target.qemu == qemu:
            return target
    raise InputError(f"no emulator for {qemu}", hint=f"there are: {', '.join(t.qemu for t in TARGETS)}")


def target_for(platform: Platform) -> Target:
    """By platform, whatever its variant. Raises :class:`InputError` for one that QEMU or we do not know."""
    wanted = normalise(platform)
    for target in TARGETS:
        if wanted.os == "linux" and any(p.architecture == wanted.architecture for p in target.platforms):
            return target
    known = ", ".join(t.platforms[0].architecture for t in TARGETS if t.platforms)
    raise InputError(f"no emulator for {platform}", hint=f"there are emulators for Linux on {known}")


class Handler(Value):
    """One entry of binfmt_misc, as the kernel tells it. ``registered_ns`` is the time, 0 where it is not known."""

    __slots__ = (
        "enabled",
        "extension",
        "flags",
        "interpreter",
        "magic",
        "mask",
        "name",
        "offset",
        "registered_ns",
    )
    name: str
    interpreter: str
    flags: str
    enabled: bool
    magic: bytes
    mask: bytes
    offset: int
    extension: str
    registered_ns: int

    def __init__(
        self,
        name: str,
        interpreter: str,
        flags: str = "",
        enabled: bool = True,
        magic: bytes = b"",
        mask: bytes = b"",
        offset: int = 0,
        extension: str = "",
        registered_ns: int = 0,
    ) -> None:
        self._set(
            name=name,
            interpreter=interpreter,
            flags="".join(flag for flag in FLAGS if flag in flags),
            enabled=enabled,
            magic=magic,
            mask=mask or b"\xff" * len(magic),
            offset=offset,
            extension=extension,
            registered_ns=registered_ns,
        )

    @classmethod
    def parse(cls, name: str, text: str, registered_ns: int = 0) -> Handler:
        """What ``/proc/sys/fs/binfmt_misc/NAME`` holds. Raises :class:`EmulationError` for anything else."""
        fields = dict(_split_entry(line) for line in text.splitlines() if line)
        try:
            return cls(
                name,
                fields["interpreter"],
                fields.get("flags", ""),
                "enabled" in fields,
                bytes.fromhex(fields.get("magic", "")),
                bytes.fromhex(fields.get("mask", "")),
                int(fields.get("offset", "0")),
                fields.get("extension", "").removeprefix("."),
                registered_ns,
            )
        except (KeyError, ValueError) as error:
            raise EmulationError(f"{name} in binfmt_misc reads {text[:80]!r}, expected a handler") from error

    def matches(self, head: bytes) -> bool:
        """Would it be asked to start a file that begins like this? Whether it is enabled is another question."""
        if not self.magic:
            return False
        got = head[self.offset : self.offset + len(self.magic)]
        return len(got) == len(self.magic) and all(
            (a ^ b) & m == 0 for a, b, m in zip(got, self.magic, self.mask, strict=True)
        )

    def same_as(self, other: Handler) -> bool:
        """The same thing under whatever name: what it matches, who is started and how."""
        return (self.interpreter, _implied(self.flags), self._bits(), self.extension) == (
            other.interpreter,
            _implied(other.flags),
            other._bits(),
            other.extension,
        )

    def _bits(self) -> dict[int, tuple[int, int]]:
        """Position: (bits that count, their values)."""
        pairs = enumerate(zip(self.magic, self.mask, strict=True), self.offset)
        return {at: (mask, value & mask) for at, (value, mask) in pairs if mask}


def _split_entry(line: str) -> tuple[str, str]:
    key, _, value = line.partition(" ")
    return key.rstrip(":"), value


def _implied(flags: str) -> frozenset[str]:
    return frozenset(flags) | ({"O"} if "C" in flags else set())


def overlap(first: Handler, second: Handler) -> str:
    """How much of what ``second`` matches does ``first`` match: ``""`` (nothing), ``"some"`` or ``"all"``?"""
    if first.extension or second.extension:
        return "all" if first.extension == second.extension else ""
    ours, theirs = first._bits(), second._bits()
    for at, (mask, value) in ours.items():
        other_mask, other_value = theirs.get(at, (0, 0))
        if (value ^ other_value) & mask & other_mask:
            return ""
    covered = all(mask & ~theirs.get(at, (0, 0))[0] == 0 for at, (mask, _) in ours.items())
    return "all" if covered else "some"


def registration(name: str, target: Target, interpreter: str, flags: str) -> str:
    """The line that registers an emulator. Raises :class:`InputError` for what cannot be in one."""
    return line_of(Handler(name, interpreter, _checked_flags(flags), magic=target.magic, mask=target.mask))


def line_of(handler: Handler) -> str:
    """The line that registers a handler again."""
    for word, what in ((handler.name, "name"), (handler.interpreter, "interpreter")):
        if not word or ":" in word or "\n" in word or "\0" in word:
            raise InputError(
                f"{word!r} as the {what} of a handler: expected a text without colons and line ends"
            )
    if "/" in handler.name or handler.name in (".", "..", "register", "status"):
        raise InputError(f"{handler.name!r} cannot be the name of a handler")
    kind = "E" if handler.extension else "M"
    what = handler.extension or _escaped(handler.magic)
    mask = "" if handler.extension else _escaped(handler.mask)
    return f":{handler.name}:{kind}:{handler.offset}:{what}:{mask}:{handler.interpreter}:{handler.flags}"


def parse_line(line: str) -> Handler:
    """Read a line of ``/etc/binfmt.d``. Raises :class:`InputError`."""
    line = line.strip()
    parts = line[1:].split(line[0]) if line else []
    if len(parts) != 7 or parts[1] not in ("M", "E"):
        raise InputError(f"{line[:80]!r}: expected :NAME:M:OFFSET:MAGIC:MASK:INTERPRETER:FLAGS")
    name, kind, offset, what, mask, interpreter, flags = parts
    if kind == "E":
        return Handler(name, interpreter, flags, extension=what)
    return Handler(
        name,
        interpreter,
        flags,
        magic=_unescaped(what),
        mask=_unescaped(mask),
        offset=int(offset or "0"),
    )


def _escaped(data: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in data)


def _unescaped(text: str) -> bytes:
    try:
        return text.encode("latin-1").decode("unicode_escape").encode("latin-1")
    except (UnicodeError, ValueError) as error:
        raise InputError(f"{text[:80]!r}: expected bytes as \\xHH") from error


def _checked_flags(flags: str) -> str:
    wrong = sorted(set(flags) - set(FLAGS))
    if wrong:
        raise InputError(f"flags {flags!r}: expected letters of {FLAGS}")
    return flags


class Binfmt:
    """The table itself. ``root`` is where it is mounted, ``filesystems`` the kernel's list of what it can mount."""

    def __init__(self, root: str = ROOT, filesystems: str = "/proc/filesystems") -> None:
        self.root = root
        self.filesystems = filesystems

    def state(self) -> str:
        """``"ready"``, ``"disabled"`` (all of it), ``"unmounted"`` or ``"unsupported"`` by this kernel."""
        if not os.path.exists(os.path.join(self.root, "register")):
            return "unmounted" if self._is_known() else "unsupported"
        return "ready" if self._read("status").strip() == "enabled" else "disabled"

    def handlers(self) -> tuple[Handler, ...]:
        """All of them, the one that is asked first first; none where binfmt_misc is not mounted.

        The kernel keeps no numbers: its listing and the times of its entries both tell which was registered last.
        """
        try:
            with os.scandir(self.root) as entries:
                found = [
                    (e.name, e.stat().st_mtime_ns) for e in entries if e.name not in ("register", "status")
                ]
        except OSError:
            return ()
        found.sort(key=lambda pair: -pair[1])
        return tuple(Handler.parse(name, self._read(name), time) for name, time in found)

    def winner(self, head: bytes, handlers: tuple[Handler, ...] | None = None) -> Handler | None:
        """The handler that starts a file with this beginning."""
        known = self.handlers() if handlers is None else handlers
        return next((h for h in known if h.enabled and h.matches(head)), None)

    def ensure(self) -> bool:
        """Have it mounted and enabled; ``True`` when it had to be mounted. Raises :class:`EmulationError`."""
        state = self.state()
        if state == "unsupported":
            self._command(["modprobe", "binfmt_misc"], "loading the kernel's module binfmt_misc", state)
            state = self.state()
        if state == "unsupported":
            raise EmulationError(
                "this kernel has no binfmt_misc, so programs of other architectures cannot be started",
                hint="boot a kernel with CONFIG_BINFMT_MISC, or use manyfest machine",
            )
        if state == "unmounted":
            self._command(
                ["mount", "-t", "binfmt_misc", "binfmt_misc", self.root], "mounting binfmt_misc", state
            )
        if self.state() == "disabled":
            self._write("status", b"1", "enabling binfmt_misc")
        return state == "unmounted"

    def register(self, line: str) -> None:
        """Add a handler. Raises :class:`EmulationError` saying which part the kernel refused."""
        self._write("register", line.encode("utf-8", "surrogateescape"), f"registering {line.split(':')[1]}")

    def remove(self, name: str) -> None:
        """Take a handler away; none of that name is fine."""
        if os.path.exists(os.path.join(self.root, name)):
            self._write(name, b"-1", f"removing the handler {name}")

    def enable(self, name: str) -> None:
        """Switch a disabled handler on."""
        self._write(name, b"1", f"enabling the handler {name}")

    def _is_known(self) -> bool:
        try:
            with open(self.filesystems, encoding="utf-8") as file:
                return any(line.split()[-1] == "binfmt_misc" for line in file if line.strip())
        except OSError:
            return False

    def _read(self, name: str) -> str:
        try:
            with open(os.path.join(self.root, name), encoding="utf-8", errors="surrogateescape") as file:
                return file.read(_MAX_ENTRY)
        except OSError as error:
            raise EmulationError(f"{self.root}/{name}: {error.strerror}") from error

    def _write(self, name: str, data: bytes, doing: str) -> None:
        try:
            self._put(name, data)
        except OSError as error:
            raise EmulationError(
                f"{doing}: {_reason(error)}", hint=_HINTS.get(error.errno or 0, "")
            ) from error

    def _put(self, name: str, data: bytes) -> None:
        """One write, as the kernel wants it."""
        fd = os.open(os.path.join(self.root, name), os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)

    def _command(self, words: list[str], doing: str, state: str) -> None:
        """Run a program that only root may run; a module that cannot be loaded is told by what comes after."""
        if os.geteuid() != 0:
            told = {"unmounted": "is not mounted", "unsupported": "is not loaded, or this kernel has none"}[
                state
            ]
            raise EmulationError(
                f"binfmt_misc {told}, and {doing} needs root", hint=f"sudo {' '.join(words)}"
            )
        try:
            done = subprocess.run(
                words,
                check=False,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_MOUNT_TIMEOUT_S,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            if state == "unsupported":
                return
            raise EmulationError(f"{doing}: {error}") from error
        if done.returncode and state != "unsupported":
            raise EmulationError(
                f"{doing}: {done.stderr.strip() or f'exit code {done.returncode}'}",
                hint="in a container this needs --privileged; run it on the machine itself",
            )


def _reason(error: OSError) -> str:
    return _REASONS.get(error.errno or 0, "") or error.strerror or str(error)


_REASONS: Mapping[int, str] = {
    errno.EEXIST: "a handler of this name is registered already",
    errno.ENOENT: "the interpreter does not exist",
    errno.EINVAL: "the kernel does not take this line",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "it is mounted read-only here",
    errno.ENOEXEC: "the interpreter is not a program this kernel can start",
}
_HINTS: Mapping[int, str] = {
    errno.EEXIST: "manyfest emulators shows it",
    errno.ENOENT: "with the flag F the kernel opens the interpreter at once; install it first",
    errno.EACCES: "run this as root, on the machine and not in a container; the interpreter must be executable",
    errno.EPERM: "run this as root, on the machine and not in a container",
    errno.EROFS: "run this on the machine itself, not in a container",
}
