# SPDX-License-Identifier: Apache-2.0
"""docs/reference/json.md says what comes out, and nothing else does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Run

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "json.md").read_text(encoding="utf-8")


def keys_of_table(section: str, after: str = "") -> set[str]:
    """The keys in the first column of the first table of a section, after some text."""
    text = PAGE.partition(f"## {section}\n")[2].partition("\n## ")[0].partition(after)[2] if after else ""
    text = text or PAGE.partition(f"## {section}\n")[2].partition("\n## ")[0]
    rows = re.split(r"\n\n(?!\|)", text.partition("|---")[2])[0].splitlines()
    return {key for row in rows for key in re.findall(r"`(\w+)`", row.split(" | ")[0])}


def keys_of_command(command: str) -> set[str]:
    """What the table of other commands says."""
    others = PAGE.partition("\n## Other commands\n")[2].splitlines()
    rows = [line for line in others if f"`{command}`" in line.partition(" | ")[0]]
    return set(re.findall(r"`(\w+)`", rows[0].partition(" | ")[2]))


def keys(value: Any) -> set[str]:
    """Of a document."""
    return set(value)


def test_inspect(run: Run, app: str) -> None:
    """The document, and each of its platforms."""
    shown = run("inspect", f"{app}:attested", "--all", "--json").json
    assert keys(shown) == keys_of_table("inspect")
    assert keys(shown["platforms"][0]) == keys_of_table("inspect", "Each of `platforms`:")


def test_create_and_push(run: Run, app: str) -> None:
    """The list's commands."""
    assert keys(run("create", f"{app}:1", f"{app}:amd64", "--json").json) == keys_of_table("create")
    pushed = run("push", f"{app}:1", "--json").json
    assert keys(pushed) == keys_of_table("push")
    told = PAGE.partition("`transfer`: ")[2].partition("\n\n")[0]
    assert keys(pushed["transfer"]) == set(re.findall(r"`(\w+)`", told))


def test_prune(run: Run, app: str) -> None:
    """The document, and each of its tags."""
    shown = run("prune", app, "--keep", "a*", "--json", "--dry-run").json
    assert keys(shown) == keys_of_table("prune")
    row = keys_of_table("prune", "Each of `kept`, `deleted` and `left`:")
    assert keys(shown["deleted"][0]) == row
    assert keys(shown["kept"][0]) == row | {"reason"}


def test_resolve_explain(run: Run, app: str) -> None:
    """Every engine."""
    shown = run("resolve", f"{app}:attested", "--platform", "linux/arm64", "--explain", "--json").json
    for engine in shown["engines"]:
        assert keys(engine) == keys_of_table("resolve --explain", "Each of `engines`:")
        assert keys(engine["rejected"][0]) == {"digest", "platform", "reason"}


def test_the_others(run: Run, app: str, host: str, layout: str) -> None:
    """One row each."""
    run("create", f"{app}:1", f"{app}:amd64")
    documents = {
        "annotate": [
            run("annotate", f"{app}:1", f"{app}:amd64", "--variant", "v2", "--json").json,
            run("annotate", f"{app}:attested", "--annotation", "a=b", "--json").json,
        ],
        "ls": [run("ls", "--json").json],
        "rm": [run("rm", f"{app}:1", "--json").json],
        "add": [run("add", f"{app}:attested", f"{app}:s390x", "--json").json],
        "drop": [run("drop", f"{app}:attested", "linux/s390x", "--json").json],
        "join": [run("join", f"{app}:j", f"{app}:s390x", "--json").json],
        "copy": [
            run("copy", f"{app}:amd64", f"{host}/b:1", "--json").json,
            run("copy", f"{app}:amd64", f"{host}/b:1", "--json", "--dry-run").json,
        ],
        "tags": [run("tags", app, "--json").json],
        "resolve": [run("resolve", f"{app}:amd64", "--platform", "linux/amd64", "--explain", "--json").json],
        "delete": [run("delete", f"{app}:armhf", "--json").json],
        "logout": [run("logout", host, "--json").json],
        "completion": [run("completion", "bash", "--json").json],
        "version": [run("version", "--json").json],
    }
    for command, shown in documents.items():
        documented = keys_of_command(command) - {"path"}
        assert {key for document in shown for key in document} == documented, command


@pytest.mark.parametrize("kind", ["image", "artifact", "index", "missing"])
def test_kinds_are_documented(kind: str) -> None:
    """Those that the code gives."""
    assert f"`{kind}`" in PAGE
