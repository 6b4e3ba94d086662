# SPDX-License-Identifier: Apache-2.0
"""How an image was built, as SLSA Provenance 1.0 (https://slsa.dev/spec/v1.1/provenance).

What the fields mean is in ``docs/reference/attestations.md``, which is this build type's description. There is no time
and no number of the run in it: the same build gives the same bytes. Values of build arguments that look like secrets
are left out.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from manyfest import __version__
from manyfest.build.expand import PROXIES
from manyfest.build.purl import image
from manyfest.build.redact import redacted
from manyfest.values import Value

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from manyfest.build.assemble import Assembler
    from manyfest.build.engines import Choice
    from manyfest.build.git import Revision
    from manyfest.build.options import Options
    from manyfest.build.project import Project

__all__ = ["BUILDER", "BUILD_TYPE", "PREDICATE", "Run", "predicate"]

PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "https://pypi.org/project/manyfest/#build-v1"
BUILDER = "https://pypi.org/project/manyfest/#local"
"""The builder where nobody names another: whoever has the command, on a machine of theirs."""


class Run(Value):
    """One platform's build. ``assemblers``: its own first, then that of what was built before."""

    __slots__ = ("assemblers", "choice", "options", "project")
    assemblers: tuple[Assembler, ...]
    choice: Choice | None
    options: Options
    project: Project

    def __init__(
        self, project: Project, options: Options, assemblers: tuple[Assembler, ...], choice: Choice | None
    ) -> None:
        self._set(project=project, options=options, assemblers=assemblers, choice=choice)


def predicate(run: Run) -> dict[str, Any]:
    """The predicate about an image that came out of ``run``."""
    options, own = run.options, run.assemblers[0]
    builder = "embedded" if run.choice is None else run.choice.builder.name
    is_whole = options.attest.provenance == "max"
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": _external(run, is_whole=is_whole),
            "internalParameters": {
                "builderPlatform": str(own.host),
                "builder": builder,
                "sourceDateEpoch": options.epoch,
            },
            "resolvedDependencies": [*_images(run.assemblers), *_source(options.revision)],
        },
        "runDetails": {
            "builder": {
                "id": options.attest.builder_id or BUILDER,
                "version": {"manyfest": __version__},
            },
            "metadata": {
                "manyfest_completeness": {"request": is_whole, "resolvedDependencies": False},
                **_vcs(options.revision),
            },
        },
    }


def _external(run: Run, *, is_whole: bool) -> dict[str, Any]:
    options, project, own = run.options, run.project, run.assemblers[0]
    revision = options.revision
    found: dict[str, Any] = {
        "configSource": {
            **(_pin(revision) if revision is not None and revision.is_clean else {}),
            "path": _inside(own.recipe.path, project.folder),
        },
        "request": {"platform": str(own.platform), "target": own.target},
    }
    if project.first is not None:
        found["request"]["first"] = _inside(project.first.dockerfile, project.folder)
    if is_whole:
        given = {name: value for name, value in sorted(own.given.items()) if name not in PROXIES}
        found["request"]["args"] = {name: redacted(name, value) for name, value in given.items()}
        found["request"]["labels"] = {
            name: redacted(name, value) for name, value in sorted(dict(options.labels).items())
        }
    compile = project.compile
    if compile is not None:
        found["compile"] = {"toolchain": compile.toolchain, "outputs": list(compile.outputs)}
        if is_whole:
            found["compile"]["run"] = redacted("", compile.run)
            found["compile"]["env"] = {
                name: redacted(name, value) for name, value in sorted(compile.environment)
            }
    return found


def _images(assemblers: Sequence[Assembler]) -> list[dict[str, Any]]:
    """Every image that was used, each once, with the digest of its manifest."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for assembler in assemblers:
        for stage, step, name, platform in assembler.images():
            where = assembler.recipe.where(stage.line if step is None else step.line)
            digest = assembler.bases.find(name, platform, where).document.digest
            uri = image(name, str(platform))
            told: dict[str, Any] = {"uri": uri} if uri else {"name": f"image for {platform}"}
            found[uri, str(digest)] = {**told, "digest": {digest.algorithm: digest.hex}}
    return list(found.values())


def _source(revision: Revision | None) -> list[dict[str, Any]]:
    return [_pin(revision)] if revision is not None and revision.is_clean else []


def _pin(revision: Revision) -> dict[str, Any]:
    uri = {"uri": revision.uri} if revision.uri else {}
    return {**uri, "digest": {"gitCommit": revision.commit}}


def _vcs(revision: Revision | None) -> dict[str, Any]:
    if revision is None:
        return {}
    dirty = "" if revision.is_clean else "-dirty"
    source = {"source": revision.origin} if revision.origin else {}
    return {"manyfest_vcs": {**source, "revision": f"{revision.commit}{dirty}"}}


def _inside(path: str, folder: str) -> str:
    """A path as the project has it: those outside are nobody's business."""
    relative = os.path.relpath(path, folder)
    return os.path.basename(path) if relative.startswith("..") else relative
