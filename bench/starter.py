# SPDX-License-Identifier: Apache-2.0
"""What a command takes, without what the one takes who measures it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Took"]

# A process of its own, because a child begins with its parent's memory, which the kernel counts as the child's peak: a
# benchmark is larger than most of what it measures. This one has 11 MB.
_STARTER = """\
import json, resource, subprocess, sys, time
begun = time.perf_counter()
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
wall = time.perf_counter() - begun
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([code, wall, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024]))
"""


class Took:
    """Run a command: seconds by the clock and of processors, the largest process's memory in bytes, and how it ended.

    ``said`` is what it wrote to standard error.
    """

    code: int
    wall_s: float
    cpu_s: float
    peak_bytes: int

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        # A file: what a command leaves running would hold a pipe open.
        with tempfile.TemporaryFile() as errors:
            done = subprocess.run(
                [sys.executable, "-I", "-S", "-c", _STARTER, *command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                check=False,
            )
            errors.seek(0)
            self.said = errors.read().decode(errors="replace")
        if done.returncode:
            raise OSError(f"{command[0]} was not started: {self.said.strip().splitlines()[-1:]}")
        self.code, self.wall_s, self.cpu_s, self.peak_bytes = json.loads(done.stdout)
