# SPDX-License-Identifier: Apache-2.0
"""Start-up is a budget: what ``inspect --raw``, ``copy`` and ``verify`` may import, in modules, not in milliseconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import manyfest
from manyfest.serve.http import Server
from manyfest.serve.registry import RegistryApp
from manyfest.stores.layout import Layout
from manyfest.testing.images import make_index

FORBIDDEN = (
    "asyncio",
    "bz2",
    "concurrent.futures",
    "dataclasses",
    "docker",
    "email",
    "http.client",
    "importlib.metadata",
    "inspect",
    "isal",
    "logging",
    "lzma",
    "pathlib",
    "random",
    "rich",
    "shtab",
    "shutil",
    "subprocess",
    "tarfile",
    "tempfile",
    "tomllib",
    "typing",
    "urllib.request",
    "yaml",
    "zipfile",
)
"""Each costs 5 to 100 ms; MEASURED has the figures."""

PLAIN = ("argparse", "gettext", "ipaddress", "locale", "ssl", "urllib.parse", "warnings")
"""Up to ten milliseconds each, which a command line of names and a registry of plain HTTP have no use for."""

SCRIPT = """
import sys
before = set(sys.modules)
from manyfest.cli.main import main
code = main(sys.argv[1:])
sys.stderr.write(" ".join(sorted(set(sys.modules) - before)))
sys.exit(code)
"""


def modules_of(*argv: str) -> tuple[bytes, set[str]]:
    """What a command printed, and what a fresh interpreter imported for it."""
    source = str(Path(manyfest.__path__[0]).parent)
    environment = {"PYTHONPATH": source, "CONTAINERS_REGISTRIES_CONF": "", "HOME": "/nonexistent"}
    environment["MANYFEST_CACHE"] = "/dev/null/none"
    command = [sys.executable, "-S", "-c", SCRIPT, *argv]
    done = subprocess.run(command, capture_output=True, check=True, env=environment, timeout=60)
    return done.stdout, set(done.stderr.decode().split())


@pytest.mark.slow
def test_raw_inspect_imports_little(tmp_path: Path) -> None:
    """No forbidden module, no other command, and a number that only grows on purpose."""
    document = make_index(Layout.create(str(tmp_path / "team" / "app")), ("linux/amd64",), tag="1")
    with Server(RegistryApp(str(tmp_path))) as server:
        out, loaded = modules_of("inspect", "--raw", f"{server.host}/team/app:1")
    assert out == document.raw
    assert loaded & set(FORBIDDEN) == set()
    ours = {name for name in loaded if name.startswith("manyfest.")}
    assert {name for name in ours if name.startswith("manyfest.cli.commands.")} == {
        "manyfest.cli.commands.inspect"
    }
    assert not {
        name for name in ours if name.startswith(("manyfest.indexes", "manyfest.serve", "manyfest.drafts"))
    }
    assert len(loaded) <= 110, sorted(loaded)


@pytest.mark.slow
def test_copy_imports_little(tmp_path: Path) -> None:
    """Before the first byte of a layer leaves, everything imported is time in which nothing is copied."""
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    document = make_index(Layout.create(str(tmp_path / "here" / "app")), ("linux/amd64",), tag="1")
    with (
        Server(RegistryApp(str(tmp_path / "here"))) as here,
        Server(RegistryApp(str(tmp_path / "there"))) as there,
    ):
        out, loaded = modules_of("copy", "-q", f"{here.host}/app:1", f"{there.host}/app:1")
    assert out.decode().strip() == str(document.digest)
    assert loaded & {*FORBIDDEN, *PLAIN, "manyfest.cli.parser", "manyfest.indexes"} == set()
    assert len(loaded) <= 95, sorted(loaded)


@pytest.mark.slow
def test_verify_imports_little(tmp_path: Path) -> None:
    """Of Zstandard's module, which imports some of the forbidden ones by itself, there is none here."""
    make_index(Layout.create(str(tmp_path / "app")), ("linux/amd64",), tag="1")
    with Server(RegistryApp(str(tmp_path))) as server:
        out, loaded = modules_of("verify", "-q", f"{server.host}/app:1")
    assert out.startswith(b"PLATFORM")
    assert loaded & {*FORBIDDEN, *PLAIN, "manyfest.cli.parser", "manyfest.verify.windows"} == set()
    assert len(loaded) <= 135, sorted(loaded)


@pytest.mark.parametrize("argv", [("--help",), ("--version",)])
def test_overview_and_version_import_no_command(argv: tuple[str, ...]) -> None:
    """They come from tables."""
    _, loaded = modules_of(*argv)
    assert loaded & {*FORBIDDEN, "argparse", "json", "ssl"} == set()
    assert not [name for name in loaded if name.startswith("manyfest.cli.commands")]
