"""The objects that checks share: new nets, a few samples of each split, and one monitored short fit, all created as in a run."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Final

import torch
from torch.utils.data import DataLoader

from trainer.data.splits import select
from trainer.settings.ledger import Ledger, call_configured, use_ledger
from trainer.training.assembly import open_joined
from trainer.training.checks.fit_monitor import FitObservations
from trainer.training.data import RunData
from trainer.training.determinism.seeds import derived, seed_all
from trainer.training.determinism.switches import read_switches
from trainer.training.fit import small_trainer
from trainer.training.inspection import Inspector
from trainer.training.readers import Samples
from trainer.training.step_callbacks import SeedEveryStep
from trainer.training.train_split import TrainSplit
from trainer.training.transforms import transform_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from trainer.data.cache.inspections import CachedInspection
    from trainer.data.declaration import Dataset
    from trainer.data.inspection import Inspection
    from trainer.settings.origins import Resolved
    from trainer.training.assembly import FetchedDataset
    from trainer.training.checks.short_training import LenientLedger
    from trainer.training.experiment import Experiment
    from trainer.training.readers import Batch, Pick, Sample
    from trainer.training.readers.samples import Alphabet
    from trainer.training.tasks.task import Task
    from trainer.training.transforms import SampleTransform

LARGEST_BATCH: Final = 32
BATCHES: Final = 8
"""The number of checked batches of the training split; val and test have one checked batch each."""
SPLITS: Final = ("train", "val", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckSubject:
    """The inputs of the checks."""

    experiment: Experiment
    resolved: Resolved[Any]
    root: Path
    datasets: Sequence[FetchedDataset]
    """The datasets with the splits that each provides, the dataset of train first."""
    device: str
    """`cpu` or `gpu`."""
    folder: Path
    """The folder for the files that a training run writes."""
    steps: int = 100
    """The maximum number of steps of the short fit."""
    made_up: bool = False
    """Whether the data is synthetic."""
    inspection: CachedInspection | None = None
    """Storage for the inspection of real data."""
    say: Callable[[str], None] = lambda _: None

    @property
    def title(self) -> str:
        """The titles of the datasets."""
        return " and ".join(each.title for each in self.datasets)

    @property
    def names(self) -> str:
        """The names of the datasets, for hints."""
        return " and ".join(each.declared.name for each in self.datasets)

    def declaration_of(self, split: str) -> Dataset:
        """Return the declaration of the dataset that provides a split."""
        return next((each.declared for each in self.datasets if split in each.splits), self.datasets[0].declared)


class Trial:
    """An experiment that is being checked; its objects are created on first use."""

    def __init__(self, subject: CheckSubject) -> None:
        """Limit the batch size, and use no worker processes."""
        settings = subject.resolved.settings
        self.whole_batch = int(settings.value_of("batch_size"))
        """The batch size of a run."""
        self.batch_size = min(self.whole_batch, LARGEST_BATCH)
        changes = {"batch_size": self.batch_size, "workers": 0, "devices": 1, "shards": None, "strategy": None}
        small = settings.model_copy(update=changes)
        self.subject = replace(subject, resolved=replace(subject.resolved, settings=small))
        self.ledger = Ledger(self.subject.resolved, root=subject.root)
        self.lenient_ledger: LenientLedger | None = None
        """The ledger of the first short training run; None before that run."""
        self.switches = read_switches()
        self.first_values: dict[str, tuple[float, Any]] = {}
        """For each value of the checks in `seeding`: the time of its first reading, in seconds, and the value."""
        self.device = torch.device("cuda" if subject.device == "gpu" else "cpu")
        self.double = settings.value_of("precision") == "64-true"

    def fresh(self, *, seed: int = 0) -> Task:
        """Return a new net on the device, fitted to the training split and ready for steps."""
        seed_all(derived(seed, "init"))
        net = self.subject.experiment.make_net()
        net.fit_to_train(self.train_split)
        net.setup("fit")
        return self._placed(net)

    @cached_property
    def train_split(self) -> TrainSplit:
        """Return the training split, to which each new net is fitted; it caches the computed statistics."""
        return TrainSplit(lambda: (self.samples, self.rows["train"]), dataset=self.subject.title)

    @cached_property
    def opened(self) -> tuple[Dataset, Samples]:
        """Open the samples of all datasets with the net's reader; return their common declaration and the samples.

        Raise `DatasetError` if the samples cannot be opened, or the datasets do not fit together.
        """
        return open_joined(self.subject.datasets, self.subject.experiment.make_net().samples)

    @property
    def declared(self) -> Dataset:
        """Return the declaration of the samples."""
        return self.opened[0]

    @property
    def samples(self) -> Samples:
        """Return all samples."""
        return self.opened[1]

    @cached_property
    def transform(self) -> SampleTransform | None:
        """Return the net's transform of training samples."""
        return transform_of(self.subject.experiment.make_net())

    @cached_property
    def rows(self) -> dict[str, Any]:
        """Return the numbers of each split's samples."""
        layout, declared = self.samples.layout, self.declared
        return {name: select(name, declared.splits, layout, dataset=declared.name) for name in SPLITS}

    @cached_property
    def whole(self) -> RunData:
        """Return all samples as the data of a run."""
        return call_configured(RunData, self.declared, self.samples, self.transform)

    @cached_property
    def inspection(self) -> Inspection | None:
        """Inspect real data, or load the stored inspection; None for a synthetic dataset.

        Raise `DatasetError` if a sample cannot be read.
        """
        if self.subject.made_up:
            return None
        inspector = Inspector(data=self.whole, stored=self.subject.inspection, say=self.subject.say)
        return inspector.inspect(self.fresh())

    @cached_property
    def first_samples(self) -> tuple[Dataset, Samples]:
        """Return the first samples of each split, and a declaration that matches them."""
        rows = {name: self.rows[name][: self._most(name)] for name in SPLITS}
        return select_rows(self.declared, self.samples, rows)

    def _most(self, split: str) -> int:
        """Return how many samples of a split to use; the last batch has one sample only if the split has only one.

        The check `forward` covers the last batch of a run.
        """
        count = min(self.batch_size * (BATCHES if split == "train" else 1), len(self.rows[split]))
        return count - 1 if count % self.batch_size == 1 and count > 1 else count

    def batches(self, split: str, *, as_read: bool = False) -> list[Batch]:
        """Read the checked batches of a split, in the order of the first epoch; `as_read` omits the net's transform."""
        data = call_configured(RunData, *self.first_samples, None if as_read else self.transform)
        return [self.on_device(batch) for batch in getattr(data, f"{split}_dataloader")()]

    @cached_property
    def batch(self) -> Batch:
        """Return the first training batch."""
        return self.batches("train")[0]

    @cached_property
    def given(self) -> Any:
        """Return the net's input from the batch."""
        return self.fresh()._input_and_target(self.batch)[0]  # noqa: SLF001 - a task selects its fields in this method

    @cached_property
    def input_field(self) -> str:
        """Return the name of the net's input field; an empty string if the task names no field."""
        return next(iter(self.fresh()._used), "")  # noqa: SLF001 - there is no public name

    @cached_property
    def watched(self) -> FitObservations:
        """Train on the batch, without warm-up or schedule, until its loss has halved; return the observations."""
        return self.fit(FitObservations())

    def fit(self, watch: FitObservations, *, faster: float = 1.0) -> FitObservations:
        """Train on the batch with `watch`, at `faster` times the settings' learning rate."""
        settings = self.subject.resolved.settings
        changes: dict[str, Any] = {"schedule": "constant", "warmup_steps": 0}
        changes["learning_rate"] = faster * float(settings.value_of("learning_rate"))
        changed = replace(self.subject.resolved, settings=settings.model_copy(update=changes))
        steps = self.subject.steps
        with use_ledger(Ledger(changed, root=self.subject.root)), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            watch.net = self.fresh()
            options: dict[str, Any] = {
                "max_steps": steps,
                "max_epochs": 1,
                "accumulate_grad_batches": 1,
                "logger": False,
            }
            options |= {"devices": 1, "strategy": "auto", "callbacks": [call_configured(SeedEveryStep), watch]}
            again: Any = DataLoader([self.batch] * steps, batch_size=None)  # type: ignore[arg-type] # DataLoader accepts a list
            small_trainer(self.subject.device, self.subject.folder, **options).fit(watch.net, train_dataloaders=again)
        return watch

    @cached_property
    def net(self) -> Task:
        """Return the net after the short fit, or a new net if a loss or gradient of the fit was not finite."""
        learnt = self.watched.net if self.watched.is_sound else None
        return self._placed(learnt) if learnt is not None else self.fresh()

    def _placed(self, net: Task) -> Task:
        net = net.to(self.device)
        return net.double() if self.double else net

    def on_device(self, batch: Batch) -> Batch:
        """Move a batch to the device, in the precision of the settings."""
        moved = {name: value.to(self.device) for name, value in batch.items()}
        return {
            name: value.double() if self.double and value.is_floating_point() else value
            for name, value in moved.items()
        }


def state_of(net: Task) -> dict[str, Tensor]:
    """Return copies of the parameters and buffers."""
    return {name: value.detach().clone() for name, value in [*net.named_parameters(), *net.named_buffers()]}


class SelectedSamples(Samples):
    """A selection of samples by their numbers."""

    def __init__(self, whole: Samples, rows: Sequence[int]) -> None:
        self.whole, self.rows = whole, list(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def sample(self, pick: Pick) -> Sample:
        """Read a sample."""
        return self.whole.sample(self._original(pick))

    def batch(self, picks: Sequence[Pick]) -> Batch:
        """Read a batch of samples."""
        return self.whole.batch([self._original(pick) for pick in picks])

    def stack(self, samples: Sequence[Sample]) -> Batch:
        """Return samples as a batch, as the wrapped reader does."""
        return self.whole.stack(samples)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes."""
        return self.whole.classes

    @property
    def alphabet(self) -> Alphabet:
        """The numbers of a text in a sample."""
        return self.whole.alphabet

    def _original(self, pick: Pick) -> Pick:
        return type(pick)(index=self.rows[pick.index], epoch=pick.epoch, run=pick.run)


def select_rows(
    declared: Dataset, whole: Samples, rows: Mapping[str, Sequence[int]]
) -> tuple[Dataset, SelectedSamples]:
    """Return a declaration whose splits are the given rows of each split, and the samples in these rows."""
    ends = list(accumulate((len(each) for each in rows.values()), initial=0))
    splits: dict[str, Any] = dict(zip(rows, pairwise(ends), strict=True))
    return declared.model_copy(update={"splits": splits}), SelectedSamples(
        whole, [row for each in rows.values() for row in each]
    )
