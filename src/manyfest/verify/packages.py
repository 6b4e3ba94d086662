# SPDX-License-Identifier: Apache-2.0
"""Which packages an image holds, from the databases its package managers leave.

A database is reduced to lines of ``NAME<tab>VERSION`` as the layer goes by, so that megabytes of descriptions are not
kept. Formats: dpkg's status file (deb822(5)), also one file per package as distroless images have them; apk's
``installed`` (https://wiki.alpinelinux.org/wiki/Apk_spec). Python and Node packages are read from the names of their
folders. rpm's database is a binary file that is not read: an image that has one says so.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["MAX_DATABASE", "is_database", "node_package", "packages", "python_package", "reduced"]

MAX_DATABASE = 8 * 1024 * 1024
"""Bytes of a package database that are read. A thousand Debian packages have about two million."""

_MOST, _LONGEST = 20_000, 200  # packages of one database, and characters of a name or version

_RPM = ("var/lib/rpm/rpmdb.sqlite", "var/lib/rpm/Packages", "usr/lib/sysimage/rpm/rpmdb.sqlite")
_DIST_INFO = re.compile(
    r"(?:^|/)(?:site|dist)-packages/(?P<name>[^/]+?)-(?P<version>[^/-]+)\.(?:dist|egg)-info(?:/|$)"
)
_MODULE = re.compile(r"(?:^|/)node_modules/(?P<name>@[^/]+/[^/]+|[^/@.][^/]*)/package\.json$")


def is_database(path: str) -> bool:
    """Is a path (clean, without a slash in front) a text database of packages?"""
    return path in ("var/lib/dpkg/status", "lib/apk/db/installed", "usr/lib/apk/db/installed") or (
        path.startswith("var/lib/dpkg/status.d/") and not path.endswith(".md5sums")
    )


def reduced(path: str, data: bytes) -> str:
    """The lines kept of a database."""
    text = data.decode("utf-8", "replace")
    found = _apk(text) if path.endswith("apk/db/installed") else _dpkg(text)
    return "".join(f"{name[:_LONGEST]}\t{version[:_LONGEST]}\n" for name, version in sorted(found)[:_MOST])


def packages(databases: Iterable[tuple[str, str]], paths: Iterable[str]) -> dict[str, dict[str, str]]:
    """Manager → name → version, from the reduced databases (path, lines) and the paths of all files.

    Node packages have no version here, rpm none of either: ``{"rpm": {}}`` says that there is a database.
    """
    found: dict[str, dict[str, str]] = {}
    for path, lines in databases:
        manager = "apk" if "apk/db/" in path else "dpkg"
        pairs = (line.partition("\t") for line in lines.split("\n"))
        found.setdefault(manager, {}).update({name: version for name, _, version in pairs if name})
    for path in paths:
        if path in _RPM:
            found.setdefault("rpm", {})
        elif (python := python_package(path)) is not None:
            found.setdefault("python", {})[python[0]] = python[1]
        elif (node := node_package(path)) is not None:
            found.setdefault("node", {})[node] = ""
    return found


def python_package(path: str) -> tuple[str, str] | None:
    """Name and version that a path in site-packages tells (``foo-1.2.dist-info/METADATA``)."""
    if "-info/" not in path and not path.endswith("-info"):
        return None
    match = _DIST_INFO.search(path)
    return (match["name"].lower().replace("_", "-"), match["version"]) if match else None


def node_package(path: str) -> str | None:
    """The name of the Node package whose ``package.json`` a path is."""
    if not path.endswith("/package.json") or "node_modules/" not in path:
        return None
    match = _MODULE.search(path[path.rindex("node_modules/") :])
    return match["name"] if match else None


def _dpkg(text: str) -> list[tuple[str, str]]:
    found = []
    for paragraph in re.split(r"\n\s*\n", text):
        fields = dict(re.findall(r"^(Package|Version|Status): *(.*)$", paragraph, re.MULTILINE))
        installed = fields.get("Status", "install ok installed").endswith(" installed")
        if fields.get("Package") and installed:
            found.append((fields["Package"].strip(), fields.get("Version", "").strip()))
    return found


def _apk(text: str) -> list[tuple[str, str]]:
    found = []
    for paragraph in text.split("\n\n"):
        fields = dict(re.findall(r"^([PV]):(.*)$", paragraph, re.MULTILINE))
        if fields.get("P"):
            found.append((fields["P"].strip(), fields.get("V", "").strip()))
    return found
