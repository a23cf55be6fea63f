"""Real-world tables are published with the right values, or rejected with the line, the column and a hint that resolves the problem."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from trainer.base.errors import DatasetError, UsageError
from trainer.data.tables.dialect import DialectOptions
from trainer.data.tables.plan import PlanOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def reads(planned: Any) -> dict[str, str]:
    source, _ = planned
    return {name: each.read for name, each in source.columns.items()}


def reading(**columns: str) -> PlanOptions:
    return PlanOptions(reads=columns)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_part_of_a_name(encoding: str, published: Callable[..., Any]) -> None:
    assert published("größe,art\n1.5,ä\n2.5,ß\n".encode(encoding)) == {"größe": [1.5, 2.5], "art": ["ä", "ß"]}


def test_semicolons_and_decimal_commas_of_a_spreadsheet(published: Callable[..., Any]) -> None:
    body = "Stadt;Preis;Zimmer\r\nBonn;1,50;2\r\nKiel;12,25;3\r\nBonn;0,5;1\r\n"
    assert published(body) == {"Stadt": ["Bonn", "Kiel", "Bonn"], "Preis": [1.5, 12.25, 0.5], "Zimmer": [2, 3, 1]}


def test_quotes_delimiters_and_newlines_inside_of_values(published: Callable[..., Any]) -> None:
    body = 'note,n\n"a, ""b""\nsecond line",1\n"c",5\n"c",2\n'
    assert published(body) == {"note": ['a, "b"\nsecond line', "c", "c"], "n": [1, 5, 2]}


def test_tabs_and_pipes(published: Callable[..., Any]) -> None:
    expected = {"a": [1, 5, 2], "b": ["x", "y", "x"]}
    assert published("a\tb\n1\tx\n5\ty\n2\tx\n", name="t.tsv") == expected
    assert published("a|b\n1|x\n5|y\n2|x\n") == expected


def test_missing_values_by_their_spellings(plan: Callable[..., Any], published: Callable[..., Any]) -> None:
    body = "a,b\n1,x\nNA,?\n5,n/a\n,y\nnull,x\n"
    assert published(body) == {"a": [1, None, 5, None, None], "b": ["x", None, None, "y", "x"]}
    source, planned = plan(body)
    assert source.missing == ("", "?", "NA", "n/a", "null")
    assert [each.treatment.missing for each in planned.columns] == ["mean", "category"]


def test_identifiers_with_leading_zeros_stay_text(published: Callable[..., Any], plan: Callable[..., Any]) -> None:
    body = "zip,n\n01234,1\n99999,5\n01234,2\n"
    assert published(body)["zip"] == ["01234", "99999", "01234"]
    assert reads(plan(body)) == {"zip": "category", "n": "number"}


def test_numbers_too_long_for_64_bits_stay_text(published: Callable[..., Any]) -> None:
    assert published("card,n\n12345678901234567890123,1\n7,5\n7,2\n")["card"][0] == "12345678901234567890123"


def test_a_file_without_a_header_gets_numbered_names(published: Callable[..., Any]) -> None:
    assert published("1,x\n5,y\n2,x\n") == {"column_1": [1, 5, 2], "column_2": ["x", "y", "x"]}


@pytest.mark.parametrize("name", ["id", "Id", "ID", "Customer Id", "order-ID", "PassengerId"])
def test_a_column_with_the_name_of_an_identifier_is_left_out(plan: Callable[..., Any], name: str) -> None:
    assert reads(plan(f"{name},n,y\n10,1,a\n12,1,b\n17,2,a\n31,3,b\n"))[name] == "left out"


def test_identifiers_counters_and_constants_are_left_out(plan: Callable[..., Any]) -> None:
    rows = "".join(f"{n},u{n * 7},{100 - n},same,{n % 3}\n" for n in range(9))
    planned = plan(f"row,name,user_id,k,n\n{rows}")
    assert reads(planned) == {
        "row": "left out", "name": "left out", "user_id": "left out", "k": "left out", "n": "number",
    }  # fmt: skip


def test_iso_dates_are_left_out_unless_they_are_declared(
    plan: Callable[..., Any], published: Callable[..., Any]
) -> None:
    body = "day,n\n1970-01-02,1\n1970-01-11T12:00,5\n1970-01-02,2\n"
    assert reads(plan(body))["day"] == "left out"
    assert published(body, plan=reading(day="date"))["day"] == [1.0, 10.5, 1.0]


def test_dates_in_a_declared_form_with_a_time_zone_are_read_in_utc(published: Callable[..., Any]) -> None:
    body = "day,y\n01.01.1970 06:00 +0600,1\n02.01.1970 12:00 +0000,2\n"
    assert published(body, plan=reading(day="date:%d.%m.%Y %H:%M %z"))["day"] == [0.0, 1.5]


def test_dates_in_a_declared_form(published: Callable[..., Any]) -> None:
    body = "day,n\n02.01.1970,1\n11.01.1970,5\n"
    assert published(body, plan=reading(day="date:%d.%m.%Y"))["day"] == [1.0, 10.0]


def test_an_exponent_without_a_decimal_sign_is_a_number_among_decimal_commas(published: Callable[..., Any]) -> None:
    assert published("price;n\n1,5;1\n1e5;5\n")["price"] == [1.5, 1e5]
    assert published("price;n\n1e5;1\n2e5;5\n", decimal=",", plan=reading(price="number"))["price"] == [1e5, 2e5]


def test_declared_separators_of_thousands(published: Callable[..., Any]) -> None:
    body = 'price,n\n"1,234.5",1\n"1,234,567",5\n12,2\n'
    assert published(body, thousands=",")["price"] == [1234.5, 1234567.0, 12.0]


def test_the_name_of_a_time_zone_is_rejected_independently_of_the_machine(
    plan: Callable[..., Any], published: Callable[..., Any]
) -> None:
    with pytest.raises(UsageError, match="%Z reads only the zone names of this machine") as caught:
        plan("day,b\n2024-01-02 UTC,1\n", plan=reading(day="date:%Y-%m-%d %Z"))
    assert str(caught.value.hint).endswith("in the file: --read 'day=date:%Y-%m-%d %z'")
    assert published("day,b\n1970-01-02 %Z,1\n", plan=reading(day="date:%Y-%m-%d %%Z"))["day"] == [1.0]


def test_windows_text_is_read_if_its_encoding_is_declared(published: Callable[..., Any]) -> None:
    body = "art,n\ngröße,1\nx,5\n".encode("cp1252")
    assert published(body, dialect=DialectOptions(encoding="cp1252"))["art"] == ["größe", "x"]


REJECTED = {
    "mixed types": ("a,b\n1,x\nabout 5,y\n2,x\n", "line 3, column 'a': 'about 5' among numbers", "--null 'about 5'"),
    "duplicate columns": ("a,b,a\n1,2,3\n", "line 1: columns 1 and 3 are both named 'a'", "rename"),
    "a short row": ("a,b\n1,2\n3\n", "line 3: 1 cell; expected 2", "correct line 3"),
    "a long row": (
        "a,b\n1,2\n3,4,five\n",
        "line 3: 3 cells; expected 2, as in line 1; the first extra cell is 'five'",
        "quotes",
    ),
    "a long row behind a newline": ('a,b\n"1\n1",2\n3,4,5\n', "line 4: 3 cells", "correct line 4"),
    "days": (
        "a,b\n1,03.04.2020\n2,05.06.2021\n",
        "line 2, column 'b': '03.04.2020' is a date",
        "--read 'b=date:%d.%m.%Y' or --read 'b=date:%m.%d.%Y'",
    ),
    "days that are clear": ("a,b\n1,03/04/2020\n2,05/26/2021\n", "line 2, column 'b'", "--read 'b=date:%m/%d/%Y', "),
    "thousands": (
        'a,b\n"1,234,567",2\n"3",4\n',
        "line 2, column 'a': '1,234,567' has thousands separators",
        "--thousands ','",
    ),
    "thousands or decimals": (
        "a;b\n1,234;2\n5,678;9\n",
        "line 2, column 'a': '1,234' may be 1234 or 1.234",
        "--decimal ','",
    ),
    "points or thousands": (
        "a;b\n1.234;2\n5.678;9\n",
        "line 2, column 'a': '1.234' may be 1234 or 1.234",
        "--thousands '.'",
    ),
    "both decimal signs": (
        "a;b\n1,5;2.5\n5,6;9.1\n",
        r"'1,5' (line 2, column 'a') has a decimal comma, but '2.5' (line 2, column 'b')",
        "one form",
    ),
    "a unit": ("a,b\n5 %,2\n7 %,3\n", "line 2, column 'a': '5 %' is a number with a unit", "--read 'a=category'"),
    "another encoding": (
        "a,b\n1,ok\n2,größe\n".encode("cp1252"),
        "line 3: the byte 0xf6 is not UTF-8",
        "--encoding cp1252",
    ),
    "an open quote": ('a,b\n1,"x\n2,y\n', 'line 2: a quote (") opens a value and is not closed', "--quote none"),
    "text behind a quote": ('a,b\n1,x\n2,"y"z\n', 'line 3: text follows a closing quote (")', "double each quote"),
    "no delimiter": ("a\n1\n2\n", "no delimiter in line 1", "--delimiter"),
    "two delimiters": ("a,b;c\n1,2;3\n", "comma and semicolon each split line 1", "--delimiter ','"),
    "names or values": ("yes,1\nyes,x\nno,y\n", "line 1: 'yes' may be the name of a column or a value", "--header yes"),
    "years in line 1": (
        "2019,2020,2021\n1,2,3\n4,5,6\n",
        "line 1: '2019' may be the name of a column or a value",
        "--header yes",
    ),
    "UTF-16 without a mark": ("a,b\n1,2\n".encode("utf-16-le"), "line 1: a NUL character", "--encoding utf-16-le"),
    "a compressed file": (b"\x1f\x8b\x08\0", "is compressed (gzip)", "unpack"),
    "an empty file": (b"", "is empty", "header"),
}


@pytest.mark.parametrize(("body", "message", "hint"), REJECTED.values(), ids=REJECTED)
def test_ambiguous_or_damaged_tables_are_rejected(
    body: bytes | str, message: str, hint: str, plan: Callable[..., Any]
) -> None:
    with pytest.raises(DatasetError) as caught:
        plan(body)
    assert message in caught.value.message
    assert hint in str(caught.value.hint)


def test_json_lines_keep_numbers_texts_and_missing_keys(published: Callable[..., Any]) -> None:
    body = '{"a": 1, "zip": "0123", "b": true}\n\n{"a": 2.5, "zip": "77", "b": false}\n{"zip": "0123", "b": null}\n'
    assert published(body, name="t.jsonl") == {
        "a": [1.0, 2.5, None],
        "zip": ["0123", "77", "0123"],
        "b": ["true", "false", None],
    }


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"a": 1}\n{"a": "x"}\n', "line 2, column 'a': 'x' is a string; earlier lines have a number"),
        ('{"a": 1}\n{"a": [1]}\n', "line 2, column 'a': expected one value, found several"),
        ('{"a": 1, "a": 2}\n', "line 1 is not a JSON object: a key occurs twice"),
        ('{"a": Infinity}\n', "line 1 is not a JSON object: Infinity is not a JSON number"),
        (
            '{"a": 1\n',
            "line 1 is not a JSON object: column 8: expected a comma or a closing bracket, found the end",
        ),
        ("[1]\n", "line 1 is not a JSON object"),
    ],
)
def test_json_lines_are_rejected_by_line(body: str, message: str, plan: Callable[..., Any]) -> None:
    with pytest.raises(DatasetError) as caught:
        plan(body, name="t.jsonl")
    assert message in caught.value.message


@pytest.mark.parametrize("name", ["t.parquet", "t.feather", "t.arrow"])
def test_typed_tables_keep_their_types(name: str, tmp_path: Path, published: Callable[..., Any]) -> None:
    arrow = pytest.importorskip("pyarrow", reason="needs pyarrow, of the lock's extra `cpu`")
    columns = {"a": [1, 5, None], "zip": ["01", "77", "01"], "x": [0.1, 1e30, float("nan")], "b": [True, None, False]}
    write(arrow.table(columns), tmp_path / "other" / name)
    assert published((tmp_path / "other" / name).read_bytes(), name=name) == {
        "a": [1, 5, None],
        "zip": ["01", "77", "01"],
        "x": [0.1, 1e30, None],
        "b": ["true", None, "false"],
    }


@pytest.mark.parametrize(
    ("columns", "reads", "message"),
    [
        ({"y": [1, None]}, {}, "row 2, column 'y': the value is missing"),
        ({"x": [1, 1 << 30]}, {}, "row 2, column 'x': 1073741824 is rounded in a feature"),
        ({"x": ["a", "b"]}, {"x": "number"}, "row 1, column 'x': expected a number, found 'a'"),
        ({"x": ["2024-01-02", "b"]}, {"x": "date"}, "row 2, column 'x': expected a date, found 'b'"),
        ({"x": ["03.02.2024"] * 2}, {}, "row 1, column 'x': '03.02.2024' is a date"),
        ({"x": ["2024-01-02", "2024-01-02 03:00Z"]}, {}, "row 1, column 'x': '2024-01-02' has no time zone; '2024-01-02 03:00Z' in row 2"),
        ({"x": ["a", "b\x01"]}, {}, "row 2, column 'x': the control character"),
        ({"x": ["#REF!", "b"]}, {}, "row 1, column 'x': '#REF!' is the error of a formula"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["t.parquet", "t.feather"])
def test_an_error_names_the_row_of_a_file_without_lines(
    name: str, columns: dict[str, Any], reads: dict[str, str], message: str, tmp_path: Path, plan: Callable[..., Any]
) -> None:
    arrow = pytest.importorskip("pyarrow", reason="needs pyarrow, of the lock's extra `cpu`")
    write(arrow.table({"x": [1, 2], "y": [1, 2], **columns}), tmp_path / "other" / name)
    with pytest.raises(DatasetError) as caught:
        plan((tmp_path / "other" / name).read_bytes(), name=name, plan=PlanOptions(target="y", reads=reads))
    assert caught.value.message.startswith(f"{name}, {message}")


def write(table: Any, path: Path) -> None:
    import pyarrow as pa
    from pyarrow import feather, parquet

    path.parent.mkdir()
    if path.suffix == ".arrow":
        with pa.ipc.new_stream(str(path), table.schema) as stream:
            stream.write_table(table)
    else:
        (parquet.write_table if path.suffix == ".parquet" else feather.write_feather)(table, str(path))


@pytest.mark.parametrize(
    ("cell", "message", "option"),
    [
        ("1 234.5", "'1 234.5' does not have a decimal comma, unlike", "--decimal '.'"),
        ("1'234,5", '"1\'234,5" has thousands separators', """--thousands "'\""""),
        ("1\u00a0234,5", "'1\\xa0234,5' has thousands separators", "--thousands '\u00a0'"),
    ],
)
def test_a_number_with_another_separator_than_declared_is_rejected(
    cell: str, message: str, option: str, plan: Callable[..., Any]
) -> None:
    with pytest.raises(DatasetError) as caught:
        plan(f"a;b\n1 234,5;x\n{cell};y\n", decimal=",", thousands=" ")
    assert caught.value.message.startswith(f"t.csv, line 3, column 'a': {message}")
    assert str(caught.value.hint).startswith(option)


def test_options_of_csv_are_rejected_for_other_formats(plan: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match="--delimiter is for CSV"):
        plan('{"a": 1}', name="t.jsonl", dialect=DialectOptions(delimiter=";"))


def test_a_missing_target_is_rejected_with_its_line(plan: Callable[..., Any]) -> None:
    with pytest.raises(DatasetError, match=r"line 3, column 'y': the value is missing$"):
        plan("a,y\n1,no\n5,\n2,yes\n", plan=PlanOptions(target="y"))
    with pytest.raises(
        DatasetError, match=r"line 3, column 'y': the value is missing; the column has 2 missing values$"
    ):
        plan("a,y\n1,no\n5,\n2,yes\n3,NA\n", plan=PlanOptions(target="y"))


def test_an_unknown_column_is_rejected_with_the_nearest(plan: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match="no column 'churn'") as caught:
        plan("a,churned\n1,no\n5,yes\n", plan=PlanOptions(target="churn"))
    assert "churned" in str(caught.value.hint)


def test_a_value_that_resolves_mixed_types_is_missing(published: Callable[..., Any]) -> None:
    assert published("a,b\n1,x\nabout 5,y\n2,x\n", nulls=("about 5",))["a"] == [1, None, 2]


@pytest.mark.parametrize(
    ("name", "body", "message"),
    [
        ("t.parquet", b"a,b\n1,2\n", "t.parquet is not a file in the format Parquet"),
        (
            "t.parquet",
            b"PAR1cut",
            "t.parquet is damaged, or has values that pyarrow cannot read from the format Parquet",
        ),
        ("t.parquet", b"", "t.parquet is empty; expected the format Parquet"),
        ("t.arrow", b"a,b\n1,2\n", "t.arrow is not a file in the format Arrow"),
        (
            "t.feather",
            b"ARROW1\0\0cut",
            "t.feather is damaged, or has values that pyarrow cannot read from the format Arrow",
        ),
    ],
)
def test_files_that_pyarrow_cannot_read_are_rejected_without_its_text(
    name: str, body: bytes, message: str, plan: Callable[..., Any]
) -> None:
    pytest.importorskip("pyarrow.parquet", reason="needs pyarrow, of the lock's extra `cpu`")
    with pytest.raises(DatasetError) as caught:
        plan(body, name=name)
    assert caught.value.message == message
