# SPDX-License-Identifier: Apache-2.0
"""`deploy -f` against an engine in this process, and images in an embedded registry."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Run
from tests.cli.test_deploy import Swarm
from tests.cli.test_json_shapes import keys_of_table

from manyfest.deploy.converge import Clock
from manyfest.engines import docker
from manyfest.errors import EngineError

FILE = """
services:
  web:
    image: {app}:web
    deploy: {{mode: global, endpoint_mode: dnsrr}}
    networks: [front]
    secrets: [token]
    configs: [conf]
  db:
    image: ${{DB_IMAGE:-{app}:web}}
    deploy: {{endpoint_mode: dnsrr}}
    networks: [front]
networks:
  front: {{attachable: true}}
secrets:
  token: {{file: token.txt}}
configs:
  conf: {{file: conf.txt}}
"""


class StackSwarm(Swarm):
    """With networks, secrets and configs; ``failing`` is a service whose tasks say why they do not run."""

    def __init__(self) -> None:
        super().__init__()
        self.things: dict[str, dict[str, dict[str, Any]]] = {"networks": {}, "secrets": {}, "configs": {}}
        self.failing: tuple[str, str] = ("", "")
        self.refusing = ""
        self.log: list[str] = []

    def call(self, method: str, path: str, doing: str, body: Any = None, query: Any = None) -> Any:
        kind, _, rest = path.strip("/").partition("/")
        there = self.things[kind]
        if method == "GET":
            return list(there.values())
        if method == "DELETE":
            there.pop(rest)
            self.log.append(f"remove {kind} {rest}")
            return None
        if rest == "create":
            id = f"id-{body['Name']}"
            made: dict[str, Any] = {"ID": id, "Spec": dict(body)}
            if kind == "networks":
                made = {"Id": id, "Scope": "swarm", **body}
            if kind == "secrets":
                made["Held"] = made["Spec"].pop("Data")
            there[id] = {**made, "Version": {"Index": 1}}
            self.log.append(f"create {kind} {body['Name']}")
            return {"Id": id, "ID": id}
        id = rest.partition("/")[0]
        if kind == "secrets" and there[id]["Held"] != body["Data"]:
            raise EngineError("only updates to Labels are allowed")
        there[id]["Spec"]["Labels"] = body["Labels"]
        self.log.append(f"update {kind} {body['Name']}")
        return None

    def create_service(self, spec: Mapping[str, Any], auth: str = "") -> str:
        if spec["Name"] == self.refusing:
            raise EngineError("no, says the engine")
        self.log.append(f"create {spec['Name']}")
        return super().create_service(spec, auth)

    def update_service(
        self, service: Mapping[str, Any], spec: Mapping[str, Any], auth: str = "", *, rollback: bool = False
    ) -> None:
        self.log.append(f"{'back' if rollback else 'update'} {spec['Name']}")
        self.failing = ("", "") if rollback else self.failing
        super().update_service(service, spec, auth, rollback=rollback)

    def remove_service(self, name: str) -> None:
        self.log.append(f"remove {self.service(name)['Spec']['Name']}")
        super().remove_service(name)

    def tasks(self, service: str = "") -> list[dict[str, Any]]:
        if self.interrupted and "st_db" in self.known:
            raise KeyboardInterrupt
        found = super().tasks(service)
        for task in list(found):
            name = task["ServiceID"].removeprefix("svc-")
            if name == self.failing[0]:
                task["Status"] = {"State": "rejected", "Err": self.failing[1]}
            if "Replicated" in self.known[name]["Spec"]["Mode"]:
                task["Slot"] = 1
                if task["NodeID"] == "id-ibm":
                    found.remove(task)
            task["ID"] = f"t-{name}-{task['NodeID']}-{task['Status']['State']}"
        return found


@pytest.fixture
def swarm(monkeypatch: pytest.MonkeyPatch) -> StackSwarm:
    """Instead of the engine; nobody waits."""
    made, at = StackSwarm(), [0.0]
    monkeypatch.setattr(docker, "Docker", lambda: made)
    monkeypatch.setattr(Clock, "now", lambda self: at[0])
    monkeypatch.setattr(Clock, "sleep", lambda self, seconds: at.__setitem__(0, at[0] + seconds))
    return made


@pytest.fixture
def file(run: Run, app: str, tmp_path: Path) -> Path:
    """A stack of two services; the image is for both nodes."""
    run("create", f"{app}:web", f"{app}:amd64", f"{app}:s390x", "--push")
    (tmp_path / "token.txt").write_text("hush")
    (tmp_path / "conf.txt").write_text("a=1")
    path = tmp_path / "stack.yaml"
    path.write_text(FILE.format(app=app))
    return path


def test_a_stack_is_made_and_unmade(run: Run, swarm: StackSwarm, file: Path) -> None:
    """Parts first, then services that name them by id; the same again changes nothing."""
    made = run("deploy", "-f", str(file), "st")
    assert swarm.log == [
        "create networks st_front", "create secrets st_token", "create configs st_conf",
        "create st_web", "create st_db",
    ]  # fmt: skip
    web = swarm.known["st_web"]["Spec"]
    template = web["TaskTemplate"]
    assert template["Networks"] == [{"Target": "id-st_front", "Aliases": ["web"]}]
    assert template["ContainerSpec"]["Secrets"][0]["SecretID"] == "id-st_token"
    assert template["ContainerSpec"]["Configs"][0]["ConfigID"] == "id-st_conf"
    assert "@sha256:" in template["ContainerSpec"]["Image"]
    assert {each["Architecture"] for each in template["Placement"]["Platforms"]} == {"amd64", "s390x"}
    assert web["Labels"]["com.docker.stack.namespace"] == "st"
    assert "st_web: ibm: running\n" in made.err
    assert made.out.startswith("st_web: created, 2 of 2 tasks run, ")
    swarm.log.clear()
    again = run("deploy", "-f", str(file), "st")
    assert again.out.startswith("st_web: unchanged, 2 of 2")
    assert swarm.log == ["update secrets st_token"]
    swarm.log.clear()
    assert run("deploy", "--remove", "st").out.startswith("st: removed st_web, st_db, secret st_token")
    assert (swarm.known, swarm.things) == ({}, {"networks": {}, "secrets": {}, "configs": {}})


def test_an_image_that_moved_is_an_update_of_its_service_alone(
    run: Run, swarm: StackSwarm, file: Path, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("deploy", "-f", str(file), "st")
    swarm.log.clear()
    run("create", f"{app}:db", f"{app}:s390x", f"{app}:amd64", "--annotation", "a=b", "--push")
    monkeypatch.setenv("DB_IMAGE", f"{app}:db")
    out = run("deploy", "-f", str(file), "st").out
    assert "st_web: unchanged" in out
    assert "st_db: updated, 1 of 1" in out
    assert swarm.log == ["update secrets st_token", "update st_db"]
    assert swarm.known["st_db"]["Spec"]["TaskTemplate"]["ForceUpdate"] == 1
    assert run("deploy", "-f", str(file), "st", "--force").out.count("updated") == 2


def test_a_dry_run_changes_nothing(run: Run, swarm: StackSwarm, file: Path) -> None:
    shown = run("deploy", "-f", str(file), "st", "--dry-run").out
    assert "st_web   create  global      big, ibm" in shown
    assert "would create: network st_front, secret st_token, config st_conf" in shown
    assert swarm.log == []


def test_the_documents(run: Run, swarm: StackSwarm, file: Path) -> None:
    """As the page on JSON has them."""
    documents = [
        run("deploy", "-f", str(file), "st", "--dry-run", "--json").json,
        run("deploy", "-f", str(file), "st", "--json").json,
        run("deploy", "-f", str(file), "st", "--remove", "--json").json,
    ]
    assert {key for document in documents for key in document} == keys_of_table("deploy -f")
    services = {key for document in documents[:2] for key in document["services"][0]}
    assert services == keys_of_table("deploy -f", "Each of `services`:")


def test_left_out(run: Run, swarm: StackSwarm, file: Path, app: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A global service shall be everywhere; one task needs one node that can have it."""
    monkeypatch.setenv("DB_IMAGE", f"{app}:amd64")
    assert "warning: st_db: ibm is left out" in run("deploy", "-f", str(file), "st").err
    run("deploy", "--remove", "st")
    file.write_text(file.read_text().replace(f"{app}:web\n", f"{app}:amd64\n"))
    refused = run("deploy", "-f", str(file), "st", ok=False)
    assert refused.code == 1
    assert f"{file}:4:12: service web: {app}:amd64 does not run on 1 of 2 nodes" in refused.err
    assert swarm.known == {}
    assert run("deploy", "-f", str(file), "st", "--partial").code == 0


def test_failure_takes_everything_back(run: Run, swarm: StackSwarm, file: Path) -> None:
    """Which service, where and why; what was made is removed, what was there is as before."""
    swarm.failing = ("st_web", "exec format error")
    failed = run("deploy", "-f", str(file), "st", ok=False)
    assert failed.code == 3
    assert "st_web: a task failed\n  big: exec format error" in failed.err
    assert "removed again: st_web, st_db, network st_front, secret st_token, config st_conf" in failed.err
    assert (swarm.known, swarm.things["networks"], swarm.things["secrets"]) == ({}, {}, {})
    swarm.failing = ("", "")
    run("deploy", "-f", str(file), "st")
    before = swarm.known["st_db"]["Spec"]
    file.write_text(file.read_text() + "  more: {file: conf.txt}\n")
    file.write_text(file.read_text().replace("dnsrr}", "dnsrr, labels: {a: b}}"))
    swarm.failing = ("st_db", "exec format error")
    swarm.log.clear()
    failed = run("deploy", "-f", str(file), "st", "--json", ok=False)
    assert failed.json["rolled_back"] is True, failed
    assert [each["ok"] for each in failed.json["services"] if each["service"] == "st_db"] == [False]
    assert swarm.known["st_db"]["Spec"] == before
    assert swarm.log[-3:] == ["back st_db", "back st_web", "remove configs id-st_more"]


def test_an_update_that_was_stopped_goes_on(run: Run, swarm: StackSwarm, file: Path) -> None:
    run("deploy", "-f", str(file), "st")
    swarm.known["st_db"]["UpdateStatus"] = {"State": "paused", "Message": "update paused due to failure"}
    swarm.log.clear()
    assert run("deploy", "-f", str(file), "st").code == 0
    assert [each for each in swarm.log if each.startswith("update st_")] == ["update st_db"]


def test_a_refusal_of_the_engine_takes_back_what_was_done(run: Run, swarm: StackSwarm, file: Path) -> None:
    swarm.refusing = "st_db"
    failed = run("deploy", "-f", str(file), "st", ok=False)
    assert failed.code == 3
    assert "no, says the engine" in failed.err
    assert "removed again: st_web, network st_front" in failed.err
    assert (swarm.known, swarm.things["networks"]) == ({}, {})
    shown = run("deploy", "-f", str(file), "st", "--json", ok=False).json
    assert (shown["ok"], shown["rolled_back"]) == (False, True)


def test_prune(run: Run, swarm: StackSwarm, file: Path) -> None:
    """Only when asked, only of this stack, and after the rest has worked."""
    run("deploy", "-f", str(file), "other")
    run("deploy", "-f", str(file), "st")
    text = file.read_text()
    file.write_text(text[: text.index("  db:")] + text[text.index("networks:\n  front") :])
    assert "st_db" not in run("deploy", "-f", str(file), "st").out
    assert "st_db: removed, the file does not have it" in run("deploy", "-f", str(file), "st", "--prune").out
    assert sorted(swarm.known) == ["other_db", "other_web", "st_web"]


def test_ports_that_are_taken(run: Run, swarm: StackSwarm, file: Path, app: str) -> None:
    """By a service of nobody's, by one that the file no longer has, and by another of the same file."""
    text = file.read_text()
    with_port = text.replace(
        "    secrets: [token]\n", "    ports: [{target: 8080, published: 80, mode: host}]\n"
    )
    run("deploy", "alone", f"{app}:web", "-p", "80:8080")
    file.write_text(with_port)
    refused = run("deploy", "-f", str(file), "st", ok=False)
    assert refused.code == 1
    assert "port 80/tcp of st_web is published by the service alone\nhint: publish another one" in refused.err
    run("deploy", "--remove", "alone")
    run("deploy", "-f", str(file), "st")
    file.write_text(with_port.replace("  web:", "  new:"))
    refused = run("deploy", "-f", str(file), "st", "--prune", ok=False)
    assert "hint: the file does not have st_web any more: manyfest deploy --remove st_web" in refused.err
    file.write_text(with_port.replace("    deploy: {endpoint_mode: dnsrr}\n", "    ports: ['80:80']\n"))
    err = run("deploy", "-f", str(file), "st", ok=False).err
    assert "port 80/tcp of st_db is published by the service st_web" in err


def test_what_a_swarm_cannot_change_is_refused_first(run: Run, swarm: StackSwarm, file: Path) -> None:
    run("deploy", "-f", str(file), "st")
    swarm.log.clear()
    (file.parent / "conf.txt").write_text("a=2")
    refused = run("deploy", "-f", str(file), "st", ok=False)
    assert (refused.code, swarm.log) == (1, [])
    assert "the config st_conf has other contents on the swarm" in refused.err
    assert "hint: give it a new name" in refused.err
    (file.parent / "conf.txt").write_text("a=1")
    (file.parent / "token.txt").write_text("louder")
    failed = run("deploy", "-f", str(file), "st", ok=False)
    assert (failed.code, swarm.log) == (3, [])
    assert "nothing had been changed" in failed.err
    assert "louder" not in failed.err


def test_what_belongs_to_others_is_left_alone(run: Run, swarm: StackSwarm, file: Path) -> None:
    """Networks and services without the stack's label, and names that lead to nothing."""
    swarm.things["networks"]["x"] = {"Id": "x", "Name": "st_front", "Scope": "swarm", "Labels": {}}
    assert "st_front is there already, and of no stack" in run("deploy", "-f", str(file), "st", ok=False).err
    del swarm.things["networks"]["x"]
    file.write_text(file.read_text().replace("{attachable: true}", "{external: true, name: outer}"))
    refused = run("deploy", "-f", str(file), "st", ok=False)
    assert "the network outer is external, and not on this swarm" in refused.err
    assert "hint: docker network create --driver overlay outer" in refused.err
    swarm.known["st_db"] = {
        "ID": "svc-st_db",
        "Spec": {"Name": "st_db", "Mode": {"Global": {}}, "TaskTemplate": {}},
    }
    file.write_text(file.read_text().replace("{external: true, name: outer}", "{}"))
    assert (
        "the service st_db is there already, and of no stack"
        in run("deploy", "-f", str(file), "st", ok=False).err
    )
    assert list(swarm.known) == ["st_db"]


def test_one_name_for_two(run: Run, swarm: StackSwarm, file: Path, app: str) -> None:
    """A service and a stack: the command does not guess."""
    run("deploy", "-f", str(file), "st")
    run("deploy", "st", f"{app}:web")
    assert "a service st and a stack st: which" in run("deploy", "--remove", "st", ok=False).err
    run("deploy", "--remove", "-f", str(file), "st")
    assert list(swarm.known) == ["st"]


def test_an_interrupt_is_told(run: Run, swarm: StackSwarm, file: Path) -> None:
    swarm.interrupted = True
    ran = run("deploy", "-f", str(file), "st", ok=False)
    assert ran.code == 130
    assert "st: interrupted; what was changed stays as it is now" in ran.err
    assert "st_db" in swarm.known


def test_a_service_without_tasks(run: Run, swarm: StackSwarm, file: Path) -> None:
    """Nobody is waited for."""
    file.write_text(file.read_text().replace("{endpoint_mode: dnsrr}", "{endpoint_mode: dnsrr, replicas: 0}"))
    assert "st_db: created, 0 of 0 tasks run" in run("deploy", "-f", str(file), "st").out


def test_the_mesh_that_is_not_there(
    run: Run, swarm: StackSwarm, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What to write instead."""
    monkeypatch.setattr("manyfest.deploy.swarm.has_routing_mesh", lambda url: False)
    text = file.read_text().replace("endpoint_mode: dnsrr", "labels: {}")
    file.write_text(text.replace("  db:\n", "    ports: ['80:80']\n  db:\n"))
    err = run("deploy", "-f", str(file), "st", "--dry-run").err
    assert "ports of the routing mesh will not answer: st_web; write them as {target: 80" in err
    assert "names of these services lead nowhere: st_web, st_db; deploy: {endpoint_mode: dnsrr}" in err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("-f", "{file}"), 2, "what shall the stack be called?"),
        (("-f", "{file}", "a b"), 2, "is no name for a stack"),
        (("-f", "{file}", "st", "image"), 2, "expected one name"),
        (("-f", "{file}", "st", "-p", "80"), 2, "not with -f"),
        (("-f", "{file}", "st", "--env", "A=1"), 2, "not with -f"),
        (("-f", "{file}", "st", "--render", "kubernetes"), 2, "not with -f"),
        (("-f", "{file}.not", "st"), 2, "No such file"),
        (("st", "--prune"), 2, "expected -f FILE too"),
        ((), 2, "deploy what?"),
        (("--remove", "-f", "{file}", "nosuch"), 3, "there is no stack nosuch"),
        (("--remove", "nosuch"), 3, "there is no service nosuch"),
    ],
)
def test_bad_input(
    run: Run, swarm: StackSwarm, file: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    """Clear, and nothing deployed."""
    ran = run("deploy", *(word.format(file=file) for word in words), ok=False)
    assert ran.code == code, ran
    assert said in ran.err
    assert swarm.log == []


def test_images_that_cannot_be_read_are_all_told(
    run: Run, swarm: StackSwarm, file: Path, app: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the place where each is written."""
    monkeypatch.setenv("DB_IMAGE", f"{app}:nosuch")
    file.write_text(file.read_text().replace(f"{app}:web\n", f"{app}:neither\n"))
    ran = run("deploy", "-f", str(file), "st", ok=False)
    assert ran.code == 3
    assert f"{file}:4:12: service web: " in ran.err
    assert f"{file}:10:12: service db: " in ran.err
    monkeypatch.setenv("DB_IMAGE", "Upper/Case")
    ran = run("deploy", "-f", str(file), "st", ok=False)
    assert (ran.code, swarm.log) == (2, [])
    assert f"{file}:10:12: service db: " in ran.err


def test_the_service_that_is_gone(
    run: Run, swarm: StackSwarm, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody removed it while it was waited for."""

    def gone() -> list[dict[str, Any]]:
        if "st_db" in swarm.known:
            swarm.known.pop("st_db")
        return list(swarm.known.values())

    monkeypatch.setattr(swarm, "services", gone)
    ran = run("deploy", "-f", str(file), "st", ok=False)
    assert ran.code == 3
    assert "the service st_db is gone: somebody removed it" in ran.err
