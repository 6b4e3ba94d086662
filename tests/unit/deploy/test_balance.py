# SPDX-License-Identifier: Apache-2.0
"""Who stands behind nginx, and the configuration that says so."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from manyfest.deploy.balance import Front, Upstream, render, upstreams
from manyfest.deploy.nginx import Nginx, check, write
from manyfest.errors import DeployError, InputError

GOLDEN = """\
# Service web: written by manyfest balance from the swarm's live nodes.
upstream manyfest_web {
    server 10.0.0.1:8082 max_fails=1 fail_timeout=5s;  # big (x86_64)
    server [fd00::2]:30001 max_fails=1 fail_timeout=5s;  # old (i686)
    keepalive 32;
    keepalive_timeout 4s;
}
server {
    listen 127.0.0.1:8080;
    location / {
        proxy_pass http://manyfest_web;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_connect_timeout 2s;
        proxy_next_upstream error timeout http_502 http_503 http_504;
        add_header X-Served-By $upstream_addr always;
    }
}
"""
BOTH = (Upstream("big", "x86_64", "10.0.0.1", 8082), Upstream("old", "i686", "fd00::2", 30001))
PORTS = ({"Protocol": "tcp", "TargetPort": 8080, "PublishedPort": 8082, "PublishMode": "host"},)


def service(*ports: dict[str, Any]) -> dict[str, Any]:
    return {"ID": "svc", "Spec": {"Name": "web", "EndpointSpec": {"Ports": list(ports)}}}


def node(
    name: str, address: str, state: str = "ready", availability: str = "active", **more: Any
) -> dict[str, Any]:
    return {
        "ID": f"id-{name}",
        "Description": {"Hostname": name, "Platform": {"Architecture": "x86_64"}},
        "Status": {"State": state, "Addr": address},
        "Spec": {"Availability": availability},
        **more,
    }


def task(
    where: str, published: int = 8082, state: str = "running", desired: str = "running"
) -> dict[str, Any]:
    port = {"Protocol": "tcp", "TargetPort": 8080, "PublishedPort": published, "PublishMode": "host"}
    return {
        "NodeID": f"id-{where}",
        "DesiredState": desired,
        "Status": {"State": state, "PortStatus": {"Ports": [port]}},
    }


def test_golden() -> None:
    assert render(Front("web", "127.0.0.1:8080"), BOTH) == GOLDEN


def test_only_live_nodes_with_a_running_task() -> None:
    """Drained, down, gone, starting, ending and other tasks are left out; the port is what the task got."""
    nodes = [
        node("a", "10.0.0.1"),
        node("b", "10.0.0.2", availability="drain"),
        node("c", "10.0.0.3", state="down"),
        node("d", "10.0.0.4"),
        node("e", "10.0.0.5"),
        node("m", "0.0.0.0", ManagerStatus={"Addr": "10.0.0.9:2377"}),
        node("u", "10.0.0.6", state="unknown"),
    ]
    tasks = [
        task("a", 30000), task("b"), task("c"), task("d", state="starting"), task("e", desired="shutdown"),
        task("m"), task("gone"), task("u"),
    ]  # fmt: skip
    found = upstreams(service(*PORTS), nodes, tasks)
    assert [(each.node, str(each)) for each in found] == [
        ("a", "10.0.0.1:30000"),
        ("m", "10.0.0.9:8082"),
        ("u", "10.0.0.6:8082"),  # The manager has just started, and does not know yet.
    ]


def test_several_tasks_on_a_node() -> None:
    """Each with a port of its own."""
    found = upstreams(service(*PORTS), [node("a", "10.0.0.1")], [task("a", 30001), task("a", 30000)])
    assert [each.port for each in found] == [30000, 30001]


@pytest.mark.parametrize(
    ("ports", "target", "said"),
    [
        ((), None, "does not publish any TCP port in host mode"),
        (({**PORTS[0], "PublishMode": "ingress"},), None, "does not publish any TCP port in host mode"),
        (({**PORTS[0], "Protocol": "udp"},), None, "does not publish any TCP port in host mode"),
        (PORTS, 9, "does not publish port 9 in host mode"),
        ((PORTS[0], {**PORTS[0], "TargetPort": 9090}), None, "publishes several ports: 8080, 9090"),
    ],
)
def test_services_that_cannot_be_balanced(ports: tuple[Any, ...], target: int | None, said: str) -> None:
    with pytest.raises(InputError, match=said):
        upstreams(service(*ports), [], [], target)


def test_a_port_that_the_manager_was_never_told() -> None:
    """The one that the service was given, if it was given one."""
    silent = task("a")
    silent["Status"]["PortStatus"] = {}
    assert [each.port for each in upstreams(service(*PORTS), [node("a", "10.0.0.1")], [silent])] == [8082]
    unknown = {**PORTS[0], "PublishedPort": 0}
    assert upstreams(service(unknown), [node("a", "10.0.0.1")], [silent]) == []


def test_the_port_is_chosen() -> None:
    ports = (PORTS[0], {**PORTS[0], "TargetPort": 9090})
    assert len(upstreams(service(*ports), [node("a", "10.0.0.1")], [task("a")], 8080)) == 1
    assert upstreams(service(*ports), [node("a", "10.0.0.1")], [task("a")], 9090) == []


def test_an_address_that_is_none() -> None:
    """Nothing of a node gets into the configuration unlooked at."""
    with pytest.raises(DeployError, match="expected an IP address"):
        upstreams(service(*PORTS), [node("a", "1;}evil")], [task("a")])
    text = render(Front("web"), [Upstream("a\nserver evil;", "x86_64", "10.0.0.1", 80)])
    assert "# a_server_evil_ (x86_64)\n" in text
    assert "\nserver evil" not in text


@pytest.mark.parametrize("listen", ["", "x", "0", "70000", "a:80", "80;", "80 ssl", "::1:80"])
def test_listen_is_looked_at(listen: str) -> None:
    with pytest.raises(InputError, match="to listen at"):
        Front("web", listen)


@pytest.mark.parametrize("wrong", [{"max_fails": -1}, {"fail_timeout_s": 0}])
def test_limits_are_looked_at(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError):
        Front("web", **wrong)  # type: ignore[arg-type]


def test_nobody_there() -> None:
    """503, since nginx takes no empty group."""
    assert "return 503;" in render(Front("web"), [])


def test_write_replaces_as_a_whole(tmp_path: Path) -> None:
    """And leaves nothing else."""
    path = tmp_path / "web.conf"
    path.write_text("old")
    write(str(path), "new")
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o644
    with pytest.raises(InputError, match="No such file"):
        write(str(tmp_path / "none" / "web.conf"), "new")
    os.mkdir(tmp_path / "folder")
    with pytest.raises(InputError):
        write(str(tmp_path / "folder"), "new")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["folder", "web.conf"]


def test_without_nginx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None)
    assert check(GOLDEN) is None
    with pytest.raises(DeployError, match="no nginx on PATH"):
        Nginx(Front("web"), BOTH)


def test_nginx_that_refuses(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its own words, and its folder is gone."""
    program = tmp_path / "nginx"
    program.write_text("#!/bin/sh\necho 'nginx: [emerg] bind() failed' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    with pytest.raises(DeployError, match=r"nginx -t: nginx: \[emerg\] bind"):
        check(GOLDEN)
    with pytest.raises(DeployError, match="bind"), Nginx(Front("web"), BOTH):
        pass
    assert [each.name for each in tmp_path.iterdir()] == ["nginx"]
