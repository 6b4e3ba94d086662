# SPDX-License-Identifier: Apache-2.0
"""Run an executable of any platform on this machine, if it can: natively, by binfmt_misc, or under QEMU.

No container and no isolation: only for programs that are trusted, such as those of
:mod:`manyfest.emulate.programs`.

The kernel is asked first. It runs what the processor runs (also 32-bit code on 64-bit machines) and what
binfmt_misc has an interpreter for; only when it refuses is ``qemu-ARCH-static`` or ``qemu-ARCH`` looked up on
``PATH``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, TypeVar

from manyfest.errors import EmulationError, InvalidPlatform
from manyfest.platforms import from_uname, names
from manyfest.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from manyfest.platforms import Platform

T = TypeVar("T")

__all__ = ["Outcome", "Started", "qemu_name", "run", "start"]

# Architectures that a 64-bit processor runs beside its own.
_COMPATIBLE = {"amd64": ("386",), "arm64": ("arm",)}


class Outcome(Value):
    """What a program did: ``how`` is ``native``, ``binfmt_misc`` or the name of the emulator."""

    __slots__ = ("exit_code", "how", "output")
    how: str
    exit_code: int
    output: bytes

    def __init__(self, how: str, exit_code: int, output: bytes) -> None:
        self._set(how=how, exit_code=exit_code, output=output)


class Started(Value):
    """A program under way: ``how`` as in :class:`Outcome`. Whoever started it ends it."""

    __slots__ = ("how", "process")
    how: str
    process: subprocess.Popen[bytes]

    def __init__(self, how: str, process: subprocess.Popen[bytes]) -> None:
        self._set(how=how, process=process)


def run(path: str, platform: Platform, *, timeout_s: float = 10.0) -> Outcome:
    """Run the executable at ``path``, which is for ``platform``, with an empty environment and no input.

    ``output`` is what it wrote to standard output; a negative ``exit_code`` is a signal. Raises
    :class:`~manyfest.errors.EmulationError` when nothing here can run it, or when it takes longer than
    ``timeout_s`` seconds.
    """
    return _some_way(path, platform, lambda command, how: _execute(command, how, timeout_s))


def start(path: str, platform: Platform, environment: Mapping[str, str]) -> Started:
    """Start the executable at ``path`` with nothing but ``environment``, its output going nowhere, and do not wait.

    Raises :class:`~manyfest.errors.EmulationError` when nothing here can run it.
    """

    def begin(command: list[str], how: str) -> Started:
        nowhere = subprocess.DEVNULL
        # Of a session of its own: Ctrl-C is for us, and we end it.
        process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=nowhere,
            stdout=nowhere,
            stderr=nowhere,
            start_new_session=True,
        )
        return Started(how, process)

    return _some_way(path, platform, begin)


def _some_way(path: str, platform: Platform, attempt: Callable[[list[str], str], T]) -> T:
    """The kernel first, then QEMU."""
    path = os.path.abspath(path)
    try:
        return attempt([path], _kernel_way(platform))
    except OSError as refusal:
        emulator = _emulator(platform)
        if emulator is None:
            raise EmulationError(
                f"this machine cannot run {platform}: {refusal.strerror}, and there is no {qemu_name(platform)}",
                hint="apt-get install qemu-user-static",
            ) from refusal
    try:
        return attempt([emulator, path], os.path.basename(emulator))
    except OSError as error:
        raise EmulationError(f"{emulator}: {error.strerror}") from error


def qemu_name(platform: Platform) -> str:
    """QEMU's command for programs of a platform: ``qemu-aarch64``, without ``-static``."""
    if platform.architecture == "386":
        return "qemu-i386"
    if platform.architecture.startswith("arm") and platform.architecture != "arm64":
        return "qemu-arm"
    if platform.architecture == "mips64le":
        return "qemu-mips64el"
    return f"qemu-{names(platform).uname or platform.architecture}"


def _execute(command: list[str], how: str, timeout_s: float) -> Outcome:
    try:
        done = subprocess.run(
            command,
            check=False,
            env={},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired as error:
        raise EmulationError(f"{command[-1]} ran longer than {timeout_s:g} s") from error
    return Outcome(how, done.returncode, done.stdout)


def _kernel_way(platform: Platform) -> str:
    try:
        host = from_uname(os.uname().machine).architecture
    except InvalidPlatform:
        host = ""  # a machine nobody here knows may still run what it was given; only the word is at stake
    if platform.architecture == host or platform.architecture in _COMPATIBLE.get(host, ()):
        return "native"
    return "binfmt_misc"


def _emulator(platform: Platform) -> str | None:
    name = qemu_name(platform)
    return shutil.which(f"{name}-static") or shutil.which(name)
