# SPDX-License-Identifier: Apache-2.0
"""Stack files become specifications; the real docker's are compared in tests/real/test_deploy_stack.py."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from manyfest.deploy.renewal import RENEWED
from manyfest.deploy.stack.compare import same
from manyfest.deploy.stack.environment import read_variables
from manyfest.deploy.stack.file import Stack, read
from manyfest.errors import InputError, InvalidSpec


def stack_of(folder: Path, text: str, name: str = "st", **variables: str) -> tuple[Stack, list[str]]:
    """The stack, and what was warned of."""
    (folder / "s.yaml").write_text(text)
    warnings: list[str] = []
    return read(str(folder / "s.yaml"), name, variables, warnings.append), warnings


def service(folder: Path, yaml: str, more: str = "", **variables: str) -> dict[str, Any]:
    """The spec of one service whose keys are given, as one line of flow YAML without its braces."""
    text = f"services:\n  web: {{image: a/b:1, {yaml}}}\n{more}"
    return stack_of(folder, text, **variables)[0].services[0].spec


def container(folder: Path, yaml: str, more: str = "", **variables: str) -> dict[str, Any]:
    found: dict[str, Any] = service(folder, yaml, more, **variables)["TaskTemplate"]["ContainerSpec"]
    return found


def test_the_least(tmp_path: Path) -> None:
    """What is not said is left to the engine; the labels are those that docker's commands look for."""
    stack, warnings = stack_of(tmp_path, "services:\n  web:\n    image: a/b:1\n")
    assert warnings == []
    (made,) = stack.services
    assert made.spec == {
        "Name": "st_web",
        "Labels": {"com.docker.stack.namespace": "st", "com.docker.stack.image": "a/b:1"},
        "TaskTemplate": {
            "ContainerSpec": {
                "Image": "a/b:1",
                "Labels": {"com.docker.stack.namespace": "st"},
                "Privileges": {"CredentialSpec": None, "SELinuxContext": None},
            },
            "Networks": [{"Target": "st_default", "Aliases": ["web"]}],
        },
        "Mode": {"Replicated": {"Replicas": 1}},
        "EndpointSpec": {},
    }
    (network,) = stack.parts
    assert (network.kind, network.name) == ("networks", "st_default")
    assert made.where.endswith("s.yaml:3:12")


def test_the_name_is_the_files(tmp_path: Path) -> None:
    """Unless the command says another."""
    text = "name: shop\nservices: {web: {image: a}}\n"
    assert stack_of(tmp_path, text, "")[0].name == "shop"
    assert stack_of(tmp_path, text, "st")[0].name == "st"


@pytest.mark.parametrize(
    ("yaml", "ports"),
    [
        ("'8080:80'", [(8080, 80, "tcp", "ingress")]),
        ("9090", [(None, 9090, "tcp", "ingress")]),
        ("22:22", [(22, 22, "tcp", "ingress")]),
        ("'5001-5002:6001-6002/udp'", [(5001, 6001, "udp", "ingress"), (5002, 6002, "udp", "ingress")]),
        ("'81-82:80'", [(81, 80, "tcp", "ingress"), (82, 80, "tcp", "ingress")]),
        ("'1.2.3.4:80:81'", [(80, 81, "tcp", "ingress")]),
        ("{target: 80, published: 8080, mode: host}", [(8080, 80, "tcp", "host")]),
        ("'9:9', '8:8'", [(8, 8, "tcp", "ingress"), (9, 9, "tcp", "ingress")]),
    ],
)
def test_ports(tmp_path: Path, yaml: str, ports: list[tuple[Any, ...]]) -> None:
    found = service(tmp_path, f"ports: [{yaml}]")["EndpointSpec"]["Ports"]
    keys = ("PublishedPort", "TargetPort", "Protocol", "PublishMode")
    assert [tuple(port.get(key) for key in keys) for port in found] == ports


@pytest.mark.parametrize(
    ("yaml", "mount"),
    [
        ("/anon", {"Type": "volume", "Target": "/anon"}),
        ("/a:/b:ro", {"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": True}),
        (
            "'/a:/b:ro,rslave'",
            {
                "Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": True,
                "BindOptions": {"Propagation": "rslave"},
            },
        ),
        ("'v:/a'", {"Type": "volume", "Target": "v:/a"}),
        ("'c:/a:d:/b'", {"Type": "bind", "Source": "c:/a", "Target": "d:/b"}),
        ("./a:/b", {"Type": "bind", "Source": "{folder}/a", "Target": "/b"}),
        ("~/a:/b", {"Type": "bind", "Source": "/home/me/a", "Target": "/b"}),
        ("ext:/b:nocopy", {"Type": "volume", "Source": "outer", "Target": "/b", "VolumeOptions": {"NoCopy": True}}),
        (
            "data:/b",
            {
                "Type": "volume", "Source": "st_data", "Target": "/b",
                "VolumeOptions": {
                    "Labels": {"com.docker.stack.namespace": "st"},
                    "DriverConfig": {"Name": "nfs", "Options": {"o": "1"}},
                },
            },
        ),
        (
            "{type: tmpfs, target: /t, tmpfs: {size: 1k}}",
            {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1024}},
        ),
    ],
)  # fmt: skip
def test_volumes(tmp_path: Path, yaml: str, mount: dict[str, Any]) -> None:
    more = "volumes: {data: {driver: nfs, driver_opts: {o: 1}}, ext: {external: true, name: outer}}"
    if "Source" in mount:
        mount = {**mount, "Source": mount["Source"].format(folder=tmp_path)}
    assert container(tmp_path, f"volumes: [{yaml}]", more, HOME="/home/me")["Mounts"] == [mount]


def test_environment(tmp_path: Path) -> None:
    """Files first, then the service's own; what has no value, or an empty one, gets ours."""
    (tmp_path / "a.env").write_text('\ufeffX=1\n# no\n\nY="q"\nHOME\nNOPE\n  Z=a b \nA=file\n')
    found = container(
        tmp_path, "env_file: a.env, environment: {A: 1.10, HOME: , E: '', U: , T: 22:22}", HOME="/h", E="e"
    )
    assert found["Env"] == ["A=1.1", "E=e", "HOME=/h", "T=22:22", "U", "X=1", 'Y="q"', "Z=a b "]


@pytest.mark.parametrize("line", ["=x", "A B=x", "A =x"])
def test_lines_that_are_no_variables(line: str) -> None:
    with pytest.raises(InputError, match="line 1"):
        read_variables(line, {})


def test_secrets_and_configs(tmp_path: Path) -> None:
    """Read now, named for the stack, and where a service wants them."""
    (tmp_path / "s").write_bytes(b"hidden")
    more = "secrets: {s: {file: s}, e: {external: true, name: outer}}\nconfigs: {c: {file: s, template_driver: golang}}"
    text = "secrets: [{source: s, target: t, uid: '5', mode: 0400}, e], configs: [c]"
    stack, _ = stack_of(tmp_path, f"services:\n  web: {{image: a, {text}}}\n{more}\n")
    parts = {(part.kind, part.name): part.spec for part in stack.parts}
    assert parts["secrets", "outer"] is None
    made = parts["secrets", "st_s"]
    assert made is not None
    assert base64.b64decode(made["Data"]) == b"hidden"
    config = parts["configs", "st_c"]
    assert config is not None
    assert config["Templating"] == {"Name": "golang"}
    found = stack.services[0].spec["TaskTemplate"]["ContainerSpec"]
    assert found["Secrets"] == [
        {"SecretName": "outer", "File": {"Name": "e", "UID": "0", "GID": "0", "Mode": 0o444}},
        {"SecretName": "st_s", "File": {"Name": "t", "UID": "5", "GID": "0", "Mode": 0o400}},
    ]
    assert "hidden" not in repr(stack)
    assert "aGlkZGVu" not in repr(stack)


@pytest.mark.parametrize(
    ("yaml", "policy"),
    [
        ("restart: always", {"Condition": "any"}),
        ("restart: unless-stopped", {"Condition": "any"}),
        ("restart: on-failure:5", {"Condition": "on-failure", "MaxAttempts": 5}),
        ("restart: 'no'", None),
        ("deploy: {restart_policy: {condition: none, delay: 5s}}", {"Condition": "none", "Delay": 5 * 10**9}),
    ],
)
def test_restarting(tmp_path: Path, yaml: str, policy: dict[str, Any] | None) -> None:
    assert service(tmp_path, yaml)["TaskTemplate"].get("RestartPolicy") == policy


def test_how_it_is_deployed(tmp_path: Path) -> None:
    made = service(
        tmp_path,
        "deploy: {mode: global, endpoint_mode: DNSRR, labels: [a=b], update_config: {parallelism: 0, delay: 1s, order: "
        "start-first, max_failure_ratio: 0.3}, resources: {limits: {cpus: '0.5', memory: 1m, pids: 3}, reservations: "
        "{generic_resources: [{discrete_resource_spec: {kind: gpu, value: 2}}]}}, placement: {constraints: "
        "[node.role==worker], preferences: [{spread: node.labels.zone}], max_replicas_per_node: 2}}",
    )
    assert made["Mode"] == {"Global": {}}
    assert made["EndpointSpec"] == {"Mode": "dnsrr"}
    assert made["Labels"]["a"] == "b"
    assert made["UpdateConfig"] == {
        "Parallelism": 0, "Delay": 10**9, "Order": "start-first", "MaxFailureRatio": 0.3,
    }  # fmt: skip
    template = made["TaskTemplate"]
    assert template["Placement"] == {
        "Constraints": ["node.role==worker"],
        "Preferences": [{"Spread": {"SpreadDescriptor": "node.labels.zone"}}],
        "MaxReplicas": 2,
    }
    assert template["Resources"]["Limits"] == {"NanoCPUs": 5 * 10**8, "MemoryBytes": 1 << 20, "Pids": 3}


@pytest.mark.parametrize(
    ("yaml", "key", "value"),
    [
        ("stop_grace_period: 0s", "StopGracePeriod", 0),
        ("init: false", "Init", False),
        ("extra_hosts: {b: 1.2.3.4, a: '::1'}", "Hosts", ["::1 a", "1.2.3.4 b"]),
        ("dns: [1.1.1.1], dns_search: x", "DNSConfig", {"Nameservers": ["1.1.1.1"], "Search": ["x"]}),
        ("cap_add: [net_admin], cap_drop: [ALL]", "CapabilityDrop", ["ALL"]),
        ("cap_add: [sys_time], cap_drop: [CAP_SYS_TIME, mknod]", "CapabilityDrop", ["CAP_MKNOD"]),
        ("ulimits: {b: 1, a: {soft: 1, hard: 2}}", "Ulimits",
         [{"Name": "a", "Soft": 1, "Hard": 2}, {"Name": "b", "Soft": 1, "Hard": 1}]),
        ("sysctls: [a=1, b]", "Sysctls", {"a": "1", "b": ""}),
        ("healthcheck: {disable: yes}", "Healthcheck", {"Test": ["NONE"]}),
        ("healthcheck: {test: [CMD, x], retries: 2}", "Healthcheck", {"Test": ["CMD", "x"], "Retries": 2}),
        ("credential_spec: {registry: x}", "Privileges",
         {"CredentialSpec": {"Registry": "x"}, "SELinuxContext": None}),
        ("volumes: [{type: volume, target: /v}]", "Mounts", [{"Type": "volume", "Target": "/v"}]),
        ("volumes: [{type: bind, source: /a, target: /b, consistency: cached, bind: {propagation: shared}}]", "Mounts",
         [{"Type": "bind", "Target": "/b", "Source": "/a", "Consistency": "cached",
           "BindOptions": {"Propagation": "shared"}}]),
    ],
)  # fmt: skip
def test_containers(tmp_path: Path, yaml: str, key: str, value: object) -> None:
    assert container(tmp_path, yaml)[key] == value


def test_networks(tmp_path: Path) -> None:
    """Aliases are added to the service's own name; addresses are nothing that Swarm gives."""
    text = (
        "services: {web: {image: a, networks: {out: {aliases: [x], ipv4_address: 1.2.3.4}, h: }}}\n"
        "networks: {out: {driver: o, driver_opts: {m: 1}, internal: true, ipam: {config: [{subnet: 10.0.0.0/24}]}, "
        "labels: [a=b]}, h: {external: {name: host}}}\n"
    )
    stack, warnings = stack_of(tmp_path, text)
    assert stack.services[0].spec["TaskTemplate"]["Networks"] == [
        {"Target": "host"},
        {"Target": "st_out", "Aliases": ["x", "web"]},
    ]
    assert "ipv4_address is left out" in warnings[0]
    assert [(part.name, part.spec) for part in stack.parts] == [
        (
            "st_out",
            {
                "Labels": {"a": "b", "com.docker.stack.namespace": "st"},
                "Driver": "o",
                "Options": {"m": "1"},
                "Internal": True,
                "IPAM": {"Driver": "default", "Config": [{"Subnet": "10.0.0.0/24"}]},
            },
        ),
        ("host", None),
    ]


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    text = (
        "services:\n  web: {image: a, build: ., container_name: x, tmpfs: /run, depends_on: [a], x-mine: 1}\n"
    )
    _, warnings = stack_of(tmp_path, text)
    assert [warning.partition(": ")[2].partition(" of ")[0] for warning in warnings] == [
        "build", "container_name", "depends_on", "tmpfs",
    ]  # fmt: skip


def test_anchors_and_extensions(tmp_path: Path) -> None:
    text = "x-base: &base {labels: {a: b}}\nservices:\n  web:\n    <<: *base\n    image: a\n"
    made = stack_of(tmp_path, text)[0].services[0].spec
    assert made["TaskTemplate"]["ContainerSpec"]["Labels"]["a"] == "b"


@pytest.mark.parametrize(
    ("text", "at", "said"),
    [
        ("services: {web: {image: a, bogus: 1}}", "1:35", "unknown key 'bogus'"),
        ("services: {web: {image: a, enviroment: {}}}", "1:40", "unknown key 'enviroment'"),
        ("services: {web: {image: a, mem_limit: 1g}}", "1:39", "not of version 3"),
        ("services: {web: {hostname: a}}", "1:17", "has no image"),
        ("services: {web: {image: a, networks: [nope]}}", "1:38", "no network 'nope'"),
        ("services: {web: {image: a, volumes: ['nope:/x']}}", "1:38", "no volume 'nope'"),
        ("services: {web: {image: a, secrets: [nope]}}", "1:38", "no secret 'nope'"),
        ("services: {web: {image: a, restart: no}}", "1:37", "put no in quotes"),
        ("services: {web: {image: a, restart: sometimes}}", "1:37", "on-failure[:TIMES]"),
        ("services: {web: {image: a, deploy: {mode: global, replicas: 2}}}", "1:61", "no replicas"),
        (
            "services: {web: {image: a, deploy: {mode: replicated-job}}}",
            "1:43",
            "expected replicated or global",
        ),
        (
            "services: {web: {image: a, deploy: {placement: {constraints: [zone]}}}}",
            "1:63",
            "expected a constraint",
        ),
        ("services: {web: {image: a, ports: ['x']}}", "1:36", "expected a port"),
        ("services: {web: {image: a, ports: ['1-2:3-5']}}", "1:36", "as many ports outside as inside"),
        ("services: {web: {image: a, ports: ['80:80', '80:81']}}", "1:35", "published twice"),
        (
            "services: {web: {image: a, ports: ['80:80'], deploy: {endpoint_mode: dnsrr}}}",
            "1:35",
            "host mode only",
        ),
        ("services: {web: {image: a, env_file: nope.env}}", "1:38", "No such file"),
        ("services: {web: {image: a, healthcheck: {interval: 5}}}", "1:52", "expected a duration"),
        ("services: {web: {image: a, healthcheck: {disable: true, test: x}}}", "1:51", "do not go together"),
        ("services: {web: {image: a, stop_grace_period: soon}}", "1:47", "expected a duration"),
        ("services: {web: {image: '${A:?say it}'}}", "1:25", "say it"),
        ("services: {web: image}", "1:17", "expected a service"),
        ("services: []", "1:11", "expected a mapping of services"),
        ("services: {}", "1:1", "no services"),
        ("version: '2.4'\nservices: {web: {image: a}}", "1:10", "expected 3 or 3.x"),
        ("services: {web: {image: a, volumes: [{type: odd, target: /a}]}}", "1:45", "one of volume"),
        ("services: {web: {image: a, volumes: [{type: bind, target: /a}]}}", "1:38", "without source"),
        ("services: {web: {image: a, volumes: [{type: volume}]}}", "1:38", "without target"),
        ("services: {web: {image: a, volumes: [{type: tmpfs, target: /a, source: b}]}}", "1:38", "no source"),
        (
            "services: {web: {image: a, volumes: [{type: tmpfs, target: /a, bind: {}}]}}",
            "1:70",
            "do not go with",
        ),
        ("services: {web: {image: a, volumes: [{kind: bind}]}}", "1:45", "unknown key"),
        ("services: {web: {image: a, volumes: ['aa:/b:ro:x']}}", "1:38", "a volume such as"),
        ("services: {web: {image: a, ports: [{target: 0}]}}", "1:36", "target from 1 to 65535"),
        ("services: {web: {image: a, ports: [{target: 1, mode: odd}]}}", "1:54", "one of ingress, host"),
        ("services: {web: {image: a, ports: [{target: 1, protocol: odd}]}}", "1:58", "one of tcp"),
        ("services: {web: {image: a, ports: [{to: 1}]}}", "1:41", "unknown key"),
        ("services: {web: {image: a, ulimits: {a: {soft: 1}}}}", "1:41", "soft and hard"),
        ("services: {web: {image: a, extra_hosts: [a]}}", "1:41", "NAME:ADDRESS"),
        ("services: {web: {image: a, deploy: {update_config: {order: odd}}}}", "1:60", "start-first"),
        (
            "services: {web: {image: a, deploy: {update_config: {failure_action: x}}}}",
            "1:69",
            "pause, continue",
        ),
        (
            "services: {web: {image: a, deploy: {update_config: {max_failure_ratio: 2}}}}",
            "1:72",
            "from 0 to 1",
        ),
        (
            "services: {web: {image: a, deploy: {restart_policy: {condition: odd}}}}",
            "1:65",
            "none, on-failure or any",
        ),
        ("services: {web: {image: a, deploy: {endpoint_mode: odd}}}", "1:52", "vip or dnsrr"),
        ("services: {web: {image: a}}\nsecrets: {s: {file: nope}}", "2:21", "No such file"),
        ("services: {web: {image: a}}\nsecrets: {s: {}}", "2:14", "neither file nor external"),
        ("services:\n  web: {image: a\n", "3:1", ""),
        ("services: {'a b': {image: a}}", "1:19", "is no service name"),
        ("volumes: {v: {drivr: x}}\nservices: {web: {image: a}}", "1:22", "unknown key 'drivr'"),
    ],
)
def test_wrong_files_say_where(tmp_path: Path, text: str, at: str, said: str) -> None:
    with pytest.raises(InvalidSpec) as raised:
        stack_of(tmp_path, text)
    assert f"s.yaml:{at}: " in str(raised.value)
    assert said in str(raised.value)


def test_a_typo_is_recognised(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec) as raised:
        stack_of(tmp_path, "services: {web: {image: a, enviroment: {}}}")
    assert raised.value.hint == "did you mean environment?"


def test_no_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidSpec, match="what shall the stack be called"):
        stack_of(tmp_path, "services: {web: {image: a}}", "")


def test_what_engines_fill_in_is_no_change() -> None:
    """As an Engine 20.10 shows a service of which little was said; numbers of tasks and forced updates count or not."""
    said = {
        "Name": "a",
        "TaskTemplate": {"ContainerSpec": {"Image": "a"}, "ForceUpdate": 3},
        "Mode": {"Replicated": {"Replicas": 0}},
        "UpdateConfig": {"Parallelism": 1},
    }
    shown = {
        "Name": "a",
        "Labels": {},
        "TaskTemplate": {
            "ContainerSpec": {
                "Image": "a",
                "Privileges": {"CredentialSpec": None, "SELinuxContext": None},
                "StopGracePeriod": 10_000_000_000,
                "DNSConfig": {},
                "Isolation": "default",
            },
            "Resources": {},
            "RestartPolicy": {"Condition": "any", "Delay": 5_000_000_000, "MaxAttempts": 0},
            "Placement": {},
            "ForceUpdate": 7,
            "Runtime": "container",
        },
        "Mode": {"Replicated": {"Replicas": 0}},
        "EndpointSpec": {"Mode": "vip"},
    }
    assert same(said, shown)
    assert not same(said, {**shown, "Mode": {"Replicated": {}}})
    assert not same(said, {**shown, "Labels": {"a": ""}})
    assert same(said, {**shown, "Labels": {RENEWED: "7"}})
    two = [{"SecretID": "1", "File": {"Name": "a"}}, {"SecretID": "1", "File": {"Name": "b"}}]
    one_way, other = ({"ContainerSpec": {"Image": "a", "Secrets": each}} for each in (two, two[::-1]))
    assert same({**said, "TaskTemplate": one_way}, {**shown, "TaskTemplate": other})
    assert not same(said, {**shown, "TaskTemplate": one_way})
    at_once = {"ContainerSpec": {"Image": "a", "StopGracePeriod": 0}}
    assert not same(said, {**shown, "TaskTemplate": at_once})
    assert not same(
        said, {**shown, "TaskTemplate": {"ContainerSpec": {"Image": "a"}, "RestartPolicy": {"Delay": 0}}}
    )
    assert not same(said, {**shown, "Mode": {"Global": {}}})
    assert not same(said, {**shown, "UpdateConfig": {"Parallelism": 0}})
    assert not same(said, {**shown, "TaskTemplate": {"ContainerSpec": {"Image": "b"}}})
