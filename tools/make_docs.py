# SPDX-License-Identifier: Apache-2.0
"""Write ``docs/reference/commands/*.md`` from the commands themselves; ``--check`` fails when they differ.

Also the blocks of README.md between ``<!-- help:COMMAND -->`` and ``<!-- /help -->``; ``help:manyfest`` is the
overview. And the tables between ``<!-- figures:LINK -->`` and ``<!-- /figures -->``, from bench/results/latest.md where
that is there; LINK is a column such as ``tls-50ms``.
"""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from manyfest.cli.main import overview  # noqa: E402 - the tree this file stands in, installed or not
from manyfest.cli.parser import build  # noqa: E402
from manyfest.cli.table import GROUPS, module_of  # noqa: E402

README = ROOT / "README.md"
FIGURES = ROOT / "bench" / "results" / "latest.md"
TOOLS = ("manyfest", "docker", "skopeo", "crane", "regctl")
BUILDERS = ("manyfest", "docker", "buildah", "crane")
FOLDER = ROOT / "docs" / "reference" / "commands"
NOTE = "<!-- Written by tools/make_docs.py; change the command and run it again. -->\n"


def pages() -> dict[str, str]:
    """Every page, by file name."""
    made = {"README.md": _overview()}
    for _, commands in GROUPS:
        for name, _ in commands:
            if name != "help":
                made[f"{name}.md"] = _page(name)
    return made


def _overview() -> str:
    lines = ["# Commands", "", "```console", "$ manyfest --help", overview(), "```"]
    for title, commands in GROUPS:
        shown = [f"- [`manyfest {name}`]({name}.md): {what}" for name, what in commands if name != "help"]
        if shown:
            lines += ["", f"## {title}", "", *shown]
    lines += ["", "See also [JSON output](../json.md) and [exit codes](../exit-codes.md)."]
    return NOTE + "\n".join(lines) + "\n"


def _page(name: str) -> str:
    module = importlib.import_module(module_of(name))
    text = build(name, module).format_help().rstrip("\n")
    return f"{NOTE}# manyfest {name}\n\n```console\n$ manyfest {name} --help\n{text}\n```\n"


def readme(text: str) -> str:
    """README.md with the help that commands print now, and the figures of the last run."""
    text = re.sub(r"(<!-- help:([a-z-]+) -->\n).*?(<!-- /help -->)", _help_block, text, flags=re.DOTALL)
    if not FIGURES.exists():
        return text
    measured = FIGURES.read_text(encoding="utf-8")
    return re.sub(
        r"(<!-- figures:([\w-]+) -->\n).*?(<!-- /figures -->)",
        lambda found: found[1] + _figures(measured, found[2]) + found[3],
        text,
        flags=re.DOTALL,
    )


def _figures(measured: str, link: str) -> str:
    """A table with a line for each job that was measured over ``link``, in milliseconds.

    ``link`` may also be ``building``: jobs over plain HTTP alone whose processor time is told.
    """
    tools, column_name = (BUILDERS, "http, ms") if link == "building" else (TOOLS, f"{link}, ms")
    rows = [f"| ms | {' | '.join(tools)} |", "|---|" + "---:|" * len(tools)]
    for section in measured.split("\n## ")[1:]:
        title = section.partition("\n")[0]
        lines = [
            [cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if "|" in line
        ]
        if not lines or column_name not in lines[0]:
            continue
        if link == "building" and ("processor s" not in lines[0] or "tls, ms" in lines[0]):
            continue
        column = lines[0].index(column_name)
        by_tool = {line[0]: line[column] for line in lines[2:]}
        cells = (by_tool.get(tool, "") for tool in tools)
        rows.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _help_block(found: re.Match[str]) -> str:
    name = found[2]
    command = "" if name == "manyfest" else f" {name}"
    text = overview() if not command else build(name, importlib.import_module(module_of(name))).format_help()
    shown = text.rstrip("\n")
    return f"{found[1]}```console\n$ manyfest{command} --help\n{shown}\n```\n{found[3]}"


def main(argv: list[str]) -> int:
    """Write, or check; returns the exit code."""
    made = pages()
    there = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.md")}
    front = README.read_text(encoding="utf-8")
    if "--check" in argv:
        wrong = sorted(name for name in made.keys() | there.keys() if made.get(name) != there.get(name))
        for name in wrong:
            print(f"docs/reference/commands/{name} is not what the command says; run tools/make_docs.py")
        if readme(front) != front:
            wrong.append("README.md")
            print("README.md shows help that is not what the command says; run tools/make_docs.py")
        return 1 if wrong else 0
    README.write_text(readme(front), encoding="utf-8")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in made.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    for name in there.keys() - made.keys():
        (FOLDER / name).unlink()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
