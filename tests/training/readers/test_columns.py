"""A table's column is converted exactly, or rejected because of its type or of rows that do not fit."""

from __future__ import annotations

import datetime as dt
import decimal
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.training.readers.test_readers import read_samples
from trainer.base.errors import DatasetError
from trainer.data.inspection import require_readable
from trainer.training.readers import Pick
from trainer.training.readers.columns import converted
from trainer.training.readers.inspect import inspect_samples

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.training.readers import Samples

pytestmark = pytest.mark.torch
DAY = dt.date(1970, 1, 3)
MOMENT = dt.datetime(1970, 1, 1, 0, 0, 1)  # noqa: DTZ001 - a column without a time zone
EIGHTH = decimal.Decimal("0.125")


def read_column(folder: Path, column: Any, dtype: str = "float32", *, groups: int = 4) -> Samples:
    """Return the samples of a table whose field `x` is the column `b`."""
    pq.write_table(pa.table({"b": column}), folder / "t.parquet", row_group_size=groups)
    fields = {"x": {"column": "b", "dtype": dtype}}
    return read_samples(folder, {"kind": "table", "files": ["t.parquet"], "fields": fields})


def inspection_errors(folder: Path, column: Any, dtype: str = "float32") -> str:
    """Return the error, with its hint, of an inspection of eight rows in three splits."""
    reader = read_column(folder, column, dtype)
    with pytest.raises(DatasetError) as caught:
        require_readable(inspect_samples(reader, {"train": range(4), "val": [4, 5], "test": [6, 7]}), dataset="d")
    return f"{caught.value.message} -> {caught.value.hint}"


@pytest.mark.parametrize(
    ("column", "dtype", "expected"),
    [
        ([1, None, 3], "float32", [1, np.nan, 3]),
        ([True, False], "float32", [1, 0]),
        ([2**53, -(2**53)], "float64", [2**53, -(2**53)]),
        (pa.array([2**64 - 1], pa.uint64()).cast(pa.decimal128(20)), "float64", [2.0**64]),
        ([EIGHTH, None], "float32", [0.125, np.nan]),
        ([decimal.Decimal(7)], "int8", [7]),
        (pa.array([2.0, 3.0]).dictionary_encode(), "int64", [2, 3]),
        (pa.array([0.5], pa.float16()), "float32", [0.5]),
        ([DAY], "int64", [2]),
        ([MOMENT], "int64", [1_000_000]),
        (pa.nulls(2), "float32", [np.nan, np.nan]),
        ([0, 1], "bool", [False, True]),
    ],
)
def test_values_become_exactly_these_numbers(column: Any, dtype: str, expected: list[Any]) -> None:
    found = converted(pa.chunked_array([column]), dtype)
    assert found.bad is None
    np.testing.assert_array_equal(found.values, np.array(expected, dtype=dtype))


@pytest.mark.parametrize(
    ("value", "others", "dtype", "why", "hint"),
    [
        (1e300, 0.5, "float32", "1e+300; float32 holds up to 3.4e+38", "declare --column x=b:float64"),
        (2**24 + 1, 0, "float32", "16777217; float32 holds -16,777,216 to 16,777,216 exactly", "x=b:float64"),
        (2**60, 0, "float32", "1152921504606846976; float32 holds", "declare --column x=b:int64"),
        (1.5, 1.0, "int64", "1.5; int64 holds integers", "x=b:float32"),
        (float("inf"), 1.0, "int64", "inf; int64 holds integers", "x=b:float32"),
        (2.0**63, 1.0, "int64", "9223372036854775808; int64 holds", "no dtype holds it exactly"),
        (300, 0, "int8", "300; int8 holds -128 to 127", "x=b:int64"),
        (-1, 0, "uint8", "-1; uint8 holds 0 to 255", "x=b:int64"),
        (5, 1, "bool", "5; bool holds 0 to 1", "x=b:int64"),
        (EIGHTH, decimal.Decimal(1), "int64", "0.125; int64 holds integers", "x=b:float32"),
        (None, 1, "int64", "missing; int64 has no missing values", "declare a float dtype: --column x=b:float32"),
    ],
)
def test_one_invalid_value_is_one_sample_of_its_split(
    tmp_path: Path, value: Any, others: Any, dtype: str, why: str, hint: str
) -> None:
    column = pa.array([others] * 5 + [value] + [others] * 2)
    line = inspection_errors(tmp_path, column, dtype)
    assert f"1 sample of d cannot be read: row 5 of column 'b' of t.parquet is {why}" in line
    assert ("(split val)" in line, "more" in line, hint in line) == (True, False, True), line


def test_every_invalid_value_is_counted_once_in_its_own_split(tmp_path: Path) -> None:
    line = inspection_errors(tmp_path, [1.5, 2, 3, 1.5, 1.5, 6, 7, 1.5], "int64")
    assert re.search(
        r"4 samples of d .*: row 0 .*\(split train\); row 3 .*\(split train\); row 4 .*\(split val\); and 1 more", line
    )


def test_a_batch_is_rejected_only_if_it_has_an_invalid_row(tmp_path: Path) -> None:
    reader = read_column(tmp_path, [1.5, 2], "int64")
    assert int(reader[1]["x"]) == 2
    with pytest.raises(DatasetError, match="row 0 of column 'b'"):
        reader.batch([Pick(index=1), Pick(index=0)])


def test_an_invalid_row_outside_all_splits_does_not_prevent_reading(tmp_path: Path) -> None:
    reader = read_column(tmp_path, [1, 2, 300, 4], "int8")
    inspection = inspect_samples(reader, {"train": [0, 1], "val": [3]})
    require_readable(inspection, dataset="d")
    assert reader.batch([Pick(index=row) for row in (3, 0)])["x"].tolist() == [4, 1]


@pytest.mark.parametrize(
    ("column", "why", "hint"),
    [
        (["0.5", "2", "abc", "1"], r"is text \(string\): row 2 is 'abc'; float32 holds numbers$", "pandas.to_numeric"),
        (["0.5", "2", "-1,402", "1"], r"is text \(string\): row 2 is '-1,402'", "--thousands ,"),
        (["0.5", "2"], "is text .*: row 0 is '0.5'; .* and text is not converted", "pandas.to_numeric"),
        (
            pa.array(["cat", "dog"]).dictionary_encode(),
            r"is text \(categories of type string\): row 0 is 'cat'",
            "publish the table itself",
        ),
        ([MOMENT], r"holds points in time of type timestamp\[us\]", "--column x=b:int64 reads microseconds since 1970"),
        ([DAY], r"holds dates of type date32\[day\]", "--column x=b:int32 reads days since 1970-01-01"),
        ([dt.time(1)], "holds times of day of type time64", "reads microseconds since midnight"),
        ([dt.timedelta(1)], "holds durations of type duration", "dt.total_seconds()"),
        ([b"ab"], "holds bytes of type binary", "remove 'b' from --column"),
    ],
)
def test_a_non_numeric_type_is_an_error_of_the_column(tmp_path: Path, column: Any, why: str, hint: str) -> None:
    with pytest.raises(DatasetError, match=f"^column 'b' of t.parquet {why}") as caught:
        inspect_samples(read_column(tmp_path, column, groups=2), {"train": range(len(column))})
    assert hint in str(caught.value.hint)
