"""Check whether a run can be reproduced on this machine, and suggest a fix for each missing requirement.

The checks change nothing: they fetch no image and unpack no source.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trainer.base.document import parse_toml, typed
from trainer.base.errors import (
    DatasetError,
    DeviceError,
    DiskFullError,
    DocumentError,
    DriftError,
    ImageMissingError,
    IncomparableError,
    IrreproducibleError,
    ObjectMissingError,
    StoreError,
)
from trainer.base.plain_text import decode_text
from trainer.base.suggestions import counted
from trainer.comparison.rerun import REBUILD, find_image, image_name, is_in_registry, rerun_arguments
from trainer.data.declaration import Dataset
from trainer.environments.doctor import Diagnosis, fault, note, run_check, well
from trainer.runs.record import RunStatus, identity_of
from trainer.runs.run import ATTEMPTS, RECORD, attempts, load_record
from trainer.runs.verify import require_intact
from trainer.source.capture import ARCHIVE
from trainer.source.copy import load_bundle
from trainer.stores.contract import object_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from trainer.environments.engine import Engine
    from trainer.runs.record import Host, Record
    from trainer.source.capture import SourceBundle
    from trainer.stores.contract import Store

_SPARE = 1 << 30
"""Bytes needed in addition to the original's files, for logs and partially written checkpoints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineResources:
    """The resources of this machine that a rerun may need."""

    engine: Engine | None
    """`None` if the run uses the current process instead of a container."""
    open_store: Callable[[], Store]
    cached: Callable[[Dataset], bool]
    """Return whether a dataset is complete in the cache; called only if the store does not have the dataset."""
    host: Host
    free: int
    """Free bytes in the folder of all runs."""
    exact: bool = True
    """Whether a run is rejected if its software differed from its image."""


def examine_run(record: Record, folder: Path, *, machine: MachineResources) -> Iterator[Diagnosis]:
    """Yield a finding for each requirement of a rerun of the run in `folder`, whose record is `record`."""
    yield run_check("outcome", lambda: _outcome(record))
    yield run_check("record", lambda: _arguments(record))
    yield run_check("files", lambda: _files(record, folder))
    yield run_check("drift", lambda: _drift(record, folder, exact=machine.exact))
    if causes := record.circumstances.determinism_at_end:
        fact = f"off, {record.ingredients.determinism.level} was requested: {causes[0]}"
        yield note("level", fact, "a bit-identical result is not guaranteed; see the verdict of the comparison")
    if (engine := machine.engine) is not None:
        yield run_check("image", lambda: _image(record, engine))
    bundles: list[SourceBundle] = []
    yield run_check("source", lambda: _source(record, folder, bundles))
    datasets = find_datasets(record, bundles[0]) if bundles else []
    for dataset in datasets:
        yield dataset if isinstance(dataset, Diagnosis) else run_check("dataset", lambda: _dataset(dataset, machine))  # noqa: B023 - called before the next iteration
    yield run_check("device", lambda: _device(record, machine.host))
    size = 2 * sum(dataset.bytes for dataset in datasets if isinstance(dataset, Dataset))
    yield run_check("disk", lambda: _disk(record, machine.free, datasets=size))


def find_datasets(record: Record, bundle: SourceBundle) -> list[Dataset | Diagnosis]:
    """Return the datasets of a record; a dataset that cannot be determined is replaced by a finding with the reason."""
    datasets: list[Dataset | Diagnosis] = []
    for name in record.ingredients.datasets:
        try:
            datasets.append(declared_dataset(record, bundle, name))
        except (DocumentError, DatasetError) as problem:
            datasets.append(fault("dataset", problem))
    return datasets


def declared_dataset(record: Record, bundle: SourceBundle, name: str) -> Dataset:
    """Return a dataset as the run's own source declares it, with only the fields that are needed to fetch it.

    Raise `DatasetError` if the source does not declare the recorded dataset, `DocumentError` if the declaration is invalid.
    """
    recorded = record.ingredients.datasets[name]
    text = next((file.data for file in bundle.files if file.path == f"datasets/{name}.toml"), None)
    if text is None:
        raise DatasetError(
            f"dataset {name!a} is not declared in the run's source",
            hint="the run was altered: delete it, or ask its author for a new copy",
        )
    where = f"datasets/{name}.toml of the run's source"
    content = parse_toml(decode_text(text, where=where), where=where)
    fields = ("name", "version", "manifest", "content", "files", "bytes")
    dataset = typed({field: content[field] for field in fields if field in content}, Dataset, where=where)
    if (dataset.name, dataset.version, dataset.content) != (name, recorded.version, recorded.content):
        message = f"{where} declares {dataset.title} of {dataset.content}; the record names {recorded.content}"
        raise DatasetError(message, hint="the run was altered: delete it, or ask its author for a new copy")
    return dataset


def _outcome(record: Record) -> Diagnosis:
    if record.outcome.status is RunStatus.RUNNING:
        raise IrreproducibleError(f"run {record.run} has not ended", hint="wait until it ends")
    require_outcome(record)
    steps = "" if record.ingredients.kind == "script" else f" after {counted(record.outcome.steps or 0, 'step')}"
    return well("outcome", f"completed{steps}, {counted(len(record.outcome.metrics), 'metric')}")


def require_outcome(record: Record) -> None:
    """Raise `IncomparableError` if a run did not complete, since a rerun then has no result to be compared with."""
    status = record.outcome.status
    if status is not RunStatus.COMPLETED:
        reason = f" ({record.outcome.reason})" if record.outcome.reason else ""
        message = f"not comparable: run {record.run} is {status}{reason}, so it has no result to compare with"
        hint = f"complete the run first: `reprise train --resume {record.run}`"
        if status is RunStatus.FAILED or record.ingredients.kind == "script":
            hint = "name a run that completed: `reprise runs ls` lists them"
        raise IncomparableError(message, hint=hint)


def _arguments(record: Record) -> Diagnosis:
    if record.identity != (identity := identity_of(record.ingredients)):
        message = f"its identity is {record.identity}; expected {identity}, the identity of its ingredients"
        raise DocumentError(message, hint="the record was edited: pull the run again")
    arguments = rerun_arguments(record)
    return well("record", f"experiment {arguments.experiment}, {counted(len(arguments.settings), 'setting')}")


def _files(record: Record, folder: Path) -> Diagnosis:
    count = require_intact(folder / ATTEMPTS / str(record.attempt), record)
    return well("files", f"{counted(count, 'file')}, as the record lists them")


def _drift(record: Record, folder: Path, *, exact: bool) -> Diagnosis:
    """Check that no attempt used software or changes beyond the image and the ingredients, since a rerun cannot restore them."""
    paths = [folder / ATTEMPTS / str(number) / RECORD for number in attempts(folder) if number != record.attempt]
    lines: dict[str, None] = {}
    for each in (*(load_record(path) for path in paths if path.exists()), record):
        facts = each.circumstances
        changed = [f"changed when it was resumed: {line}" for line in facts.changed]
        lines |= dict.fromkeys([*changed, *facts.drift, *(facts.drift_at_end or [])])
    if not lines:
        return well("drift", "the software was that of the image")
    more = f" (and {len(lines) - 1} more: reprise runs show {record.run})" if len(lines) > 1 else ""
    message = f"the software differed from the image: {next(iter(lines))}{more}"
    if exact:
        hint = "train again in a new container and use that run, or accept the drift: --allow-drift"
        raise DriftError(message, hint=hint)
    return note("drift", message, "accepted: a bit-identical result is not guaranteed")


def _image(record: Record, engine: Engine) -> Diagnosis:
    name = image_name(record)
    if find_image(name, engine=engine):
        return well("image", f"{name} is on this machine")
    if is_in_registry(name, engine=engine):
        return note("image", f"{name} is not on this machine, but in its registry", f"docker pull {name}")
    missing = (
        f"registry {name.registry} does not have it"
        if name.registry
        else "the image was built locally and never pushed"
    )
    hint = REBUILD.replace("ENVIRONMENT", record.circumstances.image.environment or "cpu")
    raise ImageMissingError(f"{name} is not on this machine, and {missing}", hint=hint)


def _source(record: Record, folder: Path, into: list[SourceBundle]) -> Diagnosis:
    bundle = load_bundle(folder / ARCHIVE, digest=record.ingredients.source)
    into.append(bundle)
    return well("source", f"{counted(len(bundle.files), 'file')}, {bundle.source.bytes / 1e6:.1f} MB, {bundle.digest}")


def _dataset(dataset: Dataset, machine: MachineResources) -> Diagnosis:
    try:
        store = machine.open_store()
        if store.size(object_key(dataset.manifest)) is not None:
            return well("dataset", f"{dataset.title} is in {store.label}")
        hint = f"publish it there: {dataset.upload_command}"
        problem: StoreError = ObjectMissingError(f"it is not in {store.label}", hint=hint)
    except StoreError as fault:
        problem = fault
    if machine.cached(dataset):
        return note("dataset", f"{dataset.title} is only in the cache: {problem.message}", problem.hint or "")
    raise type(problem)(f"{dataset.title} is not in the cache, and {problem.message}", hint=problem.hint)


def _device(record: Record, host: Host) -> Diagnosis:
    recorded, device, level = record.circumstances.host, record.ingredients.device, record.promise
    if device.accelerator != "cuda":
        if recorded.cpu == host.cpu or level == "portable":
            return well("device", f"{host.cpu}, determinism {level}")
        message = f"recorded on {recorded.cpu}; this machine has {host.cpu}: a bit-identical result is not guaranteed at level {level}"
        return note("device", message, "see the verdict of the comparison")
    recorded_names, own_names = (", ".join(sorted({gpu.name for gpu in each.gpus})) for each in (recorded, host))
    recorded_names = recorded_names or "a GPU"
    needed = device.world_size or len(recorded.gpus)
    if len(host.gpus) < needed:
        message = f"recorded on {needed} x {recorded_names}; this machine has {counted(len(host.gpus), 'GPU')}"
        raise DeviceError(message, hint="use a machine with these GPUs")
    if own_names != recorded_names:
        message = (
            f"recorded on {recorded_names}; this machine has {own_names}: a bit-identical result is not guaranteed"
        )
        return note("device", message, "see the verdict of the comparison")
    driver = "" if recorded.driver == host.driver else f", driver {host.driver} instead of {recorded.driver}"
    return well("device", f"{own_names}{driver}")


def _disk(record: Record, free: int, *, datasets: int) -> Diagnosis:
    """Check that there is space for the run's own files and for two copies of its datasets, in the mounted store and in the run's cache."""
    needed = sum(file.size for file in record.outcome.files) + datasets + _SPARE
    if free < needed:
        message = f"{free / 1e9:.1f} GB free in the runs folder; this run needs about {needed / 1e9:.1f} GB"
        raise DiskFullError(message, hint="free space there")
    return well("disk", f"{free / 1e9:.0f} GB free in the runs folder")


def require_reproducible(findings: list[Diagnosis]) -> None:
    """Raise `IrreproducibleError` if a finding is a fault; the message states the first fault and counts the others."""
    faults = [finding for finding in findings if finding.code]
    if faults:
        more = f" (and {len(faults) - 1} more: reprise doctor RUN)" if len(faults) > 1 else ""
        raise IrreproducibleError(f"{faults[0].about}: {faults[0].found}{more}", hint=faults[0].remedy)
