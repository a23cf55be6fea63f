"""Each promise in docs/security.md names tests that try to break it, and the named tests exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
PAGE = (ROOT / "docs/security.md").read_text(encoding="utf-8")


def functions_of(path: Path) -> set[str]:
    return {node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)}


def test_every_test_named_on_the_page_exists() -> None:
    named = NAMED.findall(PAGE)
    assert len(named) > 40
    assert not [(file, name) for file, name in named if name not in functions_of(ROOT / file)]


def test_every_row_of_the_table_names_a_test() -> None:
    table = PAGE.partition("| promise | tests |")[2].partition("\n\n")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ") and "---" not in line]
    assert len(rows) > 25
    assert not [row for row in rows if not NAMED.search(row)]
