"""The metrics that are read from a script's outputs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from torch.utils.tensorboard import SummaryWriter

from trainer.base.errors import DocumentError
from trainer.training.scripts.results import metric_lines, read_results

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.torch
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("name", "text", "metrics", "steps"),
    [
        (
            "results.json",
            '{"test": {"loss": 0.5, "top": [1]}, "n": 3, "ok": true, "name": "a"}',
            {"test/loss": 0.5, "n": 3},
            [],
        ),
        ("metrics.csv", "epoch,loss,acc\n0,2,\n1,1,0.5\n", {"loss": 1, "acc": 0.5}, [0, 1]),
        ("metrics.csv", "step,val_loss,train_loss\n9,,3\n9,2,\n19,,1\n", {"val_loss": 2, "train_loss": 1}, [9, 9, 19]),
        ("metrics.csv", "loss\n2\n1\n", {"loss": 1}, [0, 1]),
        ("metrics.jsonl", '{"step": 5, "loss": 2}\n\n{"step": 6, "loss": 1}\n', {"loss": 1}, [5, 6]),
        ("metrics.json", '[{"loss": 2}, {"loss": 1}]', {"loss": 1}, [0, 1]),
        ("metrics.csv", "", {}, []),
        ("metrics.csv", "epoch;loss;acc\n0;2;\n1;1,5;0.5\n", {"loss": 1.5, "acc": 0.5}, [0, 1]),
        ("metrics.csv", '"loss (a;b;c)",n\n1,2\n', {"loss (a;b;c)": 1, "n": 2}, [0]),
        ("metrics.csv", "epoch\tloss\n3\t1.5\n", {"loss": 1.5}, [3]),
        ("metrics.csv", "loss,n\n1,1_000\n", {"loss": 1}, [0]),
        (
            "results.json",
            '{"acc": NaN, "b": [NaN], "loss": -Infinity, "name": "3", "text": "a: NaN, b"}',
            {"acc": NAN, "loss": -INF},
            [],
        ),
    ],
)
def test_results_and_logged_rows_of_a_file(
    tmp_path: Path, name: str, text: str, metrics: dict[str, float], steps: list[int]
) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / name).write_text(text)
    found = read_results(tmp_path, None)
    assert found.file == f"deep/{name}"
    assert repr(sorted(found.metrics.items())) == repr(sorted((key, float(value)) for key, value in metrics.items()))
    assert [json.loads(line)["step"] for line in metric_lines(found).splitlines()] == steps


def test_results_of_event_files(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path / "tb")) as writer:
        for step in (0, 10):
            writer.add_scalar("loss", 1.5 - step / 10, step)
        writer.add_text("note", "no number", 0)
    found = read_results(tmp_path, None)
    assert found.metrics == {"loss": 0.5}
    assert found.logged == [(0, {"loss": 1.5}), (10, {"loss": 0.5})]


def test_a_named_file_is_read_and_for_a_missing_one_the_nearest_is_named(tmp_path: Path) -> None:
    assert read_results(tmp_path, "final.json").fault == (
        "the script did not write final.json, which --results names; it wrote no output"
    )
    (tmp_path / "final.json").write_text('{"a": 1}')
    (tmp_path / "results.json").write_text('{"b": 1}')
    assert read_results(tmp_path, "final.json").metrics == {"a": 1}
    missing = read_results(tmp_path, "finale.json")
    assert missing.metrics == {}
    assert missing.fault == (
        "the script did not write finale.json, which --results names; "
        "it wrote final.json, results.json; did you mean final.json?"
    )


@pytest.mark.parametrize("text", ["{", "[[[", '{"a": ' + "[" * 5000])
def test_a_file_that_is_no_document_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(DocumentError):
        read_results(tmp_path, None)


def test_too_many_numbers_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps({f"n{number}": number for number in range(1001)}))
    with pytest.raises(DocumentError, match="a run has at most 1,000 results"):
        read_results(tmp_path, None)


def test_without_a_usual_name_there_are_no_results(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"")
    assert read_results(tmp_path, None).file is None
