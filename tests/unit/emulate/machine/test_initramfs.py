# SPDX-License-Identifier: Apache-2.0
"""cpio archives, and the order in which modules are loaded."""

from __future__ import annotations

import lzma
import stat
from pathlib import Path

import pytest

from manyfest.emulate.machine.initramfs import archive, initramfs, load_order, own_part
from manyfest.errors import EmulationError

DEPENDS = """\
kernel/drivers/net/virtio_net.ko: kernel/drivers/net/net_failover.ko kernel/net/core/failover.ko
kernel/drivers/net/net_failover.ko: kernel/net/core/failover.ko
kernel/net/core/failover.ko:
kernel/drivers/block/virtio_blk.ko:
kernel/crypto/crc32c_generic.ko.xz:
kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko
kernel/fs/jbd2/jbd2.ko:
kernel/drivers/gpu/gpu.ko:
"""


def read(data: bytes) -> dict[str, tuple[int, bytes]]:
    """A newc archive as the kernel's buffer-format.rst describes it."""
    found, at = {}, 0
    while data[at : at + 6] == b"070701":
        fields = [int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        name = data[at + 110 : at + 110 + fields[11] - 1].decode()
        start = (at + 110 + fields[11] + 3) // 4 * 4
        found[name] = (fields[1], data[start : start + fields[6]])
        at = (start + fields[6] + 3) // 4 * 4
    assert at == len(data)
    return found


def test_archive_is_read_back() -> None:
    files = {"a": (stat.S_IFREG | 0o600, b"12345"), "bc": (stat.S_IFDIR | 0o755, b"")}
    found = read(archive(files, devices={"console": (5, 1)}))
    assert found.pop("TRAILER!!!") == (0, b"")
    assert found == {**files, "console": (stat.S_IFCHR | 0o600, b"")}


def test_own_part_is_for_root_alone() -> None:
    found = read(own_part({"host_key": b"secret"}))
    assert found["machine"][0] == stat.S_IFDIR | 0o700
    assert found["machine/host_key"] == (stat.S_IFREG | 0o600, b"secret")


def test_what_a_module_needs_comes_first() -> None:
    order = load_order(DEPENDS, "kernel/drivers/virtio/virtio_pci.ko", ("virtio_pci", "virtio_net", "ext4"))
    assert [path.rpartition("/")[2] for path in order] == [
        "failover.ko",
        "net_failover.ko",
        "virtio_net.ko",
        "jbd2.ko",
        "ext4.ko",
    ]


def test_a_module_that_is_nowhere() -> None:
    with pytest.raises(EmulationError, match="no module btrfs"):
        load_order(DEPENDS, "", ("btrfs",))


def test_compressed_modules_are_unpacked(tmp_path: Path) -> None:
    modules = tmp_path / "modules"
    for line in DEPENDS.splitlines():
        path = modules / line.partition(":")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(lzma.compress(b"\x7fELF xz") if path.suffix == ".xz" else b"\x7fELF")
    (modules / "modules.dep").write_text(DEPENDS)
    (modules / "modules.builtin").write_text("kernel/drivers/virtio/virtio_pci.ko\n")
    (tmp_path / "busybox").write_bytes(b"\x7fELF busybox")
    found = read(initramfs(str(tmp_path / "busybox"), str(modules)))
    assert found["modules/crc32c_generic.ko"][1] == b"\x7fELF xz"
    assert found["bin/busybox"] == (stat.S_IFREG | 0o755, b"\x7fELF busybox")
    script = found["init"][1].decode()
    assert script.index("jbd2.ko") < script.index("ext4.ko") < script.index("mount -t ext4")
    assert "gpu" not in script
    (modules / "kernel/crypto/crc32c_generic.ko.xz").write_bytes(b"no xz")
    with pytest.raises(EmulationError, match="crc32c"):
        initramfs(str(tmp_path / "busybox"), str(modules))
