# SPDX-License-Identifier: Apache-2.0
"""The examples in docstrings are sessions that happen as shown."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import manyfest

FINDER = doctest.DocTestFinder(exclude_empty=True)
OPTIONS = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL


def with_examples() -> list[str]:
    """Modules whose text has a session, found without importing any."""
    found = []
    for info in pkgutil.walk_packages(manyfest.__path__, "manyfest."):
        spec = info.module_finder.find_spec(info.name, None)
        if spec is not None and spec.origin and ">>> " in Path(spec.origin).read_text(encoding="utf-8"):
            found.append(info.name)
    return found


@pytest.mark.parametrize("name", with_examples())
def test_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder of their own."""
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    told: list[str] = []
    runner = doctest.DocTestRunner(verbose=False, optionflags=OPTIONS)
    for test in FINDER.find(module, name):
        runner.run(test, out=told.append)
    assert not told, "".join(told)
    assert runner.summarize(verbose=False).attempted > 0
