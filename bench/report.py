# SPDX-License-Identifier: Apache-2.0
"""From samples to tables: medians, ratios, targets."""

from __future__ import annotations

import os
import platform
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

__all__ = ["TARGETS", "Target", "has_missed", "machine", "text", "updated"]


class Target(NamedTuple):
    """manyfest may take at most ``most`` times what ``peer`` takes."""

    job: str
    condition: str
    peer: str
    most: float


TARGETS = (
    Target("raw", "tls-50ms", "crane", 0.9),
    Target("create", "tls-50ms", "crane", 0.32),
    Target("copy-repository", "tls-50ms", "crane", 0.5),
    Target("copy-registry", "tls-50ms", "crane", 0.45),
    Target("raw", "tls", "docker", 0.7),
    Target("raw", "tls", "crane", 2.5),
    Target("layer", "http", "crane", 1.0),
    Target("layer", "tls", "crane", 1.0),
    Target("assemble", "http", "docker", 0.15),
    Target("assemble", "http", "buildah", 0.4),
    Target("tar", "http", "crane", 0.3),
)
MOST_MEMORY = {"layer": 150_000_000, "assemble": 200_000_000, "tar": 200_000_000}
"""Bytes that copying a big layer, and building one, may take."""

MOST_REBUILD_S = 0.5
"""Seconds that a build may take beside its start-up when nothing has changed."""

BUILDING = ("assemble", "rebuild", "tar")

TITLES = {
    "version": "Start-up: print the version",
    "raw": "Inspect a list of six, raw",
    "configs": "Inspect a list of six with every config",
    "create": "Create and push a list of six images of its repository",
    "copy-repository": "Copy a list of six to another repository of the registry",
    "copy-registry": "Copy a list of six to another registry",
    "layer": "Copy an image of one 500 MB layer to another registry",
    "assemble": "Build and push six platforms: 300 MB shared, 10 MB each",
    "rebuild": "Build and push the same six again",
    "tar": "Make a layer of a tar archive of 400 MB and push it",
}
_NOTES = {
    "configs": "docker's `--verbose` shows manifests only; crane, skopeo and regctl need a process for each platform.",
    "create": "docker: two processes. buildah: eight.",
    "assemble": "docker: fourteen processes, and an engine whose processor time counts. buildah: two.",
    "rebuild": "As above, nothing having changed.",
}


def machine() -> dict[str, str]:
    """What was measured on, in general terms."""
    processor = platform.machine()
    system = f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return {"cores": str(os.cpu_count()), "processor": processor, "system": system, "python": python}


def ratio(found: Mapping[str, Mapping[str, Any]], peer: str) -> float | None:
    """The median, over the rounds both took part in, of manyfest's time over the peer's in the same round."""
    ours, theirs = (found.get(name, {}).get("wall_s", []) for name in ("manyfest", peer))
    pairs = [mine / other for mine, other in zip(ours, theirs, strict=False)]
    return median(pairs) if pairs else None


def judged(results: Mapping[str, Any]) -> Iterator[tuple[str, float, float]]:
    """Each target that was measured: what it says, what it allows, what was found."""
    measured = results["measured"]
    for target in TARGETS:
        got = ratio(measured.get(target.job, {}).get(target.condition, {}), target.peer)
        if got is not None:
            yield f"{TITLES[target.job]}, {target.condition}, x {target.peer}", target.most, got
    for job, most in MOST_MEMORY.items():
        for condition, found in measured.get(job, {}).items():
            peaks = found.get("manyfest", {}).get("peak_bytes", [])
            if peaks:
                yield f"{TITLES[job]}, {condition}, peak MB", most / 1e6, max(peaks) / 1e6
    yield from _rebuilt(measured)


def _rebuilt(measured: Mapping[str, Any]) -> Iterator[tuple[str, float, float]]:
    again = measured.get("rebuild", {}).get("http", {}).get("manyfest", {})
    started = measured.get("version", {}).get("http", {}).get("manyfest", {})
    if again.get("wall_s"):
        yield f"{TITLES['rebuild']}, requests that send something", 0, again["writes"]
        if started.get("wall_s"):
            beside = median(again["wall_s"]) - median(started["wall_s"])
            yield f"{TITLES['rebuild']}, seconds beside start-up", MOST_REBUILD_S, beside


def updated(before: Mapping[str, Any], now: Mapping[str, Any], date: str) -> dict[str, Any]:
    """``now`` with those jobs of earlier results, of ``date`` or as they say, that it does not have."""
    found = {**before["measured"], **now["measured"]}
    measured = {job: found[job] for job in TITLES if job in found}
    dates = {**dict.fromkeys(before["measured"], date), **before.get("dates", {}), **now["dates"]}
    tools = {**before["tools"], **now["tools"]}
    return {**now, "tools": tools, "dates": {job: dates[job] for job in measured}, "measured": measured}


def has_missed(results: Mapping[str, Any]) -> bool:
    """Is any measured figure over its target?"""
    return any(got > most for _, most, got in judged(results))


def text(results: Mapping[str, Any]) -> str:
    """The whole report in Markdown."""
    parts = ["# Measured\n", _about(results), "## Targets\n", _targets(results)]
    for job, conditions in results["measured"].items():
        parts.append(f"## {TITLES[job]}\n")
        if job in _NOTES:
            parts.append(f"{_NOTES[job]}\n")
        parts.append(_table(conditions, with_use=job in ("layer", *BUILDING)))
    return "\n".join(parts)


def _about(results: Mapping[str, Any]) -> str:
    about = results["machine"]
    lines = [
        f"{about['cores']} cores ({about['processor']}), {about['system']}, {about['python']}. Whole processes, "
        "medians of interleaved and shuffled runs; see `README.md`.\n",
        *(f"- {name}: {version}" for name, version in results["tools"].items()),
        *(f"- {name}: {why}" for name, why in results["missing"].items()),
        *(
            f"- measured on {date}: {', '.join(jobs)}"
            for date, jobs in _dated(results.get("dates", {})).items()
        ),
        "",
    ]
    return "\n".join(lines)


def _dated(dates: Mapping[str, str]) -> dict[str, list[str]]:
    """Jobs by the day they were measured on."""
    return {day: [job for job, date in dates.items() if date == day] for day in sorted(set(dates.values()))}


def _targets(results: Mapping[str, Any]) -> str:
    rows = [
        (
            what,
            f"≤ {most:g}",
            f"{got:.2f}" if got < 10 else f"{got:.0f}",
            "met" if got <= most else "**missed**",
        )
        for what, most, got in judged(results)
    ]
    return _markdown(("figure", "target", "measured", ""), rows)


def _table(conditions: Mapping[str, Mapping[str, Any]], *, with_use: bool) -> str:
    names = list(dict.fromkeys(name for found in conditions.values() for name in found))
    heads = ["tool", "requests / connections"]
    for condition in conditions:
        heads += [f"{condition}, ms", "manyfest x"]
    if with_use:
        heads += ["processor s", "peak MB"]
    rows = []
    for name in names:
        row = [name, _traffic(conditions, name)]
        for found in conditions.values():
            row += _cells(found, name)
        if with_use:
            entries = [found.get(name, {}) for found in conditions.values()]
            spent = [seconds for entry in entries for seconds in entry.get("cpu_s", [])]
            peaks = [peak for entry in entries for peak in entry.get("peak_bytes", [])]
            row += [f"{median(spent):.1f}" if spent else "", f"{max(peaks) / 1e6:.0f}" if peaks else ""]
        rows.append(tuple(row))
    return _markdown(heads, rows)


def _traffic(conditions: Mapping[str, Mapping[str, Any]], name: str) -> str:
    """From the last condition that knows: TLS where there is the choice, and far ones know the connections."""
    entries = [found[name] for found in conditions.values() if "requests" in found.get(name, {})]
    if not entries or not entries[-1]["requests"]:
        return ""
    last = entries[-1]
    return f"{last['requests']} / {'?' if last['connections'] is None else last['connections']}"


def _cells(found: Mapping[str, Mapping[str, Any]], name: str) -> list[str]:
    entry = found.get(name)
    if entry is None:
        return ["", ""]
    if not entry.get("wall_s"):
        return ["failed", ""]
    share = ratio(found, name)
    shown = "" if share is None or name == "manyfest" else f"{share:.2f}"
    return [f"{median(entry['wall_s']) * 1000:.{1 if median(entry['wall_s']) < 0.1 else 0}f}", shown]


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    numbers = ["---" if at == 0 else "---:" for at in range(len(heads))]
    lines = [heads, numbers, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
