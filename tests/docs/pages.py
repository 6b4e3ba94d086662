# SPDX-License-Identifier: Apache-2.0
"""The pages people read, cut into fenced blocks.

A comment on its own line right before a block says what a test should know about it, and readers never see it::

    <!-- file: app.yaml -->            write the block into this file of the page's folder
    <!-- before: manyfest copy A B --> run this first (may be repeated)
    <!-- not run: why -->              only look at it: it needs something a test does not have
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

_FENCE = re.compile(r"^( *)(```+)\s*(\w*)\s*$")
_COMMENT = re.compile(r"^ *<!-- (file|before|not run): (.+?) -->$")
_MANYFEST = re.compile(r"(?<![\w./:-])(?<!from )manyfest ([a-z][a-z-]*)((?: [^\n`|&;)]*)?)")


@dataclass
class Step:
    """One command of a console block, and the lines that should come out."""

    command: str
    expected: list[str] = field(default_factory=list)
    line: int = 0


@dataclass
class Block:
    """One fenced block; ``line`` is the number, from one, of its first line of content."""

    path: Path
    line: int
    language: str
    text: str
    indent: str = ""
    file: str = ""
    before: list[str] = field(default_factory=list)
    not_run: str = ""

    @property
    def where(self) -> str:
        """``docs/tutorial/first-steps.md:12``."""
        return f"{self.path.relative_to(ROOT)}:{self.line}"

    @property
    def steps(self) -> list[Step]:
        """The commands of a console block; lines that end in a backslash go on."""
        found: list[Step] = []
        goes_on = False
        for offset, line in enumerate(self.text.splitlines()):
            if goes_on:
                found[-1].command += "\n" + line
            elif line.startswith("$ "):
                found.append(Step(line[2:], line=self.line + offset))
            else:
                assert found, f"{self.where}: a console block begins with a line '$ command'"
                found[-1].expected.append(line)
                continue
            goes_on = line.endswith("\\")
        return found


def pages() -> list[Path]:
    """Every page that is written by hand or by a tool, in order."""
    return [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md")), *sorted(ROOT.glob("examples/*/*.md"))]


def name_of(page: Path) -> str:
    """A page as tests and links call it."""
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page; an unclosed one is an error."""
    found: list[Block] = []
    notes: dict[str, list[str]] = {}
    lines = page.read_text(encoding="utf-8").splitlines()
    at = 0
    while at < len(lines):
        comment, fence = _COMMENT.match(lines[at]), _FENCE.match(lines[at])
        if comment:
            notes.setdefault(comment[1], []).append(comment[2])
        elif fence:
            end = next((i for i in range(at + 1, len(lines)) if lines[i] == fence[1] + fence[2]), 0)
            assert end, f"{name_of(page)}:{at + 1}: this block is not closed"
            body = "\n".join(line.removeprefix(fence[1]) for line in lines[at + 1 : end])
            found.append(
                Block(
                    page,
                    at + 2,
                    fence[3],
                    body,
                    fence[1],
                    file="".join(notes.get("file", [])),
                    before=notes.get("before", []),
                    not_run="".join(notes.get("not run", [])),
                )
            )
            notes, at = {}, end
        elif lines[at].strip():
            notes = {}
        at += 1
    return found


def commands_in(text: str) -> list[tuple[str, list[str]]]:
    """Every ``manyfest COMMAND`` of a text with the options that follow it on the line."""
    joined = text.replace("\\\n", " ")
    return [
        (
            found[1],
            re.findall(r"(?<!\S)(--[a-z][a-z-]*|-[a-zA-Z])(?![\w-])", re.split(" # |, | -- ", found[2])[0]),
        )
        for found in _MANYFEST.finditer(joined)
    ]


def code_in(page: Path) -> str:
    """What a page shows as code: its blocks but for generated help, and the inline pieces of its text."""
    shown = [block.text for block in blocks(page) if " --help\n" not in block.text]
    prose = re.sub(r"(?ms)^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"))
    return "\n".join([*shown, *re.findall(r"`([^`]+)`", prose)])
