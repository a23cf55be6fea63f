"""The sections of a report about a run's inputs and circumstances: settings, code, data, environment, machine, time and files.

Settings that were given for the run are first. The readers of a value come from the record's ledger. Unknown facts are shown as unknown.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from trainer.base.suggestions import counted
from trainer.cli.formatting import duration
from trainer.cli.progress import readable
from trainer.cli.report.elements import (
    TableRow,
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
    value,
)
from trainer.cli.report.result import facts
from trainer.cli.run_page import level
from trainer.reporting.drawing.markup import Markup, embedded, joined, tag
from trainer.runs.attempts import changes
from trainer.runs.record import Knowledge
from trainer.settings.fields import GIVEN, Origin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from trainer.cli.report.result import PageRun
    from trainer.data.declaration import Dataset
    from trainer.runs.record import Host, Record

_DEFAULT: Final = 2
"""The rank of a default, which is last."""
_STATE: Final = {None: "unknown", True: badge("with changes", "fair"), False: "as committed"}
_CODE: Final[dict[str, Callable[[Record], object]]] = {
    "source": lambda record: digest(record.ingredients.source),
    "commit": lambda record: code(record.circumstances.source.commit),
    "state": lambda record: _STATE[record.circumstances.source.dirty],
    "project": lambda record: project.described if (project := record.circumstances.source.project) else None,
    "how": lambda record: record.circumstances.source.how,
    "files": lambda record: f"{record.circumstances.source.files:,}, {readable(record.circumstances.source.bytes)}",
}


def settings(runs: Sequence[PageRun]) -> Markup | None:
    """Return the value of every setting: given values, then the experiment's values. Defaults, or values equal in all runs, are folded."""
    return section(
        "Settings", *_changed(runs), *(_settings_of_runs(runs) if len(runs) > 1 else _settings_of_run(runs[0]))
    )


def _changed(runs: Sequence[PageRun]) -> Iterator[Markup | None]:
    for each in runs:
        if changed := [
            f"attempt {number}: {line}" for number, differences in changes(each.records) for line in differences
        ]:
            yield tag(
                "p", f"{each.prefix}changed when the run was resumed; the table shows the values of the last attempt:"
            )
            yield lines(changed)


def _settings_of_runs(runs: Sequence[PageRun]) -> Iterator[Markup | None]:
    values, heads = [each.values for each in runs], [each.letter for each in runs]
    origins = [each.record.circumstances.origins for each in runs]
    rows = {
        name: TableRow(
            name=name,
            cells=tuple(value(each[name]) if name in each else "" for each in values),
            is_given=any(each.get(name) in GIVEN for each in origins),
        )
        for name in {name for each in values for name in each}
    }
    ranked = sorted(rows, key=lambda name: (min(_rank(each.get(name, "")) for each in origins), name))
    differing, equal = ([rows[name] for name in ranked if rows[name].differs is differs] for differs in (True, False))
    yield rows_table(differing, heads, corner="setting") or tag("p", "All runs have the same settings.", class_="quiet")
    yield fold(f"{counted(len(equal), 'setting')} equal in all runs", rows_table(equal, heads, corner="setting"))


def _settings_of_run(run: PageRun) -> Iterator[Markup | None]:
    origins, unread = run.record.circumstances.origins, set(run.record.outcome.unread)
    ranked = sorted(run.values, key=lambda name: (_rank(origins.get(name, "")), name))
    first = [name for name in ranked if _rank(origins.get(name, "")) < _DEFAULT or name in unread]
    if not any(origins.get(name) in GIVEN for name in ranked):
        yield tag(
            "p", "No settings were given: all values are defaults of the experiment or of Reprise.", class_="quiet"
        )
    yield _ledger(run, first)
    others = [name for name in ranked if name not in first]
    yield fold(f"{len(others)} defaults", _ledger(run, others))


def _ledger(run: PageRun, names: Sequence[str]) -> Markup | None:
    """Return a table with each setting's value, origin, and the code to which the value is bound and that reads it."""
    values, origins = run.values, run.record.circumstances.origins
    rows = [
        (name, value(values[name]), run.record.circumstances.origin_of(name), *_readers(run.record, name))
        for name in names
    ]
    kinds = ["given" if origins.get(name) in GIVEN else "" for name in names]
    return table(("setting", "value", "origin", "bound to", "read by"), rows, label="settings", kinds=kinds)


def _readers(record: Record, name: str) -> tuple[object, object]:
    entry = record.outcome.ledger.get(name)
    if entry is None:
        return "", ""
    if name in record.outcome.unread:
        return _code_locations(entry.bound), badge("never read", "bad")
    return _code_locations(entry.bound), _code_locations(
        ["the same"] if entry.read and entry.read == entry.bound else entry.read
    )


def _code_locations(names: Sequence[str]) -> Markup:
    return joined((tag("span", name, class_="place") for name in names), between=" ")


def _rank(origin: str) -> int:
    return 0 if origin in GIVEN else 1 if origin == Origin.EXPERIMENT else _DEFAULT


def source(runs: Sequence[PageRun]) -> Markup | None:
    """Return the origin of the code, and the experiment's module as it was run."""
    omitted = [
        fold(f"{each.prefix}left out of the source", lines(each.record.circumstances.source.left_out[:100]))
        for each in runs
    ]
    return section("Code", facts(runs, "code", _CODE), *omitted, *_modules(runs))


def _modules(runs: Sequence[PageRun]) -> Iterator[Markup | None]:
    """Yield each experiment's module once, with the letters of its runs."""
    for module in dict.fromkeys(each.run.code for each in runs if each.run.code):
        letters = ", ".join(each.letter for each in runs if each.run.code == module)
        suffix = f", as in {letters}" if len(runs) > 1 else ""
        yield fold(f"{module[0]}{suffix}", tag("pre", module[1], class_="code"))


_KNOWLEDGE: Final = {
    Knowledge.VERIFIED: ("good", "a launcher on the host inspected the container's image, and its build ID agrees"),
    Knowledge.ASSERTED: ("fair", "the process was given the image's name, and its build ID agrees; no launcher inspected the container"),
    Knowledge.UNKNOWN: ("bad", "no digest is claimed"),
}  # fmt: skip


def data(
    runs: Sequence[PageRun], declared: Mapping[str, Dataset], pictures: Mapping[str, bytes | str]
) -> Markup | None:
    """Return the datasets, each with a picture of samples or the reason why there is no picture."""
    parts = []
    for name in dict.fromkeys(name for each in runs for name in each.record.ingredients.datasets):
        datasets = [each.record.ingredients.datasets.get(name) for each in runs]
        contents = {each.content for each in datasets if each}
        dataset = declared.get(name) if contents == {declared[name].content if name in declared else None} else None
        items = [
            ("version", ", ".join(sorted({str(each.version) for each in datasets if each}))),
            ("content", digests(sorted(contents))),
            ("manifest", digest(runs[0].record.circumstances.manifests.get(name))),
            *(_declared(dataset) if dataset else ()),
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
    """Return the image, how it was determined, and the differences between the environment and the built image."""
    getters: dict[str, Callable[[Record], object]] = {
        "lock": lambda record: digest(record.ingredients.lock),
        "layers": lambda record: digests(record.ingredients.layers or []) or "unknown",
        "Python": lambda record: record.circumstances.inventory.python,
        "packages": _package_counts,
        "drift": _drift,
    }
    return section("Environment", facts(runs, "environment", _IMAGE | getters), _packages(runs))


_IMAGE: Final[dict[str, Callable[[Record], object]]] = {
    "image": lambda record: badge(
        record.circumstances.image.known.value, _KNOWLEDGE[record.circumstances.image.known][0]
    ),
    "which means": lambda record: record.circumstances.image.reason or _KNOWLEDGE[record.circumstances.image.known][1],
    "environment": lambda record: record.circumstances.image.environment,
    "reference": lambda record: code(reference) if (reference := record.circumstances.image.reference) else None,
    "manifest": lambda record: digest(record.circumstances.image.manifest),
    "config": lambda record: digest(record.circumstances.image.config),
    "build ID": lambda record: digest(record.circumstances.image.build_id),
}


def _package_counts(record: Record) -> str:
    inventory = record.circumstances.inventory
    return f"{len(inventory.distributions)} Python, {len(inventory.system)} system"


def _drift(record: Record) -> Markup | str:
    drift = dict.fromkeys([*record.circumstances.drift, *(record.circumstances.drift_at_end or [])])
    return lines(list(drift)[:100]) or "none: the software was the image's"


def _packages(runs: Sequence[PageRun]) -> Markup | None:
    inventories = [each.record.circumstances.inventory.distributions for each in runs]
    versions = [{name: each.version for name, each in inventory.items()} for inventory in inventories]
    names = sorted({name for each in versions for name in each})
    if len(runs) == 1:
        text = "\n".join(f"{name} {versions[0][name]}" for name in names[:2000])
        return fold(f"{len(names)} Python packages", tag("pre", text, class_="packages")) if names else None
    rows = [TableRow(name=name, cells=tuple(each.get(name, "none") for each in versions)) for name in names]
    differing = [row for row in rows if row.differs][:200]
    if not differing:
        return tag("p", "No Python package differs between these runs.", class_="quiet")
    return rows_table(differing, [each.letter for each in runs], corner="package that differs")


def machine(runs: Sequence[PageRun], telemetry: Markup | None) -> Markup | None:
    """Return the host, the devices, the duration of each stage and the telemetry."""
    durations = {(each.record.run, each.record.attempt): each.duration for each in runs}
    part = "of the last attempt" if any(each.record.attempt > 1 for each in runs) else "of that"
    stages = dict.fromkeys(stage for each in runs for stage in each.record.circumstances.timing.stages)
    names = sorted({name for each in runs for name in each.record.outcome.telemetry})
    getters: dict[str, Callable[[Record], object]] = {
        "took": lambda record: durations[record.run, record.attempt] or "unknown",
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
    return f"{device.title}, {device.precision or 'its own precision'}"


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
    "not guaranteed": lambda record: "; ".join(f"{name}: {why}" for name, why in record.circumstances.limits.items()),
}


def files(runs: Sequence[PageRun]) -> Markup | None:
    """Return the files of each run with their digests, at most 2,000 files for each run."""
    folded = []
    for each in runs:
        outcome = each.record.outcome.files
        rows = [(tag("code", file.path), readable(file.size), digest(file.sha256)) for file in outcome[:2000]]
        listed = table(("file", "size", "sha256"), rows, label="files")
        folded.append(fold(f"{each.prefix}{counted(len(outcome), 'file')}", listed))
    return section("Files", *folded)
