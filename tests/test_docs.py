"""The pages of the documentation: their links, the index, and the pages that code and messages name."""

from __future__ import annotations

import contextlib
import io
import re
from functools import cache
from pathlib import Path
from typing import Final

import pytest
import reference

from trainer.cli import COMMANDS, SUBCOMMANDS, main

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
SOURCES: Final = [*PAGES, "README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
LINK: Final = re.compile(r"\[[^\]]*\]\(([^)#\s]*)(?:#([^)\s]*))?\)")


def prose(page: str) -> str:
    text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "code", re.sub(r"^    .*$", "", text, flags=re.MULTILINE))


@cache
def anchors(page: str) -> frozenset[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ +(.*)$", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles)


@pytest.mark.parametrize("page", SOURCES)
def test_every_link_leads_to_a_file_and_a_heading(page: str) -> None:
    for target, anchor in LINK.findall(prose(page)):
        if "://" in target:
            continue
        path = ((ROOT / page).parent / target).resolve() if target else ROOT / page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path.relative_to(ROOT).as_posix()), f"{target}#{anchor}"


def test_the_index_links_to_every_page() -> None:
    linked = {f"docs/{target}" for target, _ in LINK.findall(prose("docs/index.md"))}
    assert set(PAGES) - {"docs/index.md"} <= linked


def test_every_page_that_code_names_exists() -> None:
    files = [path for folder in ("trainer", "scripts", "environments", "docker") for path in (ROOT / folder).rglob("*")]
    texts = [
        path.read_text(encoding="utf-8", errors="replace") for path in files if path.is_file() and path.suffix != ".pyc"
    ]
    named = {name for text in texts for name in re.findall(r"docs/[a-z/-]+\.(?:md|json)", text)}
    assert named
    assert {name for name in named if not (ROOT / name).is_file()} == set()


@pytest.mark.parametrize("name", reference.PAGES)
def test_a_generated_page_is_current(name: str) -> None:
    """`.venv/bin/python scripts/reference.py` writes the page."""
    assert (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8") == reference.PAGES[name]()


COMMAND: Final = re.compile(
    r"(?:scripts/reprise|(?<![\w/])reprise|docker compose run --rm train|scripts/train) ([^`\n#]+)"
)
VERBS: Final = {**SUBCOMMANDS, "certify": ("rerun", "resume", "elastic")}
OWN: Final = {
    "--yes",
    "--channels",
    "--sizes",
    "--setting",
    "--lr",
    "--hidden-dim",
    "--data-dir",
    "--data",
    "--model",
    "--out",
    "--epochs",
}
"""An option of scripts/train, settings of the experiment digits, of examples and of plain modules, and a placeholder."""


@cache
def help_of(*words: str) -> str:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main([*words, "--help"])
    return printed.getvalue()


def options(*words: str) -> frozenset[str]:
    return frozenset(re.findall(r"--[a-z][a-z0-9-]*", help_of(*words)))


@pytest.mark.host
def test_every_property_of_certify_is_a_verb() -> None:
    assert "{" + ",".join(VERBS["certify"]) + "}" in help_of("certify")


@pytest.mark.host
@pytest.mark.parametrize("command", ["certify", "noise", "sweep", "reproduce"])
def test_the_help_of_a_dry_run_describes_it(command: str) -> None:
    text = " ".join(help_of(command).split())
    assert "let Slurm test it if sbatch is installed on this machine, and write and submit nothing" in text


@pytest.mark.host
@pytest.mark.parametrize("page", SOURCES)
def test_every_documented_option_exists(page: str) -> None:
    settings = frozenset(re.findall(r"--[a-z][a-z0-9-]*", reference.settings())) | OWN
    for text in COMMAND.findall((ROOT / page).read_text(encoding="utf-8")):
        first, second, *_ = [*re.findall(r"[a-z-]+", text), "", ""]
        if text.startswith("-") or first not in COMMANDS:
            first, second = "train", ""
        words = (first, second) if second in VERBS.get(first, ()) else (first,)
        known = options(*words) | settings
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text)) <= known, text
