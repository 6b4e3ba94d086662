# SPDX-License-Identifier: Apache-2.0
"""``manyfest emulators``: see, repair and test what runs programs of other architectures here."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from manyfest.cli.render import table
from manyfest.emulate.binfmt import FLAGS, ROOT, TARGETS, Binfmt, target_for
from manyfest.emulate.doctor import examine, native_targets, this_machine
from manyfest.emulate.install import DATA, DEFAULT_FLAGS, PERSISTENT, install, locate, remove
from manyfest.emulate.probe import PLATFORMS, probe, probe_in, programs_for
from manyfest.errors import EmulationError, InputError
from manyfest.platforms import Platform, from_name

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence
    from typing import Any

    from manyfest.cli.console import Console
    from manyfest.cli.parser import CommandParser
    from manyfest.emulate.binfmt import Target
    from manyfest.emulate.doctor import Finding, Report, Status
    from manyfest.emulate.install import Change
    from manyfest.emulate.probe import Probe

SUMMARY = "see, install and test what runs other architectures here"
EXAMPLES = """
manyfest emulators
manyfest emulators test arm64 s390x --engine docker
manyfest emulators install all --persist
manyfest emulators install arm64 --from docker://tonistiigi/binfmt:latest
manyfest emulators remove all
"""

NAMED = 3
"""Handlers that a finding lists by name; more are counted."""

_INSTALL = "manyfest emulators install "

ACTIONS = ("status", "install", "remove", "test")


def configure(parser: CommandParser) -> None:
    """What to do, for which architectures."""
    parser.description = (
        "Show every handler of binfmt_misc, what is wrong with it and what to do, and run a tiny program of every "
        "architecture to see whether it works. install registers static QEMUs without a privileged container, so that "
        "containers of other architectures run; remove takes them away; test answers with its exit code."
    )
    parser.add_argument(
        "action",
        metavar="ACTION",
        nargs="?",
        default="status",
        choices=ACTIONS,
        help="status (the default), install, remove or test",
    )
    parser.add_argument(
        "names",
        metavar="ARCH",
        nargs="*",
        help="arm64, armhf, linux/arm/v7, …; all; for remove also the name of a handler",
    )
    parser.add_argument(
        "--engine",
        metavar="NAME",
        default="",
        choices=("docker", "podman", "any"),
        help="status, test: also in containers of docker, podman, or any of them that answers",
    )
    parser.add_argument(
        "--from",
        dest="origin",
        metavar="PLACE",
        default="",
        help="install: a file or folder (/… or ./…), or an image with /usr/bin/qemu-ARCH "
        "(default: this machine's static QEMU)",
    )
    parser.add_argument(
        "--flags",
        metavar="FLAGS",
        default=DEFAULT_FLAGS,
        help=f"install: letters of {FLAGS} for the kernel (default {DEFAULT_FLAGS}: works in every container)",
    )
    parser.add_argument("--persist", action="store_true", help=f"install: also at every start ({PERSISTENT})")
    parser.add_argument(
        "--replace",
        action="store_true",
        help="install: take the place of handlers that somebody else registered",
    )
    parser.add_argument("--any", action="store_true", help="remove: also what somebody else registered")
    parser.owners = {
        "--engine": ("status", "test"),
        **dict.fromkeys(("--from", "--flags", "--persist", "--replace"), ("install",)),
        "--any": ("remove",),
    }


def run(args: argparse.Namespace, console: Console) -> int:
    """0 if everything that was asked for works, 1 if not."""
    binfmt = Binfmt(ROOT)
    action = {"status": _status, "install": _install, "remove": _remove, "test": _test}[args.action]
    return action(args, console, binfmt)


# --- status and test ---


def _status(args: argparse.Namespace, console: Console, binfmt: Binfmt) -> int:
    asked = _programs(args.names)
    _mount(binfmt, console)
    report = examine(binfmt)
    probes = _probes(args, console, report, asked or PLATFORMS)
    works = all(one.ok for one in probes)
    shown = {
        "state": report.state,
        "root": binfmt.root,
        "host": report.host,
        "handlers": [_status_json(status) for status in report.statuses],
        "findings": [_finding_json(finding) for finding in report.findings],
        "probes": [_probe_json(one) for one in probes],
        "ok": works,
    }
    console.result(shown, _status_text(report, probes))
    if report.statuses and not args.engine and any(map(shutil.which, ("docker", "podman"))):
        console.say("nothing was tried in a container; --engine any does that too")
    return 0 if works or not asked else 1


def _test(args: argparse.Namespace, console: Console, binfmt: Binfmt) -> int:
    _mount(binfmt, console)
    report = examine(binfmt, ask=False)
    asked = _programs(args.names) or tuple(p for p in PLATFORMS if _is_served(report, p))
    probes = _probes(args, console, report, asked)
    works = all(one.ok for one in probes)
    text = "\n".join([_probes_text(probes), *_hints(probes)])
    findings = [] if works else [finding for finding in report.findings if finding.level == "problem"]
    text += "".join(f"\n{finding.level}: {finding.text}\n  {finding.hint}" for finding in findings)
    console.result({"probes": [_probe_json(one) for one in probes], "ok": works}, text)
    return 0 if works else 1


def _mount(binfmt: Binfmt, console: Console) -> None:
    """Root may mount it, and what cannot be seen cannot be explained; a refusal becomes a finding."""
    if binfmt.state() != "unmounted" or os.geteuid() != 0:
        return
    try:
        binfmt.ensure()
        console.say("binfmt_misc was not mounted; now it is")
    except EmulationError as error:
        console.say(str(error))


def _is_served(report: Report, platform: Platform) -> bool:
    if report.serving(platform) is not None:
        return True
    return any(t.qemu == report.host and platform in t.platforms for t in TARGETS)


def _probes(
    args: argparse.Namespace, console: Console, report: Report, platforms: Sequence[Platform]
) -> list[Probe]:
    probes = list(probe(report, platforms))
    if args.engine:
        from manyfest.engines.containers import find

        engine = find("" if args.engine == "any" else args.engine)
        if engine is None:
            console.warn("neither docker nor podman answers: nothing was tried in a container")
        else:
            probes += probe_in(engine, report, platforms)
    return probes


def _status_text(report: Report, probes: Sequence[Probe]) -> str:
    parts = []
    if report.statuses:
        head = ("HANDLER", "FOR", "INTERPRETER", "VERSION", "FLAGS", "LINKED", "STATE")
        parts.append(table(head, [_row(status) for status in report.statuses]))
    parts.append(_probes_text(probes))
    if not any(finding.code == "none" for finding in report.findings):
        parts.append("\n".join(_hints(probes)))
    told = _findings_text(report)
    return "\n\n".join(part for part in (*parts, told) if part)


def _row(status: Status) -> tuple[str, ...]:
    handler, interpreter = status.handler, status.interpreter
    serves = ", ".join(dict.fromkeys(f"{p.os}/{p.architecture}" for p in status.platforms))
    serves = serves or ", ".join(target.qemu for target in status.targets) or "(not an architecture)"
    state = "on" if handler.enabled else "off"
    if status.shadowed_by:
        state += f", behind {status.shadowed_by}"
    version = interpreter.version or ("" if interpreter.kind in ("qemu", "other") else interpreter.kind)
    return (
        handler.name,
        serves,
        handler.interpreter,
        version or "-",
        handler.flags or "-",
        interpreter.linking,
        state,
    )


def _probes_text(probes: Sequence[Probe]) -> str:
    """One row a platform, one column for the kernel and one for the engine."""
    places = list(dict.fromkeys(one.where for one in probes))
    found = {(one.platform, one.where): one for one in probes}
    rows = []
    for platform in dict.fromkeys(one.platform for one in probes):
        mine = [found[platform, place] for place in places]
        why = next((one for one in mine if not one.ok), None)
        how = why.explanation if why else mine[0].how
        rows.append((str(platform), *("runs" if one.ok else "no" for one in mine), how))
    return table(("PLATFORM", *(place.upper() for place in places), "HOW OR WHY NOT"), rows)


def _hints(probes: Sequence[Probe]) -> list[str]:
    """What to do about those that do not run; all that is to be installed in one command."""
    hints = list(dict.fromkeys(one.hint for one in probes if not one.ok and one.hint))
    plain = [hint for hint in hints if hint.startswith(_INSTALL) and " --" not in hint]
    others = [hint for hint in hints if hint not in plain]
    missing = [hint.removeprefix(_INSTALL) for hint in plain]
    return [f"hint: {hint}" for hint in (*([_INSTALL + " ".join(missing)] if missing else []), *others)]


def _findings_text(report: Report) -> str:
    """Each finding once, with the handlers it is about."""
    about: dict[Finding, list[str]] = {finding: [] for finding in report.findings}
    for status in report.statuses:
        for finding in status.findings:
            about.setdefault(finding, []).append(status.handler.name)
    order = ("problem", "warning", "note")
    lines = []
    for finding in sorted(about, key=lambda finding: order.index(finding.level)):
        names = f"{_listed(about[finding])}: " if about[finding] else ""
        lines.append(f"{finding.level}: {names}{finding.text}")
        lines += [f"  {extra}" for extra in (finding.hint, finding.url) if extra]
    return "\n".join(lines)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= NAMED else f"{len(names)} handlers"


# --- install and remove ---


def _install(args: argparse.Namespace, console: Console, binfmt: Binfmt) -> int:
    if not args.names:
        raise InputError("install what?", hint="name architectures (arm64 armhf …), or all")
    host = this_machine()
    everything = "all" in args.names
    targets = _all_targets(host) if everything else _targets(args.names)
    emulators, fresh = _emulators(args, console, targets, host, everything)
    try:
        changes = install(
            binfmt,
            emulators,
            flags=args.flags,
            replace=args.replace,
            persistent=PERSISTENT if args.persist else "",
            skip_native=everything,
            host=host,
        )
    except BaseException:
        _unlink(fresh)
        raise
    platforms = [p for change in changes for p in PLATFORMS if p in _target(change.qemu).platforms]
    report = examine(binfmt, ask=False)
    probes = probe(report, platforms)
    wrong = _wrong(report, changes)
    works = all(one.ok for one in probes) and not wrong
    shown = {
        "changes": [_change_json(change) for change in changes],
        "probes": [_probe_json(one) for one in probes],
        "findings": [_finding_json(finding) for _, finding in wrong],
        "ok": works,
    }
    text = "\n".join(_told(change) for change in changes)
    if failed := [one for one in probes if not one.ok]:
        text += "\n\n" + _probes_text(failed)
    text += "".join(f"\n{finding.level}: {name}: {finding.text}" for name, finding in wrong)
    console.result(shown, text)
    return 0 if works else 1


def _wrong(report: Report, changes: Sequence[Change]) -> list[tuple[str, Finding]]:
    """Problems of somebody else's handlers that serve what was asked for; ours are as they were asked for."""
    names = {change.handler for change in changes if change.action == "kept"}
    return [
        (status.handler.name, finding)
        for status in report.statuses
        if status.handler.name in names
        for finding in status.findings
        if finding.level == "problem"
    ]


def _emulators(
    args: argparse.Namespace, console: Console, targets: Sequence[Target], host: str, everything: bool
) -> tuple[list[tuple[Target, str]], tuple[str, ...]]:
    """An emulator for each target, and the files that were made for that."""
    fresh: tuple[str, ...] = ()
    if not args.origin:
        found = {target: locate(target, args.flags) for target in targets}
    elif args.origin.startswith(("/", ".")):
        found = _from_path(os.path.abspath(args.origin), targets, args.flags)
    else:
        found, fresh = _from_image(args, console, targets, host)
    missing = [target.qemu for target in targets if not found.get(target)]
    if missing and (not everything or len(missing) == len(targets)):
        _unlink(fresh)
        where = args.origin or "this machine"
        hint = "apt-get install qemu-user-static, or take it from an image: --from docker://tonistiigi/binfmt:latest"
        raise EmulationError(
            f"no emulator for {', '.join(missing)} in {where}", hint="" if args.origin else hint
        )
    if missing:
        console.say(f"no emulator here for {', '.join(missing)}")
    return [(target, found[target]) for target in targets if found.get(target)], fresh


def _from_path(path: str, targets: Sequence[Target], flags: str) -> dict[Target, str]:
    if os.path.isdir(path):
        return {target: locate(target, flags, folders=[path]) for target in targets}
    if len(targets) != 1:
        raise InputError(
            f"{path} is one emulator, for {len(targets)} architectures", hint="name one, or a folder"
        )
    return {targets[0]: path}


def _from_image(
    args: argparse.Namespace, console: Console, targets: Sequence[Target], host: str
) -> tuple[dict[Target, str], tuple[str, ...]]:
    from manyfest.cli.places import Places
    from manyfest.emulate.extract import extract_into
    from manyfest.indexes.select import image_for

    if not host:
        raise EmulationError("nobody here knows what this machine is, so no image can be chosen for it")
    own = _target(host).platforms[0]
    with Places(args, console) as places:
        source, name = places.source(args.origin)
        document = image_for(source, source.resolve(name), own)
        paths, fresh = extract_into(source, document, [target.qemu for target in targets], DATA)
    return {target: paths.get(target.qemu, "") for target in targets}, fresh


def _unlink(paths: Iterable[str]) -> None:
    from manyfest.emulate.extract import remove_empty

    for path in paths:
        os.unlink(path)
        folder = os.path.dirname(path)
        remove_empty(folder)


def _remove(args: argparse.Namespace, console: Console, binfmt: Binfmt) -> int:
    if not args.names:
        raise InputError("remove what?", hint="name architectures, or all (of what manyfest installed)")
    there = {handler.name for handler in binfmt.handlers()}
    names = [name for name in args.names if name in there]
    words = [name for name in args.names if name not in there]
    targets = TARGETS if "all" in words else _targets(words)
    changes = remove(binfmt, targets, names=names, others=args.any, persistent=PERSISTENT, data=DATA)
    if "all" in words:
        changes = tuple(change for change in changes if change.action == "removed")
    text = "\n".join(_told(change) for change in changes) or "nothing of ours is registered"
    console.result({"changes": [_change_json(change) for change in changes]}, text)
    return 0


def _told(change: Change) -> str:
    name = change.qemu
    if change.action == "native":
        return f"{name}: runs natively, needs no emulator"
    if change.action == "kept":
        return (
            f"{name}: left alone, {change.handler} ({change.interpreter}, flags {change.flags or 'none'}) is somebody "
            "else's (--replace takes its place)"
        )
    if change.action in ("removed", "absent"):
        gone = [*change.removed, *([change.persisted] if change.persisted else [])]
        return f"{name}: removed {', '.join(gone)}" if gone else f"{name}: nothing to remove"
    text = (
        f"{name}: {change.action} as {change.handler} ({change.interpreter}, flags {change.flags or 'none'})"
    )
    if change.persisted:
        text += f", at every start by {change.persisted}"
    return text + (f", instead of {', '.join(change.removed)}" if change.removed else "")


# --- words ---


def _platform(word: str) -> Platform:
    return Platform.parse(word) if "/" in word else from_name(word)


def _programs(words: Sequence[str]) -> tuple[Platform, ...]:
    """The programs to run for the given words; none for no words."""
    if "all" in words:
        return PLATFORMS
    found = [p for word in words for p in programs_for(_platform(word))]
    return tuple(dict.fromkeys(found))


def _targets(words: Sequence[str]) -> tuple[Target, ...]:
    return tuple(dict.fromkeys(target_for(_platform(word)) for word in words))


def _all_targets(host: str) -> tuple[Target, ...]:
    """What images are made for, without this machine's own."""
    own = {host} if host else set()
    return tuple(t for t in TARGETS if t.platforms and t.qemu not in own and not _runs_beside(t, host))


def _runs_beside(target: Target, host: str) -> bool:
    """Programs that run beside the machine's own have no emulator in Debian, and need none."""
    return target.qemu in native_targets(host)


def _target(qemu: str) -> Target:
    return next(target for target in TARGETS if target.qemu == qemu)


# --- JSON ---


def _status_json(status: Status) -> dict[str, Any]:
    handler, interpreter = status.handler, status.interpreter
    return {
        "name": handler.name,
        "enabled": handler.enabled,
        "emulator": status.is_emulator,
        "architectures": [target.qemu for target in status.targets],
        "platforms": [str(platform) for platform in status.platforms],
        "interpreter": handler.interpreter,
        "kind": interpreter.kind,
        "linking": interpreter.linking,
        "version": interpreter.version,
        "build": interpreter.build,
        "flags": handler.flags,
        "shadowed_by": status.shadowed_by,
        "findings": [_finding_json(finding) for finding in status.findings],
    }


def _finding_json(finding: Finding) -> dict[str, str]:
    return {name: getattr(finding, name) for name in ("level", "code", "text", "hint", "url")}


def _probe_json(one: Probe) -> dict[str, Any]:
    return {
        "platform": str(one.platform),
        "where": one.where,
        "how": one.how,
        "ok": one.ok,
        "output": one.output,
        "explanation": one.explanation,
        "hint": one.hint,
        "seconds": round(one.seconds, 4),
    }


def _change_json(change: Change) -> dict[str, Any]:
    return {
        "architecture": change.qemu,
        "action": change.action,
        "handler": change.handler,
        "interpreter": change.interpreter,
        "flags": change.flags,
        "persisted": change.persisted,
        "removed": list(change.removed),
    }
