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


def keys_of(command: str) -> set[str]:
    """Every key that is named in a command's rows, in its paragraph, or in a section with its name."""
    rows = [line for line in PAGE.splitlines() if re.match(rf"\| [^|]*`{command}[`\[ ]", line)]
    paragraphs = re.findall(rf"(?ms)^`{command}`[:,].*?\n\n", PAGE)
    sections = [text for text in PAGE.split("\n## ") if command in text.partition("\n")[0].split()]
    return set(re.findall(r"`(\w+)`", "\n".join([*rows, *paragraphs, *sections])))


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
    """The document and its items have no key that the page does not name."""
    name = command.split()[0]
    document: dict[str, Any] = json.loads(shell.run(f"manyfest -q {command} --json"))
    assert document.keys() <= keys_of(name)
    for item in document[items]:
        assert item.keys() <= keys_of(name)
