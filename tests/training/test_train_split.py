"""Statistics of the training split, streamed in float64 from the training samples only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.training.test_data import declare
from trainer.base.errors import DatasetError, ExperimentError
from trainer.data.files import FolderFiles
from trainer.training.readers import arrays as arrays_module
from trainer.training.readers import open_samples
from trainer.training.train_split import TrainSplit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

pytestmark = pytest.mark.torch


def split_of(folder: Path, values: Any, rows: Sequence[int] | None = None) -> TrainSplit:
    np.save(folder / "x.npy", values)
    samples = open_samples(declare(), FolderFiles(folder))
    return TrainSplit(lambda: (samples, range(len(values)) if rows is None else rows), dataset="small@1")


def test_moments_are_those_of_the_rows_of_train_in_any_number_of_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.random.default_rng(0).normal(1e4, 0.1, (500, 3, 4, 4)).astype(np.float32)
    rows = np.arange(1, 500, 2)
    expected = values[rows].astype(np.float64)
    for stretch in (arrays_module._STRETCH, 4096):
        monkeypatch.setattr(arrays_module, "_STRETCH", stretch)
        split = split_of(tmp_path, values, rows[::-1].tolist())
        channels = split.moments("image", (3,), by="Net.scale")
        np.testing.assert_allclose(channels.mean, expected.mean(axis=(0, 2, 3)), rtol=1e-12)
        np.testing.assert_allclose(channels.std, expected.std(axis=(0, 2, 3)), rtol=1e-9)
        assert channels.count == 250 * 16
        pixels = split.moments("image", (3, 4, 4), by="Net.scale")
        np.testing.assert_allclose(pixels.std, expected.std(axis=0), rtol=1e-9)
        assert split.moments("image", (), by="Net.scale").mean == pytest.approx(expected.mean(), rel=1e-12)


def test_equal_values_have_no_spread(tmp_path: Path) -> None:
    found = split_of(tmp_path, np.full((1000, 2), 0.1, dtype=np.float32)).moments("image", (2,), by="Net.scale")
    assert found.std.tolist() == [0, 0]
    assert found.mean.tolist() == [float(np.float32(0.1))] * 2


def test_a_value_that_is_not_finite_names_its_sample(tmp_path: Path) -> None:
    values = np.ones((4, 2), dtype=np.float32)
    values[2, 1] = np.nan
    with pytest.raises(DatasetError, match=r"field 'image' of split train has NaN or infinity \(row 2\)") as caught:
        split_of(tmp_path, values).moments("image", (2,), by="Net.scale")
    assert caught.value.hint == "fill or drop these values, and publish the dataset again"
    assert split_of(tmp_path, values, [0, 1, 3]).moments("image", (2,), by="Net.scale").count == 3


def test_another_shape_or_field_is_rejected(tmp_path: Path) -> None:
    split = split_of(tmp_path, np.ones((4, 2), dtype=np.float32))
    with pytest.raises(ExperimentError, match=r"Net.scale normalizes \[3\]; the samples have 'image' as float32 \[2\]"):
        split.moments("image", (3,), by="Net.scale")
    with pytest.raises(DatasetError, match="the samples of small@1 have no field 'images'") as caught:
        split.moments("images", (2,), by="Net.scale")
    assert "image" in str(caught.value.hint)


def test_labels_of_train_are_counted_by_class(tmp_path: Path) -> None:
    split = split_of(tmp_path, np.array([0, 2, 2, 1, 255, 0, 0]), [0, 1, 2, 4, 5])
    assert split.counts("image", 4) == [2, 0, 2, 0]
