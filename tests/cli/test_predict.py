"""`reprise predict` of a small package: the lines that it prints, and its errors for other files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("torch")
pytest.importorskip("pyarrow")

import numpy as np

from tests.models.serving.small_packages import make_package
from trainer.base.errors import DatasetError
from trainer.cli.predict import main

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The folders of packages by kind."""
    runs = tmp_path_factory.mktemp("packages")
    return {kind: str(make_package(runs, kind)) for kind in ("arrays", "pictures", "table")}


def test_rows_are_counted_from_1_in_lines_and_from_0_in_json(
    packages: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "new.csv"
    file.write_text("height,width,color\n1,2,red\n3,4,blue\n")
    assert main([packages["table"], str(file)]) == 0
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        f"{file} row 1",
        f"{file} row 2",
    ]
    assert main([packages["table"], str(file), "--json"]) == 0
    assert [each["row"] for each in json.loads(capsys.readouterr().out)["predictions"]] == [0, 1]


@pytest.mark.parametrize(
    ("kind", "name", "body", "message"),
    [
        ("arrays", "new.csv", b"a,b\n1,2\n", "is not a .npy or .npz file"),
        ("arrays", "new.npy", b"", "is empty"),
        ("arrays", "new.npy", b"\x93NUMPY\x01\x00v\x00{'descr", "is a damaged or truncated .npy file"),
        ("arrays", "new.npz", b"PK\x03\x04cut", "is a damaged or truncated .npz file"),
        ("pictures", "new.png", b"text", "cannot be decoded as a picture: found"),
        ("table", "new.csv", b"height,width,color\n1,2,red,x\n", "new.csv, line 2: 4 cells; expected 3"),
    ],
)
def test_a_file_of_another_kind_is_an_error_in_the_words_of_reprise(
    packages: dict[str, str], tmp_path: Path, kind: str, name: str, body: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(body)
    with pytest.raises(DatasetError) as caught:
        main([packages[kind], str(tmp_path / name)])
    assert message in caught.value.message
    assert not any(word in caught.value.message for word in ("pickle", "allow_", "EOF", "Error"))
    assert caught.value.hint
    assert "--" not in caught.value.hint
    assert "publish" not in caught.value.hint


def test_an_array_of_objects_is_named(packages: dict[str, str], tmp_path: Path) -> None:
    np.save(tmp_path / "new.npy", np.array([1, None], dtype=object))
    with pytest.raises(DatasetError, match=r"new\.npy holds Python objects; expected numbers"):
        main([packages["arrays"], str(tmp_path / "new.npy")])
