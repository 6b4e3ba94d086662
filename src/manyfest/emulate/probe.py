# SPDX-License-Identifier: Apache-2.0
"""Does it really run? A tiny program of a platform is started, and what happened is explained.

Directly, through the kernel as any user's program is; or inside a container of an engine, where only an interpreter
that the kernel holds open (the flag F) or that the image brings along is found.
"""

from __future__ import annotations

import errno
import os
import secrets
import signal
import subprocess
import tempfile
import time
from typing import TYPE_CHECKING

from manyfest.emulate.binfmt import target_for
from manyfest.emulate.doctor import native_targets
from manyfest.emulate.images import layer_tar, write_image
from manyfest.emulate.programs import PLATFORMS, program
from manyfest.errors import InputError
from manyfest.platforms import Platform, normalise
from manyfest.stores.copy import copy
from manyfest.stores.dockerarchive import DockerArchiveStore
from manyfest.stores.memory import Memory
from manyfest.values import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from manyfest.emulate.doctor import Report
    from manyfest.engines.containers import Containers, Ran

__all__ = ["PLATFORMS", "Probe", "explain", "probe", "probe_in", "programs_for"]

TIMEOUT_S = 20.0


class Probe(Value):
    """What came of it. ``where``: ``"kernel"`` or the engine.

    ``how``: ``"native"``, a handler's name, ``"binfmt_misc"`` for a handler that is not to be seen here, or empty.
    """

    __slots__ = ("explanation", "hint", "how", "ok", "output", "platform", "seconds", "where")
    platform: Platform
    where: str
    how: str
    ok: bool
    output: str
    explanation: str
    hint: str
    seconds: float

    def __init__(
        self,
        platform: Platform,
        where: str,
        how: str,
        ok: bool,
        output: str = "",
        explanation: str = "",
        hint: str = "",
        seconds: float = 0.0,
    ) -> None:
        self._set(
            platform=platform,
            where=where,
            how=how,
            ok=ok,
            output=output,
            explanation=explanation,
            hint=hint,
            seconds=seconds,
        )


def probe(report: Report, platforms: Sequence[Platform] = PLATFORMS) -> tuple[Probe, ...]:
    """Run the program of each platform on this machine; ``report`` says who should start it."""
    with tempfile.TemporaryDirectory(prefix="manyfest-probe-") as folder:
        return tuple(_probe(report, platform, folder) for platform in platforms)


def _probe(report: Report, platform: Platform, folder: str) -> Probe:
    path = os.path.join(folder, str(platform).replace("/", "-"))
    with open(path, "wb") as file:
        file.write(program(platform))
    os.chmod(path, 0o755)  # noqa: S103 - anybody may run it, as in an image
    how, started = _how(report, platform), time.monotonic()
    try:
        done = subprocess.run(
            [path],
            check=False,
            env={},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        text = f"it did not end within {TIMEOUT_S:g} s"
        return Probe(platform, "kernel", how, False, "", text, "", time.monotonic() - started)
    except OSError as error:
        explanation, hint = explain(error.errno or 0, report, platform, folder)
        return Probe(platform, "kernel", "", False, "", explanation, hint, time.monotonic() - started)
    seconds, output = time.monotonic() - started, done.stdout[:4096].decode("utf-8", "replace").strip()
    if done.returncode == 0 and output == str(platform):
        return Probe(platform, "kernel", how, True, output, "", "", seconds)
    explanation, hint = _misbehaved(
        done.returncode, output, done.stderr[:4096].decode("utf-8", "replace"), how
    )
    return Probe(platform, "kernel", how, False, output, explanation, hint, seconds)


def _how(report: Report, platform: Platform) -> str:
    """Who starts it, if it starts: in a container of its own binfmt_misc is not seen, and works all the same."""
    status = report.serving(platform)
    if status is not None:
        return status.handler.name
    return "native" if target_for(platform).qemu in native_targets(report.host) else "binfmt_misc"


def explain(code: int, report: Report, platform: Platform, folder: str = "") -> tuple[str, str]:
    """What an error number of ``execve`` means for a program of a platform, and what to do."""
    status = report.serving(platform)
    install = f"manyfest emulators install {platform.architecture}"
    if code == errno.ENOEXEC:
        off = [s.handler.name for s in report.statuses if platform in s.platforms and not s.handler.enabled]
        if off:
            return f"exec format error: its handler {off[0]} is switched off", f"{install} --replace"
        if status is None:
            return "exec format error: no emulator is registered for it", install
        return (
            f"exec format error: {status.handler.interpreter} is no program this machine can start",
            install,
        )
    if code == errno.ENOENT and status is not None:
        return (
            f"no such file or directory: {status.handler.name} names {status.handler.interpreter}, which is not there",
            f"{install} --replace",
        )
    if code == errno.EACCES:
        if status is None:
            return (
                f"permission denied: programs may not be started in {folder}",
                "set TMPDIR to another folder",
            )
        return (
            f"permission denied: {status.handler.interpreter} is not executable, or {folder} is mounted noexec",
            "",
        )
    if code == errno.ELOOP:
        return "its emulator would be started by an emulator, without end", install
    return f"{os.strerror(code)}", ""


def _misbehaved(code: int, output: str, errors: str, how: str) -> tuple[str, str]:
    if code < 0:
        name = signal.Signals(-code).name if -code in list(signal.Signals) else f"signal {-code}"
        if -code == signal.SIGILL:
            return f"{name}: {_who(how)} lacks an instruction that the platform promises", ""
        return f"{name}: {_who(how)} crashed", "try another version of the emulator"
    told = errors.strip().splitlines()
    if code:
        return f"exit code {code}{f': {told[-1]}' if told else ''}", ""
    return f"printed {output!r}, expected its platform", ""


def _who(how: str) -> str:
    return "the processor" if how in ("native", "") else f"the emulator of {how}"


def probe_in(
    engine: Containers, report: Report, platforms: Sequence[Platform] = PLATFORMS
) -> tuple[Probe, ...]:
    """The same in containers: one image holds every program, and each is started in one of its own.

    Raises :class:`~manyfest.errors.EngineError` when the engine does not take the image.
    """
    with tempfile.TemporaryDirectory(prefix="manyfest-probe-") as folder:
        path = os.path.join(folder, "image.tar")
        _write_archive(path, engine.platform(), platforms)
        image = engine.load(path)
    try:
        return tuple(_probe_in(engine, image, report, platform) for platform in platforms)
    finally:
        engine.forget(image)


def _write_archive(path: str, host: Platform, platforms: Sequence[Platform]) -> None:
    store = Memory()
    files = {_inside(platform): (program(platform), 0o755) for platform in platforms}
    document = write_image(store, host, [layer_tar(files)], settings={"Cmd": ["/none"]}, docker=True)
    archive = DockerArchiveStore(path)
    try:
        copy(store, document, archive, [f"manyfest-probe:{secrets.token_hex(6)}"])
    finally:
        archive.close()


def _inside(platform: Platform) -> str:
    return f"/{str(platform).replace('/', '-')}"


def _probe_in(engine: Containers, image: str, report: Report, platform: Platform) -> Probe:
    how = _how(report, platform)
    ran = engine.run(image, [_inside(platform)], timeout_s=TIMEOUT_S)
    output = ran.output.decode("utf-8", "replace").strip()
    if ran.exit_code == 0 and output == str(platform):
        return Probe(platform, engine.name, how, True, output, "", "", ran.seconds)
    explanation, hint = _refused_in(ran, report, platform, how)
    return Probe(platform, engine.name, how, False, output, explanation, hint, ran.seconds)


def _refused_in(ran: Ran, report: Report, platform: Platform, how: str) -> tuple[str, str]:
    if ran.timed_out:
        return f"it did not end within {TIMEOUT_S:g} s", ""
    said = f"{ran.problem}\n{ran.errors.decode('utf-8', 'replace')}".lower()
    if "exec format error" in said:
        return explain(errno.ENOEXEC, report, platform)
    if "no such file or directory" in said and report.serving(platform) is not None:
        status = report.serving(platform)
        assert status is not None
        if "F" not in status.handler.flags:
            return (
                f"no such file or directory: {status.handler.name} has no flag F, so "
                f"{status.handler.interpreter} is looked for in the image",
                f"manyfest emulators install {platform.architecture} --replace",
            )
        return explain(errno.ENOENT, report, platform)
    if ran.problem:
        return ran.problem, ""
    code = ran.exit_code if ran.exit_code <= 128 else 128 - ran.exit_code
    return _misbehaved(
        code, ran.output.decode("utf-8", "replace").strip(), ran.errors.decode("utf-8", "replace"), how
    )


def programs_for(platform: Platform) -> tuple[Platform, ...]:
    """The platforms of the programs that test one: itself, or every variant when none is said.

    Raises :class:`InputError` for an architecture that there is no program for.
    """
    wanted = normalise(platform)
    alike = [p for p in PLATFORMS if p.os == wanted.os and p.architecture == wanted.architecture]
    if not alike:
        known = ", ".join(dict.fromkeys(p.architecture for p in PLATFORMS))
        raise InputError(f"no program to test {platform} with", hint=f"there are programs for {known}")
    exact = [p for p in alike if p == wanted]
    return tuple(exact if exact and platform.variant else alike)
