"""`publish` reads every sample first and rejects unreadable samples and undeclared NaN."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.environments.engine.memory import MemoryEngine
from trainer import cli
from trainer.base.errors import DatasetError
from trainer.cli import configuration, data
from trainer.cli.data.inspect import SamplesNotReadError, run_inspection
from trainer.data.declaration import load_dataset
from trainer.data.inspection import Inspection, SplitValues
from trainer.environments.engine import ImageFacts

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Type = Callable[..., tuple[int, str, str]]

np: Any = pytest.importorskip("numpy", reason="needs NumPy, of the lock's extra `cpu`")
pytestmark = pytest.mark.torch
SPLITS = ("--split", "train=0:6", "--split", "val=6:8", "--split", "test=8:10")


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Type:
    """Publish the folder `source` in a checkout with an empty store; return exit code, stdout and stderr."""
    for module in (data, configuration):
        monkeypatch.setattr(module, "CHECKOUT", tmp_path)
    monkeypatch.setenv("REPRISE_STORE", str(tmp_path / "store"))
    for folder in ("store", "datasets", "source"):
        (tmp_path / folder).mkdir()

    def typed(*words: str) -> tuple[int, str, str]:
        code = cli.main(["data", "publish", "d", str(tmp_path / "source"), *words])
        return code, *capsys.readouterr()

    return typed


def write_arrays(source: Path, **changed: Any) -> None:
    """Write ten samples of zeros, with some values replaced."""
    values = np.zeros((10, 3), dtype=np.float32)
    for place, value in changed.get("x", {}).items():
        values[place] = value
    np.save(source / "x.npy", values)
    np.save(source / "y.npy", np.arange(10) % 2)


ARRAYS = ("--array", "x=x.npy", "--array", "y=y.npy", *SPLITS)


def test_values_that_are_not_finite_are_rejected_by_field_split_count_and_row(publish: Type, tmp_path: Path) -> None:
    write_arrays(tmp_path / "source", x={(7, 1): np.nan, (7, 2): np.nan, (9, 0): np.inf})
    code, _, err = publish(*ARRAYS)
    assert code == DatasetError.code
    message = "field 'x' holds NaN and infinities: 2 NaN in split val, 1 infinite in split test; the first is in row 7"
    assert message in err
    assert "--allow-nan x" in err
    assert not list((tmp_path / "store").rglob("*.json"))


def test_missing_values_are_published_on_purpose_and_the_declaration_says_so(
    publish: Type, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_arrays(tmp_path / "source", x={(7, 1): np.nan})
    assert publish(*ARRAYS, "--allow-nan", "x")[0] == 0
    assert 'allow_nan = [\n    "x",\n]' in (tmp_path / "datasets/d.toml").read_text()
    assert cli.main(["data", "show", "d"]) == 0
    assert "  allow NaN x\n" in capsys.readouterr().out
    np.save(tmp_path / "source/y.npy", np.arange(10) % 3)
    assert publish()[0] == 0
    assert load_dataset("d", root=tmp_path).allow_nan == ("x",)


def test_allow_nan_of_an_unknown_field_is_rejected_with_the_nearest_name(publish: Type, tmp_path: Path) -> None:
    write_arrays(tmp_path / "source")
    code, _, err = publish(*ARRAYS, "--allow-nan", "xx")
    assert (code, "--allow-nan xx: samples have no such field" in err, "did you mean x?" in err) == (44, True, True)


def test_unchanged_samples_are_not_inspected_again(publish: Type, tmp_path: Path) -> None:
    write_arrays(tmp_path / "source")
    assert "10 samples inspected" in publish(*ARRAYS)[2]
    assert "inspected" not in publish(*ARRAYS)[2]
    assert "9 samples inspected" in publish(*ARRAYS[:4], "--split", "train=0:9")[2]


def write_pictures(source: Path, *, odd: bytes | None = None, size: tuple[int, int] = (4, 4)) -> None:
    """Write four pictures of two classes for each split; the last picture of test has the bytes `odd`, or the size `size`."""
    from PIL import Image

    for split in ("train", "val", "test"):
        for number in range(4):
            path = source / split / "ab"[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            last = (split, number) == ("test", 3)
            Image.new("RGB", size if last else (4, 4)).save(path)
            if last and odd is not None:
                path.write_bytes(odd)


IMAGES = ("--images", ".", "--split", "train=train/", "--split", "test=test/")


@pytest.mark.parametrize("odd", [b"", b"\x89PNG\r\n\x1a\n\x00\x00", b"no picture"])
def test_a_picture_that_cannot_be_decoded_is_rejected_by_name_and_split(
    publish: Type, tmp_path: Path, odd: bytes
) -> None:
    write_pictures(tmp_path / "source", odd=odd)
    code, _, err = publish(*IMAGES)
    assert code == 44
    assert "1 sample of d cannot be read: test/b/3.png " in err
    assert "(split test)" in err


def test_many_faults_are_counted_and_three_are_named(publish: Type, tmp_path: Path) -> None:
    write_pictures(tmp_path / "source")
    for path in (tmp_path / "source/train").rglob("*.png"):
        path.write_bytes(b"")
    code, _, err = publish(*IMAGES)
    assert (code, "4 samples of d cannot be read: train/a/0.png" in err, "; and 1 more" in err) == (44, True, True)


def test_pictures_of_several_sizes_are_rejected_unless_they_may_differ(publish: Type, tmp_path: Path) -> None:
    write_pictures(tmp_path / "source", size=(5, 4))
    code, _, err = publish(*IMAGES)
    message = "'image' is [3, 4, 4] in 7 and [3, 4, 5] in 1 (test/b/3.png of split test)"
    assert (code, message in err, "--size 4x4 --resize crop" in err) == (44, True, True), err
    assert publish(*IMAGES, "--sample", "image=float32[3,any,any]")[0] == 0


def test_a_picture_of_another_size_than_declared_is_rejected(publish: Type, tmp_path: Path) -> None:
    write_pictures(tmp_path / "source", size=(5, 4))
    code, _, err = publish(*IMAGES, "--size", "4x4")
    assert (code, "test/b/3.png has 4x5 pixels; expected 4x4, the declared size" in err) == (44, True)


def write_table(source: Path, **columns: Any) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table(columns), source / "t.parquet", row_group_size=4)


@pytest.mark.parametrize(
    ("values", "kind", "message", "hint"),
    [
        ([1.0, None, 3.0, 4.0, None, 6.0], "", "column 'a' (field 'x') holds NaN: 2 in split train; the first", "--allow-nan x"),
        ([1.0, float("nan"), 3.0, 4.0, 5.0, 6.0], "", "holds NaN: 1 in split train; the first is in row 1 of t.parquet", "--allow-nan"),
        (["1", "2", "-1,402", "4", "5", "6"], "", "column 'a' of t.parquet is text (string): row 2 is '-1,402'", "--thousands ,"),
        (["1", "2", "red", "4", "5", "6"], "", "column 'a' of t.parquet is text (string): row 2 is 'red'", "publish the table itself"),
        (["1", "2", "3", "4", "5", "6"], "", "row 0 is '1'; float32 holds numbers, and text is not converted", "to_numeric"),
        ([1, 2, 3, 4, 5, 300], "int8", "row 5 of column 'a' of t.parquet is 300; int8 holds -128 to 127", "a:int64"),
        ([1, 2, 3, 4, 5, -1], "uint8", "row 5 of column 'a' of t.parquet is -1; uint8 holds 0 to 255", "a:int64"),
        ([1, 2, 3, 4, 5, 2**31], "int32", "is 2147483648; int32 holds -2,147,483,648 to 2,147,483,647", "a:int64"),
        ([1, 2, 3, 4, 5, 2**24 + 1], "", "is 16777217; float32 holds -16,777,216 to 16,777,216 exactly", "a:float64"),
        ([1.0, 2.0, 3.0, 4.0, 5.0, 1e300], "", "is 1e+300; float32 holds up to 3.4e+38", "float64"),
        ([1.0, 2.0, 3.0, 4.0, 5.0, 70000.0], "float16", "is 70000; float16 holds up to 6.55e+04", "float64"),
        ([1.0, 2.0, 3.0, 4.0, 5.5, 6.0], "int64", "row 4 of column 'a' of t.parquet is 5.5; int64 holds integers", "float32"),
        ([1, 2, 3, 4, None, 6], "int64", "row 4 of column 'a' of t.parquet is missing; int64 has no missing values", "float32"),
    ],
)  # fmt: skip
def test_a_column_that_does_not_fit_its_type_is_rejected_by_row_with_the_fix_that_fits(
    publish: Type, tmp_path: Path, values: list[Any], kind: str, message: str, hint: str
) -> None:
    write_table(tmp_path / "source", a=values)
    column = f"x=a:{kind}" if kind else "x=a"
    code, _, err = publish("--column", column, "--split", "train=0:6")
    assert (code, message in err, hint in err) == (44, True, True), err


def test_a_column_that_exists_twice_is_rejected_by_name(publish: Type, tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    twice = pa.Table.from_arrays([pa.array([1.0]), pa.array([2.0]), pa.array([3.0])], names=["a", "a", "b"])
    pq.write_table(twice, tmp_path / "source/t.parquet")
    code, _, err = publish("--column", "x=a")
    assert (code, "t.parquet has several columns named 'a'" in err) == (44, True), err
    assert publish("--column", "x=b")[0] == 0


def test_an_empty_folder_is_reported_as_empty(publish: Type) -> None:
    code, _, err = publish("--images", ".", "--split", "train=train/")
    assert (code, "source has no files" in err) == (44, True)


class PrintingEngine(MemoryEngine):
    line: str = ""
    code: int = 0

    def confine(self, container: Any, *, say: Callable[[str], None]) -> int:
        self.confined.append(container)
        say(self.line)
        return self.code


IMAGE = ImageFacts(id="sha256:" + 64 * "0", tags=(), references=(), layers=(), size=1, created="")


def test_a_container_reads_the_folder_and_cannot_write_it(tmp_path: Path) -> None:
    engine = PrintingEngine()
    engine.line = '{"inspection": ' + Inspection(splits={"train": SplitValues(samples=3)}).model_dump_json() + "}"
    assert (
        run_inspection(engine, IMAGE, folder=tmp_path, request=tmp_path / "request.json").splits["train"].samples == 3
    )
    (container,) = engine.confined
    assert [mount.writable for mount in container.mounts] == [False, False, False]
    assert container.words == ("_inspect", "/data", "/run/reprise/request.json")


def test_an_error_in_the_container_becomes_the_error_of_the_command(tmp_path: Path) -> None:
    engine = PrintingEngine()
    engine.line = '{"error": "x.npy is not a plain array", "hint": "numpy.save"}'
    with pytest.raises(DatasetError, match="is not a plain array"):
        run_inspection(engine, IMAGE, folder=tmp_path, request=tmp_path / "request.json")
    for engine.line, engine.code in (("Killed", 137), ("?", 0)):
        with pytest.raises(SamplesNotReadError):
            run_inspection(engine, IMAGE, folder=tmp_path, request=tmp_path / "request.json")


@pytest.mark.host
def test_without_torch_and_image_a_note_says_that_samples_were_not_read(
    publish: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer.cli.data import inspect

    write_arrays(tmp_path / "source", x={(7, 1): np.nan})
    monkeypatch.setattr(inspect, "find_spec", lambda _: None)
    monkeypatch.setattr(inspect, "DOTENV", tmp_path / ".env")
    code, _, err = publish(*ARRAYS)
    assert (code, "samples were not read (this checkout has no image yet" in err) == (0, True), err
    assert "the first run reads them" in err
