"""What is checked: a net made anew as often as it is needed, a few samples of each split, and one short fit that is watched.

Knows how each is made, by the same parts as a run. Refuses to judge any of it.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import lightning as L
import torch
from torch.utils.data import DataLoader

from trainer.data.splits import select
from trainer.settings.ledger import Ledger, kept, made
from trainer.training.checks.few import few_of
from trainer.training.checks.watch import Watch
from trainer.training.data import RunData
from trainer.training.determinism.seeds import derived, seed_all
from trainer.training.determinism.switches import read_switches
from trainer.training.fit import limits, placement
from trainer.training.inspecting import Inspector
from trainer.training.steps import SeedEveryStep

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from trainer.data.declaration import Dataset
    from trainer.data.files import Files
    from trainer.data.inspection import Inspection
    from trainer.settings.origins import Resolved
    from trainer.training.checks.using import Notebook
    from trainer.training.experiment import Experiment
    from trainer.training.inspecting import Kept
    from trainer.training.readers import Batch, Samples
    from trainer.training.tasks.task import Task

LARGEST_BATCH: Final = 32
BATCHES: Final = 8
"""Batches of the training split that are looked at; of the others one."""
SPLITS: Final = ("train", "val", "test")
_QUIET: Final[dict[str, Any]] = {
    "logger": False,
    "num_sanity_val_steps": 0,
    "limit_val_batches": 0,
    "use_distributed_sampler": False,
    "enable_model_summary": False,
    "enable_progress_bar": False,
    "enable_checkpointing": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is handed in."""

    experiment: Experiment
    resolved: Resolved[Any]
    root: Path
    dataset: Dataset
    data: Files
    device: str
    """`cpu` or `gpu`."""
    folder: Path
    """For what a training writes."""
    steps: int = 100
    """Steps of the one short fit, at most."""
    made_up: bool = False
    """Whether the data is a synthetic dataset's."""
    inspection: Kept | None = None
    """Where the inspection of real data is kept."""
    say: Callable[[str], None] = lambda _: None


class Trial:
    """A subject under check; everything in it is made when it is first asked for."""

    def __init__(self, subject: Subject) -> None:
        """Take smaller batches where they are large, and no worker processes."""
        settings = subject.resolved.settings
        self.whole_batch = int(settings.value_of("batch_size"))
        """The batch size of a run."""
        self.batch_size = min(self.whole_batch, LARGEST_BATCH)
        small = settings.model_copy(update={"batch_size": self.batch_size, "workers": 0})
        self.subject = replace(subject, resolved=replace(subject.resolved, settings=small))
        self.ledger = Ledger(self.subject.resolved, root=subject.root)
        self.notebook: Notebook | None = None
        """The ledger of a short training as a run makes it, once there was one."""
        self.switches = read_switches()
        self.looks: dict[str, tuple[float, Any]] = {}
        """What was seen when the checks began, and when, to be seen again."""
        self.device = torch.device("cuda" if subject.device == "gpu" else "cpu")
        self.double = settings.value_of("precision") == "64-true"

    def fresh(self, *, seed: int = 0) -> Task:
        """Make the net from nothing, ready for steps."""
        seed_all(derived(seed, "init"))
        net = self.subject.experiment.make_net()
        net.setup("fit")
        return self._placed(net)

    @cached_property
    def samples(self) -> Samples:
        """Open the dataset's samples, as the net has them read."""
        net = self.subject.experiment.make_net()
        return net.samples(self.subject.dataset, self.subject.data)

    @cached_property
    def rows(self) -> dict[str, Any]:
        """Choose each split's samples."""
        layout, declared = self.samples.layout, self.subject.dataset
        return {name: select(name, declared.splits, layout, dataset=declared.name) for name in SPLITS}

    @cached_property
    def whole(self) -> RunData:
        """Take all samples as a run's data."""
        return made(RunData, self.subject.dataset, self.samples)

    @cached_property
    def inspection(self) -> Inspection | None:
        """Inspect real data, or take what was kept; None for a synthetic dataset's. Raises `DatasetError`."""
        if self.subject.made_up:
            return None
        inspector = Inspector(data=self.whole, kept=self.subject.inspection, say=self.subject.say)
        return inspector.inspect(self.fresh())

    @cached_property
    def few(self) -> tuple[Dataset, Samples]:
        """Take the first samples of each split, and a declaration that fits them."""
        most = {name: self._most(name) for name in SPLITS}
        return few_of(self.subject.dataset, self.samples, {name: self.rows[name][: most[name]] for name in SPLITS})

    def _most(self, split: str) -> int:
        """How many samples: no last batch of one, unless it is the only one; a run's own last batch is looked at by itself."""
        count = min(self.batch_size * (BATCHES if split == "train" else 1), len(self.rows[split]))
        return count - 1 if count % self.batch_size == 1 and count > 1 else count

    def batches(self, split: str) -> list[Batch]:
        """Read the few batches of a split, in the order of its first epoch."""
        data = made(RunData, *self.few)
        return [self.on_device(batch) for batch in getattr(data, f"{split}_dataloader")()]

    @cached_property
    def batch(self) -> Batch:
        """Read one batch to train on."""
        return self.batches("train")[0]

    @cached_property
    def given(self) -> Tensor:
        """Take from it what the net is given."""
        return self.fresh()._parted(self.batch)[0]  # noqa: SLF001 - a task looks up its fields there

    @cached_property
    def input_field(self) -> str:
        """Name the field of a sample that the net is given; empty where its task names none."""
        return next(iter(self.fresh()._used), "")  # noqa: SLF001 - a task looks up its fields there

    @cached_property
    def watched(self) -> Watch:
        """Train on this batch again and again until its loss has fallen by half: with the settings' optimizer, no warm-up, no schedule."""
        return self.fit(Watch())

    def fit(self, watch: Watch, *, faster: float = 1.0) -> Watch:
        """Train on the one batch, watched, with a learning rate so many times the settings'."""
        settings = self.subject.resolved.settings
        told: dict[str, Any] = {"schedule": "constant", "warmup_steps": 0}
        told["learning_rate"] = faster * float(settings.value_of("learning_rate"))
        changed = replace(self.subject.resolved, settings=settings.model_copy(update=told))
        steps = self.subject.steps
        with kept(Ledger(changed, root=self.subject.root)), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            watch.net = self.fresh()
            limited = limits() | {"max_steps": steps, "max_epochs": 1, "accumulate_grad_batches": 1}
            placed = placement(self.subject.device) | {"devices": 1, "strategy": "auto"}
            callbacks = [made(SeedEveryStep), watch]
            machine = L.Trainer(
                **limited, **placed, **_QUIET, callbacks=callbacks, default_root_dir=self.subject.folder
            )
            again: Any = DataLoader([self.batch] * steps, batch_size=None)  # type: ignore[arg-type] # a list will do
            machine.fit(watch.net, train_dataloaders=again)
        return watch

    @cached_property
    def net(self) -> Task:
        """Give a net that has learnt a little, or a fresh one where that spoilt it."""
        learnt = self.watched.net if self.watched.is_sound else None
        return self._placed(learnt) if learnt is not None else self.fresh()

    def _placed(self, net: Task) -> Task:
        net = net.to(self.device)
        return net.double() if self.double else net

    def on_device(self, batch: Batch) -> Batch:
        """Bring a batch to the device, in the precision of the settings."""
        moved = {name: value.to(self.device) for name, value in batch.items()}
        return {
            name: value.double() if self.double and value.is_floating_point() else value
            for name, value in moved.items()
        }
