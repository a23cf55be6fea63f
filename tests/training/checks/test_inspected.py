"""`data` and `targets` examine every sample of real data, as a run does before its first step, not only the batches that they read."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.checking import ROOT, STEPS, WORDS, restored_threads
from trainer.data.declaration import load_dataset
from trainer.settings.origins import Origins, parse_options, resolve
from trainer.training.assembly import FetchedDataset
from trainer.training.check_result import CheckStatus, Finding
from trainer.training.checks import CHECKS, CheckSubject, run_checks
from trainer.training.experiment import load_experiment
from trainer.training.readers.synthetic import SyntheticFiles, make_synthetic

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.torch
DIGITS = ROOT / "trainer/experiments/digits.py"


def check_damaged_digits(folder: Path, file: str, spoil: Callable[[Any], None]) -> dict[str, Finding]:
    """Check digits on synthetic files, one of which is damaged."""
    experiment = load_experiment("digits", DIGITS, root=ROOT)
    resolved = resolve(experiment.settings, Origins(options=parse_options(list(WORDS)), environ={}))
    dataset, data = make_synthetic(load_dataset("digits", root=ROOT), rows=400)
    array, body = np.load(io.BytesIO(bytes(data.read(file)))), io.BytesIO()
    spoil(array)
    np.save(body, array)
    spoilt = SyntheticFiles({path: bytes(data.read(path)) if path != file else body.getvalue() for path in data.paths})
    subject = CheckSubject(
        experiment=experiment,
        resolved=resolved,
        root=ROOT,
        datasets=[FetchedDataset(declared=dataset, files=spoilt)],
        device="cpu",
        folder=folder,
        steps=STEPS,
    )
    with restored_threads():
        some = {name: CHECKS[name] for name in ("settings", "data", "forward", "targets")}
        return {finding.check: finding for finding in run_checks(subject, {**some, "data": CHECKS["data"]})}


def put_value(place: Any, value: float) -> Callable[[Any], None]:

    def spoil(array: Any) -> None:
        array[place] = value

    return spoil


def test_nan_in_a_sample_outside_the_checked_batches_fails_data(tmp_path: Path) -> None:
    data = check_damaged_digits(tmp_path, "images.npy", put_value((-1, 0, 0, 0), np.nan))["data"]
    assert data.status is CheckStatus.FAILED
    assert "field 'image' holds NaN: 1 in split test; the first is in row 599" in data.message


@pytest.mark.parametrize(
    ("label", "message"),
    [(-1, "1 sample of split test has the label -1 "), (10, "1 sample of split test has the label 10 (row 599)")],
)
def test_an_invalid_label_outside_the_checked_batches_fails_targets(tmp_path: Path, label: int, message: str) -> None:
    targets = check_damaged_digits(tmp_path, "labels.npy", put_value(-1, label))["targets"]
    assert (targets.status, message in targets.message) == (CheckStatus.FAILED, True), targets


def test_a_class_without_training_samples_is_a_note(tmp_path: Path) -> None:
    targets = check_damaged_digits(tmp_path, "labels.npy", lambda labels: labels.__setitem__(labels == 3, 4))["targets"]
    assert (targets.status, "class 3 has no sample in split train" in targets.message) == (CheckStatus.NOTED, True), (
        targets
    )
