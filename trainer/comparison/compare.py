"""Compare two runs: the verdict, and all available evidence.

Two records suffice for a verdict. If a file that holds further evidence is missing, the comparison has a note about it. Neither torch nor a
container engine is needed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from trainer.base.errors import RunError, RunNotFoundError
from trainer.comparison.compare_code import code_diff
from trainer.comparison.compare_datasets import dataset_diff
from trainer.comparison.compare_steps import Steps, compare_steps
from trainer.comparison.compare_weights import compare_weights
from trainer.comparison.noise import FOLDER, measured_noise
from trainer.comparison.verdict import Rung, Verdict, judge
from trainer.comparison.weights import TENSORS
from trainer.runs.differences import UNIMPORTED, DifferenceKind, candidates
from trainer.runs.run import ATTEMPTS, RECORD, load_record, recorded_attempts
from trainer.source.capture import ARCHIVE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trainer.comparison.compare_steps import Parting
    from trainer.comparison.compare_weights import WeightsCompared
    from trainer.runs.differences import Candidate
    from trainer.runs.record import Record
    from trainer.stores.contract import Store

FORMAT: Final = "reprise.same/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A run to compare: its record, and the folders of its files."""

    record: Record
    folder: Path | None = None
    """The run's folder; `None` if the run is only in a store."""
    attempt: Path | None = None

    def has(self, name: str) -> bool:
        """Return whether the attempt's folder contains this file."""
        return self.attempt is not None and (self.attempt / name).is_file()


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Further places of evidence."""

    runs: Path
    cache: Path
    store: Store | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The result of a comparison."""

    a: Side
    b: Side
    verdict: Verdict
    same_run: bool
    candidates: tuple[Candidate, ...]
    parting: Parting | None
    weights: WeightsCompared | None
    notes: tuple[str, ...]
    """One line per thing that could not be compared, with the reason."""

    def document(self) -> dict[str, Any]:
        """Return the comparison as JSON data, format `reprise.same/1`."""
        return {
            "format": FORMAT,
            "verdict": self.verdict.rung,
            "exit": self.verdict.rung.code,
            "because": self.verdict.because,
            "same_run": self.same_run,
            "a": _named(self.a),
            "b": _named(self.b),
            "candidates": [asdict(candidate) for candidate in self.candidates],
            "parting": asdict(self.parting) if self.parting else None,
            "metrics": [
                {**asdict(figure), "difference": figure.difference, "ulp": figure.ulp}
                for figure in self.verdict.figures
            ],
            "weights": asdict(self.weights) if self.weights else None,
            "lacking": self.verdict.lacking,
            "notes": self.notes,
        }


def side(path: Path) -> Side:
    """Load a run from its folder or from an attempt's folder. Raise `RunNotFoundError`, `RunError`, `DocumentError`."""
    place = path.absolute()
    if (place / ATTEMPTS).is_dir():
        attempt = place / ATTEMPTS / str(max(recorded_attempts(place), default=1))
        return Side(record=load_record(attempt / RECORD), folder=place, attempt=attempt)
    if (place / RECORD).is_file():
        return Side(record=load_record(place / RECORD), folder=place.parent.parent, attempt=place)
    raise RunNotFoundError(
        f"{path} is no run's folder: it has neither {ATTEMPTS}/ nor {RECORD}", hint="name the folder of a run"
    )


def compare(a: Side, b: Side, *, places: Places) -> Comparison:
    """Compare two runs.

    Raise `DocumentError`, `SourceError`, `DigestMismatchError` if a file does not match its digest, `RunError` if a file cannot be read.
    """
    noise = measured_noise(places.runs / FOLDER, (a.record, b.record))
    verdict = judge(a.record, b.record, noise=noise)
    if a.attempt is not None and b.attempt is not None and a.attempt.resolve() == b.attempt.resolve():
        return Comparison(a=a, b=b, verdict=verdict, same_run=True, **_NOTHING)
    try:
        return _with_evidence(a, b, verdict, places)
    except OSError as fault:
        raise RunError(f"{fault.filename} cannot be read: {fault.strerror}", hint="change its permissions") from fault


def _with_evidence(a: Side, b: Side, verdict: Verdict, places: Places) -> Comparison:
    notes: list[str] = []
    found = tuple(_looked_into(candidate, a, b, places, notes) for candidate in candidates(a.record, b.record))
    steps = _steps(a, b)
    weights = _weights(a, b, notes)
    return Comparison(
        a=a,
        b=b,
        verdict=verdict,
        same_run=False,
        candidates=found,
        parting=steps.parting,
        weights=weights,
        notes=(*steps.notes, *notes, *_to_pull(a, b)),
    )


def _looked_into(candidate: Candidate, a: Side, b: Side, places: Places, notes: list[str]) -> Candidate:
    """Return the candidate with details: the lines of the code, or the files of a dataset."""
    if candidate.kind is DifferenceKind.CODE:
        if (
            a.folder is None
            or b.folder is None
            or not all((side.folder / ARCHIVE).is_file() for side in (a, b) if side.folder)
        ):
            notes.append(f"code: {ARCHIVE} is not here for both runs, so the lines that differ are not shown")
            return candidate
        named = (a.record.ingredients.source, b.record.ingredients.source)
        imported = (a.record.circumstances.imported, b.record.circumstances.imported)
        lines, ran = code_diff(a.folder, b.folder, named=named, imported=imported)
        name = candidate.name if ran else UNIMPORTED
        return replace(candidate, name=name, ingredient=candidate.ingredient and ran, inside=tuple(lines))
    both = a.record.ingredients.datasets.keys() & b.record.ingredients.datasets.keys()
    if candidate.kind is DifferenceKind.DATASET and candidate.name in both:
        files = dataset_diff(candidate.name, a.record, b.record, cache=places.cache, store=places.store)
        if files is None:
            notes.append(
                f"dataset {candidate.name}: its manifests are neither in the cache nor in a store that answers"
            )
        return replace(candidate, inside=tuple(files or ()))
    return candidate


def _steps(a: Side, b: Side) -> Steps:
    return compare_steps(a.attempt, b.attempt) if a.attempt and b.attempt else Steps(parting=None)


def _weights(a: Side, b: Side, notes: list[str]) -> WeightsCompared | None:
    if a.attempt is None or b.attempt is None:
        return None
    absent = [name for name, each in (("A", a), ("B", b)) if not each.has(TENSORS)]
    if absent or a.record.outcome.weights is None or b.record.outcome.weights is None:
        notes.append(f"weights: {TENSORS} is not in {' and '.join(absent) or 'a finished run'}")
        return None
    found = compare_weights(a.attempt, b.attempt, named=(a.record.outcome.weights, b.record.outcome.weights))
    if not found.numbers:
        notes.append("weights: compared by the digests in tensors.json; the numbers themselves are not here for both")
    return found


def _to_pull(a: Side, b: Side) -> Iterator[str]:
    for each in (a, b):
        if each.attempt is None:
            run = each.record.run
            yield f"run {run} is in the store only: for code, steps and tensors, `reprise runs pull {run}` first"


def _named(side: Side) -> dict[str, Any]:
    return {
        "run": side.record.run,
        "attempt": side.record.attempt,
        "identity": side.record.identity,
        "determinism": side.record.promise,
        "folder": str(side.folder) if side.folder else None,
    }


def stronger(comparison: Comparison) -> dict[Rung, str]:
    """Return the requirements for each stronger verdict, the nearest first, one sentence each."""
    lacking = dict(reversed(comparison.verdict.lacking.items()))
    ingredients = [each.title for each in comparison.candidates if each.ingredient]
    if Rung.IDENTICAL in lacking:
        named = (
            f"; of what goes in, these would have to be equal: {', '.join(ingredients)}"
            if ingredients
            else _UNEXPLAINED
        )
        left = [
            side.record.run for side in (comparison.a, comparison.b) if side.record.circumstances.determinism_at_end
        ]
        lacking[Rung.IDENTICAL] += f"; the net switched determinism off in {' and '.join(left)}" if left else named
    return lacking


_NOTHING: Final[dict[str, Any]] = {"candidates": (), "parting": None, "weights": None, "notes": ()}
_UNEXPLAINED: Final = (
    "; no ingredient differs, so a run like this does not come out the same twice, or something around it bears on it"
)
