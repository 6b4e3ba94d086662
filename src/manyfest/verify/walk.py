# SPDX-License-Identifier: Apache-2.0
"""One pass over a layer: its tar headers, and of each file only what its facts need.

The archive may be hostile. Nothing is unpacked; names are cleaned and what leads out of the root is left out and said;
links are kept as text; headers are bounded in number and size and their check sums must be right. A file's content
flows by: of files that cannot run (told by their first four bytes) nothing is kept at all, of the others the ranges
that :func:`~manyfest.verify.kinds.wanted` names.

Fields are read as Go's archive/tar reads them, since that is what engines unpack with: what it refuses is refused
here, and what it reads leniently is read alike, so that nothing can be in the image and not be seen.
"""

from __future__ import annotations

from manyfest.errors import InvalidDocument, TooLarge
from manyfest.verify.archives import ENDINGS, Scan, facts_of
from manyfest.verify.archives import MAGIC as ZIP
from manyfest.verify.facts import Kept
from manyfest.verify.kinds import HEAD, read_facts, wanted
from manyfest.verify.layers import (
    BLOCK,
    CHARACTER,
    DIRECTORY,
    FILE,
    HARD,
    OPAQUE,
    PIPE,
    SYMLINK,
    WHITEOUT,
    Entry,
    Layer,
    Oddity,
    clean_path,
)
from manyfest.verify.packages import MAX_DATABASE, is_database, reduced
from manyfest.verify.runs import KEPT_FOLDERS, MAGIC, is_setting, ordinary_members
from manyfest.verify.streams import MAX_UNPACKED, Unpacked
from manyfest.verify.tape import RECORD, Tape, check_sum, mode_and_owner, name_of, number, records, size_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from manyfest.content.descriptor import Descriptor
    from manyfest.stores.base import Readable
    from manyfest.verify.facts import Facts

__all__ = ["MAX_ENTRIES", "read_layer", "walk"]

MAX_ENTRIES = 1_000_000
"""Members of a layer. The largest real ones have some three hundred thousand."""

MAX_PATH = 4096
"""Bytes of a path, Linux's limit."""

MAX_NAMES = 96 * 1024 * 1024
"""Bytes of all names in a layer: paths, links, and those that programs say. Real layers have a tenth of it."""

MAX_ODDITIES = 100
"""Kept of one layer; a hostile one could have a million."""

_MAX_EXTENDED = 1024 * 1024
MAX_KEPT = 16 * 1024 * 1024
"""Characters of text kept of one layer."""

_MAX_TEXT = 64 * 1024
_KINDS = {b"0": FILE, b"\0": FILE, b"7": FILE, b"1": HARD, b"2": SYMLINK, b"3": CHARACTER, b"4": BLOCK}
_KINDS.update({b"5": DIRECTORY, b"6": PIPE, b"S": FILE})
_HEADER_ONLY = b"123456"
_LINKS = b"12"


def read_layer(stream: Readable, descriptor: Descriptor, place: str = "", limit: int = MAX_UNPACKED) -> Layer:
    """Read a layer's blob from its stream, which is closed; ``limit`` is in plain bytes.

    Raises what :class:`~manyfest.verify.streams.Unpacked` raises, and :class:`~manyfest.errors.InvalidDocument` for a
    damaged archive.
    """
    plain = Unpacked(stream, descriptor, place, limit)
    try:
        layer = walk(plain, str(descriptor.digest))
    finally:
        plain.close()
    layer.size, layer.unpacked = descriptor.size, plain.size
    layer.diff_id, layer.packing = plain.diff_id, plain.packing
    return layer


def walk(pieces: Iterable[bytes], digest: str = "") -> Layer:
    """The entries of a tar archive that comes in pieces, all of which are taken."""
    walker = _Walker(Tape(iter(pieces)), digest)
    try:
        walker.run()
    except ValueError as error:
        raise InvalidDocument(f"layer {digest[7:19]} is a damaged archive: {error}") from error
    walker.tape.drain()
    return walker.layer


class _Walker:
    """The state between headers: what the extended ones said about the next."""

    def __init__(self, tape: Tape, digest: str) -> None:
        self.kept = 0
        self.tape = tape
        self.layer = Layer(digest)
        self._pax: dict[bytes, bytes] = {}
        self._long_name = b""
        self._long_link = b""
        self._count = 0
        self._names = 0

    def run(self) -> None:
        """Header after header, to the two empty ones or to the end."""
        while True:
            if not (self._pax or self._long_name or self._long_link):
                self._ordinary()
            header = self.tape.take(RECORD)
            if len(header) < RECORD:
                if header.strip(b"\0"):
                    raise ValueError("it ends inside a header")
                return
            if not (header[0] or header.strip(b"\0")):
                if not self.tape.take(RECORD).strip(b"\0"):
                    return
                raise ValueError("an empty header among the others")
            self._member(header)

    def _ordinary(self) -> None:
        """Most files, all that are next on the tape."""
        before = len(self.layer.entries)
        names = ordinary_members(self.tape, self.layer.entries)
        self._counted(len(self.layer.entries) - before)
        self._weigh(names)

    def _counted(self, count: int) -> None:
        self._count += count
        if self._count > MAX_ENTRIES:
            raise TooLarge(f"layer {self.layer.digest[7:19]} has more than {MAX_ENTRIES} entries")

    def _member(self, header: bytes) -> None:
        check_sum(header)
        kind = header[156:157]
        size = size_of(header)
        if kind in b"LKxg":
            self._extended(kind, size)
            return
        self._counted(1)
        if self._pax or self._long_name or self._long_link:
            name, link, size = self._extras(header, size)
        else:
            name, link = name_of(header), b""
            if kind in _LINKS:
                link = header[157:257].split(b"\0", 1)[0]
        if kind in _HEADER_ONLY:
            size = 0
        sparse = kind == b"S" or (
            bool(self._pax) and any(key.startswith(b"GNU.sparse.") for key in self._pax)
        )
        if kind == b"S":
            self._sparse_map(header)
        self._entry(kind, name, link, size, header, sparse)
        if self._pax or self._long_name or self._long_link:
            self._pax, self._long_name, self._long_link = {}, b"", b""

    def _extended(self, kind: bytes, size: int) -> None:
        if size > _MAX_EXTENDED:
            raise ValueError(f"an extended header of {size} bytes")
        data = self.tape.take(size + -size % RECORD)
        if len(data) < size:
            raise ValueError("it ends inside an extended header")
        data = data[:size]
        if kind == b"L":
            self._long_name = data.split(b"\0", 1)[0]
        elif kind == b"K":
            self._long_link = data.split(b"\0", 1)[0]
        elif kind == b"x":
            self._pax = records(data)

    def _extras(self, header: bytes, size: int) -> tuple[bytes, bytes, int]:
        pax = self._pax
        name = self._long_name or pax.get(b"path") or name_of(header)
        link = self._long_link or pax.get(b"linkpath") or header[157:257].split(b"\0", 1)[0]
        if b"GNU.sparse.name" in pax:
            name = pax[b"GNU.sparse.name"]
        if b"size" in pax:
            if not pax[b"size"].isdigit() or len(pax[b"size"]) > 18:
                raise ValueError(f"a size of {pax[b'size'][:40]!r}")
            size = int(pax[b"size"])
        return name, link, size

    def _sparse_map(self, header: bytes) -> None:
        """The old GNU format: more of the map may follow the header."""
        more = header[482]
        while more:
            record = self.tape.take(RECORD)
            if len(record) < RECORD:
                raise ValueError("it ends inside the map of a sparse file")
            more = record[504]

    def _entry(self, kind: bytes, name: bytes, link: bytes, size: int, header: bytes, sparse: bool) -> None:
        self._names += len(name) + len(link)
        if self._names > MAX_NAMES:
            self._weigh(0)
        text = name.decode("utf-8", "surrogateescape")
        path = clean_path(text) if len(name) <= MAX_PATH and b"\0" not in name else None
        letter = _KINDS.get(kind)
        if kind == b"\0" and text.endswith("/"):
            letter = DIRECTORY
        if path is None:
            self._odd("MF504", text[:200], _unusable(name))
            letter = None
        elif letter is None:
            self._odd("MF505", path, f"a tar entry of type {kind!r}, which engines leave out or refuse")
        if letter is None or not path or (".wh." in path and self._whiteout(path)):
            self._skip(size)
            return
        mode, owner = self._mode_and_owner(header)
        entry = Entry(letter, mode, size, owner=owner)
        if letter == FILE:
            self._content(path, entry, sparse)
        else:
            self._skip(size)
            self._link(path, entry, link)
        self._keep(path, entry)

    def _whiteout(self, path: str) -> bool:
        folder, _, base = path.rpartition("/")
        if not base.startswith(".wh."):
            return False
        if base == ".wh..wh..opq":
            self.layer.whiteouts[folder] = OPAQUE
        elif not base.startswith(".wh..wh.") and base != ".wh.":
            hidden = f"{folder}/{base[4:]}" if folder else base[4:]
            self.layer.whiteouts.setdefault(hidden, WHITEOUT)
        return True

    def _mode_and_owner(self, header: bytes) -> tuple[int, int]:
        uid = self._pax.get(b"uid", b"")
        if uid.isdigit():
            return number(header[100:108]) & 0o7777, int(uid[:10])
        return mode_and_owner(header[100:116])

    def _link(self, path: str, entry: Entry, link: bytes) -> None:
        target = link.decode("utf-8", "surrogateescape")
        if entry.kind == SYMLINK:
            if len(link) > MAX_PATH:
                self._odd("MF504", path, f"a link of {len(link)} bytes; Linux knows none over {MAX_PATH}")
            entry.link = target[:MAX_PATH]
        elif entry.kind == HARD:
            clean = clean_path(target)
            if clean is None:
                self._odd("MF504", path, f"a hard link to {target[:200]!r}, which is outside the image")
            entry.link = clean or ""
        elif entry.kind in (CHARACTER, BLOCK):
            self._odd("MF506", path, "a device file; engines without root cannot make it")

    def _keep(self, path: str, entry: Entry) -> None:
        entries = self.layer.entries
        older = entries.get(path)
        if older is not None and not older.kind == entry.kind == DIRECTORY:
            # The last one counts. Its place in the order matters, for hard links.
            del entries[path]
            if older.kind != entry.kind or entry.kind == FILE:
                self._odd(
                    "MF507", path, "in the layer twice; engines keep the last, scanners may see the first"
                )
        entries[path] = entry

    def _weigh(self, size: int) -> None:
        """What is kept of a layer is bounded, however many names it holds."""
        self._names += size
        if self._names > MAX_NAMES:
            raise TooLarge(f"layer {self.layer.digest[7:19]} has more than {MAX_NAMES} bytes of names")

    def _odd(self, check: str, path: str, message: str) -> None:
        if len(self.layer.oddities) < MAX_ODDITIES:
            self.layer.oddities.append(Oddity(check, path, message))

    def _content(self, path: str, entry: Entry, sparse: bool) -> None:
        size = entry.size
        if sparse:
            self._odd("MF508", path, "a sparse file, whose content is not looked at")
        if not size or sparse:
            self._skip(size)
            return
        if path.startswith(KEPT_FOLDERS) and self._is_kept(path, size):
            data = self._taken(size)
            entry.text = reduced(path, data) if is_database(path) else data.decode("utf-8", "replace")
            self.kept += len(entry.text)
            self._skip(-size % RECORD, padded=True)
            return
        head = self._taken(min(4, size))
        if head == ZIP and path.endswith(ENDINGS):
            self._archive(path, entry, head)
        elif head.startswith(MAGIC):
            entry.raw_facts = self._facts(head, size)
        else:
            self._skip(size - len(head) + -size % RECORD, padded=True)

    def _is_kept(self, path: str, size: int) -> bool:
        """Is it a file whose text is needed later, and small enough, with what is kept already?"""
        if self.kept > MAX_KEPT:
            return False
        return (is_setting(path) and size <= _MAX_TEXT) or (is_database(path) and size <= MAX_DATABASE)

    def _archive(self, path: str, entry: Entry, head: bytes) -> None:
        """A zip file that programs run from: which native code it brings."""
        entry.raw_facts = facts_of(path)
        scan = Scan(entry.size)
        scan.feed(head)
        left = entry.size - len(head)
        while left:
            data = self.tape.some(left)
            if not data:
                raise ValueError("it ends inside a file")
            left -= len(data)
            scan.feed(data)
        if self.kept <= MAX_KEPT:
            entry.text = scan.text()
            self.kept += len(entry.text)
        self._skip(-entry.size % RECORD, padded=True)

    def _facts(self, head: bytes, size: int) -> Facts | None:
        head += self._taken(min(HEAD, size) - len(head))
        kept = Kept(wanted(head, size))
        kept.feed(head)
        left = size - len(head)
        while left and not kept.done:
            data = self.tape.some(left)
            if not data:
                raise ValueError("it ends inside a file")
            left -= len(data)
            kept.feed(data)
        self._skip(left + -size % RECORD, padded=True)
        facts = read_facts(head, size, kept)
        if facts is not None:
            self._weigh(_weight(facts))
        return facts

    def _taken(self, count: int) -> bytes:
        data = self.tape.take(count)
        if len(data) < count:
            raise ValueError("it ends inside a file")
        return data

    def _skip(self, size: int, *, padded: bool = False) -> None:
        if not self.tape.skip(size if padded else size + -size % RECORD):
            raise ValueError("it ends inside a file")


def _weight(facts: Facts) -> int:
    """Bytes of the lists in it, about."""
    words = (*facts.needed, *facts.rpath, *facts.runpath, *facts.version_defs, *facts.flag_words)
    asked = (version for _, versions in facts.version_needs for version in versions)
    return sum(map(len, words)) + sum(map(len, asked)) + 64 * len(facts.version_needs)


def _unusable(name: bytes) -> str:
    if len(name) > MAX_PATH:
        return f"a path of {len(name)} bytes; the longest that Linux knows has {MAX_PATH}"
    if b"\0" in name:
        return "a path with a null character"
    return "a path that leads out of the image; engines refuse the layer"
