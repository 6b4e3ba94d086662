# SPDX-License-Identifier: Apache-2.0
"""nginx in front of the nodes of a service: one address, answered by every architecture in turn.

The nodes that count are those with a running task whose port is published in host mode; drained nodes and those that
are down are left out. A node that stops answering between two looks is passed over by nginx itself.

https://nginx.org/en/docs/http/ngx_http_upstream_module.html
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from typing import TYPE_CHECKING

from manyfest.errors import DeployError, InputError
from manyfest.values import Value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import Any, Self

__all__ = ["Front", "Nginx", "Upstream", "check", "render", "upstreams", "write"]

STOP_S = 10.0
"""Seconds that requests under way have when nginx is told to stop."""

CHECK_S = 20.0
_ADDRESS = re.compile(r"[0-9A-Fa-f.:]+")


class Upstream(Value):
    """A node that answers: where, and what it is."""

    __slots__ = ("address", "machine", "node", "port")
    node: str
    machine: str
    address: str
    port: int

    def __init__(self, node: str, machine: str, address: str, port: int) -> None:
        self._set(node=node, machine=machine, address=address, port=port)

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"


class Front(Value):
    """What nginx shall do: listen where, and how soon it passes a node over (``fail_timeout_s``: for how long)."""

    __slots__ = ("fail_timeout_s", "listen", "max_fails", "service")
    service: str
    listen: str
    max_fails: int
    fail_timeout_s: int

    def __init__(
        self, service: str, listen: str = "8080", max_fails: int = 1, fail_timeout_s: int = 5
    ) -> None:
        """``listen`` is a port, or ``ADDRESS:PORT``. Raises :class:`InputError`."""
        found = re.fullmatch(r"(?:(?:[0-9.]+|\[[0-9A-Fa-f:]+\]):)?(\d{1,5})", listen)
        if found is None or not 1 <= int(found[1]) <= 65535:
            raise InputError(f"{listen!r}: expected PORT or ADDRESS:PORT to listen at")
        if max_fails < 0 or fail_timeout_s < 1:
            raise InputError(
                f"max fails {max_fails}, fail timeout {fail_timeout_s} s: expected 0 or more, and 1 or more"
            )
        self._set(service=service, listen=listen, max_fails=max_fails, fail_timeout_s=fail_timeout_s)


def upstreams(
    service: Mapping[str, Any],
    nodes: Sequence[Mapping[str, Any]],
    tasks: Sequence[Mapping[str, Any]],
    target: int | None = None,
) -> list[Upstream]:
    """Who answers for a service now, by the Engine API's words; ``target`` is the port inside, where there are several.

    Raises :class:`InputError` when it publishes no port in host mode, or several and none is named.
    """
    name = service["Spec"]["Name"]
    wanted = _target_port(name, (service["Spec"].get("EndpointSpec") or {}).get("Ports") or (), target)
    known = {node["ID"]: node for node in nodes if _is_live(node)}
    found = []
    for task in tasks:
        node = known.get(task.get("NodeID"))
        if node is None or task.get("DesiredState") != "running" or task["Status"].get("State") != "running":
            continue
        found += [_upstream(node, port) for port in _ports(task) if port.get("TargetPort") == wanted]
    return sorted(set(found), key=lambda each: (each.node, each.address, each.port))


def _target_port(name: str, ports: Sequence[Mapping[str, Any]], target: int | None) -> int:
    here = [
        int(port["TargetPort"])
        for port in ports
        if port.get("PublishMode") == "host" and port.get("Protocol", "tcp") == "tcp"
    ]
    if target is not None:
        here = [port for port in here if port == target]
    if not here:
        which = f"port {target}" if target is not None else "any TCP port"
        raise InputError(
            f"the service {name} does not publish {which} in host mode",
            hint=f"manyfest deploy {name} IMAGE -p 8082:8080 --publish-mode host",
        )
    if len(set(here)) > 1:
        raise InputError(
            f"the service {name} publishes several ports: {', '.join(map(str, here))}",
            hint="choose one with --port",
        )
    return here[0]


def _is_live(node: Mapping[str, Any]) -> bool:
    state, availability = node["Status"].get("State"), node["Spec"].get("Availability")
    return bool(state == "ready" and availability == "active")


def _ports(task: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What a task has published on its own node, whichever number that got."""
    ports = (task["Status"].get("PortStatus") or {}).get("Ports") or ()
    return [port for port in ports if port.get("PublishMode") == "host" and port.get("PublishedPort")]


def _upstream(node: Mapping[str, Any], port: Mapping[str, Any]) -> Upstream:
    address = str(node["Status"].get("Addr") or "")
    if address in ("", "0.0.0.0", "127.0.0.1"):  # noqa: S104 - what old managers say of themselves, not a place to bind
        address = str((node.get("ManagerStatus") or {}).get("Addr") or "").rpartition(":")[0].strip("[]")
    if not _ADDRESS.fullmatch(address):
        raise DeployError(f"node {node['ID']}: its address is {address!r}, expected an IP address")
    description = node["Description"]
    machine = str((description.get("Platform") or {}).get("Architecture") or "")
    return Upstream(str(description.get("Hostname")), machine, address, int(port["PublishedPort"]))


def render(front: Front, found: Sequence[Upstream]) -> str:
    """Blocks for nginx's ``http`` context, as a file in conf.d is."""
    name = f"manyfest_{re.sub(r'[^A-Za-z0-9_]', '_', front.service)}"
    head = f"# Service {front.service}: written by manyfest balance from the swarm's live nodes.\n"
    if not found:
        return head + (
            f"server {{\n    listen {front.listen};\n    # No node runs the service at this moment.\n"
            "    return 503;\n}\n"
        )
    limits = f"max_fails={front.max_fails} fail_timeout={front.fail_timeout_s}s"
    servers = "".join(
        f"    server {each} {limits};  # {_comment(each.node)} ({_comment(each.machine)})\n" for each in found
    )
    return f"""{head}upstream {name} {{
{servers}}}
server {{
    listen {front.listen};
    location / {{
        proxy_pass http://{name};
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_connect_timeout 2s;
        proxy_next_upstream error timeout http_502 http_503 http_504;
        add_header X-Served-By $upstream_addr always;
    }}
}}
"""


def _comment(text: str) -> str:
    """A node chooses its own name, which must not end the comment."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", text)


def _whole(blocks: str, folder: str) -> str:
    """A configuration that stands by itself, with all that nginx writes below ``folder``."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"    {kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    inner = "".join(f"    {line}\n" if line else "\n" for line in blocks.splitlines())
    return (
        f"daemon off;\npid {folder}/nginx.pid;\nerror_log stderr warn;\nevents {{}}\nhttp {{\n"
        f"    access_log off;\n    server_tokens off;\n{temporary}{inner}}}\n"
    )


def check(blocks: str) -> bool | None:
    """Does ``nginx -t`` take it? ``None`` where nginx is not installed. Raises :class:`DeployError` with its words."""
    program = _nginx()
    if program is None:
        return None
    with tempfile.TemporaryDirectory(prefix="manyfest-balance-") as folder:
        path = f"{folder}/nginx.conf"
        write(path, _whole(blocks, folder))
        _test(program, path)
    return True


def write(path: str, text: str) -> None:
    """Replace a file as a whole, so that a reload never reads half of it. Raises :class:`InputError`."""
    folder = os.path.dirname(os.path.abspath(path))
    made = ""
    try:
        with tempfile.NamedTemporaryFile("w", dir=folder, prefix=".balance-", delete=False) as file:
            made = file.name
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(made, 0o644)
        os.replace(made, path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", hint="name a file that can be written") from error
    finally:
        if made:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(made)


class Nginx:
    """A local nginx with a folder of its own: a context manager that starts it and lets requests end."""

    def __init__(self, blocks: str) -> None:
        """Raises :class:`DeployError` when nginx is not installed."""
        program = _nginx()
        if program is None:
            raise DeployError("there is no nginx on PATH", hint="apt-get install nginx-light")
        self._program = program
        self._blocks = blocks
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="manyfest-balance-")
        try:
            # The workers are another user, who has to get to the files of big answers.
            os.chmod(self._folder.name, 0o711)  # noqa: S103
            self._configure(self._blocks)
            self._process = subprocess.Popen(
                [self._program, "-p", self._folder.name, "-c", self._path],
                stdin=subprocess.DEVNULL,
                # Ctrl-C is for us: nginx would drop the requests under way.
                start_new_session=True,
            )
        except BaseException:
            self._folder.cleanup()
            raise
        return self

    def reload(self, blocks: str) -> None:
        """Take another configuration without dropping a request. Raises :class:`DeployError` if nginx refuses it."""
        assert self._process is not None
        self._configure(blocks)
        self._process.send_signal(signal.SIGHUP)

    def wait(self, seconds: float) -> None:
        """Raises :class:`DeployError` if nginx ends in that time."""
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(seconds)
            raise DeployError(f"nginx ended with exit code {code}", hint="what it said stands above")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        assert self._folder is not None
        try:
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGQUIT)
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.terminate()
            self._process.wait()
        finally:
            self._folder.cleanup()

    @property
    def _path(self) -> str:
        assert self._folder is not None
        return f"{self._folder.name}/nginx.conf"

    def _configure(self, blocks: str) -> None:
        assert self._folder is not None
        write(self._path, _whole(blocks, self._folder.name))
        _test(self._program, self._path)


def _test(program: str, path: str) -> None:
    try:
        done = subprocess.run(
            [program, "-t", "-q", "-p", os.path.dirname(path), "-c", path],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=CHECK_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeployError(f"nginx -t: {error}") from error
    if done.returncode:
        raise DeployError(
            f"nginx -t: {done.stderr.strip()[-400:]}", hint="is the port free, and may you use it?"
        )


def _nginx() -> str | None:
    """Debian keeps it where only root's PATH looks."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
