# SPDX-License-Identifier: Apache-2.0
"""A list of what is in an image, as an SPDX 2.3 document: packages, and the files that this build put there.

Packages are those that :mod:`manyfest.verify.packages` finds (dpkg, apk, Python, Node), in the base's layers too, and
the modules of Go programs that were put in. What is not looked for is said in the document's comment. The same image
gives the same document: its one time is the image's own.

https://spdx.github.io/spdx-spec/v2.3/
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from manyfest import __version__
from manyfest.build.assemble import timestamp
from manyfest.build.purl import TYPES, package
from manyfest.values import Value
from manyfest.verify.sides import packages_of
from manyfest.verify.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from manyfest.build.sums import Sum
    from manyfest.content.document import Document
    from manyfest.verify.layers import Layer

__all__ = ["MAX_FILES", "PREDICATE", "Contents", "contents_of", "document"]

PREDICATE = "https://spdx.dev/Document"

MAX_FILES = 20_000
"""Files that are listed; who puts in more is told, and gets the packages only."""

_IMAGE = "SPDXRef-Image"


class Contents(Value):
    """``packages``: manager, name, version and where it is from; ``files``: by path; ``comment``: what is missing."""

    __slots__ = ("comment", "distro", "files", "packages", "system")
    comment: str
    distro: str
    files: Mapping[str, Sum]
    packages: tuple[tuple[str, str, str, str], ...]
    system: str

    def __init__(
        self,
        packages: tuple[tuple[str, str, str, str], ...],
        files: Mapping[str, Sum],
        *,
        system: str = "",
        distro: str = "",
        comment: str = "",
    ) -> None:
        self._set(packages=packages, files=files, system=system, distro=distro, comment=comment)


def contents_of(layers: Iterable[Layer], sums: Iterable[Mapping[str, Sum]]) -> Contents:
    """What an image holds: ``layers`` are all of it, ``sums`` those of the layers that were made here, in order."""
    tree = Tree(layers)
    there = {path for path, _ in tree.files()}
    files: dict[str, Sum] = {}
    for each in sums:
        files.update((path, known) for path, known in each.items() if path in there)
    by_manager = packages_of(tree)
    found = [
        (manager, name, version, "")
        for manager in sorted(by_manager.keys() & TYPES.keys())
        for name, version in sorted(by_manager[manager].items())
    ]
    modules: dict[tuple[str, str], str] = {}
    for path in sorted(files):
        for module in files[path].modules:
            modules.setdefault(module, path)
    found += [("go", name, version, path) for (name, version), path in sorted(modules.items())]
    missing = [f"packages of {manager} are not read" for manager in sorted(by_manager.keys() - TYPES.keys())]
    if len(files) > MAX_FILES:
        missing.append(f"{len(files)} files are not listed: more than {MAX_FILES}")
        files = {}
    system, distro = _system(tree.text("etc/os-release"))
    if not system:
        system = "alpine" if "apk" in by_manager else "debian" if "dpkg" in by_manager else ""
    return Contents(tuple(found), files, system=system, distro=distro, comment="; ".join(missing))


def document(image: Document, platform: str, contents: Contents, epoch: int) -> dict[str, Any]:
    """The SPDX document about an image."""
    packages = [
        {
            "SPDXID": _IMAGE,
            "name": "image",
            "versionInfo": str(image.digest),
            "downloadLocation": "NOASSERTION",
            "filesAnalyzed": False,
            "primaryPackagePurpose": "CONTAINER",
            "comment": f"the image for {platform}",
        }
    ]
    relationships = [_related("SPDXRef-DOCUMENT", "DESCRIBES", _IMAGE)]
    for number, (manager, name, version, origin) in enumerate(contents.packages, 1):
        made = _package(number, manager, name, version, origin, contents)
        packages.append(made)
        relationships.append(_related(_IMAGE, "CONTAINS", made["SPDXID"]))
    files = []
    for number, path in enumerate(sorted(contents.files), 1):
        each = contents.files[path]
        files.append(_file(number, path, each))
        # A package whose files were not all analysed must not be said to contain any (7.8 of the specification).
        relationships.append(_related("SPDXRef-DOCUMENT", "DESCRIBES", f"SPDXRef-File-{number}"))
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"image for {platform}",
        "documentNamespace": f"https://spdx.org/spdxdocs/manyfest-{image.digest.hex}",
        "creationInfo": {"created": timestamp(epoch), "creators": [f"Tool: manyfest-{__version__}"]},
        **({"comment": contents.comment} if contents.comment else {}),
        "packages": packages,
        **({"files": files} if files else {}),
        "relationships": relationships,
    }


def _package(
    number: int, manager: str, name: str, version: str, origin: str, contents: Contents
) -> dict[str, Any]:
    locator = package(manager, name, version, contents.system, contents.distro)
    return {
        "SPDXID": f"SPDXRef-Package-{number}-{re.sub('[^A-Za-z0-9.-]', '-', name)[:80]}",
        "name": name,
        **({"versionInfo": version} if version else {}),
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "sourceInfo": f"module of /{origin}" if origin else f"known to {manager}",
        "externalRefs": [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": locator,
            }
        ],
    }


def _file(number: int, path: str, known: Sum) -> dict[str, Any]:
    return {
        "SPDXID": f"SPDXRef-File-{number}",
        "fileName": "./" + path.encode("utf-8", "surrogateescape").decode("utf-8", "replace"),
        "checksums": [
            {"algorithm": "SHA1", "checksumValue": known.sha1},
            {"algorithm": "SHA256", "checksumValue": known.sha256},
        ],
        "copyrightText": "NOASSERTION",
        "licenseConcluded": "NOASSERTION",
    }


def _related(one: str, kind: str, other: str) -> dict[str, str]:
    return {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}


def _system(text: str) -> tuple[str, str]:
    """``ID`` and ``ID-VERSION_ID`` of os-release(5)."""
    fields = dict(re.findall(r"^(ID|VERSION_ID)=[\"']?([A-Za-z0-9._-]{1,64})[\"']?\s*$", text, re.MULTILINE))
    name, version = fields.get("ID", ""), fields.get("VERSION_ID", "")
    return name, f"{name}-{version}" if name and version else name
