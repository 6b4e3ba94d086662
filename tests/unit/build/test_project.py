# SPDX-License-Identifier: Apache-2.0
"""What a folder says about how it is built."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from manyfest import smoke
from manyfest.build import project
from manyfest.build.lint import inspect_tree
from manyfest.build.project import load
from manyfest.build.toolchains import TOOLCHAINS
from manyfest.errors import InputError, InvalidProject
from manyfest.indexes import spec
from manyfest.platforms import Platform


def write(folder: Path, **files: str) -> str:
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return str(folder)


def test_one_dockerfile(tmp_path: Path) -> None:
    """For every platform."""
    found = load(write(tmp_path, Dockerfile="FROM scratch\n"))
    assert found.dockerfile_for(Platform.parse("linux/s390x")) == str(tmp_path / "Dockerfile")
    assert (found.platforms, found.compile, found.spec) == ((), None, None)


def test_one_for_each_architecture(tmp_path: Path) -> None:
    """Under any spelling; other endings are none of them."""
    names = ("armhf", "x86_64", "aarch64", "ppc64el", "s390x", "dev", "build")
    found = load(write(tmp_path, **{f"Dockerfile__{name}": "FROM scratch\n" for name in names}))
    assert {str(p) for p in found.platforms} == {
        "linux/arm/v7",
        "linux/amd64",
        "linux/arm64",
        "linux/ppc64le",
        "linux/s390x",
    }
    assert found.dockerfile_for(Platform.parse("linux/arm")).endswith("Dockerfile.armhf")
    assert found.dockerfile_for(Platform.parse("linux/amd64/v3")).endswith("Dockerfile.x86_64")
    with pytest.raises(InvalidProject, match="no Dockerfile for linux/riscv64") as caught:
        found.dockerfile_for(Platform.parse("linux/riscv64"))
    assert "Dockerfile.armhf" in caught.value.hint


def test_two_for_one(tmp_path: Path) -> None:
    """Are refused."""
    folder = write(tmp_path, Dockerfile__arm64="", Dockerfile__aarch64="")
    with pytest.raises(
        InvalidProject, match=r"Dockerfile.aarch64 and Dockerfile.arm64 are both for linux/arm64"
    ):
        load(folder)


def test_a_project_file(tmp_path: Path) -> None:
    """All of it."""
    text = """\
image: acme/app:1
tags: [latest]
platforms: [linux/amd64, linux/arm/v7]
compile: {toolchain: zig, run: make, outputs: [out/app], env: {A: 1}}
build: {dockerfile: docker/File, args: {V: "1.10", N: 2}, target: last}
expect: [linux/amd64]
"""
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker/File").write_text("FROM scratch\n")
    found = load(write(tmp_path, manyfest__yaml=text))
    assert [str(p) for p in found.platforms] == ["linux/amd64", "linux/arm/v7"]
    assert found.compile is not None
    assert (found.compile.toolchain, found.compile.outputs, found.compile.environment) == (
        "zig",
        ("out/app",),
        (("A", "1"),),
    )
    assert (found.args, found.target) == ((("V", None, "1.10"), ("N", None, "2")), "last")
    assert found.dockerfile == str(tmp_path / "docker/File")
    assert found.spec is not None
    assert found.spec.tags == ("latest",)


@pytest.mark.parametrize(
    ("platform", "base"),
    [
        ("linux/amd64", "debian:12"),
        ("linux/s390x", "s390x/debian:12"),
        ("linux/arm/v7", "armhf/debian"),
        ("linux/arm", "armhf/debian"),
        ("linux/arm64/v8", "arm64/debian"),
        ("linux/arm64/v9", "arm64/debian"),
        ("linux/arm/v6", None),
        ("linux/riscv64", None),
    ],
)
def test_arguments_by_platform(tmp_path: Path, platform: str, base: str | None) -> None:
    """As Dockerfiles by architecture are found; who is not listed has none."""
    text = """\
image: acme/app:1
build:
  args:
    V: 1
    BASE: {linux/amd64: "debian:12", linux/s390x: "s390x/debian:12", linux/arm: armhf/debian, arm64: arm64/debian}
    V7: {linux/arm/v7: "yes"}
"""
    found = load(write(tmp_path, Dockerfile="FROM scratch\n", manyfest__yaml=text)).args_for(
        Platform.parse(platform)
    )
    assert (found["V"], found.get("BASE"), "V7" in found) == ("1", base, base == "armhf/debian")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("build:\n  args: {B: {vax: x}}", r":3:14: build.args.B.vax: 'vax': neither an operating system"),
        ("build:\n  args: {B: {arm64: 1.5}}", r":3:14: build.args.B.arm64: expected text, got 1.5"),
        ("build:\n  args: {B: [x]}", r":3:10: build.args.B: expected text, got \['x'\]"),
        ("platforms: [linux/amd64, linux/arm46]", r":2:26: platforms.1: linux/arm46: nobody runs that"),
        ("platforms: 7", r":2:1: platforms: expected a list"),
        ("compile: {toolchain: ada, run: x, outputs: [y]}", r":2:11: compile.toolchain: 'ada'"),
        ("compile: {toolchain: go, libc: gnu, outputs: [y]}", r":2:26: compile.libc: go has no choice"),
        ("compile: {toolchain: zig, libc: bionic, run: x, outputs: [y]}", r":2:27: compile.libc: 'bionic'"),
        ("compile: {toolchain: go, once: true, outputs: [y]}", r":2:26: compile.once: go compiles for each"),
        (
            "compile: {once: 'yes', run: x, outputs: [y]}",
            r":2:11: compile.once: expected true or false, got 'yes'",
        ),
        ("compile: {toolchain: java, outputs: [y]}", r":2:1: compile: lacks run"),
        ("compile:\n  run: x", r":2:1: compile: lacks outputs"),
        ("compile:\n  outputs: [x]", r":2:1: compile: lacks run"),
        ("compile:\n  run: x\n  outputs: [/x]", r":4:3: compile.outputs: '/x'"),
        ("compile:\n  run: x\n  outputs: [../x]", r":4:3: compile.outputs"),
        ("compile:\n  ran: x", r":3:3: compile.ran: unknown key"),
        ("build:\n  args: {V: 1.10}", r":3:10: build.args.V: expected text, got 1.1"),
        ("build: x", r":2:1: build: expected a mapping"),
        ("build: {dockerfile: none}", r"none: no such file"),
        ("bild: x", r":2:1: .*unknown key 'bild'"),
        ("tags: [", r":3:1|:2:8"),
    ],
)
def test_mistakes_are_shown_where_they_are(tmp_path: Path, text: str, message: str) -> None:
    """File, line and column."""
    folder = write(tmp_path, Dockerfile="FROM scratch\n", manyfest__yaml=f"image: a\n{text}\n")
    with pytest.raises(InputError, match=message):
        load(folder)


def test_no_project(tmp_path: Path) -> None:
    """No folder, no Dockerfile."""
    with pytest.raises(InvalidProject, match=r"no Dockerfile and no Dockerfile\.ARCH"):
        load(str(tmp_path))
    with pytest.raises(InvalidProject, match="no such folder"):
        load(str(tmp_path / "none"))


def test_go_needs_no_command(tmp_path: Path) -> None:
    """One output is enough to know it."""
    text = "image: a\ncompile: {toolchain: go, outputs: [out/app]}\n"
    found = load(write(tmp_path, Dockerfile="FROM scratch\n", manyfest__yaml=text))
    assert found.compile is not None
    assert found.compile.run == "go build -trimpath -ldflags=-s -o out/app ."


def test_files_may_be_in_another_folder(tmp_path: Path) -> None:
    """Dockerfiles and the project file have a folder of their own; what they copy is elsewhere."""
    (tmp_path / "docker").mkdir()
    text = "image: a\nbuild: {context: ..}\n"
    found = load(write(tmp_path / "docker", Dockerfile__s390x="FROM scratch\n", manyfest__yaml=text))
    assert found.folder == str(tmp_path)
    assert found.dockerfile_for(Platform.parse("linux/s390x")) == str(tmp_path / "docker/Dockerfile.s390x")
    with pytest.raises(InvalidProject, match=r"manyfest.yaml:2:9: build.context: .*/none: no such folder"):
        load(
            write(tmp_path, Dockerfile="FROM scratch\n", manyfest__yaml="image: a\nbuild: {context: none}\n")
        )


EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.mark.parametrize(
    "folder", sorted(each.parent for each in EXAMPLES.rglob("manyfest.yaml")), ids=lambda p: p.name
)
def test_examples_are_projects(folder: Path) -> None:
    """For platforms that are all expected to be there, with a Dockerfile for each, and nothing that lint minds."""
    found = load(str(folder))
    assert len(found.platforms) >= 5
    assert found.spec is not None
    assert set(found.spec.expect) <= set(found.platforms)
    assert all(found.dockerfile_for(platform) for platform in found.platforms)
    assert inspect_tree(str(folder)) == []


def test_the_schema_has_every_key() -> None:
    """docs/reference/manyfest.schema.json, for editors."""
    page = Path(__file__).parents[3] / "docs" / "reference" / "manyfest.schema.json"
    schema = json.loads(page.read_text(encoding="utf-8"))
    keys = schema["properties"]
    assert set(keys) == set(spec._SPEC_KEYS)
    assert set(keys["compile"]["properties"]) == set(project._COMPILE_KEYS)
    assert set(keys["build"]["properties"]) == set(project._BUILD_KEYS)
    assert tuple(keys["compile"]["properties"]["toolchain"]["enum"]) == TOOLCHAINS
    assert {*schema["$defs"]["smoke"]["properties"], *keys["smoke"]["properties"]} == smoke._KEYS
