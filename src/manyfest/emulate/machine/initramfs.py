# SPDX-License-Identifier: Apache-2.0
"""The first files that a kernel sees: a shell, the modules that reach the disk, and what belongs to one machine.

The form is cpio's "newc" (https://docs.kernel.org/driver-api/early-userspace/buffer-format.html). The kernel reads
several archives in a row as one, so the part of a kind is made once, and each machine's own is put behind it.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from manyfest.emulate.machine.guest import init
from manyfest.errors import EmulationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["archive", "initramfs", "load_order", "own_part"]

WANTED = ("virtio_pci", "virtio_blk", "virtio_net", "crc32c_generic", "ext4")
"""What the disk and the network need. Kernels differ in which of them they have built in."""

_TRAILER = "TRAILER!!!"


def initramfs(busybox: str, modules: str) -> bytes:
    """The part of a kind. ``busybox``: a static one of that architecture; ``modules``: the kernel's folder of them.

    Raises :class:`EmulationError` when a module that is needed is nowhere.
    """
    paths = load_order(_text(modules, "modules.dep"), _text(modules, "modules.builtin"), WANTED)
    names = [f"{_module(path)}.ko" for path in paths]
    folders = ("bin", "dev", "modules", "proc", "root", "sys")
    files = dict.fromkeys(folders, (stat.S_IFDIR | 0o755, b""))
    files["bin/busybox"] = (stat.S_IFREG | 0o755, _bytes(busybox))
    files["bin/sh"] = (stat.S_IFLNK | 0o777, b"busybox")
    files["init"] = (stat.S_IFREG | 0o755, init(names).encode())
    for name, path in zip(names, paths, strict=True):
        files[f"modules/{name}"] = (stat.S_IFREG | 0o644, _plain(os.path.join(modules, path)))
    # Without a console the kernel gives /init nowhere to print to.
    return archive(files, devices={"dev/console": (5, 1)})


def own_part(files: Mapping[str, bytes]) -> bytes:
    """What belongs to one machine, for nobody's eyes but root's, in ``/machine``."""
    entries = {"machine": (stat.S_IFDIR | 0o700, b"")}
    entries |= {f"machine/{name}": (stat.S_IFREG | 0o600, data) for name, data in files.items()}
    return archive(entries)


def load_order(depends: str, builtin: str, names: Iterable[str]) -> list[str]:
    """The files of modules and of all that they need, in the order to load them in.

    ``depends`` and ``builtin`` are the texts of ``modules.dep`` and ``modules.builtin``
    (https://www.kernel.org/doc/Documentation/kbuild/kbuild.rst, depmod(8)).
    """
    needs: dict[str, list[str]] = {}
    for line in depends.splitlines():
        path, colon, others = line.partition(":")
        if colon:
            needs[path] = others.split()
    paths = {_module(path): path for path in needs}
    inside = {_module(path) for path in builtin.split()}
    order: list[str] = []

    def add(path: str) -> None:
        if path in order:
            return
        # depmod lists the farthest last.
        for other in reversed(needs.get(path, ())):
            add(other)
        order.append(path)

    for name in names:
        if name in paths:
            add(paths[name])
        elif name not in inside and name != "virtio_pci":  # s390x has no PCI for its disks
            raise EmulationError(f"the kernel has no module {name}, which a machine needs")
    return order


def archive(
    files: Mapping[str, tuple[int, bytes]], *, devices: Mapping[str, tuple[int, int]] | None = None
) -> bytes:
    """A cpio archive: names with mode and content, and character devices with their numbers."""
    out = bytearray()
    entries: list[tuple[str, int, bytes, tuple[int, int]]] = [
        (name, mode, data, (0, 0)) for name, (mode, data) in files.items()
    ]
    entries += [(name, stat.S_IFCHR | 0o600, b"", number) for name, number in (devices or {}).items()]
    for number, entry in enumerate([*entries, (_TRAILER, 0, b"", (0, 0))], 1):
        _add(out, number, *entry)
    return bytes(out)


def _add(out: bytearray, number: int, name: str, mode: int, data: bytes, device: Sequence[int]) -> None:
    path = name.encode() + b"\0"
    # magic, then: inode, mode, uid, gid, links, mtime, size, device, its own device number, length of the name, check
    fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(path), 0)
    out += b"070701" + b"".join(b"%08X" % field for field in fields) + path
    out += bytes(-len(out) % 4)
    out += data
    out += bytes(-len(out) % 4)


def _module(path: str) -> str:
    return os.path.basename(path).partition(".ko")[0].replace("-", "_")


def _plain(path: str) -> bytes:
    """A module as busybox loads it: Debian 13's are compressed."""
    data = _bytes(path)
    if not path.endswith(".xz"):
        return data
    import lzma

    try:
        return lzma.decompress(data)
    except lzma.LZMAError as error:
        raise EmulationError(f"{path}: {error}") from error


def _text(folder: str, name: str) -> str:
    return _bytes(os.path.join(folder, name)).decode("utf-8", "replace")


def _bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise EmulationError(f"{path}: {error.strerror}", hint="the packages lack it; try --fresh") from error
