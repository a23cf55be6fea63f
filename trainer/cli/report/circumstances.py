"""The sections of a report about a run's circumstances: data, environment, machine, time and files.

Unknown facts are shown as unknown.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from trainer.base.suggestions import counted
from trainer.cli.progress import readable
from trainer.cli.report.elements import (
    Row,
    badge,
    code,
    digest,
    digests,
    fold,
    lines,
    number,
    pairs,
    rows_table,
    section,
    table,
)
from trainer.cli.report.result import facts
from trainer.cli.run_page import duration, level
from trainer.reporting.drawing.markup import Markup, tag
from trainer.reporting.drawing.pictures import embedded
from trainer.runs.record import Knowledge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from trainer.cli.report.result import PageRun
    from trainer.data.declaration import Dataset
    from trainer.runs.record import Host, Record


_KNOWN: Final = {
    Knowledge.VERIFIED: ("good", "a launcher on the host looked at the container's image, and the image's own build id agrees"),
    Knowledge.ASSERTED: ("fair", ".env named the image, and its build ID agrees; no launcher inspected it from outside"),
    Knowledge.UNKNOWN: ("bad", "no digest is claimed"),
}  # fmt: skip


def data(
    runs: Sequence[PageRun], declared: Mapping[str, Dataset], pictures: Mapping[str, bytes | str]
) -> Markup | None:
    """Return the datasets with a picture of samples each, or the reason why there is no picture."""
    parts = []
    for name in dict.fromkeys(name for each in runs for name in each.record.ingredients.datasets):
        datasets = [each.record.ingredients.datasets.get(name) for each in runs]
        contents = {each.content for each in datasets if each}
        known = declared.get(name) if contents == {declared[name].content if name in declared else None} else None
        items = [
            ("version", ", ".join(sorted({str(each.version) for each in datasets if each}))),
            ("content", digests(sorted(contents))),
            ("manifest", digest(runs[0].record.circumstances.manifests.get(name))),
            *(_declared(known) if known else ()),
        ]
        parts.append(tag("article", tag("h3", name), pairs(items), _samples(name, pictures.get(name))))
    return section("Data", *parts)


def _declared(dataset: Dataset) -> Iterator[tuple[str, object]]:
    yield "files", f"{dataset.files:,}, {readable(dataset.bytes)}"
    yield "splits", ", ".join(dataset.splits) or None
    yield "license", dataset.license or None
    yield "source", dataset.source or None


def _samples(name: str, picture: bytes | str | None) -> Markup | None:
    if picture is None:
        return None
    if isinstance(picture, str):
        return tag("p", f"Samples are not shown: {picture}", class_="quiet")
    image = embedded(picture, description=f"samples of {name}")
    return tag("figure", image, class_="samples") if image else tag("p", "Samples are not shown.", class_="quiet")


def environment(runs: Sequence[PageRun]) -> Markup | None:
    """Return the image, how it is known, and the differences between the environment and the built image."""
    getters: dict[str, Callable[[Record], object]] = {
        "lock": lambda record: digest(record.ingredients.lock),
        "layers": lambda record: digests(record.ingredients.layers or []) or "not known",
        "Python": lambda record: record.circumstances.inventory.python,
        "packages": _package_counts,
        "drift": _drift,
    }
    return section("Environment", facts(runs, "environment", _IMAGE | getters), _packages(runs))


_IMAGE: Final[dict[str, Callable[[Record], object]]] = {
    "image": lambda record: badge(record.circumstances.image.known.value, _KNOWN[record.circumstances.image.known][0]),
    "which means": lambda record: record.circumstances.image.reason or _KNOWN[record.circumstances.image.known][1],
    "environment": lambda record: record.circumstances.image.environment,
    "reference": lambda record: code(reference) if (reference := record.circumstances.image.reference) else None,
    "manifest": lambda record: digest(record.circumstances.image.manifest),
    "config": lambda record: digest(record.circumstances.image.config),
    "build id": lambda record: digest(record.circumstances.image.build_id),
}


def _package_counts(record: Record) -> str:
    inventory = record.circumstances.inventory
    return f"{len(inventory.distributions)} Python, {len(inventory.system)} system"


def _drift(record: Record) -> Markup | str:
    drift = dict.fromkeys([*record.circumstances.drift, *(record.circumstances.drift_at_end or [])])
    return lines(list(drift)[:100]) or "none: what ran is what the image was built with"


def _packages(runs: Sequence[PageRun]) -> Markup | None:
    """Return the packages that differ between the runs; for one run all packages, folded."""
    inventories = [each.record.circumstances.inventory.distributions for each in runs]
    versions = [{name: each.version for name, each in inventory.items()} for inventory in inventories]
    names = sorted({name for each in versions for name in each})
    if len(runs) == 1:
        text = "\n".join(f"{name} {versions[0][name]}" for name in names[:2000])
        return fold(f"{len(names)} Python packages", tag("pre", text, class_="packages")) if names else None
    rows = [Row(name=name, cells=tuple(each.get(name, "none") for each in versions)) for name in names]
    differing = [row for row in rows if row.differs][:200]
    if not differing:
        return tag("p", "No Python package differs between these runs.", class_="quiet")
    return rows_table(differing, [each.letter for each in runs], corner="package that differs")


def machine(runs: Sequence[PageRun], telemetry: Markup | None) -> Markup | None:
    """Return the host, the devices, the duration of each stage and the telemetry."""
    took = {(each.record.run, each.record.attempt): each.took for each in runs}
    part = "of the last attempt" if any(each.record.attempt > 1 for each in runs) else "of that"
    stages = dict.fromkeys(stage for each in runs for stage in each.record.circumstances.timing.stages)
    names = sorted({name for each in runs for name in each.record.outcome.telemetry})
    getters: dict[str, Callable[[Record], object]] = {
        "took": lambda record: took[record.run, record.attempt] or "not known",
        **{f"{part}, {stage}": partial(_stage, stage) for stage in stages},
        **{name.replace("_", " "): partial(_telemetry, name) for name in names},
    }
    return section("Machine and time", facts(runs, "machine", _HOST | getters), telemetry)


def _stage(name: str, record: Record) -> str | None:
    return duration(record.circumstances.timing.stages.get(name))


def _telemetry(name: str, record: Record) -> str:
    return number(record.outcome.telemetry.get(name, ""))


def _gibibytes(count: int) -> str:
    return f"{count / (1 << 30):.0f} GiB"


def _device(record: Record) -> str:
    device = record.ingredients.device
    return f"{device.accelerator}, {device.world_size} at once, {device.precision}"


def _cpu(host: Host) -> str:
    return f"{host.cpu}, {host.cores} cores, {_gibibytes(host.memory)}"


_HOST: Final[dict[str, Callable[[Record], object]]] = {
    "host": lambda record: f"{record.circumstances.host.name}, {record.circumstances.host.system}",
    "kernel": lambda record: record.circumstances.host.kernel,
    "CPU": lambda record: _cpu(record.circumstances.host),
    "GPU": lambda record: ", ".join(f"{gpu.name}, {_gibibytes(gpu.memory)}" for gpu in record.circumstances.host.gpus),
    "driver": lambda record: record.circumstances.host.driver,
    "device": _device,
    "determinism": lambda record: f"{level(record)}, {record.ingredients.determinism.threads} threads",
}


def files(runs: Sequence[PageRun]) -> Markup | None:
    """Return every file of each run with its digest."""
    folded = []
    for each in runs:
        outcome = each.record.outcome.files
        rows = [(tag("code", file.path), readable(file.size), digest(file.sha256)) for file in outcome[:2000]]
        listed = table(("file", "size", "sha256"), rows, label="files")
        folded.append(fold(f"{each.prefix}{counted(len(outcome), 'file')}", listed))
    return section("Files", *folded)
