"""Splits: the samples of each split, and the errors for declarations that do not fit."""

from __future__ import annotations

import pytest

from trainer.base.errors import DatasetError
from trainer.data.splits import Below, Layout, Listed, Percent, Split, describe_split, select

FOLDERS = Layout(count=4, files=("test/a", "train/a", "train/b", "val/a"))
STACKED = Layout(count=7, files=("a", "b"), ends=(3, 7))


def chosen_samples(split: Split, layout: Layout) -> list[int]:
    return list(select("train", {"train": split}, layout, dataset="small"))


@pytest.mark.parametrize(
    ("split", "layout", "expected"),
    [
        ((1, 3), Layout(count=3), [1, 2]),
        (Below(prefix="train/"), FOLDERS, [1, 2]),
        (Listed(files=("val/a", "test/a")), FOLDERS, [0, 3]),
        (Listed(files=("b",)), STACKED, [3, 4, 5, 6]),
        (Below(prefix="a"), STACKED, [0, 1, 2]),
    ],
)
def test_a_split_has_its_samples_in_the_datasets_order(split: Split, layout: Layout, expected: list[int]) -> None:
    assert chosen_samples(split, layout) == expected


def test_the_division_by_percentages_never_changes() -> None:
    layout = Layout(count=1000)
    parts = [chosen_samples(Percent(percent=span), layout) for span in ((0, 80), (80, 90), (90, 100))]
    assert sorted(sum(parts, [])) == list(range(1000))  # noqa: RUF017 - only three lists
    assert [len(part) for part in parts] == [813, 71, 116]
    assert parts[2][:4] == [3, 19, 20, 30]
    assert chosen_samples(Percent(percent=(0, 80), seed=1), layout) != parts[0]


def test_a_sample_stays_in_its_split_when_files_are_added() -> None:
    before = Layout(count=50, files=[f"{number:03}.png" for number in range(0, 100, 2)])
    after = Layout(count=100, files=[f"{number:03}.png" for number in range(100)])
    train = Percent(percent=(0, 60), seed=3)
    assert {before.files[i] for i in chosen_samples(train, before)} <= {
        after.files[i] for i in chosen_samples(train, after)
    }


@pytest.mark.parametrize(
    ("split", "layout", "line"),
    [
        ((0, 6), Layout(count=5), "split 'train' of small ends at row 6; its reader finds 5 samples"),
        ((0, 0), Layout(count=5), "selects no sample; the dataset has 5 samples"),
        (Below(prefix="trian/"), FOLDERS, "selects no sample; the dataset has 4 samples"),
        (Listed(files=("val/b",)), FOLDERS, "lists 'val/b', which is not a sample of its reader"),
        (Below(prefix="train/"), Layout(count=5), "selects no sample; the dataset has 5 samples"),
    ],
)
def test_a_split_that_does_not_fit_is_rejected_with_numbers(split: Split, layout: Layout, line: str) -> None:
    with pytest.raises(DatasetError, match=line):
        chosen_samples(split, layout)


def test_a_missing_split_is_an_error_that_lists_the_splits() -> None:
    with pytest.raises(DatasetError, match="has no split 'test'; it has train"):
        select("test", {"train": (0, 1)}, Layout(count=1), dataset="small")


def test_a_sample_is_located_by_file_and_row() -> None:
    assert [STACKED.place(index) for index in (0, 2, 3, 6)] == [(0, 0), (0, 2), (1, 0), (1, 3)]
    assert (FOLDERS.place(2), list(STACKED.span(1))) == ((2, 0), [3, 4, 5, 6])


def test_every_split_has_a_description() -> None:
    assert describe_split((0, 8)) == "8 samples, rows 0 to 7"
    assert describe_split((8, 9)) == "1 sample, row 8"
    assert describe_split(Percent(percent=(80, 92.5), seed=2)) == "about 12.5 % of the samples, by their names (seed 2)"


def by_column(values: list[str | None], **how: str) -> dict[str, list[int]]:
    """Select 80 %, 10 % and 10 % of the rows of a file by a column."""
    layout = Layout(count=len(values), files=("t.parquet",), ends=[len(values)], column=lambda _: iter(values))
    spans = {"train": (0, 80), "val": (80, 90), "test": (90, 100)}
    splits = {name: Percent.model_validate({"percent": span, **how}) for name, span in spans.items()}
    return {name: list(select(name, splits, layout, dataset="t")) for name in splits}


def test_stratified_splits_have_an_even_share_of_each_value() -> None:
    values: list[str | None] = ["rare" if row % 17 == 3 else "common" for row in range(1000)]
    chosen = by_column(values, stratify="y")
    shares = {name: sum(values[row] == "rare" for row in rows) for name, rows in chosen.items()}
    assert [len(rows) for rows in chosen.values()] == [pytest.approx(800, abs=2), *[pytest.approx(100, abs=2)] * 2]
    assert shares == {
        "train": pytest.approx(47, abs=1),
        "val": pytest.approx(6, abs=1),
        "test": pytest.approx(6, abs=1),
    }


def test_rows_of_one_group_are_in_one_split() -> None:
    chosen = by_column([f"g{row % 90}" for row in range(900)], group="g")
    groups = [{row % 90 for row in rows} for rows in chosen.values()]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 90
    assert len(chosen["train"]) == 10 * len(groups[0])


@pytest.mark.parametrize("how", [{"group": "c"}, {"stratify": "c"}])
def test_appended_rows_move_no_row_to_another_split(how: dict[str, str]) -> None:
    values: list[str | None] = [f"v{row * row % 101}" for row in range(500)]
    before, after = by_column(values, **how), by_column([*values, *reversed(values)], **how)
    assert {name: [row for row in rows if row < 500] for name, rows in after.items()} == before


def test_a_row_without_a_group_is_rejected() -> None:
    with pytest.raises(DatasetError, match=r"row 1 of t\.parquet has no value in column 'c'"):
        by_column(["a", None], group="c")
