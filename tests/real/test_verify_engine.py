# SPDX-License-Identifier: Apache-2.0
"""The engine as the judge: what verify says of a start is what `docker run` does, and in its words."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from typing import Any

import pytest
from tests.real import debian
from tests.real.parts import Host

from manyfest.content.document import Document
from manyfest.emulate.images import write_json
from manyfest.emulate.programs import program
from manyfest.platforms import Platform
from manyfest.stores.base import put_bytes, read
from manyfest.stores.layout import Layout
from manyfest.testing.images import make_image

pytestmark = pytest.mark.real

DOCKER = "/usr/bin/docker"
File = tuple[bytes, int] | str
LIBTINFO = "lib/x86_64-linux-gnu/libtinfo.so.6"
LOADER = "lib64/ld-linux-x86-64.so.2"


@pytest.fixture(scope="module")
def base() -> dict[str, File]:
    """busybox, and bash with its loader and libraries: a small image for amd64."""
    packages = debian.packages("amd64")
    found: dict[str, bytes] = {}
    for name in ("busybox-static", "bash", "libc6", "libtinfo6"):
        with tarfile.open(fileobj=io.BytesIO(debian.tar_of(packages[name]))) as archive:
            for member in archive:
                if member.isfile() and (data := archive.extractfile(member)) is not None:
                    found[member.name.removeprefix("./")] = data.read()
    libc, loader = (found[f"lib/x86_64-linux-gnu/{n}"] for n in ("libc.so.6", "ld-linux-x86-64.so.2"))
    busybox = found["bin/busybox"] if "bin/busybox" in found else found["usr/bin/busybox"]
    bash = found["bin/bash"] if "bin/bash" in found else found["usr/bin/bash"]
    return {
        "bin/busybox": (busybox, 0o755),
        "bin/sh": "busybox",
        "bin/true": "busybox",
        "bin/bash": (bash, 0o755),
        "lib/x86_64-linux-gnu/libc.so.6": (libc, 0o755),
        LIBTINFO: (next(data for path, data in found.items() if "libtinfo.so.6." in path), 0o644),
        LOADER: (loader, 0o755),
        "etc/passwd": (b"root:x:0:0::/:/bin/sh\napp:x:7:7::/:/bin/sh\n", 0o644),
    }


STATIC = program(Platform.parse("linux/amd64"))
# For the M32R, which no emulator here knows: those that are set up would hide the mistake.
ALIEN = STATIC[:18] + b"\x58\0" + STATIC[20:]
BASH = ["/bin/bash", "-c", "exit 0"]
OK = (b"#!/bin/sh\nexit 0\n", 0o755)

CASES: dict[str, tuple[Mapping[str, File | None], list[str], dict[str, Any]]] = {
    "program": ({"app": (STATIC, 0o755)}, ["/app"], {}),
    "script": ({"app": OK}, ["/app"], {}),
    "script-of-a-script": ({"app": (b"#!/other\n", 0o755), "other": OK}, ["/app"], {}),
    "dynamic": ({}, BASH, {}),
    "along-path": ({"opt/app": OK}, ["app"], {"Env": ["PATH=/opt:/bin"]}),
    "relative": ({"opt/app": OK}, ["./app"], {"WorkingDir": "/opt"}),
    "through-links": (
        {"app": "opt/link", "opt/link": "../../../bin/real", "bin/real": (STATIC, 0o755)},
        ["/app"],
        {},
    ),
    "user": ({}, ["true"], {"User": "app"}),
    "number": ({}, ["true"], {"User": "12345"}),
    "library-path": (
        {LIBTINFO: None, "opt/libtinfo.so.6": "/hidden"},
        BASH,
        {"Env": ["LD_LIBRARY_PATH=/opt"]},
    ),
    "only-in-local": ({LIBTINFO: None, "usr/local/lib/libtinfo.so.6": "/hidden"}, BASH, {}),
    "nowhere": ({}, ["nowhere"], {}),
    "no-path": ({}, ["/nowhere"], {}),
    "dangling": ({"app": "gone"}, ["/app"], {}),
    "a-folder": ({"opt/x": OK}, ["/opt"], {}),
    "no-permission": ({"app": (STATIC, 0o644)}, ["/app"], {}),
    "no-permission-along-path": ({"bin/app": (STATIC, 0o644)}, ["app"], {}),
    "alien": ({"app": (ALIEN, 0o755)}, ["/app"], {}),
    "alien-interpreter": ({"app": (b"#!/alien\n", 0o755), "alien": (ALIEN, 0o755)}, ["/app"], {}),
    "no-loader": ({LOADER: None}, BASH, {}),
    "no-library": ({LIBTINFO: None}, BASH, {}),
    "no-interpreter": ({"app": (b"#!/usr/bin/ruby\n", 0o755)}, ["/app"], {}),
    "crlf": ({"app": (b"#!/bin/sh\r\nexit 0\r\n", 0o755)}, ["/app"], {}),
    "no-first-line": ({"app": (b"exit 0\n", 0o755)}, ["/app"], {}),
    "empty": ({"app": (b"", 0o755)}, ["/app"], {}),
    "own-interpreter": ({"app": (b"#!/app\n", 0o755)}, ["/app"], {}),
    "unknown-user": ({}, ["true"], {"User": "web"}),
}
# What the engine's many versions have in common.
PHRASES = (
    "executable file not found",
    "no such file or directory",
    "permission denied",
    "exec format error",
    "cannot open shared object file",
    "too many levels of symbolic links",
    "unable to find user",
)


@pytest.mark.parametrize("name", list(CASES))
def test_the_engine_agrees(here: Host, engine: str, base: dict[str, File], name: str) -> None:
    """Starts where verify says so; fails where it says so, with the phrase that it says."""
    changes, command, settings = CASES[name]
    files = {path: file for path, file in {**base, **changes}.items() if file is not None}
    files["hidden"] = base[LIBTINFO]
    here.env |= {"DOCKER_HOST": engine, "XDG_CACHE_HOME": str(here.home / "cache")}
    folder = str(here.home / "layout")
    with Layout.create(folder) as store:
        document = make_image(store, "linux/amd64", files=files, entrypoint=[], docker=True)
        document = _with_settings(store, document, {"Cmd": command, **settings})
        store.tag(document, "v1")
    report = here.manyfest("verify", f"oci:{folder}:v1", "--json", ok=False).json
    start = report["platforms"][0]["start"]
    image = f"verify-engine:{name}"
    here.manyfest("copy", f"oci:{folder}:v1", f"docker-daemon:{image}")
    ran = here.run(DOCKER, "run", "--rm", "--network", "none", image, ok=False)
    here.run(DOCKER, "rmi", "-f", image)
    if start["verdict"] == "starts":
        assert ran.code == 0, (ran.err, start)
        return
    assert ran.code != 0, start
    said = {phrase for phrase in PHRASES if phrase in start["engine_says"].lower()}
    assert said
    assert any(phrase in (ran.err + ran.out).lower() for phrase in said), (ran.err, start)


def _with_settings(store: Layout, document: Document, settings: dict[str, Any]) -> Document:
    config = json.loads(read(store, document.manifest.config))
    config["config"] = settings
    fields = document.to_json()
    fields["config"] = write_json(store, config, document.manifest.config.media_type).to_json()
    made = Document(document.media_type, json.dumps(fields).encode())
    put_bytes(store, made.descriptor, made.raw)
    return made
