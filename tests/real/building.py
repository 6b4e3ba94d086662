# SPDX-License-Identifier: Apache-2.0
"""What the tests that build with engines share: bases, our command under way, processes of containers."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.real.debian import fetched, tar_of
from tests.real.parts import Host

from manyfest.emulate.images import write_image
from manyfest.platforms import Platform
from manyfest.stores.layout import Layout

__all__ = ["push_base", "rootfs", "runs", "start", "until"]


def rootfs(debian: str) -> bytes:
    """A layer with a shell and nothing more."""
    package = fetched(debian, {"busybox-static"}, "debian-12")["busybox-static"]
    with tarfile.open(fileobj=io.BytesIO(tar_of(package))) as archive:
        found = archive.extractfile("./bin/busybox")
        assert found is not None
        busybox = found.read()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in ("bin", "tmp", "etc"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(folder)
        program = tarfile.TarInfo("bin/busybox")
        program.size, program.mode = len(busybox), 0o755
        archive.addfile(program, io.BytesIO(busybox))
        for name in ("sh", "cat", "true", "sleep"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
    return out.getvalue()


def push_base(home: Path, name: str, layers: Mapping[str, bytes]) -> str:
    """A list of one-layer images, by platform, in a registry; its name with the tag."""
    (home / "run").mkdir(mode=0o700)
    here = Host(home)
    with Layout.create(str(home / "bases")) as layout:
        for text, layer in layers.items():
            layout.tag(write_image(layout, Platform.parse(text), [layer], settings={}), _tag(text))
    for text in layers:
        here.manyfest("copy", "-q", f"oci:bases:{_tag(text)}", f"{name}:{_tag(text)}")
    here.manyfest("create", f"{name}:1", *(f"{name}:{_tag(text)}" for text in layers), "--push")
    return f"{name}:1"


def start(here: Host, *words: str) -> subprocess.Popen[str]:
    """Our command, under way."""
    env = {
        **os.environ,
        **here.env,
        "HOME": str(here.home),
        "PYTHONPATH": str(Path(__file__).parents[2] / "src"),
    }
    command = [sys.executable, "-m", "manyfest", *words]
    return subprocess.Popen(
        command, env=env, cwd=here.home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Wait for something that happens while our command works."""
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def runs(marker: str) -> list[int]:
    """The processes of this machine that sleep for so long."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[-3:-1] == [b"sleep", marker.encode()]:
            found.append(int(path.parent.name))
    return found


def _tag(platform: str) -> str:
    return platform.replace("/", "-")
