"""Fingerprints of distributed tensors, equal to the fingerprints of the whole tensors, which no rank has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import distributed

from trainer.training.shards.parts import elements_before, is_part, part_of
from trainer.training.shards.tree import begin_every_rank
from trainer.training.tracing.fingerprints import DeviceIntegers, Integers, device_prints

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


class PartIntegers(DeviceIntegers):
    """`weighted-sum-64` of distributed tensors: the sum of the ranks' sums over their parts. Every rank must call `prints`."""

    def __init__(self, most_steps: int) -> None:
        super().__init__()
        self.most_steps = most_steps

    def prints(self, tensors: Sequence[Tensor]) -> Integers:
        """Return the fingerprint of each tensor, the same on every rank."""
        if not any(is_part(each) for each in tensors):
            return device_prints(tensors)
        found = device_prints([part_of(each) for each in tensors], [elements_before(each) for each in tensors])
        if distributed.get_rank() > 0:  # a tensor that every rank has is counted once
            found = found * torch.tensor([is_part(each) for each in tensors], device=found.device)
        return begin_every_rank(found)().view(-1, len(tensors)).sum(0)

    weights = prints
