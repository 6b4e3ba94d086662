# SPDX-License-Identifier: Apache-2.0
"""What the commands of a page find: a folder of its own, images in it, and registries under the names pages use.

``tour/images``            the layout of eight images that ``manyfest demo --keep tour`` leaves
``localhost:5000``         an empty registry
``ghcr.io``                ``acme/app`` with the tags ``1.0-amd64``, ``1.0-arm64``, ``1.0-armhf`` and ``1.0-s390x``
``registry.example.com``   an empty registry that wants the user ann with the password wonderland

The names lead to embedded registries through manyfest's configuration file, so nothing leaves this machine and what
commands print is what a reader sees.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.docs.pages import ROOT

from manyfest.cli.commands.demo import CLAIMS, IMAGES
from manyfest.cli.main import main
from manyfest.emulate.images import program_image
from manyfest.platforms import Platform
from manyfest.serve.http import Server
from manyfest.serve.registry import RegistryApp
from manyfest.stores.layout import Layout

REGISTRIES: dict[str, dict[str, str] | None] = {
    "localhost:5000": None,
    "ghcr.io": None,
    "registry.example.com": {"ann": "wonderland"},
}
APP = ("amd64", "arm64", "armhf", "s390x")

_SHELL = re.compile(r"[|&;<>$()`*?{}\[\]~]")
_TIME = re.compile(r"\bin \d+\.\d s\b")
BASH = ("bash", "--noprofile", "--norc", "-o", "pipefail", "-c")


def write_images(folder: Path) -> None:
    """The layout of the demo."""
    with Layout.create(str(folder), durable=False) as layout:
        for tag, name in IMAGES.items():
            layout.tag(program_image(layout, Platform.parse(name), claims=CLAIMS.get(tag)), tag)


@contextlib.contextmanager
def registries(folder: Path) -> Iterator[Path]:
    """Serve the registries of this module; gives the configuration file that leads to them."""
    config = folder / "config.toml"
    for tag in APP:
        write_app(folder / "ghcr.io" / "acme" / "app", tag)
    with contextlib.ExitStack() as stack:
        tables = []
        for host, users in REGISTRIES.items():
            app = RegistryApp(str(folder / host.partition(":")[0]), users=users)
            server = stack.enter_context(Server(app))
            tables.append(f'[registry."{host}"]\nendpoint = "{server.host}"\nplain_http = true\n')
        config.write_text("\n".join(tables), encoding="utf-8")
        yield config


def write_app(folder: Path, tag: str) -> None:
    """One image of ``ghcr.io/acme/app``, straight into the registry's folder."""
    with contextlib.ExitStack() as stack:
        there = (folder / "oci-layout").exists()
        layout = stack.enter_context(
            Layout(str(folder)) if there else Layout.create(str(folder), durable=False)
        )
        platform = Platform.parse(IMAGES[tag])
        layout.tag(program_image(layout, platform, claims=CLAIMS.get(tag)), f"1.0-{tag}")


class Shell:
    """Runs command lines in the current folder: plain manyfest lines in this process, everything else in bash.

    Puts a ``manyfest`` into ``bin_folder``, which should be first on ``PATH``.
    """

    def __init__(self, bin_folder: Path) -> None:
        self.code = 0
        bin_folder.mkdir()
        script = bin_folder / "manyfest"
        script.write_text(
            f'#!/bin/sh\nPYTHONPATH={ROOT / "src"} exec {sys.executable} -m manyfest "$@"\n', encoding="utf-8"
        )
        script.chmod(0o755)

    def run(self, command: str) -> str:
        """What it printed, standard output and standard error in the order they came."""
        if command == "echo $?":
            code, self.code = self.code, 0
            return f"{code}\n"
        plain = command.startswith("manyfest ") and not _SHELL.search(command)
        return self._here(shlex.split(command, comments=True)[1:]) if plain else self._bash(command)

    def _here(self, argv: list[str]) -> str:
        raw = io.BytesIO()
        text = io.TextIOWrapper(raw, encoding="utf-8", write_through=True)
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
            self.code = main(argv)
        return raw.getvalue().decode("utf-8")

    def _bash(self, command: str) -> str:
        with tempfile.TemporaryFile() as out:
            done = subprocess.run(
                [*BASH, command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                check=False,
                timeout=60,
            )
            self.code = done.returncode
            out.seek(0)
            return out.read().decode("utf-8")


def matches(expected: list[str], got: str) -> bool:
    """``…`` stands for any text in a line, alone in a line for any lines; durations are not compared."""
    parts = []
    for line in expected:
        if line == "…":
            parts.append(r"(?:.*\n)*")
        else:
            words = (re.escape(word) for word in _TIME.sub("in 0.0 s", line).split("…"))
            parts.append(".*".join(words) + r"\s*\n")
    if got and not got.endswith("\n"):
        got += "\n"  # the bytes of inspect --raw, which end where they end
    return re.fullmatch("".join(parts), _TIME.sub("in 0.0 s", got)) is not None
