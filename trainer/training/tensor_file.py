"""Writing of safetensors files, tensor by tensor: the rows of a distributed tensor are written as the ranks send them."""

from __future__ import annotations

import json
import math
from typing import IO, TYPE_CHECKING, Any, Final

import torch

from trainer.base.errors import ExperimentFailedError
from trainer.base.tensor_file import LARGEST_HEADER
from trainer.training.resuming.checkpoint_tree import MAY_BE, NATIVE, as_bytes
from trainer.training.shards.parts import bytes_on_rank_0, is_part, require_same_parts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

_ALIGNED: Final = 8
_RARE: Final = {
    torch.float8_e5m2fnuz: "F8_E5M2FNUZ",
    torch.float8_e4m3fnuz: "F8_E4M3FNUZ",
    torch.float8_e8m0fnu: "F8_E8M0",
}
_NAMES: Final = NATIVE | _RARE
_WIDE: Final = [dtype for dtype in NATIVE if dtype.itemsize > 1]
_ORDER: Final = {dtype: number for number, dtype in enumerate({**dict.fromkeys(_WIDE), **_RARE, **NATIVE})}


def in_library_order(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors in the order in which the safetensors library writes them: by dtype, then by name."""
    return dict(sorted(tensors.items(), key=lambda item: (_ORDER.get(item[1].dtype, -1), item[0])))


def write_tensor_file(
    file: IO[bytes] | None, tensors: Mapping[str, Tensor], *, metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors in their order to a safetensors file; a tensor must not have larger elements than the tensor before it.

    If a tensor is distributed, every rank must call this function: rank 0 with the file, the other ranks with None. Raise
    `ExperimentFailedError` if the header is too large or if the ranks have other distributed tensors, `RankError` if an exchange fails, and
    `OSError` if writing fails.
    """
    if parts := {name: each for name, each in tensors.items() if is_part(each)}:
        require_same_parts(parts)
    if file is not None:
        file.write(_header(tensors, metadata))
    for tensor in tensors.values():
        if file is None and not is_part(tensor):
            continue
        for piece in _pieces(tensor):
            if file is not None:
                file.write(piece)


def _header(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None) -> bytes:
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + math.prod(tensor.shape) * tensor.element_size()
        if (dtype := _NAMES.get(tensor.dtype)) is None:
            message = f"tensor {name} has dtype {tensor.dtype}, which a safetensors file cannot hold"
            raise ExperimentFailedError(message, hint="convert it in the net, for example `.to(torch.float32)`")
        header[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [begin, end]}
    # without metadata, equal to the library's bytes, which have names as they are
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=metadata is not None).encode()
    text += b" " * (-len(text) % _ALIGNED)
    if len(text) > LARGEST_HEADER:
        what, hint = "the checkpoint", f"keep many numbers in one tensor or array; {MAY_BE}"
        if metadata is None:
            what, hint = "the weights", "use fewer or larger parameters, with shorter names"
        size = f"{len(text):,} bytes; expected at most {LARGEST_HEADER:,}"
        message = f"{what} cannot be saved: the header, with names, shapes and other values, has {size}"
        raise ExperimentFailedError(message, hint=hint)
    return len(text).to_bytes(8, "little") + text


def _pieces(tensor: Tensor) -> Iterator[Any]:
    """Yield the bytes of a tensor's elements in row-major order, little-endian; for a distributed tensor only on rank 0."""
    if is_part(tensor):
        yield from (each.numpy().data for each in bytes_on_rank_0(tensor))
        return
    here = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    whole = as_bytes(here.untyped_storage(), here.device)
    begin = here.storage_offset() * here.element_size()
    yield whole[begin : begin + here.numel() * here.element_size()].numpy().data
