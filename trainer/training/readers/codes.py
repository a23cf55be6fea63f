"""Conversion of categories to codes, by the values that the dataset declares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trainer.base.errors import DatasetError
from trainer.base.suggestions import did_you_mean, short

if TYPE_CHECKING:
    from trainer.data.reader import Treatment
    from trainer.training.readers.columns import ColumnLocation, Mask, Values

_MISSING, _UNKNOWN = 0, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Codes:
    """The codes of a column, int64, 0 in the rows that do not fit."""

    values: Values
    bad: Mask | None
    """The rows with a missing or unknown value that the declaration rejects; None if all rows fit."""
    texts: pa.ChunkedArray
    treatment: Treatment

    def fault(self, row: int, *, first: int, location: ColumnLocation) -> DatasetError:
        """Return the error for a row that does not fit; the first row of the column is row `first` of the file."""
        where, value = f"row {first + row} of {location.column}", self.texts[row].as_py()
        if value is None:
            return DatasetError(
                f"{where} is missing", hint=f"publish with --missing {location.name}=category, or fill it"
            )
        message = f"{where} is {short(value)!r}, which is not one of the {len(self.treatment.values):,} declared values"
        return DatasetError(message, hint=did_you_mean(value, self.treatment.values))


def codes_of(column: pa.ChunkedArray, treatment: Treatment) -> Codes:
    """Return the code of each value of a column of text or whole numbers."""
    plain = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    texts = column.cast(plain).cast(pa.string())
    found = pc.index_in(texts, value_set=pa.array(treatment.values, type=pa.string()))
    codes = found.fill_null(-1).to_numpy().astype(np.int64) + treatment.first
    missing = texts.is_null().to_numpy()
    unknown = (codes < treatment.first) & ~missing
    codes[missing], codes[unknown] = _MISSING, _UNKNOWN if treatment.first else 0
    bad = np.zeros(len(codes), dtype=np.bool_)
    bad |= missing & (treatment.missing == "reject")
    bad |= unknown & (treatment.unknown == "reject")
    codes[bad] = 0
    return Codes(values=codes, bad=bad if bad.any() else None, texts=texts, treatment=treatment)
