"""Metrics that are undefined on a split are NaN with a reason, and do not select an epoch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.small_training import CLASSIFIER, REGRESSOR, VERIFIER, Small
from trainer.base.errors import SettingError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.torch
TARGETS = np.linspace(0, 1, 40, dtype=np.float32)


def test_verification_of_one_class_has_undefined_auc_and_equal_error_rate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.arange(40) % 2
    labels[24:32] = 1
    small = Small(place=tmp_path, code=VERIFIER, y=labels)
    trained = small.train(monkeypatch)
    assert math.isnan(trained.metrics["val_auc"])
    assert math.isnan(trained.metrics["val_eer"])
    assert trained.undefined == dict.fromkeys(["val_auc", "val_eer"], "all 8 pairs are of one class")
    assert "val_auc is undefined: all 8 pairs are of one class" in small.messages
    assert "val_auc undefined" in small.messages[-3]


@pytest.mark.parametrize(("split", "why"), [("val", "1 target"), ("test", "1 target")])
def test_r2_of_one_sample_is_undefined_and_the_run_completes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: str, why: str
) -> None:
    splits = {"train": (0, 24), "val": (24, 32), "test": (32, 40)} | {split: (32, 33)}
    trained = Small(place=tmp_path, code=REGRESSOR, y=TARGETS, splits=splits).train(monkeypatch)
    assert math.isnan(trained.metrics[f"{split}_r2"])
    assert why in trained.undefined[f"{split}_r2"]
    assert math.isfinite(trained.metrics[f"{split}_mae"])


def test_r2_of_a_constant_target_is_undefined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    targets = TARGETS.copy()
    targets[24:32] = 3
    trained = Small(place=tmp_path, code=REGRESSOR, y=targets).train(monkeypatch)
    assert trained.undefined == {"val_r2": "all 8 targets are 3"}


def test_monitoring_an_undefined_metric_is_rejected_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    splits = {"train": (0, 24), "val": (24, 25), "test": (32, 40)}
    small = Small(place=tmp_path, code=REGRESSOR, y=TARGETS, splits=splits, record="a record")
    with pytest.raises(SettingError, match="'val_r2', which is undefined on the split val: the split has 1 target"):
        small.train(monkeypatch, "--monitor", "val_r2", "--monitor-mode", "max")
    small.train(monkeypatch, "--monitor", "val_loss")
    assert [line for line in small.messages if "is undefined" in line] == [
        "dots@1: val_r2 is undefined: the split has 1 target; R2 needs 2"
    ]


@pytest.mark.parametrize(("mode", "is_rejected"), [((), True), (("--monitor-mode", "min"), False)])
def test_a_score_is_not_monitored_as_if_lower_were_better_by_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: tuple[str, ...], *, is_rejected: bool
) -> None:
    small = Small(place=tmp_path, code=REGRESSOR, y=TARGETS)
    if not is_rejected:
        small.train(monkeypatch, "--max-epochs", "1", "--monitor", "val_r2", *mode)
        return
    with pytest.raises(SettingError, match="'val_r2', a score, and monitor_mode is 'min' by default") as caught:
        small.train(monkeypatch, "--max-epochs", "1", "--monitor", "val_r2", *mode)
    assert "--monitor-mode max" in str(caught.value.hint)


def test_epochs_without_the_monitored_metric_neither_stop_a_run_nor_are_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = TARGETS.copy()
    targets[24:32] = 3
    small = Small(place=tmp_path, code=REGRESSOR, y=targets)
    trained = small.train(
        monkeypatch, "--max-epochs", "4", "--monitor", "val_r2", "--monitor-mode", "max", "--patience", "1"
    )
    assert trained.steps == 12
    assert small.messages[-1] == (
        "no epoch is the best: val_r2 was never a number (all 8 targets are 3); the last epoch is tested"
    )


def test_metrics_of_a_net_that_returns_nan_are_undefined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = CLASSIFIER.replace("self.layers(x)", "self.layers(x) * (1 if self.training else torch.nan)")
    trained = Small(place=tmp_path, code=code).train(monkeypatch, "--no-terminate-on-nan")
    assert math.isnan(trained.metrics["test_accuracy"])
    assert trained.undefined["test_accuracy"] == "the net returned NaN for 1 batch of test"
