# SPDX-License-Identifier: Apache-2.0
"""Which reader a file's first bytes call for. Most files of an image call for none, and cost a look-up.

>>> read_facts(b"#!/bin/sh\\n", 10).interpreter, read_facts(b"plain text", 10)
('/bin/sh', None)
"""

from __future__ import annotations

import struct

from manyfest.verify import elf, machines, macho, pe, script
from manyfest.verify._reader import Reader
from manyfest.verify.facts import Facts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from manyfest.verify.facts import More

__all__ = ["HEAD", "read_facts", "wanted"]

HEAD = 4096
"""How many first bytes to hand over as ``head``; files shorter than that come whole."""

_AR = b"!<arch>\n"
_AR_HEADER = 60
_MEMBERS_WINDOW = 16 << 10
_MOST_MEMBERS = 8
_ZIP = b"PK\x03\x04"
_WASM = b"\0asm"
_JAVA_OFFSET = 44  # class version 45 is Java 1


def read_facts(head: bytes, size: int, more: More | None = None) -> Facts | None:
    """What the file says, or ``None`` when it is no kind of program that manyfest knows.

    ``head`` is the first :data:`HEAD` bytes, or all; ``size`` the file's; ``more(offset, length)`` gives further
    bytes, or as many of them as there are. Without it, or with what :func:`wanted` did not keep, the facts say
    what is ``incomplete``. Reads at most 1 MiB; bad content is a ``problem``, never an exception.
    """
    reader = _READERS.get(head[:2])
    return reader(head, size, more) if reader else None


def wanted(head: bytes, size: int) -> tuple[tuple[int, int], ...]:
    """The ranges ``(offset, length)`` beyond the head that :func:`read_facts` may ask for, for readers that stream.

    Sorted, apart, at most :data:`manyfest.verify.elf.KEEP` bytes together. All are optional: without those at the
    end of an ARM file, for example, its level stays unknown.
    """
    if size <= len(head):
        return ()
    if head.startswith(elf.MAGIC):
        return elf.wanted(head, size)
    if head.startswith(_AR):
        return _ar_wanted(head, size)
    return pe.wanted(head, size) if head.startswith(pe.MAGIC) else ()


def _elf(head: bytes, size: int, more: More | None) -> Facts | None:
    return elf.read(head, size, more) if head.startswith(elf.MAGIC) else None


def _macho(head: bytes, size: int, _more: More | None) -> Facts | None:
    return macho.read(head, size) if head[:4] in macho.MAGICS else None


def _script(head: bytes, size: int, _more: More | None) -> Facts | None:
    if head.startswith((script.MAGIC, script.MARK + script.MAGIC)):
        return script.read(head, size)
    return None


def _cafe(head: bytes, size: int, _more: More | None) -> Facts | None:
    """A universal Mach-O, or a Java class."""
    if head[:4] not in macho.FAT or len(head) < 8:
        return None
    version = struct.unpack_from(">H", head, 6)[0]
    if head[:4] == macho.FAT[0] and version > macho.MOST_PARTS:
        return Facts("class", machine="Java", java=version - _JAVA_OFFSET, order="big")
    return macho.read_fat(head, size)


def _zip(head: bytes, _size: int, _more: More | None) -> Facts | None:
    """A jar starts with its manifest's folder, or with ``jar``'s mark 0xCAFE in the first extra field."""
    if head[:4] != _ZIP or len(head) < 30:
        return None
    name_size, extra_size = struct.unpack_from("<HH", head, 26)
    name, extra = head[30 : 30 + name_size], head[30 + name_size : 30 + name_size + extra_size]
    if name.startswith(b"META-INF/") or extra[:2] == b"\xfe\xca":
        return Facts("jar", machine="Java")
    return None


def _wasm(head: bytes, _size: int, _more: More | None) -> Facts | None:
    if head[:4] != _WASM:
        return None
    return Facts("other", machine="WebAssembly", order="little")


def _ar_wanted(head: bytes, size: int) -> tuple[tuple[int, int], ...]:
    """Where the first members after the symbol table are, when the head does not reach them."""
    first = _ar_size(head[8 : 8 + _AR_HEADER])
    start = max(len(head), 8 + _AR_HEADER + first) if first >= 0 else size
    length = min(_MEMBERS_WINDOW, size - start)
    return ((start, length),) if length > 0 else ()


def _ar_size(header: bytes) -> int:
    """The size that an archive's member says, or -1 when that is not a member's header."""
    digits = header[48:58].rstrip(b" ")
    return int(digits) if len(header) == _AR_HEADER and header[58:] == b"`\n" and digits.isdigit() else -1


def _ar(head: bytes, size: int, more: More | None) -> Facts | None:
    """A static library (or a Debian package): the platform is that of its first object."""
    if not head.startswith(_AR):
        return None
    reader, at = Reader(head, size, more), 8
    for _ in range(_MOST_MEMBERS):
        if at >= reader.size:
            break
        raw = reader.take(at, _AR_HEADER + 64)
        if len(raw) < _AR_HEADER:
            return Facts("ar", incomplete=("members",))
        length = _ar_size(raw[:_AR_HEADER])
        if length < 0:
            return Facts("ar", problem=f"no member's header at byte {at}")
        name, body = raw[:16].rstrip(b" "), raw[_AR_HEADER:]
        if name.startswith(b"#1/") and name[3:].isdigit():  # BSD: the name comes before the content
            body = reader.take(at + _AR_HEADER + int(name[3:]), 64)
        if body.startswith(elf.MAGIC):
            return _member(body)
        at += _AR_HEADER + length + length % 2
    return Facts("ar")


def _member(body: bytes) -> Facts:
    found = elf.platform_of(body)
    if elf.header_problem(body, len(body)):
        return Facts("ar")
    header = elf.Header(body)
    identity = machines.identify(header.machine, header.bits, header.order, header.flags)
    return Facts(
        "ar",
        platforms=(found,) if found else (),
        machine=identity.machine,
        machine_code=header.machine,
        elf_class=header.bits,
        order=header.order,
        abi=identity.abi,
        flags=header.flags,
        flag_words=identity.words,
        float_abi=identity.float_abi,
    )


_READERS: dict[bytes, Callable[[bytes, int, More | None], Facts | None]] = {
    elf.MAGIC[:2]: _elf,
    script.MAGIC: _script,
    script.MARK[:2]: _script,
    pe.MAGIC: pe.read,
    b"\xca\xfe": _cafe,
    _ZIP[:2]: _zip,
    _AR[:2]: _ar,
    _WASM[:2]: _wasm,
    **{magic[:2]: _macho for magic in macho.MAGICS},
}
