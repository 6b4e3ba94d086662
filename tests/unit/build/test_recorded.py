# SPDX-License-Identifier: Apache-2.0
"""Ours beside what a recent BuildKit made of the same Dockerfiles: the same settings, the same files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.build.conftest import Kitchen
from tests.unit.build.modern import CASES, Case, dockerfile_of, write_files
from tests.unit.build.seen import recorded, seen

MEANT = {"link": {"tmp"}, "stages": {"owned"}}
"""Paths that are different on purpose: BuildKit's ``--link`` gives folders of the base a new owner and mode; in newer
ones an octal ``--chmod`` is that of new folders on the way too, which ``--chmod=644`` would lock."""

GOLDEN = Path(__file__).parents[2] / "golden" / "buildkit"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_same_as_buildkit(kitchen: Kitchen, case: Case) -> None:
    """``tools/record_buildkit.py`` wrote what is compared with."""
    write_files(kitchen.folder)
    kitchen.write("Dockerfile", dockerfile_of(case))
    kitchen.write(".dockerignore", case.ignore)
    if case.own_ignore:
        kitchen.write("Dockerfile.dockerignore", case.own_ignore)
    settings, files = seen(kitchen.build(args=tuple(case.args.items())), "")
    golden = json.loads((GOLDEN / f"{case.name}.json").read_text(encoding="utf-8"))
    assert settings == golden["settings"]
    ours, theirs = recorded(files), golden["files"]
    paths = ours.keys() | theirs.keys()
    differ = {
        path: (ours.get(path), theirs.get(path)) for path in paths if ours.get(path) != theirs.get(path)
    }
    assert differ.keys() == MEANT.get(case.name, set()), differ
