# SPDX-License-Identifier: Apache-2.0
"""``manyfest logout``."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from manyfest.cli.console import Console
    from manyfest.cli.parser import CommandParser

SUMMARY = "remove stored credentials"
EXAMPLES = ("manyfest logout ghcr.io",)


def configure(parser: CommandParser) -> None:
    """One registry."""
    parser.add_argument("server", metavar="SERVER", nargs="?", default="docker.io", help="default: docker.io")


def run(args: argparse.Namespace, console: Console) -> int:
    """Forget; like docker, not being logged in is not an error."""
    from manyfest.cli.commands.login import host_of, settings_of
    from manyfest.stores.registry import login

    host = host_of(args.server)
    erased = login.logout(settings_of(args), host)
    told = f"Removing login credentials for {host}" if erased else f"Not logged in to {host}"
    console.result({"registry": host, "removed": erased}, told)
    return 0
