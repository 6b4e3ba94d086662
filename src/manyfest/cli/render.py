# SPDX-License-Identifier: Apache-2.0
"""Values as people read them. Plain text: what goes down a pipe is what a terminal shows.

>>> print(table(("PLATFORM", "SIZE"), [("linux/amd64", "1 kB"), ("linux/arm/v7", "12 kB")], right=(1,)))
PLATFORM       SIZE
linux/amd64    1 kB
linux/arm/v7  12 kB
>>> size(1536), size(3_200_000), printable("a\\x1b[31mb")
('1.5 kB', '3.2 MB', 'a\\\\x1b[31mb')
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["duration", "fields", "mapping", "media_name", "plural", "printable", "size", "table"]

_GAP = "  "
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_MEDIA_NAMES = {
    "application/vnd.oci.image.index.v1+json": "OCI index",
    "application/vnd.oci.image.manifest.v1+json": "OCI manifest",
    "application/vnd.docker.distribution.manifest.list.v2+json": "Docker list",
    "application/vnd.docker.distribution.manifest.v2+json": "Docker manifest",
}


def printable(text: str) -> str:
    """The text with control characters spelled out: names come from strangers, terminals obey escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def size(count: int) -> str:
    """Bytes in decimal units with at most three digits."""
    value = float(count)
    for unit in _UNITS:
        if value < 999.5 or unit == _UNITS[-1]:
            break
        value /= 1000
    if unit == "B" or value >= 100:
        return f"{value:.0f} {unit}"
    return f"{value:.1f} {unit}"


def duration(seconds: float) -> str:
    """Seconds as ``0.4 s``, ``12 s``, ``3 min 05 s``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60:02d} s"


def plural(count: int, noun: str, nouns: str = "") -> str:
    """``1 platform``, ``2 platforms``."""
    return f"{count} {noun if count == 1 else nouns or noun + 's'}"


def media_name(media_type: str) -> str:
    """What people call a media type; the media type itself when nobody does."""
    return _MEDIA_NAMES.get(media_type, media_type)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Aligned columns under a head line; numbers of ``right`` columns are aligned right."""
    lines = [tuple(head), *(tuple(printable(cell).replace("\n", " ") for cell in row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    shown = (
        _GAP.join(
            c.rjust(w) if i in right else c.ljust(w)
            for i, (c, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
    return "\n".join(line.rstrip() for line in shown)


def fields(pairs: Iterable[tuple[str, str]], indent: str = "") -> str:
    """``name: value`` lines with the values under each other; empty values are left out."""
    shown = [(name, printable(value)) for name, value in pairs if value]
    width = max((len(name) for name, _ in shown), default=0) + 1
    # A line break in an annotation must not look like a field of ours.
    below = "\n" + indent + " " * (width + 1)
    told = ((name, value.replace("\n", below)) for name, value in shown)
    return "\n".join(f"{indent}{name + ':':<{width}} {value}" for name, value in told)


def mapping(values: Mapping[str, str]) -> str:
    """``a=1, b=2``."""
    return ", ".join(f"{key}={value}" for key, value in values.items())
