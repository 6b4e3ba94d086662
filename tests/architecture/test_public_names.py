# SPDX-License-Identifier: Apache-2.0
"""What is public is listed, sorted, and there."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import manyfest

MODULES = [
    name
    for _, name, _ in pkgutil.walk_packages(manyfest.__path__, "manyfest.")
    if not any(part.startswith("_") for part in name.split("."))
]


def test_the_package_lists_its_names() -> None:
    """Sorted, all importable, nothing else in dir()."""
    assert manyfest.__all__ == sorted(manyfest.__all__)
    assert dir(manyfest) == manyfest.__all__
    assert [name for name in manyfest.__all__ if getattr(manyfest, name, None) is None] == []
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = manyfest.nothing


def test_types_are_declared_for_every_name() -> None:
    """The lazy table and the declarations for type checkers agree with ``__all__``."""
    homes = {name for names in manyfest._HOMES.values() for name in names}
    assert homes | {"__version__"} == set(manyfest.__all__)


def names_in(path: str) -> set[str]:
    """Names that exist for type checkers only: declared under ``if TYPE_CHECKING``."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(Path(path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            found |= {each.name for each in node.body if isinstance(each, ast.ClassDef)}
            found |= {
                t.id
                for each in node.body
                if isinstance(each, ast.Assign)
                for t in each.targets
                if isinstance(t, ast.Name)
            }
    return found


@pytest.mark.parametrize("name", MODULES)
def test_every_module_lists_what_it_has(name: str) -> None:
    """``__all__`` names things that exist; modules without one are packages and commands."""
    module = importlib.import_module(name)
    listed = getattr(module, "__all__", [])
    declared = names_in(module.__file__ or "")
    assert [each for each in listed if not hasattr(module, each) and each not in declared] == []
    assert len(listed) == len(set(listed))
    assert module.__doc__, f"{name} says what it is for"


def test_importing_the_package_costs_nothing() -> None:
    """Not even the standard library."""
    code = "import sys; before = set(sys.modules); import manyfest; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_path()
    )
    assert set(done.stdout.split()) <= {"manyfest", "__future__"}


def _path() -> dict[str, str]:
    return {"PYTHONPATH": str(manyfest.__path__[0]).removesuffix("/manyfest")}
