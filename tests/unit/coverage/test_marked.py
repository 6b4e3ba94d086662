# SPDX-License-Identifier: Apache-2.0
"""YAML that knows its lines."""

from __future__ import annotations

import io

import pytest

from manyfest.coverage.marked import MAX_BYTES, load, read_file
from manyfest.errors import InputError, InvalidSpec


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"a: 1\na: 2\n", "f:2:1: the key 'a' stands here twice"),
        (b"a: [1\n", "f:2:1:"),
        (b"\tx: 1", "f:1:1:"),
        (b"a: &x [*x]", "nested too deep"),
        (b"? [a]\n: 1\n", "a key must be text"),
        (b"\xff\xfe\x00", "not YAML"),
        (b"[" * 3000, "f"),
    ],
)
def test_broken_files_name_the_place(raw: bytes, message: str) -> None:
    """Line and column wherever the parser knows them."""
    with pytest.raises(InvalidSpec) as caught:
        load(raw, "f")
    assert message in str(caught.value)


def test_a_billion_laughs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Aliases are followed only so far."""
    monkeypatch.setattr("manyfest.coverage.marked.MAX_VALUES", 5000)
    lines = [b"a: &a [x,x,x,x,x,x,x,x,x,x]"]
    lines += [b"%c: &%c [%s]" % (c, c, b",".join([b"*%c" % (c - 1)] * 10)) for c in range(98, 106)]
    with pytest.raises(InvalidSpec, match="more than 5000 values"):
        load(b"\n".join(lines), "f")


def test_merging_and_composes_tags() -> None:
    """``<<`` gives way to the mapping's own keys; ``!reset`` is absence; other tags are looked through."""
    (document,) = load(
        b"x: &a {image: i, platform: p}\ns:\n  web: {<<: *a, image: own}\n  two: *a\n"
        b"  r: !reset 1\n  o: !override [b]\n",
        "f",
    )
    services = document["s"]
    assert (services["web"]["image"].value, services["web"]["platform"].value) == ("own", "p")
    assert services["two"]["image"].value == "i"
    assert not services["r"].is_there
    assert services["o"].texts() == ["b"]


def test_several_documents_and_empty_ones() -> None:
    """Empty ones are none; JSON is YAML."""
    assert [d["a"].value for d in load(b'---\na: 1\n---\n# nothing\n---\n{"a": 2}\n', "f")] == [1, 2]
    assert load(b"", "f") == []


def test_wrong_kinds_are_refused_with_their_path() -> None:
    """What is there, and what was expected."""
    (document,) = load(b"services:\n  web:\n    image: [a]\n    profiles: 3\n", "f.yaml")
    web = document["services"]["web"]
    with pytest.raises(InvalidSpec, match=r"f.yaml:3:12: services.web.image is a list, expected a name"):
        web["image"].text("a name")
    with pytest.raises(InvalidSpec, match=r"f.yaml:4:15: services.web.profiles is 3, expected a list"):
        web["profiles"].items()
    with pytest.raises(InvalidSpec, match="is a mapping, expected text"):
        document["services"].text()
    assert web["nothing"]["deeper"].mapping() == {}
    assert "image" in web
    assert "nothing" not in web


def test_files(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing ones are an input error, and so are huge ones."""
    with pytest.raises(InputError, match="No such file"):
        read_file("/nonexistent/x")

    class Stdin:
        buffer = io.BytesIO(b"x" * (MAX_BYTES + 1))

    monkeypatch.setattr("sys.stdin", Stdin)
    with pytest.raises(InputError, match="more than"):
        read_file("-")
