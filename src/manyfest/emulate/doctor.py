# SPDX-License-Identifier: Apache-2.0
"""What is wrong with the emulators of this machine, and what to do about it.

:func:`examine` looks and changes nothing: every handler of binfmt_misc with the platforms it serves, its interpreter,
and findings. A ``"problem"`` keeps programs from running somewhere, a ``"warning"`` may, a ``"note"`` explains.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from manyfest.emulate.binfmt import TARGETS, overlap
from manyfest.emulate.interpreter import Interpreter, read_interpreter
from manyfest.emulate.known import reports
from manyfest.errors import InvalidPlatform
from manyfest.platforms import Platform, from_uname
from manyfest.values import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from manyfest.emulate.binfmt import Binfmt, Handler, Target

__all__ = ["Finding", "Report", "Status", "examine", "native_targets", "this_machine"]

# Architectures that a 64-bit processor may run beside its own, by QEMU's names.
_BESIDE = {"x86_64": ("i386",), "aarch64": ("arm",), "ppc64": ("ppc",), "mips64": ("mips",)}

_TOLD = {
    "rosetta": "Apple's Rosetta, in a virtual machine on a Mac: amd64 programs run fast, but what works here need "
    "not work under QEMU or on a real machine",
    "wsl": "Windows Subsystem for Linux: starts Windows programs, not other architectures",
    "fex": "FEX-Emu: x86 programs on arm64",
    "box64": "Box64 or Box86: x86 programs on ARM, with the machine's own libraries",
}


class Finding(Value):
    """One sentence with a level, and what helps."""

    __slots__ = ("code", "hint", "level", "text", "url")
    level: str
    code: str
    text: str
    hint: str
    url: str

    def __init__(self, level: str, code: str, text: str, hint: str = "", url: str = "") -> None:
        self._set(level=level, code=code, text=text, hint=hint, url=url)


class Status(Value):
    """A handler, what it is for (``targets`` that it matches), who starts its programs, and what was found."""

    __slots__ = ("findings", "handler", "interpreter", "platforms", "shadowed_by", "targets")
    handler: Handler
    interpreter: Interpreter
    targets: tuple[Target, ...]
    platforms: tuple[Platform, ...]
    shadowed_by: str
    findings: tuple[Finding, ...]

    def __init__(
        self,
        handler: Handler,
        interpreter: Interpreter,
        targets: tuple[Target, ...],
        shadowed_by: str = "",
        findings: tuple[Finding, ...] = (),
    ) -> None:
        self._set(
            handler=handler,
            interpreter=interpreter,
            targets=targets,
            platforms=tuple(p for target in targets for p in target.platforms),
            shadowed_by=shadowed_by,
            findings=findings,
        )

    @property
    def is_emulator(self) -> bool:
        """For programs of another architecture; the others start scripts, Windows programs, …"""
        return bool(self.targets)


class Report(Value):
    """All of it. ``state`` as of :meth:`Binfmt.state`; ``findings`` are about binfmt_misc as a whole."""

    __slots__ = ("findings", "host", "state", "statuses")
    state: str
    host: str
    statuses: tuple[Status, ...]
    findings: tuple[Finding, ...]

    def __init__(
        self, state: str, host: str, statuses: tuple[Status, ...], findings: tuple[Finding, ...]
    ) -> None:
        self._set(state=state, host=host, statuses=statuses, findings=findings)

    @property
    def problems(self) -> tuple[Finding, ...]:
        """Everything that keeps something from working."""
        found = [*self.findings, *(f for status in self.statuses for f in status.findings)]
        return tuple(finding for finding in found if finding.level == "problem")

    def serving(self, platform: Platform) -> Status | None:
        """The handler that starts programs for a platform: the first that is on and matches."""
        for status in self.statuses:
            if status.handler.enabled and any(
                p.architecture == platform.architecture for p in status.platforms
            ):
                return status
        return None


def this_machine() -> str:
    """QEMU's name of this machine's own architecture; empty for one nobody here knows."""
    try:
        architecture = from_uname(os.uname().machine).architecture
    except InvalidPlatform:
        return ""
    for target in TARGETS:
        if any(p.architecture == architecture for p in target.platforms):
            return target.qemu
    return ""


def native_targets(host: str) -> tuple[str, ...]:
    """QEMU's names of what a machine runs by itself, if its processor and kernel still do."""
    return (host, *_BESIDE.get(host, ())) if host else ()


def examine(binfmt: Binfmt, *, host: str | None = None, ask: bool = True) -> Report:
    """Look at everything. ``ask``: run each QEMU once for its version."""
    host = this_machine() if host is None else host
    state = binfmt.state()
    handlers = binfmt.handlers() if state in ("ready", "disabled") else ()
    machines = {target.machine for target in TARGETS if target.qemu == host}
    statuses = tuple(
        _status(handler, handlers[:at], handlers[at + 1 :], host, machines, ask)
        for at, handler in enumerate(handlers)
    )
    return Report(state, host, statuses, tuple(_of_the_whole(binfmt, state, statuses)))


def _of_the_whole(binfmt: Binfmt, state: str, statuses: Sequence[Status]) -> list[Finding]:
    if state == "unsupported":
        return [
            Finding(
                "problem",
                "unsupported",
                "this kernel has no binfmt_misc, or has not loaded it",
                "as root: modprobe binfmt_misc; if that fails the kernel was built without it",
            )
        ]
    if state == "unmounted":
        hint = (
            "manyfest emulators install ARCH does it"
            if os.geteuid() == 0
            else f"sudo mount -t binfmt_misc binfmt_misc {binfmt.root}"
        )
        return [Finding("problem", "unmounted", "binfmt_misc is not mounted", hint)]
    found = []
    if state == "disabled":
        found.append(
            Finding(
                "problem",
                "disabled",
                "binfmt_misc is switched off as a whole",
                f"as root: echo 1 > {binfmt.root}/status",
            )
        )
    if not any(status.is_emulator for status in statuses):
        hint = "manyfest emulators install all"
        found.append(Finding("note", "none", "no emulator is registered", hint))
    return found


def _status(
    handler: Handler,
    newer: Sequence[Handler],
    older: Sequence[Handler],
    host: str,
    machines: set[int],
    ask: bool,
) -> Status:
    targets = tuple(target for target in TARGETS if handler.matches(target.head))
    interpreter = read_interpreter(handler.interpreter, handler.name, ask=ask)
    shadow = next((n.name for n in newer if n.enabled and overlap(n, handler) == "all"), "")
    findings: list[Finding] = []
    if interpreter.kind in _TOLD:
        findings.append(Finding("note", interpreter.kind, _TOLD[interpreter.kind]))
    if not targets:
        return Status(handler, interpreter, targets, shadow, tuple(findings))
    findings += _of_the_order(handler, newer, older, shadow)
    findings += _of_native(targets, host)
    findings += _of_the_interpreter(handler, interpreter, machines)
    findings += _of_argv0(handler, interpreter)
    for target in targets:
        for known in reports(target.qemu, interpreter.version):
            text = f"QEMU {interpreter.version}, reported: {known.text}"
            findings.append(Finding("warning", "reported", text, "another version may do better", known.url))
    return Status(handler, interpreter, targets, shadow, tuple(findings))


def _of_the_order(
    handler: Handler, newer: Sequence[Handler], older: Sequence[Handler], shadow: str
) -> list[Finding]:
    found = []
    if not handler.enabled:
        hint = f"as root: echo 1 > /proc/sys/fs/binfmt_misc/{handler.name}"
        found.append(Finding("problem", "off", "switched off, so it starts nothing", hint))
    if shadow:
        hint = f"manyfest emulators remove --any {handler.name}, unless you want it back when {shadow} goes"
        found.append(
            Finding(
                "warning",
                "shadowed",
                f"never asked: {shadow} was registered later and takes its programs",
                hint,
            )
        )
    partly = [n.name for n in newer if n.enabled and overlap(n, handler) == "some"]
    if partly and not shadow:
        found.append(
            Finding(
                "warning", "overlapped", f"{', '.join(partly)}, registered later, takes some of its programs"
            )
        )
    if handler.enabled:
        taken = [o.name for o in older if o.enabled and overlap(handler, o)]
        if taken:
            found.append(Finding("note", "first", f"asked before {', '.join(taken)}, for the same programs"))
    return found


def _of_native(targets: Sequence[Target], host: str) -> list[Finding]:
    own = [target.qemu for target in targets if target.qemu in native_targets(host)]
    if host in own:
        return [
            Finding(
                "problem",
                "native",
                f"takes this machine's own programs ({host}) away from the processor",
                "remove it: the kernel runs them by itself, and faster",
            )
        ]
    if own:
        return [
            Finding(
                "warning",
                "native",
                f"takes programs ({', '.join(own)}) that this processor may well run by itself",
                "remove it and run manyfest emulators test: if they still run, it is not needed",
            )
        ]
    return []


def _of_the_interpreter(handler: Handler, interpreter: Interpreter, machines: set[int]) -> list[Finding]:
    found, fixed = [], "F" in handler.flags
    if interpreter.linking == "missing":
        found.append(_missing(handler, fixed))
    if interpreter.linking == "dynamic" and interpreter.kind in ("qemu", "other"):
        level = "problem" if interpreter.kind == "qemu" else "note"
        found.append(
            Finding(
                level,
                "dynamic",
                f"{interpreter.path} is linked dynamically: in a container its libraries are the image's, or none",
                "install a static one (Debian: qemu-user-static) and register that",
            )
        )
    if not fixed and interpreter.linking != "missing":
        found.append(
            Finding(
                "problem",
                "not-fixed",
                f"without the flag F {interpreter.path} is looked for inside every container, where it is not",
                "manyfest emulators install ARCH --replace registers it with F",
            )
        )
    if interpreter.machine and machines and interpreter.machine not in machines:
        found.append(
            Finding("problem", "foreign", f"{interpreter.path} is itself a program for another machine")
        )
    if fixed and 0 < handler.registered_ns < interpreter.changed_ns:
        found.append(
            Finding(
                "warning",
                "replaced",
                f"{interpreter.real} was replaced after the kernel opened it: the old one still runs",
                "register it again: manyfest emulators install ARCH --replace",
            )
        )
    return found


def _missing(handler: Handler, fixed: bool) -> Finding:
    if fixed:
        return Finding(
            "note",
            "gone",
            f"{handler.interpreter} is not in this file system; the kernel holds what it opened (F), until a restart",
        )
    return Finding(
        "problem",
        "missing",
        f"{handler.interpreter} does not exist, so its programs end with: no such file or directory",
        "install it, or manyfest emulators install ARCH --replace",
    )


def _of_argv0(handler: Handler, interpreter: Interpreter) -> list[Finding]:
    """Debian's ``-binfmt-P`` names take argv[0] as an argument of its own, which only the flag P hands over."""
    if interpreter.path.endswith("-binfmt-P") and "P" not in handler.flags:
        return [
            Finding(
                "problem",
                "argv0",
                f"{interpreter.path} expects the flag P; without it the first argument of every program is lost",
                "register it with P, or its other name without -binfmt-P",
            )
        ]
    return []
