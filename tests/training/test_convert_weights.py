"""Pickled checkpoints as safetensors files: only tensors are converted, and no code in the file is run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("torch")

import torch
from safetensors.torch import load_file
from torch import nn

from trainer.base.errors import DatasetError
from trainer.training.convert_weights import Conversion, convert_weights

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.torch


def converted(folder: Path, content: Any) -> tuple[Conversion, dict[str, torch.Tensor]]:
    torch.save(content, folder / "w.pt")
    report = convert_weights(folder / "w.pt", folder / "w.safetensors")
    return report, load_file(folder / "w.safetensors")


def test_a_state_dict_is_converted(tmp_path: Path) -> None:
    state = nn.Linear(2, 3).state_dict()
    report, found = converted(tmp_path, state)
    assert (report.tensors, report.entry, report.left_out) == (2, "", [])
    assert all(torch.equal(found[name], state[name]) for name in state)


@pytest.mark.parametrize("entry", ["state_dict", "model"])
def test_a_nested_state_dict_is_found_and_other_entries_are_left_out(tmp_path: Path, entry: str) -> None:
    report, found = converted(tmp_path, {"epoch": 3, entry: {"a": torch.ones(2), "version": 1}, "name": "x"})
    assert (report.entry, report.left_out, [*found]) == (entry, ["version", "epoch", "name"], ["a"])


def test_tied_tensors_are_written_under_each_name(tmp_path: Path) -> None:
    whole = torch.arange(6.0)
    _, found = converted(tmp_path, {"a": whole, "b": whole, "part": whole[2:4], "turned": whole.reshape(2, 3).t()})
    assert torch.equal(found["a"], found["b"])
    assert torch.equal(found["part"], whole[2:4])
    assert torch.equal(found["turned"], whole.reshape(2, 3).t())


def test_a_parameter_is_a_tensor(tmp_path: Path) -> None:
    assert converted(tmp_path, {"a": nn.Parameter(torch.ones(1))})[0].tensors == 1


class Evil:
    ran = False

    def __reduce__(self) -> tuple[Any, ...]:
        return _run, ()


def _run() -> int:
    Evil.ran = True
    return 1


def test_code_in_a_pickle_does_not_run(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds Python objects besides tensors") as caught:
        converted(tmp_path, {"a": torch.ones(1), "evil": Evil()})
    assert not Evil.ran
    assert "torch.save(net.state_dict(), FILE)" in (caught.value.hint or "")
    assert not (tmp_path / "w.safetensors").exists()


@pytest.mark.parametrize(
    "content", [{}, {"a": 1}, [torch.ones(1)], 5, {"a": {"x": torch.ones(1)}, "b": {"x": torch.ones(1)}}]
)
def test_a_file_without_tensors_by_name_is_rejected(tmp_path: Path, content: Any) -> None:
    with pytest.raises(DatasetError, match="expected tensors by name") as caught:
        converted(tmp_path, content)
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x80\x02}q\x00.", b"text", bytes(100)])
def test_any_other_file_is_rejected(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "w.pt").write_bytes(data)
    with pytest.raises(DatasetError) as caught:
        convert_weights(tmp_path / "w.pt", tmp_path / "w.safetensors")
    assert "\n" not in caught.value.message


def test_a_sparse_tensor_is_rejected_by_name(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="tensor odd of"):
        converted(tmp_path, {"odd": torch.eye(3).to_sparse()})
