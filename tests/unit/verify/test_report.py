# SPDX-License-Identifier: Apache-2.0
"""What was found, as JSON and as SARIF."""

from __future__ import annotations

import json

import pytest

from manyfest.verify.checks import CHECKS, SEVERITIES, Finding
from manyfest.verify.report import ImageReport, Report


def report(*findings: Finding, strict: bool = False) -> Report:
    """Over one image."""
    return Report("app:1", "sha256:0", [ImageReport("linux/arm64", "sha256:1")], findings, strict=strict)


ERROR = Finding("MF201", "error", "wrong", "linux/arm64", "/usr/bin/a b", "sha256:2", "compile it")
WARNING = Finding("MF206", "warning", "pages", "linux/arm64", "/x")
NOTE = Finding("MF202", "note", "meant", "linux/arm64", "/y")


@pytest.mark.parametrize(
    ("findings", "strict", "failed"),
    [
        ((), True, False),
        ((NOTE,), True, False),
        ((WARNING,), False, False),
        ((WARNING,), True, True),
        ((ERROR,), False, True),
        ((ERROR.replace(allowed="yes"),), True, False),
    ],
)
def test_when_the_answer_is_no(findings: tuple[Finding, ...], strict: bool, failed: bool) -> None:
    """Errors, with strict warnings too, unless they are allowed."""
    assert report(*findings, strict=strict).failed is failed


def test_the_worst_first_and_the_allowed_last() -> None:
    """Whatever the order they came in."""
    allowed = ERROR.replace(allowed="yes")
    assert report(NOTE, allowed, WARNING, ERROR).findings == (ERROR, WARNING, NOTE, allowed)


def test_json() -> None:
    """One document of plain values."""
    shown = json.loads(json.dumps(report(ERROR, WARNING).to_json()))
    assert shown["summary"] == {"errors": 1, "warnings": 1, "notes": 0, "allowed": 0}
    assert shown["platforms"][0]["errors"] == 1
    assert shown["findings"][0]["id"] == "MF201"


def test_sarif_has_what_the_standard_asks_for() -> None:
    """SARIF 2.1.0: required properties, indexes that fit, levels that exist, URIs that are some."""
    odd = Finding("MF504", "error", "out \udcff", path="/\udcff")
    shown = json.loads(json.dumps(report(ERROR, WARNING, odd, NOTE.replace(allowed="why")).to_sarif("1.0")))
    assert shown["version"] == "2.1.0"
    (run,) = shown["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == sorted({rule["id"] for rule in rules})
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in SEVERITIES
        assert result["message"]["text"]
        uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        assert uri
        assert " " not in uri
    assert run["results"][-1]["suppressions"] == [{"kind": "external", "justification": "why"}]


def test_every_rule_has_its_help() -> None:
    """The page's anchor is made of id and name."""
    for check in CHECKS.values():
        shown = report(Finding(check.id, check.severity, "x")).to_sarif("1")
        (rule,) = shown["runs"][0]["tool"]["driver"]["rules"]
        assert rule["helpUri"].endswith(f"findings.md#{check.id.lower()}-{check.name}")
