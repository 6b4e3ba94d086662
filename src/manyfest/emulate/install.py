# SPDX-License-Identifier: Apache-2.0
"""Registering emulators, so that it stays safe and can be taken back.

Ours are called ``manyfest-qemu-ARCH``; a handler by another name is somebody else's and stays unless it is to be
replaced. Nothing that this machine runs by itself is registered. A call is whole or nothing: when one step fails, the
ones before it are undone. Handlers of others go last, when everything else has worked, for what the kernel holds open
for them may exist nowhere else.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from typing import TYPE_CHECKING

from manyfest.emulate.binfmt import FLAGS, TARGETS, Handler, line_of, parse_line, registration
from manyfest.emulate.doctor import native_targets, this_machine
from manyfest.emulate.interpreter import read_interpreter
from manyfest.emulate.programs import PLATFORMS, program
from manyfest.errors import EmulationError, Error, InputError
from manyfest.stores._files import Part, sync_directory
from manyfest.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from manyfest.emulate.binfmt import Binfmt, Target

__all__ = ["DATA", "DEFAULT_FLAGS", "PERSISTENT", "PREFIX", "Change", "install", "locate", "remove"]

PREFIX = "manyfest-qemu-"
"""Names of our handlers, and of the files that make them last."""

PERSISTENT = "/etc/binfmt.d"
"""Where systemd-binfmt looks at every start (binfmt.d(5))."""

DATA = "/var/lib/manyfest/emulators"
"""Where emulators out of images are kept."""

DEFAULT_FLAGS = "F"

_DEBIAN = "/usr/libexec/qemu-binfmt"
_PLACES = ("/usr/bin", "/usr/local/bin")
_PROBE_TIMEOUT_S = 10.0
_ARGV0_SINCE = (6, 0)  # QEMU's linux-user/main.c: AT_FLAGS_PRESERVE_ARGV0


class Change(Value):
    """What became of one architecture.

    ``action``: ``"registered"``, ``"renewed"`` (ours, with something changed), ``"unchanged"``, ``"kept"`` (somebody
    else's, left alone), ``"native"`` (needs none), ``"removed"`` or ``"absent"``. ``removed`` names handlers that went,
    ``persisted`` the file that was written or removed.
    """

    __slots__ = ("action", "flags", "handler", "interpreter", "persisted", "qemu", "removed")
    qemu: str
    action: str
    handler: str
    interpreter: str
    flags: str
    persisted: str
    removed: tuple[str, ...]

    def __init__(
        self,
        qemu: str,
        action: str,
        handler: str = "",
        interpreter: str = "",
        flags: str = "",
        persisted: str = "",
        removed: tuple[str, ...] = (),
    ) -> None:
        self._set(
            qemu=qemu,
            action=action,
            handler=handler,
            interpreter=interpreter,
            flags=flags,
            persisted=persisted,
            removed=removed,
        )


class _Undo:
    """Steps back, taken in reverse if the block is left by an exception."""

    def __init__(self) -> None:
        self._steps: list[Callable[[], object]] = []

    def add(self, step: Callable[[], object]) -> None:
        self._steps.append(step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            return
        for step in reversed(self._steps):
            try:
                step()
            except (Error, OSError) as failed:
                error.add_note(f"undoing it failed as well: {failed}")


def locate(target: Target, flags: str = DEFAULT_FLAGS, *, folders: Sequence[str] = ()) -> str:
    """The distribution's emulator on this machine, or that in ``folders``; empty when there is none.

    Debian has two names for each: the one that ends in ``-binfmt-P`` understands the flag P, and needs it.
    """
    names = [f"qemu-{target.qemu}-static", f"qemu-{target.qemu}"]
    paths = [os.path.join(folder, name) for folder in folders or _PLACES for name in names]
    if "P" in flags:
        paths = [os.path.join(f, f"{target.qemu}-binfmt-P") for f in folders or (_DEBIAN,)] + paths
    there = [path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK)]
    static = [path for path in there if read_interpreter(path, ask=False).linking == "static"]
    return (static or there or [""])[0]


def install(
    binfmt: Binfmt,
    emulators: Sequence[tuple[Target, str]],
    *,
    flags: str = DEFAULT_FLAGS,
    replace: bool = False,
    persistent: str = "",
    skip_native: bool = False,
    host: str | None = None,
) -> tuple[Change, ...]:
    """Register an emulator (a path) for each target; with ``persistent`` (a directory) for every start from now on.

    A target that the processor runs beside its own (386 on amd64) is refused, or left out with ``skip_native``.

    Raises :class:`InputError` for an emulator that cannot do it or a target that is this machine's own, and
    :class:`EmulationError` when the kernel or the file system refuses; then everything is as it was.
    """
    host = this_machine() if host is None else host
    wanted = [(target, path, _flags_for(path, flags)) for target, path in emulators]
    for target, path, used in wanted:
        check_emulator(target, path, used, host)
    binfmt.ensure()
    with _Undo() as undo:
        changes = [_install(binfmt, *one, replace, persistent, host, undo) for one in wanted]
        native = [change.qemu for change in changes if change.action == "native"]
        if native and not skip_native:
            raise InputError(
                f"this machine runs {', '.join(native)} by itself; an emulator would only be slower",
                hint="leave it out; manyfest emulators test shows that it runs",
            )
        others = [(change, tuple(_others(binfmt, change.qemu))) for change in changes if replace]
    gone = {change.qemu: _remove_all(binfmt, names) for change, names in others if change.action != "native"}
    return tuple(change.replace(removed=gone.get(change.qemu, ())) for change in changes)


def check_emulator(target: Target, path: str, flags: str, host: str) -> None:
    """Raises :class:`InputError` unless the file at ``path`` can be registered for ``target`` with these flags."""
    if target.qemu == host:
        raise InputError(
            f"{target.qemu} is this machine's own architecture: an emulator would slow down every program, or break it",
            hint="leave it out; programs for it run as they are",
        )
    if set(flags) - set(FLAGS):
        raise InputError(f"flags {flags!r}: expected letters of {FLAGS}")
    if not os.path.isabs(path):
        raise InputError(f"{path}: the kernel needs the whole path of an emulator")
    found = read_interpreter(path)
    if found.linking in ("missing", "unreadable", "unknown"):
        told = {"missing": "there is no such file", "unreadable": "it cannot be read"}
        raise InputError(f"{path}: {told.get(found.linking, 'expected an ELF program')}")
    own = {t.machine for t in TARGETS if t.qemu == host}
    if own and found.machine and found.machine not in own:
        raise InputError(
            f"{path} is a program for another machine (ELF {found.machine}, expected {own.pop()})",
            hint="it must be built for this machine, and emulate the other",
        )
    if "F" in flags and found.linking == "dynamic":
        raise InputError(
            f"{path} is linked dynamically: with the flag F it starts in every container, and finds no libraries there",
            hint="apt-get install qemu-user-static; or --flags '' to have it work outside containers only",
        )
    if "P" in flags and not path.endswith("-binfmt-P") and _before(found.version, _ARGV0_SINCE):
        raise InputError(
            f"{path} (QEMU {found.version}) does not understand the flag P, which came with QEMU 6.0",
            hint="leave P out, or take a newer one",
        )


def _flags_for(path: str, flags: str) -> str:
    """A ``-binfmt-P`` emulator without the flag P loses the first argument of every program."""
    return f"{flags}P" if path.endswith("-binfmt-P") and "P" not in flags else flags


def _before(version: str, wanted: tuple[int, int]) -> bool:
    parts = version.split(".")
    return (
        len(parts) > 1
        and parts[0].isdigit()
        and parts[1].isdigit()
        and (int(parts[0]), int(parts[1])) < wanted
    )


def _install(
    binfmt: Binfmt,
    target: Target,
    path: str,
    flags: str,
    replace: bool,
    persistent: str,
    host: str,
    undo: _Undo,
) -> Change:
    name = PREFIX + target.qemu
    line = registration(name, target, path, flags)
    wanted = parse_line(line)
    handlers = binfmt.handlers()
    ours = next((h for h in handlers if h.name == name), None)
    winner = binfmt.winner(target.head, handlers)
    if ours is None and winner is not None and not replace:
        return Change(target.qemu, "kept", winner.name, winner.interpreter, winner.flags)
    if ours is None and winner is None and target.qemu in native_targets(host) and _runs_here(target):
        return Change(target.qemu, "native")
    action = _register(binfmt, ours, wanted, line, undo, first=replace and winner is not ours)
    if persistent:
        _persist(persistent, name, line, undo)
    kept = os.path.join(persistent, f"{name}.conf") if persistent else ""
    return Change(target.qemu, action, name, path, wanted.flags, kept)


def _register(
    binfmt: Binfmt, ours: Handler | None, wanted: Handler, line: str, undo: _Undo, *, first: bool
) -> str:
    if ours is not None and ours.same_as(wanted) and not _is_stale(ours) and not first:
        if ours.enabled:
            return "unchanged"
        binfmt.enable(ours.name)
        return "renewed"
    if ours is not None:
        before = line_of(ours)
        binfmt.remove(ours.name)
        undo.add(lambda: binfmt.register(before))
    binfmt.register(line)
    undo.add(lambda: binfmt.remove(wanted.name))
    return "registered" if ours is None else "renewed"


def _is_stale(handler: Handler) -> bool:
    """With F the kernel runs the file that was there; a newer one in its place is not used."""
    if "F" not in handler.flags or not handler.registered_ns:
        return False
    return read_interpreter(handler.interpreter, ask=False).changed_ns > handler.registered_ns


def _runs_here(target: Target) -> bool:
    """Does the processor run this architecture's programs? Asked when no handler would answer in its place."""
    platforms = [p for p in PLATFORMS if p in target.platforms]
    if not platforms:
        return False
    platform = platforms[-1]  # the least demanding: arm/v5
    with tempfile.TemporaryDirectory(prefix="manyfest-probe-") as folder:
        path = os.path.join(folder, "program")
        with open(path, "wb") as file:
            file.write(program(platform))
        os.chmod(path, 0o755)  # noqa: S103 - anybody may run it
        try:
            done = subprocess.run(
                [path],
                check=False,
                env={},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=_PROBE_TIMEOUT_S,
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.returncode == 0


def _persist(folder: str, name: str, line: str, undo: _Undo) -> None:
    path = os.path.join(folder, f"{name}.conf")
    text = f"# Written by manyfest emulators install --persist; manyfest emulators remove takes it away.\n{line}\n"
    try:
        os.makedirs(folder, exist_ok=True)
        before = _content(path)
        undo.add(lambda: _restore(path, before))
        with Part(folder) as part:
            part.write(text.encode())
            part.commit(path)
        sync_directory(folder)
    except OSError as error:
        raise EmulationError(f"{path}: {error.strerror}", hint="run this as root") from error


def _content(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read(64 * 1024)
    except FileNotFoundError:
        return None


def _restore(path: str, before: bytes | None) -> None:
    if before is None:
        if os.path.exists(path):
            os.unlink(path)
        return
    with Part(os.path.dirname(path)) as part:
        part.write(before)
        part.commit(path)


def _others(binfmt: Binfmt, qemu: str) -> Iterator[str]:
    """Handlers by other names that match the same programs."""
    head = next(target.head for target in TARGETS if target.qemu == qemu)
    for handler in binfmt.handlers():
        if handler.name != PREFIX + qemu and handler.matches(head):
            yield handler.name


def _remove_all(binfmt: Binfmt, names: Sequence[str]) -> tuple[str, ...]:
    for name in names:
        binfmt.remove(name)
    return tuple(names)


def remove(
    binfmt: Binfmt,
    targets: Sequence[Target],
    *,
    names: Sequence[str] = (),
    others: bool = False,
    persistent: str = PERSISTENT,
    data: str = DATA,
) -> tuple[Change, ...]:
    """Take our handlers of ``targets`` away, with their files; ``others``: everybody's, and any by name.

    Raises :class:`InputError` for a name in ``names`` that is not ours without ``others``, and
    :class:`EmulationError`.
    """
    there = {handler.name: handler for handler in binfmt.handlers()}
    for name in names:
        if name not in there:
            raise InputError(f"no handler {name}", hint=f"there are {', '.join(sorted(there)) or 'none'}")
        if not others and not name.startswith(PREFIX):
            raise InputError(
                f"{name} was registered by somebody else",
                hint="--any removes those too; its owner may miss it",
            )
    changes = [_remove(binfmt, target, there, others, persistent, data) for target in targets]
    for name in names:
        binfmt.remove(name)
        changes.append(Change(name, "removed", name, there[name].interpreter, removed=(name,)))
    return tuple(changes)


def _remove(
    binfmt: Binfmt, target: Target, there: dict[str, Handler], others: bool, persistent: str, data: str
) -> Change:
    own = PREFIX + target.qemu
    names = [own] if own in there else []
    if others:
        names += _others(binfmt, target.qemu)
    interpreter = there[own].interpreter if own in there else ""
    _remove_all(binfmt, names)
    path = os.path.join(persistent, f"{own}.conf")
    try:
        had_file = os.path.exists(path)
        if had_file:
            os.unlink(path)
        if interpreter.startswith(data + os.sep):
            _forget(interpreter, data)
    except OSError as error:
        raise EmulationError(f"{error.filename}: {error.strerror}", hint="run this as root") from error
    action = "removed" if names or had_file else "absent"
    return Change(target.qemu, action, own, interpreter, "", path if had_file else "", tuple(names))


def _forget(interpreter: str, data: str) -> None:
    """An emulator that came out of an image, and its folder when it was the last one there."""
    if os.path.exists(interpreter):
        os.unlink(interpreter)
    folder = os.path.dirname(interpreter)
    if folder != data and not os.listdir(folder):
        shutil.rmtree(folder)
