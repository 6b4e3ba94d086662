# SPDX-License-Identifier: Apache-2.0
"""An image as anybody sees it: settings and files, read without our builder's code."""

from __future__ import annotations

import tarfile
from typing import Any

from manyfest.content.document import Document, ImageConfig
from manyfest.indexes.select import image_for
from manyfest.platforms import Platform
from manyfest.stores._inflate import Inflated
from manyfest.stores.base import Source, read

__all__ = ["recorded", "seen"]

FIELDS = ("Env", "Entrypoint", "Cmd", "WorkingDir", "User", "ExposedPorts", "Volumes", "Labels", "Healthcheck",
          "StopSignal", "Shell", "OnBuild")  # fmt: skip


def seen(source: Source, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """An image's settings and its files as its layers leave them, read without our builder's code."""
    document = image_for(source, source.resolve(name), Platform.parse("linux/amd64"))
    config = ImageConfig(read(source, document.manifest.config)).json.get("config") or {}
    return settings(config), files(source, document)


def settings(config: dict[str, Any]) -> dict[str, Any]:
    found = {key: config.get(key) or None for key in FIELDS}
    found["Env"] = sorted(config.get("Env") or [])
    found["WorkingDir"] = config.get("WorkingDir") or "/"
    labels = dict(config.get("Labels") or {})
    labels.pop("io.buildah.version", None)
    found["Labels"] = labels or None
    return found


def files(source: Source, document: Document) -> dict[str, Any]:
    """Path -> what it is. Times are left out: ours are all alike."""
    found: dict[str, Any] = {}
    for layer in document.manifest.layers:
        stream = source.open(layer)
        compressed = layer.media_type.endswith("gzip")
        with tarfile.open(fileobj=Inflated(stream, "x") if compressed else stream, mode="r|") as archive:  # type: ignore[call-overload]
            lay(archive, found)
    return found


def lay(archive: tarfile.TarFile, found: dict[str, Any]) -> None:
    for member in archive:
        path = member.name.strip("/").removeprefix("./")
        folder, _, name = path.rpartition("/")
        if name.startswith(".wh."):
            gone = f"{folder}/{name.removeprefix('.wh.')}".lstrip("/")
            for each in [p for p in found if p == gone or p.startswith(f"{gone}/")]:
                del found[each]
            continue
        if not path or path == ".":
            continue
        stream = archive.extractfile(member) if member.isreg() else None
        data = stream.read() if stream is not None else None
        if member.islnk():
            found[path] = found[member.linkname.strip("/")]
            continue
        mode = None if member.issym() else member.mode & 0o7777
        found[path] = (member.type, mode, member.uid, member.gid, member.linkname, data)
    for path in list(found):
        for i in [i for i, c in enumerate(path) if c == "/"]:
            found.setdefault(path[:i], (tarfile.DIRTYPE, 0o755, 0, 0, "", None))


def recorded(found: dict[str, Any]) -> dict[str, Any]:
    """Files as JSON that people can read."""
    names = {tarfile.DIRTYPE: "folder", tarfile.SYMTYPE: "link", tarfile.REGTYPE: "file"}
    return {
        path: [
            names[kind],
            None if mode is None else f"{mode:04o}",
            f"{uid}:{gid}",
            link
            or (
                "" if data is None else data.decode("utf-8", "replace") if len(data) < 200 else str(len(data))
            ),
        ]
        for path, (kind, mode, uid, gid, link, data) in found.items()
    }
