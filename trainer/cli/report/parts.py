"""Building blocks of a report's sections: tables, lists of pairs, badges, folds.

The HTML is readable on wide and narrow screens; all text is escaped.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trainer.reporting.drawing.markup import Markup, cut, joined, tag

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_LONGEST: Final = 600
"""The largest number of letters of one value; the record has the whole value."""
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of a table: its name, and one cell per run."""

    name: str
    cells: tuple[object, ...]
    given: bool = False
    """Whether the user gave the value for this run."""
    merged: bool = True
    """Whether equal cells are merged into a single cell."""

    @property
    def differs(self) -> bool:
        """Whether the cells are not all the same."""
        return len(set(map(str, self.cells))) > 1


@dataclass(frozen=True, slots=True)
class Fact:
    """A named fact with one value per run; None and empty text mean unknown."""

    name: str
    cells: Sequence[object]


def section(title: str, *inner: object, name: str | None = None) -> Markup | None:
    """Return a section with its heading; `None` if it is empty."""
    body = joined(inner)
    name = name or title.lower().replace(" ", "-")
    return tag("section", tag("h2", title, id=name), body, aria_labelledby=name) if body else None


def pairs(items: Iterable[tuple[str, object]]) -> Markup | None:
    """Return a list of names and values; None is left out."""
    shown = [tag("div", tag("dt", name), tag("dd", value)) for name, value in items if value is not None]
    return tag("dl", *shown) if shown else None


def rows_table(rows: Sequence[Row], heads: Sequence[object], *, corner: str) -> Markup | None:
    """Return a table with one column per run; rows that differ between runs are marked with a sign and a color."""
    if not rows:
        return None
    body = [_row(row, several=len(heads) > 1) for row in rows]
    top = tag("tr", tag("th", corner, scope="col"), *(tag("th", head, scope="col") for head in heads))
    return scrolled(tag("table", tag("thead", top), tag("tbody", *body), class_="runs"), said=corner)


def _row(row: Row, *, several: bool) -> Markup:
    differs = several and row.differs
    sign = tag("span", "≠", class_="sign", title="differs", aria_label="differs") if differs else None
    kinds = " ".join(kind for kind, held in (("differs", differs), ("given", row.given)) if held)
    return tag("tr", tag("th", sign, row.name, scope="row"), *_cells(row), class_=kinds or None)


def _cells(row: Row) -> list[Markup]:
    """Return one cell per run; equal cells are merged if the row allows it."""
    if row.differs or not row.merged:
        return [tag("td", cell) for cell in row.cells]
    return [tag("td", row.cells[0], colspan=len(row.cells) if len(row.cells) > 1 else None)]


def facts(found: Sequence[Fact], heads: Sequence[object], *, corner: str) -> Markup | None:
    """Return facts as a list for one run, as a table for several; facts that no run has are left out."""
    known = [fact for fact in found if any(cell is not None and str(cell) for cell in fact.cells)]
    if len(heads) == 1:
        return pairs((fact.name, fact.cells[0]) for fact in known)
    rows = [Row(name=fact.name, cells=tuple("" if cell is None else cell for cell in fact.cells)) for fact in known]
    return rows_table(rows, heads, corner=corner)


def table(
    head: Sequence[str], rows: Iterable[Sequence[object]], *, said: str, kinds: Iterable[str] = ()
) -> Markup | None:
    """Return a plain table; `kinds` are the CSS classes of its rows."""
    marks = list(kinds)
    body = [
        tag(
            "tr",
            tag("th", cells[0], scope="row"),
            *(tag("td", cell) for cell in cells[1:]),
            class_=marks[at] if at < len(marks) and marks[at] else None,
        )
        for at, cells in enumerate(rows)
    ]
    if not body:
        return None
    top = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in head)))
    return scrolled(tag("table", top, tag("tbody", *body)), said=said)


def scrolled(inner: Markup, *, said: str) -> Markup:
    """Return a container that scrolls content that is too wide, also by keyboard."""
    return tag("div", inner, class_="scroll", tabindex="0", role="region", aria_label=said)


def fold(summary: object, *inner: object, opened: bool = False) -> Markup | None:
    """Return collapsed content; `None` if it is empty."""
    body = joined(inner)
    return tag("details", tag("summary", summary), body, open=opened) if body else None


def lines(items: Iterable[object], *, kind: str | None = None) -> Markup | None:
    """Return a list; `None` if it is empty."""
    shown = [tag("li", item) for item in items]
    return tag("ul", *shown, class_=kind) if shown else None


def badge(text: object, tone: str) -> Markup:
    """Return a highlighted short label; `tone` is `good`, `fair`, `bad` or `plain`."""
    return tag("span", text, class_=f"badge {tone}")


def digest(text: str | None) -> Markup | None:
    """Return a digest that is displayed shortened and copied whole."""
    return None if text is None else tag("code", text, class_="digest", title=text)


def code(text: str) -> Markup:
    """Return machine-written text, with digests shortened."""
    if _DIGEST.fullmatch(text):
        return tag("code", text, class_="digest", title=text)
    return tag("code", cut(text, _LONGEST))


def value(found: object) -> Markup:
    """Return a setting's value as JSON; text is returned unquoted."""
    text = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False, sort_keys=True, default=str)
    return code(text)


def number(found: object) -> str:
    """Return a float with six significant digits, any other value as text."""
    return f"{found:.6g}" if isinstance(found, float) else cut(str(found), 60)


def diff(text: Sequence[str], *, most: int = 3000) -> Markup:
    """Return a unified diff with its lines highlighted."""
    shown = [tag("span", line, "\n", class_=_kind(line)) for line in text[:most]]
    more = [tag("span", f"... and {len(text) - most:,} more lines\n", class_="at")] if len(text) > most else []
    return scrolled(tag("pre", *shown, *more, class_="diff"), said="difference of the code")


def _kind(line: str) -> str | None:
    if line.startswith(("+++", "---")):
        return "file"
    return {"+": "add", "-": "cut", "@": "at"}.get(line[:1])
