# SPDX-License-Identifier: Apache-2.0
"""Repositories on disk: a folder of image layouts, one for each, nested as their names are.

What a registry promises beyond a layout: a manifest stays listed when its tag moves on or goes, content is taken
over from an upload or another repository by a hard link, and deleting says whether there was something.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from typing import TYPE_CHECKING

from manyfest.content.descriptor import Descriptor
from manyfest.content.digest import Digest
from manyfest.errors import InvalidDocument, NotFound, StoreError, TooLarge, Unsupported
from manyfest.serve.exchange import File
from manyfest.serve.names import TAG, folder_of, is_name, name_of
from manyfest.stores.base import put_bytes
from manyfest.stores.layout import Layout, entry_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from manyfest.content.document import Document
    from manyfest.stores._entries import Entries
    from manyfest.stores.base import Readable

__all__ = ["Repositories", "Repository"]

UPLOADS = "_uploads"
"""The folder below the root that is no repository."""

_REF_NAME = "org.opencontainers.image.ref.name"
_OCTETS = "application/octet-stream"
_NO_LINKS = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS})
_REMEMBERED = 1024


class _Shelf(Layout):
    """A layout that lists every document it was ever told of, with a name or without."""

    def list(self, document: Document) -> None:
        """An entry without a name, unless there is one of any kind."""
        entry = entry_of(document)
        self._edit(lambda entries: entries.with_entry(entry))

    def name(self, document: Document, tag: str) -> None:
        """See :func:`_tagged`."""
        entry = entry_of(document)
        self._edit(lambda entries: _tagged(entries, entry, tag))

    def unname(self, tag: str) -> None:
        """Take the name away and keep the entry. Raises :class:`NotFound`."""
        self._edit(lambda entries: entries.without_name(tag, keep=True))


class Repository:
    """One layout, as a registry uses it."""

    def __init__(self, layout: _Shelf) -> None:
        self._layout = layout

    def document(self, reference: str) -> Document | None:
        """What a checked tag or digest names, verified; ``None`` when it is not here, or not a document."""
        try:
            return self._layout.resolve(reference)
        except NotFound:
            return None
        except (InvalidDocument, TooLarge, Unsupported):
            if ":" in reference and not self._layout.entries().having(Digest.parse(reference)):
                return None  # A blob, and none that anybody called a manifest.
            raise

    def holds(self, descriptor: Descriptor) -> bool:
        """Is exactly this content here, size and all?"""
        return self._layout.exists(descriptor)

    def add(self, document: Document, tag: str) -> None:
        """Store a document, list it, and point the tag at it (unless it is ``""``)."""
        put_bytes(self._layout, document.descriptor, document.raw)
        if tag:
            self._layout.name(document, tag)
        else:
            self._layout.list(document)

    def tags(self) -> Iterator[str]:
        """Every tag once. Layouts made by others may hold full references; those count by their tag."""
        seen = set()
        for name in self._layout.tags():
            tag = name if TAG.fullmatch(name) else name.rpartition(":")[2]
            if TAG.fullmatch(tag) and tag not in seen:
                seen.add(tag)
                yield tag

    def referrers(self, digest: Digest, artifact_type: str) -> tuple[Descriptor, ...]:
        """See :meth:`manyfest.stores.base.HasReferrers.referrers`."""
        return self._layout.referrers(digest, artifact_type)

    def untag(self, tag: str) -> bool:
        """Forget a tag; what it pointed at stays, by digest. Was there one?"""
        try:
            self._layout.unname(tag)
        except NotFound:
            return False
        return True

    def delete(self, digest: Digest) -> bool:
        """Forget a document and its tags. Was there one?"""
        return self.document(str(digest)) is not None and self.delete_blob(digest)

    def delete_blob(self, digest: Digest) -> bool:
        """Forget content. Was there any?"""
        try:
            self._layout.delete(Descriptor(_OCTETS, digest, 0))
        except NotFound:
            return False
        return True

    def has(self, digest: Digest) -> bool:
        """Is content of this digest here?"""
        return self._layout.size_of(digest) is not None

    def open(self, digest: Digest) -> File | None:
        """The content's file, whole; ``None`` when it is not here. Links are not followed."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            handle = os.open(self._layout.blob_path(digest), flags)
        except (FileNotFoundError, NotADirectoryError):
            return None
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            os.close(handle)
            return None
        return File(handle, 0, found.st_size)

    def mount(self, digest: Digest, source: Repository) -> bool:
        """Take content over from another repository. Is it here now?"""
        size = source._layout.size_of(digest)
        if size is None:
            return False
        try:
            self.adopt(digest, source._layout.blob_path(digest), size)
        except (FileNotFoundError, NotFound):
            return False  # Deleted there a moment ago.
        return True

    def adopt(self, digest: Digest, path: str, size: int) -> None:
        """Take over a whole, checked and synced file: by a hard link, by a copy where links cannot be made."""
        descriptor = Descriptor(_OCTETS, digest, size)
        if self._layout.exists(descriptor):
            return
        target = self._layout.blob_path(digest)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        # Under another name first: a file of the wrong size, which a crash of another tool left, is replaced.
        link = f"{self._layout.path}/.manyfest-{os.urandom(8).hex()}.part"
        try:
            os.link(path, link, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            self._layout.put(descriptor, lambda offset: _open_at(path, offset))
            return
        try:
            os.replace(link, target)
        finally:
            # Renaming onto another link of the same file leaves both names.
            _remove(link)

    def __repr__(self) -> str:
        return f"Repository({self._layout.path!r})"


class Repositories:
    """All layouts below ``root``."""

    def __init__(self, root: str, *, durable: bool = True) -> None:
        self._root = root
        self._durable = durable
        self._lock = threading.Lock()
        self._open: dict[str, Repository] = {}

    def find(self, name: str) -> Repository | None:
        """The repository of a checked name, if there is one."""
        known = self._open.get(name)
        if known is not None:
            return known
        try:
            repository = Repository(_Shelf(self._path(name), place=name, durable=self._durable))
        except NotFound:
            return None
        return self._remember(name, repository)

    def create(self, name: str) -> Repository:
        """The repository of a checked name, made if it is not there."""
        found = self.find(name)
        if found is not None:
            return found
        with self._lock:
            self._make(self._path(name))
        repository = self.find(name)
        if repository is None:
            raise StoreError(f"{name}: the layout was removed while it was made")
        return repository

    def names(self) -> Iterator[str]:
        """Every repository's name, in no order. Looks at every folder, but not into blobs."""
        for folder, folders, files in os.walk(self._root):
            relative = os.path.relpath(folder, self._root).replace(os.sep, "/")
            folders[:] = [f for f in folders if f not in ("blobs", UPLOADS) and not f.startswith(".")]
            name = name_of(relative)
            if "oci-layout" in files and is_name(name) and folder_of(name) == relative:
                yield name

    def _path(self, name: str) -> str:
        return f"{self._root}/{folder_of(name)}"

    def _remember(self, name: str, repository: Repository) -> Repository:
        with self._lock:
            if len(self._open) >= _REMEMBERED:
                self._open.clear()
            return self._open.setdefault(name, repository)

    def _make(self, path: str) -> None:
        """A layout in a folder that may hold other repositories already: made beside, then moved in, marker last."""
        os.makedirs(path, exist_ok=True)
        made = f"{self._root}/{UPLOADS}/new-{os.urandom(8).hex()}"
        os.makedirs(os.path.dirname(made), exist_ok=True)
        try:
            Layout.create(made, durable=self._durable).close()
            os.makedirs(f"{path}/blobs/sha256", exist_ok=True)
            for part in ("index.json", "oci-layout"):
                _link_unless_there(f"{made}/{part}", f"{path}/{part}")
        finally:
            for part in ("index.json", "oci-layout"):
                _remove(f"{made}/{part}")
            for folder in ("blobs/sha256", "blobs", ""):
                _remove_folder(f"{made}/{folder}")

    def __repr__(self) -> str:
        return f"Repositories({self._root!r})"


def _tagged(entries: Entries, entry: Descriptor, tag: str) -> Entries:
    """``tag`` at this entry and nowhere else; what it named before stays listed without a name."""
    named = [d for d in entries if d.annotations.get(_REF_NAME) == tag]
    if [(d.digest, d.media_type) for d in named] == [(entry.digest, entry.media_type)]:
        return entries
    after = entries
    if any(not d.annotations for d in entries.having(entry.digest)):
        after = after.without(lambda d: d.digest == entry.digest and not d.annotations)
    after = after.with_name(entry, tag)
    for old in named:
        rest = {key: value for key, value in old.annotations.items() if key != _REF_NAME}
        after = after.with_entry(old.with_annotations(rest))
    return after


def _open_at(path: str, offset: int) -> Readable:
    file = open(path, "rb")  # noqa: SIM115 - whoever reads the stream closes it
    file.seek(offset)
    return file


def _link_unless_there(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        return  # Another process has made the same layout.


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return


def _remove_folder(path: str) -> None:
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return
