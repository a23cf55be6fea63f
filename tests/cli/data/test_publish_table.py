"""`reprise data publish NAME FILE`: a table in one file becomes a dataset whose samples are numbers, codes and a label."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

pytest.importorskip("pyarrow", reason="needs pyarrow, of the lock's extra `cpu`")
torch = pytest.importorskip("torch", reason="needs torch, of the lock's extra `cpu`")
pytestmark = pytest.mark.torch

ROWS = [f"{n % 9},{'xyz'[n % 3]},{'' if n % 10 == 4 else n / 2},{'no' if n % 4 else 'yes'}" for n in range(60)]


def write(rows: list[str], header: str = "age,plan,paid,churned") -> str:
    Path("t.csv").write_text("\n".join([header, *rows]) + "\n")
    return "t.csv"


def declared() -> dict[str, Any]:
    return tomllib.loads(Path("datasets/t.toml").read_text())


def samples() -> dict[str, Any]:
    """Return all samples as one batch, read from the store."""
    from trainer.data.cache.folder import Cache
    from trainer.data.declaration import load_dataset
    from trainer.data.fetch import fetch_dataset
    from trainer.stores import open_store
    from trainer.training.readers import Pick, open_samples

    dataset = load_dataset("t", root=Path())
    cached = fetch_dataset(
        dataset,
        cache=Cache(root=Path("cache").absolute()),
        open_store=lambda: open_store(str(Path("store").absolute())),
    )
    opened = open_samples(dataset, cached)
    return opened.batch([Pick(index=index) for index in range(len(opened))])


def test_a_csv_file_becomes_numbers_codes_and_a_label(typed: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = typed("publish", "t", write(ROWS), "--target", "churned", "--yes")
    assert (code, "t@1: published; 1 file" in out) == (0, True), err
    assert "plan     text    0        x, y, z" in err
    batch = samples()
    assert batch["label"].tolist() == [int(n % 4 == 0) for n in range(60)]
    assert batch["categories"][:, 0].tolist() == [2 + n % 3 for n in range(60)]
    fill = declared()["reader"]["columns"]["paid"]["fill"]
    assert batch["features"][:, 0].tolist() == [n % 9 for n in range(60)]
    assert batch["features"][:, 1].tolist() == pytest.approx([fill if n % 10 == 4 else n / 2 for n in range(60)])
    assert [*declared()["splits"]] == ["train", "val", "test"]


def test_the_mean_is_that_of_the_training_split(typed: Callable[..., tuple[int, str, str]]) -> None:
    splits = ("--split", "train=0:20", "--split", "val=20:40", "--split", "test=40:60")
    assert typed("publish", "t", write(ROWS), "--target", "churned", "--yes", *splits)[0] == 0
    known = [n / 2 for n in range(20) if n % 10 != 4]
    assert declared()["reader"]["columns"]["paid"]["fill"] == sum(known) / len(known)
    assert typed("publish", "t", "t.csv", "--missing", "paid=median", "--yes")[0] == 0
    assert declared()["reader"]["columns"]["paid"] == {"missing": "median", "fill": 5.0 - 0.25}


def test_an_indicator_is_a_further_feature(typed: Callable[..., tuple[int, str, str]]) -> None:
    assert typed("publish", "t", write(ROWS), "--target", "churned", "--missing", "paid=indicator", "--yes")[0] == 0
    assert samples()["features"][:, 2].tolist() == [float(n % 10 == 4) for n in range(60)]


def test_new_categories_of_a_later_version_change_no_code(typed: Callable[..., tuple[int, str, str]]) -> None:
    assert typed("publish", "t", write(ROWS), "--target", "churned", "--yes")[0] == 0
    code, _, err = typed("publish", "t", write([*ROWS, "1,a,2,no", "1,,2,no"]), "--yes")
    assert (code, "line 63, column 'plan': the value is missing" in err) == (44, True)
    assert typed("publish", "t", "t.csv", "--missing", "plan=category", "--yes")[0] == 0
    assert (declared()["version"], declared()["reader"]["columns"]["plan"]["values"]) == (2, ["x", "y", "z", "a"])
    assert samples()["categories"][:, 0].tolist() == [*(2 + n % 3 for n in range(60)), 5, 0]


def test_publishing_the_same_file_again_changes_nothing(typed: Callable[..., tuple[int, str, str]]) -> None:
    assert typed("publish", "t", write(ROWS), "--target", "churned", "--yes")[0] == 0
    before = Path("datasets/t.toml").read_bytes()
    code, out, _ = typed("publish", "t", "t.csv")
    assert (code, "nothing changed" in out, Path("datasets/t.toml").read_bytes()) == (0, True, before)


def test_nothing_is_published_without_a_confirmation(typed: Callable[..., tuple[int, str, str]]) -> None:
    code, _, err = typed("publish", "t", write(ROWS), "--target", "churned")
    assert (code, "run the command with --yes" in err) == (2, True)
    assert not Path("datasets/t.toml").exists()


def test_rows_are_divided_by_a_column(typed: Callable[..., tuple[int, str, str]]) -> None:
    assert typed("publish", "t", write(ROWS), "--target", "churned", "--stratify", "churned", "--yes")[0] == 0
    assert declared()["splits"]["val"] == {"percent": [80.0, 90.0], "seed": 0, "stratify": "churned"}
    code, _, err = typed("publish", "t", "t.csv", "--stratify", "churn", "--split", "train=0%:80%")
    assert (code, "no column 'churn'" in err) == (44, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--images", "."), "--images is for a folder of files"),
        (("--size", "3x3"), "--size is for a folder of files"),
        (("--read", "age=red"), "--read age: expected one of number, category, date, skip, found 'red'"),
        (("--missing", "plan=mean"), "the column is read as category; expected reject, category"),
        (("--stratify", "plan", "--group", "plan"), "--stratify cannot be used with --group"),
        (("--classes", "no"), "--classes does not list 'yes'"),
    ],
)
def test_options_that_do_not_fit_are_rejected(
    words: tuple[str, ...], message: str, typed: Callable[..., tuple[int, str, str]]
) -> None:
    code, _, err = typed("publish", "t", write(ROWS), "--target", "churned", "--yes", *words)
    assert (code, message in err) == (2, True), err


def test_options_of_a_table_are_rejected_for_a_folder(typed: Callable[..., tuple[int, str, str]]) -> None:
    Path("folder").mkdir()
    code, _, err = typed("publish", "t", "folder", "--target", "churned")
    assert (code, "--target needs a table in one file" in err) == (2, True)
