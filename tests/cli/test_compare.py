# SPDX-License-Identifier: Apache-2.0
"""``manyfest compare``: one image, two images, a base."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from manyfest.cli.main import main
from manyfest.indexes.edit import build
from manyfest.platforms import Platform
from manyfest.stores.layout import Layout
from manyfest.testing import make_image


@pytest.fixture
def layout(tmp_path: Path) -> str:
    """``same``: two platforms alike; ``odd``: three, of which arm64 has another command and a file of its own."""
    path = str(tmp_path / "layout")
    with Layout.create(path) as store:
        files = {"/app": (b"x", 0o755), "/data": (b"y", 0o644)}
        children = {
            name: make_image(store, name, files=files, entrypoint=["/app"], env={"V": "1"})
            for name in ("linux/amd64", "linux/arm64", "linux/s390x")
        }
        odd = make_image(
            store,
            "linux/arm64",
            files={**files, "/only": (b"z", 0o644)},
            entrypoint=["/other"],
            env={"V": "1"},
        )
        entries = [d.descriptor.with_platform(Platform.parse(name)) for name, d in children.items()]
        store.tag(build(entries), "same")
        store.tag(
            build([entries[0], odd.descriptor.with_platform(Platform.parse("linux/arm64")), entries[2]]),
            "odd",
        )
    return f"oci:{path}"


def test_nothing_stands_out(layout: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A table, and a word."""
    assert main(["compare", f"{layout}:same", "--strict"]) == 0
    seen = capsys.readouterr().out
    assert "linux/s390x" in seen
    assert "nothing stands out" in seen


def test_what_stands_out_is_named(layout: str, capsys: pytest.CaptureFixture[str]) -> None:
    """By platform; an answer of no only when asked for one."""
    assert main(["compare", f"{layout}:odd"]) == 0
    seen = capsys.readouterr().out
    assert "entrypoint: linux/arm64 has '/other', the others '/app'" in seen
    assert "files: linux/arm64 alone has 1 files: /only" in seen
    assert main(["compare", f"{layout}:odd", "--strict"]) == 1


def test_the_json_shape(layout: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As docs/reference/json.md says."""
    assert main(["compare", f"{layout}:odd", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [side["name"] for side in shown["sides"]] == ["linux/amd64", "linux/arm64", "linux/s390x"]
    assert {"subject", "sides", "message", "values"} == set(shown["differences"][0])


def test_two_images_are_held_against_each_other(layout: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Platform by platform."""
    assert main(["compare", f"{layout}:same", f"{layout}:odd", "--strict"]) == 1
    seen = capsys.readouterr().out
    assert (
        f"entrypoint differs: linux/arm64 of {layout}:same: '/app'; linux/arm64 of {layout}:odd: '/other'"
        in seen
    )
    assert "linux/s390x of" in seen


def test_only_some_platforms(layout: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Those asked for; none of them there is a usage error."""
    assert main(["compare", f"{layout}:odd", "--platform", "linux/amd64,linux/s390x", "--strict"]) == 0
    assert "arm64" not in capsys.readouterr().out
    assert main(["compare", f"{layout}:odd", "--platform", "linux/riscv64"]) == 2


def test_the_base_is_recognised_by_its_layers(layout: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the same image every platform stands on itself; arm64 of the other one does not."""
    assert main(["compare", f"{layout}:odd", "--base", f"{layout}:same", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    bases = {side["name"]: side["base"] for side in shown["sides"]}
    assert bases["linux/amd64"] is not None
    assert bases["linux/arm64"] is None
