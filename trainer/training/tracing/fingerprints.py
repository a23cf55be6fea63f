"""Fingerprints of tensors: 64 bits that depend on every bit of every element, computed on the tensor's device.

These are the two algorithms of `reprise.trace/1`. `xxh3-64` reads CPU memory at full speed, 1 ms for 10 M float32. `weighted-sum-64` is
integer arithmetic on the device without a synchronization. Both read all elements: a change in one element's last bit is detected.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import torch
from xxhash import xxh3_64_intdigest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

_ROW: Final = 1024
"""Number of elements in a row: each position in a row has a factor, and each row of a tensor has a factor."""
_INTEGERS: Final = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_GOLDEN: Final = 0x9E3779B97F4A7C15 - (1 << 64)
"""2^64 divided by the golden ratio, odd, as an int64: its consecutive multiples are evenly spread."""


def tensors_in(batch: object) -> Iterator[Tensor]:
    """Yield a batch's tensors in their order in the batch."""
    if isinstance(batch, torch.Tensor):
        yield batch
    elif isinstance(batch, dict):
        yield from chain.from_iterable(map(tensors_in, batch.values()))
    elif isinstance(batch, list | tuple):
        yield from chain.from_iterable(map(tensors_in, batch))


def host_prints(tensors: Sequence[Tensor]) -> list[int]:
    """Return `xxh3-64` of the row-major bytes of each tensor in CPU memory."""
    return [xxh3_64_intdigest(memory_of(tensor)) for tensor in tensors]


def memory_of(tensor: Tensor) -> memoryview:
    """Return a view of a tensor's row-major bytes, without a copy if the tensor is contiguous.

    >>> list(memory_of(torch.tensor([[1], [2]], dtype=torch.int16)))
    [1, 0, 2, 0]
    """
    flat = tensor.detach().contiguous().reshape(-1)
    view: memoryview = flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")
    return view


class Views:
    """Cached memory views of tensors that stay in place, such as weights: creating a view takes longer than reading a small tensor."""

    def __init__(self) -> None:
        """Create an empty cache."""
        self._known: list[tuple[Tensor, int, memoryview]] = []

    def prints(self, tensors: Sequence[Tensor]) -> list[int]:
        """Return `host_prints` of the tensors; views are reused for the same list of tensors."""
        if len(self._known) != len(tensors) or not all(map(_stays, self._known, tensors)):
            self._known = [(tensor, tensor.data_ptr(), memory_of(tensor)) for tensor in tensors]
        return [xxh3_64_intdigest(view) for _, _, view in self._known]


def device_prints(tensors: Sequence[Tensor]) -> Tensor:
    """Return `weighted-sum-64` of each tensor, int64 `[tensors]` on their device, without a synchronization.

    The bits of each element are an integer; the result is the sum of all elements modulo 2^64, each times an odd factor that depends on
    its position. An odd factor loses no bit, so that a change of one element is always detected.
    """
    bits = [_bits(tensor) for tensor in tensors]
    layout = _layout(tuple((part.element_size(), part.numel()) for part in bits), tensors[0].device)
    sums = [group.sums([bits[place] for place in group.places]) for group in layout.groups]
    return torch.cat(sums)[layout.order]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Tensors of one element width, arranged in rows."""

    places: tuple[int, ...]
    pads: tuple[Tensor, ...]
    """The padding of each tensor's last row."""
    columns: Tensor
    rows: Tensor
    owners: Tensor
    """The tensor of each row."""

    def sums(self, bits: Sequence[Tensor]) -> Tensor:
        """Return the weighted sum of each tensor's elements."""
        filled = torch.cat([part for pair in zip(bits, self.pads, strict=True) for part in pair]).view(-1, _ROW)
        of_rows = (filled * self.columns).sum(1) * self.rows
        return torch.zeros(len(bits), dtype=torch.int64, device=of_rows.device).index_add_(0, self.owners, of_rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """The arrangement of a list of tensors."""

    groups: tuple[_Group, ...]
    order: Tensor
    """The position of each tensor's sum among the sums of the groups."""


@lru_cache(maxsize=32)
def _layout(shapes: tuple[tuple[int, int], ...], device: torch.device) -> _Layout:
    groups = []
    for width in sorted({width for width, _ in shapes}):
        places = tuple(place for place, (own, _) in enumerate(shapes) if own == width)
        groups.append(_group(places, [shapes[place][1] for place in places], _INTEGERS[width], device))
    inside = [place for group in groups for place in group.places]
    order = torch.tensor(inside, dtype=torch.int64).argsort()
    return _Layout(groups=tuple(groups), order=order.to(device))


def _group(places: tuple[int, ...], sizes: Sequence[int], kind: torch.dtype, device: torch.device) -> _Group:
    rows = [-(-size // _ROW) for size in sizes]
    pads = [torch.zeros(count * _ROW - size, dtype=kind) for count, size in zip(rows, sizes, strict=True)]
    return _Group(
        places=places,
        pads=tuple(pad.to(device) for pad in pads),
        columns=_odd(_ROW, salt=1).to(device),
        rows=torch.cat([torch.zeros(0, dtype=torch.int64), *(_odd(count, salt=2) for count in rows)]).to(device),
        owners=torch.repeat_interleave(torch.tensor(rows, dtype=torch.int64)).to(device),
    )


def _odd(count: int, *, salt: int) -> Tensor:
    """Return `count` odd numbers, spread over 64 bits."""
    spread = (torch.arange(count, dtype=torch.int64) * 4 + salt) * _GOLDEN
    mixed = (spread ^ (spread >> 29)) * _GOLDEN
    return (mixed ^ (mixed >> 32)) | 1


def _bits(tensor: Tensor) -> Tensor:
    real: Any = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    flat: Tensor = real.detach().contiguous().reshape(-1)
    return flat.view(_INTEGERS[flat.element_size()])


def _stays(known: tuple[Tensor, int, memoryview], tensor: Tensor) -> bool:
    return known[0] is tensor and known[1] == tensor.data_ptr() and tensor.is_contiguous()
