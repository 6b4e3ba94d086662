# SPDX-License-Identifier: Apache-2.0
"""Engines on other machines: what went wrong on the way to one, and what helps.

Engines' commands go the way themselves: Docker's runs ``ssh``, which reads the user's own configuration, keys and known
hosts; a Docker context brings TLS certificates. Nobody can be asked anything on the way, so an unknown host key or a
missing key ends it; it is never accepted for the user.
"""

from __future__ import annotations

import shlex
import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from manyfest.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

__all__ = ["MAX_SHOWN", "Pulse", "address", "advice", "check", "last_words", "login"]

MAX_SHOWN = 400
"""Characters of an engine's complaint that are shown."""

PULSE_S = 30.0
"""Seconds between two questions to a node that works for us."""

PULSES = 3
"""Questions in a row that a node may leave unanswered."""

_WITH_HOST = ("ssh", "tcp", "http", "https")
_WITH_PATH = ("unix", "npipe", "fd")
_FRAMES = ("Error response from daemon: ", "Failed to initialize: ", "Error: ")
_ADVICE: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("host key verification failed",),
        "compare the host's key with what its owner says, and accept it by hand: {login}",
    ),
    (
        ("permission denied (", "too many authentication failures"),
        "nobody can be asked for a password: ssh-copy-id {user}, and ssh-add for a key with a passphrase",
    ),
    (("could not resolve hostname", "no such host"), "check the host's name in {where}"),
    (
        ("connection refused", "connection timed out", "no route to host", "no answer "),
        "is the machine up, and does it listen there? try: {login}",
    ),
    (
        ("docker: command not found", "docker: not found", "exit status 127"),
        "install Docker on that machine, where its users find it: {login} docker version",
    ),
    (
        ("x509:", "tls:", "http request to an https server", "http response to https client"),
        "keep the engine's certificates in a Docker context, and name that: docker context create NAME --docker "
        "host=tcp://…,ca=ca.pem,cert=cert.pem,key=key.pem",
    ),
)


class Pulse:
    """Asks, while a block runs, whether a node is still there, and gives up when it is not.

    A host that is cut off or halted closes no connection: a build there would be waited for until somebody looks.
    """

    def __init__(self, ask: Callable[[], bool], give_up: Callable[[], None]) -> None:
        """``ask`` may take its time, but has to end."""
        self._ask = ask
        self._give_up = give_up
        self._over = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._watch, name="manyfest-pulse", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()

    def _watch(self) -> None:
        missed = 0
        while not self._over.wait(PULSE_S):
            missed = 0 if self._ask() else missed + 1
            if missed >= PULSES and not self._over.is_set():
                self._give_up()
                return


def check(where: str) -> None:
    """Raises :class:`EngineError` for what is no engine's URL, and could not be a context or connection either.

    A host or user that begins with a dash would be an option to ``ssh``.
    """
    scheme, is_url, rest = where.partition("://")
    if not is_url:
        wrong = not where or where.startswith("-")
    elif scheme in _WITH_HOST:
        user, _, host = rest.partition("/")[0].rpartition("@")
        wrong = not host or host.startswith(("-", ":")) or user.startswith("-")
    else:
        wrong = scheme not in _WITH_PATH or not rest
    if wrong:
        raise EngineError(
            f"node {where!r}: expected a URL such as ssh://user@host, or a Docker context",
            hint="ssh://USER@HOST[:PORT], tcp://HOST:PORT, unix:///PATH, a name of docker context ls, or machine:NAME",
        )


def address(engine: str, where: str) -> list[str]:
    """What leads an engine's command to a node: options that go before everything else."""
    if not where:
        return []
    if engine == "podman":
        return ["--url", where] if "://" in where else ["--connection", where]
    return ["--host", where] if "://" in where else ["--context", where]


def login(url: str) -> str:
    """The command that logs in where an ``ssh://`` URL leads; empty for others.

    >>> login("ssh://me@pi:2222")
    'ssh -p 2222 me@pi'
    """
    try:
        parts = urlsplit(url)
        port = f"-p {parts.port} " if parts.port else ""
    except ValueError:
        return ""
    if parts.scheme != "ssh" or not parts.hostname:
        return ""
    user = f"{parts.username}@" if parts.username else ""
    return f"ssh {port}{shlex.quote(user + parts.hostname)}"


def last_words(lines: Sequence[str]) -> str:
    """What an engine's command complained of last, without what was put around it on the way."""
    said = next((line.strip() for line in reversed(lines) if line.strip()), "")
    for frame in _FRAMES:
        said = said.removeprefix(frame)
    if said.startswith("error during connect: ") and "stderr=" in said:
        said = said.partition("stderr=")[2]
    return said if len(said) <= MAX_SHOWN else f"{said[:MAX_SHOWN]}…"


def advice(engine: str, said: str, url: str = "") -> str:
    """What to do about a complaint of an engine's command; ``url`` leads to a node, empty for this machine's engine."""
    lower = said.lower()
    hand = login(url)
    for phrases, text in _ADVICE if url else ():
        if any(phrase in lower for phrase in phrases) and (hand or "{login}" not in text):
            return text.format(login=hand, user=hand.rpartition(" ")[2], where=url)
    if "permission denied" in lower and "socket" in lower:
        return f"add {'its user' if url else 'yourself'} to the group {engine}, or run this as root"
    if any(each in lower for each in ("cannot connect", "error during connect", "connection refused")):
        if url:
            return f"is the engine at {url} running?" + (f" try: {hand} docker version" if hand else "")
        return "is it still running? start the engine, or say where it is with DOCKER_HOST"
    return ""
