"""The footer of a Parquet file, and the errors for invalid files."""

from __future__ import annotations

import io
from typing import Any

import pytest

from trainer.base.errors import DatasetError
from trainer.data.file_formats import Footer, footer_start, read_footer

pa = pytest.importorskip("pyarrow", reason="needs pyarrow, of the lock's extra `cpu`")
pq = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow, of the lock's extra `cpu`")


def parquet_file(columns: dict[str, Any], **how: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, **how)
    return file.getvalue()


def parse_footer(data: bytes) -> Footer:
    return read_footer(memoryview(data), where="x.parquet")


@pytest.mark.parametrize("rows", [0, 1, 1000])
@pytest.mark.parametrize("columns", [1, 20])
def test_rows_and_columns_round_trip(rows: int, columns: int) -> None:
    table = {f"c{number}": pa.array(range(rows), type=pa.int32()) for number in range(columns)}
    assert parse_footer(parquet_file(table, row_group_size=30)) == Footer(
        rows=rows, columns=dict.fromkeys(table, "int32")
    )


def test_nested_columns_are_not_plain_values() -> None:
    columns = {"a": [1.0], "list": [[1, 2]], "struct": [{"x": 1}], "text": ["t"], "b": [True]}
    assert parse_footer(parquet_file(columns)).columns == {"a": "double", "text": "byte_array", "b": "boolean"}


@pytest.mark.parametrize(
    ("column", "kind"),
    [([[1.0], [1.0, 2.0]], "list<"), ([{"x": 1}, {"x": 2}], "struct<x: int64>"), ([[], []], "list<")],
)
def test_a_nested_column_is_rejected_by_its_type(column: Any, kind: str) -> None:
    with pytest.raises(
        DatasetError, match=f"column 'b' of x.parquet: expected one number in each row, found values of type {kind}"
    ) as caught:
        parse_footer(parquet_file({"a": [1.0, 2.0], "b": column})).require(["a", "b"], where="x.parquet")
    assert "--array" in str(caught.value.hint)


def test_a_file_of_another_kind_is_rejected() -> None:
    with pytest.raises(DatasetError, match=r"x\.parquet is not a Parquet file"):
        parse_footer(b"a,b\n1,2\n3,4\n")
    with pytest.raises(DatasetError, match=r"t\.csv is text; expected a Parquet file") as caught:
        footer_start(memoryview(b"a,b\n1,2\n"), where="t.csv")
    assert caught.value.hint == "publish the table itself: reprise data publish NAME t.csv"


def test_a_truncated_file_is_rejected() -> None:
    data = parquet_file({"a": [1, 2, 3]})
    for length in range(len(data)):
        with pytest.raises(DatasetError):
            parse_footer(data[:length])


def test_a_damaged_footer_is_rejected() -> None:
    data = parquet_file({"a": [1, 2, 3]})
    start = footer_start(memoryview(data), where="x.parquet")
    for spoilt in (b"\xff", b"\x00"):
        with pytest.raises(DatasetError):
            parse_footer(data[:start] + spoilt * (len(data) - start - 8) + data[-8:])


def test_a_negative_number_of_rows_is_rejected() -> None:
    good = parquet_file({"a": list(range(1000))})
    # num_rows of the footer, 1000 and -1000 in Thrift's encoding
    bad = good.replace(b"\x16\xd0\x0f\x19", b"\x16\xcf\x0f\x19")
    assert (parse_footer(good).rows, len(bad), bad == good) == (1000, len(good), False)
    with pytest.raises(DatasetError, match=r"x\.parquet is damaged: its footer states -1,000 rows"):
        parse_footer(bad)
