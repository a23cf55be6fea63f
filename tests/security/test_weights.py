"""Weights and tables with false headers are rejected; unusual records are shown or rejected."""

from __future__ import annotations

import json
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from tests.comparison.compared import make_run
from tests.security.hostile import bad_run, set_value
from trainer.base.errors import DocumentError
from trainer.base.tensor_file import read_header
from trainer.cli import main
from trainer.comparison.weights import read_tensors

if TYPE_CHECKING:
    from pathlib import Path


def write_weights(path: Path, header: bytes, *, length: int | None = None) -> Path:
    path.write_bytes((len(header) if length is None else length).to_bytes(8, "little") + header)
    return path


def make_header(**entries: Any) -> bytes:
    return json.dumps(entries).encode()


EMPTY = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
HEADERS = {
    "a length of 2**63": (b"{}", 2**63),
    "a header beyond the file": (b"{}", 1000),
    "300,000 empty tensors": (make_header(**{f"t{number}": EMPTY for number in range(300_000)}), None),
    "a key twice": (b'{"a": {}, "a": {}}', None),
    "5,000 levels": (b'{"a":' * 5000, None),
    "a shape of -5": (make_header(a={**EMPTY, "shape": [-5]}), None),
    "a shape of 10**300": (make_header(a={**EMPTY, "shape": [10**300]}), None),
    "a shape of 1,000 axes": (make_header(a={**EMPTY, "shape": [1] * 1000}), None),
    "offsets of 2**63": (make_header(a={**EMPTY, "data_offsets": [2**63, 2**63]}), None),
    "offsets of NaN": (b'{"a": {"dtype": "F32", "shape": [0], "data_offsets": [NaN, NaN]}}', None),
    "a lone surrogate": (b'{"\\ud800": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}', None),
    "metadata of numbers": (make_header(__metadata__=1, a=EMPTY | {"x": 1}), None),
}


@pytest.mark.parametrize("case", HEADERS)
def test_an_abusive_header_is_rejected_in_little_memory(tmp_path: Path, case: str) -> None:
    header, length = HEADERS[case]
    path = write_weights(tmp_path / "w", header, length=length)
    tracemalloc.start()
    with pytest.raises(DocumentError, match=str(path)):
        read_header(path)
    assert tracemalloc.get_traced_memory()[1] < 100 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("shape", [[-5], [10**300], [0.5], ["9" * 400], [[1]], None])
def test_a_table_with_an_impossible_shape_is_rejected(tmp_path: Path, shape: Any) -> None:
    entry = {"dtype": "float32", "shape": shape, "sha256": "sha256:" + "0" * 64}
    document = {"format": "reprise.tensors/1", "step": 1, "weights": {"w": entry}}
    (tmp_path / "tensors.json").write_text(json.dumps(document))
    with pytest.raises(DocumentError, match="shape"):
        read_tensors(tmp_path / "tensors.json")


ODD = {
    "a negative size": set_value("outcome", "files", value=[{"path": "a", "size": -1, "sha256": "sha256:" + "0" * 64}]),
    "no format": set_value("format", value=None),
    "another format": set_value("format", value="reprise.run/99"),
    "a number too large": set_value("circumstances", "host", "memory", value=10**30),
    "nested metrics": set_value("outcome", "metrics", value={"a": {"b": [1, {"c": "d"}]}}),
    "a text that turns the line": set_value("circumstances", "command", value=["\u202e"]),
    "an attempt of 10**15": set_value("attempt", value=10**15),
    "a name of several lines": set_value("circumstances", "host", "name", value="h\nreprise: all is well"),
}


@pytest.mark.parametrize("case", ODD)
def test_an_unusual_record_is_shown_or_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    monkeypatch.setenv("REPRISE_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("REPRISE_STORE", "")  # no store, not even the store in this checkout's .env
    good, bad = make_run(tmp_path / "runs").record.run, bad_run(tmp_path / "runs", ODD[case])
    assert main(["runs", "ls"]) == 0
    for words in (["runs", "show", bad], ["compare", good, bad], ["report", bad, "--no-samples", "-o", "-"]):
        assert main(words) in {0, 20, 30, 40, 80}
