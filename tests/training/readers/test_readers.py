"""The contract of readers: samples by number, equal in every process, verified before use; and the samples of each kind."""

from __future__ import annotations

import csv
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from trainer.base.document import typed
from trainer.base.errors import DatasetError
from trainer.data.declaration import Draft
from trainer.data.files import FolderFiles
from trainer.training.readers import Pick, Samples, open_samples

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.torch
TABLE = {
    "kind": "table",
    "files": ["t/0.parquet", "t/1.parquet"],
    "fields": {"x": {"column": ["a", "b"]}, "y": {"column": "y", "dtype": "int64"}},
}
KINDS: dict[str, dict[str, Any]] = {
    "arrays": {"kind": "arrays", "fields": {"x": "x.npy", "y": "y.npy"}},
    "images": {"kind": "images", "folder": "pictures/", "size": [4, 6]},
    "images of bytes": {"kind": "images", "folder": "pictures/", "labels": "l.csv", "mode": "L", "dtype": "uint8"},
    "table": TABLE,
    "lines": {"kind": "lines", "file": ["a.txt", "b.txt"]},
    "text": {"kind": "text", "file": ["a.txt", "b.txt"], "window": 3, "stride": 2},
    "files": {"kind": "files"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("files")
    random = np.random.default_rng(0)
    np.save(root / "x.npy", random.random((9, 2, 2), dtype=np.float32))
    np.save(root / "y.npy", np.arange(9))
    for number in range(6):
        path = root / "pictures" / ("cats", "dogs")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (4, 6, 3), dtype=np.uint8)).save(path)
    with (root / "l.csv").open("w", newline="") as file:
        rows = [(path.relative_to(root).as_posix(), "even") for path in root.rglob("*.png")]
        csv.writer(file).writerows([("file", "class"), *rows])
    (root / "t").mkdir()
    for number in (0, 1):
        columns = {name: random.random(10) for name in "ab"} | {"y": np.arange(10) + 10 * number, "other": ["?"] * 10}
        pq.write_table(pa.table(columns), root / "t" / f"{number}.parquet", row_group_size=4)
    (root / "a.txt").write_bytes(b"eins\r\nzwei\n\ndrei")
    (root / "b.txt").write_bytes("Größe\n".encode())
    return root


def read_samples(folder: Path, reader: dict[str, Any]) -> Samples:
    return open_samples(typed({"name": "small", "reader": reader}, Draft, where="test"), FolderFiles(folder))


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_contains_its_samples(folder: Path, kind: str) -> None:
    found = read_samples(folder, KINDS[kind])
    numbers = [2, 0, len(found) - 1, 2]
    there = pickle.loads(pickle.dumps(found))  # noqa: S301 - pickled in the same line
    batch = there.batch([Pick(index=number) for number in numbers])
    for row, number in enumerate(numbers):
        for field, value in found[number].items():
            whole = batch[field][row]
            part = whole[tuple(slice(length) for length in value.shape)]
            assert torch.equal(part, value)
            assert int(torch.count_nonzero(whole)) == int(torch.count_nonzero(value))


@pytest.mark.parametrize("kind", KINDS)
def test_samples_are_a_sequence(folder: Path, kind: str) -> None:
    found = read_samples(folder, KINDS[kind])
    assert len(found) == found.layout.count == len(list(found.layout.names()))
    with pytest.raises(IndexError):
        found[len(found)]


@pytest.mark.parametrize(
    ("kind", "count", "fields"),
    [
        ("arrays", 9, {"x": (torch.float32, (2, 2)), "y": (torch.int64, ())}),
        ("images", 6, {"image": (torch.float32, (3, 4, 6)), "label": (torch.int64, ())}),
        ("images of bytes", 6, {"image": (torch.uint8, (1, 4, 6)), "label": (torch.int64, ())}),
        ("table", 20, {"x": (torch.float32, (2,)), "y": (torch.int64, ())}),
        ("lines", 5, {"text": (torch.uint8, (4,)), "length": (torch.int64, ())}),
        ("text", 7 + 3, {"text": (torch.int64, (3,)), "next": (torch.int64, (3,))}),
        ("files", 13, {"bytes": (torch.uint8, (16,)), "length": (torch.int64, ())}),
    ],
)
def test_a_sample_has_the_types_of_its_docstring(
    folder: Path, kind: str, count: int, fields: dict[str, tuple[torch.dtype, tuple[int, ...]]]
) -> None:
    found = read_samples(folder, KINDS[kind])
    sample = found[0]
    assert (len(found), {field: (value.dtype, tuple(value.shape)) for field, value in sample.items()}) == (
        count,
        fields,
    )


def test_text_samples_are_the_lines_of_the_files(folder: Path) -> None:
    found = read_samples(folder, KINDS["lines"])
    texts = [bytes(found[number]["text"].numpy().tobytes()).decode() for number in range(len(found))]
    assert texts == ["eins", "zwei", "", "drei", "Größe"]


def test_the_target_of_a_window_is_shifted_by_one(folder: Path) -> None:
    found = read_samples(folder, KINDS["text"])
    first, last = found[0], found[len(found) - 1]
    assert bytes(first["text"].tolist()) == b"ein"
    assert bytes(first["next"].tolist()) == b"ins"
    assert bytes(last["text"].tolist()) == "Größe\n".encode()[4:7]


def test_table_samples_are_the_rows_of_the_files(folder: Path) -> None:
    found = read_samples(folder, TABLE)
    order = np.random.default_rng(1).permutation(20).tolist()
    batch = found.batch([Pick(index=number) for number in order])
    assert batch["y"].tolist() == order
    tables = [pq.read_table(folder / path) for path in TABLE["files"]]
    a = np.concatenate([table.column("a").to_numpy() for table in tables]).astype(np.float32)
    assert np.array_equal(batch["x"][:, 0].numpy(), a[order])


def test_image_samples_have_the_pixels_of_the_files(folder: Path) -> None:
    found = read_samples(folder, KINDS["images"])
    path = found.layout.files[3]
    with Image.open(folder / path) as image:
        expected = np.asarray(image).transpose(2, 0, 1)
    assert np.array_equal((found[3]["image"] * 255).round().to(torch.uint8).numpy(), expected)
    assert [int(found[number]["label"]) for number in range(6)] == [0, 0, 0, 1, 1, 1]


def overwrite(path: str, body: bytes) -> Callable[[Path], None]:

    def spoil(root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(body)

    return spoil


def table_writer(**columns: Any) -> Callable[[Path], None]:
    return lambda root: pq.write_table(pa.table(columns), root / "t.parquet")


def big(root: Path) -> None:
    (root / "pictures").mkdir()
    Image.fromarray(np.zeros((9, 9, 3), dtype=np.uint8)).save(root / "pictures/0.png")


ONE = {"kind": "table", "files": ["t.parquet"], "fields": {"y": {"column": "y", "dtype": "int64"}}}


@pytest.mark.parametrize(
    ("reader", "spoil", "line"),
    [
        (
            {"kind": "arrays", "fields": {"x": "x.npy"}},
            overwrite("x.npy", b"\x93NUMPY"),
            r"x\.npy is not a plain array",
        ),
        (KINDS["images"], overwrite("pictures/a/0.png", b"no"), r"pictures/a/0\.png cannot be decoded as a picture"),
        (KINDS["images"], overwrite("pictures/a/0.png", b"\x89PNG\r\n\x1a\n"), "cannot be decoded as a picture"),
        (KINDS["images"], big, r"pictures/0\.png has 9x9 pixels; expected 4x6, the declared size"),
        (ONE, overwrite("t.parquet", b"PAR1PAR1"), r"t\.parquet is a damaged Parquet file"),
        (ONE, table_writer(y=[1.5]), r"row 0 of column 'y' of t\.parquet is 1\.5; int64 holds integers"),
        (ONE, table_writer(y=[None, 1]), r"row 0 of column 'y' of t\.parquet is missing; int64 has no missing values"),
        (ONE, table_writer(z=[1]), r"t\.parquet has no column 'y'"),
    ],
)
def test_unreadable_files_are_named(
    tmp_path: Path, reader: dict[str, Any], spoil: Callable[[Path], None], line: str
) -> None:
    spoil(tmp_path)
    with pytest.raises(DatasetError, match=line):
        read_samples(tmp_path, reader)[0]


def test_a_picture_is_resized_if_declared(tmp_path: Path) -> None:
    big(tmp_path)
    found = read_samples(tmp_path, {**KINDS["images"], "resize": "crop"})
    assert found[0]["image"].shape == (3, 4, 6)


def test_pictures_of_different_sizes_are_reported(tmp_path: Path) -> None:
    for number in (1, 2):
        Image.new("L", (number, 3)).save(tmp_path / f"{number}.png")
    found = read_samples(tmp_path, {"kind": "images", "mode": "L"})
    with pytest.raises(DatasetError, match=r"differ in 'image': \[1, 3, 1\] and \[1, 3, 2\]"):
        found.batch([Pick(index=0), Pick(index=1)])


class RecordingFiles(FolderFiles):
    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.required: list[tuple[str, int, int | None]] = []

    def require(self, path: str, /, start: int = 0, stop: int | None = None) -> None:
        self.required.append((path, start, stop))

    def read(self, path: str, /, start: int = 0, stop: int | None = None) -> memoryview:
        self.require(path, start, stop)
        return super().read(path, start, stop)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "arrays"])
def test_only_required_bytes_are_read(folder: Path, kind: str) -> None:
    files = RecordingFiles(folder)
    found = open_samples(typed({"name": "small", "reader": KINDS[kind]}, Draft, where="test"), files)
    files.required.clear()
    found[len(found) - 1]
    last = found.layout.files[found.layout.place(len(found) - 1)[0]]
    assert {path for path, _, _ in files.required} == {last}


def test_rows_of_an_array_are_required_on_first_use(tmp_path: Path) -> None:
    array = np.lib.format.open_memmap(tmp_path / "x.npy", mode="w+", dtype=np.uint8, shape=(20, 1 << 20))
    array[:, 0] = range(20)
    del array
    files = RecordingFiles(tmp_path)
    reader = {"kind": "arrays", "fields": {"x": "x.npy"}}
    found = open_samples(typed({"name": "small", "reader": reader}, Draft, where="test"), files)
    files.required.clear()
    assert [int(found[number]["x"][0]) for number in (0, 1, 19, 0, 18)] == [0, 1, 19, 0, 18]
    assert files.required == [("x.npy", 0, 8 << 20), ("x.npy", 16 << 20, 24 << 20)]
