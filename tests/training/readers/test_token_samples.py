"""Samples of tokens: padded lines and packed windows hold the numbers of the text's tokens."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any, cast

import pytest
import torch

from tests.data import tokenizers
from trainer.base.document import typed
from trainer.base.errors import DatasetError
from trainer.data import token_ids
from trainer.data.cache.folder import Cache
from trainer.data.check import check_dataset
from trainer.data.declaration import Dataset, Draft, sample_types
from trainer.data.fetch import fetch_dataset
from trainer.data.files import FolderFiles, SourceFolder
from trainer.data.publish import publish_dataset
from trainer.data.token_ids import Tokenizer
from trainer.stores.memory import MemoryStore
from trainer.training.data import RunData
from trainer.training.readers import Pick, Samples, open_samples
from trainer.training.readers.joined import RolePart, join
from trainer.training.readers.overview import make_overview
from trainer.training.readers.synthetic import make_synthetic

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trainer.data.files import Files
    from trainer.data.token_ids import TokenizedFile

pytestmark = pytest.mark.torch
NOTHING = "sha256:" + "0" * 64
TOKENS = {"tokenizer": "t.json", "vocabulary": 5, "end": "</s>"}
PADDED = {**TOKENS, "pad": "<pad>"}
LINES = b"a b c\n\nc\na a\n"


def declared(reader: dict[str, Any], **sections: Any) -> Dataset:
    facts = {"name": "made", "version": 1, "manifest": NOTHING, "content": NOTHING, "files": 2, "bytes": 1}
    return typed({**facts, "reader": reader, **sections}, Dataset, where="test")


def lines(**more: Any) -> Dataset:
    return declared({"kind": "lines", "file": "a.txt", "tokens": {**PADDED, **more}})


def windows(window: int, **more: Any) -> Dataset:
    return declared({"kind": "text", "file": ["a.txt", "b.txt"], "window": window, "tokens": TOKENS, **more})


def opened(folder: Path, dataset: Dataset, *letters: str) -> Samples:
    folder.mkdir(exist_ok=True)
    (folder / "t.json").write_bytes(tokenizers.body(tokenizers.words(*(letters or "abc"))))
    (folder / "a.txt").write_bytes(LINES)
    (folder / "b.txt").write_bytes(b"b\nb\n")
    return open_samples(dataset, FolderFiles(folder))


def as_lists(batch: dict[str, torch.Tensor]) -> dict[str, Any]:
    assert {each.dtype for each in batch.values()} == {torch.int64}
    return {name: each.tolist() for name, each in batch.items()}


def test_a_line_begins_after_the_end_token_and_is_padded_to_the_longest_of_its_batch(tmp_path: Path) -> None:
    samples = opened(tmp_path, lines())
    batch = samples.batch([Pick(index=number) for number in (3, 1, 2)])
    assert as_lists(batch) == {
        "text": [[1, 2, 2], [1, 0, 0], [1, 4, 0]],
        "next": [[2, 2, 1], [1, 0, 0], [4, 1, 0]],
        "length": [3, 1, 2],
    }
    assert as_lists(samples[1]) == {"text": [1], "next": [1], "length": 1}


def test_a_window_is_the_length_of_every_line_and_truncated_lines_do_not_end(tmp_path: Path) -> None:
    samples = opened(tmp_path, lines(window=3, long_lines="truncate"))
    assert as_lists(samples.batch([Pick(index=0), Pick(index=2)])) == {
        "text": [[1, 2, 3], [1, 4, 0]],
        "next": [[2, 3, 4], [4, 1, 0]],
        "length": [3, 2],
    }
    with pytest.raises(DatasetError, match=r"a\.txt, line 1 has 4 tokens"):
        opened(tmp_path, lines(window=3))


def test_windows_contain_the_ends_of_lines_and_cross_no_file(tmp_path: Path) -> None:
    samples = opened(tmp_path, windows(4))
    found = [as_lists(samples[number]) for number in range(len(samples))]
    assert found == [{"text": [2, 3, 4, 1], "next": [3, 4, 1, 1]}, {"text": [1, 4, 1, 2], "next": [4, 1, 2, 2]}]
    assert [as_lists(opened(tmp_path, windows(2, stride=3))[3])["text"]] == [[3, 1]]


@pytest.mark.parametrize("dataset", [lines(), lines(window=9), windows(3)], ids=["lines", "padded", "windows"])
def test_samples_have_their_declared_types_in_every_process(tmp_path: Path, dataset: Dataset) -> None:
    samples = opened(tmp_path, dataset)
    there = pickle.loads(pickle.dumps(samples))  # noqa: S301 - pickled here, as for a worker process
    for name, value in samples[0].items():
        assert torch.equal(there[0][name], value)
        declared_type = sample_types(dataset)[name]
        assert declared_type
        assert declared_type.admits("int64", tuple(value.shape)), name
        assert declared_type.classes == (None if name == "length" else 5)


@pytest.mark.parametrize("dataset", [lines(), windows(3), windows(2, stride=1)], ids=["lines", "windows", "steps"])
def test_the_check_counts_what_the_reader_reads_and_reports_the_tokens(tmp_path: Path, dataset: Dataset) -> None:
    samples, source = opened(tmp_path, dataset), SourceFolder(root=tmp_path)
    draft = Draft(name="made", reader=dataset.reader, splits={"train": (0, 2)})
    checked = check_dataset(draft, source, source.paths())
    assert checked.samples == len(samples)
    assert any("tokens of 5 kinds in" in note for note in checked.notes)


@pytest.mark.parametrize("dataset", [lines(), windows(3)], ids=["lines", "windows"])
def test_a_text_is_tokenized_once_for_each_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: Dataset
) -> None:
    opened(tmp_path / "source", dataset)
    store, calls = MemoryStore(), []
    draft = Draft(name="made", reader=dataset.reader, splits={"train": (0, 2)})
    published = publish_dataset(draft, source=SourceFolder(root=tmp_path / "source"), store=store).dataset

    def start() -> Samples:
        files = fetch_dataset(published, cache=Cache(root=tmp_path / "cache"), open_store=lambda: store)
        return open_samples(published, cast("Files", files))

    def counted(own: Tokenizer, files: Files, paths: Sequence[str]) -> list[TokenizedFile]:
        calls.append(len(paths))
        return tokenize(own, files, paths)

    tokenize = Tokenizer.tokenize
    monkeypatch.setattr(Tokenizer, "tokenize", counted)
    first, again = start(), start()
    assert len(calls) == 1
    for number in range(len(first)):
        assert as_lists(first[number]) == as_lists(again[number])
    monkeypatch.setattr(token_ids, "version", lambda _: "another")
    start()
    assert len(calls) == 2


def test_workers_give_the_same_batches(tmp_path: Path) -> None:
    dataset = lines().model_copy(update={"splits": {"train": (0, 4)}})

    def batches(workers: int) -> list[dict[str, Any]]:
        data = RunData(dataset, opened(tmp_path, dataset), batch_size=2, seed=1, workers=workers)
        return [as_lists(batch) for batch in data.train_dataloader()]

    assert batches(0) == batches(2)


def test_datasets_of_one_run_have_the_same_tokenizer(tmp_path: Path) -> None:
    def part(name: str, split: str, *letters: str) -> RolePart:
        dataset = lines().model_copy(update={"splits": {split: (0, 2)}})
        return RolePart(declared=dataset, samples=opened(tmp_path / name, dataset, *letters), splits=(split,))

    _, joined = join([part("one", "train"), part("other", "val")])
    assert joined.alphabet.decode([2, 1]) == "a </s>"
    with pytest.raises(DatasetError, match="have different tokenizers"):
        join([part("one", "train"), part("third", "val", "b", "a", "c")])


def test_equal_lines_are_equal_in_an_overview(tmp_path: Path) -> None:
    opened(tmp_path, lines())
    (tmp_path / "a.txt").write_bytes(b"a\nb\na\n")
    found = make_overview(
        lines().model_copy(update={"splits": {"train": (0, 2), "test": (2, 3)}}), FolderFiles(tmp_path)
    )
    assert any("test" in hint for hint in found.hints), found.hints
    assert found.examples["train"][1] == {"text": "</s> b", "next": "b </s>", "length": "2"}


@pytest.mark.parametrize(
    "dataset", [lines(), lines(window=9), windows(8, stride=4)], ids=["lines", "padded", "windows"]
)
@pytest.mark.parametrize("size", [2, 5, 3000])
def test_a_synthetic_dataset_has_a_tokenizer_of_the_declared_size(dataset: Dataset, size: int) -> None:
    tokens = dataset.reader.tokens.model_copy(update={"vocabulary": size})  # type: ignore[union-attr] # both readers have tokens
    splits = {"train": (0, 8), "val": (8, 9), "test": (9, 10)}
    made = dataset.model_copy(update={"reader": dataset.reader.model_copy(update={"tokens": tokens}), "splits": splits})
    twin, files = make_synthetic(made, rows=20)
    samples = open_samples(twin, files)
    assert len(samples) >= 20
    assert samples.alphabet.size == size
    assert max(int(samples[number]["text"].max()) for number in range(20)) < size
