"""Format runs for display: a line in a table, a page. The functions return lines and print nothing.

The text in a record may be from an untrusted user: it cannot leave its line or its cell.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, Final

from rich.cells import cell_len

from trainer.base.suggestions import counted
from trainer.base.suggestions import listed as listed_words
from trainer.cli.formatting import columns, duration, duration_text, padded, value_text
from trainer.cli.output import one_line
from trainer.cli.progress import readable
from trainer.comparison.retest import summarize_retests
from trainer.runs.attempts import changes, current_settings
from trainer.runs.metric_text import is_of_test
from trainer.runs.record import Knowledge
from trainer.settings.fields import GIVEN, Origin

_KNOWLEDGE: Final = {
    Knowledge.VERIFIED: "a launcher on the host inspected the container's image, and its build ID agrees",
    Knowledge.ASSERTED: "the process was given the image's name, and its build ID agrees; no launcher inspected the container",
    Knowledge.UNKNOWN: "no digest is claimed",
}

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pydantic import JsonValue

    from trainer.comparison.retest import Retest
    from trainer.runs.initial_weights import Ancestor
    from trainer.runs.list import ListedRun
    from trainer.runs.record import Circumstances, Image, Outcome, Record


def summary(listed: ListedRun) -> dict[str, Any]:
    """Return a run as a JSON object, for scripts."""
    record = listed.record
    row: dict[str, Any] = {
        "run": listed.run,
        "location": listed.location,
        "attempt": listed.attempt,
        "store": listed.store,
    }
    if record is None:
        return row | {"status": status(listed), "fault": listed.fault}
    return row | {
        "status": record.outcome.status,
        "died": listed.died,
        "experiment": record.ingredients.experiment,
        "settings": record.ingredients.settings,
        "retest_of": record.circumstances.retest_of,
        "purpose": record.circumstances.purpose,
        "parent": parent.run if (parent := record.circumstances.parent) else None,
        "datasets": {name: each.model_dump(mode="json") for name, each in record.ingredients.datasets.items()},
        "identity": record.identity,
        "source": record.ingredients.source,
        "imported": code.digest if (code := record.circumstances.imported) else None,
        "metrics": record.outcome.metrics,
        "undefined": record.outcome.undefined,
        "started": record.circumstances.timing.started.isoformat(),
        "seconds": record.circumstances.timing.seconds,
        "attempts": [_attempt(each) for each in listed.records],
        "changed": [line for _, lines in changes(listed.records) for line in lines],
        "current_settings": current_settings(listed.records),
    }


def _attempt(record: Record) -> dict[str, Any]:
    timing = record.circumstances.timing
    status, started = record.outcome.status, timing.started.isoformat()
    return {"attempt": record.attempt, "status": status, "started": started, "seconds": timing.seconds}


def status(listed: ListedRun) -> str:
    """Return a run's recorded status, `killed` if its process died without recording a status, or `unreadable` without a valid record."""
    if listed.record is None:
        return "unreadable"
    return "killed" if listed.died else listed.record.outcome.status.value


def headline(outcome: Outcome) -> list[tuple[str, str]]:
    """Return at most two metrics for a table: metrics on the test split, or other metrics if there are none."""
    tested = {name: value for name, value in outcome.metrics.items() if is_of_test(name)} or outcome.metrics
    metrics = sorted(tested.items())[:2]
    return [(name, "undefined" if name in outcome.undefined else value_text(value)) for name, value in metrics]


def page(
    listed: ListedRun,
    record: Record,
    *,
    retests: Iterable[Retest] = (),
    lineage: Sequence[Ancestor] = (),
    job: str | None = None,
) -> Iterator[str]:
    """Yield the page of a run, with the results of its reruns.

    `lineage` lists the runs that it descends from, the parent first. `job` describes the job of a run that was submitted to a cluster.
    """
    ingredients, circumstances, outcome = record.ingredients, record.circumstances, record.outcome
    command = circumstances.purpose and f"reprise {circumstances.purpose}"
    location = f"{listed.location} ({listed.store})" if listed.store else str(listed.location)
    yield from _block(
        "run",
        [
            ("run", f"{record.run}, attempt {record.attempt}"),
            ("status", status(listed) + (f": {outcome.reason}" if outcome.reason else "")),
            *_present(("scheduler", job)),
            ("location", location),
            ("experiment", ingredients.experiment),
            ("started", f"{_moment(listed.records[0])}, took {duration_text(listed.records, died=listed.died) or '?'}"),
            ("command", shlex.join(circumstances.command)),
            ("identity", record.identity),
            *_present(("rerun of", circumstances.retest_of), ("made by", command)),
        ],
    )
    yield from _lines("attempts", _attempts(listed) if record.attempt > 1 else ())
    yield from _lines("changed when it was resumed", _changes(listed))
    yield from _block("result", _result(outcome))
    yield from _lines("retests", summarize_retests(retests))
    yield from _lines("lineage", _lineage(record, lineage))
    yield from _block("ingredients", _ingredients(record))
    yield from _block("image", _image(circumstances.image))
    yield from _block("machine", _machine(circumstances))
    yield from _lines("drift", circumstances.drift or ["none: the software was that of the image"])
    yield from _lines("determinism off: torch flags that the net changed", circumstances.determinism_at_end or [])
    yield from _lines("not guaranteed", [f"{name}: {why}" for name, why in circumstances.limits.items()])
    if circumstances.drift_at_end is not None and circumstances.drift_at_end != circumstances.drift:
        yield from _lines("drift when it ended", circumstances.drift_at_end or ["none"])
    yield from _settings(record, current_settings(listed.records))
    yield from _lines("left out of the source", circumstances.source.left_out)
    files = [(file.path, readable(file.size), file.sha256) for file in outcome.files]
    yield from _lines("files", columns(files) if files else [])


def _attempts(listed: ListedRun) -> Iterator[str]:
    rows = []
    for record in listed.records:
        ended = record.outcome.status.value if record is not listed.record else status(listed)
        reason = f": {record.outcome.reason}" if record.outcome.reason else ""
        span = duration(record.circumstances.timing.seconds)
        rows.append((str(record.attempt), _moment(record), f"took {span}" if span else "", f"{ended}{reason}"))
    return columns(rows)


def _changes(listed: ListedRun) -> Iterator[str]:
    """Yield the differences between the attempts, and a line that says which attempts the rest of the page describes."""
    differences = changes(listed.records)
    yield from (f"attempt {number}: {line}" for number, lines in differences for line in lines)
    if differences:
        yield "ingredients and identity are those of the first attempt; the settings are those of the last attempt"


def _moment(record: Record) -> str:
    return f"{record.circumstances.timing.started:%Y-%m-%d %H:%M:%S} UTC"


def _result(outcome: Outcome) -> list[tuple[str, str]]:
    undefined = {name: f"undefined ({reason})" for name, reason in outcome.undefined.items()}
    metrics = [(name, undefined.get(name, f"{value}")) for name, value in sorted(outcome.metrics.items())]
    steps = [("steps", str(outcome.steps))] if outcome.steps is not None else []
    weights = [("weights", outcome.weights)] if outcome.weights else []
    return [*metrics, *steps, *weights]


def level(record: Record) -> str:
    """Return the level of determinism that a run kept, and the requested level if it differs."""
    requested = record.ingredients.determinism.level
    return requested if record.promise == requested else f"{record.promise}, {requested} was requested"


def _ingredients(record: Record) -> list[tuple[str, str]]:
    ingredients, source = record.ingredients, record.circumstances.source
    state = {None: "", True: ", with changes", False: ""}[source.dirty]
    determinism, device = ingredients.determinism, ingredients.device
    caps = "".join(f", {name}={value}" for name, value in determinism.capabilities.items())
    return [
        ("source", ingredients.source),
        *(
            ("", f"{counted(len(code.files), 'file')} imported, {code.digest}")
            for code in (record.circumstances.imported,)
            if code
        ),
        ("", f"{source.how}, {counted(source.files, 'file')}, {readable(source.bytes)}, commit {source.commit}{state}"),
        *([("", f"{source.project.path}: {source.project.described}")] if source.project else ()),
        ("lock", ingredients.lock or "none"),
        *(("layers" if not index else "", layer) for index, layer in enumerate(ingredients.layers or ["not known"])),
        *(
            (f"dataset {name}", f"version {item.version}, {item.content}{_roles(item.roles)}")
            for name, item in ingredients.datasets.items()
        ),
        *_initial(record),
        ("determinism", f"{level(record)}, {determinism.threads} threads{caps}"),
        ("device", f"{device.title}, precision {device.precision or 'its own'}"),
    ]


def _roles(roles: Sequence[str]) -> str:
    return f", for {listed_words(roles)}" if roles else ""


def _lineage(record: Record, lineage: Sequence[Ancestor]) -> Iterator[str]:
    """Yield a line for each run of the lineage, the oldest run first, and for the run itself."""
    for depth, each in enumerate(reversed(lineage)):
        ancestor = each.record
        facts = (
            f"{ancestor.ingredients.experiment}, {ancestor.outcome.status}" if ancestor else "its record is not found"
        )
        altered = "; its recorded weights are not those that the next run began with" if each.has_other_weights else ""
        yield f"{_branch(depth)}{each.run}  {facts}{altered}"
    if lineage:
        yield f"{_branch(len(lineage))}{record.run}  {record.ingredients.experiment}, this run"


def _branch(depth: int) -> str:
    return f"{'   ' * (depth - 1)}└─ " if depth else ""


def lineage_rows(lineage: Sequence[Ancestor]) -> list[dict[str, Any]]:
    """Return the runs that a run descends from as JSON data, the oldest run first."""
    return [
        {
            "run": each.run,
            "experiment": each.record.ingredients.experiment if each.record else None,
            "status": each.record.outcome.status if each.record else None,
            "identity": each.record.identity if each.record else None,
            "has_other_weights": each.has_other_weights,
        }
        for each in reversed(lineage)
    ]


def _initial(record: Record) -> list[tuple[str, str]]:
    parent, digest, report = (
        record.circumstances.parent,
        record.ingredients.initial_weights,
        record.outcome.loaded_weights,
    )
    rows = [("weights", f"{digest} of run {parent.run}")] if parent else []
    if report is not None:
        not_loaded = {"missing": report.missing, "unexpected": report.unexpected, "reshaped": report.reshaped}
        counts = [f"{len(names)} {kind}" for kind, names in not_loaded.items() if names]
        rows.append(("" if rows else "weights", ", ".join([counted(report.loaded, "tensor") + " loaded", *counts])))
    return rows


def _image(image: Image) -> list[tuple[str, str]]:
    differs = image.handed_build_id and image.handed_build_id != image.build_id
    return [
        ("known", f"{image.known}: {_KNOWLEDGE[image.known]}{f': {image.reason}' if image.reason else ''}"),
        *_present(
            ("environment", image.environment),
            ("reference", image.reference),
            ("manifest", image.manifest),
            ("config", image.config),
            ("build ID", image.build_id),
            ("handed in", image.handed_build_id if differs or image.known is Knowledge.UNKNOWN else None),
        ),
    ]


def _machine(circumstances: Circumstances) -> list[tuple[str, str]]:
    host = circumstances.host
    gpus = [("GPU", f"{gpu.name}, {gpu.memory / (1 << 30):.0f} GiB, {gpu.uuid}") for gpu in host.gpus]
    driver = f"{host.driver}, up to CUDA {host.cuda_driver}" if host.driver else None
    return [
        ("host", f"{host.name}, {host.system}, {host.kernel}"),
        ("CPU", f"{host.cpu}, {host.cores} cores, {host.memory / (1 << 30):.0f} GiB"),
        *gpus,
        *_present(("driver", driver)),
        ("Python", f"{circumstances.inventory.python}, {len(circumstances.inventory.distributions)} distributions"),
    ]


def _settings(record: Record, current: Mapping[str, JsonValue]) -> Iterator[str]:
    """Yield each setting with its value, its origin and its readers: given settings first, then the experiment's."""
    first = record.ingredients.settings
    values = {**current, **record.circumstances.execution}
    ledger, origins = record.outcome.ledger, record.circumstances.origins
    cells = []

    def sort_key(name: str) -> tuple[int, str]:
        origin = origins.get(name, "")
        return (0 if origin in GIVEN else 1 if origin == Origin.EXPERIMENT else 2), name

    for name in sorted(values, key=sort_key):
        value = values[name]
        readers = ", ".join(ledger[name].read) if name in ledger else ""
        bound = bool(name in ledger and ledger[name].bound)
        read = f"read by {readers}" if readers else ("bound, never read" if bound else "")
        original = f" (began with {value_text(first[name])})" if name in first and first[name] != value else ""
        cells.append((name, value_text(value) + original, record.circumstances.origin_of(name), read))
    if cells:
        yield ""
        yield "settings"
        yield from (f"  {line}" for line in columns(cells))


def _block(title: str, pairs: list[tuple[str, str]]) -> Iterator[str]:
    if not pairs:
        return
    if title != "run":
        yield ""
        yield title
    rows = [(one_line(name), one_line(value)) for name, value in pairs]
    width = max(cell_len(name) for name, _ in rows)
    margin = "" if title == "run" else "  "
    yield from (f"{margin}{padded(name, width)}  {value}" for name, value in rows)


def _lines(title: str, lines: Iterable[str]) -> Iterator[str]:
    rows = [f"  {one_line(line)}" for line in lines]
    if rows:
        yield from ("", title, *rows)


def _present(*pairs: tuple[str, str | None]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in pairs if value is not None]
