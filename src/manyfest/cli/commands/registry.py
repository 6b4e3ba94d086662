# SPDX-License-Identifier: Apache-2.0
"""``manyfest registry``."""

from __future__ import annotations

from manyfest.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from manyfest.cli.console import Console
    from manyfest.cli.parser import CommandParser

SUMMARY = "run a small registry on a folder"
EXAMPLES = (
    "manyfest registry /srv/images --port 5000",
    "manyfest registry --port 0 --json",
    "manyfest registry /srv/images --host 0.0.0.0 --tls-cert cert.pem --tls-key key.pem --users users.txt",
)
DEFAULT_PORT = 5000


def configure(parser: CommandParser) -> None:
    """A folder, and how to listen."""
    parser.description = (
        "Serve a folder as a registry until Ctrl-C. Each repository is an OCI layout below it, so that oci:DIR/NAME "
        "reads the same content. Prints the address on standard output once it listens."
    )
    parser.add_argument(
        "root", metavar="DIR", nargs="?", default="", help="default: a temporary folder, gone at the end"
    )
    parser.add_argument(
        "--host", metavar="ADDRESS", default="127.0.0.1", help="default: 127.0.0.1, this machine only"
    )
    parser.add_argument(
        "--port", metavar="PORT", type=int, default=DEFAULT_PORT, help="default: 5000; 0 takes a free one"
    )
    parser.add_argument("--read-only", action="store_true", help="refuse every change")
    parser.add_argument(
        "--tls-cert", metavar="FILE", default="", help="certificate chain in PEM; with --tls-key"
    )
    parser.add_argument("--tls-key", metavar="FILE", default="", help="its private key in PEM")
    parser.add_argument(
        "--users", metavar="FILE", default="", help="lines NAME:PASSWORD; asks every client for one"
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """Serve until interrupted; that is success."""
    if bool(args.tls_cert) != bool(args.tls_key):
        raise InputError("--tls-cert and --tls-key go together")
    if not 0 <= args.port <= 65535:
        raise InputError(f"--port {args.port}: expected 0 to 65535")
    if args.root:
        _check_folder(args.root, read_only=args.read_only)
        return _serve(args, console, args.root)
    import tempfile

    with tempfile.TemporaryDirectory(prefix="manyfest-registry-") as root:
        return _serve(args, console, root)


def _check_folder(root: str, *, read_only: bool) -> None:
    """Now, and not with the first push. Raises :class:`InputError`."""
    import os

    if read_only and os.path.isdir(root):
        return
    try:
        os.makedirs(root, exist_ok=True)
    except OSError as error:
        raise InputError(f"{root}: {error.strerror}", hint="name a folder that can be written to") from error
    if not read_only and not os.access(root, os.W_OK | os.X_OK):
        raise InputError(
            f"{root}: it cannot be written to", hint="serve it with --read-only, or change its permissions"
        )


def _serve(args: argparse.Namespace, console: Console, root: str) -> int:
    from manyfest.serve.http import Server
    from manyfest.serve.registry import RegistryApp

    users = _users(args.users) if args.users else None
    tls = (args.tls_cert, args.tls_key) if args.tls_cert else None
    app = RegistryApp(root, read_only=args.read_only, users=users)
    server = Server(app, args.host, args.port, tls)

    def tell() -> None:
        console.result({"url": server.url, "host": server.host, "root": root}, server.url)
        console.flush()
        console.say(f"serving {root} at {server.host}; Ctrl-C ends it")

    server.serve_forever(ready=tell)
    console.say("stopped")
    return 0


def _users(path: str) -> dict[str, str]:
    """Read ``NAME:PASSWORD`` lines; messages name the line, never its content."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text: {error}") from error
    users: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, colon, password = line.partition(":")
        if not name or not colon or not password:
            raise InputError(f"{path}:{number}: expected NAME:PASSWORD")
        users[name] = password
    if not users:
        raise InputError(f"{path}: no user in it", hint="one NAME:PASSWORD a line")
    return users
