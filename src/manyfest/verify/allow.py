# SPDX-License-Identifier: Apache-2.0
"""Findings that somebody looked at and lives with: a YAML file of checks, paths and reasons.

::

    allow:
      - id: MF201                    # one id or a list; all checks if it is left out
        path: /opt/firmware/**       # * within a folder, ** through folders; any path if left out
        platform: linux/arm64        # one or a list; any if left out
        reason: runs on the board    # is shown

A rule needs an id or a path, so that an empty one does not allow everything.
"""

from __future__ import annotations

import os
import re

from manyfest.errors import InputError
from manyfest.platforms import AnyOf, Platform
from manyfest.values import Value, brief
from manyfest.verify.checks import CHECKS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from manyfest.verify.checks import Finding

__all__ = ["FILE_NAME", "Allowed", "Rule", "read_allowed"]

FILE_NAME = ".manyfest-allow.yaml"
_MAX_SIZE = 1024 * 1024
_KEYS = ("id", "path", "platform", "reason")


class Rule(Value):
    """One item of the file."""

    __slots__ = ("ids", "path", "platforms", "reason")
    ids: tuple[str, ...]
    path: str
    platforms: tuple[Platform, ...]
    reason: str

    def __init__(
        self,
        ids: tuple[str, ...] = (),
        path: str = "",
        platforms: tuple[Platform, ...] = (),
        reason: str = "",
    ) -> None:
        self._set(ids=ids, path=path, platforms=platforms, reason=reason)

    def matches(self, finding: Finding) -> bool:
        """Does it speak of this finding?"""
        if self.ids and finding.check not in self.ids:
            return False
        if self.path and not _pattern(self.path).fullmatch(finding.path):
            return False
        if not self.platforms:
            return True
        return bool(finding.platform) and AnyOf(*self.platforms).matches(Platform.parse(finding.platform))


class Allowed:
    """All rules of a file."""

    def __init__(self, rules: tuple[Rule, ...] = ()) -> None:
        self.rules = rules

    def apply(self, finding: Finding) -> Finding:
        """The finding, marked when a rule allows it."""
        for rule in self.rules:
            if rule.matches(finding):
                return finding.replace(allowed=rule.reason or "allowed")
        return finding


def read_allowed(path: str = "") -> Allowed:
    """Read a file; without a name :data:`FILE_NAME` here if it is there. Raises :class:`InputError`."""
    if not path:
        if not os.path.exists(FILE_NAME):
            return Allowed()
        path = FILE_NAME
    import yaml

    try:
        with open(path, encoding="utf-8") as file:
            shown = yaml.safe_load(file.read(_MAX_SIZE))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", hint="name a file of allowed findings") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: not YAML: {error}") from error
    rules = shown.get("allow") if isinstance(shown, dict) else shown
    if not isinstance(rules, list) or (isinstance(shown, dict) and set(shown) - {"allow"}):
        raise InputError(f"{path}: expected a list under 'allow', got {brief(shown)}")
    return Allowed(tuple(_rule(path, i, rule) for i, rule in enumerate(rules, 1)))


def _rule(file: str, number: int, rule: Any) -> Rule:
    where = f"{file}: rule {number}"
    if not isinstance(rule, dict) or not all(isinstance(key, str) for key in rule):
        raise InputError(f"{where}: expected keys such as id and path, got {brief(rule)}")
    unknown = sorted(set(rule) - set(_KEYS))
    if unknown:
        raise InputError(f"{where}: no key {unknown[0]!r}, expected {', '.join(_KEYS)}")
    ids = _texts(where, "id", rule.get("id"))
    for each in ids:
        if each not in CHECKS:
            raise InputError(f"{where}: no check {each!r}", hint="docs/reference/findings.md lists them")
    path = "".join(_texts(where, "path", rule.get("path"))[:1])
    if not ids and not path:
        raise InputError(
            f"{where}: expected an id or a path", hint="a rule without either would allow everything"
        )
    if path and not path.startswith(("/", "*")):
        raise InputError(f"{where}: path {path!r} must start with a slash")
    platforms = tuple(Platform.parse(text) for text in _texts(where, "platform", rule.get("platform")))
    return Rule(ids, path, platforms, "".join(_texts(where, "reason", rule.get("reason"))[:1]))


def _texts(where: str, key: str, value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(each, str) for each in values):
        raise InputError(f"{where}: {key} must be text, got {brief(value)}")
    return tuple(values)


def _pattern(glob: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", glob)
    words = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(words.get(part, re.escape(part)) for part in parts), re.DOTALL)
