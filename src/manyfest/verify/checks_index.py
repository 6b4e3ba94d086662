# SPDX-License-Identifier: Apache-2.0
"""Checks of what the documents say: the index against itself, and against the images' own configurations."""

from __future__ import annotations

from manyfest.platforms import AnyOf, normalise
from manyfest.verify.checks import ERROR, WARNING, Findings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from manyfest.content.descriptor import Descriptor
    from manyfest.content.document import ImageConfig, Manifest
    from manyfest.platforms import Platform

__all__ = ["check_config", "check_entries", "check_expected"]


def check_entries(entries: Sequence[Descriptor], findings: Findings) -> None:
    """Missing, unknown and duplicate platforms; attestations of nothing."""
    there = {str(entry.digest) for entry in entries}
    seen: dict[Platform, Descriptor] = {}
    for entry in entries:
        if entry.is_attestation:
            if entry.attests and entry.attests not in there:
                message = (
                    f"the attestation {entry.digest.short} speaks of {entry.attests[:19]}, which is not there"
                )
                findings.add("MF108", message)
            continue
        platform = entry.platform
        if platform is None:
            findings.add(
                "MF102", f"the entry {entry.digest.short} says no platform, so few engines ever choose it"
            )
            continue
        if platform.is_unknown:
            continue
        _check_known(platform, findings)
        normal = normalise(platform)
        other = seen.setdefault(normal, entry)
        if other is not entry:
            same = "twice the same image" if other.digest == entry.digest else "two images"
            message = (
                f"{same} for {platform}: {other.digest.short} and {entry.digest.short}; the first is chosen"
            )
            severity = WARNING if other.digest == entry.digest else ERROR
            hint = "drop the one that is out of date: manyfest drop"
            findings.add("MF103", message, severity, platform=str(platform), hint=hint)


def _check_known(platform: Platform, findings: Findings) -> None:
    if platform.is_known:
        return
    near = platform.suggestion
    hint = (
        f"did you mean {near}? Change it with manyfest annotate"
        if near
        else "platforms are named as Go names them"
    )
    findings.add("MF104", f"no engine runs on {platform}", platform=str(platform), hint=hint)


def check_expected(found: Iterable[Platform], expected: Iterable[Platform], findings: Findings) -> None:
    """Each platform that must be there; one without a variant is there in any."""
    there = list(found)
    listed = ", ".join(map(str, there)) or "none"
    for platform in expected:
        if any(_is(platform, each) for each in there):
            continue
        message = f"{platform} was expected and is not there; there is {listed}"
        findings.add("MF105", message, platform=str(platform), hint="build it, or expect fewer platforms")


def _is(wanted: Platform, found: Platform) -> bool:
    if AnyOf(wanted).matches(found):
        return True
    return not wanted.variant and normalise(wanted.replace(variant=found.variant)) == normalise(found)


def check_config(
    claimed: Platform | None, config: ImageConfig, manifest: Manifest, findings: Findings
) -> None:
    """The entry of the index against the image's own configuration, and that against the manifest."""
    own = config.platform
    if claimed is not None:
        _check_claim(claimed, own, findings)
    elif not own.is_complete:
        findings.add("MF102", "the image's configuration says no platform", platform=str(own))
    else:
        _check_known(own, findings)
    if config.diff_ids and len(config.diff_ids) != len(manifest.layers):
        message = (
            f"the configuration lists {len(config.diff_ids)} layers, the manifest {len(manifest.layers)}"
        )
        findings.add("MF109", message, platform=str(claimed or own))


def _check_claim(claimed: Platform, own: Platform, findings: Findings) -> None:
    here, there = normalise(claimed), normalise(own)
    message = f"the index says {claimed}, the image's configuration {own}"
    hint = "build the image for the right platform, or correct the index with manyfest annotate"
    if (here.os, here.architecture) != (there.os, there.architecture):
        if own.is_complete:
            findings.add("MF101", message, ERROR, platform=str(claimed), hint=hint)
        else:
            findings.add("MF101", message, WARNING, platform=str(claimed), hint=hint)
        return
    if claimed.variant and own.variant and here.variant != there.variant:
        findings.add("MF101", message, ERROR, platform=str(claimed), hint=hint)
    elif not claimed.variant and own.variant and here.variant != there.variant:
        findings.add("MF101", message, WARNING, platform=str(claimed), hint=hint)
    if claimed.os_version and own.os_version and claimed.os_version != own.os_version:
        findings.add("MF101", message, WARNING, platform=str(claimed), hint=hint)
