# SPDX-License-Identifier: Apache-2.0
"""``manyfest init``: what it writes can be built."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
import yaml
from tests.cli.conftest import Run
from tests.cli.test_json_shapes import keys, keys_of_command
from tests.docs.pages import commands_in

from manyfest.build.lint import inspect_tree
from manyfest.build.project import load
from manyfest.build.starter import KINDS
from manyfest.cli.parser import build
from manyfest.cli.table import module_of


@pytest.mark.parametrize(
    ("file", "kind", "toolchain"),
    [
        ("go.mod", "go", "go"),
        ("a.c", "c", "zig"),
        ("src/a.cc", "cpp", "zig"),
        ("CMakeLists.txt", "cmake", "cmake"),
        ("index.html", "static", ""),
    ],
)
def test_kinds(run: Run, tmp_path: Path, file: str, kind: str, toolchain: str) -> None:
    """By what is there."""
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("")
    shown = run("init", str(tmp_path), "--image", "acme/My.App:1".lower(), "--json").json
    assert keys(shown) == keys_of_command("init")
    assert (shown["kind"], shown["kept"]) == (kind, [])
    project = load(str(tmp_path))
    assert len(project.platforms) == 6
    assert (project.compile.toolchain if project.compile else "") == toolchain
    wanted = ("out",) if kind == "cmake" else ("out/my-app",)
    assert project.compile is None or project.compile.outputs == wanted
    planned = run("build", str(tmp_path), "--dry-run", "--json", ok=False)
    assert planned.code == 0 or "toolchain" in planned.err


def test_static_files_are_built(run: Run, tmp_path: Path) -> None:
    """Without what the project itself is made of."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site/index.html").write_text("hello")
    run("init", str(tmp_path / "site"), "--image", "acme/site", "--ci", "gitlab")
    run("build", str(tmp_path / "site"), "-t", f"oci:{tmp_path}/out:1")
    assert "linux/riscv64" in run("inspect", f"oci:{tmp_path}/out:1").out


@pytest.mark.parametrize(
    ("ci", "path"), [("github", ".github/workflows/image.yml"), ("gitlab", ".gitlab-ci.yml")]
)
def test_pipelines(run: Run, tmp_path: Path, ci: str, path: str) -> None:
    """Are YAML that logs in where the image goes."""
    run("init", str(tmp_path), "--image", "ghcr.io/acme/app:1", "--ci", ci)
    text = (tmp_path / path).read_text()
    assert "manyfest login ghcr.io " in text
    assert isinstance(yaml.safe_load(text), dict)


def test_nothing_is_overwritten(run: Run, tmp_path: Path) -> None:
    """And it is said."""
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    ran = run("init", str(tmp_path), "--image", "acme/app", "--makefile")
    assert "Dockerfile is there already and was left as it is" in ran.err
    assert ran.out.splitlines() == ["wrote manyfest.yaml", "wrote .dockerignore", "wrote Makefile"]
    assert (tmp_path / "Dockerfile").read_text() == "FROM scratch\n"
    (tmp_path / "manyfest.yaml").unlink()
    (tmp_path / "manyfest.yaml").symlink_to(tmp_path / "elsewhere")
    ran = run("init", str(tmp_path), "--image", "acme/app", "--force")
    assert ran.out.splitlines() == ["wrote manyfest.yaml", "wrote Dockerfile", "wrote .dockerignore"]
    assert (tmp_path / "Dockerfile").read_text() == "FROM scratch\nCOPY . /srv/\n"
    assert not (tmp_path / "elsewhere").exists(), "a link is replaced, and not followed"


def test_a_dry_run_writes_nothing(run: Run, tmp_path: Path) -> None:
    """And shows all."""
    (tmp_path / "a.c").write_text("")
    words = ("init", str(tmp_path), "--image", "acme/app", "--ci", "gitlab", "--makefile", "--dry-run")
    shown = run(*words).out
    told = run(*words, "--json").json
    assert keys(told) == keys_of_command("init")
    assert list(told["files"]) == [
        "manyfest.yaml",
        "Dockerfile",
        ".dockerignore",
        "Makefile",
        ".gitlab-ci.yml",
    ]
    assert all(f"--- {path}\n{text.rstrip()}" in shown for path, text in told["files"].items())
    assert (told["dry_run"], told["written"]) == (True, [])
    assert [path.name for path in tmp_path.iterdir()] == ["a.c"]


def test_the_makefile(run: Run, tmp_path: Path) -> None:
    """Says what it would run; every command and option in it exists."""
    run("init", str(tmp_path), "--image", "acme/app", "--makefile")
    targets = re.findall(r"(?m)^([a-z]+):", (tmp_path / "Makefile").read_text())
    assert targets == ["image", "plan", "verify", "push", "clean"]
    for command, options in commands_in((tmp_path / "Makefile").read_text()):
        known = build(command, importlib.import_module(module_of(command)))._option_string_actions
        assert set(options) <= set(known)


RUST = '[package]\nname = "my-app"\nversion = "1.0.0"\n'
MAIN = "class Main { public static void main(String[] a) {} }"
POM = """\
<?xml version="1.0" encoding="UTF-8"?>
<project xmlns="http://maven.apache.org/POM/4.0.0"><!-- <artifactId>no</artifactId> -->
<parent><artifactId>parent</artifactId></parent><groupId>g</groupId><artifactId>app</artifactId>
<dependencies><dependency><artifactId>d</artifactId><scope>{scope}</scope></dependency></dependencies></project>
"""
SOURCES = {
    "go": {"go.mod": ""},
    "rust": {"Cargo.toml": RUST},
    "cmake": {"CMakeLists.txt": ""},
    "c": {"a.c": ""},
    "cpp": {"a.cpp": ""},
    "java": {"Main.java": MAIN},
    "maven": {"pom.xml": "<project><artifactId>app</artifactId></project>", "src/main/java/Main.java": MAIN},
    "python": {"pyproject.toml": '[project]\nname = "my-app"\n'},
    "static": {"index.html": ""},
}
SETUP = {
    "rust": (
        "rustup target add x86_64-unknown-linux-musl aarch64-unknown-linux-musl",
        "rustup default stable",
    ),
    "java": ("actions/setup-java", "default-jdk-headless"),
    "maven": ("actions/setup-java", "default-jdk-headless maven"),
    "cmake": ("fast,toolchains", "cmake make"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_all_it_needs(run: Run, tmp_path: Path, kind: str) -> None:
    """A project that can be read and that lint has no word on, and pipelines that set its compiler up."""
    for name, text in SOURCES[kind].items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for ci in ("github", "gitlab"):
        shown = run("init", str(tmp_path), "--image", "acme/my-app", "--ci", ci, "--force", "--json").json
        assert shown["kind"] == kind
    project = load(str(tmp_path))
    assert project.spec is not None
    assert project.spec.expect == project.platforms
    assert inspect_tree(str(tmp_path)) == []
    files = [(tmp_path / path).read_text() for path in (".github/workflows/image.yml", ".gitlab-ci.yml")]
    for text, wanted in zip(files, SETUP.get(kind, ("pip install", "pip install")), strict=True):
        assert wanted in text
        steps = yaml.safe_load(text)
        lines = steps["jobs"]["image"]["steps"] if "jobs" in steps else steps["image"]["script"]
        assert all(isinstance(line, dict if "jobs" in steps else str) for line in lines)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"Cargo.toml": "[workspace]\n"}, r"no Cargo.toml with a \[package\]"),
        ({"Cargo.toml": "["}, "Cargo.toml: "),
        ({"Cargo.toml": '[package]\nname = "a; rm -rf /"\n'}, "expected letters"),
        ({"a.java": "class A {}"}, "no class with public static void main"),
        ({"a.java": MAIN, "b c.java": f"package x-y;{MAIN}"}, None),
        ({"pom.xml": "<project/>"}, "pom.xml: no artifactId"),
        ({"pom.xml": "<project>"}, "pom.xml: no element found"),
        ({"pom.xml": "<!DOCTYPE a [<!ENTITY b 'c'>]><project/>"}, "expected no DOCTYPE"),
        (
            {"pom.xml": "<project><parent><artifactId>a</artifactId></parent></project>"},
            "pom.xml: no artifactId",
        ),
        (
            {"pom.xml": "<project><artifactId>a</artifactId><packaging>pom</packaging></project>"},
            "packaging pom",
        ),
        ({"a.py": "", "b.py": ""}, "which of a.py, b.py is started"),
        ({"pyproject.toml": "["}, "pyproject.toml: "),
        ({"go.mod": "", "cmd/a/a.go": "", "cmd/b/b.go": ""}, "cmd has a, b: which one"),
        ({"CMakeLists.txt": "add_executable(a;b x.c)"}, "expected letters"),
    ],
)
def test_what_cannot_be_known(run: Run, tmp_path: Path, files: dict[str, str], message: str | None) -> None:
    """Is said, and nothing is written."""
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    ran = run("init", str(tmp_path), "--image", "acme/app", ok=False)
    assert (ran.code, (tmp_path / "manyfest.yaml").exists()) == ((0, True) if message is None else (2, False))
    assert message is None or re.search(message, ran.err)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("go", "no go.mod\nhint: go mod init"),
        ("cmake", "no CMakeLists.txt\nhint: "),
        ("maven", "no pom.xml\nhint: "),
        ("python", "no .py files and no pyproject.toml\nhint: "),
        ("c", "no .c files here or in src\nhint: "),
        ("java", "no class with public static void main(String[] …)\nhint: "),
    ],
)
def test_an_empty_folder(run: Run, tmp_path: Path, kind: str, message: str) -> None:
    """Says what is missing, and writes nothing."""
    ran = run("init", str(tmp_path), "--image", "acme/app", "--kind", kind, ok=False)
    assert (ran.code, ran.err.startswith(f"manyfest: error: {tmp_path}: {message}")) == (2, True), ran
    assert list(tmp_path.iterdir()) == []


def test_programs_are_found(run: Run, tmp_path: Path) -> None:
    """By the names that the project gives them."""
    cases: list[tuple[dict[str, str], str, str]] = [
        ({"go.mod": "", "cmd/app/x.go": "", "cmd/b/b.go": ""}, "manyfest.yaml", "-o out/app ./cmd/app\n"),
        ({"Cargo.toml": f'{RUST}[[bin]]\nname = "tool"\n'}, "Dockerfile", "COPY out/tool /tool\n"),
        ({"CMakeLists.txt": "project(x C)\nadd_executable(${PROJECT_NAME} a.c)"}, "Dockerfile", "/bin/x"),
        (
            {"CMakeLists.txt": "# add_executable(no)\nadd_executable(yes a.c)\ninstall(TARGETS yes)"},
            "Dockerfile",
            "/yes",
        ),
        (
            {"x/A.java": f"package x;\n{MAIN}", "x/App.java": f"package x;\n{MAIN}"},
            "manyfest.yaml",
            "--main-class x.App",
        ),
        (
            {"pyproject.toml": '[project]\nname="a"\n[project.scripts]\na="a.b:c"'},
            "Dockerfile",
            "from a.b import c",
        ),
        ({"main.py": "", "lib/__init__.py": ""}, "Dockerfile", "COPY lib /app/lib\n"),
    ]
    for number, (files, path, wanted) in enumerate(cases):
        folder = tmp_path / str(number)
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        kind = ("--kind", "java") if "x/A.java" in files else ()
        run("init", str(folder), "--image", "acme/app", *kind)
        assert wanted in (folder / path).read_text()


def test_one_for_each_architecture(run: Run, tmp_path: Path) -> None:
    """Under names that build takes for them."""
    (tmp_path / "a.txt").write_text("")
    wanted = (
        "linux/amd64,linux/386,linux/arm64,linux/arm/v7,linux/arm/v6,linux/ppc64le,linux/s390x,linux/riscv64"
    )
    run("init", str(tmp_path), "--image", "acme/app", "--per-arch", "--platform", wanted)
    assert not (tmp_path / "Dockerfile").exists()
    project = load(str(tmp_path))
    names = [Path(project.dockerfile_for(platform)).name for platform in project.platforms]
    assert names[2:5] == ["Dockerfile.arm64", "Dockerfile.armv7", "Dockerfile.armv6"]
    assert len(set(names)) == 8
    run("build", str(tmp_path), "-t", f"oci:{tmp_path}/out:1")
    ran = run("init", str(tmp_path), "--image", "a", "--per-arch", "--platform", "linux/amd64/v3", ok=False)
    assert (ran.code, "no name of a file says linux/amd64/v3" in ran.err) == (2, True)


def test_libc(run: Run, tmp_path: Path) -> None:
    """Programs that need a glibc get a base that has one; not every kind has a choice."""
    (tmp_path / "a.c").write_text("")
    run("init", str(tmp_path), "--image", "acme/app", "--libc", "gnu")
    assert "libc: gnu" in (tmp_path / "manyfest.yaml").read_text()
    assert "-static" not in (tmp_path / "manyfest.yaml").read_text()
    assert (tmp_path / "Dockerfile").read_text().startswith("ARG BASE=docker.io/library/debian")
    ran = run("init", str(tmp_path), "--image", "acme/app", "--libc", "gnu", "--kind", "static", ok=False)
    assert (ran.code, "c, cpp, rust, cmake have" in ran.err) == (2, True)


def test_mistakes(run: Run, tmp_path: Path) -> None:
    """No folder, no name."""
    none = run("init", str(tmp_path / "none"), "--image", "a", ok=False)
    assert (none.code, "hint: init writes into the folder of a project" in none.err) == (2, True)
    assert run("init", str(tmp_path), ok=False).code == 2
    assert run("init", str(tmp_path), "--image", "A B", ok=False).code == 2
