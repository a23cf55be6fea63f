"""The files of a dataset that differ between two runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.comparison.test_verdict import make_record
from tests.records import circumstances, ingredients
from trainer.comparison.compare_ingredients import dataset_diff
from trainer.data.declaration import Draft
from trainer.data.files import SourceFolder
from trainer.data.publish import publish_dataset
from trainer.runs.record import DatasetIngredient, Record
from trainer.stores import open_store

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.stores.contract import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "store").mkdir()
    return open_store(str(tmp_path / "store"))


def run_trained_on(place: Path, store: Store, files: dict[str, str], *, name: str = "texts") -> Record:
    place.mkdir()
    for path, text in files.items():
        (place / path).write_text(text)
    dataset = publish_dataset(Draft(name="texts"), source=SourceFolder(root=place), store=store).dataset
    data = {name: DatasetIngredient(version=dataset.version, content=dataset.content)}
    around = circumstances().model_copy(update={"manifests": {name: dataset.manifest}})
    return make_record({}).model_copy(update={"ingredients": ingredients(datasets=data), "circumstances": around})


def test_files_are_listed_as_added_removed_and_changed(tmp_path: Path, store: Store) -> None:
    a = run_trained_on(tmp_path / "a", store, {"same": "1", "gone": "2", "other": "3"})
    b = run_trained_on(tmp_path / "b", store, {"same": "1", "new": "2", "other": "33"})
    lines = dataset_diff("texts", a, b, cache=tmp_path / "cache", store=store)
    assert lines is not None
    assert [line.partition(" bytes")[0] for line in lines] == ["- gone  1", "+ new  1", "~ other  1 -> 2"]


def test_a_missing_manifest_gives_no_diff(tmp_path: Path, store: Store) -> None:
    a = run_trained_on(tmp_path / "a", store, {"x": "1"})
    b = run_trained_on(tmp_path / "b", store, {"x": "2"})
    (tmp_path / "other").mkdir()
    for elsewhere in (None, open_store(str(tmp_path / "other"))):
        assert dataset_diff("texts", a, b, cache=tmp_path / "cache", store=elsewhere) is None


def test_an_invalid_dataset_name_opens_no_folder(tmp_path: Path, store: Store) -> None:
    a = run_trained_on(tmp_path / "a", store, {"x": "1"}, name="../../outside")
    assert dataset_diff("../../outside", a, a, cache=tmp_path / "cache", store=store) is None
