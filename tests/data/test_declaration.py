"""Declarations of datasets in datasets/NAME.toml: valid content, and the errors of invalid content."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.base.digest import canonical, digest_of_bytes
from trainer.base.document import parse_json
from trainer.base.errors import DatasetError, DocumentError
from trainer.data.declaration import (
    Dataset,
    dataset_names,
    declaration,
    declared,
    load_dataset,
    require_name,
)
from trainer.data.reader import ArraysReader
from trainer.data.upstream.listing import Upstream

ROOT = Path(__file__).parents[2]
DATASET = Dataset(
    name="digits",
    version=3,
    manifest=digest_of_bytes(b"m"),
    content=digest_of_bytes(b"c"),
    files=2,
    bytes=10,
    license='"odd" \\ license [\n    1,\n    2,\n]',
    splits={"train": (0, 8), "test": (8, 10)},
    reader=ArraysReader(kind="arrays", fields={"image": "images.npy"}),
)


def write_declaration(root: Path, text: str, *, name: str = "digits") -> None:
    (root / "datasets").mkdir(exist_ok=True)
    declaration(name, root=root).write_text(text, encoding="utf-8")


def test_a_declaration_round_trips(tmp_path: Path) -> None:
    write_declaration(tmp_path, declared(DATASET))
    assert load_dataset("digits", root=tmp_path) == DATASET
    assert "train = [0, 8]\n" in declared(DATASET)


def test_an_imported_dataset_is_added_to_a_store_by_the_same_import() -> None:
    upstream = Upstream(source="https://host.example/a.zip?x=1&y=2", listing=digest_of_bytes(b""))
    command = "reprise data import digits 'https://host.example/a.zip?x=1&y=2'"
    assert DATASET.model_copy(update={"upstream": upstream}).upload_command == command
    assert DATASET.upload_command == "reprise data publish digits DIR"


def test_a_version_in_the_store_round_trips() -> None:
    assert parse_json(canonical(DATASET.model_dump(mode="json")), Dataset, where="store") == DATASET


@pytest.mark.parametrize("name", dataset_names(root=ROOT))
def test_the_committed_declarations_match_what_publishing_writes(name: str) -> None:
    dataset = load_dataset(name, root=ROOT)
    assert declaration(name, root=ROOT).read_text(encoding="utf-8") == declared(dataset)
    spans = sorted(split for split in dataset.splits.values() if isinstance(split, tuple))
    assert [first for first, _ in spans] == [0, *(end for _, end in spans[:-1])]


@pytest.mark.parametrize("name", ["digitz", "", "../datasets/digits", "Digits", "a/b"])
def test_an_unknown_name_suggests_the_nearest(tmp_path: Path, name: str) -> None:
    write_declaration(tmp_path, declared(DATASET))
    with pytest.raises(DatasetError) as caught:
        load_dataset(name, root=tmp_path)
    assert "digits" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("digits@3", "write digits"),
        ("digits@2", "write digits; for another version: `git log datasets/digits.toml`, then `git checkout COMMIT"),
        ("digist@3", "did you mean digits?"),
    ],
)
def test_a_name_with_a_version_is_an_error_that_names_the_declaration(tmp_path: Path, name: str, hint: str) -> None:
    write_declaration(tmp_path, declared(DATASET))
    with pytest.raises(DatasetError) as caught:
        load_dataset(name, root=tmp_path)
    assert str(caught.value.hint).startswith(hint)
    if name.startswith("digits"):
        assert "expected a name without a version; datasets/digits.toml declares the version, digits@3" in str(
            caught.value
        )


def test_a_name_that_differs_from_the_file_name_is_rejected(tmp_path: Path) -> None:
    write_declaration(tmp_path, declared(DATASET), name="other")
    with pytest.raises(DatasetError, match="'digits'; expected 'other'"):
        load_dataset("other", root=tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("version = 3", "version = 0", "version"),
        ("version = 3", "versoin = 3", "version"),
        ("files = 2", 'files = "two"', "files"),
        ("sha256:", "md5:", "manifest"),
        ("train = [0, 8]", "train = [8, 0]", "one past the last"),
        ("train = [0, 8]", "train = [0]", "train"),
        ('kind = "arrays"', 'kind = "pictures"', "reader"),
        ("images.npy", "../images.npy", "not a path inside a dataset"),
        ("[splits]", "[splits", "not valid TOML"),
    ],
)
def test_an_invalid_declaration_is_named(tmp_path: Path, old: str, new: str, why: str) -> None:
    write_declaration(tmp_path, declared(DATASET).replace(old, new))
    with pytest.raises(DocumentError, match=why) as caught:
        load_dataset("digits", root=tmp_path)
    assert "digits.toml" in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("Bad-Name", "bad-name"),
        ("a b", "a-b"),
        ("../x", "x"),
        ("-x", "x"),
        (300 * "x", 63 * "x"),
        (f"{62 * 'x'}--y", 62 * "x"),
        ("ключ", "my-data"),
        ("", "my-data"),
    ],
)
def test_an_invalid_dataset_name_is_rejected_with_a_valid_one(name: str, near: str) -> None:
    with pytest.raises(DatasetError, match="cannot be a dataset's name: expected 1 to 63 of a-z") as error:
        require_name(name)
    assert (error.value.hint, len(error.value.message) < 160) == (f"for example {near}", True)
    require_name(near)
