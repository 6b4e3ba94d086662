# SPDX-License-Identifier: Apache-2.0
"""Native code inside of the archives that Java and Python run from: jar, war, ear, wheel and egg.

They are zip files (https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT), whose directory is at the end, and
they stream by. So every place that looks like a member's header (4.3.7) and has the name of native code is remembered
with what the first bytes of its content say, and the directory (4.3.12) tells at the end which of them are members.
No size is trusted, and neither the archive nor a member is held: some kilobytes are inflated of each library. Archives
inside are looked into, those that are compressed within a budget that grows with the file.

    >>> sorted(architectures_of(["linux/x86_64/libx.so", "native/libnetty_aarch_64.so", "android/arm/libx.so"]))
    ['amd64', 'arm64']
"""

from __future__ import annotations

import re
import struct
import zlib
from bisect import bisect_right

from manyfest.verify.facts import Facts
from manyfest.verify.kinds import HEAD, read_facts
from manyfest.verify.streams import PIECE, failures, inflater

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

__all__ = [
    "ENDINGS",
    "MAGIC",
    "Held",
    "Scan",
    "architectures_of",
    "facts_of",
    "held_in",
    "without_architecture",
]

MAGIC = b"PK\x03\x04"
_JAVA, _PYTHON = (".jar", ".war", ".ear"), (".whl", ".egg")
ENDINGS = _JAVA + _PYTHON

MAX_MEMBERS = 5000
"""Members with native code that are remembered of an archive. The largest real ones have some hundred."""

MAX_INSIDE = 20_000
"""Members of all compressed archives inside of one, together."""

MAX_DEPTH = 3
"""How deep archives may lie in archives: an ear with a war with a jar."""

_MAX_NAME = 512
_MAX_GROUPS = 40
_FREE, _TIMES = 16 * 1024 * 1024, 8
_LOCAL, _CENTRAL, _END = b"\x03\x04", b"\x01\x02", b"\x05\x06"
_LOCAL_SIZE, _CENTRAL_SIZE, _END_SIZE = 30, 46, 22
_STORED, _DEFLATED, _ENCRYPTED = 0, 8, 1
_CONTENT = 2 * HEAD
_WINDOW = max(_LOCAL_SIZE, _CENTRAL_SIZE) + _MAX_NAME + 1024 + _CONTENT
_BATCH = 64 * 1024

_LIBRARIES = (b".so", b".dll", b".dylib", b".jnilib", b".pyd")
_PROGRAM_FOLDERS = (b"bin", b"scripts")
_SPLIT = re.compile(r"[/_.+\-]+")
_ELSEWHERE = frozenset(
    ("android", "freebsd", "sunos", "solaris", "aix", "openbsd", "netbsd", "dragonflybsd", "osx", "darwin")
)
_WORDS = {
    "amd64": "amd64",
    "x64": "amd64",
    "x86": "386",
    "i386": "386",
    "i686": "386",
    "aarch64": "arm64",
    "arm64": "arm64",
    "arm": "arm",
    "armhf": "arm",
    "armel": "arm",
    "armv6": "arm",
    "armv6l": "arm",
    "armv7": "arm",
    "armv7l": "arm",
    "ppc64le": "ppc64le",
    "ppcle64": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
    "loongarch64": "loong64",
    "mips64el": "mips64le",
}


class Held:
    """Native code that an archive holds for ``platforms`` (by its names, where the content could not be looked at),
    under names that speak of the same architectures: how many members, and the name of one."""

    __slots__ = ("count", "name", "platforms")

    def __init__(self, platforms: tuple[str, ...], count: int, name: str) -> None:
        self.platforms = platforms
        self.count = count
        self.name = name

    def __repr__(self) -> str:
        return f"Held({self.platforms}, {self.count}, {self.name!r})"


def facts_of(path: str) -> Facts:
    """What a zip file is by its name."""
    return Facts("jar", machine="Java") if path.endswith(_JAVA) else Facts("wheel", machine="Python")


def held_in(text: str) -> list[Held]:
    """What :meth:`Scan.text` wrote."""
    rows = (line.split("\t") for line in text.split("\n") if line.count("\t") == 2)
    return [Held(tuple(filter(None, p.split(","))), int(count), name) for p, count, name in rows]


class _Local:
    """A place that looks like a member's header: ``kinds`` is what its content is for, ``None`` if that is no native
    code, empty if it could not be seen; ``inner`` what a compressed archive in it holds."""

    __slots__ = ("inner", "is_archive", "kinds", "name", "start")

    def __init__(self, name: bytes, start: int, kinds: tuple[str, ...] | None, *, is_archive: bool) -> None:
        self.name = name
        self.start = start
        self.kinds = kinds
        self.is_archive = is_archive
        self.inner: list[tuple[str, tuple[str, ...]]] = []


class Scan:
    """``feed`` it an archive of ``size`` bytes from its first byte on, then ask for its :meth:`members`."""

    def __init__(self, size: int, depth: int = 0, budget: list[int] | None = None) -> None:
        self._budget = [_FREE + _TIMES * size] if budget is None else budget
        self._inside = 0
        self._depth = depth
        self._parts: list[bytes | memoryview] = []
        self._waiting = 0
        self._buffer = b""
        self._at = 0  # where in the archive the buffer begins
        self._locals: dict[int, _Local] = {}
        self._central: list[tuple[int, int, bytes, int]] = []
        self._directory = (0, 0)  # where the last directory begins and ends, as it says
        self._inflating: tuple[Any, Scan, _Local] | None = None

    def feed(self, data: bytes | memoryview) -> None:
        """The next bytes."""
        self._parts.append(data)
        self._waiting += len(data)
        if self._waiting >= _BATCH:
            self._look(last=False)

    def members(self) -> list[tuple[str, tuple[str, ...]]]:
        """Names (``outer.jar!/inner``), and what each is for: empty where that could not be seen."""
        self._look(last=True)
        found: list[tuple[str, tuple[str, ...]]] = []
        inside: list[tuple[int, int, str]] = [
            (0, 1 << 62, "")
        ]  # where archives begin and end, and their names
        records = self._central
        for _ in range(MAX_DEPTH):
            left, more = [], []
            for record in records:
                place, offset, name, size = record
                begin, end, prefix = inside[bisect_right(inside, place, key=lambda each: each[0]) - 1]
                local = self._locals.get(begin + offset) if begin <= place < end else None
                if local is None or local.name != name:
                    left.append(record)
                    continue
                shown = prefix + _shown(name)
                found += [(f"{shown}!/{inner}", kinds) for inner, kinds in local.inner]
                if local.is_archive:
                    more.append((local.start, local.start + size, f"{shown}!/"))
                elif local.kinds is not None:
                    found.append((shown, local.kinds))
            records, inside = left, sorted(more)
            if not inside:
                break
        begin, end = self._directory
        unseen = [name for place, _, name, _ in records if begin <= place < end and not _is_archive(name)]
        found += [(_shown(name), ()) for name in unseen]
        return found

    def text(self) -> str:
        """What is kept of the archive: a line for each kind of native code, as :func:`held_in` reads it."""
        groups: dict[tuple[tuple[str, ...], frozenset[str]], list[Any]] = {}
        for name, kinds in self.members():
            said = frozenset(architectures_of([name]))
            known = kinds or tuple(f"linux/{each}" for each in sorted(said))
            if is_elsewhere(name) or not (known and name.isprintable()):
                continue
            group = groups.setdefault((known, said), [0, name])
            group[0] += 1
        rows = [f"{','.join(known)}\t{count}\t{name}" for (known, _), (count, name) in groups.items()]
        return "\n".join(rows[:_MAX_GROUPS])

    def _look(self, *, last: bool) -> None:
        buffer = b"".join((self._buffer, *self._parts))
        self._parts, self._waiting = [], 0
        at, end = 0, len(buffer) - (0 if last else _WINDOW)
        while True:
            if self._inflating is not None:
                at = self._unpack(buffer, at)
                if self._inflating is not None:
                    break
            at = buffer.find(b"PK", at)
            if at < 0 or at >= end:
                break
            at = self._mark(buffer, at)
        # A header that is not whole yet is looked at again; so is what may be the first half of "PK".
        keep = len(buffer) if self._inflating is not None else max(0, at if at >= 0 else len(buffer) - 1)
        self._buffer = buffer[keep:]
        self._at += keep

    def _mark(self, buffer: bytes, at: int) -> int:
        """Remember a header that is at this place; where to look next."""
        kind = buffer[at + 2 : at + 4]
        if kind == _LOCAL and at + _LOCAL_SIZE <= len(buffer):
            return self._local(buffer, at)
        if kind == _CENTRAL and at + _CENTRAL_SIZE <= len(buffer):
            packed, _, name_size = struct.unpack_from("<IIH", buffer, at + 20)
            offset = struct.unpack_from("<I", buffer, at + 42)[0]
            name = buffer[at + _CENTRAL_SIZE : at + _CENTRAL_SIZE + name_size]
            if _is_wanted(name) and len(self._central) < MAX_MEMBERS:
                self._central.append((self._at + at, offset, name, packed))
        elif kind == _END and at + _END_SIZE <= len(buffer):
            size = struct.unpack_from("<I", buffer, at + 12)[0]
            self._directory = (self._at + at - size, self._at + at)
        return at + 2

    def _local(self, buffer: bytes, at: int) -> int:
        flags, method = struct.unpack_from("<HH", buffer, at + 6)
        size, name_size, extra_size = struct.unpack_from("<IHH", buffer, at + 22)
        name = buffer[at + _LOCAL_SIZE : at + _LOCAL_SIZE + name_size]
        if not _is_wanted(name) or len(self._locals) >= MAX_MEMBERS:
            return at + 4
        start: int = at + _LOCAL_SIZE + name_size + extra_size
        if _is_archive(name):
            local = _Local(name, self._at + start, None, is_archive=method == _STORED)
        else:
            content = b"" if flags & _ENCRYPTED else buffer[start : start + _CONTENT]
            local = _Local(name, self._at + start, _kinds(content, method, size), is_archive=False)
        self._locals[self._at + at] = local
        is_packed = _is_archive(name) and method == _DEFLATED and not flags & _ENCRYPTED
        if is_packed and self._depth < MAX_DEPTH and start < len(buffer):
            self._inflating = (inflater()(wbits=-15), Scan(0, self._depth + 1, self._budget), local)
            return start
        return at + 4

    def _unpack(self, buffer: bytes, at: int) -> int:
        """Feed the archive that is being inflated; where its content ends."""
        if self._inflating is None:
            return at
        engine, inner, local = self._inflating
        feed = buffer[at:]
        try:
            while feed and not engine.eof and self._budget[0] > 0:
                piece = engine.decompress(feed, PIECE)
                feed = engine.unconsumed_tail
                self._budget[0] -= len(piece) + 1
                inner.feed(piece)
        except failures():
            self._inflating = None  # no archive after all: look on behind its header
            return at
        if engine.eof or self._budget[0] <= 0:
            self._inflating = None
            local.inner = inner.members()[: MAX_INSIDE - self._inside]
            self._inside += len(local.inner)
            return len(buffer) - len(engine.unused_data if engine.eof else feed)
        return len(buffer)


def architectures_of(names: Iterable[str]) -> set[str]:
    """The architectures that the names of Linux libraries speak of, as Go names them."""
    found: set[str] = set()
    for name in names:
        words = _words_of(name)
        if not words & _ELSEWHERE:
            found |= {_WORDS[word] for word in words if word in _WORDS}
    return found


def is_elsewhere(name: str) -> bool:
    """Does a name speak of a system whose libraries may look like Linux's?"""
    return bool(_words_of(name) & _ELSEWHERE)


def without_architecture(name: str) -> str:
    """A file's name less the words for architectures: what siblings have in common."""
    return "-".join(word for word in _SPLIT.split(_plain(name)) if word not in _WORDS)


def _plain(name: str) -> str:
    small = name.lower().replace("x86_64", "amd64").replace("x86-64", "amd64")
    return small.replace("aarch_64", "aarch64")


def _words_of(name: str) -> set[str]:
    return set(_SPLIT.split(_plain(name)))


def _is_wanted(name: bytes) -> bool:
    return len(name) <= _MAX_NAME and (_is_archive(name) or _is_native(name))


def _is_native(name: bytes) -> bool:
    """A library of any system, or a program as wheels put them into a folder of PATH?"""
    if name.endswith(_LIBRARIES):
        return True
    folder, _, base = name.rpartition(b"/")
    _, versioned, version = base.partition(b".so.")
    if versioned and version.replace(b".", b"").isdigit():
        return True
    return folder.rpartition(b"/")[2] in _PROGRAM_FOLDERS and base != b"" and b"." not in base


def _is_archive(name: bytes) -> bool:
    return name.endswith((b".jar", b".war"))


def _shown(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def _kinds(content: bytes, method: int, size: int) -> tuple[str, ...] | None:
    """What native code is for by its first bytes; ``None`` for something else; empty when they cannot be read."""
    if method == _DEFLATED:
        try:
            content = zlib.decompressobj(-15).decompress(content, HEAD)
        except zlib.error:
            content = b""
    elif method != _STORED:
        content = b""
    if not content:
        return ()
    head = content[:HEAD]
    facts = read_facts(head, max(size, len(head)))
    if facts is None or facts.kind not in ("elf", "pe", "macho"):
        return None
    return tuple(str(each) for each in facts.platforms) or None
