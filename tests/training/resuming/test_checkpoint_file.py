"""Checkpoint files: every value of a training run is restored bit for bit, and damage is reported."""

from __future__ import annotations

import io
import json
import math
import random
from argparse import Namespace
from collections import Counter, OrderedDict
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from trainer.base.errors import DocumentError, ExperimentFailedError
from trainer.runs.checkpoint_pointer import NextStage
from trainer.training.resuming.checkpoint_file import FORMAT, read_checkpoint, write_checkpoint
from trainer.training.resuming.checkpoint_tree import NATIVE

pytestmark = pytest.mark.torch
BASE: Final = torch.arange(24, dtype=torch.float32).reshape(4, 6)
SCALARS: Final = (None, True, 1, -(2**70), 2**4000, 0.1, -0.0, math.inf, -math.inf, 1.0, 1 + 2j, "\ud800\x1b", b"\0x")
VALUES: Final[dict[str, Any]] = {
    "scalars": list(SCALARS),
    "containers": [(1, (2,)), {"b", "a"}, frozenset({1}), OrderedDict(z=1, a=2), Counter([1, 1])],
    "keys of every kind": {None: 1, True: 2, 3: 4, 2.5: 5, (1, "x"): 6, b"b": 7, "x/y": 8},
    "other values": [Path("a/b"), timedelta(1, 2, 3), NextStage.EPOCH, torch.Size([1, 2]), torch.bfloat16],
    "a device": torch.device("cuda:1"),
    "random states": [random.getstate(), np.random.get_state(), torch.get_rng_state()],  # noqa: NPY002 - a run saves the global state
    "a generator's state": np.random.default_rng(0).bit_generator.state,
    "arrays": [np.arange(6, dtype=">i4").reshape(2, 3).T, np.zeros((0, 3)), np.array(["ab", "c"]), np.float32("nan")],
    "dates": np.datetime64("2026-01-01"),
    "views": [
        BASE,
        BASE[:, 1],
        BASE.T,
        torch.ones(2).expand(3, 2),
        torch.ones(2, 3, 4, 4).to(memory_format=torch.channels_last),
    ],
    "small": [
        torch.tensor(3.5),
        torch.empty(0, 3),
        torch.empty(0, dtype=torch.complex128),
        torch.nn.Parameter(torch.ones(2)),
    ],
    "complex": [torch.ones(2, dtype=torch.complex128), torch.tensor([1 + 2j]).conj()],
    "names that are spelled alike": {"x": {"y": torch.tensor(1)}, "x/y": torch.tensor(2)},
}


def round_trip(value: object, folder: Path) -> Any:
    """Write a checkpoint that holds a value, and read it."""
    with (folder / "a.safetensors").open("wb") as file:
        write_checkpoint(file, {"value": value})
    return read_checkpoint(folder / "a.safetensors")["value"]


def exact_form(value: Any) -> Any:
    """Return a form that is equal only for equal bits, types, strides and flags."""
    if isinstance(value, torch.Tensor):
        strides = value.stride() if value.numel() else ()
        bits = value.detach().resolve_conj().contiguous().flatten()
        data = bits.view(torch.uint8).tolist() if bits.numel() else []
        return (type(value), value.dtype, value.shape, strides, value.requires_grad, data)
    if isinstance(value, np.ndarray | np.generic):
        return (type(value), value.dtype.str, value.shape, value.tobytes())
    if isinstance(value, dict):
        return (type(value), [(exact_form(key), exact_form(each)) for key, each in value.items()])
    if isinstance(value, list | tuple):
        return (type(value), [exact_form(each) for each in value])
    return (type(value), value.hex() if isinstance(value, float) else value)


@pytest.mark.parametrize("name", VALUES)
def test_a_value_round_trips_exactly(name: str, tmp_path: Path) -> None:
    assert exact_form(round_trip(VALUES[name], tmp_path)) == exact_form(VALUES[name])


@pytest.mark.parametrize("dtype", [*NATIVE, torch.complex128, torch.float8_e5m2fnuz], ids=str)
def test_a_tensor_of_every_dtype_round_trips_exactly(dtype: torch.dtype, tmp_path: Path) -> None:
    value = torch.tensor([0, 1, 2, 1]).to(dtype).reshape(2, 2)
    assert exact_form(round_trip(value, tmp_path)) == exact_form(value)


def test_tensors_that_share_memory_are_stored_once_and_share_it_again(tmp_path: Path) -> None:
    one, same, column = round_trip([BASE, BASE, BASE[:, 1]], tmp_path)
    one[0, 1] = 99
    assert (float(same[0, 1]), float(column[0])) == (99, 99)
    assert (tmp_path / "a.safetensors").stat().st_size < 1000


def test_versions_of_modules_round_trip_with_their_state(tmp_path: Path) -> None:
    """Torch stores versions as an attribute of the state dict, and uses them to load older states."""
    state = torch.nn.BatchNorm1d(2).state_dict()
    assert round_trip(state, tmp_path)._metadata == state._metadata  # type: ignore[attr-defined]


def test_a_mapped_checkpoint_has_the_same_values_and_a_change_does_not_change_the_file(tmp_path: Path) -> None:
    large = torch.arange(2**19, dtype=torch.float32)
    odd = {"third": torch.ones(2**20 + 3, dtype=torch.uint8), "column": torch.arange(2**20).reshape(2, -1).T}
    state = {"whole": large, "again": large, "odd": large[1::2], "half": large.bfloat16(), "small": BASE, **odd}
    expected = {"state_dict": state, "callbacks": {"kept": large * 2}}
    path = tmp_path / "a.safetensors"
    with path.open("wb") as file:
        write_checkpoint(file, expected)
    before = path.read_bytes()
    found = read_checkpoint(path, is_mapped=True)
    assert exact_form(found) == exact_form(expected)
    found["state_dict"]["whole"][3] = -1
    assert float(found["state_dict"]["again"][3]) == float(found["state_dict"]["odd"][1]) == -1
    assert path.read_bytes() == before
    assert _is_mapped(path)
    kept = found["callbacks"]["kept"]
    del found
    assert not _is_mapped(path)
    assert torch.equal(kept, large * 2)


def _is_mapped(path: Path) -> bool:
    return str(path) in Path("/proc/self/maps").read_text()


def test_a_view_that_leaves_its_tensor_is_rejected_in_a_mapped_checkpoint_too(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with path.open("wb") as file:
        write_checkpoint(file, {"state_dict": {"a": torch.ones(2**19)[::2], "b": torch.ones(2**19)}})
    content = path.read_bytes()
    assert content.count(b'\\"offset\\":0') == 1
    path.write_bytes(content.replace(b'\\"offset\\":0', b'\\"offset\\":9'))
    for is_mapped in (False, True):
        with pytest.raises(DocumentError, match="leaves its tensor"):
            read_checkpoint(path, is_mapped=is_mapped)


def test_other_tools_can_read_the_tensors(tmp_path: Path) -> None:
    round_trip({"weight": BASE}, tmp_path)
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert torch.equal(file.get_tensor("value/weight"), BASE)
        assert file.metadata()["format"] == FORMAT


NESTED: Final[list[Any]] = []
NESTED.append(NESTED)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"lock": [object()]}, "value/lock/0 is a builtins.object"),
        (Namespace(), "value is an argparse.Namespace, which"),
        (print, "value is a builtins.builtin_function_or_method"),
        (np.array([object()]), "value is an array of dtype object"),
        (BASE.to_sparse(), "value is a torch.Tensor of layout torch.sparse_coo"),
        (torch.empty(2, device="meta"), "value is a tensor on the meta device"),
        (NESTED, "nested more than 100 levels deep"),
    ],
)
def test_an_unsupported_value_is_named_with_its_path(value: object, message: str) -> None:
    with pytest.raises(ExperimentFailedError, match="cannot be saved") as caught:
        write_checkpoint(io.BytesIO(), {"value": value})
    assert message in caught.value.message
    assert "on_save_checkpoint may return tensors" in str(caught.value.hint)


def test_too_many_numbers_outside_of_tensors_are_rejected() -> None:
    with pytest.raises(ExperimentFailedError, match="the checkpoint cannot be saved: the header"):
        write_checkpoint(io.BytesIO(), {"value": "x" * (33 << 20)})


def write_file(tree: object, folder: Path) -> Path:
    """Write a file with one tensor of 8 bytes, `t`, and the given tree."""
    text = tree if isinstance(tree, str) else json.dumps(tree)
    header = {
        "__metadata__": {"format": FORMAT, "tree": text},
        "t": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]},
    }
    data = json.dumps(header).encode()
    (folder / "a").write_bytes(len(data).to_bytes(8, "little") + data + bytes(8))
    return folder / "a"


def tensor_view(**other: object) -> dict[str, object]:
    return {
        "dict": {"x": {"tensor": {"of": "t", "dtype": "float32", "shape": [2], "stride": [1], "offset": 0} | other}}
    }


@pytest.mark.parametrize(
    "tree",
    [
        [],
        "[" * 100_000,
        "{",
        {"object": "os.system"},
        {"dict": {"x": {"int": "7", "float": "nan"}}},
        {"dict": {"x": {"tensor": {"of": "u"}}}},
        tensor_view(shape=[3]),
        tensor_view(offset=1),
        tensor_view(offset=-1),
        tensor_view(stride=[-1]),
        tensor_view(shape=[2**62, 2**62], stride=[1, 1]),
        tensor_view(dtype="load"),
        tensor_view(dtype="nn"),
        {"dict": {"x": {"ndarray": ["t", "O", [1]]}}},
        {"dict": {"x": {"ndarray": ["t", "9" * 5000, [1]]}}},
        {"dict": {"x": {"ndarray": ["t", "<f8", [-5]]}}},
        {"dict": {"x": {"ndarray": ["t", "<f8", [10**300]]}}},
        {"dict": {"x": {"set": [{"dict": {}}]}}},
    ],
)
def test_a_damaged_tree_is_rejected(tree: object, tmp_path: Path) -> None:
    with pytest.raises(DocumentError):
        read_checkpoint(write_file(tree, tmp_path))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (["t", "O", [1]], "dtype object is not supported"),
        (["t", "<f8", [-5]], r"shape \[-5\] has a negative length"),
    ],
)
def test_the_fault_of_a_damaged_array_is_stated(array: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=f"its tree is damaged: ValueError: {message}"):
        read_checkpoint(write_file({"dict": {"x": {"ndarray": array}}}, tmp_path))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("t"),
        lambda inner: (
            st.lists(inner) | st.dictionaries(st.sampled_from(["dict", "items", "tensor", "ndarray", "of", "x"]), inner)
        ),
        max_leaves=8,
    )
)
def test_any_tree_is_read_or_rejected(tmp_path_factory: pytest.TempPathFactory, tree: object) -> None:
    folder = tmp_path_factory.getbasetemp()
    try:
        read_checkpoint(write_file({"dict": {"x": tree}}, folder))
    except DocumentError:
        return


def test_another_safetensors_file_is_not_a_checkpoint(tmp_path: Path) -> None:
    path = write_file({}, tmp_path)
    path.write_bytes(path.read_bytes().replace(FORMAT.encode(), b"a" * len(FORMAT)))
    with pytest.raises(DocumentError, match="has the format"):
        read_checkpoint(path)


def test_a_pickle_is_rejected_without_loading_it(tmp_path: Path) -> None:
    torch.save({"weights": BASE}, tmp_path / "a.ckpt")
    with pytest.raises(DocumentError, match="pickles are not supported"):
        read_checkpoint(tmp_path / "a.ckpt")
