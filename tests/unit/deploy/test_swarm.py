# SPDX-License-Identifier: Apache-2.0
"""The words of a service, and whose credentials go with it."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest

from manyfest.coverage.nodes import Node
from manyfest.coverage.rules import Host, listing_of
from manyfest.deploy.place import Placement, place
from manyfest.deploy.swarm import (
    APART,
    Port,
    Wish,
    constraints_of,
    engine_credentials,
    has_routing_mesh,
    refuse_taken_ports,
    service_spec,
    without_ports,
)
from manyfest.errors import InputError, Refused
from manyfest.reference import Reference
from manyfest.serve.http import Server
from manyfest.serve.registry import RegistryApp
from manyfest.stores.copy import copy
from manyfest.stores.memory import Memory
from manyfest.stores.places import Place, open_store
from manyfest.stores.registry.session import Session
from manyfest.stores.registry.settings import Settings
from manyfest.testing.images import make_image

IMAGE = "reg.test/app:1@sha256:" + "1" * 64
HERE = place(listing_of("linux/amd64"), [Node("a", Host.of_machine("x86_64"), "swarm", id="id-a", labels=())])
APARTED = Placement(
    HERE.cells, HERE.platforms, [Node("b", Host.of_machine("x86_64"), "swarm", id="id-b", labels=())]
)


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ("8082:8080", Port(8082, 8080)),
        ("8080", Port(8080, 8080)),
        ("53:5353/udp", Port(53, 5353, "udp")),
    ],
)
def test_ports(text: str, port: Port) -> None:
    assert Port.parse(text) == port


@pytest.mark.parametrize("text", ["", "a:b", "0:1", "70000", "1:2:3", "1:2/icmp", "127.0.0.1:80:80", "-1:2"])
def test_no_ports(text: str) -> None:
    with pytest.raises(InputError):
        Port.parse(text)


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "a b"},
        {"name": ""},
        {"name": "x" * 64},
        {"name": "a", "replicas": 0},
        {"name": "a", "mode": "global", "replicas": 2},
        {"name": "a", "env": ["=1"]},
        {"name": "a", "constraints": ["node.role = worker"]},
    ],
)
def test_wishes_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Wish(wrong.pop("name"), **wrong)


def test_a_new_service() -> None:
    """Global unless said otherwise, stopping at the first failure, with no field that the API would leave out."""
    wish = Wish("web", ports=[Port(8082, 8080, mode="host")], env=["A=1"], parallelism=2, delay_s=1.5)
    spec = service_spec(wish, IMAGE, HERE)
    assert spec["Mode"] == {"Global": {}}
    assert spec["TaskTemplate"]["ContainerSpec"] == {"Image": IMAGE, "Env": ["A=1"]}
    assert spec["TaskTemplate"]["Placement"] == {"Platforms": [{"OS": "linux", "Architecture": "amd64"}]}
    assert spec["UpdateConfig"] == {
        "Parallelism": 2, "Order": "stop-first", "FailureAction": "pause", "Delay": 1_500_000_000,
    }  # fmt: skip
    assert spec["EndpointSpec"]["Ports"][0]["PublishMode"] == "host"
    assert "ForceUpdate" not in spec["TaskTemplate"]


def test_an_update_keeps_what_nobody_speaks_of() -> None:
    """Mounts, environment, ports; what changes tasks gets a new generation; the given spec is left alone."""
    before = service_spec(Wish("web", replicas=3, env=["A=1"], ports=[Port(1, 2)]), IMAGE, HERE)
    before["TaskTemplate"]["ContainerSpec"]["Mounts"] = [{"Target": "/data"}]
    kept = json.dumps(before)
    assert service_spec(Wish("web"), IMAGE, HERE, before) == before
    after = service_spec(Wish("web", env=["A=2"]), IMAGE, HERE, before)
    assert after["TaskTemplate"]["ForceUpdate"] == 1
    assert after["TaskTemplate"]["ContainerSpec"] == {
        "Image": IMAGE, "Env": ["A=2"], "Mounts": [{"Target": "/data"}],
    }  # fmt: skip
    assert after["Mode"] == {"Replicated": {"Replicas": 3}}
    assert after["EndpointSpec"] == before["EndpointSpec"]
    assert service_spec(Wish("web"), IMAGE, HERE, before, force=True)["TaskTemplate"]["ForceUpdate"] == 1
    scaled = service_spec(Wish("web", replicas=5), IMAGE, HERE, before)
    assert scaled["Mode"] == {"Replicated": {"Replicas": 5}}
    assert "ForceUpdate" not in scaled["TaskTemplate"]
    assert json.dumps(before) == kept


def test_the_mode_stays() -> None:
    before = service_spec(Wish("web"), IMAGE, HERE)
    with pytest.raises(InputError, match="is global, and Swarm cannot make it replicated"):
        service_spec(Wish("web", replicas=2), IMAGE, HERE, before)


def test_constraints_that_we_add_are_ours_to_take_back() -> None:
    """They are remembered in a label; those of the user are kept."""
    first = service_spec(Wish("web", constraints=["node.role==worker"]), IMAGE, APARTED)
    assert first["TaskTemplate"]["Placement"]["Constraints"] == ["node.role==worker", "node.id!=id-b"]
    assert first["Labels"] == {APART: "node.id!=id-b"}
    assert constraints_of(first) == ["node.role==worker"]
    again = service_spec(Wish("web"), IMAGE, HERE, first)
    assert again["TaskTemplate"]["Placement"]["Constraints"] == ["node.role==worker"]
    assert again["Labels"] == {}


def test_ports_of_others() -> None:
    taken = [{"Spec": service_spec(Wish("other", ports=[Port(8082, 80)]), IMAGE, HERE)}]
    with pytest.raises(Refused, match="8082/tcp is published by the service other"):
        refuse_taken_ports(Wish("web", ports=[Port(8082, 8080)]), taken)
    refuse_taken_ports(Wish("other", ports=[Port(8082, 8080)]), taken)
    refuse_taken_ports(Wish("web", ports=[Port(8082, 8080, "udp")]), taken)
    refuse_taken_ports(Wish("web"), taken)


def test_routing_mesh(tmp_path: Path) -> None:
    """Loaded, loadable, built in, absent, and out of sight."""
    proc, modules = tmp_path / "proc", tmp_path / "modules"
    folder = modules / os.uname().release
    (proc / "net").mkdir(parents=True)
    folder.mkdir(parents=True)
    socket = "unix:///var/run/docker.sock"

    def ask(url: str = socket) -> bool | None:
        return has_routing_mesh(url, str(proc), str(modules))

    assert ask() is False
    (folder / "modules.dep").write_text("kernel/net/other.ko: kernel/net/netfilter/ipvs/ip_vs.ko\n")
    assert ask() is False
    (folder / "modules.builtin").write_text("kernel/net/netfilter/ipvs/ip_vs.ko\n")
    assert ask() is True
    (folder / "modules.builtin").unlink()
    (folder / "modules.dep").write_text("kernel/net/netfilter/ipvs/ip_vs.ko.xz: kernel/lib/crc.ko\n")
    assert ask() is True
    (folder / "modules.dep").unlink()
    (proc / "net" / "ip_vs").write_text("")
    assert ask() is True
    assert ask("ssh://pi") is None


def settings(folder: Path, host: str = "") -> Settings:
    """Docker's configuration with a password for a host, and nothing else of this machine's."""
    folder.mkdir(exist_ok=True)
    auth = base64.b64encode(b"ann:secret").decode()
    (folder / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}} if host else {}}))
    return Settings(
        docker_config=str(folder), config=str(folder / "none.toml"), certs_d=(), registries_conf=()
    )


@pytest.fixture(autouse=True)
def no_other_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("DOCKER_AUTH_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))


def push(host: str, given: Settings) -> Reference:
    memory = Memory()
    document = make_image(memory, "linux/amd64", tag="1")
    place_ = Place.parse(f"{host}/app:1")
    with Session(given) as session, open_store(place_, session) as store:
        copy(memory, document, store, ["1"])
    return place_.reference


def test_credentials_go_along_when_the_registry_wants_some(tmp_path: Path) -> None:
    """In the engine's encoding; nobody's password in a repr."""
    with Server(RegistryApp(str(tmp_path / "data"), users={"ann": "secret"}, durable=False)) as server:
        mine = settings(tmp_path / "docker", server.host)
        reference = push(server.host, mine)
        header = engine_credentials(reference, mine, asked=False)
    fields = json.loads(base64.urlsafe_b64decode(header))
    assert fields == {"username": "ann", "password": "secret", "serveraddress": server.host}


def test_credentials_stay_here_when_nobody_wants_them(tmp_path: Path) -> None:
    """Unless asked for by name."""
    with Server(RegistryApp(str(tmp_path / "data"), durable=False)) as server:
        mine = settings(tmp_path / "docker", server.host)
        reference = push(server.host, mine)
        assert engine_credentials(reference, mine, asked=False) == ""
        assert engine_credentials(reference, mine, asked=True) != ""


def test_credentials_that_are_not_there(tmp_path: Path) -> None:
    reference = Reference.parse("reg.test/app:1")
    assert engine_credentials(reference, settings(tmp_path / "docker"), asked=False) == ""
    with pytest.raises(InputError, match="no credentials for") as caught:
        engine_credentials(reference, settings(tmp_path / "docker"), asked=True)
    assert caught.value.hint == "manyfest login reg.test"


def test_tasks_without_their_port() -> None:
    """Of this deployment, running, and of ports in host mode alone."""
    port = {"TargetPort": 8080, "PublishedPort": 8082, "PublishMode": "host"}
    mesh = {"TargetPort": 9090, "PublishedPort": 9090, "PublishMode": "ingress"}
    spec = {"EndpointSpec": {"Ports": [port, mesh]}, "TaskTemplate": {"ForceUpdate": 3}}

    def task(node: str, ports: Any, generation: int = 3, state: str = "running") -> dict[str, Any]:
        status = {"State": state, "PortStatus": {"Ports": ports} if ports else {}}
        template = {"ForceUpdate": generation}
        return {"NodeID": node, "DesiredState": "running", "Status": status, "Spec": template}

    tasks = [task("good", [port, port]), task("bad", None), task("other", [mesh])]
    tasks += [task("old", None, 2), task("starting", None, state="starting")]
    assert without_ports(spec, tasks) == ["bad", "other"]
    assert without_ports({**spec, "EndpointSpec": {"Ports": [mesh]}}, tasks) == []
    assert without_ports({**spec, "EndpointSpec": {}}, tasks) == []
