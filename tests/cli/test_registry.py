# SPDX-License-Identifier: Apache-2.0
"""registry, login, logout, completion."""

from __future__ import annotations

import io
import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.conftest import Run
from tests.cli.test_main import process

from manyfest.serve.http import Server
from manyfest.serve.registry import RegistryApp

PASSWORD = "a:secret"


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[str]:
    """A registry that asks for me and my password."""
    with Server(RegistryApp(str(tmp_path / "guarded"), users={"me": PASSWORD})) as server:
        yield server.host


def given(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Standard input."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


def test_login_and_logout(
    run: Run, guarded: str, layout: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """docker's words; the password comes from standard input and is never shown."""
    refused = run("copy", f"{layout}:amd64", f"{guarded}/app:1", ok=False)
    assert refused.code == 3
    given(monkeypatch, PASSWORD + "\n")
    done = run("login", guarded, "-u", "me", "--password-stdin")
    assert done.out == "Login Succeeded\n"
    run("copy", f"{layout}:amd64", f"{guarded}/app:1", "-q")
    assert run("logout", guarded).out == f"Removing login credentials for {guarded}\n"
    assert run("logout", guarded).out == f"Not logged in to {guarded}\n"
    assert run("tags", f"{guarded}/app", ok=False).code == 3


def test_login_keeps_to_the_folder_that_is_named(
    run: Run, guarded: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """``--docker-cfg``, like every option of every command, counts for login and logout as well."""
    folder = ("--docker-cfg", str(tmp_path / "elsewhere"))
    given(monkeypatch, PASSWORD)
    run("login", guarded, "-u", "me", "--password-stdin", *folder)
    assert guarded in (tmp_path / "elsewhere" / "config.json").read_text()
    assert run("tags", f"{guarded}/app", ok=False).code == 3
    assert "not accept" not in run("tags", f"{guarded}/app", *folder, ok=False).err
    assert run("logout", guarded, "--json").json["removed"] is False
    assert run("logout", guarded, *folder, "--json").json["removed"] is True


def test_a_wrong_password_is_not_stored(run: Run, guarded: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry is asked first; neither word is repeated."""
    given(monkeypatch, "wrong-password")
    failed = run("login", guarded, "-u", "me", "--password-stdin", ok=False)
    assert failed.code == 3
    assert "wrong-password" not in failed.err + failed.out
    assert run("logout", guarded, "--json").json["removed"] is False


def test_a_password_in_the_arguments_is_warned_of(run: Run, guarded: str) -> None:
    """As docker does."""
    done = run("login", guarded, "-u", "me", "-p", PASSWORD)
    assert "--password-stdin" in done.err
    assert PASSWORD not in done.err + done.out


@pytest.mark.parametrize(
    "argv",
    [
        ("login", "x.example", "--password-stdin"),
        ("login", "x.example", "-u", "me"),
        ("login", "https://"),
        ("login", "x.example", "-u", "me", "-p", "a", "--password-stdin"),
        ("registry", "--tls-cert", "x"),
        ("registry", "--port", "70000"),
        ("registry", "--users", "/nowhere"),
        ("completion", "tcsh"),
    ],
)
def test_bad_usage(run: Run, argv: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 2 and nothing asked."""
    given(monkeypatch, "")
    assert run(*argv, ok=False).code == 2


def test_a_users_file_with_a_bad_line(run: Run, tmp_path: Path) -> None:
    """The line is numbered, never shown."""
    path = tmp_path / "users"
    path.write_text("# who\nme:secret\nhunter2\n")
    failed = run("registry", "--users", str(path), ok=False)
    assert failed.code == 2
    assert f"{path}:3: expected NAME:PASSWORD" in failed.err
    assert "hunter2" not in failed.err


@pytest.mark.slow
def test_registry_serves_until_it_is_told_to_stop(run: Run, layout: str, tmp_path: Path) -> None:
    """It prints where it is, keeps content in a layout, and ends with 0."""
    root = tmp_path / "root"
    command = process(
        *("registry", str(root), "--port", "0", "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert command.stdout is not None
        told = "".join(iter(command.stdout.readline, "}\n")) + "}"
        host = json.loads(told)["host"]
        pushed = run("copy", f"{layout}:amd64", f"{host}/team/app:1").last
        busy = run("registry", "--port", host.rpartition(":")[2], ok=False)
        assert (busy.code, "cannot listen" in busy.err) == (3, True)
    finally:
        command.send_signal(signal.SIGTERM)
        command.communicate(timeout=30)
    assert command.returncode == 0
    assert run("inspect", f"oci:{root}/team/app:1", "--json").json["digest"] == pushed


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_command_and_option(run: Run, shell: str) -> None:
    """From the same table and parsers as everything else."""
    from manyfest.cli.table import COMMANDS

    script = run("completion", shell).out
    assert all(name in script for name in COMMANDS)
    assert "ignore-missing" in script


@pytest.mark.slow
def test_the_bash_script_completes(run: Run, tmp_path: Path) -> None:
    """In a real bash."""
    bash = shutil.which("bash")
    assert bash, "bash is part of every system this runs on"
    path = tmp_path / "manyfest.bash"
    path.write_text(run("completion", "bash").out)
    script = (
        f"source {path}; spec=$(complete -p manyfest); f=${{spec##*-F }}; f=${{f%% *}}; "
        'COMP_WORDS=(manyfest insp); COMP_CWORD=1; $f manyfest insp manyfest; echo "${COMPREPLY[@]}"; '
        'COMP_WORDS=(manyfest push --ign); COMP_CWORD=2; $f manyfest --ign push; echo "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        [bash, "--norc", "-c", script], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.split() == ["inspect", "--ignore-missing"]


def test_a_folder_that_cannot_be_is_refused_at_once(run: Run, tmp_path: Path) -> None:
    """Not with the first push."""
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        refused = run("registry", str(path), "--port", "0", ok=False)
        assert (refused.code, str(path) in refused.err, "hint: " in refused.err) == (2, True, True), refused
