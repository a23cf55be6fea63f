"""The table of classes is aligned for every alphabet."""

from __future__ import annotations

from rich.cells import cell_len

from trainer.cli.data.show import class_table
from trainer.data.check_pictures import ClassCount


def test_columns_align_with_wide_characters() -> None:
    classes = [
        ClassCount(number=at, name=name, samples=3, splits={"train": 3}) for at, name in enumerate(("고양이", "dog"))
    ]
    lines = class_table(classes)
    assert lines == [
        "  class  name    train  all",
        "      0  고양이      3    3",
        "      1  dog         3    3",
    ]
    assert len({cell_len(line) for line in lines}) == 1


def test_terminal_control_sequences_are_escaped() -> None:
    (_, line) = class_table([ClassCount(number=0, name="a\x1b[2J", samples=1, splits={"train": 1})])
    assert r"a\u001b[2J" in line
