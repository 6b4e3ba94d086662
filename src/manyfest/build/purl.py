# SPDX-License-Identifier: Apache-2.0
"""Package URLs: one spelling for packages of all kinds (https://github.com/package-url/purl-spec).

>>> image("debian:12", "linux/arm64")
'pkg:docker/debian@12?platform=linux%2Farm64'
>>> package("dpkg", "libc6", "2.36-9+deb12u4", "debian", "debian-12")
'pkg:deb/debian/libc6@2.36-9%2Bdeb12u4?distro=debian-12'
>>> package("node", "@scope/name", ""), package("go", "golang.org/x/sys", "v0.1.0")
('pkg:npm/%40scope/name', 'pkg:golang/golang.org/x/sys@v0.1.0')
"""

from __future__ import annotations

from urllib.parse import quote

from manyfest.stores.places import Place

__all__ = ["TYPES", "image", "package"]

TYPES = {"apk": "apk", "dpkg": "deb", "go": "golang", "node": "npm", "python": "pypi"}
"""Names of package managers, as :mod:`manyfest.verify.packages` has them, and their types here."""


def image(name: str, platform: str) -> str:
    """An image in a registry; empty for one in a folder or archive, which no others can reach."""
    place = Place.parse(name)
    if place.transport != "docker":
        return ""
    reference = place.reference
    path = "/".join(quote(part, safe="") for part in reference.without().familiar.split("/"))
    pairs = [("platform", platform)]
    if reference.digest:
        pairs.insert(0, ("digest", str(reference.digest)))
    version = "" if reference.digest else reference.target
    return f"pkg:docker/{path}{_version(version)}{_qualifiers(pairs)}"


def package(manager: str, name: str, version: str, system: str = "", distro: str = "") -> str:
    """A package. ``system``: whose packages they are, for those of a distribution."""
    kind = TYPES[manager]
    parts = [system] if manager in ("dpkg", "apk") and system else []
    parts += name.split("/")
    path = "/".join(quote(part, safe="") for part in parts)
    pairs = [("distro", distro)] if distro and manager in ("dpkg", "apk") else []
    return f"pkg:{kind}/{path}{_version(version)}{_qualifiers(pairs)}"


def _version(version: str) -> str:
    return "@" + quote(version, safe=":~") if version else ""


def _qualifiers(pairs: list[tuple[str, str]]) -> str:
    text = "&".join(f"{key}={quote(value, safe=':')}" for key, value in sorted(pairs))
    return f"?{text}" if text else ""
