# SPDX-License-Identifier: Apache-2.0
"""The short way through the commonest command lines gives what the parser gives, and leaves all else to it."""

from __future__ import annotations

from importlib import import_module

import pytest

from manyfest.cli.parser import build
from manyfest.cli.plain import Plain
from manyfest.cli.table import COMMANDS, module_of

MODULES = {name: import_module(module_of(name)) for name in COMMANDS if name != "help"}
FORMS: dict[str, Plain] = {name: module.PLAIN for name, module in MODULES.items() if hasattr(module, "PLAIN")}
NAMES = {"inspect": ["a/b:1"], "copy": ["a/b:1", "oci:out"], "verify": ["docker://a/b@sha256:0"]}


def test_which_commands_have_one() -> None:
    assert FORMS.keys() == NAMES.keys()


def forms() -> list[tuple[str, list[str]]]:
    """Each command's names, with each of its switches before and after them, and with several."""
    found = []
    for command, names in NAMES.items():
        switches = ["-q", "--quiet", *(["--raw"] if command == "inspect" else [])]
        found += [(command, names), (command, [*switches, *names])]
        for switch in switches:
            found += [(command, [switch, *names]), (command, [*names, switch, switch])]
    return found


@pytest.mark.parametrize(("command", "argv"), forms())
def test_it_is_what_the_parser_says(command: str, argv: list[str]) -> None:
    told = FORMS[command].told(argv)
    assert told is not None
    parsed = vars(build(command, MODULES[command]).parse(argv))
    del parsed["help"]  # the parser answers it before anybody reads this
    assert vars(told) == parsed


OTHERS = "-h --help -- - --json -v -qq --quiet=true --nonsense more"


@pytest.mark.parametrize("command", NAMES)
@pytest.mark.parametrize(
    "extra", [*([word] for word in OTHERS.split()), ["--config", "x"], ["--platform", "linux/arm64"]]
)
def test_all_else_is_the_parsers(command: str, extra: list[str]) -> None:
    """Among it help, and whatever is wrong: only the parser has the words for that."""
    for argv in ([*NAMES[command], *extra], [*extra, *NAMES[command]]):
        assert FORMS[command].told(argv) is None


@pytest.mark.parametrize("argv", [[], ["a"], ["a", "b", "c"], ["-q"], ["-q", "a"]])
def test_too_few_and_too_many_names_are_the_parsers(argv: list[str]) -> None:
    assert Plain(("source", "target")).told(argv) is None
