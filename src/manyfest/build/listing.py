# SPDX-License-Identifier: Apache-2.0
"""What a layer of a base lists, as text that is searched and not parsed: one line for each member.

A base may have a hundred thousand files, of which a build asks for a handful, for each of its platforms. So a listing
stays the bytes that are kept in the cache; :meth:`Listing.find` looks for a line.

:class:`Below` is several listings over each other, by the rules of
https://github.com/opencontainers/image-spec/blob/v1.1.1/layer.md#applying-changesets.
"""

from __future__ import annotations

import json
import posixpath
import zlib
from typing import TYPE_CHECKING

from manyfest.build.archives import Part
from manyfest.build.layer import Entry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from manyfest.build.archives import Spool

__all__ = ["EMPTIED", "REMOVED", "Below", "Listing", "ancestors"]

REMOVED, EMPTIED = ".wh.", ".wh..wh..opq"
_HEAD = b"listing 1 %08x\n"
_HEAD_SIZE = len(_HEAD % 0)


class Listing:
    """The members of one layer. ``raw`` is what :meth:`write` gives."""

    def __init__(self, raw: bytes, spool: Spool) -> None:
        self._raw = raw
        self._spool = spool

    @staticmethod
    def write(entries: Iterable[Entry]) -> bytes:
        """The text of a listing."""
        body = b"\n" + b"".join(_line(entry) for entry in entries)
        return _HEAD % zlib.crc32(body) + body

    @staticmethod
    def is_whole(raw: bytes) -> bool:
        """Is it what was written?"""
        return raw[:_HEAD_SIZE] == _HEAD % zlib.crc32(raw[_HEAD_SIZE:])

    def find(self, path: str) -> Entry | None:
        """The last member of that name."""
        # A line begins with its path as JSON text, which has neither quotes nor line ends in it.
        at = self._raw.rfind(b"\n[%s," % json.dumps(path).encode())
        return None if at < 0 else _entry(self._raw[at + 1 : self._raw.index(b"\n", at + 1)], self._spool)

    def has_below(self, folder: str) -> bool:
        """Is any member in that folder or further down?"""
        return b"\n[%s/" % json.dumps(folder).encode()[:-1] in self._raw

    def __iter__(self) -> Iterator[Entry]:
        for line in self._raw[_HEAD_SIZE:].split(b"\n"):
            if line:
                yield _entry(line, self._spool)


class Below:
    """Layers over each other, lowest first. ``find`` answers as the files that they leave would."""

    def __init__(self, layers: Sequence[Listing]) -> None:
        self.layers = tuple(layers)

    def find(self, path: str) -> Entry | None:
        """What is at a path after all layers."""
        return self._find(path, len(self.layers))

    def _find(self, path: str, top: int) -> Entry | None:
        implied = False
        for number in range(top - 1, -1, -1):
            layer = self.layers[number]
            entry = layer.find(path)
            if entry is not None and entry.kind == "hard":
                target = self._find(entry.link, number + 1)
                return target.moved(path) if target is not None else None
            if entry is not None:
                # A layer above that has something below a file makes a folder of it.
                return entry if not implied or entry.kind != "file" else Entry(path, "dir", 0o755)
            implied = implied or layer.has_below(path)
            if _hides(layer, path):
                break
        return Entry(path, "dir", 0o755) if implied else None


def ancestors(path: str) -> list[str]:
    """The path and the folders that it is in, innermost first."""
    parts = path.split("/")
    return ["/".join(parts[:i]) for i in range(len(parts), 0, -1)]


def _hides(layer: Listing, path: str) -> bool:
    """Does a layer take away what lower ones have at a path, or above it?"""
    for each in ancestors(path):
        folder, name = posixpath.split(each)
        if layer.find(posixpath.join(folder, REMOVED + name)) or layer.find(posixpath.join(folder, EMPTIED)):
            return True
        if each != path and (entry := layer.find(each)) is not None and entry.kind != "dir":
            return True
    return False


def _line(entry: Entry) -> bytes:
    start = entry.content.start if isinstance(entry.content, Part) else 0
    fields = [entry.path, entry.kind, entry.mode, entry.uid, entry.gid, entry.size, entry.link, start]
    if entry.pax or entry.device != (0, 0):
        fields += [list(entry.device), [list(pair) for pair in entry.pax]]
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def _entry(line: bytes, spool: Spool) -> Entry:
    fields: list[Any] = json.loads(line)
    path, kind, mode, uid, gid, size, link, start = fields[:8]
    device, pax = fields[8:] or ((0, 0), ())
    return Entry(
        path,
        kind,
        mode,
        uid=uid,
        gid=gid,
        size=size,
        link=link,
        device=(device[0], device[1]),
        pax=tuple((key, text) for key, text in pax),
        content=Part(spool, start, size) if kind == "file" else None,
    )
