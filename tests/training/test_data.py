"""The arrays of a dataset, where what was published cannot be trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from trainer.dataset import Dataset
from trainer.digest import digest_of_bytes
from trainer.errors import DatasetError
from trainer.training.data import RunData, arrays_of

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.torch


def declared(**other: Any) -> Dataset:
    """A small dataset of one field."""
    digest = digest_of_bytes(b"")
    usual: dict[str, Any] = {
        "name": "small",
        "version": 1,
        "manifest": digest,
        "content": digest,
        "files": 1,
        "bytes": 1,
        "licence": "CC0-1.0",
        "source": "made here",
        "splits": {},
        "reader": {"kind": "arrays", "fields": {"image": "x.npy"}},
    }
    return Dataset.model_validate(usual | other)


def test_an_array_of_objects_is_no_plain_array(tmp_path: Path) -> None:
    """It would have to be unpickled, which runs code: the file is named, and what to write instead."""
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DatasetError, match=r"x\.npy of dataset small is no plain array"):
        arrays_of(declared(), tmp_path)


def test_a_damaged_array_is_no_plain_array(tmp_path: Path) -> None:
    """Bytes that numpy cannot read are the dataset's fault, not ours."""
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(DatasetError, match=r"x\.npy of dataset small is no plain array"):
        arrays_of(declared(), tmp_path)


def test_a_dataset_without_splits_is_told_which_one_is_missing(tmp_path: Path) -> None:
    """Training asks for a split by name."""
    np.save(tmp_path / "x.npy", np.zeros(3))
    data = RunData(declared(), tmp_path, batch_size=1, workers=0, seed=0)
    with pytest.raises(DatasetError, match="has no split 'train'; it has none"):
        data.train_dataloader()
