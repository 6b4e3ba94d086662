# SPDX-License-Identifier: Apache-2.0
"""``manyfest login``."""

from __future__ import annotations

import sys

from manyfest.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from manyfest.cli.console import Console
    from manyfest.cli.parser import CommandParser
    from manyfest.stores.registry.settings import Settings

SUMMARY = "store credentials for a registry"
EXAMPLES = (
    "manyfest login ghcr.io",
    "echo $TOKEN | manyfest login ghcr.io -u me --password-stdin",
)
MAX_PASSWORD = 1024 * 1024


def configure(parser: CommandParser) -> None:
    """docker's options."""
    parser.description = (
        "Check credentials with a registry and keep them where Docker keeps them: in a credential helper if one is "
        "configured, else in Docker's config file. Every tool that reads it is logged in too."
    )
    parser.add_argument("server", metavar="SERVER", nargs="?", default="docker.io", help="default: docker.io")
    parser.add_argument(
        "-u", "--username", metavar="NAME", default="", help="user name; asked for when left out"
    )
    parser.add_argument("--password-stdin", action="store_true", help="read the password from standard input")
    parser.add_argument(
        "-p", "--password", metavar="TEXT", default="", help="visible to every user of this machine"
    )


def run(args: argparse.Namespace, console: Console) -> int:
    """Ask, have the registry accept them, store them."""
    host = host_of(args.server)
    if args.password:
        console.warn("a password in the arguments is visible to every user; use --password-stdin")
    if args.password and args.password_stdin:
        raise InputError("--password and --password-stdin exclude each other")
    username = args.username or _ask_name(args, host)
    password = args.password or _read_password(args, host, username)
    from manyfest.stores.registry import login

    where = login.login(settings_of(args), host, username, password)
    console.detail(f"stored in {where}")
    console.result({"registry": host, "username": username, "stored_in": where}, "Login Succeeded")
    return 0


def settings_of(args: argparse.Namespace) -> Settings:
    """What the options of every command say, for a conversation that is only about who we are."""
    from manyfest.cli.places import docker_config
    from manyfest.stores.registry.settings import Settings

    return Settings(
        insecure=args.insecure or args.plain_http,
        config=args.config or None,
        docker_config=docker_config(args.docker_cfg) if args.docker_cfg else None,
    )


def host_of(server: str) -> str:
    """The registry's name in what people write: ``https://ghcr.io/`` is ``ghcr.io``, Docker Hub has several."""
    host = server.partition("://")[2] or server
    host = host.partition("/")[0].strip().lower()
    if not host:
        raise InputError(f"{server!r}: expected a registry such as ghcr.io or localhost:5000")
    return "docker.io" if host in ("index.docker.io", "registry-1.docker.io", "hub.docker.com") else host


def _ask_name(args: argparse.Namespace, host: str) -> str:
    if args.password_stdin or not sys.stdin.isatty():
        raise InputError("no user name", hint="give it with --username")
    sys.stderr.write(f"User name for {host}: ")
    sys.stderr.flush()
    name = sys.stdin.readline().strip()
    if not name:
        raise InputError("an empty user name", hint="nothing was stored")
    return name


def _read_password(args: argparse.Namespace, host: str, username: str) -> str:
    if args.password_stdin:
        return sys.stdin.read(MAX_PASSWORD).rstrip("\r\n")
    if not sys.stdin.isatty():
        raise InputError(
            "cannot ask for a password: standard input is not a terminal", hint="use --password-stdin"
        )
    import getpass

    return getpass.getpass(f"Password for {username} at {host}: ", stream=sys.stderr)
