# SPDX-License-Identifier: Apache-2.0
"""``manyfest verify`` as people and pipelines use it."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.conftest import Run

from manyfest.cli.console import Console
from manyfest.cli.layerprogress import Reading
from manyfest.stores.layout import Layout
from manyfest.testing.images import make_image, make_index
from manyfest.verify.checks import CHECKS

Golden = Callable[[str, str], None]
FINDINGS = Path(__file__).parents[2] / "docs" / "reference" / "findings.md"


@pytest.fixture
def broken(tmp_path: Path) -> str:
    """A layout with an image for arm64 whose command wants an interpreter that is not there."""
    path = str(tmp_path / "broken")
    with Layout.create(path) as store:
        files = {"/app": (b"#!/usr/bin/ruby\n", 0o755), "/tool": (b"#!/bin/sh\r\n", 0o755)}
        make_image(store, "linux/arm64", files=files, entrypoint=["/app"], tag="v1")
    return f"oci:{path}:v1"


@pytest.fixture
def good(tmp_path: Path) -> str:
    """A layout with an index of four platforms."""
    path = str(tmp_path / "good")
    with Layout.create(path) as store:
        make_index(store, ("linux/amd64", "linux/arm64", "linux/arm/v7", "linux/s390x"), tag="v1")
    return f"oci:{path}:v1"


def test_a_good_image(run: Run, good: str, golden: Golden) -> None:
    """A table, and one line that says so."""
    golden("cli/verify.txt", run("verify", good, "--strict").out)
    assert "read 0 layers (0 B), knew 4" in run("verify", good).last


def test_from_a_registry(run: Run, app: str) -> None:
    """Layers are streamed from it."""
    assert run("verify", f"{app}:attested", "--no-cache").last.startswith("ok: 0 errors")


def test_a_broken_image(run: Run, broken: str, golden: Golden) -> None:
    """Exit 1, and what docker run would say."""
    ran = run("verify", broken, ok=False)
    assert ran.code == 1
    golden("cli/verify-broken.txt", ran.out)


def test_as_json(run: Run, broken: str, golden: Golden) -> None:
    """One document, as documented."""
    ran = run("verify", broken, "--json", ok=False)
    assert ran.code == 1
    golden("cli/verify-broken.json", ran.out.replace(broken, "oci:LAYOUT:v1"))


def test_as_sarif(run: Run, broken: str) -> None:
    """For code scanning."""
    ran = run("verify", broken, "--sarif", ok=False)
    assert ran.code == 1
    assert [result["ruleId"] for result in json.loads(ran.out)["runs"][0]["results"]] == ["MF307", "MF308"]


def test_strict_turns_warnings_into_errors(run: Run, tmp_path: Path) -> None:
    """And only then."""
    path = str(tmp_path / "layout")
    with Layout.create(path) as store:
        files = {"/tool": (b"#!/bin/sh\r\n", 0o755)}
        make_image(store, files=files, entrypoint=[], tag="v1")
    assert run("verify", f"oci:{path}:v1").code == 0
    assert run("verify", f"oci:{path}:v1", "--strict", ok=False).code == 1


def test_allowed_in_a_file(run: Run, broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named, or lying here."""
    rules = tmp_path / "rules.yaml"
    rules.write_text("allow:\n- {id: [MF307, MF308], path: '/*', reason: ruby comes from a volume}\n")
    ran = run("verify", broken, "--allow", str(rules), "--strict")
    assert "2 allowed" in ran.last
    monkeypatch.chdir(tmp_path)
    rules.rename(tmp_path / ".manyfest-allow.yaml")
    assert run("verify", broken).code == 0


def test_expected_platforms(run: Run, good: str) -> None:
    """What is not there is an error; commas and repetition."""
    run("verify", good, "--expect", "linux/amd64,linux/arm", "--expect", "linux/s390x")
    ran = run("verify", good, "--expect", "linux/riscv64", ok=False)
    assert ran.code == 1
    assert "MF105" in ran.out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--sarif", "--json"], "two forms of the same"),
        (["--max-bytes", "many"], "expected a size such as 500M"),
        (["--platform", "linux/riscv64"], "no image for linux/riscv64"),
        (["--allow", "/nowhere.yaml"], "/nowhere.yaml"),
    ],
)
def test_wrong_usage(run: Run, good: str, options: list[str], says: str) -> None:
    """Exit 2, with a sentence."""
    ran = run("verify", good, *options, ok=False)
    assert ran.code == 2
    assert says in ran.err


def test_a_limit_on_layers(run: Run, good: str) -> None:
    """--max-bytes bounds what a layer unpacks to."""
    ran = run("verify", good, "--max-bytes", "1k", "--no-cache", ok=False)
    assert ran.code == 1
    assert "MF510" in ran.out


def test_many_alike_are_counted(run: Run, tmp_path: Path) -> None:
    """Five are shown, the rest are in the JSON."""
    path = str(tmp_path / "layout")
    with Layout.create(path) as store:
        files = {f"/tool{i}": (b"#!/bin/sh\r\n", 0o755) for i in range(9)}
        make_image(store, files=files, entrypoint=[], tag="v1")
    out = run("verify", f"oci:{path}:v1").out
    assert "warning MF308: 4 more; --json lists all" in out
    assert "MF301" not in out
    assert "MF301" in run("verify", f"oci:{path}:v1", "--notes").out


class Terminal(io.StringIO):
    """A standard error that is looked at."""

    def isatty(self) -> bool:
        """Yes."""
        return True


@pytest.mark.parametrize(
    ("total", "quiet", "drawn"), [(1000, False, False), (9_000_000, False, True), (9_000_000, True, False)]
)
def test_a_bar_where_there_is_much_to_read(total: int, quiet: bool, drawn: bool) -> None:
    """On a terminal, and only there."""
    shown = Terminal()
    with Reading(Console(quiet=quiet, err=shown)) as reading:
        reading.on_plan(total)
        reading.on_bytes(total)
    assert ("reading layers" in shown.getvalue()) == drawn


def test_every_check_has_its_section() -> None:
    """In the order of their ids, with the name and the severity that the code has."""
    page = FINDINGS.read_text(encoding="utf-8")
    headings = re.findall(r"^### (MF\d+) ([a-z0-9-]+)\n\n\*([a-z]+)", page, re.MULTILINE)
    assert headings == [(check.id, check.name, check.severity) for check in CHECKS.values()]
