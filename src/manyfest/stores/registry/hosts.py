# SPDX-License-Identifier: Apache-2.0
"""How each registry is reached: address, plain HTTP or TLS, certificates, mirrors.

Four sources, the first that speaks about a point decides it: manyfest's own file (``[registry."HOST"]``), Docker's
``certs.d`` directories, ``insecure`` in registries.conf, and the rule for loopback: a registry on this machine may
speak plain HTTP, and is asked in plain HTTP first, unless certificates are set up for it. ``--insecure`` allows
unverified TLS, then plain HTTP, for every registry that a command names. ``docs/reference/configuration.md`` is the
user's page about all this.

    >>> from manyfest.stores.registry.settings import Settings
    >>> hosts = Hosts(Settings())
    >>> hosts.policy("docker.io").base, hosts.policy("localhost:5000").schemes
    ('https://registry-1.docker.io', ('http', 'https'))
"""

from __future__ import annotations

import os
from _thread import allocate_lock

from manyfest.errors import InputError
from manyfest.stores.registry.proxies import is_loopback, split_authority
from manyfest.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from manyfest.stores.registry.mirrors import RegistriesConf
    from manyfest.stores.registry.settings import Settings

__all__ = ["HostPolicy", "Hosts"]

DOCKER_HUB = "docker.io"
_HUB_NAMES = ("docker.io", "index.docker.io", "registry-1.docker.io")


class HostPolicy(Value):
    """What is known about one host before anything is sent to it.

    ``host`` is the name in references ("docker.io", "localhost:5000"), ``endpoint`` the host and port that
    answers ("registry-1.docker.io"), ``prefix`` a path before ``/v2/`` (mostly empty), ``schemes`` what to try in
    order, ``verify`` whether certificates are checked, ``ca_files`` extra roots, ``client_certs`` pairs of
    certificate and key files, ``mirrors`` places of our own config to read from first (``host[/path]``),
    ``credentials`` the host whose stored credentials count.
    """

    __slots__ = (
        "ca_files",
        "client_certs",
        "credentials",
        "endpoint",
        "host",
        "mirrors",
        "prefix",
        "schemes",
        "verify",
    )
    host: str
    endpoint: str
    prefix: str
    schemes: tuple[str, ...]
    verify: bool
    ca_files: tuple[str, ...]
    client_certs: tuple[tuple[str, str], ...]
    mirrors: tuple[str, ...]
    credentials: str

    def __init__(
        self,
        host: str,
        endpoint: str,
        *,
        prefix: str = "",
        schemes: tuple[str, ...] = ("https",),
        verify: bool = True,
        ca_files: tuple[str, ...] = (),
        client_certs: tuple[tuple[str, str], ...] = (),
        mirrors: tuple[str, ...] = (),
        credentials: str = "",
    ) -> None:
        self._set(
            host=host,
            endpoint=endpoint,
            prefix=prefix,
            schemes=schemes,
            verify=verify,
            ca_files=ca_files,
            client_certs=client_certs,
            mirrors=mirrors,
            credentials=credentials or host,
        )

    @property
    def base(self) -> str:
        """What goes before ``/v2/``: ``https://registry-1.docker.io``. The transport knows about plain HTTP."""
        scheme = "http" if self.schemes == ("http",) else "https"
        return f"{scheme}://{self.endpoint}{self.prefix}"


class Hosts:
    """The policies of a process, computed once per host, and which scheme a host turned out to speak. Thread-safe.

    Raises :class:`~manyfest.errors.InputError` when a configuration file is broken.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._lock = allocate_lock()
        self._named: dict[str, HostPolicy] = {}
        self._reached: dict[str, HostPolicy] = {}
        self._spoken: dict[str, str] = {}
        self._config: dict[str, Any] | None = None
        self._conf: RegistriesConf | None = None

    def policy(self, host: str) -> HostPolicy:
        """The policy for a registry as a user names it: "docker.io", "localhost:5000"."""
        host = host.lower()
        policy = self._named.get(host)
        if policy is None:
            policy = self._compute(host, named=True)
            with self._lock:
                self._named[host] = policy
                self._reached[policy.endpoint] = policy
        return policy

    def reach(self, authority: str) -> HostPolicy:
        """The policy for the ``host[:port]`` of a URL: a named registry's own, or that of a stranger.

        A stranger is where a redirect or a token server leads. Under ``--insecure`` its certificate is not verified
        either, but plain HTTP is not tried: the URL said https.
        """
        authority = authority.lower()
        policy = self._reached.get(authority) or self._reached.get(_without_port(authority))
        if policy is None:
            policy = self._compute(authority, named=False)
            with self._lock:
                self._reached.setdefault(authority, policy)
        return policy

    def spoken(self, authority: str) -> str:
        """The scheme this host answered in, in this process; empty when it is not known."""
        return self._spoken.get(authority, "")

    def remember(self, authority: str, scheme: str) -> None:
        """Note the scheme a host answered in."""
        with self._lock:
            self._spoken[authority] = scheme

    @property
    def registries_conf(self) -> RegistriesConf:
        """What registries.conf says; empty, and cheap, when there is none."""
        if self._conf is None:
            from manyfest.stores.registry.mirrors import RegistriesConf

            self._conf = RegistriesConf.read(self.settings.registries_conf)
        return self._conf

    @property
    def config(self) -> dict[str, Any]:
        """Our own file as parsed; empty when it does not exist."""
        if self._config is None:
            self._config = _read_config(self.settings.config)
        return self._config

    def docker_mirrors(self) -> tuple[str, ...]:
        """``registry-mirrors`` of Docker's daemon.json, when our config names that file (``[docker]``)."""
        path = _text(self.config.get("docker", {}), "daemon_json", self.settings.config)
        if not path:
            return ()
        from manyfest.stores.registry.mirrors import read_daemon_json

        return read_daemon_json(_resolved(path, self.settings.config))

    def _compute(self, host: str, *, named: bool) -> HostPolicy:
        name = DOCKER_HUB if host in _HUB_NAMES else host
        try:
            bare, _ = split_authority(host, 0)
        except ValueError as error:
            raise InputError(f"expected host[:port], got {host[:80]!r}") from error
        table = self._table(name)
        endpoint = _text(table, "endpoint", self.settings.config) or _endpoint(name)
        authorities, pairs = _certificates(self.settings.certs_d, name)
        authorities += self._files(table, "ca")
        own = self._files(table, "cert")
        if own:
            pairs += tuple(zip(own, self._files(table, "key") or own, strict=False))
        relaxed = named and self.settings.insecure
        insecure = _flag(table, "insecure", self.settings.config)
        if insecure is None:
            insecure = relaxed or self._conf_allows(name)
        return HostPolicy(
            name,
            endpoint,
            prefix=_text(table, "prefix", self.settings.config).rstrip("/"),
            schemes=_schemes(
                table, insecure, is_loopback(bare) and not authorities and not pairs, self.settings
            ),
            verify=not (insecure or self.settings.insecure),
            ca_files=authorities,
            client_certs=pairs,
            mirrors=_texts(table, "mirrors", self.settings.config),
            credentials=_text(table, "credentials", self.settings.config),
        )

    def _table(self, name: str) -> dict[str, Any]:
        tables = self.config.get("registry", {})
        table = tables.get(name, {}) if isinstance(tables, dict) else None
        if not isinstance(table, dict):
            raise InputError(f'{self.settings.config}: expected a table [registry."{name}"]')
        unknown = sorted(table.keys() - _KEYS)
        if unknown:
            raise InputError(
                f'{self.settings.config}: [registry."{name}"] has an unknown key {unknown[0]!r}',
                hint=f"known are {', '.join(sorted(_KEYS))}",
            )
        return table

    def _files(self, table: dict[str, Any], key: str) -> tuple[str, ...]:
        paths = _texts(table, key, self.settings.config)
        return tuple(_resolved(path, self.settings.config) for path in paths)

    def _conf_allows(self, name: str) -> bool:
        # Looked at only where there is such a file, so that nothing is imported on the common path.
        return any(map(os.path.exists, self.settings.registries_conf)) and self.registries_conf.is_insecure(
            name
        )


_KEYS = frozenset(
    {"ca", "cert", "credentials", "endpoint", "insecure", "key", "mirrors", "plain_http", "prefix"}
)


def _endpoint(name: str) -> str:
    return "registry-1.docker.io" if name == DOCKER_HUB else name


def _without_port(authority: str) -> str:
    return authority.removesuffix(":443")


def _schemes(table: dict[str, Any], insecure: bool, loopback: bool, settings: Settings) -> tuple[str, ...]:
    plain = _flag(table, "plain_http", settings.config)
    if plain is not None:
        return ("http",) if plain else ("https",)
    if loopback:
        return ("http", "https")
    return ("https", "http") if insecure else ("https",)


def _certificates(
    directories: tuple[str, ...], name: str
) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Docker's rules: every ``*.crt`` is a CA, every ``X.cert`` needs an ``X.key``."""
    authorities: list[str] = []
    pairs: list[tuple[str, str]] = []
    for parent in directories:
        directory = os.path.join(parent, name)
        try:
            names = sorted(os.listdir(directory))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise InputError(f"{directory}: cannot be read ({error.strerror})") from error
        for entry in names:
            stem, ending = os.path.splitext(entry)
            if ending == ".crt":
                authorities.append(os.path.join(directory, entry))
            elif ending == ".cert":
                if f"{stem}.key" not in names:
                    raise InputError(
                        f"{os.path.join(directory, entry)}: a client certificate without its key {stem}.key",
                        hint="CA certificates end in .crt, client certificates in .cert",
                    )
                pairs.append((os.path.join(directory, entry), os.path.join(directory, f"{stem}.key")))
    return tuple(authorities), tuple(pairs)


def _read_config(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            data = file.read(1024 * 1024 + 1)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    import tomllib

    try:
        return tomllib.loads(data.decode("utf-8"))
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise InputError(f"{path}: not valid TOML: {error}") from error


def _text(table: Any, key: str, path: str) -> str:
    value = table.get(key, "") if isinstance(table, dict) else None
    if not isinstance(value, str):
        raise InputError(f"{path}: expected {key} to be a text, got {value!r}")
    return value


def _texts(table: dict[str, Any], key: str, path: str) -> tuple[str, ...]:
    value = table.get(key, [])
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not all(isinstance(item, str) for item in values):
        raise InputError(f"{path}: expected {key} to be a text or a list of texts, got {value!r}")
    return tuple(values)


def _flag(table: dict[str, Any], key: str, path: str) -> bool | None:
    value = table.get(key)
    if value is not None and not isinstance(value, bool):
        raise InputError(f"{path}: expected {key} to be true or false, got {value!r}")
    return value


def _resolved(path: str, config: str) -> str:
    """A path in the config file: ``~`` is the home directory, relative ones start at the file."""
    return os.path.join(os.path.dirname(config), os.path.expanduser(path))
