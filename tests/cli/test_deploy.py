# SPDX-License-Identifier: Apache-2.0
"""`deploy` against an engine in this process, and images in an embedded registry."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.cli.conftest import Run
from tests.cli.test_json_shapes import keys_of_command

from manyfest.deploy import nginx
from manyfest.deploy.converge import Clock
from manyfest.deploy.renewal import RENEWED
from manyfest.engines import docker
from manyfest.engines.docker import Endpoint
from manyfest.errors import EngineError, NotFound


def node(name: str, machine: str) -> dict[str, Any]:
    return {
        "ID": f"id-{name}",
        "Description": {
            "Hostname": name,
            "Platform": {"Architecture": machine, "OS": "linux"},
            "Engine": {"EngineVersion": "20.10.24"},
        },
        "Status": {"State": "ready", "Addr": f"10.0.0.{1 if name == 'big' else 2}"},
        "Spec": {"Availability": "active", "Role": "worker"},
    }


class Swarm:
    """An engine whose services start at once, on every node; ``error`` is what tasks on ``broken`` say."""

    def __init__(self) -> None:
        self.endpoint = Endpoint("unix:///nowhere")
        self.nodes_ = [node("big", "x86_64"), node("ibm", "s390x")]
        self.known: dict[str, dict[str, Any]] = {}
        self.broken: tuple[str, str] = ("", "")
        self.history: list[str] = []
        self.auths: list[str] = []
        self.interrupted = False

    def nodes(self) -> list[dict[str, Any]]:
        return self.nodes_

    def services(self) -> list[dict[str, Any]]:
        return copy.deepcopy(list(self.known.values()))

    def service(self, name: str) -> dict[str, Any]:
        for found in self.services():
            if name in (found["ID"], found["Spec"]["Name"]):
                return found
        raise NotFound(f"service {name} not found")

    def create_service(self, spec: Mapping[str, Any], auth: str = "") -> str:
        self.auths.append(auth)
        self.known[spec["Name"]] = {"ID": f"svc-{spec['Name']}", "Version": {"Index": 1}, "Spec": dict(spec)}
        return f"svc-{spec['Name']}"

    def update_service(
        self, service: Mapping[str, Any], spec: Mapping[str, Any], auth: str = "", *, rollback: bool = False
    ) -> None:
        mine = self.known[spec["Name"]]
        if rollback:
            mine["Spec"], self.broken = mine["PreviousSpec"], ("", "")
        else:
            mine.update(PreviousSpec=mine["Spec"], Spec=dict(spec), UpdateStatus={})

    def remove_service(self, name: str) -> None:
        del self.known[self.service(name)["Spec"]["Name"]]

    def tasks(self, service: str = "") -> list[dict[str, Any]]:
        if self.interrupted and service:
            raise KeyboardInterrupt
        found = []
        for each in self.known.values():
            ports = {"Ports": (each["Spec"].get("EndpointSpec") or {}).get("Ports")}
            for at in self.nodes_:
                bad = at["Description"]["Hostname"] == self.broken[0]
                last = {"State": "rejected", "Err": self.broken[1]} if bad else {"State": "running"}
                past = [{"State": "failed", "Err": error} for error in self.history]
                for number, status in enumerate([*past, last]):
                    found.append(
                        {
                            "ID": f"t-{at['ID']}-{number}-{status['State']}",
                            "CreatedAt": f"2026-01-01T00:00:{number:02d}Z",
                            "NodeID": at["ID"],
                            "ServiceID": each["ID"],
                            "Spec": each["Spec"]["TaskTemplate"],
                            "Status": {**status, "PortStatus": ports},
                            "DesiredState": "running" if status is last else "shutdown",
                        }
                    )
        return found

    def task_logs(self, task: str) -> str:
        raise EngineError("its node does not send them")

    def call(self, method: str, path: str, doing: str, body: Any = None, query: Any = None) -> Any:
        """Networks, secrets and configs: there are none."""
        assert method == "GET"
        return []

    def __enter__(self) -> Swarm:
        return self

    def __exit__(self, *error: object) -> None:
        pass


@pytest.fixture
def swarm(monkeypatch: pytest.MonkeyPatch) -> Swarm:
    """Instead of the engine; nobody waits."""
    made, at = Swarm(), [0.0]
    monkeypatch.setattr(docker, "Docker", lambda: made)
    monkeypatch.setattr(Clock, "now", lambda self: at[0])
    monkeypatch.setattr(Clock, "sleep", lambda self, seconds: at.__setitem__(0, at[0] + seconds))
    return made


@pytest.fixture
def image(run: Run, app: str) -> str:
    """A list for both nodes."""
    run("create", f"{app}:web", f"{app}:amd64", f"{app}:s390x", "--push")
    return f"{app}:web"


def test_a_service_is_made_and_unmade(run: Run, swarm: Swarm, image: str) -> None:
    """One line a node on standard error, one line at the end."""
    made = run("deploy", "web", image, "-p", "8082:8080", "--env", "A=1")
    assert made.out.startswith(f"web: created, 2 of 2 tasks run, {image}@sha256:")
    assert "big: running\nibm: running\n" in made.err
    spec = swarm.known["web"]["Spec"]
    assert spec["TaskTemplate"]["ContainerSpec"]["Env"] == ["A=1"]
    assert run("deploy", "web", image).out.startswith("web: unchanged")
    assert run("deploy", "web", image, "--force").out.startswith("web: updated")
    assert run("deploy", "--remove", "web").out == "web: removed\n"
    assert swarm.known == {}


def test_the_documents(run: Run, swarm: Swarm, image: str) -> None:
    """As the page on JSON has them."""
    documents = [
        run("deploy", "web", image, "--dry-run", "--json").json,
        run("deploy", "web", image, "--json").json,
        run("deploy", "--remove", "web", "--json").json,
        run("deploy", "web", image, "--render", "kubernetes", "--json").json,
    ]
    assert {key for document in documents for key in document} == keys_of_command("deploy")


def test_a_dry_run_changes_nothing(run: Run, swarm: Swarm, image: str) -> None:
    shown = run("deploy", "web", image, "-p", "80", "--publish-mode", "host", "--dry-run").out
    assert "big   x86_64  native  linux/amd64" in shown
    assert "would create: web (global)" in shown
    assert "Swarm is told: linux/amd64, linux/s390x" in shown
    assert "ports: 80:80/tcp (host)" in shown
    assert swarm.known == {}


def test_resources(run: Run, swarm: Swarm, image: str) -> None:
    """What is not said again stays."""
    run("deploy", "web", image, "--limit-memory", "64m", "--reserve-cpu", "0.5")
    run("deploy", "web", image, "--limit-cpu", "2")
    assert swarm.known["web"]["Spec"]["TaskTemplate"]["Resources"] == {
        "Limits": {"NanoCPUs": 2 * 10**9, "MemoryBytes": 64 << 20},
        "Reservations": {"NanoCPUs": 5 * 10**8},
    }


def test_rendered_for_kubernetes(
    run: Run, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any engine; `check` reads it and lets it go where the list has something, and nowhere else."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    ran = run("deploy", "web", image, "-p", "80:8080", "--env", "A=1", "--render", "kubernetes")
    made, service = yaml.safe_load_all(ran.out)
    assert (made["kind"], service["kind"]) == ("DaemonSet", "Service")
    assert made["spec"]["template"]["spec"]["containers"][0]["image"].startswith(f"{image}@sha256:")
    assert ran.out.startswith(f"# web: {image} for linux/amd64, linux/s390x\n")
    (tmp_path / "web.yaml").write_text(ran.out)
    words = ("check", str(tmp_path / "web.yaml"), "--json", "--platform")
    assert run(*words, "linux/amd64,linux/s390x").json["images"][0]["state"] == "ok"
    states = [cell["state"] for cell in run(*words, "linux/amd64,linux/arm64").json["images"][0]["cells"]]
    assert states == ["native", "excluded"]


def test_what_labels_cannot_tell_is_said(run: Run, app: str) -> None:
    """To the person, and to who reads the file later."""
    ran = run("deploy", "web", f"{app}:armhf", "--replicas", "2", "--render", "kubernetes")
    assert "warning: the label kubernetes.io/arch=arm says nothing of variants" in ran.err
    assert "# the label kubernetes.io/arch=arm says nothing of variants" in ran.out
    assert "kind: Deployment" in ran.out


def test_left_out(run: Run, swarm: Swarm, app: str) -> None:
    """Refused by name, accepted with --partial."""
    refused = run("deploy", "web", f"{app}:amd64", ok=False)
    assert refused.code == 1
    assert "ibm (s390x): the only image there is: for linux/amd64" in refused.err
    assert swarm.known == {}
    assert "warning: ibm is left out" in run("deploy", "web", f"{app}:amd64", "--partial").err
    platforms = swarm.known["web"]["Spec"]["TaskTemplate"]["Placement"]["Platforms"]
    assert platforms == [{"OS": "linux", "Architecture": "amd64"}]


def test_failure_goes_back(run: Run, swarm: Swarm, image: str) -> None:
    """A new service is removed, an old one is as before."""
    swarm.broken = ("ibm", "exec format error")
    failed = run("deploy", "web", image, ok=False)
    assert failed.code == 3
    assert "  ibm: exec format error\n    the program inside is for another machine" in failed.err
    assert "the service web was removed again" in failed.err
    assert swarm.known == {}
    swarm.broken = ("", "")
    run("deploy", "web", image)
    swarm.broken = ("ibm", "exec format error")
    failed = run("deploy", "web", image, "--env", "A=2", "--json", ok=False)
    assert failed.code == 3
    assert '"rolled_back": true' in failed.out
    assert "Env" not in swarm.known["web"]["Spec"]["TaskTemplate"]["ContainerSpec"]


def test_an_update_that_was_stopped_goes_on(run: Run, swarm: Swarm, image: str) -> None:
    """Swarm does not go on by itself, although the service is what was asked for."""
    run("deploy", "web", image)
    swarm.known["web"]["UpdateStatus"] = {"State": "paused", "Message": "update paused due to failure"}
    done = run("deploy", "web", image, "--json")
    assert done.json["action"] == "unchanged"
    assert "web: its last update was stopped; Swarm goes on with it" in done.err
    assert swarm.known["web"]["Spec"]["Labels"] == {RENEWED: "1"}
    before = swarm.known["web"]["Spec"]
    assert run("deploy", "web", image, "--json").json["action"] == "unchanged"
    assert swarm.known["web"]["Spec"] == before


def test_what_failed_before_is_over(run: Run, swarm: Swarm, image: str) -> None:
    """Swarm remembers some tasks of each node: a service that has failed at times and runs has not failed now."""
    run("deploy", "web", image)
    swarm.history = ["task: non-zero exit (1)"] * 2
    assert run("deploy", "web", image, "--json").json["ok"] is True
    swarm.broken = ("ibm", "exec format error")
    failed = run("deploy", "web", image, "--env", "A=2", ok=False)
    assert failed.code == 3
    assert f"web runs {image}@" in failed.err
    assert failed.err.splitlines()[-2].endswith(" again, as before")


def test_a_task_without_its_port_is_told(
    run: Run, swarm: Swarm, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Swarm calls it running."""
    tasks = swarm.tasks

    def silent(service: str = "") -> list[dict[str, Any]]:
        found = tasks(service)
        for each in found:
            if each["NodeID"] == "id-ibm":
                each["Status"]["PortStatus"] = {}
        return found

    words = ("deploy", "web", image, "-p", "8082:8080", "--publish-mode", "host")
    assert "without its published port" not in run(*words).err
    monkeypatch.setattr(swarm, "tasks", silent)
    told = run(*words, "--force").err
    assert "warning: ibm: the task runs without its published port; the same with --force" in told
    assert "warning: big" not in told


def test_an_interrupt_is_told(run: Run, swarm: Swarm, image: str) -> None:
    swarm.interrupted = True
    ran = run("deploy", "web", image, ok=False)
    assert ran.code == 130
    assert "web: interrupted while waiting; the service stays as it is now" in ran.err
    assert "web" in swarm.known


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("web",), 2, "expected an image"),
        (("a b", "{image}"), 2, "no service name"),
        (("web", "oci:x:1"), 2, "nodes pull from a registry"),
        (("web", "{image}", "-p", "x"), 2, "expected a port"),
        (("web", "{image}", "--timeout", "0"), 2, "expected seconds"),
        (("web", "{image}", "--update-delay", "-1"), 2, "expected seconds"),
        (("web", "{image}", "--update-parallelism", "-1"), 2, "expected 0 or more"),
        (("web", "{image}", "--constraint", "zone"), 2, "expected a constraint"),
        (("web", "{image}", "--mode", "global", "--replicas", "2"), 2, "of a replicated service"),
        (("web", "{image}", "--limit-memory", "much"), 2, "expected memory with a unit"),
        (("web", "{image}", "--render", "kubernetes", "--force"), 2, "not with --render kubernetes"),
        (
            ("web", "{image}", "--render", "kubernetes", "--with-registry-auth"),
            2,
            "create secret docker-registry",
        ),
        (("web", "{image}", "--render", "kubernetes", "--env", "A"), 2, "expected KEY=VALUE"),
        (("web", "--render", "kubernetes", "--remove"), 2, "not with --render kubernetes"),
        (("web", "{image}-not", "--render", "kubernetes"), 3, "no tag"),
        (("--remove", "web", "{image}"), 2, "expected the service alone"),
        (("--remove", "web"), 3, "there is no service web"),
        (("web", "{image}-not"), 3, "no tag"),
    ],
)
def test_bad_input(run: Run, swarm: Swarm, image: str, words: tuple[str, ...], code: int, said: str) -> None:
    """Clear, and nothing deployed."""
    ran = run("deploy", *(word.format(image=image) for word in words), ok=False)
    assert ran.code == code, ran
    assert said in ran.err
    assert swarm.known == {}


def test_balance(run: Run, swarm: Swarm, image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Printed, written, and in a document; without nginx it says what was left out."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(nginx, "_nginx", lambda: None)
    run("deploy", "web", image, "-p", "8082:8080", "--publish-mode", "host")
    printed = run("balance", "web", "--listen", "80")
    assert "    server 10.0.0.1:8082 max_fails=1 fail_timeout=5s;  # big (x86_64)\n" in printed.out
    assert "nginx is not installed here" in printed.err
    path = tmp_path / "web.conf"
    assert run("balance", "web", "--listen", "80", "--output", str(path)).out == ""
    assert path.read_text() == printed.out
    shown = run("balance", "web", "--json").json
    assert set(shown) == keys_of_command("balance")
    assert [each["node"] for each in shown["upstreams"]] == ["big", "ibm"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("web", "--listen", "x"), 2, "to listen at"),
        (("web", "--interval", "0"), 2, "expected seconds"),
        (("web", "--port", "9"), 2, "does not publish port 9 in host mode"),
        (("web", "--run", "cloud"), 2, "cloud"),
        (("web", "--health", "healthz"), 2, "expected a path to ask each node for"),
        (("web", "--detach"), 2, "--detach: expected --run container or --run service"),
        (("web", "--run", "--image", "nginx:1"), 2, "--image: expected --run container or --run service"),
        (("web", "--run", "container", "--constraint", "node.role==worker"), 2, "expected --run service"),
        (("web", "--run", "service", "--constraint", "zone"), 2, "expected a constraint"),
        (("web", "--output", "/nonexistent/web.conf"), 2, "No such file"),
        (("nosuch",), 3, "there is no service nosuch"),
    ],
)
def test_balance_of_bad_input(
    run: Run,
    swarm: Swarm,
    image: str,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    monkeypatch.setattr(nginx, "_nginx", lambda: None)
    run("deploy", "web", image, "-p", "8082:8080", "--publish-mode", "host")
    ran = run("balance", *words, ok=False)
    assert ran.code == code, ran
    assert said in ran.err


def test_no_engine(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    ran = run("deploy", "web", "reg.test/app:1", ok=False)
    assert ran.code == 3
    assert "hint: start the engine" in ran.err
