"""The inspection of a run's data: loaded from an earlier run, or made before the first step.

The samples of one dataset with a reader of the package are inspected once per machine. An experiment's own reader may change with its code:
at each start, its samples of val and test are inspected, and its training labels if the reader's `labels` returns them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import monotonic
from typing import TYPE_CHECKING, Final

import numpy as np

from trainer.base.errors import ExperimentError
from trainer.base.suggestions import counted
from trainer.data.inspection import Inspection, SplitValues, require_one_shape, require_readable
from trainer.data.splits import select
from trainer.training.data import Picked
from trainer.training.readers.images import PictureSamples
from trainer.training.readers.inspect import inspect_blocks, inspect_samples
from trainer.training.readers.joined import JoinedSamples
from trainer.training.readers.samples import SampleBlock
from trainer.training.tasks.verification import Pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from trainer.data.cache.inspections import CachedInspection
    from trainer.training.data import RunData
    from trainer.training.readers import Samples
    from trainer.training.readers.samples import Rows, Values
    from trainer.training.tasks.task import Task

TRAIN: Final = "train"
MEASURED: Final = ("val", "test")
_PACKAGE: Final = "trainer.training.tasks."


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspector:
    """Inspects the data of a run."""

    data: RunData
    stored: CachedInspection | None
    say: Callable[[str], None]

    def inspect(self, net: Task, *, resumed: bool = False) -> Inspection | None:
        """Return the inspection of the data of `net`; None if the run is resumed and no inspection is stored.

        Raise `DatasetError` for samples that cannot be read, and for pictures of several shapes if a batch has more than one sample.
        """
        if not has_package_reader(net):
            return None if resumed else self._of_own_reader(net.used_fields())
        seen = self.stored.read() if self.stored else None
        if seen is None and not resumed:
            seen = self._of_package_reader()
        if seen is not None:
            require_readable(seen, dataset=self.data.declared.title)
            if _reads_pictures(self._singles) and self.data.batch_size > 1:
                require_one_shape(seen, "image", dataset=self.data.declared.title)
        return seen

    def _of_package_reader(self) -> Inspection:
        began, declared, samples = monotonic(), self.data.declared, self.data.picked.samples
        splits = {name: self._rows(name) for name in declared.splits}
        seen = inspect_samples(samples, splits)
        is_stored = self.stored is not None and self.stored.write(seen)
        kept = "the result could not be kept in the cache" if self.stored else "at each run of these datasets together"
        again = "once on this machine" if is_stored else kept
        if samples.holds_values:
            count = sum(values.samples for values in seen.splits.values())
            self.say(f"{declared.title}: {counted(count, 'sample')} inspected ({monotonic() - began:.3f} s, {again})")
        return seen

    def _of_own_reader(self, fields: Sequence[str]) -> Inspection:
        """Inspect val and test, and the labels of train if the reader returns labels without reading whole samples."""
        began = monotonic()
        rows = {name: np.asarray(self._rows(name), dtype=np.int64) for name in MEASURED}
        seen = inspect_blocks(self._own_blocks(rows), rows, name=self._name)
        count = sum(map(len, rows.values()))
        message = f"{counted(count, 'sample')} of val and test read by the experiment's own reader"
        self.say(f"{self.data.declared.title}: {message} ({monotonic() - began:.3f} s)")
        train = self._own_labels(fields[-1]) if len(fields) > 1 else {}
        return Inspection(splits={**train, **seen.splits})

    def _own_labels(self, field: str) -> dict[str, SplitValues]:
        """Return the labels of train from an experiment's own reader; an empty dict if the reader has no labels."""
        rows = np.asarray(self._rows(TRAIN), dtype=np.int64)
        labels = self._singles.labels(rows.tolist())
        if labels is None:
            return {}
        if len(labels) != len(rows):
            message = f"{type(self._singles).__name__}.labels returns {len(labels):,} labels for {len(rows):,} samples"
            raise ExperimentError(message, hint="return one label for each sample, in order")
        block = SampleBlock(rows=rows, fields={field: np.asarray(labels)})
        return inspect_blocks([block], {TRAIN: rows}, name=self._name).splits

    @property
    def _name(self) -> Callable[[int], str]:
        return self.data.picked.samples.layout.name_of

    def _own_blocks(self, rows: dict[str, Rows]) -> Iterator[SampleBlock]:
        every, size = np.unique(np.concatenate(list(rows.values()))), self.data.batch_size
        picked = Picked(self._singles, seed=self.data.seed, declared={}, dataset=self.data.declared.title)
        for first in range(0, len(every), size):
            some = every[first : first + size]
            batch = picked.read([(0, int(row)) for row in some])
            fields = {
                name: values for name, value in batch.items() if (values := _values(value, len(some))) is not None
            }
            yield SampleBlock(rows=some, fields=fields)

    @property
    def _singles(self) -> Samples:
        samples = self.data.picked.samples
        if isinstance(samples, JoinedSamples):  # each part may consist of pairs
            return JoinedSamples([replace(part, samples=_singles_of(part.samples)) for part in samples.parts])
        return _singles_of(samples)

    def _rows(self, split: str) -> Sequence[int]:
        declared = self.data.declared
        return select(split, declared.splits, self.data.picked.samples.layout, dataset=declared.name)


def _singles_of(samples: Samples) -> Samples:
    return samples.singles if isinstance(samples, Pairs) else samples


def _reads_pictures(samples: Samples) -> bool:
    parts = samples.parts if isinstance(samples, JoinedSamples) else []
    return isinstance(samples, PictureSamples) or any(isinstance(part.samples, PictureSamples) for part in parts)


def has_package_reader(net: Task) -> bool:
    """Return whether a reader of the package reads the samples: the experiment does not override `samples`."""
    return type(net).samples.__module__.startswith(_PACKAGE)


def _values(value: Tensor, count: int) -> Values | None:
    """Return a field's values; None if NumPy has no such dtype or a batch does not have one row per sample."""
    try:
        values: Values = value.detach().cpu().numpy()
    except (AttributeError, TypeError, RuntimeError):
        return None
    return values if values.ndim and len(values) == count else None
