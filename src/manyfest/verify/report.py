# SPDX-License-Identifier: Apache-2.0
"""What verifying found, and its two written forms: JSON (``docs/reference/json.md``) and SARIF 2.1.0.

https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/sarif-v2.1.0-os.html
"""

from __future__ import annotations

from manyfest.verify.checks import CHECKS, ERROR, NOTE, WARNING, order

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from manyfest.verify.checks import Finding

__all__ = ["ImageReport", "Report", "Work"]

_SARIF_SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json"
_PAGE = "https://github.com/manyfest/manyfest/blob/main/docs/reference/findings.md"


class Work:
    """What it took: layers read and known already, packed bytes read, plain bytes seen."""

    def __init__(self) -> None:
        self.layers_read = 0
        self.layers_cached = 0
        self.bytes_read = 0
        self.bytes_unpacked = 0

    def to_json(self) -> dict[str, int]:
        """For the report."""
        return {
            "layers_read": self.layers_read,
            "layers_cached": self.layers_cached,
            "bytes_read": self.bytes_read,
            "bytes_unpacked": self.bytes_unpacked,
        }


class ImageReport:
    """One platform's image. ``start`` is :meth:`manyfest.verify.entry.Start.to_json`, ``counts`` of files."""

    def __init__(
        self,
        platform: str,
        digest: str,
        *,
        config_platform: str = "",
        start: dict[str, Any] | None = None,
        counts: dict[str, int] | None = None,
        layers: Sequence[dict[str, Any]] = (),
        complete: bool = True,
    ) -> None:
        self.platform = platform
        self.digest = digest
        self.config_platform = config_platform
        self.start = start
        self.counts = counts or {}
        self.layers = list(layers)
        self.complete = complete

    def to_json(self) -> dict[str, Any]:
        """For the report."""
        return {
            "platform": self.platform,
            "digest": self.digest,
            "config_platform": self.config_platform,
            "complete": self.complete,
            "start": self.start,
            "counts": self.counts,
            "layers": self.layers,
        }

    @classmethod
    def from_json(cls, shown: dict[str, Any]) -> ImageReport:
        """What :meth:`to_json` wrote."""
        fields = {name: shown[name] for name in ("config_platform", "start", "counts", "layers", "complete")}
        return cls(shown["platform"], shown["digest"], **fields)


class Report:
    """Everything about one name. ``failed``: there is an error (with ``strict`` a warning) that nobody allowed."""

    def __init__(
        self,
        name: str,
        digest: str,
        images: Sequence[ImageReport],
        findings: Sequence[Finding],
        *,
        strict: bool = False,
        work: Work | None = None,
    ) -> None:
        self.name = name
        self.digest = digest
        self.images = tuple(images)
        self.findings = tuple(sorted(findings, key=lambda finding: (finding.allowed != "", *order(finding))))
        self.strict = strict
        self.work = work or Work()

    def count(self, severity: str, platform: str | None = None) -> int:
        """Findings of a severity that nobody allowed; of one platform, or of all."""
        return sum(
            1
            for finding in self.findings
            if finding.severity == severity and not finding.allowed and platform in (None, finding.platform)
        )

    @property
    def failed(self) -> bool:
        """Is the answer no?"""
        return bool(self.count(ERROR) or (self.strict and self.count(WARNING)))

    def to_json(self) -> dict[str, Any]:
        """One document."""
        return {
            "name": self.name,
            "digest": self.digest,
            "failed": self.failed,
            "strict": self.strict,
            "summary": {
                "errors": self.count(ERROR),
                "warnings": self.count(WARNING),
                "notes": self.count(NOTE),
                "allowed": sum(1 for finding in self.findings if finding.allowed),
            },
            "platforms": [
                {
                    **image.to_json(),
                    "errors": self.count(ERROR, image.platform),
                    "warnings": self.count(WARNING, image.platform),
                }
                for image in self.images
            ],
            "findings": [finding.to_json() for finding in self.findings],
            "work": self.work.to_json(),
        }

    def to_sarif(self, version: str) -> dict[str, Any]:
        """For code scanning; ``version`` is manyfest's."""
        used = sorted({finding.check for finding in self.findings})
        return {
            "$schema": _SARIF_SCHEMA,
            "version": "2.1.0",
            "runs": [
                {
                    "tool": {
                        "driver": {
                            "name": "manyfest",
                            "version": version,
                            "informationUri": "https://github.com/manyfest/manyfest",
                            "rules": [_rule(check) for check in used],
                        }
                    },
                    "results": [self._result(finding, used) for finding in self.findings],
                }
            ],
        }

    def _result(self, finding: Finding, used: list[str]) -> dict[str, Any]:
        message = f"{finding.platform}: {finding.message}" if finding.platform else finding.message
        # A file of the image has no place in the repository; its path is a logical location.
        inside = {"name": finding.path or self.name, "kind": "resource"}
        inside["fullyQualifiedName"] = f"{self.name}@{finding.platform}{finding.path}"
        shown: dict[str, Any] = {
            "ruleId": finding.check,
            "ruleIndex": used.index(finding.check),
            "level": finding.severity,
            "message": {"text": _printable(f"{message}. {finding.hint}" if finding.hint else message)},
            "locations": [
                {
                    "physicalLocation": {"artifactLocation": {"uri": _uri(finding.path or self.name)}},
                    "logicalLocations": [{key: _printable(value) for key, value in inside.items()}],
                }
            ],
            "partialFingerprints": {"manyfest/v1": _fingerprint(finding)},
        }
        if finding.allowed:
            reason = _printable(finding.allowed)
            shown["suppressions"] = [{"kind": "external", "justification": reason}]
        return shown


def _rule(check: str) -> dict[str, Any]:
    known = CHECKS[check]
    return {
        "id": check,
        "name": "".join(part.capitalize() for part in known.name.split("-")),
        "shortDescription": {"text": known.summary},
        "helpUri": f"{_PAGE}#{check.lower()}-{known.name}",
        "defaultConfiguration": {"level": known.severity},
    }


def _uri(path: str) -> str:
    from urllib.parse import quote

    return quote(path.lstrip("/").encode("utf-8", "surrogateescape"))


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _fingerprint(finding: Finding) -> str:
    from manyfest.content.digest import Digest

    text = "\0".join((finding.check, finding.platform, finding.path))
    return Digest.of(text.encode("utf-8", "surrogateescape")).hex[:32]
