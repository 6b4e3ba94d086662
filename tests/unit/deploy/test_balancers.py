# SPDX-License-Identifier: Apache-2.0
"""nginx in a container and as a service, against an engine in this process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from manyfest.deploy import balancers
from manyfest.deploy.balance import Front, Upstream
from manyfest.deploy.balancers import LABEL, ContainerNginx, ServiceNginx, balancer_name, stop
from manyfest.deploy.converge import Clock
from manyfest.errors import DeployError, InputError, NotFound

IMAGE = "docker.io/library/nginx:stable"
FRONT = Front("web", "80")
BIG = Upstream("big", "x86_64", "10.0.0.1", 8082)
OLD = Upstream("old", "i686", "10.0.0.2", 8082)


class Engine:
    """All starts at once; ``refused`` is what nginx -t says, ``ends`` and ``fails`` what nginx says at its end."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.containers: dict[str, dict[str, Any]] = {}
        self.files: dict[str, bytes] = {}
        self.service_: dict[str, Any] = {}
        self.configs_: dict[str, dict[str, Any]] = {}
        self.refused, self.ends, self.fails = "", "", ""

    def pull(self, image: str, auth: str = "") -> None:
        self.done.append(f"pull {image}")

    def container(self, name: str) -> dict[str, Any]:
        if name not in self.containers:
            raise NotFound(name)
        return self.containers[name]

    def create_container(self, spec: Mapping[str, Any], name: str = "") -> str:
        made = {"Id": name, "Config": dict(spec), "State": {"Running": not self.ends}}
        self.containers[name] = made
        return name

    def put(self, container: str, folder: str, files: Mapping[str, bytes]) -> None:
        self.files |= files
        self.done += [f"put {name.partition('-')[0]}" for name in files]

    def read(self, container: str, path: str) -> bytes:
        return self.files["nginx.conf"]

    def start(self, container: str) -> None:
        self.done.append("start")

    def has(self, container: str, path: str) -> bool:
        return not self.ends

    def restart_always(self, container: str) -> None:
        self.done.append("restart_always")

    def execute(self, container: str, *command: str) -> tuple[int, str]:
        self.done.append("test")
        return (1, self.refused) if self.refused else (0, "")

    def run_to_end(self, spec: Mapping[str, Any], folder: str, files: Mapping[str, bytes]) -> tuple[int, str]:
        assert spec["Cmd"][0] == "-t"
        return (1, self.refused) if self.refused else (0, "")

    def output(self, container: str) -> str:
        return self.ends

    def signal(self, container: str, name: str) -> None:
        self.done.append(name)

    def stop_container(self, container: str, seconds: int) -> None:
        self.done.append("stop")

    def remove_container(self, container: str) -> None:
        del self.containers[container]

    def service(self, name: str) -> dict[str, Any]:
        if name not in (self.service_.get("ID"), self.service_.get("Spec", {}).get("Name")):
            raise NotFound(name)
        return self.service_

    def create_service(self, spec: Mapping[str, Any], auth: str = "") -> str:
        self.service_ = {"ID": "svc", "Version": {"Index": 1}, "Spec": dict(spec)}
        return "svc"

    def update_service(
        self, service: Mapping[str, Any], spec: Mapping[str, Any], auth: str = "", *, rollback: bool = False
    ) -> None:
        self.done.append("rollback" if rollback else "update")
        if rollback:
            self.fails = ""
        self.service_ = {
            **self.service_,
            "Spec": self.service_["PreviousSpec"] if rollback else dict(spec),
            "PreviousSpec": service["Spec"],
        }

    def remove_service(self, name: str) -> None:
        self.service_ = {}

    def nodes(self) -> list[dict[str, Any]]:
        node = {
            "ID": "n",
            "Description": {"Hostname": "big"},
            "Status": {"State": "ready"},
            "Spec": {"Availability": "active"},
        }
        return [node]

    def tasks(self, service: str = "") -> list[dict[str, Any]]:
        if not self.service_:
            return []
        status = {"State": "failed", "Err": "task: non-zero exit (1)"} if self.fails else {"State": "running"}
        task = {
            "ID": "t",
            "NodeID": "n",
            "Slot": 1,
            "ServiceID": "svc",
            "DesiredState": "running",
            "Status": status,
        }
        return [
            {**task, "Spec": self.service_["Spec"]["TaskTemplate"]},
            {**task, "ID": "u", "Spec": self.service_["Spec"]["TaskTemplate"]},
        ]

    def task_logs(self, task: str) -> str:
        return self.fails

    def configs(self, label: str) -> list[dict[str, Any]]:
        assert label == f"{LABEL}=web"
        return list(self.configs_.values())

    def create_config(self, name: str, data: bytes, labels: Mapping[str, str]) -> str:
        self.configs_[name] = {"ID": f"id-{name}", "Spec": {"Name": name, "Labels": labels}, "Data": data}
        return f"id-{name}"

    def remove_config(self, config: str) -> None:
        del self.configs_[config.removeprefix("id-")]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Nobody waits."""
    at = [0.0]
    monkeypatch.setattr(Clock, "now", lambda self: at[0])
    monkeypatch.setattr(Clock, "sleep", lambda self, seconds: at.__setitem__(0, at[0] + seconds))
    return Engine()


def container(engine: Any, keep: bool = False) -> ContainerNginx:
    return ContainerNginx(engine, FRONT, IMAGE, [BIG], keep=keep)


def service(engine: Any, keep: bool = False) -> ServiceNginx:
    return ServiceNginx(engine, FRONT, IMAGE, [BIG], constraints=["node.role==manager"], keep=keep)


def test_names_fit() -> None:
    """A swarm's names have at most 63 characters, and two long ones do not meet."""
    assert balancer_name("web") == "web-balancer"
    first, second = balancer_name("w" * 60), balancer_name("w" * 61)
    assert first != second
    assert max(len(first), len(second)) <= 63


def test_a_container_from_start_to_end(engine: Any) -> None:
    """Its configuration is tested before it counts, and connections are closed before a reload."""
    with container(engine) as nginx:
        spec = engine.containers["web-balancer"]["Config"]
        assert spec["HostConfig"]["NetworkMode"] == "host"
        assert spec["Labels"] == {LABEL: "web"}
        assert engine.done == [f"pull {IMAGE}", "put nginx.conf", "start", "restart_always"]
        engine.done.clear()
        nginx.reload([BIG, OLD])
        assert engine.done == ["put nginx.conf.new", "test", "put closing", "put nginx.conf", "HUP"]
        assert b"10.0.0.2:8082" in engine.files["nginx.conf"]
    assert engine.containers == {}


def test_a_container_whose_nginx_refuses(engine: Any) -> None:
    """Nothing is reloaded; at the start nothing is left."""
    with container(engine) as nginx:
        engine.refused, before = "[emerg] no", engine.files["nginx.conf"]
        engine.done.clear()
        with pytest.raises(DeployError, match=r"nginx -t: \[emerg\] no"):
            nginx.reload([OLD])
        assert engine.done == ["put nginx.conf.new", "test"]
        assert engine.files["nginx.conf"] == before
    with pytest.raises(DeployError, match="nginx -t"):
        container(engine).__enter__()
    assert engine.containers == {}


def test_a_container_that_ends(engine: Any) -> None:
    """At the start or later, with its words."""
    engine.ends = "bind() to 0.0.0.0:80 failed"
    with pytest.raises(DeployError, match="did not start in a container: bind"):
        container(engine).__enter__()
    assert engine.containers == {}
    engine.ends = ""
    with container(engine) as nginx:
        nginx.wait(1)
        engine.containers["web-balancer"]["State"]["Running"] = False
        with pytest.raises(DeployError, match="web-balancer ended"):
            nginx.wait(1)
        kept, engine.containers = engine.containers, {}
        with pytest.raises(DeployError, match="somebody removed it"):
            nginx.wait(1)
        engine.containers = kept


def test_a_container_that_is_there_is_taken_up_and_left(engine: Any) -> None:
    """Unless it is of another image, or does not run."""
    with container(engine, keep=True):
        pass
    engine.done.clear()
    with container(engine):
        assert engine.done[1:] == ["put nginx.conf.new", "test", "put closing", "put nginx.conf", "HUP"]
    assert list(engine.containers) == ["web-balancer"]
    engine.containers["web-balancer"]["Config"]["Image"] = "other"
    engine.done.clear()
    with container(engine):
        assert engine.done[1:] == ["stop", "put nginx.conf", "start", "restart_always"]
    assert engine.containers == {}


def test_a_service_from_start_to_end(engine: Any) -> None:
    """Another configuration is another config; those of long ago go."""
    with service(engine) as nginx:
        spec = engine.service_["Spec"]
        assert spec["UpdateConfig"]["Order"] == "start-first"
        (first,) = engine.configs_.values()
        assert b"listen 80 reuseport;" in first["Data"]
        nginx.reload([BIG])
        assert "update" not in engine.done
        nginx.reload([BIG, OLD])
        nginx.reload([OLD])
        assert engine.done.count("update") == 2
        assert len(engine.configs_) == 2
        assert first["Spec"]["Name"] not in engine.configs_
        assert engine.service_["Spec"]["TaskTemplate"]["ForceUpdate"] == 2
        nginx.wait(1)
    assert (engine.service_, engine.configs_) == ({}, {})


def test_a_service_that_fails(engine: Any) -> None:
    """New: it goes. Changed: as it was before."""
    engine.fails = "bind() to 0.0.0.0:80 failed (98: Address in use)"
    with pytest.raises(DeployError, match=r"a task failed: big: bind\(\) to"):
        service(engine).__enter__()
    assert (engine.service_, engine.configs_) == ({}, {})
    engine.fails = ""
    with service(engine) as nginx:
        before = engine.service_["Spec"]
        engine.fails = "bind"
        with pytest.raises(DeployError, match="a task failed"):
            nginx.reload([OLD])
        assert engine.service_["Spec"] == before
        engine.service_ = {}
        with pytest.raises(DeployError, match="somebody removed it"):
            nginx.wait(1)


def test_a_service_that_is_there_is_taken_up_and_left(engine: Any) -> None:
    with service(engine, keep=True):
        pass
    with service(engine) as nginx:
        nginx.reload([OLD])
    assert engine.service_["Spec"]["Name"] == "web-balancer"
    assert stop(engine, "web") == ["service web-balancer"]
    assert (engine.service_, engine.configs_) == ({}, {})
    assert stop(engine, "web") == []


def test_what_is_somebody_elses_is_not_touched(engine: Any) -> None:
    engine.create_container({"Labels": None}, "web-balancer")
    with pytest.raises(InputError, match="a container web-balancer that is no balancer of web"):
        container(engine).__enter__()
    with pytest.raises(InputError, match="a container web-balancer that is no balancer of web"):
        stop(engine, "web")
    engine.containers.clear()
    engine.create_service({"Name": "web-balancer", "Labels": {LABEL: "other"}})
    with pytest.raises(InputError, match="a service web-balancer that is no balancer of web"):
        service(engine).__enter__()
    with pytest.raises(InputError, match="a service web-balancer that is no balancer of web"):
        stop(engine, "web")


def test_only_the_listening_is_shared() -> None:
    text = balancers._shared("server {\n    listen 127.0.0.1:80;\n    # listen 1;\n}\n")
    assert text == "server {\n    listen 127.0.0.1:80 reuseport;\n    # listen 1;\n}"
