# SPDX-License-Identifier: Apache-2.0
"""Where a program's libraries are, found as its own loader would find them, glibc's or musl's.

glibc (ld.so(8)): a name with a slash is a path; else DT_RPATH of the asking object and of those that asked for it (if
the object has no DT_RUNPATH), ``LD_LIBRARY_PATH``, DT_RUNPATH, the cache that ldconfig makes of ld.so.conf, and the
folders built in, which for Debian include those of the triple. A candidate for another machine is passed over.

musl (ldso/dynlink.c): ``LD_LIBRARY_PATH``, then DT_RUNPATH or DT_RPATH of the object and of those that asked for it,
then ``/etc/ld-musl-ARCH.path`` or /lib, /usr/local/lib and /usr/lib. The names of its own parts are itself, and it
knows no symbol versions.
"""

from __future__ import annotations

from manyfest.platforms import names
from manyfest.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from manyfest.verify.facts import Facts
    from manyfest.verify.tree import Node, Tree

__all__ = ["Closure", "Lack", "Libraries", "Loaded"]

MAX_OBJECTS = 2000
"""Libraries of one program; the largest real ones have some three hundred."""

MAX_LOADED = 1_000_000
"""Libraries of all programs of an image; a large real one has some ten thousand programs with ten each."""

_MAX_CONFIGS = 200
_WITH_ABIS = (8, 21)  # MIPS, 64-bit PowerPC
_MUSL_DEFAULT = ("/lib", "/usr/local/lib", "/usr/lib")
_MUSL_OWN = ("libc.", "libpthread.", "librt.", "libm.", "libdl.", "libutil.", "libxnet.")
_GLIBC_DEFAULT = (
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
    "/lib32",
    "/usr/lib32",
    "/libx32",
    "/usr/libx32",
)


class Loaded:
    """An object of a running program: its real path, its facts, and who asked for it."""

    __slots__ = ("by", "facts", "folder", "path")

    def __init__(self, path: str, facts: Facts, by: Loaded | None, folder: str = "") -> None:
        self.path = path
        self.facts = facts
        self.by = by
        self.folder = folder or f"/{path.rpartition('/')[0]}"

    def ancestors(self) -> Iterator[Loaded]:
        """The object itself, who asked for it, and so on to the program."""
        at: Loaded | None = self
        while at is not None:
            yield at
            at = at.by


class Lack(Value):
    """What a program lacks: ``kind`` is ``"library"``, ``"version"`` or ``"cache"``; ``by`` the object that asks."""

    __slots__ = ("kind", "name", "by", "detail")  # noqa: RUF023
    kind: str
    name: str
    by: str
    detail: str

    def __init__(self, kind: str, name: str, by: str, detail: str = "") -> None:
        self._set(kind=kind, name=name, by=by, detail=detail)


class Closure:
    """A program with all that it loads, in the loader's order, and what it lacks."""

    __slots__ = ("lacks", "objects")

    def __init__(self) -> None:
        self.objects: list[Loaded] = []
        self.lacks: list[Lack] = []


class Libraries:
    """The search in one image; remembers what it found, since programs share their libraries."""

    def __init__(self, tree: Tree, library_path: str = "") -> None:
        self._tree = tree
        self._environment = tuple(part for part in library_path.replace(";", ":").split(":") if part)
        self._configured = tuple(_ld_so_conf(tree))
        self._has_cache = tree.find("/etc/ld.so.cache").node is not None
        self._loaded = 0
        self._known: dict[tuple[str, tuple[str, ...], int, str, int], tuple[str, Node | None, str, str]] = {}

    @property
    def is_spent(self) -> bool:
        """Were there so many libraries that some were not followed?"""
        return self._loaded > MAX_LOADED

    def closure(self, path: str, facts: Facts, loader: str = "") -> Closure:
        """Everything a program loads; ``path`` is its real path, ``loader`` the real path of its loader."""
        found = Closure()
        program = Loaded(path, facts, None)
        musl = "ld-musl" in facts.interpreter
        by_name: dict[str, Loaded | None] = {}
        if loader:
            node = self._tree.find(f"/{loader}").file
            if node is not None and node.entry.facts is not None:
                by_name[facts.interpreter.rpartition("/")[2]] = Loaded(loader, node.entry.facts, program)
        queue = [program]
        for loaded in queue:
            found.objects.append(loaded)
            for name in loaded.facts.needed:
                self._loaded += 1
                if name in by_name or len(queue) >= MAX_OBJECTS or self.is_spent:
                    continue
                if musl and name.startswith(_MUSL_OWN):
                    by_name[name] = None
                    continue
                by_name[name] = self._load(name, loaded, program.facts, found, musl=musl)
                new = by_name[name]
                if new is not None:
                    queue.append(new)
        if not musl:
            _check_versions(found, by_name)
        return found

    def _load(self, name: str, by: Loaded, program: Facts, found: Closure, *, musl: bool) -> Loaded | None:
        if "$" in name:
            name = next(iter(_expanded((name,), by, program)), name)
        searched = self._musl_folders(by, program) if musl else self._glibc_folders(by, program)
        path, node, detail, folder = self._search(name, searched, by.facts)
        if node is None or node.entry.facts is None:
            found.lacks.append(Lack("library", name, by.path, detail))
            return None
        if detail == "cache":
            found.lacks.append(Lack("cache", name, by.path, path))
        # $ORIGIN is the folder in which the loader found the object, which may be a link to it.
        return Loaded(path, node.entry.facts, by, folder)

    def _search(self, name: str, folders: Sequence[str], facts: Facts) -> tuple[str, Node | None, str, str]:
        key = (name, tuple(folders), facts.machine_code, facts.order, facts.elf_class)
        if key not in self._known:
            self._known[key] = self._look(name, folders, facts)
        return self._known[key]

    def _look(self, name: str, folders: Sequence[str], facts: Facts) -> tuple[str, Node | None, str, str]:
        if "/" in name:
            folders = [name.rpartition("/")[0] or "/"]
            name = name.rpartition("/")[2]
        wrong = ""
        for folder in folders:
            found = self._tree.find(f"{folder}/{name}")
            node = found.file
            if node is None:
                continue
            other = node.entry.facts
            if other is not None and _fits(facts, other):
                detail = "cache" if self._needs_cache(folder, folders, facts) else ""
                return found.path, node, detail, folder
            wrong = wrong or f"/{found.path} is {_kind(other)}"
        return "", None, wrong or _places(folders), ""

    def _needs_cache(self, folder: str, folders: Sequence[str], facts: Facts) -> bool:
        """Was it only found because of ld.so.conf, and is the cache made of it not there?"""
        if self._has_cache or folder not in self._configured:
            return False
        return folder not in _built_in(facts) and folder not in self._environment and folder in folders

    def _glibc_folders(self, by: Loaded, program: Facts) -> list[str]:
        folders: list[str] = []
        if not by.facts.runpath:
            for each in by.ancestors():
                if not each.facts.runpath:
                    folders += _expanded(each.facts.rpath, each, program)
        folders += self._environment
        folders += _expanded(by.facts.runpath, by, program)
        folders += self._configured
        return [*folders, *_built_in(program)]

    def _musl_folders(self, by: Loaded, program: Facts) -> list[str]:
        folders = list(self._environment)
        for each in by.ancestors():
            folders += _expanded(each.facts.runpath or each.facts.rpath, each, program)
        word = program.interpreter.rpartition("/")[2].removeprefix("ld-musl-").partition(".")[0]
        text = self._tree.text(f"/etc/ld-musl-{word}.path")
        configured = [part.strip() for part in text.replace("\n", ":").split(":") if part.strip()]
        return [*folders, *(configured or _MUSL_DEFAULT)]


def _fits(asking: Facts, found: Facts) -> bool:
    """Would the loader take it?"""
    if (asking.elf_class, asking.order, asking.machine_code) != (
        found.elf_class,
        found.order,
        found.machine_code,
    ):
        return False
    floats = {asking.float_abi, found.float_abi} - {""}
    # The loaders of these refuse a library of the machine's other ABI (ELFv1 and v2; o32, n32 and n64).
    calls = {asking.abi, found.abi} - {""} if asking.machine_code in _WITH_ABIS else set()
    return found.kind == "elf" and found.type == "dyn" and len(floats) < 2 and len(calls) < 2


def _kind(facts: Facts | None) -> str:
    if facts is None:
        return "no library"
    if facts.kind != "elf":
        return f"no ELF file but {facts.kind}"
    words = [facts.machine or "another machine", f"{facts.elf_class}-bit"]
    if facts.float_abi:
        words.append(f"{facts.float_abi}-float")
    if facts.abi and facts.machine_code in _WITH_ABIS:
        words.append(facts.abi)
    return " ".join(words)


def _places(folders: Sequence[str]) -> str:
    shown = list(dict.fromkeys(folders))
    more = f" and {len(shown) - 6} more" if len(shown) > 6 else ""
    return f"not in {', '.join(shown[:6])}{more}"


def _built_in(facts: Facts) -> tuple[str, ...]:
    triples: tuple[str, ...] = ()
    for platform in facts.platforms:
        row = names(platform)
        gnu = [row.gnu, "arm-linux-gnueabi"] if platform.architecture == "arm" else [row.gnu]
        gnu += ["i386-linux-gnu"] if platform.architecture == "386" else []
        gnu += ["arm-linux-gnueabihf"] if platform.architecture == "arm" else []
        triples += tuple(triple for triple in gnu if triple and triple not in triples)
    return (*(f"{base}/{triple}" for triple in triples for base in ("/lib", "/usr/lib")), *_GLIBC_DEFAULT)


def _expanded(entries: Sequence[str], by: Loaded, program: Facts) -> list[str]:
    lib = "lib64" if program.elf_class == 64 else "lib"
    machine = names(program.platform).uname if program.platform is not None else ""
    words = {"ORIGIN": by.folder, "LIB": lib, "PLATFORM": machine}
    shown = []
    for entry in entries:
        for word, value in words.items():
            entry = entry.replace(f"${{{word}}}", value).replace(f"${word}", value)
        if entry:
            shown.append(entry)
    return shown


def _ld_so_conf(tree: Tree) -> Iterator[str]:
    """The folders of /etc/ld.so.conf and of what it includes."""
    queue = ["/etc/ld.so.conf"]
    for path in queue:
        for line in tree.text(path).split("\n"):
            words = line.partition("#")[0].replace(",", " ").split()
            if words[:1] == ["include"]:
                for pattern in words[1:]:
                    queue += _matching(tree, pattern)[: _MAX_CONFIGS - len(queue)]
            elif words and words[0] != "hwcap":
                yield from (word.partition("=")[0].rstrip("/") for word in words if word.startswith("/"))


def _matching(tree: Tree, pattern: str) -> list[str]:
    from fnmatch import fnmatchcase

    folder, _, last = pattern.rpartition("/")
    folder = folder if folder.startswith("/") else f"/etc/{folder}".rstrip("/")
    return [f"{folder}/{name}" for name in tree.names(folder) if fnmatchcase(name, last)]


def _check_versions(found: Closure, by_name: dict[str, Loaded | None]) -> None:
    """Every version that an object asks a library for must be one that the library defines."""
    defined: dict[int, frozenset[str]] = {}
    for loaded in found.objects:
        for name, versions in loaded.facts.version_needs:
            library = by_name.get(name)
            if library is None or not library.facts.version_defs or "versions" in library.facts.incomplete:
                continue  # absent, which was said already; or without versions, which glibc lets pass
            has = defined.setdefault(id(library), frozenset(library.facts.version_defs))
            lacking = [version for version in versions if version not in has]
            if lacking:
                detail = f"/{library.path} has no {', '.join(lacking[:4])}"
                found.lacks.append(Lack("version", name, loaded.path, detail))
