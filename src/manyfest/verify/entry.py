# SPDX-License-Identifier: Apache-2.0
"""What an image starts, found as an engine finds it, and what ``docker run`` would say.

Entrypoint and Cmd together are the command (https://docs.docker.com/reference/dockerfile/, "Understand how CMD and
ENTRYPOINT interact"). A first word with a slash is a path, from the working directory if it is relative; others are
looked for along PATH. Shells and small wrappers (tini, env, gosu …) start what follows them, and that is looked at too.
"""

from __future__ import annotations

import shlex

from manyfest.verify.programs import Problem, Programs, Verdict
from manyfest.verify.tree import MAX_LINKS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from manyfest.verify.tree import Found

__all__ = ["Start", "command_of", "environment_of", "start"]

_SHELLS = frozenset(("sh", "bash", "dash", "ash", "zsh", "ksh", "busybox"))
_WRAPPERS = frozenset(
    (
        "tini",
        "tini-static",
        "dumb-init",
        "catatonit",
        "env",
        "exec",
        "nice",
        "ionice",
        "setpriv",
        "s6-setuidgid",
    )
)
# These take a user first.
_AS_USER = frozenset(("gosu", "su-exec", "setuser"))
_VALUED = {"tini": ("-p", "-e"), "tini-static": ("-p", "-e"), "nice": ("-n",), "ionice": ("-c", "-n")}
_BUILTINS = frozenset(
    [
        ".",
        ":",
        "[",
        "alias",
        "break",
        "case",
        "cd",
        "command",
        "continue",
        "do",
        "done",
        "echo",
        "elif",
        "else",
        "esac",
        "eval",
        "exit",
        "export",
        "false",
        "fi",
        "for",
        "function",
        "if",
        "local",
        "printf",
        "pwd",
        "read",
        "readonly",
        "return",
        "set",
        "shift",
        "source",
        "test",
        "then",
        "times",
        "trap",
        "true",
        "type",
        "ulimit",
        "umask",
        "unset",
        "until",
        "wait",
        "while",
        "{",
        "}",
    ]
)
_MAX_SCRIPT = 4096
_SPECIAL = frozenset("`$;&|<>()*?[]{}\n'\"\\#~")


class Start:
    """``argv`` is the command; ``chain`` the way it goes, in words; ``problems`` where that breaks, the worst first.

    ``verdict`` is ``"starts"``, ``"fails"``, ``"second"`` (see MF203) or ``"nothing"`` when there is no command.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        self.argv = tuple(argv)
        self.chain: list[str] = []
        self.problems: list[Problem] = []
        self.second = False

    @property
    def verdict(self) -> str:
        """In one word."""
        if not self.argv:
            return "nothing"
        if any(problem.severity in ("", "error") for problem in self.problems):
            return "fails"
        return "second" if self.second else "starts"

    @property
    def says(self) -> str:
        """What ``docker run`` would say; empty when it starts."""
        return next((problem.says for problem in self.problems if problem.severity in ("", "error")), "")

    def to_json(self) -> dict[str, Any]:
        """For the report."""
        return {
            "command": list(self.argv),
            "verdict": self.verdict,
            "chain": self.chain,
            "engine_says": self.says,
        }

    def _take(self, verdict: Verdict) -> None:
        self.chain += verdict.chain
        self.problems += verdict.problems
        self.second = self.second or verdict.second


def environment_of(settings: dict[str, Any]) -> dict[str, str]:
    """The config's Env as a mapping; what is no ``NAME=value`` text is left out."""
    listed = settings.get("Env")
    found: dict[str, str] = {}
    for text in listed if isinstance(listed, list) else ():
        if isinstance(text, str) and "=" in text:
            name, _, value = text.partition("=")
            found[name] = value
    return found


def command_of(settings: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Entrypoint and Cmd, as lists of text."""
    return _texts(settings.get("Entrypoint")), _texts(settings.get("Cmd"))


def start(programs: Programs, settings: dict[str, Any]) -> Start:
    """Follow what the configuration starts."""
    entrypoint, cmd = command_of(settings)
    result = Start([*entrypoint, *cmd])
    if not result.argv:
        return result
    folder = settings.get("WorkingDir")
    folder = folder if isinstance(folder, str) and folder.startswith("/") else "/"
    _command(programs, list(result.argv), folder, result, own=True)
    if entrypoint and cmd and result.argv[0] == entrypoint[0] and not result.problems:
        _handed_over(programs, cmd, folder, result)
    _user(programs, settings, result)
    return result


def _command(programs: Programs, argv: list[str], folder: str, result: Start, *, own: bool) -> None:
    name = argv[0]
    found = _find(programs, name, folder)
    problem = _unusable(found, name, programs)
    if problem is not None:
        problem.severity = "" if own else "warning"
        result.problems.append(problem)
        return
    if found is None:
        return
    result._take(programs.judge(found, name))
    if not result.problems:
        _wrapped(programs, argv, folder, result)


def _find(programs: Programs, name: str, folder: str) -> Found | None:
    if "/" in name:
        return programs.tree.find(name, folder)
    return programs.look_up(name)


def _unusable(found: Found | None, name: str, programs: Programs) -> Problem | None:
    if found is None:
        message = f"{name!r} is in no folder of PATH ({':'.join(programs.search)})"
        says = f'exec: "{name}": executable file not found in $PATH'
        blocked = _not_executable(programs, name)
        if blocked:
            return Problem(
                "MF303", blocked, f"{name!r} is at /{blocked}, which may not be executed", says, _CHMOD
            )
        return Problem("MF302", name, message, says, "install it, give its full path, or fix PATH")
    if found.node is None:
        if found.why in ("loop", "too many links"):
            says = f'exec: "{name}": stat {name}: too many levels of symbolic links'
            long = f"more than {MAX_LINKS} links, which is where the kernel stops"
            wrong = "links lead in a circle" if found.why == "loop" else long
            return Problem("MF310", found.path, f"{name}: {wrong} ({found.links[0]})", says)
        way = f"; {found.links[-1]} leads there" if found.links else ""
        message = f"{name}: /{found.path} is not in the image{way}"
        return Problem(
            "MF302", found.path, message, f'exec: "{name}": stat {name}: no such file or directory'
        )
    if found.file is None:
        message = f"{name} is {'a directory' if found.node.is_directory else 'no regular file'}"
        return Problem("MF303", found.path, message, f'exec: "{name}": is a directory: permission denied')
    if not found.file.is_executable:
        message = f"/{found.path} has no execute permission (mode {found.file.entry.mode:04o})"
        return Problem("MF303", found.path, message, f'exec: "{name}": permission denied', _CHMOD)
    return None


_CHMOD = "chmod +x it before it is copied, or COPY --chmod=0755"


def _not_executable(programs: Programs, name: str) -> str:
    for folder in programs.search:
        found = programs.tree.find(f"{folder}/{name}")
        if found.file is not None:
            return found.path
    return ""


def _wrapped(programs: Programs, argv: list[str], folder: str, result: Start) -> None:
    """Shells and wrappers: what they start."""
    name = argv[0].rpartition("/")[2]
    rest = argv[1:]
    if name in _SHELLS:
        _shell(programs, rest[1:] if name == "busybox" and rest[:1] == ["sh"] else rest, folder, result)
        return
    if name not in _WRAPPERS and name not in _AS_USER:
        return
    valued = _VALUED.get(name, ())
    while rest and (rest[0].startswith("-") or (name == "env" and "=" in rest[0])):
        word = rest.pop(0)
        if word == "--":
            break
        if word in valued and rest:
            rest.pop(0)
    if name in _AS_USER and rest:
        rest.pop(0)
    if rest and rest[0]:
        _command(programs, rest, folder, result, own=name not in ("nice", "ionice"))


def _shell(programs: Programs, rest: list[str], folder: str, result: Start) -> None:
    """``sh -c "exec app --flag"``: the first word, when it is a plain one. ``sh script``: the script."""
    while rest and rest[0].startswith(("-", "+")) and rest[0] != "-c" and "c" not in rest[0]:
        rest = rest[1:]
    if not rest:
        return
    if not rest[0].startswith("-"):
        found = programs.tree.find(rest[0], folder)
        if found.node is None and found.why == "missing":
            says = f"{result.argv[0]}: cannot open {rest[0]}: No such file"
            result.problems.append(
                Problem("MF302", found.path, f"the script /{found.path} is not in the image", says)
            )
        return
    word = _first_word(rest[1]) if len(rest) > 1 else ""
    if word:
        _command(programs, [word], folder, result, own=False)


def _first_word(script: str) -> str:
    """The program that a shell's text starts with; empty when only a shell could tell."""
    text = script.strip()
    try:
        words = shlex.split(text.split("\n")[0][:_MAX_SCRIPT], comments=True) if text else []
    except ValueError:
        return ""
    while words and (words[0] == "exec" or _is_assignment(words[0])):
        words.pop(0)
    word = words[0] if words else ""
    if not word or word in _BUILTINS or word.startswith("-") or set(word) & _SPECIAL:
        return ""
    return word


def _is_assignment(word: str) -> bool:
    name, equals, _ = word.partition("=")
    return bool(equals) and name.isidentifier()


def _handed_over(programs: Programs, cmd: list[str], folder: str, result: Start) -> None:
    """Cmd's first word is often a program that the entrypoint starts (``docker-entrypoint.sh postgres``)."""
    if not cmd[0] or cmd[0].startswith("-") or (result.chain and result.chain[-1] == cmd[0]):
        return
    found = _find(programs, cmd[0], folder)
    if found is None or found.file is None or not found.file.is_executable or found.file.entry.facts is None:
        return
    verdict = programs.judge(found, cmd[0])
    if verdict.chain and verdict.chain[0] not in result.chain:
        result._take(verdict)


def _user(programs: Programs, settings: dict[str, Any], result: Start) -> None:
    user = settings.get("User")
    name = user.partition(":")[0].strip() if isinstance(user, str) else ""
    if not name or name.isdigit() or name == "root":
        return
    names = {line.partition(":")[0] for line in programs.tree.text("/etc/passwd").split("\n")}
    if name not in names:
        message = f"the user {name!r} is not in the image's /etc/passwd"
        says = f"unable to find user {name}: no matching entries in passwd file"
        result.problems.append(Problem("MF311", "etc/passwd", message, says, "create it, or use a number"))


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return ["/bin/sh", "-c", value] if value else []
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []
