# SPDX-License-Identifier: Apache-2.0
"""The bench's arithmetic: ratios of the same round, targets met and missed, tables that say what failed."""

from __future__ import annotations

from typing import Any

import pytest
from bench import report


def entry(*walls: float, peak: int = 30_000_000, requests: int = 1) -> dict[str, Any]:
    return {
        "first_s": walls[0],
        "requests": requests,
        "connections": 1,
        "wall_s": list(walls),
        "cpu_s": list(walls),
        "peak_bytes": [peak] * len(walls),
    }


def results(job: str, condition: str, **tools: dict[str, Any]) -> dict[str, Any]:
    about = {"cores": "2", "processor": "x86_64", "system": "Linux 6.1", "python": "CPython 3.11.2"}
    return {
        "machine": about,
        "tools": {name: f"{name} 1.0" for name in tools},
        "missing": {"manifest-tool": "not available"},
        "measured": {job: {condition: tools}},
    }


def test_a_ratio_is_of_the_same_round() -> None:
    """A busy minute slows both: 2/1, 20/10 and 2/1, never 2/10."""
    found = {"manyfest": entry(2.0, 20.0, 2.0), "crane": entry(1.0, 10.0, 1.0)}
    assert report.ratio(found, "crane") == 2.0


def test_a_slow_tool_with_fewer_rounds_is_compared_in_those() -> None:
    """It takes part in the first rounds only."""
    found = {"manyfest": entry(1.0, 1.0, 9.0), "skopeo": entry(10.0, 10.0)}
    assert report.ratio(found, "skopeo") == pytest.approx(0.1)


def test_no_ratio_with_a_tool_that_is_not_there() -> None:
    """Nor with one that failed."""
    assert report.ratio({"manyfest": entry(1.0)}, "crane") is None
    assert report.ratio({"manyfest": entry(1.0), "crane": {"failed": "exit status 1"}}, "crane") is None


@pytest.mark.parametrize(("ours", "missed"), [(0.89, False), (0.9, False), (0.91, True)])
def test_a_target_is_the_most_that_is_allowed(ours: float, missed: bool) -> None:
    """Raw inspect at 50 ms over TLS: at most 0.9 times crane."""
    found = results("raw", "tls-50ms", manyfest=entry(ours), crane=entry(1.0))
    assert report.has_missed(found) is missed
    assert ("**missed**" in report.text(found)) is missed


def test_memory_of_the_big_layer_is_a_target_too() -> None:
    """The largest of all runs counts."""
    fits = results("layer", "http", manyfest=entry(0.5, peak=149_000_000), crane=entry(1.0))
    over = results("layer", "http", manyfest=entry(0.5, peak=151_000_000), crane=entry(1.0))
    assert not report.has_missed(fits)
    assert report.has_missed(over)


def test_a_rebuild_sends_nothing_and_costs_no_more_than_its_start() -> None:
    """Half a second beside start-up."""
    found = results("rebuild", "http", manyfest={**entry(0.6), "writes": 0})
    found["measured"]["version"] = {"http": {"manyfest": entry(0.2)}}
    assert not report.has_missed(found)
    found["measured"]["rebuild"]["http"]["manyfest"]["writes"] = 1
    assert report.has_missed(found)
    found["measured"]["rebuild"]["http"]["manyfest"] |= {"writes": 0, "wall_s": [0.8]}
    assert report.has_missed(found)


def test_jobs_may_be_measured_on_several_days() -> None:
    """A new figure replaces the old one of the same job; what is old is said to be."""
    old = results("raw", "http", manyfest=entry(1.0), crane=entry(1.0))
    old["measured"]["tar"] = {"http": {"manyfest": entry(3.0)}}
    new = {**results("tar", "http", manyfest=entry(2.0)), "dates": {"tar": "2026-11-28"}}
    both = report.updated(old, new, "2026-11-25")
    assert both["dates"] == {"raw": "2026-11-25", "tar": "2026-11-28"}
    assert both["measured"]["tar"]["http"]["manyfest"]["wall_s"] == [2.0]
    assert set(both["tools"]) == {"manyfest", "crane"}
    assert "- measured on 2026-11-25: raw\n- measured on 2026-11-28: tar\n" in report.text(both)


def test_a_tool_that_failed_is_shown_as_failed() -> None:
    """And what is not installed is said at the top."""
    text = report.text(results("raw", "http", manyfest=entry(0.05), docker={"failed": "exit status 1"}))
    assert "| docker |  | failed |  |" in text
    assert "- manifest-tool: not available" in text
