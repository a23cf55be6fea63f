"""The writer of safetensors files: the bytes of the safetensors library, written tensor by tensor."""

from __future__ import annotations

import io

import pytest
import torch
from safetensors.torch import save

from trainer.base.errors import ExperimentFailedError
from trainer.training.resuming.checkpoint_tree import NATIVE
from trainer.training.tensor_file import in_library_order, write_tensor_file

pytestmark = pytest.mark.torch


def test_a_file_is_byte_identical_to_that_of_the_library() -> None:
    tensors = {
        f"{dtype}.{name}": torch.ones(shape, dtype=dtype)
        for dtype in (*NATIVE, *RARE)
        for name, shape in SHAPES.items()
    }
    file = io.BytesIO()
    write_tensor_file(file, in_library_order(tensors))
    assert file.getvalue() == save(tensors)


RARE = (torch.float8_e8m0fnu, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz)
SHAPES = {"b": (3, 1), "a": (), "empty": (0, 2), 'größe "1"': (2,)}


def test_tensors_that_share_memory_are_written_separately() -> None:
    whole, file = torch.arange(6.0).reshape(2, 3), io.BytesIO()
    write_tensor_file(file, {"whole": whole, "again": whole, "row": whole[1], "column": whole[:, 1]})
    assert file.getvalue()[-17 * 4 :] == torch.tensor([*range(6), *range(6), 3, 4, 5, 1, 4.0]).numpy().tobytes()


def test_a_tensor_of_an_unsupported_dtype_is_rejected_by_name() -> None:
    with pytest.raises(ExperimentFailedError, match="tensor waves has dtype torch"):
        write_tensor_file(io.BytesIO(), in_library_order({"waves": torch.ones(1, dtype=torch.complex128)}))


def test_weights_whose_header_is_too_large_are_named() -> None:
    with pytest.raises(ExperimentFailedError, match="the weights cannot be saved: the header") as caught:
        write_tensor_file(io.BytesIO(), {"x" * (33 << 20): torch.ones(1)})
    assert caught.value.hint == "use fewer or larger parameters, with shorter names"


def test_a_conjugated_tensor_is_written_with_its_values() -> None:
    values, file = torch.tensor([1 + 2j, 3 - 4j]), io.BytesIO()
    write_tensor_file(file, {"z": values.conj()})
    assert file.getvalue()[-16:] == values.conj().resolve_conj().numpy().tobytes()
