"""The inputs of a training run, and their assembly: net, data, and the parts that only one kind of experiment needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import lightning as L

from trainer.base.errors import (
    ExperimentError,
    SettingError,
)
from trainer.runs.identify import roles_in
from trainer.settings.hints import option
from trainer.settings.ledger import call_configured, configured
from trainer.settings.shards import shards_of
from trainer.training.compilation import compiling
from trainer.training.data import RunData
from trainer.training.figures.gallery import Gallery
from trainer.training.initial_weights import load_initial_weights
from trainer.training.inspection import Inspector
from trainer.training.logs.losses import LossLines
from trainer.training.normalization import Normalize
from trainer.training.optimization.callbacks import averaging
from trainer.training.plain.experiment import PlainExperiment
from trainer.training.plain.loaders import HOOKS, ControlledLoaders
from trainer.training.readers import open_samples
from trainer.training.readers.joined import JoinedSamples, RolePart, join, title_of
from trainer.training.results import CollectResults
from trainer.training.shards.support import require_sharded
from trainer.training.tasks.fit_checks import CheckNet
from trainer.training.transforms import transform_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from lightning.pytorch.callbacks import Callback

    from trainer.data.cache.inspections import CachedInspection
    from trainer.data.declaration import Dataset
    from trainer.data.files import Files
    from trainer.data.inspection import Inspection
    from trainer.runs.checkpoint_pointer import Saved
    from trainer.runs.record import LoadedWeights, Record
    from trainer.settings.fields import LaunchSettings
    from trainer.settings.ledger import Ledger
    from trainer.training.determinism.switches import WatchSwitches
    from trainer.training.experiment import Experiment
    from trainer.training.initial_weights import WeightsFile
    from trainer.training.logs.telemetry import Gauges
    from trainer.training.readers import Samples
    from trainer.training.resuming.stop_requests import StopRequest
    from trainer.training.shards.place import RankPlace


_SCALED: Final = "16-mixed"
"""The precision that scales gradients: with distributed parameters, each rank would look for infinities only in its own parts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """The inputs of a training run."""

    run: str
    experiment: Experiment | PlainExperiment
    ledger: Ledger
    datasets: Sequence[FetchedDataset]
    """The datasets that the settings name; a task has at least one dataset, the dataset of train first."""
    into: Path
    """The folder of the attempt."""
    stop: StopRequest
    say: Callable[[str], None]
    on_first_step: Callable[[], None]
    """Called when the first step begins: from then on the run is recorded."""
    on_terminal: bool
    device: str
    """The device that the launcher found: `cpu` or `gpu`."""
    started: float
    """The time on the monotonic clock when the command started."""
    saved: Saved | None = None
    """The checkpoint in the attempt's folder from which to resume."""
    initial: WeightsFile | None = None
    """The file whose tensors replace the net's initial weights; not used if the run resumes from a checkpoint."""
    on_loaded: Callable[[LoadedWeights], None] = lambda _: None
    """Called with the report of the loaded tensors."""
    record: Record | None = None
    """The run's record, if this process writes it."""
    inspection: CachedInspection | None = None
    """The cache entry of the dataset's inspection, in the process with the record; None if there are several datasets."""
    on_switched: Callable[[str], None] = lambda _: None
    """Called with a message for each global torch flag that the net changed."""
    on_limit: Callable[[str, str], object] = lambda _, __: None
    """Called with each guarantee that the run lacks, such as `resume`, and the reason."""
    on_saved: Callable[[Saved], None] = lambda _: None
    """Called between two batches with each checkpoint that was saved."""
    gauges: Gauges = lambda _: {}
    """Returns measurements of this process and of its GPU."""
    place: RankPlace | None = None
    """The place of this process among the processes of a run on several devices."""
    check_ranks: Callable[[], None] = lambda: None
    """Raises if the process of another rank has ended, or if this process must stop."""
    watching: Sequence[Callback] = ()
    """Additional callbacks from a command that observes the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedDataset:
    """A dataset and its files."""

    declared: Dataset
    files: Files
    splits: tuple[str, ...] = ()
    """The splits that the dataset provides, if the run names several datasets by role; otherwise empty."""

    @property
    def title(self) -> str:
        """The dataset's title, with its splits."""
        return title_of(self.declared, self.splits)


def by_role(settings: LaunchSettings, datasets: Iterable[tuple[Dataset, Files]]) -> list[FetchedDataset]:
    """Return the datasets and their files; each has the splits that it provides if the settings name several datasets by role."""
    roles = roles_in(settings)
    return [
        FetchedDataset(declared=declared, files=files, splits=tuple(roles.get(declared.name, ())))
        for declared, files in datasets
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """The net and the data of a training run, and the parts that only its kind of experiment needs."""

    net: L.LightningModule
    data: L.LightningDataModule | None
    start_at: Callable[..., None]
    """Moves the training data to `epoch` and `batch`."""
    losses: list[Any] = field(default_factory=list)
    """Callbacks that log the loss and average the weights."""
    checks: list[Any] = field(default_factory=list)
    """Callbacks that check the net before the first step, and compile it."""
    outputs: list[Any] = field(default_factory=list)
    """Callbacks that collect results or write additional files."""
    saves_within_epoch: Callable[[], bool] = lambda: True
    inspection: Inspection | None = None


def assemble(job: TrainingJob, switches: WatchSwitches) -> Assembly:
    """Create the net and the data of a job, and the parts that its kind of experiment needs.

    Raise `SettingError` for a setting that has no effect on the net or that the net does not support.
    """
    if isinstance(job.experiment, PlainExperiment):
        return _assemble_plain(job, job.experiment, switches)
    return _assemble_task(job, job.experiment, switches)


def _assemble_task(job: TrainingJob, experiment: Experiment, switches: WatchSwitches) -> Assembly:
    net = experiment.make_net()
    switches.require_unchanged("the constructor of the net")
    call_configured(require_optimizing, net)
    call_configured(require_shardable, net)
    call_configured(require_distributed, net)
    load_initial(job, net)
    declared, samples = open_joined(job.datasets, net.samples)
    net.class_names, net.alphabet = samples.classes, samples.alphabet
    data = call_configured(RunData, declared, samples, transform_of(net))
    data.require_splits(experiment.splits)
    if job.record and (notice := data.neighborhood.notice(data.count_of("train"))):
        job.say(notice)
    first = job.datasets[0].declared
    drawn = samples.parts[0].samples if isinstance(samples, JoinedSamples) else samples
    shown = Gallery(job.into, job.say, dataset=first, samples=drawn)
    inspector = Inspector(data=data, stored=job.inspection, say=job.say)
    seen = inspector.inspect(net, resumed=job.saved is not None) if job.record else None  # only rank 0 has the record
    fitted = net.fit_to_train(data.train_split(resumed=job.saved is not None))
    for line in fitted if job.record else ():
        job.say(line)
    return Assembly(
        net=net,
        data=data,
        start_at=data.start_at,
        losses=[call_configured(LossLines), *call_configured(averaging)],
        checks=[CheckNet(experiment, data, seen, job.say), *call_configured(compiling, job.device)],
        outputs=[shown],
        inspection=seen,
    )


def _assemble_plain(job: TrainingJob, experiment: PlainExperiment, switches: WatchSwitches) -> Assembly:
    folders = {each.declared.name: each.files.folder() for each in job.datasets}
    net = experiment.make_net(folders)
    switches.require_unchanged("the constructor of the net")
    call_configured(require_optimizing, net)
    call_configured(require_shardable, net)
    call_configured(require_whole_parameters, net)
    require_no_normalize(net)
    load_initial(job, net)
    job.on_limit("export", experiment.export_limit(net))
    compiles_itself = any(each.name == "compile" for each in experiment.parameters)
    checks = [] if compiles_itself else call_configured(compiling, job.device)
    if experiment.reads_samples:
        several = [each for each in job.datasets if each.splits]
        read = call_configured(RunData, *open_joined(several or job.datasets[:1], open_samples), None)
        read.require_splits(job.experiment.splits)
        return Assembly(net=net, data=read, start_at=read.start_at, checks=checks, outputs=[CollectResults()])
    data = experiment.make_data(folders)
    if data is not None:
        call_configured(require_shardable, data)
    loaders = call_configured(ControlledLoaders, job.on_limit)
    for owner, base in ((net, L.LightningModule), (data, L.LightningDataModule)):
        own = [hook for hook in HOOKS if owner is not None and getattr(type(owner), hook) is not getattr(base, hook)]
        loaders.control(owner, own)
    if not job.datasets:
        job.on_limit("data", "the data are not a dataset: their bytes are not recorded")
    return Assembly(
        net=net,
        data=data,
        start_at=loaders.start_at,
        checks=checks,
        outputs=[CollectResults()],
        saves_within_epoch=lambda: loaders.resumes_within_epoch,
    )


def open_joined(
    datasets: Sequence[FetchedDataset], read: Callable[[Dataset, Files], Samples]
) -> tuple[Dataset, Samples]:
    """Return the declaration and the samples of one dataset, or of several by role. Raise `DatasetError` if several do not fit together."""
    return join(
        [
            RolePart(declared=each.declared, samples=read(each.declared, each.files), splits=each.splits)
            for each in datasets
        ]
    )


def load_initial(job: TrainingJob, net: L.LightningModule) -> None:
    """Replace the net's initial weights with the tensors of `init_from`. A resumed run skips this: its checkpoint has all weights."""
    say = job.say if job.record else lambda _: None
    if job.saved is None and (report := call_configured(load_initial_weights, net, job.initial, say)):
        job.on_loaded(report)


@configured
def require_shardable(part: L.LightningModule | L.LightningDataModule, *, devices: int, shards: int | None) -> None:
    """Raise `SettingError` if a batch has several shards, and the steps of a net or data module cannot be computed by shards."""
    if shards_of(shards, devices=devices) > 1:
        require_sharded(part, shards=shards_of(shards, devices=devices))


@configured
def require_distributed(
    net: L.LightningModule,
    *,
    strategy: str | None,
    precision: str,
    compile: bool,  # noqa: A002 - the setting's name
    ema_decay: float | None,
) -> None:
    """Raise `SettingError` for a net, or for another setting, that the setting `strategy` does not support."""
    if strategy is None:
        return
    for name, value, is_supported in (
        ("precision", precision, precision != _SCALED),
        ("compile", "on", not compile),
        ("ema_decay", ema_decay, ema_decay is None),
    ):
        if not is_supported:
            message = f"setting strategy is {strategy}, which does not support {name} {value}"
            raise SettingError(message, hint="use another value, or omit --strategy")
    from trainer.training.shards.fully_sharded import require_distributable

    require_distributable(net)


@configured
def require_whole_parameters(net: L.LightningModule, *, strategy: str | None) -> None:
    """Raise `SettingError` if the setting `strategy` would distribute the parameters of a plain module."""
    if strategy is not None:
        message = f"setting strategy is {strategy}, but {type(net).__name__} is a plain LightningModule, which does not support it"
        raise SettingError(message, hint="omit --strategy, or derive the net from a task (docs/how-to/experiments.md)")


@configured
def require_optimizing(net: L.LightningModule, *, accumulate: int, clip_norm: float | None) -> None:
    """Raise `SettingError` for a setting that has no effect because the net uses manual optimization."""
    if net.automatic_optimization:
        return
    for name, is_given in (("accumulate", accumulate != 1), ("clip_norm", clip_norm is not None)):
        if is_given:
            message = f"setting {name} has no effect: {type(net).__name__} optimizes manually"
            raise SettingError(
                message, hint=f"omit {option(name)}; with manual optimization, training_step must do this"
            )


def require_no_normalize(net: L.LightningModule) -> None:
    """Raise `ExperimentError` for a `Normalize` in a plain LightningModule: a run fits it only in a task's net."""
    if name := next((name for name, each in net.named_modules() if isinstance(each, Normalize)), None):
        message = f"{type(net).__name__}.{name} is a Normalize, which a run fits only in the net of a task"
        raise ExperimentError(
            message, hint="derive the net from a task (docs/how-to/experiments.md), or use nn.BatchNorm1d"
        )
