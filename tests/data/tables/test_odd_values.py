"""Values that are easily misread silently are published correctly, or rejected with the line and the column."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from trainer.base.errors import DatasetError
from trainer.data.tables.convert import conversion
from trainer.data.tables.dialect import DialectOptions
from trainer.data.tables.plan import PlanOptions
from trainer.data.tables.value_notes import describe_rounding, describe_similar, describe_spellings, describe_years

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ROWS = "5,x\n9,y\n2,x\n"
LATE = f"1,{'x' * 2000}\n5,y\n" * 600
"""More than the first MiB, from which the format is detected."""


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_wide_encodings_with_a_byte_order_mark(encoding: str, published: Callable[..., Any]) -> None:
    assert published(f"\ufeffä,b\n{ROWS}".encode(encoding)) == {"ä": [5, 9, 2], "b": ["x", "y", "x"]}


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n\n"])
def test_line_ends_of_other_systems_and_blank_lines(end: str, published: Callable[..., Any]) -> None:
    assert published(f"a,b\n{ROWS}".replace("\n", end)) == {"a": [5, 9, 2], "b": ["x", "y", "x"]}


def test_spaces_in_the_header_and_in_cells_are_removed(published: Callable[..., Any]) -> None:
    assert published(" a , b c \n 5 ,x\n9, y\n2\u00a0,x\n") == {"a": [5, 9, 2], "b c": ["x", "y", "x"]}


def test_names_that_are_missing_are_numbered(published: Callable[..., Any]) -> None:
    assert published("a,,\n1,x,\n5,y,\n2,x,\n") == {"a": [1, 5, 2], "column_2": ["x", "y", "x"], "column_3": [None] * 3}


def test_a_quoted_empty_text_and_a_row_of_delimiters_are_missing(published: Callable[..., Any]) -> None:
    assert published('a,b\n"",x\n,\n2,""\n5,x\n') == {"a": [None, None, 2, 5], "b": ["x", None, None, "x"]}


def test_the_missing_value_of_databases(published: Callable[..., Any]) -> None:
    assert published("a,b\n\\N,x\n5,\\N\n2,x\n") == {"a": [None, 5, 2], "b": ["x", None, "x"]}


def test_whole_numbers_up_to_64_bits_are_exact_and_longer_ones_text(published: Callable[..., Any]) -> None:
    body = "id,b\n9223372036854775807,x\n-9223372036854775807,y\n9007199254740993,x\n"
    assert published(body)["id"] == [2**63 - 1, 1 - 2**63, 2**53 + 1]
    assert published("a,b\n9223372036854775808,x\n5,y\n2,x\n")["a"] == ["9223372036854775808", "5", "2"]


def test_telephone_numbers_keep_their_plus(published: Callable[..., Any]) -> None:
    assert published("phone,n\n+4912345678,1\n+4998765432,5\n")["phone"] == ["+4912345678", "+4998765432"]


def test_true_and_false_are_categories(plan: Callable[..., Any]) -> None:
    source, planned = plan("a,n\ntrue,1\nfalse,5\ntrue,2\n")
    assert (source.columns["a"].read, planned.columns[0].treatment.values) == ("category", ("false", "true"))


def test_powers_of_ten_are_numbers_among_fractions_or_if_they_are_declared(published: Callable[..., Any]) -> None:
    assert published("a,n\n1e5,1\n2.5,5\n")["a"] == [1e5, 2.5]
    assert published("a,n\n1e-5,1\n2E+3,5\n")["a"] == [1e-5, 2e3]
    assert published("a,n\n1e5,1\n7,5\n", plan=PlanOptions(reads={"a": "number"}))["a"] == [1e5, 7.0]
    kept = published("a,n\n1e5,1\n1e6,5\n1e5,2\n", plan=PlanOptions(reads={"a": "category"}))["a"]
    assert kept == ["1e5", "1e6", "1e5"]
    assert published('{"a": 1e5}\n{"a": 7}\n', name="t.jsonl")["a"] == [1e5, 7.0]


def test_times_with_zones_are_points_in_time(published: Callable[..., Any]) -> None:
    body = "t,n\n1970-01-02T02:00+02:00,1\n1970-01-02 00:00:00Z,5\n1970-01-01 19:00 -05:00,2\n"
    assert published(body, plan=PlanOptions(reads={"t": "date"}))["t"] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(("first", "second"), [("", "+05:00"), ("Z", "")])
def test_dates_of_a_later_version_have_a_time_zone_only_if_the_earlier_ones_have(
    first: str, second: str, plan: Callable[..., Any]
) -> None:
    body, declared = "t,n\n2024-01-02 03:00{0},1\n2024-01-03 04:00{0},5\n", PlanOptions(reads={"t": "date"})
    source, planned = plan(body.format(first), plan=declared)
    assert source.columns["t"].zoned is bool(first)
    before = (source, planned.reader("t.parquet"))
    with pytest.raises(DatasetError, match=r"line 2, column 't': '2024-01-02 03:00.*' has .* time zone; the earlier"):
        plan(body.format(second), before=before)
    assert plan(body.format(first), before=before)[0] == source
    dates = conversion(source.columns["t"], decimal=".", thousands="")
    assert dates is not None
    with pytest.raises(ValueError, match=f"^a date {'with' if first else 'without'} a time zone"):
        dates(f"2024-01-02 03:00{second}")


def test_dates_of_a_version_that_did_not_record_their_zone_are_read_as_before(plan: Callable[..., Any]) -> None:
    declared = PlanOptions(reads={"t": "date"})
    source, planned = plan("t,n\n2024-01-02 03:00,1\n2024-01-03 04:00,5\n", plan=declared)
    known = source.columns["t"].model_copy(update={"zoned": None})
    earlier = source.model_copy(update={"columns": {**source.columns, "t": known}})
    assert plan("t,n\n2024-01-02 03:00,1\n", before=(earlier, planned.reader("t.parquet")))[0] == earlier


def test_a_column_without_values_has_no_note_on_rounding(plan: Callable[..., Any]) -> None:
    _, planned = plan("a,x,y\n1,,3\n2,,5\n4,,9\n", plan=PlanOptions(reads={"x": "number"}))
    assert [*describe_rounding(planned, dataset="t")] == []


def test_a_fraction_is_not_a_whole_number_that_is_rounded(plan: Callable[..., Any]) -> None:
    source, _ = plan("a,n\n20000000.0,1\n0.125,5\n0.250,2\n")
    assert source.columns["a"].type == "number"


def test_a_word_that_means_missing_can_be_a_value(plan: Callable[..., Any], published: Callable[..., Any]) -> None:
    body = "country,n\nNA,1\nDE,5\n,2\nDE,3\n"
    (note,) = describe_spellings(plan(body)[1], dataset="t")
    assert note == "t: column 'country': 'NA' is read as a missing value; if it is a value: --value NA"
    assert published(body, values=("NA",))["country"] == ["NA", "DE", None, "DE"]
    source, planned = plan(body, values=("NA",))
    again, _ = plan(body, before=(source, planned.reader("t.parquet")))
    assert (source.values, again) == (("NA",), source)


def test_text_of_typed_formats_is_never_missing(published: Callable[..., Any]) -> None:
    body = '{"a": "NA", "b": "?"}\n{"a": "x", "b": null}\n{"a": "x", "b": "null"}\n'
    assert published(body, name="t.jsonl") == {"a": ["NA", "x", "x"], "b": ["?", None, "null"]}


def test_a_declared_spelling_of_a_missing_value_holds_for_later_files(plan: Callable[..., Any]) -> None:
    source, planned = plan("x,label\n1.5,a\n2.5,b\n3.5,a\n", nulls=("-999",), plan=PlanOptions(target="label"))
    assert source.missing == ("-999",)
    with pytest.raises(DatasetError, match="line 3, column 'x': the value is missing") as caught:
        plan(
            "x,label\n1.5,a\n-999,b\n",
            before=(source, planned.reader("t.parquet")),
            plan=PlanOptions(missing={"x": "reject"}),
        )
    assert "--missing" in str(caught.value.hint)
    _, later = plan("x,label\n1.5,a\n-999,b\n", before=(source, planned.reader("t.parquet")))
    assert later.columns[0].scan.gaps == 1


def test_a_word_that_is_missing_in_a_csv_file_is_a_value_in_a_later_typed_file(
    plan: Callable[..., Any], published: Callable[..., Any]
) -> None:
    source, planned = plan("country,n\nNA,1\nDE,5\nDE,3\n")
    rows = '{"country": "NA", "n": 1}\n{"country": "DE", "n": 5}\n{"country": "DE", "n": 3}\n'
    before = (source, planned.reader("t.parquet"))
    assert plan(rows, name="t.jsonl", before=before)[1].columns[0].treatment.values == ("DE", "NA")
    assert published(rows, name="t.jsonl", before=before)["country"] == ["NA", "DE", "DE"]


def test_a_usual_spelling_is_missing_in_a_typed_file_if_it_is_declared(
    plan: Callable[..., Any], published: Callable[..., Any]
) -> None:
    rows = '{"country": "NA", "n": 1}\n{"country": "DE", "n": 5}\n{"country": "DE", "n": 3}\n'
    assert published(rows, name="t.jsonl", nulls=("NA",))["country"] == [None, "DE", "DE"]
    source, planned = plan(rows, name="t.jsonl", nulls=("NA",))
    assert planned.columns[0].scan.gaps == 1
    assert plan(rows, name="t.jsonl", before=(source, planned.reader("t.parquet")))[0] == source


@pytest.mark.parametrize(
    ("values", "note"),
    [
        (("Yes", "yes", "yes"), "differ only by case: Yes, yes"),
        (("caf\u00e9", "cafe\u0301", "x"), r"whitespace or invisible characters: 'cafe\u0301', 'caf\xe9'"),
        (("a\u200b", "a", "a"), r"invisible characters: 'a', 'a\u200b'"),
        (("a  b", "a b", "a b"), "whitespace or invisible characters: 'a  b', 'a b'"),
        (("GrÃ¶ÃŸe", "x", "x"), "'GrÃ¶ÃŸe', which looks as if UTF-8 that was read in another encoding"),
        (("Gr\ufffdn", "x", "x"), "which looks as if a character was lost"),
    ],
)
def test_values_that_look_the_same_or_damaged_are_reported(values: Any, note: str, plan: Callable[..., Any]) -> None:
    body = "name,n\n" + "".join(f"{value},{number}\n" for number, value in zip((1, 7, 3), values, strict=True))
    planned = plan(body, plan=PlanOptions(reads={"name": "category"}))[1]
    assert note in next(describe_similar(planned, dataset="t"))


def test_indexes_of_data_frames_are_left_out(plan: Callable[..., Any]) -> None:
    source, _ = plan("Unnamed: 0,a,n\n7,1,x\n3,5,y\n9,2,x\n")
    assert [each.read for each in source.columns.values()] == ["left out", "number", "category"]


def test_large_whole_numbers_are_rounded_only_if_they_are_declared_as_numbers(
    plan: Callable[..., Any], published: Callable[..., Any]
) -> None:
    body = "people,day\n20500000,1\n70,5\n33554433,2\n"
    with pytest.raises(DatasetError, match="line 2, column 'people': 20500000 is rounded in a feature") as caught:
        plan(body)
    assert str(caught.value.hint).startswith("--read 'people=number' if 24 bits of precision are enough")
    declared = PlanOptions(reads={"people": "number"})
    assert published(body, plan=declared)["people"] == [20500000.0, 70.0, 33554433.0]
    source, planned = plan(body, plan=declared)
    assert plan(body, before=(source, planned.reader("t.parquet")))[0] == source


@pytest.mark.parametrize(
    ("values", "options"),
    [
        (("123456789.0", "70.0", "123456790.0"), {}),
        (("123,456,789", "70", "123,456,790"), {"thousands": ","}),
        (("123.456.789,00", "70", "5,0"), {"thousands": "."}),
    ],
)
def test_whole_numbers_in_any_notation_are_not_rounded_silently(
    values: Any, options: Any, plan: Callable[..., Any]
) -> None:
    body = "account;day\n" + "".join(f"{value};{day}\n" for day, value in zip((1, 5, 2), values, strict=True))
    with pytest.raises(DatasetError, match=f"line 2, column 'account': {values[0]} is rounded in a feature"):
        plan(body, **options)
    assert plan(body, **options, plan=PlanOptions(reads={"account": "number"}))[0].columns["account"].type == "number"
    amounts = body + "0,5;9\n" if options.get("thousands") == "." else body + "0.5;9\n"
    assert plan(amounts, **options)[0].columns["account"].read == "number"


@pytest.mark.parametrize(
    ("form", "reads", "note"),
    [
        ("{}.25", {}, "float32 rounds 200 distinct values to 3 values; write the values as differences"),
        ("2024-03-01 00:00:{:06.3f}", {"t": "date"}, "float32 rounds 200 distinct values to 1 value; write"),
    ],
)
def test_numbers_that_float32_makes_equal_are_reported(
    form: str, reads: dict[str, str], note: str, plan: Callable[..., Any]
) -> None:
    start = 0 if reads else 1_700_000_000
    rows = "".join(f"{form.format(start + row * (0.01 if reads else 1))},{row % 7}\n" for row in range(200))
    planned = plan(f"t,n\n{rows}", plan=PlanOptions(reads=reads))[1]
    (found,) = describe_rounding(planned, dataset="d")
    assert note in found
    fine = "".join(f"{row * 0.37:.6f},{row % 7}\n" for row in range(200))
    assert not [*describe_rounding(plan(f"t,n\n{fine}")[1], dataset="d")]


def test_the_latest_date_with_a_year_of_two_digits_is_reported(plan: Callable[..., Any]) -> None:
    body = "born,n\n31.12.69,1\n12.03.45,5\n01.01.02,2\n"
    (note,) = describe_years(plan(body, plan=PlanOptions(reads={"born": "date:%d.%m.%y"}))[1], dataset="d")
    assert note == "d: column 'born': years of two digits are read as 1969 to 2068; 12.03.45 is 2045-03-12, the latest"
    body = body.replace(".69", ".1969").replace(".45", ".1945").replace(".02", ".2002")
    assert not [*describe_years(plan(body, plan=PlanOptions(reads={"born": "date:%d.%m.%Y"}))[1], dataset="d")]


REJECTED = {
    "a NUL": ("a,b\n1,x\n5,y\0z\n", "line 3: a NUL character", "remove it"),
    "a NUL behind the first megabyte": (
        f"a,b\n{LATE}5,y\0z\n",
        "line 1202, column 'b': a NUL character",
        "remove it",
    ),
    "files that were joined": (
        f"a,b\n{LATE}\ufeffa,b\n{ROWS}",
        "line 1202, column 'a': a byte order mark",
        "remove it",
    ),
    "a header behind the first megabyte": (
        f"a,b\n{LATE}a,b\n{ROWS}",
        "line 1202: the row repeats the column names",
        "remove line 1202",
    ),
    "a line for spreadsheets": (
        "sep=;\na;b\n1;x\n",
        "line 1: 'sep=;' is a directive for spreadsheet programs",
        "t.csv > NEW.csv",
    ),
    "single quotes": ("'a','b'\n'1','x'\n'5','y'\n", "line 1: every value is in the quotes ''", "--quote"),
    "powers or identifiers": (
        "sku,b\n12e4,x\n34,y\n",
        "line 2, column 'sku': '12e4' may be a number or an identifier",
        "--read 'sku=number'",
    ),
    "a number beyond 64 bits": ("a,b\n1.5,x\n1e999,y\n", "line 3, column 'a': expected a number below 1.8e308", "skip"),
    "percent signs": ("a,b\n5%,x\n7 %,y\n", "line 2, column 'a': '5%' is a number with a unit", "column's name"),
    "currencies": ("a,b\n$5,x\n€7,y\n", "line 2, column 'a': '$5' is a number with a unit", "column's name"),
    "parentheses": ("a,b\n(5),x\n7,y\n", "line 2, column 'a': '(5)' may be a negative number", "minus sign"),
    "thousands by a space": ("a,b\n1 234,x\n5 678,y\n", "'1 234' has thousands separators", "--thousands ' '"),
    "thousands by a quote": ("a,b\n1'234,x\n5'678,y\n", "has thousands separators", '--thousands "\'"'),
    "points in a tab-separated file": (
        "a\tb\n1.234\t2\n5.678\t3\n",
        "line 2, column 'a': '1.234' may be 1234 or 1.234",
        "--thousands '.'",
    ),
    "a dash": ("a,b\n-,x\n5,y\n2,z\n", "line 2, column 'a': '-' among numbers", "--null=-"),
    "None": ("a,b\nNone,x\n5,y\n2,z\n", "line 2, column 'a': 'None' among numbers", "--null None"),
    "infinity": ("a,b\ninf,x\n5,y\n2,z\n", "line 2, column 'a': 'inf' among numbers", "--null inf"),
    "another minus": (
        "a,b\n\u22125,x\n5,y\n2,z\n",
        "line 2, column 'a': '\u22125' has MINUS SIGN (U+2212)",
        "replace it",
    ),
    "another minus in most rows": (
        "a,b\n\u22125,x\n\u22126,y\n2,z\n",
        "'\u22125' has MINUS SIGN (U+2212)",
        "--read 'a=",
    ),
    "a dash in all rows": (
        "a,b\n\u20135.5,x\n\u20136.5,y\n",
        "line 2, column 'a': '\u20135.5' has EN DASH",
        "replace it",
    ),
    "wide digits": ("a,b\n\uff11\uff12,x\n\uff13,y\n", "'\uff11\uff12' has FULLWIDTH DIGIT ONE (U+FF11)", "replace it"),
    "Arabic digits": ("a,b\n\u0663\u066b\u0665,x\n\u0664,y\n", "has ARABIC-INDIC DIGIT THREE (U+0663)", "replace it"),
    "the error of a formula": ("a,b\nx,1\n#VALUE!,5\nx,2\n", "line 3, column 'a': '#VALUE!' is the error", "--null"),
    "times with and without a zone": (
        "t,b\n2020-01-01T10:00Z,1\n2020-01-01 10:00,5\n",
        "line 3, column 't': '2020-01-01 10:00' has no time zone",
        "all without",
    ),
    "delimiters at the end of rows": ("a,b\n1,x,\n5,y,\n", "line 2: 3 cells; expected 2", "correct line 2"),
    "a title above the header": ("Report 2020\n\na,b\n1,x\n", "no delimiter in line 1", "--delimiter"),
    "units below the header": ("a,b\nkg,m\n1,2\n5,3\n", "line 2, column 'a': 'kg' among numbers", "correct it"),
    "half of a file": (f"a,b\n{ROWS}7", "line 5: 1 cell; expected 2", "correct line 5"),
}


@pytest.mark.parametrize(("body", "message", "hint"), REJECTED.values(), ids=REJECTED)
def test_an_odd_value_is_rejected_by_line(body: str, message: str, hint: str, published: Callable[..., Any]) -> None:
    with pytest.raises(DatasetError) as caught:
        published(body)
    assert message in caught.value.message
    assert hint in str(caught.value.hint)


@pytest.mark.parametrize(("encoding", "has_command"), [("utf-8", True), ("cp1252", True), ("utf-16", False)])
def test_the_command_that_removes_line_1_names_the_whole_path(
    encoding: str, *, has_command: bool, tmp_path: Path, plan: Callable[..., Any]
) -> None:
    with pytest.raises(DatasetError, match="line 1") as caught:
        plan("sep=;\na;b\n1;x\n".encode(encoding), name="my t.csv", dialect=DialectOptions(encoding=encoding))
    command = f": tail -n +2 '{tmp_path}/my t.csv' > NEW.csv" if has_command else ""
    assert caught.value.hint == f"remove line 1{command}"


def test_windows_text_that_is_declared_as_latin_1_is_rejected(plan: Callable[..., Any]) -> None:
    with pytest.raises(DatasetError, match=r"line 2, column 'a': the control character '\\x93'") as caught:
        plan("a,b\n\u201cx\u201d,1\ny,5\n".encode("cp1252"), dialect=DialectOptions(encoding="latin-1"))
    assert "--encoding cp1252" in str(caught.value.hint)


def test_half_of_a_character_in_json_is_rejected_by_line(plan: Callable[..., Any]) -> None:
    with pytest.raises(DatasetError, match="line 2, column 'a': half of a surrogate pair"):
        plan('{"a": "x"}\n{"a": "\\ud800"}\n', name="t.jsonl")


@pytest.mark.parametrize("value", ["x" * 140_000, f'"{"x" * 140_000}"', f'"{"x" * 140_000}'])
def test_a_very_long_value_is_rejected_with_its_line(value: str, plan: Callable[..., Any]) -> None:
    with pytest.raises(DatasetError, match=r"line 3: a value has more than 131,072 characters"):
        plan(f"a,b\n1,x\n2,{value}\n3,y\n")
