# SPDX-License-Identifier: Apache-2.0
"""Where what can be made again is kept: one rule for every cache."""

from __future__ import annotations

import os

__all__ = ["cache_folder"]


def cache_folder(name: str) -> str:
    """The cache called ``name`` in ``$MANYFEST_CACHE``, or in ``$XDG_CACHE_HOME/manyfest``; it need not exist."""
    root = os.environ.get("MANYFEST_CACHE")
    if not root:
        home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        root = os.path.join(home, "manyfest")
    return os.path.join(root, name)
