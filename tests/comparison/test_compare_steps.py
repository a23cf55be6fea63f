"""The first step at which two runs diverge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.comparison.compared import save_trace
from trainer.base.errors import DocumentError
from trainer.comparison.compare import METRICS, compare_steps
from trainer.comparison.trace import FILE

if TYPE_CHECKING:
    from pathlib import Path

LINES = (
    '{"epoch":0,"step":10,"train_loss":0.5}',
    '{"epoch":0,"step":20,"train_loss":0.25}',
    '{"step":20,"val_loss":0.3}',
)


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    for name in "ab":
        (tmp_path / name).mkdir()
    return tmp_path / "a", tmp_path / "b"


def write_log(folder: Path, *lines: str) -> None:
    (folder / METRICS).write_text("".join(f"{line}\n" for line in lines))


def test_equal_traces_do_not_diverge(sides: tuple[Path, Path]) -> None:
    for side in sides:
        save_trace(side, 0.5, 0.4)
    assert compare_steps(*sides) == (None, ())


def test_without_a_trace_the_log_bounds_the_first_difference(sides: tuple[Path, Path]) -> None:
    save_trace(sides[0], 0.5)
    write_log(sides[0], *LINES)
    write_log(sides[1], LINES[0], LINES[1].replace("0.25", "0.2500000000000001"), LINES[2])
    divergence, notes = compare_steps(*sides)
    assert divergence is not None
    assert (divergence.after, divergence.step, divergence.stream) == (10, 20, "forward")
    assert (divergence.a, divergence.b) == ("0.25", "0.2500000000000001")
    assert f"B has no {FILE}" in notes[0]


def test_a_differing_evaluation_is_named_as_an_evaluation(sides: tuple[Path, Path]) -> None:
    write_log(sides[0], *LINES)
    write_log(sides[1], *LINES[:2], LINES[2].replace("0.3", '"NaN"'))
    divergence, _ = compare_steps(*sides)
    assert divergence is not None
    assert (divergence.stream, divergence.quantity, divergence.step, divergence.b) == (
        "evaluation",
        "val_loss",
        20,
        "nan",
    )


def test_steps_of_only_one_run_are_not_a_difference(sides: tuple[Path, Path]) -> None:
    write_log(sides[0], *LINES)
    (sides[1] / METRICS).write_text(f"{LINES[0]}\n{LINES[1][:20]}")
    assert compare_steps(*sides)[0] is None


def test_a_run_without_a_log_is_a_note(sides: tuple[Path, Path]) -> None:
    write_log(sides[0], *LINES)
    divergence, notes = compare_steps(*sides)
    assert divergence is None
    assert "B has neither" in notes[0]


@pytest.mark.parametrize("line", ["[]", "{}", '{"step":"x"}', "{", "[" * 100_000, '{"step":null}'])
def test_an_invalid_log_is_rejected_with_its_line(sides: tuple[Path, Path], line: str) -> None:
    write_log(sides[0], *LINES)
    write_log(sides[1], LINES[0], line)
    with pytest.raises(DocumentError, match=r"metrics\.jsonl, line 2, is not a line"):
        compare_steps(*sides)


def test_the_command_that_restores_a_log_names_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "20260101t000000-abcdef" / "attempts" / "1"
    folder.mkdir(parents=True)
    write_log(folder, "[]")
    with pytest.raises(DocumentError) as caught:
        compare_steps(folder, folder)
    assert caught.value.hint == "restore the file: reprise runs pull 20260101t000000-abcdef"
