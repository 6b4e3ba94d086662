# SPDX-License-Identifier: Apache-2.0
"""The system's programs that machines are made and reached with."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from manyfest.errors import EmulationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["call", "need"]

_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
_SHOWN = 5


def need(program: str, package: str) -> str:
    """Where a program is. Raises :class:`EmulationError` naming Debian's packages that have it."""
    # A user's PATH often lacks the folders where mke2fs and depmod are.
    found = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:{_SBIN}")
    if found is None:
        raise EmulationError(f"no {program} on this machine", hint=f"apt-get install {package}")
    return found


def call(
    words: Sequence[str], doing: str, timeout_s: float, *, environment: Mapping[str, str] | None = None
) -> str:
    """What a program prints. Raises :class:`EmulationError` with its last words when it fails or does not end."""
    name = os.path.basename(words[0])
    try:
        done = subprocess.run(
            words,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            env={**os.environ, "LC_ALL": "C.UTF-8", **(environment or {})},
        )
    except subprocess.TimeoutExpired as error:
        raise EmulationError(f"{doing}: {name} did not end within {timeout_s:g} s") from error
    except OSError as error:
        raise EmulationError(f"{doing}: {name}: {error.strerror}") from error
    if done.returncode:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()][-_SHOWN:]
        told = "\n    ".join(said) or f"exit code {done.returncode}"
        raise EmulationError(f"{doing}: {name}: {told}")
    return done.stdout
