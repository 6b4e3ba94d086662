# SPDX-License-Identifier: Apache-2.0
"""Folders of machines: made beside the others under another name, and there at once or not at all.

Whoever makes a folder holds its lock, so several are made at a time, and a folder that nobody holds was left by a
process that was killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import secrets
import shutil
from typing import TYPE_CHECKING

from manyfest.emulate.machine.record import directory, folder_of
from manyfest.errors import EmulationError
from manyfest.stores._files import locked, translated

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["new_folder", "remove_folder", "while_locked"]

_NEW, _GONE = ".new-", ".gone-"


@contextlib.contextmanager
def new_folder(name: str) -> Iterator[str]:
    """A folder that becomes the machine's at the end of the block, or goes. Raises :class:`EmulationError`."""
    root = directory()
    with translated(root, "making a machine", writing=True):
        os.makedirs(root, mode=0o700, exist_ok=True)
        os.chmod(root, 0o700)
        with while_locked(root, ".lock"):
            _sweep(root)
            _refuse_second(name)
            new = os.path.join(root, f"{_NEW}{secrets.token_hex(8)}")
            os.mkdir(new, 0o700)
            held = os.open(new, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(held, fcntl.LOCK_EX)
        try:
            yield new
            with while_locked(root, ".lock"):
                _refuse_second(name)
                os.rename(new, folder_of(name))
        finally:
            shutil.rmtree(new, ignore_errors=True)
            os.close(held)


def remove_folder(name: str) -> None:
    """Under another name first, so that no half of it is ever taken for a machine. Raises :class:`StoreError`."""
    root, folder = directory(), folder_of(name)
    gone = os.path.join(root, f"{_GONE}{secrets.token_hex(8)}")
    with translated(folder, "removing the machine", writing=True), while_locked(root, ".lock"):
        os.rename(folder, gone)
        shutil.rmtree(gone)


@contextlib.contextmanager
def while_locked(folder: str, name: str) -> Iterator[None]:
    """Hold a lock file, made if it is not there."""
    path = os.path.join(folder, name)
    with translated(folder, "taking its lock", writing=True):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    with locked(path):
        yield


def _refuse_second(name: str) -> None:
    if os.path.lexists(folder_of(name)):
        raise EmulationError(
            f"there is a machine {name!r} already", hint=f"manyfest machine rm {name}, or another name"
        )


def _sweep(root: str) -> None:
    """What killed processes left."""
    for path in glob.glob(os.path.join(glob.escape(root), f"{_GONE}*")):
        shutil.rmtree(path, ignore_errors=True)
    for path in glob.glob(os.path.join(glob.escape(root), f"{_NEW}*")):
        try:
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # its maker has just removed it
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        except BlockingIOError:
            continue  # somebody makes it at this moment
        finally:
            os.close(handle)
