# SPDX-License-Identifier: Apache-2.0
"""A machine's files: packages unpacked side by side, and what their maintainer scripts would have added.

Nothing of another architecture is run. Debian 12 has ``/usr`` merged, and its packages do not know: the links come
first, and tar follows them.
"""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from manyfest.emulate.machine.guest import APPLETS, DIRECTORIES, FILES, LINKS
from manyfest.emulate.machine.outside import call, need
from manyfest.errors import EmulationError
from manyfest.stores.pool import wait_for

if TYPE_CHECKING:
    from collections.abc import Sequence

    from manyfest.emulate.machine.kinds import Kind
    from manyfest.emulate.machine.packages import Package

__all__ = ["kernel_of", "lay_tree", "modules_of", "wanted"]

_BASE = """base-files busybox-static ca-certificates coreutils dash docker.io iproute2 iptables kmod
    mount openssh-server util-linux"""
_LATER = ("docker-cli",)
"""Of Debian 13, where the engine comes without its command."""

# Of use while packages are installed, or while an initramfs is made, which nobody does here.
_LEFT_OUT = """adduser cpio debconf dpkg dracut-install init-system-helpers initramfs-tools initramfs-tools-bin
    initramfs-tools-core klibc-utils libfile-find-rule-perl libklibc libnumber-compare-perl libtext-glob-perl
    linux-base logsave lsb-base openssl openssl-provider-legacy passwd perl perl-base procps runit-helper
    sensible-utils systemd ucf udev usrmerge"""
_LEFT_OUT_STARTS = ("gcc-", "libperl", "perl-modules")
_NOT_UNPACKED = tuple(f"./usr/share/{name}/*" for name in ("bug", "doc", "info", "lintian", "locale", "man"))
# Drivers of hardware that QEMU's machines do not have: most of a kernel's bytes.
_DRIVERS = """accel ata bluetooth clk counter cpufreq dma edac firmware fpga gnss gpio gpu hid hwmon i2c iio infiniband
    input isdn leds mailbox media memory memstick message mfd misc mmc mtd mux nfc nvme nvmem parport pcmcia phy pinctrl
    platform power powercap pwm rapidio regulator remoteproc rpmsg rtc scsi slimbus soc soundwire spi spmi staging
    target tee thermal thunderbolt tty uio usb video w1 watchdog"""
_NETWORKS = "arcnet can dsa ethernet fddi hamradio hippi ieee802154 mdio phy usb wan wireless wwan"
_NO_MODULES = (
    "*/kernel/sound/*",
    *(f"*/kernel/drivers/{name}/*" for name in _DRIVERS.split()),
    *(f"*/kernel/drivers/net/{name}/*" for name in _NETWORKS.split()),
)
_UNPACK_TIMEOUT_S = 600.0
_TIMEOUT_S = 120.0


def wanted(kind: Kind) -> list[str]:
    """The packages to ask for; what they need comes with them."""
    return sorted([*_BASE.split(), kind.kernel, *(_LATER if kind.suite != "bookworm" else ())])


def lay_tree(packages: Sequence[Package], tree: str) -> None:
    """Make the tree of a machine in a new folder. Raises :class:`EmulationError`."""
    need("dpkg-deb", "dpkg")
    for name in ("bin", "lib", "lib64", "sbin"):
        os.makedirs(os.path.join(tree, "usr", name))
        os.symlink(f"usr/{name}", os.path.join(tree, name))
    kept = [package for package in packages if not _is_left_out(package.name)]
    # The largest first: the kernel and the engine take as long as all others together.
    kept.sort(key=lambda package: -package.size)
    pool = ThreadPoolExecutor(min(4, (os.cpu_count() or 1) + 1), thread_name_prefix="manyfest-unpack")
    try:
        unpacking = [pool.submit(_unpack, package, tree) for package in kept]
        wait_for(unpacking)
        for each in unpacking:
            if each.done():  # all are, unless one failed
                each.result()
    finally:
        # After a failure, or Ctrl-C, the packages that nobody has begun with stay where they are.
        pool.shutdown(cancel_futures=True)
    _settle(tree)
    call([need("depmod", "kmod"), "-b", tree, _version(tree)], "listing the kernel's modules", _TIMEOUT_S)


def kernel_of(tree: str) -> str:
    """The kernel's file. Raises :class:`EmulationError` unless there is exactly one."""
    found = glob.glob(os.path.join(glob.escape(tree), "boot", "vmlinu[xz]-*"))
    if len(found) != 1:
        names = ", ".join(os.path.basename(path) for path in found) or "none"
        raise EmulationError(f"expected one kernel among the packages, found {names}")
    return found[0]


def modules_of(tree: str) -> str:
    """The folder of the kernel's modules."""
    return os.path.join(tree, "usr", "lib", "modules", _version(tree))


def _version(tree: str) -> str:
    return os.path.basename(kernel_of(tree)).partition("-")[2]


def _is_left_out(name: str) -> bool:
    return name in _LEFT_OUT.split() or (name.startswith(_LEFT_OUT_STARTS) and not name.endswith("-dev"))


def _unpack(package: Package, tree: str) -> None:
    """One package into the tree, where links stay what they are."""
    leave = _NOT_UNPACKED + (_NO_MODULES if package.name.startswith("linux-image-") else ())
    words = [
        "tar",
        "--extract",
        "--keep-directory-symlink",
        "--no-same-owner",
        "--wildcards",
        "--directory",
        tree,
    ]
    words += [f"--exclude={pattern}" for pattern in leave]
    with (
        subprocess.Popen(
            ["dpkg-deb", "--fsys-tarfile", package.path], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as reader,
        subprocess.Popen(
            words, stdin=reader.stdout, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as writer,
    ):
        assert reader.stdout is not None
        reader.stdout.close()  # tar alone holds it: dpkg-deb hears at once when tar has gone
        try:
            _, said = writer.communicate(timeout=_UNPACK_TIMEOUT_S)
            _, complaint = reader.communicate(timeout=_UNPACK_TIMEOUT_S)
        except BaseException as error:
            for process in (reader, writer):
                process.kill()
            if isinstance(error, subprocess.TimeoutExpired):
                raise EmulationError(
                    f"{package.name}: not unpacked within {_UNPACK_TIMEOUT_S:g} s"
                ) from error
            raise
    if writer.returncode or reader.returncode:
        told = (said or complaint).decode("utf-8", "replace").strip().splitlines()[-1:]
        raise EmulationError(f"unpacking {package.name}: {''.join(told) or 'failed'}", hint="is there room?")


def _settle(tree: str) -> None:
    """What maintainer scripts would have done."""
    for name in DIRECTORIES:
        os.makedirs(os.path.join(tree, name), exist_ok=True)
    for name, target in LINKS.items():
        _link(target, os.path.join(tree, name))
    for name, (mode, text) in FILES.items():
        path = os.path.join(tree, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        _clear(path)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, mode)
    for name in APPLETS.split():
        if not any(os.path.lexists(os.path.join(tree, "usr", part, name)) for part in ("bin", "sbin")):
            os.symlink("busybox", os.path.join(tree, "usr", "bin", name))
    os.chmod(os.path.join(tree, "root"), 0o700)
    _bundle(tree)


def _bundle(tree: str) -> None:
    """All certificate authorities in one file, as update-ca-certificates leaves them."""
    folder = os.path.join(tree, "etc", "ssl", "certs")
    os.makedirs(folder, exist_ok=True)
    found = sorted(glob.glob(os.path.join(glob.escape(tree), "usr/share/ca-certificates/mozilla/*.crt")))
    with open(os.path.join(folder, "ca-certificates.crt"), "wb") as out:
        for path in found:
            with open(path, "rb") as file:
                out.write(file.read().rstrip() + b"\n")


def _link(target: str, path: str) -> None:
    _clear(path)
    os.symlink(target, path)


def _clear(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)
