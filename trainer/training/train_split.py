"""The training split without transforms, to which a net fits statistics before the first step, in one streaming pass.

The sums are float64, in the order of the samples, so that they are equal on every rank and do not depend on batch size or workers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from trainer.base.errors import DatasetError, ExperimentError
from trainer.base.suggestions import did_you_mean
from trainer.data.inspection import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from trainer.training.readers import Samples
    from trainer.training.readers.samples import Rows, SampleBlock, Values

_FINITE: Final = "fill or drop these values, and publish the dataset again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Mean and standard deviation of the values at each position, float64; `count` values each."""

    mean: Values
    std: Values
    count: int


class TrainSplit:
    """The samples of the training split, in ascending order."""

    def __init__(
        self, load: Callable[[], tuple[Samples, Sequence[int]]], *, dataset: str, resumed: bool = False
    ) -> None:
        """`load` returns all samples and the numbers of the training samples; it is called when a value is first needed."""
        self.load, self.dataset = load, dataset
        self.resumed = resumed
        """Whether the run is resumed: the checkpoint then replaces all parameters and buffers."""
        self._moments: dict[tuple[str, tuple[int, ...]], Moments] = {}
        self._counts: dict[tuple[str, int], list[int]] = {}

    @cached_property
    def samples(self) -> Samples:
        """Return all samples of the dataset."""
        return self.load()[0]

    @cached_property
    def rows(self) -> Rows:
        """Return the numbers of the samples of train, ascending."""
        return np.unique(np.asarray(self.load()[1], dtype=np.int64))

    def values(self, field: str) -> Iterator[tuple[Rows, Values]]:
        """Yield the numbers and the values `[rows, ...]` of each block of samples.

        Raise `DatasetError` if samples cannot be read, or if they have no such field.
        """
        for block in self.samples.blocks(self.rows):
            if block.fault is not None:
                raise self._unread(block)
            if field not in block.fields:
                raise DatasetError(
                    f"the samples of {self.dataset} have no field {field!r}", hint=did_you_mean(field, block.fields)
                )
            yield block.rows, block.fields[field]

    def moments(self, field: str, shape: tuple[int, ...], *, by: str) -> Moments:
        """Return mean and standard deviation at each position of the first axes `shape` of a sample; `by` is the module that needs them.

        Raise `DatasetError` if the split has no sample, cannot be read, or has NaN or infinity; `ExperimentError` for another shape.
        """
        if (field, shape) not in self._moments:
            self._moments[field, shape] = self._streamed(field, shape, by)
        return self._moments[field, shape]

    def counts(self, field: str, classes: int) -> list[int]:
        """Return the number of labels of each class, from 0 to `classes` - 1; other labels are not counted."""
        if (field, classes) not in self._counts:
            total = np.zeros(classes, dtype=np.int64)
            for labels in self._labels(field):
                known = labels[(labels >= 0) & (labels < classes)]
                total += np.bincount(known.reshape(-1).astype(np.int64), minlength=classes)
            self._counts[field, classes] = total.tolist()
        return self._counts[field, classes]

    def _labels(self, field: str) -> Iterator[Values]:
        for _, values in self.values(field):
            if values.dtype.kind not in "biu":
                return
            yield values

    def _streamed(self, field: str, shape: tuple[int, ...], by: str) -> Moments:
        """Merge the moments of blocks (Chan et al., 1983); values are shifted by the first value, so that equal values have no spread."""
        shift: Any = None
        count, mean, squares = 0, np.zeros(math.prod(shape)), np.zeros(math.prod(shape))
        for rows, values in self.values(field):
            _require_shape(values, shape, field=field, by=by)
            flat = values.reshape(len(values), len(mean), -1).astype(np.float64)
            shift = flat[0, :, :1].copy() if shift is None else shift
            flat -= shift
            many = len(values) * flat.shape[2]
            found = flat.sum(axis=(0, 2)) / many
            if not np.isfinite(found).all():
                raise self._not_finite(field, rows, values, by)
            spread = np.square(flat - found[:, None]).sum(axis=(0, 2))
            apart = found - mean
            mean = mean + apart * (many / (count + many))
            squares = squares + spread + np.square(apart) * (count * many / (count + many))
            count += many
        if not count:
            raise DatasetError(
                f"{self.dataset} has no sample in split train", hint="declare a split train with samples"
            )
        return Moments(
            mean=(mean + shift[:, 0]).reshape(shape), std=np.sqrt(squares / count).reshape(shape), count=count
        )

    def _unread(self, block: SampleBlock) -> DatasetError:
        fault = block.fault
        found = fault if isinstance(fault, Fault) or fault is None else fault(int(block.rows[0]))
        return DatasetError(found.message if found else "a sample cannot be read", hint=found.hint if found else None)

    def _not_finite(self, field: str, rows: Rows, values: Values, by: str) -> DatasetError:
        odd = ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
        if odd.any():
            name = self.samples.layout.name_of(int(rows[np.flatnonzero(odd)[0]]))
            fault = f"has NaN or infinity ({name})"
        else:
            fault = "has values so large that their sum is not finite"
        message = f"{self.dataset}: field {field!r} of split train {fault}; {by} needs its mean"
        return DatasetError(message, hint=_FINITE)


def _require_shape(values: Values, shape: tuple[int, ...], *, field: str, by: str) -> None:
    found = values.shape[1:]
    if found[: len(shape)] != shape or values.dtype.kind not in "biuf":
        kind = f"{values.dtype} {list(found)}"
        message = f"{by} normalizes {list(shape)}; the samples have {field!r} as {kind}"
        axes = f"Normalize({found[0]})" if found else "Normalize()"
        raise ExperimentError(message, hint=f"pass it the first axes of a sample: {axes}")
