# SPDX-License-Identifier: Apache-2.0
"""Debian packages of any architecture, as layers: downloaded by apt with folders of its own, unpacked by nobody.

Downloads are kept under ``$MANYFEST_TEST_CACHE``, or ``tests/.cache`` here, so that a second run needs no network.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from tests.real.parts import need
from tools import mixed_swarm
from tools.mixed_swarm import cache_folder

ARCHITECTURES = {
    "amd64": "linux/amd64",
    "arm64": "linux/arm64",
    "armhf": "linux/arm/v7",
    "ppc64el": "linux/ppc64le",
    "s390x": "linux/s390x",
}
PACKAGES: tuple[str, ...] = (
    "busybox-static",
    "bash",
    "libc6",
    "libtinfo6",
    "perl-base",
    "libcrypt1",
    "dash",
    "base-files",
)
PACKAGES += (
    "python3-minimal",
    "python3.11-minimal",
    "libpython3.11-minimal",
    "zlib1g",
    "libexpat1",
    "libgcc-s1",
)
# A Go program, a loader of musl, and a small C program that starts others; Java for one architecture, for its size.
PACKAGES += ("gosu", "musl", "tini")
MORE = {"arm64": ("openjdk-17-jre-headless",)}
# Native code for Java, to be put into jars; no part of the images.
JNI = ("libjna-jni", "libsnappy-jni")
# What a system needs to run dpkg: what mmdebstrap's variant "essential" has, without what needs nothing here.
SYSTEM = {
    "base-files", "base-passwd", "coreutils", "dash", "debianutils", "diffutils", "dpkg", "findutils", "grep",
    "libacl1", "libattr1", "libbz2-1.0", "libc-bin", "libc6", "libcrypt1", "libgcc-s1", "libgmp10", "liblzma5",
    "libmd0", "libpcre2-8-0", "libselinux1", "libzstd1", "sed", "tar", "zlib1g",
}  # fmt: skip
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_LIMIT_S = 90


def packages(architecture: str) -> dict[str, Path]:
    """The files of :data:`PACKAGES`, :data:`MORE` and :data:`JNI` for a Debian architecture; skips where they cannot be
    had."""
    return fetched(architecture, {*PACKAGES, *JNI, *MORE.get(architecture, ())}, "debian-12")


def fetched(architecture: str, wanted: set[str], name: str) -> dict[str, Path]:
    """The files of packages, kept in a folder of that name; skips where they cannot be had."""
    need("apt-get", package="apt")
    need("dpkg-deb", package="dpkg")
    folder = cache_folder() / name / architecture
    found = _there(folder)
    if wanted <= set(found):
        return found
    _download(architecture, folder, sorted(wanted - set(found)))
    found = _there(folder)
    missing = wanted - set(found)
    if missing:
        pytest.skip(
            f"no network to Debian's archive for {architecture}: {', '.join(sorted(missing))} not there"
        )
    return found


def mirror() -> str:
    """Debian's archive where this machine's apt finds it; skips where apt knows of none."""
    try:
        return mixed_swarm.mirror()
    except mixed_swarm.CannotBe as error:
        pytest.skip(str(error))


def closure(architecture: str, wanted: tuple[str, ...], suite: str) -> list[Path]:
    """The files of packages of a release with all that they depend on, as apt would install them on an empty system;
    skips where they cannot be had."""
    need("apt-get", package="apt")
    need("dpkg-deb", package="dpkg")
    folder = cache_folder() / f"debian-{suite}" / architecture
    stamp = folder / "wanted"
    if not stamp.exists() or stamp.read_text().split() != list(wanted):
        words = ["install", "-y", "--no-install-recommends", "--download-only", *wanted]
        if not _apt(architecture, folder, words, suite):
            pytest.skip(f"no network to Debian's archive for {suite} of {architecture}")
        stamp.write_text(" ".join(wanted))
    return sorted(folder.glob("*.deb"))


def tar_of(package: Path) -> bytes:
    """What a package installs, as a tar archive: a layer."""
    return subprocess.run(
        ["dpkg-deb", "--fsys-tarfile", str(package)], check=True, capture_output=True
    ).stdout


def system(architecture: str) -> bytes:
    """A small Debian as one layer: packages unpacked, without what their scripts would do but for dpkg's own list.

    Running mmdebstrap for a foreign architecture takes ten minutes under an emulator.
    """
    out, seen, status = io.BytesIO(), set[str](), []
    with tarfile.open(fileobj=out, mode="w") as layer:
        for name, package in fetched(architecture, SYSTEM, "debian-12-system").items():
            with tarfile.open(fileobj=io.BytesIO(tar_of(package))) as archive:
                for member in archive:
                    if member.name not in seen:
                        seen.add(member.name)
                        layer.addfile(member, archive.extractfile(member) if member.isreg() else None)
            fields = subprocess.run(["dpkg-deb", "-f", str(package)], check=True, capture_output=True).stdout
            status.append(b"Status: install ok installed\n" + fields)
            _add_file(layer, f"var/lib/dpkg/info/{name}.list", b"")
        _add_file(layer, "var/lib/dpkg/status", b"\n".join(status))
        _add_file(layer, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
        for path in {"./bin/sh"} - seen:
            link = tarfile.TarInfo(path)
            link.type, link.linkname = tarfile.SYMTYPE, "dash"
            layer.addfile(link)
    return out.getvalue()


def _add_file(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(f"./{name}")
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def _there(folder: Path) -> dict[str, Path]:
    return {path.name.partition("_")[0]: path for path in sorted(folder.glob("*.deb"))}


def _download(architecture: str, folder: Path, names: list[str]) -> None:
    _apt(architecture, folder, ["download", *names], "bookworm")


def _apt(architecture: str, folder: Path, words: list[str], suite: str) -> bool:
    """Have apt put packages into ``folder``, with lists and configuration of its own: nothing of the machine's apt is
    read but its proxy, nothing written. Did it?"""
    work = folder / "apt"
    for part in (
        "lists/partial",
        "archives/partial",
        "etc/apt.conf.d",
        "etc/preferences.d",
        "etc/sources.list.d",
    ):
        (work / part).mkdir(parents=True, exist_ok=True)
    source = f"deb [signed-by={KEYRING}] {mirror()} {suite} main\n"
    (work / "etc" / "sources.list").write_text(source)
    for setting in Path("/etc/apt/apt.conf.d").glob("*"):
        shutil.copy(setting, work / "etc" / "apt.conf.d")
    options = {
        "Dir::Etc": work / "etc",
        "Dir::State::Lists": work / "lists",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": work,
        "Dir::Cache::archives": f"{folder}/",
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "Acquire::Languages": "none",
    }
    (folder / "partial").mkdir(exist_ok=True)
    command = [
        "apt-get",
        "-qq",
        *(word for key, value in options.items() for word in ("-o", f"{key}={value}")),
    ]
    if os.geteuid() == 0:
        command += ["-o", "APT::Sandbox::User=root"]
    try:
        for each in (["update"], words):
            done = subprocess.run(
                [*command, *each], cwd=folder, check=False, capture_output=True, timeout=_LIMIT_S
            )
    except subprocess.TimeoutExpired:
        return False
    shutil.rmtree(work)
    return done.returncode == 0
