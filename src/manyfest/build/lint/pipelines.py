# SPDX-License-Identifier: Apache-2.0
"""GitHub and GitLab CI files: a matrix whose jobs overwrite each other's tag, and what scripts in them do.

The lines of ``run:`` and ``script:`` blocks are read like shell scripts, where they stand in the file.
"""

from __future__ import annotations

import re

from manyfest.build.lint.finding import RULES, Finding
from manyfest.build.lint.scripts import inspect_script

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    import yaml

__all__ = ["inspect_pipeline"]

# Runners of several architectures, or of one that the file does not say. On one known machine a tool for it is right.
_RUNNERS = re.compile(r"^\s*-?\s*(?:runs-on|tags):.*(?:\$|\barm)", re.MULTILINE)
_PUSH_ACTION = "docker/build-push-action"


def inspect_pipeline(path: str, text: str) -> Iterator[Finding]:
    """Every finding in one pipeline file."""
    import yaml

    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else 1
        yield Finding(
            RULES["unreadable"], path, line, f"not YAML: {getattr(error, 'problem', None) or error}"
        )
        return
    for finding in inspect_script(path, text):
        if finding.rule.name != "one-arch-download":
            yield finding
        elif _RUNNERS.search(text):
            yield finding.replace(fixed=finding.fixed if "\n" not in finding.fixed else "")
    for job in _children(_child(root, "jobs")):
        yield from _github_job(path, job)
    for job in _children(root):
        yield from _gitlab_job(path, job)


def _github_job(path: str, job: yaml.Node) -> Iterator[Finding]:
    matrix = _child(_child(job, "strategy"), "matrix")
    if matrix is None or not _names_platforms(matrix):
        return
    for step in _items(_child(job, "steps")):
        uses, inputs = _text(_child(step, "uses")), _child(step, "with")
        if not uses.startswith(_PUSH_ACTION) or inputs is None:
            continue
        tags, outputs = _child(inputs, "tags"), _text(_child(inputs, "outputs"))
        pushes = _text(_child(inputs, "push")) == "true" or "type=registry" in outputs
        if tags is None or not pushes or "push-by-digest" in outputs or "matrix." in _text(tags):
            continue
        yield Finding(
            RULES["last-writer-wins"],
            path,
            tags.start_mark.line + 1,
            "every job of the matrix pushes the same tag",
            "push a tag of its own per job (tags: …-${{ matrix.arch }}), then: manyfest join NAME NAME-ARCH",
        )


def _gitlab_job(path: str, job: yaml.Node) -> Iterator[Finding]:
    matrix = _child(_child(job, "parallel"), "matrix")
    if matrix is None or not _names_platforms(matrix):
        return
    names = _matrix_names(matrix)
    for line in _items(_child(job, "script")):
        text = _text(line)
        pushed = re.search(r"\bdocker\s+(?:image\s+)?push\s+(\S+)", text)
        if pushed is None or any(name in pushed[1] for name in names) or pushed[1].count("$") > 3:
            continue
        yield Finding(
            RULES["last-writer-wins"],
            path,
            line.start_mark.line + 1,
            "every job of the matrix pushes the same tag",
            f"push a tag of its own per job, then: manyfest join {pushed[1].strip(chr(34))} …",
        )


def _names_platforms(matrix: yaml.Node) -> bool:
    """Does a matrix run over platforms?"""
    return bool(re.search(r"amd64|arm64|arm/v|s390x|ppc64le|aarch64|x86_64|riscv64", _flat(matrix)))


def _matrix_names(matrix: yaml.Node) -> set[str]:
    return {_text(key) for item in _items(matrix) for key, _ in _pairs(item)}


def _child(node: yaml.Node | None, key: str) -> yaml.Node | None:
    return next((value for name, value in _pairs(node) if name.value == key), None)


def _children(node: yaml.Node | None) -> list[yaml.Node]:
    return [value for _, value in _pairs(node)]


def _pairs(node: yaml.Node | None) -> list[tuple[yaml.Node, yaml.Node]]:
    import yaml

    return list(node.value) if isinstance(node, yaml.MappingNode) else []


def _items(node: yaml.Node | None) -> list[yaml.Node]:
    import yaml

    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def _text(node: yaml.Node | None) -> str:
    import yaml

    return str(node.value) if isinstance(node, yaml.ScalarNode) else ""


def _flat(node: yaml.Node) -> str:
    """Every text below a node."""
    inner = [*_items(node), *(part for pair in _pairs(node) for part in pair)]
    return " ".join([_text(node), *map(_flat, inner)])
