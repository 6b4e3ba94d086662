# SPDX-License-Identifier: Apache-2.0
"""Runs of ordinary members of a layer's archive: nearly all of them, and most of the time of a walk.

One loop over the bytes at hand does for files, directories and symbolic links what
:mod:`~manyfest.verify.walk` does step by step for every member, in half of the time. It judges nothing: what is out of
the ordinary in any way (a long or strange name, what may be a program, a name that came before, a file whose text may
be kept, a header that is damaged or may be) stays on the tape for the walk.
"""

from __future__ import annotations

from manyfest.verify.archives import MAGIC as ZIP
from manyfest.verify.layers import DIRECTORY, FILE, HARD, SYMLINK, Entry, clean_path
from manyfest.verify.packages import is_database
from manyfest.verify.tape import RECORD, is_sum_plain, mode_and_owner, name_of, only_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from manyfest.verify.tape import Tape

__all__ = ["KEPT_FOLDERS", "MAGIC", "is_setting", "ordinary_members"]

KEPT_FOLDERS = ("etc/", "var/lib/dpkg/", "lib/apk/", "usr/lib/apk/", "usr/lib/os-release")
"""How the paths begin of files whose text may be needed later."""

_SETTINGS = ("etc/passwd", "etc/group", "etc/ld.so.conf", "etc/os-release", "usr/lib/os-release")

# First bytes of what may run: ELF, scripts, PE, Mach-O in its six spellings (one is also a Java class).
MAGIC: tuple[bytes, ...] = (b"\x7fELF", b"MZ", b"#!", b"\xef\xbb\xbf#")
MAGIC += (b"\xfe\xed\xfa", b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe")
MAGIC += (b"\xca\xfe\xba", b"\xbe\xba\xfe\xca", b"\xbf\xba\xfe\xca")
_LOOKED_INTO = (*MAGIC, ZIP)
_FIRST = frozenset(magic[0] for magic in _LOOKED_INTO)
_LONGEST = max(map(len, _LOOKED_INTO))

_EXTENDED, _LONG_NAME, _DOT, _SLASH = b"xL./"
_BEFORE = ""  # what is no member itself, but says something about the next
_KINDS = {
    b"0"[0]: FILE,
    b"1"[0]: HARD,
    b"2"[0]: SYMLINK,
    b"5"[0]: DIRECTORY,
    _EXTENDED: _BEFORE,
    _LONG_NAME: _BEFORE,
}
_NAME, _SIZE_END, _KIND, _PREFIX = 100, 135, 156, 345
_MODE_AND_OWNER, _SIZE, _LINK = slice(100, 116), slice(124, 135), slice(157, 257)
_MAX_EXTENDED = 1024


def is_setting(path: str) -> bool:
    """Is it a file of settings, which are kept?"""
    return (
        path in _SETTINGS
        or (path.startswith("etc/ld.so.conf.d/") and path.endswith(".conf"))
        or (path.startswith("etc/ld-musl-") and path.endswith(".path"))
    )


def ordinary_members(tape: Tape, entries: dict[str, Entry]) -> int:
    """Take ordinary members off the tape into the entries, as far as the piece at hand goes; the bytes of their names.

    No extended header may be waiting for its member; those that say nothing that is heeded (the time, mostly), or only
    a longer name, are taken with theirs. Raises ValueError as the walk does.
    """
    piece, at = tape.piece, tape.at
    end = len(piece)
    names = 0
    last, prefix, may_be_kept = None, "", False
    taken, name = (
        at,
        b"",
    )  # up to where all is done; the name of the next member, when an extended header said it
    while at + RECORD < end:
        header = piece[at : at + RECORD]
        kind = _KINDS.get(header[_KIND])
        digits = header[_SIZE]
        if kind is None or not digits.isdigit() or header[_SIZE_END] not in b"\0 ":
            break
        if not is_sum_plain(header):
            break
        size = int(digits, 8)
        start = at + RECORD
        after = start + size + -size % RECORD
        if kind == _BEFORE:
            if name or size > _MAX_EXTENDED or after > end:
                break
            said = _name_in(header[_KIND], piece[start : start + size])
            if said is None:
                break
            at, name = after, said
            continue
        if not name:
            length = header.find(b"\0", 0, _NAME)
            name = name_of(header) if header[_PREFIX] or length < 0 else header[:length]
        is_closed = kind == DIRECTORY and name.endswith(b"/")
        folder, _, base = (name[:-1] if is_closed else name).rpartition(b"/")
        if not base or base[0] == _DOT:
            break
        if folder != last:
            clean = clean_path(folder.decode("ascii"))
            if clean is None:
                break
            last, prefix = folder, f"{clean}/" if clean else ""
            may_be_kept = f"{prefix}os-release".startswith(KEPT_FOLDERS)
        path = prefix + base.decode("ascii")
        if path in entries or (may_be_kept and (is_setting(path) or is_database(path))):
            break
        target = link = ""
        if kind != FILE:
            size, after = 0, start
            if kind != DIRECTORY:
                target = header[_LINK].partition(b"\0")[0].decode("ascii")
                to = clean_path(target) if kind == HARD else target
                if to is None:
                    break
                link = to
        # The padding of the smallest files is looked at, too: at worst that leaves them to the walk.
        elif (
            size
            and piece[start] in _FIRST
            and (start + _LONGEST > end or piece.startswith(_LOOKED_INTO, start))
        ):
            break
        mode, owner = mode_and_owner(header[_MODE_AND_OWNER])
        entries[path] = Entry(kind, mode, size, link, owner)
        names += len(name) + len(target)
        at = taken = after
        name = b""
    tape.at = min(taken, end)
    if not tape.skip(taken - tape.at):
        raise ValueError("it ends inside a file")
    return names


def _name_in(kind: int, data: bytes) -> bytes | None:
    """The name that an extended header or GNU's of a long name gives; as of :func:`~manyfest.verify.tape.only_name`."""
    if kind == _EXTENDED:
        return only_name(data)
    name = data.split(b"\0", 1)[0]
    return name if name.isascii() else None
