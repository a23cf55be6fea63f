"""Building blocks of a report's sections: tables, lists of pairs, badges, folds.

The HTML is readable on wide and narrow screens; all text is escaped.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Final

from trainer.reporting.drawing.markup import Markup, cut, joined, tag

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_LONGEST: Final = 600
"""The largest number of letters of one value; the record has the whole value."""
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRow:
    """A row of a table: its name, and one cell per run."""

    name: str
    cells: tuple[object, ...]
    is_given: bool = False
    """Whether the user gave the value for this run."""
    merged: bool = True
    """Whether equal cells are merged into a single cell."""

    @property
    def differs(self) -> bool:
        """Whether the cells are not all the same."""
        return len(set(map(str, self.cells))) > 1


def section(title: str, *inner: object, name: str | None = None) -> Markup | None:
    """Return a section with its heading; `None` if it is empty."""
    body = joined(inner)
    name = name or title.lower().replace(" ", "-")
    return tag("section", tag("h2", title, id=name), body, aria_labelledby=name) if body else None


def pairs(items: Iterable[tuple[str, object]]) -> Markup | None:
    """Return a list of names and values, without values that are `None`; `None` if the list is empty."""
    rows = [tag("div", tag("dt", name), tag("dd", value)) for name, value in items if value is not None]
    return tag("dl", *rows) if rows else None


def rows_table(rows: Sequence[TableRow], heads: Sequence[object], *, corner: str) -> Markup | None:
    """Return a table with one column per run, or `None` without rows; rows that differ between runs are marked with a sign and a color."""
    if not rows:
        return None
    body = []
    for row in rows:
        differs = len(heads) > 1 and row.differs
        sign = tag("span", "≠", class_="sign", title="differs", aria_label="differs") if differs else None
        cells = [tag("td", cell) for cell in row.cells]
        if row.merged and not row.differs:
            cells = [tag("td", row.cells[0], colspan=len(row.cells) if len(row.cells) > 1 else None)]
        kinds = " ".join(["differs"] * differs + ["given"] * row.is_given)
        body.append(tag("tr", tag("th", sign, row.name, scope="row"), *cells, class_=kinds or None))
    top = tag("tr", tag("th", corner, scope="col"), *(tag("th", head, scope="col") for head in heads))
    return scrolled(tag("table", tag("thead", top), tag("tbody", *body), class_="runs"), label=corner)


def table(
    head: Sequence[str], rows: Iterable[Sequence[object]], *, label: str, kinds: Iterable[str] = ()
) -> Markup | None:
    """Return a plain table, or `None` without rows; `kinds` are the CSS classes of its rows."""
    body = [
        tag("tr", tag("th", cells[0], scope="row"), *(tag("td", cell) for cell in cells[1:]), class_=kind or None)
        for cells, kind in zip_longest(rows, kinds)
    ]
    if not body:
        return None
    top = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in head)))
    return scrolled(tag("table", top, tag("tbody", *body)), label=label)


def scrolled(inner: Markup, *, label: str) -> Markup:
    """Return a container that scrolls content that is too wide, also by keyboard."""
    return tag("div", inner, class_="scroll", tabindex="0", role="region", aria_label=label)


def fold(summary: object, *inner: object, opened: bool = False) -> Markup | None:
    """Return content that the reader can collapse or expand; `None` if it is empty."""
    body = joined(inner)
    return tag("details", tag("summary", summary), body, open=opened) if body else None


def lines(items: Iterable[object], *, kind: str | None = None) -> Markup | None:
    """Return a list; `None` if it is empty."""
    rows = [tag("li", item) for item in items]
    return tag("ul", *rows, class_=kind) if rows else None


def badge(text: object, tone: str) -> Markup:
    """Return a highlighted short label; `tone` is `good`, `fair`, `bad` or `plain`."""
    return tag("span", text, class_=f"badge {tone}")


def digest(text: str | None) -> Markup | None:
    """Return a digest that is displayed shortened and copied whole, or `None` without a digest."""
    return None if text is None else tag("code", text, class_="digest", title=text)


def digests(texts: Iterable[str]) -> Markup:
    """Return several digests in one cell."""
    return joined(map(digest, texts), between=" ")


def code(text: str) -> Markup:
    """Return machine-written text, with digests shortened."""
    return (
        tag("code", text, class_="digest", title=text) if _DIGEST.fullmatch(text) else tag("code", cut(text, _LONGEST))
    )


def value(setting: object) -> Markup:
    """Return a setting's value as JSON; text is returned unquoted."""
    if isinstance(setting, str):
        return code(setting)
    return code(json.dumps(setting, ensure_ascii=False, sort_keys=True, default=str))


def number(value: object) -> str:
    """Return a float with six significant digits, any other value as text."""
    return f"{value:.6g}" if isinstance(value, float) else cut(str(value), 60)


def diff(text: Sequence[str], *, limit: int = 3000) -> Markup:
    """Return a unified diff with its lines highlighted."""
    kinds = {"+++": "file", "---": "file", "+": "add", "-": "cut", "@": "at"}
    lines = [tag("span", line, "\n", class_=kinds.get(line[:3]) or kinds.get(line[:1])) for line in text[:limit]]
    rest = [tag("span", f"... and {len(text) - limit:,} more lines\n", class_="at")] if len(text) > limit else []
    return scrolled(tag("pre", *lines, *rest, class_="diff"), label="difference of the code")
