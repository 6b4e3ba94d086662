# SPDX-License-Identifier: Apache-2.0
"""``manyfest machine``: full QEMU machines of other architectures, with an engine in each."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from manyfest.cli.render import size, table
from manyfest.emulate.machine import machines
from manyfest.errors import EmulationError, InputError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any

    from manyfest.cli.console import Console
    from manyfest.cli.parser import CommandParser
    from manyfest.emulate.machine.machines import Machine

SUMMARY = "make, start and stop machines of other architectures with an engine in them"
EXAMPLES = """
manyfest machine create s390x
manyfest machine create z --arch s390x --memory 2G --disk 20G
manyfest machine start z --context
manyfest build -t ghcr.io/acme/app:1.2 --node linux/s390x=machine:z
manyfest machine ssh z -- uname -m
manyfest machine rm z --force
"""

ACTIONS = ("create", "start", "stop", "list", "ssh", "rm")

_OWNERS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        (
            "--arch",
            "--memory",
            "--disk",
            "--cpus",
            "--bridge",
            "--address",
            "--emulate",
            "--mirror",
            "--fresh",
        ),
        ("create",),
    ),
    **dict.fromkeys(("--port", "--join-swarm", "--context"), ("start",)),
    "--timeout": ("start", "stop"),
    "--suspend": ("stop",),
    "--force": ("rm",),
}

MOST_S = 1e6
"""What is longer cannot be waited for on every system, and nobody would."""

_SIZE = re.compile(r"(\d+)([KMGT]?)(?:i?B)?", re.IGNORECASE)
_UNITS = " KMGT"


def configure(parser: CommandParser) -> None:
    """What to do, and with which machine."""
    parser.description = (
        "Full machines of other architectures, emulated by QEMU (with KVM where this machine can run them itself). "
        "create makes one out of Debian's packages, without root and without running any of them; start waits until "
        "the Docker Engine in it answers, and prints where. The engine listens on no network: its socket comes here "
        "by ssh, with a key made for the machine. What is on a machine's disk stays until rm."
    )
    parser.rest = "command"
    parser.add_argument(
        "action", metavar="ACTION", nargs="?", default="list", choices=ACTIONS,
        help="create, start, stop, list (the default), ssh or rm",
    )  # fmt: skip
    parser.add_argument("name", metavar="NAME", nargs="?", default="", help="the machine's name")
    parser.add_argument(
        "command", metavar="CMD", nargs="*", help="ssh, after --: what to run inside (default: a shell)"
    )
    parser.add_argument(
        "--arch", metavar="ARCH", default="",
        help="create: amd64, 386, arm64, armhf, ppc64le, riscv64 or s390x (default: what the name says)",
    )  # fmt: skip
    parser.add_argument("--memory", metavar="SIZE", default="1G", help="create: 512M or more (default: 1G)")
    parser.add_argument(
        "--disk", metavar="SIZE", default="10G", help="create: at most so much (default: 10G)"
    )
    parser.add_argument(
        "--cpus",
        metavar="N",
        type=int,
        default=0,
        help="create: processors (default: 2 where there are so many)",
    )
    parser.add_argument(
        "--bridge",
        metavar="NAME",
        default="",
        help="create: also on this bridge, which is there at every start",
    )
    parser.add_argument(
        "--address",
        metavar="ADDRESS",
        default="",
        help="create: its address on the bridge, such as 10.99.0.7/24",
    )
    parser.add_argument(
        "--emulate",
        action="store_true",
        help="create: never try KVM",
    )
    parser.add_argument(
        "--mirror", metavar="URL", default="", help="create: a Debian archive (default: this machine's own)"
    )
    parser.add_argument(
        "--fresh", action="store_true", help="create: with today's packages, not those of the last machine"
    )
    parser.add_argument(
        "--port",
        metavar="N",
        type=int,
        default=0,
        help="start: of 127.0.0.1, for ssh (default: any that is free)",
    )
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=float, default=0.0,
        help=f"start: how long to wait for the engine (default: {machines.START_TIMEOUT_S:g}); "
        f"stop: until it is ended by force (default: {machines.STOP_TIMEOUT_S:g})",
    )  # fmt: skip
    parser.add_argument(
        "--join-swarm", metavar="MANAGER", default="",
        help="start: and join the swarm of the manager at this address; its token is $SWARM_TOKEN",
    )  # fmt: skip
    parser.add_argument(
        "--suspend",
        action="store_true",
        help="stop: keep its memory on disk; the next start goes on from there",
    )
    parser.add_argument(
        "--context", action="store_true", help="start: also make the Docker context manyfest-NAME"
    )
    parser.add_argument("--force", action="store_true", help="rm: also one that runs, or is broken")
    parser.owners = _OWNERS


def run(args: argparse.Namespace, console: Console) -> int:
    """0 when it is done."""
    if args.action != "list" and not args.name:
        raise InputError(f"{args.action} which machine?", hint=f"manyfest machine {args.action} NAME")
    if args.command and args.action != "ssh":
        raise InputError(
            f"{args.action} takes one name, got also {' '.join(args.command)}",
            hint=f"manyfest machine {args.action} NAME",
        )
    if not 0 <= args.timeout <= MOST_S:
        raise InputError(f"--timeout {args.timeout:g}: expected seconds", hint="0 is the usual time")
    actions = {"create": _create, "start": _start, "stop": _stop, "list": _list, "ssh": _ssh, "rm": _rm}
    action: Callable[[argparse.Namespace, Console], int] = actions[args.action]
    return action(args, console)


def _create(args: argparse.Namespace, console: Console) -> int:
    machine = machines.create(
        args.name,
        args.arch,
        memory=_bytes(args.memory, "--memory"),
        disk=_bytes(args.disk, "--disk"),
        cpus=args.cpus,
        bridge=args.bridge,
        address=args.address,
        emulated=args.emulate,
        mirror=args.mirror,
        fresh=args.fresh,
        on_step=console.say,
    )
    console.result(
        _to_json(machine), f"{args.name}: {machine.record.platform}; manyfest machine start {args.name}"
    )
    return 0


def _start(args: argparse.Namespace, console: Console) -> int:
    if not 0 <= args.port < 65536:
        raise InputError(f"--port {args.port}: expected 1 to 65535, or 0 for any")
    # Not on the command line: every user of this machine sees those.
    token = os.environ.get("SWARM_TOKEN", "")
    if args.join_swarm:
        from manyfest.emulate.machine.swarm import check_joining

        check_joining(machines.find(args.name).record, token)
    machine = machines.start(
        args.name, port=args.port, timeout_s=args.timeout or machines.START_TIMEOUT_S, on_step=console.say
    )
    if args.join_swarm:
        _join(args, console, machine, token)
    context = _context(machine) if args.context else ""
    if context:
        console.say(f"docker --context {context} … asks it")
    console.result({**_to_json(machine), "context": context or None}, f"DOCKER_HOST={machine.engine}")
    return 0


def _join(args: argparse.Namespace, console: Console, machine: Machine, token: str) -> None:
    from manyfest.emulate.machine.swarm import join_swarm

    joined = join_swarm(machine, args.join_swarm, token, on_step=console.say)
    console.say(f"{args.name}: {'joined the swarm' if joined else 'is in a swarm already'}")


def _stop(args: argparse.Namespace, console: Console) -> int:
    ran = machines.stop(
        args.name,
        suspend=args.suspend,
        timeout_s=args.timeout or machines.STOP_TIMEOUT_S,
        on_step=console.say,
    )
    word = "suspended" if args.suspend else "stopped"
    text = f"{args.name}: {word if ran else 'was not running'}"
    console.result({"name": args.name, "was_running": ran}, text)
    return 0


def _list(args: argparse.Namespace, console: Console) -> int:
    found: list[Machine] = []
    broken: dict[str, EmulationError] = {}
    for name in [args.name] if args.name else machines.names():
        try:
            found.append(machines.find(name))
        except EmulationError as error:
            if args.name:
                raise
            broken[name] = error  # one that somebody broke hides no others
    rows = [_row(machine) for machine in found]
    rows += [(name, "-", "broken", "-", "-", str(error)) for name, error in broken.items()]
    text = (
        table(("NAME", "PLATFORM", "STATE", "MEMORY", "DISK", "ENGINE"), rows, right=(3, 4)) if rows else ""
    )
    if not rows:
        console.say("no machines; manyfest machine create ARCH makes one")
    shown = [_to_json(machine) for machine in found]
    shown += [{"name": name, "state": "broken", "problem": str(error)} for name, error in broken.items()]
    console.result({"machines": shown}, text)
    return 0


def _row(machine: Machine) -> tuple[str, ...]:
    return (
        machine.record.name,
        str(machine.record.platform),
        machine.state,
        size(machine.record.memory),
        size(_used(machine)),
        machine.engine if machine.state == "running" else "-",
    )


def _ssh(args: argparse.Namespace, console: Console) -> int:
    words = machines.connect(args.name).words(args.command, terminal=not args.command and os.isatty(0))
    if not console.json:
        console.flush()
        # ssh in our place: its terminal, its signals, its exit code.
        os.execv(words[0], words)  # noqa: S606 - without a shell is what is meant
    console.document({"command": words})
    return 0


def _rm(args: argparse.Namespace, console: Console) -> int:
    machines.remove(args.name, force=args.force)
    _forget_context(args.name)
    console.result({"removed": args.name}, f"{args.name}: removed")
    return 0


def _to_json(machine: Machine) -> dict[str, Any]:
    record = machine.record
    return {
        "name": record.name,
        "platform": str(record.platform),
        "state": machine.state,
        "engine": machine.engine if machine.state == "running" else None,
        "ssh_port": machine.port or None,
        "bridge": record.bridge or None,
        "address": record.address or None,
        "cpus": record.cpus,
        "memory": record.memory,
        "disk": record.disk,
        "disk_used": _used(machine),
        "created_at": round(record.created_at),
        "folder": machine.folder,
    }


def _used(machine: Machine) -> int:
    """Bytes that its disk takes here: what was never written takes none."""
    try:
        return os.stat(os.path.join(machine.folder, "disk.img")).st_blocks * 512
    except FileNotFoundError:
        return 0


def _bytes(text: str, option: str) -> int:
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InputError(f"{option} {text}: expected a size such as 512M or 2G")
    return int(match[1]) << (10 * _UNITS.index(match[2].upper() or " "))


def _context(machine: Machine) -> str:
    from manyfest.emulate.machine.context import make_context

    return make_context(machine.record.name, machine.engine)


def _forget_context(name: str) -> None:
    from manyfest.emulate.machine.context import forget_context

    forget_context(name)
