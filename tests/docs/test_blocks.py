# SPDX-License-Identifier: Apache-2.0
"""What pages show is what happens: commands print what stands below them, programs run, files parse.

``pytest tests/docs --update-golden`` writes what commands print now into the pages; look at the difference before you
commit it. A block that shows no output at all is run all the same, and must not fail.
"""

from __future__ import annotations

import doctest
import itertools
import json
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.docs.pages import Block, Step, blocks, commands_in, name_of, pages
from tests.docs.world import BASH, Shell, matches

from manyfest import drafts
from manyfest.stores.registry.hosts import Hosts
from manyfest.stores.registry.settings import Settings

LANGUAGES = ("", "console", "dockerfile", "json", "mermaid", "python", "sh", "text", "toml", "yaml")
PAGES = [page for page in pages() if page.parent.name != "commands"]  # those are generated, and compared


def with_blocks(*languages: str) -> list[Path]:
    """The pages that have any."""
    return [page for page in PAGES if any(block.language in languages for block in blocks(page))]


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_blocks_say_what_they_are(page: Path) -> None:
    """In one of a few words, so that none escapes the tests below by a typo."""
    assert [block.where for block in blocks(page) if block.language not in LANGUAGES] == []


@pytest.mark.parametrize("page", with_blocks("console", "python"), ids=name_of)
def test_a_page_runs(page: Path, shell: Shell, request: pytest.FixtureRequest) -> None:
    """From top to bottom, as a reader would."""
    update = request.config.getoption("--update-golden")
    changed: list[tuple[Block, str]] = []
    names: dict[str, Any] = {}
    for block in blocks(page):
        for command in block.before:
            out = shell.run(command)
            assert shell.code == 0, f"{block.where}: before it, {command}\n{out}"
        if block.file:
            Path(block.file).parent.mkdir(parents=True, exist_ok=True)
            Path(block.file).write_text(block.text + "\n", encoding="utf-8")
        if block.not_run:
            continue
        if block.language == "python":
            run_python(block, names)
        if block.language == "console":
            text = run_console(block, shell, update=update)
            if text != block.text:
                changed.append((block, text))
    write_back(page, changed)


def run_console(block: Block, shell: Shell, *, update: bool) -> str:
    """Run each command; the block's text as it should be, different from what it is only when updating."""
    lines: list[str] = []
    compared = any(step.expected for step in block.steps)
    for step, following in itertools.zip_longest(block.steps, block.steps[1:]):
        got = shell.run(step.command)
        fits = matches(step.expected, got) or not compared
        if not update:
            assert fits, f"{block.path.name}:{step.line}: $ {step.command}\n{got}"
        assert shell.code == 0 or is_told(step, following, got), (
            f"{block.path.name}:{step.line}: exit {shell.code}: $ {step.command}\n{got}"
        )
        lines += [f"$ {step.command}", *(step.expected if fits else got.splitlines())]
    return "\n".join(lines)


def is_told(step: Step, following: Step | None, got: str) -> bool:
    """May this command fail: does the page show its error, or ask for its exit code next?"""
    asks = following is not None and following.command == "echo $?"
    return asks or (bool(step.expected) and ("manyfest: error: " in got or '{"error": ' in got))


def write_back(page: Path, changed: list[tuple[Block, str]]) -> None:
    """Put new outputs in the place of the old ones."""
    lines = page.read_text(encoding="utf-8").splitlines()
    for block, text in reversed(changed):
        start = block.line - 1
        count = len(block.text.splitlines())
        lines[start : start + count] = [(block.indent + line).rstrip() for line in text.splitlines()]
    if changed:
        page.write_text("\n".join(lines) + "\n", encoding="utf-8")


def run_python(block: Block, names: dict[str, Any]) -> None:
    """A session is compared, a program runs; the blocks of a page share their names."""
    if not block.text.startswith(">>>"):
        exec(compile("\n" * (block.line - 1) + block.text, str(block.path), "exec"), names)
        return
    test = doctest.DocTestParser().get_doctest(
        block.text + "\n", names, block.where, str(block.path), block.line - 1
    )
    told: list[str] = []
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS)
    runner.run(test, out=told.append, clear_globs=False)
    names.update(test.globs)
    assert not told, "".join(told)


@pytest.mark.parametrize("page", with_blocks("sh"), ids=name_of)
def test_scripts_parse(page: Path) -> None:
    """What is for the reader's own machine is at least shell."""
    for block in blocks(page):
        if block.language == "sh":
            done = subprocess.run([*BASH[:-1], "-n", "-c", block.text], capture_output=True, text=True)
            assert done.returncode == 0, f"{block.where}: {done.stderr}"


@pytest.mark.parametrize("page", with_blocks("yaml", "json", "toml"), ids=name_of)
def test_files_parse(page: Path, tmp_path: Path) -> None:
    """YAML with an image is a list's spec; TOML is our configuration file; JSON is JSON."""
    for block in blocks(page):
        if block.language == "json":
            json.loads(block.text)
        if block.language == "toml":
            check_toml(block, tmp_path)
        if block.language == "yaml":
            parsed = yaml.safe_load(block.text)
            if isinstance(parsed, dict) and "manifests" in parsed:
                drafts.parse(block.text.encode(), block.where)


def check_toml(block: Block, folder: Path) -> None:
    """Every key is one that manyfest reads."""
    path = folder / "config.toml"
    path.write_text(block.text, encoding="utf-8")
    tables = tomllib.loads(block.text)
    if isinstance(tables.get("registry"), list):
        return  # a registries.conf, which belongs to other tools
    assert tables.keys() <= {"registry", "docker"}, block.where
    hosts = Hosts(Settings(config=str(path), docker_config=str(folder)))
    for host in tables.get("registry", {}):
        assert hosts.policy(host).host


def test_the_reader_of_blocks(tmp_path: Path) -> None:
    """The parser itself: comments belong to the next block only, commands go on after a backslash."""
    commands = commands_in(
        "manyfest copy a \\\n  b --dry-run -q # --not\nmanyfest ls --json | grep --color x"
    )
    assert commands == [("copy", ["--dry-run", "-q"]), ("ls", ["--json"])]
    block = Block(tmp_path, 1, "console", "$ a \\\n  b\nout\n$ c")
    assert [(step.command, step.expected) for step in block.steps] == [("a \\\n  b", ["out"]), ("c", [])]


@pytest.mark.parametrize(
    ("expected", "got", "fits"),
    [
        (["a…c"], "abbc\n", True),
        (["…", "end"], "1\n2\nend\n", True),
        (["…"], "", True),
        (["sent, in 0.0 s"], "sent, in 1.2 s\n", True),
        (["a"], "b\n", False),
        ([], "b\n", False),
        (["a"], "", False),
    ],
)
def test_the_comparison(expected: list[str], got: str, fits: bool) -> None:
    """It can say no."""
    assert matches(expected, got) is fits
