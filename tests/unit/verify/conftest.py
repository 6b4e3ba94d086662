# SPDX-License-Identifier: Apache-2.0
"""Trees made of paths and facts, without any bytes."""

from __future__ import annotations

from typing import Any

from manyfest.platforms import Platform
from manyfest.verify.facts import Facts, Shebang
from manyfest.verify.layers import DIRECTORY, FILE, HARD, SYMLINK, WHITEOUT, Entry, Layer
from manyfest.verify.tree import Tree

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
_MACHINES = {"amd64": 62, "arm64": 183, "386": 3, "arm": 40, "ppc64le": 21, "s390x": 22}
_BITS = {"386": 32, "arm": 32}


def elf(platform: str = "linux/amd64", **fields: Any) -> Facts:
    """A library, unless more is said."""
    found = Platform.parse(platform)
    known = {
        "platforms": (found,),
        "machine": found.architecture,
        "machine_code": _MACHINES[found.architecture],
        "elf_class": _BITS.get(found.architecture, 64),
        "order": "big" if found.architecture == "s390x" else "little",
        "type": "dyn",
        "linking": "shared",
    }
    return Facts("elf", **{**known, **fields})


def program(platform: str = "linux/amd64", **fields: Any) -> Facts:
    """A program with glibc's loader, unless another is said."""
    loader = fields.pop("interpreter", "/lib64/ld-linux-x86-64.so.2")
    linking = "dynamic" if loader else "static"
    return elf(platform, **{"linking": linking, "interpreter": loader, **fields})


def script(interpreter: str, argument: str = "", *, crlf: bool = False) -> Facts:
    """A script."""
    shebang = Shebang(interpreter, argument, crlf)
    return Facts("script", interpreter=interpreter, shebang=shebang)


def entry(what: Facts | str | None, mode: int = 0o755) -> Entry:
    """Facts make a file, ``"-> x"`` a link, ``"= x"`` a hard link, ``"/"`` a folder, other text a file of settings."""
    if isinstance(what, Facts) or what is None:
        return Entry(FILE, mode, 1000, facts=what)
    if what == "/":
        return Entry(DIRECTORY, mode)
    if what.startswith("-> "):
        return Entry(SYMLINK, 0o777, link=what[3:])
    if what.startswith("= "):
        return Entry(HARD, mode, link=what[2:])
    return Entry(FILE, mode, len(what), text=what)


def layer(files: dict[str, Any], digest: str = "sha256:" + "0" * 64) -> Layer:
    """A layer of what :func:`entry` takes, or of entries; paths with ``!`` in front are whiteouts."""
    made = {path: each if isinstance(each, Entry) else entry(each) for path, each in files.items()}
    hidden = {path[1:]: WHITEOUT for path in made if path.startswith("!")}
    return Layer(digest, entries={p: e for p, e in made.items() if not p.startswith("!")}, whiteouts=hidden)


def tree(*layers: dict[str, Any]) -> Tree:
    """Layers over each other."""
    return Tree(layer(each) for each in layers)


GLIBC: dict[str, Any] = {
    "lib64/ld-linux-x86-64.so.2": elf(soname="ld-linux-x86-64.so.2", version_defs=("GLIBC_2.2.5",)),
    "usr/lib/x86_64-linux-gnu/libc.so.6": elf(
        soname="libc.so.6", needed=("ld-linux-x86-64.so.2",), version_defs=("GLIBC_2.2.5", "GLIBC_2.34")
    ),
}
