"""Settings from a dataset's declaration: their values, the notes for the user, and datasets that do not fit."""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.checking import ROOT
from trainer.base.errors import DatasetError
from trainer.data.declaration import Dataset, load_dataset, sample_types
from trainer.data.reader import Drawn
from trainer.training.dataset_settings import settings_for
from trainer.training.settings import ClassificationSettings, RegressionSettings, SequenceSettings

NOTHING: Final = "sha256:" + "0" * 64
FIELDS: Final = {"input_field": "image", "target_field": "label"}


def dataset(reader: dict[str, Any], **sections: Any) -> Dataset:
    facts = {"name": "mine", "version": 1, "manifest": NOTHING, "content": NOTHING, "files": 1, "bytes": 1}
    return Dataset.model_validate({**facts, "reader": reader, **sections})


def images(**options: Any) -> Dataset:
    return dataset({"kind": "images", **options})


def arrays(*fields: str, **sections: Any) -> Dataset:
    return dataset({"kind": "arrays", "fields": {name: f"{name}.npy" for name in fields}}, **sections)


LABELLED: Final = {"x": {"dtype": "float32", "shape": (3, 4)}, "y": {"dtype": "int64", "classes": 5}}


def test_pictures_give_shape_and_classes() -> None:
    found = settings_for(
        images(mode="RGB", size=(16, 24), classes=("a", "b", "c")),
        {**FIELDS, "classes": 10, "input_shape": [1, 8, 8], "input_channels": 1, "input_height": 8, "input_width": 8},
        task=ClassificationSettings,
    )
    lengths = {"input_shape": [3, 16, 24], "input_channels": 3, "input_height": 16, "input_width": 24}
    assert found.values == {"dataset": "mine", "classes": 3, **lengths}
    assert found.notes == {}


@pytest.mark.parametrize("options", [{}, {"size": (8, 8), "resize": "fit"}])
def test_sizes_and_classes_that_the_dataset_does_not_declare_are_noted(options: dict[str, Any]) -> None:
    found = settings_for(
        images(**options), {**FIELDS, "classes": 2, "input_shape": [1, 8, 8]}, task=ClassificationSettings
    )
    assert found.values == {"dataset": "mine"}
    assert found.notes.keys() == {"classes", "input_shape"}


def test_a_varying_image_still_has_its_channels() -> None:
    found = settings_for(images(mode="L"), {**FIELDS, "input_channels": 3, "input_height": 8})
    assert (found.values["input_channels"], [*found.notes]) == (1, ["input_height"])


def test_fields_of_other_names_are_chosen_by_their_types() -> None:
    found = settings_for(arrays("x", "y", twin=LABELLED), {**FIELDS, "classes": 2}, task=ClassificationSettings)
    assert found.values == {"dataset": "mine", "target_field": "y", "input_field": "x", "classes": 5}


def test_several_fields_that_fit_are_left_to_the_user() -> None:
    twin = {**LABELLED, "z": {"dtype": "int64", "classes": 7}}
    found = settings_for(arrays("x", "y", "z", twin=twin), {**FIELDS, "classes": 2}, task=ClassificationSettings)
    assert found.notes["target_field"] == "which of y, z it is"
    assert "target_field" not in found.values


def test_the_experiments_own_field_wins() -> None:
    twin = {**LABELLED, "label": {"dtype": "int64", "classes": 7}}
    found = settings_for(arrays("x", "y", "label", twin=twin), {**FIELDS, "classes": 2}, task=ClassificationSettings)
    assert (found.values.get("target_field"), found.values["classes"]) == (None, 7)


def test_a_vector_gives_its_length() -> None:
    defaults = {"input_field": "features", "target_field": "target", "input_features": 10, "input_shape": [10]}
    found = settings_for(load_dataset("diabetes", root=ROOT), defaults, task=RegressionSettings)
    assert found.values == {"dataset": "diabetes", "input_shape": [10], "input_features": 10}


@pytest.mark.parametrize(
    ("name", "task", "defaults", "message"),
    [
        ("topics", ClassificationSettings, FIELDS, r"topics: no field can be the target_field .*text uint8\[any\]"),
        ("diabetes", ClassificationSettings, FIELDS, "no field can be the target_field of the experiment"),
        ("digits", SequenceSettings, {"input_field": "text"}, "no field can be the input_field"),
        ("digits", None, {**FIELDS, "input_shape": [10]}, r"has 1 number, but the input is float32\[1,8,8\];"),
    ],
)
def test_a_dataset_that_cannot_fit_is_an_error(
    name: str, task: type | None, defaults: dict[str, Any], message: str
) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        settings_for(load_dataset(name, root=ROOT), defaults, task=task)
    assert "--like" in str(caught.value.hint)


TOKENS: Final = {"tokenizer": "t.json", "vocabulary": 900, "end": "</s>"}
SEQUENCE: Final = {"input_field": "text", "vocabulary": None, "context": 128}


@pytest.mark.parametrize(
    ("reader", "values"),
    [
        ({"kind": "text", "file": "a.txt", "window": 64, "tokens": TOKENS}, {"vocabulary": 900, "context": 64}),
        ({"kind": "lines", "file": "a.txt", "tokens": {**TOKENS, "pad": "<pad>"}}, {"vocabulary": 900}),
        (
            {"kind": "lines", "file": "a.txt", "tokens": {**TOKENS, "pad": "<pad>", "window": 9}},
            {"vocabulary": 900, "context": 9},
        ),
        ({"kind": "text", "file": "a.txt", "window": 64}, {}),
        ({"kind": "text", "file": "a.txt", "window": 640}, {"context": 640}),
    ],
)
def test_tokens_give_their_vocabulary_and_window(reader: dict[str, Any], values: dict[str, Any]) -> None:
    found = settings_for(dataset(reader), SEQUENCE, task=SequenceSettings)
    assert found.values == {"dataset": "mine", **values}
    assert found.notes == {}


def test_bytes_replace_the_vocabulary_of_an_experiment_for_tokens() -> None:
    found = settings_for(
        dataset({"kind": "lines", "file": "a.txt"}), {**SEQUENCE, "vocabulary": 900}, task=SequenceSettings
    )
    assert found.values == {"dataset": "mine", "vocabulary": None}


def test_a_declared_sample_precedes_the_twin() -> None:
    found = sample_types(arrays("x", "y", twin=LABELLED, sample={"x": {"dtype": "float32", "shape": (9,)}}))
    assert (found["x"], found["y"]) == (Drawn(dtype="float32", shape=(9,)), Drawn(dtype="int64", classes=5))
    assert sample_types(arrays("x")) == {"x": None}
