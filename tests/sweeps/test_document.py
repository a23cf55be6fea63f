"""The notations for the points of a sweep: lists, ranges, files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trainer.base.errors import DocumentError, UsageError
from trainer.sweeps.document import MOST, Point, SweepRequest, crossed, grid, read_points, values

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1e-4,3e-4", ["1e-4", "3e-4"]),
        ("1..5", ["1", "2", "3", "4", "5"]),
        ("-1..1", ["-1", "0", "1"]),
        ("0..10..4,99", ["0", "4", "8", "99"]),
        ("adamw, sgd", ["adamw", "sgd"]),
        ("[8,16],[32]", ["[8,16]", "[32]"]),
        ("[8,16]", ["[8,16]"]),
        ('{"a": [1, 2]}', ['{"a": [1, 2]}']),
        ("0.1..0.5", ["0.1..0.5"]),
        ("../data", ["../data"]),
        ('"a,b",c', ['"a,b"', "c"]),
        ('["a,]"],["b"]', ['["a,]"]', '["b"]']),
        ('{"a": "\\\\",b"},{}', ['{"a": "\\\\",b"}', "{}"]),
        ("it's,b", ["it's", "b"]),
        ("'a,b", ["'a", "b"]),
        ("", [""]),
    ],
)
def test_values_are_split_at_commas_and_ranges_are_expanded(text: str, found: list[str]) -> None:
    assert values("name", text) == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,,2", "a value is empty"),
        ("1,2,", "a value is empty"),
        ("5..1", "this range is empty"),
        ("1..5..0", "this range is empty"),
        ("1,2,1", "1 is listed twice"),
        ("1..3,2", "2 is listed twice"),
        ("1..999999999", f"at most {MOST}"),
    ],
)
def test_an_invalid_list_is_rejected(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        values("learning_rate", text)
    assert message.startswith("at most") or f"--learning-rate {text[:4]}" in caught.value.message


def test_a_grid_is_every_combination_and_the_last_axis_changes_fastest() -> None:
    combined = grid({"learning_rate": ["1", "2"], "seed": ["1", "2", "3"]})
    assert [(point["learning_rate"], point["seed"]) for point in combined] == [(a, b) for a in "12" for b in "123"]
    with pytest.raises(UsageError, match="1600 points"):
        grid({name: [str(value) for value in range(40)] for name in "ab"})


def test_points_of_a_file_become_command_line_words(tmp_path: Path) -> None:
    file = tmp_path / "points.toml"
    file.write_text('[[points]]\nlearning-rate = 1e-4\nema = true\n[[points]]\nsizes = [8, 16]\noptimizer = "sgd"\n')
    first, second = read_points(file)
    assert Point(settings=first).words() == ["--learning-rate=0.0001", "--ema=true"]
    assert Point(settings=second).words() == ["--sizes=[8, 16]", "--optimizer=sgd"]


@pytest.mark.parametrize("text", ["", "points = []", "[[point]]\nseed = 1", "[[points]\n", "points = 3"])
def test_a_file_without_points_is_rejected(tmp_path: Path, text: str) -> None:
    (tmp_path / "points.toml").write_text(text)
    with pytest.raises(DocumentError, match="points"):
        read_points(tmp_path / "points.toml")


@pytest.mark.parametrize(
    ("text", "found"),
    [("", "nothing"), ("seed = 1", "seed"), ("points = 3", "points = ..."), ("a = 1\n[[points]]\nb = 1", "a")],
)
def test_an_error_names_the_value_in_place_of_points(tmp_path: Path, text: str, found: str) -> None:
    (tmp_path / "points.toml").write_text(text)
    with pytest.raises(DocumentError, match=rf"expected a \[\[points\]\] table for each point .*, found {found}$"):
        read_points(tmp_path / "points.toml")


def test_a_date_in_a_points_file_becomes_its_text(tmp_path: Path) -> None:
    (tmp_path / "points.toml").write_text("[[points]]\nday = 2026-01-31\ndays = [2026-01-31]\n")
    assert read_points(tmp_path / "points.toml") == [{"day": "2026-01-31", "days": '["2026-01-31"]'}]


def test_points_are_crossed_with_the_grid() -> None:
    points = [{"learning_rate": "1e-4"}, {"learning_rate": "1e-3", "momentum": "0.5"}]
    combined = crossed(points, {"seed": ["1", "2"]})
    assert combined[1] == {"learning_rate": "1e-4", "seed": "2"}
    assert len(combined) == 4
    with pytest.raises(UsageError, match="given in the file"):
        crossed(points, {"momentum": ["0.1", "0.2"]})
    with pytest.raises(UsageError, match="point 2 repeats point 1"):
        crossed([{"seed": "1"}, {"seed": "1"}], {})


def test_the_same_request_has_the_same_digest() -> None:
    one = SweepRequest(experiment="digits", axes=["seed"], points=[{"seed": "1"}])
    assert one.digest == SweepRequest.model_validate_json(one.model_dump_json()).digest
    assert one.digest != one.model_copy(update={"points": [{"seed": "2"}]}).digest
