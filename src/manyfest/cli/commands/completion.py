# SPDX-License-Identifier: Apache-2.0
"""``manyfest completion``."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from manyfest.cli.console import Console
    from manyfest.cli.parser import CommandParser

SUMMARY = "print the completion script of a shell"
EXAMPLES = (
    "manyfest completion bash > ~/.local/share/bash-completion/completions/manyfest",
    "manyfest completion zsh > ~/.zfunc/_manyfest",
    "manyfest completion fish > ~/.config/fish/completions/manyfest.fish",
)

SHELLS = ("bash", "zsh", "fish")


def configure(parser: CommandParser) -> None:
    """One shell."""
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help="bash, zsh or fish")


def run(args: argparse.Namespace, console: Console) -> int:
    """The script, from the parsers of all commands."""
    import shtab

    script = shtab.complete(_all_commands(), shell=args.shell)
    console.result({"shell": args.shell, "script": script}, script.rstrip("\n"))
    return 0


def _all_commands() -> argparse.ArgumentParser:
    import argparse
    import importlib

    from manyfest.cli.parser import CommandParser, build
    from manyfest.cli.table import COMMANDS, GROUPS, module_of

    top = argparse.ArgumentParser("manyfest", add_help=False)
    top.add_argument("--version", action="store_true", help="print the version")
    adopted: Any = _adopted
    commands: Any = top.add_subparsers(dest="command", parser_class=adopted)
    summaries = {name: summary for _, group in GROUPS for name, summary in group}
    for name in COMMANDS:
        if name == "help":
            parser = CommandParser("manyfest help", summaries[name])
            parser.add_argument("topic", metavar="COMMAND", nargs="?", choices=COMMANDS, help="a command")
        else:
            parser = build(name, importlib.import_module(module_of(name)))
        commands.add_parser(name, help=summaries[name], adopt=parser)
    return top


def _adopted(*, adopt: CommandParser, **_: object) -> CommandParser:
    """Stands where argparse would build a parser: here is the one that is built already."""
    return adopt
