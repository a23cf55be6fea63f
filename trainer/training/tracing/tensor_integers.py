"""Conversion of a step's tensors to 64-bit integers for the trace: immediately on a CPU, or on a GPU with one copy for many steps."""

from __future__ import annotations

import random
import struct
from array import array
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from xxhash import xxh3_64

from trainer.training.tracing.fingerprints import Views, device_prints, host_prints, memory_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor, nn

Part = Any
"""Integers of one kind in one step: a list, or a tensor on the device."""


class Sense(Protocol):
    """The interface for converting a step's values."""

    algorithm: str
    held: int
    """Number of steps whose values may stay on the device before they are fetched."""

    def prints(self, tensors: Sequence[Tensor]) -> Part:
        """Return fingerprints of tensors."""
        ...

    def weights(self, tensors: Sequence[Tensor]) -> Part:
        """Return fingerprints of tensors that are the same objects in each step."""
        ...

    def number(self, value: Tensor) -> Part:
        """Return the bits of a number, widened to float64."""
        ...

    def fetched(self, parts: Sequence[Part]) -> list[list[int]]:
        """Return the unsigned integers of each part."""
        ...


class OnHost:
    """Conversion on a CPU: every value is available immediately."""

    algorithm = "xxh3-64"
    held = 1

    def __init__(self) -> None:
        """Create the cache of the weights' memory views."""
        self._views = Views()

    def prints(self, tensors: Sequence[Tensor]) -> Part:
        """Return fingerprints of tensors."""
        return host_prints(tensors)

    def weights(self, tensors: Sequence[Tensor]) -> Part:
        """Return fingerprints of the weights."""
        return self._views.prints(tensors)

    def number(self, value: Tensor) -> Part:
        """Return the bits of a number, widened to float64."""
        return list(struct.unpack("<Q", struct.pack("<d", value.item())))

    def fetched(self, parts: Sequence[Part]) -> list[list[int]]:
        """Return the parts unchanged."""
        return list(parts)


class OnDevice:
    """Conversion on a GPU: values stay on the device until one copy fetches many steps."""

    algorithm = "weighted-sum-64"
    held = 64

    def prints(self, tensors: Sequence[Tensor]) -> Part:
        """Return fingerprints of tensors."""
        return device_prints(tensors)

    def weights(self, tensors: Sequence[Tensor]) -> Part:
        """Return fingerprints of the weights."""
        return device_prints(tensors)

    def number(self, value: Tensor) -> Part:
        """Return the bits of a number, widened to float64."""
        return value.detach().double().reshape(1).view(torch.int64)

    def fetched(self, parts: Sequence[Part]) -> list[list[int]]:
        """Fetch all parts with one copy."""
        everything = iter(torch.cat(list(parts)).tolist())
        return [[next(everything) % (1 << 64) for _ in range(len(part))] for part in parts]


def weights_of(net: nn.Module) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield the name and location of the tensors that a checkpoint of `net` holds: an experiment may replace a tensor in its place."""
    saved = net.state_dict(keep_vars=True)
    for prefix, module in net.named_modules(remove_duplicate=False):
        for owner in (module._parameters, module._buffers):  # noqa: SLF001 - where torch keeps them; the attribute's lookup is 50 times slower
            for name, value in owner.items():
                full = f"{prefix}.{name}" if prefix else name
                if value is not None and full in saved:
                    yield full, owner, name


def state_of_generators(device: torch.device) -> int:
    """Return a fingerprint of the states of the global generators of torch, NumPy and Python, and of the device's generator."""
    hashed = xxh3_64(memory_of(torch.get_rng_state()))
    if device.type == "cuda":
        hashed.update(memory_of(torch.cuda.get_rng_state(device)))
    legacy: tuple[Any, ...] = np.random.get_state()  # type: ignore[assignment]  # noqa: NPY002 - the global one
    _, keys, *rest = legacy
    hashed.update(keys.tobytes())
    version, state, gauss = random.getstate()
    hashed.update(array("L", state).tobytes())
    hashed.update(repr((rest, version, gauss)).encode())
    return hashed.intdigest()
