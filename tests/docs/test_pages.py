# SPDX-License-Identifier: Apache-2.0
"""Nothing is missing from the pages, and nothing is in them that does not exist."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
from tests.docs.pages import DOCS, ROOT, blocks, code_in, commands_in, name_of, pages

import manyfest
from manyfest import errors
from manyfest.cli.main import EXIT_BUG, EXIT_INTERRUPTED
from manyfest.cli.parser import build
from manyfest.cli.table import COMMANDS, module_of
from manyfest.indexes import spec
from manyfest.platforms import Platform

KINDS = ("tutorial", "how-to", "explanation", "reference")
LIST_FILE = (DOCS / "reference" / "list-file.md").read_text(encoding="utf-8")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_MACHINE = re.compile(r"(?<![\w.:-])/(?:tmp|work|home|root|mnt)/")


def read(*parts: str) -> str:
    """A page's text."""
    return DOCS.joinpath(*parts).read_text(encoding="utf-8")


def prose(page: Path) -> str:
    """A page without its blocks and inline code."""
    text = re.sub(r"(?ms)^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"))
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(page: Path) -> set[str]:
    """The names that headings get."""
    text = re.sub(r"(?ms)^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"))
    heads = re.findall(r"(?m)^#+ (.+)$", text)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """To a file of this repository, and to a heading that is in it."""
    broken = []
    for link in _LINK.findall(prose(page)):
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", path):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_pages_are_about_the_project(page: Path) -> None:
    """Not about the machine that somebody wrote them on."""
    assert _MACHINE.findall(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", [page for page in pages() if page.parent.name != "commands"], ids=name_of)
def test_commands_and_options_exist(page: Path) -> None:
    """Every ``manyfest COMMAND --option`` that is shown as code."""
    wrong = []
    for command, options in commands_in(code_in(page)):
        if command not in COMMANDS:
            wrong.append(command)
        elif command != "help":
            known = build(command, importlib.import_module(module_of(command)))._option_string_actions
            wrong += [f"{command} {option}" for option in options if option not in known]
    assert wrong == []


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "help"])
def test_every_command_has_a_page_and_is_shown(command: str) -> None:
    """In the reference, and in use somewhere that is read from top to bottom."""
    assert (DOCS / "reference" / "commands" / f"{command}.md").exists()
    guides = [page for page in pages() if page.parent.name in ("tutorial", "how-to") or page.parent == ROOT]
    shown = {name for page in guides for name, _ in commands_in(code_in(page))}
    assert command in shown, f"no tutorial, how-to or README shows manyfest {command}"


def test_every_error_is_described() -> None:
    """By its name, with the exit code that it has."""
    rows = dict(re.findall(r"(?m)^\| `(\w+)` \| (\d+) \|", read("reference", "errors.md")))
    classes = {name: getattr(errors, name) for name in errors.__all__}
    assert rows == {name: str(kind.exit_code) for name, kind in classes.items()}


def test_every_exit_code_is_described() -> None:
    """Those of errors, and those that only the command has."""
    rows = {int(code) for code in re.findall(r"(?m)^\| (\d+) \|", read("reference", "exit-codes.md"))}
    kinds = (getattr(errors, name) for name in errors.__all__)
    assert rows == {0, EXIT_BUG, EXIT_INTERRUPTED, *(kind.exit_code for kind in kinds)}


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "help"])
def test_every_document_of_json_is_described(command: str) -> None:
    """In a section of its own or in a row of the table."""
    page = read("reference", "json.md")
    assert f"\n## {command}\n" in page or re.search(rf"(?m)^\| [^|]*`{command}`", page)


def test_every_variable_is_described() -> None:
    """The environment variables that are ours."""
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    told = "".join(path.read_text(encoding="utf-8") for path in (DOCS / "reference").glob("*.md"))
    assert set(re.findall(r"MANYFEST_[A-Z_]+", source)) - set(re.findall(r"MANYFEST_[A-Z_]+", told)) == set()


def test_every_key_of_a_list_is_described() -> None:
    """Of the list, of its entries and of their platforms."""
    page = read("reference", "list-file.md")
    cells = re.findall(r"(?m)^\| (`[a-z.]+`(?: or `[a-z.]+`)?) \|", page)
    listed = {key for cell in cells for key in re.findall(r"`([a-z.]+)`", cell)}
    known = spec._SPEC_KEYS | spec._ENTRY_KEYS | spec._PLATFORM_KEYS.keys()
    assert listed == known - spec._PROJECT_KEYS
    assert [key for key in spec._PROJECT_KEYS if f"`{key}`" not in page] == []


@pytest.mark.parametrize(("template", "filled"), re.findall(r"(?m)^\| `(\S+)` \| `(\S+)` \|$", LIST_FILE))
def test_templates_are_filled_as_described(template: str, filled: str) -> None:
    """The table of the page."""
    assert spec.expand_template(template, Platform.parse("linux/arm/v7")) == filled


def test_the_library_page_has_every_public_name() -> None:
    """One line for each, and none that is not there."""
    listed = re.findall(r"(?m)^\| `([\w.]+)", read("reference", "library.md"))
    assert sorted(listed) == sorted(manyfest.__all__)


def test_decisions_are_listed() -> None:
    """Each note is in the table, and the table names no other."""
    listed = set(re.findall(r"\((\d{4}-[\w-]+\.md)\)", read("decisions", "README.md")))
    assert listed == {path.name for path in (DOCS / "decisions").glob("0*.md")}


@pytest.mark.parametrize("page", sorted((DOCS / "decisions").glob("0*.md")), ids=name_of)
def test_decisions_say_what_they_cost(page: Path) -> None:
    """The question, what was chosen, and its price."""
    text = page.read_text(encoding="utf-8")
    assert [word for word in ("**Question.**", "**Chosen.**", "**Cost.**") if word not in text] == []


def test_the_index_lists_every_page() -> None:
    """docs/README.md, in four kinds; commands and decisions have lists of their own."""
    text = read("README.md")
    linked = {(DOCS / link.partition("#")[0]).resolve() for link in _LINK.findall(text)}
    own = {"commands", "decisions"}
    wanted = {page for page in pages() if DOCS in page.parents and page.parent.name not in own}
    assert {name_of(page) for page in wanted - linked - {DOCS / "README.md"}} == set()
    assert [kind for kind in KINDS if f"({kind}/" not in text] == []


def test_the_glossary_is_sorted() -> None:
    """So that a word is found, and is there once."""
    words = re.findall(r"(?m)^\| \*\*([\w ]+)\*\* \|", read("glossary.md"))
    assert words == sorted(set(words))
    assert len(words) > 20


def test_make_targets_and_tools_exist() -> None:
    """What CONTRIBUTING and README tell to paste."""
    text = "\n".join(block.text for page in ROOT.glob("*.md") for block in blocks(page))
    targets = set(re.findall(r"(?m)^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8")))
    assert set(re.findall(r"(?m)^(?:\$ )?make ([a-z]+)", text)) <= targets
    assert [
        path for path in re.findall(r"\b((?:tools|tests|bench)/[\w/.]+)", text) if not (ROOT / path).exists()
    ] == []


def test_the_changelog_keeps_its_form() -> None:
    """Keep a Changelog: Unreleased first, and only sections that it knows."""
    heads = re.findall(r"(?m)^##+ (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert heads[0] == "[Unreleased]"
    told = set(re.findall(r"`([a-z]+)[ `]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")))
    assert set(COMMANDS) - told <= {"help", "version", "completion"}
    kinds = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
    assert [head for head in heads if not head.startswith("[") and head not in kinds] == []
