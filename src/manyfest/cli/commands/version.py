# SPDX-License-Identifier: Apache-2.0
"""``manyfest version``."""

from __future__ import annotations

import sys

from manyfest import __version__
from manyfest.cli.render import fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from manyfest.cli.console import Console
    from manyfest.cli.parser import CommandParser

SUMMARY = "print the version of manyfest and what it runs on"
EXAMPLES = ("manyfest version", "manyfest version --json")


def configure(parser: CommandParser) -> None:
    """Takes no arguments."""
    parser.description = "Print the version of manyfest, of Python, and the platform of this machine."


def run(_args: argparse.Namespace, console: Console) -> int:
    """What a bug report should say."""
    from manyfest.cli.host import host_platform

    python = ".".join(str(part) for part in sys.version_info[:3])
    shown = {
        "version": __version__,
        "python": f"{sys.implementation.name} {python}",
        "platform": str(host_platform()),
    }
    names = {"version": "manyfest"}
    console.result(shown, fields((names.get(key, key), value) for key, value in shown.items()))
    return 0
