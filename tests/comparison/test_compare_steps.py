"""The first step at which two runs part, by what they left."""

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
    '{"epoch":0,"step":9,"train_loss":0.5}',
    '{"epoch":0,"step":19,"train_loss":0.25}',
    '{"step":20,"val_loss":0.3}',
)


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    """Two attempts' folders."""
    for name in "ab":
        (tmp_path / name).mkdir()
    return tmp_path / "a", tmp_path / "b"


def logged(folder: Path, *lines: str) -> None:
    """Write what a run logged."""
    (folder / METRICS).write_text("".join(f"{line}\n" for line in lines))


def test_equal_traces_part_nowhere(sides: tuple[Path, Path]) -> None:
    """Whatever the logs say."""
    for side in sides:
        save_trace(side, 0.5, 0.4)
    assert compare_steps(*sides) == (None, ())


def test_without_a_trace_the_log_says_between_which_steps(sides: tuple[Path, Path]) -> None:
    """And that it is all that is known; a step's own number is counted from 0 in the log."""
    save_trace(sides[0], 0.5)
    logged(sides[0], *LINES)
    logged(sides[1], LINES[0], LINES[1].replace("0.25", "0.2500000000000001"), LINES[2])
    divergence, notes = compare_steps(*sides)
    assert divergence is not None
    assert (divergence.after, divergence.step, divergence.stream) == (10, 20, "forward")
    assert (divergence.a, divergence.b) == ("0.25", "0.2500000000000001")
    assert f"there is no {FILE} in B" in notes[0]


def test_an_evaluation_that_differs_is_named_as_one(sides: tuple[Path, Path]) -> None:
    """The first of it, though it was not a step's."""
    logged(sides[0], *LINES)
    logged(sides[1], *LINES[:2], LINES[2].replace("0.3", '"NaN"'))
    divergence, _ = compare_steps(*sides)
    assert divergence is not None
    assert (divergence.stream, divergence.quantity, divergence.step, divergence.b) == (
        "evaluation",
        "val_loss",
        20,
        "nan",
    )


def test_what_only_one_run_came_to_is_no_difference(sides: tuple[Path, Path]) -> None:
    """A run that stopped earlier; a line that a kill cut off."""
    logged(sides[0], *LINES)
    (sides[1] / METRICS).write_text(f"{LINES[0]}\n{LINES[1][:20]}")
    assert compare_steps(*sides)[0] is None


def test_a_run_that_logged_nothing_is_a_note(sides: tuple[Path, Path]) -> None:
    """It is named."""
    logged(sides[0], *LINES)
    divergence, notes = compare_steps(*sides)
    assert divergence is None
    assert "B has neither" in notes[0]


@pytest.mark.parametrize("line", ["[]", "{}", '{"step":"x"}', "{", "[" * 100_000, '{"step":null}'])
def test_a_log_that_is_none_is_refused_by_its_line(sides: tuple[Path, Path], line: str) -> None:
    """It may come from a stranger."""
    logged(sides[0], *LINES)
    logged(sides[1], LINES[0], line)
    with pytest.raises(DocumentError, match=r"metrics\.jsonl, line 2, is not a line"):
        compare_steps(*sides)
