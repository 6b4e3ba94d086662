# SPDX-License-Identifier: Apache-2.0
"""What a layer holds: its entries, with the facts of the files that run, and what was odd about it.

A :class:`Layer` is what one pass over a layer leaves behind. It says nothing of other layers, so it is kept by the
layer's digest (:mod:`~manyfest.verify.cache`) and shared by all platforms and images that have the layer.
"""

from __future__ import annotations

from manyfest.values import Value
from manyfest.verify.facts import Facts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["BLOCK", "CHARACTER", "DIRECTORY", "FILE", "HARD", "OPAQUE", "PIPE", "SYMLINK", "WHITEOUT"]
__all__ += ["Entry", "Layer", "Oddity", "clean_path"]

FILE, DIRECTORY, SYMLINK, HARD, CHARACTER, BLOCK, PIPE = "f", "d", "l", "h", "c", "b", "p"
WHITEOUT, OPAQUE = "w", "o"


class Entry:
    """One member of a layer.

    ``kind``: one of the letters above; ``mode``: permission bits; ``link``: the target of a link, from the root and
    clean for hard ones; ``text``: the content of the few files that are settings (ld.so.conf, passwd), and
    what :mod:`~manyfest.verify.packages` keeps of package databases.
    """

    __slots__ = ("_facts", "kind", "link", "mode", "owner", "raw_facts", "size", "text")

    def __init__(
        self,
        kind: str,
        mode: int = 0o755,
        size: int = 0,
        link: str = "",
        owner: int = 0,
        facts: Facts | dict[str, Any] | None = None,
        text: str = "",
    ) -> None:
        self.kind = kind
        self.mode = mode
        self.size = size
        self.link = link
        self.owner = owner
        self.raw_facts = facts
        self.text = text

    @property
    def facts(self) -> Facts | None:
        """What its bytes say; read from the cache's form when first asked for."""
        if isinstance(self.raw_facts, dict):
            self.raw_facts = Facts.from_json(self.raw_facts)
        return self.raw_facts

    @property
    def has_more(self) -> bool:
        """Is there more to say than its kind, mode and size?"""
        return bool(self.link or self.owner or self.text or self.raw_facts is not None)

    def to_json(self) -> list[Any]:
        """Its fields, as far as there is something in them."""
        facts = self.raw_facts.to_json() if isinstance(self.raw_facts, Facts) else self.raw_facts
        shown: list[Any] = [self.kind, self.mode, self.size, self.link, self.owner, facts, self.text]
        while shown and not shown[-1]:
            shown.pop()
        return shown

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Entry) and self.to_json() == other.to_json()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Entry({', '.join(map(repr, self.to_json()))})"


class Oddity(Value):
    """Something wrong or strange about a layer itself: the id of a check, the path, a sentence."""

    __slots__ = ("check", "path", "message")  # noqa: RUF023
    check: str
    path: str
    message: str

    def __init__(self, check: str, path: str, message: str) -> None:
        self._set(check=check, path=path, message=message)


class Layer:
    """``entries`` by clean path (no slash at either end), in the order of the archive; whiteouts stand apart.

    ``size`` packed bytes, ``unpacked`` plain ones.
    """

    __slots__ = ("diff_id", "digest", "entries", "oddities", "packing", "size", "unpacked", "whiteouts")

    def __init__(
        self,
        digest: str,
        size: int = 0,
        diff_id: str = "",
        unpacked: int = 0,
        packing: str = "",
        entries: Mapping[str, Entry] | None = None,
        whiteouts: Mapping[str, str] | None = None,
        oddities: list[Oddity] | None = None,
    ) -> None:
        self.digest = digest
        self.size = size
        self.diff_id = diff_id
        self.unpacked = unpacked
        self.packing = packing
        self.entries: dict[str, Entry] = dict(entries or {})
        self.whiteouts: dict[str, str] = dict(whiteouts or {})
        self.oddities: list[Oddity] = list(oddities or [])

    def to_json(self) -> dict[str, Any]:
        """For the cache."""
        return {
            "digest": self.digest,
            "size": self.size,
            "diff_id": self.diff_id,
            "unpacked": self.unpacked,
            "packing": self.packing,
            "entries": _columns(self.entries),
            "whiteouts": self.whiteouts,
            "oddities": [[o.check, o.path, o.message] for o in self.oddities],
        }

    @classmethod
    def from_json(cls, shown: dict[str, Any]) -> Layer:
        """What :meth:`to_json` wrote. Raises KeyError, TypeError or ValueError for anything else."""
        return cls(
            str(shown["digest"]),
            int(shown["size"]),
            str(shown["diff_id"]),
            int(shown["unpacked"]),
            str(shown["packing"]),
            _entries_of(shown["entries"]),
            shown["whiteouts"],
            [Oddity(*fields) for fields in shown["oddities"]],
        )

    def __repr__(self) -> str:
        return f"Layer({self.digest[:19]}, {len(self.entries)} entries)"


def _columns(entries: Mapping[str, Entry]) -> dict[str, Any]:
    """What all entries have, column by column, and what few have by path: half the work of a list for each."""
    listed = entries.values()
    return {
        "paths": list(entries),
        "kinds": "".join([entry.kind for entry in listed]),
        "modes": [entry.mode for entry in listed],
        "sizes": [entry.size for entry in listed],
        "more": {path: entry.to_json()[3:] for path, entry in entries.items() if entry.has_more},
    }


def _entries_of(columns: Mapping[str, Any]) -> dict[str, Entry]:
    more: dict[str, list[Any]] = columns["more"]
    rows = zip(columns["paths"], columns["kinds"], columns["modes"], columns["sizes"], strict=True)
    return {path: Entry(kind, mode, size, *more.get(path, ())) for path, kind, mode, size in rows}


def clean_path(name: str) -> str | None:
    """A path from the root without slashes at its ends; ``""`` is the root, ``None`` leads out of it.

    >>> clean_path("./usr/bin/"), clean_path("/etc//passwd"), clean_path("a/../../b")
    ('usr/bin', 'etc/passwd', None)
    """
    if name.startswith("./"):
        name = name[2:]
    name = name.strip("/")
    if "." not in name and "//" not in name:
        return name
    if "//" not in name and "/." not in name and name[0] != ".":
        return name
    parts: list[str] = []
    for part in name.split("/"):
        if part == "..":
            if not parts:
                return None
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)
