"""A row in JSON is read as the same row in a file, for random rows of published tables in each format."""

from __future__ import annotations

import csv
import json
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

pytest.importorskip("torch")
pytest.importorskip("pyarrow")

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trainer.base.errors import DatasetError
from trainer.data.declaration import Dataset
from trainer.data.tables.plan import PlanOptions
from trainer.data.tables.table_file import TableOptions, plan_file
from trainer.models.inputs import InputReader

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trainer.training.readers import Batch

pytestmark = pytest.mark.torch
DIGEST: Final = "sha256:" + "1" * 64
CSV: Final = {
    "point": "area,count,floor,size,plan,open,when\n1.5,10,1,1.50,basic,True,2024-02-03\n,,,,,,\n2.25,30,2,2,pro,False,2024-03-01 12:30\n",
    "comma": "area;count;floor;size;plan;open;when\n1,5;10;1;1,50;basic;yes;03.02.2024\n;;;;;;\n2,25;30;2;2;pro;no;01.03.2024\n",
    "thousands": "area;count;floor;size;plan;open;when\n1.234,5;10;1;1,50;NA;1;03.02.2024\n-;;;;;;\n2,25;30;2;2;pro;0;01.03.2024\n",
}
"""Published CSV files."""
TYPED: Final = ("jsonl", "parquet", "arrow")
ROWS: Final = (
    {"area": 1.5, "count": 10, "floor": 1, "size": 1.5, "plan": "basic", "open": True, "when": "2024-02-03"},
    {"area": None, "count": None, "floor": None, "size": None, "plan": None, "open": None, "when": None},
    {"area": 2.25, "count": 30, "floor": 2, "size": 2.25, "plan": "NA", "open": False, "when": "2024-03-01 12:30"},
)
"""The rows of the published files in typed formats."""
MISSING: Final = dict.fromkeys(("area", "when"), "mean") | {"count": "indicator"}
CATEGORIES: Final = ("floor", "size", "plan", "open")
TEXTS: Final = (
    "",
    " ",
    "NA",
    "nan",
    "-",
    "?",
    " pro",
    "basic ",
    "x",
    "1.0",
    "01",
    "1,50",
    "1.50",
    "true",
    "True",
    "yes",
    "1.234,5",
)
NUMBERS: Final = st.one_of(
    st.integers(-3, 3),
    st.integers(-(10**7), 10**7),
    st.sampled_from([1.0, 2.0, 1.5, -0.0, 1e-05, 1.234, 12.75, 1e20, 1e300, 5e-324]),
    st.floats(allow_nan=False, allow_infinity=False),
)
DATES: Final = st.sampled_from(["2024-02-03", "2024-02-03 12:30", "03.02.2024", "20240203", "2024-02-03T12:30Z", 2024])
VALUES: Final = st.one_of(st.none(), st.booleans(), NUMBERS, st.sampled_from(TEXTS), DATES)
LIKELY: Final = {
    "area": st.one_of(st.none(), NUMBERS),
    "count": st.one_of(st.none(), st.integers(-100, 100), st.sampled_from([1.0, 20.0])),
    "floor": st.sampled_from([None, 1, 2, 1.0, "1", "2", 7]),
    "size": st.sampled_from([None, 1.5, 2, 2.0, 2.25, "1.50", "1,50", "2"]),
    "plan": st.sampled_from([None, "basic", " pro ", "other", "NA"]),
    "open": st.sampled_from([None, True, False, "yes", "no", 1, 0]),
    "when": st.sampled_from([None, "2024-02-03", "03.02.2024"]),
}
"""Values that a column probably accepts; of others, most are errors."""
ANY: Final = dict.fromkeys(LIKELY, VALUES)
ANY_ROWS: Final = st.lists(st.one_of(st.fixed_dictionaries(LIKELY), st.fixed_dictionaries(ANY)), min_size=1, max_size=4)
NUMBER_ROWS: Final = st.lists(
    st.fixed_dictionaries({name: LIKELY[name] for name in ("area", "count", "plan")}), min_size=1, max_size=4
)
ODD: Final = (
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(-99, 99),
    st.sampled_from([1.0, 2.0, 1.5, 2.25]),
    st.booleans(),
    st.sampled_from(TEXTS),
    LIKELY["when"],
)
"""The values of a column of a typed file, which has one type."""
USUAL: Final = {
    "area": st.sampled_from([1.5, -2.0]),
    "count": st.integers(-9, 9),
    "floor": st.integers(0, 3),
    "size": st.sampled_from([1.5, 2.0, 2.25]),
    "plan": st.sampled_from(TEXTS),
    "open": st.booleans(),
    "when": st.sampled_from(["2024-02-03", " 2024-03-01 12:30"]),
}


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, InputReader]:
    """The readers of published tables, by the name of a CSV file or by format."""
    folder = tmp_path_factory.mktemp("published")
    return {name: published(folder, name) for name in (*CSV, *TYPED)}


def published(folder: Path, name: str) -> InputReader:
    """Return the reader of a table that is published from a file of the folder."""
    path = folder / (f"{name}.csv" if name in CSV else f"t.{name}")
    if name in CSV:
        path.write_text(CSV[name])
    else:
        write_typed(path, ROWS)
    form = {"when": "date" if name not in {"comma", "thousands"} else "date:%d.%m.%Y"}
    options = TableOptions(
        thousands="." if name == "thousands" else None,
        nulls=("-",) if name == "thousands" else (),
        values=("NA",) if name == "thousands" else (),
        plan=PlanOptions(
            reads=dict.fromkeys(CATEGORIES, "category") | form,
            missing=MISSING | dict.fromkeys(CATEGORIES, "category"),  # type: ignore[arg-type]
            unknown=frozenset(CATEGORIES),
        ),
    )
    source, plan = plan_file(path, options)
    reader = plan.reader("rows.parquet")
    filled = {
        column: each if each.values else each.model_copy(update={"fill": 2.5})
        for column, each in reader.columns.items()
    }
    about: dict[str, Any] = {"version": 1, "manifest": DIGEST, "content": DIGEST, "files": 1, "bytes": 1}
    reader = reader.model_copy(update={"columns": filled})
    dataset = Dataset.model_validate({"name": "flats", **about, "reader": reader, "source_table": source})
    return InputReader(dataset=dataset, fields=("features", "categories"))


def write_typed(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows as JSON lines, Parquet or Arrow."""
    if path.suffix == ".jsonl":
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    else:
        pyarrow.feather.write_feather(pa.Table.from_pylist(list(rows)), path)


def cell(value: Any, column: str, decimal: str) -> str:
    """Return a JSON value as a cell of a CSV file whose writer has the notation of the published file."""
    match value:
        case None:
            return ""
        case str():
            return value
        case bool():
            return {"point": str(value), ",": "yes" if value else "no"}.get(decimal, str(value))
        case _ if column in {"area", "count"}:
            return format(Decimal(repr(value)), "f").replace(".", decimal)
        case _:
            return str(value)


def outcome(batches: Iterable[Batch]) -> dict[str, list[Any]] | str:
    """Return the values of all samples, or `error`."""
    try:
        (batch,) = batches
    except DatasetError:
        return "error"
    return {name: [repr(each) for each in value.flatten().tolist()] for name, value in batch.items()}


def both(reader: InputReader, path: Path, rows: list[dict[str, Any]]) -> tuple[Any, Any]:
    """Return the outcomes of a file and of its rows in JSON."""
    return outcome(reader.of_file(path)), outcome(reader.of_rows(json.loads(json.dumps(rows))))


@settings(max_examples=80, deadline=None)
@given(name=st.sampled_from(sorted(CSV)), rows=ANY_ROWS)
def test_a_row_of_texts_is_read_as_the_row_of_a_csv_file(
    readers: dict[str, InputReader], name: str, rows: list[dict[str, Any]]
) -> None:
    reader = readers[name]
    with tempfile.TemporaryDirectory() as folder:
        texts = [{column: "" if each is None else str(each) for column, each in row.items()} for row in rows]
        write_csv(Path(folder) / "new.csv", texts, reader)
        of_file, of_rows = both(reader, Path(folder) / "new.csv", texts)
        assert of_file == of_rows


@settings(max_examples=80, deadline=None)
@given(name=st.sampled_from(sorted(CSV)), rows=NUMBER_ROWS)
@example(name="thousands", rows=[{"area": 1.234, "count": 1234, "plan": "pro"}])
def test_a_number_is_read_as_the_number_of_a_csv_file_in_its_notation(
    readers: dict[str, InputReader], name: str, rows: list[dict[str, Any]]
) -> None:
    reader = readers[name]
    with tempfile.TemporaryDirectory() as folder:
        others = {"floor": "1", "size": None, "open": None, "when": None}
        whole = [row | others for row in rows]
        assert reader.dataset
        assert reader.dataset.source_table
        decimal = reader.dataset.source_table.decimal
        cells = [{column: cell(each, column, decimal) for column, each in row.items()} for row in whole]
        write_csv(Path(folder) / "new.csv", cells, reader)
        of_file, of_rows = both(reader, Path(folder) / "new.csv", whole)
        assert of_file == of_rows
        assert of_file != "error" or any(abs(row["area"] or 0) > 3e38 for row in rows)


@settings(max_examples=80, deadline=None)
@given(name=st.sampled_from(TYPED), data=st.data())
def test_a_row_is_read_as_the_row_of_a_typed_file(
    readers: dict[str, InputReader], name: str, data: st.DataObject
) -> None:
    reader = readers[name]
    kinds = {
        column: data.draw(st.sampled_from(ODD)) if data.draw(st.integers(0, 3)) == 0 else USUAL[column]
        for column in LIKELY
    }
    whole = st.fixed_dictionaries({column: st.one_of(st.none(), kind) for column, kind in kinds.items()})
    rows = data.draw(st.lists(whole, min_size=1, max_size=4))
    with tempfile.TemporaryDirectory() as folder:
        write_typed(Path(folder) / f"new.{name}", rows)
        of_file, of_rows = both(reader, Path(folder) / f"new.{name}", rows)
        assert of_file == of_rows


def write_csv(path: Path, rows: list[dict[str, str]], reader: InputReader) -> None:
    """Write a CSV file in the dialect of the published file."""
    assert reader.dataset
    assert reader.dataset.source_table
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=reader.dataset.source_table.delimiter)
        writer.writerow(rows[0])
        writer.writerows([row[name] for name in rows[0]] for row in rows)
