# SPDX-License-Identifier: Apache-2.0
"""The checks by their ids, and what they find. ``docs/reference/findings.md`` has a section for each.

Ids are stable: they never change their meaning, and one that is given up is not used again.
"""

from __future__ import annotations

from manyfest.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["CHECKS", "ERROR", "NOTE", "SEVERITIES", "WARNING", "Check", "Finding", "Findings"]

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)

_MOST = 1000


class Check(Value):
    """What is looked for: a stable id, a name, and how bad it is where nothing else is said."""

    __slots__ = ("id", "name", "severity", "summary")
    id: str
    name: str
    severity: str
    summary: str

    def __init__(self, id: str, name: str, severity: str, summary: str) -> None:
        self._set(id=id, name=name, severity=severity, summary=summary)


CHECKS = {
    row[0]: Check(*row)
    for row in (
        ("MF101", "config-platform", ERROR, "The index and the image's own configuration name different platforms."),
        ("MF102", "no-platform", WARNING, "An entry of the index says no platform."),
        ("MF103", "duplicate-platform", ERROR, "Two entries are for the same platform; only one is ever chosen."),
        ("MF104", "unknown-platform", ERROR, "An entry is for a platform that nobody runs."),
        ("MF105", "missing-platform", ERROR, "A platform that was expected is not there."),
        ("MF106", "missing-image", ERROR, "The index names an image that is not there, or not what it says."),
        ("MF107", "missing-blob", ERROR, "The image names a configuration or layer that is not there."),
        ("MF108", "stray-attestation", WARNING, "An attestation speaks of an image that the index does not have."),
        ("MF109", "layer-count", ERROR, "The configuration and the manifest disagree on the layers."),
        ("MF110", "layer-content", ERROR, "A layer's content is not what the configuration says."),
        ("MF111", "not-an-image", NOTE, "An entry is an artifact and not an image."),
        ("MF201", "wrong-architecture", ERROR, "A program or library is for another architecture."),
        ("MF202", "foreign-file", NOTE, "Files are for another architecture, and meant to be."),
        ("MF203", "second-architecture", WARNING, "The image starts code that only some machines of its platform run."),
        ("MF204", "arm-level", ERROR, "ARM code needs a newer processor than the platform promises."),
        ("MF205", "x86-level", ERROR, "x86-64 code needs a newer processor than the platform promises."),
        ("MF206", "page-size", WARNING, "A program cannot be loaded by kernels with larger memory pages."),
        ("MF207", "damaged-binary", WARNING, "A binary is cut or its headers contradict each other."),
        ("MF208", "native-module", ERROR, "A Python or Node module is for another architecture."),
        ("MF209", "jar-libraries", NOTE, "A Java archive brings native libraries, and none for the platform."),
        ("MF301", "no-command", NOTE, "The image names no command."),
        ("MF302", "command-missing", ERROR, "The command is not in the image."),
        ("MF303", "command-permission", ERROR, "The command may not be executed."),
        ("MF304", "loader-missing", ERROR, "The loader that a program asks for is not in the image."),
        ("MF305", "library-missing", ERROR, "A library that a program needs cannot be found where the loader looks."),
        ("MF306", "symbol-version", ERROR, "A library is older than what a program was linked against."),
        ("MF307", "interpreter-missing", ERROR, "The interpreter that a script asks for is not in the image."),
        ("MF308", "crlf-script", ERROR, "A script's first line ends like on Windows, so its interpreter is not found."),
        ("MF309", "no-format", ERROR, "The command is a file that the kernel cannot execute."),
        ("MF310", "link-loop", ERROR, "Links, or scripts that interpret scripts, lead in a circle, or too far."),
        ("MF311", "unknown-user", ERROR, "The image's user is not in its /etc/passwd."),
        ("MF312", "no-execute-bit", WARNING, "A program in a folder of programs may not be executed."),
        ("MF313", "no-loader-cache", WARNING, "A library is only found through a cache that is not in the image."),
        ("MF314", "not-followed", WARNING, "There are more programs and libraries than are followed."),
        ("MF501", "unreadable-layer", WARNING, "A layer cannot be looked into: encrypted, or of an unknown type."),
        ("MF502", "foreign-layer", WARNING, "A layer is kept elsewhere and was not looked into."),
        ("MF503", "damaged-layer", ERROR, "A layer is not what its digest says, or cannot be unpacked."),
        ("MF504", "path-outside", ERROR, "A layer has paths or links that lead out of the image."),
        ("MF505", "odd-entry", NOTE, "A layer has an entry of a type that engines leave out."),
        ("MF506", "device-file", NOTE, "A layer has device files."),
        ("MF507", "path-twice", NOTE, "A layer has the same path twice."),
        ("MF508", "sparse-file", NOTE, "A layer has a sparse file, whose content is not looked at."),
        ("MF509", "through-link", NOTE, "A layer writes through a link of a layer below it."),
        ("MF510", "layer-too-large", ERROR, "A layer unpacks to more than it may."),
    )
}  # fmt: skip


class Finding(Value):
    """Something found. ``severity`` is one of :data:`SEVERITIES`; ``path`` starts with a slash, ``layer`` is a digest,
    ``platform`` is text; each may be empty. ``says`` is what ``docker run`` would say. ``allowed`` is the reason that
    somebody gave to live with it."""

    __slots__ = ("check", "severity", "message", "platform", "path", "layer", "hint", "says", "allowed")  # noqa: RUF023
    check: str
    severity: str
    message: str
    platform: str
    path: str
    layer: str
    hint: str
    says: str
    allowed: str

    def __init__(
        self,
        check: str,
        severity: str,
        message: str,
        platform: str = "",
        path: str = "",
        layer: str = "",
        hint: str = "",
        says: str = "",
        allowed: str = "",
    ) -> None:
        self._set(
            check=check,
            severity=severity,
            message=message,
            platform=platform,
            path=path,
            layer=layer,
            hint=hint,
            says=says,
            allowed=allowed,
        )

    @property
    def name(self) -> str:
        """The check's name."""
        return CHECKS[self.check].name

    def to_json(self) -> dict[str, Any]:
        """As documented in ``docs/reference/json.md``."""
        return {
            "id": self.check,
            "name": self.name,
            "severity": self.severity,
            "message": self.message,
            "platform": self.platform,
            "path": self.path,
            "layer": self.layer,
            "hint": self.hint,
            "engine_says": self.says,
            "allowed": self.allowed,
        }

    @classmethod
    def from_json(cls, shown: dict[str, Any]) -> Finding:
        """What :meth:`to_json` wrote."""
        names = ("id", "severity", "message", "platform", "path", "layer", "hint", "engine_says", "allowed")
        return cls(*(shown[name] for name in names))


class Findings:
    """Collects what is found about one image. Of a check with thousands of hits the first thousand are kept."""

    def __init__(self) -> None:
        self.found: list[Finding] = []
        self._counts: dict[str, int] = {}

    def add(self, check: str, message: str, severity: str = "", **fields: str) -> None:
        """One more; ``severity`` is the check's own where it is not given."""
        count = self._counts[check] = self._counts.get(check, 0) + 1
        if count <= _MOST:
            self.found.append(Finding(check, severity or CHECKS[check].severity, message, **fields))

    def all(self) -> list[Finding]:
        """The worst first, then by id and path."""
        more = [
            Finding(check, NOTE, f"{count - _MOST} more of {CHECKS[check].name} are not listed")
            for check, count in self._counts.items()
            if count > _MOST
        ]
        return sorted([*self.found, *more], key=order)


def order(finding: Finding) -> tuple[int, str, str, str]:
    """For sorting."""
    return SEVERITIES.index(finding.severity), finding.check, finding.path, finding.message
