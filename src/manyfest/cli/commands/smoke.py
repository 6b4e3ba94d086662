# SPDX-License-Identifier: Apache-2.0
"""``manyfest smoke``: run every platform of an image, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from manyfest.cli.arguments import platforms
from manyfest.cli.render import duration, plural, table
from manyfest.errors import EngineError, InputError, InvalidSpec
from manyfest.platforms import Platform, normalise

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence
    from typing import Any

    from manyfest.cli.console import Console
    from manyfest.cli.parser import CommandParser
    from manyfest.engines.containers import Containers
    from manyfest.smoke import Plan, Result

SUMMARY = "run every platform of an image and compare"
EXAMPLES = """
manyfest smoke ghcr.io/acme/app:1.2 --contains 1.2 -- --version
manyfest smoke oci:build/out:1.2 --platform linux/arm64,linux/s390x --expect '{arch}'
manyfest smoke ghcr.io/acme/app:1.2 -f manyfest.yaml
manyfest smoke ghcr.io/acme/app:1.2 --node linux/arm64=ssh://builder@pi -- --version
"""

_EXAMPLE = 'for example smoke: {cmd: ["--version"], contains: "1.2", timeout: 60}'

SHOWN = 60
"""Characters of the first line of output in the table."""


def configure(parser: CommandParser) -> None:
    """A place, a command, and what to expect."""
    parser.description = (
        "Run every platform of an image once, in containers of docker or podman: natively, on a node that you name, or "
        "emulated (manyfest emulators). Show exit code, time and output side by side, and explain what failed. Exit 0 "
        "if every platform did what was expected (by default: end with exit code 0), 1 if one did not, 3 if only an "
        "engine failed."
    )
    parser.rest = "command"
    parser.add_argument("place", metavar="PLACE", help="an image in any place")
    parser.add_argument(
        "command",
        metavar="CMD",
        nargs="*",
        default=[],
        help="after --: arguments instead of the image's own (its CMD)",
    )
    parser.add_argument(
        "--platform", metavar="P,P", action="append", help="only these platforms; may be repeated"
    )
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=float, default=None, help="for each platform (default: 60)"
    )
    parser.add_argument(
        "--expect",
        metavar="TEXT",
        default=None,
        help="standard output must be this; {platform}, {os}, {arch} and {variant} are filled in",
    )
    parser.add_argument(
        "--contains", metavar="TEXT", action="append", help="it must print this; may be repeated"
    )
    parser.add_argument(
        "--exit-code", metavar="N", type=int, default=None, help="it must end with this (default: 0)"
    )
    parser.add_argument(
        "-f",
        "--file",
        metavar="SPEC",
        default="",
        help="take command, expectations (smoke:) and nodes from this file",
    )
    parser.add_argument(
        "--engine",
        metavar="NAME",
        default="any",
        choices=("docker", "podman", "any"),
        help="docker or podman",
    )
    parser.add_argument(
        "--node",
        metavar="P=WHERE",
        action="append",
        help="run platform P on the engine at WHERE: ssh://…, tcp://…, unix://…, a Docker context, or machine:NAME "
        "(manyfest machine); may be repeated",
    )
    parser.add_argument(
        "--network", metavar="NAME", default="none", help="the containers' network (default: none)"
    )
    parser.add_argument("--jobs", metavar="N", type=int, default=2, help="platforms at a time (default: 2)")


def run(args: argparse.Namespace, console: Console) -> int:
    """0 if every platform did what was expected; what is of another system than the engine is none of them."""
    from manyfest.cli.places import Places
    from manyfest.emulate.binfmt import Binfmt
    from manyfest.emulate.doctor import examine
    from manyfest.smoke import smoke

    wanted, plan = platforms(args.platform), _plan(args)
    if args.jobs < 1:
        raise InputError(f"--jobs {args.jobs}: expected at least 1")
    engine_for = _engines(args, console)
    with Places(args, console) as places:
        source, name = places.source(args.place)
        results = smoke(
            source,
            source.resolve(name),
            engine_for,
            examine(Binfmt()),
            plan,
            platforms=wanted,
            network=args.network,
            jobs=args.jobs,
            on_done=lambda result: console.detail(f"{result.platform}: {_word(result)}"),
        )
    failed = any(result.error is not None for result in results)
    refused = any(result.ok is False for result in results) or not (failed or any(r.ok for r in results))
    shown = {
        "place": args.place,
        "command": list(plan.command),
        "results": [_json(result) for result in results],
        "ok": not (refused or failed),
    }
    console.result(shown, _text(results))
    return 1 if refused else EngineError.exit_code if failed else 0


def _plan(args: argparse.Namespace) -> Plan:
    """What the file says, under what the command line says."""
    from manyfest.smoke import MOST_S, Plan

    plan = Plan()
    if args.file:
        plan = _plan_of(args.file)
    given: dict[str, Any] = {}
    if args.expect is not None:
        given["output"] = args.expect
    if args.contains:
        given["contains"] = tuple(args.contains)
    if args.exit_code is not None:
        given["exit_code"] = args.exit_code
    if args.timeout is not None and not 0 < args.timeout <= MOST_S:
        raise InputError(f"--timeout {args.timeout:g}: expected seconds, more than 0 and at most {MOST_S:g}")

    def over(one: Plan) -> Plan:
        return one.replace(
            command=tuple(args.command) or one.command,
            expectation=one.expectation.replace(**given),
            timeout_s=args.timeout or one.timeout_s,
            special=tuple((platform, over(special)) for platform, special in one.special),
        )

    return over(plan)


def _plan_of(path: str) -> Plan:
    """The key ``smoke`` of a file. Raises :class:`InvalidSpec` with line and column."""
    from manyfest.drafts import place_of, read_spec
    from manyfest.smoke import Plan

    project = dict(read_spec(path).project)
    if "smoke" not in project:
        raise InputError(f"{path} has no smoke:", hint=_EXAMPLE)
    try:
        return Plan.from_mapping(project["smoke"])
    except InvalidSpec as error:
        raise InvalidSpec(f"{place_of(path, str(error))}: {error}", hint=error.hint or _EXAMPLE) from error


def _engines(args: argparse.Namespace, console: Console) -> Callable[[Platform], Containers | EngineError]:
    """Which engine runs a platform: a named node's, or the one of this machine. Each is looked for when it is needed,
    so that no machine starts for a platform that is not run. What can be no node at all is raised."""
    nodes = _nodes(args)
    known: dict[str, Containers | EngineError] = {}

    def chosen(platform: Platform) -> Containers | EngineError:
        where = nodes.get(normalise(platform), "")
        if where not in known:
            known[where] = _on_node(where, args.engine, console) if where else _here(args.engine)
        return known[where]

    return chosen


def _here(name: str) -> Containers | EngineError:
    """This machine's engine, or why there is none."""
    from manyfest.engines.containers import find

    try:
        engine = find("" if name == "any" else name)
    except EngineError as error:
        return error
    return engine or EngineError(
        "neither docker nor podman answers here, and images run in one of them",
        hint="start docker, or name a machine that has one: --node linux/arm64=ssh://user@host",
    )


def _on_node(where: str, name: str, console: Console) -> Containers | EngineError:
    """A node's, which is started if it is a machine of ours; or why that did not start."""
    from manyfest.emulate.machine.node import engine_of, is_machine, planned
    from manyfest.engines.containers import Containers

    if is_machine(where):
        planned(where, "")
        try:
            where = engine_of(where, console.say)
        except EngineError as error:
            return error
    return Containers("docker" if name == "any" else name, where)


def _nodes(args: argparse.Namespace) -> dict[Platform, str]:
    """Those of the file, and those of the command line over them."""
    listed: dict[object, object] = {}
    if args.file:
        from manyfest.drafts import read_spec

        listed = dict(read_spec(args.file).project).get("nodes") or {}
    if not isinstance(listed, dict):
        raise InputError(f"{args.file}: nodes: expected platforms with the URL of an engine each")
    for text in args.node or ():
        platform, equals, url = text.partition("=")
        if not equals or not url:
            raise InputError(f"--node {text}: expected PLATFORM=WHERE, such as linux/arm64=ssh://user@host")
        listed = {**listed, platform: url}
    return {normalise(Platform.parse(str(platform))): str(url) for platform, url in listed.items()}


def _text(results: Sequence[Result]) -> str:
    head = ("PLATFORM", "RESULT", "EXIT", "TIME", "HOW", "OUTPUT")
    parts = [table(head, [_row(result) for result in results], right=(2, 3))]
    for result in results:
        if result.ok is not True:
            parts.append(_failure(result))
    tried = [result for result in results if result.ok is not None]
    good = sum(1 for result in tried if result.ok)
    last = f"{good} of {plural(len(tried), 'platform')} did what was expected"
    lost = sum(1 for result in results if result.error is not None)
    parts.append(f"{last}; the engine failed for {lost} more" if lost else last)
    return "\n\n".join(parts)


def _row(result: Result) -> tuple[str, ...]:
    ran = result.ran
    if ran is None:
        return (str(result.platform), _word(result), "-", "-", result.how or "-", "")
    lines = ran.output.decode("utf-8", "replace").strip().splitlines()
    first = lines[0] if lines else ""
    if len(first) > SHOWN or len(lines) > 1:
        first = f"{first[:SHOWN]}…"
    code = str(ran.exit_code) if ran.exit_code >= 0 else "-"
    return (str(result.platform), _word(result), code, duration(ran.seconds), result.how or "-", first)


def _word(result: Result) -> str:
    if result.error is not None:
        return "no answer"
    return {True: "ok", False: "FAILED", None: "not tried"}[result.ok]


def _failure(result: Result) -> str:
    lines = [f"{result.platform}: {'; '.join(result.reasons)}"]
    lines += [f"  {text}" for text in result.explanation]
    if result.ran is not None and result.ran.errors.strip():
        said = result.ran.errors.decode("utf-8", "replace").strip().splitlines()[-1]
        lines.append(f"  its last words: {said[:200]}")
    if result.hint:
        lines.append(f"  hint: {result.hint}")
    return "\n".join(lines)


def _json(result: Result) -> dict[str, Any]:
    ran = result.ran
    return {
        "platform": str(result.platform),
        "digest": result.digest,
        "engine": result.engine,
        "how": result.how,
        "ok": result.ok,
        "exit_code": ran.exit_code if ran is not None and ran.exit_code >= 0 else None,
        "seconds": round(ran.seconds, 3) if ran is not None else None,
        "timed_out": bool(ran is not None and ran.timed_out),
        "output": ran.output.decode("utf-8", "replace") if ran is not None else "",
        "errors": ran.errors.decode("utf-8", "replace") if ran is not None else "",
        "reasons": list(result.reasons),
        "explanation": list(result.explanation),
        "hint": result.hint,
        "error": None if result.error is None else type(result.error).__name__,
    }
