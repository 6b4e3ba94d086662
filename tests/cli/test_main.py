# SPDX-License-Identifier: Apache-2.0
"""Arguments in, exit codes out: what every command has in common."""

from __future__ import annotations

import argparse
import importlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.conftest import Run

from manyfest import __version__
from manyfest.cli.console import Console
from manyfest.cli.main import main, overview
from manyfest.cli.parser import build
from manyfest.cli.table import COMMANDS, GROUPS, module_of

MODULES = [name for name in COMMANDS if name != "help"]


def process(*argv: str, **how: object) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "manyfest", *argv]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    return subprocess.Popen(command, text=True, env=environment, **how)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("name", MODULES)
def test_commands_declare_themselves(name: str) -> None:
    """The table repeats each module's summary, so that the overview imports nothing."""
    module = importlib.import_module(module_of(name))
    in_table = {name: summary for _, commands in GROUPS for name, summary in commands}
    assert in_table[name] == module.SUMMARY
    parser = build(name, module)
    assert parser.examples
    assert all(
        line.strip().startswith(("manyfest", "echo", "docker")) for line in parser.examples if line.strip()
    )
    assert not [a.dest for a in parser._actions if not a.help], "every argument has help"


def test_every_module_is_in_the_table() -> None:
    """No command that --help does not show."""
    folder = Path(importlib.import_module("manyfest.cli.commands").__file__ or "").parent
    assert sorted(path.stem for path in folder.glob("[a-z]*.py")) == sorted(MODULES)


@pytest.mark.parametrize("argv", [(), ("--help",), ("-h",), ("help",), ("help", "help")])
def test_overview(run: Run, argv: tuple[str, ...]) -> None:
    """The same text, on standard output."""
    assert run(*argv).out == overview() + "\n"


def test_help_of_a_command(run: Run) -> None:
    """Three ways to ask."""
    expected = run("help", "push").out
    assert run("push", "--help").out == expected
    assert run("--help", "push").out == expected
    assert all(len(line) <= 120 for line in expected.splitlines())


def test_version(run: Run) -> None:
    """The number of the package's metadata, without reading it."""
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert __version__ == project["version"]
    assert run("--version").out == f"manyfest {__version__}\n"
    assert run("version", "--json").json["version"] == __version__


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("inspct", "manyfest inspect"),
        ("cp", "manyfest copy"),
        ("xyzzy", "manyfest --help"),
        ("append", "manyfest add"),
    ],
)
def test_unknown_command(run: Run, word: str, meant: str) -> None:
    """With what was probably meant."""
    failed = run(word, ok=False)
    assert failed.code == 2
    assert meant in failed.err


def test_options_before_and_after_the_command(run: Run, layout: str) -> None:
    """The same result."""
    expected = run("tags", layout, "--json").json
    assert run("--json", "tags", layout).json == expected
    assert run("-q", "--config=/nowhere.toml", "--json", "tags", layout).json == expected
    assert run("--frobnicate", "tags", layout, ok=False).code == 2
    assert run("--config", ok=False).code == 2
    assert run("tags", layout, "--frobnicate", ok=False).code == 2


def test_errors_for_people_and_machines(run: Run) -> None:
    """A sentence and a hint; or one JSON object on standard error, and nothing on standard output."""
    told = run("inspect", "A:b", ok=False)
    assert told.err.startswith("manyfest: error: 'A:b'")
    assert "\nhint: " in told.err
    machine = run("inspect", "A:b", "--json", ok=False)
    error = json.loads(machine.err)["error"]
    assert (machine.out, error["kind"], error["exit_code"], machine.code) == ("", "InvalidReference", 2, 2)


def broken(error: BaseException) -> Callable[..., int]:
    """A command that fails like this."""

    def run(args: argparse.Namespace, console: object) -> int:
        raise error

    return run


def test_a_bug_is_70(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """No traceback unless asked for, and where to report it."""
    monkeypatch.setattr("manyfest.cli.commands.version.run", broken(KeyError("oops")))
    failed = run("version", ok=False)
    assert failed.code == 70
    assert "internal error: KeyError: 'oops'" in failed.err
    assert "report it at https://" in failed.err
    assert "Traceback" not in failed.err
    assert "Traceback" in run("version", "-v", ok=False).err
    assert json.loads(run("version", "--json", ok=False).err)["error"]["exit_code"] == 70
    monkeypatch.setenv("MANYFEST_DEBUG", "1")
    assert "Traceback" in run("version", ok=False).err


def test_interrupted_is_130(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line."""
    monkeypatch.setattr("manyfest.cli.commands.version.run", broken(KeyboardInterrupt()))
    failed = run("version", ok=False)
    assert (failed.code, failed.err) == (130, "manyfest: interrupted\n")


@pytest.mark.slow
def test_what_was_printed_before_an_interrupt_is_not_lost() -> None:
    """The process ends without the interpreter's own flush."""
    code = (
        "import sys; from manyfest.cli import main; from manyfest.cli.commands import version\n"
        "def run(args, console): console.print('first'); raise KeyboardInterrupt\n"
        "version.run = run; sys.argv = ['manyfest', 'version']; main.entry()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "first\n", "manyfest: interrupted\n")


@pytest.mark.slow
def test_ctrl_c_twice() -> None:
    """The second one, while the first is being told, ends it all the same, without a trace."""
    code = (
        "import sys; from manyfest.cli import main, console; from manyfest.cli.commands import version\n"
        "def interrupt(*_): raise KeyboardInterrupt\n"
        "version.run = console.Console.tell = interrupt; sys.argv = ['manyfest', 'version']; main.entry()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (130, "")


def test_the_systems_errors_are_3(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is not our bug."""
    monkeypatch.setattr(
        "manyfest.cli.commands.version.run", broken(OSError(28, "No space left on device", "/x"))
    )
    failed = run("version", ok=False)
    assert failed.code == 3
    assert failed.err == "manyfest: error: No space left on device: /x\n"


@pytest.mark.slow
def test_a_closed_pipe_is_quiet() -> None:
    """``manyfest completion bash | head -0``."""
    reader, writer = os.pipe()
    os.close(reader)
    command = process("completion", "bash", stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    _, err = command.communicate(timeout=30)
    assert (command.returncode, err) == (0, "")


@pytest.mark.slow
def test_a_closed_pipe_hides_no_answer(tmp_path: Path) -> None:
    """``manyfest lint DIR | head -0`` with errors found: 1, however much there was to print."""
    (tmp_path / "Dockerfile").write_text(
        "FROM debian:12\n" + "RUN curl -LO https://example.org/tool-amd64.tar.gz\n" * 300
    )
    reader, writer = os.pipe()
    os.close(reader)
    command = process("lint", str(tmp_path), "--strict", stdout=writer, stderr=subprocess.DEVNULL)
    os.close(writer)
    command.communicate(timeout=30)
    assert command.returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize(("closed", "code"), [("", 2), (">&-", 2), ("2>&-", 2), ("2>/dev/full", 2)])
def test_deaf_ears_change_no_exit_code(closed: str, code: int) -> None:
    """Streams that were closed before we began, or take nothing."""
    command = f'{sys.executable} -m manyfest inspect "a@@b" {closed}'
    done = subprocess.run(
        ["/bin/sh", "-c", command],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.slow
def test_a_result_is_lost_without_harm() -> None:
    """Printed into a closed descriptor: done, since a result that nobody wants is no error."""
    done = subprocess.run(
        ["/bin/sh", "-c", f"{sys.executable} -m manyfest version >&-"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_text_that_the_stream_cannot_write() -> None:
    """A file name that is no UTF-8, a terminal that is ASCII: spelled out, not a bug."""
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    Console(out=out).print("é …")
    Console(out=out).print("oci:a\udcff")
    out.flush()
    assert raw.getvalue() == b"\\xe9 \\u2026\noci:a\\udcff\n"


def test_a_pipe_of_our_own_is_not_the_readers(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken pipe to anything but standard output means that the work was not done."""
    monkeypatch.setattr("manyfest.cli.commands.version.run", broken(BrokenPipeError(32, "Broken pipe")))
    failed = run("version", ok=False)
    assert (failed.code, failed.err) == (3, "manyfest: error: Broken pipe\n")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_a_command(number: signal.Signals) -> None:
    """A command that waits for the world ends within a moment, with one line and 130."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        silent = f"127.0.0.1:{server.getsockname()[1]}/a:1"
        command = process("inspect", silent, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        server.settimeout(30)
        connection, _ = server.accept()
        with connection:
            command.send_signal(number)
            out, err = command.communicate(timeout=30)
    assert (command.returncode, out, err) == (130, "", "manyfest: interrupted\n")


@pytest.mark.slow
def test_the_reference_is_what_the_commands_say() -> None:
    """docs/reference/commands is written by tools/make_docs.py."""
    root = Path(__file__).parents[2]
    tool = [sys.executable, str(root / "tools" / "make_docs.py"), "--check"]
    done = subprocess.run(tool, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_ctrl_c_while_several_requests_wait(tmp_path: Path) -> None:
    """Workers in a pool do not hold the process: it ends long before their time-outs."""
    import socket
    import time

    with socket.create_server(("127.0.0.1", 0)) as server:
        host = f"127.0.0.1:{server.getsockname()[1]}"
        command = process(
            "create",
            f"{host}/a:1",
            f"{host}/a:x",
            f"{host}/a:y",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        server.settimeout(30)
        waiting = [server.accept()[0] for _ in range(2)]
        began = time.monotonic()
        command.send_signal(signal.SIGINT)
        out, err = command.communicate(timeout=60)
        for connection in waiting:
            connection.close()
    assert (command.returncode, out, err) == (130, "", "manyfest: interrupted\n")
    assert time.monotonic() - began < 20


def test_main_never_raises(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever it is given."""
    for argv in (["\0"], ["inspect", "\0"], ["--json"], ["inspect"], ["inspect", "-"], ["-"], ["--", "x"]):
        assert main(argv) in (0, 2)
    capsys.readouterr()


@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        (("smoke", "oci:x", "--node", "linux/arm64"), "manyfest smoke --help shows what it takes"),
        (
            ("-q", "emulators", "install", "arm64", "--flags", "Q"),
            "manyfest emulators --help shows what it takes",
        ),
        (("--config",), "manyfest --help lists the commands"),
    ],
)
def test_what_was_typed_wrong_has_a_next_step(
    run: Run, tmp_path: Path, argv: tuple[str, ...], hint: str
) -> None:
    """Where the error itself has none."""
    done = run(*argv, ok=False)
    assert (done.code, done.err.rpartition("hint: ")[2]) == (2, f"{hint}\n"), done
