# SPDX-License-Identifier: Apache-2.0
"""create, annotate, push, rm, ls, add, drop, join: docker's words where scripts depend on them, ours elsewhere."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.conftest import Run

from manyfest.stores.layout import Layout
from manyfest.testing.images import make_image

Golden = Callable[[str, str], None]


def platforms(run: Run, name: str) -> list[str]:
    """What a pushed list holds."""
    return [child["platform"] for child in run("inspect", name, "--json").json["platforms"]]


def test_create_annotate_push_as_docker_does(run: Run, app: str) -> None:
    """The three commands everybody's scripts have, with their messages, and the digest as the last line."""
    created = run("create", f"{app}:1", f"{app}:amd64", f"{app}:armhf")
    assert created.out == f"Created manifest list {app}:1\n"
    assert (
        run("annotate", f"{app}:1", f"{app}:armhf", "--os", "linux", "--arch", "arm", "--variant", "v7").out
        == ""
    )
    pushed = run("push", "--purge", f"{app}:1")
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", pushed.last)
    assert pushed.last == run("inspect", f"{app}:1", "--json").json["digest"]
    assert platforms(run, f"{app}:1") == ["linux/amd64", "linux/arm/v7"]
    assert run("ls", "--json").json == {"drafts": []}


def test_names_are_completed_in_the_message(run: Run, layout: str) -> None:
    """docker prints the full name; so do we."""
    assert (
        run("create", "app", f"{layout}:amd64").out == "Created manifest list docker.io/library/app:latest\n"
    )


def test_create_refuses_to_amend_unasked(run: Run, app: str) -> None:
    """Exit code 1 and docker's sentence."""
    run("create", f"{app}:1", f"{app}:amd64")
    refused = run("create", f"{app}:1", f"{app}:s390x", ok=False)
    assert refused.code == 1
    assert "refusing to amend an existing manifest list with no --amend flag" in refused.err


def test_amend_may_be_repeated_between_images(run: Run, app: str) -> None:
    """The form of Docker's documentation: create LIST --amend A --amend B."""
    run("create", f"{app}:1", "--amend", f"{app}:amd64", "--amend", f"{app}:s390x")
    run("create", "--amend", f"{app}:1", f"{app}:armhf")
    entries = run("ls", "--json").json["drafts"][0]["manifests"]
    assert [entry["image"] for entry in entries] == [f"{app}:amd64", f"{app}:s390x", f"{app}:armhf"]


def test_a_rebuilt_platform_that_is_amended_replaces_the_old_one(run: Run, app: str, layout: str) -> None:
    """Under another name: docker would send both, and engines go on taking the old one. The place in the list stays."""
    store = Layout(layout.removeprefix("oci:"))
    new = make_image(store, "linux/amd64", docker=True, seed=1, tag="amd64-2")
    run("copy", f"{layout}:amd64-2", f"{app}:amd64-2", "-q")
    run("create", f"{app}:1", f"{app}:amd64", f"{app}:s390x")
    run("create", f"{app}:1", "--amend", f"{app}:amd64-2")
    pushed = run("push", f"{app}:1", "--json")
    assert f"{app}:amd64-2 replaces {app}:amd64 for linux/amd64" in pushed.err
    entries = pushed.json["platforms"]
    assert [each["platform"] for each in entries] == ["linux/amd64", "linux/s390x"]
    assert entries[0]["digest"] == str(new.digest)


def test_an_amended_image_that_is_annotated_later_replaces_nothing(run: Run, app: str) -> None:
    """A cross-built image may claim the wrong platform until annotate corrects it: what was there stays."""
    run("create", f"{app}:1", f"{app}:amd64")
    run("create", f"{app}:1", "--amend", f"{app}:s390x")
    run("annotate", f"{app}:1", f"{app}:s390x", "--arch", "arm64")
    run("push", f"{app}:1")
    assert platforms(run, f"{app}:1") == ["linux/amd64", "linux/arm64"]


def test_an_amended_image_replaces_one_platform_of_an_index(run: Run, app: str) -> None:
    """The others stay with their attestations; what attested the old one goes."""
    run("create", f"{app}:1", f"{app}:attested")
    run("create", f"{app}:1", "--amend", f"{app}:amd64")
    run("push", f"{app}:1")
    assert platforms(run, f"{app}:1") == ["linux/arm64", "linux/amd64"]
    shown = run("inspect", f"{app}:1", "--json").json["platforms"]
    assert [len(each["attestations"]) for each in shown] == [1, 0]


def test_two_images_for_one_platform_given_together_are_refused(run: Run, app: str) -> None:
    """Nobody said which one is meant."""
    run("create", f"{app}:1", f"{app}:attested", f"{app}:amd64")
    refused = run("push", f"{app}:1", ok=False)
    assert (refused.code, "two entries for linux/amd64" in refused.err) == (1, True)


def test_create_of_a_missing_image_leaves_no_draft(run: Run, app: str) -> None:
    """Nothing half-written."""
    failed = run("create", f"{app}:1", f"{app}:amd64", f"{app}:nope", ok=False)
    assert failed.code == 3
    assert "nope" in failed.err
    assert run("ls", "--json").json == {"drafts": []}


def test_create_and_push_at_once(run: Run, host: str, app: str, layout: str) -> None:
    """Images from another repository and a folder come along; each is told, and the digest is last."""
    name = f"{host}/acme/all"
    made = run("create", f"{name}:1", f"{app}:amd64", f"{layout}:s390x", "--push", "--tag", "latest")
    lines = made.out.splitlines()
    assert [line.split(" ")[0:2] for line in lines[:-1]] == [["Pushed", "ref"]] * 2
    assert all(re.fullmatch(rf"Pushed ref {name}@(sha256:\w+) with digest: \1", line) for line in lines[:-1])
    assert run("tags", name).out.split() == ["1", "latest"]
    assert platforms(run, f"{name}:latest") == ["linux/amd64", "linux/s390x"]


def test_an_attested_index_is_a_source(run: Run, app: str) -> None:
    """What docker refuses with "is a manifest list" keeps its attestations here."""
    run("create", f"{app}:1", f"{app}:attested", f"{app}:s390x", "--push")
    shown = run("inspect", f"{app}:1", "--json").json
    assert [(c["platform"], len(c["attestations"])) for c in shown["platforms"]] == [
        ("linux/amd64", 1),
        ("linux/arm64", 1),
        ("linux/s390x", 0),
    ]


def test_annotate_knows_the_platforms_that_exist(run: Run, app: str) -> None:
    """A typo is refused in docker's words, with what was meant."""
    run("create", f"{app}:1", f"{app}:armhf")
    refused = run("annotate", f"{app}:1", f"{app}:armhf", "--os", "linux", "--arch", "armv7", ok=False)
    assert refused.code == 2
    assert "unsupported os/arch combination: linux/armv7" in refused.err
    assert "linux/arm/v7" in refused.err


def test_annotate_an_image_that_is_not_in_the_list(run: Run, app: str) -> None:
    """docker's sentence."""
    run("create", f"{app}:1", f"{app}:armhf")
    failed = run("annotate", f"{app}:1", f"{app}:amd64", "--arch", "amd64", ok=False)
    assert failed.code == 3
    assert f"manifest for image {app}:amd64 does not exist in {app}:1" in failed.err


def test_os_features_accumulate_and_clear(run: Run, app: str) -> None:
    """A comma list or a repeated flag; an empty text clears, which docker cannot."""
    run("create", f"{app}:1", f"{app}:amd64")
    run(
        "annotate",
        f"{app}:1",
        f"{app}:amd64",
        "--os-features",
        "a,b",
        "--os-features",
        "c",
        "--os-version",
        "10",
    )

    def entry() -> dict[str, object]:
        drafts = run("ls", "--json").json["drafts"]
        found: dict[str, object] = drafts[0]["manifests"][0]["platform"]
        return found

    assert entry() == {"os.version": "10", "os.features": ["a", "b", "c"]}
    run("annotate", f"{app}:1", f"{app}:amd64", "--os-features", "")
    assert entry()["os.features"] == []


def test_annotate_a_pushed_list(run: Run, app: str) -> None:
    """By platform, by digest and by name; the rest of the list stays."""
    run("create", f"{app}:1", f"{app}:attested", "--push")
    first = run("annotate", f"{app}:1", "linux/arm64", "--annotation", "soc=bcm2712").last
    digest = run("resolve", f"{app}:1", "--platform", "linux/amd64").last.partition("@")[2]
    second = run("annotate", f"{app}:1", digest, "--variant", "v2").last
    third = run("annotate", f"{app}:1", "--annotation", "org.example=x").last
    shown = run("inspect", f"{app}:1", "--json").json
    assert len({first, second, third}) == 3
    assert shown["digest"] == third
    assert shown["annotations"] == {"org.example": "x"}
    assert [(c["platform"], c["annotations"]) for c in shown["platforms"]] == [
        ("linux/amd64/v2", {}),
        ("linux/arm64", {"soc": "bcm2712"}),
    ]


def test_rm_joins_errors(run: Run, app: str) -> None:
    """What is there goes; what is not is one error."""
    run("create", f"{app}:1", f"{app}:amd64")
    failed = run("rm", f"{app}:nope", f"{app}:1", f"{app}:neither", ok=False)
    assert failed.code == 3
    assert failed.err.count("No such manifest: ") == 2
    assert run("ls", "--json").json == {"drafts": []}


def test_push_says_what_moved_and_locked_does_not_follow(run: Run, app: str, layout: str) -> None:
    """No stale cache: a tag that was pushed again is resolved again, and said."""
    run("create", f"{app}:1", f"{app}:amd64")
    before = run("push", f"{app}:1").last
    run("copy", f"{layout}:s390x", f"{app}:amd64", "-q")
    assert run("push", f"{app}:1", "--locked").last == before
    moved = run("push", f"{app}:1", "--allow-shrink")
    assert "has moved" in moved.err
    assert moved.last != before


def test_a_tag_does_not_shrink(run: Run, app: str) -> None:
    """Exit code 1, and the lost platform is named."""
    run("create", f"{app}:1", f"{app}:amd64", f"{app}:s390x", "--push")
    refused = run("create", f"{app}:1", f"{app}:amd64", "--push", ok=False)
    assert refused.code == 1
    assert "linux/s390x" in refused.err
    run("create", f"{app}:1", f"{app}:amd64", "--push", "--allow-shrink")
    assert platforms(run, f"{app}:1") == ["linux/amd64"]


def test_expect_is_a_gate(run: Run, app: str) -> None:
    """Exit code 1, and nothing is written."""
    refused = run(
        "create", f"{app}:1", f"{app}:amd64", "--push", "--expect", "linux/amd64,linux/arm64", ok=False
    )
    assert refused.code == 1
    assert "linux/arm64" in refused.err
    assert "1" not in run("tags", app).out.split()


def test_duplicates_are_refused(run: Run, app: str) -> None:
    """Two images for one platform: the second would never run."""
    refused = run("create", f"{app}:1", f"{app}:amd64", f"{app}:attested", "--push", ok=False)
    assert refused.code == 1
    assert "two entries for linux/amd64" in refused.err


def test_dry_run_writes_nothing(run: Run, app: str, golden: Golden) -> None:
    """The digest that the push will have, and the table of what it holds."""
    run("create", f"{app}:1", f"{app}:amd64", f"{app}:s390x")
    dry = run("push", f"{app}:1", "--dry-run")
    assert "1" not in run("tags", app).out.split()
    golden("cli/push-dry-run.txt", dry.out.replace(app.partition("/")[0], "registry.test:5"))
    assert run("push", f"{app}:1").last == dry.last


def test_push_a_spec_file(
    run: Run, app: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden: Golden
) -> None:
    """manifest-tool's YAML, from a file and from standard input."""
    spec = f"""
image: {app}:spec
tags: ["1.2", latest]
manifests:
  - image: {app}:amd64
    platform: {{architecture: amd64, os: linux}}
  - image: {app}:armhf
    platform: {{architecture: arm, os: linux, variant: v7, osversion: "", osfeatures: []}}
  - image: {app}:nope
    platform: {{architecture: 386, os: linux}}
"""
    path = tmp_path / "list.yaml"
    path.write_text(spec)
    assert run("push", "-f", str(path), ok=False).code == 3
    done = run("push", "-f", str(path), "--ignore-missing", "--json")
    assert done.json["names"] == ["spec", "1.2", "latest"]
    assert done.json["missing"] == [f"{app}:nope"]
    golden("cli/push.json", done.out.replace(app.partition("/")[0], "registry.test:5"))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(spec.encode())))
    assert run("push", "-f", "-", "--ignore-missing").last == done.json["digest"]


def test_manifest_tools_own_forms(run: Run, app: str, tmp_path: Path) -> None:
    """from-spec and from-args as they are, with manifest-tool's last line."""
    target = f"{app}:args"
    made = run(
        *("push", "--type", "oci", "from-args", "--platforms", "linux/amd64,linux/s390x"),
        *("--template", f"{app}:ARCH", "--target", target, "--tags", "a,b", "--annotations", "k=v"),
    )
    digest, size = made.last.removeprefix("Digest: ").split(" ")
    shown = run("inspect", target, "--json").json
    assert (shown["digest"], shown["size"], shown["annotations"]) == (digest, int(size), {"k": "v"})
    assert {"a", "b", "args"} <= set(run("tags", app).out.split())
    path = tmp_path / "spec.yml"
    path.write_text(f"image: {target}\nmanifests: [{{image: '{app}:attested'}}]\n")
    assert run("push", "from-spec", str(path), "--allow-shrink").last.startswith("Digest: sha256:")


def test_compat_docker_writes_dockers_bytes(run: Run, app: str) -> None:
    """Three spaces, size before digest."""
    run("create", f"{app}:1", f"{app}:amd64", f"{app}:s390x")
    run("push", f"{app}:1", "--compat", "docker")
    raw = run("inspect", f"{app}:1", "--raw").out
    assert raw.startswith('{\n   "schemaVersion": 2,\n   "mediaType"')
    assert raw.index('"size"') < raw.index('"digest"')


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("image: a\nmanifets: []\n", "list.yaml:2:1: the spec: unknown key 'manifets'"),
        (
            "image: a\nmanifests:\n- image: b\n  platform: {foo: 1}\n",
            "list.yaml:4:14: manifests[0].platform: unknown",
        ),
        ("image: a\nimage: b\n", "list.yaml:2:1: the key 'image' stands here twice"),
        ("? [image]\n: b\n", "list.yaml:1:3: a key must be text, got a list or mapping"),
        ("image: a\nannotations: {{b: c}: d}\n", "list.yaml:2:15: a key must be text, got a list or mapping"),
        ("image: [a\n", "list.yaml:2:1: "),
        ("", "list.yaml: an empty document"),
        ("- a\n", "list.yaml:1:1: the spec must be a mapping"),
        ("image: a\ntags: 1.2\n", "list.yaml:2:1: tags must be a list"),
    ],
)
def test_a_broken_spec_says_where(run: Run, tmp_path: Path, text: str, expected: str) -> None:
    """File, line and column."""
    path = tmp_path / "list.yaml"
    path.write_text(text)
    failed = run("push", "-f", str(path), ok=False)
    assert failed.code == 2
    assert expected in failed.err


def test_push_without_a_draft(run: Run) -> None:
    """It says what makes one."""
    failed = run("push", "localhost:5000/nothing:1", ok=False)
    assert failed.code == 3
    assert "No such manifest: localhost:5000/nothing:1" in failed.err


def test_add_and_drop_edit_in_place(run: Run, app: str) -> None:
    """Other entries stay; the digest is the last line; nothing to do is said and no error."""
    run("create", f"{app}:1", f"{app}:amd64", "--push")
    added = run("add", f"{app}:1", f"{app}:armhf", "--os", "linux", "--arch", "arm", "--variant", "v6")
    assert platforms(run, f"{app}:1") == ["linux/amd64", "linux/arm/v6"]
    again = run("add", f"{app}:1", f"{app}:armhf", "--os", "linux", "--arch", "arm", "--variant", "v6")
    assert again.last == added.last
    assert "already" in again.err
    dry = run("drop", f"{app}:1", "linux/amd64", "--dry-run")
    assert platforms(run, f"{app}:1") == ["linux/amd64", "linux/arm/v6"]
    assert run("drop", f"{app}:1", "linux/amd64").last == dry.last
    assert run("drop", f"{app}:1", "linux/arm/v6", ok=False).code == 1


def test_join_completes_a_tag(run: Run, app: str, layout: str) -> None:
    """The tag appears with the last expected platform; marks go when asked."""
    expect = ("--expect", "linux/amd64,linux/s390x", "--when-complete")
    first = run("join", f"{app}:j", f"{layout}:amd64", *expect, "--json").json
    assert (first["digest"], first["complete"], first["missing"]) == (None, False, ["linux/s390x"])
    assert "j" not in run("tags", app).out.split()
    assert run("join", f"{app}:j", f"{layout}:s390x", *expect).last.startswith("sha256:")
    assert platforms(run, f"{app}:j") == ["linux/amd64", "linux/s390x"]
    run("join", f"{app}:j", "--clear-marks")
    assert not [tag for tag in run("tags", app).out.split() if tag.startswith("j.join-")]


@pytest.mark.parametrize(
    "argv",
    [
        ("create", "localhost:5000/a@sha256:" + "0" * 64, "b"),
        ("create", "--push", "--amend", "localhost:5000/a", "b"),
        ("create", "a", "b", "--annotation", "novalue"),
        ("create", "oci:dir:1", "b"),
        ("annotate", "a", "b"),
        ("annotate", "a", "--arch", "arm"),
        ("add", "a", "b", "c", "--arch", "arm"),
        ("join", "a"),
        ("join", "a", "b", "--when-complete"),
        ("push",),
        ("push", "a", "b"),
        ("push", "-f", "x", "a"),
        ("push", "from-args", "--platforms", "linux/amd64"),
        ("push", "-f", "/nowhere/list.yaml"),
        ("drop", "a", "linux/"),
    ],
)
def test_bad_usage(run: Run, argv: tuple[str, ...]) -> None:
    """Exit code 2 before any registry is asked."""
    failed = run(*argv, ok=False)
    assert failed.code == 2
    assert failed.err.startswith("manyfest: error: ")
    assert failed.out == ""


@pytest.mark.parametrize(
    ("leading", "code"),
    [
        (("--debug", "--insecure=true", "--plain-http", "--docker-cfg", "CFG"), 0),
        (("--username", "me", "--password", "WORD", "--docker-cfg=CFG"), 0),
        (("--username=me",), 0),
        (("--usrname=me",), 2),
        (("--password",), 2),
    ],
)
def test_manifest_tools_options_stand_before_the_command(
    run: Run, app: str, tmp_path: Path, leading: tuple[str, ...], code: int
) -> None:
    """Its scripts work with one word more."""
    words = [word.replace("CFG", str(tmp_path)) for word in leading]
    form = ("--platforms", "linux/amd64,linux/s390x", "--template", f"{app}:ARCH", "--target", f"{app}:1")
    pushed = run(*words, "push", "from-args", *form, ok=False)
    assert pushed.code == code, pushed
    assert "WORD" not in pushed.err
    if code == 0:
        assert re.fullmatch(r"Digest: sha256:\w{64} \d+", pushed.last)
        assert run(*words, "inspect", f"{app}:1", "--json").json["kind"] == "index"


def test_switches_may_say_true_or_false(run: Run, app: str) -> None:
    """As docker's do."""
    run("create", "--amend=false", f"{app}:1", f"{app}:amd64")
    run("create", "-a=true", f"{app}:1", f"{app}:s390x", "--insecure=1")
    run("push", "--purge=true", f"{app}:1")
    assert run("ls", "--json").json == {"drafts": []}
    wrong = run("push", "--purge=maybe", f"{app}:1", ok=False)
    assert (wrong.code, "--purge: expected true or false, got 'maybe'" in wrong.err) == (2, True)


def test_a_mistyped_option_is_not_repeated_with_its_value(run: Run) -> None:
    """It may have been a password."""
    wrong = run("push", "--pasword=WORD", "localhost:5000/app", ok=False)
    assert (wrong.code, "--pasword" in wrong.err, "WORD" in wrong.err) == (2, True, False)


def test_what_is_there_is_not_called_sent(run: Run, layout: str, tmp_path: Path) -> None:
    """Under a new name nothing says beforehand that small blobs are there; the target's silence does."""
    run("copy", f"{layout}:attested", f"oci:{tmp_path}/out:1")
    again = run("copy", f"{layout}:attested", f"oci:{tmp_path}/out:2", "--json").json["transfer"]
    assert (again["bytes_sent"], again["blobs_sent"]) == (0, 0)
    assert again["blobs_there"] > 0


@pytest.mark.parametrize("tag", ["v2@sha256abc", "sha256:abc", "app:2", "-x"])
def test_a_tag_that_is_none_is_found_out_before_anything_is_written(
    run: Run, host: str, layout: str, tag: str
) -> None:
    """Bad input is 2, and no tag before the wrong one has moved."""
    name = f"{host}/acme/none"
    copied = run("copy", f"{layout}:attested", f"{name}:1", f"--tag={tag}", ok=False)
    assert (copied.code, "not a tag" in copied.err) == (2, True)
    made = run("create", f"{name}:1", f"{layout}:amd64", "--push", f"--tag={tag}", ok=False)
    assert (made.code, "not a tag" in made.err) == (2, True)
    assert run("tags", name, ok=False).code == 3


def test_annotate_refuses_what_a_pushed_docker_list_cannot_keep(run: Run, host: str, layout: str) -> None:
    """On the list as on its entries: strict registries refuse them, others lose them."""
    name = f"{host}/acme/docker:1"
    run("create", name, f"{layout}:amd64", "--type", "docker", "--push")
    refused = run("annotate", name, "--annotation", "a=b", ok=False)
    assert (refused.code, "cannot be kept" in refused.err) == (2, True)


def test_a_target_with_tag_and_digest_gets_its_tag(run: Run, host: str, layout: str) -> None:
    """The digest says what must arrive; the tag used to be forgotten."""
    name = f"{host}/acme/both"
    digest = run("copy", f"{layout}:amd64", f"{name}:old").last
    run("copy", f"{layout}:amd64", f"{name}:v1@{digest}")
    assert run("tags", name).out.split() == ["old", "v1"]
    refused = run("copy", f"{layout}:attested", f"docker://{name}:v2@{digest}", ok=False)
    assert (refused.code, "the target names" in refused.err) == (2, True)
    assert run("tags", name).out.split() == ["old", "v1"]


def test_a_docker_archive_is_not_copied_into_itself(run: Run, tmp_path: Path) -> None:
    """Writing one replaces the file, and with it the images that were not copied."""
    with Layout.create(str(tmp_path / "images")) as store:
        make_image(store, "linux/amd64", tag="v1")
    archive = tmp_path / "saved.tar"
    run("copy", f"oci:{tmp_path}/images:v1", f"docker-archive:{archive}:app:a")
    before = archive.read_bytes()
    (tmp_path / "same.tar").symlink_to(archive)
    refused = run(
        "copy", f"docker-archive:{archive}:app:a", f"docker-archive:{tmp_path}/same.tar:app:b", ok=False
    )
    assert refused.code == 2
    assert "would replace the file that is read" in refused.err
    assert archive.read_bytes() == before
