# SPDX-License-Identifier: Apache-2.0
"""A list as the dashboard shows it: platforms, digests, sizes, attestations, and what verifying found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from manyfest.errors import Error, NotFound
from manyfest.indexes.select import platform_of
from manyfest.stores.base import load
from manyfest.verify.image import verify_image

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from manyfest.content.descriptor import Descriptor
    from manyfest.content.document import Document
    from manyfest.platforms import Platform
    from manyfest.stores.base import Source
    from manyfest.stores.pool import Pool
    from manyfest.verify.cache import Cache
    from manyfest.verify.report import Report

__all__ = ["failed", "judged", "looked_at", "verify", "waiting"]

MAX_ENTRIES = 200
"""Entries of an index that are shown."""

MAX_FINDINGS = 30
"""Findings that are shown, the worst; the counts are of all."""

_PREDICATE = "in-toto.io/predicate-type"
_SHORT = (
    ("https://slsa.dev/provenance/", "provenance"),
    ("https://spdx.dev/", "SBOM"),
    ("https://cyclonedx.org/", "SBOM"),
)


def waiting(name: str) -> dict[str, Any]:
    """A list that nobody has looked at yet. ``state`` is ``reading``, later ``verifying``, ``ready`` or ``failed``."""
    return {
        "name": name,
        "state": "reading",
        "error": "",
        "hint": "",
        "digest": "",
        "kind": "",
        "media_type": "",
        "left_out": 0,
        "platforms": [],
        "verified": False,
        "errors": 0,
        "warnings": 0,
        "findings": [],
    }


def failed(name: str, error: Error) -> dict[str, Any]:
    """A list that cannot be read."""
    return {**waiting(name), "state": "failed", "error": str(error), "hint": error.hint}


def looked_at(name: str, source: Source, root: Document, pool: Pool) -> dict[str, Any]:
    """The rows, from the manifests. Raises what the place raises."""
    shown = {
        **waiting(name),
        "state": "verifying",
        "digest": str(root.digest),
        "media_type": root.media_type,
        "kind": "index" if root.is_index else "image",
    }
    if not root.is_index:
        shown["platforms"] = [_row(root.descriptor, root, platform_of(source, root), [])]
        return shown
    entries = root.index.manifests[:MAX_ENTRIES]
    documents = dict(zip(entries, pool.map(lambda entry: _load(source, entry), entries), strict=True))
    known = {str(entry.digest) for entry in entries}
    attested = _attestations(documents)
    shown["left_out"] = len(root.index.manifests) - len(entries)
    shown["platforms"] = [
        _row(entry, documents[entry], entry.platform, list(attested.get(str(entry.digest), ())))
        for entry in entries
        if entry.attests not in known
    ]
    return shown


def verify(
    source: Source, root: Document, name: str, *, cache: Cache, pool: Pool, on_bytes: Callable[[int], None]
) -> Report:
    """Look inside every platform; what is known from earlier looks is not read again."""
    return verify_image(source, root, name=name, cache=cache, pool=pool, on_bytes=on_bytes)


def judged(shown: Mapping[str, Any], report: Report) -> dict[str, Any]:
    """The same list with what was found."""
    starts = {image.digest: _starts(image.start) for image in report.images}
    rows = [
        {
            **row,
            "starts": starts.get(row["digest"], ""),
            "errors": report.count("error", row["platform"]) if row["platform"] else 0,
            "warnings": report.count("warning", row["platform"]) if row["platform"] else 0,
        }
        for row in shown["platforms"]
    ]
    findings = [found for found in report.findings if not found.allowed and found.severity != "note"]
    return {
        **shown,
        "state": "ready",
        "platforms": rows,
        "verified": True,
        "errors": report.count("error"),
        "warnings": report.count("warning"),
        "findings": [
            {
                "check": found.check,
                "name": found.name,
                "severity": found.severity,
                "platform": found.platform,
                "message": found.message,
                "says": found.says,
                "hint": found.hint,
            }
            for found in findings[:MAX_FINDINGS]
        ],
    }


def _row(
    entry: Descriptor, document: Document | None, platform: Platform | None, attestations: list[str]
) -> dict[str, Any]:
    layers = None
    size = None
    if document is not None and not document.is_index:
        layers = len(document.manifest.layers)
        size = document.manifest.config.size + sum(layer.size for layer in document.manifest.layers)
    return {
        "platform": "" if platform is None else str(platform),
        "architecture": "" if platform is None else platform.architecture,
        "digest": str(entry.digest),
        "size": size,
        "layers": layers,
        "missing": document is None,
        "attestations": attestations,
        "starts": "",
        "errors": 0,
        "warnings": 0,
    }


def _load(source: Source, entry: Descriptor) -> Document | None:
    try:
        return load(source, entry)
    except NotFound:
        return None


def _attestations(documents: Mapping[Descriptor, Document | None]) -> dict[str, dict[str, None]]:
    """What is attested about each entry, by its digest, in short words; looking at each document once."""
    found: dict[str, dict[str, None]] = {}
    for other, document in documents.items():
        if not other.attests or document is None or document.is_index:
            continue
        words = found.setdefault(other.attests, {})
        for layer in document.manifest.layers:
            predicate = layer.annotations.get(_PREDICATE, "attestation")
            words[next((word for start, word in _SHORT if predicate.startswith(start)), predicate)] = None
    return found


def _starts(start: Mapping[str, Any] | None) -> str:
    """``starts``, ``fails``, ``second`` (not everywhere), ``nothing`` (no command), or empty."""
    return "" if start is None else str(start["verdict"])
