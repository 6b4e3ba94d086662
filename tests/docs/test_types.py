# SPDX-License-Identifier: Apache-2.0
"""Programs in the pages use the library as its types say: what an editor would tell whoever pastes them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs.pages import ROOT, blocks, name_of, pages


@pytest.mark.slow
def test_programs_in_pages_are_typed(tmp_path: Path) -> None:
    """One module for each page; mypy reads them all at once."""
    for page in pages():
        texts = [
            b.text
            for b in blocks(page)
            if b.language == "python" and not b.text.startswith(">>>") and not b.not_run
        ]
        if texts:
            name = name_of(page).removesuffix(".md").replace("/", "_").replace("-", "_")
            (tmp_path / f"{name}.py").write_text("\n\n".join(texts) + "\n", encoding="utf-8")
    names = sorted(path.name for path in tmp_path.glob("*.py"))
    assert len(names) >= 5
    options = ["--config-file=", "--check-untyped-defs", "--follow-imports=silent"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, f"--cache-dir={tmp_path / 'cache'}", *names],
        cwd=tmp_path,
        env={"MYPYPATH": str(ROOT / "src"), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
