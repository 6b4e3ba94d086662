# SPDX-License-Identifier: Apache-2.0
"""Opening connections, directly or through a proxy, and keeping them for the next request."""

from __future__ import annotations

import errno
import os
import select
import socket
from _thread import allocate_lock
from time import monotonic

from manyfest.errors import Error, InputError, Unreachable
from manyfest.stores.registry.http1 import Connection
from manyfest.stores.registry.proxies import Proxies, is_loopback, join_authority
from manyfest.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    import threading
    from collections.abc import Callable
    from typing import Any

    from manyfest.stores.registry.hosts import HostPolicy
    from manyfest.stores.registry.proxies import Proxy

__all__ = ["Address", "Pool", "Refused", "Silent"]

MAX_IDLE = 32
"""Idle connections kept for one address; what comes back beyond is closed."""

MAX_IDLE_S = 55.0
"""Below the minute after which common servers and load balancers hang up."""

MAX_WARM = 16
"""Connections opened ahead for one address."""

HELD = 16 * 1024
"""Bytes that the kernel takes for a registry on this machine before there is room for them."""


class Refused(Unreachable):
    """Nothing listens at that address and port."""


class Silent(Unreachable):
    """The connection is there, and no handshake comes."""


class Address(Value):
    """Where a connection goes: what the pool tells connections apart by."""

    __slots__ = ("host", "port", "scheme")
    scheme: str
    host: str
    port: int

    def __init__(self, scheme: str, host: str, port: int) -> None:
        self._set(scheme=scheme, host=host, port=port)

    @property
    def authority(self) -> str:
        """As the Host header wants it: without the scheme's own port."""
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return shown if self.port == default_port(self.scheme) else f"{shown}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


class Pool:
    """Kept-alive connections per address; thread-safe, bounded."""

    def __init__(self, policy: Callable[[str], HostPolicy], timeout_s: float) -> None:
        self._policy = policy
        self._timeout_s = timeout_s
        self._lock = allocate_lock()
        self._idle: dict[Address, list[Connection]] = {}
        self._contexts: dict[HostPolicy, ssl.SSLContext] = {}
        self._pending: dict[Address, int] = {}
        self._waiting: dict[Address, int] = {}
        self._arrival: threading.Condition | None = None
        self._closed = False
        self._proxies = Proxies(os.environ)

    def proxy(self, address: Address) -> Proxy | None:
        """The proxy on the way to ``address``."""
        return self._proxies.find(address.scheme, address.host, address.port)

    def take(self, address: Address, timeout_s: float | None = None) -> Connection:
        """A connection for one request: an idle one, one that is just being opened, or a new one.

        ``timeout_s`` is the patience with a new one, where it is to be less than usual.
        """
        return self._idle_one(address) or self._arriving(address) or self.open(address, timeout_s)

    def _idle_one(self, address: Address) -> Connection | None:
        while True:
            with self._lock:
                stack = self._idle.get(address)
                connection = stack.pop() if stack else None
            if connection is None:
                return None
            if monotonic() - connection.idle_since < MAX_IDLE_S and connection.is_alive():
                return connection
            connection.close()

    def give_back(self, address: Address, connection: Connection) -> None:
        """Keep a connection whose answer was read to its end."""
        connection.idle_since = monotonic()
        with self._lock:
            stack = self._idle.setdefault(address, [])
            if not self._closed and len(stack) < MAX_IDLE:
                stack.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close what is idle; what is in use is closed when it comes back."""
        with self._lock:
            self._closed = True
            idle = [connection for stack in self._idle.values() for connection in stack]
            self._idle.clear()
        for connection in idle:
            connection.close()

    # Connections opened ahead

    def warm(self, address: Address, count: int) -> None:
        """Open connections in the background until ``count`` are idle or on their way."""
        import threading

        with self._lock:
            if self._arrival is None:
                self._arrival = threading.Condition(self._lock)
            there = len(self._idle.get(address, ())) + self._pending.get(address, 0)
            missing = 0 if self._closed else min(count, MAX_WARM) - there
            if missing > 0:
                self._pending[address] = self._pending.get(address, 0) + missing
        if missing <= 0:
            return
        try:
            self.proxy(address)
            # One thread for the caller to start: each costs it a change of threads, and connecting here takes nothing.
            threading.Thread(target=self._warm_all, args=(address, missing), daemon=True).start()
        except (InputError, RuntimeError):
            # No proxy that can be used, which the request tells, or no thread, which it does without.
            self._tell(address, missing)

    def _warm_all(self, address: Address, count: int) -> None:
        if address.scheme == "http":
            self._warm_plain(address, count)
            return
        import threading

        dial = None
        for left in range(count, 0, -1):
            # A handshake waits for its answers: each in a thread of its own, the last in this one.
            dial = self._dial(address, self._timeout_s, dial)
            work = (address, dial)
            try:
                if left > 1:
                    threading.Thread(target=self._warm_one, args=work, daemon=True).start()
                    continue
            except RuntimeError:
                pass  # no thread can be started: one after another, then
            self._warm_one(*work)

    def _warm_plain(self, address: Address, count: int) -> None:
        """All are begun before one is waited for, so their round trips are one.

        On a near network the first is there at once, and the request that waits for it need not wait for the others.
        """
        first = self._dial(address, self._timeout_s)
        near = first.is_over()
        if near:
            self._warm_one(address, first)
        others = [self._dial(address, self._timeout_s, first) for _ in range(count - 1)]
        for dial in others if near else [first, *others]:
            self._warm_one(address, dial)

    def _warm_one(self, address: Address, dial: _Dial) -> None:
        connection = None
        try:
            connection = self._finished(dial, address, self._timeout_s)
        except Error:
            pass  # only a hint was followed; the request that needs the connection meets the error and tells it
        finally:
            if connection is not None:
                self.give_back(address, connection)
            self._tell(address, 1)

    def _tell(self, address: Address, count: int) -> None:
        """So many are not on their way any more: they are idle now, or given up."""
        assert self._arrival is not None
        with self._arrival:
            self._pending[address] -= count
            self._arrival.notify_all()

    def _arriving(self, address: Address) -> Connection | None:
        """Wait for a connection that is being opened, unless those are all waited for already."""
        if self._arrival is None:
            return None
        while True:
            with self._arrival:
                # One may have arrived since the last look, or be gone again by the next.
                if not self._idle.get(address):
                    if self._pending.get(address, 0) <= self._waiting.get(address, 0):
                        return None
                    self._wait(self._arrival, address)
            if (connection := self._idle_one(address)) is not None:
                return connection

    def _wait(self, arrival: threading.Condition, address: Address) -> None:
        self._waiting[address] = self._waiting.get(address, 0) + 1
        try:
            while self._pending.get(address, 0) and not self._idle.get(address):
                arrival.wait(self._timeout_s)
        finally:
            self._waiting[address] -= 1

    # Opening

    def open(self, address: Address, timeout_s: float | None = None) -> Connection:
        """A new connection. Raises :class:`~manyfest.errors.Unreachable` and its kin."""
        patience_s = self._timeout_s if timeout_s is None else timeout_s
        return self._finished(self._dial(address, patience_s), address, patience_s)

    def _dial(self, address: Address, patience_s: float, known: _Dial | None = None) -> _Dial:
        proxy = self.proxy(address)
        if proxy is None:
            return _Dial(address.host, address.port, str(address), patience_s, known)
        return _Dial(proxy.host, proxy.port, f"proxy {proxy.name} ({proxy.variable})", patience_s, known)

    def _finished(self, dial: _Dial, address: Address, patience_s: float) -> Connection:
        try:
            if address.scheme == "https":
                # Importing ssl and loading certificates take about as long as the way to the registry and back.
                self._context(address)
            sock = dial.finish()
            with dial.translated:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if address.scheme == "http":
                    _hold_little(sock, dial.reached)
            if address.scheme == "http":
                return Connection(sock, str(address), tls=False)
            if (proxy := self.proxy(address)) is not None:
                _tunnel(sock, address, proxy, patience_s)
            return Connection(self._wrap(sock, address, patience_s), str(address), tls=True)
        except BaseException:
            dial.close()
            raise

    def _wrap(self, sock: socket.socket, address: Address, timeout_s: float) -> ssl.SSLSocket:
        context = self._context(address)
        name = _encoded(address.host)
        with _Translated(str(address), timeout_s):
            # Behind a proxy nobody has looked it up, and what is no name would leave the socket open.
            name = name if isinstance(name, bytes) else name.encode("idna")
        try:
            return context.wrap_socket(sock, server_hostname=name)
        except TimeoutError as error:
            raise Silent(f"{address}: no TLS handshake within {timeout_s:g} s", hint=SILENT) from error
        except OSError as error:
            from manyfest.stores.registry.tls import tls_error

            raise tls_error(error, str(address)) from error

    def _context(self, address: Address) -> ssl.SSLContext:
        policy = self._policy(join_authority(address.host, address.port))
        with self._lock:
            context = self._contexts.get(policy)
            if context is None:
                from manyfest.stores.registry.tls import context_for

                context = self._contexts[policy] = context_for(policy)
            return context


def _hold_little(sock: socket.socket, host: str) -> None:
    """Give the kernel no more than a registry on this machine has room for; elsewhere a network has to be kept busy.

    What is given beyond that, the kernel sends when room is made, which on loopback is in the middle of the registry's
    own reading: the registry's processor then does our sending too. It hashes slower than we do, so it is what a copy
    of a big layer waits for: a tenth less so. ``docs/decisions/0018-little-held-on-loopback.md`` has the figures.

    ``host`` is the address that was dialled: the socket itself forgets its peer as soon as that has hung up.
    """
    if hasattr(socket, "TCP_NOTSENT_LOWAT") and is_loopback(host):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, HELD)


SILENT = "check the network, the port and firewalls; something takes the connection and stays silent"


def default_port(scheme: str) -> int:
    """443 or 80."""
    return 443 if scheme == "https" else 80


_UNDER_WAY = (errno.EINPROGRESS, errno.EWOULDBLOCK)


class _Dial:
    """A connection that is being made: begun at once, so that other work can be done until :meth:`finish`.

    ``known`` is another one to the same place, whose name need not be looked up again. ``reached`` is the address that
    was dialled last; what the operating system says about the socket is to be said within ``translated``.
    """

    def __init__(self, host: str, port: int, peer: str, timeout_s: float, known: _Dial | None = None) -> None:
        self.translated = _Translated(peer, timeout_s)
        self.reached = ""
        self._timeout_s = timeout_s
        self._sock: socket.socket | None = None
        self._code = 0
        self._found: list[tuple[int, int, int, Any]] = known._found if known is not None else []
        self._failure: OSError | UnicodeError | None = None
        if known is not None and not self._found:
            self._failure = known._failure
            return
        try:
            if known is None:
                found = socket.getaddrinfo(_encoded(host), port, type=socket.SOCK_STREAM)
                self._found = [(family, kind, protocol, where) for family, kind, protocol, _, where in found]
            self._ways = list(self._found)
            self._begin()
        except (OSError, UnicodeError) as error:
            self._failure = error

    def is_over(self) -> bool:
        """Would :meth:`finish` return, or raise, at once?"""
        return self._sock is None or self._code not in _UNDER_WAY or _is_decided(self._sock, 0)

    def finish(self) -> socket.socket:
        """The connected socket; every address that the name has is tried. Raises :class:`Unreachable`."""
        with self.translated:
            if self._failure is not None:
                raise self._failure
            while True:
                try:
                    return self._connected()
                except OSError:
                    self.close()
                    if not self._ways:
                        raise
                self._begin()
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Give it up, or close what :meth:`finish` returned."""
        if self._sock is not None:
            self._sock.close()

    def _begin(self) -> None:
        family, kind, protocol, where = self._ways.pop(0)
        self._sock = socket.socket(family, kind, protocol)
        self._sock.setblocking(False)
        self.reached = where[0]
        self._code = self._sock.connect_ex(where)

    def _connected(self) -> socket.socket:
        sock = self._sock
        assert sock is not None
        if self._code in _UNDER_WAY:
            if not _is_decided(sock, self._timeout_s):
                raise TimeoutError
            self._code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if self._code:
            raise OSError(self._code, os.strerror(self._code))
        sock.settimeout(self._timeout_s)
        return sock


def _is_decided(sock: socket.socket, timeout_s: float) -> bool:
    """Has the attempt to connect succeeded or failed, within so many seconds?"""
    waiting = select.poll()
    waiting.register(sock, select.POLLOUT)
    return bool(waiting.poll(timeout_s * 1000))


def _encoded(host: str) -> str | bytes:
    """A host name for the resolver: as bytes it is not put through the IDNA codec, whose import costs 2 ms."""
    plain = host.isascii() and all(0 < len(label) < 64 for label in host.removesuffix(".").split("."))
    return host.encode("ascii") if plain else host


class _Translated:
    """What the operating system says about connecting, in our words."""

    def __init__(self, peer: str, timeout_s: float) -> None:
        self._peer = peer
        self._timeout_s = timeout_s

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError | UnicodeError):
            raise _unreachable(error, self._peer, self._timeout_s) from error


def _unreachable(error: OSError | UnicodeError, peer: str, timeout_s: float) -> Unreachable:
    if isinstance(error, UnicodeError):
        return Unreachable(f"{peer}: this is not a host name", hint="check the spelling")
    if isinstance(error, socket.gaierror):
        return Unreachable(
            f"{peer}: the host name cannot be resolved ({error.strerror or 'no address'})",
            hint="check the spelling of the registry's name, and this machine's DNS",
        )
    if isinstance(error, ConnectionRefusedError):
        return Refused(
            f"{peer}: nothing listens there (connection refused)",
            hint="check the name and the port, and that the registry runs",
        )
    if isinstance(error, TimeoutError):
        return Unreachable(f"{peer}: no connection within {timeout_s:g} s", hint=SILENT)
    reason = error.strerror or type(error).__name__
    return Unreachable(f"{peer}: no connection ({reason})", hint="check the network and its routes")


def _tunnel(sock: socket.socket, address: Address, proxy: Proxy, timeout_s: float) -> None:
    """Ask an HTTP proxy for a tunnel (CONNECT, RFC 9110 9.3.6)."""
    target = join_authority(address.host, address.port)
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.authorization:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    connection = Connection(sock, f"proxy {proxy.name} ({proxy.variable})", tls=False)
    connection.timeout_s = timeout_s
    request = "\r\n".join([*lines, "", ""]).encode("latin-1")
    connection.send(request, None, chunked=False, length=None)
    status = connection.head().status
    if status == 407:
        raise Unreachable(
            f"proxy {proxy.name}: it wants credentials for the way to {address} (407)",
            hint=f"put them into {proxy.variable} as http://USER:PASSWORD@{proxy.name}",
        )
    if not 200 <= status < 300:
        raise Unreachable(
            f"proxy {proxy.name}: it opens no way to {address} (status {status})",
            hint=f"check {proxy.variable}, or add the host to NO_PROXY to reach it directly",
        )
