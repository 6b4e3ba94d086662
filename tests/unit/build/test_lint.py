# SPDX-License-Identifier: Apache-2.0
"""Lint: one small file per fault, the fixed line, and files that are right."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from manyfest.build.lint import RULES, inspect_tree
from manyfest.errors import InvalidProject


def lint(folder: Path, name: str, text: str) -> list[tuple[str, int, str]]:
    """(rule, line, fixed line) of every finding in a project of one file."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return [(f.rule.name, f.line, f.fixed) for f in inspect_tree(str(folder))]


DOCKERFILES = {
    "out of scope": (
        """\
        ARG TARGETARCH
        FROM alpine
        RUN wget https://example.com/tool-${TARGETARCH}.tgz
        """,
        [
            (
                "platform-arg-out-of-scope",
                3,
                "ARG TARGETARCH\nRUN wget https://example.com/tool-${TARGETARCH}.tgz",
            )
        ],
    ),
    "declared in another stage only": (
        """\
        FROM golang AS build
        ARG TARGETARCH
        RUN GOARCH=$TARGETARCH go build
        FROM alpine
        COPY app-$TARGETARCH /app
        """,
        [("platform-arg-out-of-scope", 5, "ARG TARGETARCH\nCOPY app-$TARGETARCH /app")],
    ),
    "a default": (
        "FROM alpine\nARG TARGETARCH=amd64\n",
        [("platform-arg-default", 2, "ARG TARGETARCH")],
    ),
    "final stage on the build platform": (
        "FROM --platform=$BUILDPLATFORM golang AS build\nFROM --platform=${BUILDPLATFORM} alpine\n",
        [("build-platform-final-stage", 2, "FROM alpine")],
    ),
    "constant platform": (
        "FROM --platform=linux/amd64 alpine\n",
        [("constant-platform", 1, "FROM alpine")],
    ),
    "download": (
        "FROM alpine\nRUN curl -fsSLO https://example.com/v1/tool_linux_amd64.tar.gz\n",
        [
            (
                "one-arch-download",
                2,
                "ARG TARGETARCH\nRUN curl -fsSLO https://example.com/v1/tool_linux_${TARGETARCH}.tar.gz",
            )
        ],
    ),
    "download in a continued line": (
        "FROM alpine\nRUN apk add curl && \\\n    curl -O https://example.com/tool-x86_64.tgz\n",
        [("one-arch-download", 3, "    curl -O https://example.com/tool-$(uname -m).tgz")],
    ),
    "added from a URL": (
        "FROM alpine\nADD https://example.com/s6-aarch64.tar.xz /tmp/\n",
        [("one-arch-download", 2, "")],
    ),
    "constant GOARCH": (
        "FROM golang\nENV CGO_ENABLED=0\nRUN GOOS=linux GOARCH=amd64 go build -o /app\n",
        [("constant-goarch", 3, "ARG TARGETARCH\nRUN GOOS=linux GOARCH=$TARGETARCH go build -o /app")],
    ),
    "base of one architecture": (
        "FROM arm64v8/alpine:3.20\n",
        [("one-arch-base", 1, "FROM alpine:3.20")],
    ),
    "uname for Go": (
        "FROM golang\nRUN GOARCH=$(uname -m) go build\n",
        [("uname-as-goarch", 2, "ARG TARGETARCH\nRUN GOARCH=$TARGETARCH go build")],
    ),
    "multiarch folder": (
        "FROM debian AS a\nFROM scratch\nCOPY --from=a /lib/x86_64-linux-gnu/libz.so.1 /lib/\n",
        [("constant-multiarch-path", 3, "COPY --from=a /lib/*-linux-gnu*/libz.so.1 /lib/")],
    ),
    "multiarch folder in a variable": (
        "FROM debian\nENV LD_PRELOAD=/usr/lib/x86_64-linux-gnu/libjemalloc.so.2\n",
        [("constant-multiarch-path", 2, "")],
    ),
    "download declared, and quoted so that nothing is expanded": (
        "FROM alpine\nARG TARGETARCH\nRUN curl -O https://example.com/x-arm64\nRUN curl -O 'https://example.com/x-arm64'\n",
        [
            ("one-arch-download", 3, "RUN curl -O https://example.com/x-${TARGETARCH}"),
            ("one-arch-download", 4, ""),
        ],
    ),
    "apt source": (
        'FROM debian\nRUN echo "deb [arch=amd64] https://example.com/debian stable main"'
        " > /etc/apt/sources.list.d/x.list\n",
        [
            (
                "constant-apt-arch",
                2,
                'RUN echo "deb [arch=$(dpkg --print-architecture)] https://example.com/debian stable main"'
                " > /etc/apt/sources.list.d/x.list",
            )
        ],
    ),
    "a Java home": (
        "FROM debian\nENV JAVA_HOME=/usr/lib/jvm/java-17-openjdk-amd64\n"
        "RUN JAVA_HOME=/usr/lib/jvm/java-17-openjdk-amd64 make\n"
        "FROM scratch\nCOPY --from=0 /usr/lib/jvm/java-17-openjdk-amd64/ /jre/\n",
        [
            ("constant-multiarch-path", 2, ""),
            (
                "constant-multiarch-path",
                3,
                "RUN JAVA_HOME=/usr/lib/jvm/java-17-openjdk-$(dpkg --print-architecture) make",
            ),
            ("constant-multiarch-path", 5, "COPY --from=0 /usr/lib/jvm/java-17-openjdk-*/ /jre/"),
        ],
    ),
    "packages of one architecture": (
        "FROM debian\nRUN apt-get update && apt-get install -y \\\n    libc6:amd64 zlib1g:amd64=1:1.2 \\\n    curl\n",
        [("constant-apt-arch", 3, "    libc6 zlib1g=1:1.2 \\")],
    ),
    "the builder's own processor": (
        "FROM gcc\nRUN cc -O2 -march=native -o app app.c\n",
        [("builders-own-cpu", 2, "RUN cc -O2 -o app app.c")],
    ),
}

RIGHT = {
    "the usual cross-compiling file": """\
        # syntax=docker/dockerfile:1
        FROM --platform=$BUILDPLATFORM golang:1 AS build
        ARG TARGETOS TARGETARCH
        RUN GOOS=$TARGETOS GOARCH=$TARGETARCH go build -o /app .
        FROM alpine
        COPY --from=build /app /app
        """,
    "a case for every architecture": """\
        FROM alpine
        ARG TARGETARCH
        RUN case "$TARGETARCH" in \\
              amd64) curl -O https://example.com/tool-x86_64.tgz ;; \\
              arm64) curl -O https://example.com/tool-aarch64.tgz ;; \\
            esac
        """,
    "a variable in the URL": "FROM alpine\nARG TARGETARCH\nRUN curl -O https://example.com/amd64/x-$TARGETARCH.tgz\n",
    "a comment": "FROM alpine\n# GOARCH=amd64 https://example.com/tool-amd64.tgz\nRUN true\n",
    "a label": 'FROM alpine\nLABEL url="https://example.com/tool-amd64.tgz"\n',
    "a stage for every architecture": """\
        FROM alpine AS base-amd64
        ADD https://example.com/tool-x86_64.tgz /tool.tgz
        FROM alpine AS base-arm64
        ADD https://example.com/tool-arm64.tgz /tool.tgz
        FROM base-${TARGETARCH}
        """,
    "an apt source for several": 'FROM debian\nRUN echo "deb [arch=amd64,arm64] http://example.com x main" > /x.list\n',
    "a foreign architecture on purpose": (
        "FROM debian\nRUN dpkg --add-architecture i386 && apt-get update\nRUN apt-get install -y libc6:i386\n"
    ),
    "a colon that is no package": "FROM debian\nRUN apt-get install -y curl && docker pull app:amd64\n",
    "no apt": "FROM debian\nRUN run-with libc6:amd64\n",
    "kernel names from uname": "FROM alpine\nRUN curl -O https://example.com/tool-$(uname -m).tgz\n",
}


@pytest.mark.parametrize("case", DOCKERFILES)
def test_faults_in_dockerfiles(tmp_path: Path, case: str) -> None:
    """The rule, the line, and the line as it should be."""
    text, expected = DOCKERFILES[case]
    assert lint(tmp_path, "Dockerfile", text) == expected


@pytest.mark.parametrize("case", RIGHT)
def test_dockerfiles_that_are_right(tmp_path: Path, case: str) -> None:
    """No finding."""
    assert lint(tmp_path, "Dockerfile", RIGHT[case]) == []


SCRIPTS = {
    "GOARCH in a Makefile": (
        "Makefile",
        "app:\n\tGOOS=linux GOARCH=amd64 go build\n",
        [("constant-goarch", 2, "\tGOOS=linux GOARCH=$(shell go env GOARCH) go build")],
    ),
    "download in a script": (
        "get.sh",
        "#!/bin/sh\ncurl -LO https://example.com/kubectl/linux/amd64/kubectl\n",
        [
            (
                "one-arch-download",
                2,
                "ARCH=$(uname -m | sed 's/x86_64/amd64/; s/aarch64/arm64/')\n"
                "curl -LO https://example.com/kubectl/linux/${ARCH}/kubectl",
            )
        ],
    ),
    "a script without an ending": (
        "bin/get",
        "#!/usr/bin/env bash\nGOARCH=`uname -m` go build\n",
        [("uname-as-goarch", 2, "GOARCH=$(go env GOARCH) go build")],
    ),
    "docker manifest": (
        "release.sh",
        "docker manifest create app:1 app:1-amd64 app:1-arm64\n",
        [("docker-manifest-create", 1, "manyfest create app:1 app:1-amd64 app:1-arm64")],
    ),
    "a Makefile's own processor": (
        "Makefile",
        "CFLAGS += -O3 -march=native\n",
        [("builders-own-cpu", 1, "CFLAGS += -O3")],
    ),
    "every architecture has its line": (
        "Makefile",
        "all:\n\tGOARCH=amd64 go build -o out/amd64\n\tGOARCH=arm64 go build -o out/arm64\n",
        [],
    ),
    "a target named after its architecture": ("Makefile", "build-amd64:\n\tGOARCH=amd64 go build\n", []),
    "a default that can be overridden": ("Makefile", "GOARCH ?= amd64\n", []),
    "an if by architecture": (
        "get.sh",
        'if [ "$(uname -m)" = x86_64 ]; then\n  curl -O https://example.com/tool-amd64\nfi\n',
        [],
    ),
}


@pytest.mark.parametrize("case", SCRIPTS)
def test_scripts_and_makefiles(tmp_path: Path, case: str) -> None:
    """Faults, and the same words where they are right."""
    name, text, expected = SCRIPTS[case]
    assert lint(tmp_path, name, text) == expected


def test_a_go_file_whose_names_others_lack(tmp_path: Path) -> None:
    """Used by a file for every architecture, declared for one."""
    (tmp_path / "main.go").write_text("package main\n\nfunc main() { fast() }\n")
    found = lint(tmp_path, "fast_amd64.go", "package main\n\nfunc fast() {}\n")
    assert [(rule, line) for rule, line, _ in found] == [("go-file-without-counterpart", 1)]
    (tmp_path / "slow.go").write_text("//go:build !amd64\n\npackage main\n\nfunc fast() {}\n")
    assert inspect_tree(str(tmp_path)) == []


def test_a_build_constraint_counts_like_a_file_name(tmp_path: Path) -> None:
    """//go:build arm64 in a file of any name."""
    (tmp_path / "main.go").write_text("package main\n\nfunc main() { fast() }\n")
    found = lint(tmp_path, "fast.go", "//go:build arm64\n\npackage main\n\nfunc fast() {}\n")
    assert [rule for rule, _, _ in found] == ["go-file-without-counterpart"]


def test_intrinsics_need_a_guard(tmp_path: Path) -> None:
    """Inside #if of that architecture they are right."""
    found = lint(tmp_path, "a.c", "#include <stdio.h>\n#include <immintrin.h>\n")
    assert found == [("unguarded-intrinsics", 2, "#ifdef __x86_64__\n#include <immintrin.h>\n#endif")]
    assert lint(tmp_path, "a.c", "#if defined(__x86_64__)\n#include <immintrin.h>\n#endif\n") == []


def test_lines_end_where_the_tools_end_them(tmp_path: Path) -> None:
    """At line feeds alone: form feeds part the sections of C sources, and a comment may hold any character."""
    text = "/* one */\n\f\n/* two\x0b\x1c\u2028 */\r\n#include <immintrin.h>\r\n"
    assert lint(tmp_path, "a.c", text) == [
        ("unguarded-intrinsics", 4, "#ifdef __x86_64__\n#include <immintrin.h>\n#endif")
    ]
    (tmp_path / "a.c").unlink()
    comment = "# \u2028curl -O https://example.com/tool-amd64\n"
    assert lint(tmp_path, "get.sh", f"{comment}curl -O https://example.com/x-amd64\n")[0][1] == 2
    assert len(lint(tmp_path, "get.sh", comment)) == 0


WORKFLOW = """\
    on: push
    jobs:
      image:
        strategy:
          matrix:
            platform: [linux/amd64, linux/arm64]
        steps:
          - uses: docker/build-push-action@v6
            with:
              platforms: ${{ matrix.platform }}
              push: true
              tags: acme/app:latest
    """


def test_a_matrix_that_overwrites_its_tag(tmp_path: Path) -> None:
    """coreruleset/modsecurity-crs-docker#443: the last job wins."""
    found = lint(tmp_path, ".github/workflows/image.yml", WORKFLOW)
    assert [(rule, line) for rule, line, _ in found] == [("last-writer-wins", 12)]
    by_digest = WORKFLOW.replace(
        "tags: acme/app:latest", "outputs: type=image,push-by-digest=true,name=acme/app"
    )
    assert lint(tmp_path, ".github/workflows/image.yml", by_digest) == []
    own_tags = WORKFLOW.replace("app:latest", "app:latest-${{ matrix.arch }}")
    assert lint(tmp_path, ".github/workflows/image.yml", own_tags) == []


def test_the_same_in_gitlab(tmp_path: Path) -> None:
    """parallel: matrix."""
    text = """\
    build:
      parallel:
        matrix:
          - ARCH: [amd64, arm64]
      script:
        - docker build -t $CI_REGISTRY_IMAGE:latest .
        - docker push $CI_REGISTRY_IMAGE:latest
    """
    assert [(rule, line) for rule, line, _ in lint(tmp_path, ".gitlab-ci.yml", text)] == [
        ("last-writer-wins", 7)
    ]


def test_a_tool_for_the_runner(tmp_path: Path) -> None:
    """Right where the runner is one known machine, wrong where it is chosen."""
    text = "jobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - run: curl -O https://example.com/x-amd64\n"
    assert lint(tmp_path, ".github/workflows/x.yml", text) == []
    chosen = text.replace("ubuntu-latest", "${{ matrix.runner }}")
    assert lint(tmp_path, ".github/workflows/x.yml", chosen) == [("one-arch-download", 5, "")]


def test_broken_files_are_said_and_do_not_stop_the_rest(tmp_path: Path) -> None:
    """With the line where reading ended."""
    (tmp_path / "Makefile").write_text("CFLAGS = -march=native\n")
    found = lint(tmp_path, ".github/workflows/x.yml", "jobs:\n  a: [\n")
    assert [rule for rule, _, _ in found] == ["unreadable", "builders-own-cpu"]


def test_bases_are_looked_up_once_each(tmp_path: Path) -> None:
    """Stages, scratch, variables without value and pinned platforms are not images to look up."""
    asked: list[str] = []

    def lacking(image: str) -> tuple[list[str], str]:
        asked.append(image)
        return (["linux/s390x"], "") if image == "tool:1" else ([], "no such image")

    (tmp_path / "Dockerfile").write_text(
        "ARG BASE=tool:1\nFROM ${BASE} AS a\nFROM a\nFROM scratch\nFROM $UNKNOWN\nFROM --platform=linux/amd64 x\n"
        "FROM tool:1\nFROM gone:1\n"
    )
    found = inspect_tree(str(tmp_path), lacking)
    assert asked == ["tool:1", "gone:1"]
    bases = [(f.rule.name, f.line) for f in found if f.rule.name.startswith("base-")]
    assert bases == [("base-lacks-platform", 2), ("base-lacks-platform", 7), ("base-not-read", 8)]


def test_links_and_vendored_folders_are_not_read(tmp_path: Path) -> None:
    """What is not the project's own is not judged, and nothing outside is opened."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "Dockerfile").write_text("FROM arm64v8/alpine\n")
    project = tmp_path / "project"
    (project / "vendor").mkdir(parents=True)
    (project / "vendor" / "Makefile").write_text("CFLAGS=-march=native\n")
    (project / "Dockerfile").symlink_to(outside / "Dockerfile")
    (project / "Dockerfile.bin").write_bytes(b"FROM \0 x")
    assert inspect_tree(str(project)) == []


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """Named."""
    with pytest.raises(InvalidProject, match="no such folder"):
        inspect_tree(str(tmp_path / "nowhere"))


def test_ids_are_unique() -> None:
    """People allow rules by them."""
    assert len({rule.id for rule in RULES.values()}) == len(RULES)
