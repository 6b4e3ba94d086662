# SPDX-License-Identifier: Apache-2.0
"""The Docker Engine through its API: what the daemon place and the look at a swarm need of it, and no more.

Which engine: ``$DOCKER_HOST``, else the context that ``docker context use`` (or ``$DOCKER_CONTEXT``) chose, else the
usual socket, else the rootless one. docker-py and its dependencies are imported at the first call, since they take
longer to load than most commands run.

https://docs.docker.com/reference/api/engine/
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
from typing import TYPE_CHECKING

from manyfest.errors import EngineError, InvalidPlatform, NotFound
from manyfest.platforms import Platform, normalise
from manyfest.values import Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import IO, Any, Self

    import docker

__all__ = ["Docker", "Endpoint", "context", "endpoint"]

DEFAULT_SOCKET = "/var/run/docker.sock"
TIMEOUT_S = 60
TRANSFER_TIMEOUT_S = 3600
"""Saving and loading: the engine says nothing while it writes a big layer to its disk."""

LOGS_TIMEOUT_S = 10
"""What a task printed comes from its node, which may be the reason for asking."""

SAVE_CHUNK = 1024 * 1024


class Endpoint(Value):
    """Where an engine answers: a URL as in ``$DOCKER_HOST``, and the TLS files if there are any."""

    __slots__ = ("certificates", "url", "verify")
    url: str
    certificates: str
    verify: bool

    def __init__(self, url: str, certificates: str = "", verify: bool = True) -> None:
        """``certificates``: a directory with ca.pem, cert.pem and key.pem, or empty."""
        self._set(url=url, certificates=certificates, verify=verify)


def endpoint(environment: Mapping[str, str] | None = None) -> Endpoint:
    """Which engine to ask, from the environment and Docker's configuration. Raises :class:`EngineError`."""
    env = os.environ if environment is None else environment
    folder = _folder(env)
    if url := env.get("DOCKER_HOST"):
        certificates = (env.get("DOCKER_CERT_PATH") or folder) if env.get("DOCKER_TLS_VERIFY") else ""
        return Endpoint(url, certificates)
    chosen = env.get("DOCKER_CONTEXT") or _chosen_context(folder)
    if chosen and chosen != "default":
        return _of_context(folder, chosen)
    return _usual(env)


def context(name: str, environment: Mapping[str, str] | None = None) -> Endpoint:
    """Where a Docker context leads. Raises :class:`EngineError`, with the contexts that there are."""
    env = os.environ if environment is None else environment
    return _usual(env) if name == "default" else _of_context(_folder(env), name)


def _folder(env: Mapping[str, str]) -> str:
    """Docker's configuration."""
    return env.get("DOCKER_CONFIG") or os.path.join(env.get("HOME", ""), ".docker")


def _usual(env: Mapping[str, str]) -> Endpoint:
    rootless = os.path.join(env.get("XDG_RUNTIME_DIR", "/nonexistent"), "docker.sock")
    if not os.path.exists(DEFAULT_SOCKET) and os.path.exists(rootless):
        return Endpoint(f"unix://{rootless}")
    return Endpoint(f"unix://{DEFAULT_SOCKET}")


class Docker:
    """One engine. A context manager; safe to use from several threads, each call is a request of its own."""

    def __init__(self, where: Endpoint | None = None) -> None:
        """Does not connect yet."""
        self.endpoint = where or endpoint()
        self._clients: dict[float, docker.APIClient] = {}

    def ping(self) -> None:
        """Raises :class:`EngineError`, with what to do, unless the engine answers."""
        with self._translated("asking whether it is there"):
            self._client().ping()

    def version(self) -> dict[str, Any]:
        """The engine's own words: ``Version``, ``ApiVersion``, ``Os``, ``Arch``, …"""
        with self._translated("asking for its version"):
            found: dict[str, Any] = self._client().version()
            return found

    def platform(self) -> Platform:
        """What the engine runs on."""
        version = self.version()
        try:
            return normalise(Platform(str(version.get("Os", "")), str(version.get("Arch", ""))))
        except InvalidPlatform as error:
            raise EngineError(f"{self}: says it runs on a strange platform: {error}") from error

    def inspect(self, name: str) -> dict[str, Any]:
        """What the engine says of an image, by name or id. Raises :class:`NotFound`."""
        with self._translated(f"asking for the image {name}"):
            found: dict[str, Any] = self._client().inspect_image(name)
            return found

    def save(self, name: str) -> Iterator[bytes]:
        """The archive of an image, in pieces. Raises :class:`NotFound`."""
        with self._translated(f"saving {name}"):
            yield from self._client(TRANSFER_TIMEOUT_S).get_image(name, chunk_size=SAVE_CHUNK)

    def load(self, archive: IO[bytes]) -> None:
        """Take an archive's images in, under the names it gives them."""
        with self._translated("loading an image"):
            for event in self._client(TRANSFER_TIMEOUT_S).load_image(archive, quiet=True) or ():
                if problem := event.get("error"):
                    raise EngineError(f"{self}: loading an image: {problem}")

    def tag(self, image: str, repository: str, tag: str) -> None:
        """Give an image another name. Raises :class:`NotFound`."""
        with self._translated(f"tagging {image}"):
            self._client().tag(image, repository, tag)

    def nodes(self) -> list[dict[str, Any]]:
        """The swarm's nodes, as the Engine API has them. Raises :class:`EngineError` unless this is a manager."""
        with self._translated("asking for the swarm's nodes"):
            found: list[dict[str, Any]] = self._client().nodes()
            return found

    def tasks(self, service: str = "") -> list[dict[str, Any]]:
        """The swarm's tasks, of all services or of one (its id). Raises :class:`EngineError` unless a manager."""
        with self._translated("asking for the swarm's tasks"):
            filters = {"service": service} if service else None
            found: list[dict[str, Any]] = self._client().tasks(filters)
            return found

    def services(self) -> list[dict[str, Any]]:
        """The swarm's services. Raises :class:`EngineError` unless this is a manager."""
        with self._translated("asking for the swarm's services"):
            found: list[dict[str, Any]] = self._client().services()
            return found

    def service(self, name: str) -> dict[str, Any]:
        """One service by name or id, with ``ID``, ``Version`` and ``Spec``. Raises :class:`NotFound`."""
        with self._translated(f"asking for the service {name}"):
            found: dict[str, Any] = self._client().inspect_service(name)
            return found

    def create_service(self, spec: Mapping[str, Any], auth: str = "") -> str:
        """Make a service of the API's own ServiceSpec; its id. ``auth`` is the value of ``X-Registry-Auth``."""
        doing = f"creating the service {spec.get('Name')}"
        return str(self._post("/services/create", doing, spec, auth)["ID"])

    def update_service(
        self, service: Mapping[str, Any], spec: Mapping[str, Any], auth: str = "", *, rollback: bool = False
    ) -> None:
        """Change a service as :meth:`service` showed it; with ``rollback`` to what it was before its last change.

        Raises :class:`EngineError` when somebody else has changed it since.
        """
        query = {"version": str(service["Version"]["Index"])}
        if rollback:
            query["rollback"] = "previous"
        if not auth:
            query["registryAuthFrom"] = "previous-spec" if rollback else "spec"
        doing = f"{'rolling back' if rollback else 'updating'} the service {spec.get('Name')}"
        self._post(f"/services/{service['ID']}/update", doing, spec, auth, query)

    def remove_service(self, name: str) -> None:
        """Raises :class:`NotFound`."""
        with self._translated(f"removing the service {name}"):
            self._client().remove_service(name)

    def task_logs(self, task: str, lines: int = 5) -> str:
        """The last lines that a task printed. Raises :class:`EngineError` when its node does not send them."""
        with self._translated("asking for a task's output"):
            client = self._client(LOGS_TIMEOUT_S)
            query = {"stdout": "1", "stderr": "1", "tail": str(lines)}
            url = f"{client.base_url}/v{client.api_version}/tasks/{task}/logs"
            with client.get(url, params=query, timeout=LOGS_TIMEOUT_S) as answer:
                self._raise(answer)
                return _plain(answer.content)

    def call(
        self,
        method: str,
        path: str,
        doing: str,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Any:
        """A request of the API as it is, and its JSON (``None`` without any); ``doing`` is for errors."""
        with self._translated(doing):
            client = self._client()
            url = f"{client.base_url}/v{client.api_version}{path}"
            with client.request(method, url, json=body, params=query, timeout=TIMEOUT_S) as answer:
                self._raise(answer)
                return answer.json() if answer.content else None

    def _post(
        self,
        path: str,
        doing: str,
        body: Mapping[str, Any],
        auth: str,
        query: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Docker-py's own calls for services take credentials from its own look at Docker's files, never ours."""
        with self._translated(doing):
            client = self._client()
            url = f"{client.base_url}/v{client.api_version}{path}"
            headers = {"X-Registry-Auth": auth} if auth else {}
            with client.post(url, json=body, params=query, headers=headers, timeout=TIMEOUT_S) as answer:
                self._raise(answer)
                fields = answer.json()
                return fields if isinstance(fields, dict) else {}

    def close(self) -> None:
        """Close connections."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __str__(self) -> str:
        return f"the engine at {self.endpoint.url}"

    def __repr__(self) -> str:
        return f"Docker({self.endpoint.url!r})"

    def _client(self, timeout_s: float = TIMEOUT_S) -> docker.APIClient:
        import docker
        from docker.tls import TLSConfig

        known = self._clients.get(timeout_s)
        if known is not None:
            return known
        _knock(self.endpoint.url)
        tls: Any = False
        if folder := self.endpoint.certificates:
            tls = TLSConfig(
                client_cert=(os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem")),
                ca_cert=os.path.join(folder, "ca.pem"),
                verify=self.endpoint.verify,
            )
        made = docker.APIClient(
            base_url=self.endpoint.url,
            version="auto",
            timeout=timeout_s,
            tls=tls,
            use_ssh_client=self.endpoint.url.startswith("ssh://"),
        )
        self._clients[timeout_s] = made
        return made

    @staticmethod
    def _raise(answer: Any) -> None:
        """An answer that is an error becomes docker-py's exception, which is translated with the others."""
        import requests
        from docker.errors import create_api_error_from_http_exception

        try:
            answer.raise_for_status()
        except requests.HTTPError as error:
            create_api_error_from_http_exception(error)

    @contextlib.contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        """Docker-py's exceptions, and those it lets through, become ours."""
        import docker.errors
        import requests

        try:
            yield
        except docker.errors.NotFound as error:
            raise NotFound(f"{self}: {doing}: {error.explanation or error}") from error
        except docker.errors.APIError as error:
            raise EngineError(
                f"{self}: {doing}: {error.explanation or error}", hint=_swarm_hint(str(error.explanation))
            ) from error
        except (docker.errors.DockerException, requests.RequestException, OSError) as error:
            raise self._unreachable(doing, error) from error

    def _unreachable(self, doing: str, error: BaseException) -> EngineError:
        cause = _os_error(error)
        if isinstance(cause, PermissionError):
            return EngineError(
                f"{self}: {doing}: permission denied",
                hint="add yourself to the group docker and log in again, or run this as root",
            )
        if isinstance(cause, FileNotFoundError):
            return EngineError(
                f"{self}: {doing}: no such socket",
                hint="start the engine (systemctl start docker), or say where it is with DOCKER_HOST",
            )
        if isinstance(cause, ConnectionRefusedError):
            return EngineError(
                f"{self}: {doing}: nothing answers",
                hint="the engine is not running: systemctl start docker",
            )
        return EngineError(
            f"{self}: {doing}: {error}",
            hint="check DOCKER_HOST, or docker context ls",
        )


def _plain(framed: bytes) -> str:
    """Output without the engine's frames: a byte for the stream, three of nothing, four for the length."""
    parts, at = [], 0
    while len(framed) - at >= 8:
        length = int.from_bytes(framed[at + 4 : at + 8], "big")
        parts.append(framed[at + 8 : at + 8 + length])
        at += 8 + length
    return b"".join(parts).decode("utf-8", "replace").strip()


def _swarm_hint(explanation: str) -> str:
    if "update out of sequence" in explanation:
        return "somebody else changes the service at this moment; look at it and try again"
    if "swarm manager" not in explanation:
        return ""
    return "ask a manager: DOCKER_HOST=ssh://MANAGER, or docker context use; docker swarm init makes a swarm of one"


def _knock(url: str) -> None:
    """Raises the system's own error if a socket cannot be connected to; docker-py would wrap it, and leak its own."""
    if url.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(TIMEOUT_S)
            door.connect("/" + url.removeprefix("unix://").lstrip("/"))


def _os_error(error: BaseException | None) -> OSError | None:
    """The operating system's error below the layers of urllib3 and requests."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        at = todo.pop()
        if at is None or id(at) in seen:
            continue
        seen.add(id(at))
        if isinstance(at, PermissionError | FileNotFoundError | ConnectionRefusedError):
            return at
        todo += [at.__cause__, at.__context__, *(a for a in at.args if isinstance(a, BaseException))]
    return None


def _chosen_context(folder: str) -> str:
    """``currentContext`` of Docker's config file; empty when there is none."""
    fields = _json_object(os.path.join(folder, "config.json"))
    name = fields.get("currentContext", "")
    return name if isinstance(name, str) else ""


def _of_context(folder: str, name: str) -> Endpoint:
    # Docker keeps a context under the digest of its name.
    key = hashlib.sha256(name.encode()).hexdigest()
    fields = _json_object(os.path.join(folder, "contexts", "meta", key, "meta.json"))
    try:
        found = fields["Endpoints"]["docker"]
        url = str(found["Host"])
        verify = not found.get("SkipTLSVerify", False)
    except (KeyError, TypeError, AttributeError) as error:
        raise EngineError(
            f"the Docker context {name!r} does not exist or names no engine",
            hint=f"docker context ls shows what there is: {', '.join(['default', *_contexts(folder)])}",
        ) from error
    certificates = os.path.join(folder, "contexts", "tls", key, "docker")
    return Endpoint(url, certificates if os.path.isdir(certificates) else "", verify)


def _contexts(folder: str) -> list[str]:
    """The names of all contexts; what cannot be read is none."""
    root, names = os.path.join(folder, "contexts", "meta"), []
    for key in os.listdir(root) if os.path.isdir(root) else ():
        with contextlib.suppress(EngineError):
            names.append(str(_json_object(os.path.join(root, key, "meta.json")).get("Name", "")))
    return sorted(filter(None, names))


def _json_object(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as file:
            fields = json.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise EngineError(f"{path}: {error}", hint="mend or remove the file") from error
    return fields if isinstance(fields, dict) else {}
