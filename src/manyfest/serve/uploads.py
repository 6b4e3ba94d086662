# SPDX-License-Identifier: Apache-2.0
"""Blob uploads in progress: files that only grow, found again after a cut connection or a restart.

An upload is one file, ``FOLDER/ID.HASH-OF-REPOSITORY``; its length is how far the client has come. Nothing else is
kept, so nothing can disagree. Content is hashed while it arrives; after a restart once more from the file.

The newest request owns an upload: when a client reconnects before the server has noticed that the old connection is
dead, the old one's next write is refused.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from manyfest.serve.problems import FULL, Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from manyfest.content.digest import Digest
    from manyfest.stores.base import Readable

__all__ = ["Upload", "Uploads"]

PIECE = 256 * 1024
"""Bytes read from the network at once."""
KEEP_S = 7 * 24 * 3600
"""Seconds after which an upload that nobody has touched is given up."""
_SWEEP_S = 3600
_REMEMBERED = 1024
_ID = re.compile(r"[0-9a-f]{32}")


class Upload:
    """One file that grows. ``size`` is in bytes."""

    def __init__(self, id: str, path: str, size: int, *, durable: bool = True) -> None:
        self.id = id
        self.path = path
        self.size = size
        self._lock = threading.Lock()
        self._durable = durable
        self._owner: object = None
        self._gone = False
        self._hash = hashlib.sha256() if size == 0 else None

    @property
    def ended(self) -> bool:
        """Committed, dropped or cancelled?"""
        return self._gone

    @property
    def range(self) -> str:
        """How much is here, as the ``Range`` header says it. No bytes and one byte look the same: ``0-0``."""
        return f"0-{max(self.size - 1, 0)}"

    def append(self, stream: Readable, start: int | None) -> None:
        """Add the stream's bytes; what arrived before an error stays, unless the disk is full.

        Raises :class:`Problem` (416) when ``start`` is given and is not the size, and when another request has
        taken over.
        """
        owner = object()
        with self._lock:
            self._check_here()
            if start is not None and start != self.size:
                raise self._out_of_order(f"the next byte must be number {self.size}, got {start}")
            self._owner = owner
            file = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            while data := stream.read(PIECE):
                with self._lock:
                    self._check_here()
                    if self._owner is not owner:
                        raise self._out_of_order("another request goes on with this upload")
                    self._write(file, data)
        finally:
            os.close(file)

    def commit(self, digest: Digest, adopt: Callable[[str, int], None]) -> None:
        """Check the digest, flush to disk, hand path and size to ``adopt``, and end the upload.

        Raises :class:`Problem` (400 ``DIGEST_INVALID``) for other content, which is then dropped: adding to wrong
        bytes cannot make them right. When ``adopt`` fails the upload stays, for another try.
        """
        with self._lock:
            self._check_here()
            self._owner = None
            got = self._hexdigest(digest.algorithm)
            if got != digest.hex:
                self._drop()
                raise Problem(
                    400,
                    "DIGEST_INVALID",
                    f"expected {digest}, got {digest.algorithm}:{got} ({self.size} bytes)",
                )
            if self._durable:
                self._sync()
            adopt(self.path, self.size)
            self._drop()

    def cancel(self) -> None:
        """Forget it."""
        with self._lock:
            self._check_here()
            self._drop()

    def _write(self, file: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                written = os.pwrite(file, view, self.size)
            except OSError as error:
                if error.errno in FULL:
                    # Kept, it would hold on to the room that everybody waits for.
                    self._drop()
                raise
            if self._hash is not None:
                self._hash.update(view[:written])
            self.size += written
            view = view[written:]

    def _hexdigest(self, algorithm: str) -> str:
        if self._hash is not None and algorithm == "sha256":
            return self._hash.hexdigest()
        with open(self.path, "rb") as file:
            return hashlib.file_digest(file, algorithm).hexdigest()

    def _sync(self) -> None:
        file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(file)
        finally:
            os.close(file)

    def _drop(self) -> None:
        self._gone = True
        os.unlink(self.path)

    def _check_here(self) -> None:
        if self._gone:
            raise _unknown(self.id)

    def _out_of_order(self, message: str) -> Problem:
        return Problem(416, "BLOB_UPLOAD_INVALID", message, headers={"Range": self.range})


class Uploads:
    """Every upload in progress below one folder, which is made when the first one begins."""

    def __init__(self, folder: str, *, durable: bool = True) -> None:
        self._folder = folder
        self._durable = durable
        self._lock = threading.Lock()
        # Whoever works on an upload keeps it alive, so all requests share one object and its lock; between
        # requests the most recent ones are kept for their hashes.
        self._alive: WeakValueDictionary[str, Upload] = WeakValueDictionary()
        self._recent: OrderedDict[str, Upload] = OrderedDict()
        self._next_sweep = 0.0

    def begin(self, repository: str) -> Upload:
        """A new, empty one."""
        self._sweep()
        id = os.urandom(16).hex()
        path = self._path(repository, id)
        os.makedirs(self._folder, exist_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
        upload = Upload(id, path, 0, durable=self._durable)
        with self._lock:
            self._remember(path, upload)
        return upload

    def find(self, repository: str, id: str) -> Upload:
        """One that began earlier, in the same repository. Raises :class:`Problem` (404) when there is none."""
        if not _ID.fullmatch(id):
            raise _unknown(id)
        path = self._path(repository, id)
        with self._lock:
            upload = self._alive.get(path)
            if upload is None:
                try:
                    upload = Upload(id, path, os.stat(path).st_size, durable=self._durable)
                except FileNotFoundError:
                    raise _unknown(id) from None
            if upload.ended:
                raise _unknown(id)
            self._remember(path, upload)
        return upload

    def _remember(self, path: str, upload: Upload) -> None:
        self._alive[path] = upload
        self._recent[path] = upload
        self._recent.move_to_end(path)
        if len(self._recent) > _REMEMBERED:
            self._recent.popitem(last=False)

    def _path(self, repository: str, id: str) -> str:
        owner = hashlib.sha256(repository.encode()).hexdigest()[:16]
        return os.path.join(self._folder, f"{id}.{owner}")

    def _sweep(self) -> None:
        now = time.monotonic()
        with self._lock:
            if now < self._next_sweep:
                return
            self._next_sweep = now + _SWEEP_S
        oldest = time.time() - KEEP_S
        try:
            entries = list(os.scandir(self._folder))
        except FileNotFoundError:
            return
        for entry in entries:
            try:
                if entry.stat().st_mtime < oldest:
                    os.unlink(entry.path)
            except FileNotFoundError:
                continue  # it has just ended by itself


def _unknown(id: str) -> Problem:
    return Problem(404, "BLOB_UPLOAD_UNKNOWN", f"no upload {id[:40]!r} in this repository")
