# SPDX-License-Identifier: Apache-2.0
"""inspect, resolve, tags, copy, delete."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.conftest import Run

from manyfest.cli.inspection import inspect
from manyfest.content.document import Document
from manyfest.content.mediatypes import OCI_INDEX
from manyfest.stores.base import put_bytes
from manyfest.stores.layout import Layout
from manyfest.stores.memory import Memory
from manyfest.testing.images import make_image, make_index

Golden = Callable[[str, str], None]


def masked(text: str, app: str) -> str:
    """With a fixed name instead of 127.0.0.1 and a port of five digits: as long, so columns stay where they are."""
    return text.replace(app.partition("/")[0], "registry.test:5")


def test_inspect_an_index(run: Run, app: str, golden: Golden) -> None:
    """A table for people."""
    golden("cli/inspect-index.txt", masked(run("inspect", f"{app}:attested").out, app))


def test_inspect_an_index_as_json(run: Run, app: str, golden: Golden) -> None:
    """The shape of docs/reference/json.md."""
    golden("cli/inspect-index.json", masked(run("inspect", f"{app}:attested", "--json").out, app))


def test_inspect_one_platform(run: Run, app: str, golden: Golden) -> None:
    """With its configuration."""
    shown = run("inspect", f"{app}:attested", "--platform", "linux/arm64", "-v").out
    golden("cli/inspect-platform.txt", masked(shown, app))


def test_inspect_all_configurations(run: Run, app: str) -> None:
    """One configuration a platform, as stored."""
    shown = run("inspect", f"{app}:attested", "--all", "--json").json
    assert [child["config"]["architecture"] for child in shown["platforms"]] == ["amd64", "arm64"]


def test_raw_is_the_very_bytes(run: Run, app: str) -> None:
    """Their hash is the digest; no line end is added."""
    raw = run("inspect", f"{app}:attested", "--raw").out
    digest = run("inspect", f"{app}:attested", "--json").json["digest"]
    assert f"sha256:{hashlib.sha256(raw.encode()).hexdigest()}" == digest
    assert run("inspect", f"{app}:attested", "--raw", "--json", ok=False).code == 2


def test_raw_says_what_is_missing(run: Run, app: str) -> None:
    """Its short way takes nothing for a name that is none."""
    for argv in (
        ("inspect", "--raw"),
        ("-q", "inspect", "--raw"),
        ("inspect", "--raw", "--raw"),
        ("inspect", "--raw", "-x"),
    ):
        assert run(*argv, ok=False).code == 2
    expected = run("inspect", f"{app}:amd64", "--raw").out
    assert run("-q", "inspect", "--raw", f"{app}:amd64").out == expected
    assert run("inspect", "--raw", f"{app}:amd64", "-q").out == expected


def test_dockers_verbose_shapes(run: Run, app: str, golden: Golden) -> None:
    """An object for an image, an array for a list."""
    one = run("inspect", "-v", "--json", f"{app}:amd64")
    several = run("inspect", "-v", "--json", f"{app}:attested").json
    assert list(one.json) == ["Ref", "Descriptor", "Raw", "SchemaV2Manifest"]
    assert one.json["Ref"] == f"{app}:amd64"
    assert one.json["Descriptor"]["platform"] == {"architecture": "amd64", "os": "linux"}
    raw = base64.b64decode(one.json["Raw"])
    assert f"sha256:{hashlib.sha256(raw).hexdigest()}" == one.json["Descriptor"]["digest"]
    assert one.json["SchemaV2Manifest"] == json.loads(raw)
    assert [list(item)[-1] for item in several] == ["OCIManifest"] * 4
    assert several[0]["Ref"] == f"{app}:attested@{several[0]['Descriptor']['digest']}"
    golden("cli/inspect-docker-verbose.json", masked(one.out, app))


def test_inspect_an_image_of_a_draft(run: Run, app: str) -> None:
    """With the platform that annotate gave it."""
    run("create", f"{app}:1", f"{app}:armhf")
    run("annotate", f"{app}:1", f"{app}:armhf", "--variant", "v6")
    shown = run("inspect", f"{app}:1", f"{app}:armhf", "-v", "--json").json
    assert shown["Descriptor"]["platform"] == {"architecture": "arm", "os": "linux", "variant": "v6"}
    assert run("inspect", f"{app}:1", f"{app}:nope", ok=False).code == 3


def test_a_draft_is_shown_where_nothing_is_pushed(run: Run, app: str, golden: Golden) -> None:
    """And said to be one."""
    run("create", f"{app}:1", f"{app}:armhf", f"{app}:amd64")
    run("annotate", f"{app}:1", f"{app}:armhf", "--os", "linux", "--arch", "arm", "--variant", "v6")
    shown = run("inspect", f"{app}:1")
    assert "this is its draft" in shown.err
    golden("cli/inspect-draft.txt", masked(shown.out, app))
    run("push", f"{app}:1")
    assert run("inspect", f"{app}:1", "--json").json["kind"] == "index"
    assert run("inspect", f"{app}:1", "--draft", "--json").json["kind"] == "draft"


def test_resolve_pins(run: Run, app: str) -> None:
    """NAME@DIGEST, for exactly the platform; --compatible takes what such a machine also runs."""
    shown = run("inspect", f"{app}:attested", "--json").json
    arm64 = shown["platforms"][1]["digest"]
    assert run("resolve", f"{app}:attested", "--platform", "linux/arm64/v8").out == f"{app}@{arm64}\n"
    run("create", f"{app}:1", f"{app}:armhf", "--push")
    failed = run("resolve", f"{app}:1", "--platform", "linux/arm64", ok=False)
    assert failed.code == 3
    assert "it has linux/arm" in failed.err
    assert "@sha256:" in run("resolve", f"{app}:1", "--platform", "linux/arm64", "--compatible").out


def test_resolve_explains(run: Run, app: str) -> None:
    """On standard error; standard output stays one line."""
    ran = run("resolve", f"{app}:attested", "--platform", "linux/arm64", "--explain")
    assert ran.out.count("\n") == 1
    assert "chosen" in ran.err
    assert "an attestation, not an image" in ran.err


def test_copy_platforms_keeps_attestations(run: Run, app: str, tmp_path: Path) -> None:
    """A new index of the chosen platform; --flat is the image alone; every place reads back."""
    out = f"oci:{tmp_path}/out"
    digest = run("copy", f"{app}:attested", f"{out}:1", "--platform", "linux/arm64").last
    shown = run("inspect", f"{out}:1", "--json").json
    assert (shown["digest"], shown["kind"]) == (digest, "index")
    assert [(c["platform"], len(c["attestations"])) for c in shown["platforms"]] == [("linux/arm64", 1)]
    run("copy", f"{app}:attested", f"{out}:2", "--platform", "linux/arm64", "--flat")
    assert run("inspect", f"{out}:2", "--json").json["kind"] == "image"
    archive = f"oci-archive:{tmp_path}/a.tar:1"
    whole = run("copy", f"{app}:attested", archive, "--json").json
    assert run("inspect", archive, "--json").json["digest"] == whole["digest"]
    assert run("copy", archive, f"{app}:back").last == whole["digest"]


def test_copy_to_a_digest(run: Run, app: str, host: str) -> None:
    """Mirrored without a tag; another digest than the source's is a mistake."""
    digest = run("copy", f"{app}:attested", f"{host}/mirror:1", "-q").last
    assert run("copy", f"{app}:attested", f"{host}/other@{digest}").last == digest
    assert run("inspect", f"{host}/other@{digest}", "--json").json["digest"] == digest
    wrong = run("copy", f"{app}:amd64", f"{host}/other@{digest}", ok=False)
    assert (wrong.code, "the target names" in wrong.err) == (2, True)


def test_copy_dry_run(run: Run, app: str, tmp_path: Path) -> None:
    """Counts, and nothing is made."""
    shown = run("copy", f"{app}:amd64", f"oci:{tmp_path}/none:1", "--dry-run", "--json").json
    assert (shown["documents"], shown["blobs"]) == (1, 2)
    assert not (tmp_path / "none").exists()


def test_tags(run: Run, app: str) -> None:
    """One a line, or one document."""
    assert run("tags", app).out == "amd64\narmhf\nattested\ns390x\n"
    assert run("tags", app, "--json").json["tags"] == ["amd64", "armhf", "attested", "s390x"]


def test_delete_never_breaks_a_list(run: Run, app: str) -> None:
    """A digest in use is refused with exit code 1; a tag goes alone; --force is obeyed."""
    run("create", f"{app}:1", f"{app}:amd64", f"{app}:s390x", "--push")
    pinned = run("resolve", f"{app}:1", "--platform", "linux/amd64").out.strip()
    tagged = run("delete", pinned, ok=False)
    assert (tagged.code, "also tagged amd64" in tagged.err) == (1, True)
    run("delete", f"{app}:amd64", "--dry-run")
    assert "amd64" in run("tags", app).out.split()
    run("delete", f"{app}:amd64")
    assert "amd64" not in run("tags", app).out.split()
    needed = run("delete", pinned, ok=False)
    assert (needed.code, "part of the list 1" in needed.err) == (1, True)
    run("delete", pinned, "--force")
    assert "MISSING" in run("inspect", f"{app}:1").out


def test_delete_guesses_no_tag(run: Run, app: str) -> None:
    """A bare name is not "latest" here."""
    assert run("delete", app, ok=False).code == 2


def test_prune_shows_first_and_keeps_what_lists_need(run: Run, app: str) -> None:
    """The image behind a kept list stays, though its own tag goes."""
    run("create", f"{app}:v1", f"{app}:amd64", f"{app}:s390x", "--push")
    shown = run("prune", app, "--keep", "v*", "--dry-run", "--json").json
    assert [row["tag"] for row in shown["deleted"]] == ["amd64", "armhf", "attested", "s390x"]
    assert len(run("tags", app).out.split()) == 5
    done = run("prune", app, "--keep", "v*")
    assert done.last == f"{app}: deleted 4 tags and 6 documents, kept 1 tag"
    assert run("tags", app).out == "v1\n"
    assert "MISSING" not in run("inspect", f"{app}:v1").out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "no rule says what stays"),
        (("--keep-last", "-1"), "--keep-last -1"),
        (("--older-than", "soon"), "expected an age such as 12h"),
        (("--older-than", "0d"), "expected an age such as 12h"),
    ],
)
def test_prune_wants_rules(run: Run, app: str, words: tuple[str, ...], told: str) -> None:
    """And rules that mean something."""
    refused = run("prune", app, *words, ok=False)
    assert (refused.code, told in refused.err) == (2, True)


def test_prune_takes_a_repository(run: Run, app: str) -> None:
    """Not a tag: that is what delete is for. And not everything."""
    assert run("prune", f"{app}:amd64", "--keep-last", "1", ok=False).code == 2
    nothing = run("prune", app, "--keep", "V*", ok=False)
    assert (nothing.code, "keep none of 4 tags" in nothing.err) == (1, True)


def test_hostile_text_does_not_reach_the_terminal(run: Run, app: str) -> None:
    """An annotation with an escape sequence is spelled out."""
    run("create", f"{app}:1", f"{app}:attested", "--push", "--annotation", "a=\x1b[31mred")
    assert "\x1b" not in run("inspect", f"{app}:1").out
    assert "\\x1b[31mred" in run("inspect", f"{app}:1").out


def test_a_child_that_is_listed_often_is_read_once() -> None:
    """An index may hold thousands of entries; they are all shown, and each document is asked for once."""
    asked: list[str] = []

    class Counting(Memory):
        def resolve(self, name: str) -> Document:
            asked.append(name)
            return super().resolve(name)

    store = Counting()
    child = make_image(store, "linux/amd64").descriptor
    entries = [child.with_annotations({"n": str(n)}).to_json() for n in range(500)]
    root = Document.parse(json.dumps({"schemaVersion": 2, "manifests": entries}).encode())
    shown = inspect(store, root, "x")
    assert [each.descriptor.annotations["n"] for each in shown.children] == [str(n) for n in range(500)]
    assert {each.document for each in shown.children} == {store.resolve(str(child.digest))}
    assert asked == [str(child.digest)] * 2


def test_delete_refuses_what_an_index_in_an_index_needs(run: Run, tmp_path: Path) -> None:
    """Untagged is not unused, however deep it lies."""
    store = Layout.create(str(tmp_path / "nested"), durable=False)
    inner = make_index(store, ("linux/amd64", "linux/arm64"))
    put_bytes(store, inner.descriptor, inner.raw)
    outer = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [inner.descriptor.to_json()]}
    store.tag(Document(OCI_INDEX, json.dumps(outer).encode()), "outer")
    leaf = inner.index.manifests[0].digest
    refused = run("delete", f"oci:{store.path}:{leaf}", ok=False)
    assert refused.code == 1
    assert "is part of the list outer" in refused.err
    assert store.exists(inner.index.manifests[0])
