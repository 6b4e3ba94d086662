# SPDX-License-Identifier: Apache-2.0
"""ssh to a machine: keys that are made with it, and one connection that carries the engine's socket.

The connection is a master (``ControlMaster``): while it stands, ``docker.sock`` in the machine's folder is the engine's
socket inside, every other ssh is quick, and ports can be brought in. The machine's own key is known before its first
start, so a stranger who took the port is refused.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from typing import TYPE_CHECKING

from manyfest.emulate.machine.guest import SOCKET
from manyfest.emulate.machine.outside import call, need
from manyfest.errors import EmulationError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["CONTROL_NAME", "LONGEST", "SOCKET_NAME", "Connection", "make_keys"]

SOCKET_NAME = "docker.sock"
CONTROL_NAME = "ssh"
LONGEST = 107 - 1 - max(len(SOCKET_NAME), len(CONTROL_NAME) + 17)
"""Bytes of a machine's folder: a socket's path (``sun_path``) has 107, and ssh makes its own with 17 more behind it."""

_TIMEOUT_S = 60.0
_CONNECT_S = 20


def make_keys(folder: str, alias: str) -> None:
    """A key for us and one for the machine, and who is known under ``alias``. Raises :class:`EmulationError`."""
    keygen = need("ssh-keygen", "openssh-client")
    for name in ("id", "host_key"):
        path = os.path.join(folder, name)
        words = [keygen, "-q", "-t", "ed25519", "-N", "", "-C", alias, "-f", path]
        call(words, "making a key", _TIMEOUT_S)
    with open(os.path.join(folder, "host_key.pub"), encoding="utf-8") as file:
        kind, key = file.read().split()[:2]
    with open(os.path.join(folder, "known_hosts"), "w", encoding="utf-8") as file:
        file.write(f"{alias} {kind} {key}\n")


class Connection:
    """ssh to the machine of a folder, on a port of the loopback."""

    def __init__(self, folder: str, alias: str, port: int) -> None:
        self.socket = os.path.join(folder, SOCKET_NAME)
        self._folder = folder
        self._control = os.path.join(folder, CONTROL_NAME)
        self._words = [
            need("ssh", "openssh-client"),
            *("-F", "/dev/null", "-i", os.path.join(folder, "id"), "-p", str(port)),
            *_options(
                BatchMode="yes",
                ConnectTimeout=str(_CONNECT_S),
                ControlPath=_quoted(self._control),
                GlobalKnownHostsFile="/dev/null",
                HostKeyAlias=alias,
                IdentitiesOnly="yes",
                LogLevel="ERROR",
                PreferredAuthentications="publickey",
                StrictHostKeyChecking="yes",
                UserKnownHostsFile=_quoted(os.path.join(folder, "known_hosts")),
            ),
        ]

    @property
    def is_up(self) -> bool:
        """Does the master stand?"""
        return os.path.exists(self._control) and self._tell("check")

    def open(self) -> None:
        """Bring the engine's socket here. Raises :class:`EmulationError` when ssh does not get in."""
        for path in (self._control, self.socket):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        options = _options(
            ControlMaster="yes",
            ExitOnForwardFailure="yes",
            ServerAliveInterval="15",
            ServerAliveCountMax="8",
            StreamLocalBindMask="0177",
        )
        words = [*self._words, *options, "-f", "-N", "-L", f"{self.socket}:{SOCKET}", "root@127.0.0.1"]
        log = os.path.join(self._folder, "ssh.log")
        with open(log, "wb") as out:
            try:
                # It stays when we end, and Ctrl-C is not for it; a pipe of ours would never see its end.
                done = subprocess.run(
                    words, check=False, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                    timeout=_TIMEOUT_S, start_new_session=True,
                )  # fmt: skip
            except subprocess.TimeoutExpired as error:
                raise EmulationError(f"ssh did not get in within {_TIMEOUT_S:g} s") from error
            except OSError as error:
                raise EmulationError(f"ssh: {error.strerror}") from error
        if done.returncode:
            with open(log, encoding="utf-8", errors="replace") as file:
                said = file.read(2000).strip()
            raise EmulationError(f"ssh: {said or f'exit code {done.returncode}'}")

    def close(self) -> None:
        """End the master if it stands."""
        if os.path.exists(self._control):
            self._tell("exit")
        for path in (self._control, self.socket):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def bring(self, port: int) -> None:
        """Let programs inside reach a port of this machine's loopback as their own. Raises :class:`EmulationError`."""
        forward = f"127.0.0.1:{port}:127.0.0.1:{port}"
        words = [*self._words, "-O", "forward", "-R", forward, "root@127.0.0.1"]
        call(words, f"bringing port {port} into the machine", _TIMEOUT_S)

    def run(self, *words: str, timeout_s: float = _TIMEOUT_S) -> str:
        """What a command inside prints. Raises :class:`EmulationError`."""
        return call([*self._words, "root@127.0.0.1", *words], f"running {words[0]} in the machine", timeout_s)

    def words(self, command: Sequence[str], *, terminal: bool = False) -> list[str]:
        """The ssh command line for a shell, or for a command, inside."""
        return [*self._words, *(["-t"] if terminal else []), "root@127.0.0.1", *command]

    def _tell(self, word: str) -> bool:
        try:
            done = subprocess.run(
                [*self._words, "-O", word, "root@127.0.0.1"],
                check=False, capture_output=True, stdin=subprocess.DEVNULL, timeout=_TIMEOUT_S,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.returncode == 0


def _options(**values: str) -> list[str]:
    return [word for key, value in values.items() for word in ("-o", f"{key}={value}")]


def _quoted(path: str) -> str:
    """A path for ssh, which splits options at spaces; what else it would read is in no machine's path."""
    return f'"{path}"'
