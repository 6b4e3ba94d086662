# SPDX-License-Identifier: Apache-2.0
"""Findings and the rules behind them. A rule's id never changes its meaning."""

from __future__ import annotations

from manyfest.values import Value

__all__ = ["ERROR", "NOTE", "RULES", "WARNING", "Finding", "Rule"]

ERROR, WARNING, NOTE = "error", "warning", "note"


class Rule(Value):
    """An id, a short name, how bad it is, and why it matters."""

    __slots__ = ("id", "name", "severity", "why")
    id: str
    name: str
    severity: str
    why: str

    def __init__(self, id: str, name: str, severity: str, why: str) -> None:
        self._set(id=id, name=name, severity=severity, why=why)


class Finding(Value):
    """One place in one file. ``fixed`` is the line as it should be; empty when there is no one right line."""

    __slots__ = ("fixed", "line", "message", "path", "rule")
    rule: Rule
    path: str
    line: int
    message: str
    fixed: str

    def __init__(self, rule: Rule, path: str, line: int, message: str, fixed: str = "") -> None:
        self._set(rule=rule, path=path, line=line, message=message, fixed=fixed)

    @property
    def severity(self) -> str:
        """``error``, ``warning`` or ``note``."""
        return self.rule.severity


_ALL = (
    Rule(
        "ML101",
        "platform-arg-out-of-scope",
        ERROR,
        "a platform argument is empty in a stage that does not declare it, so the build falls back to its own machine",
    ),
    Rule(
        "ML102",
        "platform-arg-default",
        ERROR,
        "a default shadows the value the builder sets, so every platform gets the default",
    ),
    Rule(
        "ML103",
        "build-platform-final-stage",
        ERROR,
        "the last stage is what is shipped; built on the build machine's platform it holds that machine's binaries "
        "under every platform's label",
    ),
    Rule(
        "ML104",
        "constant-platform",
        WARNING,
        "a constant platform in FROM gives every platform of the image the same one's files",
    ),
    Rule("ML105", "one-arch-download", ERROR, "the download is for one architecture and is used for all"),
    Rule("ML106", "constant-goarch", ERROR, "the compiler is told one architecture for all platforms"),
    Rule("ML107", "one-arch-base", ERROR, "the base image exists for one architecture only"),
    Rule(
        "ML108",
        "uname-as-goarch",
        ERROR,
        "uname says x86_64, aarch64 and armv7l where Go, Docker and most downloads say amd64, arm64 and arm; under a "
        "64-bit kernel it also says what the kernel is, not what the image is",
    ),
    Rule("ML109", "constant-multiarch-path", WARNING, "the folder has this name on one architecture only"),
    Rule(
        "ML110", "constant-apt-arch", WARNING, "apt ignores the source, or finds no such package, elsewhere"
    ),
    Rule(
        "ML111",
        "builders-own-cpu",
        WARNING,
        "the compiler uses instructions of a newer processor than the platform promises; older ones stop with "
        "'illegal instruction'",
    ),
    Rule(
        "ML112",
        "go-file-without-counterpart",
        WARNING,
        "what the file declares does not exist on other architectures, and the build fails there",
    ),
    Rule(
        "ML113",
        "unguarded-intrinsics",
        ERROR,
        "the header exists for one architecture; others fail to compile",
    ),
    Rule(
        "ML114",
        "last-writer-wins",
        ERROR,
        "every job of the matrix pushes the same tag, so the tag ends with the platform of whichever job was last",
    ),
    Rule(
        "ML115",
        "docker-manifest-create",
        NOTE,
        "docker manifest create refuses images that carry attestations, which every current builder makes",
    ),
    Rule(
        "ML116",
        "base-lacks-platform",
        ERROR,
        "the image cannot be built for a platform its base does not have",
    ),
    Rule("ML117", "base-not-read", NOTE, "whether the base has the platforms is not known"),
    Rule("ML118", "unreadable", WARNING, "what cannot be read cannot be checked"),
)

RULES: dict[str, Rule] = {rule.name: rule for rule in _ALL}
"""By name."""
