# SPDX-License-Identifier: Apache-2.0
"""What machines of one kind start from: a disk, a kernel and an initramfs, made once and kept in the cache.

``$MANYFEST_CACHE/machines/ARCH`` holds ``image`` (whole or not there: it is made under another name and renamed),
``apt`` (downloaded packages, for the next time) and ``lock``. What a killed process left is removed by the next one.
"""

from __future__ import annotations

import glob
import json
import os
import shutil
import tempfile
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from manyfest.emulate.machine.initramfs import initramfs
from manyfest.emulate.machine.outside import call, need
from manyfest.emulate.machine.packages import fetch, mirror_of_this_machine
from manyfest.emulate.machine.tree import kernel_of, lay_tree, modules_of, wanted
from manyfest.errors import EmulationError
from manyfest.stores._cache import cache_folder
from manyfest.stores._files import locked, translated
from manyfest.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from manyfest.emulate.machine.kinds import Kind

__all__ = ["Image", "require_room", "with_image"]

RECIPE = 3
"""Raised whenever what we put into an image changes: older ones are then made anew."""

ROOM = 1_500_000_000
"""Bytes that making an image takes for a while: packages, their tree, and the disk."""

_SMALLEST = "2G"
_DISK_TIMEOUT_S = 300.0


class Image(Value):
    """Files of a kind. ``made_at``: seconds since 1970."""

    __slots__ = ("disk", "initramfs", "kernel", "made_at")
    disk: str
    initramfs: str
    kernel: str
    made_at: float

    def __init__(self, folder: str, made_at: float) -> None:
        self._set(
            disk=os.path.join(folder, "disk.img"),
            initramfs=os.path.join(folder, "initramfs"),
            kernel=os.path.join(folder, "kernel"),
            made_at=made_at,
        )


@contextmanager
def with_image(
    kind: Kind, *, mirror: str = "", fresh: bool = False, on_step: Callable[[str], None] = lambda _: None
) -> Iterator[Image]:
    """The image of a kind, made if there is none, or anew with ``fresh``; nobody replaces it inside the block.

    Raises :class:`EmulationError` and :class:`StoreError`.
    """
    folder = os.path.join(cache_folder("machines"), kind.debian)
    with translated(folder, "keeping what machines start from", writing=True):
        os.makedirs(folder, mode=0o700, exist_ok=True)
        lock = os.path.join(folder, "lock")
        os.close(os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    with locked(lock):
        target = os.path.join(folder, "image")
        _sweep(folder)
        image = None if fresh else _known(target)
        if image is None:
            _make(kind, folder, target, mirror or mirror_of_this_machine(), on_step)
            image = _known(target)
        else:
            on_step(f"from the image of {time.strftime('%Y-%m-%d', time.gmtime(image.made_at))}")
        if image is None:
            raise EmulationError(f"{target}: made, and not there", hint="something else removes it")
        yield image


def require_room(folder: str, size: int, what: str) -> None:
    """Raises :class:`EmulationError` unless the file system of a folder has ``size`` bytes left."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise EmulationError(
            f"{folder}: {free / 1e9:.1f} GB free, {what} takes {size / 1e9:.1f} GB",
            hint="make room, or choose other places with MANYFEST_CACHE and MANYFEST_DATA",
        )


def _known(folder: str) -> Image | None:
    """The image that is there, if this version made it."""
    try:
        with open(os.path.join(folder, "made.json"), encoding="utf-8") as file:
            made = json.load(file)
        if made["recipe"] != RECIPE:
            return None
        image = Image(folder, float(made["made_at"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return image if all(map(os.path.exists, (image.disk, image.initramfs, image.kernel))) else None


def _make(kind: Kind, folder: str, target: str, mirror: str, on_step: Callable[[str], None]) -> None:
    # Asked for before anything is downloaded, so that nobody waits for what must fail.
    mke2fs = need("mke2fs", "e2fsprogs")
    for program, package in (("depmod", "kmod"), ("dpkg-deb", "dpkg"), ("tar", "tar")):
        need(program, package)
    require_room(folder, ROOM, "making an image")
    on_step(f"downloading packages from {mirror}")
    packages = fetch(kind, wanted(kind), os.path.join(folder, "apt"), mirror)
    with (
        translated(folder, "making an image", writing=True),
        tempfile.TemporaryDirectory(prefix="new-", dir=folder) as new,
    ):
        tree, image = os.path.join(new, "tree"), os.path.join(new, "image")
        os.mkdir(tree)
        os.mkdir(image)
        on_step(f"unpacking {len(packages)} packages")
        lay_tree(packages, tree)
        on_step("making disk and initramfs")
        made = Image(image, time.time())
        with open(made.initramfs, "wb") as out:
            out.write(initramfs(os.path.join(tree, "usr", "bin", "busybox"), modules_of(tree)))
        shutil.move(kernel_of(tree), made.kernel)
        words = [mke2fs, "-q", "-t", "ext4", "-L", "machine", "-d", tree]
        # Groups that nobody has used yet are written by the machine, when it has time.
        words += ["-E", "lazy_itable_init=1,lazy_journal_init=1", made.disk, _SMALLEST]
        call(words, "making the disk", _DISK_TIMEOUT_S)
        with open(os.path.join(image, "made.json"), "w", encoding="utf-8") as file:
            names = sorted(os.path.basename(package.path) for package in packages)
            json.dump({"recipe": RECIPE, "made_at": made.made_at, "mirror": mirror, "packages": names}, file)
        if os.path.exists(target):
            os.rename(target, os.path.join(new, "old"))
        os.rename(image, target)


def _sweep(folder: str) -> None:
    """What a process left that was killed while it held the lock."""
    for path in glob.glob(os.path.join(glob.escape(folder), "new-*")):
        shutil.rmtree(path, ignore_errors=True)
