# SPDX-License-Identifier: Apache-2.0
"""Instructions that only change an image's configuration, as BuildKit understands them.

Each function takes the ``config`` object of an image configuration (plain JSON) and changes it. Field names are those
of https://github.com/opencontainers/image-spec/blob/v1.1.1/config.md#properties and of Docker's own additions
(Healthcheck, OnBuild, Shell), which are written in OCI images too: engines read them there.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING

from manyfest.errors import InvalidProject

if TYPE_CHECKING:
    from typing import Any

    from manyfest.build.dockerfile import Step
    from manyfest.build.expand import Scope

__all__ = ["PATH", "SIMPLE", "apply", "env_of", "looks_secret", "set_env"]

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

SIMPLE = frozenset(
    {"CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "SHELL",
     "STOPSIGNAL", "USER", "VOLUME"}
)  # fmt: skip
"""What :func:`apply` carries out."""

_SHELL = ("/bin/sh", "-c")
_NS = {
    "ns": 1,
    "us": 1000,
    "µs": 1000,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_SECRET = re.compile(
    r"(?:^|_)(?:apikey|auth|credentials?|key|password|pword|passwd|secret|token)(?:_|$)", re.IGNORECASE
)
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(\w+))?")
_MAX_PORT = 65535
_MILLISECOND = 10**6


def apply(config: dict[str, Any], step: Step, scope: Scope, where: str) -> None:
    """Carry out an instruction of :data:`SIMPLE`. Raises :class:`InvalidProject` or :class:`BuildError`."""
    if step.name in ("ENV", "LABEL"):
        _pairs(config, step, scope)
    elif step.name in ("CMD", "ENTRYPOINT"):
        config["Cmd" if step.name == "CMD" else "Entrypoint"] = _command(config, step)
    elif step.name == "EXPOSE":
        ports = [port for word in step.args for each in scope.words(word) for port in _ports(each, where)]
        config["ExposedPorts"] = {**(config.get("ExposedPorts") or {}), **{port: {} for port in ports}}
    elif step.name == "VOLUME":
        _volume(config, step, scope, where)
    elif step.name == "SHELL":
        config["Shell"] = list(step.args)
    elif step.name == "HEALTHCHECK":
        config["Healthcheck"] = _health(config, step, where)
    elif step.name == "ONBUILD":
        config["OnBuild"] = [*(config.get("OnBuild") or []), step.args[0]]
    elif step.name == "STOPSIGNAL":
        config["StopSignal"] = _signal(scope.word(step.args[0]), where)
    elif step.name == "USER":
        config["User"] = _filled(scope.word(step.args[0]), "USER", where)


def env_of(config: dict[str, Any]) -> dict[str, str]:
    """``Env`` as a mapping."""
    return {name: value for name, _, value in (text.partition("=") for text in config.get("Env") or [])}


def set_env(config: dict[str, Any], name: str, value: str) -> None:
    """Set a variable where it stands, or at the end."""
    text = f"{name}={value}"
    old = list(config.get("Env") or [])
    for i, each in enumerate(old):
        if each.partition("=")[0] == name:
            old[i] = text
            break
    else:
        old.append(text)
    config["Env"] = old


def looks_secret(name: str) -> bool:
    """Does a variable's name say that its value should not end in an image?"""
    return bool(_SECRET.search(name)) and "public" not in name.lower()


def _pairs(config: dict[str, Any], step: Step, scope: Scope) -> None:
    # Every value sees the variables as they were before this line.
    flat = step.args
    pairs = [(scope.word(flat[i]), scope.word(flat[i + 1])) for i in range(0, len(flat), 3)]
    if step.name == "LABEL":
        config["Labels"] = {**(config.get("Labels") or {}), **dict(pairs)}
        return
    for name, value in pairs:
        set_env(config, name, value)


def _command(config: dict[str, Any], step: Step) -> list[str]:
    if step.json:
        return list(step.args)
    return [*(config.get("Shell") or _SHELL), *step.args] if step.args else []


def _ports(word: str, where: str) -> list[str]:
    match = _PORT.fullmatch(word)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
    protocol = (match[3] or "tcp").lower() if match else ""
    if match is None or not 0 < first <= last <= _MAX_PORT or protocol not in ("tcp", "udp", "sctp"):
        raise InvalidProject(f"{where}: EXPOSE {word}: expected a port such as 80, 53/udp or 8000-8010")
    return [f"{port}/{protocol}" for port in range(first, last + 1)]


def _volume(config: dict[str, Any], step: Step, scope: Scope, where: str) -> None:
    paths = [_filled(scope.word(word), "VOLUME", where) for word in step.args]
    config["Volumes"] = {**(config.get("Volumes") or {}), **{path: {} for path in paths}}


def _filled(word: str, name: str, where: str) -> str:
    if not word:
        raise InvalidProject(f"{where}: {name}: expected a value, got nothing after variables were replaced")
    return word


def _signal(word: str, where: str) -> str:
    if word.isdecimal() and 0 < int(word) < 65:
        return word
    if re.fullmatch(r"(SIG)?[A-Z][A-Z0-9+-]*", word.upper()):
        return word
    raise InvalidProject(f"{where}: STOPSIGNAL {word}: expected a signal such as SIGTERM or 15")


def _health(config: dict[str, Any], step: Step, where: str) -> dict[str, Any]:
    kind, rest = step.args[0].upper(), list(step.args[1:])
    if kind == "NONE":
        if rest or step.flags:
            raise InvalidProject(f"{where}: HEALTHCHECK NONE takes no arguments")
        return {"Test": ["NONE"]}
    if kind != "CMD":
        raise InvalidProject(f"{where}: HEALTHCHECK {step.args[0]}: expected CMD or NONE")
    if not any(rest):
        raise InvalidProject(f"{where}: HEALTHCHECK CMD: expected a command after CMD")
    del config  # The engine prepends the image's shell itself for CMD-SHELL.
    health: dict[str, Any] = {"Test": ["CMD", *rest] if step.json else ["CMD-SHELL", *rest]}
    for flag, key in (
        ("interval", "Interval"),
        ("timeout", "Timeout"),
        ("start-period", "StartPeriod"),
        ("start-interval", "StartInterval"),
    ):
        if flag in step.flags:
            health[key] = _duration(step.flag(flag), flag, where)
    if "retries" in step.flags:
        text = step.flag("retries")
        if not text.isdecimal():
            raise InvalidProject(f"{where}: --retries={text}: expected a number")
        health["Retries"] = int(text)
    return {key: value for key, value in health.items() if value}


def _duration(text: str, flag: str, where: str) -> int:
    """Go's ``time.ParseDuration`` in nanoseconds: ``1m30s``, ``1.5h``."""
    total, at = Decimal(0), 0
    for match in _DURATION.finditer(text):
        if match.start() != at:
            break
        total += Decimal(match[1].rstrip(".") or 0) * _NS[match[2]]
        at = match.end()
    value = int(total)
    if at != len(text) or not text or 0 < value < _MILLISECOND:
        raise InvalidProject(
            f"{where}: --{flag}={text}: expected a duration of at least 1ms, such as 30s or 1m30s"
        )
    return value
