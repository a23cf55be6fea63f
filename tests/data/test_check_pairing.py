"""A dataset that lacks a field of the experiment is detected from both declarations."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.base.errors import SettingError
from trainer.data.check_pairing import check_pairing
from trainer.data.declaration import load_dataset, sample_fields
from trainer.data.reader import RawFiles, TextReader
from trainer.settings.origins import Origins, parse_options, resolve
from trainer.training.settings import ClassificationSettings

ROOT = Path(__file__).parents[2]


def check_pair(dataset: str, *argv: str, skip: tuple[str, ...] = ()) -> None:
    """Check a classification with a dataset of this checkout."""
    words = parse_options(["--dataset", dataset, "--classes", "10", *argv])
    resolved = resolve(ClassificationSettings, Origins(options=words, environ={}))
    check_pairing(resolved, load_dataset(dataset, root=ROOT), skip=skip)


def test_existing_fields_pass() -> None:
    check_pair("digits")
    check_pair("diabetes", skip=("input_field", "target_field"))


def test_a_misspelled_field_is_an_error_with_the_nearest_name() -> None:
    with pytest.raises(SettingError, match="setting input_field is 'imag'; the fields of dataset digits are") as caught:
        check_pair("digits", "--input-field", "imag")
    assert caught.value.hint == "did you mean --input-field image?"


def test_a_dataset_of_another_task_is_an_error_without_a_guess() -> None:
    with pytest.raises(SettingError, match="'image', the default of this experiment") as caught:
        check_pair("diabetes")
    assert caught.value.hint == "use --input-field features or target; or another --dataset"


def test_each_kind_of_reader_has_its_fields() -> None:
    assert sample_fields(RawFiles()) == ("bytes", "length")
    assert sample_fields(TextReader(kind="text", file="a.txt", window=8)) == ("text", "next")
