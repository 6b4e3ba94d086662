# SPDX-License-Identifier: Apache-2.0
"""A kernel that is a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.emulate.kernel import Kernel


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    """binfmt_misc, mounted, without handlers."""
    return Kernel(tmp_path / "binfmt_misc")
