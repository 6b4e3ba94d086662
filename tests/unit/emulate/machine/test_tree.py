# SPDX-License-Identifier: Apache-2.0
"""A tree out of small packages, made here with dpkg-deb."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from manyfest.emulate.machine.packages import Package
from manyfest.emulate.machine.tree import kernel_of, lay_tree, modules_of
from manyfest.errors import EmulationError

pytestmark = [pytest.mark.real, pytest.mark.slow]

KERNEL = {
    "boot/vmlinuz-6.1.0-1-arm64": "kernel",
    "lib/modules/6.1.0-1-arm64/kernel/fs/ext4/ext4.ko": "",
    "lib/modules/6.1.0-1-arm64/kernel/drivers/gpu/gpu.ko": "",
    "lib/modules/6.1.0-1-arm64/modules.order": "kernel/fs/ext4/ext4.ko\n",
}


def package(folder: Path, name: str, files: dict[str, str]) -> Package:
    root = folder / name
    for inside, text in files.items():
        (root / inside).parent.mkdir(parents=True, exist_ok=True)
        (root / inside).write_text(text)
    (root / "DEBIAN").mkdir(parents=True)
    (root / "DEBIAN" / "control").write_text(
        f"Package: {name}\nVersion: 1\nArchitecture: arm64\nMaintainer: x <x@example.com>\nDescription: x\n"
    )
    path = folder / f"{name}_1_arm64.deb"
    subprocess.run(
        ["dpkg-deb", "--build", "--root-owner-group", str(root), str(path)], check=True, capture_output=True
    )
    data = path.read_bytes()
    return Package(str(path), len(data), hashlib.sha256(data).hexdigest())


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for program in ("dpkg-deb", "depmod"):
        if shutil.which(program, path=f"{os.environ['PATH']}:/sbin:/usr/sbin") is None:
            pytest.skip(f"no {program}; tools/test-packages.sh as root installs it")
    (tmp_path / "tree").mkdir()
    return tmp_path / "tree"


def test_packages_lie_over_each_other(tmp_path: Path, tree: Path) -> None:
    """Through the links of a merged /usr, without documentation, drivers of hardware, and what only installs."""
    packages = [
        package(tmp_path, "linux-image-6.1.0-1-arm64", KERNEL),
        package(tmp_path, "mount", {"bin/mount": "mount", "usr/share/doc/mount/copyright": "free"}),
        package(tmp_path, "iptables", {"usr/sbin/xtables-nft-multi": "", "usr/bin/ps": "a real one"}),
        package(tmp_path, "perl-base", {"usr/bin/perl": "perl"}),
        package(tmp_path, "ca-certificates", {"usr/share/ca-certificates/mozilla/A.crt": "A\n\n"}),
    ]
    lay_tree(packages, str(tree))
    assert os.readlink(tree / "bin") == "usr/bin"
    assert (tree / "usr/bin/mount").read_text() == "mount"
    assert (tree / "usr/bin/ps").read_text() == "a real one"
    assert os.readlink(tree / "usr/bin/grep") == "busybox"
    assert os.readlink(tree / "usr/sbin/iptables") == "xtables-nft-multi"
    assert not (tree / "usr/bin/perl").exists()
    assert not (tree / "usr/share/doc/mount/copyright").exists()
    assert (tree / "etc/ssl/certs/ca-certificates.crt").read_text() == "A\n"
    assert "localhost" in (tree / "etc/hosts").read_text()
    assert os.access(tree / "usr/sbin/machine", os.X_OK)
    assert kernel_of(str(tree)) == str(tree / "boot/vmlinuz-6.1.0-1-arm64")
    modules = Path(modules_of(str(tree)))
    assert (modules / "modules.dep").exists()
    assert [path.name for path in modules.rglob("*.ko")] == ["ext4.ko"]


def test_no_kernel_and_two(tmp_path: Path, tree: Path) -> None:
    (tree / "boot").mkdir()
    with pytest.raises(EmulationError, match="found none"):
        kernel_of(str(tree))
    for version in ("1", "2"):
        (tree / "boot" / f"vmlinuz-{version}").write_text("")
    with pytest.raises(EmulationError, match="expected one kernel"):
        kernel_of(str(tree))


def test_a_broken_package(tmp_path: Path, tree: Path) -> None:
    path = tmp_path / "mount_1_arm64.deb"
    path.write_bytes(b"!<arch>\nnonsense")
    with pytest.raises(EmulationError, match="unpacking mount"):
        lay_tree([Package(str(path), 16, "")], str(tree))
