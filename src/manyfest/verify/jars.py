# SPDX-License-Identifier: Apache-2.0
"""Native libraries inside of Java archives, by the names in the archive's directory; nothing is unpacked.

The directory of a zip file is at its end (https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, 4.3.12 and
4.3.16), so the end is all that is looked at.

    >>> sorted(architectures_of(["linux/x86_64/libx.so", "native/libnetty_aarch_64.so", "android/arm/libx.so"]))
    ['amd64', 'arm64']
"""

from __future__ import annotations

import re
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["ENDINGS", "TAIL", "architectures_of", "native_members"]

ENDINGS = (".jar", ".war", ".ear")

TAIL = 1024 * 1024
"""Bytes at the end that are looked at: a directory of some ten thousand members."""

_MOST = 200
_END, _MEMBER = b"PK\x05\x06", b"PK\x01\x02"
_LIBRARY = re.compile(r"\.so(\.\d+)*$")
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
    "armv7": "arm",
    "ppc64le": "ppc64le",
    "ppcle64": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
    "loongarch64": "loong64",
    "mips64el": "mips64le",
}


def native_members(tail: bytes, size: int) -> list[str]:
    """Names of the members that are libraries for Unix systems; ``tail`` is the end of a file of ``size`` bytes."""
    end = tail.rfind(_END)
    if end < 0 or end + 22 > len(tail):
        return []
    offset: int = struct.unpack_from("<I", tail, end + 16)[0]
    at = offset - (size - len(tail))
    if not 0 <= at < len(tail):
        at = tail.find(_MEMBER)
    found: list[str] = []
    while 0 <= at <= end - 46 and tail.startswith(_MEMBER, at) and len(found) < _MOST:
        name_size, extra_size, comment_size = struct.unpack_from("<HHH", tail, at + 28)
        name = tail[at + 46 : at + 46 + name_size].decode("utf-8", "replace")
        if _LIBRARY.search(name) and len(name) < 300 and name.isprintable():
            found.append(name)
        at += 46 + name_size + extra_size + comment_size
    return found


def architectures_of(names: Iterable[str]) -> set[str]:
    """The architectures that the names of Linux libraries speak of, as Go names them."""
    found: set[str] = set()
    for name in names:
        plain = (
            name.lower().replace("x86_64", "amd64").replace("x86-64", "amd64").replace("aarch_64", "aarch64")
        )
        words = set(_SPLIT.split(plain))
        if not words & _ELSEWHERE:
            found |= {_WORDS[word] for word in words if word in _WORDS}
    return found
