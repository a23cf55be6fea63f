"""Type conversions that would silently change a value are rejected, from every source."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
import tomli_w
from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic.dataclasses import dataclass as checked_dataclass

from trainer.base.errors import DocumentError, SettingError
from trainer.settings.fields import LaunchSettings, settings_document
from trainer.settings.origins import Origins, parse_options, resolve

if TYPE_CHECKING:
    from collections.abc import Callable


class Order(IntEnum):
    FIRST = 1


class Share(Enum):
    HALF = 0.5
    WHOLE = 1.0


class Block(BaseModel):
    units: int = 1
    tags: set[str] = set()


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class Tower(BaseModel):
    block: Block = Block()


@dataclass
class Plain:
    a: int = 1


@checked_dataclass
class Checked:
    a: int = 1


def given(annotation: Any, *argv: str, environ: dict[str, str] | None = None, file: Path | None = None) -> Any:
    kind = type("Row", (LaunchSettings,), {"__annotations__": {"x": annotation}, "__module__": __name__})
    return settings_document(
        resolve(
            kind, Origins(options=parse_options(argv), environ=environ or {}, files=(file,) if file else ())
        ).settings
    )["x"]


def ways(annotation: Any, text: str, folder: Path) -> list[Callable[[], Any]]:
    """Return the sources: the command line, the environment, and a settings file if TOML can represent the value."""
    found: list[Callable[[], Any]] = [
        lambda: given(annotation, f"--x={text}"),
        lambda: given(annotation, environ={"REPRISE_SETTING_X": text}),
    ]
    try:
        value = json.loads(text, parse_constant=str)
    except ValueError:
        value = text
    if "null" not in text:
        (folder / "s.toml").write_text(tomli_w.dumps({"x": value}))
        found.append(lambda: given(annotation, file=folder / "s.toml"))
    return found


CHANGED: list[tuple[Any, str, str]] = [
    (Literal[1, 2, 3], "2.0", "expected 1, 2 or 3, found"),
    (Literal[1, 2] | None, "2.0", "expected 1, 2 or none, found"),
    (list[Literal[1, 2]], "[1, 2.0]", "(value 2: 2.0)"),
    (set[Literal[1, 2]], "[1.0]", "(value 1: 1.0)"),
    (dict[str, Literal[1]], '{"a": 1.0}', "(a: 1.0)"),
    (Order, "1.0", "expected 1, found"),
    (float, "9007199254740993", "expected a number that 64 bits hold exactly, found 9007199254740993"),
    (list[float], "[0.5, 9007199254740993]", "expected a number that 64 bits hold exactly"),
    (Path, "", "expected a path, found ''"),
    (Path | None, "", "expected a path or none, found ''"),
    (list[Path], '["a", ""]', "(value 2: '')"),
    (dict[str, Path], '{"a": ""}', "(a: '')"),
    (date, "1769817600", "expected a date (2026-01-31)"),
    (datetime, "5", "expected a date and time (2026-01-31T08:00:00)"),
    (list[datetime], '["5"]', "(value 1: '5')"),
    (timedelta, "90", "expected a duration (PT90S)"),
    (datetime, "2026-01-31T08:00:00.1234567", "expected at most 6 digits after the point of a second"),
    (timedelta, "PT0.0000001S", "expected at most 6 digits after the point of a second"),
    (set[int], "[1, 2, 1]", "expected each value once, found 1 twice"),
    (frozenset[str], '["a", "a"]', "expected each value once, found 'a' twice"),
    (set[float], "[1, 1.0]", "expected each value once, found 1.0 twice"),
    (set[Path], '["a", "./a"]', "expected each value once"),
    (dict[int, int], '{"1": 1, "01": 2}', "expected each key once, found '01' twice"),
    (dict[Path, int], '{"a": 1, "./a": 2}', "expected each key once"),
    (Block, '{"unit": 1}', "found the key 'unit'"),
    (Tower, '{"block": {"unit": 1}}', "found the key 'unit'"),
    (list[Block], '[{"units": 1}, {"unit": 2}]', "found the key 'unit'"),
    (dict[str, Block], '{"a": {"unit": 2}}', "found the key 'unit'"),
    (Block, '{"tags": ["a", "a"]}', "expected each value once, found 'a' twice"),
    (Plain, '{"b": 1}', "found the key 'b'"),
    (Checked, '{"b": 1}', "found the key 'b'"),
]


@pytest.mark.parametrize(("annotation", "text", "message"), CHANGED)
def test_a_value_that_its_type_would_change_is_rejected(
    tmp_path: Path, annotation: Any, text: str, message: str
) -> None:
    for way in ways(annotation, text, tmp_path):
        with pytest.raises(SettingError) as caught:
            way()
        assert message.partition(", found")[0] in caught.value.message


KEPT: list[tuple[Any, str, Any]] = [
    (Literal[1.0, 2.0], "2", 2.0),
    (Share, "1", 1.0),
    (Literal[1] | float, "1.0", 1),
    (float | Literal[1], "1.0", 1),
    (int | float, "2.0", 2),
    (float, "9223372036854775808", 9.223372036854775808e18),
    (float, "-0.0", 0.0),
    (list[Any], "[1, 1]", [1, 1]),
    (set[int | str], '[1, "1"]', ["1", 1]),
    (dict[str, int], '{"1": 1, "01": 2}', {"01": 2, "1": 1}),
    (Open, '{"a": 2}', {"a": 2}),
    (Block, '{"units": 2, "tags": ["b", "a"]}', {"units": 2, "tags": ["a", "b"]}),
    (Path | str, "a//b", "a//b"),
    (str, "", ""),
    (Annotated[int, BeforeValidator(lambda value: int(float(value)))], "2.0", 2),
]


@pytest.mark.parametrize(("annotation", "text", "recorded"), KEPT)
def test_a_value_that_the_type_keeps_is_recorded_unchanged(
    tmp_path: Path, annotation: Any, text: str, recorded: Any
) -> None:
    assert [way() for way in ways(annotation, text, tmp_path)[:2]] == [recorded] * 2


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '{"a": {"b": 1, "b": 2}}'])
def test_a_duplicate_json_key_is_rejected(text: str) -> None:
    for annotation in (dict[str, Any], dict[str, Any] | str):
        with pytest.raises(SettingError, match=r"expected each key once, found '[ab]' twice"):
            given(annotation, f"--x={text}")
    assert given(str, f"--x={text}") == text


@pytest.mark.parametrize(
    ("text", "recorded"),
    [
        ("1.10", "1.1"),
        ("100", "100"),
        ("1e30", "1" + "0" * 30),
        ("1e400", "1E+400"),
        ("-0", "0"),
        ("0.12345678901234567890123456789012345", "0.12345678901234567890123456789012345"),
    ],
)
def test_a_decimal_number_keeps_every_digit(text: str, recorded: str) -> None:
    assert given(Decimal, f"--x={text}") == recorded


def test_a_decimal_number_of_many_digits_needs_quotes_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_text("x = 0.1234567890123456789\n")
    with pytest.raises(SettingError, match="in quotes if it has more than 15 digits"):
        given(Decimal, file=tmp_path / "s.toml")


@pytest.mark.parametrize("text", ["1e-400", "-4.9e-325", ".1e-400"])
def test_a_number_that_rounds_to_zero_is_rejected(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingError, match="expected a number, found"):
        given(float, f"--x={text}")
    with pytest.raises(SettingError, match="expected a number or a string, found"):
        given(float | str, f"--x={text}")
    (tmp_path / "s.toml").write_text("x = 1e-400\n")
    with pytest.raises(DocumentError, match="the number 1e-400 is too close to 0"):
        given(float, file=tmp_path / "s.toml")


@pytest.mark.parametrize("annotation", [complex, list[complex]])
def test_a_complex_number_must_be_finite(annotation: Any) -> None:
    text = "nanj" if annotation is complex else '["1e400j"]'
    with pytest.raises(SettingError, match="a number that is not finite"):
        given(annotation, f"--x={text}")


@pytest.mark.parametrize(
    ("annotation", "line", "recorded"),
    [
        (date, "2026-01-31", "2026-01-31"),
        (time, "08:00:00", "08:00:00"),
        (list, "[2026-01-31]", ["2026-01-31"]),
        (Any, "2026-01-31", "2026-01-31"),
        (date | str, "2026-01-31", "2026-01-31"),
    ],
)
def test_a_toml_date_is_recorded_as_a_date(tmp_path: Path, annotation: Any, line: str, recorded: Any) -> None:
    (tmp_path / "s.toml").write_text(f"x = {line}\n")
    assert given(annotation, file=tmp_path / "s.toml") == recorded


@pytest.mark.parametrize("annotation", [str, list[str], Path, bytes])
def test_a_toml_date_is_not_a_string(tmp_path: Path, annotation: Any) -> None:
    (tmp_path / "s.toml").write_text(f"x = {'[2026-01-31]' if annotation == list[str] else '2026-01-31'}\n")
    with pytest.raises(SettingError, match=r"found (\[\")?2026-01-31"):
        given(annotation, file=tmp_path / "s.toml")
