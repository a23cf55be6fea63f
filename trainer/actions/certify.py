"""Certifying: two runs that should be equal in every bit, held against each other, and what is said of them.

Knows what is compared: weights, optimizer's state, result metrics, the trace and the log byte for byte. Refuses to run anything, and to
state that a property holds where one of these was not there to compare.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from trainer import __version__
from trainer.actions.run import RECORD
from trainer.errors import RunError
from trainer.host.atomic import give_like, make_folder, write_whole
from trainer.sameness.certificate import FOLDER, WHAT, Lost, Statement, Tested, subject_of
from trainer.sameness.retest import device_class
from trainer.sameness.trace import FILE as TRACE
from trainer.sameness.verdict import Rung

if TYPE_CHECKING:
    from pathlib import Path

    from trainer.actions.compare import Comparison, Side

LOG: Final = "metrics.jsonl"
COMPARED: Final = ("weights", "state of the optimizer", "result metrics", TRACE, LOG)


_OPTIMIZER: Final = "the state of the optimizer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """Where a run was killed, and what it went on from."""

    after: int
    """The last step that its trace told of."""
    resumed_from: int


def certify(comparison: Comparison, *, kill: Kill | None = None) -> Statement:
    """State what comparing two runs showed: A was made without a stop, B again, or killed and resumed.

    Raises `RunError` where there is too little to state anything.
    """
    a, b = comparison.a, comparison.b
    if comparison.verdict.rung is Rung.NOT_COMPARABLE:
        raise RunError(f"nothing can be certified: {comparison.verdict.because}", hint="reprise runs show RUN")
    made, record = a.record.ingredients, b.record
    if a.record.identity != record.identity:
        raise RunError(
            "the two runs are not of the same ingredients", hint="leave the checkout alone while it is tested"
        )
    lost = first_lost(comparison)
    tested = Tested(
        claim="resume" if kill else "rerun",
        holds=comparison.verdict.rung is Rung.IDENTICAL and lost is None,
        verdict=comparison.verdict.rung,
        compared=list(COMPARED),
        lost=lost,
        killed_after=kill.after if kill else None,
        resumed_from=kill.resumed_from if kill else None,
        steps=record.outcome.steps or 0,
        identity=record.identity,
        ingredients=made,
        image=record.circumstances.image,
        commit=record.circumstances.source.commit,
        device=device_class(record),
        when=datetime.now(UTC),
        reprise=__version__,
    )
    return Statement(
        subject=[subject_of(side.record, (_folder(side) / RECORD).read_bytes()) for side in (a, b)], predicate=tested
    )


def first_lost(comparison: Comparison) -> Lost | None:
    """The first thing that is not the same in two runs, in order of cause; `None` where everything is."""
    found = comparison.parting
    if found is not None:
        return Lost(
            what=WHAT[found.stream],
            step=found.step,
            stream=found.stream,
            tensor=found.tensor,
            a=f"{found.quantity or 'fingerprint'} {found.a}",
            b=f"{found.quantity or 'fingerprint'} {found.b}",
        )
    a, b = _folder(comparison.a), _folder(comparison.b)
    if comparison.weights is None:
        raise RunError("the weights of the two runs are not here for both", hint="certify tests runs of this machine")
    if comparison.weights.optimizer:
        return Lost(what=_OPTIMIZER, tensor=comparison.weights.optimizer[0])
    if comparison.weights.differing:
        return Lost(what="the final weights", tensor=comparison.weights.differing[0].name)
    for name in (TRACE, LOG):
        if _bytes(a / name) != _bytes(b / name):
            return Lost(what=f"the file {name}: {_first_line(a / name, b / name)}")
    return None


def keep(statement: Statement, signed: bytes | None, *, runs: Path) -> list[Path]:
    """Write the statement, or the envelope that it was signed as, beside each of its runs."""
    name = f"{statement.predicate.claim}{'.dsse' if signed else ''}.json"
    paths = [runs / run / FOLDER / name for run in dict.fromkeys(statement.runs)]
    for path in paths:
        make_folder(path.parent)
        write_whole(path, signed or statement.to_json())
        give_like(path)
    return paths


def _folder(side: Side) -> Path:
    if side.attempt is None:
        raise RunError(f"run {side.record.run} is not on this machine", hint="certify tests runs of this machine")
    return side.attempt


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as fault:
        raise RunError(f"{path} is not there, so nothing can be certified", hint="leave --trace as it is") from fault


def _first_line(one: Path, other: Path) -> str:
    pairs = zip(_bytes(one).splitlines(), _bytes(other).splitlines(), strict=False)
    number = next((number for number, (a, b) in enumerate(pairs, 1) if a != b), None)
    return f"line {number} differs" if number else "one has more lines than the other"
