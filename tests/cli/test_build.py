# SPDX-License-Identifier: Apache-2.0
"""``manyfest build`` as a user runs it."""

from __future__ import annotations

import json
import subprocess
from functools import partial
from pathlib import Path

import pytest
from tests.cli.conftest import Run
from tests.cli.test_json_shapes import keys, keys_of_table

from manyfest.build import bases
from manyfest.indexes.nearest import nearest_within
from manyfest.stores.layout import Layout
from manyfest.testing.images import make_index

BOTH = "linux/amd64,linux/arm64"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a Dockerfile and something to copy; the command runs in it."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY hello /hello\n")
    (folder / "hello").write_text("hello\n")
    monkeypatch.chdir(folder)
    return folder


def write_base(folder: Path, tag: str, *platforms: str) -> None:
    """An image of these platforms in a layout."""
    with Layout.create(str(folder)) as layout:
        make_index(layout, platforms, tag=tag)


def test_to_a_registry_twice(run: Run, project: Path, host: str) -> None:
    """One index; the second time nothing is sent."""
    name = f"{host}/acme/app:1"
    first = run("build", "-t", name, "--tag", "latest", "--platform", BOTH)
    assert "sent 3 blobs" in first.err
    again = run("build", "-t", name, "--tag", "latest", "--platform", BOTH)
    assert first.last == again.last
    assert "sent 0 blobs (0 B)" in again.err
    assert run("resolve", f"{host}/acme/app:latest", "--platform", "linux/arm64").out
    assert [line.split()[0] for line in first.out.splitlines()[1:-1]] == BOTH.split(",")


def test_several_places(run: Run, project: Path, tmp_path: Path, host: str) -> None:
    """The same bytes in each."""
    places = [f"{host}/acme/app:1", f"oci:{tmp_path}/layout:x", f"oci-archive:{tmp_path}/a.tar:y"]
    shown = run("build", *(word for p in places for word in ("-t", p)), "--platform", BOTH, "--json").json
    assert {pushed["digest"] for pushed in shown["pushed"]} == {shown["digest"]}
    with Layout(f"{tmp_path}/layout") as layout:
        assert str(layout.resolve("x").digest) == shown["digest"]


def test_an_archive_for_docker(run: Run, project: Path, tmp_path: Path) -> None:
    """Holds one platform, without a list."""
    place = f"docker-archive:{tmp_path}/app.tar:app:1"
    run("build", "-t", place, "--type", "docker", "--platform", "linux/s390x")
    assert "linux/s390x" in run("inspect", place).out
    failed = run("build", "-t", f"docker-archive:{tmp_path}/b.tar:app:1", "--platform", BOTH, ok=False)
    assert failed.code == 2
    assert "holds images of one platform, got 2" in failed.err


def test_json(run: Run, project: Path, tmp_path: Path) -> None:
    """As docs/reference/json.md says."""
    shown = run("build", "-t", f"oci:{tmp_path}/out", "--platform", BOTH, "--json").json
    assert keys(shown) == keys_of_table("build")
    assert keys(shown["platforms"][0]) == keys_of_table("build", "Each of `platforms`:")
    assert keys(shown["pushed"][0]) == keys_of_table("build", "Each of `pushed`:")
    planned = run("build", "--dry-run", "--json").json
    assert keys(planned["platforms"][0]) == keys_of_table("build", "Each of its `platforms`:")


def test_dry_run(run: Run, project: Path) -> None:
    """Needs no name, makes nothing."""
    (project / "manyfest.yaml").write_text(
        "image: acme/app:1\nplatforms: [linux/arm/v7]\ncompile: {run: 'make ARCH={debian}', outputs: [hello]}\n"
    )
    shown = run("build", "--dry-run").out
    assert "linux/arm/v7\n" in shown
    assert "  base:       scratch\n" in shown
    assert "  compile:    make ARCH=armhf\n" in shown
    assert "    TARGETVARIANT=v7\n" in shown


def test_name_platforms_and_gates_of_the_project(run: Run, project: Path, host: str) -> None:
    """In manyfest.yaml."""
    text = f"image: {host}/acme/app:1\ntags: [latest]\nplatforms: [linux/amd64, linux/s390x]\nexpect: [linux/s390x]\n"
    (project / "manyfest.yaml").write_text(text)
    run("build")
    assert "linux/s390x" in run("inspect", f"{host}/acme/app:latest").out
    refused = run("build", "--platform", "linux/amd64", ok=False)
    assert refused.code == 1
    assert "expected linux/s390x, but it is built for linux/amd64 only" in refused.err
    words = ["--platform", "linux/amd64", "--expect", "linux/s390x,linux/arm64"]
    more = run("build", *words, ok=False)
    assert "expected linux/s390x, linux/arm64, but it is built for linux/amd64 only" in more.err


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_what_is_expected_is_looked_at_first(run: Run, project: Path, host: str, dry: list[str]) -> None:
    """Before minutes of compiling."""
    text = "image: acme/app\ncompile: {run: 'touch compiled', outputs: [hello]}\n"
    (project / "manyfest.yaml").write_text(text)
    words = ["--platform", BOTH, "--expect", "linux/arm/v7,linux/amd64"]
    refused = run("build", "-t", f"{host}/acme/app:1", *words, *dry, ok=False)
    assert refused.code == 1
    assert f"expected linux/arm/v7, but it is built for {BOTH.replace(',', ', ')} only" in refused.err
    assert not (project / "compiled").exists()


def test_a_base_without_the_platform(
    run: Run, project: Path, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All platforms that lack one in one message, what it has, and which tag has it; before anything is compiled."""
    monkeypatch.setattr(bases, "nearest_within", partial(nearest_within, seconds=60.0))
    source = project / "base"
    write_base(source, "1.0", "linux/amd64", "linux/arm64")
    write_base(source, "1.1", "linux/amd64", "linux/arm64", "linux/s390x", "linux/riscv64")
    write_base(source, "1.0-slim", "linux/amd64", "linux/arm64", "linux/s390x")
    for tag in ("1.0", "1.1", "1.0-slim"):
        run("copy", f"oci:{source}:{tag}", f"{host}/acme/base:{tag}")
    (project / "Dockerfile").write_text(f"ARG BASE={host}/acme/base:1.0\nFROM $BASE\nCOPY hello /hello\n")
    text = "image: acme/app\ncompile: {run: 'touch compiled', outputs: [hello]}\n"
    (project / "manyfest.yaml").write_text(text)
    platforms = "linux/amd64,linux/s390x,linux/riscv64"
    failed = run("build", "-t", "oci:o", "--platform", platforms, ok=False)
    assert failed.code == 3
    assert f"Dockerfile:2: {host}/acme/base:1.0: an index without linux/s390x, linux/riscv64" in failed.err
    assert "it has linux/amd64, linux/arm64; name a base for linux/s390x, linux/riscv64" in failed.err
    assert "1.1 has it (looked at 2 of 2 tags: 2 HEAD, 2 GET)" in failed.err
    assert not (project / "compiled").exists()
    assert not (project / "o").exists()


def test_a_base_for_each_platform(run: Run, project: Path, tmp_path: Path, host: str) -> None:
    """Single images under names of their own, as FROM's ARG in the file says; the command line goes before it."""
    for platform in BOTH.split(","):
        architecture = platform.partition("/")[2]
        write_base(tmp_path / "base", architecture, platform)
        run(
            "copy",
            f"oci:{tmp_path}/base:{architecture}",
            f"{host}/acme/{architecture}:1",
            "--platform",
            platform,
        )
    (project / "Dockerfile").write_text("ARG BASE\nFROM $BASE\nCOPY hello /hello\n")
    bases = ", ".join(f"{each}: '{host}/acme/{each.partition('/')[2]}:1'" for each in BOTH.split(","))
    (project / "manyfest.yaml").write_text(f"image: acme/app\nbuild: {{args: {{BASE: {{{bases}}}}}}}\n")
    planned = run("build", "--platform", BOTH, "--dry-run", "--json").json["platforms"]
    names = [each["bases"][0]["name"] for each in planned]
    assert names == [f"{host}/acme/{each.partition('/')[2]}:1" for each in BOTH.split(",")]
    assert run("build", "-t", "oci:o", "--platform", BOTH).code == 0
    words = ["--build-arg", f"BASE={names[0]}"]
    wrong = run("build", "-t", "oci:o", "--platform", BOTH, *words, ok=False)
    assert f"Dockerfile:2: {names[0]}: an index without linux/arm64" in wrong.err


def test_run_without_an_engine(
    run: Run, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was looked for, and for which line."""
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    (project / "Dockerfile").write_text("FROM scratch\nRUN make\n")
    ran = run("build", "-t", "oci:o", "--platform", "linux/amd64", ok=False)
    assert ran.code == 3
    assert (
        "Dockerfile:2: RUN for linux/amd64: no container engine; looked for docker (not on PATH)" in ran.err
    )
    wrong = run("build", "-t", "oci:o", "--node", "linux/amd64", ok=False)
    assert (wrong.code, "expected PLATFORM=WHERE" in wrong.err) == (2, True)


@pytest.mark.parametrize(
    ("dockerfile", "argv", "code", "message"),
    [
        ("FROM scratch\nFETCH\n", ["-t", "oci:o"], 2, "Dockerfile:2: unknown instruction: FETCH"),
        ("FROM scratch\n", [], 2, "where to push to?"),
        ("FROM scratch\n", ["-t", "oci:o", "--build-arg", "=x"], 2, "--build-arg =x"),
        ("FROM scratch\n", ["-t", "oci:o", "--label", "x"], 2, "--label x: expected KEY=VALUE"),
        ("FROM scratch\n", ["-t", "oci:o", "--platform", "linux/"], 2, "linux/"),
        ("FROM scratch\n", ["-t", "oci:o", "--target", "x"], 2, "no stage 'x'"),
        ("FROM scratch\n", ["-t", "oci:o", "-f", "none"], 2, "none: no such file"),
        ("FROM scratch\n", ["nowhere", "-t", "oci:o"], 2, "nowhere: no such folder"),
        ("FROM scratch\n", ["-t", "oci:o", "--git"], 2, "in no git repository"),
    ],
)
def test_mistakes(run: Run, project: Path, dockerfile: str, argv: list[str], code: int, message: str) -> None:
    """Say what and where, and leave nothing."""
    (project / "Dockerfile").write_text(dockerfile)
    ran = run("build", *argv, ok=False)
    assert (ran.code, message in ran.err) == (code, True), ran
    assert not (project / "o").exists()


@pytest.mark.parametrize("how", ["option", "file"])
def test_verified_before_it_is_pushed(run: Run, project: Path, tmp_path: Path, how: str) -> None:
    """A text that is to be started: refused, and nothing stands there."""
    (project / "Dockerfile").write_text('FROM scratch\nCOPY hello /hello\nENTRYPOINT ["/hello"]\n')
    (project / "manyfest.yaml").write_text(f"image: acme/app\nverify: {str(how == 'file').lower()}\n")
    words = ["-t", f"oci:{tmp_path}/out:1", "--platform", BOTH]
    refused = run("build", *words, *(["--verify"] if how == "option" else []), ok=False)
    assert refused.code == 1
    assert "was not pushed: verify found" in refused.err
    assert not (tmp_path / "out").exists()


def test_git(run: Run, project: Path, tmp_path: Path) -> None:
    """Commit, version and origin, without the password in its address."""
    for words in (
        ["init", "-q"],
        ["remote", "add", "origin", "https://ann:secret@example.org/acme/app.git"],
        ["add", "Dockerfile", "hello"],
        ["-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-q", "-m", "x"],
        ["tag", "v1.2"],
    ):
        subprocess.run(["git", *words], check=True)
    run("build", "-t", f"oci:{tmp_path}/out:1", "--git", "--platform", "linux/amd64")
    shown = run("inspect", f"oci:{tmp_path}/out:1", "--all", "--json").json
    labels = shown["platforms"][0]["config"]["config"]["Labels"]
    assert labels["org.opencontainers.image.source"] == "https://example.org/acme/app.git"
    assert labels["org.opencontainers.image.version"] == "v1.2"
    assert len(labels["org.opencontainers.image.revision"]) == 40
    assert shown["annotations"] == labels


def test_attestations(run: Run, project: Path, tmp_path: Path, host: str) -> None:
    """Asked for by option or project, shown by inspect, the same everywhere, replaced by a rebuild."""
    name, words = f"{host}/acme/app:1", ["--platform", BOTH]
    ran = run("build", "-t", name, *words, "--provenance", "--sbom", "--json").json
    predicates = ["https://spdx.dev/Document", "https://slsa.dev/provenance/v1"]
    assert [each["predicates"] for each in ran["platforms"][0]["attestations"]] == [predicates]
    assert keys(ran["platforms"][0]) == keys_of_table("build", "Each of `platforms`:")
    assert run("inspect", name).out.count("sbom, provenance") == 2
    shown = json.loads(run("inspect", name, "--attestation", "sbom", "--platform", "linux/arm64").out)
    assert shown["files"][0]["fileName"] == "./hello"
    both = json.loads(run("inspect", name, "--attestation", "provenance").out)
    assert list(both) == BOTH.split(",")
    said = run("inspect", name, "--attestation", predicates[1], "--json").json
    assert [(each["platform"], each["predicate_type"]) for each in said["attestations"]] == [
        (platform, predicates[1]) for platform in BOTH.split(",")
    ]
    missing = run("inspect", name, "--attestation", "sbom", "--platform", "linux/s390x", ok=False)
    assert (missing.code, "no sbom for linux/s390x" in missing.err) == (3, True)
    run("copy", name, f"oci:{tmp_path}/out:1")
    assert run("inspect", f"oci:{tmp_path}/out:1").out.count("sbom, provenance") == 2
    assert run("verify", name)  # The attestations are no images.
    again = run("build", "-t", name, *words, "--provenance=mode=max", "--sbom=true")
    assert (again.last, "sent 0 blobs" in again.err) == (ran["digest"], True)
    text = "image: x\nbuild: {sbom: true, provenance: mode=min}\n"
    (project / "manyfest.yaml").write_text(text)
    run("build", "-t", name, *words, "--sbom=false")
    shown = run("inspect", name, "--json").json["platforms"]
    assert [each["attestations"][0]["predicates"] for each in shown] == [predicates[1:]] * 2
    run("build", "-t", name, *words, "--sbom=false", "--provenance=false")
    assert all(not each["attestations"] for each in run("inspect", name, "--json").json["platforms"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sbom", "."], "sbom '.': expected true or false"),
        (["--provenance=mode=most"], "'mode=most' is not known"),
        (["--provenance", "--type", "docker"], "attestations in Docker's format, which has none"),
    ],
)
def test_attestations_that_cannot_be(run: Run, project: Path, words: list[str], message: str) -> None:
    """Refused before anything is done."""
    ran = run("build", "-t", "oci:o", *words, ok=False)
    assert (ran.code, message in ran.err) == (2, True), ran
    (project / "manyfest.yaml").write_text("image: x\nbuild:\n  provenance: most\n")
    assert "manyfest.yaml:3:3: build.provenance" in run("build", ok=False).err


def test_places_without_an_index_have_no_attestations(run: Run, project: Path, tmp_path: Path) -> None:
    """And that is said."""
    ran = run("build", "-t", f"docker-archive:{tmp_path}/a.tar:x:1", "--platform", "linux/amd64", "--sbom")
    assert "holds no index, and so no attestations" in ran.err


def test_build_args_of_the_environment(
    run: Run, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name alone; an ARG that nobody has is told."""
    (project / "Dockerfile").write_text("FROM scratch\nARG A\nLABEL a=$A\n")
    monkeypatch.setenv("A", "from outside")
    ran = run("build", "-t", f"oci:{tmp_path}/out:1", "--build-arg", "A", "--build-arg", "B=1")
    assert "build argument B is given, but no ARG of that name was met" in ran.err
    shown = run("inspect", f"oci:{tmp_path}/out:1", "--all", "--json").json
    assert shown["platforms"][0]["config"]["config"]["Labels"] == {"a": "from outside"}


@pytest.mark.parametrize("words", [[], ["--keep-going"]])
def test_a_failed_platform_does_not_lose_the_others(run: Run, project: Path, words: list[str]) -> None:
    """What was compiled is kept, and with --keep-going all others are; the next build does only the rest."""
    (project / "Dockerfile").write_text("FROM scratch\nCOPY out /\n")
    text = """image: x
platforms: [linux/amd64, linux/arm64, linux/s390x, linux/riscv64]
compile:
  run: 'case {arch} in s390x|arm64) test ! -e $FLAGS/broken;; esac && echo {arch} > {out}/out'
  outputs: [out]
"""
    flags = project.parent / "flags"
    flags.mkdir()
    (flags / "broken").write_text("")
    (project / "manyfest.yaml").write_text(text.replace("$FLAGS", str(flags)))
    failed = run("build", "-t", "oci:o:1", *words, "-v", ok=False)
    assert failed.code == 3
    assert not (project / "o").exists()
    if words:
        assert "2 of 4 platforms failed\ncompiling for linux/arm64 ended" in failed.err
        assert "\ncompiling for linux/s390x ended with exit code 1" in failed.err
        assert "what was compiled is kept: the same command compiles only the rest" in failed.err
        assert failed.err.count("compiled for") == 2
    (flags / "broken").unlink()
    ran = run("build", "-t", "oci:o:1", "-v")
    told = sorted(line for line in ran.err.splitlines() if line.startswith("compiled for"))
    if words:
        assert told == [
            "compiled for linux/amd64 (unchanged)",
            "compiled for linux/arm64",
            "compiled for linux/riscv64 (unchanged)",
            "compiled for linux/s390x",
        ]
    assert ran.last.startswith("sha256:")
