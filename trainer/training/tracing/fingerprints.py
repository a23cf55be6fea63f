"""Fingerprints of tensors: 64 bits that depend on every bit of every element, computed on the tensor's device.

These are the two algorithms of `reprise.trace/1`. `xxh3-64` reads CPU memory at full speed, 1 ms for 10 M float32. `weighted-sum-64` is
integer arithmetic on the device without a synchronization. Both read all elements: a change in one element's last bit is detected.
A trace stores the fingerprints and other numbers of a step as 64-bit integers.
"""

from __future__ import annotations

import random
import struct
from array import array
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from xxhash import xxh3_64, xxh3_64_intdigest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor, nn

Integers = Any
"""64-bit integers of one kind in one step: a list, or a tensor on the device."""
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


def memory_of(tensor: Tensor) -> memoryview:
    """Return a view of a tensor's row-major bytes, without a copy if the tensor is contiguous.

    >>> list(memory_of(torch.tensor([[1], [2]], dtype=torch.int16)))
    [1, 0, 2, 0]
    """
    flat = tensor.detach().contiguous().reshape(-1)
    view: memoryview = flat.view(torch.uint8).numpy().data if flat.numel() else memoryview(b"")
    return view


class HostIntegers:
    """Converts a step's tensors on a CPU to 64-bit integers immediately."""

    algorithm = "xxh3-64"
    most_steps = 1
    """Number of steps whose values may stay on the device before they are fetched."""

    def __init__(self) -> None:
        """Create an empty cache of the weights' memory views: creating a view takes longer than reading a small tensor."""
        self._views: list[tuple[Tensor, int, memoryview]] = []

    def prints(self, tensors: Sequence[Tensor]) -> Integers:
        """Return the fingerprint of each tensor."""
        return [xxh3_64_intdigest(memory_of(tensor)) for tensor in tensors]

    def weights(self, tensors: Sequence[Tensor]) -> Integers:
        """Return the fingerprints of tensors that usually are the same objects in each step."""
        if len(self._views) != len(tensors) or not all(map(_is_unmoved, self._views, tensors)):
            self._views = [(tensor, tensor.data_ptr(), memory_of(tensor)) for tensor in tensors]
        return [xxh3_64_intdigest(view) for _, _, view in self._views]

    def number(self, value: Tensor) -> Integers:
        """Return the bits of a number, widened to float64."""
        return list(struct.unpack("<Q", struct.pack("<d", value.item())))

    def fetch(self, parts: Sequence[Integers]) -> list[list[int]]:
        """Return the integers of each part as Python integers."""
        return list(parts)


class DeviceIntegers(HostIntegers):
    """Converts a step's tensors to 64-bit integers that stay on a GPU until one copy fetches many steps."""

    algorithm = "weighted-sum-64"
    most_steps = 64

    def prints(self, tensors: Sequence[Tensor]) -> Integers:
        """Return the fingerprint of each tensor."""
        return device_prints(tensors)

    weights = prints

    def number(self, value: Tensor) -> Integers:
        """Return the bits of a number, widened to float64."""
        return value.detach().double().reshape(1).view(torch.int64)

    def fetch(self, parts: Sequence[Integers]) -> list[list[int]]:
        """Return the unsigned integers of each part, fetched with one copy."""
        everything = iter(torch.cat(list(parts)).tolist())
        return [[next(everything) % (1 << 64) for _ in range(len(part))] for part in parts]


def device_prints(tensors: Sequence[Tensor], starts: Sequence[int] | None = None) -> Tensor:
    """Return `weighted-sum-64` of each tensor, int64 `[tensors]` on their device, without a synchronization.

    With `starts`, each tensor is a part of a larger tensor and begins at this element of it: the sum of the parts' results, modulo 2^64,
    is the larger tensor's result.

    The bits of each element are an integer; the result is the sum of all elements modulo 2^64, each times an odd factor that depends on
    its position. An odd factor loses no bit, so that a change of one element is always detected.
    """
    bits = [_bits(tensor) for tensor in tensors]
    begins = starts or [0] * len(bits)
    sizes = tuple((part.element_size(), part.numel(), start) for part, start in zip(bits, begins, strict=True))
    groups, order = _layout(sizes, tensors[0].device)
    return torch.cat([group.sums([bits[index] for index in group.indices]) for group in groups])[order]


@dataclass(frozen=True, slots=True, kw_only=True)
class _TensorGroup:
    """Tensors of one element width, arranged in rows."""

    indices: list[int]
    lead: Tensor
    """The padding before the first tensor."""
    pads: list[Tensor]
    """The padding of each tensor's last row, and of the next tensor's first row."""
    columns: Tensor
    rows: Tensor
    owners: Tensor
    """The tensor of each row."""

    def sums(self, bits: Sequence[Tensor]) -> Tensor:
        """Return the weighted sum of each tensor's elements."""
        pairs = (part for pair in zip(bits, self.pads, strict=True) for part in pair)
        filled = torch.cat([self.lead, *pairs] if len(self.lead) else list(pairs)).view(-1, _ROW)
        of_rows = (filled * self.columns).sum(1) * self.rows
        return torch.zeros(len(bits), dtype=torch.int64, device=of_rows.device).index_add_(0, self.owners, of_rows)


@lru_cache(maxsize=32)
def _layout(shapes: tuple[tuple[int, int, int], ...], device: torch.device) -> tuple[list[_TensorGroup], Tensor]:
    """Return the groups of tensors by element width, and the position of each tensor's sum among the sums of the groups.

    `shapes` are the width, the number of elements, and the first element's position in the whole tensor.
    """
    groups = []
    for width in sorted({width for width, _, _ in shapes}):
        indices = [index for index, (own, _, _) in enumerate(shapes) if own == width]
        sizes = [shapes[index][1] for index in indices]
        firsts = [shapes[index][2] // _ROW for index in indices]
        leads = [shapes[index][2] % _ROW for index in indices]
        rows = [-(-(lead + size) // _ROW) for lead, size in zip(leads, sizes, strict=True)]
        ends = [count * _ROW - lead - size for count, lead, size in zip(rows, leads, sizes, strict=True)]
        pads = [
            torch.zeros(end + lead, dtype=_INTEGERS[width]) for end, lead in zip(ends, [*leads[1:], 0], strict=True)
        ]
        spread = (_odd(first + count, salt=2)[first:] for first, count in zip(firsts, rows, strict=True))
        factors = torch.cat([torch.zeros(0, dtype=torch.int64), *spread])
        groups.append(
            _TensorGroup(
                indices=indices,
                lead=torch.zeros(leads[0], dtype=_INTEGERS[width], device=device),
                pads=[pad.to(device) for pad in pads],
                columns=_odd(_ROW, salt=1).to(device),
                rows=factors.to(device),
                owners=torch.repeat_interleave(torch.tensor(rows, dtype=torch.int64)).to(device),
            )
        )
    inside = [index for group in groups for index in group.indices]
    return groups, torch.tensor(inside, dtype=torch.int64).argsort().to(device)


def _odd(count: int, *, salt: int) -> Tensor:
    """Return `count` odd numbers, spread over 64 bits."""
    spread = (torch.arange(count, dtype=torch.int64) * 4 + salt) * _GOLDEN
    mixed = (spread ^ (spread >> 29)) * _GOLDEN
    return (mixed ^ (mixed >> 32)) | 1


def _bits(tensor: Tensor) -> Tensor:
    real: Any = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    flat: Tensor = real.detach().contiguous().reshape(-1)
    return flat.view(_INTEGERS[flat.element_size()])


def _is_unmoved(view: tuple[Tensor, int, memoryview], tensor: Tensor) -> bool:
    return view[0] is tensor and view[1] == tensor.data_ptr() and tensor.is_contiguous()


def weights_of(net: nn.Module) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield each tensor that a checkpoint of `net` holds, as its name, the dict that owns it and its key: an experiment may replace it."""
    saved = net.state_dict(keep_vars=True)
    for prefix, module in net.named_modules(remove_duplicate=False):
        for owner in (module._parameters, module._buffers):  # noqa: SLF001 - torch has no other fast access: `getattr` takes 50 times as long
            for name, value in owner.items():
                full = f"{prefix}.{name}" if prefix else name
                if value is not None and full in saved:
                    yield full, owner, name


def state_of_generators(device: torch.device) -> int:
    """Return a fingerprint of the states of the global generators of torch, NumPy and Python, and of the device's generator."""
    hashed = xxh3_64(memory_of(torch.get_rng_state()))
    if device.type == "cuda":
        hashed.update(memory_of(torch.cuda.get_rng_state(device)))
    legacy: tuple[Any, ...] = np.random.get_state()  # type: ignore[assignment]  # noqa: NPY002 - the global generator
    _, keys, *rest = legacy
    hashed.update(keys.tobytes())
    version, state, gauss = random.getstate()
    hashed.update(array("L", state).tobytes())
    hashed.update(repr((rest, version, gauss)).encode())
    return hashed.intdigest()
