# SPDX-License-Identifier: Apache-2.0
"""A folder that takes and refuses what binfmt_misc of a kernel takes and refuses."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

from manyfest.emulate.binfmt import Binfmt, Handler, parse_line
from manyfest.errors import InputError


class Kernel(Binfmt):
    """Mounted on a folder; handlers are files with the kernel's text, their times in order of registration."""

    def __init__(self, folder: Path, *, mounted: bool = True, known: bool = True) -> None:
        folder.mkdir(exist_ok=True)
        filesystems = folder.parent / "filesystems"
        filesystems.write_text("nodev\tproc\n" + ("nodev\tbinfmt_misc\n" if known else ""))
        super().__init__(str(folder), str(filesystems))
        self.folder = folder
        self.log: list[str] = []
        self.fail_at: str = ""
        self.clock = 10**18
        if mounted:
            (folder / "register").write_text("")
            (folder / "status").write_text("enabled\n")

    def _put(self, name: str, data: bytes) -> None:
        text = data.decode()
        self.log.append(f"{name} {text if name != 'register' else text.split(':')[1]}")
        if self.fail_at and self.log[-1] == self.fail_at:
            raise OSError(errno.EINVAL, "Invalid argument")
        if name == "register":
            self._register(text)
        elif text == "-1":
            (self.folder / name).unlink()
        elif name == "status":
            (self.folder / name).write_text("enabled\n" if text == "1" else "disabled\n")
        else:
            path = self.folder / name
            first = "enabled" if text == "1" else "disabled"
            path.write_text(f"{first}\n{path.read_text().partition(chr(10))[2]}")

    def _register(self, line: str) -> None:
        try:
            handler = parse_line(line)
        except InputError as error:
            raise OSError(errno.EINVAL, "Invalid argument") from error
        path = self.folder / handler.name
        if path.exists():
            raise OSError(errno.EEXIST, "File exists")
        if "F" in handler.flags and not os.path.exists(handler.interpreter):
            raise OSError(errno.ENOENT, "No such file or directory")
        path.write_text(described(handler))
        self.clock += 10**9
        os.utime(path, ns=(self.clock, self.clock))


def described(handler: Handler) -> str:
    """What the kernel says of a handler."""
    lines = ["enabled" if handler.enabled else "disabled", f"interpreter {handler.interpreter}"]
    lines += [f"flags: {handler.flags}"]
    if handler.extension:
        lines.append(f"extension .{handler.extension}")
    else:
        lines += [f"offset {handler.offset}", f"magic {handler.magic.hex()}", f"mask {handler.mask.hex()}"]
    return "\n".join(lines) + "\n"


def elf(machine: int = 62, *, dynamic: bool = False) -> bytes:
    """The beginning of a 64-bit little-endian program: all that is looked at."""
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHI", 2, machine, 1)
    head += struct.pack("<QQQIHHHHHH", 0x400000, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return head + struct.pack("<IIQQQQQQ", 3 if dynamic else 1, 5, 0, 0, 0, 0, 0, 0)


def emulator(folder: Path, name: str, *, machine: int = 62, dynamic: bool = False) -> str:
    """A file that looks like an emulator for amd64 machines, older than every registration here."""
    path = folder / name
    path.write_bytes(elf(machine, dynamic=dynamic))
    path.chmod(0o755)
    return str(path)
