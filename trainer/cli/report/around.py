"""The sections of a report about a run's circumstances: data, environment, machine, time and files.

Unknown facts are shown as unknown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trainer.base.suggestions import counted
from trainer.cli.progress import readable
from trainer.cli.report.parts import (
    Fact,
    Row,
    badge,
    code,
    digest,
    facts,
    fold,
    lines,
    number,
    pairs,
    rows_table,
    section,
    table,
)
from trainer.cli.run_page import duration, level
from trainer.reporting.drawing.markup import Markup, joined, tag
from trainer.reporting.drawing.pictures import embedded
from trainer.runs.record import Knowledge

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from trainer.cli.report.result import Shown
    from trainer.data.declaration import Dataset
    from trainer.runs.record import Host, Record


_KNOWN: Final = {
    Knowledge.VERIFIED: ("good", "a launcher on the host looked at the container's image, and the image's own build id agrees"),
    Knowledge.ASSERTED: ("fair", ".env named the image, and its build ID agrees; no launcher inspected it from outside"),
    Knowledge.UNKNOWN: ("bad", "no digest is claimed"),
}  # fmt: skip


def data(shown: Sequence[Shown], declared: Mapping[str, Dataset], pictures: Mapping[str, bytes | str]) -> Markup | None:
    """Return the datasets with a picture of samples each, or the reason why there is no picture."""
    names = list(dict.fromkeys(name for each in shown for name in each.record.ingredients.datasets))
    parts = []
    for name in names:
        found = {each.letter: each.record.ingredients.datasets.get(name) for each in shown}
        contents = {each.content for each in found.values() if each}
        known = declared.get(name) if contents == {declared[name].content if name in declared else None} else None
        manifest = next((each.record.circumstances.manifests.get(name) for each in shown), None)
        versions = sorted({str(each.version) for each in found.values() if each})
        items = [
            ("version", ", ".join(versions)),
            ("content", joined((digest(each) for each in sorted(contents)), between=" ")),
            ("manifest", digest(manifest)),
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
    image = embedded(picture, said=f"samples of {name}")
    return tag("figure", image, class_="samples") if image else tag("p", "Samples are not shown.", class_="quiet")


def environment(shown: Sequence[Shown]) -> Markup | None:
    """Return the image, how it is known, and the differences between the environment and the built image."""
    records = [each.record for each in shown]
    images = [each.circumstances.image for each in records]
    found = [
        Fact("image", [badge(image.known.value, _KNOWN[image.known][0]) for image in images]),
        Fact("which means", [image.reason or _KNOWN[image.known][1] for image in images]),
        Fact("environment", [image.environment for image in images]),
        Fact("reference", [code(image.reference) if image.reference else None for image in images]),
        Fact("manifest", [digest(image.manifest) for image in images]),
        Fact("config", [digest(image.config) for image in images]),
        Fact("build id", [digest(image.build_id) for image in images]),
        Fact("lock", [digest(each.ingredients.lock) for each in records]),
        Fact("layers", [_layers(each) for each in records]),
        Fact("Python", [each.circumstances.inventory.python for each in records]),
        Fact("packages", [_counted(each) for each in records]),
        Fact("drift", [_drift(each) for each in records]),
    ]
    listed = facts(found, [each.letter for each in shown], corner="environment")
    return section("Environment", listed, _packages(shown))


def _layers(record: Record) -> Markup | str:
    return joined((digest(each) for each in record.ingredients.layers or []), between=" ") or "not known"


def _counted(record: Record) -> str:
    stock = record.circumstances.inventory
    return f"{len(stock.distributions)} Python, {len(stock.system)} system"


def _drift(record: Record) -> Markup | str:
    around = record.circumstances
    found = [*around.drift, *(line for line in around.drift_at_end or [] if line not in around.drift)]
    shown = lines(found[:100])
    return shown or "none: what ran is what the image was built with"


def _packages(shown: Sequence[Shown]) -> Markup | None:
    """Return the packages that differ between the runs; for one run all packages, folded."""
    stocks = [
        {name: each.version for name, each in one.record.circumstances.inventory.distributions.items()} for one in shown
    ]
    names = sorted({name for stock in stocks for name in stock})
    if len(shown) == 1:
        listed = "\n".join(f"{name} {stocks[0][name]}" for name in names[:2000])
        return fold(f"{len(names)} Python packages", tag("pre", listed, class_="packages")) if names else None
    rows = [Row(name=name, cells=tuple(stock.get(name, "none") for stock in stocks)) for name in names]
    apart = [row for row in rows if row.differs][:200]
    if not apart:
        return tag("p", "No Python package differs between these runs.", class_="quiet")
    return rows_table(apart, [each.letter for each in shown], corner="package that differs")


def machine(shown: Sequence[Shown], telemetry: Markup | None) -> Markup | None:
    """Return the host, the devices, the duration of each stage and the telemetry."""
    records = [each.record for each in shown]
    hosts, times = [each.circumstances.host for each in records], [each.circumstances.timing for each in records]
    several = any(each.record.attempt > 1 for each in shown)
    found = [
        Fact("host", [f"{host.name}, {host.system}" for host in hosts]),
        Fact("kernel", [host.kernel for host in hosts]),
        Fact("CPU", [f"{host.cpu}, {host.cores} cores, {_gibibytes(host.memory)}" for host in hosts]),
        Fact("GPU", [_gpus(host) for host in hosts]),
        Fact("driver", [host.driver for host in hosts]),
        Fact("device", [_device(each) for each in records]),
        Fact("determinism", [_level(each) for each in records]),
        Fact("took", [each.took or "not known" for each in shown]),
        *(
            Fact(
                f"of the last attempt, {stage}" if several else f"of that, {stage}",
                [duration(timing.stages.get(stage)) for timing in times],
            )
            for stage in dict.fromkeys(stage for timing in times for stage in timing.stages)
        ),
        *(
            Fact(name.replace("_", " "), [number(each.outcome.telemetry.get(name, "")) for each in records])
            for name in sorted({name for each in records for name in each.outcome.telemetry})
        ),
    ]
    return section("Machine and time", facts(found, [each.letter for each in shown], corner="machine"), telemetry)


def _gibibytes(number_of_bytes: int) -> str:
    return f"{number_of_bytes / (1 << 30):.0f} GiB"


def _gpus(host: Host) -> str:
    return ", ".join(f"{gpu.name}, {_gibibytes(gpu.memory)}" for gpu in host.gpus)


def _device(record: Record) -> str:
    device = record.ingredients.device
    return f"{device.accelerator}, {device.world_size} at once, {device.precision}"


def _level(record: Record) -> str:
    held = record.ingredients.determinism
    return f"{level(record)}, {held.threads} threads"


def files(shown: Sequence[Shown]) -> Markup | None:
    """Return every file of each run with its digest."""
    folded = []
    for each in shown:
        rows = [
            (tag("code", file.path), readable(file.size), digest(file.sha256)) for file in each.record.outcome.files
        ]
        listed = table(("file", "size", "sha256"), rows[:2000], said="files")
        folded.append(fold(f"{each.prefix}{counted(len(rows), 'file')}", listed))
    return section("Files", *folded)
