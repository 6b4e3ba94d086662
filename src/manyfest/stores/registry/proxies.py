# SPDX-License-Identifier: Apache-2.0
"""Which proxy, if any, is between us and a host: ``HTTP_PROXY``, ``HTTPS_PROXY``, ``NO_PROXY``.

The rules are those of Go's net/http, because the tools next to this one follow them: the upper-case name wins, a name
in ``NO_PROXY`` covers its subdomains, a leading dot covers only those, addresses and CIDR ranges cover addresses,
a port narrows an entry, ``*`` turns proxies off, and loopback never goes through one.

    >>> proxies = Proxies({"HTTPS_PROXY": "http://user:word@proxy.corp:3128", "NO_PROXY": ".corp,10.0.0.0/8"})
    >>> proxies.find("https", "ghcr.io", 443)
    Proxy(proxy.corp:3128)
    >>> proxies.find("https", "registry.corp", 443), proxies.find("https", "10.1.2.3", 5000)
    (None, None)
"""

from __future__ import annotations

from manyfest.errors import InputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Proxies", "Proxy", "is_loopback", "split_authority"]


class Proxy:
    """An HTTP proxy; ``authorization`` is the value of Proxy-Authorization, empty without credentials."""

    __slots__ = ("authorization", "host", "port", "variable")

    def __init__(self, host: str, port: int, authorization: str, variable: str) -> None:
        self.host = host
        self.port = port
        self.authorization = authorization
        self.variable = variable

    @property
    def name(self) -> str:
        """For messages: no credentials."""
        return join_authority(self.host, self.port)

    def __repr__(self) -> str:
        return f"Proxy({self.name})"


class Proxies:
    """The proxies of an environment."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._urls = {scheme: _first(environment, f"{scheme}_proxy") for scheme in ("http", "https")}
        skipped = _first(environment, "no_proxy")[1]
        self._skipped = [entry.strip().lower() for entry in skipped.split(",") if entry.strip()]
        self._parsed: dict[str, Proxy] = {}

    def find(self, scheme: str, host: str, port: int) -> Proxy | None:
        """The proxy for a host, or ``None`` when it is reached directly.

        Raises :class:`~manyfest.errors.InputError` when the variable cannot be used.
        """
        variable, url = self._urls[scheme]
        if not url or is_loopback(host) or any(_covers(entry, host, port) for entry in self._skipped):
            return None
        if scheme not in self._parsed:
            self._parsed[scheme] = _parse(variable, url)
        return self._parsed[scheme]


def _first(environment: Mapping[str, str], name: str) -> tuple[str, str]:
    for spelling in (name.upper(), name):
        if environment.get(spelling):
            return spelling, environment[spelling].strip()
    return name.upper(), ""


def _parse(variable: str, url: str) -> Proxy:
    scheme, marker, rest = url.partition("://")
    if not marker:
        scheme, rest = "http", url
    credentials, _, authority = rest.partition("/")[0].rpartition("@")
    if scheme.lower() != "http":
        raise InputError(
            f"{variable}: expected a proxy as http://host:port, got one of {scheme[:20]!r}",
            hint="only HTTP proxies are supported; they carry HTTPS too (CONNECT)",
        )
    try:
        host, port = split_authority(authority, 80)
    except ValueError as error:
        raise InputError(f"{variable}: expected http://host:port, got no usable host or port") from error
    return Proxy(host, port, _basic(credentials), variable)


def _basic(credentials: str) -> str:
    if not credentials:
        return ""
    from binascii import b2a_base64
    from urllib.parse import unquote_to_bytes

    user, _, password = credentials.partition(":")
    pair = unquote_to_bytes(user) + b":" + unquote_to_bytes(password)
    return "Basic " + b2a_base64(pair, newline=False).decode()


def _covers(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    host = host.lower().rstrip(".")
    if "/" in entry:
        return _in_network(entry, host)
    try:
        name, wanted = split_authority(entry, 0)
    except ValueError:
        return False
    if wanted and wanted != port:
        return False
    name = name.removeprefix("*").rstrip(".")
    if name.startswith("."):
        return host.endswith(name)
    return host == name or (host.endswith(f".{name}") and not _is_address(host))


def _in_network(entry: str, host: str) -> bool:
    if not _is_address(host):
        return False
    from ipaddress import ip_address, ip_network

    try:
        return ip_address(host) in ip_network(entry, strict=False)
    except ValueError:
        return False


def _is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()


def is_loopback(host: str) -> bool:
    """``localhost`` and names below it, 127.0.0.0/8, ::1. Names are not looked up."""
    host = host.lower().rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    if ":" in host:
        return host in ("::1", "0:0:0:0:0:0:0:1") or host.startswith("::ffff:127.")
    parts = host.split(".")
    return (
        len(parts) == 4
        and parts[0] == "127"
        and host.isascii()
        and all(part.isdigit() and int(part[:4]) < 256 for part in parts)
    )


def split_authority(authority: str, default_port: int) -> tuple[str, int]:
    """``host[:port]`` or ``[address]:port`` as host (no brackets) and port. Raises :class:`ValueError`."""
    if authority.startswith("["):
        host, bracket, rest = authority[1:].partition("]")
        if not bracket or (rest and rest[0] != ":"):
            raise ValueError(authority)
        port = rest[1:]
    elif authority.count(":") > 1:
        host, port = authority, ""
        if host.lower().strip("0123456789abcdef:."):
            raise ValueError(authority)
    else:
        host, _, port = authority.partition(":")
    if not host or any(c <= " " or c in "/?#@\\" for c in host):
        raise ValueError(authority)
    if not port:
        return host, default_port
    if not port.isascii() or not port.isdigit() or not 0 < int(port[:6]) < 65536:
        raise ValueError(authority)
    return host, int(port)


def join_authority(host: str, port: int) -> str:
    """The inverse of :func:`split_authority`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
