# SPDX-License-Identifier: Apache-2.0
"""The one-way flow of DESIGN, and which rooms may use what others made."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "manyfest"

STANDARD_ONLY = (
    "errors.py",
    "values.py",
    "reference.py",
    "platforms",
    "content",
    "indexes",
    "stores/registry",
)


def modules(*rooms: str) -> Iterator[Path]:
    """The Python files of rooms."""
    for room in rooms:
        path = SOURCE / room
        yield from [path] if path.is_file() else sorted(path.rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """The top-level names of everything a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("room", STANDARD_ONLY)
def test_rooms_that_use_the_standard_library_only(room: str) -> None:
    """So that they are there wherever Python is."""
    foreign = {
        f"{path.relative_to(SOURCE)}: {name}"
        for path in modules(room)
        for name in imports(path)
        if name not in sys.stdlib_module_names and name != "manyfest"
    }
    assert foreign == set()


def test_no_room_without_a_reason() -> None:
    """Nothing is called util, common, helpers, manager or misc."""
    names = {path.stem for path in SOURCE.rglob("*")}
    assert names & {"util", "utils", "common", "helpers", "manager", "misc"} == set()


def test_modules_stay_readable() -> None:
    """600 lines are a reason to split."""
    long = {
        str(p.relative_to(SOURCE)): n for p in modules("") if (n := len(p.read_text().splitlines())) > 600
    }
    assert long == {}


@pytest.mark.parametrize("word", ["print(", "sys.exit(", "exit("])
def test_only_the_command_prints_and_exits(word: str) -> None:
    """The library raises."""
    calls = {
        str(path.relative_to(SOURCE))
        for path in modules("")
        if not path.is_relative_to(SOURCE / "cli")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and f"{ast.unparse(node.func)}(" == word
    }
    assert calls == set()


@pytest.mark.slow
def test_lower_layers_never_import_higher_ones() -> None:
    """The contracts of pyproject.toml, which repeat DESIGN section 3."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE.parent)}
    tool = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [tool, "--no-cache"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
