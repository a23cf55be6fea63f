"""A run as a Python object: its record, metrics, curves as tables, net with the trained weights, and report."""

from __future__ import annotations

import html
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.base.errors import DigestMismatchError, UntrustedCodeError
from trainer.cli.configuration import runs_folder
from trainer.cli.find_run import find_run
from trainer.cli.report import report_text
from trainer.cli.trust import own_attempts_of
from trainer.notebook.tables import Table
from trainer.reporting.curves import TELEMETRY, read_curves, read_telemetry
from trainer.runs.list import list_runs
from trainer.runs.run import ATTEMPTS
from trainer.runs.verify import altered_files, remedy

if TYPE_CHECKING:
    from trainer.runs.record import Record


class Report:
    """A run's report, which a notebook displays in place."""

    def __init__(self, text: str) -> None:
        """Create a report from `text`, the HTML of the page."""
        self.text = text

    def _repr_html_(self) -> str:
        """Return the page in a frame, so that its styles do not affect the notebook."""
        return f'<iframe srcdoc="{html.escape(self.text)}" style="width:100%;height:800px;border:0"></iframe>'


@dataclass(frozen=True, slots=True)
class LoadedRun:
    """A run on this machine."""

    record: Record
    """The record of the last attempt."""
    folder: Path
    """The run's folder."""

    @property
    def id(self) -> str:
        """The run's ID."""
        return self.record.run

    @property
    def metrics(self) -> dict[str, Any]:
        """The result metrics."""
        return dict(self.record.outcome.metrics)

    @property
    def settings(self) -> dict[str, Any]:
        """The value of every setting."""
        return {**self.record.circumstances.execution, **self.record.ingredients.settings}

    def curves(self) -> Table:
        """Return the logged values, a row for each step. Raise `DigestMismatchError` if the file differs from the record."""
        self._require_recorded("metrics.jsonl")
        return _by_step(read_curves(self._attempt / "metrics.jsonl"))

    def telemetry(self) -> Table:
        """Return measurements such as learning rate, throughput and memory, a row for each step at which a value was measured.

        Raise `DigestMismatchError` if the file of the last attempt differs from the record.
        """
        self._require_recorded(TELEMETRY)
        return _by_step(
            read_telemetry(self.folder / ATTEMPTS / str(each) for each in range(1, self.record.attempt + 1))
        )

    def net(self, *, trust: bool = False) -> Any:
        """Return the net, a LightningModule, with the weights that the test evaluated, in evaluation mode on the CPU.

        The experiment's module is imported from the run's frozen source, but `trainer` from this process. Raise `UntrustedCodeError` if the
        run is from another user or machine and `trust` is false, `RunError` if the run has no weights.
        """
        from trainer.training.saved_net import load_net

        self._require_own(trust=trust)
        return load_net(self.record, self.folder)

    def predict(self, *files: str | Path, trust: bool = False) -> list[dict[str, Any]]:
        """Return the net's predictions for pictures, tables or arrays, in the form of `reprise predict --json`: `file`, `row` and `answer`.

        Raise as `net` does, and `DatasetError` if a file cannot be read like the run's dataset.
        """
        from trainer.models.prediction import load_model, predictions

        self._require_own(trust=trust)
        model = load_model(self.record, self.folder)
        return [asdict(each) for each in predictions(model, [*map(Path, files)])]

    def _require_own(self, *, trust: bool) -> None:
        if not trust and self.record.attempt not in own_attempts_of(self.folder):
            message = f"run {self.id} is from another user or machine; its net is code, which would run in this process"
            raise UntrustedCodeError(message, hint="read its source first, then add the argument trust=True")

    def report(self) -> Report:
        """Return the page of `reprise report`, which a notebook displays in place."""
        return Report(report_text([str(self.folder)]))

    def _require_recorded(self, name: str) -> None:
        files = [file for file in self.record.outcome.files if file.path == name]
        for fault in altered_files(self._attempt, files).values():
            raise DigestMismatchError(fault, hint=remedy(self._attempt, self.record))

    @property
    def _attempt(self) -> Path:
        return self.folder / ATTEMPTS / str(self.record.attempt)

    def _repr_html_(self) -> str:
        """Return the run's result as a table."""
        row = {"run": self.id, "status": str(self.record.outcome.status), **self.metrics}
        return Table([row])._repr_html_()


def load(run: str = "latest") -> LoadedRun:
    """Load a run by its ID, the start of its ID, `latest`, or its folder. A run that is only in the store is pulled.

    Raise `RunNotFoundError` if no run matches, `DocumentError` if its record cannot be read, `StoreError`.
    """
    found = find_run(run)
    return LoadedRun(found.record, found.folder)


def table() -> Table:
    """Return the runs on this machine, the newest first, with experiment, status, results, and the settings that were given."""
    return Table(_row(listed.record) for listed in list_runs(runs_folder()) if listed.record is not None)


def _row(record: Record) -> dict[str, Any]:
    origins = record.circumstances.origins
    given = {name: value for name, value in record.ingredients.settings.items() if origins.get(name) != "default"}
    return {
        "run": record.run,
        "experiment": record.ingredients.experiment,
        "status": str(record.outcome.status),
        "started": record.circumstances.timing.started,
        "seconds": record.circumstances.timing.seconds,
        **record.outcome.metrics,
        **given,
    }


def _by_step(curves: Any) -> Table:
    rows: defaultdict[float, dict[str, Any]] = defaultdict(dict)
    for name, line in curves.items():
        for step, value in zip(line.x, line.y, strict=True):
            rows[step][name] = value
    return Table({"step": int(step), **rows[step]} for step in sorted(rows))
