# SPDX-License-Identifier: Apache-2.0
"""Where what a person made is kept: one rule for drafts and machines."""

from __future__ import annotations

import os

__all__ = ["data_folder"]


def data_folder(name: str) -> str:
    """The folder called ``name`` in ``$MANYFEST_DATA``, or in ``$XDG_DATA_HOME/manyfest``; it need not exist."""
    root = os.environ.get("MANYFEST_DATA")
    if not root:
        home = os.environ.get("XDG_DATA_HOME") or os.path.join(os.path.expanduser("~"), ".local", "share")
        root = os.path.join(home, "manyfest")
    return os.path.join(root, name)
