# SPDX-License-Identifier: Apache-2.0
"""What a caller decides about talking to registries; the command fills it from its global options."""

from __future__ import annotations

import os

from manyfest.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Settings"]


class Settings(Value):
    """Options of a conversation with registries. Everything has a default; nothing here reads a file.

    ``insecure`` is docker's word: plain HTTP and unverified TLS are allowed. ``config`` is the path of manyfest's own
    file, ``docker_config`` the directory of Docker's, ``certs_d`` the directories with certificates per registry
    (later ones win), ``registries_conf`` the registries.conf files and directories. ``username`` and ``password``
    override what is stored. ``timeout_s`` bounds the silence of a peer, ``deadline_s`` the retries of one request.
    ``on_warning`` gets the texts a user should see. See ``docs/reference/configuration.md``.
    """

    __slots__ = (
        "certs_d",
        "config",
        "deadline_s",
        "docker_config",
        "insecure",
        "on_warning",
        "password",
        "registries_conf",
        "timeout_s",
        "username",
    )
    insecure: bool
    config: str
    docker_config: str
    certs_d: tuple[str, ...]
    registries_conf: tuple[str, ...]
    username: str | None
    password: str | None
    timeout_s: float
    deadline_s: float
    on_warning: Callable[[str], None] | None

    def __init__(
        self,
        *,
        insecure: bool = False,
        config: str | None = None,
        docker_config: str | None = None,
        certs_d: tuple[str, ...] | None = None,
        registries_conf: tuple[str, ...] | None = None,
        username: str | None = None,
        password: str | None = None,
        timeout_s: float = 30.0,
        deadline_s: float = 120.0,
        on_warning: Callable[[str], None] | None = None,
    ) -> None:
        docker = _docker_config() if docker_config is None else docker_config
        self._set(
            insecure=insecure,
            config=_config() if config is None else config,
            docker_config=docker,
            certs_d=_certs_d(docker) if certs_d is None else certs_d,
            registries_conf=_registries_conf() if registries_conf is None else registries_conf,
            username=username,
            password=password,
            timeout_s=timeout_s,
            deadline_s=deadline_s,
            on_warning=on_warning,
        )

    def __repr__(self) -> str:
        hidden = {"username", "password"}
        shown = (f"{name}={getattr(self, name)!r}" for name in self.__slots__ if name not in hidden)
        return f"Settings({', '.join(shown)})"


def _config() -> str:
    explicit = os.environ.get("MANYFEST_CONFIG")
    return explicit or os.path.join(_config_home(), "manyfest", "config.toml")


def _docker_config() -> str:
    return os.environ.get("DOCKER_CONFIG") or os.path.join(os.path.expanduser("~"), ".docker")


def _config_home() -> str:
    return os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")


def _certs_d(docker_config: str) -> tuple[str, ...]:
    explicit = os.environ.get("MANYFEST_CERTS_D")
    if explicit is not None:
        return tuple(path for path in explicit.split(os.pathsep) if path)
    return (
        "/etc/containers/certs.d",
        "/etc/docker/certs.d",
        os.path.join(_config_home(), "containers", "certs.d"),
        os.path.join(docker_config, "certs.d"),
    )


def _registries_conf() -> tuple[str, ...]:
    """containers-registries.conf(5): the user's file replaces the system's; drop-ins of both are added."""
    explicit = os.environ.get("CONTAINERS_REGISTRIES_CONF")
    if explicit is not None:
        return (explicit,) if explicit else ()
    user = os.path.join(_config_home(), "containers")
    mine = os.path.join(user, "registries.conf")
    first = mine if os.path.exists(mine) else "/etc/containers/registries.conf"
    return (first, "/etc/containers/registries.conf.d", os.path.join(user, "registries.conf.d"))
