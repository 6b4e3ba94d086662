# SPDX-License-Identifier: Apache-2.0
"""What apt says of packages, and whether a file is what the archive lists."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from manyfest.emulate.machine import packages
from manyfest.emulate.machine.kinds import kind_of
from manyfest.emulate.machine.packages import MIRROR, Package, fetch, listed, mirror_of_this_machine
from manyfest.errors import EmulationError, InputError

LINE = "'http://deb.debian.org/debian/pool/main/m/mount/mount_2.38.1-5%2bdeb12u3_arm64.deb' {} {} SHA256:{}"
SHA = hashlib.sha256(b"package").hexdigest()


def test_listed() -> None:
    text = f"Reading lists...\n{LINE.format('mount_1%3a2_arm64.deb', 7, SHA)}\n"
    assert listed(text, "/cache") == [Package("/cache/mount_1%3a2_arm64.deb", 7, SHA)]
    assert listed(text, "/cache")[0].name == "mount"


@pytest.mark.parametrize(
    "line",
    [
        LINE.format("../../etc/cron.d/x.deb", 7, SHA),
        LINE.format("a/b.deb", 7, SHA),
        LINE.format("mount.deb", 7, SHA[:-1]),
        "'http://x/mount.deb' mount.deb 7 MD5Sum:d41d8cd98f00b204e9800998ecf8427e",
        "'http://x/mount.deb' mount.deb -7",
    ],
)
def test_lines_that_are_none(line: str) -> None:
    with pytest.raises(EmulationError, match="expected 'URI' FILE SIZE"):
        listed(line, "/cache")


def test_nothing_and_too_much() -> None:
    with pytest.raises(EmulationError, match="no packages"):
        listed("", "/cache")
    with pytest.raises(EmulationError, match="at most"):
        listed(LINE.format("a.deb", 5 * 2**30, SHA), "/cache")


def test_a_file_that_was_changed_goes(tmp_path: Path) -> None:
    path = tmp_path / "mount_1_arm64.deb"
    path.write_bytes(b"package")
    packages._check(Package(str(path), 7, SHA))
    path.write_bytes(b"Package")
    with pytest.raises(EmulationError, match="the archive lists 7 bytes") as caught:
        packages._check(Package(str(path), 7, SHA))
    assert "downloads it again" in caught.value.hint
    assert not path.exists()


@pytest.mark.parametrize(
    ("text", "mirror"),
    [
        ("deb http://mirror.example/debian bookworm main\n", "http://mirror.example/debian"),
        ("# deb http://old.example/debian x\ndeb [arch=amd64] https://m.example/debian/ sid main", "https://m.example/debian"),
        ("Types: deb\nURIs: http://m.example/debian\nSuites: bookworm\n", "http://m.example/debian"),
        ("deb http://archive.example/ubuntu noble main\n", MIRROR),
        ("", MIRROR),
    ],
)  # fmt: skip
def test_mirror_of_this_machine(text: str, mirror: str, tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text(text)
    assert mirror_of_this_machine(str(tmp_path / "sources.list")) == mirror


@pytest.mark.parametrize(
    "mirror", ["ftp://x/debian", "file:///debian", "http://x/debian main\ndeb", "debian"]
)
def test_mirrors_that_are_none(mirror: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Debian archive"):
        fetch(kind_of("arm64"), ["mount"], str(tmp_path), mirror)


def test_apt_keeps_its_way_to_networks_and_trusts_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = """Acquire "";
Acquire::http "";
Acquire::http::Proxy "http://proxy.example:3128";
Acquire::https::CaInfo "/etc/ssl/own.pem";
Acquire::AllowInsecureRepositories "true";
Acquire::Languages:: "de";
Acquire::Retries "3";
"""
    monkeypatch.setattr(packages, "call", lambda *_: told)
    monkeypatch.setattr(packages, "need", lambda program, _: program)
    monkeypatch.setattr(packages, "KEYRING", str(tmp_path))
    text = Path(packages._configure(kind_of("s390x"), str(tmp_path), MIRROR)).read_text()
    assert text.startswith(
        'Acquire::http::Proxy "http://proxy.example:3128";\nAcquire::https::CaInfo "/etc/ssl/own.pem";\n'
        'Acquire::Retries "3";\n'
    )
    assert text.count("AllowInsecureRepositories") == 1
    assert 'Acquire::AllowInsecureRepositories "false";' in text
    assert 'APT::Update::Error-Mode "any";' in text
    assert 'APT::Architecture "s390x";' in text
    source = (tmp_path / "etc" / "sources.list").read_text()
    assert source == f"deb [signed-by={tmp_path}] {MIRROR} bookworm main\n"
