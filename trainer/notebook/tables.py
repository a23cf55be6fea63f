"""A table that a notebook displays, and that pandas accepts."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Table(list[dict[str, Any]]):
    """Rows by column name; `pandas.DataFrame(table)` creates a data frame.

    >>> table = Table([{"step": 1, "loss": 0.5}, {"step": 2, "accuracy": 1.0}])
    >>> table.columns, table.column("loss")
    (['step', 'loss', 'accuracy'], [0.5, None])
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Create a table from `rows`; a row need not have every column."""
        super().__init__(dict(row) for row in rows)

    @property
    def columns(self) -> list[str]:
        """The column names, in the order of their first occurrence."""
        return list(dict.fromkeys(name for row in self for name in row))

    def column(self, name: str) -> list[Any]:
        """Return a column's values, with `None` for rows without a value. Raise `KeyError` if no row has the column."""
        if name not in self.columns:
            raise KeyError(f"{name!r}; the columns are {', '.join(self.columns)}")
        return [row.get(name) for row in self]

    def _repr_html_(self) -> str:
        """Return the table as HTML for a notebook."""
        heads = "".join(f"<th>{escape(name)}</th>" for name in self.columns)
        rows = ("".join(f"<td>{_cell(row.get(name))}</td>" for name in self.columns) for row in self)
        body = "".join(f"<tr>{row}</tr>" for row in rows)
        return f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return escape(f"{value:.6g}" if isinstance(value, float) else str(value))
