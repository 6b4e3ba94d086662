# SPDX-License-Identifier: Apache-2.0
"""docs/reference/json.md and what checks print agree; tests/cli holds the commands of lists to it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from tests.docs.pages import DOCS
from tests.docs.world import Shell

PAGE = (DOCS / "reference" / "json.md").read_text(encoding="utf-8")


def keys_of_row(command: str) -> set[str]:
    """Every key that the row of a command names."""
    row = next(line for line in PAGE.splitlines() if re.match(rf"\| [^|]*`{command}`[^|]* \|", line))
    return set(re.findall(r"`(\w+)`", row.split(" | ", 1)[1]))


def keys_below(command: str) -> set[str]:
    """And its paragraph below the table."""
    found = re.search(rf"(?ms)^`{command}`[:,].*?\n\n", PAGE)
    return set(re.findall(r"`(\w+)`", found[0])) if found else set()


@pytest.mark.parametrize(
    ("command", "items"),
    [
        ("verify oci:tour/images:s390x", "platforms"),
        ("check ghcr.io/acme/app:1.0-amd64 --platform linux/amd64", "images"),
        ("nodes --platform linux/amd64,linux/arm64", "nodes"),
        ("emulators", "handlers"),
    ],
)
def test_keys(command: str, items: str, shell: Shell) -> None:
    """The document has the keys of the row, its items those of the paragraph."""
    name = command.split()[0]
    document: dict[str, Any] = json.loads(shell.run(f"manyfest {command} --json"))
    assert document.keys() <= keys_of_row(name)
    for item in document[items]:
        assert item.keys() <= keys_below(name)
