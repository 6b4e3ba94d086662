# SPDX-License-Identifier: Apache-2.0
"""Images out of Compose files, stacks, Kubernetes objects and Dockerfiles, and what is wrong with broken ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from manyfest.coverage.sources import Options, Sources, read
from manyfest.errors import InputError, InvalidSpec


def write(folder: Path, name: str, text: str) -> str:
    """A file; its path."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def reading(folder: Path, text: str, name: str = "compose.yaml", **options: object) -> Sources:
    """What a file asks for."""
    return read([write(folder, name, text)], Options(**options))  # type: ignore[arg-type]


def images(found: Sources) -> list[str]:
    """Their names."""
    return [use.image for use in found.uses]


# Compose ------------------------------------------------------------------------------------------

COMPOSE = """\
services:
  web:
    image: ${REGISTRY:-ghcr.io}/web:$TAG
    platform: linux/arm64
  tool:
    image: tool:1
    profiles: [debug]
  built:
    build: .
  both:
    build: {context: .}
    image: both:1
"""


def test_a_compose_file(tmp_path: Path) -> None:
    """Variables, platform, profiles, build sections, and where each name is written."""
    write(tmp_path, ".env", "TAG=1\n")
    found = reading(tmp_path, COMPOSE, environment={"REGISTRY": "quay.io"})
    web, built, both = found.uses
    assert (web.image, str(web.platform), web.owner) == ("quay.io/web:1", "linux/arm64", "service web")
    assert (web.file, web.line, web.column) == (str(tmp_path / "compose.yaml"), 3, 12)
    assert (built.image, built.built, built.problem != "") == ("", True, True)
    assert (both.image, both.built, both.problem) == ("both:1", True, "")
    assert "its profile debug is off" in found.warnings[0]
    for profiles in (["debug"], ["*"]):
        assert "tool:1" in images(reading(tmp_path, COMPOSE, profiles=profiles))
    assert "tool:1" in images(reading(tmp_path, COMPOSE, environment={"COMPOSE_PROFILES": "debug"}))


def test_variables_that_are_nowhere(tmp_path: Path) -> None:
    """Empty, as Compose takes them, and said once; other files can be named."""
    found = reading(tmp_path, "services:\n  a: {image: 'a:1$X'}\n  b: {image: 'b:1$X'}\n")
    assert images(found) == ["a:1", "b:1"]
    assert [w for w in found.warnings if "the variable X is not set" in w] == list(found.warnings)
    assert len(found.warnings) == 1
    env = write(tmp_path, "other.env", "X=2")
    assert images(reading(tmp_path, "services: {a: {image: 'a:$X'}}", env_files=[env])) == ["a:2"]
    (use,) = reading(tmp_path, "services: {a: {image: '$X'}}").uses
    assert "empty once its variables" in use.problem


def test_extends_and_include(tmp_path: Path) -> None:
    """Across files, through several steps; the service's own keys win."""
    write(tmp_path, "sub/base.yaml", "services:\n  base: {image: 'base:1', platform: linux/s390x}\n")
    write(tmp_path, "more.yaml", "services: {more: {image: 'more:1'}}")
    found = reading(
        tmp_path,
        "include: [more.yaml]\nservices:\n  a:\n    extends: {file: sub/base.yaml, service: base}\n"
        "  b: {extends: a, image: 'own:1'}\n",
    )
    assert images(found) == ["more:1", "base:1", "own:1"]
    assert [str(use.platform) for use in found.uses] == ["None", "linux/s390x", "linux/s390x"]
    assert found.uses[1].file.endswith("sub/base.yaml")


def test_a_stack(tmp_path: Path) -> None:
    """Constraints and mode."""
    text = """
services:
  a:
    image: a
    deploy: {mode: global, placement: {constraints: ["node.platform.arch == x86_64", "node.role!=manager"]}}
  b: {image: b}
"""
    a, b = reading(tmp_path, text).uses
    assert [str(each) for each in a.restrictions] == ["node.platform.arch == x86_64", "node.role != manager"]
    assert (a.everywhere, b.everywhere) == (True, False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("services: [a]", ":1:11: services is a list, expected a mapping of services"),
        ("services:\n  a: x\n", ":2:6: services.a is 'x', expected a service: a mapping"),
        ("services:\n  a: {image: [x]}\n", ":2:14: services.a.image is a list, expected text"),
        ("services:\n  a: {command: x}\n", ":2:6: service a has neither image nor build"),
        ("services:\n  a: {image: 'x:${T'}\n", ":2:14: 'x:${T': a ${ without its }"),
        ("services:\n  a: {image: 'x:${T:?say which}'}\n", "the variable T is not set: say which"),
        ("services:\n  a: {image: x, platform: linux/}\n", ":2:27:"),
        ("services:\n  a: {extends: b}\n", "no service 'b' in"),
        ("services:\n  a: {extends: a}\n", "extends itself"),
        (
            "services:\n  a: {image: x, deploy: {placement: {constraints: [node.role]}}}\n",
            "expected a constraint such",
        ),
        ("include: [compose.yaml]\nservices: {a: {image: x}}", "include each other"),
        ("services:\n  a: {image: x\n", ":3:1:"),
    ],
)
def test_broken_compose_files(tmp_path: Path, text: str, message: str) -> None:
    """File, line, column, and what was expected."""
    with pytest.raises(InvalidSpec) as caught:
        reading(tmp_path, text)
    assert "compose.yaml" in str(caught.value)
    assert message in str(caught.value)


# Kubernetes ---------------------------------------------------------------------------------------

POD = "{containers: [{name: c, image: 'c:1'}]}"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("Pod", f"spec: {POD}"),
        ("Deployment", f"spec: {{template: {{spec: {POD}}}}}"),
        ("DaemonSet", f"spec: {{template: {{spec: {POD}}}}}"),
        ("StatefulSet", f"spec: {{template: {{spec: {POD}}}}}"),
        ("ReplicaSet", f"spec: {{template: {{spec: {POD}}}}}"),
        ("ReplicationController", f"spec: {{template: {{spec: {POD}}}}}"),
        ("Job", f"spec: {{template: {{spec: {POD}}}}}"),
        ("CronJob", f"spec: {{jobTemplate: {{spec: {{template: {{spec: {POD}}}}}}}}}"),
        ("PodTemplate", f"template: {{spec: {POD}}}"),
        ("Rollout", f"spec: {{template: {{spec: {POD}}}}}"),
    ],
)
def test_every_kind_with_a_pod(tmp_path: Path, kind: str, body: str) -> None:
    """Also inside a List, and kinds that nobody here knows."""
    text = f"apiVersion: v1\nkind: {kind}\nmetadata: {{name: n}}\n{body}\n"
    (use,) = reading(tmp_path, text, "x.yaml").uses
    assert (use.image, use.owner, use.kind) == ("c:1", f"{kind} n, container c", "kubernetes")
    indented = text.replace("\n", "\n  ").rstrip()
    assert images(reading(tmp_path, f"apiVersion: v1\nkind: List\nitems:\n- {indented}\n", "l.yaml")) == [
        "c:1"
    ]


def test_all_containers_and_restrictions(tmp_path: Path) -> None:
    """Init and ephemeral ones; selector, affinity, system, node; tolerations are noted."""
    text = """\
# Source: chart/templates/a.yaml
apiVersion: v1
kind: ConfigMap
metadata: {name: cm}
---
---
apiVersion: v1
kind: Pod
metadata: {generateName: p-}
spec:
  os: {name: linux}
  nodeName: n1
  nodeSelector: {kubernetes.io/arch: arm64}
  tolerations: [{key: arch, operator: Exists}, {operator: Exists}]
  affinity:
    nodeAffinity:
      requiredDuringSchedulingIgnoredDuringExecution:
        nodeSelectorTerms:
        - matchExpressions: [{key: kubernetes.io/arch, operator: In, values: [arm64, amd64]}]
          matchFields: [{key: metadata.name, operator: In, values: [n1]}]
  initContainers: [{name: i, image: i}]
  containers: [{name: c, image: c}, {name: none}]
  ephemeralContainers: [{name: e, image: e}]
"""
    found = reading(tmp_path, text, "x.yaml")
    assert images(found) == ["i", "c", "", "e"]
    assert found.uses[2].problem == "it names no image"
    assert found.uses[0].owner == "Pod p-, init container i"
    assert len(found.uses[0].restrictions) == 4
    assert found.uses[0].notes == ("tolerates arch, every taint: taints are not looked at",)
    nothing = reading(tmp_path, text.partition("---")[0], "x.yaml")
    assert nothing.uses == ()
    assert "nothing in it runs an image: ConfigMap" in nothing.warnings[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\n", ":1:1: neither a Compose file"),
        ("- 1\n", ":1:1: neither"),
        ("apiVersion: v1\nkind: Deployment\nspec: {}\n", ":1:1: a Deployment without spec.template.spec"),
        (
            "apiVersion: v1\nkind: Pod\nspec: {containers: {a: 1}}\n",
            "spec.containers is a mapping, expected a list",
        ),
        ("apiVersion: v1\nkind: Pod\nspec: {containers: [{image: [1]}]}\n", ":3:29:"),
        (
            "apiVersion: v1\nkind: Pod\nspec:\n  affinity: {nodeAffinity: "
            "{requiredDuringSchedulingIgnoredDuringExecution: "
            "{nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Is}]}]}}}\n",
            "operator 'Is'",
        ),
        ("{{ if .Values.x }}\na: 1\n", "x.yaml:1:"),
    ],
)
def test_broken_kubernetes_files(tmp_path: Path, text: str, message: str) -> None:
    """Templates that nobody rendered among them."""
    with pytest.raises(InvalidSpec) as caught:
        reading(tmp_path, text, "x.yaml")
    assert message in str(caught.value)


# Dockerfiles --------------------------------------------------------------------------------------

DOCKERFILE = """\
# syntax=docker/dockerfile:1
# a comment
ARG BASE=debian
ARG TAG=${BASE}-12
arg GIVEN
FROM --platform=$BUILDPLATFORM golang:1.24 AS build
RUN <<EOT
FROM not-a-base
EOT
RUN echo \\
  # a comment in between
  FROM neither
FROM --platform=linux/arm64 ${BASE}:${TAG}
FROM build AS again
FROM scratch
FROM ${GIVEN}
FROM app-${TARGETARCH}:1
"""


def test_a_dockerfile(tmp_path: Path) -> None:
    """Arguments, platforms, stages, here-documents."""
    golang, debian, given, arch = reading(tmp_path, DOCKERFILE, "Dockerfile").uses
    assert (golang.image, golang.platform, golang.line) == ("golang:1.24", None, 6)
    assert "the machine that builds" in golang.notes[0]
    assert (debian.image, str(debian.platform), debian.line) == ("debian:debian-12", "linux/arm64", 13)
    assert "give one with --build-arg" in given.problem
    assert "differs by platform" in arch.problem
    filled = reading(tmp_path, DOCKERFILE, "Dockerfile.arm64", arguments={"GIVEN": "x:1", "BASE": "ubuntu"})
    assert images(filled) == ["golang:1.24", "ubuntu:ubuntu-12", "x:1", ""]


def test_a_dockerfile_is_told_by_its_content(tmp_path: Path) -> None:
    """Whatever it is called; the escape character may be another."""
    assert images(reading(tmp_path, "# c\n\nFROM a\n", "build-me")) == ["a"]
    text = "# escape=`\nFROM a `\n  AS b\nRUN c:\\\nFROM d\n"
    assert images(reading(tmp_path, text, "x.Dockerfile")) == ["a", "d"]
    # Only a line feed ends a line, as for an engine.
    found = reading(tmp_path, "RUN a\vFROM b\fFROM c\r\nFROM d\r\n", "Dockerfile").uses
    assert [(use.image, use.line) for use in found] == [("d", 2)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("RUN x\n", "no FROM"),
        ("FROM\n", "Dockerfile:1:5: expected FROM"),
        ("FROM a b\n", "expected FROM"),
        ("FROM 'a\n", "No closing quotation"),
        ("FROM --platform=linux/ a\n", "--platform"),
        ("FROM ${A\n", "without its }"),
    ],
)
def test_broken_dockerfiles(tmp_path: Path, text: str, message: str) -> None:
    """With the line."""
    with pytest.raises(InvalidSpec) as caught:
        reading(tmp_path, text, "Dockerfile")
    assert message in str(caught.value)


# Words --------------------------------------------------------------------------------------------


def test_words_are_files_or_images(tmp_path: Path) -> None:
    """A file that is not there is not an image."""
    found = read([write(tmp_path, "a.yaml", "services: {a: {image: b}}"), "oci:x:1", "debian:12"])
    assert [(use.image, use.kind) for use in found.uses] == [
        ("b", "compose"),
        ("oci:x:1", "image"),
        ("debian:12", "image"),
    ]
    for word in ("nothing.yaml", "./x", str(tmp_path)):
        with pytest.raises(InputError, match=r"no such file|a folder"):
            read([word])
    with pytest.raises(InputError, match="empty"):
        read([write(tmp_path, "e.yaml", "")])
    (tmp_path / "Dockerfile").write_bytes(b"FROM \xff")
    with pytest.raises(InvalidSpec, match="not UTF-8"):
        read([str(tmp_path / "Dockerfile")])


def test_a_continuation_of_nothing(tmp_path: Path) -> None:
    """A line that only continues, and an empty one, are no instruction; they ended the command with a traceback."""
    path = tmp_path / "Dockerfile"
    path.write_text("FROM alpine:3\n\\\n\nRUN true\n")
    assert [use.image for use in read([str(path)]).uses] == ["alpine:3"]
