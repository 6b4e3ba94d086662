# SPDX-License-Identifier: Apache-2.0
"""An image with Debian's nginx, made of its packages, and what `wrk` counts of requests sent to it."""

from __future__ import annotations

import io
import json
import re
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.real.debian import fetched, tar_of
from tests.real.parts import need

from manyfest.content import mediatypes
from manyfest.content.document import Document
from manyfest.platforms import Platform
from manyfest.stores.base import put_bytes
from manyfest.stores.layout import Layout
from manyfest.testing.images import make_image

if TYPE_CHECKING:
    from manyfest.emulate.images import File

__all__ = ["Load", "Wrk", "make_nginx"]

PACKAGES = {"nginx", "libc6", "libcrypt1", "libpcre2-8-0", "libssl3", "zlib1g"}
ARCHITECTURES = {"amd64": "linux/amd64", "i386": "linux/386"}
_USERS = {
    "/etc/passwd": (b"root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n", 0o644),
    "/etc/group": (b"root:x:0:\nnogroup:x:65534:\n", 0o644),
}


def make_nginx(folder: Path) -> str:
    """An OCI layout with nginx for both architectures, without any configuration."""
    with Layout.create(str(folder), durable=False) as store:
        entries = []
        for debian, platform in ARCHITECTURES.items():
            files: dict[str, File] = dict(_USERS)
            for name, package in fetched(debian, PACKAGES, "debian-12-nginx").items():
                if name in PACKAGES:
                    files |= _files(package)
            image = make_image(store, platform, files=files, entrypoint=["/usr/sbin/nginx"], docker=True)
            entries.append(image.descriptor.with_platform(Platform.parse(platform)).to_json())
        fields = {"schemaVersion": 2, "mediaType": mediatypes.DOCKER_LIST, "manifests": entries}
        document = Document(mediatypes.DOCKER_LIST, json.dumps(fields).encode())
        put_bytes(store, document.descriptor, document.raw)
        store.tag(document, "1")
    return f"oci:{folder}:1"


def _files(package: Path) -> dict[str, File]:
    """Programs and libraries; no documents, no settings."""
    found: dict[str, File] = {}
    with tarfile.open(fileobj=io.BytesIO(tar_of(package))) as tar:
        for entry in tar:
            path = entry.name.removeprefix(".")
            if path.startswith(("/usr/share/", "/etc/", "/var/")) or "/gconv/" in path:
                continue
            if entry.issym():
                found[path] = entry.linkname
            elif (opened := tar.extractfile(entry)) is not None:
                found[path] = (opened.read(), entry.mode & 0o777)
    return found


@dataclass
class Load:
    """What wrk counted. ``lost`` are requests without a good answer: connections that broke, time-outs, other codes."""

    requests: int
    lost: int
    text: str


class Wrk:
    """Sends requests until :meth:`end`; a context manager."""

    CONNECTIONS = 16

    def __init__(self, url: str, seconds: int, *, kept: bool) -> None:
        """``kept`` keeps connections between requests, else each request has a new one."""
        need("wrk")
        command = ["wrk", "--threads", "1", "--connections", str(self.CONNECTIONS), "--timeout", "5s"]
        command += ["--duration", f"{seconds}s", *([] if kept else ["--header", "Connection: close"]), url]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def is_running(self) -> bool:
        return self._process.poll() is None

    def end(self) -> Load:
        """Wait for it to end by itself."""
        text, _ = self._process.communicate(timeout=60)
        requests = re.search(r"(\d+) requests in", text)
        assert requests is not None, text
        errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
        other = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
        lost = sum(map(int, errors.groups())) if errors else 0
        return Load(int(requests[1]), lost + int(other[1] if other else 0), text)
