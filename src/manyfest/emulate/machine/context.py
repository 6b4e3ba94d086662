# SPDX-License-Identifier: Apache-2.0
"""A machine's engine as a Docker context, by Docker's own command."""

from __future__ import annotations

import hashlib
import os

from manyfest.emulate.machine.outside import call, need

__all__ = ["forget_context", "make_context"]

_TIMEOUT_S = 60.0


def make_context(machine: str, engine: str) -> str:
    """Make the context of a machine, or mend it; its name. Raises :class:`EmulationError`."""
    name = _name(machine)
    word = "update" if _is_there(name) else "create"
    words = [need("docker", "docker.io"), "context", word, name, "--docker", f"host={engine}"]
    call(words, f"making the Docker context {name}", _TIMEOUT_S)
    return name


def forget_context(machine: str) -> None:
    """Remove the context of a machine if there is one. Raises :class:`EmulationError`."""
    name = _name(machine)
    if _is_there(name):
        words = [need("docker", "docker.io"), "context", "rm", "--force", name]
        call(words, f"removing the Docker context {name}", _TIMEOUT_S)


def _name(machine: str) -> str:
    return f"manyfest-{machine}"


def _is_there(name: str) -> bool:
    """Docker keeps a context under the digest of its name."""
    folder = os.environ.get("DOCKER_CONFIG") or os.path.join(os.path.expanduser("~"), ".docker")
    key = hashlib.sha256(name.encode()).hexdigest()
    return os.path.exists(os.path.join(folder, "contexts", "meta", key, "meta.json"))
