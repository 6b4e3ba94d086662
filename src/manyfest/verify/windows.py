# SPDX-License-Identifier: Apache-2.0
r"""What a Windows image starts, found as Windows finds it, and what ``docker run`` would say.

Engines hand the command to CreateProcess
(https://learn.microsoft.com/windows/win32/api/processthreadsapi/nf-processthreadsapi-createprocessw): a name without
a folder is looked for in the working directory, the system's folders and along PATH, and gets ``.exe`` if it has no
extension. Shells look on their own, ``cmd`` with all the extensions of PATHEXT. A layer's files are drive C: below
``Files`` (https://github.com/opencontainers/image-spec/blob/main/layer.md), and upper and lower case are alike.

What the registry of the image says is not read, and many images set their PATH there. So a bare name that is in no
folder that is known is looked for in all others: where nothing is called so it cannot start, else it probably does.
"""

from __future__ import annotations

import re

from manyfest.verify.entry import Start, command_of, environment_of
from manyfest.verify.foreign import Fit
from manyfest.verify.layers import SYMLINK
from manyfest.verify.programs import Problem
from manyfest.verify.tree import MAX_LINKS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from manyfest.verify.facts import Facts
    from manyfest.verify.programs import Programs
    from manyfest.verify.tree import Node

__all__ = ["start"]

_TOP = "Files"
_SYSTEM = ("C:\\Windows\\System32", "C:\\Windows\\System", "C:\\Windows")
_DEFAULT_PATH = (*_SYSTEM, "C:\\Windows\\System32\\Wbem", "C:\\Windows\\System32\\WindowsPowerShell\\v1.0")
_DEFAULT_EXTENSIONS = ".COM;.EXE;.BAT;.CMD;.VBS;.VBE;.JS;.JSE;.WSF;.WSH;.MSC"
_BATCH = (".bat", ".cmd")
_POWERSHELL = ("powershell", "pwsh")
# What only cmd itself knows.
# fmt: off
_BUILTINS = frozenset((
    "assoc", "break", "call", "cd", "chdir", "cls", "color", "copy", "date", "del", "dir", "echo",
    "endlocal", "erase", "exit", "for", "ftype", "goto", "if", "md", "mkdir", "mklink", "move", "path",
    "pause", "popd", "prompt", "pushd", "rd", "rem", "ren", "rename", "rmdir", "set", "setlocal",
    "shift", "start", "time", "title", "type", "ver", "verify", "vol",
))
# fmt: on
_VARIABLE = re.compile(r"%([^%]+)%")
_MISSING = "The system cannot find the file specified."
_NO_PROGRAM = "is not a valid Win32 application."


def start(programs: Programs, settings: dict[str, Any]) -> Start:
    """Follow what the configuration starts."""
    entrypoint, cmd = command_of(settings)
    result = Start([*entrypoint, *cmd])
    if result.argv:
        _Follower(programs, settings, result).command(result.argv)
    return result


class _Spot:
    """Where a Windows path leads: ``path`` is the real one in the tree (or the first that is not there)."""

    def __init__(self, path: str, node: Node | None) -> None:
        self.path = path
        self.node = node

    @property
    def is_directory(self) -> bool:
        """Is it one?"""
        return self.node is not None and self.node.is_directory

    @property
    def shown(self) -> str:
        """As Windows writes it."""
        return "C:\\" + self.path.partition("/")[2].replace("/", "\\")


class _Follower:
    def __init__(self, programs: Programs, settings: dict[str, Any], result: Start) -> None:
        self.programs = programs
        self.result = result
        self.escaped = settings.get("ArgsEscaped") is True
        self.environment = {name.upper(): value for name, value in environment_of(settings).items()}
        self.environment.setdefault("SYSTEMROOT", "C:\\Windows")
        self.environment.setdefault("WINDIR", "C:\\Windows")
        self.knows_path = "PATH" in self.environment
        listed = self.environment.get("PATH", ";".join(_DEFAULT_PATH)).split(";")
        self.search = tuple(self._expanded(part.strip(' "')) for part in listed if part.strip(' "'))
        listed = self.environment.get("PATHEXT", _DEFAULT_EXTENSIONS).split(";")
        self.extensions = tuple(part.lower() for part in listed if part.startswith("."))
        folder = settings.get("WorkingDir")
        self.folder = folder if isinstance(folder, str) and folder else "C:\\"
        self._names: dict[int, dict[str, str]] = {}
        self.has_windows = self._find("C:\\Windows\\System32") is not None

    def command(self, argv: Sequence[str]) -> None:
        """What the engine hands to CreateProcess."""
        words = list(argv)
        if self.escaped:
            words = [*self._split(words[0]), *words[1:]] or [""]
        name = words[0]
        spot = self._look(name, self._folders(name), ("", ".exe")) or self._anywhere(name, ("", ".exe"))
        if spot is None:
            self._missing(name, f"hcs::System::CreateProcess {name}: {_MISSING}", own=True)
        elif self._judge(spot, name):
            self._wrapped(name, words[1:])

    def _split(self, line: str) -> list[str]:
        """A command line as CreateProcess takes it apart: without quotes, the shortest that is a file."""
        line = line.strip()
        if line.startswith('"'):
            name, _, rest = line[1:].partition('"')
            return [name, *rest.split()]
        words = line.split(" ")
        for count in range(1, min(len(words), 20) + 1):
            name = " ".join(words[:count])
            spot = self._look(name, self._folders(name), ("", ".exe"))
            if spot is not None and not spot.is_directory:
                return [name, *filter(None, words[count:])]
        return [word for word in words if word]

    def _folders(self, name: str) -> tuple[str, ...]:
        return (self.folder,) if _has_folder(name) else (self.folder, *_SYSTEM, *self.search)

    def _look(self, name: str, folders: Iterable[str], endings: Sequence[str]) -> _Spot | None:
        """The first file; where a path was given, a directory too. A name that has an ending gets no ``.exe``."""
        if "" in endings and "." in re.split(r"[\\/]", name)[-1]:
            endings = ("",)
        folder_there = None
        for folder in folders:
            for ending in endings:
                spot = self._find(name + ending, folder)
                if spot is not None and not spot.is_directory:
                    return spot
                folder_there = folder_there or spot
        return folder_there if _has_folder(name) else None

    def _find(self, path: str, folder: str = "C:\\") -> _Spot | None:
        """A path of drive C:; ``None`` when nothing is there, or it is on another drive."""
        parts = _parts(path, folder)
        if parts is None:
            return None
        todo = parts[::-1]
        top = (self.programs.tree.root.children or {}).get(_TOP)
        at: list[tuple[str, Node]] = []
        links = 0
        while todo and top is not None:
            node = at[-1][1] if at else top
            name = self._name_in(node, todo.pop())
            child = (node.children or {}).get(name)
            if child is None:
                return None
            if child.entry.kind == SYMLINK:
                links += 1
                above = "C:\\" + "\\".join(part for part, _ in at)
                target = _parts(child.entry.link, above)
                if target is None or links > MAX_LINKS:
                    return None
                at = []
                todo += target[::-1]
                continue
            at.append((name, child))
        if top is None:
            return None
        return _Spot("/".join((_TOP, *(part for part, _ in at))), at[-1][1] if at else top)

    def _name_in(self, node: Node, name: str) -> str:
        """The name as it is written in a folder."""
        children = node.children or {}
        if name in children:
            return name
        names = self._names.get(id(node))
        if names is None:
            names = self._names[id(node)] = {each.lower(): each for each in children}
        return names.get(name.lower(), name)

    def _anywhere(self, name: str, endings: Sequence[str]) -> _Spot | None:
        """A bare name in any folder of the drive, since the registry may have it in its PATH."""
        if _has_folder(name) or not name:
            return None
        wanted = {f"{name}{ending}".lower() for ending in endings}
        top = f"{_TOP}/"
        found = [
            (len(path), path, node)
            for path, node in self.programs.tree.files()
            if path.startswith(top) and path.rpartition("/")[2].lower() in wanted
        ]
        if not found:
            return None
        _, path, node = min(found, key=lambda each: each[:2])
        spot = _Spot(path, node)
        if self.knows_path:
            message = f"{name!r} is {spot.shown}, which is in no folder of PATH, unless the image's registry says so"
            hint = "give its full path, or add its folder to PATH (ENV)"
            self._fail("MF302", path, message, f"{_create(name)}: {_MISSING}", hint, own=False)
        return spot

    def _missing(self, name: str, says: str, *, own: bool) -> None:
        small = name.lower().removesuffix(".exe")
        if not self.has_windows and not _has_folder(name) and small in ("cmd", *_POWERSHELL):
            self.result.chain.append(f"{name} (not in these layers: the base's, or the host's)")
            return
        parts = _parts(name, self.folder)
        if _has_folder(name) and parts is None:
            self._fail("MF302", name, f"{name} is on no drive that an image has", says, own=own)
        elif _has_folder(name):
            path = "/".join((_TOP, *(parts or ())))
            message = f"{_Spot(path, None).shown} is not in the image"
            self._fail("MF302", path, message, says, _layout_hint(self.programs), own=own)
        else:
            message = f"nothing in the image is called {name!r}, or that with an ending that is added"
            hint = "install it, or correct the name"
            self._fail("MF302", name, message, says, hint, own=own and self.has_windows)

    def _fail(
        self, check: str, path: str, message: str, says: str, hint: str = "", *, own: bool = True
    ) -> None:
        self.result.problems.append(Problem(check, path, message, says, hint, "" if own else "warning"))

    def _judge(self, spot: _Spot, name: str, *, own: bool = True) -> bool:
        """Would it start? Adds to the chain."""
        node = spot.node
        if node is None or not node.is_file:
            message = f"{spot.shown} is a directory"
            self._fail("MF303", spot.path, message, f"{_create(name)}: Access is denied.", own=own)
            return False
        if spot.path.lower().endswith(_BATCH):
            self.result.chain.append(f"{spot.shown} (a batch file, for cmd)")
            return self._cmd_is_there(spot, name, own=own)
        facts = node.entry.facts
        self.result.chain.append(_described(spot, facts))
        if facts is None or facts.kind != "pe" or facts.type == "dyn":
            kind = "is a library" if facts is not None and facts.kind == "pe" else "is no Windows program"
            if not node.entry.size:
                kind = "is empty"
            hint = (
                "scripts need their interpreter in front: powershell -File, python …"
                if node.entry.size
                else ""
            )
            self._fail(
                "MF309",
                spot.path,
                f"{spot.shown} {kind}",
                f"{_create(name)}: {name} {_NO_PROGRAM}",
                hint,
                own=own,
            )
            return False
        return self._machine(spot, facts, name, own=own)

    def _machine(self, spot: _Spot, facts: Facts, name: str, *, own: bool) -> bool:
        if facts.problem:
            message = f"{spot.shown} is damaged: {facts.problem}"
            self._fail("MF207", spot.path, message, f"{_create(name)}: {name} {_NO_PROGRAM}", own=own)
            return False
        fit = self.programs.fit.of(facts)
        if fit == Fit.SECOND:
            return self._second(spot, name, own=own)
        if fit == Fit.FOREIGN or (fit == Fit.NONE and facts.abi != "dotnet"):
            is_for = ", ".join(map(str, facts.platforms)) or facts.machine
            message = f"{spot.shown} is for {is_for}, and the image for {self.programs.platform}"
            hint = "compile for the image's platform"
            self._fail("MF201", spot.path, message, f"{_create(name)}: {name} {_NO_PROGRAM}", hint, own=own)
            return False
        return True

    def _second(self, spot: _Spot, name: str, *, own: bool) -> bool:
        """32-bit code on 64-bit Windows needs WOW64, which Server Core has and Nano Server has not."""
        if self._find("C:\\Windows\\SysWOW64") is not None:
            return True
        if not self.has_windows:
            self.result.second = True
            return True
        message = (
            f"{spot.shown} is 32-bit code, and the image has no SysWOW64 to run it (Nano Server has none)"
        )
        says = f"{_create(name)}: The subsystem needed to support the image type is not present."
        self._fail("MF304", spot.path, message, says, "compile it for 64 bits, or use Server Core", own=own)
        return False

    def _cmd_is_there(self, spot: _Spot, name: str, *, own: bool) -> bool:
        if not self.has_windows or self._find("C:\\Windows\\System32\\cmd.exe") is not None:
            return True
        message = f"{spot.shown} needs cmd.exe, which is not in the image"
        self._fail("MF307", spot.path, message, f"{_create(name)}: {_MISSING}", own=own)
        return False

    def _wrapped(self, name: str, rest: list[str]) -> None:
        """Shells: what they start."""
        small = re.split(r"[\\/]", name.lower())[-1].removesuffix(".exe")
        if small == "cmd":
            self._cmd(rest)
        elif small in _POWERSHELL:
            self._powershell(rest)

    def _cmd(self, rest: list[str]) -> None:
        while rest and rest[0].startswith("/") and rest[0][1:2].lower() not in ("c", "k"):
            rest = rest[1:]
        if not rest or not rest[0].startswith("/"):
            return
        text = " ".join(word for word in (rest[0][2:], *rest[1:]) if word)
        word = self._expanded(_first_word(text))
        if not word or word.lower() in _BUILTINS or "%" in word:
            return
        folders = (self.folder,) if _has_folder(word) else (self.folder, *self.search)
        spot = self._look(word, folders, ("",)) if "." in word else None
        spot = spot or self._look(word, folders, self.extensions)
        spot = spot or self._anywhere(word, ("", *self.extensions))
        if spot is None:
            self._missing(word, f"{word!r} is not recognized as an internal or external command", own=False)
        elif spot.path.lower().endswith((".exe", ".com", *_BATCH)):
            self._judge(spot, word, own=False)

    def _powershell(self, rest: list[str]) -> None:
        """``-File x.ps1``, or a script as the first word; anything else only PowerShell can tell."""
        script = ""
        for i, word in enumerate(rest):
            if word.lower() in ("-file", "-f", "/file") and i + 1 < len(rest):
                script = rest[i + 1]
                break
            if word.lower() in ("-command", "-c", "/command", "-encodedcommand", "-enc", "-ec"):
                return
            if not word.startswith(("-", "/")) and word.lower().endswith(".ps1"):
                script = word
                break
        if script and "$" not in script and self._find(script, self.folder) is None:
            says = f"The argument '{script}' to the -File parameter does not exist."
            self._missing(script if _has_folder(script) else f".\\{script}", says, own=True)

    def _expanded(self, text: str) -> str:
        return _VARIABLE.sub(lambda found: self.environment.get(found[1].upper(), found[0]), text)


def _has_folder(name: str) -> bool:
    return "\\" in name or "/" in name or name[1:2] == ":"


def _parts(path: str, folder: str) -> list[str] | None:
    """The parts of a path from the root of C:, clean; ``None`` for other drives and for shares."""
    text = path.replace("/", "\\").removeprefix("\\\\?\\")
    if text.startswith("\\\\") or (text[1:2] == ":" and text[0] not in "cC"):
        return None
    parts: list[str] = []
    if text[1:2] == ":":
        text = text[2:]
        if not text.startswith("\\"):
            parts = _parts(folder, "\\") or []
    elif not text.startswith("\\"):
        above = _parts(folder, "\\")
        if above is None:
            return None
        parts = above
    for part in text.split("\\"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return parts


def _first_word(text: str) -> str:
    """The program that a line for cmd starts with; empty when only cmd could tell."""
    text = text.lstrip(" \t@(")
    if text.startswith('"'):
        text = text.lstrip('"')
        return text.partition('"')[0]
    return re.split(r"[\s&|<>()^,;=\"]", text, maxsplit=1)[0]


def _create(name: str) -> str:
    return f"hcs::System::CreateProcess {name}"


def _described(spot: _Spot, facts: Facts | None) -> str:
    if facts is None:
        return spot.shown
    is_for = str(facts.platform) if facts.platform is not None else facts.machine or facts.kind
    return f"{spot.shown} ({is_for})"


def _layout_hint(programs: Programs) -> str:
    if _TOP in (programs.tree.root.children or {}):
        return "copy it where it is looked for, or correct the path"
    return "layers for Windows have the files of C: in a folder Files, and these have none"
