# SPDX-License-Identifier: Apache-2.0
"""A layout in a temporary directory: where content waits until an archive is written or an engine takes it."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import weakref
from typing import TYPE_CHECKING

from manyfest.stores._files import translated
from manyfest.stores.layout import Layout

if TYPE_CHECKING:
    from manyfest.content.digest import Digest

__all__ = ["Staging"]


class Staging:
    """Made when something is first written; gone with :meth:`close`, or with the object."""

    def __init__(self, directory: str, place: str) -> None:
        self._directory = directory
        self._place = place
        self._lock = threading.Lock()
        self._layout: Layout | None = None
        self._cleanup: weakref.finalize[[str, bool], Staging] | None = None

    @property
    def layout(self) -> Layout:
        """The layout. Raises :class:`ReadOnly` where the directory cannot be written to."""
        with self._lock:
            if self._layout is None:
                with translated(self._place, "making a temporary directory", writing=True):
                    path = tempfile.mkdtemp(prefix=".manyfest-", suffix=".part", dir=self._directory)
                self._cleanup = weakref.finalize(self, shutil.rmtree, path, True)
                self._layout = Layout.create(path, place=self._place, durable=False)
            return self._layout

    @property
    def started(self) -> Layout | None:
        """The layout if there is one yet."""
        return self._layout

    def blobs(self) -> dict[str, Digest]:
        """What is there, by its name in an archive."""
        layout = self._layout
        return {} if layout is None else {f"blobs/{d.algorithm}/{d.hex}": d for d in layout.digests()}

    def scratch(self, name: str) -> str:
        """A path for a temporary file beside the layout's own."""
        return os.path.join(self.layout.path, name)

    def close(self) -> None:
        """Remove everything."""
        with self._lock:
            self._layout = None
            if self._cleanup is not None:
                self._cleanup()
                self._cleanup = None
