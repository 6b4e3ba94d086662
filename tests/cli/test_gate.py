# SPDX-License-Identifier: Apache-2.0
"""The gate before publishing: what verify finds stops the push, and the tag stays as it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from manyfest.cli.main import main
from manyfest.emulate.programs import program
from manyfest.platforms import Platform
from manyfest.stores.layout import Layout
from manyfest.testing import make_image


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """``amd64`` and ``arm64`` hold what they say; ``wrong`` says arm64 and holds an amd64 program."""
    with Layout.create(str(tmp_path / "images")) as store:
        for tag, claims, holds in (
            ("amd64", "linux/amd64", "linux/amd64"),
            ("arm64", "linux/arm64", "linux/arm64"),
            ("wrong", "linux/arm64", "linux/amd64"),
        ):
            files = {"/hello": (program(Platform.parse(holds)), 0o755)}
            make_image(store, claims, files=files, entrypoint=["/hello"], tag=tag)
    return tmp_path


def push(folder: Path, arm64: str, *options: str) -> int:
    sources = [f"oci:{folder}/images:amd64", f"oci:{folder}/images:{arm64}"]
    return main(["create", f"oci:{folder}/out:v1", *sources, "--push", *options])


def tag(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(["inspect", "--json", f"oci:{folder}/out:v1"]) == 0
    digest: str = json.loads(capsys.readouterr().out)["digest"]
    return digest


def test_a_right_image_passes(images: Path) -> None:
    """Across places: nothing of it is in the target yet when it is looked at."""
    assert push(images, "arm64", "--verify-strict") == 0


def test_a_wrong_binary_stops_the_push(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """cloudposse/atmos#2931: the arm64 image held amd64 binaries in every tag ever published."""
    assert push(images, "arm64") == 0
    before = tag(images, capsys)
    assert push(images, "wrong", "--verify") == 1
    told = capsys.readouterr()
    assert "/hello" in told.err
    assert "was not pushed" in told.err
    assert told.out == ""
    assert tag(images, capsys) == before
    assert push(images, "wrong") == 0, "without the gate it goes through"


def test_the_gate_can_stand_in_the_file(images: Path) -> None:
    """verify: true, and strict; a dry run asks as well."""
    entries = "".join(f"  - image: oci:{images}/images:{name}\n" for name in ("amd64", "wrong"))
    for word, code in (("true", 1), ("strict", 1), ("false", 0), ("maybe", 2)):
        spec = images / f"{word}.yaml"
        spec.write_text(f"image: oci:{images}/{word}:v1\nverify: {word}\nmanifests:\n{entries}")
        assert main(["push", "-f", str(spec), "--dry-run"]) == code, word
