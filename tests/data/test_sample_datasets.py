"""The sample datasets are created from packages, with the same bytes on every machine."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

np = pytest.importorskip("numpy", reason="needs the extra `samples`")
pytest.importorskip("skimage", reason="needs the extra `samples`")
pytest.importorskip("sklearn", reason="needs the extra `samples`")

from trainer.base.errors import DatasetError  # noqa: E402
from trainer.data.declaration import dataset_names, load_dataset  # noqa: E402
from trainer.data.files import SourceFolder  # noqa: E402
from trainer.data.publish import publish_declared  # noqa: E402
from trainer.data.reader import ArraysReader  # noqa: E402
from trainer.data.sample_datasets import SAMPLES, make_sample, npy, shuffled  # noqa: E402 - needs the packages that `importorskip` checks
from trainer.stores.memory import MemoryStore  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
ARRAYS = ["diabetes", "digits", "faces", "masks"]


@pytest.mark.parametrize("name", ARRAYS)
def test_samples_match_their_declaration(name: str, tmp_path: Path) -> None:
    make_sample(name, tmp_path)
    declared = load_dataset(name, root=ROOT)
    assert publish_declared(declared, source=SourceFolder(root=tmp_path), store=MemoryStore()).is_new


@pytest.mark.parametrize("name", ARRAYS)
def test_the_fields_have_as_many_rows_as_the_splits(name: str) -> None:
    declared, files = load_dataset(name, root=ROOT), load_arrays(SAMPLES[name]())
    assert isinstance(declared.reader, ArraysReader)
    rows = {len(files[file]) for file in declared.reader.fields.values()}
    assert rows == {max(end for _, end in declared.splits.values())}


def test_each_split_of_the_digits_has_every_digit() -> None:
    labels = load_arrays(SAMPLES["digits"]())["labels.npy"]
    for first, end in load_dataset("digits", root=ROOT).splits.values():
        assert set(labels[first:end].tolist()) == set(range(10))


def test_each_split_of_the_faces_has_both_classes() -> None:
    labels = load_arrays(SAMPLES["faces"]())["labels.npy"]
    for first, end in load_dataset("faces", root=ROOT).splits.values():
        assert 0.4 < labels[first:end].mean() < 0.6


def test_the_topics_of_another_python_are_rejected_with_both_digests(tmp_path: Path) -> None:
    (tmp_path / "topics.txt").write_text("# if\n\nother words\n")
    declared = load_dataset("topics", root=ROOT)
    with pytest.raises(
        DatasetError, match=f"dataset topics@1: its content is sha256:.* expected {declared.content}, as declared"
    ):
        publish_declared(declared, source=SourceFolder(root=tmp_path), store=MemoryStore())


def test_the_samples_are_the_declared_datasets() -> None:
    assert set(SAMPLES) <= set(dataset_names(root=ROOT))


def test_the_order_of_rows_is_fixed() -> None:
    assert shuffled("digits", 8) == [5, 1, 4, 0, 2, 7, 3, 6]
    assert sorted(shuffled("digits", 1000)) == list(range(1000))


@pytest.mark.parametrize("shape", [(3,), (2, 3), (1, 1, 2), (0,), ()])
def test_an_array_is_read_back_by_numpy(shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape, dtype=int), dtype="<f4").reshape(shape)
    body = npy(array)
    assert np.array_equal(np.load(io.BytesIO(body), allow_pickle=False), array)
    assert (len(body) - array.nbytes) % 64 == 0


def load_arrays(files: Mapping[str, bytes]) -> dict[str, Any]:
    return {name: np.load(io.BytesIO(body), allow_pickle=False) for name, body in files.items()}
