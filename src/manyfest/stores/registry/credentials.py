# SPDX-License-Identifier: Apache-2.0
"""Who we are to a registry: Docker's config file, the containers tools' ``auth.json``, and credential helpers.

A look-up happens only once a registry has asked for credentials. The first of these that knows the host wins:

1. the user name and password of the settings (``--username``);
2. ``$DOCKER_AUTH_CONFIG``, the text of a config file, as CI systems set it;
3. ``$REGISTRY_AUTH_FILE``;
4. ``config.json`` in Docker's directory;
5. ``$XDG_RUNTIME_DIR/containers/auth.json``, then ``~/.config/containers/auth.json``.

Within a file a credential helper (``credHelpers``, then ``credsStore``) goes before ``auths``. Names of repositories
(``ghcr.io/acme/app``) are tried before the host's, the longest first, as containers-auth.json(5) describes.

    >>> Credentials("me", "secret", source="an example")
    Credentials('me', password=***, source='an example')

Formats: https://docs.docker.com/reference/cli/docker/login/#credential-helper-protocol and
https://github.com/containers/image/blob/main/docs/containers-auth.json.5.md.
"""

from __future__ import annotations

import json
import os
from base64 import b64decode, b64encode

from manyfest.errors import InputError, StoreError
from manyfest.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["HUB_KEY", "Credentials", "Keychain", "config_key"]

HUB_KEY = "https://index.docker.io/v1/"
"""Under this name every tool keeps Docker Hub's credentials."""

_HUB = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"})
_MAX_CONFIG = 4 * 1024 * 1024
_TOKEN_USER = "<token>"  # noqa: S105 -- the protocol's mark that the secret is an identity token


class Credentials(Value):
    """A user name and password, an identity (refresh) token, or a registry token used as it is.

    ``source`` says in words where they come from; for nobody's credentials it says where we looked.
    """

    __slots__ = ("identity_token", "password", "registry_token", "source", "username")
    username: str
    password: str
    identity_token: str
    registry_token: str
    source: str

    def __init__(
        self,
        username: str = "",
        password: str = "",
        *,
        identity_token: str = "",
        registry_token: str = "",
        source: str = "",
    ) -> None:
        self._set(
            username=username,
            password=password,
            identity_token=identity_token,
            registry_token=registry_token,
            source=source,
        )

    @property
    def is_anonymous(self) -> bool:
        """Is there nothing to show to a registry?"""
        return not (self.password or self.identity_token or self.registry_token)

    @property
    def basic(self) -> str:
        """The value of ``Authorization`` for HTTP Basic."""
        return "Basic " + _encode(self.username, self.password)

    def __repr__(self) -> str:
        secrets = "".join(
            f", {name}=***"
            for name in ("password", "identity_token", "registry_token")
            if getattr(self, name)
        )
        return f"Credentials({self.username!r}{secrets}, source={self.source!r})"


def config_key(host: str) -> str:
    """The key under which Docker's tools keep a host's credentials."""
    return HUB_KEY if host.lower() in _HUB else host


class Keychain:
    """Reads and writes credentials. Thread-safe for reading; writers take a lock on the directory.

    ``docker_config`` is Docker's directory. User name and password, when given, win over every file.
    """

    def __init__(self, docker_config: str, *, username: str = "", password: str = "") -> None:
        self._path = os.path.join(docker_config, "config.json")
        self._given = Credentials(username, password, source="the user name and password given")

    def lookup(self, host: str, repository: str = "", *, stored_only: bool = False) -> Credentials:
        """The credentials for ``host`` ("ghcr.io"), or for one of its repositories ("acme/app").

        ``stored_only`` leaves out a user name and password that were given. Anonymous ones when there are none;
        their ``source`` says where we looked and which helper failed. Raises
        :class:`~manyfest.errors.InputError` for a file that cannot be understood.
        """
        if not (stored_only or self._given.is_anonymous):
            return self._given
        looked: list[str] = []
        for config in self._configs():
            found = config.find(host, repository, looked)
            if found is not None:
                return found
        where = "; ".join(looked) or f"{self._path} (there is no such file)"
        return Credentials(source=f"no credentials for {host} in {where}")

    def store(self, host: str, credentials: Credentials) -> str:
        """Keep credentials as Docker does; gives the words for where they are now.

        Raises :class:`~manyfest.errors.StoreError` when the helper or the disk refuses.
        """
        with _Locked(self._path):
            config = _Config.load(self._path) or _Config({}, self._path, "{}")
            key, helper = config_key(host), config.helper(host)
            entry: dict[str, str] = {}
            if helper:
                _store_with(helper, key, credentials)
            else:
                entry["auth"] = _encode(credentials.username, credentials.password)
                if credentials.identity_token:
                    entry["identitytoken"] = credentials.identity_token
            config.save({**config.table("auths"), key: entry})
        return f"docker-credential-{helper}" if helper else self._path

    def erase(self, host: str) -> bool:
        """Forget a host's credentials in Docker's config and helper; ``False`` if there were none."""
        if not os.path.exists(self._path):
            return False
        with _Locked(self._path):
            config = _Config.load(self._path)
            if config is None:
                return False
            helper = config.helper(host)
            erased = bool(helper) and _erase_with(helper, config_key(host))
            auths = config.table("auths")
            kept = {k: v for k, v in auths.items() if _host_of(k) != _canonical(host) or _path_of(k)}
            if kept != auths:
                config.save(kept)
        return erased or kept != auths

    def _configs(self) -> Iterator[_Config]:
        text = os.environ.get("DOCKER_AUTH_CONFIG", "")
        if text.strip():
            yield _Config.parse(text, "$DOCKER_AUTH_CONFIG")
        paths = [os.environ.get("REGISTRY_AUTH_FILE", ""), self._path]
        runtime = os.environ.get("XDG_RUNTIME_DIR", "")
        home = os.environ.get("XDG_CONFIG_HOME", "") or os.path.expanduser("~/.config")
        paths += [os.path.join(runtime, "containers/auth.json") if runtime else ""]
        paths += [os.path.join(home, "containers/auth.json")]
        for path in dict.fromkeys(filter(None, paths)):
            config = _Config.load(path)
            if config is not None:
                yield config


class _Config:
    """One config file: its fields as they came, and where it is."""

    def __init__(self, fields: dict[str, Any], path: str, text: str) -> None:
        self._fields = fields
        self._text = text
        self.path = path

    @classmethod
    def load(cls, path: str) -> _Config | None:
        """``None`` when there is no such file."""
        try:
            with open(path, "rb") as file:
                raw = file.read(_MAX_CONFIG + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        if len(raw) > _MAX_CONFIG:
            raise InputError(f"{path}: expected a config file of at most {_MAX_CONFIG} bytes")
        return cls.parse(raw.decode("utf-8", "replace"), path)

    @classmethod
    def parse(cls, text: str, path: str) -> _Config:
        """Raises :class:`~manyfest.errors.InputError` that names the line, never its content."""
        try:
            fields = json.loads(text) if text.strip() else {}
        except json.JSONDecodeError as error:
            raise InputError(
                f"{path}, line {error.lineno}, column {error.colno}: expected JSON: {error.msg}",
                hint="correct the file, or move it away and log in again",
            ) from None
        except RecursionError:
            raise InputError(f"{path}: expected JSON, got one nested too deep") from None
        if not isinstance(fields, dict):
            raise InputError(f"{path}, line 1: expected a JSON object, got {type(fields).__name__}")
        return cls(fields, path, text)

    def table(self, name: str) -> dict[str, Any]:
        """One of the objects at the top; an empty one when it is missing."""
        value = self._fields.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self._wrong(name, "an object")
        return value

    def helper(self, host: str) -> str:
        """The credential helper in charge of a host, or the empty string."""
        for key, name in self.table("credHelpers").items():
            if _host_of(key) == _canonical(host) and name:
                return self._helper_name(name, key)
        return self._helper_name(self._fields.get("credsStore") or "", "credsStore")

    def _helper_name(self, name: object, key: str) -> str:
        # The name becomes part of a program's name: nothing that leads out of PATH may be in it.
        if not isinstance(name, str) or not all(c.isalnum() or c in "._-" for c in name):
            raise self._wrong(key, "the name of a credential helper")
        return name

    def find(self, host: str, repository: str, looked: list[str]) -> Credentials | None:
        """What this file knows; appends words about a miss to ``looked``."""
        helper = self.helper(host)
        if helper:
            try:
                found = _ask(helper, config_key(host))
            except StoreError as error:
                looked.append(str(error))
            else:
                if found is not None:
                    return found
                looked.append(f"docker-credential-{helper}")
        key = self._key(host, repository)
        found = None if key is None else self._entry(key)
        if found is None or found.is_anonymous:
            looked.append(self.path)
            return None
        return found

    def _key(self, host: str, repository: str) -> str | None:
        auths = self.table("auths")
        path = repository
        while path:
            for key in auths:
                if _host_of(key) == _canonical(host) and _path_of(key) == path:
                    return key
            path = path.rpartition("/")[0]
        exact = config_key(host)
        if exact in auths:
            return exact
        return next((key for key in auths if _host_of(key) == _canonical(host) and not _path_of(key)), None)

    def _entry(self, key: str) -> Credentials:
        entry = self.table("auths")[key]
        if not isinstance(entry, dict):
            raise self._wrong(key, "an object")
        values = {}
        for name in ("auth", "username", "password", "identitytoken", "registrytoken"):
            value = entry.get(name) or ""
            if not isinstance(value, str):
                raise self._wrong(key, f"text in {name}")
            values[name] = value
        username, password = values["username"], values["password"]
        if values["auth"]:
            username, password = self._decode(values["auth"], key)
        return Credentials(
            username,
            password,
            identity_token=values["identitytoken"],
            registry_token=values["registrytoken"],
            source=self.path,
        )

    def _decode(self, auth: str, key: str) -> tuple[str, str]:
        try:
            text = b64decode(auth, validate=True).decode()
        except ValueError:
            raise self._wrong(key, "auth as base64 of USER:PASSWORD") from None
        username, colon, password = text.partition(":")
        if not colon:
            raise self._wrong(key, "auth as base64 of USER:PASSWORD")
        return username, password.strip("\0")  # some writers pad

    def _wrong(self, key: str, expected: str) -> InputError:
        before, found, _ = self._text.partition(json.dumps(key))
        line = before.count("\n") + 1 if found else 1
        return InputError(
            f"{self.path}, line {line}: expected {expected} under {key!r}",
            hint="correct the file, or log in again",
        )

    def save(self, auths: dict[str, Any]) -> None:
        """Replace the file (the one a symbolic link points to) in one step, readable by its owner only."""
        path = os.path.realpath(self.path)
        text = json.dumps({**self._fields, "auths": auths}, indent="\t", ensure_ascii=False) + "\n"
        temporary = f"{path}.{os.getpid()}.tmp"
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with open(descriptor, "w", encoding="utf-8") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(temporary, path)
            except BaseException:
                os.unlink(temporary)
                raise
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be written: {error.strerror}") from error


class _Locked:
    """Keeps two logins from losing each other's entry; the directory is made if it is missing."""

    def __init__(self, path: str) -> None:
        self._directory = os.path.dirname(os.path.realpath(path)) or "."
        self._descriptor = -1

    def __enter__(self) -> None:
        import fcntl

        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            self._descriptor = os.open(self._directory, os.O_RDONLY)
        except OSError as error:
            raise StoreError(f"{self._directory}: cannot keep credentials there: {error.strerror}") from error
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def __exit__(self, *error: object) -> None:
        os.close(self._descriptor)


def _encode(username: str, password: str) -> str:
    return b64encode(f"{username}:{password}".encode()).decode("ascii")


def _host_of(key: str) -> str:
    """The host in a key: ``https://ghcr.io/v1/``, ``ghcr.io/acme`` and ``ghcr.io`` are all ghcr.io's."""
    return _canonical(_without_scheme(key).partition("/")[0])


def _path_of(key: str) -> str:
    """The repository in a key; an API version is none."""
    path = _without_scheme(key).partition("/")[2].strip("/")
    return "" if path in ("v1", "v2") else path


def _without_scheme(key: str) -> str:
    return key.removeprefix("https://").removeprefix("http://")


def _canonical(host: str) -> str:
    return "docker.io" if host.lower() in _HUB else host.lower()


def _ask(helper: str, key: str) -> Credentials | None:
    from manyfest.stores.registry.helper import run

    answer = run(helper, "get", key)
    if answer is None:
        return None
    username, secret = answer["Username"], answer["Secret"]
    source = f"docker-credential-{helper}"
    if username == _TOKEN_USER:
        return Credentials(identity_token=secret, source=source)
    return Credentials(username, secret, source=source)


def _store_with(helper: str, key: str, credentials: Credentials) -> None:
    from manyfest.stores.registry.helper import run

    token = credentials.identity_token
    fields = {
        "ServerURL": key,
        "Username": _TOKEN_USER if token else credentials.username,
        "Secret": token or credentials.password,
    }
    run(helper, "store", json.dumps(fields))


def _erase_with(helper: str, key: str) -> bool:
    from manyfest.stores.registry.helper import run

    if run(helper, "get", key) is None:
        return False
    run(helper, "erase", key)
    return True
