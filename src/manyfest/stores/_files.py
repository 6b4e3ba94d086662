# SPDX-License-Identifier: Apache-2.0
"""Files for the local places: opened without following links, written whole or not at all, errors translated once."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from manyfest.errors import NotFound, ReadOnly, StoreError, Unsupported

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from manyfest.stores.base import Readable

__all__ = ["Part", "Slice", "locked", "open_regular", "read_whole", "sync_directory", "translated"]

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_NO_LOCKS = frozenset({errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL})


@contextmanager
def translated(place: str, doing: str, *, writing: bool = False) -> Iterator[None]:
    """Turn :class:`OSError` into the errors of this package."""
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound(f"{place}: {doing}: {_reason(error)}") from error
    except OSError as error:
        raise _as_store_error(error, place, doing, writing) from error


def _as_store_error(error: OSError, place: str, doing: str, writing: bool) -> StoreError:
    message = f"{place}: {doing}: {_reason(error)}"
    if error.errno in _NO_ROOM:
        return StoreError(message, hint="nothing was left behind; make room there, or choose another place")
    if error.errno in _READ_ONLY and writing:
        return ReadOnly(message, hint="check the permissions, or choose another place to write to")
    if error.errno in _READ_ONLY:
        return StoreError(message, hint="check the permissions")
    if error.errno == errno.ELOOP:
        return Unsupported(
            f"{place}: {doing}: a symbolic link, expected the file itself",
            hint="links are not followed inside an image; replace the link by the file",
        )
    return StoreError(message)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def open_regular(path: str) -> int:
    """A descriptor of a regular file, opened for reading; the last component may not be a link.

    Raises :class:`OSError`; whatever is not a regular file ends like a link does.
    """
    # O_NONBLOCK: opening a named pipe would wait for a writer that never comes.
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise OSError(errno.ELOOP, "not a regular file")


class Slice:
    """A stretch of an open file, read by position: streams of one descriptor do not disturb each other."""

    def __init__(self, fd: int, start: int, size: int, place: str, *, owned: bool = False) -> None:
        self._fd = fd
        self._at = start
        self._end = start + size
        self._place = place
        self._owned = owned

    def read(self, size: int = -1, /) -> bytes:
        """See ``Readable``; a file that became shorter ends early, which whoever verifies notices."""
        left = self._end - self._at
        wanted = left if size < 0 else min(size, left)
        if wanted <= 0:
            return b""
        pieces = []
        with translated(self._place, "reading"):
            # The kernel gives at most 2 GB at once.
            while wanted and (data := os.pread(self._fd, min(wanted, 1 << 30), self._at)):
                pieces.append(data)
                self._at += len(data)
                wanted -= len(data)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def skip(self, size: int) -> None:
        """Go forward without reading."""
        self._at = min(self._at + size, self._end)

    def close(self) -> None:
        """Close the file if it belongs to this stream alone."""
        if self._owned:
            self._owned = False
            os.close(self._fd)


class Part:
    """A file under a temporary name until :meth:`commit`; without it, leaving the ``with`` block removes it."""

    def __init__(self, directory: str, *, durable: bool = True) -> None:
        self.path = os.path.join(directory, f".manyfest-{secrets.token_hex(8)}.part")
        self._durable = durable
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self.fd = os.open(self.path, flags, 0o644)
        self._open = True

    def write(self, data: bytes) -> None:
        """All of it."""
        view = memoryview(data)
        while view:
            view = view[os.write(self.fd, view) :]

    def take_mode(self, target: str) -> None:
        """Be readable by whom the file that is to be replaced was readable by; nothing without such a file."""
        try:
            mode = os.stat(target).st_mode
        except FileNotFoundError:
            return
        os.fchmod(self.fd, stat.S_IMODE(mode))

    def commit(self, target: str) -> None:
        """Make the file appear under its real name, replacing what is there.

        It is stamped to the nanosecond. A kernel's own stamps may be the same for some milliseconds, and the number of
        a file that was replaced is given to the next one: of two quick changes a reader would see neither.
        """
        now = time.time_ns()
        try:
            os.utime(self.fd, ns=(now, now))
        except OSError:
            pass  # a file system that has its own mind about times
        if self._durable:
            os.fsync(self.fd)
        os.replace(self.path, target)
        self._close()

    def _close(self) -> None:
        if self._open:
            self._open = False
            os.close(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._open:
            self._close()
            try:
                os.unlink(self.path)
            except FileNotFoundError:
                return


def sync_directory(path: str) -> None:
    """Make renames in a directory last; file systems that cannot do it for directories are left alone."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(fd)


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold the advisory lock of a file or directory, against other processes and other threads.

    Where the file system has no locks (some network ones) the block runs without.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield
    finally:
        os.close(fd)


def read_whole(stream: Readable) -> bytes:
    """The rest of a stream, and the stream closed."""
    try:
        return stream.read()
    finally:
        stream.close()
