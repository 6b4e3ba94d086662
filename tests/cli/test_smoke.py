# SPDX-License-Identifier: Apache-2.0
"""The command smoke, with a script in docker's place."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
from tests.cli.conftest import Run

from manyfest.emulate.images import program_image
from manyfest.errors import EngineError
from manyfest.platforms import Platform
from manyfest.stores.layout import Layout
from manyfest.testing.images import make_index

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "json.md").read_text(encoding="utf-8")

# Tells the platform of each run by counting the images that were loaded.
DOCKER = """#!/bin/sh
echo "$*" >> {folder}/log
case $1 in --host | --context) shift 2;; esac
case $1 in
version) echo linux/amd64;;
load) echo "Loaded image: img";;
start) printf '{output}'; exit {code};;
inspect) echo '{{"ExitCode": {code}, "Error": "{error}", "OOMKilled": false, "StartedAt": "2026"}}';;
esac
"""


@pytest.fixture
def place(tmp_path: Path) -> str:
    """A list of two platforms."""
    with Layout.create(str(tmp_path / "layout")) as layout:
        make_index(layout, ("linux/amd64", "linux/386"), tag="1")
        layout.tag(program_image(layout, Platform.parse("linux/amd64")), "single")
    return f"oci:{tmp_path}/layout:1"


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that is first on PATH; its docker prints hello."""
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    (tmp_path / "bin").mkdir()
    answer(tmp_path / "bin")
    return tmp_path / "bin"


def answer(folder: Path, output: str = "hello\\n", code: int = 0, error: str = "") -> None:
    """What every container does from now on."""
    path = folder / "docker"
    path.write_text(DOCKER.format(folder=folder, output=output, code=code, error=error))
    path.chmod(0o755)


def keys(section: str) -> set[str]:
    """What the page says."""
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{section}` |"))
    return set(re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", row.partition(" | ")[2])))


def test_all_is_well(run: Run, place: str, docker: Path) -> None:
    """A row each, exit 0."""
    done = run("smoke", place, "--contains", "hell")
    assert done.last == "2 of 2 platforms did what was expected"
    assert [line.split()[:2] for line in done.out.splitlines()[1:3]] == [
        ["linux/amd64", "ok"],
        ["linux/386", "ok"],
    ]


def test_document(run: Run, place: str, docker: Path) -> None:
    """As documented."""
    shown = run("smoke", place, "--json").json
    assert set(shown) == keys("smoke")
    assert set(shown["results"][0]) == keys("results[]")
    assert [result["output"] for result in shown["results"]] == ["hello\n", "hello\n"]


def test_failure_is_the_answer_no(run: Run, place: str, docker: Path) -> None:
    """Exit 1, with the reason."""
    done = run("smoke", place, "--expect", "{platform}", ok=False)
    assert (done.code, done.last) == (1, "0 of 2 platforms did what was expected")
    assert "linux/386: printed 'hello', expected 'linux/386'" in done.out
    answer(docker, code=127, error="no such file")
    shown = run("smoke", place, "--json", ok=False).json
    assert [(r["ok"], r["exit_code"], r["reasons"]) for r in shown["results"]] == [
        (False, None, ["no such file"])
    ] * 2


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        (("--", "--version"), "img --version"),
        (("--", "a", "--json", "-x", "--", "b"), "img a --json -x -- b"),
        ((), "img"),
    ],
)
def test_command_after_two_dashes(
    run: Run, place: str, docker: Path, argv: tuple[str, ...], wanted: str
) -> None:
    """Whatever it looks like."""
    run("smoke", place, "--platform", "linux/386", *argv)
    created = next(line for line in (docker / "log").read_text().splitlines() if line.startswith("create"))
    assert created.endswith(wanted)


def test_spec_file(run: Run, place: str, docker: Path, tmp_path: Path) -> None:
    """Command and expectations from smoke:, and the command line over them."""
    spec = tmp_path / "manyfest.yaml"
    spec.write_text(
        "image: a/b:1\nsmoke: {cmd: [--hi], contains: hello, platforms: {linux/386: {contains: x}}}\n"
    )
    done = run("smoke", place, "-f", str(spec), ok=False)
    assert "linux/386: printed 'hello', expected it to contain 'x'" in done.out
    assert done.last == "1 of 2 platforms did what was expected"
    assert run("smoke", place, "-f", str(spec), "--contains", "hello").code == 0
    assert "img --hi" in (docker / "log").read_text()
    spec.write_text('image: a/b:1\nnodes: {linux/386: "tcp://there:1"}\nsmoke: {}\n')
    run("smoke", place, "-f", str(spec))
    assert "--host tcp://there:1 start" in (docker / "log").read_text()
    spec.write_text("image: a/b:1\n")
    assert "has no smoke:" in run("smoke", place, "-f", str(spec), ok=False).err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("smoke: {cmd: [a], timeout: .inf}", "2:19: smoke.timeout: expected seconds"),
        (
            "smoke:\n  platforms:\n    linux/386: {exit_code: 3.5}",
            "4:17: smoke.platforms.linux/386.exit_code: expected",
        ),
        ("smoke: 3", "2:1: smoke: expected cmd, expect, contains"),
        ("smoke: {platforms: {vax: {}}}", "2:21: smoke.platforms.vax: 'vax': neither"),
    ],
)
def test_mistakes_in_the_file(
    run: Run, place: str, docker: Path, tmp_path: Path, text: str, message: str
) -> None:
    """With line and column, and what to write."""
    spec = tmp_path / "manyfest.yaml"
    spec.write_text(f"image: a/b:1\n{text}\n")
    done = run("smoke", place, "-f", str(spec), ok=False)
    assert (done.code, f"manyfest: error: {spec}:{message}" in done.err, "hint: " in done.err) == (
        2,
        True,
        True,
    ), done


def test_nodes(run: Run, place: str, docker: Path) -> None:
    """A platform's own engine."""
    run("smoke", place, "--node", "linux/386=ssh://me@there")
    log = (docker / "log").read_text()
    assert log.count("--host ssh://me@there start") == 1
    assert log.splitlines().count("image rm --force img") == 1


def test_a_node_that_does_not_answer(run: Run, place: str, docker: Path, tmp_path: Path) -> None:
    """The other platforms are shown, and it is among them with its reason; exit 3, or 1 when another one's answer is
    no."""
    path = docker / "docker"
    path.write_text(path.read_text().replace(
        "#!/bin/sh\n",
        "#!/bin/sh\ncase $2 in tcp://away*) echo 'Cannot connect: connection refused' >&2; exit 1;; esac\n",
    ))  # fmt: skip
    words = ("smoke", place, "--node", "linux/386=tcp://away:1")
    done = run(*words, ok=False)
    assert done.code == 3, done
    assert [line.split()[:3] for line in done.out.splitlines()[1:3]] == [
        ["linux/amd64", "ok", "0"],
        ["linux/386", "no", "answer"],
    ]
    assert (
        "linux/386: docker at tcp://away:1: version: Cannot connect: connection refused\n  hint: " in done.out
    )
    assert done.last == "1 of 1 platform did what was expected; the engine failed for 1 more"

    done = run(*words, "--json", ok=False)
    amd64, other = done.json["results"]
    assert (done.code, done.json["ok"], amd64["ok"], amd64["error"]) == (3, False, True, None)
    assert (other["ok"], other["exit_code"], other["error"]) == (None, None, "EngineError")

    assert run(*words, "--contains", "bye", ok=False).code == 1
    alone = run(*words, "--platform", "linux/386", ok=False)
    assert (alone.code, alone.out, "connection refused" in alone.err) == (3, "", True), alone


def test_a_machine_that_does_not_start(
    run: Run, place: str, docker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As any node that does not answer."""

    def fail(where: str, _say: object) -> str:
        raise EngineError(f"{where}: no engine answered within 240 s")

    monkeypatch.setattr("manyfest.emulate.machine.node.planned", lambda *_: None)
    monkeypatch.setattr("manyfest.emulate.machine.node.engine_of", fail)
    done = run("smoke", place, "--node", "linux/386=machine:z", ok=False)
    assert (done.code, "linux/386: machine:z: no engine answered" in done.out) == (3, True), done


def test_a_context_is_a_node_as_in_a_build(
    run: Run, place: str, docker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name reaches docker; where it leads says whose emulators count."""
    folder = tmp_path / "config" / "contexts" / "meta" / hashlib.sha256(b"pi").hexdigest()
    folder.mkdir(parents=True)
    fields = {"Name": "pi", "Endpoints": {"docker": {"Host": "ssh://me@pi"}}}
    (folder / "meta.json").write_text(json.dumps(fields))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "config"))
    run("smoke", place, "--node", "linux/386=pi")
    assert (docker / "log").read_text().count("--context pi start") == 1
    wrong = run("smoke", place, "--node", "linux/386=ip", ok=False)
    assert (wrong.code, "the Docker context 'ip' does not exist" in wrong.err) == (3, True)


def test_only_nodes_that_are_needed_are_asked(run: Run, place: str, docker: Path) -> None:
    """A machine would be started for nothing; this machine's engine need not be there for a node's platform."""
    assert run("smoke", place, "--platform", "linux/amd64", "--node", "linux/386=machine:none").code == 0
    missing = run("smoke", place, "--node", "linux/386=machine:none", ok=False)
    assert (missing.code, "no machine 'none'" in missing.err) == (3, True)
    run("smoke", place, "--platform", "linux/386", "--node", "linux/386=ssh://me@there")
    log = (docker / "log").read_text().splitlines()
    assert all(line.startswith("--host ssh://me@there") for line in log[-7:]), log


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--platform", "linux/s390x"), "no image for linux/s390x"),
        (("--node", "linux/386"), "expected PLATFORM=WHERE"),
        (("--node", "linux/386=ftp://x"), "expected a URL such as ssh://user@host"),
        (("--timeout", "0"), "expected seconds, more than 0"),
        (("--timeout", "inf"), "at most 1e+06"),
        (("--timeout", "nan"), "expected seconds, more than 0"),
        (("--jobs", "0"), "expected at least 1"),
        (("--engine", "rkt"), "invalid choice"),
    ],
)
def test_wrong_use(run: Run, place: str, docker: Path, argv: tuple[str, ...], message: str) -> None:
    """Named."""
    done = run("smoke", place, *argv, ok=False)
    assert (done.code in (2, 3), message in done.err) == (True, True), done


def test_only_the_place_is_required(run: Run) -> None:
    done = run("smoke", ok=False)
    assert (done.code, "the following arguments are required: PLACE\n" in done.err) == (2, True), done


def test_no_engine(run: Run, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Says what would help."""
    monkeypatch.setenv("PATH", str(tmp_path))
    done = run("smoke", place, ok=False)
    assert (done.code, "--node" in done.err) == (3, True)
