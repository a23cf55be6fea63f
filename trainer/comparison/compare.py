"""Compare two runs: the verdict, and all available evidence.

Two records suffice for a verdict. If a file with further evidence is missing, the comparison has a note about it. Neither torch nor a
container engine is needed. The first step at which the runs diverge is found in their traces or, if a trace is missing, in their logged
metrics, which only bound the step if not every step is logged.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from trainer.base.document import json_value
from trainer.base.errors import DocumentError, RunError, RunNotFoundError
from trainer.base.run_files import open_run_file
from trainer.comparison.compare_ingredients import code_diff, dataset_diff
from trainer.comparison.compare_outputs import OutputDifference, compare_outputs
from trainer.comparison.noise import FOLDER, measured_noise
from trainer.comparison.trace import FILE as TRACE
from trainer.comparison.trace import Difference, Stream, comparable_streams, first_difference, read_trace
from trainer.comparison.verdict import Verdict, VerdictLevel, judge, number_of
from trainer.comparison.weights import TENSORS, compare_weights
from trainer.runs.differences import UNIMPORTED, DifferenceKind, candidates
from trainer.runs.run import ATTEMPTS, RECORD, load_record, recorded_attempts
from trainer.runs.verify import altered_files, remedy
from trainer.source.capture import ARCHIVE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trainer.comparison.weights import WeightsComparison
    from trainer.runs.differences import Candidate
    from trainer.runs.record import Record
    from trainer.stores.contract import Store

FORMAT: Final = "reprise.comparison/1"
METRICS: Final = "metrics.jsonl"
_LONGEST: Final = 1 << 20
"""The maximum length of a line of metrics in bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRun:
    """A run to compare: its record, and the folders of the run and of the attempt."""

    record: Record
    folder: Path | None = None
    """The run's folder; `None` if the run is only in a store."""
    attempt: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceSources:
    """Where further evidence is found: the folder of all runs, the cache of datasets, and a store."""

    runs: Path
    cache: Path
    store: Store | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence(Difference):
    """The first difference between two runs, with the value of each run; `step` is the first step at which they are known to differ."""

    after: int | None
    """The last earlier step at which all compared values are equal; `None` if there is no such step."""
    by: str
    """The file with the evidence; `trace.jsonl` covers every step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The result of a comparison."""

    a: ComparedRun
    b: ComparedRun
    verdict: Verdict
    same_run: bool = False
    candidates: tuple[Candidate, ...] = ()
    divergence: Divergence | None = None
    weights: WeightsComparison | None = None
    outputs: tuple[int, list[OutputDifference]] | None = None
    """For scripts: the number of outputs, and the outputs that differ."""
    notes: tuple[str, ...] = ()
    """One line per kind of evidence that could not be compared, with the reason."""

    @property
    def are_scripts(self) -> bool:
        """Whether both are runs of scripts, which have outputs instead of a trace and weights."""
        return self.a.record.ingredients.kind == self.b.record.ingredients.kind == "script"

    def document(self) -> dict[str, Any]:
        """Return the comparison as JSON data, format `reprise.comparison/1`."""
        return {
            "format": FORMAT,
            "verdict": self.verdict.level,
            "exit": self.verdict.level.code,
            "reason": self.verdict.reason,
            "same_run": self.same_run,
            "a": _run_document(self.a),
            "b": _run_document(self.b),
            "candidates": [asdict(candidate) for candidate in self.candidates],
            "divergence": asdict(self.divergence) if self.divergence else None,
            "metrics": [
                {**asdict(figure), "difference": figure.difference, "ulp": figure.ulp}
                for figure in self.verdict.metrics
            ],
            "weights": asdict(self.weights) if self.weights else None,
            **(
                {"outputs": {"count": self.outputs[0], "differing": [*map(asdict, self.outputs[1])]}}
                if self.outputs
                else {}
            ),
            "unmet": self.verdict.unmet,
            "notes": self.notes,
        }


def _run_document(run: ComparedRun) -> dict[str, Any]:
    return {
        "run": run.record.run,
        "attempt": run.record.attempt,
        "identity": run.record.identity,
        "determinism": run.record.promise,
        "folder": str(run.folder) if run.folder else None,
    }


def load_compared_run(path: Path) -> ComparedRun:
    """Load a run from its folder or from an attempt's folder.

    Raise `RunNotFoundError` if `path` is neither, or as `load_record` does.
    """
    folder = path.absolute()
    if (folder / ATTEMPTS).is_dir():
        attempt = folder / ATTEMPTS / str(max(recorded_attempts(folder), default=1))
        return ComparedRun(record=load_record(attempt / RECORD), folder=folder, attempt=attempt)
    if (folder / RECORD).is_file():
        return ComparedRun(record=load_record(folder / RECORD), folder=folder.parent.parent, attempt=folder)
    message = f"{path} is not a run's folder: it has neither {ATTEMPTS}/ nor {RECORD}"
    raise RunNotFoundError(message, hint="name the folder of a run")


def compare(a: ComparedRun, b: ComparedRun, *, sources: EvidenceSources) -> Comparison:
    """Compare two runs.

    Raise `DocumentError` or `SourceError` if a file has another format, `DigestMismatchError` if it has another digest, `RunError` if it
    cannot be read.
    """
    noise = measured_noise(sources.runs / FOLDER, (a.record, b.record))
    comparison = Comparison(a=a, b=b, verdict=judge(a.record, b.record, noise=noise))
    try:
        if a.attempt is None or b.attempt is None:
            return _with_evidence(comparison, sources)
        if a.attempt.resolve() == b.attempt.resolve():
            return replace(comparison, same_run=True)
        divergence, notes = None, _altered_logs(a.attempt, a.record) + _altered_logs(b.attempt, b.record)
        if not notes:
            divergence, notes = compare_steps(a.attempt, b.attempt)
        if comparison.are_scripts:
            comparison, notes = replace(comparison, outputs=_outputs(a, b)), ()  # a script has no trace to note
        return _with_evidence(replace(comparison, divergence=divergence, notes=notes), sources)
    except OSError as fault:
        raise RunError(f"{fault.filename} cannot be read: {fault.strerror}", hint="change its permissions") from fault


def _altered_logs(attempt: Path, record: Record) -> tuple[str, ...]:
    """Return a note for each log of steps that differs from the record, so that the steps are not compared."""
    files = [file for file in record.outcome.files if file.path in {TRACE, METRICS}]
    return tuple(
        f"steps: not compared: {fault}; {remedy(attempt, record)}" for fault in altered_files(attempt, files).values()
    )


def _with_evidence(comparison: Comparison, sources: EvidenceSources) -> Comparison:
    a, b, notes = comparison.a, comparison.b, [*comparison.notes]
    detailed_candidates = [_with_details(each, a, b, sources, notes) for each in candidates(a.record, b.record)]
    weights = None if comparison.are_scripts else _weights(a, b, notes)
    remote = [each.record.run for each in (a, b) if each.attempt is None]
    notes += [
        f"run {run} is only in the store: to compare code, steps and tensors, `reprise runs pull {run}` first"
        for run in remote
    ]
    return replace(comparison, candidates=tuple(detailed_candidates), weights=weights, notes=tuple(notes))


def _with_details(
    candidate: Candidate, a: ComparedRun, b: ComparedRun, sources: EvidenceSources, notes: list[str]
) -> Candidate:
    if candidate.kind is DifferenceKind.CODE:
        if not a.folder or not b.folder or not all((each / ARCHIVE).is_file() for each in (a.folder, b.folder)):
            notes.append(
                f"code: {ARCHIVE} is not on this machine for both runs, so the lines that differ are not shown"
            )
            return candidate
        digests = (a.record.ingredients.source, b.record.ingredients.source)
        imported = (a.record.circumstances.imported, b.record.circumstances.imported)
        lines, is_imported = code_diff(a.folder, b.folder, digests=digests, imported=imported)
        name = candidate.name if is_imported else UNIMPORTED
        return replace(candidate, name=name, ingredient=candidate.ingredient and is_imported, inside=tuple(lines))
    common = a.record.ingredients.datasets.keys() & b.record.ingredients.datasets.keys()
    if candidate.kind is not DifferenceKind.DATASET or candidate.name not in common:
        return candidate
    files = dataset_diff(candidate.name, a.record, b.record, cache=sources.cache, store=sources.store)
    if files is None:
        notes.append(f"dataset {candidate.name}: its manifests are neither in the cache nor in a reachable store")
    return replace(candidate, inside=tuple(files or ()))


def _outputs(a: ComparedRun, b: ComparedRun) -> tuple[int, list[OutputDifference]] | None:
    digests = (a.record.outcome.outputs, b.record.outcome.outputs)
    if None in digests or a.attempt is None or b.attempt is None:
        return None
    return compare_outputs(a.attempt, b.attempt, digests=digests)


def _weights(a: ComparedRun, b: ComparedRun, notes: list[str]) -> WeightsComparison | None:
    if a.attempt is None or b.attempt is None:
        return None
    missing = [name for name, each in (("A", a.attempt), ("B", b.attempt)) if not (each / TENSORS).is_file()]
    digests = (a.record.outcome.weights, b.record.outcome.weights)
    if missing or None in digests:
        notes.append(f"weights: {TENSORS} is not in {' and '.join(missing) or 'a finished run'}")
        return None
    weights = compare_weights(a.attempt, b.attempt, digests=digests)
    if not weights.numbers:
        notes.append("weights: compared by the digests in tensors.json; weights.safetensors is missing for a run")
    return weights


def compare_steps(a: Path, b: Path) -> tuple[Divergence | None, tuple[str, ...]]:
    """Compare the steps in two attempts' folders: return the first difference, and notes about steps that could not be compared.

    Raise `DocumentError` if a file has another format.
    """
    missing = " and ".join(name for name, attempt in (("A", a), ("B", b)) if not (attempt / TRACE).is_file())
    if not missing:
        return _by_trace(a / TRACE, b / TRACE)
    if not ((a / METRICS).is_file() and (b / METRICS).is_file()):
        return None, (f"steps: {missing} has neither {TRACE} nor {METRICS}",)
    note = f"steps: by {METRICS}, which contains only some steps: {missing} has no {TRACE}"
    return _by_log(a / METRICS, b / METRICS), (note,)


def _by_trace(a: Path, b: Path) -> tuple[Divergence | None, tuple[str, ...]]:
    one, other = read_trace(a), read_trace(b)
    streams = comparable_streams(one.header, other.header)
    left_out = ", ".join(stream for stream in Stream if stream not in streams)
    why = "the traces use different algorithms, or cover different tensors"
    notes = (f"steps: streams {left_out} cannot be compared: {why}",) if left_out else ()
    first = first_difference(one, other)
    if first is None:
        return None, notes
    after = first.step if first.stream is Stream.EVALUATION else first.step - 1
    return Divergence(**asdict(first), after=after, by=TRACE), notes


def _by_log(a: Path, b: Path) -> Divergence | None:
    others = {(step, name): value for step, name, value in _logged(b)}
    after = None
    for step, name, value in _logged(a):
        other = others.get((step, name), value)
        if other != value:
            stream = Stream.EVALUATION if name.startswith(("val_", "val/", "test_", "test/")) else Stream.FORWARD
            one, two = (repr(number_of(each)) for each in (value, other))
            return Divergence(step=step, after=after, stream=stream, quantity=name, by=METRICS, a=one, b=two)
        after = step
    return None


def _logged(path: Path) -> Iterator[tuple[int, str, Any]]:
    """Yield each metric with the number of completed steps."""
    with open_run_file(path) as file:
        for number, line in enumerate(iter(lambda: file.readline(_LONGEST), b""), start=1):
            if not line.endswith(b"\n"):
                return  # the last line is incomplete, since the process was killed
            try:
                values = json_value(line, where=str(path))
                step = int(values.pop("step"))
            except (DocumentError, ValueError, KeyError, TypeError, AttributeError) as fault:
                hint = f"restore the file: reprise runs pull {path.absolute().parents[2].name}"
                raise DocumentError(f"{path}, line {number}, is not a line of metrics", hint=hint) from fault
            yield from ((step, name, value) for name, value in values.items() if name != "epoch")


def stronger_verdicts(comparison: Comparison) -> dict[VerdictLevel, str]:
    """Return the unmet requirement of each stronger verdict in a sentence, the nearest verdict first."""
    requirements = dict(reversed(comparison.verdict.unmet.items()))
    if VerdictLevel.IDENTICAL in requirements:
        records = (comparison.a.record, comparison.b.record)
        runs = " and ".join(each.run for each in records if each.circumstances.determinism_at_end)
        ingredients = ", ".join(each.title for each in comparison.candidates if each.ingredient)
        if runs:
            reason = f"the net switched determinism off in {runs}"
        elif ingredients:
            reason = f"these ingredients would have to be equal: {ingredients}"
        else:
            reason = _UNEXPLAINED
        requirements[VerdictLevel.IDENTICAL] += f"; {reason}"
    return requirements


_UNEXPLAINED: Final = (
    "no ingredient differs, so either the run is not deterministic, or something outside the record affects it"
)
