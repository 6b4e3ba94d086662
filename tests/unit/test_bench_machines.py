# SPDX-License-Identifier: Apache-2.0
"""The bench's page of machines: targets met and missed, rows in order, what was not measured left empty."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bench import machines

ABOUT = {"cores": "2", "processor": "x86_64", "system": "Linux 6.1", "python": "CPython 3.11.2"}
ROOT = Path(__file__).parents[2]


def row(**found: float) -> dict[str, object]:
    return {"date": "2026-11-28", "found": found}


@pytest.mark.parametrize(
    ("found", "names"),
    [
        ({"create": 60.0, "ready": 60.0, "memory": 1500.0}, []),
        ({"create": 60.1, "ready": 1.0, "memory": 1501.0}, ["create", "memory"]),
        ({"ready": 61.0, "again": 900.0}, ["ready"]),
    ],
)
def test_targets(found: dict[str, float], names: list[str]) -> None:
    """At most; what has none, and what was not measured, is not judged."""
    assert machines.missed(found) == names


def test_page() -> None:
    """A row for each architecture that was measured."""
    told = machines.page({"s390x": row(create=20.123, ready=70.0), "arm64": row(create=9.0)}, ABOUT)
    rows = [line for line in told.splitlines() if line.startswith("|")][2:]
    assert rows == [
        "| arm64 | 9 |  |  |  |  |  |  |  | 2026-11-28 |",
        "| s390x | 20.1 |  | **70** |  |  |  |  |  | 2026-11-28 |",
    ]
    assert "create at most 60, start to engine at most 60, QEMU at most 1500" in told


def test_what_is_kept_is_what_is_shown() -> None:
    """The page was made of the figures beside it, all architectures in it."""
    kept = json.loads((ROOT / "bench/results/machines.json").read_text())
    shown = (ROOT / "bench/results/machines.md").read_text()
    assert sorted(kept) == sorted(machines.ARCHITECTURES)
    assert machines.page(kept, ABOUT).partition("Targets")[2] == shown.partition("Targets")[2]
