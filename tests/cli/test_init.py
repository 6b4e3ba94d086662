# SPDX-License-Identifier: Apache-2.0
"""``manyfest init``: what it writes can be built."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tests.cli.conftest import Run
from tests.cli.test_json_shapes import keys, keys_of_command

from manyfest.build.project import load


@pytest.mark.parametrize(
    ("file", "kind", "toolchain"), [("go.mod", "go", "go"), ("a.c", "c", "zig"), ("index.html", "static", "")]
)
def test_kinds(run: Run, tmp_path: Path, file: str, kind: str, toolchain: str) -> None:
    """By what is there."""
    (tmp_path / file).write_text("")
    shown = run("init", str(tmp_path), "--image", "acme/My.App:1".lower(), "--json").json
    assert keys(shown) == keys_of_command("init")
    assert (shown["kind"], shown["kept"]) == (kind, [])
    project = load(str(tmp_path))
    assert len(project.platforms) == 6
    assert (project.compile.toolchain if project.compile else "") == toolchain
    assert project.compile is None or project.compile.outputs == ("out/my-app",)
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
    ran = run("init", str(tmp_path), "--image", "acme/app")
    assert "Dockerfile is there already and was left as it is" in ran.err
    assert ran.out.splitlines() == ["wrote manyfest.yaml", "wrote .dockerignore"]
    assert (tmp_path / "Dockerfile").read_text() == "FROM scratch\n"


def test_mistakes(run: Run, tmp_path: Path) -> None:
    """No folder, no name."""
    assert run("init", str(tmp_path / "none"), "--image", "a", ok=False).code == 2
    assert run("init", str(tmp_path), ok=False).code == 2
    assert run("init", str(tmp_path), "--image", "A B", ok=False).code == 2
