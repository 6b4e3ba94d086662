# SPDX-License-Identifier: Apache-2.0
"""Where a repository can be read from: mirrors first, the registry itself last.

Mirrors come from manyfest's own file, from registries.conf (version 2, containers-registries.conf(5), the file of
podman, buildah and skopeo) and, when our file asks for it, from Docker's daemon.json. Only reads go to mirrors;
what is read by tag from one is only as fresh as that mirror.

    >>> from manyfest.stores.registry.hosts import Hosts
    >>> from manyfest.stores.registry.settings import Settings
    >>> mirrors = Mirrors(Hosts(Settings()))
    >>> [f"{end.host}/{end.repository}" for end in mirrors.endpoints("docker.io", "library/debian", digest=False)]
    ['docker.io/library/debian']

https://github.com/containers/image/blob/main/docs/containers-registries.conf.5.md
"""

from __future__ import annotations

import os

from manyfest.errors import Forbidden, InputError
from manyfest.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from manyfest.stores.registry.hosts import HostPolicy, Hosts

__all__ = ["Endpoint", "Mirrors", "RegistriesConf", "read_daemon_json"]

MAX_BYTES = 1024 * 1024
"""Of one configuration file."""


class Endpoint(Value):
    """One place to read a repository from; ``source`` is the file that says so, empty for the registry itself."""

    __slots__ = ("host", "policy", "repository", "source")
    host: str
    repository: str
    policy: HostPolicy
    source: str

    def __init__(self, host: str, repository: str, policy: HostPolicy, source: str = "") -> None:
        self._set(host=host, repository=repository, policy=policy, source=source)


class Mirrors:
    """The endpoints of repositories, under one process's policies."""

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts

    def endpoints(self, host: str, repository: str, *, digest: bool) -> tuple[Endpoint, ...]:
        """What to ask, in order; ``digest`` says whether content is asked for by digest (blobs always are).

        Raises :class:`~manyfest.errors.Forbidden` when registries.conf blocks the name.
        """
        policy = self._hosts.policy(host)
        ways = [
            *((mirror, self._hosts.settings.config) for mirror in policy.mirrors),
            *self._docker_ways(policy),
        ]
        found = [self._endpoint(_joined(mirror, repository), source) for mirror, source in ways]
        names = self._hosts.registries_conf.ways(policy.host, repository, digest=digest)
        found += [self._endpoint(name, source) for name, source in names[:-1]]
        # The registry's own location may have been rewritten; it is no mirror.
        own, _ = names[-1]
        last = self._endpoint(own, "")
        return (*(end for end in found if (end.host, end.repository) != (last.host, last.repository)), last)

    def _docker_ways(self, policy: HostPolicy) -> list[tuple[str, str]]:
        if policy.host != "docker.io":
            return []
        return [(mirror, "daemon.json") for mirror in self._hosts.docker_mirrors()]

    def _endpoint(self, name: str, source: str) -> Endpoint:
        host, _, repository = name.partition("/")
        return Endpoint(host, repository, self._hosts.policy(host), source)


def _joined(mirror: str, repository: str) -> str:
    return f"{mirror.rstrip('/')}/{repository}"


class Rule(Value):
    """One ``[[registry]]`` table."""

    __slots__ = ("blocked", "insecure", "location", "mirrors", "prefix", "source")
    prefix: str
    location: str
    insecure: bool
    blocked: bool
    mirrors: tuple[tuple[str, bool, str], ...]  # location, insecure, "all" | "digest-only" | "tag-only"
    source: str

    def __init__(
        self,
        prefix: str,
        location: str,
        *,
        insecure: bool,
        blocked: bool,
        mirrors: tuple[tuple[str, bool, str], ...],
        source: str,
    ) -> None:
        self._set(
            prefix=prefix,
            location=location,
            insecure=insecure,
            blocked=blocked,
            mirrors=mirrors,
            source=source,
        )

    def matched(self, name: str) -> int:
        """How many characters of ``host/repository`` this rule is about; 0 when it is about others."""
        if self.prefix.startswith("*."):
            host = name.partition("/")[0]
            return len(host) if host.partition(":")[0].endswith(self.prefix[1:]) else 0
        if not name.startswith(self.prefix):
            return 0
        rest = name[len(self.prefix) : len(self.prefix) + 1]
        return len(self.prefix) if rest in ("", "/", "@", ":") else 0


class RegistriesConf:
    """The rules of every registries.conf file, the last one for a prefix winning."""

    def __init__(self, rules: dict[str, Rule]) -> None:
        self._rules = rules

    @classmethod
    def read(cls, paths: tuple[str, ...]) -> RegistriesConf:
        """Read files, and the ``*.conf`` of directories in the order of their names.

        Raises :class:`~manyfest.errors.InputError` naming the file when one is broken.
        """
        rules: dict[str, Rule] = {}
        for path in paths:
            for file in _files(path):
                for rule in _rules(file):
                    rules[rule.prefix] = rule
        return cls(rules)

    def is_insecure(self, host: str) -> bool:
        """Does any rule allow plain HTTP and unverified TLS for this host (as a location or as a mirror)?"""
        for rule in self._rules.values():
            places = [(rule.location or rule.prefix, rule.insecure)] + [(m[0], m[1]) for m in rule.mirrors]
            for place, insecure in places:
                name = place.partition("/")[0]
                wild = name.startswith("*.") and host.partition(":")[0].endswith(name[1:])
                if insecure and (wild or name == host):
                    return True
        return False

    def ways(self, host: str, repository: str, *, digest: bool) -> tuple[tuple[str, str], ...]:
        """``(host/repository, file)`` in the order to ask; the registry's own location is the last.

        Raises :class:`~manyfest.errors.Forbidden` when the longest matching prefix is blocked.
        """
        name = f"{host}/{repository}"
        rule = self._rule(name)
        if rule is None:
            return ((name, ""),)
        if rule.blocked:
            raise Forbidden(
                f"{name}: blocked by the prefix {rule.prefix!r} in {rule.source}",
                hint="ask whoever runs this machine, or remove blocked = true there",
            )
        wanted = "digest-only" if digest else "tag-only"
        rest = name[rule.matched(name) :]
        mirrors = [
            (location + rest, rule.source) for location, _, when in rule.mirrors if when in ("all", wanted)
        ]
        own = rule.location + rest if rule.location else name
        return (*mirrors, (own, rule.source))

    def _rule(self, name: str) -> Rule | None:
        matching = [rule for rule in self._rules.values() if rule.matched(name)]
        return max(matching, key=lambda rule: len(rule.prefix), default=None)


def _files(path: str) -> list[str]:
    if not os.path.isdir(path):
        return [path]
    return [os.path.join(path, name) for name in sorted(os.listdir(path)) if name.endswith(".conf")]


def _rules(path: str) -> list[Rule]:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if len(data) > MAX_BYTES:
        raise InputError(f"{path}: larger than {MAX_BYTES} bytes")
    # Distributions install this file full of comments, and another full of aliases. A look at the lines is much
    # cheaper than importing a TOML parser.
    if not any(line.lstrip().startswith((b"[[", b"registry")) for line in data.splitlines()):
        return []
    import tomllib

    try:
        tables = tomllib.loads(data.decode("utf-8")).get("registry", [])
    except ValueError as error:
        raise InputError(f"{path}: not valid TOML: {error}") from error
    if not isinstance(tables, list):
        raise InputError(f"{path}: expected [[registry]] tables")
    return [_rule(table, path) for table in tables]


def _rule(table: Any, path: str) -> Rule:
    location, prefix = _place(table, "location", path), _place(table, "prefix", path)
    prefix = prefix or location
    if not prefix:
        raise InputError(f"{path}: a [[registry]] needs a prefix or a location")
    if location == "" and not prefix.startswith("*."):
        location = prefix
    digests_only = _flag(table, "mirror-by-digest-only", path)
    mirrors = table.get("mirror", [])
    if not isinstance(mirrors, list):
        raise InputError(f"{path}: expected [[registry.mirror]] tables for {prefix!r}")
    return Rule(
        prefix,
        location,
        insecure=_flag(table, "insecure", path),
        blocked=_flag(table, "blocked", path),
        mirrors=tuple(_mirror(mirror, digests_only, path) for mirror in mirrors),
        source=path,
    )


def _mirror(table: Any, digests_only: bool, path: str) -> tuple[str, bool, str]:
    location = _place(table, "location", path)
    if not location:
        raise InputError(f"{path}: a [[registry.mirror]] needs a location")
    when = table.get("pull-from-mirror", "digest-only" if digests_only else "all")
    if when not in ("all", "digest-only", "tag-only") or (digests_only and when != "digest-only"):
        raise InputError(f"{path}: pull-from-mirror of {location!r} cannot be {when!r} here")
    return location, _flag(table, "insecure", path), when


def _place(table: Any, key: str, path: str) -> str:
    value = table.get(key, "") if isinstance(table, dict) else None
    if not isinstance(value, str) or "://" in value or any(c <= " " for c in value):
        raise InputError(f"{path}: expected {key} as host[:port][/path], got {value!r}")
    return value.rstrip("/")


def _flag(table: Any, key: str, path: str) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise InputError(f"{path}: expected {key} to be true or false, got {value!r}")
    return value


def read_daemon_json(path: str) -> tuple[str, ...]:
    """``registry-mirrors`` of Docker's daemon.json as ``host[:port][/path]``, in order.

    A mirror's scheme is not kept: whether it may speak plain HTTP is for its own policy to say.
    """
    import json

    try:
        with open(path, "rb") as file:
            fields = json.loads(file.read(MAX_BYTES) or b"{}")
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not valid JSON"
        raise InputError(f"{path}: cannot be used ({reason})") from error
    mirrors = fields.get("registry-mirrors", []) if isinstance(fields, dict) else None
    if not isinstance(mirrors, list) or not all(isinstance(mirror, str) for mirror in mirrors):
        raise InputError(f"{path}: expected registry-mirrors to be a list of URLs")
    return tuple(mirror.partition("://")[2].rstrip("/") or mirror for mirror in mirrors)
