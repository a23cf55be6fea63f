"""Compare two runs that should be bit-identical, and state the result as a certificate.

A statement requires observations: steps in both traces, steps after a resume, tensors and lines to compare. Without any of these, no
statement is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from trainer import __version__
from trainer.base.errors import RunError
from trainer.base.run_files import read_run_file
from trainer.comparison.certificate import FOLDER, STREAM_CONTENTS, FailureCause, Predicate, Statement, subject_of
from trainer.comparison.retest import device_class
from trainer.comparison.saved_document import save_files
from trainer.comparison.trace import FILE as TRACE
from trainer.comparison.trace import LARGEST, read_trace
from trainer.comparison.verdict import Rung
from trainer.runs.differences import SOURCE, candidates
from trainer.runs.run import RECORD

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.comparison.compare import ComparedRun, Comparison

LOG: Final = "metrics.jsonl"
_OPTIMIZER: Final = "the state of the optimizer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """The step after which a run was killed, and the step from which it was resumed."""

    after: int
    """The last step in its trace."""
    resumed_from: int


def certify(comparison: Comparison, *, kill: Kill | None = None) -> Statement:
    """Return the statement for a comparison: A was trained without interruption; B was trained again, or killed and resumed.

    Raise `RunError` if there are too few observations.
    """
    a, b = comparison.a, comparison.b
    if comparison.verdict.rung is Rung.NOT_COMPARABLE:
        raise RunError(f"nothing can be certified: {comparison.verdict.because}", hint="reprise runs show RUN")
    made, record = a.record.ingredients, b.record
    if a.record.identity != record.identity:
        differ = [each.title for each in candidates(a.record, record) if each.ingredient] or [SOURCE]
        message = f"nothing can be certified: this changed between the two runs: {', '.join(differ)}"
        raise RunError(message, hint="test again")
    _require_attempts(a, b, kill)
    for each in (a, b):
        if lines := each.record.circumstances.determinism_at_end:
            message = (
                f"nothing can be certified: run {each.record.run} is not of level {made.determinism.level}: {lines[0]}"
            )
            raise RunError(message, hint="remove what switches it, or certify with --determinism off")
    steps = _steps(b)
    _steps(a)
    if kill is not None and steps <= kill.resumed_from:
        message = f"no step followed the resume: run {record.run} was resumed from step {kill.resumed_from} of {steps}"
        raise RunError(message, hint="kill it earlier (--kill-after), or train for more steps (--steps)")
    lost = first_lost(comparison)
    predicate = Predicate(
        claim="resume" if kill else "rerun",
        holds=comparison.verdict.rung is Rung.IDENTICAL and lost is None,
        verdict=comparison.verdict.rung,
        compared=compared(comparison),
        lost=lost,
        killed_after=kill.after if kill else None,
        resumed_from=kill.resumed_from if kill else None,
        steps=steps,
        identity=record.identity,
        ingredients=made,
        image=record.circumstances.image,
        commit=record.circumstances.source.commit,
        device=device_class(record),
        when=datetime.now(UTC),
        reprise=__version__,
    )
    return Statement(
        subject=[subject_of(side.record, read_run_file(_folder(side) / RECORD)) for side in (a, b)], predicate=predicate
    )


def compared(comparison: Comparison) -> list[str]:
    """Return the names of the things that were compared; an empty set of tensors, metrics or lines is left out."""
    weights = comparison.weights
    there = {
        "weights": weights is not None and weights.tensors > 0,
        "state of the optimizer": weights is not None and weights.optimizer_tensors > 0,
        "result metrics": bool(comparison.verdict.figures),
        TRACE: True,
        LOG: bool(_bytes(_folder(comparison.a) / LOG) or _bytes(_folder(comparison.b) / LOG)),
    }
    return [name for name, is_there in there.items() if is_there]


def _require_attempts(a: ComparedRun, b: ComparedRun, kill: Kill | None) -> None:
    """Raise `RunError` unless A (and B of a rerun) made all steps in one attempt, and B of a resume made them in several."""
    for each in (a,) if kill else (a, b):
        if each.record.attempt != 1:
            raise RunError(f"run {each.record.run} was resumed, so it is no training without a stop", hint="test again")
    if kill and b.record.attempt == 1:
        raise RunError(f"run {b.record.run} was not resumed, so nothing is known of a resume", hint="test again")


def _steps(side: ComparedRun) -> int:
    """Return the number of steps in a run's trace. Raise `RunError` if there are none, or fewer than the record says."""
    path = _folder(side) / TRACE
    _bytes(path)
    traced, recorded = read_trace(path).steps, side.record.outcome.steps
    if not traced or traced != recorded:
        message = f"the trace of run {side.record.run} ends at step {traced}; the run made {recorded or 'no'} steps"
        raise RunError(
            f"nothing can be certified: {message}", hint="train for 1 step or more (--steps), with --trace on"
        )
    return traced


def first_lost(comparison: Comparison) -> FailureCause | None:
    """Return the first difference between two runs, in order of cause; `None` if everything is equal."""
    found = comparison.divergence
    if found is not None:
        return FailureCause(
            what=STREAM_CONTENTS[found.stream],
            step=found.step,
            stream=found.stream,
            tensor=found.tensor,
            a=f"{found.quantity or 'fingerprint'} {found.a}",
            b=f"{found.quantity or 'fingerprint'} {found.b}",
        )
    a, b = _folder(comparison.a), _folder(comparison.b)
    if comparison.weights is None:
        raise RunError("the weights of the two runs are not here for both", hint="certify tests runs of this machine")
    if not comparison.weights.tensors:
        raise RunError("the two runs have no weights to compare", hint="give the net parameters")
    if comparison.weights.optimizer:
        return FailureCause(what=_OPTIMIZER, tensor=comparison.weights.optimizer[0])
    if comparison.weights.differing:
        return FailureCause(what="the final weights", tensor=comparison.weights.differing[0].name)
    for name in (TRACE, LOG):
        if _bytes(a / name) != _bytes(b / name):
            return FailureCause(what=f"the file {name}: {_first_line(a / name, b / name)}")
    return None


def save_certificate(statement: Statement, signed: bytes | None, *, runs: Path) -> list[Path]:
    """Write the statement, or its signed envelope, into the folder of each of its runs, and return the paths."""
    name, text = f"{statement.predicate.claim}{'.dsse' if signed else ''}.json", signed or statement.to_json()
    return [save_files(runs / run, FOLDER, {name: text}) for run in dict.fromkeys(statement.runs)]


def _folder(side: ComparedRun) -> Path:
    if side.attempt is None:
        raise RunError(f"run {side.record.run} is not on this machine", hint="certify tests runs of this machine")
    return side.attempt


def _bytes(path: Path) -> bytes:
    if not path.exists():
        raise RunError(f"{path} is not there, so nothing can be certified", hint="leave --trace as it is")
    return read_run_file(path, most=LARGEST)


def _first_line(one: Path, other: Path) -> str:
    pairs = zip(_bytes(one).splitlines(), _bytes(other).splitlines(), strict=False)
    number = next((number for number, (a, b) in enumerate(pairs, 1) if a != b), None)
    return f"line {number} differs" if number else "one has more lines than the other"
