"""Values of settings: the value of a text for a type, and the canonical form of each value."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as some
from pydantic import BaseModel, Field, PositiveInt, SecretStr, field_validator, model_validator
from typing_extensions import TypedDict

from trainer.base.digest import digest_of_document
from trainer.base.errors import DocumentError, SettingError
from trainer.settings.fields import LaunchSettings, settings_document
from trainer.settings.origins import Origins, parse_options, resolve

if TYPE_CHECKING:
    from trainer.settings.origins import Resolved


class Kernel(Enum):
    SMALL = "small"
    LARGE = "large"


class Order(IntEnum):
    FIRST = 1
    SECOND = 2


class Block(BaseModel):
    units: int
    bias: bool = True


class Row(TypedDict):
    name: str
    share: float


class Settings(LaunchSettings):
    depth: Literal[1, 2, 3] = 1
    share: Literal[0.1, 0.5] = 0.1  # type: ignore[valid-type]  # typing does not allow floats here; pydantic does
    mixed: Literal[True, "auto", 3] = "auto"
    sizes: Sequence[int] = (8,)
    grid: list[list[int]] = []
    pair: tuple[float, float] = (0.1, 0.2)
    many: tuple[int, ...] = ()
    names: list[str] = []
    tags: set[str] = set()
    chosen: frozenset[int] = frozenset()
    table: dict[str, int] = {}
    curves: dict[str, list[float]] = {}
    either: int | str = 3
    number: int | float = 1
    word: Literal["None", "a"] = "a"
    choice: Literal["none", "a"] | None = "a"
    maybe: bool | None = None
    bias: bool = True
    text: str = "x"
    name: str | None = "x"
    kernel: Kernel = Kernel.SMALL
    order: Order = Order.FIRST
    day: date = date(2020, 1, 1)
    wait: timedelta = timedelta(seconds=1)
    place: Path = Path("a")
    exact: Decimal = Decimal(1)
    rate: Annotated[float, Field(gt=0)] = 1e-3
    shift: float = 0.0
    limit: PositiveInt | None = None
    count: int = 0
    widths: Annotated[list[PositiveInt], Field(min_length=1, max_length=3)] = [1]
    short: Annotated[str, Field(min_length=2, max_length=3, pattern="^a")] = "ab"
    even: Annotated[int, Field(multiple_of=2)] = 2
    block: Block = Block(units=1)
    row: Row = {"name": "a", "share": 1.0}
    anything: Any = None
    token: SecretStr | None = None


def made(*argv: str, file: Path | None = None, environ: dict[str, str] | None = None) -> Resolved[Settings]:
    return resolve(Settings, Origins(options=parse_options(argv), environ=environ or {}, files=(file,) if file else ()))


def value(name: str, text: str) -> object:
    return made(f"--{name}={text}").settings.value_of(name)


def digest(resolved: Resolved[Any]) -> str:
    return digest_of_document(settings_document(resolved.settings))


RIGHT: list[tuple[str, str, str, object]] = [
    # setting, text on the command line, value in a settings file, value in the record
    ("depth", "2", "2", 2),
    ("share", "0.5", "0.5", 0.5),
    ("share", "5e-1", "0.5", 0.5),
    ("mixed", "true", "true", True),
    ("mixed", "3", "3", 3),
    ("mixed", "auto", '"auto"', "auto"),
    ("sizes", "[8,16]", "[8, 16]", [8, 16]),
    ("sizes", "[]", "[]", []),
    ("grid", "[[1],[2,3]]", "[[1], [2, 3]]", [[1], [2, 3]]),
    ("pair", "[0.5,1]", "[0.5, 1]", [0.5, 1.0]),
    ("many", "[1,2]", "[1, 2]", [1, 2]),
    ("names", '["5","none"]', '["5", "none"]', ["5", "none"]),
    ("names", "['a', 'b',]", '["a", "b"]', ["a", "b"]),
    ("tags", '["b","a"]', '["a", "b"]', ["a", "b"]),
    ("chosen", "[10,9]", "[9, 10]", [9, 10]),
    ("table", '{"b":1,"a":2}', "{ a = 2, b = 1 }", {"a": 2, "b": 1}),
    ("table", "{a = 2}", "{ a = 2 }", {"a": 2}),
    ("curves", '{"a":[1,0.5]}', "{ a = [1, 0.5] }", {"a": [1.0, 0.5]}),
    ("either", "5", "5", 5),
    ("either", '"5"', '"5"', "5"),
    ("either", "five", '"five"', "five"),
    ("either", "none", '"none"', "none"),
    ("number", "5.0", "5", 5),
    ("number", "0.5", "0.5", 0.5),
    ("word", "None", '"None"', "None"),
    ("choice", "none", '"none"', "none"),
    ("maybe", "true", "true", True),
    ("bias", "False", "false", False),
    ("text", "5", '"5"', "5"),
    ("text", "1e-4", '"1e-4"', "1e-4"),
    ("text", "none", '"none"', "none"),
    ("text", "true", '"true"', "true"),
    ("text", "", '""', ""),
    ("text", '"q"', "'\"q\"'", '"q"'),
    ("name", "5", '"5"', "5"),
    ("kernel", "large", '"large"', "large"),
    ("order", "2", "2", 2),
    ("day", "2026-01-31", "2026-01-31", "2026-01-31"),
    ("wait", "PT9S", '"PT9S"', "PT9S"),
    ("place", "5", '"5"', "5"),
    ("exact", "1.50", "1.5", "1.5"),
    ("rate", "1e-4", "0.0001", 0.0001),
    ("rate", "5", "5", 5.0),
    ("rate", ".5", "0.5", 0.5),
    ("rate", "5.", "5.0", 5.0),
    ("shift", "-0.0", "0.0", 0.0),
    ("limit", "5", "5", 5),
    ("count", "1_000", "1_000", 1000),
    ("count", "0x10", "0x10", 16),
    ("count", "-5", "-5", -5),
    ("count", "+5", "5", 5),
    ("block", '{"units": 3}', "{ units = 3 }", {"units": 3, "bias": True}),
    ("row", '{"name": "b", "share": 2}', '{ name = "b", share = 2 }', {"name": "b", "share": 2.0}),
]


@pytest.mark.parametrize(("name", "text", "toml", "recorded"), RIGHT)
def test_a_value_is_equal_from_every_origin(tmp_path: Path, name: str, text: str, toml: str, recorded: object) -> None:
    file = tmp_path / "s.toml"
    file.write_text(f"{name} = {toml}\n")
    default = type("Override", (Settings,), {"__module__": __name__, name: made(file=file).settings.value_of(name)})
    ways = [
        made(f"--{name}={text}"),
        made(environ={f"REPRISE_SETTING_{name.upper()}": text}),
        made(file=file),
        resolve(default, Origins(options=parse_options([]), environ={})),
    ]
    assert [settings_document(way.settings)[name] for way in ways] == [recorded] * 4
    assert len({digest(way) for way in ways}) == 1


@pytest.mark.parametrize(
    ("name", "text"), [("limit", "none"), ("limit", "None"), ("name", "null"), ("choice", "null"), ("maybe", "none")]
)
def test_none_is_null_if_the_type_allows_it_and_is_not_an_allowed_text(name: str, text: str) -> None:
    assert value(name, text) is None


@pytest.mark.parametrize(("words", "expected"), [(("--maybe",), True), (("--no-maybe",), False)])
def test_an_optional_flag_may_be_given_without_a_value(words: tuple[str, ...], expected: object) -> None:
    assert made(*words).settings.maybe is expected


WRONG = [
    ("depth", "4", "expected 1, 2 or 3"),
    ("depth", "true", "expected 1, 2 or 3"),
    ("share", "0.2", "expected 0.1 or 0.5"),
    ("mixed", "1", "expected true, 'auto' or 3"),
    ("sizes", "8,16", "expected a list of integers"),
    ("sizes", "[8, true]", "expected a list of integers"),
    ("sizes", "[1.5]", "expected a list of integers"),
    ("grid", "[1]", "expected a list of lists of integers"),
    ("pair", "[nan, 1]", "expected a finite number, found nan as value 1"),
    ("pair", "[1]", "expected a list of 2 numbers"),
    ("pair", "[1, 2, 3]", "expected a list of 2 numbers"),
    ("pair", "x", "expected a list of 2 numbers"),
    ("many", '["a"]', "expected a list of integers"),
    ("names", "[a]", "expected a list of strings"),
    ("tags", "a", "expected a list of strings"),
    ("table", "x", "expected a table of integers"),
    ("table", '{"a": true}', "expected a table of integers"),
    ("curves", '{"a": 1}', "expected a table of lists of numbers"),
    ("word", "none", "expected 'None' or 'a'"),
    ("maybe", "1", "expected true, false or none"),
    ("bias", "1", "expected true or false"),
    ("bias", "yes", "expected true or false"),
    ("bias", "none", "expected true or false"),
    ("kernel", "SMALL", "expected 'small' or 'large'"),
    ("order", "true", "expected 1 or 2"),
    ("day", "tomorrow", "expected a date (2026-01-31)"),
    ("day", "5", "expected a date (2026-01-31)"),
    ("wait", "x", "expected a duration (PT90S)"),
    ("exact", "x", "expected a decimal number"),
    ("rate", "0", "expected more than 0"),
    ("rate", "inf", "expected a finite number"),
    ("rate", "nan", "expected a finite number"),
    ("rate", "1e999", "expected a finite number"),
    ("rate", "true", "expected a number"),
    ("limit", "0", "expected more than 0"),
    ("count", "1e3", "expected an integer"),
    ("count", "007", "expected an integer"),
    ("count", "", "expected an integer"),
    ("count", "true", "expected an integer"),
    ("count", "9" * 5000, "expected an integer"),
    ("count", "99999999999999999999", "an integer beyond 9007199254740991, which a record cannot store"),
    ("widths", "[]", "expected at least 1 value,"),
    ("widths", "[1, 2, 3, 4]", "expected at most 3 values"),
    ("widths", "[1, -1]", "expected more than 0, found -1 as value 2"),
    ("short", "a", "expected at least 2 characters"),
    ("short", "bb", "expected a string of the form ^a"),
    ("even", "3", "expected a multiple of 2"),
    (
        "block",
        "{}",
        "expected a table with units (an integer) and bias (true or false; may be left out), found no key 'units'",
    ),
    ("block", '{"units": true}', "expected a table"),
    ("row", '{"name": "a"}', "expected a table with name (a string) and share (a number), found no key 'share'"),
    ("anything", "[NaN]", "a number that is not finite, which a record cannot store"),
    ("text", "\udcff", "expected a string"),
    ("place", "\udcff", "expected a path"),
]
VALIDATOR = (
    "input should",
    "validation error",
    "instances",
    "unable to",
    "valid integer",
    "after validation",
    "pydantic",
)


@pytest.mark.parametrize(("name", "text", "message"), WRONG)
def test_an_invalid_value_is_one_sentence_in_plain_words(name: str, text: str, message: str) -> None:
    with pytest.raises(SettingError) as caught:
        made(f"--{name}={text}")
    assert f"setting {name}, given on the command line: " in caught.value.message
    assert message in caught.value.message
    whole = f"{caught.value.message} {caught.value.hint}"
    assert not [word for word in VALIDATOR if word in whole.lower()]
    assert len(whole) < 400


def test_every_type_has_its_own_message_for_invalid_text() -> None:
    texts = [
        "x",
        "true",
        "1",
        "1.5",
        "-1",
        "none",
        "[]",
        "[1]",
        '["a"]',
        "[[true]]",
        "{}",
        '{"a": "b"}',
        "",
        "2026-13-45",
        "nan",
    ]
    for name in Settings.__pydantic_fields__:
        for text in texts:
            try:
                made(f"--{name}={text}")
            except SettingError as fault:
                whole = f"{fault.message} {fault.hint}".lower()
                assert not [word for word in VALIDATOR if word in whole], (name, text, whole)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("count = true", "expected an integer, found true"),
        ("rate = true", "expected a number, found true"),
        ("sizes = [true, 2]", "expected a list of integers"),
        ("sizes = [[1]]", "expected a list of integers"),
        ("bias = 1", "expected true or false, found 1"),
        ("maybe = 0", "expected true, false or none, found 0"),
        ("depth = true", "expected 1, 2 or 3, found true"),
        ("order = true", "expected 1 or 2, found true"),
        ('count = "5"', "expected an integer, found '5'"),
        ("text = 5", "expected a string, found 5"),
        ("text = 2026-01-31", "expected a string"),
        ("count = 5.0", "expected an integer, found 5.0"),
        ("rate = inf", "expected a finite number, found inf"),
        ("table = { a = false }", "expected a table of integers"),
        ("pair = { a = 1 }", "expected a list of 2 numbers"),
    ],
)
def test_a_files_value_has_the_settings_type(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "s.toml"
    file.write_text(line + "\n")
    with pytest.raises(SettingError) as caught:
        made(file=file)
    assert message in caught.value.message
    assert "s.toml" in caught.value.message


@pytest.mark.parametrize(
    ("name", "default"),
    [("count", True), ("rate", True), ("sizes", [True, 2]), ("bias", 1), ("depth", True), ("count", "5"), ("text", 5)],
)
def test_an_experiments_default_has_the_settings_type(name: str, default: object) -> None:
    kind = type("Experiment", (Settings,), {"__module__": __name__, name: default})
    with pytest.raises(SettingError, match=f"setting {name}, set by the experiment: expected"):
        resolve(kind, Origins(options=parse_options([]), environ={}))
    assert resolve(kind, Origins(options=parse_options([f"--{name}={_right(name)}"]), environ={})).settings is not None


def _right(name: str) -> str:
    return {"sizes": "[1]", "bias": "true", "depth": "2"}.get(name, "3")


def test_an_experiments_default_may_be_written_as_any_form_of_its_type() -> None:
    space = {"pair": [1, 2], "sizes": [1], "day": "2026-01-31", "kernel": "large", "names": ("a",), "rate": 1}
    kind = type("Experiment", (Settings,), {"__module__": __name__, **space})
    found: Any = resolve(kind, Origins(options=parse_options([]), environ={})).settings
    assert (found.value_of("pair"), found.value_of("rate"), found.value_of("names")) == ((1.0, 2.0), 1.0, ["a"])


def test_a_whole_number_with_an_exponent_is_named_as_it_is_typed() -> None:
    with pytest.raises(SettingError) as caught:
        made("--count=1e3")
    assert str(caught.value.hint).startswith("write --count 1000")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("--no-bias", "5"), "--no-bias takes no value: write it alone, or --bias false"),
        (("--no-depth",), "depth is not true or false"),
        (("--bias=1",), "write --bias or --no-bias"),
        (("--sizes",), "write --sizes VALUE, such as --sizes '[8, 16]'"),
        (("--table=x",), """--table '{"a": 8}' or --table '{a = 8}'"""),
    ],
)
def test_a_hint_can_be_typed(words: tuple[str, ...], hint: str) -> None:
    with pytest.raises(SettingError) as caught:
        made(*words)
    assert hint in str(caught.value.hint)


def test_tables_of_two_origins_are_not_merged(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text("table = { a = 1 }\n")
    assert made('--table={"b": 2}', file=file).settings.table == {"b": 2}


def test_an_invalid_value_that_a_later_origin_overrides_is_not_an_error(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text("count = true\n")
    assert made("--count=3", file=file).settings.count == 3


class SetSettings(LaunchSettings):
    made: Callable[[], int] = int
    raw: bytes = b"\xff"
    kind: type[Enum] = Kernel


@pytest.mark.parametrize("name", ["made", "raw", "kind"])
def test_a_value_that_json_cannot_represent_is_named(name: str) -> None:
    with pytest.raises(SettingError) as caught:
        resolve(SetSettings, Origins(options=parse_options([]), environ={}))
    message = f"setting {name}, set by the experiment: found a value of type"
    assert message in f"{caught.value.message} {caught.value.hint}"


def test_sets_and_tables_have_one_order_in_memory() -> None:
    first, second = value("chosen", "[0, 8, 16]"), value("chosen", "[16, 8, 0]")
    assert list(first) == list(second)  # type: ignore[call-overload]
    assert list(value("table", '{"b": 1, "a": 1}')) == ["a", "b"]  # type: ignore[call-overload]


class Checked(LaunchSettings):
    sizes: list[int] = []
    low: int = 0
    high: int = 9

    @field_validator("sizes", mode="before")
    @classmethod
    def _split(cls, found: object) -> object:
        return [int(each) for each in found.split(",")] if isinstance(found, str) else found

    @field_validator("low")
    @classmethod
    def _at_least_one(cls, low: int) -> int:
        if low > 100:
            raise ValueError("low is a percentage")
        return max(low, 1)

    @model_validator(mode="after")
    def _ordered(self) -> Checked:
        if self.__dict__["low"] > self.__dict__["high"]:
            raise ValueError("low is above high")
        return self


def checked(*words: str) -> Checked:
    return resolve(Checked, Origins(options=parse_options(words), environ={})).settings


def test_validators_of_the_experiment_run_once_and_keep_their_message() -> None:
    assert checked("--sizes=8,16").sizes == [8, 16]
    assert checked("--low=0").low == 1
    with pytest.raises(SettingError, match=r"setting low, .*: expected an integer \(low is a percentage\)"):
        checked("--low=101")
    with pytest.raises(SettingError, match="the settings contradict each other: low is above high"):
        checked("--low=50")


@given(some.integers(-(2**53) + 1, 2**53 - 1) | some.text(some.characters(exclude_categories=["Cs", "Cc"])))
def test_quoted_numbers_and_texts_round_trip_through_the_command_line(found: int | str) -> None:
    assert value("either", json.dumps(found) if isinstance(found, str) else str(found)) == found


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"count = 5 =\n", r"s\.toml is not valid TOML: .*line 1"),
        (b"count = \xff\n", r"s\.toml, line 1: expected UTF-8 text"),
        (b"x = " + b"[" * 100_000, "too many nested brackets|not valid TOML"),
        (b"\ncount = " + b"9" * 5000, r"s\.toml, line 2: a number has 5000 digits"),
        (b"#" * (1 << 20) + b"\n", r"has 1048577 bytes; expected at most 1048576"),
        (b"count = 1\nCount = 2\n", "unknown setting Count"),
        (b"max-x = 1\nmax_x = 1\n", "max_x is given twice"),
    ],
)
def test_an_invalid_settings_file_is_named_with_its_line(tmp_path: Path, raw: bytes, message: str) -> None:
    file = tmp_path / "s.toml"
    file.write_bytes(raw)
    with pytest.raises((DocumentError, SettingError), match=message):
        made(file=file)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_settings_file_is_decoded_by_its_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "s.toml"
    file.write_bytes('text = "한국"\r\ncount = 7\r'.encode(encoding))
    assert made(file=file).settings.text == "한국"
    assert made(file=file).settings.count == 7


def test_a_named_pipe_is_rejected_as_a_settings_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DocumentError, match="is a named pipe or a device; expected a file"):
        made(file=tmp_path / "pipe")


def test_names_in_a_file_may_have_dashes(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text("no-such = 1\n")
    with pytest.raises(SettingError, match="unknown setting no_such"):
        made(file=file)


ROWS = [
    [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|\n"))]
    for line in (Path(__file__).parents[2] / "docs/how-to/settings.md").read_text(encoding="utf-8").splitlines()
    if re.match(r"\| `.*\| `--x", line)
]
TYPES = {"Sequence": Sequence, "Literal": Literal, "Kernel": Kernel, "date": date, "Path": Path, "Decimal": Decimal}


def of_type(declared: str) -> type[LaunchSettings]:
    annotation = re.findall("`([^`]*)`", declared)[0].replace("\\|", "|")
    return type("Row", (LaunchSettings,), {"__annotations__": {"x": eval(annotation, TYPES)}, "__module__": __name__})  # noqa: S307 - a row of the docs


def typed(kind: type[LaunchSettings], words: str) -> object:
    resolved = resolve(kind, Origins(options=parse_options(shlex.split(words)), environ={}))
    return settings_document(resolved.settings)["x"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_every_row_of_the_documented_types_is_correct(row: list[str]) -> None:
    kind, (right, _, wrong) = of_type(row[0]), row[1].partition("; not ")
    words, values = re.findall("`([^`]*)`", right), [json.loads(each) for each in re.findall("`([^`]*)`", row[2])]
    assert [typed(kind, each) for each in words] == values
    for text in re.findall("`([^`]*)`", wrong):
        with pytest.raises(SettingError, match="expected"):
            typed(kind, shlex.join([f"--x={text}"]))


def test_the_docs_have_a_row_for_every_common_type() -> None:
    assert len(ROWS) == 20
