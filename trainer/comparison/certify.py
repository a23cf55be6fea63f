"""Compare runs that should be bit-identical, and state the result as a certificate.

A certificate requires observations: steps in both traces, steps after a resume, and tensors to compare. If an observation is missing, no
certificate is issued.
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
from trainer.comparison.verdict import VerdictLevel
from trainer.runs.differences import SOURCE, candidates
from trainer.runs.run import RECORD

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trainer.comparison.compare import ComparedRun, Comparison
    from trainer.runs.record import Record

LOG: Final = "metrics.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """The step after which a run was killed, and the step from which it was resumed."""

    after: int
    """The last step in the trace of the killed run."""
    resumed_from: int


def certify(*comparisons: Comparison, kill: Kill | None = None, devices: list[int] | None = None) -> Statement:
    """Return the statement about comparisons of A, an uninterrupted run, with reruns.

    With `kill`, the last rerun was killed and resumed. `devices` are the numbers of devices of the runs. Raise `RunError` if the runs
    cannot be certified.
    """
    kills = [*(None for _ in comparisons[1:]), kill]
    causes = [_checked(each, killed) for each, killed in zip(comparisons, kills, strict=True)]
    first = next((number for number, cause in enumerate(causes) if cause is not None), 0)
    cause, verdict = causes[first], comparisons[first].verdict
    a, b = comparisons[0].a.record, comparisons[-1].b.record
    attempts = [_attempt(comparisons[0].a), *(_attempt(each.b) for each in comparisons)]
    records = [a, *(each.b.record for each in comparisons)]
    predicate = Predicate(
        claim="elastic" if devices else "resume" if kill else "rerun",
        devices=devices,
        holds=verdict.level is VerdictLevel.IDENTICAL and cause is None,
        verdict=verdict.level,
        compared=_compared(comparisons[0], attempts[:2]),
        lost=cause,
        killed_after=kill.after if kill else None,
        resumed_from=kill.resumed_from if kill else None,
        steps=b.outcome.steps or 0,
        identity=b.identity,
        ingredients=a.ingredients,
        image=b.circumstances.image,
        commit=b.circumstances.source.commit,
        device=device_class(b),
        when=datetime.now(UTC),
        reprise=__version__,
    )
    texts = [read_run_file(attempt / RECORD) for attempt in attempts]
    subjects = [subject_of(record, text) for record, text in zip(records, texts, strict=True)]
    return Statement(subject=subjects, predicate=predicate)


def _checked(comparison: Comparison, kill: Kill | None) -> FailureCause | None:
    """Return the first difference, or `None`. Raise `RunError` if the two runs cannot be certified."""
    a, b, verdict = comparison.a.record, comparison.b.record, comparison.verdict
    if verdict.level is VerdictLevel.NOT_COMPARABLE:
        raise RunError(f"nothing can be certified: {verdict.reason}", hint="reprise runs show RUN")
    if a.identity != b.identity:
        names = ", ".join(each.title for each in candidates(a, b) if each.ingredient) or SOURCE
        raise RunError(
            f"nothing can be certified: the ingredients changed between the two runs: {names}", hint="test again"
        )
    _require_attempts(a, b, kill)
    for each in (a, b):
        if causes := each.circumstances.determinism_at_end:
            message = f"run {each.run} did not keep determinism level {a.ingredients.determinism.level}: {causes[0]}"
            hint = "remove the code that changes it, or certify with --determinism off"
            raise RunError(f"nothing can be certified: {message}", hint=hint)
    attempts = [_attempt(run) for run in (comparison.a, comparison.b)]
    steps = [_steps(attempt, record) for attempt, record in zip(attempts, (a, b), strict=True)][-1]
    if kill is not None and steps <= kill.resumed_from:
        message = f"no step followed the resume: run {b.run} was resumed from step {kill.resumed_from} of {steps}"
        raise RunError(message, hint="kill the run earlier (--kill-after), or train for more steps (--steps)")
    return _failure_cause(comparison, *attempts)


def _compared(comparison: Comparison, attempts: Sequence[Path]) -> list[str]:
    """Return the names of the compared outputs; outputs without tensors, metrics or lines are omitted."""
    weights = comparison.weights
    contents = {
        "weights": weights is not None and weights.tensors > 0,
        "state of the optimizer": weights is not None and weights.optimizer_tensors > 0,
        "result metrics": bool(comparison.verdict.metrics),
        TRACE: True,
        LOG: any(_read(attempt / LOG) for attempt in attempts),
    }
    return [name for name, is_compared in contents.items() if is_compared]


def _require_attempts(a: Record, b: Record, kill: Kill | None) -> None:
    """Raise `RunError` unless A has one attempt, and B has one attempt, or several attempts if it was killed."""
    for each in (a,) if kill else (a, b):
        if each.attempt != 1:
            raise RunError(f"run {each.run} was resumed; expected an uninterrupted run", hint="test again")
    if kill and b.attempt == 1:
        raise RunError(f"run {b.run} was not resumed, so a resume cannot be certified", hint="test again")


def _steps(attempt: Path, record: Record) -> int:
    """Return the number of steps in a run's trace. Raise `RunError` if the trace has no steps, or not as many as the record."""
    _read(attempt / TRACE)
    traced, recorded = read_trace(attempt / TRACE).steps, record.outcome.steps
    if not traced or traced != recorded:
        message = f"the trace of run {record.run} ends at step {traced}; the run took {recorded or 'no'} steps"
        hint = "train for 1 step or more (--steps), with --trace on"
        raise RunError(f"nothing can be certified: {message}", hint=hint)
    return traced


def _failure_cause(comparison: Comparison, a: Path, b: Path) -> FailureCause | None:
    if first := comparison.divergence:
        return FailureCause(
            what=STREAM_CONTENTS[first.stream],
            step=first.step,
            stream=first.stream,
            tensor=first.tensor,
            a=f"{first.quantity or 'fingerprint'} {first.a}",
            b=f"{first.quantity or 'fingerprint'} {first.b}",
        )
    weights = comparison.weights
    if weights is None:
        hint = f"reprise runs pull {comparison.a.record.run} {comparison.b.record.run}"
        raise RunError("this machine does not have the weights of both runs", hint=hint)
    if not weights.tensors:
        raise RunError("the two runs have no weights to compare", hint="certify an experiment whose net has parameters")
    if weights.optimizer:
        return FailureCause(what="the state of the optimizer", tensor=weights.optimizer[0])
    if weights.differing:
        return FailureCause(what="the final weights", tensor=weights.differing[0].name)
    for name in (TRACE, LOG):
        one, other = _read(a / name), _read(b / name)
        if one != other:
            pairs = enumerate(zip(one.splitlines(), other.splitlines(), strict=False), 1)
            number = next((number for number, (line, another) in pairs if line != another), None)
            where = f"line {number} differs" if number else "one file has more lines than the other"
            return FailureCause(what=f"the file {name}: {where}")
    return None


def save_certificate(statement: Statement, signed: bytes | None, *, runs: Path) -> list[Path]:
    """Write the statement, or the envelope `signed`, into the folder of each certified run, and return the paths."""
    name, text = f"{statement.predicate.claim}{'.dsse' if signed else ''}.json", signed or statement.to_json()
    return [save_files(runs / run, FOLDER, {name: text}) for run in dict.fromkeys(statement.runs)]


def _attempt(run: ComparedRun) -> Path:
    if run.attempt is None:
        raise RunError(f"run {run.record.run} is not on this machine", hint=f"reprise runs pull {run.record.run}")
    return run.attempt


def _read(path: Path) -> bytes:
    if not path.exists():
        raise RunError(f"{path} does not exist, so nothing can be certified", hint="certify again without --trace off")
    return read_run_file(path, most=LARGEST)
