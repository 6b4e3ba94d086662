# SPDX-License-Identifier: Apache-2.0
"""`manyfest deploy -f` on a real swarm of an x86_64 and an i686 node, beside Debian's own docker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.real.parts import PASSWORD, USER, Done, Host
from tests.real.swarm import BOTH, PORT, MixedSwarm, ask, push, until

pytestmark = [pytest.mark.real, pytest.mark.slow]

# Every key that Swarm has something for, short and long. What would need a special machine has no tasks.
WHOLE = """
version: "3.9"
x-common: &common
  labels: {tier: front, num: 5}
services:
  whole:
    <<: *common
    image: IMAGE
    command: "sh -c \\"echo a\\\\ b # c \\\\n\\" 'x y' z#q a\\\\ b # comment"
    entrypoint: ["/entry", "-x"]
    hostname: webhost
    user: "1000:1000"
    working_dir: /w
    environment:
      A: ${A_VARIABLE:-dflt}
      B: 1.10
      C: 1000000
      D: 1e3
      E:
      HOME:
      F: 22:22
      G: 0o17
      H: 010
      I: 2001-01-01
      J: 1_000
      K: 1000000.0
      L: "x$$y"
      M: ~
      O: ""
      A0: .5
      A1: 12345678901234567890
      P: ${SET_VARIABLE}
    env_file: [a.env]
    extra_hosts: ["somehost:162.242.195.82", "v6:::1"]
    ports:
      - "8080:80"
      - 9090
      - "5000-5002:6000-6002/udp"
      - {target: 81, published: 8181, mode: host}
    volumes:
      - data:/data
      - ext:/ext:ro
      - /abs:/abs2:ro,rslave
      - ./rel:/rel
      - /anon
      - data:/nc:nocopy
      - {type: tmpfs, target: /tmpx, tmpfs: {size: 1000000}}
      - {type: bind, source: ~/x, target: /home, read_only: true, bind: {propagation: shared}}
    networks:
      front: {aliases: [alias1]}
      back:
    dns: 8.8.8.8
    dns_search: [example.com]
    cap_add: [net_admin, ALL]
    cap_drop: [CAP_CHOWN, mknod]
    ulimits: {nofile: {soft: 10, hard: 20}, nproc: 5}
    sysctls: {net.core.somaxconn: 1024}
    healthcheck: {test: "curl x", interval: 1m30s, timeout: 10s, retries: 3, start_period: 40s}
    logging: {driver: json-file, options: {max-size: 1m, max-file: 3}}
    stop_grace_period: 1m
    stop_signal: SIGUSR1
    tty: true
    stdin_open: true
    read_only: true
    init: true
    restart: "no"
    tmpfs: /run
    depends_on: [everywhere]
    secrets:
      - sec
      - {source: also, target: other, uid: "103", gid: "103", mode: 0440}
    configs: [conf]
    deploy:
      mode: replicated
      replicas: 0
      endpoint_mode: VIP
      labels: [a=b, c]
      placement:
        constraints: [node.role == manager]
        preferences: [{spread: node.labels.zone}]
        max_replicas_per_node: 4
      update_config:
        {parallelism: 2, delay: 10s, failure_action: rollback, monitor: 5s, max_failure_ratio: 0.3, order: start-first}
      rollback_config: {parallelism: 0, order: stop-first}
      resources:
        limits: {cpus: "0.50", memory: 50M, pids: 100}
        reservations:
          cpus: "0.25"
          memory: 20M
          generic_resources: [{discrete_resource_spec: {kind: gpu, value: 2}}]
      restart_policy: {condition: on-failure, delay: 5s, max_attempts: 3, window: 120s}
  everywhere:
    image: IMAGE
    restart: always
    healthcheck: {disable: true}
    deploy: {mode: global, endpoint_mode: dnsrr}
  few:
    image: IMAGE
    restart: on-failure:5
    command: []
    entrypoint: ""
    networks: {default: }
    init: false
    stop_grace_period: 0s
    deploy: {replicas: 0, restart_policy: {delay: 0s}, resources: {limits: {}}, update_config: {parallelism: 0}}
networks:
  front:
    driver: overlay
    attachable: true
    labels: {a: b}
    driver_opts: {com.docker.network.driver.mtu: 1400}
    ipam: {driver: default, config: [{subnet: 172.28.0.0/16}]}
  back: {name: back-net, internal: true}
  unused: {}
volumes:
  data: {labels: {v: 1}, driver: local, driver_opts: {type: none}}
  ext: {external: true, name: extern}
secrets:
  sec: {file: ./sec.txt, labels: {x: yy}}
  also: {file: ./sec.txt}  # docker shuffles two mentions of one secret
configs:
  conf: {file: ./conf.txt}
  tmpl: {file: ./conf.txt, template_driver: golang, name: named-tmpl}
"""

SHOP = """
services:
  web:
    image: WEB
    environment: {WORD: "${WORD:-hello}"}
    ports: [{target: 8080, published: PORT, mode: host}]
    deploy: {mode: global, endpoint_mode: dnsrr, update_config: {parallelism: 0}}
    stop_grace_period: 1s
  back:
    image: BACK
    deploy: {endpoint_mode: dnsrr, replicas: 2, update_config: {parallelism: 0}}
    stop_grace_period: 1s
    configs: [conf]
configs:
  conf: {file: conf.txt}
"""


def docker(ship: Host, *words: str, ok: bool = True) -> Done:
    """Debian's, in the same home and with the same environment as ours."""
    return ship.run("/usr/bin/docker", *words, ok=ok)


@pytest.fixture
def home(ship: Host) -> Iterator[Host]:
    """With the files that stacks name; no stack is left."""
    (ship.home / "a.env").write_text('X=1\n# c\n\nY="q"\nHOME\nNOPE\n  Z=a b \n')
    (ship.home / "sec.txt").write_text("s3")
    (ship.home / "conf.txt").write_text("c")
    ship.env["SET_VARIABLE"] = "it is"
    yield ship
    for name in docker(ship, "stack", "ls", "--format", "{{.Name}}").out.split():
        docker(ship, "stack", "rm", name)
    until(lambda: networks(ship) == {"ingress"}, "networks to go")


def networks(ship: Host) -> set[str]:
    return set(docker(ship, "network", "ls", "--filter", "scope=swarm", "--format", "{{.Name}}").out.split())


def held(ship: Host, stack: str) -> dict[str, Any]:
    """What the engine holds of a stack, to the letter, with names in place of ids."""
    names: dict[str, str] = {}
    found: dict[str, Any] = {}
    for kind in ("network", "secret", "config"):
        listed = docker(
            ship, kind, "ls", "--format", "{{.ID}}", "--filter", f"label=com.docker.stack.namespace={stack}"
        )
        for each in json.loads(docker(ship, kind, "inspect", *listed.out.split()).out) if listed.out else ():
            name = each.get("Name") or each["Spec"]["Name"]
            names[each.get("Id") or each["ID"]] = name
            found[f"{kind} {name}"] = each.get("Spec") or _network(each)
    listed = docker(ship, "service", "ls", "-q", "--filter", f"label=com.docker.stack.namespace={stack}")
    for each in json.loads(docker(ship, "service", "inspect", *listed.out.split()).out) if listed.out else ():
        text = json.dumps(each["Spec"])
        for id, name in names.items():
            text = text.replace(id, name)
        found[f"service {each['Spec']['Name']}"] = json.loads(text)
    return found


def _network(each: dict[str, Any]) -> dict[str, Any]:
    """What somebody asked for: the rest is given out anew each time."""
    fixed = {key: each[key] for key in ("Driver", "Internal", "Attachable", "Labels", "Scope")}
    options = {key: text for key, text in each["Options"].items() if "vxlanid" not in key}
    subnets = [
        config["Subnet"] for config in each["IPAM"]["Config"] if config["Subnet"].startswith("172.28.")
    ]
    return {**fixed, "Options": options, "Subnets": subnets}


def differences(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """Where they differ, and what each has there."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        keys = {**ours, **theirs}
        return [text for key in keys for text in differences(ours.get(key), theirs.get(key), f"{path}/{key}")]
    return [] if ours == theirs else [f"{path}: {ours} != {theirs}"]


def write(ship: Host, text: str, **words: str) -> str:
    for word, value in words.items():
        text = text.replace(word, value)
    (ship.home / "stack.yaml").write_text(text)
    return "stack.yaml"


def test_the_same_as_dockers_own(home: Host, mixed: MixedSwarm) -> None:
    """Of one file, to the letter of what the engine holds afterwards; only Swarm's filter is told more."""
    file = write(home, WHOLE, IMAGE=push(home, mixed, "whole", *BOTH))
    docker(home, "stack", "deploy", "--resolve-image", "always", "-c", file, "st")
    theirs = held(home, "st")
    assert home.manyfest("deploy", "--remove", "st").out.startswith("st: removed st_")
    assert held(home, "st") == {}
    done = home.manyfest("deploy", "-f", file, "st")
    assert "st_everywhere: old: running" in done.err
    ours = held(home, "st")
    assert len(ours) == 3 + 3 + 2 + 2
    for name, spec in ours.items():
        if name.startswith("service"):
            told = spec["TaskTemplate"]["Placement"].pop("Platforms")
            plain = theirs[name]["TaskTemplate"]["Placement"].pop("Platforms")
            told_of = {(each["Architecture"], each["OS"]) for each in told}
            assert told_of >= {(each["Architecture"], each["OS"]) for each in plain} | {("i686", "linux")}
    assert differences(ours, theirs) == []
    # And it is the same again: nothing is updated, whoever made it.
    assert home.manyfest("deploy", "-f", file, "st").out.count(": unchanged, ") == 3


def test_a_stack_that_docker_made_is_taken_over(home: Host, mixed: MixedSwarm) -> None:
    """Its network is used, and its service is told of the i686 node."""
    text = 'version: "3.8"\n' + SHOP[: SHOP.index("  web:")] + SHOP[SHOP.index("  back:") :]
    file = write(home, text.lstrip(), BACK=push(home, mixed, "back", *BOTH))
    docker(home, "stack", "deploy", "-c", file, "shop")
    assert "i686" not in str(held(home, "shop")["service shop_back"])
    assert "shop_back: updated, 2 of 2 tasks run" in home.manyfest("deploy", "-f", file, "shop").out
    assert "i686" in str(held(home, "shop")["service shop_back"])


def test_a_stack_on_both_nodes(home: Host, mixed: MixedSwarm) -> None:
    """Made, unchanged, one service updated, a broken one taken back with all others, pruned, removed."""
    web, back = push(home, mixed, "web", *BOTH), push(home, mixed, "back", *BOTH)
    broken = push(home, mixed, "broken", *BOTH, broken="linux/386")
    file = write(home, SHOP, WEB=web, BACK=back, PORT=str(PORT))
    dry = home.manyfest("deploy", "-f", file, "shop", "--dry-run", "--json").json
    assert [each["action"] for each in dry["services"]] == ["create", "create"]
    assert held(home, "shop") == {}
    made = home.manyfest("deploy", "-f", file, "shop", "--json").json
    assert made["ok"] is True
    assert [(each["running"], each["expected"]) for each in made["services"]] == [(2, 2), (2, 2)]
    assert [ask(node) for node in mixed.nodes] == ["amd64 hello", "386 hello"]
    assert docker(home, "stack", "ls", "--format", "{{.Name}} {{.Services}}").out == "shop 2\n"
    assert docker(home, "stack", "services", "shop", "--format", "{{.Replicas}}").out == "2/2\n2/2\n"
    assert "Running" in docker(home, "stack", "ps", "shop").out

    tasks = {task["ID"] for task in mixed.tasks("shop_back")}
    home.env["WORD"] = "again"
    out = home.manyfest("deploy", "-f", file, "shop").out
    assert "shop_web: updated, 2 of 2" in out
    assert "shop_back: unchanged, 2 of 2" in out
    assert [ask(node) for node in mixed.nodes] == ["amd64 again", "386 again"]
    assert {task["ID"] for task in mixed.tasks("shop_back")} == tasks

    before = held(home, "shop")
    home.env["WORD"] = "never"
    more = SHOP + "  more: {file: conf.txt}\n"
    failed = home.manyfest(
        "deploy", "-f", write(home, more, WEB=web, BACK=broken, PORT=str(PORT)), "shop", ok=False
    )
    assert failed.code == 3
    assert "shop_back: a task failed\n  old: task: non-zero exit (1)" in failed.err
    assert "exec format error" in failed.err
    assert "removed again: config shop_more; as before: shop_web, shop_back" in failed.err
    assert held(home, "shop") == before
    assert [ask(node) for node in mixed.nodes] == ["amd64 again", "386 again"]

    home.env["WORD"] = "again"
    alone = SHOP[: SHOP.index("  back:")]
    pruned = home.manyfest("deploy", "-f", write(home, alone, WEB=web, PORT=str(PORT)), "shop", "--prune").out
    assert "shop_back: removed, the file does not have it" in pruned
    assert docker(home, "stack", "services", "shop", "--format", "{{.Name}}").out == "shop_web\n"
    home.manyfest("deploy", "--remove", "shop")
    assert held(home, "shop") == {}
    assert networks(home) == {"ingress"}


def test_nothing_of_a_new_stack_is_left_when_it_fails(home: Host, mixed: MixedSwarm) -> None:
    web, broken = push(home, mixed, "web", *BOTH), push(home, mixed, "broken", *BOTH, broken="linux/amd64")
    failed = home.manyfest(
        "deploy", "-f", write(home, SHOP, WEB=broken, BACK=web, PORT=str(PORT)), "shop", ok=False
    )
    assert failed.code == 3
    assert "  x86: task: non-zero exit (1)" in failed.err
    assert "removed again: shop_web, shop_back, network shop_default, config shop_conf" in failed.err
    assert held(home, "shop") == {}


def test_nodes_get_credentials_for_each_image(home: Host, mixed: MixedSwarm) -> None:
    """Those of its registry, where that refuses who has none; for others none are sent."""
    target = f"{mixed.private}/private:1"
    home.manyfest("login", mixed.private, "--username", USER, "--password-stdin", stdin=PASSWORD)
    home.manyfest("copy", mixed.layout("private", BOTH), target)
    file = write(home, SHOP, WEB=target, BACK=push(home, mixed, "back", *BOTH), PORT=str(PORT))
    done = home.manyfest("deploy", "-f", file, "shop")
    assert f"shop_web: the nodes get our credentials for {mixed.private}" in done.err
    assert "shop_back: the nodes get" not in done.err
    assert PASSWORD not in done.out + done.err
    assert [ask(node) for node in mixed.nodes] == ["amd64 hello", "386 hello"]


def test_what_would_not_run_is_refused(home: Host, mixed: MixedSwarm) -> None:
    """By file, line, column, service and node; so are contents that a swarm cannot change, before anything is."""
    lacking, web = push(home, mixed, "lacking", "linux/amd64"), push(home, mixed, "web", *BOTH)
    refused = home.manyfest(
        "deploy", "-f", write(home, SHOP, WEB=lacking, BACK=web, PORT=str(PORT)), "shop", ok=False
    )
    assert refused.code == 1
    assert f"stack.yaml:4:12: service web: {lacking} does not run on 1 of 2 nodes" in refused.err
    assert "old (i686)" in refused.err
    assert held(home, "shop") == {}
    file = write(home, SHOP + "secrets: {s: {file: sec.txt}}\n", WEB=web, BACK=lacking, PORT=str(PORT))
    assert "warning: shop_back: old is left out" in home.manyfest("deploy", "-f", file, "shop").err
    before = held(home, "shop")
    for name, code, said in (
        ("conf.txt", 1, "other contents on the swarm"),
        ("sec.txt", 3, "only updates to Labels"),
    ):
        path: Path = home.home / name
        path.write_text(f"{path.read_text()} changed")
        refused = home.manyfest("deploy", "-f", file, "shop", ok=False)
        assert (refused.code, said in refused.err) == (code, True), refused
        path.write_text(path.read_text().removesuffix(" changed"))
    assert held(home, "shop") == before
