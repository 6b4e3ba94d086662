# SPDX-License-Identifier: Apache-2.0
"""``manyfest lint``: exit codes, shapes, and its reference page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from manyfest.build.lint import RULES
from manyfest.cli.main import main

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "lint.md"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """One error, one warning."""
    (tmp_path / "Dockerfile").write_text("FROM gcc\nARG TARGETARCH=amd64\nRUN cc -march=native a.c\n")
    return tmp_path


def test_findings_are_told_with_the_fixed_line(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """file:line, why, and the line as it should be; exit 1."""
    assert main(["lint", str(project)]) == 1
    seen = capsys.readouterr()
    assert "Dockerfile:2: error: TARGETARCH has the default amd64 [ML102 platform-arg-default]" in seen.out
    assert "fixed: ARG TARGETARCH" in seen.out
    assert "1 error, 1 warning" in seen.err


def test_the_json_shape(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As docs/reference/json.md says."""
    assert main(["lint", str(project), "--json"]) == 1
    first = json.loads(capsys.readouterr().out)["findings"][0]
    assert (first["rule"], first["path"], first["line"]) == ("ML102", str(project / "Dockerfile"), 2)
    assert set(first) == {"rule", "name", "severity", "path", "line", "message", "why", "fixed"}


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--disable", "ML102"], 0),
        (["--disable", "platform-arg-default", "--strict"], 1),
        (["--disable", "ML102,builders-own-cpu", "--strict"], 0),
        (["--disable", "ML999"], 2),
    ],
)
def test_rules_can_be_left_out(project: Path, options: list[str], code: int) -> None:
    """Warnings count with --strict; unknown rules are a usage error."""
    assert main(["lint", str(project), *options]) == code


def test_every_rule_is_on_the_page() -> None:
    """With the severity it has."""
    rows = dict(re.findall(r"^\| (ML\d+) \| ([\w-]+ \| \w+) \|", PAGE.read_text(), re.MULTILINE))
    assert rows == {rule.id: f"{rule.name} | {rule.severity}" for rule in RULES.values()}
