# SPDX-License-Identifier: Apache-2.0
"""What a benchmark says that a command took."""

from __future__ import annotations

import os
import sys

import pytest
from bench.starter import Took


def test_the_memory_of_the_command_alone() -> None:
    """However large we are ourselves."""
    ours = bytearray(os.urandom(1 << 20)) * 200
    small = Took(["/bin/true"], os.environ)
    assert (small.code, small.peak_bytes < 50e6) == (0, True), small.peak_bytes
    large = Took([sys.executable, "-c", "bytearray(b'x' * 2**20) * 100"], os.environ)
    assert large.peak_bytes > 100e6
    assert len(ours) == 200 << 20


def test_how_it_ended() -> None:
    """Its code, its words, its time; and of its environment nothing is added."""
    took = Took(["/bin/sh", "-c", 'echo "$A$HOME" >&2; echo out; sleep 0.05; exit 3'], {"A": "a"})
    assert (took.code, took.said) == (3, "a\n")
    assert took.wall_s >= 0.05
    with pytest.raises(OSError, match="/no/such was not started"):
        Took(["/no/such"], {})
