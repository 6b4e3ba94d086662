# SPDX-License-Identifier: Apache-2.0
"""Arguments of one command: argparse for the parsing, our own words for help and errors.

Help is laid out here and not by argparse, so it is the same text on every Python and at every terminal width.
Nothing here prints or exits: errors are :class:`~manyfest.errors.InputError`, help is :class:`HelpRequested`.
"""

from __future__ import annotations

import argparse

from manyfest.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import ModuleType
    from typing import Any, NoReturn

__all__ = ["TOOL_OPTIONS", "CommandParser", "HelpRequested", "UsageError", "add_global_options", "build"]

WIDTH = 100
_COLUMN = 30
_TRUE = ("true", "t", "1")
_FALSE = ("false", "f", "0")


TOOL_OPTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("--username", {"metavar": "NAME", "default": "", "help": "as manifest-tool takes it"}),
    (
        "--password",
        {"metavar": "TEXT", "default": "", "help": "as manifest-tool takes it; others can see it"},
    ),
    ("--docker-cfg", {"metavar": "DIR", "default": "", "help": "as manifest-tool takes it: Docker's folder"}),
    ("--plain-http", {"action": "store_true", "help": "as manifest-tool takes it: same as --insecure"}),
    ("--debug", {"action": "store_true", "help": "as manifest-tool takes it: same as --verbose"}),
)
"""manifest-tool's options of every command, which stand before it there."""


class UsageError(InputError):
    """Arguments that the command does not take."""


class HelpRequested(Exception):
    """``--help`` was given."""


class _Help(argparse.Action):
    def __call__(self, *_: object) -> NoReturn:
        raise HelpRequested


class _Wrong(Exception):
    """argparse's complaint, until its bookkeeping is undone and the usage can be shown."""


def _formatter(prog: str) -> argparse.HelpFormatter:
    """argparse makes one for every option it is told of; without a width each would import shutil to find it."""
    return argparse.HelpFormatter(prog, width=WIDTH)


class CommandParser(argparse.ArgumentParser):
    """An argument parser that raises, and that renders help by itself."""

    def __init__(self, prog: str, summary: str = "", examples: str | Iterable[str] = ()) -> None:
        super().__init__(
            prog=prog, description=summary, add_help=False, allow_abbrev=False, formatter_class=_formatter
        )
        self.examples = examples.strip().splitlines() if isinstance(examples, str) else list(examples)
        self.general: list[argparse.Action] = []
        self.rest = ""
        """The name of a value that takes everything after the first ``--`` as it is, further ones included."""
        self.owners: dict[str, tuple[str, ...]] = {}
        """Options that only some actions of the command take, and which."""

    def error(self, message: str) -> NoReturn:
        """argparse calls this; it would print and exit."""
        head, unknown, words = message.partition("unrecognized arguments: ")
        if unknown:
            # The value of a mistyped --password is nobody's business.
            shown = (word.partition("=")[0] if word.startswith("-") else word for word in words.split())
            message = f"{head}{unknown}{' '.join(shown)}"
        raise _Wrong(message)

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Parse, options and names in any order, as docker allows (``create LIST --amend A --amend B``).

        Raises :class:`UsageError` or :class:`HelpRequested`.
        """
        words, after = list(argv), []
        if self.rest and "--" in words:
            at = words.index("--")
            words, after = words[:at], words[at + 1 :]
        try:
            args = self.parse_intermixed_args(list(self._spelled(words)))
        except _Wrong as wrong:
            hint = f"{self.format_usage().strip()} ({self.prog} --help)"
            raise UsageError(f"{self.prog}: {wrong}", hint=hint) from None
        if after:
            setattr(args, self.rest, after)
        self._refuse_foreign(args)
        return args

    def _refuse_foreign(self, args: argparse.Namespace) -> None:
        """An option of another action would be ignored, which nobody means."""
        for flag, owners in self.owners.items():
            option = self._option_string_actions[flag]
            if args.action not in owners and getattr(args, option.dest) != option.default:
                raise UsageError(
                    f"{self.prog} {args.action}: {flag} is for {' and '.join(owners)}",
                    hint=f"leave it out; {self.prog} --help shows what goes with what",
                )

    def _spelled(self, argv: Sequence[str]) -> Iterator[str]:
        """``--amend=true``, as docker and manifest-tool allow for a switch, as ``--amend``; ``=false`` as nothing."""
        words = iter(argv)
        for word in words:
            if word == "--":
                yield word
                yield from words
                return
            flag, equals, value = word.partition("=")
            action = self._option_string_actions.get(flag) if equals else None
            if action is None or action.nargs != 0:
                yield word
            elif value.lower() in _TRUE:
                yield flag
            elif value.lower() not in _FALSE:
                raise _Wrong(f"{flag}: expected true or false, got {value!r}")

    def format_usage(self) -> str:
        """One line: the program, ``[OPTIONS]`` and the names it wants."""
        words = [self.prog, "[OPTIONS]", *(_positional(action) for action in self._positionals_shown())]
        return "usage: " + " ".join(words) + "\n"

    def format_help(self) -> str:
        """Usage, what it does, names, options, options of every command, examples."""
        own = [a for a in self._actions if a.option_strings and a not in self.general]
        parts = [self.format_usage(), _paragraph(self.description or "")]
        parts.append(_section("names", self._positionals_shown()))
        parts.append(_section("options", own))
        parts.append(_section("options of every command", self.general))
        if self.examples:
            parts.append(
                "examples:\n" + "".join(f"  {line.strip()}\n" for line in self.examples if line.strip())
            )
        if self.epilog:
            parts.append(f"{self.epilog}\n")
        return "\n".join(part for part in parts if part)

    def _positionals_shown(self) -> list[argparse.Action]:
        return [a for a in self._actions if not a.option_strings and a.help is not argparse.SUPPRESS]


def build(command: str, module: ModuleType) -> CommandParser:
    """The parser of one command, from its module's ``SUMMARY``, ``EXAMPLES`` and ``configure``."""
    parser = CommandParser(f"manyfest {command}", _sentence(module.SUMMARY), module.EXAMPLES)
    module.configure(parser)
    add_global_options(parser)
    return parser


def add_global_options(parser: CommandParser) -> None:
    """What every command takes, before or after its name."""

    def option(*flags: str, **how: Any) -> None:
        parser.general.append(parser.add_argument(*flags, **how))

    option("--json", action="store_true", help="one JSON document on standard output")
    option("-q", "--quiet", action="store_true", help="no progress and no messages, errors only")
    if "-v" not in parser._option_string_actions:
        option(
            "-v", "--verbose", action="store_true", help="say more; show where an internal error came from"
        )
    option(
        "--insecure",
        action="store_true",
        help="allow plain HTTP and unverified TLS for the registries named here",
    )
    option("--config", metavar="FILE", default="", help="read this configuration file")
    option("-h", "--help", action=_Help, nargs=0, help="show this help")
    # As manifest-tool takes them, for its scripts; the help of push shows them.
    for flag, how in TOOL_OPTIONS:
        if flag not in parser._option_string_actions:
            option(flag, **{**how, "help": argparse.SUPPRESS})


def _sentence(summary: str) -> str:
    text = summary.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _paragraph(text: str) -> str:
    return "".join(f"{line}\n" for line in _wrap(text, WIDTH))


def _section(title: str, actions: list[argparse.Action]) -> str:
    rows = [
        (_invocation(a), (a.help or "").replace("%%", "%"))
        for a in actions
        if a.help is not argparse.SUPPRESS
    ]
    if not rows:
        return ""
    return f"{title}:\n" + "".join(_row(left, right) for left, right in rows)


def _row(left: str, right: str) -> str:
    lines = _wrap(right, WIDTH - _COLUMN)
    head = f"  {left}"
    if not lines:
        return head + "\n"
    if len(head) + 2 > _COLUMN:
        lines.insert(0, "")
    first = f"{head:<{_COLUMN}}{lines[0]}".rstrip()
    return "\n".join([first, *(" " * _COLUMN + line for line in lines[1:])]) + "\n"


def _wrap(text: str, width: int) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _invocation(action: argparse.Action) -> str:
    if not action.option_strings:
        return _positional(action).strip("[]")
    flags = ", ".join(action.option_strings)
    if action.nargs == 0:
        return flags
    return f"{flags} {_metavar(action)}"


def _metavar(action: argparse.Action) -> str:
    if isinstance(action.metavar, str):
        return action.metavar
    if action.choices is not None:
        return "|".join(str(choice) for choice in action.choices)
    return action.dest.upper()


def _positional(action: argparse.Action) -> str:
    name = _metavar(action)
    if action.nargs == "+":
        return f"{name}..."
    if action.nargs == "*":
        return f"[{name}...]"
    return f"[{name}]" if action.nargs == "?" else name
