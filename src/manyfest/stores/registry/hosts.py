# SPDX-License-Identifier: Apache-2.0
"""How each registry is reached: address, plain HTTP or TLS, certificates, mirrors.

SIGNATURES ARE FINAL; the body is being written.
"""

from __future__ import annotations

from manyfest.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from manyfest.stores.registry.settings import Settings

__all__ = ["HostPolicy", "Hosts"]


class HostPolicy(Value):
    """What is known about one host before anything is sent to it.

    ``host`` is the name in references ("docker.io", "localhost:5000"), ``endpoint`` the host and port that answers
    ("registry-1.docker.io"), ``prefix`` a path before ``/v2/`` (mostly empty), ``schemes`` what to try in order,
    ``verify`` whether certificates are checked, ``ca_files`` extra roots, ``client_certs`` pairs of certificate and
    key files, ``mirrors`` hosts of our own config to read from first, ``credentials`` the host whose stored
    credentials count.
    """

    __slots__ = (
        "host",
        "endpoint",
        "prefix",
        "schemes",
        "verify",
        "ca_files",
        "client_certs",
        "mirrors",
        "credentials",
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
        """What goes before ``/v2/``: ``https://registry-1.docker.io``; the transport knows about plain HTTP."""
        scheme = "http" if self.schemes == ("http",) else "https"
        return f"{scheme}://{self.endpoint}{self.prefix}"


class Hosts:
    """The policies of a process, computed once per host; thread-safe."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def policy(self, host: str) -> HostPolicy:
        """The policy for a registry's name ("docker.io") or any ``host[:port]`` of a URL."""
        raise NotImplementedError
