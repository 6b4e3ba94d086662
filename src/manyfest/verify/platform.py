# SPDX-License-Identifier: Apache-2.0
"""One platform's image: its layers laid over each other, its command followed, its files looked at."""

from __future__ import annotations

from manyfest.verify.checks import ERROR, NOTE, WARNING, Finding, Findings
from manyfest.verify.checks_files import check_files
from manyfest.verify.entry import Start, command_of, environment_of, start
from manyfest.verify.programs import Programs
from manyfest.verify.report import ImageReport
from manyfest.verify.tree import Tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from manyfest.content.document import ImageConfig
    from manyfest.platforms import Platform
    from manyfest.verify.layers import Layer

__all__ = ["judge_image"]


def judge_image(
    platform: Platform,
    config: ImageConfig,
    digest: str,
    layers: Sequence[Layer | Finding],
    layer_digests: Sequence[str],
    findings: Findings,
) -> ImageReport:
    """Judge an image of layers that were read, or of findings that say why one was not."""
    readable = [layer for layer in layers if not isinstance(layer, Finding)]
    complete = len(readable) == len(layers)
    for layer in layers:
        if isinstance(layer, Finding):
            findings.found.append(layer.replace(platform=str(platform)))
    digests = [layer.digest for layer in readable]
    _check_contents(platform, config, layers, findings)
    tree = Tree(readable)
    _add_oddities(platform, tree, readable, findings)
    begun, counts = _look_inside(platform, config, tree, digests, findings, complete=complete)
    return ImageReport(
        str(platform),
        digest,
        config_platform=str(config.platform),
        start=begun.to_json() if begun is not None else None,
        counts=counts,
        layers=[_layer_json(layer, each) for layer, each in zip(layers, layer_digests, strict=True)],
        complete=complete,
    )


def _look_inside(
    platform: Platform,
    config: ImageConfig,
    tree: Tree,
    digests: Sequence[str],
    findings: Findings,
    *,
    complete: bool,
) -> tuple[Start | None, dict[str, int]]:
    settings = config.settings
    programs = Programs(tree, platform, environment_of(settings))
    begun = Start(())
    # With a layer missing, what seems not to be there may be in it.
    follow = platform.os in ("linux", "windows") and complete
    if follow:
        begun = _started(programs, settings)
        _add_start(platform, begun, tree, digests, findings)
    counts = check_files(programs, begun, digests, findings, complete=complete)
    if follow and not any(command_of(settings)):
        message = "the image names no command, so it needs one on the command line"
        findings.add("MF301", message, NOTE, platform=str(platform))
    return (begun if follow else None), counts


def _started(programs: Programs, settings: dict[str, Any]) -> Start:
    if programs.platform.os != "windows":
        return start(programs, settings)
    from manyfest.verify import windows  # few look at those

    return windows.start(programs, settings)


def _add_start(
    platform: Platform, begun: Start, tree: Tree, digests: Sequence[str], findings: Findings
) -> None:
    for problem in begun.problems:
        node = tree.find(f"/{problem.path}", follow=False).node
        layer = digests[node.layer] if node is not None and 0 <= node.layer < len(digests) else ""
        severity = problem.severity or (WARNING if problem.check == "MF313" else ERROR)
        message = f"the image does not start: {problem.message}" if severity == ERROR else problem.message
        path = problem.path if problem.path.startswith("/") else f"/{problem.path}"
        findings.add(
            problem.check,
            message,
            severity,
            platform=str(platform),
            path=path,
            layer=layer,
            hint=problem.hint,
            says=problem.says,
        )
    if begun.second and not begun.problems:
        message = f"{' '.join(begun.argv[:1])} is 32-bit code, or of an older architecture, which not every processor "
        message += f"for {platform} runs ({'; '.join(begun.chain[:2])})"
        findings.add("MF203", message, platform=str(platform), path=f"/{begun.argv[0].lstrip('/')}")


def _check_contents(
    platform: Platform, config: ImageConfig, layers: Sequence[Layer | Finding], findings: Findings
) -> None:
    for expected, layer in zip(config.diff_ids, layers, strict=False):
        if isinstance(layer, Finding) or expected.algorithm != "sha256" or str(expected) == layer.diff_id:
            continue
        message = (
            f"the layer {layer.digest[7:19]} unpacks to {layer.diff_id[:19]}, and the configuration says "
        )
        message += str(expected)[:19]
        hint = "engines refuse it; push the image again from where it was built"
        findings.add("MF110", message, platform=str(platform), layer=layer.digest, hint=hint)


def _add_oddities(platform: Platform, tree: Tree, layers: Sequence[Layer], findings: Findings) -> None:
    found = [(layer.digest, oddity) for layer in layers for oddity in layer.oddities]
    found += [(layers[position].digest, oddity) for position, oddity in tree.oddities]
    grouped: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for digest, oddity in found:
        grouped.setdefault((oddity.check, digest), []).append((oddity.path, oddity.message))
    for (check, digest), each in grouped.items():
        path, message = each[0]
        more = f" (and {len(each) - 1} more)" if len(each) > 1 else ""
        shown = f"/{path.lstrip('/')}"
        findings.add(check, f"{shown}: {message}{more}", platform=str(platform), path=shown, layer=digest)


def _layer_json(layer: Layer | Finding, digest: str) -> dict[str, Any]:
    if isinstance(layer, Finding):
        return {"digest": digest, "size": None, "unpacked_size": None, "entries": None, "packing": ""}
    return {
        "digest": digest,
        "size": layer.size,
        "unpacked_size": layer.unpacked,
        "entries": len(layer.entries),
        "packing": layer.packing or "none",
    }
