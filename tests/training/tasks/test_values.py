"""The notes of regression, verification and sequences on the values of a split, before the first step."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.small_training import CLASSIFIER, REGRESSOR, Small
from trainer.base.errors import DatasetError
from trainer.training.readers.inspect import inspect_blocks
from trainer.training.readers.samples import SampleBlock
from trainer.training.tasks.fit_checks import undefined_metrics
from trainer.training.tasks.regression import Regressor
from trainer.training.tasks.sequences import SequenceModel
from trainer.training.tasks.verification import Verifier

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.data.inspection import Inspection
    from trainer.training.tasks.task import Task

pytestmark = pytest.mark.torch


def inspect_values(kind: type[Task], **splits: Any) -> tuple[Any, Inspection]:
    """Return a task, and the inspection of `splits`, which hold the values of its field."""
    ends = np.cumsum([0, *map(len, splits.values())])
    rows = {name: np.arange(ends[at], ends[at + 1]) for at, name in enumerate(splits)}
    blocks = [SampleBlock(rows=rows[name], fields={"it": np.array(each)}) for name, each in splits.items()]
    net = object.__new__(kind)
    object.__setattr__(net, "_used", ("it", "it"))
    return net, inspect_blocks(blocks, rows, name=lambda row: f"row {row}")


def value_notes(kind: type[Task], **splits: Any) -> list[str]:
    """Return the notes of a task on train, and the metrics that are undefined on the other splits."""
    net, inspection = inspect_values(kind, **splits)
    undefined = undefined_metrics(net, inspection)
    return [*kind.check_values(net, inspection), *(f"{name}: {why}" for name, why in undefined.items())]


def test_a_regression_notes_constant_targets() -> None:
    assert value_notes(Regressor, train=[1.0, 2.0], val=[3.0, 4.0]) == []
    assert value_notes(Regressor, train=[1.5, 1.5], val=[2.0, 2.0, 2.0], test=[1.0]) == [
        "all targets of split train are 1.5: the net learns that number",
        "val_r2: all 3 targets are 2",
        "test_r2: the split has 1 target; R2 needs 2",
    ]


def test_one_sample_with_several_targets_has_an_r2() -> None:
    assert value_notes(Regressor, train=[[1.0, 2.0]], val=[[3.0, 4.0]]) == []
    assert value_notes(Regressor, val=[[3.0, np.nan], [3.0, 3.0]]) == []


def test_a_verification_notes_splits_with_one_kind_of_pairs() -> None:
    assert value_notes(Verifier, train=[-1, -1, 2, 2], val=[0, 0, 1]) == []
    assert value_notes(Verifier, val=[3])[0] == "val_auc: there is one sample, and so one pair"
    why = "each of the 3 samples has its own class, so no pair is of one class"
    assert value_notes(Verifier, train=[7, 7], val=[1, 2, 3]) == [
        "split train: all 2 samples are of class 7, so no pair differs: nothing can be learned from it",
        f"val_auc: {why}",
        f"val_eer: {why}",
    ]


@pytest.mark.parametrize("value", [-1, 256])
def test_a_sequence_with_values_that_are_not_bytes_is_rejected(value: int) -> None:
    assert value_notes(SequenceModel, train=[[0, 255]]) == []
    with pytest.raises(
        DatasetError, match=rf"texts of split val hold {value} \(the first is in row 1\); expected bytes"
    ):
        value_notes(SequenceModel, train=[[0, 255]], val=[[3, value]])


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (1e30, r"for that sample `forward` returns values up to \d\.\d{3}e\+(29|30)"),
        (-1e12, r"for that sample `forward` returns values up to \d\.\d{3}e\+11"),
    ],
)
def test_a_number_that_causes_an_enormous_output_is_noted_with_its_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float, what: str
) -> None:
    x = np.random.default_rng(0).random((40, 4), dtype=np.float32)
    x[35, 2] = value
    small = Small(place=tmp_path, code=CLASSIFIER, x=x, record="a record")
    small.train(monkeypatch)
    message = re.escape(f"dots@1: field 'x' holds {value:.4g} (row 35); ")
    assert re.fullmatch(f"{message}{what}: scale the field before publishing, or in `forward`", small.messages[1])


def test_targets_that_cause_an_enormous_loss_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    targets = np.linspace(0, 1, 40, dtype=np.float32)
    targets[7] = 1e6
    small = Small(place=tmp_path, code=REGRESSOR, y=targets, record="a record")
    small.train(monkeypatch)
    assert small.messages[1].startswith("dots@1: field 'y' holds 1e+06 (row 7); the loss of that sample is 5.000e+11")


def test_large_numbers_that_the_net_scales_are_not_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.full((40, 4), 1e15, dtype=np.float32)
    small = Small(place=tmp_path, code=CLASSIFIER.replace("(x)", "(x / 1e15)"), x=x, record="a record")
    small.train(monkeypatch)
    assert not any("that sample" in line for line in small.messages)
