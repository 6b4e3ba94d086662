# SPDX-License-Identifier: Apache-2.0
"""Containers that stay, and a swarm's configs, through the Engine API: what a balancer in front of a service needs.

Files go into a container by the API and not by a mount, so that the engine may be on another machine.

https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Container
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from typing import TYPE_CHECKING

from manyfest.engines.docker import Docker
from manyfest.errors import EngineError, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

__all__ = ["Runner"]

PULL_TIMEOUT_S = 600
END_TIMEOUT_S = 30
"""Seconds that a container which only checks something has for it."""

MAX_READ = 1024 * 1024
_PINNED = re.compile(r"(?P<name>.+?)(?::(?P<tag>[^:/@]+))?(?:@(?P<digest>.+))?")


class Runner(Docker):
    """An engine that also runs containers."""

    def pull(self, image: str, auth: str = "") -> None:
        """Have an image there, from its registry unless it is there already. ``auth``: ``X-Registry-Auth``."""
        try:
            self.inspect(image)
        except NotFound:
            pass
        else:
            return
        found = _PINNED.fullmatch(image)
        assert found is not None
        query = {"fromImage": found["name"], "tag": found["digest"] or found["tag"] or "latest"}
        with self._translated(f"pulling {image}"):
            client = self._client(PULL_TIMEOUT_S)
            headers = {"X-Registry-Auth": auth} if auth else {}
            url = f"{client.base_url}/v{client.api_version}/images/create"
            with client.post(
                url, params=query, headers=headers, timeout=PULL_TIMEOUT_S, stream=True
            ) as answer:
                self._raise(answer)
                for problem in _problems(answer.iter_lines()):
                    raise EngineError(f"{self}: pulling {image}: {problem}", hint="is the name right?")

    def container(self, name: str) -> dict[str, Any]:
        """What the engine says of a container. Raises :class:`NotFound`."""
        with self._translated(f"asking for the container {name}"):
            found: dict[str, Any] = self._client().inspect_container(name)
            return found

    def create_container(self, spec: Mapping[str, Any], name: str = "") -> str:
        """Make a container of the API's own words, not started yet; its id."""
        with self._translated(f"creating the container {name}".rstrip()):
            return str(self._client().create_container_from_config(dict(spec), name or None)["Id"])

    def start(self, container: str) -> None:
        """Start it, or raise :class:`EngineError` with the engine's reason."""
        with self._translated("starting a container"):
            self._client().start(container)

    def restart_always(self, container: str) -> None:
        """From now on the engine starts it again when it ends, also when the engine itself was away."""
        with self._translated("keeping a container running"):
            self._client().update_container(container, restart_policy={"Name": "unless-stopped"})

    def put(self, container: str, folder: str, files: Mapping[str, bytes]) -> None:
        """Write files (mode 644, root's) below a folder, which is made; names without ``/``."""
        with self._translated("writing a container's files"):
            self._client().put_archive(container, "/", _archive(folder.strip("/"), files))

    def has(self, container: str, path: str) -> bool:
        """Is there such a file in it? Mounted folders are not looked into."""
        with self._translated("looking for a container's file"):
            client = self._client()
            url = f"{client.base_url}/v{client.api_version}/containers/{container}/archive"
            with client.head(url, params={"path": path}, timeout=client.timeout) as answer:
                return bool(answer.status_code == 200)

    def read(self, container: str, path: str) -> bytes:
        """A small file of it. Raises :class:`NotFound`."""
        with self._translated("reading a container's file"):
            pieces, _ = self._client().get_archive(container, path)
            with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
                file = tar.extractfile(tar.next() or "")
                return b"" if file is None else file.read(MAX_READ)

    def execute(self, container: str, *command: str) -> tuple[int, str]:
        """Run a command in a running container; its exit code, and what it printed to either stream."""
        with self._translated(f"running {command[0]} in a container"):
            client = self._client()
            made = client.exec_create(container, list(command))["Id"]
            said: bytes = client.exec_start(made)
            return int(client.exec_inspect(made)["ExitCode"] or 0), said.decode("utf-8", "replace").strip()

    def run_to_end(self, spec: Mapping[str, Any], folder: str, files: Mapping[str, bytes]) -> tuple[int, str]:
        """Run a container that ends by itself; its exit code and what it printed. It is removed whatever happens."""
        made = self.create_container(spec)
        try:
            self.put(made, folder, files)
            self.start(made)
            with self._translated("waiting for a container"):
                code = int(self._client().wait(made, timeout=END_TIMEOUT_S)["StatusCode"])
            return code, self.output(made)
        finally:
            self.remove_container(made)

    def output(self, container: str, lines: int = 10) -> str:
        """The last lines that it printed."""
        with self._translated("asking for a container's output"):
            said: bytes = self._client().logs(container, tail=lines)
            return said.decode("utf-8", "replace").strip()

    def signal(self, container: str, name: str) -> None:
        """Send its first process a signal, such as ``HUP``."""
        with self._translated(f"sending {name} to a container"):
            self._client().kill(container, name)

    def stop_container(self, container: str, seconds: int) -> None:
        """Ask it to end, in its image's or its own way; kill it when the time is over."""
        with self._translated("stopping a container"):
            self._client().stop(container, seconds)

    def remove_container(self, container: str) -> None:
        """It and its volumes without names, running or not; no error when it is gone."""
        try:
            with self._translated("removing a container"):
                self._client().remove_container(container, v=True, force=True)
        except NotFound:
            return

    def configs(self, label: str) -> list[dict[str, Any]]:
        """The swarm's configs with a label, ``KEY=VALUE``, oldest first."""
        with self._translated("asking for the swarm's configs"):
            found: list[dict[str, Any]] = self._client().configs({"label": [label]})
            return sorted(found, key=lambda each: str(each.get("CreatedAt", "")))

    def create_config(self, name: str, data: bytes, labels: Mapping[str, str]) -> str:
        """Give the swarm a file for services; its id."""
        with self._translated(f"creating the config {name}"):
            return str(self._client().create_config(name, data, dict(labels))["ID"])

    def remove_config(self, config: str) -> None:
        """Raises :class:`EngineError` while a service has it, no error when it is gone."""
        try:
            with self._translated("removing a config"):
                self._client().remove_config(config)
        except NotFound:
            return


def _problems(lines: Iterator[bytes]) -> Iterator[str]:
    """What goes wrong while an engine pulls is told in its stream of progress, after it has answered 200."""
    for line in lines:
        try:
            fields = json.loads(line) if line.strip() else {}
        except ValueError:
            continue
        if isinstance(fields, dict) and fields.get("error"):
            yield str(fields["error"])


def _archive(folder: str, files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        made: Sequence[tuple[str, bytes | None]] = [
            (folder, None),
            *((f"{folder}/{name}", data) for name, data in files.items()),
        ]
        for name, data in made:
            entry = tarfile.TarInfo(name)
            entry.mode = 0o755 if data is None else 0o644
            entry.type = tarfile.DIRTYPE if data is None else tarfile.REGTYPE
            entry.size = len(data or b"")
            tar.addfile(entry, io.BytesIO(data or b""))
    return out.getvalue()
