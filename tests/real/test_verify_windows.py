# SPDX-License-Identifier: Apache-2.0
"""Programs compiled for Windows, in images as engines lay them out: what starts, and what a mistake is found as."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.real.parts import Host

from manyfest.content import mediatypes
from manyfest.content.document import Document, ImageConfig
from manyfest.emulate.images import layer_tar, write_image, write_json
from manyfest.platforms import Platform
from manyfest.stores.base import load, read
from manyfest.stores.layout import Layout

pytestmark = pytest.mark.real

TARGETS = {"amd64": "x86_64-windows-gnu", "arm64": "aarch64-windows-gnu", "386": "x86-windows-gnu"}
# Without the C library, which takes a minute to make.
SOURCE = "int wWinMainCRTStartup(void) { return 0; }\n"
FLAGS = ("-nostdlib", "-fno-sanitize=all")
File = tuple[bytes, int] | str
BATCH = (b"@echo off\r\napp.exe\r\n", 0o644)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A program for each architecture, by zig's compiler."""
    folder = tmp_path_factory.mktemp("windows")
    (folder / "app.c").write_text(SOURCE)

    def compile_for(architecture: str) -> bytes:
        out = folder / f"{architecture}.exe"
        command = [
            sys.executable,
            "-m",
            "ziglang",
            "cc",
            "-target",
            TARGETS[architecture],
            *FLAGS,
            "-o",
            str(out),
        ]
        subprocess.run([*command, str(folder / "app.c")], check=True, capture_output=True, timeout=300)
        return out.read_bytes()

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(TARGETS, pool.map(compile_for, TARGETS), strict=True))


class Layouts:
    """Indexes of images for Windows: a base of Nano Server's shape, with an application on top."""

    def __init__(self, here: Host, compiled: dict[str, bytes]) -> None:
        self.here = here
        self.compiled = compiled
        self.store = Layout.create(str(here.home / "layout"))
        here.env["XDG_CACHE_HOME"] = str(here.home / "cache")

    def image(self, architecture: str, files: Mapping[str, File], **settings: Any) -> Document:
        """An image for Windows Server 2022."""
        base = {
            "Files/Windows/System32/cmd.exe": (self.compiled[architecture], 0o644),
            "Files/License.txt": (b"Nano Server\r\n", 0o644),
            "Hives/Software_Delta": (b"regf", 0o644),
        }
        settings = {"WorkingDir": "C:\\app", **settings}
        platform = Platform.parse(f"windows(10.0.20348.2762)/{architecture}")
        return write_image(self.store, platform, [layer_tar(base), layer_tar(files)], settings=settings)

    def verify(self, *images: Document, ok: bool = True) -> Any:
        """As a user does."""
        entries = []
        for image in images:
            platform = ImageConfig(read(self.store, image.manifest.config)).platform
            entries.append(image.descriptor.with_platform(platform).to_json())
        fields = {"schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX, "manifests": entries}
        self.store.tag(load(self.store, write_json(self.store, fields, mediatypes.OCI_INDEX)), "v1")
        return self.here.manyfest("verify", f"oci:{self.here.home}/layout:v1", "--json", ok=ok).json


@pytest.fixture
def layouts(here: Host, compiled: dict[str, bytes]) -> Layouts:
    """A layout of its own for each test."""
    return Layouts(here, compiled)


@pytest.mark.parametrize(
    ("entrypoint", "cmd"),
    [
        (["C:\\app\\app.exe"], []),
        (["app"], ["--serve"]),
        (["cmd", "/S", "/C"], ["app --serve"]),
        (["run.cmd"], []),
    ],
)
def test_both_architectures_start(layouts: Layouts, entrypoint: list[str], cmd: list[str]) -> None:
    """As exec form, bare name, shell form and batch file; programs and libraries for the platform only."""
    images = []
    for architecture in ("amd64", "arm64"):
        files: dict[str, File] = {"Files/app/App.exe": (layouts.compiled[architecture], 0o644)}
        files["Files/app/run.cmd"] = BATCH
        images.append(layouts.image(architecture, files, Entrypoint=entrypoint, Cmd=cmd))
    report = layouts.verify(*images)
    assert [each["start"]["verdict"] for each in report["platforms"]] == ["starts", "starts"]
    assert [each for each in report["findings"] if each["severity"] != "note"] == []
    last = {each["start"]["chain"][-1] for each in report["platforms"]}
    expected = {"C:\\app\\App.exe (windows/amd64)", "C:\\app\\App.exe (windows/arm64)"}
    assert last == ({"C:\\app\\run.cmd (a batch file, for cmd)"} if entrypoint == ["run.cmd"] else expected)


@pytest.mark.parametrize(
    ("name", "files", "command", "check"),
    [
        ("other-architecture", {"Files/app/app.exe": "arm64"}, ["app.exe"], "MF201"),
        ("32-bit-on-nano", {"Files/app/app.exe": "386"}, ["app.exe"], "MF304"),
        (
            "removed",
            {"Files/app/app.exe": "amd64", "Files/app/.wh.app.exe": ""},
            ["C:\\gone\\app.exe"],
            "MF302",
        ),
        ("outside-files", {"app/app.exe": "amd64"}, ["C:\\app\\app.exe"], "MF302"),
        ("no-program", {"Files/app/app.exe": "text"}, ["app.exe"], "MF309"),
        ("cut", {"Files/app/app.exe": "cut"}, ["app.exe"], "MF309"),
        ("no-shell", {"Files/app/app.exe": "amd64"}, ["powershell", "-File", "x.ps1"], "MF302"),
    ],
)
def test_broken_on_purpose(
    layouts: Layouts, name: str, files: dict[str, str], command: list[str], check: str
) -> None:
    """One fault, one id, and exit code 1."""
    contents = {"text": b"echo hi", "cut": layouts.compiled["amd64"][:100], "": b"", **layouts.compiled}
    made: dict[str, File] = {path: (contents[what], 0o644) for path, what in files.items()}
    environment = ["PATH=C:\\Windows\\System32;C:\\Windows"]
    report = layouts.verify(layouts.image("amd64", made, Cmd=command, Env=environment), ok=False)
    assert {each["id"] for each in report["findings"] if each["severity"] == "error"} == {check}, name
    assert report["platforms"][0]["start"]["verdict"] == "fails"
    assert report["platforms"][0]["start"]["engine_says"]
