# SPDX-License-Identifier: Apache-2.0
"""``manyfest dashboard``."""

from __future__ import annotations

from manyfest.cli.watching import add_looks
from manyfest.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from manyfest.cli.console import Console
    from manyfest.cli.parser import CommandParser
    from manyfest.serve.http import Server

SUMMARY = "show lists, a swarm and who answers in the browser, live"
EXAMPLES = (
    "manyfest dashboard ghcr.io/acme/app:1.2",
    "manyfest dashboard --registry localhost:5000/app --swarm --probe http://localhost:8080/",
    "manyfest dashboard ghcr.io/acme/app:1.2 --host 0.0.0.0 --port 8090",
)


def configure(parser: CommandParser) -> None:
    """What to look at, and where to listen."""
    parser.description = (
        "Serve a page that shows lists with their platforms and what verifying them finds, a swarm's nodes and tasks, "
        "and who answers a URL; it changes as they do. Read-only. Prints the address, and serves until Ctrl-C."
    )
    add_looks(parser)
    parser.add_argument(
        "--host", metavar="ADDRESS", default="127.0.0.1", help="default: 127.0.0.1, this machine only"
    )
    parser.add_argument("--port", metavar="PORT", type=int, default=0, help="default: 0, a free one")
    parser.add_argument(
        "--token",
        choices=("auto", "always"),
        default="auto",
        help="demand the token in the printed address; auto: unless only this machine can reach it",
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """Serve until interrupted; that is success."""
    import socket

    from manyfest.cli.watching import watchers
    from manyfest.serve.dashboard.app import DashboardApp, is_loopback, new_token
    from manyfest.serve.dashboard.state import Board
    from manyfest.serve.http import Server

    if not 0 <= args.port <= 65535:
        raise InputError(f"--port {args.port}: expected 0 to 65535")
    board = Board()
    with watchers(args, console, board) as looking:
        loopback = is_loopback(args.host)
        is_open = loopback and args.token != "always"  # noqa: S105 - a word for when, not a token
        token = "" if is_open else new_token()
        names = () if loopback else (socket.gethostname(), args.host)
        server = Server(DashboardApp(board, token=token, names=names), args.host, args.port)
        url = f"{_address(server, args.host)}/{f'?token={token}' if token else ''}"

        def tell() -> None:
            console.result({"url": url, "host": server.host, "token": bool(token)}, url)
            console.flush()
            console.say(f"serving the dashboard at {server.host}; Ctrl-C ends it")

        with looking:
            server.serve_forever(2.0, ready=tell)
    console.say("stopped")
    return 0


def _address(server: Server, host: str) -> str:
    """A URL that works: nobody can open 0.0.0.0."""
    import socket

    if host in ("", "0.0.0.0", "::"):  # noqa: S104 - compared, not listened on
        return f"{server.scheme}://{socket.gethostname()}:{server.port}"
    return server.url
