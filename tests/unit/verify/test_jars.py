# SPDX-License-Identifier: Apache-2.0
"""Native libraries of Java archives, found by name."""

from __future__ import annotations

import io
import tarfile
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.verify.conftest import entry, program, tree

from manyfest.platforms import Platform
from manyfest.verify.checks import Findings
from manyfest.verify.checks_files import check_files
from manyfest.verify.entry import Start
from manyfest.verify.facts import Facts
from manyfest.verify.jars import TAIL, architectures_of, native_members
from manyfest.verify.programs import Programs
from manyfest.verify.walk import walk

NAMES = ["org/x/linux/amd64/libx.so", "org/x/linux/aarch64/libx.so.1"]


def jar(*names: str, padding: int = 0) -> bytes:
    """An archive with a manifest, padding that is not compressed, and members of these names."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\n")
        archive.writestr("padding", bytes(padding))
        for name in names:
            archive.writestr(name, b"x")
    return out.getvalue()


@pytest.mark.parametrize("padding", [0, 5000, TAIL + 5000])
def test_names_are_read_while_the_layer_streams(padding: int) -> None:
    """Whether the archive fits in what is looked at, or only its end does."""
    data = jar("a.class", *NAMES, "win/x.dll", padding=padding)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in ("app.jar", "after.jar"):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    layer = walk(iter([out.getvalue()]))
    for found in layer.entries.values():
        assert found.facts is not None
        assert (found.facts.kind, found.text.split("\n")) == ("jar", NAMES)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("linux/x86_64/libx.so", {"amd64"}),
        ("linux-x86-64/libjnidispatch.so", {"amd64"}),
        ("META-INF/native/libnetty_epoll_aarch_64.so", {"arm64"}),
        ("org/sqlite/native/Linux/x86/libsqlite.so", {"386"}),
        ("Linux-Android/aarch64/libx.so", set()),
        ("libx.so", set()),
    ],
)
def test_architectures(name: str, found: set[str]) -> None:
    """As libraries in use name them."""
    assert architectures_of([name]) == found


@pytest.mark.parametrize(
    ("path", "platform", "checks"),
    [
        ("app/x.jar", "linux/amd64", []),
        ("app/x.jar", "linux/s390x", ["MF209"]),
        ("app/x-linux-aarch_64.jar", "linux/s390x", []),
    ],
)
def test_an_archive_without_the_platforms_library(path: str, platform: str, checks: list[str]) -> None:
    """A note, since many have a way without."""
    made = entry(Facts("jar", machine="Java"), 0o644)
    made.text = "\n".join(NAMES)
    findings = Findings()
    files = {path: made, "bin/x": program(platform, interpreter="")}
    check_files(Programs(tree(files), Platform.parse(platform), {}), Start(()), [], findings)
    assert [(f.check, f.severity) for f in findings.all()] == [(check, "note") for check in checks]


@pytest.mark.property
@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 400), st.integers(0, 10**12))
def test_any_bytes_are_read(noise: bytes, at: int, size: int) -> None:
    """Names or none."""
    data = jar(*NAMES)
    data = data[:at] + noise + data[at + len(noise) :]
    native_members(data, size)
    native_members(data, len(data))
