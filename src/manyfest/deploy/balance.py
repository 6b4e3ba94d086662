# SPDX-License-Identifier: Apache-2.0
"""nginx in front of the nodes of a service: one address, answered by every architecture in turn.

The nodes that count are those with a running task whose port is published in host mode; drained nodes and those that
are down are left out. A node that stops answering between two looks is passed over by nginx itself.

https://nginx.org/en/docs/http/ngx_http_upstream_module.html
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from manyfest.errors import DeployError, InputError
from manyfest.values import Value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

__all__ = ["Front", "Upstream", "render", "upstreams"]

IDLE = 32
"""Connections to the nodes that nginx keeps open when nobody needs them."""

IDLE_S = 4
"""Seconds for which it does: less than what servers wait (5 s is the least that is usual), so that they do not close
a connection at the moment when nginx sends a request on it."""

_PROXIED = """\
        proxy_pass http://{name};
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_connect_timeout 2s;
        proxy_next_upstream error timeout http_502 http_503 http_504;
        add_header X-Served-By $upstream_addr always;
"""
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
    ports = (service["Spec"].get("EndpointSpec") or {}).get("Ports") or ()
    wanted = _target_port(name, ports, target)
    known = {node["ID"]: node for node in nodes if _is_live(node)}
    found = []
    for task in tasks:
        node = known.get(task.get("NodeID"))
        if node is None or task.get("DesiredState") != "running" or task["Status"].get("State") != "running":
            continue
        # A manager that was away while a task started may never be told its ports; those that were chosen are known.
        known_ports = _published((task["Status"].get("PortStatus") or {}).get("Ports")) or _published(ports)
        found += [_upstream(node, port) for port in known_ports if port.get("TargetPort") == wanted]
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
    # A manager that has just started knows of no node yet whether it is there; nginx finds out by itself.
    return bool(state in ("ready", "unknown") and availability == "active")


def _published(ports: Sequence[Mapping[str, Any]] | None) -> list[Mapping[str, Any]]:
    """Those that a node answers for its own task, and whose number is known."""
    return [port for port in ports or () if port.get("PublishMode") == "host" and port.get("PublishedPort")]


def _upstream(node: Mapping[str, Any], port: Mapping[str, Any]) -> Upstream:
    address = str(node["Status"].get("Addr") or "")
    if address in ("", "0.0.0.0", "127.0.0.1"):  # noqa: S104 - what old managers say of themselves, not a place to bind
        address = str((node.get("ManagerStatus") or {}).get("Addr") or "").rpartition(":")[0].strip("[]")
    if not _ADDRESS.fullmatch(address):
        raise DeployError(f"node {node['ID']}: its address is {address!r}, expected an IP address")
    description = node["Description"]
    machine = str((description.get("Platform") or {}).get("Architecture") or "")
    return Upstream(str(description.get("Hostname")), machine, address, int(port["PublishedPort"]))


def render(front: Front, found: Sequence[Upstream], closing: str = "") -> str:
    """Blocks for nginx's ``http`` context, as a file in conf.d is.

    Once there is a file ``closing``, connections are closed after each answer and clients know it, so that a reload
    meets none that waits between two requests; it would cut that off.
    """
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
    proxied = _PROXIED.format(name=name)
    last = f"""    error_page 418 = @closing;
    if (-f {closing}) {{
        return 418;
    }}
    location @closing {{
        keepalive_timeout 0;
{proxied}    }}
"""
    return f"""{head}upstream {name} {{
{servers}    keepalive {IDLE};
    keepalive_timeout {IDLE_S}s;
}}
server {{
    listen {front.listen};
{last if closing else ""}    location / {{
{proxied}    }}
}}
"""


def _comment(text: str) -> str:
    """A node chooses its own name, which must not end the comment."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", text)
