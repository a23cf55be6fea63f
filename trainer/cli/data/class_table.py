"""The table of a dataset's classes: number, name and samples in each split."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.cells import cell_len

from trainer.base.suggestions import counted, short
from trainer.cli.output import one_line
from trainer.cli.run_page import padded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainer.data.check_pictures import ClassCount

_MOST: Final = 40
"""Classes in the table, at most; `--json` lists all."""
_NAME: Final = 1
"""The column of names, the only column that is aligned left."""


def class_table(classes: Sequence[ClassCount]) -> list[str]:
    """Return the lines of the table; none if there are no classes."""
    if not classes:
        return []
    splits = [*classes[0].splits]
    rows = [("class", "name", *splits, "all")]
    rows += [
        (
            str(each.number),
            one_line(short(each.name)) or "(no name)",
            *(f"{each.splits[name]:,}" for name in splits),
            f"{each.samples:,}",
        )
        for each in classes[:_MOST]
    ]
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    lines = ["".join(f"  {padded(row[at], widths[at], right=at != _NAME)}" for at in range(len(row))) for row in rows]
    more = len(classes) - _MOST
    return [*lines, f"  and {counted(more, 'more class')}: --json lists all"] if more > 0 else lines
