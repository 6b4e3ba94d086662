# SPDX-License-Identifier: Apache-2.0
"""What tests of manyfest, and of programs that use it, are made of. None of it needs a test framework.

* :func:`check_store` holds a store to its contract.
* :func:`make_image`, :func:`make_index`, :func:`make_attestation` put small images into a store, always the same ones.
* :class:`InProcess` is a registry without a socket, :class:`ScriptedRegistry` one that follows a script on a real one.

Each is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from manyfest.testing.contract import check_store
    from manyfest.testing.images import make_attestation, make_image, make_index
    from manyfest.testing.inprocess import InProcess
    from manyfest.testing.script import ScriptedRegistry

__all__ = ["InProcess", "ScriptedRegistry", "check_store", "make_attestation", "make_image", "make_index"]

_HOMES = {
    "InProcess": "inprocess",
    "ScriptedRegistry": "script",
    "check_store": "contract",
    "make_attestation": "images",
    "make_image": "images",
    "make_index": "images",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{home}"), name)
