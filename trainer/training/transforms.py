"""The transform of a task's training samples: each sample has its own random numbers, so that workers and resumes change no bit.

A sample's generator is seeded from the seed of the run, the epoch and the sample's number. Torch's, NumPy's and Python's global generators
are seeded from the same values for each sample, and restored after the batch.
"""

from __future__ import annotations

import copy
import inspect
import random
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from trainer.base.errors import DatasetError, ExperimentError, RepriseError
from trainer.base.suggestions import did_you_mean, listed, type_with_article
from trainer.training.determinism.seeds import derived
from trainer.training.failures import own_failure
from trainer.training.tasks.outputs import described
from trainer.training.tasks.task import Task

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trainer.training.readers import Batch, Pick, Sample, Samples


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleTransform:
    """The `transform` of a net, applied to samples after reading and before batching."""

    net: Task
    """A copy of the net as its constructor made it, without parameter values: workers and the training process then agree."""

    @property
    def name(self) -> str:
        """The name of the method in messages."""
        return f"{type(self.net).__name__}.transform"

    def batch(self, samples: Samples, read: Sequence[tuple[Pick, Batch]]) -> Batch:
        """Transform each row of `read`, which has a batch for each pick, and return all rows as one batch.

        Raise `ExperimentError` if the transform changes a sample's structure, or if the rows do not fit together.
        """
        with global_generators_restored():
            rows = [row for pick, batch in read for row in self._rows(pick, batch)]
        try:
            return samples.stack(rows)
        except DatasetError as fault:
            raise ExperimentError(
                f"{self.name}: {fault.message}", hint="return the same shape in every call: crop, pad or resize"
            ) from fault

    def _rows(self, pick: Pick, batch: Batch) -> Iterator[Sample]:
        counts = {name: len(values) if values.ndim else 0 for name, values in batch.items()}
        if len(set(counts.values())) != 1:
            found = ", ".join(f"{name} {count}" for name, count in counts.items())
            message = f"the reader's batch of one sample has fields of different lengths ({found}); {self.name} needs one row per sample"
            raise ExperimentError(message, hint="return `[batch, ...]` for each field from the reader's `batch`")
        for place in range(next(iter(counts.values()))):
            yield self._row(pick, place, {name: values[place].clone() for name, values in batch.items()})

    def _row(self, pick: Pick, place: int, sample: Sample) -> Sample:
        """Transform the sample at `place` in the batch of a pick: a pick of a pair has two samples."""
        position = ("transform", pick.epoch, pick.index, place)
        seed_global_generators(derived(pick.run, *position, "global"))
        generator = torch.Generator().manual_seed(derived(pick.run, *position))
        found = self._called(dict(sample), generator)
        self._require_structure(found, sample)
        return {name: found[name] for name in sample}

    def _called(self, sample: Sample, generator: torch.Generator) -> Any:
        """Call the net's method; attribute its errors here, while the traceback is available."""
        try:
            with torch.no_grad():
                return self.net.transform(sample, generator)
        except RepriseError:
            raise
        except Exception as fault:
            own = own_failure(fault, file=Path(inspect.getfile(type(self.net))))
            if own is None:
                raise
            raise own from fault

    def _require_structure(self, found: Any, sample: Sample) -> None:
        keep = "change the sample's fields, and return all of them: return sample | {FIELD: VALUES}"
        if not isinstance(found, dict):
            message = f"{self.name} returns {type_with_article(found)}; expected a dict of tensors by field, {listed(list(sample))}"
            raise ExperimentError(message, hint=keep)
        if missing := [name for name in sample if name not in found]:
            message = f"{self.name} returns no field {missing[0]!r}; the sample has {listed(list(sample))}"
            raise ExperimentError(message, hint=keep)
        if added := [name for name in found if name not in sample]:
            message = f"{self.name} returns the field {added[0]!r}, which the sample does not have"
            raise ExperimentError(message, hint=did_you_mean(str(added[0]), sample))
        for name, values in sample.items():
            self._require_alike(name, found[name], values)

    def _require_alike(self, name: str, found: Any, values: Tensor) -> None:
        if not isinstance(found, Tensor):
            message = f"{self.name} returns {name!r} as {type(found).__name__}; the sample has {described(values)}"
            raise ExperimentError(message, hint="return a tensor: torch.as_tensor(VALUES)")
        if found.is_meta:
            message = f"{self.name} uses a parameter of the net for {name!r}; parameters change with each step, samples do not"
            raise ExperimentError(message, hint="compute that in `forward`, under `if self.training`")
        if found.dtype != values.dtype or found.ndim != values.ndim:
            message = f"{self.name} returns {name!r} as {described(found)}; the sample has {described(values)}"
            other = (
                "keep the number of axes"
                if found.dtype == values.dtype
                else f'return it as `.to(sample["{name}"].dtype)`'
            )
            raise ExperimentError(message, hint=f"{other}: validation and test get samples without the transform")


def transform_of(net: Task) -> SampleTransform | None:
    """Return the transform of a new net, or None if its class has none; raise `ExperimentError` if it cannot be called."""
    if type(net).transform is Task.transform:
        return None
    try:
        inspect.signature(net.transform).bind({}, None)
    except TypeError as fault:
        given = ", ".join(inspect.signature(type(net).transform).parameters)
        message = f"{type(net).__name__}.transform takes ({given}); expected (self, sample, generator)"
        raise ExperimentError(message, hint="write `def transform(self, sample, generator):`") from fault
    empty: dict[int, Any] = {id(each): torch.empty(0, device="meta") for each in net.parameters()}
    try:
        return SampleTransform(net=copy.deepcopy(net, empty))
    except Exception as fault:
        message = f"the net has a transform and cannot be copied for it: {type(fault).__name__}: {str(fault).partition(chr(10))[0]}"
        raise ExperimentError(
            message, hint="create open files, locks and handles where they are used, not in the constructor"
        ) from fault


def seed_global_generators(seed: int) -> None:
    """Seed the global generators of torch on the CPU, of NumPy and of Python."""
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - the global generator, which a transform may use
    random.seed(seed)


@contextmanager
def global_generators_restored() -> Iterator[None]:
    """Restore the state of the global generators after the block."""
    states = torch.default_generator.get_state(), np.random.get_state(), random.getstate()  # noqa: NPY002 - as above
    try:
        yield
    finally:
        torch.default_generator.set_state(states[0])
        np.random.set_state(states[1])  # noqa: NPY002 - as above
        random.setstate(states[2])
