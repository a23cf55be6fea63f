"""What a step's tensors are to the trace: 64-bit integers, here at once or left on the device until many are fetched together.

Knows how fingerprints and numbers become integers in either place. Refuses to know what they mean in a line.
"""

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
"""Integers of one kind, of one step: a list, or a tensor on the device."""


class Sense(Protocol):
    """Where a step's values are taken."""

    algorithm: str
    held: int
    """Steps that may wait until they are fetched."""

    def prints(self, tensors: Sequence[Tensor]) -> Part:
        """Fingerprint tensors."""
        ...

    def weights(self, tensors: Sequence[Tensor]) -> Part:
        """Fingerprint the tensors that are the same in each step."""
        ...

    def number(self, value: Tensor) -> Part:
        """Take the bits of one number, widened to float64."""
        ...

    def fetched(self, parts: Sequence[Part]) -> list[list[int]]:
        """Give the integers of each part, unsigned."""
        ...


class OnHost:
    """A CPU: every value is here at once."""

    algorithm = "xxh3-64"
    held = 1

    def __init__(self) -> None:
        """Keep the views of the weights' memory."""
        self._views = Views()

    def prints(self, tensors: Sequence[Tensor]) -> Part:
        """Fingerprint tensors."""
        return host_prints(tensors)

    def weights(self, tensors: Sequence[Tensor]) -> Part:
        """Fingerprint the weights."""
        return self._views.prints(tensors)

    def number(self, value: Tensor) -> Part:
        """Take a number's bits."""
        return list(struct.unpack("<Q", struct.pack("<d", value.item())))

    def fetched(self, parts: Sequence[Part]) -> list[list[int]]:
        """Give them as they are."""
        return list(parts)


class OnDevice:
    """A GPU: nothing is asked of it but work, until many steps are fetched by one copy."""

    algorithm = "weighted-sum-64"
    held = 64

    def prints(self, tensors: Sequence[Tensor]) -> Part:
        """Fingerprint tensors."""
        return device_prints(tensors)

    def weights(self, tensors: Sequence[Tensor]) -> Part:
        """Fingerprint the weights."""
        return device_prints(tensors)

    def number(self, value: Tensor) -> Part:
        """Take a number's bits."""
        return value.detach().double().reshape(1).view(torch.int64)

    def fetched(self, parts: Sequence[Part]) -> list[list[int]]:
        """Fetch all by one copy."""
        everything = iter(torch.cat(list(parts)).tolist())
        return [[next(everything) % (1 << 64) for _ in range(len(part))] for part in parts]


def weights_of(net: nn.Module) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Name the tensors that a checkpoint of `net` holds, each with where it is looked up: an experiment may put another in its place."""
    saved = net.state_dict(keep_vars=True)
    for prefix, module in net.named_modules(remove_duplicate=False):
        for owner in (module._parameters, module._buffers):  # noqa: SLF001 - where torch keeps them; the attribute's lookup is 50 times slower
            for name, value in owner.items():
                full = f"{prefix}.{name}" if prefix else name
                if value is not None and full in saved:
                    yield full, owner, name


def state_of_generators(device: torch.device) -> int:
    """Fingerprint the states of torch's, NumPy's and Python's global generators, and of the device's."""
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
