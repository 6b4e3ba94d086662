# SPDX-License-Identifier: Apache-2.0
"""``manyfest``: look at the arguments, import the one command they name, run it, say how it ended.

Only this module prints errors and decides exit codes: 0 yes, 1 the answer is no, 2 usage or bad input, 3 the world
failed, 70 our bug, 130 interrupted. See ``docs/reference/exit-codes.md``.
"""

from __future__ import annotations

import gc
import os
import signal
import sys

from manyfest.cli.console import Console
from manyfest.cli.table import COMMANDS, GROUPS, module_of
from manyfest.errors import (
    DigestMismatch,
    Error,
    InputError,
    InvalidDocument,
    InvalidProject,
    InvalidSpec,
    NotFound,
    RegistryError,
    SizeMismatch,
    TooLarge,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType, ModuleType
    from typing import NoReturn

__all__ = ["entry", "main"]

EXIT_BUG = 70
EXIT_INTERRUPTED = 130
ISSUES = "https://github.com/manyfest/manyfest/issues"

# manifest-tool has its options of this kind only here, before the command.
_VALUED = ("--config", "--username", "--password", "--docker-cfg")
_SWITCHES = (
    *("--json", "-q", "--quiet", "-v", "--verbose", "--insecure", "-h", "--help", "--version", "-V"),
    *("--debug", "--plain-http"),
)


def entry() -> NoReturn:
    """The console script."""
    # What start-up makes, stays: looking for garbage in it takes a twentieth of a short command.
    gc.set_threshold(50_000)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = main(sys.argv[1:])
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED  # once more, while the first one was being told
    _leave(code)


def _leave(code: int) -> NoReturn:
    """End the process without taking the interpreter apart, which is 5 of the 40 ms of a short command.

    What that skips, nobody needs: :func:`main` has flushed standard output (standard error is, line by line), and
    temporary files go with the ``with`` block of whoever made them, not with a finalizer or at exit. A thread that must
    still end is waited for, unless we were interrupted: then it had its time, and only waits for a peer that says
    nothing.
    """
    threading = sys.modules.get("threading")
    if (
        code != EXIT_INTERRUPTED
        and threading is not None
        and any(
            not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()
        )
    ):
        sys.exit(code)
    os._exit(code)


def main(argv: Sequence[str]) -> int:
    """Run one command line and return its exit code; never raises."""
    console = Console(
        json="--json" in argv,
        quiet="-q" in argv or "--quiet" in argv,
        verbose="-v" in argv or "--verbose" in argv,
    )
    try:
        code = _dispatch(argv, console)
        console.flush()
    except Error as error:
        return _fail(console, error, argv)
    except KeyboardInterrupt:
        _flush(console)
        console.tell("manyfest: interrupted")
        return EXIT_INTERRUPTED
    except OSError as error:
        return _fail(console, _from_os(error), argv)
    except Exception as error:  # noqa: BLE001 - the outermost frame: nothing may escape as a traceback
        return _bug(console, error)
    return code


def _dispatch(argv: Sequence[str], console: Console) -> int:
    leading, rest = _split(argv)
    if "--version" in leading or "-V" in leading:
        return _version(console)
    if not rest or "-h" in leading or "--help" in leading:
        return _overview(console) if not rest else _help(rest, console)
    if rest[0] == "help":
        return _help(rest[1:], console) if rest[1:] else _overview(console)
    command = rest[0]
    module = _load(command)
    code: int
    form = None if leading else getattr(module, "PLAIN", None)
    if form is not None and (plain := form.told(rest[1:])) is not None:
        code = module.run(plain, console)
        return code
    from manyfest.cli.parser import HelpRequested, build

    parser = build(command, module)
    try:
        args = parser.parse([*leading, *rest[1:]])
    except HelpRequested:
        console.print(parser.format_help().rstrip("\n"))
        return 0
    console.json, console.quiet, console.verbose = args.json, args.quiet, args.verbose or args.debug
    code = module.run(args, console)
    return code


def _split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """The options before the command, and the command with everything after it."""
    at = 0
    while at < len(argv) and argv[at].startswith("-"):
        word = argv[at]
        if word in _VALUED:
            if at + 1 == len(argv):
                raise InputError(f"manyfest: {word} wants a value")
            at += 1
        elif word.partition("=")[0] not in (*_SWITCHES, *_VALUED):
            raise InputError(f"manyfest: unknown option {word} before a command", hint="manyfest --help")
        at += 1
    return list(argv[:at]), list(argv[at:])


def _load(command: str) -> ModuleType:
    if command not in COMMANDS:
        raise InputError(f"manyfest: no command {command!r}", hint=_suggestion(command))
    name = module_of(command)
    __import__(name)  # importlib would take warnings along, which no short command needs
    return sys.modules[name]


def _suggestion(command: str) -> str:
    import difflib

    near = difflib.get_close_matches(command, COMMANDS, n=3, cutoff=0.5)
    near = near or [name for name in COMMANDS if name in _OTHER_WORDS.get(command, ())]
    if not near:
        return "manyfest --help lists the commands"
    return "did you mean " + " or ".join(f"manyfest {name}" for name in near) + "?"


# What the same thing is called elsewhere.
_OTHER_WORDS = {
    "cp": ("copy",),
    "mirror": ("copy",),
    "pull": ("copy",),
    "append": ("add",),
    "merge": ("join", "create"),
    "digest": ("resolve",),
    "serve": ("registry",),
    "show": ("inspect",),
    "list": ("ls", "tags"),
    "remove": ("drop", "rm"),
    "gc": ("prune",),
    "purge": ("prune",),
    "clean": ("prune",),
}


def _help(words: Sequence[str], console: Console) -> int:
    command = words[0]
    if command == "help":
        return _overview(console)
    module = _load(command)
    from manyfest.cli.parser import build

    console.print(build(command, module).format_help().rstrip("\n"))
    return 0


def _overview(console: Console) -> int:
    console.print(overview())
    return 0


def overview() -> str:
    """The text of ``manyfest --help``, from the table alone."""
    lines = [
        "usage: manyfest [OPTIONS] COMMAND ...",
        "",
        "One image name, every architecture: build it, ship it, prove it, run it.",
    ]
    for title, commands in GROUPS:
        lines += ["", title, *(f"  {name:<12} {summary}" for name, summary in commands)]
    lines += ["", "Options of every command, before or after its name"]
    lines += [f"  {flags:<15} {what}" for flags, what in _OPTIONS]
    lines += [
        "",
        "A place is NAME or docker://NAME (a registry), oci:DIR[:TAG], oci-archive:FILE[:TAG],",
        "docker-archive:FILE[:TAG] or docker-daemon:NAME. Every command that reads an image takes every place.",
        "",
        "manyfest help COMMAND shows its options and examples.",
    ]
    return "\n".join(lines)


_OPTIONS = (
    ("--json", "one JSON document on standard output"),
    ("-q, --quiet", "no progress and no messages, errors only"),
    ("-v, --verbose", "say more"),
    ("--insecure", "allow plain HTTP and unverified TLS for the registries named here"),
    ("--config FILE", "read this configuration file"),
    ("-V, --version", "print the version"),
)


def _version(console: Console) -> int:
    from manyfest import __version__

    console.result({"version": __version__}, f"manyfest {__version__}")
    return 0


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    """SIGTERM ends a command like Ctrl-C: what is half done is cleaned up."""
    raise KeyboardInterrupt


def _fail(console: Console, error: Error, argv: Sequence[str]) -> int:
    _flush(console)
    hint = _hint(error) or _usage(error, argv)
    if console.json:
        _tell_json(console, error, type(error).__name__, str(error), hint, error.exit_code)
        return error.exit_code
    message = str(error)
    console.tell(f"manyfest: error: {message.removeprefix('manyfest: ')}")
    for line in hint.splitlines():
        console.tell(f"hint: {line}")
    if console.verbose:
        _trace(console, error)
    return error.exit_code


_HINTS: tuple[tuple[tuple[type[Error], ...], str], ...] = (
    (
        (InvalidDocument, TooLarge),
        "this is not what an image looks like: manyfest inspect REF --raw shows it; whoever made it must make it again",
    ),
    (
        (DigestMismatch, SizeMismatch),
        "try again; if it stays so the content there is damaged, or something on the way changes it",
    ),
    ((NotFound,), "check the spelling; manyfest inspect and manyfest tags show what is there"),
    ((RegistryError,), "try again later; whoever runs the registry can find the reason in its log"),
)


def _hint(error: Error) -> str:
    """What to do next, by the kind of error where the error itself does not say."""
    if error.hint:
        return error.hint
    cause = error.__cause__ if isinstance(error.__cause__, Error) else error
    return next((hint for kinds, hint in _HINTS if isinstance(cause, kinds)), "")


def _usage(error: Error, argv: Sequence[str]) -> str:
    """For what was typed; what a file says wrong is not in the help."""
    if isinstance(error, InvalidProject):
        return "docs/reference/dockerfile-support.md and docs/reference/manyfest-yaml.md say what may stand there"
    if not isinstance(error, InputError) or isinstance(error, InvalidSpec):
        return ""
    command = next((word for word in argv if word in COMMANDS), "")
    return (
        f"manyfest {command} --help shows what it takes" if command else "manyfest --help lists the commands"
    )


def _bug(console: Console, error: Exception) -> int:
    _flush(console)
    kind, message = type(error).__name__, f"internal error: {type(error).__name__}: {error}"
    hint = (
        f"this is a bug in manyfest; please report it at {ISSUES} with the output of the same command and -v"
    )
    if console.json:
        _tell_json(console, error, kind, message, hint, EXIT_BUG)
        return EXIT_BUG
    console.tell(f"manyfest: {message}")
    if console.verbose or os.environ.get("MANYFEST_DEBUG"):
        _trace(console, error)
    console.tell(f"hint: {hint}")
    return EXIT_BUG


def _tell_json(console: Console, error: Exception, kind: str, message: str, hint: str, code: int) -> None:
    import json

    shown: dict[str, object] = {"kind": kind, "message": message, "hint": hint, "exit_code": code}
    for name in ("status", "codes", "side"):
        if hasattr(error, name):
            shown[name] = getattr(error, name)
    console.tell(json.dumps({"error": shown}))
    if os.environ.get("MANYFEST_DEBUG"):
        _trace(console, error)


def _trace(console: Console, error: BaseException) -> None:
    if not os.environ.get("MANYFEST_DEBUG") and isinstance(error, Error):
        return
    import traceback

    console.tell("".join(traceback.format_exception(error)).rstrip())


def _from_os(error: OSError) -> Error:
    where = f": {error.filename}" if error.filename else ""
    return Error(f"{error.strerror or error}{where}")


def _flush(console: Console) -> None:
    """What was printed before an error comes before its message; the error counts for more than a full disk."""
    try:
        console.flush()
    except OSError:
        console.drop()
