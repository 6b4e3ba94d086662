# SPDX-License-Identifier: Apache-2.0
"""``resolve --explain``: which entry every engine takes on one machine, and why the others lost."""

from __future__ import annotations

from manyfest.cli.render import table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from manyfest.coverage.rules import Choice, Host, Rule
    from manyfest.indexes.listing import Listing
    from manyfest.indexes.nearest import Nearest
    from manyfest.platforms import Platform
    from manyfest.stores.base import Source

__all__ = ["choices", "nearest_to", "text", "to_json"]


def choices(listing: Listing, host: Host, platform: Platform | None = None) -> list[tuple[Rule, Choice]]:
    """Every engine's choice on ``host``; ``platform`` is what was asked for by name, as with docker's option."""
    from manyfest.coverage.rules import rules

    return [(rule, rule.choose(host, listing, platform)) for rule in rules()]


def text(made: list[tuple[Rule, Choice]]) -> str:
    """A table of choices, then of what each loser lost by; engines that say the same are told once."""
    rows = [
        (
            rule.title,
            "nothing" if choice.entry is None else str(choice.platform or "says no platform"),
            "-" if choice.entry is None else choice.entry.digest[7:19],
            choice.reason,
        )
        for rule, choice in made
    ]
    parts = [table(("ENGINE", "TAKES", "DIGEST", "WHY"), rows)]
    told: dict[tuple[tuple[str, str, str], ...], list[str]] = {}
    for rule, choice in made:
        lost = tuple(
            (str(entry.known or "-"), entry.digest[7:19], reason)
            for entry, reason in choice.rejected
            if entry.kind != "attestation"
        )
        if lost:
            told.setdefault(lost, []).append(rule.title)
    for lost, titles in told.items():
        parts.append(f"lost with {'; '.join(titles)}\n{table(('PLATFORM', 'DIGEST', 'BECAUSE'), lost)}")
    return "\n\n".join(parts)


def to_json(made: list[tuple[Rule, Choice]]) -> list[dict[str, Any]]:
    """The shape of ``docs/reference/json.md``."""
    return [
        {
            "engine": rule.id,
            "title": rule.title,
            "digest": None if choice.entry is None else choice.entry.digest,
            "platform": None if choice.platform is None else str(choice.platform),
            "reason": choice.reason,
            "rejected": [
                {
                    "digest": entry.digest,
                    "platform": None if entry.known is None else str(entry.known),
                    "reason": reason,
                }
                for entry, reason in choice.rejected
            ],
            "evidence": list(rule.evidence),
        }
        for rule, choice in made
    ]


def nearest_to(source: Source, tag: str, platform: Platform, *, strict: bool) -> Nearest:
    """The nearest tags that have a platform, or with ``strict`` exactly that one."""
    from manyfest.indexes.nearest import nearest
    from manyfest.platforms import Only, OnlyStrict

    matcher = OnlyStrict(platform) if strict else Only(platform)
    return nearest(source, tag, lambda listing: any(matcher.matches(each) for each in listing.platforms))
